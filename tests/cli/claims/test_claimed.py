"""--claimed: labels that were given elsewhere, as columns, arrays and files."""

from __future__ import annotations

import csv
import io
import json
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from checkpoints import make_clip
from cli_runner import Cli, save_labels, save_queries
from PIL import Image

FILES = ["red/1.png", "red/3.png", "blue/1.png"]
CLAIMS = ["red", "blue", "green"]


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory) -> tuple[Cli, Path]:
    """A home whose space "s" knows two images each of red and blue, and a folder of photos."""
    folder = tmp_path_factory.mktemp("claimed")
    for seed, name in enumerate(
        ["red/1.png", "red/2.png", "red/3.png", "blue/1.png", "blue/2.png"]
    ):
        path = folder / "photos" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        pixels = np.random.default_rng(seed).integers(0, 255, (24, 24, 3), np.uint8)
        Image.fromarray(pixels).save(path)
    cli = Cli(folder / "home")
    cli("space", "create", "s", "--classifier", make_clip(folder / "clip"))
    cli("register", "s", folder / "photos")
    (folder / "table.csv").write_text(
        "file,model\n"
        + "".join(f"photos/{one},{name}\n" for one, name in zip(FILES, CLAIMS, strict=True))
    )
    return cli, folder


def claimed(rows: list[dict[str, object]]) -> list[object]:
    return [row["claimed"] for row in rows]


def test_a_column_of_the_table_of_images(photos: tuple[Cli, Path]) -> None:
    cli, folder = photos
    rows = cli.rows("score", "s", folder / "table.csv", "--claimed", "model")
    assert claimed(rows) == CLAIMS
    assert rows[2]["reason_code"] == "not_a_label"
    assert rows[1]["better_label"] == "red"
    assert len(rows[1]["evidence"]["claimed"]) == 2
    error = cli("score", "s", folder / "table.csv", "--claimed", "modle", code=2)
    assert "expected a column 'modle'" in error
    table = cli("score", "s", folder / "table.csv", "--claimed", "model")
    assert "better label" in table.splitlines()[1]
    sheet = cli("score", "s", folder / "table.csv", "--claimed", "model", "--format", "csv")
    assert [row["claimed"] for row in csv.DictReader(io.StringIO(sheet))] == CLAIMS


def test_a_file_of_files_and_labels(photos: tuple[Cli, Path], tmp_path: Path) -> None:
    """Its files are the ends of the paths of images; images that it lacks have no claim."""
    cli, folder = photos
    listed = tmp_path / "claims.csv"
    listed.write_text('file,label\nred/1.png,"blue"\nblue/2.png,\nother.png,red\n')
    result = cli.run("score", "s", folder / "photos", "--claimed", listed, "--format", "jsonl")
    rows = {
        "/".join(Path(row["source"]).parts[-2:]): row["claimed"]
        for row in map(json.loads, result.stdout.splitlines())
    }
    assert rows == {
        "blue/1.png": None, "blue/2.png": None, "red/1.png": "blue", "red/2.png": None,
        "red/3.png": None,
    }  # fmt: skip
    assert "1 claim of no image: other.png" in result.stderr
    parquet = tmp_path / "claims.parquet"
    pq.write_table(pa.table({"path": ["red/1.png"], "claimed": ["blue"]}), parquet)
    again = cli.rows("score", "s", folder / "photos/red", "--claimed", parquet)
    assert claimed(again) == ["blue", None, None]
    listed.write_text("file,label\nelsewhere.png,red\n")
    error = cli("score", "s", folder / "photos", "--claimed", listed, code=2)
    assert "none of its 1 file is one of the 5 images" in error
    listed.write_text("file,label\na.png,red\na.png,blue\n")
    error = cli("score", "s", folder / "photos", "--claimed", listed, code=2)
    assert "a.png is claimed to be 'red' and 'blue'" in error


def test_files_by_their_absolute_paths(
    photos: tuple[Cli, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A table names an image by its absolute path, the command by a relative one."""
    cli, folder = photos
    monkeypatch.chdir(folder)
    listed = tmp_path / "claims.csv"
    listed.write_text(f"file,label\n{folder}/photos/red/1.png,blue\n")
    rows = cli.rows("score", "s", "photos/red", "--claimed", listed)
    assert claimed(rows) == ["blue", None, None]


def test_a_label_a_line(photos: tuple[Cli, Path], tmp_path: Path) -> None:
    cli, folder = photos
    lines = tmp_path / "claims.txt"
    lines.write_text("blue\n\nred\n")
    rows = cli.rows("score", "s", folder / "photos/red", "--claimed", lines)
    assert claimed(rows) == ["blue", None, "red"]
    for text, got in (("blue\n", "1"), ("blue\nred\nred\nred\n", "4")):
        lines.write_text(text)
        error = cli("score", "s", folder / "photos/red", "--claimed", lines, code=2)
        assert f"expected a claim for each image (an empty line for none), got {got}" in error
    error = cli("score", "s", folder / "photos/red", "--claimed", "no column", code=2)
    assert "--claimed: no file no column; a column needs images in a table" in error
    error = cli("score", "s", folder / "photos/red", "--claimed", tmp_path / "no.csv", code=3)
    assert "no.csv" in error


def test_an_array_of_the_file_of_vectors(tmp_path: Path) -> None:
    cli = Cli(tmp_path / "home")
    sides = ("--classifier", "precomputed:4", "--verifier", "precomputed:6", "--logit-scale", "10")
    cli("space", "create", "s", *sides)
    cli("register", "s", "--vectors", save_labels(tmp_path / "labels.npz"))
    queries = save_queries(tmp_path / "queries.npz")
    with np.load(queries) as arrays:
        held = dict(arrays)
    count = len(held["classifier"])
    held |= {"said": np.array(["airport"] * count), "truth": np.array(["airport"] * count)}
    np.savez(queries, **held)
    rows = cli.rows("score", "s", "--vectors", queries, "--claimed", "said")
    assert claimed(rows) == ["airport"] * count
    table = cli("score", "s", "--vectors", queries, "--claimed", "said").splitlines()
    # The space's label of the second is beach, but its picture is an airport's, as the claim says.
    assert ["disagrees" in line for line in table[2:]] == [
        row["nearest_prototype"] != "airport" for row in rows
    ]
    assert (rows[1]["agrees"], rows[1]["nearest_prototype"]) == (False, "airport")
    error = cli("score", "s", "--vectors", queries, "--claimed", "sayd", code=2)
    assert "expected arrays named sayd" in error
    values = json.loads(
        cli("evaluate", "s", "--vectors", queries, "--claimed", "said", "--json", "--rules", "msp")
    )
    assert values["claims"]
    assert values["rules"][0]["accuracy"]["value"] == 1.0


def test_measuring_by_files_and_by_a_column(photos: tuple[Cli, Path], tmp_path: Path) -> None:
    cli = photos[0]
    rng = np.random.default_rng(9)
    lines = ["file,label,model"]
    for place in range(12):
        path = tmp_path / "new" / f"{place}.png"
        path.parent.mkdir(exist_ok=True)
        Image.fromarray(rng.integers(0, 255, (24, 24, 3), np.uint8)).save(path)
        lines.append(f"new/{place}.png,{'red' if place % 2 else 'blue'},red")
    table = tmp_path / "table.csv"
    table.write_text("\n".join(lines))
    options = ("--rules", "posterior", "--json", "--draws", "0")
    by_column = cli("evaluate", "s", table, "--claimed", "model", *options)
    listed = tmp_path / "claims.csv"
    listed.write_text("file,label\n" + "".join(f"{place}.png,red\n" for place in range(12)))
    by_file = cli("evaluate", "s", table, "--claimed", listed, *options)
    assert json.loads(by_column) == json.loads(by_file)
    assert json.loads(by_column)["rules"][0]["accuracy"]["value"] == 0.5
    error = cli("calibrate", "s", table, "--claimed", listed, code=1)
    assert "failed" in error
    (row,) = cli.rows("calibration", "list", "s")
    assert row["claims"] is True
    (tmp_path / "claims.txt").write_text("red\n" * 12)
    error = cli("evaluate", "s", table, "--claimed", tmp_path / "claims.txt", code=2)
    assert "expected a table with the columns file and label" in error
    few = tmp_path / "few.csv"
    few.write_text("file,label\n" + "".join(f"{place}.png,red\n" for place in range(10)))
    result = cli.run("feedback", "s", table, "--claimed", few, "--sampling", "random")
    assert result.stdout == "0 images stored, 10 stored already, 5 claimed rightly\n"
    assert "2 images left out: without a claim that is a label" in result.stderr
    assert "support images cannot" not in result.stderr
    error = cli("monitor", "s", "--claims", code=3)
    assert "'trustvlm calibrate s FOLDER --claimed FILE'" in error
    one = ("--image", tmp_path / "new/0.png", "--label", "red")
    error = cli("feedback", "s", *one, "--claimed", few, code=2)
    assert "--claimed is about the images of FOLDER or --vectors" in error
