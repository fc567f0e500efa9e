"""Calls that are repeated after the service died: the change and its answer are both there, or
neither."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
from http_service import served
from server_process import ready, server
from test_http_processes import prepared

import trustvlm
from trustvlm.errors import Unavailable
from trustvlm.service.server.server_home import ServerHome

pytestmark = pytest.mark.both_back_ends


def meanwhile_first(service: trustvlm.TrustService) -> None:
    service.register("s", [trustvlm.LabelInput("first", text_vector=-np.ones(8))])


def meanwhile_space(service: trustvlm.TrustService) -> None:
    service.create_space("s", classifier="precomputed:4")


def nothing(service: trustvlm.TrustService) -> None:
    """Nobody does anything meanwhile: the repeated call itself would fail, or be done twice."""


Meanwhile = Callable[[trustvlm.TrustService], None]
CALLS: dict[str, tuple[str, str, dict[str, Any], Meanwhile, Any]] = {
    "label.remove": ("DELETE", "/v1/spaces/s/labels/first", {}, meanwhile_first, {"revision": 2}),
    "space.remove": ("DELETE", "/v1/spaces/s", {}, meanwhile_space, {"removed": "s"}),
    "label.update": (
        "PATCH",
        "/v1/spaces/s/labels/first",
        {"json": {"new_name": "x"}},
        nothing,
        {"revision": 2},
    ),
    "support.remove": ("DELETE", "/v1/spaces/s/supports/1", {}, nothing, {"revision": 2}),
    "space.create": (
        "POST",
        "/v1/spaces",
        {"json": {"name": "u", "classifier": "precomputed:2"}},
        nothing,
        None,
    ),
}


@pytest.mark.parametrize(
    "what",
    [
        "label.remove",
        *(pytest.param(what, marks=pytest.mark.slow) for what in CALLS if what != "label.remove"),
    ],
)
def test_a_call_whose_answer_was_lost_is_answered_and_not_done_again(
    tmp_path: Path, what: str
) -> None:
    """SIGKILL right after the commit. Somebody uses the name that became free; the repeated call
    leaves that alone."""
    method, path, body, meanwhile, expected = CALLS[what]
    home, key = tmp_path / "home", {"idempotency-key": "one call"}
    prepared(home)
    with server(home, fault=f"{what}.committed:1:kill") as (process, address):
        ready(address)
        with pytest.raises(httpx.TransportError):
            httpx.request(method, address + path, headers=key, **body, timeout=60)
        assert process.wait(30) == -9
    with trustvlm.open(home) as service:
        meanwhile(service)
        before = [
            (space.name, space.revision, space.label_count) for space in service.list_spaces()
        ]
    with served(home) as http:
        answer = http.ask(method, path, status=None, headers=key, **body)
        assert answer.headers["idempotent-replayed"] == "true"
        assert answer.status_code == (201 if what == "space.create" else 200)
        assert expected in (None, answer.json())
        assert [
            (space.name, space.revision, space.label_count) for space in http.service.list_spaces()
        ] == before


def test_a_call_that_fails_while_it_commits_has_changed_nothing(tmp_path: Path) -> None:
    """Its change, its answer and the count that it made are undone together, and the call can be
    made again."""
    home = tmp_path / "home"
    prepared(home)
    with trustvlm.open(home) as service:
        server = ServerHome(service)
        worker = server.worker()
        assert server.begin_call("me", "key", b"request", worker) is None

        def work() -> bytes:
            service.remove_label("s", "first")
            assert service.get_space("s").label_count == 0  # within the transaction
            raise Unavailable("the disk is full")

        with suppress(Unavailable):
            server.do_call("me", "key", 200, work)
        assert (service.get_space("s").label_count, service.get_space("s").revision) == (1, 1)
        server.drop_call("me", "key")
        assert server.begin_call("me", "key", b"request", worker) is None
        revision = server.do_call(
            "me", "key", 200, lambda: b"%d" % service.remove_label("s", "first")
        )
        assert revision == b"2"
        found = server.begin_call("me", "key", b"request", worker)
        assert found is not None
        assert (found.status, found.body) == (200, b"2")
        service.register("s", [trustvlm.LabelInput("later", text_vector=np.ones(8))])
        worker.close()


def test_a_registration_whose_answer_cannot_be_stored_is_answered(tmp_path: Path) -> None:
    """The disk is full when the answer is stored, after the labels were: 503 would say that nothing
    was done. The same request is then done again, and finds the labels."""
    home = tmp_path / "home"
    prepared(home)
    body = {"labels": [{"name": "second", "text_vector": [1.0] * 8}]}
    third = "call.written:3:enospc"  # after the sweep at the start and the claim
    with server(home, fault=third) as (_, address):
        ready(address)

        def register() -> httpx.Response:
            headers = {"idempotency-key": "one call"}
            path = f"{address}/v1/spaces/s/labels"
            return httpx.post(path, headers=headers, json=body, timeout=60)

        first, again, last = register(), register(), register()
    assert (first.status_code, first.json()["added_labels"]) == (200, 1)
    assert (again.status_code, again.json()["added_labels"]) == (200, 0)
    assert last.headers["idempotent-replayed"] == "true"
    assert "its answer for repeated calls is not" in home.with_suffix(".log").read_text()
