"""What a set of images is, by what a caller gives."""

from __future__ import annotations

import os
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

from trustvlm.errors import InvalidInput, NotFound
from trustvlm.reading.images import ImageFinder
from trustvlm.reading.labelled import label_folders
from trustvlm.reading.sets.arrow_table import (
    dataset_images,
    is_dataset,
    is_table,
    parquet_images,
    table_images,
)
from trustvlm.reading.sets.csv_file import csv_images
from trustvlm.reading.sets.fiftyone import fiftyone_images, is_fiftyone
from trustvlm.reading.sets.rows import ImageRow, LabelledImages, Names
from trustvlm.reading.sets.shards import shard_images
from trustvlm.types.bounds import path_of

TABLES = (".csv", ".tsv", ".parquet")
SHARDS = (".tar",)
_RANGE = re.compile(r"(.*)\{(\d+)\.\.(\d+)\}(.*)", re.DOTALL)


def read_images(
    data: Any, *, image: str | None = None, label: str | None = None, names: Names = None
) -> LabelledImages:
    """Images with labels, where columns or labels need a name; all verbs take the result as images.

    >>> images = trustvlm.read_images("photos.parquet", label="species")  # doctest: +SKIP
    >>> service.evaluate("birds", images)  # doctest: +SKIP

    Args:
        data: a .csv, .tsv, .parquet or .tar file, shards "part-{000..009}.tar" or a list of them, a
            table of pandas, polars or pyarrow, a data set of Hugging Face, or the folder of an
            exported one of FiftyOne.
        image, label: the columns, where they have other names than usual.
        names: names of the labels by number (a list, or a mapping), or by what `data` calls them.

    Raises:
        NotFound: no such file. InvalidInput: something else, or no such column.
    """
    made = set_of(data, image, label, names)
    if made is None:
        raise InvalidInput(
            f"data: expected a {', '.join((*TABLES, *SHARDS))} file, a table or a data set, got "
            f"{data!r:.80}"
        )
    return made


def set_of(
    values: Any, image: str | None = None, label: str | None = None, names: Names = None
) -> LabelledImages | None:
    """`values` as a set of images; None where they are something else, such as one image."""
    if isinstance(values, LabelledImages):
        return values
    if isinstance(values, str | os.PathLike):
        return _of_file(path_of("path", values), image, label, names)
    if isinstance(values, list | tuple) and values and all(map(_is_shard, values)):
        return shard_images([_file(Path(path)) for path in values], names)
    if is_dataset(values):
        return dataset_images(values, image, label, names)
    return table_images(values, image, label, names) if is_table(values) else None


def is_set_file(path: Path) -> bool:
    """Whether a path is that of a set of images: a file by its name, a folder of FiftyOne by what
    is in it."""
    return is_fiftyone(path) if path.is_dir() else path.suffix.lower() in (*TABLES, *SHARDS)


def labelled_folder(folder: Path, use: str) -> LabelledImages:
    """The images of a folder with a sub-folder for each label; see :func:`label_folders`."""
    by_label = label_folders(folder, ImageFinder(), "learn" if use == "learn" else "measure")
    rows = [ImageRow(path, name, path) for name, paths in by_label.items() for path in paths]
    return LabelledImages(str(folder), lambda: iter(rows))


def _of_file(
    path: Path, image: str | None, label: str | None, names: Names
) -> LabelledImages | None:
    if is_fiftyone(path):
        return fiftyone_images(path, label, names)
    if not is_set_file(path) or path.is_dir():
        return None
    if _is_shard(path):
        return shard_images([_file(one) for one in expanded(path)], names)
    read: Callable[..., LabelledImages] = (
        parquet_images if path.suffix.lower() == ".parquet" else csv_images
    )
    return read(_file(path), image, label, names)


def _is_shard(value: Any) -> bool:
    return isinstance(value, str | os.PathLike) and Path(value).suffix.lower() in SHARDS


def _file(path: Path) -> Path:
    if not path.exists():
        raise NotFound(f"no file {path}")
    return path


def expanded(path: Path) -> list[Path]:
    """The paths that part-{000..009}.tar stands for."""
    match = None if path.exists() else _RANGE.fullmatch(str(path))
    if match is None:
        return [path]
    before, first, last, after = match.groups()
    if not 0 <= int(last) - int(first) < 100_000:
        raise InvalidInput(f"{path}: expected a range of at most 100,000 shards")
    numbers = range(int(first), int(last) + 1)
    return [Path(f"{before}{number:0{len(first)}d}{after}") for number in numbers]
