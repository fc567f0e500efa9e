"""What a pass does to every logit, in powers of two: with NumPy or, where a kernel has loaded it
anyway, with torch.

Logits are in bits here (base 2): 2^x costs a quarter of e^x where the processor has instructions
for it.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from functools import cache

import numpy as np

from trustvlm.types.arrays import Float32s, Float64s

__all__ = ["FLOOR", "Arithmetic", "TorchArithmetic", "powers_of_two"]

# 2^-115 is still a normal float32: below it, powers fall into denormals and are 6 × slower. A
# million clamped (or masked) rows add 1e-29 to a sum that is at least 1.
FLOOR = np.float32(-115.0)

_PROBE = 4_096


class Arithmetic:
    """Over (n, b) blocks of logits, with NumPy."""

    def largest(self, logits: Float32s) -> Float64s:
        """(n,) the largest of each query."""
        best: Float64s = logits.max(axis=1).astype(np.float64)
        return best

    def exponentials(self, logits: Float32s, maximum: Float32s, out: Float32s) -> None:
        """`logits` becomes max(logits − maximum, FLOOR), `out` two to its power; `maximum` is (n,
        1)."""
        logits -= maximum
        np.maximum(logits, FLOOR, out=logits)
        powers_of_two(logits, out)

    def totals(self, powers: Float32s) -> Float64s:
        """(n,) the sum of each query's, in float64: what is outside of the leaders is a small
        difference."""
        total: Float64s = powers.sum(axis=1, dtype=np.float64)
        return total


class TorchArithmetic(Arithmetic):
    """With torch: faster for batches, where it is loaded."""

    def largest(self, logits: Float32s) -> Float64s:
        import torch

        return torch.from_numpy(logits).amax(dim=1).numpy().astype(np.float64)

    def exponentials(self, logits: Float32s, maximum: Float32s, out: Float32s) -> None:
        import torch

        shifted = torch.from_numpy(logits)
        shifted.sub_(torch.from_numpy(maximum)).clamp_(min=float(FLOOR))
        if _numpy_is_fast():
            np.exp2(logits, out=out)
        else:
            torch.exp2(shifted, out=torch.from_numpy(out))

    def totals(self, powers: Float32s) -> Float64s:
        # A block in float32, in what a matrix product takes: far below the error of 16-bit rows.
        return (powers @ np.ones(powers.shape[1], np.float32)).astype(np.float64)


def powers_of_two(bits: Float32s, out: Float32s) -> None:
    """`out` becomes 2^bits, by the faster of NumPy's ways: without AVX-512 its exp2 is a call for
    each number."""
    if _numpy_is_fast():
        np.exp2(bits, out=out)
    else:
        np.multiply(bits, np.float32(math.log(2)), out=out)
        np.exp(out, out=out)


@cache
def _numpy_is_fast() -> bool:
    values = np.linspace(-20, 0, _PROBE, dtype=np.float32)
    out = np.empty_like(values)

    def seconds(call: Callable[..., object]) -> float:
        taken = []
        for _ in range(5):
            begin = time.perf_counter()
            call(values, out=out)
            taken.append(time.perf_counter() - begin)
        return min(taken)

    return seconds(np.exp2) <= 1.3 * seconds(np.exp)
