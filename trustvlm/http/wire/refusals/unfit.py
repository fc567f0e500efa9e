"""From what pydantic reports on a request to one sentence."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, fields, is_dataclass
from typing import Any, get_args, get_type_hints

from fastapi.exceptions import RequestValidationError
from pydantic import ValidationError

from trustvlm.errors import InvalidInput
from trustvlm.http.wire.parameters import not_taken
from trustvlm.http.wire.refusals.described import FILTER, describe
from trustvlm.http.wire.refusals.words import show, words
from trustvlm.types.attributes.filters import Filter

_SHOWN = 3
_BRANCH = re.compile(
    r"(?:list|dict|nullable|chain|literal|tuple|function-[a-z]+)\[.*\]|(?:constrained-)?str|float"
    r"|int|bool"
)
"""The steps of pydantic's paths that name a type among which a value could have been one."""
_CONTAINERS = ("list_type", "dict_type", "mapping_type")


@dataclass(frozen=True)
class _Fault:
    """One error of pydantic.

    Attributes:
        path: fields and places that lead to the value. choice: how many of these steps lead to the
            value that could have been of several types; None: there is no choice.
        error: as pydantic reports it.
    """

    path: tuple[str | int, ...]
    choice: int | None
    error: Mapping[str, Any]

    @property
    def is_type(self) -> bool:
        """Whether the value is of another type than expected."""
        return str(self.error["type"]).endswith("_type")


def unfit(
    error: ValidationError | RequestValidationError, kind: Any = None, field: str | None = None
) -> InvalidInput:
    """What pydantic reports, as one sentence.

    Args:
        kind: the validated type, whose fields are named where one is not taken.
        field: the field of a form that holds the validated JSON.
    """
    faults = [_fault(one, kind, field is None) for one in error.errors()]
    groups = list(_groups(faults))
    first = () if field is None else (field,)
    parts = dict.fromkeys(_sentence(group, kind, first) for group in groups[:_SHOWN])
    more = f" (and {len(groups) - _SHOWN} more)" if len(groups) > _SHOWN else ""
    return InvalidInput("; ".join(parts) + more)


def _fault(error: Mapping[str, Any], kind: Any, whole: bool) -> _Fault:
    """`whole`: the first step is a field of a body or of a query."""
    steps = tuple(error["loc"])
    if kind is None and steps[:1] in (("query",), ("path",)):
        steps = steps[1:]
    path: list[str | int] = []
    choice = None
    for at, step in enumerate(steps):
        if at >= whole and isinstance(step, str) and _BRANCH.fullmatch(step):
            choice = len(path) if choice is None else choice
        else:
            path.append(step)
    return _Fault(tuple(path), choice, error)


def _groups(faults: Sequence[_Fault]) -> Iterator[list[_Fault]]:
    """The faults that are told in one part of the sentence each. Of a value that could have been of
    several types: those that lie deepest, because the value was of that type so far."""
    choices: dict[tuple[str | int, ...], list[_Fault]] = {}
    for fault in faults:
        if fault.choice is None:
            choices[(*fault.path, "")] = [fault]
        else:
            choices.setdefault(fault.path[: fault.choice], []).append(fault)
    for some in choices.values():
        deepest = max(some, key=lambda fault: len(fault.path)).path
        deep = [fault for fault in some if fault.path == deepest]
        yield [fault for fault in deep if not fault.is_type][:1] or deep


def _sentence(group: Sequence[_Fault], kind: Any, first: tuple[str, ...]) -> str:
    fault, one = group[0], group[0].error
    where = ".".join(str(step)[:80] for step in (*first, *fault.path)) or "body"
    if one["type"] == "unexpected_keyword_argument":
        owner = _owner(kind, fault.path[:-1])
        what = "request" if len(fault.path) == 1 and not first else "object"
        names = [field.name for field in fields(owner)]
        return str(not_taken(str(fault.path[-1]), f"not a field of this {what}", names, where))
    said = _expected(group, kind)
    if " got " in said:
        return f"{where}: {said}"
    got = "none" if one["type"] == "missing" else show(one["input"])
    return f"{where}: {said}, got {got}{_filter_object(said, one['input'])}"


def _filter_object(said: str, value: object) -> str:
    """The object of a filter that came as text where only an object may be one; empty: it is no
    filter."""
    if FILTER not in said or not isinstance(value, str):
        return ""
    try:
        return f"; as an object it is {Filter(value).text:.200}"
    except InvalidInput:
        return ""


def _expected(group: Sequence[_Fault], kind: Any) -> str:
    kinds = list(dict.fromkeys(fault.error["type"] for fault in group))
    if kind is not None and (len(kinds) > 1 or kinds[0] in (*_CONTAINERS, "missing")):
        what = describe(kind, group[0].path)
        if what is not None:
            return f"expected {what}"
    said = dict.fromkeys(words(fault.error) for fault in group)
    return "expected " + " or ".join(one.removeprefix("expected ") for one in said)


def _owner(kind: Any, path: Sequence[str | int]) -> Any:
    """The dataclass that stands at a path of fields and places within another type."""
    owner = next(_dataclasses(kind))
    for step in path:
        if isinstance(step, str) and step in (hints := get_type_hints(owner)):
            owner = next(_dataclasses(hints[step]), owner)
    return owner


def _dataclasses(annotation: Any) -> Iterator[Any]:
    if is_dataclass(annotation):
        yield annotation
    for one in get_args(annotation):
        yield from _dataclasses(one)
