"""Items of the review queue that come from the log of answers: a person finds their images by name,
as the log holds none."""

from __future__ import annotations

import hashlib

import numpy as np

from trustvlm.catalog.rows import spaces
from trustvlm.catalog.rows.observations import GivenVerdict, NewObservation
from trustvlm.catalog.rows.review import items, states
from trustvlm.catalog.rows.review.items import NewItem
from trustvlm.catalog.rows.spaces import SpaceRecord
from trustvlm.catalog.rows.verdict_log import rows as log_rows
from trustvlm.catalog.store.bulk import slices
from trustvlm.service.home.home import Home
from trustvlm.service.inputs.labelled import truth_ids
from trustvlm.types.review import AddedLogged, AddLoggedOptions, ReviewItem
from trustvlm.types.verdict_log import LoggedVerdict

LIMIT = 100
_NO_IMAGE = np.empty(0, np.float32)
_OF_VERDICT = (
    "source", "decision", "probability", "trust", "rule", "calibration_id", "revision", "node",
)  # fmt: skip


def add_logged(home: Home, space_name: str, options: AddLoggedOptions) -> AddedLogged:
    """See :meth:`ReviewQueue.add_logged`."""
    which = options.checked()
    home.verdict_writer.flush()
    with home.catalog.read() as connection:
        space = spaces.find(connection, space_name)
        chosen, unnamed = log_rows.named_ids(
            connection, space.id, which,
            not_accepted=options.sample is None and options.decision is None,
        )  # fmt: skip
        if options.sample is None:
            chosen = chosen[: LIMIT if options.limit is None else options.limit]
        elif len(chosen) > options.sample:
            rng = np.random.default_rng(options.seed)
            chosen = rng.choice(np.array(sorted(chosen)), options.sample, replace=False).tolist()
        verdicts = log_rows.by_ids(connection, chosen)[::-1]
    tray = "review" if options.sample is None else "sample"
    added = 0
    for some in slices([_item(verdict, tray) for verdict in verdicts]):
        with home.catalog.write("review") as connection:
            spaces.require_same(connection, space)
            states.make(connection, space.id)
            added += items.add(connection, space.id, some, home.review.items)
    return AddedLogged(added, len(verdicts), unnamed)


def _item(verdict: LoggedVerdict, tray: str) -> NewItem:
    return NewItem(
        tray=tray,
        content_hash=hashlib.sha256(b"logged verdict %d" % verdict.id).digest(),
        predicted_id=verdict.label_id,
        predicted=verdict.label,
        classifier_embedding=_NO_IMAGE,
        verifier_embedding=None,
        thumbnail=None,
        logged_id=verdict.id,
        **{name: getattr(verdict, name) for name in _OF_VERDICT},
    )


def observation_of(
    home: Home, space: SpaceRecord, item: ReviewItem, truth: str | None, sampling: str
) -> NewObservation:
    """What the answer to an item of the log is stored as: the verdict of that time with the true
    label, and no image, so that it is monitored and calibrates nothing. Raises NotFound: no such
    label."""
    with home.catalog.read() as connection:
        truth_id = int(truth_ids(connection, space, np.array([truth], dtype=object))[0])
        key = items.logged_key(connection, item.id)
    decided = item.calibration_id is not None
    given = GivenVerdict(
        predicted_id=key.predicted_id,
        predicted=item.predicted,
        node=item.node,
        trust=np.nan if item.trust is None else item.trust,
        accepted=item.decision == "accept" if decided else None,
        calibration_id=item.calibration_id,
        revision=item.revision,
    )
    return NewObservation(
        content_hash=key.content_hash,
        origin="feedback",
        sampling=sampling,
        truth_id=None if truth_id < 0 else truth_id,
        truth=truth,
        source=item.source,
        classifier_embedding=_NO_IMAGE,
        verifier_embedding=None,
        verdict=given,
    )
