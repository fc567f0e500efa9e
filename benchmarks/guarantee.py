"""Does the promise hold, and what does it cost? Calibrations on samples of populations whose truth
is known.

    python -m benchmarks.guarantee [--data ../shared/data] [--repeats 500] [--mapie 500] [--json
    FILE]

Promise: of what is accepted at most 5 % is wrong (Food: 2 %), with 90 % confidence. Per population
and number of labelled images n: how often the true risk of the threshold exceeds that (must be at
most 10 % plus two standard errors), the mean true coverage (0 where no threshold is found), how
often none is found, and the oracle's coverage, that of the loosest threshold whose true risk is at
most 5 %. A calibration is what `trustvlm calibrate` does with trust values: by ranks where the rule
is fixed; where the best of several is chosen, a third of the images chooses it and names the
candidates, two thirds prove one. "split" does the latter for a fixed rule, too: the procedure of
earlier versions. "any of range": how often a threshold of the proved range, picked by one who knows
the truth, breaks the promise.

"ceiling" is the largest coverage that the exact binomial proves with the images of the proof if the
population is known: the mean over the oracle's images of the chance that a threshold accepting them
passes, tested alone.

MAPIE 1.6 (BinaryClassificationController, its default correction and its default 100 candidates),
where it is installed, sees the first `--mapie` of the same draws of 200 images and more: all n
images, and trust as the share of the population that is trusted less, so that its candidates are
even in coverage (which no user could arrange). Candidates that accept no image of the sample are
left out: the p-value of such a one is NaN, which makes its correction find nothing at all. Both
favour it.
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
from trustvlm.selective.ranks import find_by_ranks
from trustvlm.selective.risk import find_threshold, risk_upper_bound, threshold_grid

CONFIDENCE = 0.9
SIZES = (50, 100, 200, 500, 2000)
MAPIE_FROM = 200
BARS = {100: 0.68, 200: 0.88, 500: 0.96}
"""Share of the oracle's coverage that real sets under the rule posterior reach on the mean."""
RESULTS = Path(__file__).resolve().parent / "results" / "guarantee.json"
Outcome = tuple[float, float]  # true coverage and risk


def by_ranks(population: Population, rows: np.ndarray) -> tuple[Outcome, Outcome]:
    """With these images of the population and a fixed rule: the truth about the threshold that a
    calibration finds; and (coverage of the loosest, largest true risk of all) of the thresholds
    that it proves at once. (0, 0) for none."""
    trust, right = population.trust[0][rows], population.right[0][rows]
    keys = [b"%d" % place for place in range(len(rows))]
    outcome, between = find_by_ranks(
        trust, right, keys, max_risk=population.max_risk, confidence=CONFIDENCE
    )
    if outcome.threshold is None or between is None:
        return (0.0, 0.0), (0.0, 0.0)
    return population.truth(outcome.threshold), worst_between(population, *between)


def by_split(population: Population, rows: np.ndarray) -> Outcome:
    """The same by a split; a third of the images chooses the rule where there are several."""
    keys = [b"%d" % place for place in range(len(rows))]
    tuning, testing = (rows[part] for part in split(keys))
    chosen = 0
    if len(population.trust) > 1:
        names = [b"%d" % place for place in range(len(tuning))]
        chosen = choose_configuration(
            [*population.trust[:, tuning]], [*population.right[:, tuning]], names
        ).index
    trust, right = population.trust[chosen], population.right[chosen]
    promise = {"max_risk": population.max_risk, "confidence": CONFIDENCE}
    grid = threshold_grid(trust[tuning], right[tuning], len(testing), **promise)
    outcome = find_threshold(trust[testing], right[testing], grid, **promise)
    return (0.0, 0.0) if outcome.threshold is None else population.truth(outcome.threshold, chosen)


def calibrated(population: Population, rows: np.ndarray) -> Outcome:
    """What `trustvlm calibrate` does: by ranks where there is one rule, else by a split."""
    if len(population.trust) > 1:
        return by_split(population, rows)
    return by_ranks(population, rows)[0]


def worst_between(population: Population, low: float, high: float) -> Outcome:
    """(coverage at `low`, the largest true risk of all thresholds from `low` to `high`)."""
    levels, coverage, risk = population.levels
    first, end = np.searchsorted(levels, [low, high])
    end = min(end, len(levels) - 1)
    return float(coverage[first]), float(risk[first : end + 1].max())


def draws(population: Population, n: int, repeats: int) -> list[np.ndarray]:
    """Rows of `repeats` samples of n images, the same in every run."""
    rng = np.random.default_rng([n, *population.name.encode()])
    return [rng.integers(0, population.trust.shape[1], n) for _ in range(repeats)]


def summary(outcomes: list[Outcome], population: Population) -> dict[str, float]:
    """The figures of one cell of the table."""
    coverage, risk = np.array(outcomes).T
    oracle = population.oracle()
    return {
        "repeats": len(outcomes),
        "violations": float(np.mean(risk > population.max_risk)),
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
    proving = n if len(population.trust) == 1 else n - round(n / 3)
    return max(
        _ceiling(*pair, proving, population.max_risk)
        for pair in zip(population.trust, population.right, strict=True)
    )


def _ceiling(trust: np.ndarray, right: np.ndarray, images: int, max_risk: float) -> float:
    from scipy.special import bdtr

    curve = risk_coverage_curve(trust, right)
    good = np.flatnonzero(curve.risk <= max_risk)
    good = (
        good[np.unique(np.linspace(0, len(good) - 1, 200).astype(np.int64))] if len(good) else good
    )
    accepted = np.maximum(np.rint(images * curve.coverage[good]), 1).astype(np.int64)
    most = np.array([_most_errors(int(m), max_risk) for m in accepted], dtype=np.int64)
    chance = np.where(
        most >= 0, bdtr(np.maximum(most, 0).astype(float), accepted, curve.risk[good]), 0.0
    )
    chance = np.maximum.accumulate(chance[::-1])[
        ::-1
    ]  # what a looser threshold accepts, a stricter one may lean on
    return float(np.sum(chance * np.diff(curve.coverage[good], prepend=0.0)))


def _most_errors(accepted: int, max_risk: float) -> int:
    errors = -1
    while errors + 1 < accepted and risk_upper_bound(accepted, errors + 1, CONFIDENCE) <= max_risk:
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
        target_level=1 - population.max_risk,
        confidence_level=CONFIDENCE,
        list_predict_params=candidates[candidates <= share[rows].max()],
    )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # it warns where it finds none; the outcome says so
        controller.calibrate(share[rows], right[rows].astype(int))
    outcome = controller.best_predict_param
    if outcome is None:
        return 0.0, 0.0
    return Population(population.name, share[None], population.right[:1]).truth(float(outcome))


def measure(populations: list[Population], repeats: int, theirs: int) -> list[dict[str, Any]]:
    rows = []
    for population in populations:
        for n in SIZES:
            began = time.perf_counter()
            samples = draws(population, n, repeats)
            row: dict[str, Any] = {
                "population": population.name,
                "n": n,
                "max_risk": population.max_risk,
                "oracle": population.oracle(),
                "ceiling": ceiling(population, n),
                "accuracy": float(population.right[0].mean()),
            }
            if len(population.trust) > 1:
                row["ours"] = summary([by_split(population, s) for s in samples], population)
            else:
                ours, of_range = zip(*(by_ranks(population, s) for s in samples), strict=True)
                row["ours"] = summary([*ours], population)
                row["any_of_range"] = summary([*of_range], population)
                row["split"] = summary([by_split(population, s) for s in samples], population)
                if theirs and n >= MAPIE_FROM:
                    outcomes = [mapie(population, s) for s in samples[:theirs]]
                    row["mapie"] = summary(outcomes, population)
            rows.append(row | {"seconds": round(time.perf_counter() - began, 2)})
    return rows


def means(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Per number of images, the means over the real sets under the rule posterior."""
    return [
        {"n": n, "bar": BARS.get(n)}
        | {
            kind: {
                name: float(np.mean([row[kind][name] for row in some]))
                for name in ("of_oracle", "violations", "none_found")
            }
            for kind in ("ours", "split", "any_of_range")
        }
        for n in SIZES
        if (some := [r for r in rows if r["n"] == n and r["population"].endswith(", posterior")])
    ]


def table(rows: list[dict[str, Any]], kind: str) -> Table:
    outcome = Table(
        title=f"{kind}: broken promises % · coverage % (of the oracle's), {CONFIDENCE:.0%} "
        f"confidence"
    )
    for column in ("population", "accuracy", "oracle", *(f"n = {n}" for n in SIZES)):
        outcome.add_column(column, justify="left" if column == "population" else "right")
    for at in range(0, len(rows), len(SIZES)):
        group = rows[at : at + len(SIZES)]
        cells = [_cell(row[kind]) if kind in row else "" for row in group]
        first = group[0]
        outcome.add_row(
            first["population"], f"{first['accuracy']:.1%}", f"{first['oracle']:.1%}", *cells
        )
    return outcome


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
    for kind in ("ours", "split", "any_of_range", "mapie"):
        console.print(table(rows, kind))
    for row in means(rows):
        console.print(f"mean of the real sets, posterior: {row}")
    worst = max(rows, key=lambda row: row["ours"]["violations"])
    console.print(
        f"Most broken promises: {worst['ours']['violations']:.1%} ({worst['population']}, n "
        f"= {worst['n']}); "
        f"must be at most {allowed(options.repeats):.1%}. {engine}. "
        f"{time.perf_counter() - began:.0f} s."
    )
    report = {
        **header("guarantee"),
        "setup": {"confidence": CONFIDENCE, "repeats": options.repeats, "mapie": engine},
        "means": means(rows),
        "rows": rows,
    }
    store(options.json, report)


if __name__ == "__main__":
    main()
