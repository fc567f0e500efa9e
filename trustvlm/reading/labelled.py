"""Folders of labelled images: one sub-folder a label."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Literal

from trustvlm.errors import InvalidInput
from trustvlm.reading.images import ImageFinder, is_dir, is_folder

__all__ = ["label_folders", "nested_only"]

_PART = (
    r"(train|training|trn|test|testing|tst|val|valid|validation|validate"
    r"|dev|eval|evaluation|holdout|held[-_ ]?out)"
    r"([-_ ]?(set|split|data|images|imgs|\d+))*"
)
_IS_PART = re.compile(_PART, re.IGNORECASE)
# seg_train; but freight_train is a label
_MAY_BE_PART = re.compile(rf"\w+[-_ ]{_PART}", re.IGNORECASE)
_TO_LEARN = re.compile(r"(.*[-_ ])?(train|trn)", re.IGNORECASE)


def label_folders(
    folder: Path, finder: ImageFinder, use: Literal["learn", "measure"]
) -> dict[str, list[str]]:
    """Label name → image paths: one sub-folder a label, its name the label's; images below it at
    any depth.

    Args:
        folder: the folder that holds the sub-folders. use: what the images are for, "learn" or
            "measure": which part of a data set the error recommends.

    Raises:
        NotFound: no such folder. InvalidInput: it has no sub-folder with images, or its sub-folders
            are the parts of a data set (train, test …).
    """
    if not is_folder(folder):
        raise InvalidInput(
            f"{folder}: expected a folder with a sub-folder of images for each label, this is a "
            f"file"
        )
    images: dict[str, list[str]] = {}
    for entry in finder.entries(folder, folder):
        if is_dir(entry):
            images[entry.name] = finder.images(entry.path, folder)
        else:
            finder.left_out.loose += finder.is_image(entry)
    filled = {name: paths for name, paths in images.items() if paths}
    _refuse_parts(folder, filled, use)
    if not filled:
        raise InvalidInput(_none_message(folder, list(images), finder.left_out.loose, use))
    finder.left_out.empty += [name for name, paths in images.items() if not paths]
    return filled


def _refuse_parts(folder: Path, images: Mapping[str, list[str]], use: str) -> None:
    """Raises InvalidInput where the sub-folders are parts of a data set, or the only one holds
    nothing but such parts."""
    if parts := _parts(folder, images):
        raise InvalidInput(_parts_message(folder, parts, images, use))
    if len(images) == 1:
        inner = folder / next(iter(images))
        direct, below = _inside(inner, images[inner.name])
        if not direct:
            _refuse_parts(inner, below, use)


def nested_only(folder: Path, images: Mapping[str, Iterable[str]]) -> tuple[str, list[str]] | None:
    """A label and the names of its sub-folders, where no image of any label lies directly in its
    label's folder.

    Then the sub-folders may be the labels, and the folder one above the one that was meant.
    """
    inside = {name: _inside(folder / name, paths) for name, paths in images.items()}
    if any(direct for direct, _ in inside.values()):
        return None
    name, (_, folders) = max(inside.items(), key=lambda item: len(item[1][1]))
    return (name, sorted(folders)) if len(folders) > 1 else None


def _inside(folder: Path, paths: Iterable[str]) -> tuple[list[str], dict[str, list[str]]]:
    """The images that lie directly in `folder`, and those below each of its sub-folders."""
    direct: list[str] = []
    below: dict[str, list[str]] = {}
    start = len(os.path.join(folder, ""))  # noqa: PTH118
    for path in paths:
        first, separator, _ = path[start:].partition(os.sep)
        (below.setdefault(first, []) if separator else direct).append(path)
    return direct, below


def _parts(folder: Path, images: Mapping[str, list[str]]) -> list[str]:
    """The sub-folders that are parts of a data set, where that is what the folder holds. A train
    may also be a label."""
    named = [name for name in images if _IS_PART.fullmatch(name)]
    perhaps = [name for name in images if _MAY_BE_PART.fullmatch(name)]
    divided = [name for name in (*named, *perhaps) if _is_divided(folder / name, images[name])]
    if named and len(named) == len(images):
        return named
    return [name for name in (*named, *perhaps) if name in divided or (divided and name in named)]


def _is_divided(folder: Path, paths: list[str]) -> bool:
    """Whether most of the images lie in sub-folders."""
    direct, below = _inside(folder, paths)
    return sum(map(len, below.values())) > len(direct)


def _parts_message(
    folder: Path, parts: list[str], images: Mapping[str, list[str]], use: str
) -> str:
    divided = [name for name in parts if _is_divided(folder / name, images[name])]
    names = ", ".join(f"{name}/" for name in parts)
    what = (
        f"{folder}: it holds {names}: {'parts' if len(parts) > 1 else 'a part'} of a data "
        f"set, not labels"
    )
    if not divided:
        return f"{what}, with images directly in them; expected a sub-folder for each label"
    fitting = [name for name in divided if bool(_TO_LEARN.match(name)) == (use == "learn")]
    others = [
        name for name in images if name not in parts and _is_divided(folder / name, images[name])
    ]
    largest = sorted(others, key=lambda name: -len(images[name]))[: use == "learn"]
    right = folder / (fitting or largest or divided)[0]
    labels = sorted(_inside(right, images[right.name])[1])
    some = ", ".join(labels[:3]) + (", …" if labels[3:] else "")
    return f"{what}; expected one of them: {right} (its sub-folders: {some})"


def _none_message(folder: Path, empty: list[str], loose: int, use: str) -> str:
    content = f"no images in its sub-folders ({', '.join(empty)})" if empty else "no image"
    if loose:
        remedy = "; --label NAME registers them as one label" if use == "learn" else ""
        content = f"{loose:,} image{'' if loose == 1 else 's'} directly in it{remedy}"
    return f"{folder}: expected one sub-folder of images for each label, found {content}"
