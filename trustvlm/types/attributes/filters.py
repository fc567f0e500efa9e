"""Filters over attributes: one grammar, as JSON and as text (docs/attributes.md)."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

from trustvlm.errors import InvalidInput
from trustvlm.types.attributes.parse import parse_text
from trustvlm.types.attributes.values import (
    MAX_DEPTH,
    RESERVED,
    check_key,
    check_scalar,
    parse_json,
)
from trustvlm.types.bounds import got
from trustvlm.types.messages.meant import did_you_mean

MAX_NESTED = 16
"""and, or and not inside each other."""
MAX_CONDITIONS = 200
"""Conditions of one filter."""
MAX_JSON = 2_000_000
"""Characters of a filter in JSON."""
MAX_VALUES = 10_000
"""Values of all "in" of one filter."""

_RANGES = ("gt", "gte", "lt", "lte")
_OPERATORS = ("eq", "in", *_RANGES, "exists")

Scalar: TypeAlias = str | int | float | bool


@dataclass(frozen=True)
class Condition:
    """One condition on a key.

    Attributes:
        path: the key, and those of objects inside objects.
        operator: "in" (one of the operands), "gt", "gte", "lt", "lte" (the only operand), "exists".
    """

    path: tuple[str, ...]
    operator: str
    operands: tuple[Scalar, ...] = ()


@dataclass(frozen=True)
class Group:
    """Keeps what all parts keep ("and"), or what at least one of them keeps ("or")."""

    word: str
    parts: tuple[Node, ...]


@dataclass(frozen=True)
class Not:
    """Keeps what its part does not keep."""

    part: Node


Node: TypeAlias = Condition | Group | Not


class Filter:
    """Labels or support images by their attributes.

    >>> Filter('region = "EU" and size >= 3').to_dict()
    {'and': [{'region': {'in': ['EU']}}, {'size': {'gte': 3}}]}

    Args:
        given: JSON, such as {"region": "EU", "size": {"gte": 3}}, or text, such as
            'region = "EU" and size >= 3'.

    Attributes:
        root: the tree of its conditions. text: its canonical JSON, equal for equal filters.

    Raises:
        InvalidInput: it is no filter, or too large.
    """

    __slots__ = ("root", "text")

    root: Node
    text: str

    def __init__(self, given: Mapping[str, Any] | str | Filter, what: str = "filter") -> None:
        if isinstance(given, Filter):
            self.root, self.text = given.root, given.text
            return
        value = _parsed(given, what) if isinstance(given, str) else given
        self.root = _Reader(what).node(value, 0)
        self.text = json.dumps(_plain(self.root), ensure_ascii=False, separators=(",", ":"))

    def to_dict(self) -> dict[str, Any]:
        """The filter as JSON holds it."""
        return dict(_plain(self.root))

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Filter) and self.text == other.text

    def __hash__(self) -> int:
        return hash(self.text)

    def __repr__(self) -> str:
        return f"Filter({self.text:.200})"

    def __reduce__(self) -> tuple[Any, ...]:
        return Filter, (self.to_dict(),)


FilterLike: TypeAlias = Filter | Mapping[str, Any] | str
"""A filter, or what makes one: JSON or text."""


def as_filter(given: Any, what: str = "filter") -> Filter:
    """What a caller passes as a filter: a :class:`Filter`, a mapping, or text. Raises
    InvalidInput."""
    if not isinstance(given, Filter | Mapping | str):
        raise InvalidInput(f"{what}: expected a mapping of keys to conditions, got {got(given)}")
    return Filter(given, what)


def key_path(key: object, what: str) -> tuple[str, ...]:
    """A key, and those of objects inside objects: "taxon.order". Raises InvalidInput."""
    parts = key.split(".") if isinstance(key, str) else [key]
    path = tuple(check_key(part, what) for part in parts)
    if len(path) > MAX_DEPTH:
        raise InvalidInput(f"{what}: expected a key at most {MAX_DEPTH} deep, got {got(key)}")
    return path


def filter_or_names(given: Any) -> Any:
    """The labels that a request names: a filter where they are a mapping, or one text that is a
    JSON object; else as they are. Raises InvalidInput."""
    if isinstance(given, list) and len(given) == 1 and str(given[0]).startswith('{"'):
        given = parse_json(given[0], "labels")
    return Filter(given, "labels") if isinstance(given, Mapping) else given


def conditions(node: Node) -> Iterator[Condition]:
    """The conditions of a filter."""
    if isinstance(node, Condition):
        yield node
    else:
        for part in node.parts if isinstance(node, Group) else (node.part,):
            yield from conditions(part)


def _parsed(text: str, what: str) -> Any:
    """The JSON of a filter, from its JSON or its text."""
    if not text.lstrip().startswith("{"):
        return parse_text(text, what)
    if len(text) > MAX_JSON:
        raise InvalidInput(f"{what}: expected at most {MAX_JSON:,} characters")
    return parse_json(text, what)


def _plain(node: Node) -> dict[str, Any]:
    if isinstance(node, Not):
        return {"not": _plain(node.part)}
    if isinstance(node, Group):
        return {node.word: [_plain(part) for part in node.parts]}
    operands: Any = list(node.operands) if node.operator == "in" else node.operands[0]
    return {".".join(node.path): {node.operator: operands}}


class _Reader:
    """Reads JSON as a filter, and counts how much it holds."""

    def __init__(self, what: str) -> None:
        self._what = what
        self._conditions = self._values = 0

    def node(self, value: object, depth: int) -> Node:
        """What a mapping says: all of its entries."""
        if depth > MAX_NESTED:
            raise InvalidInput(
                f"{self._what}: expected at most {MAX_NESTED} words inside each other"
            )
        if not isinstance(value, Mapping):
            raise InvalidInput(
                f"{self._what}: expected a mapping of keys to conditions, got {got(value)}"
            )
        parts = [part for key, one in value.items() for part in self._entry(key, one, depth)]
        if not parts:
            raise InvalidInput(f"{self._what}: expected at least one condition, got none")
        return parts[0] if len(parts) == 1 else Group("and", tuple(parts))

    def _entry(self, key: object, value: object, depth: int) -> Iterator[Node]:
        if key == "not":
            yield Not(self.node(value, depth + 1))
        elif key in RESERVED:
            if not isinstance(value, Sequence) or isinstance(value, str) or not value:
                raise InvalidInput(
                    f"{self._what}: {key}: expected a list of filters, got {got(value)}"
                )
            parts = tuple(self.node(one, depth + 1) for one in value)
            yield parts[0] if len(parts) == 1 else Group(str(key), parts)
        else:
            yield from self._conditions_of(key_path(key, self._what), value)

    def _conditions_of(self, path: tuple[str, ...], value: object) -> Iterator[Condition]:
        given = value if isinstance(value, Mapping) else {"eq": value}
        key = ".".join(path)
        if not given:
            raise InvalidInput(f"{self._what}: {key}: expected a condition, got {{}}")
        for operator, operand in given.items():
            self._conditions += 1
            if self._conditions > MAX_CONDITIONS:
                raise InvalidInput(f"{self._what}: expected at most {MAX_CONDITIONS} conditions")
            yield self._condition(path, key, operator, operand)

    def _condition(
        self, path: tuple[str, ...], key: str, operator: object, operand: object
    ) -> Condition:
        what = f"{self._what}: {key}"
        if operator == "in":
            return Condition(path, "in", self._several(what, operand))
        if operator == "exists":
            if not isinstance(operand, bool):
                raise InvalidInput(f"{what}: exists: expected true or false, got {got(operand)}")
            return Condition(path, "exists", (operand,))
        if operator == "eq":
            if isinstance(operand, list | tuple):
                raise InvalidInput(
                    f'{what}: expected one value; {{"in": [...]}} takes several, got {got(operand)}'
                )
            return Condition(path, "in", (_scalar(operand, what),))
        if not isinstance(operator, str) or operator not in _RANGES:
            meant = did_you_mean(operator, _OPERATORS)
            raise InvalidInput(
                f"{what}: expected one of {', '.join(_OPERATORS)}, got {got(operator)}{meant}; of "
                f"a key inside an object write {key}.KEY"
            )
        bound = _scalar(operand, what)
        if isinstance(bound, bool):
            raise InvalidInput(f"{what}: {operator}: expected a number or text, got {bound}")
        return Condition(path, operator, (bound,))

    def _several(self, what: str, values: object) -> tuple[Scalar, ...]:
        if not isinstance(values, list | tuple):
            raise InvalidInput(f"{what}: in: expected a list of values, got {got(values)}")
        self._values += len(values)
        if self._values > MAX_VALUES:
            raise InvalidInput(f"{what}: in: expected at most {MAX_VALUES:,} values, got more")
        return tuple(_scalar(one, what) for one in values)


def _scalar(value: object, what: str) -> Scalar:
    if value is None:
        raise InvalidInput(f'{what}: expected a value; {{"exists": false}} is for no value')
    return check_scalar(value, what, "text, a number, true or false")
