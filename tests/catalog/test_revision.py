"""A call that expects a revision is refused once the space has moved on: library, client and HTTP
alike."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from http_service import Http, served
from numbered import label, queries
from served_client import application, client_of

import trustvlm
from trustvlm.errors import Conflict, InvalidInput, NotFound


@pytest.fixture(params=["library", "client"])
def verbs(request: pytest.FixtureRequest, home: Path) -> Iterator[Any]:
    """The verbs on a space at revision 1, by either way to them."""
    if request.param == "library":
        with trustvlm.open(home) as service:
            yield service
    else:
        with application(home) as app, client_of(app, retries=0) as client:
            yield client


def names(verbs: Any) -> list[str]:
    return [row.name for row in verbs.list_labels("space")]


MOVED_ON = r"space 'space' has changed: this call expects revision 1, the space is at revision 2"


def test_a_mask_of_labels_is_used_at_its_revision_or_not_at_all(verbs: Any) -> None:
    mask = np.array([name.endswith("3") for name in names(verbs)])
    revision = verbs.get_space("space").revision
    assert set(verbs.score("space", queries(3), labels=mask, revision=revision).label) <= {
        "label 0003",
        "label 0013",
    }
    verbs.remove_label("space", "label 0000")
    verbs.register("space", [label(40)])
    with pytest.raises(Conflict, match="has changed: this call"):
        verbs.score("space", queries(3), labels=mask, revision=revision)
    with pytest.raises(Conflict, match="has changed: this call"):
        verbs.search("space", queries(3), kind="prototype", revision=revision)
    hits = verbs.search("space", queries(3), kind="prototype", revision=np.int64(revision + 2))
    assert hits.revision == revision + 2


@pytest.mark.parametrize("revision", [-1, 1.0, True, "1", float("nan")])
def test_what_is_no_revision_is_refused(verbs: Any, revision: Any) -> None:
    for call in (verbs.score, verbs.search):
        with pytest.raises(InvalidInput, match="revision: expected a whole number from 0"):
            call("space", queries(3), revision=revision)
    with (
        pytest.raises(InvalidInput, match="revision: expected"),
        verbs.at_revision("space", revision),
    ):
        pass


def test_the_first_change_in_the_block_needs_the_revision(verbs: Any) -> None:
    with verbs.at_revision("space", 1):
        verbs.remove_label("space", "label 0001")
        verbs.remove_label("space", "label 0002")  # after a change of its own
    with (
        pytest.raises(Conflict, match="expects revision 1, the space is at revision 3"),
        verbs.at_revision("space", 1),
    ):
        raise AssertionError("the block is not entered")
    with pytest.raises(NotFound), verbs.at_revision("nothing", 1):
        pass
    verbs.register("space", [label(50)])  # outside of a block nothing is expected


def test_a_change_between_reading_and_writing_is_noticed(verbs: Any, home: Path) -> None:
    """Another process changes the space within the block, before the first change there: each kind
    of write is refused."""
    supports = [row.id for row in verbs.list_supports("space", "label 0005")]
    writes = [
        lambda: verbs.register("space", [label(60)]),
        lambda: verbs.add_support("space", "label 0003", image_vectors=np.eye(64)[:1]),
        lambda: verbs.update_label("space", "label 0003", new_name="other"),
        lambda: verbs.remove_label("space", "label 0003"),
        lambda: verbs.remove_support("space", supports[:1]),
        lambda: verbs.alias("space", "label 0003", "label 0005"),
        lambda: verbs.feedback("space", queries(3), ["label 0003"] * 3),
    ]
    with trustvlm.open(home) as other:
        for number, write in enumerate(writes):
            revision = verbs.get_space("space").revision
            before = names(verbs)
            with verbs.at_revision("space", revision):
                other.register("space", [label(70 + number)])
                with pytest.raises(Conflict, match="has changed: this call"):
                    write()
            assert set(names(verbs)) - set(before) == {f"label {70 + number:04d}"}
            assert [row.id for row in verbs.list_supports("space", "label 0005")] == supports


def test_of_two_writers_that_read_the_same_one_wins(home: Path) -> None:
    """The check is part of the change's transaction: of many writers with the same revision exactly
    one changes the space."""
    with trustvlm.open(home) as service:
        barrier, won = threading.Barrier(8), []

        def write(number: int) -> None:
            with service.at_revision("space", 1):
                barrier.wait()
                try:
                    service.register("space", [label(100 + number)])
                    won.append(number)
                except Conflict:
                    pass

        threads = [threading.Thread(target=write, args=(number,)) for number in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert len(won) == 1
        assert service.get_space("space").revision == 2


# HTTP


@pytest.fixture
def http(home: Path) -> Iterator[Http]:
    with served(home) as http:
        yield http


BODY = {"classifier": queries(1).classifier.tolist(), "verifier": queries(1).verifier.tolist()}
PATH = "/v1/spaces/space"


def test_if_match_on_reads_and_writes(http: Http) -> None:
    tag = http.ask("POST", f"{PATH}/score", json=BODY).headers["etag"]
    assert tag == '"1"'
    now, before = {"if-match": tag}, {"if-match": '"0"'}
    requests: list[tuple[str, str, dict[str, Any]]] = [
        ("POST", f"{PATH}/score", {"json": BODY}),
        ("POST", f"{PATH}/search", {"json": BODY}),
        ("GET", f"{PATH}/labels", {}),
        (
            "POST",
            f"{PATH}/labels",
            {"json": {"labels": [{"name": "new", "text_vector": [1.0] * 32}]}},
        ),
        ("PATCH", f"{PATH}/labels/label 0003", {"json": {"new_name": "other"}}),
        ("DELETE", f"{PATH}/labels/label 0004", {}),
        ("POST", f"{PATH}/calibrate", {"json": BODY | {"truth": ["label 0005"]}}),
    ]
    for method, path, options in requests:
        for more in ({}, {"idempotency-key": f"{method} {path}"}):
            answer = http(method, path, status=409, headers=before | more, **options)
            assert "expects revision 0, the space is at revision 1" in answer["error"]["message"]
    for method, path, options in requests[:3]:
        http(method, path, headers=now, **options)
        http(method, path, headers={"if-match": "*"}, **options)
    changed = http.ask("DELETE", f"{PATH}/labels/label 0004", headers=now)
    assert changed.headers["etag"] == '"2"'
    http("POST", f"{PATH}/score", status=409, headers=now, json=BODY)


def test_a_repeated_request_gets_its_first_answer(http: Http) -> None:
    """Its own change moved the revision on: that is no conflict."""
    headers = {"if-match": '"1"', "idempotency-key": "once"}
    first = http.ask("DELETE", f"{PATH}/labels/label 0004", headers=headers)
    assert first.headers["etag"] == '"2"'
    again = http.ask("DELETE", f"{PATH}/labels/label 0004", headers=headers)
    assert (again.content, again.headers["idempotent-replayed"]) == (first.content, "true")


@pytest.mark.parametrize("value", ["abc", '"1", "2"', 'W/"1"', '"-1"', "", '"1', "9" * 30])
def test_what_is_no_revision_is_422(http: Http, value: str) -> None:
    for method, path, options in (
        ("POST", f"{PATH}/score", {"json": BODY}),
        ("DELETE", f"{PATH}/labels/label 0004", {}),
    ):
        answer = http(method, path, status=422, headers={"if-match": value}, **options)
        assert "If-Match: expected one revision" in answer["error"]["message"]


def test_addresses_without_a_space_have_no_revision(http: Http) -> None:
    message = http("GET", "/v1/rules", status=422, headers={"if-match": '"1"'})["error"]["message"]
    assert message.startswith("If-Match: only requests about a space")
