"""Do the intervals of `trustvlm evaluate` hold the true value? Samples of populations whose truth
is known.

    python -m benchmarks.intervals [--draws 1000] [--json FILE]

Per population, number of images n and metric: the share of samples whose 95 % interval holds the
metric of the whole population, the mean width, and the share of samples that have an interval at
all (others say that they are too few). A true value on the edge of a population counts as held from
1e-9 on.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console
from rich.table import Table

from benchmarks.populations import Population, synthetic
from benchmarks.report import arguments, machine, store
from trustvlm.scoring.rules import RULES
from trustvlm.selective.metrics import aurc, auroc, coverage_at_risk, fpr_at_tpr, risk_at_coverage
from trustvlm.service.measuring.outcome import rule_outcome
from trustvlm.types.options import EvaluateOptions

SIZES = (30, 100, 1_000)
RISK, COVERAGE = 0.05, 0.8
RESULTS = Path(__file__).resolve().parent / "results" / "intervals.json"
METRICS: dict[str, Callable[[np.ndarray, np.ndarray], float]] = {
    "accuracy": lambda _, right: float(right.mean()),
    "aurc": aurc,
    "auroc": auroc,
    "fpr95": fpr_at_tpr,
    "coverage_at_risk": partial(coverage_at_risk, risk=RISK),
    "risk_at_coverage": partial(risk_at_coverage, coverage=COVERAGE),
}
NAMES = (*METRICS, "versus_msp")


def populations() -> list[Population]:
    """Score shapes of a first rule, and of a second one that is the first with noise: what stands
    for `msp`."""
    rng = np.random.default_rng(11)
    size = 100_000

    def normal(name: str, error: float, apart: float) -> Population:
        right = rng.random(size) >= error
        return Population(name, (apart * right + rng.standard_normal(size))[None], right[None])

    shapes = [
        normal("10 % wrong, AUROC 0.90", 0.10, 1.8),
        normal("30 % wrong, AUROC 0.90", 0.30, 1.8),
        normal("2 % wrong, AUROC 0.90", 0.02, 1.8),
        normal("10 % wrong, AUROC 0.99", 0.10, 3.5),
        normal("20 % wrong, trust says nothing", 0.20, 0.0),
        *(
            one
            for one in synthetic()
            if one.name in ("eight levels", "heavy tail", "overconfident top")
        ),
    ]
    outcomes = []
    for shape in shapes:
        spread = np.std(shape.trust[0]) * 0.5 * rng.standard_normal(shape.trust.shape[1])
        outcomes.append(
            Population(
                shape.name,
                np.stack([shape.trust[0], shape.trust[0] + spread]),
                np.repeat(shape.right, 2, axis=0),
            )
        )
    return outcomes


def truth(population: Population) -> dict[str, float]:
    """The value of each metric on the whole population."""
    (trust, base), (right, same) = population.trust, population.right
    values = {name: metric(trust, right) for name, metric in METRICS.items()}
    return values | {"versus_msp": values["aurc"] - aurc(base, same)}


def held(
    population: Population, images: int, draws: int, seed: int = 0
) -> dict[str, dict[str, float]]:
    """Per metric: share of intervals that hold the truth, mean width, share of samples with an
    interval."""
    rng, true = np.random.default_rng(seed), truth(population)
    holds: dict[str, list[bool]] = {name: [] for name in NAMES}
    widths: dict[str, list[float]] = {name: [] for name in NAMES}
    for _ in range(draws):
        rows = rng.integers(0, population.trust.shape[1], images)
        columns = [
            {"trust": trust[rows], "label_id": right[rows].astype(np.int64)}
            for trust, right in zip(population.trust, population.right, strict=True)
        ]
        judged = {"trustvlm": columns[0], "msp": columns[1]}
        outcome = rule_outcome(
            "trustvlm", RULES["trustvlm"].parameters, judged, np.ones(images, np.int64),
            EvaluateOptions(risk=RISK, coverage=COVERAGE),
        )  # fmt: skip
        for name in NAMES:
            estimate = getattr(outcome, name)
            if estimate.reason is None:
                holds[name].append(estimate.low - 1e-9 <= true[name] <= estimate.high + 1e-9)
                widths[name].append(estimate.high - estimate.low)
    return {
        name: {
            "held": float(np.mean(holds[name])) if holds[name] else float("nan"),
            "width": float(np.mean(widths[name])) if widths[name] else float("nan"),
            "with_interval": len(holds[name]) / draws,
        }
        for name in NAMES
    }


def main() -> None:
    """Measure, print, write."""
    parser = arguments(__doc__, RESULTS)
    parser.add_argument("--draws", type=int, default=1_000)
    options = parser.parse_args()
    begin = time.perf_counter()
    rows: list[dict[str, Any]] = []
    for population in populations():
        for images in SIZES:
            measured = held(population, images, options.draws)
            rows.append(
                {
                    "population": population.name,
                    "images": images,
                    "truth": truth(population),
                    "metrics": measured,
                }
            )
    table = Table(
        "population", "n", *NAMES, title="share of 95 % intervals that hold the truth (width)"
    )
    for row in rows:
        cells = []
        for name in NAMES:
            one = row["metrics"][name]
            cells.append(
                "–" if not one["with_interval"] else f"{one['held']:.3f} ({one['width']:.3f})"
            )
        table.add_row(row["population"], str(row["images"]), *cells)
    Console(width=170).print(table)
    for row in rows:
        for one in row["metrics"].values():
            one |= {name: None for name, value in one.items() if np.isnan(value)}
    content = {
        "draws": options.draws,
        "seconds": round(time.perf_counter() - begin, 1),
        "date": datetime.now(UTC).date().isoformat(),
        "machine": machine(),
        "rows": rows,
    }
    store(options.json, content)


if __name__ == "__main__":
    main()
