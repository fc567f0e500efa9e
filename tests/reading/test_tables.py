"""Every table of the command line at 60, 80 and 100 columns: label, decision and rule are whole,
nothing is cut silently."""

from __future__ import annotations

import importlib
import pkgutil
import re
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from cli_runner import COMMAND, Cli
from hypothesis import given
from hypothesis import strategies as st
from rich.cells import cell_len
from terminal import on_terminal, plain, stdout_on_terminal

from trustvlm.cli import commands, main
from trustvlm.cli.commands.score import VERDICTS
from trustvlm.cli.printing.formats import Column
from trustvlm.system.terminal_table import Shape, Table, beginning, ending, wrapped

WIDTHS = (60, 80, 100)
STAY = {
    "label",
    "probability",
    "other label",
    "decision",
    "rule",
    "space",
    "image evidence",
    "state",
    "threshold",
    "problem",
    "what",
    "reason",
}
NAMES = (
    "sea",
    "golden retriever on the beach",
    "東京スカイツリーと富士山の夜景",
    "Übergrößenträger-Straßenbahnhaltestelle",
)
SOURCE = "a/very/long/path/of/folders/that/no/terminal/has/room/for/image_{}.jpg"


def tables() -> Iterator[tuple[str, list[Column]]]:
    """Every list of columns in the command line."""
    for module in pkgutil.iter_modules(commands.__path__):
        for name, value in vars(
            importlib.import_module(f"{commands.__name__}.{module.name}")
        ).items():
            if isinstance(value, list) and value and isinstance(value[0], Column):
                yield f"{module.name}.{name}", value


@pytest.mark.parametrize("width", WIDTHS)
@pytest.mark.parametrize("columns", [pytest.param(columns, id=name) for name, columns in tables()])
def test_what_matters_never_leaves_and_the_rest_fits(columns: list[Column], width: int) -> None:
    assert all(column.rank == 0 for column in columns if column.title in STAY)
    shapes = [Shape(column.title, column.right, column.rank, column.narrow) for column in columns]
    row = [f"{SOURCE} and so on" if shape.narrow != "start" else "1234.5678" for shape in shapes]
    table = Table(shapes, width)
    lines = [str(line) for line in table.lines([row])]
    assert max(map(cell_len, lines)) <= width
    heading = re.split(r"  +", lines[0].strip())
    for shape in shapes:
        assert (
            shape.title in heading
            or shape.title in table.left_out
            or any(line.startswith(shape.title) for line in lines)
        )


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Cli:
    """The space "s" with long and with wide names, calibrated, and what its commands need beside
    it."""
    folder = tmp_path_factory.mktemp("tables")
    rng = np.random.default_rng(0)
    cli = Cli(folder / "home")
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
    near = np.repeat(np.eye(4, 6), 3, axis=0) + 0.01 * rng.normal(size=(12, 6))
    labels = {"label_names": np.array(NAMES), "text_vectors": np.eye(4), "image_vectors": near}
    np.savez(folder / "labels.npz", **labels, image_labels=np.repeat(np.arange(4), 3))
    cli("register", "s", "--vectors", folder / "labels.npz")
    truth = rng.integers(0, 4, 400)
    classifier = np.eye(4)[truth] + 0.3 * rng.normal(size=(400, 4))
    verifier = np.eye(4, 6)[truth] + 0.3 * rng.normal(size=(400, 6))
    np.savez(
        folder / "labelled.npz",
        classifier=classifier,
        verifier=verifier,
        truth=np.array(NAMES)[truth],
    )
    sources = np.array([SOURCE.format(i) for i in range(8)])
    every = {"classifier": np.tile(np.eye(4), (2, 1)), "verifier": np.tile(np.eye(4, 6), (2, 1))}
    np.savez(folder / "queries.npz", **every, sources=sources)
    np.save(folder / "query.npy", verifier[:2])
    cli(
        "calibrate",
        "s",
        "--vectors",
        folder / "labelled.npz",
        "--rule",
        "trustvlm_star",
        "--may-correct",
        "--max-risk",
        "0.2",
    )
    cli(
        "key",
        "create",
        "--scope",
        "read",
        "--space",
        "s",
        "--note",
        "for the people of the third floor, until they move",
    )
    return cli


COMMANDS = {
    "score": (["score", "s", "--vectors", "queries.npz"], NAMES),
    "score --evidence": (["score", "s", "--vectors", "queries.npz", "--evidence", "1"], NAMES),
    "search": (["search", "s", "--vector", "query.npy"], ["similarity", *NAMES[:2]]),
    "evaluate": (
        [
            "evaluate",
            "s",
            "--vectors",
            "labelled.npz",
            "--draws",
            "0",
            "--rules",
            "posterior_star,doctor",
        ],
        ["posterior_star", "doctor", *NAMES[2:]],
    ),
    "calibration list": (["calibration", "list", "s"], ["trustvlm_star", "threshold"]),
    "calibration show": (["calibration", "show", "s"], ["trustvlm_star"]),
    "label list": (["label", "list", "s"], NAMES),
    "label synonyms": (["label", "synonyms", "s"], []),
    "support list": (["support", "list", "s", NAMES[2]], [NAMES[2]]),
    "space list": (["space", "list"], ["s", "labels"]),
    "space show": (["space", "show", "s"], NAMES),
    "index list": (["index", "list"], ["ivf-flat", "hundred"]),
    "index show": (["index", "show", "ivf-sq8"], ["ivf-sq8", "millions"]),
    "index stats": (["index", "stats", "s"], ["flat"]),
    "index tune": (["index", "tune", "s"], ["support", "1.000"]),
    "index suggest": (["index", "suggest", "s"], ["ivf-flat", "take", "recall@10"]),
    "key list": (["key", "list"], ["valid", "read"]),
}


@pytest.mark.parametrize("width", WIDTHS)
@pytest.mark.parametrize("command", COMMANDS)
def test_a_command_at_a_width(
    home: Cli,
    command: str,
    width: int,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    arguments, words = COMMANDS[command]
    monkeypatch.chdir(home.home.parent)
    with stdout_on_terminal(monkeypatch, width) as said:
        main.main(
            ["--home", str(home.home), *arguments], prog_name="trustvlm", standalone_mode=False
        )
    text = plain(bytes(said))
    for word in words:
        assert any(word in line for line in text.splitlines()), (word, text)
    sentences = (
        1 if command in ("evaluate", "calibration show", "index tune") else 0
    )  # a terminal wraps those by itself
    assert sum(cell_len(line) > width for line in text.splitlines()) <= sentences, text
    missing = re.search(
        r"left out at (\d+) columns: (.*) \(in a pipe .*nothing is", capsys.readouterr().err
    )
    if missing:
        assert int(missing[1]) == width
        assert not STAY & set(missing[2].split(", "))


@pytest.mark.parametrize(
    ("width", "details"),
    [(60, []), (80, ["trust", "rival"]), (100, ["trust", "image sim.", "nearest", "rival"])],
)
def test_verdicts_lead_with_the_decision_at_a_width(width: int, details: list[str]) -> None:
    values = {
        "source": SOURCE, "decision": "unknown", "probability": 1.0, "label": "seven",
        "corrected_from": None, "stale_since": None, "reason_code": "unknown", "agrees": False,
        "reason": "unknown: the image is close to no prototype", "calibration_id": 1,
        "nearest_prototype": "nine", "rival": "nine", "rival_trust": 0.5, "unverified": False,
        "trust": 1.0, "text_confidence": 1.0, "image_similarity": 0.5,
    }  # fmt: skip
    shapes = [Shape(one.title, one.right, one.rank, one.narrow) for one in VERDICTS]
    lines = Table(shapes, width).lines([[one.text(values) for one in VERDICTS]])
    heading, _, first, *more = map(str, lines)
    leading = ["source", "decision", "probability", "label", "note"]
    assert re.split(r"  +", heading) == [*leading, *details]
    assert re.split(r"  +", first)[1:4] == ["unknown", ">99.9 %", "seven"]
    said = " ".join([first, *more])
    assert "the image" in said
    assert "prototype" in said
    assert max(map(len, (heading, first, *more))) <= width


@pytest.mark.slow  # by default: test_a_command_at_a_width
def test_decisions_are_whole_on_a_real_terminal_without_columns(home: Cli, tmp_path: Path) -> None:
    command = [
        *COMMAND,
        "--home",
        str(home.home),
        "score",
        "s",
        "--vectors",
        str(home.home.parent / "queries.npz"),
    ]
    seen = on_terminal(command, 60, TERM="xterm-256color")
    pairs = [
        line.split(None, 1)
        for line in seen.splitlines()
        if line.startswith(("label ", "decision "))
    ]
    assert [word for word, _ in pairs] == [
        "decision",
        "label",
    ] * 8  # too narrow for a table: a block for each image
    assert all(rest in NAMES for word, rest in pairs if word == "label")
    assert {rest.strip() for word, rest in pairs if word == "decision"} <= {
        "accept",
        "review",
        "unknown",
    }


def test_a_pipe_cuts_nothing(home: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "60")
    piped = home.run("score", "s", "--vectors", home.home.parent / "queries.npz")
    assert piped.stderr == ""
    assert len(piped.stdout.splitlines()) == 10
    assert all(SOURCE.format(i) in piped.stdout for i in range(8))


def test_what_a_narrow_table_does_in_its_order() -> None:
    shapes = [
        Shape("source", narrow="end"),
        Shape("label"),
        Shape("number", right=True, rank=1),
        Shape("note", narrow="words"),
    ]
    row = [
        "photos/of/the/summer/beach_01.jpg",
        "beach",
        "0.1234",
        "unknown: the image is close to no prototype",
    ]
    at = {
        width: [str(line) for line in Table(shapes, width).lines([row])]
        for width in (100, 80, 58, 46, 35, 34)
    }
    assert (
        at[100][2]
        == "photos/of/the/summer/beach_01.jpg  beach  0.1234  unknown: the image is close to "
        "no prototype"
    )
    assert (
        at[80][2]
        == "…summer/beach_01.jpg  beach  0.1234  unknown: the image is close to no prototype"
    )
    assert at[58][2:] == [
        "…each_01.jpg  beach  0.1234  unknown: the image is close",
        "                             to no prototype",
    ]
    assert at[46][0].split() == ["source", "label", "note"]
    assert at[35][2:5] == [
        "…each_01.jpg  beach  unknown: the",
        "                     image is close",
        "                     to no",
    ]
    assert at[34] == [
        "source  …f/the/summer/beach_01.jpg",
        "label   beach",
        "number  0.1234",
        "note    unknown: the image is",
        "        close to no prototype",
    ]


@given(st.lists(st.text("ab 東京é", max_size=40), min_size=1, max_size=4), st.integers(20, 60))
def test_nothing_is_lost_in_wrapping(cells: list[str], width: int) -> None:
    for cell in cells:
        lines = wrapped(cell, width)
        assert " ".join(lines) == cell
        assert all(cell_len(line) <= width or " " not in line for line in lines)
        cut = ending(cell, width)
        assert cell_len(cut) <= width
        assert cell.endswith(cut[1:])
        cut = beginning(cell, width)
        assert cell_len(cut) <= width
        assert cell.startswith(cut[:-1])
    table = Table([Shape("x", narrow="words") for _ in cells], None)
    assert str(list(table.lines([cells]))[1]).split() == " ".join(cells).split()


LONG = {
    "letters": "x" * 500,
    "words": "a very long name " * 20 + "end",
    "wide": "東京スカイツリー" * 40,
    "emoji": "👍🏽❤️🇩🇪" * 60,
    "combining": "e\u0301" * 200,
}


@pytest.mark.parametrize("name", LONG.values(), ids=LONG)
@pytest.mark.parametrize("width", [40, 80, 132])
def test_no_cell_is_wider_than_the_terminal(name: str, width: int) -> None:
    shapes = [
        Shape("label"), Shape("number", right=True), Shape("attributes", narrow="words", rank=1),
        Shape("source", narrow="end"),
    ]  # fmt: skip
    row = [name, "0.5", f'{{"key": "{name}"}}', f"photos/{name}.jpg"]
    table = Table(shapes, width)
    lines = [str(line) for line in table.lines([row])]
    assert max(map(cell_len, lines)) <= width
    assert "0.5" in "".join(lines)
    assert "source" in table.cut
    in_blocks = "─" not in lines[1]
    assert ("label" in table.cut) != in_blocks
    shown = "".join(lines)
    assert ("…" in shown) == bool(table.cut)
    piped = Table(shapes, None)
    _, in_full = map(str, piped.lines([row]))
    assert all(cell in in_full for cell in row)
    assert not piped.cut


def test_a_cut_column_is_said_once_with_the_way_to_see_all(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    cli = Cli(tmp_path / "home")
    cli("space", "create", "s", "--classifier", "precomputed:4", "--verifier", "same")
    vectors = {"label_names": np.array(["y" * 90]), "text_vectors": np.eye(1, 4)}
    np.savez(tmp_path / "labels.npz", **vectors)
    cli("register", "s", "--vectors", tmp_path / "labels.npz")
    with stdout_on_terminal(monkeypatch, 80) as said:
        arguments = ["--home", str(cli.home), "label", "list", "s"]
        main.main(arguments, prog_name="trustvlm", standalone_mode=False)
    assert "y…" in plain(bytes(said))
    cut = "cut at 80 columns: label (in a pipe and with --format jsonl nothing is left out or cut)"
    assert capsys.readouterr().err.count(cut) == 1


def test_later_blocks_keep_the_columns_or_say_them_again() -> None:
    table = Table([Shape("label"), Shape("number", right=True, rank=1)], 20)
    assert [str(line) for line in table.lines([["sea", "1"]])] == [
        "label  number",
        "─────  ──────",
        "sea         1",
    ]
    assert [str(line) for line in table.lines([["bay", "2"]])] == ["bay         2"]
    wide = [str(line) for line in table.lines([["a long name", "3"], ["b", "4"]])]
    assert wide == ["a long name       3", "b                 4"]
    wider = [str(line) for line in table.lines([["a still longer one", "5"]])]
    assert wider == ["label", "─" * 18, "a still longer one"]
    assert table.left_out == ["number"]
    assert [str(line) for line in table.lines([["a name that is too long", "6"]])][1:] == [
        *("label   a name that is too", "        long", "number  6")
    ]
