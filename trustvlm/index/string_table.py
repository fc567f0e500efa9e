"""Names by slot: those of a snapshot stay packed UTF-8 in its file, later ones are strings in
memory."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np
import numpy.typing as npt

from trustvlm.errors import Damaged, InvalidInput
from trustvlm.types.arrays import Int64s


class NameTable:
    """Growable names; slots are never changed, so readers may keep the table."""

    def __init__(
        self, data: npt.NDArray[np.uint8] | None = None, offsets: Int64s | None = None
    ) -> None:
        """An empty table, or one that starts with what :func:`pack_strings` packed.

        Raises:
            Damaged: offsets that do not cover the bytes in order.
        """
        self._data = np.empty(0, np.uint8) if data is None else data
        self._offsets = np.zeros(1, np.int64) if offsets is None else offsets
        _check_offsets(self._data, self._offsets)
        self._late: list[str] = []

    def extend(self, names: Iterable[str]) -> None:
        """Appends names."""
        self._late.extend(names)

    def __getitem__(self, slot: int) -> str:
        packed = len(self._offsets) - 1
        if slot >= packed:
            return self._late[slot - packed]
        return self._data[self._offsets[slot] : self._offsets[slot + 1]].tobytes().decode()

    def of(self, slots: npt.NDArray[np.int64]) -> list[str | None]:
        """The names in these (n,) slots; None for −1."""
        late, packed = self._late, len(self._offsets) - 1
        return [
            None if slot < 0 else late[slot - packed] if slot >= packed else self[slot]
            for slot in slots.tolist()
        ]

    def __len__(self) -> int:
        return len(self._offsets) - 1 + len(self._late)


def pack_strings(strings: Sequence[str]) -> tuple[npt.NDArray[np.uint8], Int64s]:
    """`strings` as the UTF-8 bytes of all of them and (n + 1,) offsets where each starts; the last
    is the length.

    Raises:
        InvalidInput: a string that has no UTF-8 form (a lone surrogate).
    """
    try:
        encoded = [string.encode() for string in strings]
    except UnicodeEncodeError as error:
        message = f"expected text, got a string that has no UTF-8 form: {error}"
        raise InvalidInput(message) from error
    offsets = np.zeros(len(encoded) + 1, np.int64)
    np.cumsum(np.fromiter(map(len, encoded), np.int64, len(encoded)), out=offsets[1:])
    return np.frombuffer(b"".join(encoded), np.uint8), offsets


def _check_offsets(data: npt.NDArray[np.uint8], offsets: Int64s) -> None:
    ordered = offsets.ndim == 1 and len(offsets) > 0 and bool((offsets[1:] >= offsets[:-1]).all())
    if not ordered or offsets[0] != 0 or offsets[-1] != data.size:
        raise Damaged(f"string offsets do not cover their {data.size} bytes in order")
