"""Records as Python shows them: brief, whatever they hold."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import MISSING, Field, fields
from itertools import islice
from typing import Any

_SHOWN = 10  # values of more than twice as many
_LONGEST = 2_000
_TEXT = 200


def record_repr(record: Any, *, given: bool = False) -> str:
    """The repr of a dataclass, of at most 2,000 characters: as it is made, with brief values; with
    `given` only the fields that are not their defaults."""
    shown = (one for one in fields(record) if one.repr)
    values = ", ".join(
        f"{one.name}={brief_repr(getattr(record, one.name))}"
        for one in shown
        if not (given and _is_default(one, getattr(record, one.name)))
    )
    text = f"{type(record).__qualname__}({values})"
    return text if len(text) <= _LONGEST else f"{text[: _LONGEST - 2]}…)"


def _is_default(field: Field[Any], value: object) -> bool:
    return field.default is not MISSING and value is field.default


def brief_repr(value: object) -> str:
    """The repr of a value: six digits of a number; of more than twenty values the first ten, and
    how many there are; of an array its shape."""
    if isinstance(value, float):
        return repr(float(f"{value:.6g}"))
    if isinstance(value, str | bytes) and len(value) > _TEXT:
        unit = "bytes" if isinstance(value, bytes) else "characters"
        return f"{value[: _TEXT // 2]!r}… {len(value):,} {unit} in all"
    if isinstance(value, Mapping):
        items = islice(value.items(), 2 * _SHOWN)
        pairs = [f"{brief_repr(key)}: {brief_repr(one)}" for key, one in items]
        return "{" + _first(pairs, len(value)) + "}"
    if isinstance(value, list):
        return f"[{_first([brief_repr(one) for one in value[: 2 * _SHOWN]], len(value))}]"
    if isinstance(value, tuple) and not hasattr(value, "_fields"):
        inside = _first([brief_repr(one) for one in value[: 2 * _SHOWN]], len(value))
        return f"({inside},)" if len(value) == 1 else f"({inside})"
    if isinstance(shape := getattr(value, "shape", None), tuple):
        dtype = getattr(value, "dtype", None)
        return f"<{type(value).__name__} {tuple(shape)}{'' if dtype is None else f' {dtype}'}>"
    return repr(value)


def _first(values: list[str], count: int) -> str:
    """All of `count` values, or the first ten of more than twenty, and how many there are."""
    if count <= 2 * _SHOWN:
        return ", ".join(values)
    return f"{', '.join(values[:_SHOWN])}, … {count:,} in all"
