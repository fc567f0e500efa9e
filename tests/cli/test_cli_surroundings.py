"""The command line where little is to be had: no home directory, no name of the user, no stdout."""

from __future__ import annotations

import os
import pwd
import subprocess
from pathlib import Path
from typing import NoReturn

import pytest
from cli_runner import COMMAND, Cli, save_labels, without_home_variables
from click.testing import CliRunner
from forked import run_code

import trustvlm
from trustvlm.cli import main
from trustvlm.errors import InvalidInput


@pytest.fixture
def nameless_user(monkeypatch: pytest.MonkeyPatch) -> None:
    """A user with a number and nothing else, as in a container."""

    def unknown(_: object) -> NoReturn:
        raise KeyError

    monkeypatch.setattr(pwd, "getpwuid", unknown)
    for name in ("HOME", "XDG_DATA_HOME", "TRUSTVLM_HOME", "LOGNAME", "USER", "LNAME", "USERNAME"):
        monkeypatch.delenv(name, raising=False)


@pytest.mark.usefixtures("nameless_user")
def test_a_user_without_a_home_directory_names_the_home(cli: Cli, tmp_path: Path) -> None:
    cli("space", "create", "s", "--classifier", "precomputed:4", "--verifier", "precomputed:6")
    cli("register", "s", "--vectors", save_labels(tmp_path / "labels.npz"))
    assert cli.rows("space", "history", "s")[0]["author"] == f"uid {os.geteuid()}"
    refused = CliRunner().invoke(main, ["space", "list"])
    assert refused.exit_code == 2
    assert "set HOME, or name the home without '~'" in refused.stderr
    sent = CliRunner().invoke(main, ["--url", "http://127.0.0.1:9", "space", "list"])
    assert sent.exit_code == 5, sent.output


@pytest.mark.parametrize("command", ["space list", "restore backup.zip --to ~no-such-user/home"])
def test_a_home_of_a_user_that_is_not_there(command: str) -> None:
    arguments = ["--home", "~no-such-user/home", *command.split()]
    refused = CliRunner().invoke(main, arguments)
    assert refused.exit_code == 2, refused.output
    assert "knows no home directory for '~no-such-user'" in refused.stderr
    with pytest.raises(InvalidInput, match="knows no home directory for '~no-such-user'"):
        trustvlm.open("~no-such-user/home")


@pytest.mark.parametrize("closed", [">&-", "<&- >&- 2>&-"])
def test_closed_streams(tmp_path: Path, closed: str) -> None:
    """Nothing is printed where nothing can be, and the command works."""
    home = str(tmp_path / "home")
    command = [*COMMAND, "--home", home, "space", "create", "s", "--classifier", "precomputed:4"]
    done = subprocess.run(
        ["sh", "-c", f'exec "$@" {closed}', "sh", *command],
        env=without_home_variables(),
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0
    assert done.stderr == ""
    with trustvlm.open(home) as service:
        assert [space.name for space in service.list_spaces()] == ["s"]
        assert not service.verify().damage


def test_modules_of_the_package_are_there_without_an_import() -> None:
    done = run_code("import trustvlm; print(trustvlm.bulk.score, trustvlm.testing.AsgiTransport)")
    assert done.returncode == 0, done.stderr
