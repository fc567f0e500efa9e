"""What a refused request gets: one sentence, in words of JSON, on the fields that it has."""

from __future__ import annotations

import inspect
import json
import re
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from http_service import Http, routes, served
from pydantic_core._pydantic_core import list_all_errors
from test_http_routes import picture

from trustvlm.errors import LASTING, Busy, Overloaded, Unavailable
from trustvlm.http.wire import label_bodies, schemas, support_bodies
from trustvlm.http.wire.problems import of_error
from trustvlm.http.wire.refusals import EXPECTED
from trustvlm.types import review, verdict_log
from trustvlm.types.json_form import adapter
from trustvlm.types.options import Options

SPACE = {"name": "s", "classifier": "external:9", "verifier": "precomputed:4"}
JSON = {"content-type": "application/json"}
FILES = [("images", ("a.png", picture(1)))]


@pytest.fixture(scope="module")
def space(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Http]:
    """The space "s" of an external classifier, with the labels nine and two."""
    with served(tmp_path_factory.mktemp("refusals") / "home") as http:
        http("POST", "/v1/spaces", json=SPACE, status=201)
        http("POST", "/v1/spaces/s/labels", json={"labels": [{"name": "nine"}, {"name": "two"}]})
        yield http


def refusal(space: Http, method: str, path: str, status: int = 422, **options: Any) -> str:
    """The message of a refusal."""
    return str(space(method, path, status=status, **options)["error"]["message"])


BODIES = [
    ('{"probabilities": [{"nine": null}]}', "probabilities.0.nine: expected a number, got null"),
    ('{"probabilities": [{"nine": "1"}]}', "probabilities.0.nine: expected a number, got '1'"),
    ('{"probabilities": [{"nine": true}]}', "probabilities.0.nine: expected a number, got true"),
    ('{"probabilities": [["a", "b"]]}', "probabilities.0.0: expected a number, got 'a'"),
    (
        '{"probabilities": [0.7, 0.3]}',
        "probabilities.0: expected a list of numbers or an object of name: number, got 0.7",
    ),
    (
        '{"probabilities": 0.7}',
        "probabilities: expected a list of lists or a list of objects, got 0.7",
    ),
    (
        '{"probabilities": [{"nine": 0.7, "nine": 0.1}]}',
        "probabilities.0.nine: given twice in one JSON object",
    ),
    (
        '{"labels": "region"}',
        'labels: expected a list of texts or a filter object such as {"region": "EU"}, got '
        "'region'",
    ),
    ('{"back_off": "x"}', "back_off: expected true or false or a number, got 'x'"),
    ('{"back_off": 2}', "back_off: expected a number from 1e-06 to 1, got 2.0"),
    ('{"images": [], "probabilities": []}', "images: expected at least 1 item, got 0"),
    ("[]", "body: expected an object, got a list"),
    ("nine", "body: expected JSON, got 'nine': it is wrong in line 1, column 2"),
    ('{"rule"', "body: expected JSON, got '{\"rule\"': it ends too early"),
    ("", "body: expected JSON, got nothing"),
    (
        '{"rule": "\\ud800"}',
        'body: expected JSON, got \'{"rule": "\\\\ud800"}\': half a character (a lone surrogate) '
        "stands in line 1, column 17",
    ),
    (
        '{"k": 1,}',
        "body: expected JSON, got '{\"k\": 1,}': a comma too many stands in line 1, column 9",
    ),
]


@pytest.mark.parametrize(("body", "message"), BODIES)
def test_a_json_body_is_refused_in_one_sentence(space: Http, body: str, message: str) -> None:
    assert refusal(space, "POST", "/v1/spaces/s/score", content=body, headers=JSON) == message


FIELDS = [
    ("probabilities", "nine", "probabilities: expected JSON, got 'nine': it is wrong in line 1"),
    ("probabilities", "", "probabilities: expected JSON, got nothing"),
    ("probabilities", "0.5", "probabilities: expected a list of lists or a list of objects"),
    ("probabilities", '[{"nine": "1"}]', "probabilities.0.nine: expected a number, got '1'"),
    ("sources", '["a"]', "sources: expected one value in each field of this name, got the JSON"),
    ("outputs", '["nine", null]', "outputs: expected one value in each field of this name, got"),
    ("params", "[]", "params: expected an object of name: number, got a list"),
]


@pytest.mark.parametrize(("field", "value", "message"), FIELDS)
def test_a_field_of_a_form_is_refused_in_one_sentence(
    space: Http, field: str, value: str, message: str
) -> None:
    data = {field: value}
    said = refusal(space, "POST", "/v1/spaces/s/score", files=FILES, data=data)
    assert said.startswith(message)
    assert "; expected" not in said


def test_a_deep_body(space: Http) -> None:
    said = refusal(space, "POST", "/v1/spaces/s/score", content="[" * 5_000, headers=JSON)
    assert ": it is nested too deep in line 1, column " in said


SAID_AS_JSON = [
    ("PATCH", "/v1/spaces/s/labels/nine", {"new_name": None}, 422, "body: expected text_vector, "),
    ("POST", "/v1/spaces/s/remove-labels", {}, 422, "body: expected labels or a filter, one of "),
    (
        "POST",
        "/v1/spaces/s/score",
        {"probabilities": [{"nine": 1}], "claimed": []},
        422,
        "claimed: expected 1 name, one for each query (null for none), got 0",
    ),
    (
        "POST",
        "/v1/spaces/s/feedback",
        {"probabilities": [{"nine": 1}], "verifier": [[1, 0, 0, 0]], "truth": ["ten"]},
        404,
        "truth: no label 'ten' in space 's'; register it, or give null for images of no label",
    ),
    (
        "POST",
        "/v1/spaces/s/search",
        {"verifier": [[1, 0, 0, 0]], "text": ["a"]},
        422,
        "pass vectors",
    ),
    ("POST", "/v1/spaces", {}, 422, "name: expected a text, got none"),
]


@pytest.mark.parametrize(("method", "path", "body", "status", "message"), SAID_AS_JSON)
def test_a_message_has_no_words_of_python(
    space: Http, method: str, path: str, body: dict[str, Any], status: int, message: str
) -> None:
    assert refusal(space, method, path, status, json=body).startswith(message)


def test_a_name_in_brackets_is_a_name(space: Http) -> None:
    data = {"sources": "[a].png", "probabilities": "[]"}
    said = refusal(space, "POST", "/v1/spaces/s/score", files=FILES, data=data)
    assert not said.startswith("sources")


QUERIES = [
    ({"probabilities": [{"nime": 0.7}]}, 404, "probabilities: no label 'nime'"),
    ({"probabilities": [[0.7]]}, 422, "outputs: expected the label of each column of prob"),
    ({"probabilities": [{"nine": 1}], "sources": []}, 422, "sources: expected 1 name"),
    (
        {"probabilities": [[0.7, None]], "outputs": ["nine", "two"]},
        422,
        "probabilities: row 0 has NaN (in JSON null), which leaves a label out; that takes a "
        "column of the rest, named None in outputs (in JSON null, in a form an empty field)",
    ),
]


@pytest.mark.parametrize(("body", "status", "message"), QUERIES)
def test_a_message_names_fields_of_the_request(
    space: Http, body: dict[str, Any], status: int, message: str
) -> None:
    said = refusal(
        space, "POST", "/v1/spaces/s/score", status, content=json.dumps(body), headers=JSON
    )
    assert said.startswith(message)
    assert "queries." not in said


def test_what_a_missing_field_and_a_time_are(space: Http) -> None:
    said = refusal(space, "POST", "/v1/spaces/s/verdict-log", json={})
    assert said == "logging: expected true or false, got none"
    for wrong in ("24h", "2030-13-01", "2030-01-31T12:00:00", "0.5", "1893456000"):
        said = refusal(space, "GET", "/v1/spaces/s/verdicts", params={"since": wrong})
        example = "with its time zone, such as 2030-01-31T12:00:00Z"
        assert said.startswith(f"since: expected a time {example}, got ")
    for wrong in ("0.5", "2030-01-31T12:00:00", 5):
        said = refusal(space, "POST", "/v1/spaces/s/review/logged", json={"since": wrong})
        assert said.startswith(f"since: expected a time {example}, got ")
    early = {"until": "0001-01-01T00:00:00+01:00"}
    said = refusal(space, "GET", "/v1/spaces/s/verdicts", params=early)
    assert said.startswith("until: expected a time from the year 1 to the year 9999 in UTC, got")
    for time in ("2030-01-31T12:00:00Z", "2030-01-31T12:00:00.123+02:00"):
        space("GET", "/v1/spaces/s/verdicts", params={"since": time}, status=200)


MODULES: list[ModuleType] = [
    label_bodies, review, schemas, support_bodies, verdict_log,
]  # fmt: skip
KINDS = {
    "bool": "bool_",
    "dataclass": "dataclass_|missing|unexpected_keyword",
    "datetime": "datetime_|timezone_aware",
    "dict": "dict_|invalid_key",
    "float": "float_|finite_",
    "int": "int_|greater_than_equal|less_than_equal",
    "list": "list_|too_",
    "literal": "literal_",
    "str": "string_",
}
"""Kinds of values that fields have → the beginnings of the errors that they raise."""
PASSING = {"any", "chain", "dataclass-args", "dataclass-field", "default", "definition-ref",
           "definitions", "function-after", "function-before", "no-info", "nullable", "union"}  # fmt: skip
"""Parts of schemas that raise only what is in them, or errors that the service words itself."""
ELSEWHERE = {
    "dataclass_exact_type",  # instances of Python
    "datetime_future", "datetime_past",  # constraints that no field has, see below
    "missing_argument", "missing_keyword_only_argument", "missing_positional_only_argument",
    "missing_sentinel_error",  # calls of functions
    "string_not_ascii",
    "unexpected_keyword_argument",  # worded with the fields of its object
}  # fmt: skip
LIMITS = {"ge", "le", "max_length", "min_length", "pattern"}
OTHER_LIMITS = {"gt", "lt", "multiple_of", "ascii_only", "now_op", "fail_fast"}


def parts(schema: Any) -> Iterator[dict[str, Any]]:
    """Every part of a schema of pydantic-core."""
    if isinstance(schema, dict):
        if isinstance(schema.get("type"), str):
            yield schema
        for one in schema.values():
            yield from parts(one)
    elif isinstance(schema, list | tuple):
        for one in schema:
            yield from parts(one)


def core_schemas() -> Iterator[Any]:
    """Of all bodies and query parameters."""
    for module in MODULES:
        for one in vars(module).values():
            if inspect.isclass(one) and issubclass(one, Options) and one is not Options:
                yield adapter(one).core_schema
    for route in routes():
        for field in route.dependant.query_params:
            yield field._type_adapter.core_schema


def test_every_error_that_a_field_can_raise_has_words_of_ours() -> None:
    types = {str(part["type"]) for schema in core_schemas() for part in parts(schema)}
    limits = {name for schema in core_schemas() for part in parts(schema) for name in part}
    assert types - PASSING == set(KINDS)
    assert not limits & OTHER_LIMITS
    assert limits >= LIMITS
    raised = {str(one["type"]) for one in list_all_errors()}
    begin = re.compile("|".join(KINDS.values()))
    assert {one for one in raised if begin.match(one)} - ELSEWHERE <= set(EXPECTED)
    assert set(EXPECTED) - raised == {"bounds", "one_of"}


@pytest.mark.parametrize("kind", [Unavailable, Busy, Overloaded])
def test_what_passes_says_when_to_try_again(space: Http, kind: type[Unavailable]) -> None:
    assert of_error("id", kind("away"), space.serving.home).headers["retry-after"] == "1"


@pytest.mark.parametrize("kind", LASTING)
def test_what_somebody_must_mend_does_not(space: Http, kind: type[Unavailable]) -> None:
    assert "retry-after" not in of_error("id", kind("broken"), space.serving.home).headers


def test_no_folder_of_the_server_is_named(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    home = tmp_path / "my home"
    with served(home) as http:
        http("POST", "/v1/spaces", json=SPACE, status=201)
        home.rename(tmp_path / "elsewhere")
        said = http("GET", "/v1/spaces", status=503)["error"]["message"]
        (tmp_path / "elsewhere").rename(home)
    assert said.startswith("HOME was moved, deleted or replaced")
    assert str(tmp_path) not in said
    assert any(str(home) in record.getMessage() for record in caplog.records)
