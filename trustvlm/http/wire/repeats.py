"""Refuses JSON in which a name comes twice in one object: one of the two values would be
dropped."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Hashable, Iterator
from dataclasses import dataclass, fields, is_dataclass
from functools import cache
from typing import Any, cast

from trustvlm.errors import InvalidInput

_PLAIN = (float, int, str)


@dataclass(frozen=True)
class _Twice:
    """An object in which a name comes twice."""

    name: str


def check_body(body: Any, text: bytes, field: str | None = None) -> None:
    """Refuse a body, or the value of a `field` of a form, if a name comes twice in the JSON `text`
    that it was read from. Raises InvalidInput."""
    counts = Counter(_names(body))
    if text.count(b'"') == 2 * counts.total():
        return  # every text is a name, and each came once
    if any(text.count(b'"%s"' % name.encode()) > count for name, count in counts.items()):
        _refuse_repeats(text, field)  # the name may stand in a text only


def _refuse_repeats(text: bytes, field: str | None) -> None:
    path = _first(json.loads(text, object_pairs_hook=_object))
    if path is not None:
        where = ".".join(path if field is None else [field, *path])
        raise InvalidInput(f"{where}: given twice in one JSON object")


def _object(pairs: list[tuple[str, Any]]) -> Any:
    """The values of an object by name."""
    value = dict(pairs)
    if len(value) == len(pairs):
        return value
    counts = Counter(name for name, _ in pairs)
    return _Twice(next(name for name, count in counts.items() if count > 1))


def _first(value: Any) -> list[str] | None:
    """The path of the first name that comes twice."""
    if isinstance(value, _Twice):
        return [value.name[:80]]
    if isinstance(value, dict):
        items: Any = value.items()
    elif isinstance(value, list):
        items = enumerate(value)
    else:
        return None
    for step, one in items:
        if (rest := _first(one)) is not None:
            return [str(step)[:80], *rest]
    return None


def _names(value: Any) -> Iterator[str]:
    """The names of all objects within a body, as far as they were sent; lists of numbers are passed
    over."""
    if isinstance(value, list):
        for item in value if value and type(value[0]) not in _PLAIN else ():
            yield from _names(item)
        return
    if is_dataclass(value):
        defaults = _defaults(cast(Hashable, type(value)))
        value = {name: one for name, one in vars(value).items() if one is not defaults[name]}
    if isinstance(value, dict):
        yield from value
        for one in value.values():
            if type(one) not in _PLAIN:
                yield from _names(one)


@cache
def _defaults(kind: Any) -> dict[str, Any]:
    return {field.name: field.default for field in fields(kind)}
