"""Queries and labels as callers have them: a folder, a file, images in memory, a mapping of names
to images or vectors."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterable, Iterator, Mapping, Set
from dataclasses import replace
from itertools import chain, islice
from numbers import Number
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import numpy as np

from trustvlm.errors import InvalidInput
from trustvlm.reading.images import ImageFinder, is_folder, refuse_arrays
from trustvlm.reading.sets.read import labelled_folder, set_of
from trustvlm.reading.sets.rows import FileBytes, LabelledImages, label_of_images
from trustvlm.types import LabelInput, Queries
from trustvlm.types.arrays import is_tensor, iterates, sources
from trustvlm.types.messages.array_files import read_with

if TYPE_CHECKING:
    from trustvlm.types.inputs import Images, ImagesByLabel

_EXPECTED = "a folder, a path, bytes, a PIL image, a file opened with 'rb', or several of them"
_LABELLED = (
    "images with labels: a folder with a sub-folder for each label, a .csv, .tsv, .parquet or .tar "
    "file, a table or a data set"
)

_TAKES = {
    "learn": "trustvlm.LabelInput('LABEL', image_vectors={})",
    "measure": "trustvlm.Queries(classifier={})",
}


class ImageStream(Iterator[Any]):
    """Images that are read once, one after the other."""

    def __init__(self, images: Iterator[Any]) -> None:
        self._images = images

    def __next__(self) -> Any:
        return next(self._images)


def given_queries(
    values: Any, most: int | None = None, *, text: bool = False, stream: bool = False
) -> Queries:
    """Queries, also from a folder or from images; of an iterator up to `most` images and one more
    are taken.

    Args:
        text: whether the queries could be texts: a string alone is then refused.
        stream: images of an iterator or a set become an :class:`ImageStream`.

    Raises:
        NotFound: no such file or folder. InvalidInput: vectors without the name of their encoder,
            a folder without images, or something else.
    """
    if isinstance(values, Queries):
        return values
    if text and isinstance(values, str) and read_with(values) is None:
        raise InvalidInput(
            "queries: a string may be a text or a path; pass trustvlm.Queries(text=[…]) or "
            "trustvlm.Queries(images=[…])"
        )
    if (labelled := set_of(values)) is not None:
        images: Any = ImageStream(labelled.images())
        return Queries(images=images if stream else _taken(images, most))
    if _are_vectors(values):
        raise _unnamed_vectors(values)
    if stream and isinstance(values, Iterator) and not _is_one(values):
        images = _stream(values)
        return Queries(images=images)
    return Queries(images=_images(values, "queries", most))


def _stream(values: Iterator[Any]) -> ImageStream:
    """The images of an iterator. Raises InvalidInput: its first value is a vector."""
    first = list(islice(values, 1))
    if _are_vectors(first):
        raise _unnamed_vectors(values)
    return ImageStream(_image(value, "queries") for value in chain(first, values))


def given_labelled(
    queries: Any, truth: Any, names: Any, most: int | None = None
) -> tuple[Queries, Any, Any]:
    """(queries, their true labels, names for them) of a measurement; with `truth` left out (...),
    the labels are those that the images bring, and the names, too, unless given.

    Raises:
        NotFound, InvalidInput: as :func:`given_queries`; or images without labels.
    """
    if truth is not ...:
        given, names = named_queries(given_queries(queries, most), names)
        return given, truth, names
    labelled = _labelled(queries, "measure")
    if labelled is None:
        raise InvalidInput(
            f"truth: expected the label of each query, or, without truth, {_LABELLED}; got "
            f"{type(queries).__name__}"
        )
    images, labels = labelled.labelled(most)
    if names is None:
        names = [_name_of(image) for image in images]
    return Queries(images=images), labels, names


def named_queries(queries: Queries, names: Any) -> tuple[Queries, Any]:
    """(queries, names for them), which come with the queries or beside them. Raises InvalidInput:
    both."""
    if queries.sources is None:
        return queries, names
    if names is not None:
        raise InvalidInput("sources: given twice, in the queries and beside them")
    return replace(queries, sources=None), queries.sources


def _name_of(image: Any) -> str | None:
    """The path of an image, or the name that came with it."""
    if isinstance(image, str | Path):
        return str(image)
    return str(getattr(image, "filename", "")) or None


def given_labels(
    inputs: Iterable[LabelInput] | Images | ImagesByLabel | LabelledImages, most: int | None = None
) -> Iterable[LabelInput]:
    """Labels to register; a mapping gives a label for each name, with its images, or the vectors
    that the space's verifier made of them; images with labels give a label for each name, too.

    Raises:
        NotFound, InvalidInput: as :func:`given_queries`.
    """
    labelled = _labelled(inputs, "learn")
    if labelled is not None:
        by_label = labelled.by_label(most)
        return [label_of_images(name, images) for name, images in by_label.items()]
    if isinstance(inputs, str | os.PathLike):
        raise InvalidInput(f"inputs: expected labels, or {_LABELLED}; got one file, {inputs}")
    if isinstance(inputs, Mapping):
        return [_label(name, values, most) for name, values in inputs.items()]
    return cast("Iterable[LabelInput]", inputs)


def _labelled(values: Any, use: str) -> LabelledImages | None:
    """Images that bring their labels; None where `values` are something else."""
    labelled = set_of(values)
    if labelled is not None or not isinstance(values, str | os.PathLike):
        return labelled
    if is_folder(Path(values)):
        return labelled_folder(Path(values), use)
    refuse_arrays(values, _TAKES[use])
    return None


def _label(name: str, values: Any, most: int | None) -> LabelInput:
    what = f"inputs[{name!r:.80}]"
    if isinstance(values, LabelInput):
        raise InvalidInput(f"{what}: expected images or vectors; give LabelInput in a list")
    if values is None:
        return LabelInput(name)
    if (labelled := set_of(values)) is not None:
        return label_of_images(name, _taken(labelled.images(), most))
    if _are_vectors(values):
        return LabelInput(name, image_vectors=values)
    return LabelInput(name, images=_images(values, what, most))


def _are_vectors(values: Any) -> bool:
    """Whether `values` are numbers: an array, a tensor, a table or lists of them."""
    if isinstance(values, list | tuple):
        return bool(values) and (isinstance(values[0], Number) or _are_vectors(values[0]))
    if _is_image(values) or isinstance(values, str | bytes | bytearray | memoryview):
        return False
    if is_tensor(values):
        return True
    if not hasattr(values, "__array__"):
        return hasattr(values, "__dlpack__")
    array = np.asarray(values)
    if array.dtype == object:
        return bool(array.size) and _are_vectors([array.flat[0]])
    return array.dtype.kind not in "UST"


def _unnamed_vectors(values: Any) -> InvalidInput:
    one = values[0] if isinstance(values, list | tuple) else values
    dimensions = getattr(one, "ndim", 0)
    pixels = dimensions > 2 or (dimensions == 2 and getattr(one, "dtype", None) == np.uint8)
    remedy = (
        "make an image of the pixels, PIL.Image.fromarray(array)"
        if pixels
        else "say which encoder made the vectors, trustvlm.Queries(classifier=array) or "
        "trustvlm.Queries(classifier=array, verifier=other)"
    )
    kind = type(values).__name__
    return InvalidInput(f"queries: expected trustvlm.Queries(…), got {kind}; {remedy}")


def _images(values: Any, what: str, most: int | None) -> list[Any]:
    """Images as the encoders read them: paths, bytes, PIL images."""
    if isinstance(values, str | os.PathLike):
        return _of_path(Path(values), what)
    if _is_one(values):
        return [_image(values, what)]
    if isinstance(values, Mapping | Set) or not iterates(values):
        kind = type(values).__name__
        expected = f"trustvlm.Queries(…), {_EXPECTED}" if what == "queries" else _EXPECTED
        arrays = isinstance(values, Mapping) and what == "queries"
        remedy = "; trustvlm.Queries(**arrays) takes arrays by name" if arrays else ""
        raise InvalidInput(f"{what}: expected {expected}, got {kind}{remedy}")
    is_arrow = hasattr(values, "to_pylist")
    items = values.to_pylist() if is_arrow else _taken(values, most)
    if _are_vectors(items):
        if what == "queries":
            raise _unnamed_vectors(values)
        raise InvalidInput(f"{what}: expected images, or an array of vectors: numpy.stack(…)")
    if hasattr(values, "__array__") and all(isinstance(item, str | None | float) for item in items):
        items = sources(values, what)  # a column of paths, in which none may be missing
    return [_image(item, what) for item in items]


def _taken(values: Iterable[Any], most: int | None) -> list[Any]:
    """Up to `most` of the values and one more."""
    return list(islice(values, None if most is None else most + 1))


def _of_path(path: Path, what: str) -> list[Any]:
    if not is_folder(path):
        refuse_arrays(path)
        return [os.fspath(path)]
    finder = ImageFinder()
    if images := finder.images(path):
        return images
    left_out = "; ".join(finder.left_out.lines())
    raise InvalidInput(f"{what}: no images in the folder {path}{left_out and f' ({left_out})'}")


def _is_image(value: Any) -> bool:
    pil = sys.modules.get("PIL.Image")  # a caller with a PIL image has imported it
    return pil is not None and isinstance(value, pil.Image)


def _is_one(value: Any) -> bool:
    in_memory = isinstance(value, bytes | bytearray | memoryview)
    return in_memory or _is_image(value) or callable(getattr(value, "read", None))


def _image(value: Any, what: str) -> Any:
    """One image as a path, bytes or a PIL image; what is none of them stays, and is reported as any
    other bad image."""
    if isinstance(value, bytearray | memoryview):
        return bytes(value)
    refuse_arrays(value)
    if isinstance(value, os.PathLike):
        return Path(value)
    if _is_image(value) or not callable(getattr(value, "read", None)):
        return value
    name = getattr(value, "name", None)
    shown = name if isinstance(name, str) else type(value).__name__
    try:
        content = value.read()
    except (OSError, ValueError) as error:
        raise InvalidInput(f"{what}: {shown} cannot be read ({error})") from error
    if not isinstance(content, bytes):
        raise InvalidInput(f"{what}: {shown} is open as text; open it with open(path, 'rb')")
    return FileBytes.named(content, name if isinstance(name, str) else "")


def no_label_input(item: object, number: int) -> InvalidInput:
    """The error of a label to register that is none."""
    remedy = ""
    if isinstance(item, str):
        remedy = f"; for labels without images give a mapping: {{{item!r:.60}: None}}"
    elif isinstance(item, list | tuple):
        remedy = "; for images by label give a mapping of names to images (of a Series: .to_dict())"
    kind = type(item).__name__
    return InvalidInput(f"inputs[{number}]: expected a LabelInput, got {kind}{remedy}")
