"""Commands in the messages of the library run as they are copied: they name the home that the
library was opened with, unless ``trustvlm`` alone takes it."""

from __future__ import annotations

import ast
import re
import shlex
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner
from served_client import application, client_of

import trustvlm
from trustvlm.cli import main

PACKAGE = Path(trustvlm.__file__).parent
SUGGESTED = re.compile(r"'(trustvlm [^']*)'")
LITERAL = re.compile("'trustvlm [a-z]")


def pets(count: int, seed: int) -> tuple[trustvlm.Queries, list[str]]:
    """Vectors of images of three labels, and the labels."""
    rng = np.random.default_rng(seed)
    truth = rng.integers(3, size=count)
    vectors = np.eye(4)[truth] + 0.1 * rng.normal(size=(count, 4))
    return trustvlm.Queries(vectors, vectors), [f"pet {number}" for number in truth]


def label(number: int) -> trustvlm.LabelInput:
    vector = np.eye(4)[number]
    return trustvlm.LabelInput(f"pet {number}", text_vector=vector, image_vectors=vector[None])


def filled(service: trustvlm.TrustService) -> trustvlm.TrustService:
    """A space whose name has a blank, with a removed label and a stale calibration."""
    service.create_space("my pets", classifier="precomputed:4", verifier="precomputed:4")
    service.register("my pets", [label(0), label(1), label(2)])
    service.calibrate("my pets", *pets(200, 0), max_risk=0.3)
    service.register("my pets", [label(3)])
    service.remove_label("my pets", "pet 3")
    return service


@pytest.fixture
def service(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[trustvlm.TrustService]:
    """A filled home, another home in the environment, and a directory that is neither."""
    monkeypatch.setenv("TRUSTVLM_HOME", str(tmp_path / "other"))
    monkeypatch.chdir(tmp_path)
    trustvlm.open("other", create=True).close()
    with filled(trustvlm.open("a home", create=True)) as service:
        yield service


def refused(call: Callable[[], object]) -> str:
    with pytest.raises(trustvlm.TrustVLMError) as error:
        call()
    return str(error.value)


def run(command: str) -> str:
    """What the suggested command prints; it must succeed."""
    first, *words = shlex.split(command)
    done = CliRunner().invoke(main, words, prog_name=first)
    assert done.exit_code == 0, f"{command}: {done.output}"
    return done.output


def revising(service: Any) -> None:
    with service.at_revision("no pets", 1):
        pass


MESSAGES: dict[str, Callable[[Any], str]] = {
    "label restore": lambda verbs: refused(lambda: verbs.list_supports("my pets", "pet 3")),
    "label list": lambda verbs: refused(lambda: verbs.remove_label("my pets", "zebra")),
    "recalibrate": lambda verbs: verbs.score("my pets", pets(5, 1)[0]).reason[0],
    "space log-verdicts": lambda verbs: verbs.monitor("my pets").traffic.message,
    "review list": lambda verbs: refused(lambda: verbs.review("my pets").question(99)),
    "calibration list": lambda verbs: refused(lambda: verbs.remove_calibration("my pets", 99)),
    "verify": lambda verbs: refused(lambda: verbs.verify("no pets")),
}  # fmt: skip


@pytest.mark.parametrize("verb", [*MESSAGES])
def test_a_suggested_command_works_on_the_home_of_the_message(
    service: trustvlm.TrustService, tmp_path: Path, verb: str
) -> None:
    command = SUGGESTED.findall(MESSAGES[verb](service))[0]
    words = "space list" if verb == "verify" else verb
    assert command.startswith(f'trustvlm --home "{tmp_path / "a home"}" {words}')
    run(command)


def test_generators_and_blocks_name_the_home_too(
    service: trustvlm.TrustService, tmp_path: Path
) -> None:
    rows = service.list_labels("my pets")
    service.remove_space("my pets")
    undo = f'trustvlm --home "{tmp_path / "a home"}" space restore "my pets"'
    with trustvlm.open("b", create=True):  # another home meanwhile
        assert undo in refused(lambda: next(rows))
    assert f'"{tmp_path / "a home"}"' in refused(lambda: revising(service))
    assert undo in refused(lambda: service.verdict_log("my pets").status())
    assert "restored" in run(undo)


def test_a_home_that_is_not_there_yet_is_made(service: trustvlm.TrustService) -> None:
    said = refused(lambda: trustvlm.open("new"))
    (command,) = SUGGESTED.findall(said)
    run(command.replace("NAME", "s --classifier precomputed:4"))
    with trustvlm.open("new") as made:
        assert [space.name for space in made.list_spaces()] == ["s"]


def test_the_home_that_the_command_line_takes_is_not_named(
    service: trustvlm.TrustService, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("TRUSTVLM_HOME", str(tmp_path / "a home"))
    with trustvlm.open("a home") as same:
        command = 'trustvlm label restore "my pets" "pet 3"'
        assert f"'{command}'" in MESSAGES["label restore"](same)
    assert "restored" in run(command)


def test_a_catalog_elsewhere_is_named(service: trustvlm.TrustService, tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path / 'catalog of pets'}"
    with filled(trustvlm.open("cache", create=True, database_url=url)) as elsewhere:
        (command, _) = SUGGESTED.findall(MESSAGES["label restore"](elsewhere))
        assert "--database-url" in command
        assert "restored" in run(command)
        assert elsewhere.count_labels("my pets") == 4


def test_an_open_home_and_a_client_say_where_they_are(tmp_path: Path) -> None:
    home = tmp_path / "a home"
    with trustvlm.open(home, create=True) as service:
        assert repr(service) == f"<TrustService of {home}>"
    assert repr(service) == f"<TrustService of {home} (closed)>"
    client = trustvlm.Client("http://user:secret@127.0.0.1:1")
    assert repr(client).startswith("<Client of http://")
    assert "secret" not in repr(client)


def test_the_data_of_a_notebook_is_refused_with_what_to_write(
    service: trustvlm.TrustService,
) -> None:
    queries, truth = pets(6, 1)
    numbers = [int(name[-1]) for name in truth]
    assert "[names[i] for i in numbers]" in refused(
        lambda: service.evaluate("my pets", queries, numbers)
    )
    assert "Queries(**arrays)" in refused(lambda: service.score("my pets", vars(queries)))
    assert "use it as it is" in refused(
        lambda: service.create_space("my pets", classifier="precomputed:4")
    )


def test_clients_of_a_service_read_no_path(service: trustvlm.TrustService, tmp_path: Path) -> None:
    with application(tmp_path / "a home") as app:
        client = client_of(app)
        for verb, message in MESSAGES.items():
            if verb != "verify":  # that is not for clients
                said = message(client)
                assert str(tmp_path) not in said
                assert f"'trustvlm {client.place} {verb}" in said


def test_messages_name_commands_through_one_function() -> None:
    """A command in a literal would not name the home."""
    rooms = ("service", "catalog", "reading", "encoders", "index", "scoring", "types", "selective")
    for path in (path for room in rooms for path in sorted((PACKAGE / room).rglob("*.py"))):
        text = path.read_text(encoding="utf-8")
        if not LITERAL.search(text):
            continue
        tree = ast.parse(text)
        statements = [node.value for node in ast.walk(tree) if isinstance(node, ast.Expr)]
        for node in ast.walk(tree):
            if isinstance(node, ast.Constant) and node not in statements:
                found = isinstance(node.value, str) and LITERAL.search(node.value)
                assert not found, f"{path}: {node.value!r}"
