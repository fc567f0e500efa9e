"""Scoring and searching from the command line: sources, formats, options, and what is wrong with
them."""

from __future__ import annotations

import csv
import io
import json
import math
import os
import pty
import re
from pathlib import Path

import numpy as np
import pytest
from checkpoints import make_clip
from cli_runner import COMMAND, Cli, save_labels, save_queries
from forked import Child
from PIL import Image

import trustvlm
from trustvlm.types.tables.probability import chance
from trustvlm.types.tables.verdict import CLAIM_CALL_COLUMNS, CLAIM_COLUMNS

SOURCES = ["one.jpg", "[bold]two[/]", "drei ü.jpg"]


@pytest.fixture
def space(tmp_path: Path) -> Cli:
    """A home with the space "s": airport and beach with two support images each, "sea [red]" with
    none."""
    cli = Cli(tmp_path / "home")
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


@pytest.fixture
def queries(tmp_path: Path) -> Path:
    return save_queries(tmp_path / "queries.npz")


@pytest.fixture(scope="module")
def encoded(tmp_path_factory: pytest.TempPathFactory) -> tuple[Cli, Path]:
    """A home whose space "s" encodes images (both sides by one model), and the folder of photos it
    knows."""
    folder = tmp_path_factory.mktemp("encoded")
    photos = folder / "photos"
    for seed, name in enumerate(["red/1.png", "red/2.png", "[b]blue/1.png", "[b]blue/2.png"]):
        path = photos / name
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(np.random.default_rng(seed).integers(0, 255, (24, 24, 3), np.uint8)).save(
            path
        )
    cli = Cli(folder / "home")
    cli("space", "create", "s", "--classifier", make_clip(folder / "clip"))
    cli("register", "s", photos)
    return cli, photos


# Vectors in, every format out


def test_table_is_plain_in_a_pipe(space: Cli, queries: Path) -> None:
    said, *lines = space("score", "s", "--vectors", queries).splitlines()
    assert said == "probability: rule posterior's own, not calibrated"
    assert re.split(r"  +", lines[0]) == [
        *("source", "decision", "probability", "label", "note", "trust", "text conf."),
        *("image sim.", "nearest", "rival", "its trust"),
    ]
    rows = space.rows("score", "s", "--vectors", queries)
    assert list(rows[0])[:4] == ["source", "decision", "probability", "label"]
    first, *others = [re.split(r"  +", line) for line in lines[1:]]
    first.insert(4, "")  # nothing to note
    cells = [first, *others]
    assert [row[0] for row in cells] == SOURCES
    assert {row[1] for row in cells} == {"review"}  # not calibrated
    assert [row[2] for row in cells] == [chance(row["probability"]) for row in rows]
    assert [row[3] for row in cells] == ["airport", "beach", "sea [red]"]
    assert [row[4] for row in others] == ["disagrees", "unverified, disagrees"]
    assert [row[8] for row in cells[:2]] == ["✓", "airport"]
    assert cells[2][7] == "–"
    assert "\x1b" not in "".join(lines)
    assert (
        len(
            {
                line.index(name)
                for line, name in zip(lines[1:], ("airport", "beach", "sea [red]"), strict=True)
            }
        )
        == 1
    )


NO_COLUMNS = (
    "params", "read_evidence", "read_thumbnail", "rival_confidence", "notes", "failures",
    "place",
    *CLAIM_COLUMNS, *CLAIM_CALL_COLUMNS,
)  # fmt: skip
"""Those about claims are in the rows of calls with claims only."""


def test_jsonl_has_the_fields_of_a_verdict(space: Cli, queries: Path) -> None:
    rows = space.rows("score", "s", "--vectors", queries, "--top-k", "2")
    assert [row["source"] for row in rows] == SOURCES
    assert next(iter(rows[0])) == "source"
    fields = {name for name in trustvlm.Verdicts.__dataclass_fields__ if name not in NO_COLUMNS}
    assert set(rows[0]) == fields | {"source", "evidence"}
    assert [row["label"] for row in rows] == ["airport", "beach", "sea [red]"]
    assert rows[2]["image_similarity"] is None
    assert rows[2]["unverified"] is True
    assert len(rows[0]["top_labels"]) == len(rows[0]["top_confidence"]) == 2
    with trustvlm.open(space.home) as service, np.load(queries) as arrays:
        verdicts = service.score(
            "s", trustvlm.Queries(arrays["classifier"], arrays["verifier"]), top_k=2
        )
        expected = list(verdicts.rows(evidence=3))
    assert [{"source": name} | row for name, row in zip(SOURCES, expected, strict=True)] == rows


def test_csv_has_the_same_columns(space: Cli, queries: Path) -> None:
    listed = list(
        csv.DictReader(io.StringIO(space("score", "s", "--vectors", queries, "--format", "csv")))
    )
    rows = space.rows("score", "s", "--vectors", queries, "--evidence", "0")
    assert list(listed[0]) == list(rows[0])
    assert [row["source"] for row in listed] == SOURCES
    assert listed[0]["top_labels"].split("|") == rows[0]["top_labels"]
    assert float(listed[0]["trust"]) == rows[0]["trust"]
    assert (listed[0]["agrees"], listed[1]["agrees"], listed[2]["image_similarity"]) == (
        "true",
        "false",
        "",
    )


def test_evidence_in_every_format(space: Cli, queries: Path) -> None:
    rows = space.rows("score", "s", "--vectors", queries, "--evidence", "1")
    assert [len(row["evidence"]["label"]) for row in rows] == [1, 1, 0]
    near = rows[0]["evidence"]["label"][0]
    assert set(near) == {"id", "source", "similarity", "attributes"}
    listed = list(
        csv.DictReader(
            io.StringIO(
                space("score", "s", "--vectors", queries, "--evidence", "1", "--format", "csv")
            )
        )
    )
    assert json.loads(listed[0]["evidence"]) == rows[0]["evidence"]
    table = space("score", "s", "--vectors", queries, "--evidence", "1").split("\n\n")
    assert len(table) == 2
    assert re.search(
        rf"^one.jpg +label +airport +{near['similarity']:.4f} +{near['id']}$",
        table[1],
        re.MULTILINE,
    )
    assert re.search(r"^\[bold\]two\[/\] +rival +airport", table[1], re.MULTILINE)


def test_rules_parameters_and_subsets(space: Cli, queries: Path, tmp_path: Path) -> None:
    def trusts(*arguments: object) -> list[float]:
        return [row["trust"] for row in space.rows("score", "s", "--vectors", queries, *arguments)]

    rows = space.rows("score", "s", "--vectors", queries)
    assert rows[0]["rule"] == trustvlm.DEFAULT_RULE
    half = trusts("--rule", "trustvlm", "--lambda", "0.5")[0]
    assert half == pytest.approx(rows[0]["text_confidence"] + 0.5 * rows[0]["image_similarity"])
    assert trusts("--rule", "msp") == [row["text_confidence"] for row in rows]
    hot, cold = (
        trusts("--rule", "trustvlm_star", "--temperature", value) for value in ("1", "0.01")
    )
    assert hot != cold
    wide, narrow = (trusts("--tau", value) for value in ("0.5", "0.05"))
    assert wide != narrow
    only = space.rows("score", "s", "--vectors", queries, "--only", "beach", "--only", "sea [red]")
    assert {row["label"] for row in only} == {"beach", "sea [red]"}
    without = save_queries(tmp_path / "text.npz", verifier=None, sources=None)
    found = space.rows("score", "s", "--vectors", without, "--rule", "msp")
    assert [row["source"] for row in found] == [f"{Path(without).name}[{i}]" for i in range(3)]
    assert "verifier" in space("score", "s", "--vectors", without, code=2)
    plain = space("score", "s", "--vectors", without, "--rule", "msp")
    assert "disagrees" not in plain
    assert plain.startswith("probability: rule msp's own, not calibrated\n")


def test_a_rule_without_probability_says_what_to_run(space: Cli, queries: Path) -> None:
    said, heading, *lines = space(
        "score", "s", "--vectors", queries, "--rule", "trustvlm"
    ).splitlines()
    assert said == (
        "no probability: rule trustvlm has none without a calibration; run 'trustvlm calibrate s FOLDER'"
    )
    at = heading.index("probability")
    assert {line[at : at + 11].strip() for line in lines} == {"–"}
    rows = space.rows("score", "s", "--vectors", queries, "--rule", "trustvlm")
    assert {(row["probability"], row["probability_source"]) for row in rows} == {(None, None)}


def test_no_queries_are_no_error(space: Cli, tmp_path: Path) -> None:
    empty = save_queries(
        tmp_path / "empty.npz", classifier=np.empty((0, 4)), verifier=np.empty((0, 6)), sources=None
    )
    for form in ("table", "jsonl", "csv"):
        assert space("score", "s", "--vectors", empty, "--format", form) == ""


def test_many_queries_stream_in_batches(space: Cli, tmp_path: Path) -> None:
    count = 3 * 700  # two whole batches and a part
    names = [str(i) for i in range(count)]
    classifier, verifier = np.tile(np.eye(3, 4), (700, 1)), np.tile(np.eye(3, 6), (700, 1))
    many = save_queries(
        tmp_path / "many.npz", classifier=classifier, verifier=verifier, sources=np.array(names)
    )
    said, *lines = space("score", "s", "--vectors", many).splitlines()
    assert said.startswith("probability: ")
    assert [line.split()[0] for line in lines] == ["source", *names]
    assert len(space("score", "s", "--vectors", many, "--format", "csv").splitlines()) == count + 1


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (("--rule", "magic"), 2, "rule: expected one of msp"),
        (("--temperature", "1"), 2, "has no parameter 'temperature'"),
        (("--lambda", "nan"), 2, "'--lambda': expected a number"),
        (("--top-k", "0"), 2, "'--top-k': expected a whole number"),
        (("--only", "nowhere"), 3, "no label 'nowhere'"),
        (("--evidence", "-1"), 2, "--evidence"),
        (("--format", "xml"), 2, "--format"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, tuple) else "",
)
def test_options_that_cannot_be_right(
    space: Cli, queries: Path, arguments: tuple[str, ...], code: int, message: str
) -> None:
    assert message in space("score", "s", "--vectors", queries, *arguments, code=code)


def test_vectors_that_cannot_be_right(space: Cli, tmp_path: Path) -> None:
    for changes, message in [
        ({"classifier": np.eye(3, 5)}, "classifier embeddings: expected shape (n, 4)"),
        ({"classifier": np.full((3, 4), np.inf)}, "NaN or infinite"),
        (
            {"verifier": np.eye(2, 6)},
            "arrays of one length, got classifier 3, verifier 2, sources 3",
        ),
        ({"sources": np.array(["a"])}, "arrays of one length"),
        ({"sources": np.array([1, 2, 3])}, "sources: expected a one-dimensional array of strings"),
        ({"classifier": None, "verifier": None}, "classifier, verifier or probabilities"),
        ({"classifier": None}, "scoring needs classifier embeddings"),
    ]:
        assert message in space(
            "score", "s", "--vectors", save_queries(tmp_path / "wrong.npz", **changes), code=2
        )
    assert "no file" in space("score", "s", "--vectors", tmp_path / "none.npz", code=3)
    assert "no space" in space(
        "score", "other", "--vectors", save_queries(tmp_path / "q.npz"), code=3
    )
    assert "Expected PATHS or --vectors" in space("score", "s", code=2)
    assert "PATHS and --vectors together" in space(
        "score", "s", "x.png", "--vectors", tmp_path / "q.npz", code=2
    )
    space("space", "create", "empty", "--classifier", "precomputed:4")
    one_side = save_queries(tmp_path / "q.npz", verifier=None)
    assert "no labels yet" in space("score", "empty", "--vectors", one_side, code=2)


def test_a_terminal_gets_colours_and_literal_names(space: Cli, queries: Path) -> None:
    def on_terminal(**environment: str) -> str:
        leader, follower = pty.openpty()
        command = [*COMMAND[1:], "--home", str(space.home), "score", "s", "--vectors", str(queries)]
        terminal = os.environ | {"COLUMNS": "150", "TERM": "xterm-256color"} | environment
        with Child(command, terminal, stderr=follower, stdout=follower):
            os.close(follower)
            said = b""
            while True:
                try:
                    more = os.read(leader, 65536)
                except OSError:  # Linux's end of file
                    break
                said += more
        os.close(leader)
        return said.decode()

    coloured = on_terminal()
    assert "\x1b[32m" in coloured  # agrees
    assert "\x1b[31m" in coloured  # disagrees
    assert "\x1b[33m" in coloured  # unverified
    assert "[bold]two[/]" in coloured
    assert "sea [red]" in coloured
    assert "\x1b[3" not in on_terminal(NO_COLOR="1")


# Images


def test_images_of_files_and_folders(encoded: tuple[Cli, Path], tmp_path: Path) -> None:
    cli, photos = encoded
    found = cli.rows("score", "s", photos, photos / "red" / "1.png")
    names = ["[b]blue/1.png", "[b]blue/2.png", "red/1.png", "red/2.png", "red/1.png"]
    assert [row["source"] for row in found] == [str(photos / name) for name in names]
    assert all(math.isfinite(row["trust"]) for row in found)
    deep = tmp_path / "a" / "b"
    deep.mkdir(parents=True)
    (deep / "x.png").write_bytes((photos / "red" / "1.png").read_bytes())
    (deep / "notes.txt").touch()
    (tmp_path / "a" / "bad.png").touch()
    (tmp_path / "a" / "loop").symlink_to(tmp_path)
    some = cli.run("score", "s", tmp_path / "a")
    assert [line.split()[0] for line in some.stdout.splitlines()[2:]] == [str(deep / "x.png")]
    assert some.stderr.splitlines() == [
        "left out: 1 file that is not an image (.txt)",
        f"left out: 1 folder reached a second time through a link ({tmp_path}/a/loop)",
        f"could not be read: {tmp_path}/a/bad.png: the file is empty",
        "1 image of 2 could not be read",
    ]


def test_images_that_are_not_there(encoded: tuple[Cli, Path], tmp_path: Path) -> None:
    cli, photos = encoded
    assert "no file or folder" in cli("score", "s", tmp_path / "none", code=3)
    assert "no images in" in cli("score", "s", tmp_path, code=2)
    (tmp_path / "bad.png").write_bytes(b"GIF89a")
    said = cli("score", "s", tmp_path, code=2)
    assert f"could not be read: {tmp_path}/bad.png: " in said
    assert said.endswith("Error: no image could be read\n")
    assert "rule" in cli("score", "s", photos, "--rule", "magic", code=2)


def test_file_names_that_are_not_utf8(encoded: tuple[Cli, Path], tmp_path: Path) -> None:
    cli, photos = encoded
    path = tmp_path / os.fsdecode(b"\xff\n.png")
    path.write_bytes((photos / "red" / "1.png").read_bytes())
    assert cli.rows("score", "s", path)[0]["source"] == str(path)
    assert r"\udcff\x0a.png" in cli("score", "s", path)


@pytest.mark.parametrize(
    ("form", "encoding"), [("table", "latin-1"), ("jsonl", "ascii"), ("csv", "latin-1")]
)
def test_output_fits_every_encoding(space: Cli, tmp_path: Path, form: str, encoding: str) -> None:
    odd = save_queries(tmp_path / "odd.npz", sources=np.array(["\udcff", "ü", "漢字"]))
    written = ("score", "s", "--vectors", odd, "--format", form)
    done = space.process(*written, PYTHONIOENCODING=encoding)
    assert done.returncode == 0, done.stderr
    assert r"\udcff" in done.stdout
    assert "漢字" in done.stdout or encoding != "utf-8"
    if form == "jsonl":
        assert [json.loads(line)["source"] for line in done.stdout.splitlines()] == [
            "\udcff",
            "ü",
            "漢字",
        ]


def test_images_of_spaces_that_cannot_encode_them(space: Cli, encoded: tuple[Cli, Path]) -> None:
    assert "cannot encode images" in space("score", "s", encoded[1], code=2)
    assert "cannot encode images" in space(
        "search", "s", "--image", encoded[1] / "red" / "1.png", code=2
    )
    assert "cannot encode text" in space("search", "s", "--text", "a beach", code=2)


# Search


def test_search_by_image_and_text(encoded: tuple[Cli, Path], tmp_path: Path) -> None:
    cli, photos = encoded
    image = photos / "red" / "2.png"
    hits = cli.rows("search", "s", "--image", image, "-k", "2")
    assert [hit["rank"] for hit in hits] == [1, 2]
    assert (hits[0]["label"], hits[0]["source"]) == ("red", str(image))
    assert hits[0]["similarity"] == pytest.approx(1, abs=1e-5)
    table = cli("search", "s", "--image", image).splitlines()
    assert table[0].split() == ["rank", "similarity", "label", "id", "source"]
    assert len(table) == 5
    assert {
        hit["label"] for hit in cli.rows("search", "s", "--image", image, "--kind", "prototype")
    } == {"red", "[b]blue"}
    texts = cli.rows("search", "s", "--text", "a photo of a red.")
    assert texts[0]["label"] == "red"
    assert texts[0]["similarity"] == pytest.approx(1, abs=1e-5)
    assert len(cli.rows("search", "s", "--text", "red", "--kind", "support")) == 4
    (tmp_path / "bad.png").touch()
    assert f"Error: {tmp_path}/bad.png: the file is empty\n" == cli(
        "search", "s", "--image", tmp_path / "bad.png", code=2
    )
    assert "no file" in cli("search", "s", "--image", tmp_path / "none.png", code=3)
    assert "non-empty" in cli("search", "s", "--text", " ", code=2)


def test_search_by_vectors(space: Cli, tmp_path: Path, queries: Path) -> None:
    one, many = tmp_path / "one.npy", tmp_path / "many.npz"
    np.save(one, np.eye(6)[1])
    np.savez(many, anything=np.eye(6)[:2])
    assert {hit["label"] for hit in space.rows("search", "s", "--vector", one, "-k", "2")} == {
        "beach"
    }
    assert [
        hit["label"]
        for hit in space.rows("search", "s", "--vector", many, "--kind", "prototype", "-k", "1")
    ] == ["airport", "beach"]
    assert space("search", "s", "--vector", many).splitlines()[0].split()[0] == "query"
    listed = list(
        csv.DictReader(io.StringIO(space("search", "s", "--vector", one, "--format", "csv")))
    )
    columns = ["query", "rank", "id", "similarity", "label", "source", "attributes"]
    assert list(listed[0]) == columns
    texts = space.rows("search", "s", "--vector", queries, "--side", "classifier", "-k", "1")
    assert [hit["label"] for hit in texts] == ["airport", "beach", "sea [red]"]
    assert [hit["query"] for hit in texts] == [0, 1, 2]


def test_search_that_cannot_be_right(space: Cli, tmp_path: Path) -> None:
    vector = tmp_path / "v.npy"
    np.save(vector, np.eye(6)[0])
    assert "Expected --image, --text, --vector, --like-support or --like-label" in space(
        "search", "s", code=2
    )
    assert "--image and --text together" in space(
        "search", "s", "--image", "x", "--text", "y", code=2
    )
    assert "'-k': expected" in space("search", "s", "--vector", vector, "-k", "0", code=2)
    assert "no space" in space("search", "other", "--vector", vector, code=3)
    assert "no file" in space("search", "s", "--vector", tmp_path / "none.npy", code=3)
    assert "(n, 4)" in space("search", "s", "--vector", vector, "--side", "classifier", code=2)
    vector.write_bytes(b"hello")
    assert "expected arrays saved with numpy" in space("search", "s", "--vector", vector, code=2)
    np.savez(tmp_path / "two.npz", a=np.eye(6), b=np.eye(6))
    assert "expected an array named verifier, or only one" in space(
        "search", "s", "--vector", tmp_path / "two.npz", code=2
    )
    assert "--kind" in space("search", "s", "--text", "x", "--kind", "label", code=2)


def test_search_that_finds_nothing_says_so(space: Cli, tmp_path: Path) -> None:
    np.save(tmp_path / "v.npy", np.eye(6)[0])
    space("space", "create", "t", "--classifier", "precomputed:6")
    result = space.run("search", "t", "--vector", tmp_path / "v.npy")
    assert result.stdout == ""
    assert result.stderr == "no hit: the space has nothing of this kind yet\n"
