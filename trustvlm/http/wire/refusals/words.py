"""What pydantic's kinds of errors say, in the words of all other messages."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

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


def words(one: Mapping[str, Any]) -> str:
    """What an error says that was expected; and what came, where that is no single value."""
    if one["type"] == "json_invalid":
        return _no_json(one)
    form = EXPECTED.get(one["type"])
    said = one["msg"] if form is None else form.format_map(one.get("ctx", {}))
    return _ITEMS.sub(r"1 \1", said)


def show(value: Any) -> str:
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
