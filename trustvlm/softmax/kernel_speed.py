"""Which kernel is fastest on this machine, for each number of queries."""

from __future__ import annotations

import math
import time
from collections.abc import Sequence

import numpy as np

from trustvlm.softmax.kernels import SCAN_QUERIES, Kernels, blocks, prepare
from trustvlm.softmax.quantize import (
    Int8Rows,
    Segment,
    random_order,
    rotation,
    to_bfloat16,
    to_int8,
)

__all__ = ["measure"]

_ROWS, _DIM = 8_192, 512
_QUERIES = (1, 2, 4, 8, 16, 32, 64, 128, 256)
_WORTH = {"scan": 1.2, "bfloat16": 1.2, "int8": 1.4}
"""From the kernel that rounds least to the one that rounds most: how many times as fast as those
before it must be, as its rounding takes longer to correct."""


def measure() -> Kernels:
    """The kernels to use on this machine, at its present number of threads: takes a second."""
    rng = np.random.default_rng(0)
    exact = rng.standard_normal((_ROWS, _DIM), dtype=np.float32)
    centre, matrix = np.zeros(_DIM, np.float32), rotation(_DIM)
    int8 = Int8Rows(*to_int8(exact, centre, matrix), random_order(_ROWS), matrix)
    segment = Segment(0, to_bfloat16(exact), centre, np.eye(_DIM), int8)
    queries = rng.standard_normal((_QUERIES[-1], _DIM), dtype=np.float32)
    steps: dict[int, str] = {}
    for count in _QUERIES:
        kernels = [name for name in _WORTH if name != "scan" or count <= SCAN_QUERIES]
        seconds = _seconds(segment, queries[:count], ["widen", *kernels])
        best = "widen"
        for kernel in kernels:
            if seconds[kernel] * _WORTH[kernel] < seconds[best]:
                best = kernel
        if steps and steps[max(steps)] == best:
            del steps[max(steps)]
        steps[count] = best
    return Kernels(tuple(steps.items()))


def _seconds(segment: Segment, queries: np.ndarray, kernels: Sequence[str]) -> dict[str, float]:
    """The shortest of several passes with each kernel, in turn: others may use the processor."""
    count = len(queries)
    parts = [prepare([segment], queries, 1.0, Kernels(((count, name),)))[0] for name in kernels]
    shortest = dict.fromkeys(kernels, math.inf)
    for _ in range(5):
        for part in parts:
            begin = time.perf_counter()
            for _ in blocks(part, int(np.clip(2**17 // count, 512, _ROWS))):
                pass
            shortest[part.kernel] = min(shortest[part.kernel], time.perf_counter() - begin)
    return shortest
