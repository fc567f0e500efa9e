"""Measures the rules on label sets of 47 to 1,000 labels, through `register` and `score`.

    python -m benchmarks.many_labels --data ../shared/data [--seeds 2] [--sets NAME …] [--json FILE]

Sets: ImageNet-1000 and random subsets of 100 and 300 of its labels, Caltech-101 (55 labels), both
with real text vectors; Flowers-102 and DTD-47, whose text vectors are a map from class means, set
near published accuracy: these show the shape of results. Classifier and verifier are CLIP ViT-B/32.
Experiments are those of `benchmarks.rules`: all labels with 1, 2, 4 or 16 support images, half of
the labels without, and a vocabulary of 1,600 names that are never right.
"""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console
from rich.table import Table

import trustvlm
from benchmarks.report import arguments, store
from benchmarks.rules import figures_of, geometric, unit

RESULTS = Path(__file__).resolve().parent / "results" / "many_labels.json"
FILES = {
    "imagenet-1000": "imagenet1000_clip_vit_b32.npz",
    "imagenet-300": "imagenet1000_clip_vit_b32.npz",
    "imagenet-100": "imagenet1000_clip_vit_b32.npz",
    "caltech-55": "caltech_detic_clip_vit_b32.npz",
    "flowers-102": "oxford_flowers_clip_vit_b32.npz",
    "dtd-47": "dtd_clip_vit_b32.npz",
}
SHOTS, MOST_OF_IMAGENET = (1, 2, 4, 16), 4  # it has 7 images a label
EXPERIMENTS = ("all", "half", "distractors")
RULES = ("msp", "trustvlm", "posterior", "lda", "posterior_star", "lda_star")


def load(
    folder: Path, name: str
) -> tuple[list[str], np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """(label names, text vectors, classifier embeddings, the same as verifier's, labels)."""
    data = np.load(folder / FILES[name])
    texts = "text_vectors" if "text_vectors" in data.files else "pseudo_text_vectors"
    text, images, labels = unit(data[texts]), unit(data["image_vectors"]), data["labels"]
    count = int(name.rsplit("-", 1)[1])
    if count < len(text):
        kept = np.sort(np.random.default_rng(count).permutation(len(text))[:count])
        present = np.isin(labels, kept)
        text, images, labels = text[kept], images[present], np.searchsorted(kept, labels[present])
    return [f"label {i}" for i in range(count)], text, images, images, labels


def main() -> None:
    parser = arguments(__doc__, RESULTS)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--seeds", type=int, default=2, help="draws of support images")
    parser.add_argument("--sets", nargs="*", default=list(FILES), choices=list(FILES))
    parser.add_argument("--experiments", nargs="*", default=EXPERIMENTS, choices=EXPERIMENTS)
    options = parser.parse_args()
    console, cells = Console(width=150), []
    with (
        tempfile.TemporaryDirectory() as folder,
        trustvlm.open(Path(folder) / "home", create=True) as service,
    ):
        for name in options.sets:
            data = load(options.data, name)
            table = Table(title=f"{name}: AURC × 1000, mean of {options.seeds} draws")
            for column in ("experiment", "shots", *RULES):
                table.add_column(column, justify="right")
            for experiment in options.experiments:
                for shots in SHOTS:
                    if name.startswith("imagenet") and shots > MOST_OF_IMAGENET:
                        continue
                    draws = [
                        figures_of(
                            service, options.data, data, experiment, name, shots, seed, RULES
                        )
                        for seed in range(options.seeds)
                    ]
                    rules = {
                        rule: np.mean([draw[rule] for draw in draws], axis=0).tolist()
                        for rule in RULES
                    }
                    cells.append(
                        {"experiment": experiment, "set": name, "shots": shots, "rules": rules}
                    )
                    areas = (f"{rules[rule][1]:.2f}" for rule in RULES)
                    table.add_row(experiment, str(shots), *areas)
            console.print(table)
    figures = headline(cells)
    for what, value in figures.items():
        console.print(what, value)
    columns = ["accuracy %", "AURC ×1000", "AUROC %", "FPR95 %"]
    store(
        options.json,
        {"seeds": options.seeds, "columns": columns, "headline": figures, "cells": cells},
    )


def headline(cells: list[dict[str, Any]]) -> dict[str, Any]:
    """Geometric mean and worst ratio of AURC, for each experiment."""
    figures = {}
    for experiment in EXPERIMENTS:
        here = [cell["rules"] for cell in cells if cell["experiment"] == experiment]
        for rule, base in (("lda", "posterior"), ("lda", "msp"), ("lda_star", "posterior_star")):
            values = [rules[rule][1] / rules[base][1] for rules in here]
            if values:
                figures[f"{experiment}, {rule} / {base}"] = {
                    "geometric": round(geometric(values), 3),
                    "worst": round(max(values), 3),
                }
    return figures


if __name__ == "__main__":
    main()
