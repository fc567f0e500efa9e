"""Calibrations as they are stored: the one in force, the list, and taking one back."""

from __future__ import annotations

from dataclasses import fields
from typing import Any

from sqlalchemy import Connection

from trustvlm.catalog.rows import calibrations, observations
from trustvlm.catalog.rows.calibrations import OBSERVED, CalibrationRecord
from trustvlm.catalog.rows.history import revisions
from trustvlm.catalog.rows.spaces import SpaceRecord
from trustvlm.errors import NotFound
from trustvlm.scoring.rules import RULES
from trustvlm.service.home.home import Home
from trustvlm.service.memory.space_cache import Reading
from trustvlm.types import RuleLeftOut
from trustvlm.types.bounds import identifier
from trustvlm.types.calibration import Calibration
from trustvlm.types.messages.commands import suggested

_OF_ROW = (
    "id", "space", "created_at", "revision", "author", "other_encoders", "stale", "notes",
    "failures",
)  # fmt: skip
_CONTENT = tuple(field.name for field in fields(Calibration) if field.name not in _OF_ROW)


def in_force(
    connection: Connection, space: SpaceRecord, *, claims: bool = False
) -> Calibration | None:
    """The newest calibration of the space that proved a threshold, of predicted labels or, with
    `claims`, of claimed ones; it says whether it is stale, and whether the space has other encoders
    by now."""
    record = calibrations.current(connection, space.id, claims=claims)
    return None if record is None else _loaded(record, space)


def newest(
    connection: Connection, space: SpaceRecord, *, claims: bool = False
) -> Calibration | None:
    """The newest calibration of the space that is about predicted labels or, with `claims`, about
    claimed ones, failed or not."""
    every = calibrations.list_rows(connection, space.id)
    records = [record for record in every if record.claims == claims]
    return _loaded(records[0], space) if records else None


def chosen_rules(
    connection: Connection, space: SpaceRecord, first_image: int, *, claims: bool = False
) -> frozenset[str]:
    """The rules that some of the stored images chose, or parameters of theirs, in any calibration
    that divided its images, failed and removed ones included.

    Args:
        first_image: id of the oldest of the images. A calibration that was made before it was
            stored had other images.
    """
    records = calibrations.list_rows(connection, space.id, removed=True)
    return frozenset(
        record.content["rule"]
        for record in records
        if record.claims == claims
        and record.content.get("procedure", "split") == "split"
        and (record.observed is None or record.observed >= first_image)
    )


def list_calibrations(home: Home, space_name: str) -> list[Calibration]:
    """See :meth:`TrustService.list_calibrations`."""
    with home.read(space_name) as (connection, space):
        return [_loaded(record, space) for record in calibrations.list_rows(connection, space.id)]


def remove_calibration(home: Home, space_name: str, calibration_id: int) -> None:
    """See :meth:`TrustService.remove_calibration`."""
    calibration_id = identifier("calibration", calibration_id)
    with home.write("calibration.remove", space_name) as (connection, space):
        if not calibrations.remove(connection, space.id, calibration_id):
            raise NotFound(
                f"no calibration {calibration_id} of space {space_name!r}: it never existed, or "
                f"it is removed already; "
                f"{suggested('calibration list', space_name)} lists them"
            )


def store(connection: Connection, space: SpaceRecord, calibration: Calibration) -> Calibration:
    """Store a calibration; it comes back with its number and time."""
    values = calibration.to_dict()
    content = {name: values[name] for name in _CONTENT} | {
        OBSERVED: observations.newest_id(connection, space.id)
    }
    record = calibrations.create(
        connection, space.id, calibration.revision, _identities(space), content
    )
    return _loaded(record, space)


def loaded(
    record: CalibrationRecord, space_name: str, *, other_encoders: bool, changed: int
) -> Calibration:
    """A stored calibration as it is handed out.

    Args:
        other_encoders: the space has others by now. changed: the last revision of the space that
            altered what the calibration is about.
    """
    content: dict[str, Any] = record.content | {
        "knots": tuple((float(x), float(y)) for x, y in record.content["knots"]),
        "candidates": tuple(record.content["candidates"]),
        "predicted": tuple(record.content["predicted"]),
        # Older ones have none.
        "left_out": tuple(RuleLeftOut(**one) for one in record.content.get("left_out", ())),
    }
    if (between := content.get("threshold_range")) is not None:
        content["threshold_range"] = (float(between[0]), float(between[1]))
    content.pop(OBSERVED, None)
    # Calibrations of earlier versions did not ask; those that correct labels go on when they are
    # renewed.
    content.setdefault("may_correct", RULES[content["rule"]].relabels)
    return Calibration(
        id=record.id, space=space_name, created_at=record.created_at, revision=record.revision,
        author=record.author, other_encoders=other_encoders,
        stale=other_encoders or record.revision < changed, **content,
    )  # fmt: skip


def stale_since(reading: Reading, calibration: Calibration) -> int:
    """The first revision that a stale calibration does not know: changes that cannot alter what it
    is about, as of attributes, are passed over."""
    effects = ("verdicts", "nodes") if calibration.back_off else ("verdicts",)
    space_id, own = reading.view.space.id, calibration.revision

    def look() -> int:
        first = revisions.first_altering(reading.connection, space_id, own, effects)
        return own + 1 if first is None else first

    since: int = reading.once(f"stale since, claims {calibration.claims}", look)
    return since


def _loaded(record: CalibrationRecord, space: SpaceRecord) -> Calibration:
    made_with = record.classifier_identity, record.verifier_identity
    back_off = record.content.get("back_off", False)
    return loaded(
        record,
        space.name,
        other_encoders=made_with != _identities(space),
        changed=space.nodes_revision if back_off else space.verdicts_revision,
    )


def _identities(space: SpaceRecord) -> tuple[str, str]:
    return space.classifier_identity, space.verifier_identity
