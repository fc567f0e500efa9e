"""The command line as a whole, and its commands on spaces, labels, indexes and the catalog's
schema."""

from __future__ import annotations

import csv
import json
import os
import re
import resource
import shutil
import signal
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path

import click
import numpy as np
import pytest
from cli_runner import COMMAND, Cli, commands, save_labels, save_queries, without_home_variables
from click.testing import CliRunner
from forked import Child

import trustvlm
from trustvlm.cli import main
from trustvlm.cli.root import Root
from trustvlm.system.files.default_home import default_home

ROOT = Path(__file__).resolve().parents[2]
HEAVY = {
    "torch",
    "faiss",
    "open_clip",
    "timm",
    "numpy",
    "sqlalchemy",
    "alembic",
    "pydantic",
    "rich",
    "PIL",
    "sklearn",
}


@pytest.fixture
def space(cli: Cli, tmp_path: Path) -> Cli:
    """A home with the space "s": two labels with two support images each, one without."""
    cli(
        "space",
        "create",
        "s",
        "--classifier",
        "precomputed:4",
        "--verifier",
        "precomputed:6",
        "--logit-scale",
        "10",
    )
    cli("register", "s", "--vectors", save_labels(tmp_path / "labels.npz"))
    return cli


# The whole tree


@pytest.mark.parametrize(
    ("path", "command"),
    list(commands()),
    ids=lambda value: " ".join(value) if isinstance(value, tuple) else "",
)
def test_every_command_and_option_is_documented(path, command):
    assert command.help, f"{path} has no help"
    assert not command.get_short_help_str(70).endswith("..."), (
        f"{path}: the first sentence is too long for the list"
    )
    for parameter in command.params:
        if parameter.param_type_name == "option":
            assert parameter.help, f"{path}: {parameter.opts} has no help"
    text = CliRunner().invoke(main, [*path, "--help"])
    assert text.exit_code == 0
    assert "Usage: " in text.output


def test_score_names_every_rule():
    text = CliRunner().invoke(main, ["score", "--help"]).output
    for rule in trustvlm.RULES:
        assert rule in text
    assert f"[default: {trustvlm.DEFAULT_RULE}]" in re.sub(r"\s+", " ", text)


def test_help_of_every_command_imports_nothing_heavy():
    code = f"""
import sys
from trustvlm.cli import main
for path in {[path for path, _ in commands()]!r}:
    main([*path, "--help"], standalone_mode=False)
    print("LOADED", path, {HEAVY!r} & set(sys.modules))
"""
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=True
    )
    loaded = [line for line in done.stdout.splitlines() if line.startswith("LOADED")]
    assert len(loaded) == len(list(commands()))
    assert all(line.endswith("set()") for line in loaded), loaded


def test_help_answers_at_once():
    def seconds() -> float:
        """Processor time, which other work on the machine does not change."""
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        subprocess.run([*COMMAND, "--help"], stdout=subprocess.DEVNULL, timeout=60, check=True)
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime

    assert any(seconds() < 0.5 for _ in range(5))


def test_version():
    assert (
        CliRunner().invoke(main, ["--version"]).output.strip()
        == f"trustvlm, version {trustvlm.__version__}"
    )


@pytest.mark.parametrize("code", [0, 3])
def test_a_command_takes_no_objects_apart_at_its_end(code):
    """What it registered to be done at the end is done, and all that was printed comes out."""
    script = f"""
import atexit, sys
from trustvlm.cli.root import main
from trustvlm.cli.__main__ import run
class Model:
    def __del__(self):
        print("taken apart")
@main.command()
def load():
    global model
    model = Model()
    model.layers = [model]
    atexit.register(print, "done at the end")
    sys.exit({code})
sys.argv = ["trustvlm", "load"]
run()
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (code, "done at the end\n"), done.stderr


# The home


def test_home_is_where_option_or_environment_or_xdg_say(tmp_path, monkeypatch):
    monkeypatch.setenv("TRUSTVLM_HOME", str(tmp_path / "by-variable"))
    arguments = ["space", "create", "s", "--classifier", "precomputed:4"]
    assert CliRunner().invoke(main, arguments).exit_code == 0
    assert (tmp_path / "by-variable" / "catalog.sqlite3").is_file()
    assert (
        CliRunner().invoke(main, ["--home", str(tmp_path / "by-option"), *arguments]).exit_code == 0
    )
    assert (tmp_path / "by-option" / "catalog.sqlite3").is_file()
    monkeypatch.delenv("TRUSTVLM_HOME")
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "data"))
    assert CliRunner().invoke(main, arguments).exit_code == 0
    assert (tmp_path / "data" / "trustvlm" / "catalog.sqlite3").is_file()
    monkeypatch.setenv("XDG_DATA_HOME", "relative")
    monkeypatch.setenv("HOME", "/home/somebody")
    assert default_home() == Path("/home/somebody/.local/share/trustvlm")


@pytest.mark.parametrize(
    "arguments",
    [
        ("space", "list"),
        ("space", "show", "s"),
        ("label", "list", "s"),
        ("register", "s", "--label", "x"),
        ("score", "s", "--vectors", "x.npz"),
        ("search", "s", "--vector", "x.npy"),
        ("index", "stats", "s"),
        ("purge",),
    ],
    ids=" ".join,
)
def test_missing_home_names_the_command_that_makes_one(cli, arguments):
    assert f"trustvlm --home {cli.home} space create" in cli(*arguments, code=3)
    assert not cli.home.exists()


def without_override() -> list[str]:
    """What to put before a command so that permissions count for it, root or not."""
    if os.geteuid():
        return []
    if not shutil.which("setpriv"):
        pytest.skip("root ignores permissions, and there is no setpriv")
    return [
        "setpriv",
        "--bounding-set=-dac_override,-dac_read_search",
        "--inh-caps=-dac_override,-dac_read_search",
    ]


@pytest.mark.slow  # by default: tests/catalog/test_catalog.py
def test_read_only_home_can_be_read_and_says_so_when_written(space, tmp_path):
    queries = save_queries(tmp_path / "queries.npz")
    before = without_override()
    for path in (space.home, *space.home.rglob("*")):
        path.chmod(0o555 if path.is_dir() else 0o444)
    try:

        def run(*arguments: object) -> subprocess.CompletedProcess[str]:
            command = [*before, *COMMAND, "--home", str(space.home), *map(str, arguments)]
            return subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)

        found = run("score", "s", "--vectors", queries, "--format", "csv")
        assert found.returncode == 0, found.stderr
        row = next(csv.DictReader(found.stdout.splitlines()))
        assert (row["source"], row["decision"], row["label"]) == ("one.jpg", "review", "airport")
        refused = run("label", "remove", "s", "beach")
        assert refused.returncode == 5
        assert refused.stderr == f"Error: {space.home} cannot be written; make it writable\n"
    finally:
        for path in (space.home, *space.home.rglob("*")):
            path.chmod(0o755 if path.is_dir() else 0o644)


def test_home_that_cannot_be_made_is_unavailable():
    assert "cannot be made" in Cli(Path("/proc/none/home"))(
        "space", "create", "s", "--classifier", "precomputed:4", code=5
    )


# What errors become


def test_unexpected_errors_are_one_line_and_a_traceback_only_when_asked():
    @click.command()
    def divide() -> None:
        1 / 0  # noqa: B018

    root = Root("root", params=[click.Option(["-v", "--verbose"], count=True)], commands=[divide])
    short, long = (CliRunner().invoke(root, [*verbose, "divide"]) for verbose in ([], ["-v"]))
    assert short.exit_code == long.exit_code == 1
    assert short.stderr == (
        "Error: unexpected ZeroDivisionError: division by zero (--verbose shows where; please "
        "report it)\n"
    )
    assert isinstance(long.exception, ZeroDivisionError)


@pytest.mark.parametrize(
    ("arguments", "stream", "unbuffered"),
    [
        ("--help", "stdout", ""),
        pytest.param("label list s --format csv", "stdout", "1", marks=pytest.mark.slow),
        pytest.param("-v label list s", "stdout", "", marks=pytest.mark.slow),
        pytest.param("label list none", "stderr", "1", marks=pytest.mark.slow),
    ],
)
@pytest.mark.skipif(not Path("/dev/full").exists(), reason="Linux only")
def test_an_output_that_cannot_be_written_is_said(space, arguments, stream, unbuffered):
    with Path("/dev/full").open("w") as full:
        streams = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE} | {stream: full}
        ended = subprocess.run(
            [*COMMAND, "--home", str(space.home), *arguments.split()], text=True, timeout=120,
            check=False, env=os.environ | {"PYTHONUNBUFFERED": unbuffered}, **streams,
        )  # fmt: skip
    if stream == "stdout":
        assert ended.stderr == (
            "Error: the standard output cannot be written: No space left on device; make room, or "
            "send it elsewhere\n"
        )
    assert ended.returncode == 5


def test_interrupt_ends_with_130(space, tmp_path):
    fifo = tmp_path / "names"
    os.mkfifo(fifo)
    command = [*COMMAND[1:], "--home", str(space.home), "register", "s", "--labels", str(fifo)]
    child = Child(command, os.environ, stderr=None)
    try:
        with fifo.open("w"):  # returns when the command opens it
            for _ in range(
                10
            ):  # a signal on the way into a system call wakes nobody: then one presses again
                time.sleep(0.2)
                child.send_signal(signal.SIGINT)
                with suppress(subprocess.TimeoutExpired):
                    child.wait(20)
                    break
    finally:
        child.kill()  # nothing, if it has ended
        _, said = child.communicate()
    assert child.returncode == 130
    assert said == "Error: interrupted; what was committed stays\n"


def test_a_reader_that_has_seen_enough_is_no_error(space, tmp_path):
    names = tmp_path / "names.npz"
    count = 5_000
    save_labels(
        names, label_names=np.array([f"label {i}" for i in range(count)]),
        text_vectors=np.ones((count, 4)), image_vectors=None,
        image_labels=None,
    )  # fmt: skip
    space("register", "s", "--vectors", names)
    command = [*COMMAND[1:], "--home", str(space.home), "label", "list", "s", "--format", "jsonl"]
    errors = tmp_path / "errors"
    with errors.open("w") as file, Child(command, os.environ, file.fileno()) as child:
        assert json.loads(child.stdout.readline())["name"] == "airport"
        child.stdout.close()
        child.wait(60)
    assert errors.read_text() == ""


def test_usage_errors_end_with_2(space):
    for arguments in [
        ("nothing",),
        ("space",),
        ("score", "s"),
        ("search", "s", "--k", "x"),
        ("--precision", "fp8", "space", "list"),
    ]:
        assert "Usage: trustvlm" in space(*arguments, code=2)
    assert "not valid UTF-8" in space("space", "show", os.fsdecode(b"\xff"), code=2)


def test_settings_that_cannot_be_right(space):
    assert "device" in space(
        "--device", "abacus", "space", "create", "t", "--classifier", "precomputed:4", code=2
    )


def test_messages_stay_on_one_line_and_hold_no_terminal_codes(space):
    said = space("space", "show", "\x1b[31mred\nline", code=3)
    assert "\x1b" not in said
    assert said.startswith("Error: no space")
    assert said.count("\n") == 1


def test_environment_of_other_settings_is_checked(space, monkeypatch):
    monkeypatch.setenv("TRUSTVLM_BATCH_SIZE", "0")
    assert "batch_size" in space("space", "list", code=2)


def test_help_needs_no_home_directory():
    alone = without_home_variables() | {"HOME": "/nonexistent"}
    done = subprocess.run(
        [*COMMAND, "--help"], env=alone, capture_output=True, text=True, timeout=60, check=True
    )
    assert "~/.local/share/trustvlm" in done.stdout
