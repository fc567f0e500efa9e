"""Queries of several requests put together into one call, and its answer divided among them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import accumulate
from typing import Any

import numpy as np

from trustvlm.errors import InvalidInput
from trustvlm.reading.claims import claimed_names
from trustvlm.types import Embedded, Queries
from trustvlm.types.messages.remarks import notes_of
from trustvlm.types.messages.shapes import remedy

SIDES = ("classifier", "verifier")


@dataclass(frozen=True, eq=False)
class Part:
    """A request's part of an answer: the rows start … stop of verdicts or hits; of verdicts also as
    JSON holds them."""

    answer: Any
    start: int
    stop: int
    rows: list[dict[str, Any]] = field(default_factory=list)


def hashable(options: Mapping[str, Any]) -> tuple[tuple[str, Any], ...]:
    """Options as part of the key of a batch."""

    def frozen(value: Any) -> Any:
        if isinstance(value, Mapping):
            return tuple(sorted(value.items()))
        return tuple(value) if isinstance(value, list) else value

    return tuple((name, frozen(value)) for name, value in options.items())


def row_count(queries: Queries) -> int:
    """The number of queries."""
    rows: Any = queries.classifier if queries.classifier is not None else queries.verifier
    return 0 if rows is None else len(rows)


def shaped(queries: Queries) -> tuple[Queries, tuple[int | None, int | None], int]:
    """(queries as matrices, their dimensions, their number).

    Raises:
        InvalidInput: not matrices of numbers, or of different lengths.
    """
    matrices: dict[str, Any] = {}
    for name in SIDES:
        rows = getattr(queries, name)
        if rows is None:
            continue
        try:
            # An array stays as it is: converting one lets go of the interpreter, and the event loop
            # would wait for the scorer to get it back.
            real = isinstance(rows, np.ndarray) and rows.dtype.kind in "fiu"
            matrix = rows if real else np.asarray(rows, dtype=np.float64)
        except (TypeError, ValueError) as error:
            raise InvalidInput(f"{name}: expected rows of the same number of values") from error
        if matrix.ndim != 2 and matrix.shape != (0,):
            hint = remedy(matrix.shape, matrix.shape[-1] if matrix.ndim else 0)
            raise InvalidInput(f"{name}: expected shape (n, d), got {matrix.shape}{hint}")
        matrices[name] = matrix
    if len({len(matrix) for matrix in matrices.values()}) > 1:
        counts = " and ".join(str(len(matrices[name])) for name in SIDES)
        raise InvalidInput(f"classifier and verifier: got {counts} embeddings")
    classifier, verifier = (
        matrices[name].shape[-1] if name in matrices else None for name in SIDES
    )
    sides = matrices.get("classifier"), matrices.get("verifier")
    rows = row_count(Queries(*sides))
    claimed = claimed_names(queries.claimed, rows)
    return Queries(*sides, claimed=claimed), (classifier, verifier), rows


def joined(parts: Sequence[Queries]) -> Queries:
    """Queries one after the other, all with the same sides."""
    if len(parts) == 1:
        return parts[0]
    columns = ([getattr(part, name) for part in parts] for name in SIDES)
    classifier, verifier = (None if rows[0] is None else np.concatenate(rows) for rows in columns)
    given = [part.thumbnails or [None] * row_count(part) for part in parts]
    pictured = any(part.thumbnails for part in parts)
    thumbnails = [one for part in given for one in part] if pictured else None
    claims = [part.claimed for part in parts]
    claimed = None
    if claims[0] is not None:  # then all have claims, as they are of one kind
        claimed = [name for some in claims for name in some or ()]
    return Queries(classifier, verifier, thumbnails=thumbnails, claimed=claimed)


def parts_of(answer: Any, counts: Sequence[int], rows: list[dict[str, Any]]) -> list[Part]:
    """The parts of verdicts or hits, and of their rows, for requests with these numbers of
    queries."""
    ends = list(accumulate(counts))
    pairs = zip([0, *ends[:-1]], ends, strict=True)
    return [Part(answer, start, end, rows[start:end]) for start, end in pairs]


def divided(embedded: Embedded, counts: Sequence[int]) -> Iterator[Embedded]:
    """The parts of embedded images for requests with these numbers of images."""
    places, failed = (np.array(ids, np.int64) for ids in (embedded.places, embedded.failed))
    start = 0
    for count in counts:
        read = np.flatnonzero((places >= start) & (places < start + count))
        unread = np.flatnonzero((failed >= start) & (failed < start + count))
        sides = (getattr(embedded.queries, name) for name in SIDES)
        classifier, verifier = (None if rows is None else np.asarray(rows)[read] for rows in sides)
        sources = [embedded.sources[i] for i in read.tolist()]
        remarks = tuple(embedded.remarks[i] for i in read.tolist())
        all_thumbnails = embedded.queries.thumbnails or []
        thumbnails = [all_thumbnails[i] for i in read.tolist()] if all_thumbnails else None
        yield Embedded(
            Queries(classifier, verifier, thumbnails=thumbnails),
            sources,
            [embedded.failures[i] for i in unread.tolist()],
            tuple((places[read] - start).tolist()),
            tuple((failed[unread] - start).tolist()),
            notes_of(zip(sources, remarks, strict=True)),
            remarks,
        )
        start += count
