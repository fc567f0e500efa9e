"""Folders of labelled images: one sub-folder a label."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from trustvlm.errors import InvalidInput
from trustvlm.reading.images import ImageFinder, is_dir, is_folder, refuse_arrays

_PART = (
    r"(train|training|trn|test|testing|tst|val|valid|validation|validate"
    r"|dev|eval|evaluation|holdout|held[-_ ]?out)"
    r"([-_ ]?(set|split|data|images|imgs|\d+))*"
)
_IS_PART = re.compile(_PART, re.IGNORECASE)
# seg_train; but freight_train is a label
_MAY_BE_PART = re.compile(rf"\w+[-_ ]{_PART}", re.IGNORECASE)
_TO_LEARN = re.compile(r"(.*[-_ ])?(train|trn)", re.IGNORECASE)


@dataclass(frozen=True)
class DataSet:
    """What a folder of images holds.

    Attributes:
        learn: folders with a sub-folder for each label: the folder itself, or its parts to learn
            from (train). measure: its parts to measure on (test, val …).
        labels: names of the sub-folders of `learn`.
        unused: sub-folders with images that are none of these, beside parts.
        loose: number of images that lie directly in the folder.
    """

    learn: tuple[Path, ...]
    measure: tuple[Path, ...] = ()
    labels: tuple[str, ...] = ()
    unused: tuple[Path, ...] = ()
    loose: int = 0


def data_set(folder: Path, exclude: Sequence[str] = ()) -> DataSet:
    """What `folder` holds: labels, parts of a data set with a sub-folder for each label, or images
    alone (no labels).

    Raises:
        NotFound: no such folder.
    """
    finder, images, loose = ImageFinder(exclude), dict[str, list[str]](), 0
    for entry in finder.entries(folder, folder) if is_folder(folder) else ():
        if not is_dir(entry):
            loose += finder.is_image(entry)
        elif paths := finder.images(entry.path, folder):
            images[entry.name] = paths
    parts = [name for name in _parts(folder, images) if _is_divided(folder / name, images[name])]
    learn = [name for name in parts if _TO_LEARN.match(name)]
    if not learn and len(parts) == 1:
        learn = parts
    if not learn:
        inner = folder / next(iter(images)) if len(images) == 1 and not loose else None
        below = None if inner is None or parts else data_set(inner, exclude)
        divided = below is not None and inner not in below.learn and below.labels
        return below if below and divided else DataSet((folder,), (), (*images,), (), loose)
    labels = {label for name in learn for label in _inside(folder / name, images[name])[1]}
    return DataSet(
        learn=tuple(folder / name for name in learn),
        measure=tuple(folder / name for name in parts if name not in learn),
        labels=tuple(sorted(labels)),
        unused=tuple(folder / name for name in images if name not in parts),
        loose=loose,
    )


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
        refuse_arrays(folder)
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
        remedy = "; --label NAME registers them as one label"
        if use != "learn":
            remedy = "; move them into sub-folders, or name them and their labels in a table (.csv)"
        content = f"{loose:,} image{'' if loose == 1 else 's'} directly in it{remedy}"
    return f"{folder}: expected one sub-folder of images for each label, found {content}"
