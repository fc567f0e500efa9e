"""Labelled queries over HTTP: evaluations, calibrations, feedback."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from trustvlm.client.codec import form_body, npz_body, options_query, reading_fields, truth_array
from trustvlm.client.decode import read
from trustvlm.client.images import as_sources, load
from trustvlm.client.jobs import Progress, finished
from trustvlm.client.queries import check_labels, embedded_queries, groups_of_files
from trustvlm.client.transport import Body, Wire, json_body, path_of
from trustvlm.errors import InvalidInput
from trustvlm.types import Queries
from trustvlm.types.array_input import optional_texts, texts
from trustvlm.types.bounds import flags
from trustvlm.types.calibration import FeedbackResult
from trustvlm.types.remarks import merged_notes

__all__ = ["evaluate_options", "feedback", "measured", "stored"]

FEEDBACK_FILES, FEEDBACK_BYTES = 128, 16 * 2**20

Names = Sequence[str | None]


def _labelled(
    wire: Wire, space: str, queries: Queries, truth: Names, sources: Names | None, notes: list[str]
) -> Body:
    """Queries, their true labels and what to call them, as one body; what is said of images is
    appended to `notes`."""
    named = {"truth": truth_array(truth, "truth")}
    if sources is not None:
        names = optional_texts(sources, "sources", "one name for each query, or None")
        named["sources"] = truth_array([source or None for source in names], "sources")
    if isinstance(queries, Queries) and queries.images is not None:
        _same_number(len(named["truth"]), len(as_sources(queries.images, "queries.images")))
        check_labels(wire, space, truth)
    arrays = embedded_queries(wire, space, queries, notes)
    _same_number(len(named["truth"]), len(next(iter(arrays.values()))))
    return npz_body(arrays | named)


def _same_number(names: int, queries: int) -> None:
    if names != queries:
        raise InvalidInput(f"truth: expected {queries} names, one for each query, got {names}")


def measured(
    wire: Wire,
    verb: str,
    space: str,
    queries: Queries,
    truth: Names,
    sources: Names | None,
    options: Sequence[tuple[str, Any]],
    progress: Progress | None,
) -> Any:
    """What an evaluation or a calibration ends with."""
    notes: list[str] = []
    body = _labelled(wire, space, queries, truth, sources, notes)
    found = finished(wire, path_of("spaces", space, verb), options_query(options), body, progress)
    return {**found, "notes": notes}


def evaluate_options(
    rules: Sequence[str] | None,
    risk: float,
    coverage: float,
    draws: int,
    params: Mapping[str, Mapping[str, float | None]] | None,
    items: bool,
    confidence: float,
) -> dict[str, Any]:
    """What an evaluation is asked for.

    Raises:
        InvalidInput: rules that are no list of names.
    """
    flags(items=items)
    names = None if rules is None else texts(rules, "rules", "a list of rule names")
    if names is not None and not names:
        raise InvalidInput("rules: expected a list of rule names, got none")
    wanted = {
        "risk": risk,
        "coverage": coverage,
        "draws": draws,
        "items": items,
        "confidence": confidence,
    }
    return {"rules": names, "params": params} | wanted


def stored(
    wire: Wire, verb: str, space: str, options: Mapping[str, Any], progress: Progress | None
) -> Any:
    """What an evaluation or a calibration on the stored images ends with."""
    given = {name: value for name, value in options.items() if value is not None}
    return finished(
        wire, path_of("spaces", space, "observations", verb), [], json_body(given), progress
    )


def feedback(
    wire: Wire,
    space: str,
    queries: Queries,
    truth: Names,
    sampling: str,
    promote: bool,
    sources: Names | None,
) -> FeedbackResult:
    """See :meth:`Client.feedback`. Image files go as they are: a promoted one becomes a support
    image with its thumbnail."""
    flags(promote=promote)
    path = path_of("spaces", space, "feedback")
    options: list[tuple[str, Any]] = [("sampling", sampling), ("promote", bool(promote))]
    if not isinstance(queries, Queries) or queries.images is None:
        body = _labelled(wire, space, queries, truth, sources, [])
        return read(
            FeedbackResult,
            wire.ask("POST", path, query=options_query(options), body=body, write=True),
        )
    options += reading_fields(queries.image_range, queries.accept_truncated)
    images = as_sources(queries.images, "queries.images")
    truth = optional_texts(truth, "truth", "one name for each query, or None")
    sources = (
        None
        if sources is None
        else optional_texts(sources, "sources", "one name for each query, or None")
    )
    _same_number(len(truth_array(truth, "truth")), len(images))
    if sources is not None and len(sources) != len(images):
        raise InvalidInput(
            f"sources: expected {len(images)} names, one for each query, got {len(sources)}"
        )
    results, start = [], 0
    for group in groups_of_files(
        (load(one, i) for i, one in enumerate(images)), FEEDBACK_FILES, FEEDBACK_BYTES
    ):
        bad = next((file for file in group if file.problem is not None), None)
        if bad is not None:
            raise InvalidInput(
                f"queries.images: {bad.source}: {bad.problem} (1 of {len(images)} cannot be read)"
            )
        stop = start + len(group)
        named = [
            ("truth", list(truth[start:stop])),
            ("sources", None if sources is None else list(sources[start:stop])),
        ]
        told = wire.ask("POST", path, body=form_body([*options, *named], group), write=True)
        results.append(read(FeedbackResult, told))
        start = stop
    return _together(results)


def _together(results: Sequence[FeedbackResult]) -> FeedbackResult:
    names = ("added", "updated", "right", "accepted_wrong", "promoted", "apart")
    counts = {name: sum(getattr(one, name) for one in results) for name in names}
    notes = merged_notes(note for one in results for note in one.notes)
    return FeedbackResult(
        ids=tuple(place for one in results for place in one.ids), notes=notes, **counts
    )
