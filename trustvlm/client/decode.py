"""From the service's JSON to the dataclasses that the library returns."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import fields, is_dataclass
from datetime import datetime
from functools import cache
from types import NoneType, UnionType
from typing import Any, TypeVar, Union, get_args, get_origin, get_type_hints

import numpy as np

from trustvlm.types import CALL_COLUMNS, VERDICT_COLUMNS, Hits, RegisterResult, Verdicts
from trustvlm.types.arrays import Objects

__all__ = ["hits_of", "merged_verdicts", "read", "register_result", "verdict_columns"]

T = TypeVar("T")

_INTS = ("label_id", "rival_id")
_FLOATS = ("text_confidence", "image_similarity", "trust", "nearest_similarity", "rival_trust")
_BOOLS = ("agrees", "unverified", "unknown")


@cache
def _hints(kind: type) -> dict[str, Any]:
    return get_type_hints(kind)


def read(kind: Callable[..., T], value: Mapping[str, Any]) -> T:
    """A dataclass of what its fields hold in JSON: NaN came as null, tuples as lists, times as ISO
    8601."""
    assert isinstance(kind, type)
    hints = _hints(kind)
    found: T = kind(
        **{f.name: _read(hints[f.name], value[f.name]) for f in fields(kind) if f.name in value}
    )
    return found


def _read(hint: Any, value: Any) -> Any:
    origin, inner = get_origin(hint), get_args(hint)
    if origin in (Union, UnionType):
        if value is None:
            return None
        return _read(next(one for one in inner if one is not NoneType), value)
    if hint is float:
        return float("nan") if value is None else float(value)
    if hint is datetime:
        return datetime.fromisoformat(value)
    if origin is tuple:
        kinds = inner[:1] * len(value) if inner[1:] == (...,) else inner
        return tuple(_read(one, item) for one, item in zip(kinds, value, strict=True))
    if isinstance(hint, type) and is_dataclass(hint):
        return read(hint, value)
    return value


def register_result(told: Mapping[str, Any]) -> RegisterResult:
    """What a registration changed."""
    pairs = told["near_synonyms"]
    shaped = {
        "failures": [(one["source"], one["reason"]) for one in told["failures"]],
        "near_synonyms": None
        if pairs is None
        else [(one["label"], one["other"], one["cosine"]) for one in pairs],
    }
    return read(RegisterResult, {**told, **shaped})


def verdict_columns(told: Mapping[str, Any]) -> dict[str, Any]:
    """The columns of one answer to a score request, as arrays."""
    rows, top_k = told["verdicts"], told["top_k"]
    found: dict[str, Any] = {}
    for name in VERDICT_COLUMNS:
        column = [row[name] for row in rows]
        if name in _INTS:
            found[name] = np.array(column, np.int64)
        elif name in _FLOATS:
            found[name] = np.array(column, np.float64)  # None becomes NaN
        elif name in _BOOLS:
            found[name] = np.array(column, np.bool_)
        elif name == "top_confidence":
            found[name] = np.array(column, np.float64).reshape(len(rows), top_k)
        else:
            found[name] = _objects(
                column, (len(rows), top_k) if name == "top_labels" else (len(rows),)
            )
    return found


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
