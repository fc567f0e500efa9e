"""The answer of `verify`: the damage, its repair, and the rows in quarantine."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from pydantic import computed_field

from trustvlm.types.json_form import Answer, Time

REMEDIES: Mapping[str, str] = {
    "quarantine": "takes it out of service, into quarantine",
    "prototype": "computes the prototype again from the support images",
    "alias": "makes it a label of its own",
    "fit": "drops it; it is computed again",
    "tree": "takes the name out of the taxonomy",
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
        kind: "catalog", "space", "label", "support", "thumbnail", "observation", "calibration",
            "fit", "change", "label data", "support data" (attributes), "tree" (the taxonomy) or
            "snapshot".
        row_id: number of the damaged row; None for files and for the catalog.
        what: the damaged thing in words.
        problem: what was expected and what is stored.
        remedy: what a repair does: a key of :data:`REMEDIES`."""

    space: str | None
    space_id: int | None
    kind: str
    row_id: int | None
    what: str
    problem: str
    remedy: str


@dataclass(frozen=True)
class QuarantinedRow(Answer):
    """A row that a repair took out of service. `name` is a label's name or a support image's
    source."""

    id: int
    space: str | None
    kind: str
    row_id: int
    name: str | None
    reason: str
    since: Time


@dataclass(frozen=True, repr=False)
class VerifyReport(Answer):
    """The state of a home.

    Attributes:
        home: its folder.
        spaces: names of the verified spaces; of removed ones too where all were verified.
        checked: number of verified rows of each kind, snapshot files and snapshot rows.
        damage: what is damaged now (after a repair, if one was made), up to a limit for each kind.
        more: how many are not listed.
        repaired: what was damaged and is mended, or in quarantine.
        notes: what is no damage but worth knowing, such as an outdated snapshot.
        quarantine, quarantined: the newest rows in quarantine, and the number of all.
        seconds: how long it took."""

    home: str
    spaces: tuple[str, ...]
    checked: Mapping[str, int] = field(default_factory=dict, hash=False)
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
