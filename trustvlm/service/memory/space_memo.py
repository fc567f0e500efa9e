"""What a process has computed of a space beyond its rows, shared by all calls on the space."""

from __future__ import annotations

import threading
from collections.abc import Callable, Hashable
from dataclasses import dataclass, field
from typing import Any, TypeVar

T = TypeVar("T")


@dataclass(eq=False)
class SpaceMemo:
    """Each value names its revision; a reader that needs another one computes it and puts it here.
    The modules that compute values own their classes, and none of these is named here.

    Attributes:
        epoch, recipe: of the catalog and the space, which the values belong to.
        lock: guards the indexes over support images and their prints. fitting: guards the
            discriminant.
        newest: the last value of each kind that :meth:`once` made, with its key.
    """

    epoch: str
    recipe: str
    lock: threading.Lock = field(default_factory=threading.Lock)
    fitting: threading.Lock = field(default_factory=threading.Lock)
    newest: dict[str, tuple[Hashable, Any]] = field(default_factory=dict)
    _making: dict[str, threading.RLock] = field(default_factory=dict)
    _latest: dict[type, Any] = field(default_factory=dict)

    def latest(self, kind: type[T]) -> T | None:
        """The value of this class that :meth:`keep` was given last; None: there was none."""
        value: T | None = self._latest.get(kind)
        return value

    def keep(self, value: object) -> None:
        """Keep a value in place of the one of its class."""
        self._latest[type(value)] = value

    def once(self, kind: str, key: Hashable, make: Callable[[], T]) -> T:
        """The value of `make()` for this key; the last one of its kind is kept. Calls that need one
        at the same time wait for the first of them. `make` may need values of other kinds."""
        with self._making.setdefault(kind, threading.RLock()):
            kept = self.newest.get(kind)
            if kept is None or kept[0] != key:
                kept = self.newest[kind] = key, make()
            value: T = kept[1]
            return value
