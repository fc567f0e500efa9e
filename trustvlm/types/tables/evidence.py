"""The evidence of verdicts: the support images nearest to a query."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Generic, TypeVar

from trustvlm.types.arrays import Int64s
from trustvlm.types.json_form import Answer, Attributes

T = TypeVar("T")


@dataclass(frozen=True, repr=False)
class Neighbour(Answer):
    """One support image near a query."""

    id: int
    source: str | None
    similarity: float
    attributes: Attributes = field(default_factory=dict, hash=False, repr=False)


@dataclass(frozen=True, repr=False)
class Evidence(Answer):
    """The nearest support images of the predicted label, of its rival, and of the claimed label,
    best first."""

    label: tuple[Neighbour, ...]
    rival: tuple[Neighbour, ...]
    claimed: tuple[Neighbour, ...] = ()


@dataclass(frozen=True)
class OfRows(Generic[T]):
    """Reads something, such as the evidence, of some rows of verdicts, by their place among
    these."""

    read: Callable[..., T]
    rows: Int64s

    def __call__(self, i: int, *others: int) -> T:
        return self.read(int(self.rows[i]), *others)
