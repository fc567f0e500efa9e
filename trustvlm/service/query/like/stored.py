"""The vectors of stored support images and labels, as queries of a search, and as what comes back
with hits."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from trustvlm.catalog.rows import label_pages, labels, supports
from trustvlm.catalog.rows.likeness import not_found_text, unknown
from trustvlm.catalog.rows.support import images
from trustvlm.errors import InvalidInput, NotFound
from trustvlm.scoring.vectors import as_unit
from trustvlm.service.memory.space_cache import Reading
from trustvlm.types import Queries
from trustvlm.types.arrays import Float32s, Int64s, id_list, texts
from trustvlm.types.bounds import got

MOST_LIKE = 1_000
"""Stored rows that one search is made with."""
MOST_VALUES = 20_000_000
"""Numbers of the vectors that come back with the hits of one search."""


@dataclass(frozen=True, eq=False)
class Like:
    """n stored rows as queries.

    Attributes:
        classifier, verifier: (n, d) unit vectors; one of them, or both.
        themselves: (n,) ids of the rows that are no hits of themselves; −1: every row may be a hit.
    """

    classifier: Float32s | None
    verifier: Float32s | None
    themselves: Int64s


def like_of(queries: Queries) -> tuple[list[int] | None, list[str] | None] | None:
    """The ids of support images or the names of labels that queries name; None: they are no such
    queries.

    Raises:
        InvalidInput: several kinds of queries, or something else than ids or names, or too many.
    """
    if queries.like_supports is None and queries.like_labels is None:
        return None
    kinds = (
        queries.like_supports, queries.like_labels, queries.images, queries.text,
        queries.classifier, queries.verifier,
    )  # fmt: skip
    if sum(part is not None for part in kinds) > 1:
        raise InvalidInput(
            "queries: pass vectors, images, text, like_supports or like_labels, not several of them"
        )
    if queries.like_supports is not None:
        what = "queries.like_supports"
        ids = id_list(queries.like_supports, what, "a list of support image ids")
        _require_some(len(ids), what)
        if any(not 0 < one < 2**63 for one in ids):
            raise InvalidInput(f"{what}: expected positive 64-bit ids, got {got(ids)}")
        return ids, None
    what = "queries.like_labels"
    names = texts(queries.like_labels, what, "a list of label names")
    _require_some(len(names), what)
    return None, names


def _require_some(count: int, what: str) -> None:
    if not 1 <= count <= MOST_LIKE:
        raise InvalidInput(f"{what}: expected 1 to {MOST_LIKE:,} of them, got {count:,}")


def stored_queries(
    reading: Reading, ids: list[int] | None, names: list[str] | None, kind: str
) -> Like:
    """Stored support images or labels as queries of a search of this kind.

    Raises:
        NotFound: an id or a name that is none. InvalidInput: a row without the vector that is
        compared.
    """
    if ids is not None:
        return _of_supports(reading, ids, kind)
    return _of_labels(reading, names or [], kind)


def _of_supports(reading: Reading, ids: list[int], kind: str) -> Like:
    space, dims = reading.view.space, reading.view.space.dims
    alive = supports.find_alive(reading.connection, space.id, ids)
    if missing := [one for one in ids if one not in alive]:
        raise NotFound(
            f"queries.like_supports: no support image {missing[0]} in space {space.name!r}"
        )
    stored = images.embeddings(reading.connection, ids, dims)
    if kind != "text":
        rows = as_unit(np.array([stored[one][0] for one in ids]), dims[1], "like_supports")
        themselves = ids if kind == "support" else [-1] * len(ids)
        return Like(None, rows, np.array(themselves, np.int64))
    side = 0 if space.verifier == "same" else 1
    vectors = [stored[one][side] for one in ids]
    for one, vector in zip(ids, vectors, strict=True):
        if vector is None:
            raise InvalidInput(
                f"queries.like_supports: support image {one} has no stored classifier embedding "
                f"to compare with texts; search with kind 'support' or 'prototype'"
            )
    rows = as_unit(np.array(vectors), dims[0], "like_supports")
    return Like(rows, None, np.full(len(ids), -1, np.int64))


def _of_labels(reading: Reading, names: list[str], kind: str) -> Like:
    connection, space = reading.connection, reading.view.space
    records = labels.find_many(connection, space.id, names)
    if missing := unknown(connection, space.id, names):
        raise NotFound(f"queries.like_labels: {not_found_text(missing, space.name)}")
    named = [records[name].id for name in names]
    main = reading.view.aliases.of(np.array(named, np.int64)).tolist()
    wanted = named if kind == "text" else main
    stored = label_pages.vectors(connection, list(set(wanted)), reading.view.space.dims)
    vectors = [stored[one][0 if kind == "text" else 1] for one in wanted]
    for name, vector in zip(names, vectors, strict=True):
        if vector is None:
            raise InvalidInput(
                f"queries.like_labels: label {name!r} has no support image to compare with; "
                f"search with kind 'text'"
            )
    side = 0 if kind == "text" else 1
    rows = as_unit(np.array(vectors), reading.view.space.dims[side], "like_labels")
    themselves = np.array([-1] * len(names) if kind == "support" else main, np.int64)
    return Like(rows, None, themselves) if kind == "text" else Like(None, rows, themselves)


def require_few(n: int, k: int, dim: int, most: int = MOST_VALUES) -> None:
    """Raises InvalidInput: the vectors of so many hits are more than `most` numbers."""
    if n * k * dim > most:
        raise InvalidInput(
            f"vectors: {n:,} queries × k = {k:,} × {dim:,} numbers are more than {most:,}, the "
            f"limit; lower k, or search with fewer queries"
        )


def vectors_of_hits(reading: Reading, kind: str, ids: Int64s, *, by_classifier: bool) -> Float32s:
    """(n, k, d) vectors of hits (n, k): raw embeddings of support images, those that were compared,
    or prototypes of labels; NaN for padding."""
    dims = reading.view.space.dims
    dim = dims[0] if by_classifier or kind == "text" else dims[1]
    rows = np.full((*ids.shape, dim), np.nan, np.float32)
    distinct = np.unique(ids[ids >= 0]).tolist()
    side = 1 if by_classifier and reading.view.space.verifier != "same" else 0
    if kind == "support":
        stored = images.embeddings(reading.connection, distinct, dims)
    else:
        side = 0 if kind == "text" else 1
        stored = label_pages.vectors(reading.connection, distinct, dims)
    for one, pair in stored.items():
        rows[ids == one] = pair[side]
    return rows
