"""Folders of images on the command line: what is left out of them is said."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Literal

import click

from trustvlm.cli.text import note, quoted, utf8
from trustvlm.reading.images import ImageFinder
from trustvlm.reading.labelled import label_folders, nested_only

__all__ = ["check_exclude", "exclude_option", "finding", "images_by_label"]

exclude_option = click.option(
    "--exclude",
    metavar="PATTERN",
    multiple=True,
    type=utf8,
    help="Leave out files and folders of this name (*, ?, […]; with a / the path below the folder); repeat it for several. "
    "Hidden ones and those of systems (@eaDir, $RECYCLE.BIN, __MACOSX …) are always left out.",
)


def check_exclude(exclude: Sequence[str], paths: object) -> None:
    """Raises click.UsageError for patterns where there is no folder to look through, and for empty ones."""
    if exclude and not paths:
        raise click.UsageError("--exclude is for folders of images; there is none.")
    if any(not pattern.strip("/") for pattern in exclude):
        raise click.UsageError("--exclude: expected a name or a pattern, got an empty one.")


@contextmanager
def finding(exclude: Sequence[str]) -> Iterator[ImageFinder]:
    """A finder of images; at the end it is said what it left out, and which patterns left nothing out."""
    finder = ImageFinder(exclude)
    try:
        yield finder
    finally:
        for line in finder.left_out.lines():
            note(line)
        for pattern in finder.unmatched():
            note(f"--exclude {quoted(pattern)} left nothing out")


def images_by_label(folder: Path, exclude: Sequence[str], use: Literal["learn", "measure"]) -> dict[str, list[str]]:
    """See :func:`trustvlm.reading.labelled.label_folders`; what looks odd is said."""
    with finding(exclude) as finder:
        images = label_folders(folder, finder, use)
        if (nested := nested_only(folder, images)) is not None:
            name, below = nested
            some = ", ".join(below[:3]) + (", …" if below[3:] else "")
            inside = quoted(str(folder / name))
            note(f"all images of {quoted(name)} lie in its sub-folders ({some}); if these are the labels, name {inside}")
    return images
