"""Spaces, labels, indexes and the catalog's schema from the command line."""

from __future__ import annotations

import csv
import io
import re
from pathlib import Path

import pytest
from cli_runner import Cli, save_labels
from click.testing import CliRunner
from raw_sql import run_sql

from trustvlm.cli import main


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


# Spaces


def test_space_create_show_list(space):
    assert space(
        "space",
        "create",
        "t",
        "--classifier",
        "precomputed:3",
        "--template",
        "a {}.",
        "--template",
        "the {}.",
    ) == ("created space t: classifier precomputed:3, verifier same\n")
    shown = space("space", "show", "s")
    assert re.search(r"^logit scale: +10.0$", shown, re.MULTILINE)
    assert re.search(r"^airport +\d+ +2 ", shown, re.MULTILINE)
    assert re.search(r"^sea \[red\] +\d+ +none: unverified", shown, re.MULTILINE)
    assert re.search(
        r"^templates: +a \{\}. \| the \{\}.$", space("space", "show", "t"), re.MULTILINE
    )
    assert [line.split()[0] for line in space("space", "list").splitlines()] == ["space", "s", "t"]
    rows = space.rows("space", "list")
    assert [(row["name"], row["label_count"], row["support_count"]) for row in rows] == [
        ("s", 3, 4),
        ("t", 0, 0),
    ]
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
    assert "exists already" in space(
        "space", "create", "s", "--classifier", "precomputed:4", code=4
    )
    assert "encoder spec" in space("space", "create", "t", "--classifier", "nothing:4", code=2)
    assert "classifier" in space("space", "create", "t", code=2)
    assert "no recipe 'none'" in space(
        "space", "create", "t", "--classifier", "precomputed:4", "--recipe", "none", code=3
    )
    assert "preset" in space("space", "create", "t", "--preset", "none", code=3)
    assert "--logit-scale" in space(
        "space", "create", "t", "--classifier", "precomputed:4", "--logit-scale", "0", code=2
    )
    assert "open_clip" in space(
        "space", "create", "t", "--classifier", "open_clip:local-dir:/nowhere", code=3
    )
    assert [row["name"] for row in space.rows("space", "list")] == ["s"]


def test_space_remove_and_restore(space):
    assert "pass --yes" in space("space", "remove", "s", code=2)
    assert "3 labels, 4 support images" in space("space", "remove", "s", "--yes")
    assert "no space 's'" in space("space", "show", "s", code=3)
    assert (
        space("space", "restore", "s")
        == "restored space s with 3 labels, 4 support images; revision 1\n"
    )
    assert "exists" in space("space", "restore", "s", code=4)
    assert "no removed space" in space("space", "restore", "other", code=3)


@pytest.mark.parametrize(("answer", "left"), [("y", 0), ("n", 1), ("", 1)])
def test_space_remove_asks_on_a_terminal(space, monkeypatch, answer, left):
    monkeypatch.setattr("trustvlm.cli.commands.space.on_terminal", lambda: True)
    result = CliRunner().invoke(
        main, ["--home", str(space.home), "space", "remove", "s"], input=f"{answer}\n"
    )
    assert result.exit_code == 0
    assert "Remove space s with 3 labels, 4 support images? [y/N]" in result.stderr
    assert len(space.rows("space", "list")) == left


# Labels


def test_label_list_formats(space):
    assert space("label", "list", "s").splitlines()[0].split() == [
        "label",
        "id",
        "support",
        "images",
        "prompt",
        "revision",
    ]
    rows = space.rows("label", "list", "s")
    assert [(row["name"], row["support_count"]) for row in rows] == [
        ("airport", 2),
        ("beach", 2),
        ("sea [red]", 0),
    ]
    listed = list(csv.DictReader(io.StringIO(space("label", "list", "s", "--format", "csv"))))
    assert [row["name"] for row in listed] == ["airport", "beach", "sea [red]"]
    assert listed[0]["prompt"] == ""
    assert "no space 'other'" in space("label", "list", "other", code=3)


def test_label_update_remove_restore(space):
    assert (
        space("label", "update", "s", "beach", "--new-name", "strand")
        == "updated label strand; revision 2\n"
    )
    assert "exists already" in space(
        "label", "update", "s", "strand", "--new-name", "airport", code=4
    )
    assert "--prompt" in space("label", "update", "s", "strand", code=2)
    assert "cannot encode a prompt" in space(
        "label", "update", "s", "strand", "--prompt", "a {}", code=2
    )
    removed = space("label", "remove", "s", "sea [red]")
    assert (
        "removed label 'sea [red]'; revision 3; 'trustvlm label restore s \"sea [red]\"'" in removed
    )
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
    run_sql(home, "update alembic_version set version_num = ?", version)


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


def test_db_create_says_whether_it_made_the_catalog(cli):
    catalog = cli.home / "catalog.sqlite3"
    assert cli("db", "create") == f"{catalog}: made an empty catalog\n"
    assert cli("db", "create") == f"{catalog}: the catalog was there, and is current\n"


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
