"""From what pydantic reports on a request to one sentence, in the words of all other messages."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, fields, is_dataclass
from functools import cache
from typing import Any, get_args, get_type_hints

from fastapi.exceptions import RequestValidationError
from pydantic import ValidationError

from trustvlm.errors import InvalidInput
from trustvlm.http.wire.parameters import not_taken
from trustvlm.types.attributes.filters import Filter
from trustvlm.types.json_form import adapter

_TIME = "expected a time with its time zone, such as 2030-01-31T12:00:00Z"
EXPECTED = {
    "bool_parsing": "expected true or false",
    "bool_type": "expected true or false",
    "bounds": "{message}",
    "dataclass_type": "expected an object",
    "datetime_from_date_parsing": _TIME,
    "datetime_object_invalid": _TIME,
    "datetime_parsing": _TIME,
    "datetime_type": _TIME,
    "dict_type": "expected an object",
    "finite_number": "expected a finite number",
    "float_parsing": "expected a number",
    "float_type": "expected a number",
    "greater_than_equal": "expected at least {ge}",
    "int_from_float": "expected an integer",
    "int_parsing": "expected an integer",
    "int_parsing_size": "expected an integer",
    "int_type": "expected an integer",
    "invalid_key": "expected a name",
    "json_invalid": "expected JSON",
    "less_than_equal": "expected at most {le}",
    "list_type": "expected a list",
    "literal_error": "expected {expected}",
    "mapping_type": "expected an object",
    "missing": "expected a value",
    "one_of": "{message}",
    "string_pattern_mismatch": "expected a text that matches {pattern}",
    "string_too_long": "expected at most {max_length} characters",
    "string_too_short": "expected at least {min_length} characters",
    "string_type": "expected a text",
    "string_unicode": "expected a text of whole characters",
    "timezone_aware": _TIME,
    "too_long": "expected at most {max_length} items, got {actual_length}",
    "too_short": "expected at least {min_length} items, got {actual_length}",
}
_ITEMS = re.compile(r"\b1 (item|character)s\b")
_HALF = "half a character (a lone surrogate) stands"
_WHY = {
    "recursion": "it is nested too deep",
    "surrogate": _HALF,
    "end of hex escape": _HALF,
    "control character": "a control character stands in a text",
    "trailing comma": "a comma too many stands",
}
"""What stops JSON from being read, by a word of the parser's message."""
_PLACE = re.compile(r"line (\d+) column (\d+)$")
_WORDS = {
    "array": ("a list", "lists"),
    "boolean": ("true or false", "true or false"),
    "integer": ("an integer", "integers"),
    "number": ("a number", "numbers"),
    "object": ("an object", "objects"),
    "string": ("a text", "texts"),
}
FILTER = 'a filter object such as {"region": "EU"}'
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
    got = "none" if one["type"] == "missing" else _shown(one["input"])
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
        what = _field(kind, group[0].path)
        if what is not None:
            return f"expected {what}"
    said = dict.fromkeys(_in_words(fault.error) for fault in group)
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


# Errors in words


def _in_words(one: Mapping[str, Any]) -> str:
    """What an error says that was expected; and what came, where that is no single value."""
    if one["type"] == "json_invalid":
        return _no_json(one)
    form = EXPECTED.get(one["type"])
    said = one["msg"] if form is None else form.format_map(one.get("ctx", {}))
    return _ITEMS.sub(r"1 \1", said)


def _shown(value: Any) -> str:
    """A value that was sent, as JSON calls it."""
    if value is None or isinstance(value, bool):
        return {None: "null", True: "true", False: "false"}[value]
    if isinstance(value, str | int | float):
        return f"{value!r:.60}"
    return "an object" if isinstance(value, Mapping) else "a list"


def _no_json(one: Mapping[str, Any]) -> str:
    """What came in place of JSON, and where it stops to be JSON."""
    sent = one["input"]
    text = sent.decode(errors="replace") if isinstance(sent, bytes) else str(sent)
    if not text.strip():
        return "expected JSON, got nothing"
    error = str(one["ctx"]["error"])
    place = _PLACE.search(error)
    if error.startswith("EOF") or place is None:
        where = "it ends too early" if place else "it is no JSON"
    else:
        why = next((said for word, said in _WHY.items() if word in error), "it is wrong")
        where = f"{why} in line {place[1]}, column {place[2]}"
    return f"expected JSON, got {text!r:.60}: {where}"


# Fields in words, by their JSON Schema


def _field(kind: Any, path: Sequence[str | int]) -> str | None:
    """What stands at a path of fields and places within a type, such as "a list of numbers or a
    text"; None: its JSON Schema does not say."""
    root = _schema(kind)
    some = list(_alternatives(root, root))
    for step in path:
        some = [inner for one in some for inner in _inside(root, one, step)]
    said = dict.fromkeys(_described(root, one, 0) for one in some)
    return " or ".join(said) if said and "" not in said else None


@cache
def _schema(kind: Any) -> dict[str, Any]:
    return adapter(kind).json_schema()


def _alternatives(root: dict[str, Any], schema: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """The schemas that a value may fit, but for null."""
    if "anyOf" in schema and "properties" not in schema:
        for one in schema["anyOf"]:
            yield from _alternatives(root, one)
    elif "$ref" in schema:
        name = schema["$ref"].rpartition("/")[2]
        for one in _alternatives(root, root["$defs"][name]):
            yield one | {"$name": name}
    elif schema.get("type") != "null":
        yield schema


def _inside(
    root: dict[str, Any], schema: dict[str, Any], step: str | int
) -> Iterator[dict[str, Any]]:
    if isinstance(step, int):
        inner = schema.get("items")
    else:
        inner = schema.get("properties", {}).get(step, schema.get("additionalProperties"))
    if isinstance(inner, dict):
        yield from _alternatives(root, inner)


def _described(root: dict[str, Any], schema: dict[str, Any], plural: int) -> str:
    """One alternative in words; empty: it has no type."""
    if schema.get("$name") == "FilterObject":
        return FILTER
    kind = schema.get("type")
    if not isinstance(kind, str) or kind not in _WORDS:
        return ""
    word = _WORDS[kind][plural]
    inner = schema.get("items" if kind == "array" else "additionalProperties")
    if plural or not isinstance(inner, dict) or kind not in ("array", "object"):
        return word
    several = int(kind == "array")
    each = [_described(root, one, several) for one in _alternatives(root, inner)]
    if len(each) != 1 or not each[0]:
        return word
    return f"{word} of {each[0]}" if several else f"{word} of name: {each[0].split(' ', 1)[1]}"
