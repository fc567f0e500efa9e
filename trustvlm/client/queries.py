"""Embedding, scoring and searching over HTTP, in as many requests as the number of queries
needs."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import numpy.typing as npt

from trustvlm.client.codec import (
    Fields,
    as_revision,
    form_body,
    matrix,
    npz_body,
    options_query,
    reading_fields,
    rule_options,
    whole,
)
from trustvlm.client.decode import hits_of, merged_verdicts, read
from trustvlm.client.images import File, as_sources, load
from trustvlm.client.transport import Wire, json_body, path_of
from trustvlm.errors import Busy, Conflict, InvalidInput, Unavailable
from trustvlm.system.pickling import LocalReader
from trustvlm.types import Embedded, Evidence, Hits, Queries, Verdicts
from trustvlm.types.array_input import texts
from trustvlm.types.bounds import choice
from trustvlm.types.remarks import merged_notes

__all__ = ["check_labels", "embed", "embedded_queries", "groups_of_files", "score", "search"]

EMBED_FILES, EMBED_BYTES = 32, 8 * 2**20
"""Image files that are embedded by one request."""
VECTOR_BYTES = 16 * 2**20
"""Embeddings that are sent with one request."""
KINDS, MOST_HITS = ("support", "prototype", "text"), 1_000
_ROUNDS = 5
_AHEAD = 64

Arrays = dict[str, npt.NDArray[Any]]
Progress = Callable[[int], None]


def groups_of_files(files: Iterable[File], most: int, size: int) -> Iterator[list[File]]:
    """Files in groups of at most so many, and about so many bytes."""
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
    sources = as_sources(images, what)
    sides: dict[str, list[npt.NDArray[Any]]] = {"classifier": [], "verifier": []}
    found, failures, places, failed = list[str](), list[tuple[str, str]](), list[int](), list[int]()
    notes: list[str] = []
    start = 0
    for group in groups_of_files(
        (load(one, i) for i, one in enumerate(sources)), EMBED_FILES, EMBED_BYTES
    ):
        told = wire.ask("POST", path_of("spaces", space, "embed"), body=form_body(fields, group))
        for name, rows in sides.items():
            if told[name]:  # of files that cannot be read, any of them, there is nothing
                rows.append(np.array(told[name], np.float32))
        places += [start + place for place in told["places"]]
        found += [group[place].source for place in told["places"]]
        notes += told["notes"]
        for failure in told["failures"]:
            file = group[failure["index"]]
            failures.append((file.source, file.problem or failure["reason"]))
            failed.append(start + failure["index"])
        start += len(group)
        if progress is not None:
            progress(len(group))
    classifier, verifier = (np.concatenate(rows) if rows else None for rows in sides.values())
    return Embedded(
        Queries(classifier, verifier),
        found,
        failures,
        tuple(places),
        tuple(failed),
        merged_notes(notes),
    )


def embedded_queries(
    wire: Wire, space: str, queries: Queries, notes: list[str] | None = None
) -> Arrays:
    """The embeddings of queries by side; images are embedded first, and what is said of them is
    appended to `notes`.

    Raises:
        InvalidInput: no queries, or more than one kind of them, or an image that cannot be read.
    """
    if not isinstance(queries, Queries):
        raise InvalidInput(f"queries: expected trustvlm.Queries(…), got {type(queries).__name__}")
    _only_one_kind(queries)
    if queries.images is not None:
        fields = reading_fields(queries.image_range, queries.accept_truncated)
        found = embed(wire, space, queries.images, None, fields, "queries.images")
        if notes is not None:
            notes += found.notes
        if found.failures:
            source, reason = found.failures[0]
            count = f"{len(found.failures)} of {len(queries.images)} cannot be read"
            raise InvalidInput(f"queries.images: {source}: {reason} ({count})")
        queries = (
            found.queries if found.places else Queries(np.zeros(0), np.zeros(0))
        )  # of no images, whatever their size
    elif queries.text is not None:
        raise InvalidInput("queries.text: texts are searched with; this needs embeddings or images")
    sides = {name: getattr(queries, name) for name in ("classifier", "verifier")}
    arrays = {
        name: matrix(rows, f"queries.{name}") for name, rows in sides.items() if rows is not None
    }
    if not arrays:
        raise InvalidInput(
            "queries: expected classifier or verifier embeddings, images or text; got none of them"
        )
    if len({len(rows) for rows in arrays.values()}) > 1:
        counts = (
            f"{len(arrays['classifier'])} classifier embeddings, but "
            f"{len(arrays['verifier'])} verifier embeddings"
        )
        raise InvalidInput(f"queries: {counts}")
    return arrays


def _only_one_kind(queries: Queries) -> None:
    given = [
        part
        for part in (queries.images, queries.text, queries.classifier, queries.verifier)
        if part is not None
    ]
    if (queries.images is not None or queries.text is not None) and len(given) > 1:
        raise InvalidInput("queries: pass vectors, or images, or text, not several of them")


def _batches(arrays: Arrays) -> list[Arrays]:
    """The rows in as many parts as their size needs, one where there are none."""
    count = len(next(iter(arrays.values())))
    width = sum(rows.nbytes for rows in arrays.values()) / max(count, 1)
    step = max(1, int(VECTOR_BYTES / max(width, 1)))
    return [
        {name: rows[i : i + step] for name, rows in arrays.items()}
        for i in range(0, max(count, 1), step)
    ]


def _of_one_revision(ask: Callable[[Arrays], Any], batches: Sequence[Arrays]) -> list[Any]:
    """The answers to parts of one call, all of them at one revision: those that are older than the
    newest are asked again.

    Raises:
        Busy: the space changes faster than that.
    """
    answers = [ask(batch) for batch in batches]
    for _ in range(_ROUNDS):
        newest = max(told["revision"] for told in answers)
        if all(told["revision"] == newest for told in answers):
            return answers
        answers = [
            told if told["revision"] == newest else ask(batch)
            for told, batch in zip(answers, batches, strict=True)
        ]
    if len({told["revision"] for told in answers}) == 1:
        return answers
    raise Busy(
        f"the space changes while {len(batches)} requests' worth of queries is answered; "
        f"ask for fewer at once"
    )


def check_labels(wire: Wire, space: str, names: Iterable[str | None]) -> None:
    """Refuse a name that is no label before any image is sent; None stands for images of no label.
    Raises NotFound."""
    if known := sorted({name for name in names if name is not None}):
        wire.ask("POST", path_of("spaces", space, "check-labels"), body=json_body({"names": known}))


def score(
    wire: Wire,
    space: str,
    queries: Queries,
    rule: str | None,
    top_k: int,
    labels: Sequence[str] | None,
    params: Mapping[str, float | None] | None,
    revision: int | None,
) -> Verdicts:
    """See :meth:`Client.score`; `labels` are names."""
    options = options_query([*rule_options(rule, params), ("top_k", whole(top_k, "top_k"))])
    path = path_of("spaces", space, "score")
    expected = None if revision is None else as_revision(revision)
    if labels is not None and isinstance(queries, Queries) and queries.images is not None:
        check_labels(wire, space, labels)
    notes: list[str] = []
    arrays = embedded_queries(wire, space, queries, notes)
    named: Arrays = {} if labels is None else {"labels": np.array(labels, dtype=np.str_)}

    def ask(batch: Arrays) -> Any:
        return wire.ask(
            "POST", path, query=options, body=npz_body(batch | named), revision=expected
        )

    answers = _of_one_revision(ask, _batches(arrays))
    side = "verifier" if "verifier" in arrays else "classifier"
    reader = _EvidenceReader(wire, space, side, arrays[side], answers)
    return replace(merged_verdicts(answers, reader), notes=tuple(notes))


class _EvidenceReader(LocalReader):
    """Asks for the evidence of verdicts as it is wanted; when one is asked after the other, for
    some of them ahead."""

    def __init__(
        self, wire: Wire, space: str, side: str, vectors: npt.NDArray[Any], answers: Sequence[Any]
    ) -> None:
        self._wire, self._path, self._side, self._vectors = (
            wire,
            path_of("spaces", space, "evidence"),
            side,
            vectors,
        )
        rows = [row for told in answers for row in told["verdicts"]]
        self._labels, self._rivals = (
            [row["label_id"] for row in rows],
            [row["rival_id"] for row in rows],
        )
        states = [told["evidence_state"] for told in answers]
        aliases = {label: others for state in states for label, others in state["aliases"].items()}
        self._given = {
            "state": states[0] | {"aliases": aliases},
            "revision": answers[0]["revision"],
        }
        self._found: dict[tuple[int, int], Evidence] = {}
        self._after, self._step = -1, 1

    def __call__(self, i: int, k: int) -> Evidence:
        if whole(k, "k") < 1:
            raise InvalidInput(f"k: expected a whole number from 1 up, got {k!r}")
        found = (
            self._found
        )  # no lock: a fork while a thread holds it would leave it locked for ever
        if (i, k) not in found:
            self._step = min(2 * self._step, _AHEAD) if i == self._after else 1
            found = self._found = self._ask(i, min(i + self._step, len(self._labels)), int(k))
        return found[i, k]

    def _ask(self, start: int, stop: int, k: int) -> dict[tuple[int, int], Evidence]:
        content = self._given | {self._side: self._vectors[start:stop].tolist(), "k": k}
        content |= {"label_ids": self._labels[start:stop], "rival_ids": self._rivals[start:stop]}
        try:
            told = self._wire.ask("POST", self._path, body=json_body(content))
        except (
            Conflict
        ) as error:  # what these verdicts were made with is gone; the library has this word for it
            raise Unavailable(str(error)) from error
        self._after = stop
        return {
            (start + place, k): read(Evidence, one) for place, one in enumerate(told["evidence"])
        }


def search(
    wire: Wire, space: str, queries: Queries, kind: str, k: int, revision: int | None
) -> Hits:
    """See :meth:`Client.search`."""
    path, k = path_of("spaces", space, "search"), whole(k, "k")
    expected = None if revision is None else as_revision(revision)
    choice("kind", kind, KINDS)
    if not 1 <= k <= MOST_HITS:
        raise InvalidInput(f"k: expected a whole number from 1 to {MOST_HITS}, got {k}")
    options: dict[str, Any] = {"kind": kind, "k": k}
    if isinstance(queries, Queries) and queries.text is not None:
        _only_one_kind(queries)
        asked = (
            [queries.text]
            if isinstance(queries.text, str)
            else texts(queries.text, "queries.text", "a list of texts")
        )
        told = wire.ask("POST", path, body=json_body(options | {"text": asked}), revision=expected)
        return hits_of([(told, len(asked))], k)
    notes: list[str] = []
    batches = _batches(embedded_queries(wire, space, queries, notes))
    query = options_query(list(options.items()))

    def ask(batch: Arrays) -> Any:
        return wire.ask("POST", path, query=query, body=npz_body(batch), revision=expected)

    answers = _of_one_revision(ask, batches)
    counts = [len(next(iter(batch.values()))) for batch in batches]
    return replace(hits_of(list(zip(answers, counts, strict=True)), k), notes=tuple(notes))
