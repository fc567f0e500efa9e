"""README is true: its commands run as printed, in order, and print what stands there (numbers
aside)."""

from __future__ import annotations

import json
import os
import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import click
import httpx
import pytest
from served_client import application, listening
from server_process import ready, server
from test_http_routes import picture

from trustvlm.cli import main

ROOT = Path(__file__).resolve().parents[2]
SERVICE = "http://127.0.0.1:8000"
README = (ROOT / "README.md").read_text(encoding="utf-8")


def blocks(language: str, text: str = README) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```$", text, re.DOTALL | re.MULTILINE)


def transcript() -> list[tuple[str, str]]:
    """(command, printed output) of every console block, in order."""
    found = []
    for block in blocks("console"):
        for part in re.split(r"^\$ ", block, flags=re.MULTILINE)[1:]:
            command, _, output = part.partition("\n")
            found.append((command, output.strip()))
    return found


def words(text: str) -> list[str]:
    """What a text says without its numbers and its layout: machines differ in digits and speed."""
    return re.sub(r"[-−]?\d+(\.\d+)?", "#", text).split()


@contextmanager
def serving(code: str, home: Path) -> Iterator[str]:
    """The code, with a service that listens where it asks for one."""
    if SERVICE not in code:
        yield code
        return
    with application(home) as app, listening(app) as port:
        yield code.replace(SERVICE, f"http://127.0.0.1:{port}")


def test_there_is_something_to_check() -> None:
    assert len(transcript()) >= 8
    assert "make demo" in README
    assert "make test" in README


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where a reader types what README says, from its beginning to its end."""
    return tmp_path_factory.mktemp("reader")


def test_console_blocks_print_what_they_say(folder: Path) -> None:
    # No network, whatever the machine has; one terminal width; the commands of this installation.
    environment = os.environ | {
        "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
        "MODELS": str(ROOT / "trustvlm" / "demo" / "models"),
        "HF_HOME": str(folder / "hub"),
        "COLUMNS": "160",
    }
    for command, expected in transcript():
        # shell=True: they are shell commands, and they are ours
        done = subprocess.run(
            command,
            shell=True,
            cwd=folder,
            env=environment,
            text=True,
            timeout=240,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            check=False,
        )
        printed = done.stdout.replace(str(ROOT), "/path/to")
        assert words(printed) == words(expected), f"$ {command}\n{done.stdout}"


def test_the_lines_of_the_service_are_answered(folder: Path) -> None:
    """On the home that the console blocks made."""
    if shutil.which("curl") is None:
        pytest.skip("curl is not here")
    section = README[README.index("## As a service") : README.index("## A million labels")]
    first, *lines = (
        shlex.split(line, comments=True) for line in blocks("sh", section)[0].splitlines()
    )
    assert first == ["trustvlm", "--home", "demo-home", "serve"]
    assert len(lines) == 4
    (folder / "photo.png").write_bytes(picture(1))
    with server(folder / "demo-home") as (_, address):
        ready(address)
        for words in lines:
            command = [word.replace("localhost:8000", address) for word in words]
            done = subprocess.run(
                [*command, "--silent", "--fail-with-body"],
                cwd=folder,
                capture_output=True,
                check=False,
            )
            assert done.returncode == 0, (words, done.stdout)
            assert {"revision", "labels"} & set(json.loads(done.stdout))
        assert httpx.get(f"{address}/v1/spaces/digits/labels/kite").json()["support_count"] == 1


@pytest.mark.parametrize("code", blocks("python"))
def test_python_blocks_run(tmp_path: Path, code: str) -> None:
    with serving(code, tmp_path / "served") as told:
        command = [sys.executable, "-c", told]
        done = subprocess.run(
            command, cwd=tmp_path, capture_output=True, text=True, timeout=120, check=False
        )
    assert done.returncode == 0, done.stderr
    expected = re.search(
        r"```python\n" + re.escape(code) + r"```\n+```text\n(.*?)```", README, re.DOTALL
    )
    assert expected, "a Python block is followed by what it prints"
    assert words(done.stdout) == words(expected[1])


def test_every_command_is_named() -> None:
    assert isinstance(main, click.Group)
    context = click.Context(main)
    for name in main.list_commands(context):
        assert f"`{name}`" in README, f"README does not name the command {name!r}"
        command = main.get_command(context, name)
        for sub in command.list_commands(context) if isinstance(command, click.Group) else ():
            assert re.search(rf"`{name}`[^`]*\b{sub}\b", README), (
                f"README does not name {name} {sub}"
            )
