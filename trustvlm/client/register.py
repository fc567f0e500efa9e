"""Registering over HTTP, in requests of bounded size: JSON, or forms where there are images."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy.typing as npt

from trustvlm.client.codec import Fields, finite, form_body, npz_body, text_rows
from trustvlm.client.decode import read
from trustvlm.client.images import File, as_sources, load, told_failures
from trustvlm.client.queries import groups_of_files
from trustvlm.client.transport import Wire, json_body, path_of
from trustvlm.errors import InvalidInput
from trustvlm.types import LabelInput, RegisterResult
from trustvlm.types.array_input import iterates
from trustvlm.types.remarks import merged_notes

__all__ = ["add_support", "register"]

REQUEST_LABELS, REQUEST_BYTES, REQUEST_FILES = 1_000, 8 * 2**20, 128
"""What goes into one request."""
PIECE_BYTES = 4 * 2**20
"""Vectors of a label, as JSON, that go into one piece of it."""
_NUMBER = 20  # bytes of a number in JSON, about

OnCommit = Callable[[list[str]], None]
Progress = Callable[[int], None]


@dataclass(frozen=True)
class _Piece:
    """A label, or a part of one that has too much for a request.

    Attributes:
        place: of its input. name: its name. content: its fields as JSON. size: of that, in bytes,
            about. files: its images.
    """

    place: int
    name: str
    content: dict[str, Any]
    size: int
    files: list[File] = field(default_factory=list)

    @property
    def weight(self) -> int:
        """Bytes that it takes in a request, about."""
        return self.size + sum(len(file.data) for file in self.files)


class _Queue:
    """Pieces one after the other, with a look at the next one."""

    def __init__(self, pieces: Iterator[_Piece]) -> None:
        self._pieces = pieces
        self.next = next(pieces, None)

    def take(self) -> Iterator[_Piece]:
        """Pieces of the next one's sort, images or none, as long as somebody asks for more."""
        pictured = self.next is not None and bool(self.next.files)
        while self.next is not None and bool(self.next.files) == pictured:
            piece, self.next = self.next, next(self._pieces, None)
            yield piece

    def batch(self) -> list[_Piece]:
        """As many of these as go into one request."""
        found: list[_Piece] = []
        weight = files = 0
        for piece in self.take():
            found.append(piece)
            weight, files = weight + piece.weight, files + len(piece.files)
            following = self.next
            if (
                following is None
                or len(found) == REQUEST_LABELS
                or weight + following.weight > REQUEST_BYTES
                or files + len(following.files) > REQUEST_FILES
            ):
                break
        return found


def register(
    wire: Wire,
    space: str,
    inputs: Iterable[LabelInput],
    on_commit: OnCommit | None,
    progress: Progress | None,
    how: Fields,
    bring_back: bool,
) -> RegisterResult:
    """See :meth:`Client.register`; `how` are the form fields that say what is done with image
    files."""
    if isinstance(inputs, LabelInput) or not iterates(inputs):
        raise InvalidInput(f"inputs: expected a list of LabelInput, got {type(inputs).__name__}")
    if isinstance(inputs, Sequence):  # they can be looked at twice: before anything is sent
        for number, item in enumerate(inputs):
            _content(item, number)
    queue = _Queue(piece for place, item in enumerate(inputs) for piece in _pieces(item, place))
    parts: list[tuple[list[_Piece], RegisterResult]] = []
    while True:
        batch = queue.batch()
        result = _request(wire, space, batch, how, bring_back)
        parts.append((batch, result))
        if batch and on_commit is not None:
            pairs = zip(batch, result.label_ids, strict=True)
            on_commit(list(dict.fromkeys(piece.name for piece, label in pairs if label >= 0)))
        if (files := sum(len(piece.files) for piece in batch)) and progress is not None:
            progress(files)
        if queue.next is None:
            return _merged(parts)


def _request(
    wire: Wire, space: str, batch: Sequence[_Piece], how: Fields, bring_back: bool
) -> RegisterResult:
    labels, files = (
        [piece.content for piece in batch],
        [file for piece in batch for file in piece.files],
    )
    path = path_of("spaces", space, "labels")
    again = {"bring_back": True} if bring_back else {}
    if not files:
        return read(
            RegisterResult,
            wire.ask("POST", path, body=json_body({"labels": labels} | again), write=True),
        )
    counted = [
        label | {"images": len(piece.files)} for label, piece in zip(labels, batch, strict=True)
    ]
    fields = [("labels", json.dumps(counted)), ("unreadable", "report"), *how]
    fields += again.items()
    return _known(
        read(RegisterResult, wire.ask("POST", path, body=form_body(fields, files), write=True)),
        files,
    )


def _known(result: RegisterResult, files: Sequence[File]) -> RegisterResult:
    """The result with failures as the caller knows them."""
    return replace(result, failures=told_failures(result.failures, files))


def add_support(
    wire: Wire,
    space: str,
    label: str,
    images: object,
    vectors: npt.ArrayLike | None,
    others: npt.ArrayLike | None,
    how: Fields,
) -> RegisterResult:
    """See :meth:`Client.add_support`."""
    path = path_of("spaces", space, "labels", label, "supports")
    named = {"image_vectors": vectors, "classifier_image_vectors": others}
    arrays = {
        name: finite(rows, f"label {label!r}: {name}")
        for name, rows in named.items()
        if rows is not None
    }
    parts: list[tuple[list[_Piece], RegisterResult]] = []
    sources = [] if images is None else as_sources(images, f"label {label!r}: images")
    if arrays or not sources:
        body = npz_body(arrays) if arrays else json_body({})
        parts.append(([], read(RegisterResult, wire.ask("POST", path, body=body, write=True))))
    fields = [("unreadable", "report"), *how]
    for group in groups_of_files(
        (load(one, i) for i, one in enumerate(sources)), REQUEST_FILES, REQUEST_BYTES
    ):
        told = wire.ask("POST", path, body=form_body(fields, group), write=True)
        parts.append(([], _known(read(RegisterResult, told), group)))
    return replace(_merged(parts), label_ids=parts[0][1].label_ids)


def _content(item: LabelInput, number: int) -> tuple[dict[str, Any], dict[str, npt.NDArray[Any]]]:
    """(the plain fields of a label, its support images' vectors). Raises InvalidInput."""
    if not isinstance(item, LabelInput):
        raise InvalidInput(f"inputs[{number}]: expected a LabelInput, got {type(item).__name__}")
    if not isinstance(item.name, str):
        raise InvalidInput(
            f"inputs[{number}].name: expected a string, got {type(item.name).__name__}"
        )
    what = f"label {item.name[:80]!r}: "
    content: dict[str, Any] = {"name": item.name}
    if item.prompt is not None:
        if not isinstance(item.prompt, str):
            raise InvalidInput(f"{what}prompt: expected a string, got {type(item.prompt).__name__}")
        content["prompt"] = item.prompt
    if item.text_vector is not None:
        content["text_vector"] = text_rows(item.text_vector, what + "text_vector")
    if item.images is not None:
        as_sources(item.images, what + "images")
    named = {
        "image_vectors": item.image_vectors,
        "classifier_image_vectors": item.classifier_image_vectors,
    }
    return content, {
        name: finite(rows, what + name) for name, rows in named.items() if rows is not None
    }


def _pieces(item: LabelInput, place: int) -> Iterator[_Piece]:
    """A label in pieces that fit into requests; nearly always one."""
    content, arrays = _content(item, place)
    sources = [] if item.images is None else as_sources(item.images, "images")
    own = 200 + len(json.dumps(content))
    rows = max((len(one) for one in arrays.values()), default=0)
    width = sum(one.size for one in arrays.values()) * _NUMBER / max(rows, 1)
    step = max(1, int(PIECE_BYTES / max(width, 1)))
    # Where numbers of rows differ, the service says so: they stay together.
    step = step if len({len(one) for one in arrays.values()}) == 1 else max(rows, 1)
    groups = groups_of_files(
        (load(one, i) for i, one in enumerate(sources)), REQUEST_FILES, REQUEST_BYTES
    )
    for start in range(0, max(rows, 1), step):
        some = {name: one[start : start + step].tolist() for name, one in arrays.items()}
        size = own + int(min(step, rows) * width)
        yield _Piece(place, item.name, content | some, size, next(groups, []))
    for group in groups:
        yield _Piece(place, item.name, content, own, group)


def _merged(parts: Sequence[tuple[list[_Piece], RegisterResult]]) -> RegisterResult:
    """The results of the requests of one call, as one."""
    results = [result for _, result in parts]
    label_ids: dict[int, int] = {}
    for batch, result in parts:
        for piece, label in zip(batch, result.label_ids, strict=False):
            label_ids[piece.place] = max(label_ids.get(piece.place, -1), label)
    pairs = [result.near_synonyms for result in results]
    return RegisterResult(
        added_labels=sum(result.added_labels for result in results),
        added_supports=sum(result.added_supports for result in results),
        skipped_duplicates=sum(result.skipped_duplicates for result in results),
        failures=tuple(failure for result in results for failure in result.failures),
        revision=max(result.revision for result in results),
        ids=tuple(one for result in results for one in result.ids),
        label_ids=tuple(label_ids[place] for place in sorted(label_ids)),
        near_synonyms=None
        if any(one is None for one in pairs)
        else tuple(pair for one in pairs for pair in one or ()),
        elsewhere=tuple(image for result in results for image in result.elsewhere),
        taken_out=tuple(image for result in results for image in result.taken_out),
        drift=tuple(dict.fromkeys(sentence for result in results for sentence in result.drift)),
        cut_prompts=tuple(dict.fromkeys(name for result in results for name in result.cut_prompts)),
        notes=merged_notes(note for result in results for note in result.notes),
    )
