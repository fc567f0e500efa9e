"""Which columns of a table hold images and labels."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

from trustvlm.errors import InvalidInput
from trustvlm.types.attributes.values import is_column
from trustvlm.types.messages.meant import did_you_mean, likest

IMAGE_COLUMNS = (
    "file", "path", "image", "filepath", "file_path", "filename", "file_name", "image_path", "img",
    "jpg", "jpeg", "png", "webp", "source",
)  # fmt: skip
LABEL_COLUMNS = ("truth", "label", "class", "label_name", "class_name", "category", "cls")
"""Names of columns, in any case and with "-" or blanks for "_"; the first that is there counts."""


PARENT = "parent"
"""The column of the node that a label stands under."""


@dataclass(frozen=True)
class SetColumns:
    """Places of the columns of images and labels, and why there is none of labels; and places and
    names of those of parents and attributes."""

    image: int
    label: int | None
    unlabelled: str | None = None
    described: tuple[tuple[int, str], ...] = ()


def folded(column: str) -> str:
    """The name of a column in lower case, with "_" for blanks and hyphens."""
    return re.sub(r"[\s-]+", "_", column.strip().casefold())


def set_columns(
    origin: str, columns: Sequence[str], image: str | None, label: str | None
) -> SetColumns:
    """The columns of images and labels: those named `image` and `label`, else by their usual names.

    Raises:
        InvalidInput: there is no column of images, or a named one is missing.
    """
    have = f"this has the columns {', '.join(columns)}" if columns else "this is empty"
    usual = "expected a column of images with the name file (or path, image, filename …)"
    place = _place(origin, columns, image, IMAGE_COLUMNS, have)
    if place is None:
        remedy = "; rename one, or name it: trustvlm.read_images(…, image='…')" if columns else ""
        raise InvalidInput(f"{origin}: {usual}; {have}{remedy}{_usual(columns, IMAGE_COLUMNS)}")
    label_place = _place(origin, columns, label, LABEL_COLUMNS, have)
    if label_place is not None:
        return SetColumns(place, label_place, described=_described(columns, (place, label_place)))
    usual = "expected a column of labels with the name label (or truth, class, category …)"
    remedy = "rename one, or name it: trustvlm.read_images(…, label='…')"
    meant = _usual(columns, LABEL_COLUMNS)
    unlabelled = f"{origin}: {usual}; {have}; {remedy}{meant}"
    return SetColumns(place, None, unlabelled, _described(columns, (place,)))


def _described(columns: Sequence[str], taken: Sequence[int]) -> tuple[tuple[int, str], ...]:
    """Places and names of the columns of parents and attributes, those that are `taken` left
    out."""
    named = [PARENT if folded(column) == PARENT else column for column in columns]
    return tuple(
        (place, name)
        for place, name in enumerate(named)
        if place not in taken and (name == PARENT or is_column(name))
    )


def _usual(columns: Sequence[str], usual: Sequence[str]) -> str:
    """Which of the columns may be one with a usual name that was mistyped."""
    for column in columns:
        if (meant := likest(folded(column), usual)) is not None:
            return f"; did you mean {meant!r} by {column!r:.80}?"
    return ""


def _place(
    origin: str, columns: Sequence[str], name: str | None, usual: Sequence[str], have: str
) -> int | None:
    if name is not None:
        if name not in columns:
            meant = did_you_mean(name, columns)
            raise InvalidInput(f"{origin}: expected a column {name!r}; {have}{meant}")
        return list(columns).index(name)
    names = [folded(column) for column in columns]
    return next((names.index(one) for one in usual if one in names), None)
