"""The facts about a space that bulk work reads before it begins."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from trustvlm import __version__
from trustvlm.bulk.inputs.claims import Claims
from trustvlm.bulk.inputs.columns import SIDES
from trustvlm.bulk.units import Plan
from trustvlm.catalog.rows import spaces
from trustvlm.catalog.rows.spaces import SpaceRecord
from trustvlm.errors import InvalidInput
from trustvlm.service import TrustService
from trustvlm.service.inputs.space_encoders import encodes_images, image_encoder
from trustvlm.types import Queries, Verdicts
from trustvlm.types.bulk import Work

_FORMAT = 1
"""Number of the form of files: others are made again."""


@dataclass(frozen=True)
class Options:
    """How rows are scored, and images read; see :meth:`TrustService.score` and :class:`Queries`.

    Attributes:
        claimed: see :func:`trustvlm.bulk.score`.
    """

    rule: str | None = None
    params: Mapping[str, float | None] | None = None
    top_k: int = 5
    labels: Sequence[str] | None = None
    image_range: tuple[float, float] | None = None
    accept_truncated: bool = False
    claimed: str | os.PathLike[str] | Sequence[str | None] | None = None

    @property
    def of_score(self) -> dict[str, Any]:
        """The arguments of `score`."""
        labels = None if self.labels is None else list(self.labels)
        params = None if self.params is None else dict(self.params)
        return {"rule": self.rule, "params": params, "top_k": self.top_k, "labels": labels}

    @property
    def reading(self) -> dict[str, Any]:
        """The arguments of `embed`."""
        return {"image_range": self.image_range, "accept_truncated": self.accept_truncated}


@dataclass(frozen=True)
class Space:
    """A space as it is when the work begins.

    Attributes:
        epoch: of the catalog. dims: dimension of the vectors of each side.
        encoded: the sides that images are encoded for; none: the space cannot encode images.
    """

    record: SpaceRecord
    epoch: str
    dims: Mapping[str, int]
    encoded: tuple[str, ...]

    @classmethod
    def of(cls, record: SpaceRecord, epoch: str) -> Space:
        """The facts of a space's row."""
        same, sides = record.verifier == "same", list[str]()
        if encodes_images(image_encoder(record)):
            sides += ["classifier"] if same or encodes_images(record.classifier) else []
            sides += [] if same else ["verifier"]
        return cls(record, epoch, dict(zip(SIDES, record.dims, strict=True)), tuple(sides))

    def check(self, work: Work, plan: Plan, *, keep: bool) -> None:
        """Raises InvalidInput for an input that the space cannot take, before any of it is read."""
        if plan.sides and (work == "embed" or keep):
            what = "keep_embeddings: is for images" if keep else "IN: expected images to embed"
            raise InvalidInput(f"{what}; {plan.origin} holds vectors already ({plan.sides[0]})")
        if not plan.sides and not self.encoded:
            raise InvalidInput(
                f"IN: {plan.origin} holds images, which the verifier of space "
                f"{self.record.name!r}, {image_encoder(self.record)!r}, cannot encode; expected "
                f"Parquet files with the columns classifier and verifier"
            )

    def key(
        self, service: TrustService, work: Work, plan: Plan, options: Options,
        claims: Claims | None = None,
    ) -> dict[str, Any]:  # fmt: skip
        """What the key of every file says, but for its input.

        Raises:
            InvalidInput, NotFound: what scoring the rows would raise, before any of them is read.
        """
        if work == "embed":
            return self.kept_key(options) | {"space": self.record.name}
        verdicts = self._scored_nothing(service, plan, options, claims)
        given = sorted((options.params or {}).items())
        params = {name: float(value) for name, value in given if value is not None}
        return (
            self._shared("score", options)
            | {
                "space": self.record.name,
                "epoch": self.epoch,
                "rule": verdicts.rule,
                "params": params,
                "calibration": verdicts.calibration_id,
                "top_k": options.top_k,
                "labels": None if options.labels is None else list(options.labels),
            }
            | _claims_key(verdicts, plan, claims)
        )

    def kept_key(self, options: Options) -> dict[str, Any]:
        """What the key of files of embeddings says, but for their input: no revision and no label
        changes them."""
        return self._shared("embed", options)

    def _shared(self, work: Work, options: Options) -> dict[str, Any]:
        value_range = None if options.image_range is None else list(options.image_range)
        return {
            "work": work,
            "format": _FORMAT,
            "version": __version__,
            "encoders": [self.record.classifier_identity, self.record.verifier_identity],
            "reading": [value_range, options.accept_truncated],
        }

    def _scored_nothing(
        self, service: TrustService, plan: Plan, options: Options, claims: Claims | None
    ) -> Verdicts:
        """The verdicts of no rows: of a call that refuses what it would refuse of any rows."""
        sides = plan.sides or self.encoded
        empty = {side: np.empty((0, self.dims[side])) for side in sides}
        claimed = None if claims is None else list[str | None]()
        queries = Queries(empty.get("classifier"), empty.get("verifier"), claimed=claimed)
        return service.score(self.record.name, queries, **options.of_score)


def _claims_key(verdicts: Verdicts, plan: Plan, claims: Claims | None) -> dict[str, Any]:
    """What the key of every file says of claims; nothing of a call without them."""
    if claims is None:
        return {}
    in_units = any(unit.claims is not None for unit in plan.units)
    return {
        "claimed": "each image" if in_units else claims.key(),
        "claims_calibration": verdicts.claims_calibration_id,
    }


def space_facts(service: TrustService, name: str) -> Space:
    """The space `name` of an open service. Raises NotFound."""
    home = service._ready()
    with home.catalog.read() as connection:
        return Space.of(spaces.find(connection, name), str(home.catalog.epoch(connection)))
