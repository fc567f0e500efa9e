"""Commands in what a client says name the service, those of a home the home; what a service cannot
do runs on its own home."""

from __future__ import annotations

import pickle
import re
from pathlib import Path

import numpy as np
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


def test_advice_in_answers_says_where_it_runs(tmp_path: Path, world: World) -> None:
    home = tmp_path / "home"
    queries, truth = world.queries(20), np.repeat(world.names, 20)
    with trustvlm.open(home, create=True) as service:
        make_space(service)
        service.register("s", world.inputs(4)[:5])
        truth = [name if name in world.names[:5] else None for name in truth]
        service.calibrate("s", queries, truth, max_risk=0.5, confidence=0.5)
        service.register("s", world.inputs(4)[5:])
        assert advised(service, queries, world.names) == [f"--home {home}"] * 4
    with application(home) as app, client_of(app) as client:
        assert advised(client, queries, world.names) == [client.place] * 4


def advised(
    door: trustvlm.TrustService | trustvlm.Client, queries: trustvlm.Queries, names: list[str]
) -> list[str]:
    """The options of the commands that a stale calibration, its monitor, the traffic and a label's
    errors advise."""
    report = door.monitor("s")
    assert report.traffic is not None
    wrong = np.repeat(names[::-1], 20).tolist()
    sentences = [
        str(door.score("s", queries).reason[0]),
        report.message,
        report.traffic.message,
        f"'{door.evaluate('s', queries, wrong, draws=0).label_advice[0].command}'",
    ]
    places = [re.findall(r"'trustvlm (--\w+ \S+) [a-z]+", one) for one in sentences]
    assert all(len(one) == 1 for one in places), sentences
    return [one[0] for one in places]


def test_commands_that_no_service_takes() -> None:
    with at("--url http://x"):
        assert command("score", "s") == "trustvlm --url http://x score s"
        assert command("db upgrade") == "trustvlm --home HOME db upgrade"
        said = str(error_of("Conflict", "run 'trustvlm key create' or 'trustvlm label list s'"))
    assert said == (
        "run 'trustvlm --home HOME key create' or 'trustvlm --url http://x label list s'"
    )
