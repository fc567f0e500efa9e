"""Feedback: images whose true label became known, kept as evidence for or against the promise
(docs/guarantee.md, "Is it still kept?")."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import cast

import numpy as np

from trustvlm.catalog.rows import observations, spaces, supports
from trustvlm.catalog.rows.observations import GivenVerdict, NewObservation
from trustvlm.catalog.rows.spaces import SpaceRecord
from trustvlm.errors import InvalidInput
from trustvlm.reading.sets.rows import label_of_images
from trustvlm.service.home.home import Home
from trustvlm.service.inputs.encode import image_limits
from trustvlm.service.inputs.labelled import Observed, are_supports, observe, truth_ids
from trustvlm.service.measuring.taught import watched
from trustvlm.service.measuring.usable import as_stored, stored_rows
from trustvlm.service.memory.space_cache import Reading
from trustvlm.service.memory.space_tree import space_tree
from trustvlm.service.query.candidates import UnitQueries
from trustvlm.service.query.claims.judge_claims import claims_of
from trustvlm.service.query.nodes import stands_under
from trustvlm.service.query.score import verdicts_of
from trustvlm.service.registration.encode_chunk import RegisterOptions
from trustvlm.service.registration.register import register
from trustvlm.types import LabelInput, Queries, Verdicts
from trustvlm.types.arrays import Bools, Float64s, Int64s, sources
from trustvlm.types.bounds import choice
from trustvlm.types.calibration import FeedbackResult, TaughtImages
from trustvlm.types.options import SAMPLINGS


@dataclass(frozen=True, eq=False)
class Judged:
    """Images with their true labels and the verdicts that they get now, about to be stored.

    Attributes:
        observed: the images of the call. kept: places of those that are stored.
        rows: of the kept ones, what is stored. right, accepted: which of them are that.
        unclaimed: how many are left out of a call with claims, since they have none.
    """

    space: SpaceRecord
    observed: Observed
    kept: Int64s
    rows: list[NewObservation]
    right: Bools
    accepted: Bools
    unclaimed: int = 0


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
        spaces.require_same(connection, judged.space)
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
        unclaimed=judged.unclaimed,
    )


def judged_images(
    home: Home,
    space_name: str,
    queries: Queries,
    truth: Sequence[str | None] | str | None,
    sampling: str,
    sources: Sequence[str | None] | None,
) -> Judged:
    """What :func:`feedback` stores: the images that are no support images and, where some are
    claimed to have a label, that are, with the verdicts that they get now."""
    choice("sampling", sampling, SAMPLINGS)
    space = home.space(space_name)
    truth = [truth] if truth is None or isinstance(truth, str) else truth
    observed = observe(home, space, queries, truth, sources)
    classifier, verifier = observed.unit
    with home.snapshot(space_name) as reading:
        connection, view = reading.connection, reading.view
        true_ids = truth_ids(connection, view.space, observed.truth)
        claiming = _claiming(reading, observed)
        supports = are_supports(home, reading, verifier, len(observed))
        kept = np.flatnonzero(claiming & ~supports)
        images = as_stored(connection, space, observed[kept])
        unit = UnitQueries(classifier, verifier)[kept]
        verdicts = verdicts_of(home, reading, space, unit, top_k=1, claimed=images.claimed)
        given = given_verdicts(verdicts)
        right = right_answers(
            reading,
            np.array([one.predicted_id for one in given], np.int64),
            [one.node for one in given],
            true_ids[kept],
        )
        rows = stored_rows(connection, space, images, true_ids[kept], "feedback", sampling)
    rows = [replace(row, verdict=verdict) for row, verdict in zip(rows, given, strict=True)]
    accepted = np.array([one.accepted is True for one in given], dtype=np.bool_)
    unclaimed = int((~claiming).sum())
    return Judged(space, observed, kept, rows, right, accepted, unclaimed)


def _claiming(reading: Reading, observed: Observed) -> Bools:
    """(n,) which images are claimed to have a label of the space; all, where nothing is claimed."""
    if observed.claimed is None:
        return np.ones(len(observed), np.bool_)
    names, view = observed.claimed, reading.view
    claiming: Bools = claims_of(reading.connection, view, None, names).slots >= 0
    return claiming


def right_answers(
    reading: Reading, answered: Int64s, nodes: Sequence[str | None], truth: Int64s
) -> Bools:
    """(n,) whether the true labels are the answered ones, predicted or claimed, or stand under the
    nodes that were answered, where the calibration backs off.

    Args:
        answered, truth: (n,) ids of labels; −1: of no label.
    """
    view = reading.view
    labels, true_labels = view.aliases.of(answered), view.aliases.of(truth)
    right: Bools = np.equal(labels, true_labels)
    if any(node is not None for node in nodes):
        slots = np.where(true_labels < 0, -1, view.text.slots(np.maximum(true_labels, 0)))
        right = right | stands_under(space_tree(reading), list(nodes), slots)
    return right


def given_verdicts(verdicts: Verdicts) -> list[GivenVerdict]:
    """What is stored of verdicts, each about the predicted label or, where all queries have claims,
    about the claimed one."""
    names = verdicts.claimed
    if names is None:
        label_ids, names, trust = verdicts.label_id, verdicts.label, verdicts.trust
        nodes, calibration_id = verdicts.node.tolist(), verdicts.calibration_id
    else:
        label_ids, trust = cast(Int64s, verdicts.claimed_id), cast(Float64s, verdicts.claimed_trust)
        nodes, calibration_id = [None] * len(verdicts), verdicts.claims_calibration_id
    columns = (label_ids, names, trust, verdicts.accepted)
    return [
        GivenVerdict(label_id, name, node, value, accepted, calibration_id, verdicts.revision)
        for node, label_id, name, value, accepted in zip(
            nodes, *(column.tolist() for column in columns), strict=True
        )
    ]


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
