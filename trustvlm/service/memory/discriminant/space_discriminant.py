"""The discriminant of a space at a revision: made from the catalog, and as arrays of a file."""

from __future__ import annotations

import json
import math
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt
from sqlalchemy import Connection

from trustvlm.catalog.rows.spaces import SpaceRecord
from trustvlm.scoring.discriminant.fit import DiscriminantFit, fit_discriminant
from trustvlm.scoring.discriminant.group_odds import GroupOdds, Novelty
from trustvlm.service.memory.discriminant.gather import (
    DiscriminantSample,
    classifier_tower,
    discriminant_sample,
    text_of,
    tower_of,
)
from trustvlm.service.memory.support_fit import untouched
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
            same = _same_facts(arrays[name], array)
        else:
            same = arrays[name].shape == array.shape and bool(
                np.allclose(arrays[name], array, rtol=_SAME, atol=_SAME)
            )
        if not same:
            return f"its {_IN_WORDS.get(name, name)} is not what the support images give"
    return None


def _same_facts(stored: npt.NDArray[Any], fresh: npt.NDArray[Any]) -> bool:
    """Whether the numbers of two fits are the same, but for rounding."""
    one, other = (json.loads(array.tobytes()) for array in (stored, fresh))
    return _close(one | {"made": 0}, other | {"made": 0})


def _close(one: Any, other: Any) -> bool:
    if isinstance(one, dict) and isinstance(other, dict):
        return one.keys() == other.keys() and all(_close(one[key], other[key]) for key in one)
    if isinstance(one, list) and isinstance(other, list):
        return len(one) == len(other) and all(map(_close, one, other))
    if isinstance(one, float) and isinstance(other, float):
        return math.isclose(one, other, rel_tol=_SAME, abs_tol=_SAME)
    return bool(one == other)


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
