"""Filters: their two forms, what they keep against a direct evaluation, and what is refused."""

from __future__ import annotations

import json
import pickle
from typing import Any

import jsonschema_rs
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from trustvlm import Filter, InvalidInput
from trustvlm.types.attributes.columns import Column, combined, holds_of_nothing, value_at
from trustvlm.types.attributes.filters import Condition, conditions
from trustvlm.types.json_form import FilterObject, adapter

SCHEMA = jsonschema_rs.validator_for(adapter(FilterObject).json_schema())
KEYS = ["a", "b", "c"]
SCALARS = st.one_of(
    st.sampled_from(["", "x", "y", "EU", "1", "true"]),
    st.integers(-2, 3),
    st.sampled_from([-1.5, 0.0, 0.5, 1.0, 2.0]),
    st.booleans(),
)
VALUES = st.one_of(
    SCALARS,
    st.lists(SCALARS, max_size=3),
    st.dictionaries(st.sampled_from(KEYS), SCALARS, max_size=2),
)
OBJECTS = st.dictionaries(st.sampled_from(KEYS), VALUES, max_size=3)
BOUNDS = st.one_of(st.sampled_from(["", "x", "EU"]), st.integers(-2, 3), st.just(0.5))
CONDITIONS = st.one_of(
    SCALARS,
    st.fixed_dictionaries({"eq": SCALARS}),
    st.fixed_dictionaries({"in": st.lists(SCALARS, max_size=4)}),
    st.fixed_dictionaries({"exists": st.booleans()}),
    st.dictionaries(st.sampled_from(["gt", "gte", "lt", "lte"]), BOUNDS, min_size=1, max_size=2),
)
PATHS = st.one_of(st.sampled_from(KEYS), st.sampled_from(["a.b", "b.c", "c.a"]))
LEAVES = st.dictionaries(PATHS, CONDITIONS, min_size=1, max_size=2)
FILTERS = st.recursive(
    LEAVES,
    lambda inner: st.one_of(
        st.fixed_dictionaries({"and": st.lists(inner, min_size=1, max_size=3)}),
        st.fixed_dictionaries({"or": st.lists(inner, min_size=1, max_size=3)}),
        st.fixed_dictionaries({"not": inner}),
    ),
    max_leaves=6,
)


def brute(content: Any, attributes: dict[str, Any]) -> bool:
    """What a filter in JSON says of one object, word by word."""
    answers = []
    for key, value in content.items():
        if key == "and":
            answers.append(all(brute(one, attributes) for one in value))
        elif key == "or":
            answers.append(any(brute(one, attributes) for one in value))
        elif key == "not":
            answers.append(not brute(value, attributes))
        else:
            tests = value if isinstance(value, dict) else {"eq": value}
            answers += [brute_test(attributes, key, *test) for test in tests.items()]
    return all(answers)


def brute_test(attributes: dict[str, Any], key: str, word: str, operand: Any) -> bool:
    value: Any = attributes
    for part in key.split("."):
        value = value.get(part) if isinstance(value, dict) else None
    if word == "exists":
        return (value is not None) == operand
    return any(fits(one, word, operand) for one in (value if isinstance(value, list) else [value]))


def kind_of(value: Any) -> str:
    if isinstance(value, bool):
        return "truth"
    return "number" if isinstance(value, int | float) else type(value).__name__


def fits(value: Any, word: str, operand: Any) -> bool:
    if word in ("eq", "in"):
        wanted = operand if word == "in" else [operand]
        return any(kind_of(value) == kind_of(one) and value == one for one in wanted)
    if kind_of(value) != kind_of(operand) or kind_of(value) not in ("number", "str"):
        return False
    return {
        "gt": value > operand, "gte": value >= operand,
        "lt": value < operand, "lte": value <= operand,
    }[word]  # fmt: skip


def kept(chosen: Filter, objects: list[dict[str, Any]], split: int) -> list[bool]:
    """What the columns keep, added in two parts and read in two parts."""
    columns = {condition.path: Column() for condition in conditions(chosen.root)}
    for path, column in columns.items():
        for part in (range(split), range(split, len(objects))):
            column.extend((row, value_at(objects[row], path)) for row in part)

    def within(start: int, stop: int) -> list[bool]:
        def leaf(condition: Condition) -> Any:
            return columns[condition.path].holds(condition, start, stop)

        return list(combined(chosen.root, leaf))

    return within(0, split) + within(split, len(objects))


@settings(max_examples=4 * settings.default.max_examples)
@given(FILTERS, st.lists(OBJECTS, max_size=8), st.integers(0, 8))
def test_columns_keep_what_the_words_say(
    content: dict[str, Any], objects: list[dict[str, Any]], split: int
) -> None:
    chosen = Filter(content)
    assert SCHEMA.is_valid(content)
    assert SCHEMA.is_valid(chosen.to_dict())
    assert kept(chosen, objects, min(split, len(objects))) == [brute(content, o) for o in objects]
    assert holds_of_nothing(chosen.root) == brute(content, {})
    again = Filter(json.loads(json.dumps(chosen.to_dict())))
    assert again == chosen
    assert hash(again) == hash(chosen)
    assert pickle.loads(pickle.dumps(chosen)) == chosen


@given(st.lists(OBJECTS, max_size=8), st.lists(st.booleans(), min_size=8, max_size=8))
def test_a_column_without_some_rows(objects: list[dict[str, Any]], stays: list[bool]) -> None:
    column, stays = Column(), stays[: len(objects)]
    column.extend((row, value_at(one, ("a",))) for row, one in enumerate(objects))
    moved = np.full(len(objects), -1, np.int64)
    moved[np.flatnonzero(stays)[::-1]] = np.arange(sum(stays))  # the other way round
    column.kept(moved)
    left = [one for one, stay in zip(objects, stays, strict=True) if stay][::-1]
    (one,) = conditions(Filter({"a": {"in": ["x", 1, True]}}).root)
    expected = [brute({"a": {"in": ["x", 1, True]}}, attributes) for attributes in left]
    assert column.holds(one, 0, len(left)).tolist() == expected


TEXTS: list[tuple[str, dict[str, Any]]] = [
    ('region = "EU"', {"region": "EU"}),
    ("region = EU and size >= 3", {"region": "EU", "size": {"gte": 3}}),
    ("a=1 or b=2 and c=3", {"or": [{"a": 1}, {"and": [{"b": 2}, {"c": 3}]}]}),
    ("(a=1 or b=2) AND c=3", {"and": [{"or": [{"a": 1}, {"b": 2}]}, {"c": 3}]}),
    ("not a exists", {"not": {"a": {"exists": True}}}),
    ("a not exists", {"a": {"exists": False}}),
    ("a in (1, 'x', true)", {"a": {"in": [1, "x", True]}}),
    ("a not in [1]", {"not": {"a": {"in": [1]}}}),
    ("a != 'it\\'s'", {"not": {"a": "it's"}}),
    ('"body size" < -1.5e3', {"body size": {"lt": -1500.0}}),
    ('taxon.order == "P"', {"taxon.order": "P"}),
    ("größe > 2", {"größe": {"gt": 2}}),
    ('"and" = 1', {}),
    ('day >= "2026-05-01"', {"day": {"gte": "2026-05-01"}}),
    ('code = "007" and id = 007', {"code": "007", "id": "007"}),
]


@pytest.mark.parametrize(("text", "expected"), TEXTS)
def test_text_is_json(text: str, expected: dict[str, Any]) -> None:
    if expected:
        assert Filter(text) == Filter(expected)
    else:
        with pytest.raises(InvalidInput, match="a list of filters"):
            Filter(text)


def deep(depth: int) -> dict[str, Any]:
    return {"not": deep(depth - 1)} if depth else {"a": 1}


REFUSED: list[tuple[Any, str]] = [
    ({}, "at least one condition"),
    ([], "expected a mapping"),
    (5, "expected a mapping"),
    (None, "expected a mapping"),
    ({"and": []}, "expected a list of filters"),
    ({"and": "ab"}, "expected a list of filters"),
    ({"and": [1]}, "expected a mapping"),
    ({"not": [1]}, "expected a mapping"),
    ({"a": None}, '"exists": false'),
    ({"a": {}}, "expected a condition"),
    ({"a": [1, 2]}, '"in"'),
    ({"a": {"eq": {"b": 1}}}, "expected text, a number"),
    ({"a": {"in": 3}}, "a list of values"),
    ({"a": {"in": [None]}}, "exists"),
    ({"a": {"gt": True}}, "a number or text"),
    ({"a": {"gt": [1]}}, "expected text, a number"),
    ({"a": {"gt": float("nan")}}, "finite"),
    ({"a": {"exists": 1}}, "true or false"),
    ({"a": {"gtr": 1}}, "expected one of eq, in"),
    ({"a": {"order": "P"}}, "write a.KEY"),
    ({"a\0": 1}, "as key"),
    ({"a": "x\0"}, "NUL"),
    ({"a": 2**60}, "2\\*\\*53"),
    ({"a..b": 1}, "as key"),
    ({"a.b.c.d.e": 1}, "4 deep"),
    ({1: 1}, "as key"),
    ({"a": {"in": list(range(10_001))}}, "at most 10,000 values"),
    ({"and": [{"a": 1}] * 201}, "at most 200 conditions"),
    (deep(17), "inside each other"),
    ("", "got nothing"),
    ("a", "the end at character 2 of 'a'"),
    ("a =", "a value, got the end"),
    ("a = 1 b", "and, or, or the end"),
    ("(a = 1", "expected \\)"),
    ("a = 'x", "from character 4 on.*stands in quotes"),
    ("a ~ 1", "expected =, !=.* got ~ at character 3 of 'a ~ 1'"),
    ("and = 1", "expected a key"),
    ("a in 3", "a list such as"),
    ("a in (1 2)", "expected , or \\)"),
    ("(" * 500 + "a=1", "levels of parentheses"),
    ("a=1 or " * 20_000, "100,000 characters"),
    ("x'; DROP TABLE labels; --", "stands in quotes"),
]


BEYOND_SCHEMA = ("finite", "as key", "NUL", "2\\*\\*53", "4 deep", "at most", "inside each other")


def beyond(why: str) -> bool:
    """Whether JSON Schema cannot say it, or at a length that serves no reader."""
    return any(part in why for part in BEYOND_SCHEMA)


def test_the_document_refuses_what_is_no_filter_by_its_shape() -> None:
    shapes = [given for given, why in REFUSED if isinstance(given, dict) and not beyond(why)]
    assert len(shapes) > 12
    assert [given for given in shapes if SCHEMA.is_valid(given)] == []


@pytest.mark.parametrize("number", range(len(REFUSED)))
def test_what_is_no_filter(number: int) -> None:
    """One sentence of bounded length."""
    from trustvlm.types.attributes.filters import as_filter

    given, message = REFUSED[number]
    with pytest.raises(InvalidInput, match=message) as caught:
        as_filter(given)
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 400
