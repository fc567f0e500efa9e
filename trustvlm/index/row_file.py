"""Float32 rows that stay in a file and are read one by one.

Invariants: a row is handed out only after its CRC-32 proved right, once in the life of the object;
which rows have been checked is all that readers write, and it changes no answer.
Rows are read with pread: a memory-mapped file would fault in the neighbourhood of each, and soon
all of it. Safe for several threads.
"""

from __future__ import annotations

import os
import weakref
import zlib
from pathlib import Path

import numpy as np
import numpy.typing as npt

from trustvlm.errors import Damaged, Unavailable
from trustvlm.softmax.native import library
from trustvlm.types.arrays import Float32s, Int64s


def row_sums(rows: Float32s) -> npt.NDArray[np.uint32]:
    """(n,) CRC-32 of the bytes of each row."""
    return np.fromiter(
        (zlib.crc32(row) for row in np.ascontiguousarray(rows, "<f4")), np.uint32, len(rows)
    )


class RowFile:
    """(n, dim) float32 rows at `offset` of an open file, whose descriptor it takes over, with their
    (n,) checksums."""

    def __init__(
        self,
        path: Path,
        descriptor: int,
        offset: int,
        shape: tuple[int, ...],
        sums: npt.NDArray[np.uint32],
    ) -> None:
        weakref.finalize(self, os.close, descriptor)
        if len(shape) != 2 or sums.shape != shape[:1] or sums.dtype != np.uint32:
            raise Damaged(f"snapshot {path}: {sums.shape} checksums cannot belong to {shape} rows")
        self._path, self._descriptor, self._offset, self._sums = path, descriptor, offset, sums
        self._rows, self.dim = shape
        self._checked = np.zeros(self._rows, np.bool_)

    def __len__(self) -> int:
        return self._rows

    @property
    def nbytes(self) -> int:
        """Bytes of all rows."""
        return 4 * self._rows * self.dim

    def take(self, positions: Int64s) -> Float32s:
        """(n, dim) the rows at these positions.

        Raises:
            Damaged: a row does not match its checksum. Unavailable: the file cannot be read.
        """
        rows = np.empty((len(positions), self.dim), np.float32)
        try:
            complete = self._read(positions, rows)
        except OSError as error:
            raise Unavailable(
                f"cannot read snapshot {self._path}: {error.strerror or error}"
            ) from error
        if not complete:
            raise Damaged(
                f"snapshot {self._path} is cut short; 'trustvlm index rebuild SPACE' writes it "
                f"again"
            )
        self._prove(positions, rows)
        return rows

    def _read(self, positions: Int64s, out: Float32s) -> bool:
        """Read the rows at these positions; whether all of them are there."""
        native = library()
        if native is not None:
            place = np.ascontiguousarray(positions, np.int64)
            return native.read(self._descriptor, self._offset, place, out) == len(out)
        size = 4 * self.dim
        places = (self._offset + size * positions).tolist()
        parts = (memoryview(row).cast("B") for row in out)
        return all(
            os.preadv(self._descriptor, [part], at) == size
            for part, at in zip(parts, places, strict=True)
        )

    def block(self, start: int, stop: int) -> Float32s:
        """(stop − start, dim) neighbouring rows. Raises as :meth:`take`."""
        rows = np.empty((stop - start, self.dim), np.float32)
        if stop == start:
            return rows
        try:
            os.preadv(
                self._descriptor,
                [memoryview(rows.data).cast("B")],
                self._offset + 4 * self.dim * start,
            )
        except OSError as error:
            raise Unavailable(
                f"cannot read snapshot {self._path}: {error.strerror or error}"
            ) from error
        self._prove(np.arange(start, stop), rows)
        return rows

    def _prove(self, positions: Int64s, rows: Float32s) -> None:
        unchecked = np.flatnonzero(~self._checked[positions])
        wrong = row_sums(rows[unchecked]) != self._sums[positions[unchecked]]
        if wrong.any():
            row = int(positions[unchecked[wrong.argmax()]])
            raise Damaged(
                f"snapshot {self._path}: row {row} does not match its checksum; 'trustvlm index "
                f"rebuild' writes it again"
            )
        self._checked[positions] = True
