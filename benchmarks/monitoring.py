"""Does the monitor stay silent while a promise is kept, and how soon does it find that it is not?

    python -m benchmarks.monitoring [--streams 500] [--json FILE]

Every stream is looked at after each of its items. False alarms: streams of 10,000 items whose risk
is the promised one, or 90 % of it; at most 5 % of them may give the alarm. Delay: the risk is half
of the promised one for a number of items, then the double; the median number of further items until
the alarm (half of the streams take longer). "at once" is the same capital without restarts, all of
it from the first item on: what the monitor was in earlier versions.
"""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console
from rich.table import Table

from benchmarks.report import arguments, header, store
from trustvlm.selective.monitoring import STAKES, log_capital

RISKS, ALPHA = (0.01, 0.05, 0.2), 0.05
SILENT, BEFORE, AFTER = 10_000, (0, 2_000, 5_000), {0.01: 12_000, 0.05: 8_000, 0.2: 6_000}
RESULTS = Path(__file__).resolve().parent / "results" / "monitoring.json"


def alarm(places: np.ndarray, max_risk: float) -> float:
    """The item of the alarm, in a stream whose errors are items number `places`; inf: there is
    none."""
    return _first(places, log_capital(places, max_risk))


def alarm_at_once(places: np.ndarray, max_risk: float) -> float:
    """The same for capital that bets from the first item on."""
    wrong = np.arange(1, len(places) + 1)[:, None]
    won, lost = np.log1p(STAKES * (1 / max_risk - 1)), np.log1p(-STAKES)
    each = wrong * won + (places[:, None] - wrong) * lost
    return _first(places, np.logaddexp.reduce(each, axis=1) - np.log(len(STAKES)))


def _first(places: np.ndarray, capital: np.ndarray) -> float:
    over = capital >= -np.log(ALPHA)
    return float(places[over.argmax()]) if over.any() else np.inf


def alarms(max_risk: float, risk: float, streams: int) -> float:
    """The share of streams of this risk that ever give the alarm."""
    rng = np.random.default_rng([int(1e4 * max_risk), int(1e4 * risk)])
    drawn = (np.flatnonzero(rng.random(SILENT) < risk) + 1 for _ in range(streams))
    return float(np.mean([alarm(places, max_risk) < np.inf for places in drawn]))


def delays(max_risk: float, before: int, streams: int) -> dict[str, Any]:
    """Median delays after `before` good items."""
    rng = np.random.default_rng([int(1e4 * max_risk), before])
    ours, theirs = [], []
    for _ in range(streams):
        good = rng.random(before) < max_risk / 2
        stream = np.concatenate([good, rng.random(AFTER[max_risk]) < 2 * max_risk])
        places = np.flatnonzero(stream) + 1
        ours.append(alarm(places, max_risk) - before)
        theirs.append(alarm_at_once(places, max_risk) - before)
    return {
        "max_risk": max_risk,
        "before": before,
        "median": float(np.median(ours)),
        "nine_tenths": float(np.quantile(ours, 0.9)),
        "at_once": float(np.median(theirs)),
    }


def main() -> None:
    parser = arguments(__doc__, RESULTS)
    parser.add_argument("--streams", type=int, default=500, help="per cell")
    options = parser.parse_args()
    began = time.perf_counter()
    silent = [
        {"max_risk": risk, "of_it": share, "alarms": alarms(risk, share * risk, options.streams)}
        for risk in RISKS
        for share in (1.0, 0.9)
    ]
    outcomes = [delays(risk, before, options.streams) for risk in RISKS for before in BEFORE]
    table = Table(title=f"False alarms in {SILENT:,} items; items until a doubled risk is found")
    for column in ("promise", "at the limit", "at 90 %", *(f"after {n:,} good" for n in BEFORE)):
        table.add_column(column, justify="right")
    for risk in RISKS:
        rates = [f"{row['alarms']:.1%}" for row in silent if row["max_risk"] == risk]
        times = [
            f"{row['median']:,.0f} (at once {row['at_once']:,.0f})"
            for row in outcomes
            if row["max_risk"] == risk
        ]
        table.add_row(f"{risk:.0%}", *rates, *times)
    console = Console(width=140)
    console.print(table)
    console.print(f"{options.streams} streams per cell, {time.perf_counter() - began:.0f} s.")
    setup = {"alpha": ALPHA, "streams": options.streams, "silent_items": SILENT}
    store(
        options.json,
        {**header("monitoring"), "setup": setup, "false_alarms": silent, "delays": outcomes},
    )


if __name__ == "__main__":
    main()
