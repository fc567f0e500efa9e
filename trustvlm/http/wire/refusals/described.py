"""What a field of a body takes, in words: read from its JSON Schema."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import cache
from typing import Any

from trustvlm.types.json_form import adapter

_WORDS = {
    "array": ("a list", "lists"),
    "boolean": ("true or false", "true or false"),
    "integer": ("an integer", "integers"),
    "number": ("a number", "numbers"),
    "object": ("an object", "objects"),
    "string": ("a text", "texts"),
}
FILTER = 'a filter object such as {"region": "EU"}'


def describe(kind: Any, path: Sequence[str | int]) -> str | None:
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
