"""The command line as a whole, and its commands on spaces, labels, indexes and the catalog's schema."""

from __future__ import annotations

import csv
import io
import json
import os
import re
import shutil
import signal
import sqlite3
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from cli_runner import COMMAND, Cli, commands, save_labels, save_queries, without_home_variables
from click.testing import CliRunner

import trustvlm
from trustvlm.cli import main
from trustvlm.cli.session import default_home

ROOT = Path(__file__).resolve().parents[1]
HEAVY = {"torch", "faiss", "open_clip", "timm", "numpy", "sqlalchemy", "alembic", "pydantic", "rich", "PIL", "sklearn"}


@pytest.fixture
def cli(tmp_path: Path) -> Cli:
    return Cli(tmp_path / "home")


@pytest.fixture
def space(cli: Cli, tmp_path: Path) -> Cli:
    """A home with the space "s": two labels with two support images each, one without."""
    cli("space", "create", "s", "--classifier", "precomputed:4", "--verifier", "precomputed:6", "--logit-scale", "10")
    cli("register", "s", "--vectors", save_labels(tmp_path / "labels.npz"))
    return cli


# The whole tree


@pytest.mark.parametrize(
    ("path", "command"), list(commands()), ids=lambda value: " ".join(value) if isinstance(value, tuple) else ""
)
def test_every_command_and_option_is_documented(path, command):
    assert command.help, f"{path} has no help"
    assert not command.get_short_help_str(70).endswith("..."), f"{path}: the first sentence is too long for the list"
    for parameter in command.params:
        if parameter.param_type_name == "option":
            assert parameter.help, f"{path}: {parameter.opts} has no help"
    text = CliRunner().invoke(main, [*path, "--help"])
    assert text.exit_code == 0
    assert "Usage: " in text.output


def test_every_command_is_in_the_readme():
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    if "trustvlm score" not in readme:
        pytest.skip("README.md does not show the commands yet")
    for path, command in commands():
        if path and not hasattr(command, "commands"):
            assert re.search(rf"\b{' '.join(path)}\b", readme), f"README.md does not mention 'trustvlm {' '.join(path)}'"


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
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=True)
    loaded = [line for line in done.stdout.splitlines() if line.startswith("LOADED")]
    assert len(loaded) == len(list(commands()))
    assert all(line.endswith("set()") for line in loaded), loaded


def test_help_answers_at_once():
    def seconds() -> float:
        start = time.perf_counter()
        subprocess.run([*COMMAND, "--help"], stdout=subprocess.DEVNULL, timeout=60, check=True)
        return time.perf_counter() - start

    assert min(seconds() for _ in range(5)) < 0.5


def test_version():
    assert CliRunner().invoke(main, ["--version"]).output.strip() == f"trustvlm, version {trustvlm.__version__}"


# The home


def test_home_is_where_option_or_environment_or_xdg_say(tmp_path, monkeypatch):
    monkeypatch.setenv("TRUSTVLM_HOME", str(tmp_path / "by-variable"))
    arguments = ["space", "create", "s", "--classifier", "precomputed:4"]
    assert CliRunner().invoke(main, arguments).exit_code == 0
    assert (tmp_path / "by-variable" / "catalog.sqlite3").is_file()
    assert CliRunner().invoke(main, ["--home", str(tmp_path / "by-option"), *arguments]).exit_code == 0
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
    return ["setpriv", "--bounding-set=-dac_override,-dac_read_search", "--inh-caps=-dac_override,-dac_read_search"]


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
        assert found.stdout.splitlines()[1].startswith("one.jpg,airport,")
        refused = run("label", "remove", "s", "beach")
        assert refused.returncode == 5
        assert refused.stderr.startswith(f"Error: {space.home} cannot be written")
    finally:
        for path in (space.home, *space.home.rglob("*")):
            path.chmod(0o755 if path.is_dir() else 0o644)


def test_home_that_cannot_be_made_is_unavailable():
    assert "cannot be made" in Cli(Path("/proc/none/home"))("space", "create", "s", "--classifier", "precomputed:4", code=5)


# What errors become


def test_unexpected_errors_are_one_line_and_a_traceback_only_when_asked(space):
    with Path("/dev/full").open("w") as full:
        short = space.process("label", "list", "s", stdout=full, stderr=subprocess.PIPE, capture_output=False)
        long = space.process("-v", "label", "list", "s", stdout=full, stderr=subprocess.PIPE, capture_output=False)
    assert short.returncode == long.returncode == 1
    assert short.stderr.startswith("Error: unexpected OSError: [Errno 28]")
    assert "Traceback" not in short.stderr
    assert "Traceback" in long.stderr


def test_interrupt_ends_with_130(space, tmp_path):
    fifo = tmp_path / "names"
    os.mkfifo(fifo)
    command = [*COMMAND, "--home", str(space.home), "register", "s", "--labels", str(fifo)]
    child = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
    with fifo.open("w"):  # returns when the command reads
        time.sleep(0.2)
        child.send_signal(signal.SIGINT)
        _, said = child.communicate(timeout=60)
    assert child.returncode == 130
    assert said == "Error: interrupted; what was committed stays\n"


def test_a_reader_that_has_seen_enough_is_no_error(space, tmp_path):
    names = tmp_path / "names.npz"
    count = 5_000
    save_labels(
        names, label_names=np.array([f"label {i}" for i in range(count)]), text_vectors=np.ones((count, 4)), image_vectors=None,
        image_labels=None,
    )  # fmt: skip
    space("register", "s", "--vectors", names)
    command = [*COMMAND, "--home", str(space.home), "label", "list", "s", "--format", "jsonl"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as child:
        assert child.stdout is not None
        assert child.stderr is not None
        assert json.loads(child.stdout.readline())["name"] == "airport"
        child.stdout.close()
        assert child.stderr.read() == ""


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
    assert "device" in space("--device", "abacus", "space", "create", "t", "--classifier", "precomputed:4", code=2)


def test_messages_stay_on_one_line_and_hold_no_terminal_codes(space):
    said = space("space", "show", "\x1b[31mred\nline", code=3)
    assert "\x1b" not in said
    assert said.startswith("Error: no space")
    assert said.count("\n") == 1


# Spaces


def test_space_create_show_list(space):
    assert space("space", "create", "t", "--classifier", "precomputed:3", "--template", "a {}.", "--template", "the {}.") == (
        "created space t: classifier precomputed:3, verifier same\n"
    )
    shown = space("space", "show", "s")
    assert re.search(r"^logit scale: +10.0$", shown, re.MULTILINE)
    assert re.search(r"^airport +\d+ +2 ", shown, re.MULTILINE)
    assert re.search(r"^sea \[red\] +\d+ +none: unverified", shown, re.MULTILINE)
    assert re.search(r"^templates: +a \{\}. \| the \{\}.$", space("space", "show", "t"), re.MULTILINE)
    assert [line.split()[0] for line in space("space", "list").splitlines()] == ["space", "s", "t"]
    rows = space.rows("space", "list")
    assert [(row["name"], row["label_count"], row["support_count"]) for row in rows] == [("s", 3, 4), ("t", 0, 0)]
    assert rows[1]["templates"] == ["a {}.", "the {}."]
    listed = list(csv.DictReader(io.StringIO(space("space", "list", "--format", "csv"))))
    assert listed[1]["templates"] == "a {}.|the {}."
    assert listed[1]["recipe"] == "flat"


def test_space_show_lists_as_many_labels_as_asked(space):
    few = space.run("space", "show", "s", "--limit", "1")
    assert "airport" in few.stdout
    assert "beach" not in few.stdout
    assert few.stderr == "… and 2 labels more; --all lists them\n"
    every = space.run("space", "show", "s", "--limit", "1", "--all")
    assert "sea [red]" in every.stdout
    assert every.stderr == ""


def test_empty_home_says_what_to_do(space):
    space("space", "remove", "s", "--yes")
    result = space.run("space", "list")
    assert result.stdout == ""
    assert "trustvlm space create" in result.stderr


def test_space_create_refuses(space):
    assert "exists already" in space("space", "create", "s", "--classifier", "precomputed:4", code=4)
    assert "encoder spec" in space("space", "create", "t", "--classifier", "nothing:4", code=2)
    assert "classifier" in space("space", "create", "t", code=2)
    assert "no recipe 'none'" in space("space", "create", "t", "--classifier", "precomputed:4", "--recipe", "none", code=3)
    assert "preset" in space("space", "create", "t", "--preset", "none", code=3)
    assert "logit_scale" in space("space", "create", "t", "--classifier", "precomputed:4", "--logit-scale", "0", code=2)
    assert "open_clip" in space("space", "create", "t", "--classifier", "open_clip:local-dir:/nowhere", code=3)
    assert [row["name"] for row in space.rows("space", "list")] == ["s"]


def test_space_remove_and_restore(space):
    assert "pass --yes" in space("space", "remove", "s", code=2)
    assert "3 labels, 4 support images" in space("space", "remove", "s", "--yes")
    assert "no space 's'" in space("space", "show", "s", code=3)
    assert space("space", "restore", "s") == "restored space s with 3 labels, 4 support images; revision 1\n"
    assert "exists" in space("space", "restore", "s", code=4)
    assert "no removed space" in space("space", "restore", "other", code=3)


@pytest.mark.parametrize(("answer", "left"), [("y", 0), ("n", 1), ("", 1)])
def test_space_remove_asks_on_a_terminal(space, monkeypatch, answer, left):
    monkeypatch.setattr("trustvlm.cli.space.on_terminal", lambda: True)
    result = CliRunner().invoke(main, ["--home", str(space.home), "space", "remove", "s"], input=f"{answer}\n")
    assert result.exit_code == 0
    assert "Remove space s with 3 labels, 4 support images? [y/N]" in result.stderr
    assert len(space.rows("space", "list")) == left


# Labels


def test_label_list_formats(space):
    assert space("label", "list", "s").splitlines()[0].split() == ["label", "id", "support", "images", "prompt", "revision"]
    rows = space.rows("label", "list", "s")
    assert [(row["name"], row["support_count"]) for row in rows] == [("airport", 2), ("beach", 2), ("sea [red]", 0)]
    listed = list(csv.DictReader(io.StringIO(space("label", "list", "s", "--format", "csv"))))
    assert [row["name"] for row in listed] == ["airport", "beach", "sea [red]"]
    assert listed[0]["prompt"] == ""
    assert "no space 'other'" in space("label", "list", "other", code=3)


def test_label_update_remove_restore(space):
    assert space("label", "update", "s", "beach", "--new-name", "strand") == "updated label strand; revision 2\n"
    assert "exists already" in space("label", "update", "s", "strand", "--new-name", "airport", code=4)
    assert "--prompt" in space("label", "update", "s", "strand", code=2)
    assert "cannot encode a prompt" in space("label", "update", "s", "strand", "--prompt", "a {}", code=2)
    removed = space("label", "remove", "s", "sea [red]")
    assert "removed label 'sea [red]'; revision 3; 'trustvlm label restore s 'sea [red]''" in removed
    assert [row["name"] for row in space.rows("label", "list", "s")] == ["airport", "strand"]
    assert space("label", "restore", "s", "sea [red]") == "restored label 'sea [red]'; revision 4\n"
    assert "for good" in space("label", "remove", "s", "strand", "--purge")
    assert "strand" in space("label", "restore", "s", "strand", code=3)
    assert "strand" in space("label", "remove", "s", "strand", code=3)


def test_purge(space):
    assert space("purge") == "nothing to purge\n"
    space("label", "remove", "s", "beach")
    assert space("purge") == "nothing to purge\n"  # the undo window is open
    assert space("purge", "--older-than", "0") == "purged 3 rows\n"
    assert "beach" in space("label", "restore", "s", "beach", code=3)
    assert "older-than" in space("purge", "--older-than", "-1", code=2)


# Indexes


def test_index_list_and_show_need_no_home(cli):
    listed = cli("index", "list")
    assert re.search(r"^flat +yes +4  Every vector", listed, re.MULTILINE)
    assert "flat-fp16" in listed
    assert re.search(r"^factory: +Flat$", cli("index", "show", "flat"), re.MULTILINE)
    assert "there are: flat" in cli("index", "show", "other", code=3)
    assert not cli.home.exists()


def test_index_stats_and_rebuild(space):
    assert re.search(r"^prototypes: +2$", space("index", "stats", "s"), re.MULTILINE)
    rebuilt = space("index", "rebuild", "s", "--recipe", "flat-fp16")
    assert rebuilt.startswith("rebuilt the index of space s\n")
    assert re.search(r"^recipe: +flat-fp16$", space("index", "stats", "s"), re.MULTILINE)
    assert re.search(r"^snapshot: +/.*snapshot$", rebuilt, re.MULTILINE)
    assert "no recipe" in space("index", "rebuild", "s", "--recipe", "other", code=3)
    assert "no space" in space("index", "stats", "other", code=3)


# The catalog's schema


def set_schema(home: Path, version: str) -> None:
    with sqlite3.connect(home / "catalog.sqlite3") as connection:
        connection.execute("update alembic_version set version_num = ?", (version,))
    connection.close()


def test_db_current_and_upgrade(cli):
    missing = cli("db", "current")
    head = re.search(r"^this program: schema (\w+)$", missing, re.MULTILINE)[1]
    assert f"no catalog at {cli.home}" in missing
    assert not cli.home.exists()
    catalog = cli.home / "catalog.sqlite3"
    assert cli("db", "upgrade") == f"{catalog}: schema none → {head}\n"
    assert cli("db", "upgrade") == f"{catalog}: schema {head} is current\n"
    assert cli("db", "current").endswith(f"{catalog}: schema {head}\nthe catalog is current\n")
    assert cli.rows("space", "list") == []


def test_db_says_when_the_catalog_is_newer(space):
    set_schema(space.home, "9999")
    result = space.run("db", "current", code=5)
    assert "schema 9999" in result.stdout
    assert "newer" in result.stderr
    assert "newer" in space("space", "list", code=5)
    assert "newer" in space("db", "upgrade", code=5)


def test_db_says_when_there_are_no_tables_yet(cli):
    cli.home.mkdir()
    (cli.home / "catalog.sqlite3").touch()
    assert "db upgrade" in cli("db", "current", code=5)
    assert "db upgrade" in cli("space", "list", code=5)
    cli("db", "upgrade")
    cli("db", "current")


def test_damaged_catalog_is_unavailable(cli):
    cli.home.mkdir()
    (cli.home / "catalog.sqlite3").write_bytes(b"no database " * 1000)
    assert "not a sound SQLite file" in cli("space", "list", code=5)
    assert "not a sound SQLite file" in cli("db", "current", code=5)


def test_environment_of_other_settings_is_checked(space, monkeypatch):
    monkeypatch.setenv("TRUSTVLM_BATCH_SIZE", "0")
    assert "batch_size" in space("space", "list", code=2)


def test_help_needs_no_home_directory():
    alone = without_home_variables() | {"HOME": "/nonexistent"}
    done = subprocess.run([*COMMAND, "--help"], env=alone, capture_output=True, text=True, timeout=60, check=True)
    assert "~/.local/share/trustvlm" in done.stdout
