"""Folders as people have them: what is an image and what a label, the same for every verb, and what
is said of the rest."""

from __future__ import annotations

import json
import os
import re
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import trustvlm
from trustvlm.errors import InvalidInput
from trustvlm.reading.images import SYSTEM_NAMES, ImageFinder
from trustvlm.reading.labelled import label_folders, nested_only


def picture(path: Path, seed: int = 0, form: str | None = None) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.random.default_rng(seed).integers(0, 255, (24, 24, 3), np.uint8)
    Image.fromarray(pixels).save(path, format=form)
    return path


def labels(folder: Path, *exclude: str, use: str = "learn") -> dict[str, list[str]]:
    """Label → its images as paths below the folder."""
    found = label_folders(folder, ImageFinder(exclude), use)
    return {
        name: [os.path.relpath(path, folder) for path in paths] for name, paths in found.items()
    }


SYSTEM_FOLDERS = [
    *(
        "@eaDir",
        "$RECYCLE.BIN",
        "$Recycle.Bin",
        ".Trash-1000",
        "#recycle",
        "__MACOSX",
        "lost+found",
        ".ipynb_checkpoints",
        ".git",
    ),
    *(
        "System Volume Information",
        ".thumbnails",
        "__pycache__",
        ".hidden",
        "Lightroom Catalog Previews.lrdata",
        "@Recycle",
    ),
    *(
        "RECYCLER",
        "found.000",
        ".Spotlight-V100",
        ".AppleDouble",
        "CaptureOne",
        "Photos Library.photoslibrary",
        "#snapshot",
    ),
]


@pytest.mark.parametrize("name", SYSTEM_FOLDERS)
def test_folders_of_systems_are_no_labels_and_hold_no_images(tmp_path: Path, name: str) -> None:
    for place in (
        "cat/1.png",
        "dog/sub/2.png",
        f"{name}/3.png",
        f"cat/{name}/4.png",
        f"dog/sub/{name}/deep/5.png",
    ):
        picture(tmp_path / place)
    finder = ImageFinder()
    assert {
        label: len(paths) for label, paths in label_folders(tmp_path, finder, "learn").items()
    } == {"cat": 1, "dog": 1}
    (line,) = finder.left_out.lines()
    assert line.startswith("left out: 3 ")
    assert name in line
    assert len(ImageFinder().images(tmp_path)) == 2
    assert len(ImageFinder().images(tmp_path / name)) == 1  # whoever names it, means it


def test_files_of_systems_are_no_images(tmp_path: Path) -> None:
    for name in ("1.png", "._1.png", ".DS_Store", "Thumbs.db", "desktop.ini", ".picasa.ini"):
        picture(tmp_path / "cat" / name, form="PNG")
    assert labels(tmp_path) == {"cat": ["cat/1.png"]}


def test_labels_that_only_look_like_system_folders_stay(tmp_path: Path) -> None:
    names = [
        "trash",
        "recycle",
        "thumbnails",
        "cache",
        "git",
        "$100 bill",
        "@home",
        "snapshot",
        "found",
        "train",
        "cat",
    ]
    for name in names:
        picture(tmp_path / name / "1.png")
    assert sorted(labels(tmp_path)) == sorted(names)
    assert not any(
        name.startswith(".") for name in SYSTEM_NAMES
    )  # all hidden ones are left out anyway


def test_patterns_of_the_user(tmp_path: Path) -> None:
    for name in (
        "cat/1.png",
        "cat/1_mask.png",
        "cat/RAW/2.png",
        "dog/3.png",
        "dog/raw/4.png",
        "extra/5.png",
    ):
        picture(tmp_path / name)
    assert labels(tmp_path, "*_MASK.*", "raw/", "ext?a") == {
        "cat": ["cat/1.png"],
        "dog": ["dog/3.png"],
    }
    assert labels(tmp_path, "dog/raw", "extra")["dog"] == ["dog/3.png"]
    assert len(labels(tmp_path, "dog/raw")["cat"]) == 3
    finder = ImageFinder(["*.jpg", "extra"])
    finder.images(tmp_path)
    assert [*finder.remarks()][1:] == ['--exclude "*.jpg" matches no file and no folder']
    assert list(finder.left_out.lines()) == [
        "left out: 1 file or folder excluded by --exclude (extra)"
    ]


def test_images_below_sub_folders_of_a_label(tmp_path: Path) -> None:
    for name in ("cat/1.png", "cat/2019/2.png", "cat/2020/may/3.png", "dog/2019/4.png"):
        picture(tmp_path / name)
    assert labels(tmp_path) == {
        "cat": ["cat/1.png", "cat/2019/2.png", "cat/2020/may/3.png"],
        "dog": ["dog/2019/4.png"],
    }


def test_suffixes(tmp_path: Path) -> None:
    """In any case; without a usual one, the first bytes say what a file is."""
    for name in ("a.JPG", "b.Jpeg", "c.PNG", "d.tIf"):
        picture(tmp_path / "cat" / name)
    for name, form in (
        ("e", "PNG"),
        ("f.001", "JPEG"),
        ("g", "WEBP"),
        ("h", "PPM"),
        ("i", "TIFF"),
        ("j", "GIF"),
        ("k", "BMP"),
    ):
        picture(tmp_path / "cat" / name, form=form)
    for name, content in (
        ("l", b"text"),
        ("m", b""),
        ("n.json", b"{}"),
        ("o.xyz", b"\x89PNG\r\n\x1a\n"),
        ("p", b"P7"),
    ):
        (tmp_path / "cat" / name).write_bytes(content)
    for name in ("q.jpg?w=200", "r.jpeg_large", "s.jpg~", "t.download"):
        picture(tmp_path / "cat" / name, form="JPEG")
    (tmp_path / "cat" / "u.mp4").write_bytes(b"\0\0\0\x18ftypmp42")
    finder = ImageFinder()
    assert "".join(Path(path).name[0] for path in finder.images(tmp_path)) == "abcdefghijkqrst"
    assert finder.left_out.others == {"no suffix": 3, ".json": 1, ".xyz": 1, ".mp4": 1}


def test_links(tmp_path: Path) -> None:
    """Linked folders and files count as if they lay there; links that lead back end, and are
    said."""
    root, other = tmp_path / "set", tmp_path / "other"
    for path in (
        root / "cat" / "1.png",
        other / "dogs" / "2.png",
        other / "dogs" / "more" / "3.png",
        other / "4.png",
    ):
        picture(path)
    (root / "dog").symlink_to(other / "dogs")
    (root / "cat" / "four.png").symlink_to(other / "4.png")
    (root / "cat" / "back").symlink_to(root)
    (root / "cat" / "up").symlink_to(tmp_path)
    (root / "cat" / "self").symlink_to("self")
    (root / "again").symlink_to(root)
    (root / "gone").symlink_to(tmp_path / "nowhere")
    finder = ImageFinder()
    found = label_folders(root, finder, "learn")
    assert {name: len(paths) for name, paths in found.items()} == {"cat": 2, "dog": 2}
    assert finder.left_out.empty == ["again"]
    assert {Path(path).name for path in finder.left_out.again} == {"back", "up", "again"}
    assert {Path(path).name for path, _ in finder.left_out.unreadable} == {"self", "gone"}
    assert len(ImageFinder().images(root)) == 4


def test_many_links_among_folders_end_soon(tmp_path: Path) -> None:
    """Twelve folders that all link to each other: a walk by paths would see 12! of them."""
    for i in range(12):
        picture(tmp_path / f"{i}" / "1.png")
        for j in range(12):
            (tmp_path / f"{i}" / f"to{j}").symlink_to(tmp_path / f"{j}")
    finder = ImageFinder()
    assert len(finder.images(tmp_path)) == 12
    assert finder.left_out.seen < 500


def test_labels_without_images_are_named(tmp_path: Path) -> None:
    picture(tmp_path / "cat" / "1.png")
    names = [f"empty {i}" for i in range(7)]
    for name in names:
        (tmp_path / name / "sub").mkdir(parents=True)
    (tmp_path / "texts").mkdir()
    (tmp_path / "texts" / "a.txt").touch()
    finder = ImageFinder()
    assert list(label_folders(tmp_path, finder, "learn")) == ["cat"]
    said = "\n".join(finder.left_out.lines())
    assert all(repr(name) in said for name in [*names, "texts"])
    assert "no images in 8 sub-folders" in said


# Folders that are not what was meant


def message(folder: Path, use: str = "learn") -> str:
    with pytest.raises(InvalidInput) as error:
        labels(folder, use=use)
    return str(error.value)


@pytest.mark.parametrize(
    "parts",
    [("train", "test"), ("Training", "Validation", "TEST"), ("train", "val"), ("train2017",
    "val2017"),
     ("seg_train", "seg_test"), ("train_set", "test-set"), ("testing",), ("train",),
     ("images_train", "images_val")],
)  # fmt: skip
def test_parts_of_a_data_set_are_no_labels(tmp_path: Path, parts: tuple[str, ...]) -> None:
    for part in parts:
        for name in ("cat/1.png", "dog/2.png"):
            picture(tmp_path / part / name)
    picture(tmp_path / parts[0] / "stray.png")
    picture(tmp_path / "stray.png")
    said = message(tmp_path)
    assert all(part in said for part in parts)
    assert f"expected one of them: {tmp_path / parts[0]} (its sub-folders: cat, dog)" in said
    right = parts[-1]
    assert f"expected one of them: {tmp_path / right} " in message(tmp_path, "measure")
    assert sorted(labels(tmp_path / parts[0])) == ["cat", "dog"]


def test_parts_beside_other_folders(tmp_path: Path) -> None:
    for name in ("train/cat/1.png", "train/dog/2.png", "test/3.png", "docs/logo.png"):
        picture(tmp_path / name)
    assert "it holds test/, train/: parts" in message(tmp_path)


def test_what_to_learn_from_where_no_part_is_for_it(tmp_path: Path) -> None:
    for name in ("support/cat/1.png", "support/cat/2.png", "extra/cat/3.png", "held-out/cat/4.png"):
        picture(tmp_path / name)
    assert f"expected one of them: {tmp_path}/support (" in message(tmp_path)
    assert f"expected one of them: {tmp_path}/held-out (" in message(tmp_path, "measure")


def test_parts_one_folder_further_down(tmp_path: Path) -> None:
    for name in ("pets/train/cat/1.png", "pets/val/cat/2.png"):
        picture(tmp_path / name)
    assert f"expected one of them: {tmp_path}/pets/train (its sub-folders: cat)" in message(
        tmp_path
    )


def test_parts_with_images_directly_in_them(tmp_path: Path) -> None:
    for name in ("train/cat.1.png", "train/dog.2.png", "test/3.png"):
        picture(tmp_path / name)
    assert "with images directly in them; expected a sub-folder for each label" in message(tmp_path)


@pytest.mark.parametrize(
    "names",
    [("train", "bus", "bicycle"), ("freight_train", "bullet_train"), ("test tube", "valley")],
)
def test_a_train_may_be_a_label(tmp_path: Path, names: tuple[str, ...]) -> None:
    for name in names:
        picture(tmp_path / name / "1.png")
    picture(tmp_path / names[0] / "old" / "2.png")
    picture(tmp_path / names[0] / "3.png")
    assert sorted(labels(tmp_path)) == sorted(names)


def test_a_folder_without_sub_folders(tmp_path: Path) -> None:
    for i in range(3):
        picture(tmp_path / f"{i}.png")
    assert "found 3 images directly in it; --label NAME registers them as one label" in message(
        tmp_path
    )
    assert "found 3 images directly in it; move them into sub-folders, or name them" in message(
        tmp_path, "measure"
    )
    assert "this is a file" in message(tmp_path / "1.png")
    (tmp_path / "none" / "cat").mkdir(parents=True)
    assert "found no images in its sub-folders (cat)" in message(tmp_path / "none")


def test_one_folder_above_the_labels(tmp_path: Path) -> None:
    for name in ("PetImages/cat/1.png", "PetImages/dog/2.png"):
        picture(tmp_path / name)
    found = label_folders(tmp_path, ImageFinder(), "learn")
    assert nested_only(tmp_path, found) == ("PetImages", ["cat", "dog"])
    assert (
        nested_only(
            tmp_path / "PetImages", label_folders(tmp_path / "PetImages", ImageFinder(), "learn")
        )
        is None
    )


def test_the_page_knows_the_same_names_of_systems() -> None:
    script = (
        Path(trustvlm.__file__).parent / "http" / "static" / "trust" / "folders.js"
    ).read_text(encoding="utf-8")
    (names,) = re.findall(r"const SYSTEM = \[(.*?)\];", script, re.DOTALL)
    assert tuple(json.loads(f"[{names}]")) == SYSTEM_NAMES
