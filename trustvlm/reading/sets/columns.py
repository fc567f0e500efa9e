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
        InvalidInput: there is no column of images, a named one is missing, or two have one name.
    """
    have = f"this has the columns {', '.join(columns)}" if columns else "this is empty"
    usual = "expected a column of images with the name file (or path, image, filename …)"
    place = _place(origin, columns, image, IMAGE_COLUMNS, have)
    if place is None:
        remedy = "; rename one, or name it: trustvlm.read_images(…, image='…')" if columns else ""
        raise InvalidInput(f"{origin}: {usual}; {have}{remedy}{_usual(columns, IMAGE_COLUMNS)}")
    label_place = _place(origin, columns, label, LABEL_COLUMNS, have)
    if label_place is not None:
        described = _described(origin, columns, (place, label_place))
        return SetColumns(place, label_place, described=described)
    usual = "expected a column of labels with the name label (or truth, class, category …)"
    remedy = "rename one, or name it: trustvlm.read_images(…, label='…')"
    meant = _usual(columns, LABEL_COLUMNS)
    unlabelled = f"{origin}: {usual}; {have}; {remedy}{meant}"
    return SetColumns(place, None, unlabelled, _described(origin, columns, (place,)))


def _described(
    origin: str, columns: Sequence[str], taken: Sequence[int]
) -> tuple[tuple[int, str], ...]:
    """Places and names of the columns of parents and attributes, those that are `taken` left out.
    Raises InvalidInput: two of one name."""
    named = [PARENT if folded(column) == PARENT else column for column in columns]
    described = dict.fromkeys(name for name in named if name == PARENT or is_column(name))
    places = (only_column(origin, columns, named, name) for name in described)
    return tuple((place, named[place]) for place in sorted(places) if place not in taken)


def only_column(origin: str, columns: Sequence[str], names: Sequence[str], name: str) -> int:
    """The place of the one column that is called `name` among `names`, those of the columns as a
    reader compares them. Raises InvalidInput: two are."""
    places = [place for place, one in enumerate(names) if one == name]
    if len(places) > 1:
        some = " and ".join(f"{columns[place]!r:.80} (column {place + 1})" for place in places[:2])
        raise InvalidInput(f"{origin}: expected one column {name!r:.80}, got {some}; rename one")
    return places[0]


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
        return only_column(origin, columns, columns, name)
    names = [folded(column) for column in columns]
    chosen = next((one for one in usual if one in names), None)
    return None if chosen is None else only_column(origin, columns, names, chosen)
