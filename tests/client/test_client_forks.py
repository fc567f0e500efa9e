"""One client in several processes: what a fork inherits is not used, and an answer counts only for
its own request."""

from __future__ import annotations

import json
import multiprocessing
import os
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from children import run, tell_json
from fastapi import FastAPI
from numbered import create, label, queries
from served_client import application, client_of
from server_process import ready, server
from test_client_retries import GOOD, SPACE, scripted

import trustvlm
from trustvlm import Queries
from trustvlm.client import Client

CHILDREN, CALLS = 3, 12


@pytest.fixture(scope="module")
def address(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A real service with the space "space" of 40 labels."""
    home = tmp_path_factory.mktemp("forks") / "home"
    with trustvlm.open(home, create=True) as service:
        create(service)
        service.register("space", [label(number, supports=1) for number in range(40)])
    with server(home) as (_, url):
        ready(url)
        yield url


def one(number: int) -> Queries:
    """A query whose answer no other number has: the text and support image of label `number`
    themselves."""
    text, images = label(number, supports=1).text_vector, label(number, supports=1).image_vectors
    return Queries(np.asarray(text)[np.newaxis], images)


def score_own(client: Client, numbers: range, wrong: list[int]) -> None:
    for _ in range(CALLS // len(numbers) + 1):
        wrong += [
            n for n in numbers if client.score("space", one(n)).label.tolist() != [f"label {n:04d}"]
        ]


def fork_while_busy(url: str) -> None:
    """Child: fork several processes from one client that has open connections, and use it in all of
    them at once."""
    client = Client(url)
    first = client.score(
        "space", one(0)
    )  # all is imported: a thread that forks while another imports would wait for ever
    wrong: list[int] = []
    threads = [
        threading.Thread(target=score_own, args=(client, range(4 * i, 4 * i + 4), wrong))
        for i in range(2)
    ]
    for thread in threads:  # requests are under way while it forks
        thread.start()
    children = [os.fork() or work(client, i) for i in range(CHILDREN)]
    for thread in threads:
        thread.join()
    ended = [os.waitpid(child, 0)[1] for child in children]
    names = {row.name for row in client.list_labels("space")}
    client.close()
    missing = [
        number for number in range(100, 100 + CHILDREN * 5) if f"label {number:04d}" not in names
    ]
    tell_json([first.label.tolist(), wrong, ended, missing])


def work(client: Client, i: int) -> int:
    """A child's part: its exit code says what went wrong."""
    try:
        wrong: list[int] = []
        score_own(client, range(8 + 4 * i, 12 + 4 * i), wrong)
        for number in range(100 + 5 * i, 105 + 5 * i):
            if client.register("space", [label(number)]).added_labels != 1:
                wrong.append(number)
        client.close()  # which is the child's alone
    except BaseException as error:
        sys.stderr.write(f"{error!r}\n")
        os._exit(2)
    os._exit(1 if wrong else 0)


def test_parent_and_children_get_their_own_answers(address: str) -> None:
    first, wrong, ended, missing = json.loads(run(fork_while_busy, address)[-1])
    assert first == ["label 0000"]
    assert wrong == []
    assert ended == [0] * CHILDREN
    assert missing == []


def pool_of_processes(url: str) -> None:
    """Child: a client of the parent in the workers of multiprocessing, with verdicts whose evidence
    they ask for."""
    global SHARED
    with Client(url) as client:
        SHARED = client, client.score("space", queries(8))
        expected = [SHARED[1].evidence(i) for i in range(8)]
        with multiprocessing.get_context("fork").Pool(3) as pool:
            found = pool.map(label_and_evidence, range(8), chunksize=1)
    tell_json(
        [
            [name for name, _ in found] == [f"label {n:04d}" for n in range(8)],
            [e for _, e in found] == expected,
        ]
    )


SHARED: Any = None


def label_and_evidence(number: int) -> tuple[str, Any]:
    client, verdicts = SHARED
    return str(client.score("space", one(number)).label[0]), verdicts.evidence(number)


@pytest.mark.slow  # by default: test_parent_and_children_get_their_own_answers
def test_workers_of_multiprocessing_use_the_client_they_inherit(address: str) -> None:
    assert json.loads(run(pool_of_processes, address)[-1]) == [True, True]


def fork_with_transport(home: str) -> None:
    """Child: fork a client whose service is in this process."""
    with application(Path(home)) as app:
        client = client_of(app)
        list(client.list_spaces())
        child = os.fork()
        if child == 0:
            try:
                list(client.list_spaces())
            except trustvlm.Unavailable as error:
                tell_json(str(error))
            os._exit(0)
        assert os.waitpid(child, 0)[1] == 0
        assert list(client.list_spaces()) == []
        client.close()


def test_a_transport_does_not_survive_a_fork_and_says_so(tmp_path: Path) -> None:
    (said,) = map(json.loads, run(fork_with_transport, tmp_path / "home"))
    assert (
        said == "this client was made with a transport before a fork; make a new Client in the "
        "child process"
    )


# An answer and its request


@pytest.fixture
def app(tmp_path: Path) -> Iterator[FastAPI]:
    with application(tmp_path / "home") as running:
        yield running


@pytest.mark.parametrize("name", ["x-request-id", "x-call-id"])
def test_an_answer_to_another_request_is_not_used(name: str) -> None:
    other = (200, SPACE | {"name": "another"}, {name: "of-another"})
    with scripted(other, GOOD) as (client, there):
        assert client.get_space("s").name == "s"
        assert len(there.came) == 2
        assert there.came[0][1][name] != there.came[1][1][name]  # each try has its own
    with (
        scripted(other, retries=0) as (client, _),
        pytest.raises(trustvlm.Unavailable, match="belongs to another request"),
    ):
        client.get_space("s")


def test_a_write_whose_answer_went_elsewhere_is_repeated_as_the_same_write() -> None:
    with scripted(
        (200, {"revision": 9}, {"x-request-id": "of-another"}), (200, {"revision": 3}, {})
    ) as (client, there):
        assert client.remove_support("s", [1]) == 3
        first, second = (headers["idempotency-key"] for _, headers, _ in there.came)
        assert first == second


def test_a_proxy_may_change_request_ids(app: FastAPI) -> None:
    """The service sends a second header back as it came; one of the two is enough."""

    async def renamed(scope: Any, receive: Any, send: Any) -> None:
        headers = [(k, b"of-the-proxy" if k == b"x-request-id" else v) for k, v in scope["headers"]]
        await app({**scope, "headers": headers}, receive, send)

    with client_of(renamed) as client:  # type: ignore[arg-type]
        assert list(client.list_spaces()) == []


if __name__ == "__main__":
    globals()[sys.argv[1]](*sys.argv[2:])
