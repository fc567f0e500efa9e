"""What a process has computed of a space beyond its rows, shared by all calls on the space."""

from __future__ import annotations

import threading
from collections.abc import Callable, Hashable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, TypeVar

from trustvlm.catalog.rows.counts import SupportCount
from trustvlm.types.arrays import Int64s

if TYPE_CHECKING:
    from trustvlm.service.memory.attributes.files import AttributeFiles
    from trustvlm.service.memory.discriminant.space_discriminant import SpaceDiscriminant
    from trustvlm.service.memory.support_fit import FitMemo
    from trustvlm.service.memory.support_index import SupportCache
    from trustvlm.service.memory.support_prints import SupportPrints

__all__ = ["SpaceMemo", "UnseenLabels"]

T = TypeVar("T")


@dataclass(frozen=True, eq=False)
class UnseenLabels:
    """The labels that a calibration never saw, at a revision of their space.

    Attributes:
        ids: of those added, brought back or changed since, and given to none of its images.
        taken: one of them that an image of the calibration would now be given; None: there is none.
    """

    calibration: int
    revision: int
    ids: Int64s
    taken: str | None


@dataclass(eq=False)
class SpaceMemo:
    """Each value names its revision; a reader that needs another one computes it and puts it here.

    Attributes:
        epoch, recipe: of the catalog and the space, which the values belong to.
        fit: what the support images say. discriminant: likewise, for the rules that whiten.
        unseen: what the calibrations in force never saw; that of claims under True.
        support_indexes: indexes over support images, by "verifier" and "classifier".
        prints: of support images, by which equal ones are found. support_count: how many there are.
        lock: guards the indexes and the prints. fitting: guards the discriminant.
        attribute_files: of indexed keys.
        newest: the last value of each kind that :meth:`once` made, with its key.
    """

    epoch: str
    recipe: str
    fit: FitMemo | None = None
    discriminant: SpaceDiscriminant | None = None
    unseen: dict[bool, UnseenLabels] = field(default_factory=dict)
    support_indexes: dict[str, SupportCache] = field(default_factory=dict)
    prints: SupportPrints | None = None
    support_count: SupportCount | None = None
    lock: threading.Lock = field(default_factory=threading.Lock)
    fitting: threading.Lock = field(default_factory=threading.Lock)
    attribute_files: AttributeFiles | None = None
    newest: dict[str, tuple[Hashable, Any]] = field(default_factory=dict)
    _making: dict[str, threading.RLock] = field(default_factory=dict)

    def once(self, kind: str, key: Hashable, make: Callable[[], T]) -> T:
        """The value of `make()` for this key; the last one of its kind is kept. Calls that need one
        at the same time wait for the first of them. `make` may need values of other kinds."""
        with self._making.setdefault(kind, threading.RLock()):
            kept = self.newest.get(kind)
            if kept is None or kept[0] != key:
                kept = self.newest[kind] = key, make()
            value: T = kept[1]
            return value
