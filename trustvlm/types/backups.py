"""What a backup holds, and what backing up, restoring and upgrading a home did."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

__all__ = ["Backup", "CatalogFacts", "Exported", "Restored", "SpaceFacts", "Upgrade"]


@dataclass(frozen=True)
class SpaceFacts:
    """A live space: its name, its revision, and the numbers of its live labels and support
    images."""

    name: str
    revision: int
    labels: int
    supports: int


@dataclass(frozen=True)
class CatalogFacts:
    """What a catalog is: its schema, its epoch, and its live spaces by name."""

    schema: str
    epoch: str
    spaces: tuple[SpaceFacts, ...]


@dataclass(frozen=True)
class Backup:
    """A backup that was written.

    Attributes:
        path: the archive. size: its bytes. created_at: when it was finished.
        catalog: schema, epoch and live spaces (with revision and counts) of the catalog in it.
        originals: how many original images it holds.
    """

    path: Path
    size: int
    created_at: datetime
    catalog: CatalogFacts
    originals: int


@dataclass(frozen=True)
class Exported:
    """A space that was exported: its folder, its revision, and its numbers of labels and support
    images."""

    folder: Path
    space: str
    revision: int
    labels: int
    supports: int


@dataclass(frozen=True)
class Restored:
    """A home that was made of a backup.

    Attributes:
        home: where it is. created_at: when the backup was made.
        catalog: its schema, its new epoch, and its live spaces with revision and counts.
        replaced: where the home that it replaced is now; None where there was none.
        outdated: the schema is older than this program's: 'trustvlm db upgrade' comes next.
    """

    home: Path
    created_at: datetime
    catalog: CatalogFacts
    replaced: Path | None
    outdated: bool


@dataclass(frozen=True)
class Upgrade:
    """What an upgrade did: the schema before (None: no catalog), the schema now, and the backup
    made in between, if any."""

    before: str | None
    now: str
    backup: Path | None
