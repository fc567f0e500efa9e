"""What a backup holds, and what backing up, restoring, upgrading and scrubbing a home
did; and how far a re-embedding is."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from trustvlm.types.json_form import Answer


@dataclass(frozen=True)
class SpaceFacts(Answer):
    """A live space: its name, its revision, and the numbers of its live labels and support
    images."""

    name: str
    revision: int
    labels: int
    supports: int


@dataclass(frozen=True, repr=False)
class CatalogFacts(Answer):
    """What a catalog is: its schema, its epoch, and its live spaces by name."""

    schema: str
    epoch: str
    spaces: tuple[SpaceFacts, ...]


@dataclass(frozen=True, repr=False)
class Backup(Answer):
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
class Exported(Answer):
    """A space that was exported: its folder, its revision, and its numbers of labels and support
    images."""

    folder: Path
    space: str
    revision: int
    labels: int
    supports: int


@dataclass(frozen=True, repr=False)
class Restored(Answer):
    """A home, or a catalog on a server, that was made of a backup.

    Attributes:
        home: where the home is; for a catalog on a server, that of this machine.
        created_at: when the backup was made.
        catalog: its schema, its new epoch, and its live spaces with revision and counts.
        replaced: where the home that it replaced is now; None where there was none.
        outdated: the schema is older than this program's: 'trustvlm db upgrade' comes next.
        database: where the catalog is, without a password; None: in the home.
        replaced_schema: the schema of the database that holds the catalog that was replaced; None
            where there was none.
        originals: how many original images were restored. originals_left_out: how many of the
            backup were not, since they have no place beside a database.
    """

    home: Path
    created_at: datetime
    catalog: CatalogFacts
    replaced: Path | None
    outdated: bool
    database: str | None = None
    replaced_schema: str | None = None
    originals: int = 0
    originals_left_out: int = 0


@dataclass(frozen=True, repr=False)
class Scrubbed(Answer):
    """What was done so that the files of a database keep nothing of rows that were deleted.

    Attributes:
        bytes_before, bytes_after: the size of the catalog's tables and indexes.
        log_switched: the server began another file of its log.
        remains: what could not be done, and where bytes of deleted rows may still be; a sentence
            each.
    """

    bytes_before: int
    bytes_after: int
    log_switched: bool
    remains: tuple[str, ...]


@dataclass(frozen=True)
class Upgrade(Answer):
    """What an upgrade did: the schema before (None: no catalog), the schema now, and the backup
    made in between, if any."""

    before: str | None
    now: str
    backup: Path | None


@dataclass(frozen=True)
class MissingOriginal(Answer):
    """A support image that cannot be re-embedded: neither its original nor a vector for it is
    available."""

    id: int
    label: str
    source: str | None


@dataclass(frozen=True, repr=False)
class Reembedding(Answer):
    """How far a space is with being re-embedded; see :meth:`TrustService.reembed_space`.

    Attributes:
        space: its name.
        state: "none", "staged" (under way) or "kept" (done; the old embeddings are still stored).
        classifier, verifier: the specs of the new encoders.
        labels, supports: how many have their new embeddings.
        missing: support images without new embeddings; after the cut-over, those left behind.
        missing_labels: labels whose text is a vector of the old classifier, without a vector of
            the new one.
        behind: whether the space was changed since the new embeddings were brought up to date.
        calibrations: how many were copied, all of them stale.
        observations, observations_left: number of images of known label that were carried over,
            and that stay with the old embeddings.
        cut_over_s: seconds for which the cut-over locked the catalog; None before it."""

    space: str
    state: str
    classifier: str
    verifier: str
    labels: int = 0
    supports: int = 0
    missing: tuple[MissingOriginal, ...] = ()
    missing_labels: tuple[str, ...] = ()
    behind: bool = False
    calibrations: int = 0
    observations: int = 0
    observations_left: int = 0
    cut_over_s: float | None = None
