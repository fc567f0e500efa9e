"""What the text pass does to every logit: in NumPy or, where a kernel has loaded it anyway, in torch, twice as fast."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

import numpy as np

from trustvlm.scoring.kernels import Prepared
from trustvlm.types import Float32s, Float64s

__all__ = ["FLOOR", "Arithmetic", "arithmetic_of"]

# e^-80 is still a normal float32: below it, exp falls into denormals and is 6 × slower. A million clamped (or masked)
# rows add 1e-29 to a sum that is at least 1.
FLOOR = np.float32(-80.0)


class Arithmetic(Protocol):
    """Over (n, b) blocks of logits."""

    def largest(self, logits: Float32s) -> Float64s:
        """(n,) the largest of each query."""

    def exponentials(self, logits: Float32s, maximum: Float32s, out: Float32s) -> None:
        """`logits` becomes max(logits − maximum, FLOOR), `out` its exponential; `maximum` is (n, 1)."""

    def totals(self, powers: Float32s) -> Float64s:
        """(n,) the sum of each query's."""


class _InNumPy:
    def largest(self, logits: Float32s) -> Float64s:
        found: Float64s = logits.max(axis=1).astype(np.float64)
        return found

    def exponentials(self, logits: Float32s, maximum: Float32s, out: Float32s) -> None:
        logits -= maximum
        np.maximum(logits, FLOOR, out=logits)
        np.exp(logits, out=out)

    def totals(self, powers: Float32s) -> Float64s:
        # In float64: what is outside of the leaders is a small difference.
        found: Float64s = powers.sum(axis=1, dtype=np.float64)
        return found


class _InTorch:
    def largest(self, logits: Float32s) -> Float64s:
        import torch

        found: Float64s = torch.from_numpy(logits).amax(dim=1).numpy().astype(np.float64)
        return found

    def exponentials(self, logits: Float32s, maximum: Float32s, out: Float32s) -> None:
        import torch

        shifted = torch.from_numpy(logits)
        shifted.sub_(torch.from_numpy(maximum)).clamp_(min=float(FLOOR))
        torch.exp(shifted, out=torch.from_numpy(out))

    def totals(self, powers: Float32s) -> Float64s:
        # A block in float32, in what a matrix product takes: far below the error of 16-bit rows.
        return (powers @ np.ones(powers.shape[1], np.float32)).astype(np.float64)


def arithmetic_of(prepared: Sequence[Prepared]) -> Arithmetic:
    """Torch where 16-bit rows are multiplied by torch, NumPy elsewhere."""
    by_torch = any(part.segment.centre is not None and part.kernel in ("torch", "bfloat16") for part in prepared)
    return _InTorch() if by_torch else _InNumPy()
