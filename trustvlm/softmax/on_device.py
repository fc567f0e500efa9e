"""Inner products with all rows in memory, on a device of torch's where that is worth the transfer.

Queries go to the device once, and all products come back once. Rows stay on the device as long as
the array that they lie in; of rows that are appended to it, only the new ones are sent. The code is
bound to no kind of device: tests run it on torch's "cpu".
"""

from __future__ import annotations

import logging
import weakref
from typing import TYPE_CHECKING

import numpy as np

from trustvlm.types.arrays import Float32s

if TYPE_CHECKING:
    import torch

log = logging.getLogger("trustvlm")

WORTH_IT = 2**24
"""Multiplications below which the processor is done before a device has answered (assumed, not
measured: 0.5 ms of one thread)."""


class _Copy:
    """The first `n` rows of an array, on a device."""

    def __init__(self, array: Float32s, device: str) -> None:
        import torch

        self._copied, self._n = torch.empty(array.shape, device=device), 0

    def of(self, rows: Float32s) -> torch.Tensor:
        """The first rows of the array on the device; those that it lacks are sent."""
        import torch

        first, n = self._n, len(rows)
        if first < n:  # two threads may both send them: they are equal
            self._copied[first:n] = torch.from_numpy(np.array(rows[first:]))
            self._n = max(self._n, n)
        return self._copied[:n]


_copies: dict[tuple[int, str], _Copy | None] = {}
"""By identity of the array, and device; None where the device had no room."""


def products(queries: Float32s, rows: Float32s, device: str | None) -> Float32s:
    """(n, N) float32 inner products of (n, d) queries with (N, d) rows.

    Args:
        rows: never change. They may be the first rows of a larger array that is filled later.
        device: its name in torch; None: the processor.
    """
    if device is None or queries.size * len(rows) < WORTH_IT:
        return queries @ rows.T
    import torch

    array = rows
    if isinstance(larger := rows.base, np.ndarray):
        first = (larger.ctypes.data, larger.strides) == (rows.ctypes.data, rows.strides)
        array = larger if first and larger.dtype == rows.dtype else rows
    key = (id(array), device)
    try:
        if key not in _copies:
            weakref.finalize(array, _copies.pop, key, None)
            _copies[key] = _Copy(array, device)
        if (copy := _copies[key]) is None:
            return queries @ rows.T
        sent = torch.from_numpy(np.ascontiguousarray(queries)).to(device)
        back: Float32s = (sent @ copy.of(rows).T).cpu().numpy()
    except torch.OutOfMemoryError:
        _copies[key] = None
        log.warning(
            "device %s has no room for %d labels: products run on the CPU", device, len(rows)
        )
        return queries @ rows.T
    return back
