"""Support images and stored images of a space as points of a map."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from trustvlm.types.json_form import Answer
from trustvlm.types.messages.counts import count
from trustvlm.types.tables.columns import Column, flat_columns
from trustvlm.types.tables.glance import HTML_ROWS, Glance
from trustvlm.types.tables.tabular import Tabular


@dataclass(frozen=True, repr=False)
class ProjectedPoint(Answer):
    """An image on the map.

    Attributes:
        kind: "support" (a support image) or "observation" (a stored image of known label).
        id: of the support image or the observation.
        label: of a support image its label, of an observation the label that the space gives it.
        truth: the true label of an observation; None: no label of the space, or a support image.
        x, y: its place; distances between near points mean most. The values lie within −1 and 1.
        error: whether the label of an observation is wrong; None for a support image.
        source: where the image came from. pictured: a thumbnail of it is stored."""

    kind: Literal["support", "observation"]
    id: int
    label: str
    truth: str | None
    x: float
    y: float
    error: bool | None
    source: str | None
    pictured: bool


@dataclass(frozen=True, repr=False)
class Projection(Tabular, Answer):
    """The images of a space in two dimensions: similar embeddings lie near to each other.

    :meth:`to_arrow` and :meth:`to_pandas` have one row for each point.

    Attributes:
        space, revision: what was projected.
        method: "t-SNE", or "PCA" where there are too few points for it.
        points: support images by id, then observations by id.
        support_images, observations: how many there are in all; the map is of a part of them where
            they are more than the limit: of support images a random part, of observations the
            newest."""

    space: str
    revision: int
    method: str
    points: tuple[ProjectedPoint, ...]
    support_images: int
    observations: int

    def __len__(self) -> int:
        return len(self.points)

    def _table(self) -> tuple[dict[str, Column], int]:
        return flat_columns(ProjectedPoint, self.points), len(self.points)

    def _glance(self) -> Glance:
        columns = ("kind", "label", "truth", "error", "x", "y", "source")
        rows = [
            tuple(getattr(point, name) for name in columns) for point in self.points[:HTML_ROWS]
        ]
        wrong = sum(point.error is True for point in self.points)
        lines = (
            f"{len(self):,} of {self.support_images + self.observations:,} images of space "
            f"{self.space!r} at revision {self.revision}, by {self.method}; "
            f"{count(wrong, 'error')}",
        )
        return Glance(lines, columns, rows, len(self))
