"""trustvlm start: one command from a folder, or vectors, to what can be accepted."""

from __future__ import annotations

import json
import re
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from checkpoints import make_clip
from cli_runner import Cli
from test_folders import picture


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory) -> str:
    return make_clip(tmp_path_factory.mktemp("checkpoints") / "clip")


@pytest.fixture(scope="module")
def started(tmp_path_factory: pytest.TempPathFactory, clip: str) -> Cli:
    """A home that `start` made of a folder "Meine Bilder", one of whose images cannot be read."""
    folder = tmp_path_factory.mktemp("start")
    for number in range(24):
        picture(
            folder / "Meine Bilder" / ["cat", "grüner Hund"][number % 2] / f"{number}.png", number
        )
    (folder / "Meine Bilder" / "cat" / "broken.png").write_bytes(b"no image")
    picture(folder / "Meine Bilder" / "lone" / "one.png", 100)
    cli = Cli(folder / "home")
    cli.first = cli.run("start", folder / "Meine Bilder", "--classifier", clip)  # type: ignore[attr-defined]
    return cli


def counts(cli: Cli, space: str) -> tuple[int, int, int]:
    """(support images, calibrations, stored images)."""
    supports = sum(row["support_count"] for row in cli.rows("label", "list", space))
    made = cli.rows("calibration", "list", space)
    return supports, len(made), made[0]["images"] if made else 0


def test_a_folder_becomes_a_measured_space(started: Cli) -> None:
    first = started.first  # type: ignore[attr-defined]
    supports, calibrations, measured = counts(started, "Meine-Bilder")
    lines = first.stdout.splitlines()
    assert lines[0] == (
        f"Space Meine-Bilder: 3 labels, {supports} support images; measured on {measured} held-out "
        f"images (seed 0); 1 image could not be read."
    )
    assert re.fullmatch(
        rf"The label is right for \d+ of {measured} held-out images \(.+ %\)\.", lines[1]
    )
    assert lines[2].startswith("Nothing can be accepted automatically")
    assert "Every image needs a look: the decision is review." in lines
    assert "  trustvlm serve    # a page for people, at http://127.0.0.1:8000/" in lines
    assert "  trustvlm score Meine-Bilder IMAGES" in first.stdout
    assert lines[2].endswith(f"there are {supports + measured}.")  # without the broken one
    assert calibrations == 1  # a failed one, whose images the page shows
    assert supports + measured == 25
    assert "could not be read: " in first.stderr
    assert "broken.png" in first.stderr


def test_the_command_that_it_names_measures_on_the_same_images(started: Cli) -> None:
    command = started.first.stdout.splitlines()[-1]  # type: ignore[attr-defined]
    folder = started.home.parent / "Meine Bilder"
    expected = f'evaluate Meine-Bilder "{folder}" --hold-out 0.3 --report report.html'
    assert expected in command
    evaluated = started("evaluate", "Meine-Bilder", folder, "--hold-out", "0.3", "--draws", "0",
                        "--rules", "msp", "--json")  # fmt: skip
    evaluation = json.loads(evaluated)
    assert (evaluation["images"], evaluation["supports"]) == (counts(started, "Meine-Bilder")[2], 0)


def test_again_it_continues(started: Cli, clip: str) -> None:
    """Nothing is there twice, what is new comes in, and earlier images keep their side."""
    folder = started.home.parent / "Meine Bilder"
    before = counts(started, "Meine-Bilder")
    again = started.run("start", folder, "--classifier", clip)
    assert again.stdout == started.first.stdout  # type: ignore[attr-defined]
    assert counts(started, "Meine-Bilder") == before
    sides = {row["source"] for row in started.rows("support", "list", "Meine-Bilder", "cat")}
    for number in range(200, 206):
        picture(folder / "cat" / f"{number}.png", number)
    started("start", folder)
    supports, calibrations, measured = counts(started, "Meine-Bilder")
    assert supports + measured == 31
    assert calibrations == 2
    assert sides < {row["source"] for row in started.rows("support", "list", "Meine-Bilder", "cat")}
    other = started("start", folder, "--seed", "9", code=4)
    assert "it was made with another --hold-out or --seed" in other
    assert "--sync --hold-out 0.3 --seed 9" in other
    assert counts(started, "Meine-Bilder") == (supports, calibrations, measured)
    refused = started("start", folder, "--preset", "small", code=4)
    assert "is there already, with the classifier open_clip:local-dir:" in refused


def test_parts_of_a_data_set_are_not_split(tmp_path: Path, clip: str) -> None:
    cli = Cli(tmp_path / "home")
    for number in range(16):
        part = ["train", "train", "test", "validation"][number // 4]
        picture(
            tmp_path / "set" / "data" / part / ["cat", "dog"][number % 2] / f"{number}.png", number
        )
    picture(tmp_path / "set" / "data" / "test" / "cow" / "only.png", 300)
    outer = tmp_path / "set"
    made = cli.run("start", outer, "--classifier", clip)
    assert made.stdout.startswith(
        "Space set: 3 labels, 8 support images; measured on 9 held-out images (all of test, "
        "validation).\n"
    )
    assert f"evaluate set {outer}/data/test --report" in made.stdout
    assert "no images to learn from, so no support images: cow\n" in made.stderr
    assert (
        f"{outer}/data/test, {outer}/data/validation is there to measure on; leave them out"
        in cli("start", outer, "--hold-out", "0.3", code=2)
    )
    # one part alone is a folder of labels
    alone = cli("start", outer / "data" / "train", "--classifier", clip, "--space", "one")
    assert alone.startswith("Space one: 2 labels, ")


def test_images_without_labels(tmp_path: Path, clip: str) -> None:
    cli = Cli(tmp_path / "home")
    for number in range(5):
        picture(tmp_path / "trip" / ["", "monday"][number % 2] / f"{number}.png", number)
    refused = cli("start", tmp_path / "trip" / "monday", code=2)
    assert (
        "found 2 images outside of these; move them into sub-folders, or name the labels" in refused
    )
    assert not cli.home.exists()
    made = cli.run("start", tmp_path / "trip", "--names", "cat, a dog", "--classifier", clip)
    assert made.stdout.startswith(
        "Space trip: 2 labels with no images to compare with; 5 images scored, none of them with a "
        "known label.\nLabels: "
    )
    assert "how many are right is not known" in made.stdout
    assert "(about 160 in all for a proof; a few already help)" in made.stdout
    assert "no sub-folder (monday) is among --names" in made.stderr
    (tmp_path / "names.txt").write_text("cat\na dog\n", encoding="utf-8")
    again = cli("start", tmp_path / "trip" / "monday", "--names", tmp_path / "names.txt",
                "--space", "trip")  # fmt: skip
    assert again.startswith("Space trip: 2 labels with no images to compare with; 2 images scored")
    assert "expected a file, or two names" in cli("start", tmp_path, "--names", "cat", code=2)
    assert "--names: no file none.txt" in cli("start", tmp_path, "--names", "none.txt", code=3)


def test_a_table_of_images(tmp_path: Path, clip: str) -> None:
    """The same sides as those of the folder, whatever the files are called by."""
    cli = Cli(tmp_path / "home")
    lines = ["file,label"]
    for number in range(12):
        path = picture(tmp_path / "set" / ["cat", "dog"][number % 2] / f"{number}.png", number)
        lines.append(f"{path.relative_to(tmp_path)},{path.parent.name}")
    (tmp_path / "table.csv").write_text("\n".join(lines), encoding="utf-8")
    folder = cli("start", tmp_path / "set", "--classifier", clip)
    table = cli("start", tmp_path / "table.csv", "--classifier", clip)
    assert table.partition("Next:")[0] == folder.partition("Next:")[0].replace("set:", "table:")
    assert f"evaluate table {tmp_path}/table.csv --hold-out 0.3 --report" in table
    rows = [dict(zip(("file", "label"), line.split(","), strict=True)) for line in lines[1:]]
    pq.write_table(pa.Table.from_pylist(rows), tmp_path / "table.parquet")
    again = cli("start", tmp_path / "table.parquet", "--classifier", clip)
    assert again.partition("Next:")[0] == table.partition("Next:")[0]  # the same space
    (tmp_path / "list.csv").write_text((tmp_path / "table.csv").read_text(), encoding="utf-8")
    listed = cli.run("start", tmp_path / "list.csv", "--classifier", clip)
    assert listed.stdout.startswith(f"Space {tmp_path.name}: ")  # "list" says nothing
    assert f"space {tmp_path.name}; --space NAME gives another name" in listed.stderr
    (tmp_path / "files.csv").write_text("file\nset/cat/0.png\n", encoding="utf-8")
    scored = cli(
        "start",
        tmp_path / "files.csv",
        "--names",
        "cat,dog",
        "--classifier",
        clip,
        "--space",
        "files",
    )
    assert scored.startswith("Space files: 2 labels with no images to compare with; 1 image scored")


def world(images: int = 150) -> dict[str, np.ndarray]:
    """Vectors of three labels that text and images tell apart."""
    rng = np.random.default_rng(0)
    labels = np.repeat(np.arange(3), images)
    return {
        "label_names": np.array(["cat", "dog", "grüner Hund"]),
        "text_vectors": np.eye(3, 8),
        "image_labels": labels,
        "image_vectors": np.eye(3, 6)[labels] + 0.2 * rng.normal(size=(len(labels), 6)),
        "classifier_image_vectors": np.eye(3, 8)[labels] + 0.4 * rng.normal(size=(len(labels), 8)),
    }


def test_vectors_say_what_can_be_accepted(tmp_path: Path) -> None:
    cli, arrays = Cli(tmp_path / "home"), world()
    np.savez(tmp_path / "v.npz", **arrays)
    made = cli("start", tmp_path / "v.npz", "--hold-out", "0.5", "--seed", "3")
    accepted = re.search(
        r"You can accept (\d+) % automatically, at most 5 % wrong \(90 % confidence\)\. "
        r"(\d+) % need a look\.", made
    )  # fmt: skip
    assert accepted is not None, made
    assert int(accepted[1]) + int(accepted[2]) == 100
    assert f"evaluate v --vectors {tmp_path}/v.npz --hold-out 0.5 --seed 3 --report" in made
    assert cli("start", tmp_path / "v.npz", "--hold-out", "0.5", "--seed", "3") == made
    assert counts(cli, "v")[1] == 1
    # the same in Parquet: the same sides
    rows = [
        {
            "name": str(name),
            "text_vector": arrays["text_vectors"][row].tolist(),
            **{
                side: arrays[side][arrays["image_labels"] == row].tolist()
                for side in ("image_vectors", "classifier_image_vectors")
            },
        }
        for row, name in enumerate(arrays["label_names"])
    ]
    pq.write_table(pa.Table.from_pylist(rows), tmp_path / "v.parquet")
    options = ("--hold-out", "0.5", "--seed", "3", "--space", "parquet")
    again = cli("start", tmp_path / "v.parquet", *options)
    assert again.partition("\nNext")[0] == made.partition("\nNext")[0].replace(
        "Space v", "Space parquet"
    )


def test_another_source_of_that_name_is_not_mixed_in(tmp_path: Path) -> None:
    cli = Cli(tmp_path / "home")
    for number, folder in enumerate(("one", "two")):
        (tmp_path / folder).mkdir()
        arrays = world(20)
        arrays["image_vectors"] = arrays["image_vectors"] + number
        np.savez(tmp_path / folder / "v.npz", **arrays)
    cli("start", tmp_path / "one" / "v.npz")
    before = counts(cli, "v")
    refused = cli("start", tmp_path / "two" / "v.npz", code=4)
    assert "was not made of this folder or file: --space NAME makes another one" in refused
    assert counts(cli, "v") == before
    assert cli("start", tmp_path / "two" / "v.npz", "--space", "w").startswith("Space w: 3 labels")
    cli("start", tmp_path / "two" / "v.npz", "--space", "v")
    assert counts(cli, "v")[0] > before[0]


def test_one_encoder_and_too_few_vectors(tmp_path: Path) -> None:
    cli, arrays = Cli(tmp_path / "home"), world(8)
    del arrays["classifier_image_vectors"]
    np.savez(tmp_path / "two.npz", **arrays)
    refused = cli("start", tmp_path / "two.npz", code=2)
    assert "expected classifier_image_vectors, too" in refused
    assert not cli.home.exists()
    np.savez(
        tmp_path / "one.npz", **(arrays | {"image_vectors": world(8)["classifier_image_vectors"]})
    )
    made = cli("start", tmp_path / "one.npz")
    assert (
        "too few images to prove at most 5 % wrong (90 % confidence). The smallest proof takes 45 "
        "accepted ones without an error." in made
    )
    assert re.search(r"labelled images are needed; there are 24\.\n", made)


@pytest.mark.parametrize("share", ["0", "1", "1.5", "nan", "half"])
def test_bad_shares(tmp_path: Path, share: str) -> None:
    cli = Cli(tmp_path / "home")
    refused = cli("start", tmp_path, "--hold-out", share, code=2)
    assert "Invalid value for '--hold-out': " in refused
    assert not cli.home.exists()


def test_strange_sources(tmp_path: Path, clip: str) -> None:
    cli = Cli(tmp_path / "home")
    (tmp_path / "empty").mkdir()
    (tmp_path / "text.txt").write_text("x", encoding="utf-8")
    picture(tmp_path / "odd" / "a\nb" / "1.png")
    assert "no file or folder" in cli("start", tmp_path / "none", code=3)
    assert "no images in this folder" in cli("start", tmp_path / "empty", code=2)
    assert "tar shards, or a file of vectors (.npz," in cli("start", tmp_path / "text.txt", code=2)
    assert "U+000A" in cli("start", tmp_path / "odd", code=2)
    assert not cli.home.exists()
    picture(tmp_path / "single" / "cat" / "1.png", 1)
    picture(tmp_path / "single" / "cat" / "2.png", 2)
    one = cli("start", tmp_path / "single", "--classifier", clip)
    assert "Every image gets the only label, so that its own images measure nothing." in one
    assert "'trustvlm register single --labels names.txt'" in one
    assert [line.split()[1] for line in one.partition("Next:\n")[2].splitlines()] == ["serve"]
    picture(tmp_path / "lone" / "cat" / "1.png", 1)
    picture(tmp_path / "lone" / "dog" / "2.png", 2)
    lone = cli("start", tmp_path / "lone", "--classifier", clip)
    assert "No image is held out, since no label has two" in lone
    assert "about 160 labelled images in all" in lone


def test_a_home_that_cannot_be_made(tmp_path: Path) -> None:
    np.savez(tmp_path / "v.npz", **world(2))
    (tmp_path / "home").write_text("a file", encoding="utf-8")
    said = Cli(tmp_path / "home")("start", tmp_path / "v.npz", code=2)
    assert "is a file, expected a directory" in said
    said = Cli(Path("/proc/none/home"))("start", tmp_path / "v.npz", code=5)
    assert "cannot be made" in said
