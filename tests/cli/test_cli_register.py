"""Registering and support images from the command line: folders, files, names, vectors, and what is
wrong with them."""

from __future__ import annotations

import io
import json
import os
import subprocess
import sys
import zipfile
from pathlib import Path

import numpy as np
import pytest
from checkpoints import make_clip, make_timm
from cli_runner import NAMES, Cli, save_labels
from PIL import Image


@pytest.fixture(scope="module")
def specs(tmp_path_factory: pytest.TempPathFactory) -> tuple[str, str]:
    folder = tmp_path_factory.mktemp("checkpoints")
    return make_clip(folder / "clip"), make_timm(folder / "verifier.safetensors")


@pytest.fixture
def vectors(tmp_path: Path) -> Cli:
    """A home with a space "s" of precomputed encoders."""
    cli = Cli(tmp_path / "home")
    cli("space", "create", "s", "--classifier", "precomputed:4", "--verifier", "precomputed:6")
    return cli


@pytest.fixture
def images(tmp_path: Path, specs: tuple[str, str]) -> Cli:
    """A home with a space "s" of real encoders."""
    cli = Cli(tmp_path / "home")
    cli("space", "create", "s", "--classifier", specs[0], "--verifier", specs[1])
    return cli


def picture(path: Path, seed: int) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.random.default_rng(seed).integers(0, 255, (24, 24, 3), np.uint8)
    Image.fromarray(pixels).save(path)
    return path


def counts(cli: Cli) -> dict[str, int]:
    return {row["name"]: row["support_count"] for row in cli.rows("label", "list", "s")}


# Image folders and files


def test_image_folder(images: Cli, tmp_path: Path) -> None:
    folder = tmp_path / "photos"
    names = [
        "red/1.png",
        "red/2.png",
        "[bold]blue/1.PNG",
        "red/nested/3.png",
        ".hidden/1.png",
        "here.png",
    ]
    for seed, name in enumerate([*names, "red/.thumb.png"]):
        picture(folder / name, seed)
    (folder / "red" / "notes.txt").write_text("not an image")
    (folder / "red" / "Thumbs.db").write_bytes(b"x")
    (folder / "red" / "bad[red].jpg").write_bytes(b"not an image")
    (folder / "empty").mkdir()
    (folder / "red" / "gone.jpg").symlink_to(folder / "nowhere.jpg")

    first = images.run("register", "s", folder)
    assert (
        first.stdout == "registered 2 labels (2 new), 4 support images, 2 unreadable; revision 1\n"
    )
    assert first.stderr.splitlines() == [
        "left out: 2 hidden files or folders (.hidden, .thumb.png), 1 system file or folder "
        "(Thumbs.db), "
        "1 file that is not an image (.txt)",
        "left out: 1 image directly in the folder, outside the sub-folders of the labels",
        "no images in 1 sub-folder: 'empty'",
        f"could not be read: {folder}/red/gone.jpg: cannot be read: No such file or directory",
        f"could not be read: {folder}/red/bad[red].jpg: is a text, not an image in a "
        f"supported format",
    ]
    assert counts(images) == {"[bold]blue": 1, "red": 3}
    again = images("register", "s", folder)
    assert (
        again == "nothing new: all 4 support images were there already, 2 unreadable; revision 1\n"
    )
    picture(folder / "red" / "4.png", 77)
    assert images("register", "s", folder) == (
        "registered 2 labels (0 new), 1 support image, 4 duplicates skipped, 2 unreadable; "
        "revision 2\n"
    )


def test_files_and_folders_of_one_label(images: Cli, tmp_path: Path) -> None:
    one, two = picture(tmp_path / "1.png", 1), picture(tmp_path / "folder" / "2.png", 2)
    odd = picture(tmp_path / "suffixless.png", 3).rename(tmp_path / "suffixless")
    registered = images(
        "register", "s", one, two.parent, odd, "--label", "sea", "--prompt", "a map of the {}."
    )
    assert registered == "registered 1 label (1 new), 3 support images; revision 1\n"
    assert images.rows("label", "list", "s")[0]["prompt"] == "a map of the {}."
    changed = json.loads(
        images("register", "s", one, picture(tmp_path / "4.png", 4), "--label", "sea", "--json")
    )
    assert (changed["added_supports"], changed["skipped_duplicates"], changed["revision"]) == (
        1,
        1,
        2,
    )
    (tmp_path / "no.png").write_text("a text")
    unread = images("register", "s", one, tmp_path / "no.png", "--label", "sea", "--json")
    (failure,) = json.loads(unread)["failures"]
    assert failure["source"] == str(tmp_path / "no.png")
    assert failure["reason"] == "is a text, not an image in a supported format"
    assert "prompt" in images(
        "register", "s", one, "--label", "sea", "--prompt", "another {}.", code=4
    )
    assert (
        images("register", "s", "--label", "text only")
        == "registered 1 label (1 new), 0 support images; revision 3\n"
    )
    assert (
        images("register", "s", "--label", "text only")
        == "nothing new: the label was there already; revision 3\n"
    )
    assert counts(images) == {"sea": 4, "text only": 0}

    # Support images one by one
    five = picture(tmp_path / "5.png", 5)
    assert (
        images("support", "add", "s", "sea", five)
        == "registered label sea, 1 support image; revision 4\n"
    )
    assert (
        images("support", "add", "s", "sea", five)
        == "nothing new: the support image was there already; revision 4\n"
    )
    assert "no label 'lake'" in images("support", "add", "s", "lake", five, code=3)
    ids = changed["ids"]
    assert f'"id": {ids[0]},' in images("support", "list", "s", "sea", "--format", "jsonl")
    assert images("support", "remove", "s", *ids) == "removed 1 support image; revision 5\n"
    assert "no support image" in images("support", "remove", "s", *ids, code=3)
    assert images("support", "restore", "s", *ids) == "restored 1 support image; revision 6\n"
    assert "no removed support image" in images("support", "restore", "s", *ids, code=3)
    assert counts(images)["sea"] == 5


def test_nothing_readable_is_an_error_and_some_is_not(images: Cli, tmp_path: Path) -> None:
    good, bad = picture(tmp_path / "good.png", 1), tmp_path / "bad.png"
    bad.write_bytes(b"")
    said = images("register", "s", bad, "--label", "x", code=2)
    assert said.startswith(f"could not be read: {bad}: the file is empty\n")
    assert said.endswith("it was not registered\nError: no image could be read\n")
    assert images("label", "list", "s", "--format", "jsonl") == ""
    assert images("register", "s", bad, good, "--label", "x").endswith(
        "1 support image, 1 unreadable; revision 1\n"
    )
    assert "no image could be read" in images("support", "add", "s", "x", bad, code=2)


def test_headers_that_lie(vectors: Cli, tmp_path: Path) -> None:
    """A member that is no array, and one that claims 58 TiB: one sentence each."""
    path = tmp_path / "file.npz"
    claim = io.BytesIO()
    header = {"descr": "<f8", "fortran_order": False, "shape": (10**12, 8)}
    np.lib.format.write_array_header_1_0(claim, header)
    for member in (b"junk", claim.getvalue()):
        with zipfile.ZipFile(path, "w") as archive:
            archive.writestr("label_names.npy", member)
        assert f"{path}: label_names" in vectors("register", "s", "--vectors", path, code=2)
    os.mkfifo(tmp_path / "pipe")
    assert "a pipe or a device" in vectors("register", "s", "--vectors", tmp_path / "pipe", code=2)


def test_file_names_that_are_not_utf8(images: Cli, tmp_path: Path) -> None:
    path = picture(tmp_path / os.fsdecode(b"\xff\xfe.png"), 1)
    assert images("register", "s", path, "--label", "odd").startswith("registered 1 label")


def test_folders_whose_names_no_label_may_have(images: Cli, tmp_path: Path) -> None:
    picture(tmp_path / "photos" / os.fsdecode(b"\xff") / "1.png", 1)
    picture(tmp_path / "photos" / "fine" / "1.png", 2)
    assert "which a name may not" in images("register", "s", tmp_path / "photos", code=2)
    assert counts(images) == {}


def test_names_file_of_text_only_labels(images: Cli, tmp_path: Path) -> None:
    names = tmp_path / "names.txt"
    names.write_bytes(
        "\ufeffsea\r\n\r\n  \nForêt\ta map of a {}.\r\n[red]\n# a comment\nsea\n".encode()
    )
    first = images.run("register", "s", "--labels", names)
    assert first.stdout == "registered 3 labels (3 new), 0 support images; revision 1\n"
    assert first.stderr.splitlines()[:3] == [
        f"{names}: left out: line 6, read as a comment (it begins with '#')",
        f"{names}: the name 'sea' occurs 2 times (line 1, line 7); it becomes one label",
        f"{names}: 4 entries make 3 labels; class numbers after a repeated name no longer "
        f"match the positions in the file",
    ]
    rows = {row["name"]: row["prompt"] for row in images.rows("label", "list", "s")}
    assert rows == {"sea": None, "Forêt": "a map of a {}.", "[red]": None}
    assert (
        images("register", "s", "--labels", names)
        == "nothing new: all 3 labels were there already; revision 1\n"
    )


# What cannot be right


def test_names_files_that_cannot_be_right(vectors: Cli, tmp_path: Path) -> None:
    names = tmp_path / "names.txt"
    for content, message in [
        (b"a\tb\tc\n", "names.txt, line 1: expected a name"),
        (b"\n\n", "expected one label name a line, found none"),
        (b"\xff\xfe", "expected one label name a line, found none"),
        (b"\ta prompt\n", "line 1: expected a name"),
        (b"a\n", "needs its text embedding"),
        (b"a\x07b\n", "U+0007"),
    ]:
        names.write_bytes(content)
        assert message in vectors("register", "s", "--labels", names, code=2)
    assert "no file or folder" in vectors(
        "register", "s", "--labels", tmp_path / "other.txt", code=3
    )
    assert "cannot be read: Is a directory" in vectors(
        "register", "s", "--labels", tmp_path, code=2
    )


def test_usage(vectors: Cli, tmp_path: Path) -> None:
    (tmp_path / "file.png").touch()
    for arguments, message in [
        ((), "Expected PATHS, --labels or --vectors; got none of them."),
        ((tmp_path, "--labels", "x"), "got PATHS and --labels together"),
        (("--labels", "x", "--label", "y"), "leave out --label"),
        ((tmp_path, "--prompt", "x"), "expected {} where the name goes"),
        ((tmp_path, tmp_path), "Expected one folder"),
        ((tmp_path / "file.png",), "Expected one folder"),
    ]:
        assert message in vectors("register", "s", *arguments, code=2)
    assert "Expected PATHS or --vectors" in vectors("support", "add", "s", "x", code=2)


def test_paths_that_are_not_there_or_hold_nothing(vectors: Cli, tmp_path: Path) -> None:
    empty = tmp_path / "empty"
    empty.mkdir()
    assert f"no file or folder {tmp_path}/none" in vectors(
        "register", "s", tmp_path / "none", code=3
    )
    assert "no file or folder" in vectors(
        "register", "s", tmp_path / "none.png", "--label", "x", code=3
    )
    assert "one sub-folder of images for each label, found no image" in vectors(
        "register", "s", empty, code=2
    )
    assert "no images in" in vectors("register", "s", empty, "--label", "x", code=2)
    assert "no space 'other'" in vectors("register", "other", empty, code=3)
    (empty / "x").mkdir()
    (empty / "x" / "1.png").touch()
    assert "cannot encode images" in vectors("register", "s", empty, code=2)


# Vectors


def test_vectors(vectors: Cli, tmp_path: Path) -> None:
    path = save_labels(tmp_path / "labels.npz", shots=3)
    assert (
        vectors("register", "s", "--vectors", path)
        == "registered 3 labels (3 new), 6 support images; revision 1\n"
    )
    assert counts(vectors) == dict(zip(NAMES, (3, 3, 0), strict=True))
    again = vectors("register", "s", "--vectors", path)
    assert again == "nothing new: all 6 support images were there already; revision 1\n"
    more = tmp_path / "more.npz"
    np.savez(more, image_vectors=np.eye(2, 6), classifier_image_vectors=np.eye(2, 4))
    assert vectors("support", "add", "s", "beach", "--vectors", more).startswith(
        "registered label beach, 2 support images"
    )
    np.save(tmp_path / "query.npy", np.eye(4)[1])
    found = vectors.rows(
        "search",
        "s",
        "--vector",
        tmp_path / "query.npy",
        "--side",
        "classifier",
        "--kind",
        "support",
    )
    assert [row["label"] for row in found] == ["beach", "beach"]
    assert found[0]["similarity"] == pytest.approx(1)


def test_vectors_of_one_label(vectors: Cli, tmp_path: Path) -> None:
    path = tmp_path / "one.npz"
    np.savez(path, text_vectors=np.eye(4)[0], image_vectors=np.eye(2, 6))
    assert "label_names is missing" in vectors("register", "s", "--vectors", path, code=2)
    registered = vectors("register", "s", "--vectors", path, "--label", "sea")
    assert registered == "registered 1 label (1 new), 2 support images; revision 1\n"
    named = save_labels(tmp_path / "labels.npz")
    assert "leave out --label" in vectors(
        "register", "s", "--vectors", named, "--label", "sea", code=2
    )


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"label_names": None}, "label_names is missing"),
        (
            {"label_names": np.array([1, 2, 3])},
            "label_names: expected a one-dimensional array of strings",
        ),
        (
            {"label_names": np.array(["a", "b", None], dtype=object)},
            "label_names holds Python objects",
        ),
        ({"label_names": np.array([b"a", b"\xff", b"c"])}, "label_names: expected UTF-8"),
        ({"label_names": np.array(["a", "", "c"])}, "expected a name"),
        ({"text_vectors": np.eye(2, 4)}, "text_vectors: expected shape (3, dim)"),
        ({"text_vectors": np.eye(3, 5)}, "text_vector: expected shape (n, 4)"),
        ({"text_vectors": np.full((3, 4), np.nan)}, "NaN"),
        ({"text_vectors": np.zeros((3, 4))}, "norm zero"),
        ({"text_vectors": None}, "needs its text embedding"),
        ({"image_vectors": None}, "image_vectors is missing"),
        ({"image_vectors": np.ones(6)}, "image_vectors: expected shape (images, dim)"),
        ({"image_vectors": np.ones((4, 7))}, "image_vectors: expected shape (n, 6)"),
        ({"image_labels": None}, "image_labels (index into label_names) is missing"),
        ({"image_labels": np.array([0, 1])}, "image_labels: expected 4 whole numbers"),
        ({"image_labels": np.zeros(4)}, "image_labels: expected 4 whole numbers"),
        (
            {"image_labels": np.array([0, 0, 1, 3])},
            "image_labels[3]: expected an index from 0 to 2, got 3",
        ),
        (
            {"image_labels": np.array([0, -1, 1, 1])},
            "image_labels[1]: expected an index from 0 to 2, got -1",
        ),
        (
            {"classifier_image_vectors": np.ones((3, 4))},
            "classifier_image_vectors: expected one row for each of the 4",
        ),
    ],
    ids=lambda value: "-".join(value) if isinstance(value, dict) else "",
)
def test_arrays_that_do_not_fit(
    vectors: Cli, tmp_path: Path, changes: dict[str, object], message: str
) -> None:
    path = save_labels(tmp_path / "labels.npz", **changes)
    said = vectors("register", "s", "--vectors", path, code=2)
    assert message in said
    assert counts(vectors) == {}


def test_files_that_hold_no_arrays(vectors: Cli, tmp_path: Path) -> None:
    path = tmp_path / "file.npz"
    assert "no file" in vectors("register", "s", "--vectors", path, code=3)
    for content in (b"", b"hello", b"PK\x03\x04 no", b"\x93NUMPY\x01\x00", b"\x80\x04]."):
        path.write_bytes(content)
        assert f"{path}: expected arrays saved with numpy" in vectors(
            "register", "s", "--vectors", path, code=2
        )
    np.save(tmp_path / "single.npy", np.ones(3))
    assert "got a single array" in vectors(
        "register", "s", "--vectors", tmp_path / "single.npy", code=2
    )
    np.savez(path, other=np.ones(3))
    assert "expected arrays named label_names" in vectors(
        "register", "s", "--vectors", path, code=2
    )
    assert "expected arrays named image_vectors" in vectors(
        "support", "add", "s", "x", "--vectors", path, code=2
    )
    np.savez(path, classifier_image_vectors=np.ones((3, 4)))
    assert "image_vectors is missing" in vectors(
        "support", "add", "s", "x", "--vectors", path, code=2
    )
    assert "expected a file, this is a folder" in vectors(
        "register", "s", "--vectors", tmp_path, code=2
    )
    with zipfile.ZipFile(save_labels(path)) as archive:
        at = archive.getinfo("text_vectors.npy").header_offset
    content = bytearray(path.read_bytes())
    content[at + 200] ^= 0xFF
    path.write_bytes(content)
    assert "text_vectors is damaged" in vectors("register", "s", "--vectors", path, code=2)
    assert counts(vectors) == {}


@pytest.mark.slow
def test_a_file_of_vectors_is_held_in_memory_once(tmp_path):
    """A file three times as large, its vectors in no order: the command needs its difference, and
    not that twice."""
    dim, labels, each = 2_048, 600, 60  # few labels: their prototypes are held in float64, too
    rng = np.random.default_rng(0)

    def peak(count):
        file, home = tmp_path / f"{count}.npz", tmp_path / f"home-{count}"
        owners = rng.permutation(np.repeat(np.arange(count), each))
        np.savez(
            file,
            label_names=np.array([f"label {i}" for i in range(count)]),
            text_vectors=rng.standard_normal((count, 64), dtype=np.float32),
            image_vectors=rng.standard_normal((count * each, dim), dtype=np.float32),
            image_labels=owners,
        )
        code = (
            "import re, sys; from trustvlm.cli import main\n"
            "for line in (['space', 'create', 's', '--classifier', 'precomputed:64', "
            "'--verifier', sys.argv[3]],"
            " ['register', 's', '--vectors', sys.argv[2]]): main(['--home', sys.argv[1], "
            "*line], standalone_mode=False)\n"
            "print(re.search(r'VmHWM:\\s+(\\d+)', open('/proc/self/status').read())[1])"
        )
        command = [sys.executable, "-c", code, str(home), str(file), f"precomputed:{dim}"]
        done = subprocess.run(command, capture_output=True, text=True, check=True)
        assert (
            f"registered {count:,} labels ({count:,} new), {count * each:,} support images"
            in done.stdout
        )
        return int(done.stdout.split()[-1]) / 1024

    more = (labels - labels // 3) * each * dim * 4 / 2**20
    assert peak(labels) - peak(labels // 3) < 1.5 * more
