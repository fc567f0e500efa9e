"""What a process has computed of a space beyond its rows, shared by all calls on the space."""

from __future__ import annotations

import threading
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from trustvlm.types.arrays import Int64s

if TYPE_CHECKING:
    from trustvlm.service.memory.support_fit import FitMemo
    from trustvlm.service.memory.support_index import SupportCache
    from trustvlm.service.memory.support_prints import SupportPrints

__all__ = ["SpaceMemo", "UnseenLabels"]


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
        fit: what the support images say. unseen: what the calibration in force never saw.
        support_indexes: indexes over support images, by "verifier" and "classifier".
        prints: of support images, by which equal ones are found.
        lock: guards the indexes and the prints.
    """

    epoch: str
    recipe: str
    fit: FitMemo | None = None
    unseen: UnseenLabels | None = None
    support_indexes: dict[str, SupportCache] = field(default_factory=dict)
    prints: SupportPrints | None = None
    lock: threading.Lock = field(default_factory=threading.Lock)
