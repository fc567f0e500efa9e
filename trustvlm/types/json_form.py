"""JSON of the public dataclasses: one way in and one way out, for the HTTP service, the client and
the command line.

Undefined numbers are NaN in Python and null in JSON; times are ISO 8601; tuples are arrays.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterator, Mapping
from datetime import datetime
from typing import Annotated, Any, ClassVar, Generic, TypeVar, cast, get_type_hints, overload

from pydantic import AwareDatetime, BeforeValidator, PlainSerializer, TypeAdapter, WithJsonSchema
from pydantic_core import PydanticCustomError, core_schema
from typing_extensions import TypeAliasType, TypedDict

from trustvlm.types.attributes.values import MAX_KEYS
from trustvlm.types.messages.brief import record_repr

T = TypeVar("T")

Attributes = Annotated[
    Mapping[str, Any],
    WithJsonSchema(
        {
            "type": "object",
            "description": "attributes: a JSON object with text, numbers, true, false, lists of "
            "these, and objects",
            "maxProperties": MAX_KEYS,
            "additionalProperties": True,
        }
    ),
]
"""The attributes of a row, see :mod:`trustvlm.types.attributes.values`."""

_SCALAR = {"type": ["string", "number", "boolean"]}
_BOUND = {"type": ["string", "number"]}
_FILTERS = {"type": "array", "items": {"type": "object", "minProperties": 1}, "minItems": 1}
_CONDITIONS = {
    "type": "object",
    "properties": {
        "eq": _SCALAR,
        "in": {"type": "array", "items": _SCALAR},
        "exists": {"type": "boolean"},
    }
    | {word: _BOUND for word in ("gt", "gte", "lt", "lte")},
    "additionalProperties": False,
    "minProperties": 1,
}

FilterObject = TypeAliasType(
    "FilterObject",
    Annotated[
        dict[str, Any],
        WithJsonSchema(
            {
                "type": "object",
                "description": "a filter over attributes: keys (`taxon.order`: of an object "
                "inside) with a value or conditions, all of which hold; `and` and `or` are lists "
                "of filters, `not` is a filter",
                "properties": {
                    "and": _FILTERS,
                    "or": _FILTERS,
                    "not": {"type": "object", "minProperties": 1},
                },
                "additionalProperties": {"anyOf": [_SCALAR, _CONDITIONS]},
                "minProperties": 1,
                "examples": [{"region": "EU", "size": {"gte": 3, "lt": 9}}],
            }
        ),
    ],
)
"""A filter as JSON holds it, see :mod:`trustvlm.types.attributes.filters`."""


def _finite(value: float) -> float | None:
    return value if math.isfinite(value) else None


Number = Annotated[
    float,
    BeforeValidator(lambda value: math.nan if value is None else value),
    PlainSerializer(_finite, when_used="json"),
    WithJsonSchema({"anyOf": [{"type": "number"}, {"type": "null"}]}),
]
"""A number that may be undefined: NaN, which is null in JSON."""

Time = Annotated[
    datetime,
    PlainSerializer(datetime.isoformat, when_used="json"),
    WithJsonSchema({"type": "string", "format": "date-time"}),
]


_RFC_3339 = re.compile(
    r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?(Z|[+-]\d\d:\d\d)", re.ASCII | re.IGNORECASE
)


def _time(value: Any) -> Any:
    if not isinstance(value, str):
        return value
    try:
        if _RFC_3339.fullmatch(value):
            return datetime.fromisoformat(value.upper())
    except ValueError:  # a month 13
        pass
    raise PydanticCustomError("datetime_type", "expected a time")


ZonedTime = Annotated[AwareDatetime, BeforeValidator(_time)]
"""A time with its zone, in JSON as the format "date-time" has it: pydantic alone takes texts of
numbers, too."""


class Object:
    """Marks a named tuple that is an object in JSON, with the names of its fields as keys."""

    def __get_pydantic_core_schema__(self, source: Any, handler: Callable[[Any], Any]) -> Any:
        typed_dict: Any = TypedDict
        fields = handler(typed_dict(source.__name__, get_type_hints(source)))
        return core_schema.no_info_after_validator_function(
            lambda values: source(**values),
            fields,
            serialization=core_schema.plain_serializer_function_ser_schema(
                lambda value: value._asdict(), return_schema=fields
            ),
        )


class Answer:
    """Base of the dataclasses that verbs return: in JSON every field is present."""

    __pydantic_config__: ClassVar[Any] = {"json_schema_serialization_defaults_required": True}

    def to_dict(self) -> dict[str, Any]:
        """The answer as JSON holds it; undefined numbers are None."""
        return cast(dict[str, Any], to_plain(self))

    def __repr__(self) -> str:
        """Like that of a dataclass, but brief; for classes with repr=False."""
        return record_repr(self)


class HasRows(Generic[T]):
    """An answer that has the length, items and order of its `rows`; it is true without any, too."""

    rows: tuple[T, ...]

    def __len__(self) -> int:
        return len(self.rows)

    def __iter__(self) -> Iterator[T]:
        return iter(self.rows)

    @overload
    def __getitem__(self, place: int) -> T: ...

    @overload
    def __getitem__(self, place: slice) -> tuple[T, ...]: ...

    def __getitem__(self, place: int | slice) -> T | tuple[T, ...]:
        return self.rows[place]

    def __bool__(self) -> bool:
        return True


_ADAPTERS: dict[Any, TypeAdapter[Any]] = {}


def adapter(kind: Any) -> TypeAdapter[Any]:
    """What reads and writes a type, made once."""
    if kind not in _ADAPTERS:
        _ADAPTERS[kind] = TypeAdapter(kind)
    return _ADAPTERS[kind]


def to_plain(value: Any) -> Any:
    """A dataclass as the dicts, lists, texts and numbers that JSON holds."""
    return adapter(type(value)).dump_python(value, mode="json")


def from_plain(kind: type[T], value: Any) -> T:
    """A dataclass from what JSON held.

    Raises:
        ValueError: it does not fit; fields beyond those of the dataclass are left out.
    """
    return cast(T, adapter(kind).validate_python(value))
