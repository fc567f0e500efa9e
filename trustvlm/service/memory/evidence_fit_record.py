"""A fit of a space's support images, what it looked at, and what a cache remembers of it."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from functools import cached_property

from trustvlm.scoring.image_evidence import ImageEvidence
from trustvlm.types.arrays import Float64s, Int64s

__all__ = ["Fit", "FitMemo", "FitSample"]


@dataclass(frozen=True)
class Fit:
    """A fit, the space's revision at which it was made, and a digest of the sample it looked at.

    `last_name` and `last_image` are the sample's: see :class:`FitSample`.
    """

    revision: int
    sample: str
    evidence: ImageEvidence
    last_name: int | None = None
    last_image: bytes | None = None


@dataclass(frozen=True, eq=False)
class FitSample:
    """What a fit looks at.

    Attributes:
        keys: (label id, content hash) of the support images of smallest hash.
        labels: ids, ascending, of the labels that they are compared with.
        last_name: name hash behind which a label is not among those; None while there is room for
            any.
        last_image: content hash behind which a support image is not; None while there is room for
            any.
    """

    keys: list[tuple[int, bytes]]
    labels: Int64s
    last_name: int | None
    last_image: bytes | None

    @cached_property
    def digest(self) -> str:
        """Names the sample: equal for equal ones."""
        found = hashlib.sha256(self.labels.tobytes())
        for label_id, content in self.keys:
            found.update(label_id.to_bytes(8) + content)
        return found.hexdigest()


@dataclass(frozen=True, eq=False)
class FitMemo:
    """The fit that holds at a revision, what it looked at, and (a, d_v) prototypes that stand for
    labels in general."""

    revision: int
    fit: Fit
    sample: FitSample
    background: Float64s
