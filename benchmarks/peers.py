"""Compares trustvlm's rules with other systems on the same embeddings and draws of support images
(docs/comparison.md).

    python -m benchmarks.peers --data ../shared/data [--seeds 3] [--shots 1 4 16] [--json FILE]

AURC of each system as a multiple of that of `posterior`: geometric mean over five pairings of
classifier and verifier and over the draws, its worst cell, and a 95 % interval by a bootstrap over
the images of all cells.
"""

from __future__ import annotations

import tempfile
from collections import defaultdict
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console
from rich.table import Table

import trustvlm
from benchmarks.report import arguments, header, store
from benchmarks.rules import SETS, geometric, load
from benchmarks.vector_space import fill
from trustvlm.scoring.peers import PEERS, Material, run
from trustvlm.selective.metrics import aurc

RESULTS = Path(__file__).resolve().parent / "results" / "peers.json"
RULES = ("msp", "trustvlm", "posterior", "lda")
RESAMPLES = 200

Judged = tuple[dict[str, np.ndarray], np.ndarray]
"""Trust by system, and which labels are right."""


def judged(
    service: trustvlm.TrustService, folder: Path, name: str, shots: int, seed: int
) -> Judged:
    """One draw of support images, protocol of `benchmarks.rules`, experiment "all"."""
    names, text, classifier, verifier, labels = load(folder, name)
    rng = np.random.default_rng(seed)
    support = [rng.permutation(np.flatnonzero(labels == i))[:shots] for i in range(len(names))]
    chosen = np.concatenate(support)
    held_out = np.setdiff1d(np.arange(len(labels)), chosen)
    material = Material(
        text, 100.0, classifier[held_out], verifier[held_out],
        verifier[chosen], classifier[chosen], labels[chosen],
    )  # fmt: skip
    trust = dict(run(material))
    same = verifier is classifier
    space = f"{name}-{shots}-{seed}"
    fill(service, space, names, text, classifier, verifier, support)
    queries = trustvlm.Queries(classifier[held_out], None if same else verifier[held_out])
    truth = np.array(names, dtype=object)[labels[held_out]]
    for rule in RULES:
        verdicts = service.score(space, queries, rule=rule)
        trust[rule] = verdicts.trust
        right = np.asarray(verdicts.label == truth, dtype=bool)
    service.remove_space(space)
    return trust, right


def ratios(cells: list[Judged], system: str, rng: np.random.Generator) -> dict[str, Any]:
    """Mean, worst and interval of a system's AURC as a multiple of that of `posterior`."""

    def of(trust: dict[str, np.ndarray], right: np.ndarray, rows: Any = slice(None)) -> float:
        return aurc(trust[system][rows], right[rows]) / aurc(trust["posterior"][rows], right[rows])

    values = [of(*cell) for cell in cells]
    means = []
    for _ in range(RESAMPLES):
        drawn = [of(*cell, rng.integers(len(cell[1]), size=len(cell[1]))) for cell in cells]
        means.append(geometric(drawn))
    low, high = np.quantile(means, [0.025, 0.975]).tolist()
    return {"mean": geometric(values), "worst": max(values), "low": low, "high": high}


def main() -> None:
    parser = arguments(__doc__, RESULTS)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--seeds", type=int, default=3, help="draws of support images")
    parser.add_argument("--shots", type=int, nargs="*", default=[1, 4, 16])
    options = parser.parse_args()
    found: dict[str, dict[str, Any]] = defaultdict(dict)
    with tempfile.TemporaryDirectory() as folder, trustvlm.open(folder, create=True) as service:
        for shots in options.shots:
            cells = [
                judged(service, options.data, name, shots, seed)
                for name in SETS
                for seed in range(options.seeds)
            ]
            rng = np.random.default_rng(shots)
            for system in sorted(set.intersection(*(set(trust) for trust, _ in cells))):
                found[system][str(shots)] = ratios(cells, system, rng)
    table = Table("system", *(f"{shots} images" for shots in options.shots), "source")
    by_mean = sorted(found, key=lambda name: min(one["mean"] for one in found[name].values()))
    for system in by_mean:
        texts = [
            f"{one['mean']:.2f} ({one['low']:.2f}–{one['high']:.2f}), worst {one['worst']:.2f}"
            if (one := found[system].get(str(shots)))
            else "–"
            for shots in options.shots
        ]
        table.add_row(system, *texts, PEERS[system].source if system in PEERS else "docs/rules.md")
    Console(width=140).print(table)
    store(options.json, header("peers") | {"seeds": options.seeds, "systems": found})


if __name__ == "__main__":
    main()
