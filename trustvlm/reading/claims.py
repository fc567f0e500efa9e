"""Labels that were given elsewhere, and names, one for each query."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence, Set
from functools import partial
from types import EllipsisType
from typing import Any

from trustvlm.errors import InvalidInput
from trustvlm.types import Queries
from trustvlm.types.arrays import image_names, texts_or_missing
from trustvlm.types.messages.counts import count


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


def label_names(values: Any) -> list[str | None]:
    """Names of labels, or None, in any order. Raises InvalidInput: what are none."""
    listed = list(values) if isinstance(values, Set | Mapping) else values
    return texts_or_missing(listed, "names", "label names")


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
