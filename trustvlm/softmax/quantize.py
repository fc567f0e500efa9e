"""16-bit rows: how they are stored.

A segment of 16-bit rows holds bfloat16(row − centre), where the centre is what all rows share:
s·q·centre is added to every logit again, exactly. A bfloat16 has 8 significant bits, so that a
logit of 100 · cosine is off by some hundredths at most. The errors of rows are independent and
cancel in a sum over many; those of the few leading rows do not, and their logits are computed again
from float32 rows. Queries of a sum keep at least 16 bits: their rounding adds nearly equal errors
to the logits of similar rows, which would not cancel. A pass for the leaders alone may round them.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from trustvlm.types.arrays import Float32s, Float64s

Uint16s = npt.NDArray[np.uint16]


@dataclass(frozen=True, eq=False)
class Segment:
    """Rows `start` … of a matrix, in one piece.

    Attributes:
        start: the slot of its first row.
        rows: (m, d) float32, or uint16: the bits of bfloat16(row − centre).
        centre: (d,) float32 that was subtracted; None for float32 rows.
    """

    start: int
    rows: Float32s | Uint16s
    centre: Float32s | None = None

    def offsets(self, scaled: Float64s) -> Float64s:
        """(n,) what the centre adds to the logits of (n, d) queries times the scale."""
        if self.centre is None:
            return np.zeros(len(scaled))
        return scaled @ self.centre.astype(np.float64)


def to_bfloat16(values: Float32s | Float64s) -> Uint16s:
    """The bits of the nearest bfloat16 of finite values, ties to even."""
    bits = np.ascontiguousarray(values, np.float32).view(np.uint32)
    return ((bits + 0x7FFF + ((bits >> 16) & 1)) >> 16).astype(np.uint16)
