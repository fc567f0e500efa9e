"""One image of a set, with its label; and sets, which can be read as often as they are needed."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from trustvlm.errors import InvalidInput
from trustvlm.reading.sets.columns import PARENT
from trustvlm.types.attributes.values import row_attributes
from trustvlm.types.bounds import got

if TYPE_CHECKING:
    from trustvlm.types import LabelInput

_LOOKED_AT = 1_000

Names = Sequence[str] | Mapping[Any, str] | None
"""The names of labels by their numbers, or by what the set calls them."""


class Described(NamedTuple):
    """What a row of a table says of its image and label besides: the cells of the columns parent,
    attributes and attr.KEY, as they stand there."""

    place: str
    cells: Mapping[str, Any]


class FileBytes(bytes):
    """The bytes of an image file with the file's name, and what the table says of it besides."""

    filename: str = ""
    described: Described | None = None

    @classmethod
    def named(cls, content: bytes, name: str) -> FileBytes:
        """These bytes as those of a file of this name."""
        data = cls(content)
        data.filename = name
        return data


class ListedPath(str):
    """A path that stands in a table, with the place where it stands there, and what the table says
    of the image besides."""

    place: str
    described: Described | None = None

    @classmethod
    def at(cls, path: str, place: str) -> ListedPath:
        """This path, listed at `place`."""
        listed = cls(path)
        listed.place = place
        return listed


def with_place(source: object, reason: str) -> str:
    """A reason why an image cannot be read, with the place where a table lists it."""
    return f"{reason} ({source.place})" if isinstance(source, ListedPath) else reason


class ImageRow(NamedTuple):
    """An image of a set: a path or the bytes of a file; its label, where there is one; and where
    it stands, in words."""

    image: Any
    label: str | None
    place: str


@dataclass(frozen=True, eq=False)
class LabelledImages:
    """Images of a set with their labels, read when they are needed; all verbs take it as images.

    Attributes:
        origin: what it is, in words. read: makes an iterator over the rows.
        unlabelled: why there are no labels; None where there are.
    """

    origin: str
    read: Callable[[], Iterator[ImageRow]]
    unlabelled: str | None = None

    def __iter__(self) -> Iterator[ImageRow]:
        return self.read()

    def images(self) -> Iterator[Any]:
        """The images alone. Raises InvalidInput: a table whose files are all missing, or a row
        without an image."""
        return (row.image for row in self)

    def labelled(self, most: int | None = None) -> tuple[list[Any], list[str]]:
        """(images, their labels), of `most` images and one more.

        Raises:
            InvalidInput: there are no labels, or a row has none.
        """
        if self.unlabelled is not None:
            raise InvalidInput(self.unlabelled)
        images, labels = list[Any](), list[str]()
        for row in islice(self, None if most is None else most + 1):
            if row.label is None:
                raise InvalidInput(
                    f"{row.place}: this row has no label; leave it out, or give it the name of a "
                    f"label"
                )
            images.append(row.image)
            labels.append(row.label)
        if not images:
            raise InvalidInput(f"{self.origin}: no images")
        return images, labels

    def by_label(self, most: int | None = None) -> dict[str, list[Any]]:
        """Label → its images. Raises InvalidInput: as :meth:`labelled`."""
        groups: dict[str, list[Any]] = {}
        for image, label in zip(*self.labelled(most), strict=True):
            groups.setdefault(label, []).append(image)
        return groups


def label_name(value: Any, names: Names, place: str) -> str | None:
    """The name of the label that a set calls `value`: itself, or of `names`; None: no label.

    Raises:
        InvalidInput: neither a text nor a whole number, or no name for it.
    """
    if isinstance(value, bool) or not isinstance(value, str | int | None):
        raise InvalidInput(
            f"{place}: expected the name or the number of a label, got {type(value).__name__}"
        )
    if value is None or value == "" or (names is not None and value == -1):  # data sets' "unknown"
        return None
    if names is None:
        return str(value)
    if isinstance(names, Mapping):
        name = names.get(value, names.get(str(value)))
    else:
        number = int(value) if str(value).isascii() and str(value).isdigit() else -1
        name = names[number] if 0 <= number < len(names) else None
    if name is None:
        raise InvalidInput(f"{place}: no name for the label {value!r:.80}")
    return str(name)


def label_of_images(name: str, images: list[Any] | None, prompt: str | None = None) -> LabelInput:
    """A label to register, with its images, and the parent and the attributes of images that the
    rows of a table give.

    Raises:
        InvalidInput: attributes that are none, or two parents.
    """
    from trustvlm.types import LabelInput

    described = [getattr(image, "described", None) for image in images or ()]
    attributes: list[Any] | None = [
        None if one is None else row_attributes(one.cells, f"{one.place}: ") for one in described
    ]
    parent = _parent(name, [one for one in described if one is not None])
    return LabelInput(
        name, images=images, prompt=prompt, parent=parent,
        image_attributes=attributes if any(attributes or ()) else None,
    )  # fmt: skip


def _parent(name: str, described: Sequence[Described]) -> str | None:
    """The parent that rows give to their label. Raises InvalidInput: no text, or two of them."""
    given = [one for one in described if one.cells.get(PARENT) not in (None, "")]
    for one in given:
        parent, first = one.cells[PARENT], given[0]
        if not isinstance(parent, str):
            raise InvalidInput(f"{one.place}: {PARENT}: expected a name, got {got(parent)}")
        if parent != first.cells[PARENT]:
            raise InvalidInput(
                f"{one.place}: label {name!r:.80} stands under {parent!r:.80} here and under "
                f"{first.cells[PARENT]!r:.80} in {first.place}; expected one parent for each label"
            )
    return given[0].cells[PARENT] if given else None


def require_some(rows: Iterable[ImageRow], origin: str, folder: Path) -> Iterator[ImageRow]:
    """The rows; each missing file is reported when it is read.

    Raises:
        InvalidInput: none of the first files exists: the paths start elsewhere, probably.
    """
    iterator = iter(rows)
    first: list[ImageRow] = []
    for row in islice(iterator, _LOOKED_AT):
        first.append(row)
        if not isinstance(row.image, ListedPath) or Path(row.image).exists():
            break
    else:
        if first:
            raise InvalidInput(
                f"{origin}: none of the files exists, of {len(first):,} looked at; the first: "
                f"{first[0].image} ({first[0].place}); paths start at the folder {folder}"
            )
    yield from first
    yield from iterator
