"""The pass over the rows of a segment with torch: on a GPU, where the rows stay, and only sums and
leaders come back; on the processor where there is no compiled library.

It computes what :mod:`trustvlm.softmax.native` computes: rows widened to float32 block by block,
products in float32, sums in float64. The code is bound to no kind of device.
"""

from __future__ import annotations

from typing import TYPE_CHECKING
from weakref import WeakKeyDictionary

import numpy as np

from trustvlm.softmax.quantize import Segment
from trustvlm.softmax.state import FLOOR, LEAST, State
from trustvlm.system.stages import may_stop
from trustvlm.types.arrays import Bools, Float32s

if TYPE_CHECKING:
    import torch

_BLOCK_LOGITS, _BLOCK_LOGITS_CPU = 2**26, 2**19  # 256 MB of float32 logits on a device; 2 MB
_MOST_ROWS = 2**17

_resident: WeakKeyDictionary[Segment, dict[str, torch.Tensor]] = WeakKeyDictionary()


def _rows_on(segment: Segment, device: str) -> torch.Tensor:
    """The rows of a segment, copied to the device once for its life, block by block: a mapped
    file may hold more of them than memory does."""
    import torch

    copies = _resident.setdefault(segment, {})
    if device not in copies:
        kind = _tensor(segment, 0, 0).dtype
        rows = torch.empty(segment.rows.shape, dtype=kind, device=device)
        for start in range(0, len(rows), _MOST_ROWS):
            stop = min(start + _MOST_ROWS, len(rows))
            rows[start:stop] = _tensor(segment, start, stop).to(device)
        copies[device] = rows
    return copies[device]


def _tensor(segment: Segment, start: int, stop: int) -> torch.Tensor:
    """A copy of rows start … stop: torch takes no mapped file."""
    import torch

    rows = torch.from_numpy(np.array(segment.rows[start:stop]))
    return rows if segment.centre is None else rows.view(torch.bfloat16)


def torch_state(
    segment: Segment, queries: Float32s, device: str, k: int, keep: Bools | None, *, sums: bool
) -> State:
    """The pass of (n, d) queries, times the scale in bits, over one segment, without what its
    centre adds. Slots are places in the segment.

    Args:
        k: how many leaders. keep: mask of the segment's rows that take part; None: all.
    """
    import torch

    count, n = len(queries), len(segment.rows)
    vectors = torch.from_numpy(queries).to(device)
    mask = None if keep is None else torch.from_numpy(keep.copy()).to(device)
    top, total, weighted, squared = (
        torch.full((count,), first, dtype=torch.float64, device=device)
        for first in (-torch.inf, 0.0, 0.0, 0.0)
    )
    slots = torch.full((count, k), -1, dtype=torch.int64, device=device)
    leading = torch.full((count, k), -torch.inf, device=device)
    on_cpu = device == "cpu"
    most = _BLOCK_LOGITS_CPU if on_cpu else _BLOCK_LOGITS
    step = max(1, min(_MOST_ROWS, most // max(count, 1)))
    for start in range(0, n, step):
        may_stop()
        stop = min(start + step, n)
        rows = _tensor(segment, start, stop) if on_cpu else _rows_on(segment, device)[start:stop]
        logits = vectors @ rows.float().T
        if mask is not None:
            logits.masked_fill_(~mask[start:stop], -torch.inf)
        # The former leaders compete again; the sums below leave the new leaders out.
        logits = torch.cat([leading, logits], dim=1)
        places = torch.arange(start - k, stop, device=device).expand(count, -1).clone()
        places[:, :k] = slots
        leading, at = logits.topk(k, dim=1)
        slots = places.gather(1, at)
        before, top = top, torch.maximum(top, leading[:, 0].double())
        if not sums:
            continue
        logits.scatter_(1, at, -torch.inf)
        shift = torch.where(torch.isneginf(before), 0.0, before - top)
        shrink = torch.exp2(shift)
        weighted, total, squared = (
            shrink * (weighted + shift * total),
            shrink * total,
            shrink**2 * squared,
        )
        logits.sub_(torch.where(torch.isneginf(top), 0.0, top).float()[:, None]).clamp_(min=FLOOR)
        powers = torch.exp2(logits)
        total += powers.sum(dim=1, dtype=torch.float64)
        weighted += (powers * logits).sum(dim=1, dtype=torch.float64)
        squared += powers.clamp_(min=LEAST).square_().sum(dim=1, dtype=torch.float64)
    return State(
        slots=torch.where(torch.isneginf(leading), -1, slots).cpu().numpy(),
        logits=leading.cpu().numpy().astype(np.float64),
        top=top.cpu().numpy(),
        sums=torch.stack([total, weighted, squared], dim=1).cpu().numpy(),
    )
