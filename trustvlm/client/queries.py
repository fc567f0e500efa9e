"""Embedding, scoring and searching over HTTP, in as many requests as the number of queries
needs."""

from __future__ import annotations

import ast
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from trustvlm.client.codec import (
    back_off_option,
    claimed_array,
    form_body,
    matrix,
    merged_verdicts,
    npz_body,
    reading_fields,
    rule_options,
)
from trustvlm.client.images import File, loaded
from trustvlm.client.transport import Body, Fields, Wire, json_body, options_query, path_of, read
from trustvlm.errors import Busy, Conflict, InvalidInput, NotFound, Unavailable
from trustvlm.reading.claims import claimed_names
from trustvlm.reading.outputs.probabilities import beside_images, outputs_of
from trustvlm.system.pickling import LocalReader
from trustvlm.types import Embedded, Evidence, Queries, Verdicts
from trustvlm.types.answers import CheckedLabels, Embeddings, EvidenceList
from trustvlm.types.arrays import Objects
from trustvlm.types.attributes.filters import Filter
from trustvlm.types.bounds import choice, whole
from trustvlm.types.messages.remarks import merged_notes
from trustvlm.types.options import ON_ERROR, BackOff
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
    sides: tuple[list[npt.NDArray[Any]], list[npt.NDArray[Any]]] = ([], [])
    sources, notes = list[str](), list[str]()
    failures, places, failed = list[tuple[str, str]](), list[int](), list[int]()
    start = 0
    sizes = wire.sizes
    for group in groups_of_files(loaded(images, what), sizes.embed_files, sizes.file_bytes):
        body = form_body(fields, group)
        answer = read(Embeddings, wire.ask("POST", path_of("spaces", space, "embed"), body=body))
        for side, rows in zip(sides, (answer.classifier, answer.verifier), strict=True):
            if rows:  # files that cannot be read have none
                side.append(np.array(rows, np.float32))
        places += [start + place for place in answer.places]
        sources += [group[place].source for place in answer.places]
        notes += answer.notes
        for failure in answer.failures:
            file = group[failure.index]
            failures.append((file.source, file.problem or failure.reason))
            failed.append(start + failure.index)
        start += len(group)
        if progress is not None:
            progress(len(group))
    classifier, verifier = (np.concatenate(side) if side else None for side in sides)
    where = (tuple(places), tuple(failed), merged_notes(notes))
    return Embedded(Queries(classifier, verifier), sources, failures, *where)


@dataclass(frozen=True, eq=False)
class EmbeddedQueries:
    """Queries as they are sent.

    Attributes:
        arrays: the embeddings by side. sources: names of the images that were embedded for it; None
            without images. notes: on these.
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
    claimed = queries.claimed
    outputs_of(queries)  # what is wrong with them shows before images are sent
    if claimed is not None and isinstance(queries.images, list | tuple):
        claimed_names(claimed, len(queries.images))
    notes: tuple[str, ...] = ()
    sources: Objects | None = None
    places: tuple[int, ...] = ()
    failures: tuple[UnreadImage, ...] = ()
    if queries.images is not None:
        fields = reading_fields(queries.image_range, queries.accept_truncated)
        embedded = embed(wire, space, queries.images, None, fields, "queries.images")
        notes, sources = embedded.notes, np.array(embedded.sources, dtype=object)
        places = embedded.places
        failures = tuple(UnreadImage(*failure) for failure in embedded.failures)
        if failures and on_error != "skip":
            raise unreadable(failures, len(failures) + len(sources))
        nothing = Queries(np.zeros(0), np.zeros(0))  # of no images: rows of any width
        read_ones = embedded.queries if embedded.places else nothing
        queries = beside_images(queries, read_ones, len(places) + len(failures), places)
    elif queries.text is not None:
        raise InvalidInput("queries.text: texts are searched with; this needs embeddings or images")
    sides = {"classifier": queries.classifier, "verifier": queries.verifier}
    arrays = {
        name: matrix(rows, f"queries.{name}") for name, rows in sides.items() if rows is not None
    }
    beside: Arrays = {}
    if (outputs := outputs_of(queries)) is not None:
        arrays["probabilities"] = outputs.values
        beside["outputs"] = claimed_array(outputs.names)
    if not arrays:
        raise InvalidInput(
            "queries: expected classifier or verifier embeddings, images or text; got none of them"
        )
    if len({len(rows) for rows in arrays.values()}) > 1:
        counts = " embeddings, but ".join(f"{len(rows)} {name}" for name, rows in arrays.items())
        raise InvalidInput(f"queries: {counts} embeddings")
    if claimed is not None:
        came = len(places) + len(failures) if sources is not None else None
        rows = len(next(iter(arrays.values()))) if came is None else came
        names = claimed_names(claimed, rows, None if came is None else places)
        arrays["claimed"] = claimed_array(names or [])
    return EmbeddedQueries(arrays, sources, notes, places, failures, beside)


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
    count = len(next(iter(arrays.values())))
    width = sum(rows.nbytes for rows in arrays.values()) / max(count, 1)
    step = max(1, int(wire.sizes.vector_bytes / max(width, 1)))
    step = step if most is None else min(step, most)
    parts = [
        {name: rows[i : i + step] for name, rows in arrays.items()}
        for i in range(0, max(count, 1), step)
    ]
    options = options_query(query)

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
    rule: str | None,
    top_k: int,
    labels: Sequence[str] | Filter | None,
    params: Mapping[str, float | None] | None,
    revision: int | None,
    on_error: str,
    *,
    review: bool | None = None,
    back_off: BackOff | None = None,
) -> Verdicts:
    """See :meth:`Client.score`; `labels` are names, or a filter."""
    options = [*rule_options(rule, params), ("top_k", whole("top_k", top_k))]
    options += back_off_option(back_off)
    options += [] if review is None else [("review", review)]
    expected = None if revision is None else whole("revision", revision)
    if isinstance(labels, Filter):
        labels = [labels.text]
    elif labels is not None and queries.images is not None:
        check_labels(wire, space, labels)
    given = embedded_queries(wire, space, queries, on_error)
    arrays = given.arrays
    subset: Arrays = {} if labels is None else {"labels": np.array(labels, dtype=np.str_)}
    subset |= given.beside
    answers = [
        answer
        for answer, _ in answers_of(
            wire, path_of("spaces", space, "score"), arrays, expected,
            lambda part: npz_body(part | subset), options,
        )
    ]  # fmt: skip
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
