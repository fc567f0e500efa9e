"""Where originals lie: in the home or, where the setting `originals_folder` names one, in a folder
that all machines on a catalog share.

Purges delete files of that folder, so it belongs to one catalog. A hidden file in it holds an id,
which the catalog has, too: a folder that is not mounted, and that of another catalog, is noticed
before anything is written or deleted. The id is the catalog's epoch of the moment when both got it,
so that a call that was killed in between is completed by the next one, and a copy of the catalog,
which has an epoch of its own, does not take the folder for its own.
"""

from __future__ import annotations

import os
import uuid
from dataclasses import dataclass
from pathlib import Path

from sqlalchemy import Connection

from trustvlm.catalog.catalog import Catalog
from trustvlm.catalog.rows import originals
from trustvlm.errors import Conflict, InvalidInput, Unavailable
from trustvlm.system.files.durable import make_folder, sync

IN_HOME = "originals"
"""The folder of originals in a home."""

ID_FILE = ".trustvlm-originals"
_SETTING = "the setting originals_folder"


@dataclass(frozen=True)
class OriginalsPlace:
    """The folders that a home may keep originals in.

    Attributes:
        home: the home. shared: what `originals_folder` says, an absolute path; None: nothing.
    """

    home: Path
    shared: Path | None

    def __post_init__(self) -> None:
        """Raises InvalidInput: commands that run in different folders would mean different ones."""
        if self.shared is not None and not self.shared.is_absolute():
            raise InvalidInput(f"{_SETTING}: expected an absolute path, got {str(self.shared)!r}")

    def folder(self, catalog: Catalog) -> Path | None:
        """Where the catalog's originals lie, or would lie; None where there is no place: the
        catalog is on a server, and no folder is shared."""
        if self.shared is not None:
            return self.shared
        return None if catalog.location.file is None else self.home / IN_HOME

    def prepare(self, catalog: Catalog) -> None:
        """Make sure that originals can be kept; the first time, make the shared folder the
        catalog's own.

        Raises:
            InvalidInput: there is no place. Conflict: the folder belongs to another catalog, or the
                home has originals of its own. Unavailable: the folder is not there, or is not that
                of the catalog.
        """
        if self.folder(catalog) is None:
            raise InvalidInput(
                f"keep_originals: a catalog on a server has no folder for image files; let "
                f"{_SETTING} name one that all machines share, or leave it out and keep the files "
                f"yourself"
            )
        with catalog.read() as connection:
            owned = originals.folder_id(connection) is not None
        if owned or self.shared is None:
            self.check(catalog)
            return
        if any(self.home.joinpath(IN_HOME).glob("[0-9a-f][0-9a-f]/*")):
            raise Conflict(
                f"{self.home / IN_HOME} holds originals of before {_SETTING} was given; move what "
                f"is in it to {self.shared}"
            )
        with catalog.write("originals") as connection:
            catalog.epoch(connection)  # Damaged where it is lost
            if originals.folder_id(connection) is None:
                _claim(connection, self.shared)

    def check(self, catalog: Catalog) -> bool:
        """Whether the catalog may have originals in its folder.

        Raises:
            Unavailable: it has, but that folder is not here.
        """
        with catalog.read() as connection:
            wanted = originals.folder_id(connection)
        if wanted is None:
            return self.shared is None and catalog.location.file is not None
        if self.shared is None:
            raise Unavailable(
                f"the catalog keeps originals in a folder that its machines share; let {_SETTING} "
                f"name it"
            )
        if _read(self.shared) != wanted:
            raise Unavailable(
                f"{self.shared} is not the folder of the catalog's originals, whose file {ID_FILE} "
                f"holds {wanted}: is it mounted, and does {_SETTING} name it?"
            )
        return True


def _claim(connection: Connection, folder: Path) -> None:
    """Make a folder that belongs to no catalog that of this one, in this transaction."""
    epoch = originals.take_folder(connection)
    try:
        make_folder(folder)
        if not os.path.lexists(folder / ID_FILE):
            _write(folder, epoch)
    except OSError as error:
        raise Unavailable(
            f"{folder}: originals cannot be kept there: {error.strerror or error}"
        ) from error
    if (stored := _read(folder)) != epoch:
        raise Conflict(
            f"{folder} belongs to another catalog (its file {ID_FILE} holds {stored}); let "
            f"{_SETTING} name another folder, or delete that file if the folder is a copy"
        )


def _write(folder: Path, epoch: str) -> None:
    """Let the file of the id appear complete, and on the disk."""
    temporary = folder / f"{ID_FILE}.{uuid.uuid4().hex}"
    with temporary.open("x") as file:
        file.write(f"{epoch}\n")
        file.flush()
        os.fsync(file.fileno())
    temporary.rename(folder / ID_FILE)
    sync(folder)


def _read(folder: Path) -> str | None:
    """The id in a folder; None where there is none."""
    try:
        return (folder / ID_FILE).read_text(errors="replace").strip()
    except OSError:
        return None
