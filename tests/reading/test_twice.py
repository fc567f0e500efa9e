"""Removing what is removed and restoring what is not: nothing changes, and every door says so in
the same words."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from cli_runner import Cli
from http_service import Http, served
from served_client import application, client_of
from worlds import World, make_space

import trustvlm
from trustvlm.errors import Conflict, NotFound
from trustvlm.service.server.server_home import ServerHome


@pytest.fixture
def home(tmp_path: Path, world: World) -> Path:
    with trustvlm.open(tmp_path / "home", create=True) as service:
        make_space(service)
        service.register("s", world.inputs(2))
    return tmp_path / "home"


@pytest.fixture(params=["library", "client"])
def verbs(request: pytest.FixtureRequest, home: Path) -> Iterator[Any]:
    if request.param == "library":
        with trustvlm.open(home) as service:
            yield service
    else:
        with application(home) as app, client_of(app) as client:
            yield client


def revision(verbs: Any) -> int:
    return int(verbs.get_space("s").revision)


def refused(kind: type[Exception], call: Callable[[], Any]) -> str:
    with pytest.raises(kind) as caught:
        call()
    return str(caught.value)


def test_support_images(verbs: Any) -> None:
    first, second = (row.id for row in verbs.list_supports("s", "beach"))
    verbs.remove_support("s", [first, first])
    before = revision(verbs)
    said = refused(NotFound, lambda: verbs.remove_support("s", [first]))
    assert f"no support image {first} in space 's': removed already" in said
    assert "support restore" in said
    refused(NotFound, lambda: verbs.remove_support("s", [second, first]))  # all of them or none
    assert "no support image with this id in space 's': 99" in refused(
        NotFound, lambda: verbs.remove_support("s", [99])
    )
    said = refused(NotFound, lambda: verbs.restore_support("s", [first, second]))
    assert f"no removed support image: {second} is not removed" in said
    assert "it never existed" in refused(NotFound, lambda: verbs.restore_support("s", [99]))
    assert revision(verbs) == before
    verbs.restore_support("s", [first])
    verbs.remove_label("s", "beach")
    assert "label restore" in refused(NotFound, lambda: verbs.remove_support("s", [first]))
    assert "label restore" in refused(NotFound, lambda: verbs.restore_support("s", [first]))
    assert verbs.remove_support("s", []) == revision(verbs)


def test_labels(verbs: Any) -> None:
    assert "is not removed" in refused(Conflict, lambda: verbs.restore_label("s", "beach"))
    verbs.remove_label("s", "beach")
    before = revision(verbs)
    for call in (
        lambda: verbs.remove_label("s", "beach"),
        lambda: verbs.remove_label("s", "beach", purge=True),
        lambda: verbs.update_label("s", "beach", new_name="sea"),
        lambda: verbs.list_supports("s", "beach"),
    ):
        said = refused(NotFound, call)
        assert "no label 'beach' in space 's': it is removed" in said
        assert "label restore" in said
    assert "removed" not in refused(NotFound, lambda: verbs.remove_label("s", "lake"))
    assert "it never existed" in refused(NotFound, lambda: verbs.restore_label("s", "lake"))
    assert revision(verbs) == before
    verbs.restore_label("s", "beach")
    assert "is not removed" in refused(Conflict, lambda: verbs.restore_label("s", "beach"))
    verbs.remove_label("s", "beach", purge=True)
    assert "it is removed" not in refused(NotFound, lambda: verbs.remove_label("s", "beach"))
    assert "is not an alias" in refused(Conflict, lambda: verbs.unalias("s", "forest"))


def test_spaces(verbs: Any) -> None:
    assert "is not removed" in refused(Conflict, lambda: verbs.restore_space("s"))
    verbs.remove_space("s")
    for call in (
        lambda: verbs.remove_space("s"),
        lambda: verbs.get_space("s"),
        lambda: list(verbs.list_labels("s")),
    ):
        said = refused(NotFound, call)
        assert "no space 's' (there is no space yet: run 'trustvlm" in said
        assert "space create NAME'); it is removed" in said
    assert "removed" not in refused(NotFound, lambda: verbs.remove_space("t"))
    verbs.restore_space("s")
    assert "is not removed" in refused(Conflict, lambda: verbs.restore_space("s"))


def test_calibrations(verbs: Any, world: World) -> None:
    truth = [name for name in world.names for _ in range(20)]
    made = verbs.calibrate("s", world.queries(20), truth, rule="msp", max_risk=0.5)
    verbs.remove_calibration("s", made.id)
    said = refused(NotFound, lambda: verbs.remove_calibration("s", made.id))
    assert (
        f"no calibration {made.id} of space 's': it never existed, or it is removed already" in said
    )


def test_keys(home: Path) -> None:
    cli = Cli(home)
    with trustvlm.open(home) as service:
        server = ServerHome(service)
        row, _ = server.create_key("read")
        assert server.revoke_key(row.id) is True
        ended = server.list_keys()[0].revoked_at
        assert server.revoke_key(row.id) is False
        assert server.list_keys()[0].revoked_at == ended
        other, _ = server.create_key("read")
    assert cli("key", "revoke", other.id) == f"revoked key {other.id}\n"
    assert cli("key", "revoke", other.id) == f"key {other.id} was revoked before; nothing changed\n"
    assert "no key" in cli("key", "revoke", "none", code=3)


def test_the_command_line(home: Path) -> None:
    cli = Cli(home)
    first = cli.rows("support", "list", "s", "beach")[0]["id"]
    cli("support", "remove", "s", first)
    assert "removed already" in cli("support", "remove", "s", first, code=3)
    cli("support", "restore", "s", first)
    assert "is not removed" in cli("support", "restore", "s", first, code=3)
    cli("label", "remove", "s", "beach")
    assert "it is removed" in cli("label", "remove", "s", "beach", "--purge", code=3)
    cli("label", "restore", "s", "beach")
    assert "is not removed" in cli("label", "restore", "s", "beach", code=4)
    cli("space", "remove", "s", "--yes")
    assert "it is removed" in cli("space", "remove", "s", "--yes", code=3)


def test_a_job_that_has_ended_is_not_being_cancelled(home: Path, world: World) -> None:
    with served(home) as http:
        body = {"classifier": [world.text[0].tolist()], "truth": ["airport"], "rules": ["msp"]}
        ended = http.job(http("POST", "/v1/spaces/s/evaluate", json=body, status=202))
        assert _cancelled(http, ended["id"]) == ended


def _cancelled(http: Http, job: str) -> Any:
    return http("POST", f"/v1/jobs/{job}/cancel")
