"""Labelled queries over HTTP: evaluations, calibrations, feedback."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from trustvlm.client.codec import (
    Fields,
    form_body,
    npz_body,
    options_query,
    read,
    reading_fields,
    truth_array,
)
from trustvlm.client.images import loaded
from trustvlm.client.jobs import Progress, finished
from trustvlm.client.queries import check_labels, embedded_queries, groups_of_files
from trustvlm.client.transport import Body, Wire, json_body, path_of
from trustvlm.errors import InvalidInput
from trustvlm.types import Queries
from trustvlm.types.arrays import optional_texts, sources, texts
from trustvlm.types.bounds import flags
from trustvlm.types.calibration import FeedbackResult
from trustvlm.types.remarks import merged_notes

__all__ = ["evaluate_options", "feedback", "measured", "stored"]

FEEDBACK_FILES, FEEDBACK_BYTES = 128, 16 * 2**20
_EACH = "one name for each query, or None"

Names = Sequence[str | None]


def _labelled(
    wire: Wire, space: str, queries: Queries, truth: Names, names: Names | None
) -> tuple[Body, tuple[str, ...]]:
    """(queries, their true labels and what to call them as one body, notes on their images)."""
    arrays: dict[str, Any] = {"truth": truth_array(truth, "truth")}
    count = len(arrays["truth"])
    if names is not None:
        given = optional_texts(names, "sources", _EACH)
        arrays["sources"] = truth_array([source or None for source in given], "sources")
    if isinstance(queries, Queries) and queries.images is not None:
        _same_number("truth", count, len(sources(queries.images, "queries.images")))
        check_labels(wire, space, truth)
    vectors, notes = embedded_queries(wire, space, queries)
    _same_number("truth", count, len(next(iter(vectors.values()))))
    return npz_body(vectors | arrays), notes


def _same_number(what: str, names: int, queries: int) -> None:
    if names != queries:
        raise InvalidInput(f"{what}: expected {queries} names, one for each query, got {names}")


def measured(
    wire: Wire,
    verb: str,
    space: str,
    queries: Queries,
    truth: Names,
    names: Names | None,
    options: Fields,
    progress: Progress | None,
) -> Any:
    """The result of an evaluation or a calibration; `names`: what to call the queries."""
    body, notes = _labelled(wire, space, queries, truth, names)
    path = path_of("spaces", space, verb)
    return {**finished(wire, path, options_query(options), body, progress), "notes": notes}


def evaluate_options(
    rules: Sequence[str] | None, params: Mapping[str, Mapping[str, float | None]] | None,
    **others: Any,
) -> dict[str, Any]:  # fmt: skip
    """The options of an evaluation.

    Raises:
        InvalidInput: rules that are no list of names, or `items` that is neither True nor False.
    """
    flags(items=others["items"])
    names = None if rules is None else texts(rules, "rules", "a list of rule names")
    if names is not None and not names:
        raise InvalidInput("rules: expected a list of rule names, got none")
    return {"rules": names, "params": params} | others


def stored(
    wire: Wire, verb: str, space: str, options: Mapping[str, Any], progress: Progress | None
) -> Any:
    """The result of an evaluation or a calibration on the stored images."""
    body = json_body({name: value for name, value in options.items() if value is not None})
    return finished(wire, path_of("spaces", space, "observations", verb), [], body, progress)


def feedback(
    wire: Wire,
    space: str,
    queries: Queries,
    truth: Names,
    sampling: str,
    promote: bool,
    names: Names | None,
) -> FeedbackResult:
    """See :meth:`Client.feedback`. Image files go as they are: a promoted one becomes a support
    image with its thumbnail."""
    flags(promote=promote)
    path = path_of("spaces", space, "feedback")
    options: list[tuple[str, Any]] = [("sampling", sampling), ("promote", bool(promote))]

    def sent(body: Body, query: Sequence[tuple[str, Any]] = ()) -> FeedbackResult:
        answer = wire.ask("POST", path, query=query, body=body, write=True)
        return read(FeedbackResult, answer)

    if not isinstance(queries, Queries) or queries.images is None:
        body, _ = _labelled(wire, space, queries, truth, names)
        return sent(body, options_query(options))
    options += reading_fields(queries.image_range, queries.accept_truncated)
    count = len(sources(queries.images, "queries.images"))
    _same_number("truth", len(truth_array(truth, "truth")), count)
    labels = {"truth": optional_texts(truth, "truth", _EACH)}
    if names is not None:
        labels["sources"] = optional_texts(names, "sources", _EACH)
        _same_number("sources", len(labels["sources"]), count)
    results, start = [], 0
    files = loaded(queries.images, "queries.images")
    for group in groups_of_files(files, FEEDBACK_FILES, FEEDBACK_BYTES):
        bad = next((file for file in group if file.problem is not None), None)
        if bad is not None:
            raise InvalidInput(
                f"queries.images: {bad.source}: {bad.problem} (1 of {count} cannot be read)"
            )
        stop = start + len(group)
        named = [(name, values[start:stop]) for name, values in labels.items()]
        results.append(sent(form_body([*options, *named], group)))
        start = stop
    return _combined(results)


def _combined(results: Sequence[FeedbackResult]) -> FeedbackResult:
    names = ("added", "updated", "right", "accepted_wrong", "promoted", "apart")
    return FeedbackResult(
        ids=tuple(place for result in results for place in result.ids),
        notes=merged_notes(note for result in results for note in result.notes),
        **{name: sum(getattr(result, name) for result in results) for name in names},
    )
