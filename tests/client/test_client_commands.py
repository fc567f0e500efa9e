"""Commands in what a client says name the service, those of a home the home; what a service cannot
do runs on its own home."""

from __future__ import annotations

import pickle
from pathlib import Path

import pytest
from served_client import application, client_of
from worlds import World, make_space

import trustvlm
from trustvlm.client.transport import error_of
from trustvlm.types.messages.commands import at, command

URL = "--url http://"


def test_errors_and_verdicts_say_where_their_commands_run(tmp_path: Path, world: World) -> None:
    home = tmp_path / "home"
    with trustvlm.open(home, create=True) as service:
        make_space(service)
        service.register("s", world.inputs(2))
        service.remove_label("s", world.names[0])
        verdicts = service.score("s", world.queries(1), rule="trustvlm")
        for some in (verdicts, verdicts[:2], pickle.loads(pickle.dumps(verdicts))):
            assert f"'trustvlm --home {home} calibrate SPACE FOLDER'" in repr(some)
    with application(home) as app, client_of(app) as client:
        place = client.place
        assert place.startswith(URL)
        verdicts = client.score("s", world.queries(1), rule="trustvlm")
        assert f"'trustvlm {place} calibrate SPACE FOLDER'" in repr(verdicts)
        with pytest.raises(trustvlm.NotFound, match=f"'trustvlm {place} label list s'"):
            client.list_supports("s", "nothing")
    named = trustvlm.Client("http://user:secret@host:1")
    assert named.place == '--url "http://…@host:1"'


def test_commands_that_no_service_takes() -> None:
    with at("--url http://x"):
        assert command("score", "s") == "trustvlm --url http://x score s"
        assert command("db upgrade") == "trustvlm --home HOME db upgrade"
        said = str(error_of("Conflict", "run 'trustvlm key create' or 'trustvlm label list s'"))
    assert said == (
        "run 'trustvlm --home HOME key create' or 'trustvlm --url http://x label list s'"
    )
