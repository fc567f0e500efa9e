"""Labels put in place of what there is: in the library, the client, HTTP and the command line."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from cli_runner import Cli
from http_service import served

import trustvlm
from trustvlm import Conflict, InvalidInput, LabelInput

EYE = np.eye(4, dtype=np.float32)


def filled(service: Any) -> Any:
    service.create_space("s", classifier="precomputed:4", verifier="precomputed:4")
    first = LabelInput("a", text_vector=EYE[0], image_vectors=EYE[:1], attributes={"n": 1})
    service.register("s", [first, LabelInput("b", text_vector=EYE[1], parent="letters")])
    return service


@pytest.fixture
def service(verbs: Any) -> Any:
    return filled(verbs)


def test_what_is_given_replaces_what_there_is(service: Any) -> None:
    given = [
        LabelInput("a", text_vector=EYE[2], attributes={"m": 2}, image_vectors=EYE[:2]),
        LabelInput("b", parent="signs"),
        LabelInput("c", text_vector=EYE[3]),
    ]
    with pytest.raises(Conflict, match="label 'a' has"):
        service.register("s", given)
    done = service.register("s", given, replace=True)
    assert (done.added_labels, done.replaced_labels) == (1, 1)
    assert (done.added_supports, done.skipped_duplicates) == (1, 1)
    label = service.get_label("s", "a", vectors=True)
    assert (label.attributes, label.support_count) == ({"m": 2}, 2)
    assert np.allclose(label.text_vector, EYE[2])
    assert service.get_label("s", "b").parent == "signs"
    assert np.allclose(service.get_label("s", "b", vectors=True).text_vector, EYE[1])
    again = service.register("s", given, replace=True)
    assert again.revision == done.revision
    assert (again.added_labels, again.replaced_labels, again.added_supports) == (0, 0, 0)
    best = service.score("s", trustvlm.Queries(classifier=EYE[2:3]), rule="msp")
    assert best[0].label == "a"
    assert (
        service.register("s", [LabelInput("a", attributes={})], replace=True).replaced_labels == 1
    )
    assert service.get_label("s", "a").attributes == {}


def test_no_image_on_both_sides_adds_none(service: Any) -> None:
    nothing = LabelInput("a", image_vectors=[], classifier_image_vectors=[])
    for options in ({"replace": True}, {}):
        assert service.register("s", [nothing], **options).added_supports == 0
    assert service.get_label("s", "a").support_count == 1


def test_what_cannot_be_replaced_is_refused_and_changes_nothing(service: Any) -> None:
    before = service.get_space("s").revision
    for given, options in (
        ([LabelInput("new")], {}),
        ([LabelInput("a", text_vector=[1.0, 2.0])], {}),
        ([LabelInput("a", attributes={"x": float("nan")})], {}),
        ([LabelInput("a", attributes={"n": 2})], {"dry_run": True}),
    ):
        with pytest.raises(InvalidInput):
            service.register("s", given, replace=True, **options)
    assert service.get_space("s").revision == before


def test_a_label_is_put_over_http(tmp_path: Path) -> None:
    with served(tmp_path / "home") as http:
        filled(http.service)
        path = "/v1/spaces/s/labels/x%2Fy"
        body = {"text_vector": EYE[3].tolist(), "attributes": {"n": 1}, "parent": "letters"}
        made = http("PUT", path, json=body | {"image_vectors": EYE[:1].tolist()})
        assert (made["added_labels"], made["added_supports"]) == (1, 1)
        again = http("PUT", path, json=body)
        assert (again["revision"], again["replaced_labels"]) == (made["revision"], 0)
        changed = http("PUT", path, json={"attributes": {"n": 2}})
        assert changed["replaced_labels"] == 1
        shown = http("GET", path)
        assert (shown["name"], shown["attributes"], shown["parent"]) == ("x/y", {"n": 2}, "letters")
        assert shown["support_count"] == 1
        assert http("PUT", path, json={})["revision"] == changed["revision"]
        for wrong in ({"name": "x"}, {"text_vector": [1.0]}, {"attributes": {"a": None}}):
            http("PUT", path, json=wrong, status=422)
        http("PUT", "/v1/spaces/s/labels/new", json={}, status=422)


def test_the_command_line_replaces(tmp_path: Path) -> None:
    cli = Cli(tmp_path / "home")
    with trustvlm.open(cli.home, create=True) as service:
        filled(service)
    options = ("register", "s", "--label", "a", "--attributes", '{"n": 7}')
    cli(*options, code=4)
    assert "changed 1 label;" in cli(*options, "--replace")
    assert "nothing new" in cli(*options, "--replace")
    assert cli.rows("label", "list", "s")[0]["attributes"] == {"n": 7}
