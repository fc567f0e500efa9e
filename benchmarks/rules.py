"""Measures every rule on real CLIP embeddings, with and without support images of all labels
(docs/rules.md, "Expected figures").

    python -m benchmarks.rules --data ../shared/data [--seeds 10] [--rules NAME …] [--json FILE]

Four experiments: "all" (every label has its shots), "half" (a random half of the labels has none,
images of all labels), "distractors" (all labels have theirs, and a vocabulary of text-only labels
is added, those within cosine 0.9 of a true one left out; classifiers of ViT-B/32 only), and
"random" (the verifier's embeddings are random vectors of 16, 64 or 512 dimensions: useless
evidence, 8 draws). AURC × 1000 is the mean over draws of support images. With `--rules` only these
are measured; the file keeps its figures of the others.
"""

from __future__ import annotations

import json
import tempfile
from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console
from rich.table import Table

import trustvlm
from benchmarks.report import arguments, store
from benchmarks.vector_space import fill
from trustvlm.selective.metrics import aurc, auroc, fpr_at_tpr

RESULTS = Path(__file__).resolve().parent / "results" / "rules.json"
SETS = ("whu-b32-b32", "whu-b32-l14", "whu-l14-l14", "food", "cifar")
RANDOM = tuple(f"random {dims}" for dims in (16, 64, 512))
RANDOM_DRAWS = 8
SHOTS = {
    "all": (1, 2, 4, 16),
    "half": (1, 4, 16),
    "distractors": (1, 4, 16),
    **dict.fromkeys(RANDOM, (1, 2, 4, 16)),
}
BARS = {1: 0.805, 2: 0.78, 4: 0.745, 16: 0.70}


def unit(vectors: np.ndarray) -> np.ndarray:
    vectors = vectors.astype(np.float64)
    return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)


@lru_cache
def load(
    folder: Path, name: str
) -> tuple[list[str], np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """(label names, text vectors, classifier embeddings, verifier embeddings, labels); one object
    where both are the same."""
    if name.startswith("whu"):
        sizes = name.split("-")[1:]
        files = {size: np.load(folder / f"whurs19_clip_vit_{size}.npz") for size in sizes}
        images = {size: unit(file["image_vectors"]) for size, file in files.items()}
        data, (classifier, verifier) = files[sizes[0]], (images[size] for size in sizes)
        return (
            [str(label) for label in data["label_names"]],
            unit(data["text_vectors"]),
            classifier,
            verifier,
            data["labels"],
        )
    if name == "cifar":
        data = np.load(folder / "cifar10_clip_vit_b32.npz")
        images = unit(data["image_vectors"])
        return (
            [str(label) for label in data["label_names"]],
            unit(data["text_vectors"]),
            images,
            images,
            data["labels"],
        )
    data = np.load(folder / "food10_clip_vit_b32.npz")
    vectors = np.concatenate([data["train_vectors"], data["test_vectors"]])
    labels = np.concatenate([data["train_labels"], data["test_labels"]])
    kept = np.flatnonzero(np.isfinite(data["text_vectors"]).all(axis=1))
    mine = np.isin(labels, kept)
    images = unit(vectors[mine])
    names = [str(data["label_names"][label]) for label in kept]
    return (
        names,
        unit(data["text_vectors"][kept]),
        images,
        images,
        np.searchsorted(kept, labels[mine]),
    )


def vocabulary(folder: Path, text: np.ndarray) -> list[trustvlm.LabelInput]:
    """Text-only labels that are no true label's synonym."""
    data = np.load(folder / "vocabulary_clip_vit_b32.npz")
    key = next(name for name in data.files if data[name].ndim == 2)
    vectors = unit(data[key])
    far = np.flatnonzero((vectors @ text.T).max(axis=1) < 0.9)
    return [trustvlm.LabelInput(f"distractor {i}", text_vector=vectors[i]) for i in far.tolist()]


def figures(
    service: trustvlm.TrustService,
    folder: Path,
    experiment: str,
    name: str,
    shots: int,
    seed: int,
    rules: Sequence[str] = tuple(trustvlm.RULES),
) -> dict[str, tuple[float, float, float, float]]:
    """Rule → accuracy %, AURC × 1000, AUROC %, FPR95 % of one draw."""
    return figures_of(service, folder, load(folder, name), experiment, name, shots, seed, rules)


def figures_of(
    service: trustvlm.TrustService,
    folder: Path,
    data: tuple[list[str], np.ndarray, np.ndarray, np.ndarray, np.ndarray],
    experiment: str,
    name: str,
    shots: int,
    seed: int,
    rules: Sequence[str],
) -> dict[str, tuple[float, float, float, float]]:
    """Likewise of data as :func:`load` gives them."""
    names, text, classifier, verifier, labels = data
    rng = np.random.default_rng(seed)
    support = [
        rng.permutation(np.flatnonzero(labels == label))[:shots] for label in range(len(names))
    ]
    held_out = np.setdiff1d(np.arange(len(labels)), np.concatenate(support))
    bare = (
        set(rng.permutation(len(names))[: len(names) // 2].tolist())
        if experiment == "half"
        else set()
    )
    if experiment in RANDOM:
        verifier = unit(rng.normal(size=(len(labels), int(experiment.split()[1]))))
    space = f"{experiment}-{name}-{shots}-{seed}".replace(" ", "-")
    same = verifier is classifier
    rows = [None if i in bare else some for i, some in enumerate(support)]
    further = vocabulary(folder, text) if experiment == "distractors" else []
    fill(service, space, names, text, classifier, verifier, rows, further)
    truth = np.array(names, dtype=object)[labels[held_out]]
    queries = trustvlm.Queries(classifier[held_out], None if same else verifier[held_out])
    found = {}
    for rule in rules:
        verdicts = service.score(space, queries, rule=rule)
        right, trust = np.asarray(verdicts.label == truth, dtype=bool), verdicts.trust
        area, fpr = 100 * auroc(trust, right), 100 * fpr_at_tpr(trust, right)
        found[rule] = (100 * float(right.mean()), 1000 * aurc(trust, right), area, fpr)
    service.remove_space(space)
    return found


def sets_of(experiment: str) -> list[str]:
    """The sets of an experiment: distractors have ViT-B/32 text vectors only; a random verifier
    needs no pair of encoders."""
    left_out = (
        "l14-l14" if experiment == "distractors" else "b32-l14" if experiment in RANDOM else "none"
    )
    return [name for name in SETS if left_out not in name]


def geometric(values: list[float]) -> float:
    return float(np.exp(np.mean(np.log(values))))


def headline(cells: list[dict[str, Any]]) -> dict[str, Any]:
    """The ratios that the project has bars for."""

    def ratios(experiment: str, rule: str, base: str, shots: int | None = None) -> list[float]:
        return [
            cell["rules"][rule][1] / cell["rules"][base][1]
            for cell in cells
            if cell["experiment"] == experiment and shots in (None, cell["shots"])
        ]

    found: dict[str, Any] = {}
    for shots, bar in BARS.items():
        found[f"posterior / trustvlm, {shots} "
              f"shots"] = {"geometric": geometric(ratios("all", "posterior", "trustvlm", shots)),
                                                         "bar": bar}  # fmt: skip
    found["posterior / msp"] = {"worst": max(ratios("all", "posterior", "msp")), "bar": 1.02}
    for rule in ("posterior", "lda"):
        worst = max(max(ratios(experiment, rule, "msp")) for experiment in RANDOM)
        found[f"random verifier, {rule} / msp"] = {"worst": worst, "bar": 1.02}
    for rule, bars in (("posterior", (0.95, 1.25)), ("trustvlm", (0.96, 1.2))):
        values = ratios("half", rule, "msp")
        found[f"half without support images, {rule} / msp"] = {
            "geometric": geometric(values),
            "worst": max(values),
            "bar": bars,
        }
    found["distractors, posterior / msp"] = {
        "geometric": geometric(ratios("distractors", "posterior", "msp")),
        "bar": 0.6,
    }
    return found


def stored(path: Path) -> dict[tuple[str, str, int], dict[str, list[float]]]:
    """(experiment, set, shots) → the figures of a report that is there already."""
    if not path.exists():
        return {}
    cells = json.loads(path.read_text(encoding="utf-8"))["cells"]
    return {(cell["experiment"], cell["set"], cell["shots"]): cell["rules"] for cell in cells}


def main() -> None:
    parser = arguments(__doc__, RESULTS)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--seeds", type=int, default=10, help="draws of support images")
    parser.add_argument("--rules", nargs="*", default=list(trustvlm.RULES), help="measure these")
    options = parser.parse_args()
    earlier, cells = stored(options.json), []
    console, table_rules = Console(width=150), list(trustvlm.RULES)
    with (
        tempfile.TemporaryDirectory() as folder,
        trustvlm.open(Path(folder) / "home", create=True) as service,
    ):
        for experiment, numbers in SHOTS.items():
            seeds = min(options.seeds, RANDOM_DRAWS) if experiment in RANDOM else options.seeds
            table = Table(title=f"{experiment}: AURC × 1000, mean of {seeds} draws")
            for column in ("set", "shots", *table_rules):
                table.add_column(column, justify="right")
            for name in sets_of(experiment):
                for shots in numbers:
                    draws = [
                        figures(service, options.data, experiment, name, shots, seed, options.rules)
                        for seed in range(seeds)
                    ]
                    rules = earlier.get((experiment, name, shots), {}) | {
                        rule: np.mean([draw[rule] for draw in draws], axis=0).tolist()
                        for rule in options.rules
                    }
                    cells.append(
                        {"experiment": experiment, "set": name, "shots": shots, "rules": rules}
                    )
                    table.add_row(
                        name,
                        str(shots),
                        *(f"{rules[rule][1]:.2f}" if rule in rules else "" for rule in table_rules),
                    )
            console.print(table)
    found = headline(cells)
    for what, values in found.items():
        console.print(what, values)
    columns = ["accuracy %", "AURC ×1000", "AUROC %", "FPR95 %"]
    content = {"seeds": options.seeds, "columns": columns, "headline": found, "cells": cells}
    store(options.json, content)


if __name__ == "__main__":
    main()
