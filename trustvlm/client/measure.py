"""Labelled queries over HTTP: evaluations, calibrations, feedback; and the jobs of the service that
measure."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import fields
from types import EllipsisType
from typing import TYPE_CHECKING, Any, cast

import numpy as np

from trustvlm.client.codec import form_body, npz_body, reading_fields, source_array, truth_array
from trustvlm.client.images import loaded
from trustvlm.client.network import RequestSizes
from trustvlm.client.queries import EmbeddedQueries, check_labels, embedded_queries, groups_of_files
from trustvlm.client.transport import (
    Body,
    Fields,
    Wire,
    error_of,
    json_body,
    options_query,
    path_of,
    read,
)
from trustvlm.errors import Conflict, InvalidInput, Unavailable
from trustvlm.reading.claims import claimed_names
from trustvlm.reading.given import given_labelled
from trustvlm.reading.hold_out import HeldOut, HoldOut
from trustvlm.reading.outputs.probabilities import beside_images
from trustvlm.types import Queries
from trustvlm.types.answers import Job
from trustvlm.types.arrays import Float64s, image_names, optional_texts, rule_names, sources
from trustvlm.types.bounds import choice, flags, got
from trustvlm.types.calibration import FeedbackResult
from trustvlm.types.messages.counts import count
from trustvlm.types.messages.remarks import merged_notes
from trustvlm.types.options import SAMPLINGS, EvaluateOptions, Options

if TYPE_CHECKING:
    from trustvlm.reading.sets.rows import LabelledImages
    from trustvlm.types.inputs import Images

_FIRST_S, _LONGEST_S = 0.02, 1.0
_DEATHS = 3
_EACH = "one name for each query, or None"

Progress = Callable[[Job], None]
Names = Sequence[str | None]
Truth = Names | EllipsisType


def wait_for(wire: Wire, job_id: str, timeout: float | None, progress: Progress | None) -> Job:
    """See :meth:`Client.wait_job`."""
    end = None if timeout is None else time.monotonic() + timeout
    pause, before = _FIRST_S, None
    while True:
        job = wire.get(Job, "jobs", job_id)
        now = (job.state, job.phase, job.done, job.total)
        if progress is not None and now != before:
            progress(job)
        before = now
        if job.ended:
            return job
        if end is not None and time.monotonic() + pause > end:
            raise Unavailable(
                f"job {job_id} is still {job.state} after {timeout:g} s ({job.phase}, "
                f"{job.done} done)"
            )
        time.sleep(pause)
        pause = min(1.5 * pause, _LONGEST_S)


def finished(
    wire: Wire,
    path: str,
    query: list[tuple[str, Any]],
    body: Body | None,
    progress: Progress | None,
) -> Mapping[str, Any]:
    """The result of a job that this request begins; where its process dies, it is begun again.
    Raises TrustVLMError: what it failed with. Conflict: it was cancelled."""
    for deaths in range(_DEATHS + 1):
        job_id = wire.ask("POST", path, query=query, body=body, write=True)["id"]
        try:
            job = wait_for(wire, job_id, None, progress)
        except KeyboardInterrupt:  # nobody waits for it any more
            wire.find(Job, "jobs", job_id, "cancel")
            raise
        if job.state == "done":
            return job.result or {}
        if job.state == "cancelled":
            raise Conflict(f"job {job_id} was cancelled")
        error = job.error or {"kind": "Unavailable", "message": f"job {job_id} is {job.state}"}
        if error["kind"] != "Unavailable" or deaths == _DEATHS:
            raise error_of(error["kind"], error["message"])
    raise AssertionError("unreachable")


def _labelled(
    wire: Wire, space: str, queries: Queries, truth: Names, names: Names | None, on_error: str
) -> tuple[Body, EmbeddedQueries]:
    """(queries, their true labels and what to call them as one body, the queries as embeddings);
    without true labels, their claims take the place of these."""
    labels = truth_array(truth, "truth")
    count = len(labels)
    has_truth = count > 0 or queries.claimed is None
    texts: dict[str, Any] = {"truth": labels} if has_truth else {}
    if names is not None:
        texts["sources"] = source_array(image_names(names, "sources"))
    if queries.images is not None and has_truth:
        _same_number("truth", count, len(sources(queries.images, "queries.images")))
        check_labels(wire, space, truth)
    embedded = embedded_queries(wire, space, queries, on_error)
    if embedded.failures:
        read_only = list(embedded.places)
        texts = {name: values[read_only] for name, values in texts.items()}
        count = len(read_only)
    if has_truth:
        _same_number("truth", count, len(next(iter(embedded.arrays.values()))))
    return npz_body(embedded.arrays | embedded.beside | texts), embedded


def _same_number(what: str, names: int, queries: int) -> None:
    if names != queries:
        expected = f"expected {count(queries, 'name')}, one for each query"
        raise InvalidInput(f"{what}: {expected}, got {names}")


def held_out(
    queries: Queries | Images | LabelledImages,
    truth: Truth,
    names: Names | None,
    share: float | None,
    seed: int,
) -> HeldOut:
    """Labelled queries; with a share, those of them that are held out."""
    given, split = given_labelled(queries, truth, names), HoldOut.of(share, seed)
    return HeldOut(*given) if split is None else split.measured(*given)


def measured(
    wire: Wire,
    verb: str,
    space: str,
    part: HeldOut,
    on_error: str,
    options: Fields,
    progress: Progress | None,
) -> Any:
    """The result of an evaluation or a calibration."""
    body, embedded = _labelled(wire, space, part.queries, part.truth, part.sources, on_error)
    path = path_of("spaces", space, verb)
    result = finished(wire, path, options_query(options), body, progress)
    failures = [failure._asdict() for failure in embedded.failures]
    return {**result, "notes": embedded.notes, "failures": failures}


def require_each(kind: type[Options], options: Mapping[str, Any]) -> None:
    """Raises InvalidInput: an option whose default is a value is None, which a request would leave
    out, or several values."""
    for one in fields(cast(Any, kind)):
        value = options.get(one.name, one.default)
        several = isinstance(value, list | tuple | Mapping)
        if one.default is not None and (value is None or several):
            raise InvalidInput(f"{one.name}: expected one value, got {got(value)}")


def evaluate_options(
    rules: Sequence[str] | None, params: Mapping[str, Mapping[str, float | None]] | None,
    **others: Any,
) -> dict[str, Any]:  # fmt: skip
    """The options of an evaluation.

    Raises:
        InvalidInput: rules that are no list of names, or `items` or `peers` that is neither True
            nor False.
    """
    flags(items=others["items"], peers=others["peers"])
    require_each(EvaluateOptions, others)
    return {"rules": rule_names(rules), "params": params} | others


def stored(
    wire: Wire, verb: str, space: str, options: Mapping[str, Any], progress: Progress | None
) -> Any:
    """The result of an evaluation or a calibration on the stored images."""
    body = json_body({name: value for name, value in options.items() if value is not None})
    return finished(wire, path_of("spaces", space, "observations", verb), [], body, progress)


def feedback(
    wire: Wire,
    space: str,
    queries: Queries | Images | LabelledImages,
    truth: Truth,
    sampling: str,
    promote: bool,
    names: Names | None,
) -> FeedbackResult:
    """See :meth:`Client.feedback`. Image files go as they are: a promoted one becomes a support
    image with its thumbnail."""
    flags(promote=promote)
    choice("sampling", sampling, SAMPLINGS)
    given, labels, names = given_labelled(queries, truth, names)
    path = path_of("spaces", space, "feedback")
    options: list[tuple[str, Any]] = [("sampling", sampling), ("promote", bool(promote))]

    def sent(body: Body, query: Sequence[tuple[str, Any]] = ()) -> FeedbackResult:
        answer = wire.ask("POST", path, query=query, body=body, write=True)
        return read(FeedbackResult, answer)

    if given.images is None:
        body, _ = _labelled(wire, space, given, labels, names, "raise")
        return sent(body, options_query(options))
    forms = _forms(given, labels, names, options, wire.sizes)
    return _combined([sent(form) for form in forms])


def _forms(
    given: Queries, truth: Names, names: Names | None, options: Fields, sizes: RequestSizes
) -> Iterator[Body]:
    """Image files, with what is said of each, as forms of bounded size. Raises InvalidInput: an
    image that cannot be read, or another number of names."""
    count = len(sources(given.images, "queries.images"))
    _same_number("truth", len(truth_array(truth, "truth")), count)
    said = {"truth": optional_texts(truth, "truth", _EACH)}
    if names is not None:
        said["sources"] = image_names(names, "sources")
        _same_number("sources", len(said["sources"]), count)
    if (claimed := claimed_names(given.claimed, count)) is not None:
        said["claimed"] = claimed
    given = beside_images(given, given, count, range(count))
    options = [
        *options,
        *reading_fields(given.image_range, given.accept_truncated),
        ("outputs", given.outputs),
    ]
    start = 0
    files = loaded(given.images, "queries.images")
    for group in groups_of_files(files, sizes.files, sizes.file_bytes):
        for file in group:
            if file.problem is not None:
                what = f"{file.source}: {file.problem} (1 of {count} cannot be read)"
                raise InvalidInput(f"queries.images: {what}")
        some = slice(start, start + len(group))
        fields = [*options, *((name, values[some]) for name, values in said.items())]
        if given.probabilities is not None:
            rows = np.asarray(given.probabilities)[some]
            fields.append(("probabilities", _json_rows(rows)))
        yield form_body(fields, group)
        start = some.stop


def _json_rows(values: Float64s) -> str:
    """Probabilities as the field of a form holds them."""
    return json.dumps([[None if one != one else one for one in row] for row in values.tolist()])


def _combined(results: Sequence[FeedbackResult]) -> FeedbackResult:
    names = ("added", "updated", "right", "accepted_wrong", "promoted", "apart", "unclaimed")
    return FeedbackResult(
        ids=tuple(place for result in results for place in result.ids),
        notes=merged_notes(note for result in results for note in result.notes),
        **{name: sum(getattr(result, name) for result in results) for name in names},
    )
