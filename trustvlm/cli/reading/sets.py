"""Sets of images on the command line: tables and tar shards, beside files and folders."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Any

from trustvlm.reading.images import ImageFinder
from trustvlm.reading.sets.read import is_set_file, set_of
from trustvlm.reading.sets.rows import LabelledImages

if TYPE_CHECKING:
    from trustvlm.reading.naming import LabelName, Naming

_LISTS = (".csv", ".tsv")


def all_sets(paths: Sequence[Path]) -> bool:
    """Whether there are paths, and each is a table or a tar shard."""
    return bool(paths) and all(map(is_set_file, paths))


def labelled_set(path: Path) -> LabelledImages:
    """The images of a table or of tar shards. Raises NotFound, InvalidInput."""
    images = set_of(path)
    assert images is not None, path
    return images


def given_images(finder: ImageFinder, paths: Sequence[Path]) -> tuple[Iterable[Any], int]:
    """(the images of files, folders, tables and shards; their number, 0 where it is not known
    before they are read). Raises NotFound, InvalidInput."""
    parts: list[Iterable[Any]] = []
    total: int | None = 0
    for path in paths:
        images: Iterable[Any]
        if not is_set_file(path):
            images = finder.images_of([path])
        elif path.suffix.lower() in _LISTS:
            images = list(labelled_set(path).images())
        else:
            images = labelled_set(path).images()
        total = total + len(images) if isinstance(images, list) and total is not None else None
        parts.append(images)
    return chain.from_iterable(parts), total or 0


def named_sets(
    paths: Sequence[Path], naming: Naming, keep: Collection[str] = ()
) -> dict[LabelName, list[Any]]:
    """The images of each label of tables and shards, named by `naming`; labels in `keep` are called
    as they are."""
    images: dict[str, list[Any]] = {}
    for path in paths:
        for name, some in labelled_set(path).by_label().items():
            images.setdefault(name, []).extend(some)
    labels = naming.labels(images, keep)
    return {labels[name]: some for name, some in images.items()}
