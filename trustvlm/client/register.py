"""Registering over HTTP, in requests of bounded size: JSON, or forms where there are images; and
making a space equal to what is given, whose images are compared by content, hashed here."""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import groupby, islice, zip_longest
from typing import Any

import numpy as np
import numpy.typing as npt

from trustvlm.client.codec import finite, form_body, npz_body, text_rows
from trustvlm.client.images import File, known_failures, loaded
from trustvlm.client.network import RequestSizes
from trustvlm.client.queries import groups_of_files
from trustvlm.client.transport import Body, Fields, Wire, json_body, path_of, read
from trustvlm.errors import InvalidInput
from trustvlm.reading.given import no_label_input
from trustvlm.types import LabelInput, RegisterResult
from trustvlm.types.arrays import iterates, sources
from trustvlm.types.attributes.values import each_text, plain_attributes
from trustvlm.types.messages.remarks import merged_notes
from trustvlm.types.registration import KnownImage, UnreadImage

REQUEST_LABELS = 1_000
"""Labels that go into one request."""
PIECE_BYTES = 4 * 2**20
"""Vectors of a label, as JSON, that go into one piece of it."""
_NUMBER = 20  # bytes of a number in JSON, about

OnCommit = Callable[[list[str]], None]
Progress = Callable[[int], None]
Contents = tuple[list[dict[str, Any]], tuple[UnreadImage, ...]]
"""What labels have, by content; the images that cannot be read."""


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


def _batches(pieces: Iterable[_Piece], sizes: RequestSizes) -> Iterator[list[_Piece]]:
    """Pieces that go into one request each: with images or without, and of bounded size. Without
    pieces there is one empty request, which the service checks."""
    batch: list[_Piece] = []
    weight = files = 0
    for piece in pieces:
        if batch and (
            bool(piece.files) != bool(batch[0].files)
            or len(batch) == REQUEST_LABELS
            or weight + piece.weight > sizes.file_bytes
            or files + len(piece.files) > sizes.files
        ):
            yield batch
            batch, weight, files = [], 0, 0
        batch.append(piece)
        weight, files = weight + piece.weight, files + len(piece.files)
    yield batch


@dataclass(frozen=True)
class Call:
    """Where labels are registered, and how.

    Attributes:
        on_commit, progress: see :meth:`Client.register`.
        form: fields that say what is done with image files. chosen: other options that are on.
    """

    wire: Wire
    space: str
    on_commit: OnCommit | None
    progress: Progress | None
    form: Fields
    chosen: dict[str, bool]


def register(call: Call, inputs: Iterable[LabelInput]) -> RegisterResult:
    """See :meth:`Client.register`."""
    _check_iterable(inputs)
    if isinstance(inputs, Sequence):  # they can be looked at twice: before anything is sent
        for number, item in enumerate(inputs):
            _content(item, number)
    sizes, numbered = call.wire.sizes, enumerate(inputs)
    pieces = (piece for place, item in numbered for piece in _pieces(item, place, sizes))
    results: list[RegisterResult] = []
    label_ids: dict[int, int] = {}
    for batch in _batches(pieces, sizes):
        result = _request(call, batch)
        results.append(result)
        committed: dict[str, None] = {}
        for piece, label in zip(batch, result.label_ids, strict=True):
            label_ids[piece.place] = max(label_ids.get(piece.place, -1), label)
            if label >= 0:
                committed[piece.name] = None
        if batch and call.on_commit is not None:
            call.on_commit(list(committed))
        if (files := sum(len(piece.files) for piece in batch)) and call.progress is not None:
            call.progress(files)
    return _combined(results, tuple(label_ids[place] for place in sorted(label_ids)))


def _request(call: Call, batch: Sequence[_Piece]) -> RegisterResult:
    path, chosen = path_of("spaces", call.space, "labels"), call.chosen
    files = [file for piece in batch for file in piece.files]
    if not files:
        labels = [piece.content for piece in batch]
        return _sent(call.wire, path, json_body({"labels": labels} | chosen), files)
    counted = [piece.content | {"images": len(piece.files)} for piece in batch]
    fields = [("labels", json.dumps(counted)), ("unreadable", "report")]
    return _sent(call.wire, path, form_body([*fields, *call.form, *chosen.items()], files), files)


def _sent(
    wire: Wire, path: str, body: Body, files: Sequence[File], query: Fields = ()
) -> RegisterResult:
    """The result of one request, in which files have the names that the caller gave them."""
    result = read(RegisterResult, wire.ask("POST", path, query=query, body=body, write=True))
    if not files:
        return result
    counts = Counter(file.name for file in files)
    sources = {file.name: file.source for file in files if counts[file.name] == 1}

    def named(images: Sequence[KnownImage]) -> tuple[KnownImage, ...]:
        return tuple(replace(i, source=sources.get(i.source or "", i.source)) for i in images)

    return replace(
        result,
        failures=known_failures(result.failures, files),
        elsewhere=named(result.elsewhere),
        taken_out=named(result.taken_out),
    )


def add_support(
    wire: Wire,
    space: str,
    label: str,
    images: object,
    vectors: npt.ArrayLike | None,
    others: npt.ArrayLike | None,
    described: Any,
    form: Fields,
) -> RegisterResult:
    """See :meth:`Client.add_support`."""
    path = path_of("spaces", space, "labels", label, "supports")
    named = {"image_vectors": vectors, "classifier_image_vectors": others}
    arrays = {
        name: finite(rows, f"label {label!r}: {name}")
        for name, rows in named.items()
        if rows is not None
    }
    what = f"label {label!r}: "
    given = [] if images is None else sources(images, f"{what}images")
    rows = max((len(array) for array in arrays.values()), default=0)
    texts = each_text(described, len(given) + rows, f"{what}image_attributes")
    results = []
    for some, text in _runs(texts[len(given) :]):
        part = {name: array[some] for name, array in arrays.items()}
        query = [("image_attributes", text)] if text else []
        results.append(_sent(wire, path, npz_body(part), (), query))
    for some, text in _runs(texts[: len(given)]):
        files = loaded(given[some], f"{what}images")
        for group in groups_of_files(files, wire.sizes.files, wire.sizes.file_bytes):
            fields = [("unreadable", "report"), *form]
            fields += [("image_attributes", text)] if text else []
            results.append(_sent(wire, path, form_body(fields, group), group))
    if not results:
        results.append(_sent(wire, path, json_body({}), ()))
    return _combined(results, results[0].label_ids)


def _runs(texts: Sequence[str | None]) -> Iterator[tuple[slice, str | None]]:
    """Stretches of equal attributes: the route takes one object for the images of a request."""
    start = 0
    for text, group in groupby(texts):
        stop = start + len(list(group))
        yield slice(start, stop), text
        start = stop


def _content(item: LabelInput, number: int) -> tuple[dict[str, Any], dict[str, npt.NDArray[Any]]]:
    """(the plain fields of a label, its support images' vectors). Raises InvalidInput."""
    _check_input(item, number)
    if not isinstance(item.name, str):
        raise InvalidInput(
            f"inputs[{number}].name: expected a string, got {type(item.name).__name__}"
        )
    what = f"label {item.name[:80]!r}: "
    content: dict[str, Any] = {"name": item.name}
    for field_name in ("prompt", "parent"):
        text = getattr(item, field_name)
        if text is not None and not isinstance(text, str):
            got = type(text).__name__
            raise InvalidInput(f"{what}{field_name}: expected a string, got {got}")
        if text is not None:
            content[field_name] = text
    if item.attributes is not None:
        content["attributes"] = plain_attributes(item.attributes, what + "attributes")
    if item.text_vector is not None:
        content["text_vector"] = text_rows(item.text_vector, what + "text_vector")
    if item.images is not None:
        sources(item.images, what + "images")
    arrays = {}
    for name in ("image_vectors", "classifier_image_vectors"):
        if (rows := getattr(item, name)) is not None:
            arrays[name] = finite(rows, what + name)
    return content, arrays


def _check_iterable(inputs: Any) -> None:
    if isinstance(inputs, LabelInput) or not iterates(inputs):
        raise InvalidInput(f"inputs: expected a list of LabelInput, got {type(inputs).__name__}")


def _check_input(item: Any, number: int) -> None:
    if not isinstance(item, LabelInput):
        raise no_label_input(item, number)


def _pieces(item: LabelInput, place: int, sizes: RequestSizes) -> Iterator[_Piece]:
    """A label in pieces that fit into requests; nearly always one."""
    content, arrays = _content(item, place)
    plain_size = 200 + len(json.dumps(content))
    rows, step, row_size = _steps(arrays)
    given = [] if item.images is None else sources(item.images, "images")
    texts = each_text(item.image_attributes, len(given) + rows, "image_attributes")
    of_files, of_vectors = iter(texts[: len(given)]), texts[len(given) :]
    files = iter(()) if item.images is None else loaded(item.images, "images")
    groups = groups_of_files(files, sizes.files, sizes.file_bytes)
    for start, group in zip_longest(range(0, max(rows, 1), step), groups):
        described, part, size = (
            list(islice(of_files, len(group or ()))),
            dict[str, Any](),
            plain_size,
        )
        if start is not None:
            some = slice(start, start + step)
            part = {name: array[some].tolist() for name, array in arrays.items()}
            size += int(min(step, rows) * row_size)
            described += of_vectors[some]
        yield _Piece(place, item.name, content | part | _described(described), size, group or [])


def _steps(arrays: Mapping[str, npt.NDArray[Any]]) -> tuple[int, int, float]:
    """(rows of a label's vectors, how many of them go into a piece, bytes of one as JSON)."""
    rows = max((len(array) for array in arrays.values()), default=0)
    size = sum(array.size for array in arrays.values()) * _NUMBER / max(rows, 1)
    if len({len(array) for array in arrays.values()}) != 1:
        return rows, max(rows, 1), size  # the service says so: they stay together
    return rows, max(1, int(PIECE_BYTES / max(size, 1))), size


def _described(texts: Sequence[str | None]) -> dict[str, Any]:
    """The attributes of the images of a piece, as a field of it."""
    if all(text is None for text in texts):
        return {}
    return {"image_attributes": [None if text is None else json.loads(text) for text in texts]}


def _combined(results: Sequence[RegisterResult], label_ids: tuple[int, ...]) -> RegisterResult:
    """The results of the requests of one call, as one: counts are added, lists follow each
    other."""
    if len(results) == 1:
        return replace(results[0], label_ids=label_ids)

    def joined(name: str) -> tuple[Any, ...]:
        return tuple(item for result in results for item in getattr(result, name) or ())

    counts: dict[str, Any] = {
        name: sum(getattr(result, name) for result in results)
        for name in ("added_labels", "added_supports", "skipped_duplicates", "replaced_labels")
    }
    lists: dict[str, Any] = {
        name: joined(name) for name in ("failures", "ids", "elsewhere", "taken_out")
    }
    lists |= {name: tuple(dict.fromkeys(joined(name))) for name in ("drift", "cut_prompts")}
    checked = all(result.near_synonyms is not None for result in results)
    return RegisterResult(
        **counts,
        **lists,
        revision=max(result.revision for result in results),
        label_ids=label_ids,
        near_synonyms=joined("near_synonyms") if checked else None,
        notes=merged_notes(joined("notes")),
    )


# Dry runs, and spaces that are made equal to what is given


def contents_of(inputs: Iterable[LabelInput]) -> Contents:
    """The contents of labels, hashed. Raises InvalidInput."""
    _check_iterable(inputs)
    labels, failures = [], []
    for number, item in enumerate(inputs):
        _, arrays = _content(item, number)
        rows = arrays.get("image_vectors", np.empty(0)).astype("<f4")
        hashes = [hashlib.sha256(row.tobytes()).hexdigest() for row in rows]
        names: list[str | None] = [None] * len(hashes)
        unread = False
        what = f"label {item.name!r}: "
        images = [] if item.images is None else sources(item.images, f"{what}images")
        each_text(item.image_attributes, len(images) + len(hashes), f"{what}image_attributes")
        for file in loaded(images, f"{what}images"):
            if file.problem is None:
                hashes.append(hashlib.sha256(file.data).hexdigest())
                names.append(file.source)
            else:
                failures.append(UnreadImage(file.source, file.problem))
                unread = True
        labels.append({"name": item.name, "contents": hashes, "sources": names, "unread": unread})
    return labels, tuple(failures)


def preview(
    wire: Wire, space: str, contents: Contents, *, sync: bool, bring_back: bool
) -> RegisterResult:
    """What registering labels with these contents would change."""
    labels, failures = contents
    body = {"labels": labels, "dry_run": True, "remove": sync, "bring_back": bring_back}
    result = _sent(wire, path_of("spaces", space, "sync"), json_body(body), ())
    return replace(result, failures=failures)


def synchronise(call: Call, inputs: Iterable[LabelInput]) -> RegisterResult:
    """Register labels, and remove what they do not have; images that were taken out are brought
    back. A refused call is refused before anything is sent."""
    _check_iterable(inputs)
    given = list(inputs)
    contents = contents_of(given)
    preview(call.wire, call.space, contents, sync=True, bring_back=True)
    added = register(replace(call, chosen=call.chosen | {"bring_back": True}), given)
    unreadable = {source for source, _ in added.failures}
    labels = [
        label | {"unread": label["unread"] or not unreadable.isdisjoint(label["sources"])}
        for label in contents[0]
    ]
    path = path_of("spaces", call.space, "sync")
    after = _sent(call.wire, path, json_body({"labels": labels}), ())
    moved = {image.id for image in after.moved}
    return replace(
        added,
        revision=max(added.revision, after.revision),
        elsewhere=tuple(image for image in added.elsewhere if image.id not in moved),
        **{name: getattr(after, name) for name in ("moved", "removed", "removed_labels", "kept")},
    )
