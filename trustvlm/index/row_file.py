"""Float32 rows of a mapped file that are read one by one.

Invariants: a row is handed out only after its CRC-32 proved right, once in the life of the object;
which rows have been checked is all that readers write, and it changes no answer. Safe for several
threads.
"""

from __future__ import annotations

import zlib
from pathlib import Path

import numpy as np
import numpy.typing as npt

from trustvlm.errors import Damaged
from trustvlm.types.arrays import Float32s, Int64s
from trustvlm.types.messages.commands import suggested


def row_sums(rows: Float32s) -> npt.NDArray[np.uint32]:
    """(n,) CRC-32 of the bytes of each row."""
    return np.fromiter(
        (zlib.crc32(row) for row in np.ascontiguousarray(rows, "<f4")), np.uint32, len(rows)
    )


class RowFile:
    """(n, dim) float32 rows of a mapped file, with their (n,) checksums."""

    def __init__(self, path: Path, rows: Float32s, sums: npt.NDArray[np.uint32]) -> None:
        if rows.ndim != 2 or sums.shape != rows.shape[:1] or sums.dtype != np.uint32:
            shapes = f"{sums.shape} checksums cannot belong to {rows.shape} rows"
            raise Damaged(f"snapshot {path}: {shapes}")
        self._path, self._rows, self._sums = path, rows, sums
        self.dim, self._checked = rows.shape[1], np.zeros(len(rows), np.bool_)

    def __len__(self) -> int:
        return len(self._rows)

    @property
    def nbytes(self) -> int:
        """Bytes of all rows."""
        return self._rows.nbytes

    @property
    def mapped(self) -> Float32s:
        """(n, dim) all rows, to be read where :meth:`prove` has been."""
        return self._rows

    def take(self, positions: Int64s) -> Float32s:
        """(n, dim) a copy of the rows at these positions. Raises as :meth:`prove`."""
        self.prove(positions)
        rows: Float32s = self._rows.take(positions, axis=0)
        return rows

    def block(self, start: int, stop: int) -> Float32s:
        """(stop − start, dim) neighbouring rows. Raises as :meth:`prove`."""
        self.prove(np.arange(start, stop))
        return self._rows[start:stop]

    def prove(self, positions: Int64s) -> None:
        """Check the rows at these positions. Raises Damaged: one does not match its checksum."""
        unchecked = positions[~self._checked[positions]]
        if not len(unchecked):
            return
        unchecked = np.unique(unchecked)
        wrong = row_sums(self._rows[unchecked]) != self._sums[unchecked]
        if wrong.any():
            row = int(unchecked[wrong.argmax()])
            raise Damaged(
                f"snapshot {self._path}: row {row} does not match its checksum; "
                f"{suggested('index rebuild')} writes it again"
            )
        self._checked[unchecked] = True
