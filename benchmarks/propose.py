"""Measures `propose`: support images chosen from unlabelled images.

    python -m benchmarks.propose --data ../shared/data [--seeds 3] [--json FILE]

Sets: WHU-RS19, CIFAR-10, Food (9 labels) and Caltech-101 (55 labels), CLIP ViT-B/32 as classifier
and verifier. Of each label half of the images are the pool, without their labels; the rest measures
AURC of the rule `lda`, before and after the proposals are accepted. Starts: no support images at
all, and 4 images of half of the labels.
"""

from __future__ import annotations

import tempfile
from pathlib import Path

import numpy as np
from rich.console import Console
from rich.table import Table

import trustvlm
from benchmarks.audit import Set, sets
from benchmarks.many_labels import load
from benchmarks.report import arguments, header, store
from benchmarks.vector_space import fill
from trustvlm.selective.metrics import aurc

RESULTS = Path(__file__).resolve().parent / "results" / "propose.json"
COLUMNS = ("AURC ×1000 before", "after", "ratio", "proposed", "labels served", "wrong")


def figures(service: trustvlm.TrustService, data: Set, start: str, seed: int) -> list[float]:
    """The columns of one draw."""
    text, images, truth = data
    rng, n = np.random.default_rng(seed), len(data[0])
    orders = [rng.permutation(np.flatnonzero(truth == j)) for j in range(n)]
    pool = np.concatenate([rows[4 : 4 + (len(rows) - 4) // 2] for rows in orders])
    test = np.concatenate([rows[4 + (len(rows) - 4) // 2 :] for rows in orders])
    given = rng.permutation(n) < n / 2 if start == "half" else np.zeros(n, np.bool_)
    names = np.array([f"label {j}" for j in range(n)])
    rows = [order[:4] if given[j] else None for j, order in enumerate(orders)]
    fill(service, "s", names.tolist(), text, images, images, rows)

    def area() -> float:
        verdicts = service.score("s", trustvlm.Queries(images[test]), rule="lda")
        return 1000 * float(aurc(verdicts.trust, verdicts.label == names[truth[test]]))

    before = area()
    made = service.propose("s", trustvlm.Queries(images[pool]), accept=True)
    after = area()
    service.remove_space("s")
    wrong = [row.label != names[truth[pool[row.place]]] for row in made]
    share = float(np.mean(wrong)) if wrong else 0.0
    return [before, after, after / before, len(made), made.served / made.labels, share]


def main() -> None:
    parser = arguments(__doc__, RESULTS)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--seeds", type=int, default=3)
    options = parser.parse_args()
    table = Table(title=f"propose, mean of {options.seeds} draws")
    for column in ("set", "start", *COLUMNS):
        table.add_column(column, justify="right")
    _, text, images, _, labels = load(options.data, "caltech-55")
    cells = []
    with (
        tempfile.TemporaryDirectory() as folder,
        trustvlm.open(Path(folder) / "home", create=True) as service,
    ):
        for name, data in [*sets(options.data), ("caltech", (text, images, labels))]:
            for start in ("none", "half"):
                draws = [figures(service, data, start, seed) for seed in range(options.seeds)]
                mean = np.mean(draws, axis=0).tolist()
                table.add_row(name, start, *(f"{value:.3f}" for value in mean))
                worst = max(draw[2] for draw in draws)
                row = dict(zip(COLUMNS, mean, strict=True))
                cells.append({"set": name, "start": start, "worst ratio": worst, **row})
    Console(width=130).print(table)
    store(options.json, header("propose") | {"seeds": options.seeds, "cells": cells})


if __name__ == "__main__":
    main()
