"""What `verify` found: the damage, what was done about it, and what lies in quarantine."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from pydantic import computed_field

from trustvlm.types.codec import Answer, Time

__all__ = ["REMEDIES", "Damage", "QuarantinedRow", "VerifyReport"]

REMEDIES: Mapping[str, str] = {
    "quarantine": "takes it out of service, into quarantine",
    "prototype": "computes the prototype again from the support images",
    "alias": "makes it a label of its own",
    "fit": "drops it; it is computed again",
    "space": "raises the space's revision",
    "epoch": "begins a new one",
    "index": "builds SQLite's indexes again",
    "snapshot": "deletes the file; it is written again",
    "backup": "cannot repair it: restore a backup",
}
"""What `verify --repair` does about damage, by the name of its remedy."""


@dataclass(frozen=True)
class Damage(Answer):
    """One thing that is not as it was written.

    Attributes:
        space, space_id: name and number of the label space, None for the catalog as a whole.
        kind: what is damaged: "catalog", "space", "label", "support", "thumbnail", "observation",
            "calibration", "fit", "change" or "snapshot".
        row_id: its number; None for files and for the catalog. what: the same in words.
        problem: what was expected and what is there.
        remedy: what a repair does: a key of :data:`REMEDIES`.
    """

    space: str | None
    space_id: int | None
    kind: str
    row_id: int | None
    what: str
    problem: str
    remedy: str


@dataclass(frozen=True)
class QuarantinedRow(Answer):
    """A row that a repair took out of service. `name` is a label's, or where a support image came
    from."""

    id: int
    space: str | None
    kind: str
    row_id: int
    name: str | None
    reason: str
    since: Time


@dataclass(frozen=True)
class VerifyReport(Answer):
    """The state of a home.

    Attributes:
        home: its folder. spaces: names of the spaces looked at; removed ones too where all were
            asked for.
        checked: how many rows of each kind, snapshot files and snapshot rows were looked at.
        damage: what is damaged now: after the repair, where one was asked for. Each kind lists so
            many at most;
        more: how many are not listed.
        repaired: what was damaged and is mended, or in quarantine.
        notes: what is no damage but worth knowing, such as a snapshot that is out of date.
        quarantine: the newest rows that lie in quarantine. quarantined: how many there are.
        seconds: how long it took.
    """

    home: str
    spaces: tuple[str, ...]
    checked: Mapping[str, int] = field(default_factory=dict)
    damage: tuple[Damage, ...] = ()
    more: int = 0
    repaired: tuple[Damage, ...] = ()
    notes: tuple[str, ...] = ()
    quarantine: tuple[QuarantinedRow, ...] = ()
    quarantined: int = 0
    seconds: float = 0.0

    @computed_field  # type: ignore[prop-decorator]
    @property
    def clean(self) -> bool:
        """Nothing is damaged (now)."""
        return not self.damage
