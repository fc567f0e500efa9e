"""How much one call may ask for."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from itertools import islice
from typing import TypeVar

from trustvlm.errors import InvalidInput

T = TypeVar("T")


@dataclass(frozen=True)
class CallLimits:
    """What one call may hold at most; each is a setting of :class:`trustvlm.settings.Settings`.

    Attributes:
        labels: of a register call. supports: support images that come as vectors, of a register
            call.
        images: of any call. queries: vectors or texts that are scored or searched.
    """

    labels: int = 5_000_000
    supports: int = 20_000_000
    images: int = 1_000_000
    queries: int = 1_000_000

    def check(self, kind: str, number: int, what: str) -> None:
        """Make sure that a call has no more than `number` of a kind ("labels", "images" …).

        Raises:
            InvalidInput: it has.
        """
        if number > getattr(self, kind):
            raise too_many(kind, getattr(self, kind), f"got {number:,}", what)


@dataclass(frozen=True)
class ReviewLimits:
    """How much the review queue of a space holds; settings, too.

    Attributes:
        items: images that may wait. share: of all scored images that are drawn at random.
    """

    items: int = 10_000
    share: float = 0.02


def at_most(items: Iterable[T], limits: CallLimits, kind: str, what: str) -> list[T]:
    """`items` as a list; an iterator that does not end is left behind the limit.

    Raises:
        InvalidInput: there are more.
    """
    limit: int = getattr(limits, kind)
    taken = list(islice(items, limit + 1))
    if len(taken) > limit:
        raise too_many(kind, limit, "got more", what)
    return taken


def too_many(kind: str, limit: int, got: str, what: str) -> InvalidInput:
    """The error of a call that asks for too much."""
    return InvalidInput(
        f"{what}: expected at most {limit:,} {kind} in one call (setting max_{kind}), "
        f"{got}; make several calls"
    )
