"""How far a metric would move with another sample of the same size."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from trustvlm.stopping import may_stop
from trustvlm.types import Bools, Float64s

__all__ = ["interval", "resampled"]

Metric = Callable[[Float64s, Bools], float]


def resampled(metric: Metric, trust: Float64s, correct: Bools, *, resamples: int = 200, seed: int = 0) -> Float64s:
    """(resamples,) the metric of predictions drawn with replacement (Efron 1979).

    Equal seeds and lengths draw the same rows: differences between two rules on the same images are paired.
    """
    rng = np.random.default_rng(seed)
    count = len(trust)
    found = np.empty(resamples)
    for i in range(resamples):
        may_stop()
        rows = rng.integers(0, count, count)
        found[i] = metric(trust[rows], correct[rows])
    return found


def interval(samples: Float64s, confidence: float = 0.95) -> tuple[float, float]:
    """(low, high) percentiles of resampled values; resamples where the metric is undefined do not count."""
    defined = samples[~np.isnan(samples)]
    if not len(defined):
        return float("nan"), float("nan")
    tail = (1 - confidence) / 2
    low, high = np.quantile(defined, [tail, 1 - tail])
    return float(low), float(high)
