"""Feedback: images whose true label became known, kept as evidence for or against the promise; and
monitoring it (docs/guarantee.md, "Is it still kept?")."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from sqlalchemy import Connection

from trustvlm.catalog.rows import observations, spaces, supports
from trustvlm.catalog.rows.observations import GivenVerdict, NewObservation
from trustvlm.catalog.rows.spaces import SpaceRecord
from trustvlm.catalog.rows.verdict_log import rows as log_rows
from trustvlm.errors import Conflict, InvalidInput, NotFound
from trustvlm.reading.claims import no_claims
from trustvlm.reading.sets.rows import label_of_images
from trustvlm.selective import monitoring
from trustvlm.selective.monitoring import Monitoring
from trustvlm.service.home.calibrations import in_force, stale_since
from trustvlm.service.home.home import Home
from trustvlm.service.inputs.encode import image_limits
from trustvlm.service.inputs.labelled import Observed, are_supports, as_rows, observe, truth_ids
from trustvlm.service.measuring.taught import watched
from trustvlm.service.measuring.traffic import traffic_share
from trustvlm.service.measuring.usable import as_stored
from trustvlm.service.memory.reading import Reading
from trustvlm.service.memory.taxonomy.space_tree import space_tree
from trustvlm.service.query.back_off.nodes import stands_under
from trustvlm.service.query.score import verdicts_of
from trustvlm.service.registration.encode_chunk import RegisterOptions
from trustvlm.service.registration.register import register
from trustvlm.types import LabelInput, Queries, Verdicts
from trustvlm.types.arrays import Bools, Int64s, sources
from trustvlm.types.bounds import choice
from trustvlm.types.calibration import Calibration, FeedbackResult, MonitorReport, TaughtImages
from trustvlm.types.messages.commands import suggested
from trustvlm.types.options import SAMPLINGS
from trustvlm.types.tables.probability import percent, promise
from trustvlm.types.verdict_log import LogFilter


@dataclass(frozen=True, eq=False)
class Judged:
    """Images with their true labels and the verdicts that they get now, about to be stored.

    Attributes:
        observed: the images of the call. kept: places of those that are no support images.
        rows: of the kept ones, what is stored. right, accepted: which of them are that.
    """

    space: SpaceRecord
    observed: Observed
    kept: Int64s
    rows: list[NewObservation]
    right: Bools
    accepted: Bools


def feedback(
    home: Home,
    space_name: str,
    queries: Queries,
    truth: Sequence[str | None] | str | None,
    sampling: str,
    promote: bool,
    sources: Sequence[str | None] | None,
) -> FeedbackResult:
    """See :meth:`TrustService.feedback`."""
    judged = judged_images(home, space_name, queries, truth, sampling, sources)
    watch = watched(home, judged.space) if promote else None
    with home.catalog.write("feedback") as connection:
        require_unchanged(connection, judged.space)
        stored = observations.store(connection, judged.space.id, judged.rows)
    promoted, taught = 0, None
    if promote:
        hashes = [row.content_hash for row in judged.rows]
        promoted = _promote(home, space_name, queries, judged.observed, judged.kept, hashes)
    if promoted:
        labelled = np.array([row.truth_id is not None for row in judged.rows], np.bool_)
        corrected = int((labelled & ~judged.right).sum())
        waiting, changed = (0, 0) if watch is None else watch.changed(home)
        taught = TaughtImages(promoted, corrected, waiting, changed)
    ids = np.full(len(judged.observed), -1, dtype=np.int64)
    ids[judged.kept] = stored.ids
    return FeedbackResult(
        ids=tuple(ids.tolist()),
        added=len(set(stored.ids)) - stored.repeated,
        updated=stored.repeated,
        apart=stored.apart,
        right=int(judged.right.sum()),
        accepted_wrong=int((judged.accepted & ~judged.right).sum()),
        promoted=promoted,
        taught=taught,
        notes=judged.observed.notes,
    )


def judged_images(
    home: Home,
    space_name: str,
    queries: Queries,
    truth: Sequence[str | None] | str | None,
    sampling: str,
    sources: Sequence[str | None] | None,
) -> Judged:
    """What :func:`feedback` stores: the images that are no support images, with the verdicts that
    they get now."""
    choice("sampling", sampling, SAMPLINGS)
    no_claims(queries.claimed, "feedback")
    space = home.space(space_name)
    truth = [truth] if truth is None or isinstance(truth, str) else truth
    observed = observe(home, space, queries, truth, sources)
    classifier, verifier = observed.unit
    with home.snapshot(space_name) as reading:
        connection, view = reading.connection, reading.view
        true_ids = truth_ids(connection, view.space, observed.truth)
        kept = np.flatnonzero(~are_supports(home, reading, verifier, len(observed)))
        images = as_stored(connection, space, observed[kept])
        unit = Queries(classifier[kept], None if verifier is None else verifier[kept])
        verdicts = verdicts_of(home, reading, space, unit, top_k=1)
        right = _right(reading, verdicts.label_id, verdicts.node.tolist(), true_ids[kept])
    rows = [
        replace(row, verdict=_given_verdict(verdicts, i))
        for i, row in enumerate(as_rows(images, true_ids[kept], "feedback", sampling))
    ]
    accepted = np.array([one is True for one in verdicts.accepted.tolist()], dtype=np.bool_)
    return Judged(space, observed, kept, rows, right, accepted)


def _right(
    reading: Reading, predicted: Int64s, nodes: Sequence[str | None], truth: Int64s
) -> Bools:
    """(n,) whether the true labels are the predicted ones, or stand under the nodes that were
    answered, where the calibration backs off.

    Args:
        predicted, truth: (n,) ids of labels; −1: of no label.
    """
    view = reading.view
    labels, true_labels = view.aliases.of(predicted), view.aliases.of(truth)
    right: Bools = np.equal(labels, true_labels)
    if any(node is not None for node in nodes):
        slots = np.where(true_labels < 0, -1, view.text.slots(np.maximum(true_labels, 0)))
        right = right | stands_under(space_tree(reading), list(nodes), slots)
    return right


def require_unchanged(connection: Connection, space: SpaceRecord) -> None:
    """Raises Conflict: the space was replaced during the call."""
    if spaces.find(connection, space.name).id != space.id:
        raise Conflict(
            f"space {space.name!r} was removed and made again, or re-embedded, during the "
            f"call; nothing was stored"
        )


def _given_verdict(verdicts: Verdicts, i: int) -> GivenVerdict:
    return GivenVerdict(
        predicted_id=int(verdicts.label_id[i]),
        predicted=str(verdicts.label[i]),
        node=verdicts.node[i],
        trust=float(verdicts.trust[i]),
        accepted=verdicts.accepted[i],
        calibration_id=verdicts.calibration_id,
        revision=verdicts.revision,
    )


def _promote(
    home: Home,
    space_name: str,
    queries: Queries,
    observed: Observed,
    kept: Int64s,
    stored: Sequence[bytes],
) -> int:
    """Make the kept images support images of their labels, and mark them, stored by these hashes,
    as images that calibrate no more; how many were added."""
    if observed.verifier is None:
        raise InvalidInput("promote: support images need verifier embeddings; none were given")
    rows_of: dict[str, list[int]] = {}
    for row in kept.tolist():
        if observed.truth[row] is not None:
            rows_of.setdefault(observed.truth[row], []).append(row)
    if queries.images is not None:
        images = sources(queries.images, "queries.images")
        inputs = [
            replace(label_of_images(name, [images[row] for row in rows]), parent=None)
            for name, rows in rows_of.items()
        ]
    else:
        separate = None if observed.verifier is observed.classifier else observed.classifier
        inputs = [
            LabelInput(
                name,
                image_vectors=observed.verifier[rows],
                classifier_image_vectors=None if separate is None else separate[rows],
            )
            for name, rows in rows_of.items()
        ]
    limits = image_limits(home, queries.image_range, queries.accept_truncated)
    options = RegisterOptions(limits, must_exist=True, bring_back=True)
    result = register(home, space_name, inputs, options)
    stored_hash = dict(zip(kept.tolist(), stored, strict=True))
    by_hash = {observed.hashes[row]: stored_hash[row] for rows in rows_of.values() for row in rows}
    with home.write("promote", space_name) as (connection, space):
        support_ids = supports.ids_of_hashes(connection, space.id, list(by_hash))
        promoted = {by_hash[content]: number for content, number in support_ids.items()}
        observations.mark_promoted(connection, space.id, promoted)
    return result.added_supports


def monitor(home: Home, space_name: str, alpha: float) -> MonitorReport:
    """See :meth:`TrustService.monitor`."""
    home.verdict_writer.flush()
    with home.snapshot(space_name) as reading:
        connection, view = reading.connection, reading.view
        calibration = in_force(connection, view.space)
        if calibration is None:
            raise NotFound(
                f"space {space_name!r} has no calibration to watch over; run "
                f"{suggested('calibrate', space_name, files='FOLDER')}"
            )
        if calibration.other_encoders:
            raise NotFound(
                f"space {space_name!r} was re-embedded since calibration {calibration.id}, "
                f"which decides nothing any more; run {suggested('recalibrate', space_name)}"
            )
        pairs = observations.accepted_random(connection, view.space.id)
        predicted = np.array([pair[0] for pair in pairs], dtype=np.int64)
        truth = np.array([pair[1] for pair in pairs], dtype=np.int64)
        right = _right(reading, predicted, [pair[2] for pair in pairs], truth)
        counts = _logged(reading, calibration.id)
        traffic = traffic_share(home, reading)
        since = stale_since(reading, calibration) if calibration.stale else None
    seen = monitoring.monitor((~right).tolist(), calibration.max_risk, alpha)
    return MonitorReport(
        calibration_id=calibration.id,
        max_risk=calibration.max_risk,
        items=seen.items,
        errors=seen.errors,
        risk=seen.errors / seen.items if seen.items else None,
        risk_low=seen.risk_low,
        evidence=seen.largest,
        broken=seen.broken,
        broken_after=seen.broken_after,
        alpha=alpha,
        message=_message(calibration, seen, since),
        logged=counts[0],
        accepted=counts[1],
        traffic=traffic,
    )


def _logged(reading: Reading, calibration_id: int) -> tuple[int | None, int | None]:
    """How many logged answers a calibration decided, and how many of them it accepted; None where
    the space logs none."""
    space = reading.view.space
    if not (space.verdict_log or {}).get("logging"):
        return None, None
    of_calibration = {"calibration_id": calibration_id, "claimed": None}
    facts = log_rows.facts(reading.connection, space.id, LogFilter(), **of_calibration)
    return facts.accept + facts.review + facts.unknown, facts.accept


def _message(calibration: Calibration, seen: Monitoring, since: int | None) -> str:
    """What a monitor says; `since`: the first revision that the calibration does not know."""
    promised = promise(calibration.max_risk, calibration.confidence)
    counts = f"{seen.errors} of {seen.items} accepted images whose label became known are wrong"
    remedy = f"run {suggested('recalibrate', calibration.space)}"
    if seen.broken:
        return (
            f"the promise is broken that {promised}: {counts}, and the risk is at least "
            f"{percent(seen.risk_low)}. Do not rely on calibration {calibration.id}; {remedy}"
        )
    if since is not None:
        return (
            f"calibration {calibration.id} is stale since revision {since} "
            f"and promises nothing{f': {counts}' if seen.items else ''}; {remedy}"
        )
    if not seen.items:
        add = suggested("feedback", calibration.space, files="FOLDER", options="--sampling random")
        return (
            f"no random feedback on accepted images yet, to test the promise that {promised}; "
            f"{add} adds it"
        )
    return f"nothing contradicts the promise that {promised}: {counts}"
