"""--claimed: the label that each image is said to have, from a column of the table of images, an
array of the file of vectors, or a file of its own."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path, PurePath
from typing import TYPE_CHECKING, Any, Generic, TypeVar

import click

from trustvlm.cli.printing.safe_text import utf8, warn
from trustvlm.cli.reading.sets import all_sets
from trustvlm.errors import InvalidInput
from trustvlm.reading.claimed_files import listed_file, read_claims
from trustvlm.types.messages.counts import count

if TYPE_CHECKING:
    from trustvlm.reading.sets.rows import LabelledImages

T = TypeVar("T")

claimed_option = click.option(
    "--claimed",
    metavar="COLUMN|FILE",
    type=utf8,
    help="Judge labels that were given elsewhere: a column of the table of images or an array of "
    "the file of vectors; or a file with a label a line, in the order of the images, or (.csv, "
    ".tsv, .parquet) with the columns file and label. An empty one is no claim.",
)


class Claimed(ABC):
    """What images are claimed to be."""

    @abstractmethod
    def of(self, sources: Sequence[str], places: Sequence[int]) -> list[str | None]:
        """The claims of images by their names and by their places among all that came. Raises
        InvalidInput."""

    @abstractmethod
    def end(self, came: int) -> None:
        """Say what is left over when all images have come. Raises InvalidInput."""


@dataclass
class ByPlace(Claimed):
    """A claim for each image, in their order; with `in_column`, a table of images adds those that
    it holds in the column `origin` while it is read."""

    origin: str
    names: list[str | None] = field(default_factory=list)
    in_column: bool = False

    def of(self, sources: Sequence[str], places: Sequence[int]) -> list[str | None]:
        if places and max(places) >= len(self.names):
            raise self._wrong_count(f"at least {count(max(places) + 1, 'image')}")
        return [self.names[place] for place in places]

    def end(self, came: int) -> None:
        if came != len(self.names):
            raise self._wrong_count(count(came, "image"))

    def watched(self, images: LabelledImages) -> Iterator[Any]:
        """The images of a set, whose labels are the claims."""
        for row in images:
            self.names.append(row.label)
            yield row.image

    def _wrong_count(self, images: str) -> InvalidInput:
        return InvalidInput(
            f"{self.origin}: expected a claim for each image (an empty line for none), got "
            f"{len(self.names):,} for {images}"
        )


@dataclass
class ByFile(Generic[T]):
    """What is said of images by their files, as the end of a path names them; `what` it is, in a
    noun."""

    origin: str
    names: Mapping[str, T]
    what: str = "claim"
    used: set[str] = field(default_factory=set)

    def end(self, came: int) -> None:
        unused = [name for name in self.names if name not in self.used]
        if unused and len(unused) == len(self.names):
            raise InvalidInput(
                f"{self.origin}: none of its {count(len(unused), 'file')} is one of the {came:,} "
                f"images; the first: {unused[0]}"
            )
        if unused:
            warn(f"{self.origin}: {count(len(unused), self.what)} of no image: {unused[0]} …")

    def row(self, source: str) -> T | None:
        """What is said of the image of this name; None: nothing is."""
        name = listed_file(source, self.names)
        if name is None:
            return None
        self.used.add(name)
        return self.names[name]


class ClaimsByFile(ByFile[str | None], Claimed):
    """Claims by the files of the images."""

    def of(self, sources: Sequence[str], places: Sequence[int]) -> list[str | None]:
        return [self.row(source) for source in sources]


def claims_given(given: str | None, paths: Sequence[Path], vectors: Path | None) -> Claimed | None:
    """The claims of --claimed; those of a column of a table are still to be read, with its images
    (:func:`claimed_images`).

    Raises:
        NotFound, InvalidInput: no such file, or it holds no claims.
    """
    if given is None:
        return None
    if (claims := _of_file(given)) is not None:
        return claims
    if vectors is not None:
        from trustvlm.cli.reading.arrays import named_strings

        return ByPlace(f"{vectors}: {given}", named_strings(vectors, given))
    if all_sets(paths):
        return ByPlace(given, in_column=True)
    raise InvalidInput(
        f"--claimed: no file {given}; a column needs images in a table (.csv, .tsv, .parquet) or "
        f"--vectors"
    )


def claimed_images(claims: ByPlace, paths: Iterable[Path]) -> Iterator[Any]:
    """The images of tables, whose column `claims.origin` has the claims. Raises InvalidInput: no
    such column."""
    from trustvlm.reading.sets.read import set_of

    for path in paths:
        images = set_of(path, label=claims.origin)
        assert images is not None, path
        yield from claims.watched(images)


def labelled_claims(given: str | None, folder: Path | None, vectors: Path | None) -> Claimed | None:
    """The claims of --claimed about images whose true labels are known.

    Raises:
        NotFound, InvalidInput: as :func:`claims_given`; or claims by place for files in folders,
            whose order is that of their labels.
    """
    if given is None:
        return None
    claims = _of_file(given)
    if vectors is None and isinstance(claims, ByPlace):
        raise InvalidInput(
            f"--claimed: {given}: expected a table with the columns file and label (.csv, .tsv, "
            f".parquet), since images with true labels have no order; got a list"
        )
    if claims is not None or folder is None or not all_sets([folder]):
        return claims or claims_given(given, [], vectors)
    from trustvlm.reading.sets.read import set_of

    rows = set_of(folder, label=given)
    assert rows is not None, folder
    names = {str(getattr(row.image, "filename", row.image)): row.label for row in rows}
    return ClaimsByFile(f"{folder}: {given}", {PurePath(k).as_posix(): v for k, v in names.items()})


def _of_file(given: str) -> Claimed | None:
    """The claims in a file; None: the name is none of a file. Raises NotFound, InvalidInput."""
    if not given:
        raise InvalidInput("--claimed: expected the name of a column or of a file, got ''")
    claims = read_claims(given)
    if claims is None:
        return None
    return ClaimsByFile(given, claims) if isinstance(claims, dict) else ByPlace(given, claims)
