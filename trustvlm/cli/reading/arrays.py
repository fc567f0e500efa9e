"""What .npz files hold for a command: labels, support images, queries and true labels."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from trustvlm.cli.reading.npz import Array, read_npz
from trustvlm.errors import InvalidInput
from trustvlm.reading.label_files import JSON_LINES, PARQUET, read_labels
from trustvlm.reading.outputs.probabilities import outputs_of
from trustvlm.types import LabelInput, Queries

_PROBABILITIES = ("probabilities", "log_probabilities")
_QUERIES = ("classifier", "verifier", *_PROBABILITIES)
_SUPPORTS = ("image_vectors", "classifier_image_vectors")


def _require_rows(
    path: Path, name: str, array: Array, count: int, a_row: str, dims: tuple[int, ...] = (2,)
) -> None:
    """Raises InvalidInput for an array of other than `count` rows, or dimensions."""
    if array.ndim not in dims or len(array) != count:
        raise InvalidInput(
            f"{path}: {name}: expected shape ({count}, dim), one row {a_row}, got {array.shape}"
        )


def _require_integers(path: Path, name: str, array: Array, expected: str) -> None:
    if array.ndim != 1 or array.dtype.kind not in "iu":
        raise InvalidInput(f"{path}: {name}: expected {expected}, got {array.dtype} {array.shape}")


def _require_places(path: Path, places: Array, labels: int, least: int) -> None:
    """Raises InvalidInput for numbers of labels that are outside of `least` to `labels` − 1."""
    outside = (places < least) | (places >= labels)
    if outside.any():
        at = int(outside.argmax())
        raise InvalidInput(
            f"{path}: image_labels[{at}]: expected an index from {least} to {labels - 1}, got "
            f"{places[at]}"
        )


def named_strings(path: Path, name: str) -> list[str | None]:
    """The array of strings of this name in an .npz file, None for an empty one.

    Raises:
        NotFound: no such file. InvalidInput: no such array, or none of strings.
    """
    return [text or None for text in _strings(path, name, read_npz(path, name)[name])]


def _strings(path: Path, name: str, array: Array) -> list[str]:
    if array.ndim != 1 or array.dtype.kind not in "US":
        raise InvalidInput(
            f"{path}: {name}: expected a one-dimensional array of strings, got {array.dtype} "
            f"{array.shape}"
        )
    try:
        texts = array if array.dtype.kind == "U" else np.char.decode(array, "utf-8")
        return [str(text) for text in texts]
    except UnicodeDecodeError as error:
        raise InvalidInput(f"{path}: {name}: expected UTF-8 ({error.reason})") from error
    except (ValueError, SystemError) as error:  # numbers that are no characters
        raise InvalidInput(f"{path}: {name}: expected Unicode characters ({error})") from error


# Labels


@dataclass(frozen=True, eq=False)
class _Rows:
    """Some rows of an array as an array, gathered when asked for: the file's vectors are in memory
    once, not twice."""

    array: Array
    rows: npt.NDArray[np.intp]

    def __array__(self, dtype: npt.DTypeLike | None = None, copy: bool | None = None) -> Array:
        gathered: Array = self.array[self.rows]
        return gathered if dtype is None else gathered.astype(dtype, copy=False)


def _some(array: Array | None, rows: npt.NDArray[np.intp]) -> _Rows | None:
    return None if array is None or not len(rows) else _Rows(array, rows)


def label_inputs(path: Path, label: str | None) -> list[LabelInput]:
    """Read what a file of vectors says to register (docs/reference-cli.md, "Vectors"). With
    `label`, all of an .npz file belongs to that label.

    Raises:
        NotFound: no such file. InvalidInput: missing arrays, or arrays that do not fit together.
    """
    if path.suffix.lower() in (*JSON_LINES, *PARQUET):
        if label is not None:
            raise InvalidInput(f"{path}: its rows name their labels; leave out --label")
        return list(read_labels(path))
    arrays = read_npz(path, "label_names", "text_vectors", "image_labels", *_SUPPORTS)
    names = _names(path, arrays, label)
    texts = arrays.get("text_vectors")
    if texts is not None and label is not None and texts.ndim == 1:
        texts = texts[np.newaxis]
    if texts is not None:
        _require_rows(path, "text_vectors", texts, len(names), "a label", dims=(2, 3))
    rows = _rows_of_labels(path, arrays, len(names))
    images, others = (arrays.get(name) for name in _SUPPORTS)
    count = 0 if images is None else len(images)
    if others is not None and (others.ndim != 2 or len(others) != count):
        raise InvalidInput(
            f"{path}: classifier_image_vectors: expected one row for each of the {count} "
            f"image_vectors, got shape {others.shape}"
        )
    return [
        LabelInput(
            name,
            None if texts is None else texts[number],
            image_vectors=_some(images, rows[number]),
            classifier_image_vectors=_some(others, rows[number]),
        )
        for number, name in enumerate(names)
    ]


def _names(path: Path, arrays: Mapping[str, Array], label: str | None) -> list[str]:
    if label is not None:
        if "label_names" in arrays or "image_labels" in arrays:
            raise InvalidInput(
                f"{path}: it names its labels itself (label_names, image_labels); leave out --label"
            )
        return [label]
    if "label_names" not in arrays:
        raise InvalidInput(
            f"{path}: label_names is missing; expected it, or --label NAME for vectors of one label"
        )
    return _strings(path, "label_names", arrays["label_names"])


def _rows_of_labels(
    path: Path, arrays: Mapping[str, Array], labels: int
) -> list[npt.NDArray[np.intp]]:
    """For each label, the rows of its image_vectors, in order."""
    images, owners = arrays.get("image_vectors"), arrays.get("image_labels")
    if images is None:
        if owners is not None:
            raise InvalidInput(f"{path}: image_labels is there, but image_vectors is missing")
        return [np.empty(0, np.intp)] * labels
    if images.ndim != 2:
        raise InvalidInput(
            f"{path}: image_vectors: expected shape (images, dim), got {images.shape}"
        )
    if owners is None:
        if labels != 1:
            raise InvalidInput(
                f"{path}: image_vectors is there, but image_labels (index into label_names) is "
                f"missing"
            )
        owners = np.zeros(len(images), np.int64)
    expected = f"{len(images)} whole numbers, one for each row of image_vectors"
    _require_integers(path, "image_labels", owners, expected)
    if len(owners) != len(images):
        raise InvalidInput(f"{path}: image_labels: expected {expected}, got {len(owners)}")
    _require_places(path, owners, labels, 0)
    order = np.argsort(owners, kind="stable")
    return np.split(order, np.searchsorted(owners[order], np.arange(1, labels)))


def support_vectors(path: Path) -> dict[str, Array]:
    """image_vectors and, where there, classifier_image_vectors, of one label's support images."""
    arrays = read_npz(path, *_SUPPORTS)
    if "image_vectors" not in arrays:
        raise InvalidInput(f"{path}: image_vectors is missing")
    return arrays


def text_vectors_by_name(path: Path) -> dict[str, Array]:
    """Label name → its row of text_vectors.

    Raises:
        NotFound: no such file. InvalidInput: missing arrays, or arrays that do not fit together.
    """
    arrays = read_npz(path, "label_names", "text_vectors")
    if len(arrays) < 2:
        raise InvalidInput(
            f"{path}: expected label_names and text_vectors, got {', '.join(arrays)} alone"
        )
    names, texts = _strings(path, "label_names", arrays["label_names"]), arrays["text_vectors"]
    _require_rows(path, "text_vectors", texts, len(names), "a label", dims=(2, 3))
    return dict(zip(names, texts, strict=True))


def image_vectors_by_id(path: Path) -> dict[str, dict[int, Array]]:
    """image_vectors and, where there, classifier_image_vectors: support image id → its row.

    Raises:
        NotFound: no such file. InvalidInput: missing arrays, or arrays that do not fit together.
    """
    arrays = read_npz(path, "support_ids", *_SUPPORTS)
    if "support_ids" not in arrays or "image_vectors" not in arrays:
        raise InvalidInput(
            f"{path}: expected support_ids and image_vectors, one row a support image; got "
            f"{', '.join(arrays)}"
        )
    ids = arrays.pop("support_ids")
    _require_integers(path, "support_ids", ids, "whole numbers")
    for name, rows in arrays.items():
        _require_rows(path, name, rows, len(ids), "a support id")
    return {name: dict(zip(ids.tolist(), rows, strict=True)) for name, rows in arrays.items()}


# Queries


def query_batches(path: Path, size: int) -> Iterator[tuple[list[str], Queries]]:
    """(sources, queries) of at most `size` rows of the arrays classifier, verifier and sources.

    Raises:
        NotFound: no such file. InvalidInput: arrays of different lengths.
    """
    arrays = read_npz(path, *_QUERIES, "outputs", "sources")
    texts, outputs = arrays.pop("sources", None), _outputs(path, arrays)
    if not arrays:
        raise InvalidInput(f"{path}: expected an array classifier, verifier or probabilities")
    sides = {name: np.atleast_2d(array) for name, array in arrays.items()}
    lengths = {name: len(array) for name, array in sides.items()}
    total = next(iter(lengths.values()))
    sources = _sources(path, texts, total)
    _check_probabilities(path, sides, outputs)
    lengths |= {} if texts is None else {"sources": len(sources)}
    if len(set(lengths.values())) != 1:
        different = ", ".join(f"{name} {number}" for name, number in lengths.items())
        raise InvalidInput(f"{path}: expected arrays of one length, got {different}")
    for start in range(0, max(total, 1), size):
        batch: dict[str, Any] = {name: array[start : start + size] for name, array in sides.items()}
        queries = Queries(**batch, outputs=outputs)
        yield sources[start : start + size], queries


def labelled_vectors(path: Path) -> tuple[Queries, list[str | None], list[str]]:
    """(queries, true label names, sources) of an .npz file: see
    :func:`trustvlm.cli.reading.labelled.labelled_options`.

    An empty name, or −1 in image_labels, stands for an image of no label of the space.

    Raises:
        NotFound: no such file. InvalidInput: missing arrays, or arrays that do not fit together.
    """
    names = ("truth", "label_names", "image_labels", "outputs", "sources")
    arrays = read_npz(path, *_QUERIES, *names, *_SUPPORTS)
    given: dict[str, Any] = {name: arrays.get(name) for name in _PROBABILITIES}
    given["outputs"] = _outputs(path, arrays)
    classifier = arrays.get("classifier", arrays.get("classifier_image_vectors"))
    verifier = arrays.get("verifier", arrays.get("image_vectors"))
    sides = (classifier, verifier, *(given[name] for name in _PROBABILITIES))
    side = next((one for one in sides if one is not None), None)
    if side is None:
        raise InvalidInput(f"{path}: expected an array classifier, verifier or probabilities")
    total = len(np.atleast_2d(side))
    truth = _truth(path, arrays)
    sources = _sources(path, arrays.get("sources"), total)
    for count, what in ((len(truth), "true label"), (len(sources), "source")):
        if count != total:
            raise InvalidInput(
                f"{path}: expected a {what} for each of the {total} images, got {count}"
            )
    _check_probabilities(path, given, given["outputs"])
    return Queries(classifier=classifier, verifier=verifier, **given), truth, sources


def _check_probabilities(
    path: Path, arrays: Mapping[str, Any], outputs: list[str | None] | None
) -> None:
    """Raises InvalidInput, with the row of the file, where its probabilities are none."""
    given: dict[str, Any] = {name: arrays.get(name) for name in _PROBABILITIES}
    try:
        outputs_of(Queries(**given, outputs=outputs))
    except InvalidInput as error:
        raise InvalidInput(f"{path}: {str(error).removeprefix('queries.')}") from error


def _outputs(path: Path, arrays: dict[str, Array]) -> list[str | None] | None:
    """The label of each column of probabilities, taken out of the arrays; an empty one stands for
    the rest."""
    names = arrays.pop("outputs", None)
    return None if names is None else [name or None for name in _strings(path, "outputs", names)]


def _sources(path: Path, texts: Array | None, total: int) -> list[str]:
    if texts is not None:
        return _strings(path, "sources", texts)
    return [f"{path.name}[{row}]" for row in range(total)]


def _truth(path: Path, arrays: Mapping[str, Array]) -> list[str | None]:
    if "truth" in arrays:
        return [name or None for name in _strings(path, "truth", arrays["truth"])]
    if "label_names" not in arrays or "image_labels" not in arrays:
        raise InvalidInput(
            f"{path}: expected truth (names), or label_names and image_labels: the true label "
            f"of each image"
        )
    names, places = _strings(path, "label_names", arrays["label_names"]), arrays["image_labels"]
    expected = f"whole numbers from 0 to {len(names) - 1} (or -1), one an image"
    _require_integers(path, "image_labels", places, expected)
    _require_places(path, places, len(names), -1)
    return [None if place < 0 else names[place] for place in places.tolist()]
