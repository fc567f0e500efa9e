"""The discriminant of a space at a revision: made from the catalog for the first query that asks
for one, followed by revision, kept in a file from which the next process starts.

Only spaces that a rule of the discriminant looks at have one. Up to `fit_in_call_labels` labels
with support images a query waits for the fit of its own revision. A larger space is answered with
the latest fit, which verdicts name, and fitted again in the background.
"""

from __future__ import annotations

import json
import logging
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from sqlalchemy import Connection

from trustvlm.catalog.catalog import Catalog
from trustvlm.catalog.rows import spaces
from trustvlm.catalog.rows.spaces import SpaceRecord
from trustvlm.catalog.upkeep import purge
from trustvlm.errors import Conflict, NotFound, TrustVLMError, Unavailable
from trustvlm.index.snapshot import read_snapshot, write_snapshot
from trustvlm.scoring.discriminant.fit import DiscriminantFit, GroupOdds, Novelty, fit_discriminant
from trustvlm.service.memory.discriminant.gather import (
    DiscriminantSample,
    classifier_tower,
    discriminant_sample,
    text_of,
    tower_of,
)
from trustvlm.service.memory.shared_snapshots import SharedSnapshots
from trustvlm.service.memory.snapshots import snapshot_key
from trustvlm.service.memory.space_cache import Reading, SpaceMemo, SpaceView
from trustvlm.service.memory.support_fit import nearly_equal, untouched
from trustvlm.system.background import Failures, OneAtATime
from trustvlm.system.files.durable import remove
from trustvlm.types.arrays import Float32s, Int64s
from trustvlm.types.thresholds import Thresholds

_SAME = 1e-3
"""How far numbers of one fit may lie apart that two processes made."""
_IN_WORDS = {"facts": "scale", "labels": "list of labels", "bias": "bias of the text", "matrix":
             "covariance"}  # fmt: skip
_METHOD = 1
"""Number of the way in which fits are made: a stored one of another way is not used."""


@dataclass(frozen=True, eq=False)
class SpaceDiscriminant:
    """A discriminant with the labels that it was fitted on.

    Attributes:
        made: the revision at which it was computed. holds_at: the last revision at which it is
            known to be what the support images say. sample: digest of what it looked at.
        labels: (k,) ids, ascending, of the labels with support images that were looked at.
        classifier_prototypes: (k, d_t) of the classifier's image tower, where it gives evidence.
        texts: of how many support images the classifier embedding was known. images: how many were
            looked at.
    """

    made: int
    holds_at: int
    sample: str
    fit: DiscriminantFit
    labels: Int64s
    classifier_prototypes: Float32s | None
    texts: int
    images: int

    def to_arrays(self) -> dict[str, npt.NDArray[Any]]:
        """As a snapshot file holds it."""
        fit = self.fit
        facts = {
            "method": _METHOD, "made": self.made, "sample": self.sample, "texts": self.texts,
            "images": self.images, "kind": fit.kind, "share": fit.share, "taus": fit.taus,
            "gain": fit.gain, "gain_error": fit.gain_error, "left_out": fit.images,
            "odds": None if fit.odds is None else asdict(fit.odds),
        }  # fmt: skip
        arrays: dict[str, npt.NDArray[Any]] = {
            "facts": np.frombuffer(json.dumps(facts).encode(), dtype=np.uint8),
            "labels": self.labels,
            "bias": fit.bias,
        }
        further = {
            "matrix": fit.matrix,
            "classifier_matrix": fit.classifier_matrix,
            "classifier_prototypes": self.classifier_prototypes,
        }
        return arrays | {name: array for name, array in further.items() if array is not None}

    @classmethod
    def of_arrays(
        cls, arrays: dict[str, npt.NDArray[Any]], revision: int
    ) -> SpaceDiscriminant | None:
        """Back from :meth:`to_arrays`; None of a fit that was made in another way."""
        facts = json.loads(arrays["facts"].tobytes())
        if facts["method"] != _METHOD:
            return None
        odds = facts["odds"]
        fit = DiscriminantFit(
            kind=facts["kind"],
            matrix=arrays.get("matrix"),
            classifier_matrix=arrays.get("classifier_matrix"),
            share=facts["share"],
            taus=tuple(facts["taus"]),
            bias=arrays["bias"],
            odds=None
            if odds is None
            else GroupOdds(**odds | {"novelty": Novelty(**odds["novelty"])}),
            gain=facts["gain"],
            gain_error=facts["gain_error"],
            images=facts["left_out"],
        )
        return cls(
            made=facts["made"],
            holds_at=revision,
            sample=facts["sample"],
            fit=fit,
            labels=arrays["labels"],
            classifier_prototypes=arrays.get("classifier_prototypes"),
            texts=facts["texts"],
            images=facts["images"],
        )


def up_to_date(
    connection: Connection,
    space: SpaceRecord,
    latest: SpaceDiscriminant | None,
    thresholds: Thresholds,
) -> SpaceDiscriminant:
    """The discriminant of the space's revision, which is the transaction's: the latest one, where
    nothing that it looked at has changed."""
    sample = discriminant_sample(connection, space, thresholds)
    if latest is not None and _holds(connection, space, latest, sample):
        return replace(latest, holds_at=space.revision)
    return _fitted(connection, space, sample)


def _holds(
    connection: Connection,
    space: SpaceRecord,
    latest: SpaceDiscriminant,
    sample: DiscriminantSample,
) -> bool:
    """Whether nothing that a discriminant looked at has changed since."""
    return latest.sample == sample.digest and untouched(
        connection, space, latest.holds_at, sample.labels
    )


def disagreement(
    connection: Connection, space: SpaceRecord, stored: SpaceDiscriminant, thresholds: Thresholds
) -> str | None:
    """Where a stored discriminant differs from what the support images give now; None: nowhere, or
    they have changed since, so that the next query fits them again."""
    sample = discriminant_sample(connection, space, thresholds)
    if not _holds(connection, space, stored, sample):
        return None
    arrays, fresh = stored.to_arrays(), _fitted(connection, space, sample).to_arrays()
    if arrays.keys() != fresh.keys():
        return f"it holds {', '.join(arrays)}, the support images give {', '.join(fresh)}"
    for name, array in fresh.items():
        if name == "facts":
            one, other = (json.loads(facts.tobytes()) for facts in (arrays[name], array))
            same = nearly_equal(one | {"made": 0}, other | {"made": 0}, _SAME)
        else:
            same = arrays[name].shape == array.shape and bool(
                np.allclose(arrays[name], array, rtol=_SAME, atol=_SAME)
            )
        if not same:
            return f"its {_IN_WORDS.get(name, name)} is not what the support images give"
    return None


def _fitted(
    connection: Connection, space: SpaceRecord, sample: DiscriminantSample
) -> SpaceDiscriminant:
    text = text_of(connection, space, sample)
    verifier = tower_of(connection, space, sample.support)
    classifier = None
    if sample.two_towers and len(text.images):
        classifier = classifier_tower(connection, space, sample.support)
    fit = _rounded(fit_discriminant(verifier, text, classifier))
    prototypes = None
    if classifier is not None and fit.classifier_matrix is not None:
        prototypes = classifier.prototypes.astype(np.float32)
    return SpaceDiscriminant(
        made=space.revision,
        holds_at=space.revision,
        sample=sample.digest,
        fit=fit,
        labels=sample.support.labels,
        classifier_prototypes=prototypes,
        texts=len(text.images),
        images=len(sample.support.images),
    )


def _rounded(fit: DiscriminantFit) -> DiscriminantFit:
    """The fit with its matrices in float32, as a file holds them too."""
    matrices = (fit.matrix, fit.classifier_matrix)
    first, second = (None if m is None else m.astype(np.float32) for m in matrices)
    return replace(fit, matrix=first, classifier_matrix=second)


log = logging.getLogger("trustvlm")


class Discriminants:
    """The discriminants of all spaces. Safe to use from several threads.

    Args:
        catalog: the truth. folder: where snapshots lie. shared: those of other machines.
    """

    def __init__(
        self, catalog: Catalog, folder: Path, thresholds: Thresholds, shared: SharedSnapshots
    ) -> None:
        self._catalog, self._folder, self._thresholds = catalog, folder, thresholds
        self._shared = shared
        failures = Failures(log, "fitting a discriminant in the background")
        self._renewal = OneAtATime(failures, "trustvlm-discriminant")

    def path(self, space_id: int) -> Path:
        """Where the discriminant of a space lies."""
        return self._folder / f"{space_id}.discriminant.snapshot"

    def current(self, reading: Reading, *, wait: bool) -> SpaceDiscriminant:
        """The discriminant to answer with at the reading's revision; with `wait`, that of this very
        revision."""
        view, memo = reading.view, reading.memo
        with memo.fitting:
            latest = memo.latest(SpaceDiscriminant) or self._loaded(view)
            if latest is not None and latest.made > view.revision:
                latest = None
            outdated = latest is None or latest.holds_at < view.revision
            if latest is None or (outdated and (wait or self._is_small(view))):
                fit = up_to_date(reading.connection, view.space, latest, self._thresholds)
                if latest is None or fit.made > latest.made:
                    self._write(view.space, view.epoch, fit)
                latest, outdated = fit, False
            _keep(memo, latest)
        if outdated:
            self._renewal.begin(lambda: self._renew(view, memo))
        return latest

    def _is_small(self, view: SpaceView) -> bool:
        """Queries wait for the fit of their own revision."""
        return len(view.prototypes) <= self._thresholds.fit_in_call_labels

    def close(self) -> None:
        """Wait for a fit that is being made or written."""
        self._renewal.wait()

    def _loaded(self, view: SpaceView) -> SpaceDiscriminant | None:
        """The discriminant in the file, if it is of this space and not of a later revision."""
        key = snapshot_key(view.space, view.epoch, view.revision)
        path = self.path(view.space.id)
        if not path.exists() and not self._is_small(view):
            self._shared.take(path, key, view.space)
        try:
            stored = read_snapshot(path, key)
        except NotFound:
            return None
        except (Conflict, Unavailable) as error:
            log.warning("fitting space %s again: %s", view.space.name, error)
            return None
        if not view.space.log_start <= stored.key.revision <= view.revision:
            return None
        return SpaceDiscriminant.of_arrays(stored.arrays, stored.key.revision)

    def _renew(self, view: SpaceView, memo: SpaceMemo) -> None:
        """Bring the fit of a space up to date, and write it."""
        try:
            with self._catalog.read() as connection:
                space = spaces.find(connection, view.space.name)
                if space.id != view.space.id:  # removed and made again
                    return
                latest = memo.latest(SpaceDiscriminant)
                fit = up_to_date(connection, space, latest, self._thresholds)
            with memo.fitting:
                _keep(memo, fit)
            self._write(space, view.epoch, fit)
        except (OSError, TrustVLMError) as error:
            log.warning("space %s was not fitted again: %s", view.space.name, error)

    def _write(self, space: SpaceRecord, epoch: str, fit: SpaceDiscriminant) -> None:
        """Write a fit to the space's file, unless something that it looked at has been purged
        meanwhile."""
        if self._catalog.read_only:
            return
        path = self.path(space.id)
        try:
            write_snapshot(path, snapshot_key(space, epoch, fit.holds_at), fit.to_arrays())
            if len(fit.labels) > self._thresholds.fit_in_call_labels:  # others are fitted as soon
                self._shared.give(path, space.id, fit.holds_at)
            with self._catalog.read() as connection:
                if purge.lost_since(connection, space.id, fit.holds_at):
                    remove(path)
        except (OSError, TrustVLMError) as error:  # costs the next process a fit
            log.warning("the discriminant of space %s was not written: %s", space.name, error)


def _keep(memo: SpaceMemo, fit: SpaceDiscriminant) -> None:
    """Remember a fit, unless a later one is remembered."""
    latest = memo.latest(SpaceDiscriminant)
    if latest is None or latest.holds_at <= fit.holds_at:
        memo.keep(fit)
