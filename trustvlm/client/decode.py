"""From the service's JSON to the dataclasses that the library returns."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeVar, cast, get_type_hints

import numpy as np

from trustvlm.errors import Unavailable
from trustvlm.types import CALL_COLUMNS, VERDICT_COLUMNS, Hits, Verdicts
from trustvlm.types.arrays import Bools, Float64s, Int64s, Objects
from trustvlm.types.codec import from_plain

__all__ = ["hits_of", "merged_verdicts", "read", "verdict_columns"]

T = TypeVar("T")

_DTYPES = {Int64s: np.int64, Float64s: np.float64, Bools: np.bool_}


def read(kind: Callable[..., T], value: Any) -> T:
    """A dataclass from the service's JSON.

    Raises:
        Unavailable: what answered is no trustvlm service of this version.
    """
    try:
        return from_plain(cast(type[T], kind), value)
    except ValueError as error:
        raise Unavailable(
            f"expected a {kind.__name__} of a trustvlm service, got something else: {error!s:.200}"
        ) from error


def verdict_columns(answer: Mapping[str, Any]) -> dict[str, Any]:
    """The columns of one answer to a score request, as arrays."""
    rows, top_k = answer["verdicts"], answer["top_k"]
    hints = get_type_hints(Verdicts)
    columns: dict[str, Any] = {}
    for name in VERDICT_COLUMNS:
        cells = [row[name] for row in rows]
        shape = (len(rows), top_k) if name.startswith("top_") else (len(rows),)
        if hints[name] in _DTYPES:  # None becomes NaN
            columns[name] = np.array(cells, _DTYPES[hints[name]]).reshape(shape)
        else:
            columns[name] = _objects(cells, shape)
    return columns


def _objects(values: Sequence[Any], shape: tuple[int, ...]) -> Objects:
    array = np.empty(shape, dtype=object)
    if array.size:
        array[:] = values
    return array


def merged_verdicts(answers: Sequence[Mapping[str, Any]], read_evidence: Any) -> Verdicts:
    """The verdicts of answers of one revision, one after the other."""
    columns = [verdict_columns(told) for told in answers]
    whole: dict[str, Any] = {
        name: np.concatenate([column[name] for column in columns]) for name in VERDICT_COLUMNS
    }
    call: dict[str, Any] = {name: answers[0][name] for name in CALL_COLUMNS}
    call["approximate"] = any(told["approximate"] for told in answers)
    call["error_bound"] = max(float(told["error_bound"]) for told in answers)
    return Verdicts(**whole, **call, params=answers[0]["params"], read_evidence=read_evidence)


def hits_of(answers: Sequence[tuple[Mapping[str, Any], int]], k: int) -> Hits:
    """The hits of (answer, its number of queries), padded to k."""
    total = sum(count for _, count in answers)
    ids, similarity = np.full((total, k), -1, np.int64), np.full((total, k), -np.inf)
    labels, sources = np.full((total, k), None, object), np.full((total, k), None, object)
    start = 0
    for told, count in answers:
        for hit in told["hits"]:
            at = start + hit["query"], hit["rank"] - 1
            ids[at], similarity[at], labels[at], sources[at] = (
                hit["id"],
                hit["similarity"],
                hit["label"],
                hit["source"],
            )
        start += count
    first = answers[0][0]
    quality = {
        name: first[name] for name in ("approximate", "error_bound", "recall") if name in first
    }
    return Hits(first["kind"], ids, similarity, labels, sources, first["revision"], **quality)
