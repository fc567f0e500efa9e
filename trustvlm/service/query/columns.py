"""Verdicts as columns of numbers; names are looked up when their column is read."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from typing import Any

import numpy as np
import numpy.typing as npt

from trustvlm.index.string_table import NameTable
from trustvlm.types.arrays import Int64s, Objects

CLAIMED = "claimed_"
"""Begins the names of the columns that are about claimed labels, where there are any."""

NAMES = {
    "label": "label_slot",
    "corrected_from": "corrected_slot",
    "nearest_prototype": "nearest_slot",
    "rival": "rival_slot",
    "top_labels": "top_slots",
}
"""Column of names → column of the text slots that they are the names of; −1 stands for no name."""

_NUMBERS = (
    "label_id", "text_confidence", "image_similarity", "trust", "nearest_similarity", "agrees",
    "rival_id", "rival_trust", "rival_confidence", "unverified", "top_confidence",
)  # fmt: skip
"""The columns of numbers that a verdict shows."""


class Columns(Mapping[str, Any]):
    """The verdict columns of n queries, each an array of n rows.

    Args:
        names: label name of each text slot.
        arrays: every column but those of :data:`NAMES`, with the slots that these come from.
    """

    def __init__(self, names: NameTable, arrays: dict[str, npt.NDArray[Any]]) -> None:
        self._names, self.arrays = names, arrays
        self._looked_up: dict[str, Objects] = {}

    @classmethod
    def joined(cls, parts: Sequence[Columns]) -> Columns:
        """The rows of all parts, of which there is at least one."""
        if len(parts) == 1:
            return parts[0]
        every = [part.arrays for part in parts]
        arrays = {key: np.concatenate([one[key] for one in every]) for key in every[0]}
        return cls(parts[0]._names, arrays)

    def __getitem__(self, key: str) -> npt.NDArray[Any]:
        if key not in NAMES:
            return self.arrays[key]
        if key not in self._looked_up:
            self._looked_up[key] = self._named(self.arrays[NAMES[key]])
        return self._looked_up[key]

    def names(self) -> dict[str, Callable[[], Any]]:
        """Column of names → a function that looks the names up."""
        return {key: partial(self.__getitem__, key) for key in NAMES}

    def numbers(self) -> dict[str, npt.NDArray[Any]]:
        """The columns of numbers that a verdict shows."""
        return {key: self.arrays[key] for key in _NUMBERS}

    def with_arrays(self, arrays: dict[str, npt.NDArray[Any]]) -> Columns:
        """Other columns whose slots have the same names."""
        return Columns(self._names, arrays)

    def __iter__(self) -> Iterator[str]:
        yield from self.arrays
        yield from NAMES

    def __len__(self) -> int:
        return len(self.arrays) + len(NAMES)

    def _named(self, slots: Int64s) -> Objects:
        names: Objects = np.empty(slots.size, dtype=object)
        names[:] = self._names.of(slots.ravel())
        return names.reshape(slots.shape)
