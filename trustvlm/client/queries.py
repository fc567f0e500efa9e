"""Embedding, scoring and searching over HTTP, in as many requests as the number of queries
needs."""

from __future__ import annotations

import ast
import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import accumulate
from typing import Any

import numpy as np
import numpy.typing as npt

from trustvlm.client.codec import (
    form_body,
    matrix,
    merged_verdicts,
    name_array,
    npz_body,
    reading_fields,
    source_array,
)
from trustvlm.client.images import File, loaded, stored_name
from trustvlm.client.transport import Body, Fields, Wire, json_body, options_query, path_of, read
from trustvlm.errors import Busy, Conflict, InvalidInput, NotFound, Unavailable
from trustvlm.reading.claims import claimed_names, source_names
from trustvlm.reading.outputs.probabilities import beside_images, outputs_of
from trustvlm.system.pickling import LocalReader
from trustvlm.types import Embedded, Evidence, Queries, Verdicts
from trustvlm.types.answers import CheckedLabels, Embeddings, EvidenceList
from trustvlm.types.arrays import Objects
from trustvlm.types.attributes.filters import Filter
from trustvlm.types.bounds import choice, whole
from trustvlm.types.messages.remarks import merged_notes
from trustvlm.types.messages.shapes import unequal
from trustvlm.types.options import ON_ERROR
from trustvlm.types.registration import UnreadImage, unreadable

_ROUNDS = 5
_AHEAD = 64
_MEANT = re.compile(r"; did you mean ('[^']*'|\"[^\"]*\")\?$")
"""The end of the service's message about one name."""

Arrays = dict[str, npt.NDArray[Any]]
Progress = Callable[[int], None]


def groups_of_files(files: Iterable[File], most: int, size: int) -> Iterator[list[File]]:
    """Files in groups of at most `most`, and about `size` bytes."""
    group: list[File] = []
    held = 0
    for file in files:
        if group and (len(group) == most or held + len(file.data) > size):
            yield group
            group, held = [], 0
        group.append(file)
        held += len(file.data)
    if group:
        yield group


def embed(
    wire: Wire,
    space: str,
    images: object,
    progress: Progress | None,
    fields: Fields = (),
    what: str = "images",
) -> Embedded:
    """See :meth:`Client.embed`; files are read as their turn comes. `fields` say how, see
    :func:`reading_fields`."""
    sizes, counts, parts = wire.sizes, [0], list[Embedded]()
    for group in groups_of_files(loaded(images, what), sizes.embed_files, sizes.file_bytes):
        parts.append(_embedded(wire, space, group, fields))
        counts.append(len(group))
        if progress is not None:
            progress(len(group))
    starts = list(zip(accumulate(counts), parts, strict=False))
    classifier = _rows(part.queries.classifier for part in parts)
    verifier = _rows(part.queries.verifier for part in parts)
    return Embedded(
        Queries(classifier, verifier),
        [source for part in parts for source in part.sources],
        [failure for part in parts for failure in part.failures],
        tuple(start + place for start, part in starts for place in part.places),
        tuple(start + place for start, part in starts for place in part.failed),
        merged_notes(note for part in parts for note in part.notes),
    )


def _rows(parts: Iterable[Any]) -> npt.NDArray[Any] | None:
    """Embeddings one after the other; None: there are none."""
    some = [rows for rows in parts if rows is not None]
    return np.concatenate(some) if some else None


def _embedded(wire: Wire, space: str, group: Sequence[File], fields: Fields) -> Embedded:
    """The embeddings of the files of one request."""
    path, body = path_of("spaces", space, "embed"), form_body(fields, group)
    answer = read(Embeddings, wire.ask("POST", path, body=body))
    unread = [(group[one.index], one) for one in answer.failures]
    classifier, verifier = (  # empty where no file could be read
        np.array(rows, np.float32) if rows else None
        for rows in (answer.classifier, answer.verifier)
    )
    return Embedded(
        Queries(classifier, verifier),
        [group[place].source for place in answer.places],
        [(file.source, file.problem or one.reason) for file, one in unread],
        answer.places,
        tuple(one.index for _, one in unread),
        answer.notes,
    )


@dataclass(frozen=True, eq=False)
class EmbeddedQueries:
    """Queries as they are sent.

    Attributes:
        arrays: the embeddings by side. sources: names of the queries, or of the images that were
            embedded for it; None without any. notes: on these images.
        places: of these images among all that came; failures: the others.
        beside: what is sent with each part of the arrays: the names of columns of probabilities.

    The arrays hold the claims, too, where there are any, under "claimed".
    """

    arrays: Arrays
    sources: Objects | None
    notes: tuple[str, ...]
    places: tuple[int, ...] = ()
    failures: tuple[UnreadImage, ...] = ()
    beside: Arrays = field(default_factory=dict)


def embedded_queries(
    wire: Wire, space: str, queries: Queries, on_error: str = "raise"
) -> EmbeddedQueries:
    """The embeddings of queries.

    Raises:
        InvalidInput: no queries, or more than one kind of them, or, unless `on_error` is "skip", an
            image that cannot be read.
    """
    choice("on_error", on_error, ON_ERROR)
    only_one_kind(queries)
    outputs_of(queries)  # what is wrong with them shows before images are sent
    claimed, images = queries.claimed, queries.images
    if queries.text is not None:
        raise InvalidInput("queries.text: texts are searched with; this needs embeddings or images")
    if images is None:
        arrays, beside = _arrays(queries)
        rows = len(next(iter(arrays.values())))
        names, given = claimed_names(claimed, rows), source_names(queries.sources, rows)
        sources = None if given is None else np.array(given, dtype=object)
        return EmbeddedQueries(arrays | _claims(names), sources, (), beside=beside)
    if isinstance(images, list | tuple):
        claimed_names(claimed, len(images))
        source_names(queries.sources, len(images))
    fields = reading_fields(queries.image_range, queries.accept_truncated)
    embedded = embed(wire, space, images, None, fields, "queries.images")
    places, failures = embedded.places, tuple(UnreadImage(*one) for one in embedded.failures)
    came = len(places) + len(failures)
    if failures and on_error != "skip":
        raise unreadable(failures, came)
    nothing = Queries(np.zeros(0), np.zeros(0))  # of no images: rows of any width
    of_images = embedded.queries if places else nothing
    arrays, beside = _arrays(beside_images(queries, of_images, came, places))
    arrays |= _claims(claimed_names(claimed, came, places))
    named = source_names(queries.sources, came, places)
    sources = np.array(embedded.sources if named is None else named, dtype=object)
    return EmbeddedQueries(arrays, sources, embedded.notes, places, failures, beside)


def _arrays(queries: Queries) -> tuple[Arrays, Arrays]:
    """(embeddings and probabilities, the names of the columns of these). Raises InvalidInput: there
    are none, or different numbers of them."""
    sides = {"classifier": queries.classifier, "verifier": queries.verifier}
    arrays = {
        name: matrix(rows, f"queries.{name}") for name, rows in sides.items() if rows is not None
    }
    beside: Arrays = {}
    if (outputs := outputs_of(queries)) is not None:
        arrays["probabilities"] = outputs.values
        beside["outputs"] = name_array(outputs.names)
    if not arrays:
        raise InvalidInput(
            "queries: expected classifier or verifier embeddings, images or text; got none of them"
        )
    if len({len(rows) for rows in arrays.values()}) > 1:
        raise InvalidInput(unequal({name: len(rows) for name, rows in arrays.items()}))
    return arrays, beside


def _claims(names: Sequence[str | None] | None) -> Arrays:
    return {} if names is None else {"claimed": name_array(names)}


def only_one_kind(queries: Queries) -> None:
    kinds = (queries.images, queries.text, queries.classifier, queries.verifier)
    given = sum(part is not None for part in kinds)
    if (queries.images is not None or queries.text is not None) and given > 1:
        raise InvalidInput("queries: pass vectors, or images, or text, not several of them")
    for name in ("like_supports", "like_labels"):
        if getattr(queries, name) is not None:
            raise InvalidInput(f"queries.{name}: only search takes what is stored as a query")


def answers_of(
    wire: Wire, path: str, arrays: Arrays, revision: int | None, body: Callable[[Arrays], Body],
    query: Fields, most: int | None = None,
) -> list[tuple[Any, int]]:  # fmt: skip
    """The answers to the rows in as many parts as their size needs (one where there are none), of
    at most `most` rows, each with its number of rows; all at one revision: those older than the
    newest are requested again. Raises Busy: the space changes faster than that."""
    parts, options = _parts(arrays, wire.sizes.vector_bytes, most), options_query(query)

    def ask(part: Arrays) -> Any:
        return wire.ask("POST", path, query=options, body=body(part), revision=revision)

    answers = [ask(part) for part in parts]
    for _ in range(_ROUNDS):
        newest = max(answer["revision"] for answer in answers)
        if all(answer["revision"] == newest for answer in answers):
            break
        answers = [
            answer if answer["revision"] == newest else ask(part)
            for answer, part in zip(answers, parts, strict=True)
        ]
    if len({answer["revision"] for answer in answers}) > 1:
        raise Busy(
            f"the space changes while {len(parts)} requests' worth of queries is answered; "
            f"ask for fewer at once"
        )
    counts = [len(next(iter(part.values()))) for part in parts]
    return list(zip(answers, counts, strict=True))


def _parts(arrays: Arrays, most_bytes: int, most: int | None) -> list[Arrays]:
    """The rows in parts of at most `most_bytes` and `most` rows; one part where there are none."""
    count = len(next(iter(arrays.values())))
    width = sum(map(_sent_bytes, arrays.values())) / max(count, 1)
    step = max(1, int(most_bytes / max(width, 1)))
    step = step if most is None else min(step, most)
    starts = range(0, max(count, 1), step)
    return [{name: rows[i : i + step] for name, rows in arrays.items()} for i in starts]


def _sent_bytes(rows: npt.NDArray[Any]) -> int:
    """Bytes of an array, or at most of names as JSON."""
    return 6 * sum(len(name or "") + 1 for name in rows) if rows.dtype == object else rows.nbytes


def check_labels(wire: Wire, space: str, names: Iterable[str | None]) -> None:
    """Refuse a name that is no label before any image is sent; None stands for images of no label.
    Raises NotFound."""
    if given := sorted({name for name in names if name is not None}):
        wire.find(CheckedLabels, "spaces", space, "check-labels", names=given)


def unknown(wire: Wire, space: str, names: Sequence[str]) -> dict[str, str | None]:
    """Those of `names` that are no labels → the label that was probably meant, or None. A list that
    the service refuses is sent again in halves, down to a single name."""
    try:
        check_labels(wire, space, names)
    except NotFound as error:
        if len(names) == 1:
            meant = _MEANT.search(str(error))
            return {names[0]: None if meant is None else str(ast.literal_eval(meant[1]))}
        half = len(names) // 2
        return unknown(wire, space, names[:half]) | unknown(wire, space, names[half:])
    return {}


def score(
    wire: Wire,
    space: str,
    queries: Queries,
    options: Fields,
    labels: Sequence[str] | Filter | None,
    revision: int | None,
    on_error: str,
) -> Verdicts:
    """See :meth:`Client.score`; `labels` are names, or a filter."""
    expected = None if revision is None else whole("revision", revision)
    if isinstance(labels, Filter):
        labels = [labels.text]
    elif labels is not None and queries.images is not None:
        check_labels(wire, space, labels)
    given = embedded_queries(wire, space, queries, on_error)
    arrays, subset = given.arrays, given.beside
    if given.sources is not None:
        names = given.sources.tolist()
        if queries.images is not None and queries.sources is None:
            names = list(map(stored_name, names))
        arrays = arrays | {"sources": source_array(names)}
    if labels is not None:
        subset = subset | {"labels": name_array(labels)}
    path = path_of("spaces", space, "score")
    parts = answers_of(wire, path, arrays, expected, lambda part: npz_body(part | subset), options)
    answers = [answer for answer, _ in parts]
    side = "classifier" if "verifier" not in arrays and "classifier" in arrays else "verifier"
    reader = _EvidenceReader(wire, space, side, arrays.get(side), answers)
    others = {"notes": given.notes, "source": given.sources, "failures": given.failures}
    return merged_verdicts(answers, read_evidence=reader, **others)


class _EvidenceReader(LocalReader):
    """Requests the evidence of verdicts when it is read; of verdicts that are read one after the
    other, for some of the next ones, too."""

    def __init__(
        self,
        wire: Wire,
        space: str,
        side: str,
        vectors: npt.NDArray[Any] | None,
        answers: Sequence[Any],
    ) -> None:
        self._wire, self._path = wire, path_of("spaces", space, "evidence")
        self._side, self._vectors = side, vectors
        rows = [row for answer in answers for row in answer["verdicts"]]
        names = ["label_ids", "rival_ids"]
        if rows and "claimed_id" in rows[0]:
            names.append("claimed_ids")
        self._ids = {name: [row[name[:-1]] for row in rows] for name in names}
        states = [answer["evidence_state"] for answer in answers]
        aliases = {label: others for state in states for label, others in state["aliases"].items()}
        self._moment = {
            "state": states[0] | {"aliases": aliases},
            "revision": answers[0]["revision"],
        }
        self._memo: dict[tuple[int, int], Evidence] = {}
        self._after, self._step = -1, 1

    def __call__(self, i: int, k: int) -> Evidence:
        k = whole("k", k)
        if self._vectors is None:  # of probabilities without images, as in the library
            return Evidence((), ())
        memo = self._memo  # no lock: a fork while a thread holds it would leave it locked for ever
        if (i, k) not in memo:
            self._step = min(2 * self._step, _AHEAD) if i == self._after else 1
            memo = self._memo = self._ask(self._vectors, i, i + self._step, k)
        return memo[i, k]

    def _ask(
        self, vectors: npt.NDArray[Any], start: int, stop: int, k: int
    ) -> dict[tuple[int, int], Evidence]:
        stop = min(stop, len(vectors))
        content = self._moment | {self._side: vectors[start:stop].tolist(), "k": k}
        content |= {name: ids[start:stop] for name, ids in self._ids.items()}
        try:
            answer = self._wire.ask("POST", self._path, body=json_body(content))
        except Conflict as error:  # the state of these verdicts is gone: Unavailable in the library
            raise Unavailable(str(error)) from error
        self._after = stop
        evidence = read(EvidenceList, answer).evidence
        return {(start + place, k): one for place, one in enumerate(evidence)}
