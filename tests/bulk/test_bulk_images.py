"""Bulk work on images: folders, lists, tables, Parquet files and shards, with unreadable ones."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from bulk_worlds import plain
from checkpoints import make_clip
from cli_runner import Cli
from PIL import Image
from test_image_sets import COLOURS, write_tar

import trustvlm
import trustvlm.bulk
from trustvlm import InvalidInput

BAD = 2
"""Place of the image that cannot be read."""


@pytest.fixture(scope="module")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Seven pictures, one of which is none, and files that list or hold them."""
    root, rng = tmp_path_factory.mktemp("pictures"), np.random.default_rng(0)
    (root / "all" / "below").mkdir(parents=True)
    paths = []
    for number, colour in enumerate([*COLOURS.values()] * 2 + [(9, 9, 9)]):
        pixels = np.clip(rng.normal(colour, 40, size=(40, 40, 3)), 0, 255).astype(np.uint8)
        paths.append(root / "all" / ("below" if number > 4 else "") / f"{number}.png")
        Image.fromarray(pixels).save(paths[-1])
    paths[BAD].write_bytes(b"\x89PNG\r\n\x1a\n no picture")
    names = [str(path.relative_to(root)) for path in paths]
    contents = [path.read_bytes() for path in paths]
    (root / "list.txt").write_text("\n".join(names) + "\n")
    (root / "table.csv").write_text("\n".join(["file,label", *[f"{n},x" for n in names], ""]))
    pq.write_table(pa.table({"path": names}), root / "paths.parquet")
    pq.write_table(pa.table({"image": contents}), root / "bytes.parquet", row_group_size=3)
    write_tar(root / "shard.tar", [(content, "x") for content in contents])
    return root


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A space of three colours, whose encoder is in a folder beside the home."""
    where = tmp_path_factory.mktemp("home")
    with trustvlm.open(where / "home", create=True, workers=0) as service:
        service.create_space("colours", classifier=make_clip(where / "clip"))
        supports = {name: Image.new("RGB", (40, 40), colour) for name, colour in COLOURS.items()}
        service.register("colours", supports)
    return where / "home"


def paths(pictures: Path) -> list[Path]:
    """Folders are looked through by name: those below come where their name stands."""
    return sorted((pictures / "all").rglob("*.png"), key=lambda path: path.name)


@pytest.mark.parametrize(
    "kind",
    [
        *("all", "table.csv", "bytes.parquet"),
        *(
            pytest.param(kind, marks=pytest.mark.slow)
            for kind in ("list.txt", "paths.parquet", "shard.tar")
        ),
    ],
)
def test_every_kind_of_input_gives_the_verdicts_of_score(
    home: Path, pictures: Path, tmp_path: Path, kind: str
) -> None:
    report = trustvlm.bulk.score(home, "colours", pictures / kind, tmp_path, workers=0)
    assert (report.units, report.rows, report.failed) == (1, 7, 1)
    (file,) = tmp_path.glob("*.parquet")
    table = pq.read_table(file)
    reasons = table.column("failure").to_pylist()
    assert [place for place, reason in enumerate(reasons) if reason] == [BAD]
    with trustvlm.open(home, workers=0) as service:
        verdicts = service.score("colours", paths(pictures), on_error="skip")
    got = plain(table.filter(pa.array([reason is None for reason in reasons])))
    expected = verdicts.to_arrow().drop_columns(["source"])
    assert got.cast(expected.schema).equals(expected)
    names = table.column("source").to_pylist()
    if "bytes" not in kind and "shard" not in kind:
        assert names == [str(path) for path in paths(pictures)]
    assert len(set(names)) == 7


def test_kept_embeddings_are_scored_again_without_encoding(
    home: Path, pictures: Path, tmp_path: Path
) -> None:
    out, options = tmp_path / "out", {"rows": 3, "keep_embeddings": True, "workers": 0}
    first = trustvlm.bulk.score(home, "colours", pictures / "all", out, rule="msp", **options)
    assert (first.units, first.rows) == (3, 7)
    kept = sorted((out / "_embeddings").glob("*.parquet"))
    assert [path.name for path in kept] == [f"images-{n:05d}.parquet" for n in range(3)]
    table = pq.read_table(kept[0])
    assert table.column_names == ["source", "classifier", "failure"]
    clip = home.parent / "clip"
    clip.rename(home.parent / "away")  # from here on nothing can be encoded
    try:
        again = trustvlm.bulk.score(
            home, "colours", pictures / "all", out, rule="posterior", rows=3, redo=True, workers=0
        )
        assert (again.done_now, again.rows, again.failed) == (3, 7, 1)
        other = tmp_path / "other"
        trustvlm.bulk.score(home, "colours", out / "_embeddings", other, rule="posterior")
    finally:
        (home.parent / "away").rename(clip)
    fresh = tmp_path / "fresh"
    trustvlm.bulk.score(
        home, "colours", pictures / "all", fresh, rule="posterior", rows=3, workers=0
    )
    for number in range(3):
        expected = pq.read_table(fresh / f"images-{number:05d}.parquet")
        for folder, name in ((out, f"images-{number:05d}"), (other, f"images-{number:05d}-00000")):
            got = pq.read_table(folder / f"{name}.parquet")
            assert got.replace_schema_metadata().equals(expected.replace_schema_metadata())


def test_embedded_images_are_an_input(home: Path, pictures: Path, tmp_path: Path, cli: Cli) -> None:
    embedded, out = tmp_path / "embedded", tmp_path / "out"
    printed = cli("--home", home, "bulk", "embed", "colours", pictures / "all", embedded)
    assert "7, 1 without an answer" in printed
    assert "embed, space colours" in cli("bulk", "status", embedded)
    report = trustvlm.bulk.score(home, "colours", embedded, out)
    assert (report.rows, report.failed) == (7, 1)
    with trustvlm.open(home, workers=0) as service:
        embeddings = service.embed("colours", paths(pictures))
    rows = pq.read_table(embedded / "images-00000.parquet").column("classifier").to_pylist()
    assert rows[BAD] is None
    assert (
        np.array([row for row in rows if row], np.float32).tobytes()
        == np.asarray(embeddings.queries.classifier).tobytes()
    )


def test_what_is_no_input_is_refused(home: Path, pictures: Path, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    mixed = tmp_path / "mixed"
    mixed.mkdir()
    for name in ("bytes.parquet", "shard.tar"):
        (mixed / name).write_bytes((pictures / name).read_bytes())
    (tmp_path / "gone.txt").write_text("no.png\nnone.png\n")
    for given, what in (
        (tmp_path / "empty", "has no rows"),
        (mixed, r"several kinds \(\.parquet, \.tar\)"),
        (tmp_path / "gone.txt", "none of the files exists"),
    ):
        with pytest.raises(InvalidInput, match=what):
            trustvlm.bulk.score(home, "colours", given, tmp_path / "out")
    with pytest.raises(InvalidInput, match="a shard is one unit"):
        trustvlm.bulk.score(home, "colours", pictures / "shard.tar", tmp_path / "out", rows=3)


def test_excluded_images_are_left_out(home: Path, pictures: Path, tmp_path: Path) -> None:
    notes: list[str] = []
    report = trustvlm.bulk.embed(
        home, "colours", pictures / "all", tmp_path, exclude=["below"], workers=0, note=notes.append
    )
    assert report.rows == 5
    assert "excluded by --exclude" in notes[0]
