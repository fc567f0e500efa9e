"""Reading vectors from .npz and .npy files, never unpickling, with errors that name the array."""

from __future__ import annotations

import os
import warnings
import zipfile
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import numpy.typing as npt

from trustvlm.errors import InvalidInput, NotFound
from trustvlm.reading.label_files import JSON_LINES, PARQUET, read_labels
from trustvlm.types import LabelInput, Queries

__all__ = [
    "image_vectors_by_id",
    "label_inputs",
    "labelled_vectors",
    "query_batches",
    "read_npz",
    "read_query_vectors",
    "support_vectors",
    "text_vectors_by_name",
]

Array = npt.NDArray[Any]
MAX_ARRAYS = 1_000
"""Arrays in one .npz file; we read five."""
MAX_BYTES = 64 * 2**30
"""Of all arrays of a file together: 20 million vectors of 768 values."""
MAX_RATIO = 100
FREE_BYTES = 256 * 2**20
"""What a compressed file may unpack to: so many times its size, or so many bytes. Embeddings hardly
shrink at all."""

_METHODS = (
    zipfile.ZIP_STORED,
    zipfile.ZIP_DEFLATED,
)  # numpy's; others may ask for gigabytes to unpack anything
_REASON = 200  # characters of a reason: zipfile repeats what it found


def read_npz(path: Path, *known: str) -> dict[str, Array]:
    """Those of the `known` arrays that the file has.

    Raises:
        NotFound: no such file. InvalidInput: not an .npz file, or an array of Python objects.
    """
    with _opened(path) as file:
        if isinstance(file, np.ndarray):
            raise InvalidInput(
                f"{path}: expected an .npz file with named arrays, got a single array (.npy)"
            )
        found = {name: _array(path, file, name) for name in known if name in file.files}
        if not found:
            there = ", ".join(file.files) or "none"
            raise InvalidInput(f"{path}: expected arrays named {', '.join(known)}; it has: {there}")
        return found


def read_query_vectors(path: Path, side: str) -> Array:
    """The array `side` of an .npz file, its only array, or the array of an .npy file."""
    with _opened(path) as file:
        if isinstance(file, np.ndarray):
            return file
        if side not in file.files and len(file.files) != 1:
            raise InvalidInput(
                f"{path}: expected an array named {side}, or only one; it has: "
                f"{', '.join(file.files) or 'none'}"
            )
        return _array(path, file, side if side in file.files else file.files[0])


@contextmanager
def _opened(path: Path) -> Iterator[Any]:
    """An NpzFile, or the array of an .npy file."""
    if not os.path.lexists(path):
        raise NotFound(f"no file {path}")
    if path.exists() and not path.is_file():
        raise InvalidInput(f"{path}: expected a file, this is a folder, a pipe or a device")
    with ExitStack() as stack:
        try:
            raw = stack.enter_context(path.open("rb"))  # numpy would leave a damaged file open
            _check_archive(path, raw)
            file: Any = _load(raw)
        except InvalidInput:
            raise
        # zipfile, zlib, tokenize, ast and numpy parse foreign bytes; whatever it is, they are bad
        except Exception as error:
            reason = (
                error.strerror
                if isinstance(error, OSError) and error.strerror
                else "not such a file, or damaged"
            )
            raise InvalidInput(
                f"{path}: expected arrays saved with numpy (.npz or .npy): {reason}"
            ) from error
        if not isinstance(file, np.ndarray):
            stack.enter_context(file)
        yield file


def _load(file: BinaryIO) -> Any:
    with warnings.catch_warnings():
        warnings.simplefilter("error", UserWarning)
        return np.load(file, allow_pickle=False)


def _check_archive(path: Path, file: BinaryIO) -> None:
    """Look at what a zip archive says of itself before anything is unpacked.

    Raises:
        InvalidInput: too many or too large arrays, two of one name, or packed in another way than
            numpy does.
    """
    size = os.fstat(file.fileno()).st_size
    if size > MAX_BYTES:
        raise InvalidInput(f"{path}: expected at most {MAX_BYTES >> 30} GiB, got {size} bytes")
    if file.read(4) in (b"PK\x03\x04", b"PK\x05\x06"):
        with zipfile.ZipFile(file) as archive:
            members = archive.infolist()
        if len(members) > MAX_ARRAYS:
            raise InvalidInput(f"{path}: expected at most {MAX_ARRAYS} arrays, got {len(members)}")
        names = [member.filename.removesuffix(".npy") for member in members]
        if len(set(names)) < len(names):
            twice = next(name for name in names if names.count(name) > 1)
            raise InvalidInput(f"{path}: two arrays are named {twice[:80]}")
        if any(member.compress_type not in _METHODS for member in members):
            raise InvalidInput(
                f"{path}: expected arrays stored or deflated, as numpy does, got another kind "
                f"of compression"
            )
        unpacked = sum(member.file_size for member in members)
        if unpacked > MAX_BYTES or (unpacked > FREE_BYTES and unpacked > MAX_RATIO * size):
            raise InvalidInput(
                f"{path}: {size} bytes would unpack to {unpacked}; expected at most {MAX_RATIO} "
                f"times as many, "
                f"and {MAX_BYTES >> 30} GiB; save it with numpy.savez"
            )
    file.seek(0)


def _array(path: Path, file: Any, name: str) -> Array:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error", UserWarning)
            found: Array = file[name]
    except Exception as error:  # as above; a header may also claim any shape
        objects = "Object arrays" in str(error)
        reason = f"is damaged ({(str(error).splitlines() or [type(error).__name__])[0]:.{_REASON}})"
        what = (
            "holds Python objects, which are not read; save plain numbers or strings"
            if objects
            else reason
        )
        raise InvalidInput(f"{path}: {name} {what}") from error
    if not isinstance(found, np.ndarray):
        raise InvalidInput(f"{path}: {name} is not an array")
    return found


@dataclass(frozen=True, eq=False)
class _Rows:
    """Some rows of an array as an array, gathered when asked for: the file's vectors are in memory
    once, not twice."""

    array: Array
    rows: npt.NDArray[np.intp]

    def __array__(self, dtype: npt.DTypeLike | None = None, copy: bool | None = None) -> Array:
        found: Array = self.array[self.rows]
        return found if dtype is None else found.astype(dtype, copy=False)


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
    arrays = read_npz(
        path,
        "label_names",
        "text_vectors",
        "image_vectors",
        "image_labels",
        "classifier_image_vectors",
    )
    names = _names(path, arrays, label)
    texts = arrays.get("text_vectors")
    if texts is not None and label is not None and texts.ndim == 1:
        texts = texts[np.newaxis]
    if texts is not None and (texts.ndim not in (2, 3) or len(texts) != len(names)):
        raise InvalidInput(
            f"{path}: text_vectors: expected shape ({len(names)}, dim), one row a label, got "
            f"{texts.shape}"
        )
    rows = _rows_of_labels(path, arrays, len(names))
    images, others = arrays.get("image_vectors"), arrays.get("classifier_image_vectors")
    if others is not None and (images is None or others.ndim != 2 or len(others) != len(images)):
        raise InvalidInput(
            f"{path}: classifier_image_vectors: expected one row for each of the "
            f"{0 if images is None else len(images)} image_vectors, got shape {others.shape}"
        )
    return [
        LabelInput(
            name,
            text_vector=None if texts is None else texts[number],
            image_vectors=_Rows(images, own) if images is not None and len(own) else None,
            classifier_image_vectors=_Rows(others, own)
            if others is not None and len(own)
            else None,
        )
        for number, (name, own) in enumerate(zip(names, rows, strict=True))
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


def _strings(path: Path, name: str, array: Array) -> list[str]:
    if array.ndim != 1 or array.dtype.kind not in "US":
        raise InvalidInput(
            f"{path}: {name}: expected a one-dimensional array of strings, got {array.dtype} "
            f"{array.shape}"
        )
    try:
        return [
            str(text)
            for text in (array if array.dtype.kind == "U" else np.char.decode(array, "utf-8"))
        ]
    except UnicodeDecodeError as error:
        raise InvalidInput(f"{path}: {name}: expected UTF-8 ({error.reason})") from error
    except (ValueError, SystemError) as error:  # numbers that are no characters
        raise InvalidInput(f"{path}: {name}: expected Unicode characters ({error})") from error


def _rows_of_labels(
    path: Path, arrays: Mapping[str, Array], labels: int
) -> list[npt.NDArray[np.intp]]:
    """For each label, the rows of image_vectors that are its own, in order."""
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
    if owners.shape != (len(images),) or owners.dtype.kind not in "iu":
        raise InvalidInput(
            f"{path}: image_labels: expected {len(images)} whole numbers, one for each row of "
            f"image_vectors, "
            f"got {owners.dtype} {owners.shape}"
        )
    outside = (owners < 0) | (owners >= labels)
    if outside.any():
        at = int(outside.argmax())
        raise InvalidInput(
            f"{path}: image_labels[{at}]: expected an index from 0 to {labels - 1}, got "
            f"{owners[at]}"
        )
    order = np.argsort(owners, kind="stable")
    return np.split(order, np.searchsorted(owners[order], np.arange(1, labels)))


def support_vectors(path: Path) -> dict[str, Array]:
    """image_vectors and, where there, classifier_image_vectors, of one label's support images."""
    arrays = read_npz(path, "image_vectors", "classifier_image_vectors")
    if "image_vectors" not in arrays:
        raise InvalidInput(f"{path}: image_vectors is missing")
    return arrays


def query_batches(path: Path, size: int) -> Iterator[tuple[list[str], Queries]]:
    """(sources, queries) of at most `size` rows of the arrays classifier, verifier and sources.

    Raises:
        NotFound: no such file. InvalidInput: arrays of different lengths.
    """
    arrays = read_npz(path, "classifier", "verifier", "sources")
    sources = _strings(path, "sources", arrays.pop("sources")) if "sources" in arrays else None
    if not arrays:
        raise InvalidInput(f"{path}: expected an array classifier, verifier or both")
    sides = {name: np.atleast_2d(array) for name, array in arrays.items()}
    lengths = {name: len(array) for name, array in sides.items()} | (
        {} if sources is None else {"sources": len(sources)}
    )
    if len(set(lengths.values())) != 1:
        said = ", ".join(f"{name} {number}" for name, number in lengths.items())
        raise InvalidInput(f"{path}: expected arrays of one length, got {said}")
    total = next(iter(lengths.values()))
    for start in range(0, max(total, 1), size):
        rows = range(start, min(start + size, total))
        names = (
            [f"{path}[{i}]" for i in rows] if sources is None else sources[rows.start : rows.stop]
        )
        batch = {name: array[rows.start : rows.stop] for name, array in sides.items()}
        yield names, Queries(classifier=batch.get("classifier"), verifier=batch.get("verifier"))


def labelled_vectors(path: Path) -> tuple[Queries, list[str | None], list[str]]:
    """(queries, true label names, sources) of an .npz file: see
    :func:`trustvlm.cli.reading.labelled.labelled_options`.

    An empty name, or −1 in image_labels, stands for an image of no label of the space.

    Raises:
        NotFound: no such file. InvalidInput: missing arrays, or arrays that do not fit together.
    """
    sides = ("classifier", "verifier", "classifier_image_vectors", "image_vectors")
    arrays = read_npz(path, *sides, "truth", "label_names", "image_labels", "sources")
    classifier = arrays.get("classifier", arrays.get("classifier_image_vectors"))
    verifier = arrays.get("verifier", arrays.get("image_vectors"))
    if classifier is None and verifier is None:
        raise InvalidInput(f"{path}: expected an array classifier, verifier or both")
    given = verifier if classifier is None else classifier
    assert given is not None
    total = len(np.atleast_2d(given))
    if "truth" in arrays:
        truth: list[str | None] = [
            name or None for name in _strings(path, "truth", arrays["truth"])
        ]
    elif "label_names" in arrays and "image_labels" in arrays:
        names, places = _strings(path, "label_names", arrays["label_names"]), arrays["image_labels"]
        if (
            places.ndim != 1
            or places.dtype.kind not in "iu"
            or (len(places) and not -1 <= places.min() <= places.max() < len(names))
        ):
            raise InvalidInput(
                f"{path}: image_labels: expected whole numbers from 0 to {len(names) - 1} (or "
                f"-1), one an image"
            )
        truth = [None if place < 0 else names[place] for place in places.tolist()]
    else:
        raise InvalidInput(
            f"{path}: expected truth (names), or label_names and image_labels: the true label "
            f"of each image"
        )
    if len(truth) != total:
        raise InvalidInput(
            f"{path}: expected a true label for each of the {total} images, got {len(truth)}"
        )
    sources = (
        _strings(path, "sources", arrays["sources"])
        if "sources" in arrays
        else [f"{path}[{i}]" for i in range(total)]
    )
    if len(sources) != total:
        raise InvalidInput(
            f"{path}: expected a source for each of the {total} images, got {len(sources)}"
        )
    return Queries(classifier=classifier, verifier=verifier), truth, sources


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
    if texts.ndim not in (2, 3) or len(texts) != len(names):
        raise InvalidInput(
            f"{path}: text_vectors: expected shape ({len(names)}, dim), one row a label, got "
            f"{texts.shape}"
        )
    return dict(zip(names, texts, strict=True))


def image_vectors_by_id(path: Path) -> dict[str, dict[int, Array]]:
    """image_vectors and, where there, classifier_image_vectors: support image id → its row.

    Raises:
        NotFound: no such file. InvalidInput: missing arrays, or arrays that do not fit together.
    """
    arrays = read_npz(path, "support_ids", "image_vectors", "classifier_image_vectors")
    if "support_ids" not in arrays or "image_vectors" not in arrays:
        raise InvalidInput(
            f"{path}: expected support_ids and image_vectors, one row a support image; got "
            f"{', '.join(arrays)}"
        )
    ids = arrays.pop("support_ids")
    if ids.ndim != 1 or ids.dtype.kind not in "iu":
        raise InvalidInput(
            f"{path}: support_ids: expected whole numbers, got {ids.dtype} {ids.shape}"
        )
    for name, rows in arrays.items():
        if rows.ndim != 2 or len(rows) != len(ids):
            raise InvalidInput(
                f"{path}: {name}: expected shape ({len(ids)}, dim), one row a support id, got "
                f"{rows.shape}"
            )
    return {name: dict(zip(ids.tolist(), rows, strict=True)) for name, rows in arrays.items()}
