"""The images that a measurement may use: no support images, no image twice, none whose label was
removed (docs/measuring.md, "Which images and which rules count")."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import cast

import numpy as np
from sqlalchemy import Connection

from trustvlm.catalog.rows import labels, observations
from trustvlm.catalog.rows.observations import NewObservation
from trustvlm.catalog.rows.spaces import SpaceRecord
from trustvlm.errors import InvalidInput
from trustvlm.scoring.vectors import SAME_IMAGE, unit_rows
from trustvlm.service.inputs.labelled import Observed, as_rows
from trustvlm.service.query.claims.judge_claims import can_be_name, claims_of
from trustvlm.service.query.columns import Columns
from trustvlm.service.query.context import Context
from trustvlm.types.arrays import Bools, Float32s, Float64s, Int64s
from trustvlm.types.messages.commands import suggested

_DIRECTIONS = 3
_BLOCK = 4096
_NEARLY = 1 - 1e-5  # below SAME_IMAGE by more than float32 rounds


@dataclass(frozen=True, eq=False)
class UsableImages:
    """The images that a measurement may use, and how many others came.

    Attributes:
        observed: the images. places: (n,) where each stood among all that came.
        given: (n,) ids of their true labels, −1 for none. truth: (n,) of an alias, those of its
            label.
        came: how many came. supports, duplicates, gone: how many are left out as support images, as
            copies of earlier ones, and because their label was removed.
        claimed: (n,) text slots of the claimed labels; None: nothing is claimed. unclaimed: how
            many are left out, since they have no claim, or one that is no label.
    """

    observed: Observed
    places: Int64s
    given: Int64s
    truth: Int64s
    came: int
    supports: int
    duplicates: int
    gone: int
    claimed: Int64s | None = None
    unclaimed: int = 0

    def __len__(self) -> int:
        return len(self.places)

    def left_out(self) -> str:
        """What came and is left out, in words."""
        return (
            f"of {self.came} that came, {self.supports} are support images, {self.duplicates} came "
            f"twice, {self.gone} are of labels that were removed"
            + (f", {self.unclaimed} have no claim that is a label" if self.unclaimed else "")
        )


def usable_images(
    context: Context, observed: Observed, truth: Int64s, support: Bools
) -> UsableImages:
    """Leave out what may not be measured with.

    Args:
        truth: (n,) ids of true labels, −1 for none. support: (n,) which are support images.
    """
    claimed, usable = None, np.ones(len(observed), np.bool_)
    if observed.claimed is not None:
        taking = context.subset.text
        claimed = claims_of(context.connection, context.view, taking, observed.claimed).slots
        usable = claimed >= 0
    support, first = support & usable, np.zeros(len(observed), np.bool_)
    rows: Int64s = np.flatnonzero(usable)
    first[rows[_first_of_each(observed[rows])]] = True
    gone = (truth >= 0) & (context.view.text.slots(np.maximum(truth, 0)) < 0)
    places = np.flatnonzero(~support & first & ~gone)
    return UsableImages(
        observed=observed[places],
        places=places,
        given=truth[places],
        truth=context.view.aliases.of(truth[places]),
        came=len(observed),
        supports=int(support.sum()),
        duplicates=int((usable & ~first & ~support).sum()),
        gone=int((gone & first & ~support).sum()),
        claimed=None if claimed is None else claimed[places],
        unclaimed=int((~usable).sum()),
    )


def all_support_images(space: str, count: int) -> InvalidInput:
    """The error of a measurement for which only support images came; its message names the way
    out."""
    sync = suggested("register", space, files="FOLDER", options="--sync --hold-out 0.3")
    measure = suggested("evaluate", space, files="FOLDER", options="--hold-out 0.3")
    start = suggested("start", files="FOLDER")
    return InvalidInput(
        f"queries: expected images that are not support images, but all {count} are support images "
        f"of space {space!r}, which cannot measure it. {sync} holds 30 % of FOLDER out of the "
        f"space, and {measure} measures on them; {start} does both in a new space"
    )


def label_names(context: Context, ids: Int64s) -> list[str | None]:
    """The names of labels that exist; None for −1."""
    slots = context.view.text.slots(np.maximum(ids, 0))
    return [
        None if label < 0 else context.view.names[slot]
        for label, slot in zip(ids.tolist(), slots.tolist(), strict=True)
    ]


def right_rows(columns: Columns, truth: Int64s) -> Bools:
    """(n,) which predictions are right."""
    return np.equal(cast(Int64s, columns["label_id"]), truth)


def _first_of_each(observed: Observed) -> Bools:
    """(n,) which images are no copies of earlier ones.

    Copies are equal files (or pixels, or vectors, as the hash has it), and images whose embeddings
    are equal but for rounding: the picture saved in another format, or encoded in another batch.
    """
    first = np.zeros(len(observed), np.bool_)
    places: dict[bytes, int] = {}
    first[[places.setdefault(content, row) for row, content in enumerate(observed.hashes)]] = True
    rows: Int64s = np.flatnonzero(first)
    classifier, verifier = observed[rows].unit
    first[rows[_repeated(classifier if verifier is None else verifier)]] = False
    return first


def as_stored(connection: Connection, space: SpaceRecord, observed: Observed) -> Observed:
    """`observed` under the hashes that its images are stored by.

    The hash of an image that came as a file is another than that of its vectors, which is what
    'trustvlm calibrate SPACE DIR' gives. An image that is not known by its hash is known by its
    embedding, equal but for rounding.
    """
    stored_hashes = observations.known_hashes(connection, space.id, observed.hashes)
    new = [i for i, content in enumerate(observed.hashes) if content not in stored_hashes]
    if not new:
        return observed
    separate = space.verifier != "same" and observed.verifier is not None
    dim = space.verifier_dim if separate else space.classifier_dim
    stored, embeddings = observations.embeddings(connection, space.id, dim, verifier=separate)
    classifier, verifier = observed[np.array(new)].unit
    hashes = list(observed.hashes)
    for place, other in _same_images(classifier if verifier is None else verifier, embeddings):
        hashes[new[place]] = stored[other]
    return replace(observed, hashes=hashes)


def _same_images(queries: Float64s, stored: Float32s) -> Iterator[tuple[int, int]]:
    """(row of `queries`, row of `stored`) of each pair that is equal but for rounding; (n, d) unit
    vectors and (m, d) raw embeddings, a block of each at a time."""
    for start in range(0, len(stored), _BLOCK):
        rows = stored[start : start + _BLOCK]
        lengths = np.linalg.norm(rows, axis=1, keepdims=True)
        for first in range(0, len(queries), _BLOCK):
            block = queries[first : first + _BLOCK]
            row, query = np.nonzero(rows @ block.T.astype(np.float32) >= _NEARLY * lengths)
            cosine = np.sum(unit_rows(rows[row].astype(np.float64)) * block[query], axis=1)
            same = cosine >= SAME_IMAGE
            yield from zip(
                (first + query[same]).tolist(), (start + row[same]).tolist(), strict=True
            )


def _repeated(unit: Float64s) -> Bools:
    """(n,) which unit vectors are equal to an earlier one but for rounding.

    Equal ones have equal projections on any direction: sorted by one, they stand within a narrow
    window of each other.
    """
    repeated = np.zeros(len(unit), np.bool_)
    directions = np.random.default_rng(0).standard_normal((unit.shape[1], _DIRECTIONS))
    projections = unit @ (directions / np.linalg.norm(directions, axis=0))
    order = np.argsort(projections[:, 0], kind="stable")
    window = np.sqrt(2 * (1 - SAME_IMAGE))
    for offset in range(1, len(unit)):
        one, other = order[:-offset], order[offset:]
        inside = projections[other, 0] - projections[one, 0] <= window
        if not inside.any():
            break
        distance = np.abs(projections[other] - projections[one])
        pairs = np.flatnonzero(inside & (distance <= window).all(axis=1))
        one, other = one[pairs], other[pairs]
        same = cast(Bools, np.sum(unit[one] * unit[other], axis=1) >= SAME_IMAGE)
        repeated[np.maximum(one, other)[same]] = True
    return repeated


def stored_rows(
    connection: Connection,
    space: SpaceRecord,
    observed: Observed,
    truth: Int64s,
    origin: str,
    sampling: str,
) -> list[NewObservation]:
    """The rows that the catalog stores of images with the ids of their true labels (−1: none); with
    claims, of those that are claimed to have a label."""
    if observed.claimed is None:
        return as_rows(observed, truth, origin, sampling)
    sampling = observations.CLAIMED if sampling == "random" else sampling
    rows = as_rows(observed, truth, origin, sampling)
    names = [name if name and can_be_name(name) else None for name in observed.claimed]
    distinct = sorted({name for name in names if name is not None})
    records = labels.find_many(connection, space.id, distinct)
    return [
        replace(row, claimed_id=records[name].id)
        for row, name in zip(rows, names, strict=True)
        if name in records
    ]
