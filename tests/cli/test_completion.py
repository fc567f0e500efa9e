"""Completion by real shells: their own line editors, the script that the command prints, a home."""

from __future__ import annotations

import os
import pty
import re
import select
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import postgres
import pytest
from cli_runner import COMMAND, Cli

import trustvlm
from trustvlm.cli import main

SPACES = ("digits", "döner & co", "my flowers")
PATIENCE_S = 30


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A home with three spaces, and one that was removed."""
    home = tmp_path_factory.mktemp("completion") / "home"
    with trustvlm.open(home, create=True) as service:
        for name in (*SPACES, "discarded"):
            service.create_space(name, classifier="precomputed:4")
        service.remove_space("discarded")
    return home


def environment(**more: str) -> dict[str, str]:
    """Nothing of the user's own, and the command on the PATH."""
    scripts = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    kept = {name: os.environ[name] for name in ("PYTHONPATH",) if name in os.environ}
    return kept | {"PATH": scripts, "LC_ALL": "C.UTF-8", "TERM": "dumb"} | more


def script(shell: str) -> str:
    return Cli(Path("unused"))("completion", shell)


class Typist:
    """Types into a Bash and reads what it shows."""

    def __init__(self, terminal: int) -> None:
        self.terminal = terminal

    def types(self, text: str, *, until: str) -> str:
        """What is shown after `text` was typed, up to a part that matches `until`."""
        os.write(self.terminal, text.encode())
        seen, deadline = b"", time.monotonic() + PATIENCE_S
        while time.monotonic() < deadline:
            if select.select([self.terminal], [], [], 0.2)[0]:
                seen += os.read(self.terminal, 4096)
            if re.search(until, seen.decode(errors="replace")):
                return seen.decode(errors="replace")
        raise AssertionError(f"typed {text!r}, expected {until!r}, saw {seen!r}")


@contextmanager
def bash(folder: Path, home: Path) -> Iterator[Typist]:
    """An interactive Bash that completes trustvlm and works on the home."""
    (folder / "rc").write_text(f"PS1='ready> '\nbind 'set bell-style none'\n{script('bash')}")
    ours, theirs = pty.openpty()
    process = subprocess.Popen(
        ["bash", "--noprofile", "--rcfile", str(folder / "rc"), "-i"],
        stdin=theirs,
        stdout=theirs,
        stderr=theirs,
        cwd=folder,
        env=environment(TRUSTVLM_HOME=str(home)),
        start_new_session=True,
    )
    os.close(theirs)
    try:
        typist = Typist(ours)
        typist.types("", until="ready> ")
        yield typist
    finally:
        process.kill()
        process.wait(30)
        os.close(ours)


def test_bash_completes_what_is_typed(home: Path, tmp_path: Path) -> None:
    (tmp_path / "photos").mkdir()
    with bash(tmp_path, home) as typist:
        clear = "\x15"  # Ctrl-U
        typist.types("trustvlm calib\t", until="calibrat")
        typist.types(f"{clear}trustvlm sco\t", until="score ")
        typist.types("di\t", until="digits ")
        typist.types("--ru\t", until="--rule ")
        typist.types("margi\t", until="margin ")
        typist.types("pho\t", until="photos/")
        typist.types(f"{clear}trustvlm register my\t", until=r"my\\ flowers $")
        typist.types(f"{clear}trustvlm space show dö\t", until=r"ner\\ \\&\\ co $")
        typist.types(f"{clear}trustvlm --home {tmp_path} score di\t\tX", until="X")
        both = typist.types(f"{clear}trustvlm calibrat\t\t", until="calibration")
        assert "calibrate" in both


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("trustvlm comp", ["completion"]),
        ("trustvlm score ", list(SPACES)),
        ("trustvlm calibrate digits --rule marg", ["margin"]),
        ("trustvlm --url http://127.0.0.1:1 score ", []),
    ],
)
def test_fish_completes(home: Path, line: str, expected: list[str]) -> None:
    if shutil.which("fish") is None:
        pytest.skip("fish is not here")
    done = subprocess.run(
        ["fish", "--private", "-c", f"{script('fish')}\ncomplete -C '{line}'"],
        env=environment(TRUSTVLM_HOME=str(home), HOME=str(home.parent)),
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    assert [row.split("\t")[0] for row in done.stdout.splitlines()] == expected


def test_fish_shows_descriptions_with_their_commas(home: Path) -> None:
    if shutil.which("fish") is None:
        pytest.skip("fish is not here")
    done = subprocess.run(
        ["fish", "--private", "-c", f"{script('fish')}\ncomplete -C 'trustvlm '"],
        env=environment(TRUSTVLM_HOME=str(home), HOME=str(home.parent)),
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    shown = dict(row.split("\t") for row in done.stdout.splitlines())
    expected = {
        name: one.get_short_help_str() for name, one in main.commands.items() if not one.hidden
    }
    assert "," in expected["calibrate"]
    assert shown == expected


def test_zsh_takes_the_script() -> None:
    if shutil.which("zsh") is None:
        pytest.skip("zsh is not here")
    done = subprocess.run(["zsh", "-n"], input=script("zsh"), text=True, timeout=60, check=False)
    assert done.returncode == 0


@pytest.mark.parametrize("place", ["missing", "empty", "broken"])
def test_without_a_readable_home_nothing_is_proposed(tmp_path: Path, place: str) -> None:
    folder = tmp_path / place
    if place != "missing":
        folder.mkdir()
    if place == "broken":
        (folder / "catalog.sqlite3").write_text("no database")
    before = sorted(tmp_path.rglob("*"))
    assert completed(folder) == ("", "", 0)
    assert sorted(tmp_path.rglob("*")) == before


@pytest.mark.parametrize("place", [
    "typed", "settings",
    *(pytest.param(place, marks=pytest.mark.slow) for place in ("environment", "file", "another schema")),
])  # fmt: skip
def test_spaces_of_a_catalog_elsewhere(
    place: str, home: Path, postgres_server: postgres.Server, tmp_path: Path
) -> None:
    """Of the database that the command would use, and none when it does not answer."""
    url = postgres_server.create("completion", "head")
    with trustvlm.open(tmp_path / "node", database_url=url) as service:
        service.create_space("on the server", classifier="precomputed:4")
    settings, more, words, expected = {}, {}, "trustvlm score ", "on\\\\ the\\\\ server"
    if place == "typed":
        words = f"trustvlm --database-url {url} score "
    elif place == "settings":
        settings = {"database_url": url}
    elif place == "file":
        settings = {"database_url": f"sqlite:///{home / 'catalog.sqlite3'}"}
        words, expected = "trustvlm score di", "digits"
    else:
        more = {"TRUSTVLM_DATABASE_URL": url}
    if place == "another schema":
        more |= {"TRUSTVLM_DATABASE_SCHEMA": "nothing_here"}
        expected = ""
    lines = "".join(f'{name} = "{value}"\n' for name, value in settings.items())
    (tmp_path / "node" / "trustvlm.toml").write_text(lines)
    assert completed(tmp_path / "node", words, **more) == (expected and f"plain,{expected}", "", 0)
    postgres_server.drop("completion")


def completed(home: Path, line: str = "trustvlm score ", **more: str) -> tuple[str, str, int]:
    """What Bash is answered for a line, by default `trustvlm score `."""
    words = {"COMP_WORDS": line, "COMP_CWORD": str(len(line.split(" ")) - 1)}
    done = subprocess.run(
        COMMAND,
        env=environment(
            TRUSTVLM_HOME=str(home), _TRUSTVLM_COMPLETE="bash_complete", **words, **more
        ),
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    return done.stdout.strip(), done.stderr, done.returncode


def test_a_press_of_tab_imports_little(home: Path) -> None:
    words = {"COMP_WORDS": "trustvlm score di", "COMP_CWORD": "2"}
    done = subprocess.run(
        [sys.executable, "-X", "importtime", *COMMAND[1:]],
        env=environment(TRUSTVLM_HOME=str(home), _TRUSTVLM_COMPLETE="bash_complete", **words),
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    assert done.stdout.strip() == "plain,digits"
    imported = {line.rpartition("|")[2].strip() for line in done.stderr.splitlines()}
    assert "sqlite3" in imported
    assert not imported & {"numpy", "pydantic", "rich", "sqlalchemy", "torch"}
