"""Folders of images on the command line, with notes on what is left out of them."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Literal

import click

from trustvlm.cli.printing.left_out import tell_left_out
from trustvlm.cli.printing.safe_text import note, quoted, utf8
from trustvlm.cli.reading.gathered import gathered
from trustvlm.cli.reading.options import FILE
from trustvlm.errors import InvalidInput
from trustvlm.reading.images import ImageFinder
from trustvlm.reading.labelled import label_folders, nested_only
from trustvlm.reading.naming import LabelName, Naming

exclude_option = click.option(
    "--exclude",
    metavar="PATTERN",
    multiple=True,
    type=utf8,
    help="Leave out files and folders whose name matches (*, ?, […]; with a /: whose path "
    "below the folder matches). "
    "Repeatable. Hidden and system ones (@eaDir, $RECYCLE.BIN, __MACOSX …) are always left out.",
)


def check_exclude(exclude: Sequence[str], paths: object) -> None:
    """Raises click.UsageError for patterns where there is no folder to look through, and for empty
    ones."""
    if exclude and not paths:
        raise click.UsageError("--exclude is for folders of images; there is none.")
    if any(not pattern.strip("/") for pattern in exclude):
        raise click.UsageError("--exclude: expected a name or a pattern, got an empty one.")


@contextmanager
def finding(exclude: Sequence[str]) -> Iterator[ImageFinder]:
    """A finder of images; at the end, notes on what it left out, and on patterns that match
    nothing."""
    finder = ImageFinder(exclude)
    try:
        yield finder
    finally:
        for line in finder.remarks():
            tell_left_out(line)


def images_in(paths: Sequence[Path], exclude: Sequence[str]) -> list[str]:
    """The image files among `paths`, and those in folders. Raises NotFound, InvalidInput: there are
    none."""
    with finding(exclude) as finder:
        images = finder.images_of(paths)
    if not images:
        raise InvalidInput(f"no images in {', '.join(map(str, paths))}")
    return images


naming_options = gathered(
    "naming",
    lambda name_map, clean_names: Naming(name_map, clean_names),
    click.option(
        "--clean-names",
        is_flag=True,
        help="Turn folder names into plain words: golden_retriever becomes 'golden retriever', "
        "01.RedFox 'Red Fox'.",
    ),
    click.option(
        "--names",
        "name_map",
        metavar="FILE",
        type=FILE,
        help="A map from sub-folders to label names: CSV with the columns folder and name, JSON, "
        "or lines 'n01440764 tench'.",
    ),
)
"""How labels are called."""


def check_naming(naming: Naming, folder: object, names: object = None) -> None:
    """Raises click.UsageError for a map without a folder, and for clean names where there are none
    to be cleaned."""
    if naming.names is not None and not folder:
        raise click.UsageError(
            "--names is for a folder with a sub-folder for each label; there is none."
        )
    if naming.clean and not (folder or names):
        raise click.UsageError(
            "--clean-names is for the names of sub-folders, or of a list; there are none."
        )


def images_by_label(
    folder: Path,
    exclude: Sequence[str],
    use: Literal["learn", "measure"],
    naming: Naming,
    keep: Collection[str] = (),
    *,
    complete: bool = False,
) -> dict[LabelName, list[str]]:
    """The images of each label, named by `naming`; sub-folders in `keep` are called as they are.
    Notes name what looks wrong.

    See :func:`trustvlm.reading.labelled.label_folders` and :class:`trustvlm.reading.naming.Naming`.

    Args:
        complete: list sub-folders without images, too, and refuse a folder that cannot be read.
    """
    with finding(exclude) as finder:
        images = label_folders(folder, finder, use)
        if complete:
            for path, reason in finder.left_out.unreadable:
                raise InvalidInput(
                    f"{path} cannot be read ({reason}): what it holds is unknown, and nothing "
                    f"was changed"
                )
            images |= {name: [] for name in finder.left_out.empty}
        if (nested := nested_only(folder, images)) is not None:
            name, below = nested
            some = ", ".join(below[:3]) + (", …" if below[3:] else "")
            inside = quoted(str(folder / name))
            if len(images) == 1:
                raise InvalidInput(
                    f"{folder}: all images lie in sub-folders of {quoted(name)} ({some}); "
                    f"if these are the labels, name {inside}; --label NAME {inside} takes all "
                    f"as one label"
                )
            note(
                f"all images of {quoted(name)} lie in its sub-folders ({some}); if these are "
                f"the labels, name {inside}"
            )
    labels = naming.labels(images, keep)
    return {labels[name]: paths for name, paths in images.items()}
