"""Measures `audit`: support images with a wrong label, found among right ones.

    python -m benchmarks.audit --data ../shared/data [--seeds 3] [--json FILE]

Sets: WHU-RS19, CIFAR-10 and Food (9 labels), CLIP ViT-B/32 as classifier and verifier. Of 4 or 16
images a label a share gets a wrong label: any other one ("random"), or the one that the text finds
most likely ("rival"). AUROC of the suspicion; share of right images that are flagged; share of the
flagged that are wrong (precision), beside the estimate that the audit gives; share of the wrong
that are flagged (recall). Baselines, by AUROC: 1 − msp of the image's label, and the distance to
its label's prototype made without it.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console
from rich.table import Table

import trustvlm
from benchmarks.report import arguments, header, store
from benchmarks.rules import unit
from benchmarks.vector_space import fill
from trustvlm.scoring.prototypes import leave_one_out
from trustvlm.selective.metrics import auroc

RESULTS = Path(__file__).resolve().parent / "results" / "audit.json"
SHOTS, NOISE = (4, 16), {"none": (0.0,), "random": (0.05, 0.1, 0.2), "rival": (0.05, 0.1, 0.2)}
COLUMNS = (
    "AUROC", "AUROC by text", "AUROC by cosine", "right flagged", "precision",
    "estimated precision", "recall",
)  # fmt: skip

Set = tuple[np.ndarray, np.ndarray, np.ndarray]


def sets(folder: Path) -> Iterator[tuple[str, Set]]:
    """(name, (text vectors, images, labels))."""
    for name, file in {"whu": "whurs19", "cifar": "cifar10"}.items():
        data = np.load(folder / f"{file}_clip_vit_b32.npz")
        yield name, (unit(data["text_vectors"]), unit(data["image_vectors"]), data["labels"])
    data = np.load(folder / "food10_clip_vit_b32.npz")
    kept = np.flatnonzero(np.isfinite(data["text_vectors"]).all(axis=1))
    there = np.isin(data["train_labels"], kept)
    labels = np.searchsorted(kept, data["train_labels"][there])
    yield "food", (unit(data["text_vectors"][kept]), unit(data["train_vectors"][there]), labels)


def spoilt(data: Set, shots: int, kind: str, noise: float, seed: int) -> tuple[np.ndarray, ...]:
    """(rows of the images, their labels, which of them are wrong)."""
    text, images, truth = data
    rng = np.random.default_rng(seed)
    rows = np.concatenate(
        [rng.permutation(np.flatnonzero(truth == j))[:shots] for j in range(len(text))]
    )
    label = truth[rows].copy()
    for at in rng.permutation(len(rows))[: round(noise * len(rows))].tolist():
        own = truth[rows[at]]
        likely = text @ images[rows[at]] if kind == "rival" else rng.random(len(text))
        likely[own] = -np.inf
        label[at] = likely.argmax()
    return rows, label, label != truth[rows]


def figures(service: trustvlm.TrustService, data: Set, *draw: Any) -> list[float]:
    """The columns of one draw."""
    text, images, _ = data
    rows, label, wrong = spoilt(data, *draw)
    order = np.argsort(label, kind="stable")
    rows, label, wrong = rows[order], label[order], wrong[order]
    used = np.unique(label).tolist()
    names, of_label = [f"label {j}" for j in used], [rows[label == j] for j in used]
    ids = fill(service, "s", names, text[used], images, images, of_label).ids
    audit = service.audit("s")
    service.remove_space("s")
    place = {support: at for at, support in enumerate(ids)}
    at = np.array([place[row.id or 0] for row in audit], dtype=np.int64)
    flagged, wrong_here = np.array([row.flagged for row in audit]), wrong[at]
    suspicion = np.array([row.suspicion for row in audit])
    logits = 100 * images[rows] @ text.T
    log_p = logits - np.log(np.exp(logits).sum(axis=1, keepdims=True))
    by_text = -log_p[np.arange(len(rows)), label][at]
    cosine = -leave_one_out(images[rows].astype(float), label, np.arange(len(rows)))[at]
    known = wrong.any()
    return [
        *(auroc(one, wrong_here) if known else np.nan for one in (suspicion, by_text, cosine)),
        float(flagged[~wrong_here].mean()),
        float(wrong_here[flagged].mean()) if flagged.any() and known else np.nan,
        np.nan if audit.precision is None or not known else audit.precision,
        float(flagged[wrong_here].mean()) if known else np.nan,
    ]


def main() -> None:
    parser = arguments(__doc__, RESULTS)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--seeds", type=int, default=3)
    options = parser.parse_args()
    table = Table(title=f"audit, mean of {options.seeds} draws")
    for column in ("set", "shots", "noise", *COLUMNS):
        table.add_column(column, justify="right")
    cells = []
    with (
        tempfile.TemporaryDirectory() as folder,
        trustvlm.open(Path(folder) / "home", create=True) as service,
    ):
        for name, data in sets(options.data):
            for shots in SHOTS:
                for kind, noises in NOISE.items():
                    for noise in noises:
                        draws = [
                            figures(service, data, shots, kind, noise, seed)
                            for seed in range(options.seeds)
                        ]
                        known = ~np.isnan(draws).all(axis=0)
                        mean = [
                            float(np.nanmean([draw[i] for draw in draws])) if known[i] else None
                            for i in range(len(COLUMNS))
                        ]
                        shown = ["–" if value is None else f"{value:.3f}" for value in mean]
                        table.add_row(name, str(shots), f"{kind} {noise:.0%}", *shown)
                        cells.append(
                            {"set": name, "shots": shots, "kind": kind, "noise": noise,
                             **dict(zip(COLUMNS, mean, strict=True))}
                        )  # fmt: skip
    Console(width=150).print(table)
    store(options.json, header("audit") | {"seeds": options.seeds, "cells": cells})


if __name__ == "__main__":
    main()
