"""Labels that were given elsewhere, and names, one for each query; files of claims: a label a line,
or a table of files and labels."""

from __future__ import annotations

import os
from collections.abc import Callable, Collection, Iterator, Sequence
from functools import partial
from pathlib import Path, PurePath
from types import EllipsisType
from typing import Any

from trustvlm.errors import InvalidInput
from trustvlm.reading.sets.columns import set_columns
from trustvlm.reading.sets.rows import label_name
from trustvlm.reading.tables import open_table
from trustvlm.reading.text import read_text
from trustvlm.types import Queries
from trustvlm.types.arrays import image_names, texts_or_missing
from trustvlm.types.messages.counts import count

_TABLES = (".csv", ".tsv", ".parquet")
_CLAIMED = "claimed"
"""The column of labels where a table has it; else one with a usual name of labels."""


def claimed_names(
    claimed: Sequence[str | None] | None, came: int, places: Sequence[int] | None = None
) -> list[str | None] | None:
    """The claimed names of n queries, None without claims.

    Args:
        came: how many queries came, each with its claim. places: of the n among these, where some
            could not be read; None: all of them.

    Raises:
        InvalidInput: no list of names or None, or another number of them.
    """
    expected = "one label name for each query, or None for no claim"
    return _beside("claimed", claimed, partial(texts_or_missing, expected=expected), came, places)


def source_names(
    sources: Sequence[str | os.PathLike[str] | None] | None,
    came: int,
    places: Sequence[int] | None = None,
) -> list[str | None] | None:
    """The names that n queries are given, None where none is; see :func:`claimed_names`."""
    return _beside("sources", sources, image_names, came, places)


def _beside(
    field: str,
    values: Any,
    read: Callable[[Any, str], list[str | None]],
    came: int,
    places: Sequence[int] | None,
) -> list[str | None] | None:
    if values is None:
        return None
    names = read(values, f"queries.{field}")
    if len(names) != came:
        raise InvalidInput(
            f"queries.{field}: expected {count(came, 'name')}, one for each query (None for none), "
            f"got {len(names)}"
        )
    return names if places is None else [names[place] for place in places]


def no_claims(claimed: object, verb: str) -> None:
    """Raises InvalidInput: queries have claims, and the verb does nothing with them."""
    if claimed is not None:
        raise InvalidInput(
            f"queries.claimed: {verb} takes no claims; score, evaluate, calibrate, feedback and "
            f"audit do"
        )


def no_sources(queries: object, verb: str) -> None:
    """Raises InvalidInput: queries have names, and the verb does nothing with them."""
    if getattr(queries, "sources", None) is not None:
        raise InvalidInput(f"queries.sources: {verb} numbers the queries and takes no names")


def are_labelled_by_claims(
    queries: object, truth: Sequence[str | None] | EllipsisType | None
) -> bool:
    """Whether the labels of an audit's queries are their claims. Raises InvalidInput: truth is
    given, too."""
    if not isinstance(queries, Queries) or queries.claimed is None:
        return False
    if truth is not None and truth is not ...:
        raise InvalidInput(
            "truth, claimed: an audit judges one label of each image; expected one of the two"
        )
    return True


def read_claims(given: str | Path) -> dict[str, str | None] | list[str | None] | None:
    """What a file of claims holds: file → claim of a table, a claim a line of another file; None:
    the name is none of a file.

    Raises:
        NotFound, InvalidInput: no such file, or it holds no claims.
    """
    path = Path(given)
    kind = path.suffix.lower()
    if kind in _TABLES:
        return claims_by_file(path)
    if path.is_file() or kind == ".txt":
        return claims_in_lines(path)
    return None


def listed_file(source: str, files: Collection[str]) -> str | None:
    """Which of some files the path `source` names, read from the working directory: one that is the
    end of it, the longest; None: none is."""
    parts = (Path.cwd() / source).parts
    ends = (PurePath(*parts[start:]).as_posix() for start in range(len(parts)))
    return next((name for name in ends if name in files), None)


def claims_in_lines(path: Path) -> list[str | None]:
    """A label a line, None for an empty one; the last line may end or not.

    Raises:
        NotFound, InvalidInput: no such file, or no text.
    """
    lines = read_text(path, "a label a line").split("\n")
    if lines and not lines[-1].strip():
        lines.pop()
    return [line.strip() or None for line in lines]


def claims_by_file(path: Path) -> dict[str, str | None]:
    """File → the label that it is claimed to have, of a table with a header.

    Raises:
        NotFound, InvalidInput: no such file, no columns of files and labels, or a file that is
            listed with two labels.
    """
    claims: dict[str, str | None] = {}
    for place, file, value in _rows(path):
        if not isinstance(file, str) or not file:
            raise InvalidInput(f"{path}, {place}: expected the path of an image, got {file!r:.60}")
        name, label = PurePath(file).as_posix(), label_name(value, None, f"{path}, {place}")
        if claims.setdefault(name, label) != label:
            raise InvalidInput(
                f"{path}, {place}: {file} is claimed to be {claims[name]!r} and {label!r}"
            )
    if not claims:
        raise InvalidInput(f"{path}: expected rows of files and labels, got none")
    return claims


def _rows(path: Path) -> Iterator[tuple[str, Any, Any]]:
    """(place, file, label) of each row."""
    table = open_table(path, "a table with the columns file and label")
    label = _CLAIMED if _CLAIMED in table.header else None
    columns = set_columns(str(path), table.header, None, label)
    if columns.label is None:
        raise InvalidInput(
            f"{path}: expected the columns file and claimed (or label); this has the columns "
            f"{', '.join(table.header)}"
        )
    for place, (file, value) in table.rows((columns.image, columns.label)):
        yield place, file, value
