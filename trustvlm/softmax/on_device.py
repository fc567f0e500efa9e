"""The pass over the 16-bit rows of a segment on a device of torch's: the rows stay there, and only
sums and leaders come back.

It computes what :mod:`trustvlm.softmax.streamed` computes: rows widened to float32 block by block,
products in float32, sums in float64. Nothing of it is bound to a kind of device: tests run it on
torch's "cpu" as well.
"""

from __future__ import annotations

from typing import TYPE_CHECKING
from weakref import WeakKeyDictionary

import numpy as np

from trustvlm.softmax.accumulate import State
from trustvlm.softmax.exp2 import FLOOR
from trustvlm.softmax.kernels import Prepared
from trustvlm.softmax.quantize import Segment
from trustvlm.types.arrays import Bools

if TYPE_CHECKING:
    import torch

__all__ = ["device_state"]

_BLOCK_LOGITS = 2**26  # 256 MB of float32 logits on the device
_MOST_ROWS = 2**17


_resident: WeakKeyDictionary[Segment, dict[str, torch.Tensor]] = WeakKeyDictionary()


def _rows_on(segment: Segment, device: str) -> torch.Tensor:
    """The segment's bfloat16 rows, copied to the device once for the segment's life."""
    import torch

    copies = _resident.setdefault(segment, {})
    if device not in copies:
        rows = np.array(segment.rows)  # torch takes no mapped file
        copies[device] = torch.from_numpy(rows.view(np.int16)).view(torch.bfloat16).to(device)
    return copies[device]


def device_state(part: Prepared, device: str, k: int, keep: Bools | None) -> State:
    """The pass of prepared queries over one 16-bit segment.

    Args:
        k: how many leaders. keep: mask of rows that take part, of all segments; None: all.

    The slots of the state are those of all segments.
    """
    import torch

    rows = _rows_on(part.segment, device)
    count, n = len(part.scaled), len(rows)
    vectors = torch.from_numpy(part.scaled.astype(np.float32)).to(device)
    first = part.segment.start
    mask = None if keep is None else torch.from_numpy(keep[first : first + n].copy()).to(device)
    maximum = torch.full((count,), -torch.inf, dtype=torch.float64, device=device)
    total, weighted, squared = (
        torch.zeros(count, dtype=torch.float64, device=device) for _ in range(3)
    )
    slots = torch.full((count, k), -1, dtype=torch.int64, device=device)
    leading = torch.full((count, k), -torch.inf, device=device)
    step = max(1, min(_MOST_ROWS, _BLOCK_LOGITS // max(count, 1)))
    for start in range(0, n, step):
        block = rows[start : start + step]
        logits = vectors @ block.float().T
        if mask is not None:
            logits.masked_fill_(~mask[start : start + step], -torch.inf)
        best, at = logits.topk(min(k, len(block)), dim=1)
        leading, order = torch.cat([leading, best], dim=1).topk(k, dim=1)
        slots = torch.cat([slots, at + (first + start)], dim=1).gather(1, order)
        larger = torch.maximum(maximum, logits.amax(dim=1).double())
        shift = torch.where(torch.isneginf(maximum), 0.0, maximum - larger)
        shrink = torch.exp2(shift)
        weighted, total, squared = (
            shrink * (weighted + shift * total),
            shrink * total,
            shrink**2 * squared,
        )
        maximum = larger
        top = torch.where(torch.isneginf(larger), 0.0, larger).float()[:, None]
        logits.sub_(top).clamp_(min=float(FLOOR))
        powers = torch.exp2(logits)
        if mask is not None:
            powers.masked_fill_(~mask[start : start + step], 0.0)
        total += powers.sum(dim=1, dtype=torch.float64)
        weighted += (powers * logits).sum(dim=1, dtype=torch.float64)
        squared += (powers * powers).sum(dim=1, dtype=torch.float64)
    slots = torch.where(torch.isneginf(leading), -1, slots)
    return State(
        maximum=maximum.cpu().numpy() + part.offset,
        total=total.cpu().numpy(),
        weighted=weighted.cpu().numpy(),
        squared=squared.cpu().numpy(),
        slots=slots.cpu().numpy(),
        logits=leading.cpu().numpy() + part.offset[:, np.newaxis],
    )
