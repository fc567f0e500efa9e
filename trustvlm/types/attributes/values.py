"""Attributes: one JSON object of a label or a support image, and what it may hold."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterable, Mapping
from numbers import Integral, Real
from typing import Any

from trustvlm.errors import InvalidInput
from trustvlm.types.bounds import got

MAX_BYTES = 8_192
"""Bytes of the JSON of one object."""
MAX_KEYS = 64
"""Keys of one object, those of objects inside it included."""
MAX_DEPTH = 4
"""Objects inside each other, the outermost one included."""
MAX_ITEMS = 256
"""Values of one list."""
MAX_KEY = 100
"""Characters of a key."""
MAX_TEXT = 1_000
"""Characters of a text."""
MOST_WHOLE = 2**53
"""Largest whole number: every program that reads JSON has it exactly."""
RESERVED = ("and", "or", "not")
"""Words of filters, which are no keys."""

COLUMN, PREFIX = "attributes", "attr."
"""The column of a table that holds JSON objects, and what columns of single keys begin with."""

_JSON_STARTS = ("-", '"', "[", "{", "t", "f", *"0123456789")
_DECIMAL_COMMA = re.compile(r"-?(\d+|\d{1,3}(\.\d{3})+),\d+")
_KINDS = "text, a number, true, false, a list of these, or an object"


def attributes_text(value: object, what: str) -> str | None:
    """The JSON of attributes as it is stored, keys in order; None without any.

    Args:
        value: a mapping, or None.

    Raises:
        InvalidInput: it holds something that attributes may not, or too much.
    """
    if value is None:
        return None
    if not isinstance(value, Mapping):
        raise InvalidInput(f"{what}: expected a mapping of keys to values, got {got(value)}")
    counted = [0]
    plain = _object(value, what, 1, counted)
    text = json.dumps(plain, ensure_ascii=False, sort_keys=True, separators=(",", ":"))
    if (size := len(text.encode())) > MAX_BYTES:
        raise InvalidInput(f"{what}: expected at most {MAX_BYTES:,} bytes of JSON, got {size:,}")
    return text if plain else None


def each_text(given: Any, images: int, what: str) -> list[str | None]:
    """The attributes of `images` images as they are stored, one JSON text or None for each.

    Args:
        given: one object for all images, or a list with one object (or None) for each; None: none.

    Raises:
        InvalidInput: another number of them than of images, or something that is none.
    """
    if given is None:
        return [None] * images
    if isinstance(given, Mapping):
        return [attributes_text(given, what)] * images
    if isinstance(given, str | bytes) or not isinstance(given, Iterable):
        raise InvalidInput(f"{what}: expected a mapping, or a list of them, got {got(given)}")
    try:
        each = list(given)
    except TypeError as error:  # an array of no dimension says that it can be iterated
        raise InvalidInput(f"{what}: expected a list of mappings, got {got(given)}") from error
    if len(each) != images:
        raise InvalidInput(f"{what}: expected one for each of {images} images, got {len(each)}")
    return [attributes_text(one, f"{what}[{place}]") for place, one in enumerate(each)]


def plain_attributes(value: object, what: str) -> dict[str, Any] | None:
    """Attributes as JSON holds them; None stays None. Raises InvalidInput."""
    return None if value is None else attributes_of(attributes_text(value, what))


def attributes_of(text: str | None) -> dict[str, Any]:
    """The attributes that a stored text holds."""
    return {} if text is None else dict(json.loads(text))


def merged_text(stored: str | None, changes: Mapping[str, Any], what: str) -> str | None:
    """The JSON of stored attributes after `changes` of single keys, None for a key that goes; None
    without any. Raises InvalidInput, as :func:`attributes_text` does."""
    values = attributes_of(stored) | dict(changes)
    return attributes_text({key: one for key, one in values.items() if one is not None}, what)


def parse_attributes(text: str, what: str) -> dict[str, Any]:
    """The JSON object that a user wrote, each key once; :func:`attributes_text` checks the rest.

    Raises:
        InvalidInput: it is none.
    """
    if len(text) > 8 * MAX_BYTES:
        raise InvalidInput(
            f"{what}: expected at most {MAX_BYTES:,} bytes of JSON, got {len(text):,} characters"
        )
    return parse_json(text, what)


def parse_json(text: str, what: str) -> dict[str, Any]:
    """A JSON object with each key once. Raises InvalidInput."""
    try:
        value = json.loads(text, object_pairs_hook=once_each)
    except (ValueError, RecursionError, InvalidInput) as error:
        reason = str(error) if isinstance(error, InvalidInput) else f"got {text!r:.60}"
        raise InvalidInput(f"{what}: expected a JSON object with each key once; {reason}") from None
    if not isinstance(value, dict):
        raise InvalidInput(f"{what}: expected a JSON object, got {text!r:.60}")
    return value


def parse_value(text: str) -> Any:
    """The value that a text means, in a table or on the command line: a number, true, false, a list
    or an object of JSON, a JSON string, or else the text itself."""
    if len(text) > 8 * MAX_BYTES or text[:1] not in _JSON_STARTS:
        return text
    try:
        return json.loads(text, object_pairs_hook=once_each, parse_constant=_no_constant)
    except InvalidInput:
        raise
    except (ValueError, RecursionError):
        return text


def with_decimal_commas(cells: Mapping[str, str], delimiter: str) -> dict[str, Any]:
    """Cells by their columns, with numbers in place of 116,5 and 1.116,5 under attr.KEY, which
    spreadsheets write in many countries; not in a table that commas separate."""
    return {
        column: float(cell.replace(".", "").replace(",", "."))
        if delimiter != "," and column.startswith(PREFIX) and _DECIMAL_COMMA.fullmatch(cell)
        else cell
        for column, cell in cells.items()
    }


def row_attributes(cells: Mapping[str, Any], what: str) -> dict[str, Any] | None:
    """The attributes of a row of a table: those of the column "attributes", which holds a JSON
    object or the text of one, and of columns named attr.KEY. None without any.

    Raises:
        InvalidInput: a key twice, or no object.
    """
    given = cells.get(COLUMN)
    values: dict[str, Any] = {}
    if isinstance(given, str) and given.strip():
        values = parse_attributes(given, f"{what}{COLUMN}")
    elif isinstance(given, Mapping):
        values = {key: value for key, value in given.items() if value is not None}
    elif given is not None and given != "":
        raise InvalidInput(f"{what}{COLUMN}: expected a JSON object, got {got(given)}")
    for column, cell in cells.items():
        if not column.startswith(PREFIX) or cell is None or cell == "":
            continue
        key = column.removeprefix(PREFIX)
        if key in values:
            raise InvalidInput(f"{what}{column}: the key stands in the column {COLUMN}, too")
        values[key] = parse_value(cell) if isinstance(cell, str) else cell
    return values or None


def is_column(name: str) -> bool:
    """Whether a column of a table holds attributes."""
    return name == COLUMN or (name.startswith(PREFIX) and len(name) > len(PREFIX))


def _no_constant(text: str) -> Any:
    raise ValueError(text)


def once_each(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """The fields of a JSON object, for `json.loads`. Raises InvalidInput: a key twice."""
    values = dict(pairs)
    if len(values) < len(pairs):
        keys = [key for key, _ in pairs]
        twice = next(key for key in keys if keys.count(key) > 1)
        raise InvalidInput(f"the key {twice!r:.60} is given twice")
    return values


def _object(value: Mapping[Any, Any], what: str, depth: int, counted: list[int]) -> dict[str, Any]:
    if depth > MAX_DEPTH:
        raise InvalidInput(f"{what}: expected objects at most {MAX_DEPTH} deep, got more")
    plain = {}
    for key, one in value.items():
        counted[0] += 1
        if counted[0] > MAX_KEYS:
            raise InvalidInput(f"{what}: expected at most {MAX_KEYS} keys, got more")
        name = check_key(key, what)
        plain[name] = _value(one, f"{what}.{name}", depth, counted)
    return plain


def _value(value: object, what: str, depth: int, counted: list[int]) -> Any:
    if isinstance(value, Mapping):
        return _object(value, what, depth + 1, counted)
    if isinstance(value, list | tuple):
        if len(value) > MAX_ITEMS:
            raise InvalidInput(f"{what}: expected at most {MAX_ITEMS} values, got {len(value):,}")
        return [check_scalar(one, what, "text, a number, true or false in a list") for one in value]
    return check_scalar(value, what, _KINDS)


def check_key(key: object, what: str) -> str:
    """`key`, when it can be a key of attributes. Raises InvalidInput."""
    wrong = None
    if not isinstance(key, str) or not 0 < len(key) <= MAX_KEY:
        wrong = f"a text of 1 to {MAX_KEY} characters"
    elif "." in key:
        wrong = "one without '.', which stands between the keys of objects inside each other"
    elif key in RESERVED:
        wrong = f"another one than {', '.join(RESERVED)}, which are words of filters"
    elif key != key.strip() or not key.isprintable():
        wrong = "one without blanks at its ends and characters that are not seen"
    if wrong is not None:
        raise InvalidInput(f"{what}: expected as key {wrong}; got {got(key)}")
    return str(key)


def check_scalar(value: object, what: str, expected: str) -> str | int | float | bool:
    """`value` as text, a number, or a truth value of Python. Raises InvalidInput."""
    if isinstance(value, str):
        return _text(value, what)
    if isinstance(value, bool) or type(value).__name__ in ("bool", "bool_"):
        return bool(value)
    if isinstance(value, Integral):
        integer = int(value)
        if abs(integer) > MOST_WHOLE:
            raise InvalidInput(f"{what}: expected whole numbers up to 2**53, got {got(integer)}")
        return integer
    if isinstance(value, Real):
        number = float(value)
        if not math.isfinite(number):
            raise InvalidInput(f"{what}: expected a finite number, got {number}")
        return number
    hint = "; leave the key out where there is no value" if value is None else ""
    raise InvalidInput(f"{what}: expected {expected}, got {got(value)}{hint}")


def _text(value: str, what: str) -> str:
    if len(value) > MAX_TEXT:
        raise InvalidInput(
            f"{what}: expected at most {MAX_TEXT:,} characters, got {len(value):,} "
            f"({value[:20]!r}…)"
        )
    try:
        value.encode()
    except UnicodeEncodeError:
        raise InvalidInput(
            f"{what}: expected text, got half of a character in {got(value)}"
        ) from None
    if "\0" in value:
        raise InvalidInput(f"{what}: {got(value)} holds the character U+0000 (NUL)")
    return str(value)
