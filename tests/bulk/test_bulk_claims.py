"""Bulk work on claims: each row's verdict is the one of service.score on the claimed label."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from bulk_worlds import batch, equal, scored, write_vectors
from checkpoints import make_clip
from cli_runner import Cli
from PIL import Image
from test_image_sets import COLOURS, write_tar

import trustvlm
import trustvlm.bulk
from trustvlm import Conflict, InvalidInput, NotFound
from trustvlm.types import Verdicts

ROWS = 24
SAID = [[f"label {row % 20:04d}", None, "no label", ""][row % 4] for row in range(ROWS)]
CLAIMS = [name or None for name in SAID]
NAMES = [f"photos/{row}.jpg" for row in range(ROWS)]


def expected(home: Path, number: int, claims: list[str | None], **options: Any) -> Verdicts:
    return scored(home, replace(batch(number, ROWS), claimed=claims), **options)


@pytest.fixture
def given(tmp_path: Path) -> Path:
    """Two files of vectors with names and claims; the second has none that is a label."""
    for number, claims in enumerate([SAID, ["no label"] * ROWS]):
        path = tmp_path / "in" / f"part-{number}.parquet"
        write_vectors(path, batch(number, ROWS), id=NAMES, said=claims, number=range(ROWS))
    return tmp_path / "in"


@pytest.mark.parametrize("on", ["here", pytest.param("processes:2", marks=pytest.mark.slow)])
def test_a_column_equals_score_to_the_bit(home: Path, given: Path, tmp_path: Path, on: str) -> None:
    out = tmp_path / "out"
    report = trustvlm.bulk.score(home, "space", given, out, claimed="said", rule="msp", on=on)
    assert equal(out / "part-0-00000.parquet", expected(home, 0, CLAIMS, rule="msp"))
    assert equal(out / "part-1-00000.parquet", expected(home, 1, ["no label"] * ROWS, rule="msp"))
    assert report.verdicts is not None
    assert (report.verdicts.claimed, report.verdicts.not_a_label) == (6, 6 + ROWS)
    better = expected(home, 0, CLAIMS, rule="msp").better_label
    fits = [name for name, claim in zip(better, CLAIMS, strict=True) if claim in SAID[::4]]
    assert report.verdicts.better_label == sum(name is not None for name in fits)
    assert trustvlm.bulk.status(out).verdicts == report.verdicts
    of_label = {one.label: one.rows for one in report.verdicts.by_label}
    assert sum(of_label.values()) == 2 * ROWS
    assert set(SAID[::4]) <= set(of_label)


@pytest.mark.slow  # by default: test_bulk.py::test_calls_and_units_divide_rows_without_a_trace
def test_parts_and_kinds_of_columns(home: Path, tmp_path: Path) -> None:
    """Units of several calls, and names as numbers or in a dictionary, keep each claim at its row."""
    rows = 16_384 + 300
    claims = [f"label {row % 20:04d}" for row in range(rows)]
    said = pa.array(claims).dictionary_encode()
    file = write_vectors(tmp_path / "in.parquet", batch(0, rows), said=said, number=range(rows))
    trustvlm.bulk.score(home, "space", file, tmp_path / "out", claimed="said")
    assert equal(
        tmp_path / "out" / "in-00000.parquet", scored(home, replace(batch(0, rows), claimed=claims))
    )
    few = write_vectors(tmp_path / "few.parquet", batch(0, 20), number=range(20))
    trustvlm.bulk.score(home, "space", few, tmp_path / "numbers", claimed="number", rows=16)
    table = pq.read_table(tmp_path / "numbers" / "few-00001.parquet")
    assert table.column("claimed").to_pylist() == [str(row) for row in range(16, 20)]
    assert set(table.column("reason_code").to_pylist()) == {"not_a_label"}


def test_a_table_names_rows(home: Path, given: Path, tmp_path: Path) -> None:
    listed = tmp_path / "claims.csv"
    listed.write_text("file,label\n5.jpg,label 0001\nphotos/7.jpg,label 0002\n8.jpg,\n")
    out, notes = tmp_path / "out", list[str]()
    report = trustvlm.bulk.score(
        home, "space", given, out, claimed=listed, note=notes.append, rule="msp"
    )
    claims: list[str | None] = [None] * ROWS
    claims[5], claims[7] = "label 0001", "label 0002"
    for number in range(2):
        verdicts = expected(home, number, claims, rule="msp")
        assert equal(out / f"part-{number}-00000.parquet", verdicts)
    assert report.verdicts is not None
    assert report.verdicts.claimed == 4
    assert not notes
    listed.write_text("file,label\n5.jpg,label 0001\n")
    with pytest.raises(Conflict, match="the claims differ"):
        trustvlm.bulk.score(home, "space", given, out, claimed=listed, rule="msp")
    listed.write_text("file,label\nelsewhere.jpg,label 0001\n")
    trustvlm.bulk.score(
        home, "space", given, out, claimed=listed, note=notes.append, rule="msp", redo=True
    )
    (note,) = notes
    assert "none of its 1 files is one of the 48 rows (column source)" in note
    assert note.endswith("elsewhere.jpg")


def test_claims_are_part_of_the_key(home: Path, given: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    trustvlm.bulk.score(home, "space", given, out, claimed="said")
    assert trustvlm.bulk.score(home, "space", given, out, claimed="said").done_now == 0
    for claimed in (None, "number"):
        with pytest.raises(Conflict, match="the claims differ"):
            trustvlm.bulk.score(home, "space", given, out, claimed=claimed)
    changed = ["label 0001", *SAID[1:]]
    write_vectors(given / "part-0.parquet", batch(0, ROWS), id=NAMES, said=changed)
    with pytest.raises(Conflict, match=r"the claims of its rows, of .*part-0\.parquet"):
        trustvlm.bulk.score(home, "space", given, out, claimed="said")
    assert trustvlm.bulk.score(home, "space", given, out, claimed="said", redo=True).done_now == 1
    claims = [name or None for name in changed]
    assert equal(out / "part-0-00000.parquet", expected(home, 0, claims))
    write_vectors(given / "part-0.parquet", batch(0, ROWS), id=NAMES, said=changed, more=NAMES)
    assert trustvlm.bulk.score(home, "space", given, out, claimed="said").done_now == 0


def test_a_calibration_of_claims_decides(home: Path, given: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    trustvlm.bulk.score(home, "space", given, out, claimed="said", rule="posterior")
    truth = scored(home, batch(90, 400), rule="posterior").label.tolist()
    with trustvlm.open(home) as service:
        queries = replace(batch(90, 400), claimed=truth)
        calibration = service.calibrate("space", queries, truth, rule="posterior")
    assert calibration.threshold is not None
    with pytest.raises(Conflict, match="its claims calibration is none, now 1"):
        trustvlm.bulk.score(home, "space", given, out, claimed="said", rule="posterior")
    report = trustvlm.bulk.score(home, "space", given, out, claimed="said", redo=True)
    verdicts = expected(home, 0, CLAIMS)
    assert equal(out / "part-0-00000.parquet", verdicts)
    assert report.verdicts is not None
    assert report.verdicts.accepted == int((verdicts.decision == "accept").sum())


@pytest.mark.parametrize(
    ("claimed", "what"),
    [
        ("sayd", "no file sayd, and .*part-0.parquet has no such column; .*did you mean 'said'"),
        ("verifier", "column verifier: expected names of labels, got list"),
        ("", "expected the name of a column or of a file"),
        (["label 0001"], "claimed is a list; rows of Parquet files need a column of theirs"),
        ([1], "expected the name of a column or file, or a label name"),
    ],
)
def test_claims_that_rows_cannot_have_are_refused(
    home: Path, given: Path, tmp_path: Path, claimed: Any, what: str
) -> None:
    with pytest.raises(InvalidInput, match=what):
        trustvlm.bulk.score(home, "space", given, tmp_path / "out", claimed=claimed)
    assert not (tmp_path / "out").exists()


def test_other_refusals(home: Path, given: Path, tmp_path: Path, cli: Cli) -> None:
    out = tmp_path / "out"
    with pytest.raises(InvalidInput, match="entropy"):
        trustvlm.bulk.score(home, "space", given, out, claimed="said", rule="entropy")
    with pytest.raises(NotFound, match=r"gone\.csv"):
        trustvlm.bulk.score(home, "space", given, out, claimed=tmp_path / "gone.csv")
    command = ("bulk", "score", "space", given, out, "--claimed")
    assert "did you mean 'said'" in cli(*command, "sayd", code=2)
    assert not out.exists()
    printed = cli(*command, "said")
    assert "6; another label fits" in printed
    assert "30 more are no label" in printed


# Images


@pytest.fixture(scope="module")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Six pictures, one of them unreadable, a table, a list and a shard of them; and a home."""
    root = tmp_path_factory.mktemp("claimed pictures")
    (root / "all").mkdir()
    paths = [root / "all" / f"{number}.png" for number in range(6)]
    for path, colour in zip(paths, [*COLOURS.values()] * 2, strict=True):
        Image.new("RGB", (40, 40), colour).save(path)
    paths[2].write_bytes(b"no picture")
    contents = [path.read_bytes() for path in paths]
    said = [*reversed([*COLOURS]), *COLOURS]
    rows = [f"all/{path.name},{name}" for path, name in zip(paths, said, strict=True)]
    (root / "table.csv").write_text("\n".join(["file,model", *rows, ""]))
    (root / "listed.csv").write_text("\n".join(["file,label", *rows, ""]))
    (root / "claims.txt").write_text("\n".join([*said, ""]))
    write_tar(root / "shard.tar", [(content, "x") for content in contents])
    pq.write_table(pa.table({"image": contents, "model": said}), root / "bytes.parquet")
    with trustvlm.open(root / "home", create=True, workers=0) as service:
        service.create_space("colours", classifier=make_clip(root / "clip"))
        supports = {name: Image.new("RGB", (40, 40), colour) for name, colour in COLOURS.items()}
        service.register("colours", supports)
    return root


def rows_of(out: Path) -> list[dict[str, Any]]:
    return [
        row for path in sorted(out.glob("*.parquet")) for row in pq.read_table(path).to_pylist()
    ]


@pytest.mark.parametrize(
    ("given", "claimed"),
    [
        ("table.csv", "model"),
        ("all", "claims.txt"),
        ("all", "listed.csv"),
        ("bytes.parquet", "model"),
    ],
)
def test_images_in_every_form(pictures: Path, tmp_path: Path, given: str, claimed: str) -> None:
    home = pictures / "home"
    where = pictures / claimed if "." in claimed else claimed
    options: dict[str, Any] = {"workers": 0, "keep_embeddings": True, "rows": 4}
    trustvlm.bulk.score(home, "colours", pictures / given, tmp_path, claimed=where, **options)
    rows = rows_of(tmp_path)
    said = (pictures / "claims.txt").read_text().split()
    assert [row["claimed"] for row in rows] == [*said[:2], None, *said[3:]]
    assert rows[2]["failure"]
    files = [pictures / "all" / f"{number}.png" for number in range(6)]
    with trustvlm.open(home, workers=0) as service:
        verdicts = service.score(
            "colours", trustvlm.Queries(images=files, claimed=said), on_error="skip"
        )
    got = [row["claimed_probability"] for row in rows if not row["failure"]]
    assert got == pytest.approx(verdicts.claimed_probability.tolist())
    again = trustvlm.bulk.score(
        home, "colours", pictures / given, tmp_path, claimed=where, **options
    )
    assert again.done_now == 0


def test_changed_claims_need_no_encoding(pictures: Path, tmp_path: Path) -> None:
    """Only the units whose claims have changed are made again, from the embeddings that are kept."""
    home, claims, out = pictures / "home", tmp_path / "claims.txt", tmp_path / "out"
    claims.write_text((pictures / "claims.txt").read_text())
    options: dict[str, Any] = {"rows": 3, "claimed": claims, "workers": 0}
    trustvlm.bulk.score(home, "colours", pictures / "all", out, keep_embeddings=True, **options)
    names = claims.read_text().split()
    claims.write_text("\n".join([*names[:5], "no label"]))
    with pytest.raises(Conflict, match="claims of its rows"):
        trustvlm.bulk.score(home, "colours", pictures / "all", out, **options)
    clip = pictures / "clip"
    clip.rename(pictures / "away")  # from here on nothing can be encoded
    try:
        report = trustvlm.bulk.score(home, "colours", pictures / "all", out, redo=True, **options)
    finally:
        (pictures / "away").rename(clip)
    assert report.done_now == 1
    assert rows_of(out)[5]["reason_code"] == "not_a_label"


def test_shards_and_lists(pictures: Path, tmp_path: Path) -> None:
    home, shard = pictures / "home", pictures / "shard.tar"
    trustvlm.bulk.score(home, "colours", shard, tmp_path / "first", workers=0)
    name = Path(rows_of(tmp_path / "first")[1]["source"]).name
    listed = tmp_path / "claims.csv"
    listed.write_text(f"file,label\n{name},red\n")
    trustvlm.bulk.score(home, "colours", shard, tmp_path / "out", claimed=listed, workers=0)
    claims = [row["claimed"] for row in rows_of(tmp_path / "out")]
    assert claims == [None, "red", None, None, None, None]
    files = [pictures / "all" / "0.png", pictures / "all" / "1.png"]
    trustvlm.bulk.score(
        home, "colours", files, tmp_path / "list", claimed=[None, "blue"], workers=0
    )
    assert [row["claimed"] for row in rows_of(tmp_path / "list")] == [None, "blue"]
    cases = [
        (shard, "model", "no file model; images of tar shards need a table"),
        (shard, pictures / "claims.txt", "is a list; images of tar shards need a table"),
        (pictures / "all", "model", "no file model; a column needs Parquet files"),
        (files, ["red"], "expected a claim for each image .* got 1 for 2 images"),
        (pictures / "table.csv", "modle", "expected a column 'modle'"),
        (files, listed, "none of its 1 files is one of the 2 images"),
    ]
    for given, claimed, what in cases:
        with pytest.raises(InvalidInput, match=what):
            trustvlm.bulk.score(home, "colours", given, tmp_path / "no", claimed=claimed)


def test_the_command_line(pictures: Path, tmp_path: Path) -> None:
    cli = Cli(pictures / "home")
    claims = pictures / "claims.txt"
    command = ("bulk", "score", "colours", pictures / "all", tmp_path / "out", "--claimed", claims)
    answer = json.loads(cli(*command, "--format", "json"))
    assert (answer["verdicts"]["claimed"], answer["verdicts"]["not_a_label"]) == (5, 0)
