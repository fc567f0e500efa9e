"""Does the promise hold, and what does it cost? Calibrations on samples of populations whose truth
is known.

    python -m benchmarks.guarantee [--data ../shared/data] [--repeats 500] [--mapie 500] [--json
    FILE]

Promise: of what is accepted at most 5 % is wrong, with 90 % confidence. Per population and number
of labelled images n: how often the true risk of the threshold exceeds 5 % (must be at most 10 %
plus two standard errors), the mean true coverage (0 where no threshold is found), how often none is
found, and the oracle's coverage, that of the loosest threshold whose true risk is at most 5 %. A
calibration is what `trustvlm calibrate` does with trust values: a third of the images names the
candidates (and the rule, where there are several), two thirds prove one.

"ceiling" is the largest coverage that the exact binomial proves with two thirds of the images if
the population is known: the mean over the oracle's images of the chance that a threshold accepting
them passes, tested alone.

MAPIE 1.6 (BinaryClassificationController, precision ≥ 0.95, its default correction and its default
100 candidates), where it is installed, sees the first `--mapie` of the same draws: all n images,
and trust as the share of the population that is trusted less, so that its candidates are even in
coverage (which no user could arrange). Candidates that accept no image of the sample are left out:
the p-value of such a one is NaN, which makes its correction find nothing at all. All three favour
it.
"""

from __future__ import annotations

import time
import warnings
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console
from rich.table import Table

from benchmarks.populations import Population, real, synthetic
from benchmarks.report import arguments, header, store
from trustvlm.selective.calibration import choose_configuration, split
from trustvlm.selective.metrics import risk_coverage_curve
from trustvlm.selective.risk import find_threshold, risk_upper_bound, threshold_grid

MAX_RISK, CONFIDENCE = 0.05, 0.9
SIZES = (200, 500, 2000)
RESULTS = Path(__file__).resolve().parent / "results" / "guarantee.json"
Outcome = tuple[float, float]  # true coverage and risk


def calibrated(population: Population, rows: np.ndarray) -> Outcome:
    """The truth about the threshold that a calibration with these images of the population finds;
    (0, 0) for none."""
    keys = [b"%d" % place for place in range(len(rows))]
    tuning, testing = (rows[part] for part in split(keys))
    chosen = 0
    if len(population.trust) > 1:
        names = [b"%d" % place for place in range(len(tuning))]
        chosen = choose_configuration(
            [*population.trust[:, tuning]], [*population.right[:, tuning]], names
        ).index
    trust, right = population.trust[chosen], population.right[chosen]
    promise = {"max_risk": MAX_RISK, "confidence": CONFIDENCE}
    grid = threshold_grid(trust[tuning], right[tuning], len(testing), **promise)
    found = find_threshold(trust[testing], right[testing], grid, **promise)
    return (0.0, 0.0) if found.threshold is None else population.truth(found.threshold, chosen)


def draws(population: Population, n: int, repeats: int) -> list[np.ndarray]:
    """Rows of `repeats` samples of n images, the same in every run."""
    rng = np.random.default_rng([n, *population.name.encode()])
    return [rng.integers(0, population.trust.shape[1], n) for _ in range(repeats)]


def summary(outcomes: list[Outcome], oracle: float) -> dict[str, float]:
    """The figures of one cell of the table."""
    coverage, risk = np.array(outcomes).T
    return {
        "repeats": len(outcomes),
        "violations": float(np.mean(risk > MAX_RISK)),
        "coverage": float(coverage.mean()),
        "of_oracle": float(coverage.mean() / oracle) if oracle else 1.0,
        "none_found": float(np.mean(coverage == 0)),
    }


def allowed(repeats: int) -> float:
    """The largest share of violations that is no evidence against the promise: two standard errors
    above 1 − confidence."""
    return 1 - CONFIDENCE + 2 * float(np.sqrt(CONFIDENCE * (1 - CONFIDENCE) / repeats))


def ceiling(population: Population, n: int) -> float:
    """See the module; over the configurations the largest."""
    return max(
        _ceiling(*pair, n - round(n / 3))
        for pair in zip(population.trust, population.right, strict=True)
    )


def _ceiling(trust: np.ndarray, right: np.ndarray, images: int) -> float:
    from scipy.special import bdtr

    curve = risk_coverage_curve(trust, right)
    good = np.flatnonzero(curve.risk <= MAX_RISK)
    good = (
        good[np.unique(np.linspace(0, len(good) - 1, 200).astype(np.int64))] if len(good) else good
    )
    accepted = np.maximum(np.rint(images * curve.coverage[good]), 1).astype(np.int64)
    most = np.array([_most_errors(int(m)) for m in accepted], dtype=np.int64)
    chance = np.where(
        most >= 0, bdtr(np.maximum(most, 0).astype(float), accepted, curve.risk[good]), 0.0
    )
    chance = np.maximum.accumulate(chance[::-1])[
        ::-1
    ]  # what a looser threshold accepts, a stricter one may lean on
    return float(np.sum(chance * np.diff(curve.coverage[good], prepend=0.0)))


def _most_errors(accepted: int) -> int:
    errors = -1
    while errors + 1 < accepted and risk_upper_bound(accepted, errors + 1, CONFIDENCE) <= MAX_RISK:
        errors += 1
    return errors


def mapie(population: Population, rows: np.ndarray) -> Outcome:
    """The same by MAPIE; one configuration only."""
    from mapie.risk_control import BinaryClassificationController

    trust, right = population.trust[0], population.right[0]
    levels = np.sort(trust)
    share = np.searchsorted(levels, trust) / len(levels)
    candidates = np.linspace(0, 0.99, 100)
    controller = BinaryClassificationController(
        lambda some: np.column_stack([1 - some, some]),
        risk="precision",
        target_level=1 - MAX_RISK,
        confidence_level=CONFIDENCE,
        list_predict_params=candidates[candidates <= share[rows].max()],
    )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # it warns where it finds none; the outcome says so
        controller.calibrate(share[rows], right[rows].astype(int))
    found = controller.best_predict_param
    if found is None:
        return 0.0, 0.0
    return Population(population.name, share[None], population.right[:1]).truth(float(found))


def measure(populations: list[Population], repeats: int, theirs: int) -> list[dict[str, Any]]:
    rows = []
    for population in populations:
        oracle = population.oracle(MAX_RISK)
        for n in SIZES:
            began = time.perf_counter()
            samples = draws(population, n, repeats)
            row: dict[str, Any] = {
                "population": population.name,
                "n": n,
                "oracle": oracle,
                "ceiling": ceiling(population, n),
            }
            row |= {
                "accuracy": float(population.right[0].mean()),
                "ours": summary([calibrated(population, s) for s in samples], oracle),
            }
            if theirs and len(population.trust) == 1:
                row["mapie"] = summary([mapie(population, s) for s in samples[:theirs]], oracle)
            rows.append(row | {"seconds": round(time.perf_counter() - began, 2)})
    return rows


def table(rows: list[dict[str, Any]]) -> Table:
    found = Table(
        title=f"Risk ≤ {MAX_RISK:.0%} with {CONFIDENCE:.0%} confidence: broken promises % · "
        f"coverage % (of the oracle's)"
    )
    for column in (
        "population",
        "accuracy",
        "oracle",
        *(f"n = {n}" for n in SIZES),
        *(f"MAPIE, {n}" for n in SIZES),
    ):
        found.add_column(column, justify="left" if column == "population" else "right")
    for at in range(0, len(rows), len(SIZES)):
        group = rows[at : at + len(SIZES)]
        cells = [_cell(row["ours"]) for row in group] + [
            _cell(row["mapie"]) if "mapie" in row else "" for row in group
        ]
        found.add_row(
            group[0]["population"],
            f"{group[0]['accuracy']:.1%}",
            f"{group[0]['oracle']:.1%}",
            *cells,
        )
    return found


def _cell(figures: dict[str, float]) -> str:
    return (
        f"{100 * figures['violations']:.1f} · {100 * figures['coverage']:.0f} "
        f"({figures['of_oracle']:.2f})"
    )


def main() -> None:
    parser = arguments(__doc__, RESULTS)
    parser.add_argument(
        "--data", type=Path, default=Path("../shared/data"), help="folder of real embeddings"
    )
    parser.add_argument(
        "--repeats", type=int, default=500, help="calibrations per population and n"
    )
    parser.add_argument(
        "--mapie", type=int, default=500, help="of these, how many by MAPIE too; 0 for none"
    )
    options = parser.parse_args()
    console = Console(width=160)
    populations = synthetic()
    if options.data.is_dir():
        populations += real(options.data)
    else:
        console.print(f"no real embeddings at {options.data}: synthetic populations only")
    try:
        engine = f"MAPIE {version('MAPIE')}"
    except PackageNotFoundError:
        engine, options.mapie = "MAPIE is not installed (pip install 'mapie==1.6.*')", 0
    began = time.perf_counter()
    rows = measure(populations, options.repeats, options.mapie)
    console.print(table(rows))
    worst = max(rows, key=lambda row: row["ours"]["violations"])
    console.print(
        f"Most broken promises: {worst['ours']['violations']:.1%} ({worst['population']}, n "
        f"= {worst['n']}); "
        f"must be at most {allowed(options.repeats):.1%}. {engine}. "
        f"{time.perf_counter() - began:.0f} s."
    )
    report = {
        **header("guarantee"),
        "setup": {
            "max_risk": MAX_RISK,
            "confidence": CONFIDENCE,
            "repeats": options.repeats,
            "mapie": engine,
        },
        "rows": rows,
    }
    store(options.json, report)


if __name__ == "__main__":
    main()
