"""Names that are not what they seem, and that nothing of them reaches a terminal or a spreadsheet
to be interpreted."""

from __future__ import annotations

import csv
import io
import json
import os
import pty
import unicodedata
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from cli_runner import COMMAND, Cli
from forked import Child, run_code
from hypothesis import example, given, settings
from hypothesis import strategies as st
from worlds import TEXT_DIM, make_space

import trustvlm
from trustvlm import LabelInput, Queries
from trustvlm.cli.printing.formats import as_json
from trustvlm.cli.printing.safe_text import cell_text, shown
from trustvlm.errors import Conflict, InvalidInput, NotFound
from trustvlm.service.home.names import check_name
from trustvlm.service.server.server_home import ServerHome

UNSEEN = {
    "nul": "a\0b",
    "escape": "a\x1b[31mb",
    "bell": "a\ab",
    "c1 escape": "a\x9b31mb",
    "newline": "a\nb",
    "return": "a\rb",
    "tab": "a\tb",
    "delete": "a\x7fb",
    "right-to-left override": "a\u202eb",
    "isolate": "a\u2067b",
    "left-to-right mark": "a\u200eb",
    "right-to-left mark": "a\u200fb",
    "arabic mark": "a\u061cb",
    "zero-width space": "a\u200bb",
    "word joiner": "a\u2060b",
    "byte order mark": "a\ufeffb",
    "soft hyphen": "a\u00adb",
    "hangul filler": "a\u3164b",
    "tag": "a\U000e0041b",
    "line separator": "a\u2028b",
    "lone surrogate": "a\ud800b",
    "noncharacter": "a\uffffb",
    "joiner in latin": "c\u200dat",
    "joiner at the end": "مي\u200c",
    "two joiners": "ن\u200c\u200cم",
    "braille blank": "a\u2800b",
    "only invisible": "\u200b",
    "blank at the end": "a ",
    "wide blank at the end": "a\u3000",
    "empty": "",
    "blank": " ",
    "too long": "x" * 501,
    "a megabyte": "x" * 10**6,
    "too long when composed": "a\u0301" * 501,
}


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[trustvlm.TrustService]:
    """An open home with an empty space "s", which each test leaves empty."""
    with trustvlm.open(tmp_path_factory.mktemp("names") / "home", create=True) as service:
        make_space(service)
        yield service


@pytest.mark.parametrize("case", UNSEEN)
def test_names_that_are_not_seen_as_they_are(shared: trustvlm.TrustService, case: str) -> None:
    service = shared
    name, vector = UNSEEN[case], np.ones(TEXT_DIM)
    for call in (
        lambda: service.register(
            "s", [LabelInput("good", text_vector=vector), LabelInput(name, text_vector=vector)]
        ),
        lambda: service.create_space(name, classifier="precomputed:4"),
    ):
        with pytest.raises(InvalidInput) as caught:
            call()
        assert len(str(caught.value)) < 300
        assert str(caught.value).isprintable()
    assert list(service.list_labels("s")) == []
    for call in (
        lambda: service.remove_label("s", name),
        lambda: service.get_space(name),
        lambda: service.restore_label("s", name),
    ):
        with pytest.raises((NotFound, InvalidInput)) as caught:
            call()
        assert len(str(caught.value)) < 300


@pytest.mark.parametrize("name", [
    "naïve café", "港口", "a/b", "..", "../../etc/passwd", "C:\\windows", "می‌خواهم", "क्‍ष", "👩‍🚀",
    "❤️", "葛󠄀", "שלום", "مرحبا",
    "-rf", "=1+1",
    "<script>alert(1)</script>", "'; DROP TABLE labels; --", "%s%n", "$(touch x)", "`id`",
    "{}", "[red]", "nan", "NULL", "CON", "x" * 500,
])  # fmt: skip
def test_names_that_are_names_come_back(shared: trustvlm.TrustService, name: str) -> None:
    service = shared
    service.register("s", [LabelInput(name, text_vector=np.ones(TEXT_DIM))])
    assert [row.name for row in service.list_labels("s")] == [unicodedata.normalize("NFC", name)]
    assert service.score("s", Queries(np.ones((1, TEXT_DIM))), rule="msp", labels=[name]).label[
        0
    ] == unicodedata.normalize("NFC", name)
    service.remove_label("s", name, purge=True)


def test_path_separators_are_for_labels_only(service: trustvlm.TrustService) -> None:
    with pytest.raises(InvalidInput, match="holds '/'"):
        service.create_space("a/b", classifier="precomputed:4")


COMPOSED, DECOMPOSED = "caf\u00e9 \u00c5", "cafe\u0301 \u212b"


def test_two_spellings_are_one_name(service: trustvlm.TrustService) -> None:
    make_space(service)
    one, two = np.eye(2, TEXT_DIM)
    result = service.register(
        "s", [LabelInput(DECOMPOSED, text_vector=one), LabelInput("b", text_vector=two)]
    )
    assert -1 not in result.label_ids
    assert [row.name for row in service.list_labels("s")] == [COMPOSED, "b"]
    again = service.register(
        "s", [LabelInput(COMPOSED, text_vector=one), LabelInput(DECOMPOSED, text_vector=one)]
    )
    assert (again.added_labels, again.label_ids) == (0, (result.label_ids[0],) * 2)
    with pytest.raises(Conflict):
        service.register(
            "s", [LabelInput(COMPOSED, text_vector=one), LabelInput(DECOMPOSED, text_vector=two)]
        )
    queries = Queries(np.stack([one, two]))
    for name in (COMPOSED, DECOMPOSED):
        assert service.score("s", queries, rule="msp", labels=[name, "b"]).label.tolist() == [
            COMPOSED,
            "b",
        ]
        assert (
            service.evaluate("s", queries, [name, "b"], rules=["msp"])["msp"].accuracy.value == 1.0
        )
        server = ServerHome(service)
        assert server.get_label("s", name).name == COMPOSED
        assert [row.name for row, _ in server.label_page("s", prefix=name[:5])] == [COMPOSED]
        assert [row.name for row, _ in server.label_page("s", contains=name[2:])] == [COMPOSED]
        service.update_label("s", name, text_vector=one)
        service.update_label("s", name, new_name=DECOMPOSED)
        service.remove_label("s", name)
        service.restore_label("s", DECOMPOSED)
    with pytest.raises(Conflict, match="exists already"):
        service.update_label("s", "b", new_name=DECOMPOSED)
    assert service.get_space("s").label_count == 2


def test_two_spellings_of_a_space(service: trustvlm.TrustService) -> None:
    make_space(service, DECOMPOSED)
    assert service.get_space(COMPOSED).name == service.get_space(DECOMPOSED).name == COMPOSED
    service.register(DECOMPOSED, [LabelInput("a", text_vector=np.eye(TEXT_DIM)[0])])
    service.score(DECOMPOSED, Queries(np.eye(1, TEXT_DIM)), rule="msp")
    (state,) = ServerHome(service).space_states()
    assert (state.space, state.labels) == (COMPOSED, 1)  # one cache, whatever the spelling
    assert service.verify(COMPOSED).spaces == service.verify(DECOMPOSED).spaces == (COMPOSED,)
    with pytest.raises(Conflict):
        make_space(service, COMPOSED)
    service.remove_space(DECOMPOSED)
    service.restore_space(COMPOSED)
    with pytest.raises(Conflict):
        service.restore_space(DECOMPOSED)


@given(st.text(st.characters(), max_size=40))
@example("a\u0301")
@example("e\u0327\u0301")
@settings(max_examples=300)
def test_what_is_accepted_is_one_line_in_normal_form(name: str) -> None:
    try:
        accepted = check_name(name, "name")
    except InvalidInput:
        with pytest.raises(InvalidInput) as caught:
            check_name(name, "name")
        assert str(caught.value).isprintable()
        return
    assert accepted == unicodedata.normalize("NFC", name) == check_name(accepted, "name")
    assert len(accepted.splitlines()) == 1
    assert accepted.encode().decode() == accepted


# What comes out

EVIL = "\x1b]0;owned\x07\x1b[2J\x9b31m=cmd|' /C calc'!A1\u202ejpg.\u200b"
FORMULAS = ("=1+1", "+1", "-1+2", "@SUM(A1)", "\t=1", "\r=1", " =1", "＝1")


def raw(text: str) -> list[str]:
    """The characters of an output that a terminal, or an eye, would not take as they stand."""
    return [c for c in text if not c.isprintable() and c not in "\n"]


@pytest.fixture(scope="module")
def full(tmp_path_factory: pytest.TempPathFactory) -> Cli:
    """A space "s" whose support images and queries come from sources with every kind of
    character."""
    folder = tmp_path_factory.mktemp("output")
    cli = Cli(folder / "home")
    with trustvlm.open(cli.home, create=True) as service:
        service.create_space("s", classifier="precomputed:4", verifier="precomputed:6")
        axes = np.eye(6)
        inputs = [
            LabelInput(name, text_vector=axes[i, :4], image_vectors=axes[[i]] + 0.1)
            for i, name in enumerate(("=1+1", "می‌خواهم", "sea"))
        ]
        service.register("s", inputs)
    arrays = {
        "classifier": np.eye(3, 4) + 0.01,
        "verifier": np.eye(3, 6) + 0.01,
        "sources": np.array([EVIL, FORMULAS[0], "-x.jpg"]),
    }
    np.savez(folder / "queries.npz", **arrays, truth=np.array(["=1+1", "sea", "sea"]))
    return cli


@pytest.mark.parametrize("form", ["table", "jsonl", "csv"])
@pytest.mark.parametrize("words", [
    ("score", "s", "--vectors", "FILE"), ("score", "s", "--vectors", "FILE", "--evidence", "2"),
    ("search", "s", "--vector", "FILE"),
    ("label", "list", "s"), ("support", "list", "s", "=1+1"), ("space", "list"),
], ids=" ".join)  # fmt: skip
def test_nothing_raw_in_any_format(full: Cli, words: tuple[str, ...], form: str) -> None:
    result = full.run(
        *(str(full.home.parent / "queries.npz") if word == "FILE" else word for word in words),
        "--format",
        form,
    )
    assert raw(result.stdout) == raw(result.stderr) == []
    assert result.stdout


def test_nothing_raw_elsewhere(full: Cli, tmp_path: Path) -> None:
    vectors = full.home.parent / "queries.npz"
    for words in (
        ("evaluate", "s", "--vectors", vectors, "--json"), ("evaluate", "s", "--vectors", vectors),
        ("feedback", "s", "--vectors", vectors, "--json"), ("space", "show", "s"), ("label",
        "synonyms", "s"),
        ("index", "list"),
    ):  # fmt: skip
        result = full.run(*words)
        assert raw(result.output) == [], words
    evil = EVIL.replace("/", "")
    refused: list[tuple[tuple[object, ...], int]] = [
        (("space", "show", evil), 3),
        (("label", "remove", "s", evil), 3),
        (("score", "s", tmp_path / evil), 3),
        (("register", "s", "--vectors", tmp_path / evil), 3),
        (("register", "s", "--label", evil), 2),
        (("score", "s", "--rule", evil, "--vectors", vectors), 2),
        (("space", "list", "--format", evil), 2),
        (("space", f"--{evil}"), 2),
        (("space", "list", evil), 2),
        ((evil,), 2),
    ]
    for words, code in refused:
        assert raw(full.run(*words, code=code).output) == [], words


def test_a_terminal_gets_no_escape_of_ours(full: Cli) -> None:
    """On a real terminal: rich's own colours are the only escapes, and the title of the window is
    never set."""
    main, other = pty.openpty()
    wide = os.environ | {"COLUMNS": "400"}  # nothing is folded
    vectors = full.home.parent / "queries.npz"
    command = [*COMMAND[1:], "--home", str(full.home), "score", "s", "--vectors", str(vectors)]
    with Child(command, wide, stderr=other, stdout=other) as child:
        assert child.wait(120) == 0
    os.close(other)
    seen = b""
    while True:
        try:
            block = os.read(main, 65_536)
        except OSError:  # EIO: the other end is closed and all is read
            break
        if not block:
            break
        seen += block
    os.close(main)
    assert b"owned" in seen.replace(b"\r\n", b"")
    assert b"\x1b]" not in seen
    assert b"\x07" not in seen
    assert b"\x1b[2J" not in seen
    assert "\x9b".encode() not in seen
    assert "\u202e".encode() not in seen


def test_json_means_what_it_meant(full: Cli) -> None:
    rows = full.rows("score", "s", "--vectors", full.home.parent / "queries.npz")
    assert [row["source"] for row in rows] == [EVIL, FORMULAS[0], "-x.jpg"]


def test_csv_holds_no_formula(full: Cli) -> None:
    lines = full("score", "s", "--vectors", full.home.parent / "queries.npz", "--format", "csv")
    rows = list(csv.DictReader(io.StringIO(lines)))
    assert [row["source"] for row in rows] == [shown(EVIL), "'=1+1", "'-x.jpg"]
    assert rows[0]["label"] == "'=1+1"
    for row in rows:
        assert float(row["trust"]) == float(row["trust"])  # numbers stay numbers
        for cell in row.values():
            assert not cell.startswith(("=", "+", "@", "\t", "\r"))


@pytest.mark.parametrize("text", FORMULAS)
def test_formulas(text: str) -> None:
    assert not cell_text(text).startswith(("=", "+", "-", "@", "\t", "\r", " =", "＝"))
    assert cell_text("a=1") == "a=1"


TEXT = st.text(st.characters())
VALUES = st.recursive(
    TEXT | st.integers() | st.none(), lambda inner: st.lists(inner) | st.dictionaries(TEXT, inner)
)


@given(VALUES)
@settings(max_examples=60)
def test_json_of_anything_is_printable_and_equal(value: object) -> None:
    for indent in (None, 2):
        text = as_json(value, indent=indent)
        assert raw(text) == []
        assert json.loads(text) == json.loads(json.dumps(value))


def test_log_lines_are_escaped(full: Cli) -> None:
    code = f"""
import logging, sys
from trustvlm.cli.root import _set_up_logging
_set_up_logging(0)
logging.getLogger("trustvlm").warning("label %s", {EVIL!r})
"""
    done = run_code(code)
    assert raw(done.stderr) == []
    assert done.stderr.startswith("WARNING: label ")
