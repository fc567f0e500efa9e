"""What holds the catalogs of tests: files in homes, or a database of a server."""

from __future__ import annotations

import itertools
import shutil
from pathlib import Path

from numbered import CATALOG
from postgres import Server

from trustvlm.catalog.store.location import FileLocation, parse
from trustvlm.catalog.upkeep.copy_tables import copy_tables


class Files:
    """An SQLite file in each home."""

    name = "sqlite"

    def copied(self, source: Path, target: Path) -> Path:
        """A copy of a home."""
        return Path(shutil.copytree(source, target))


class Database:
    """A database of a PostgreSQL server, for the one catalog that a test has there."""

    name = "postgresql"
    _numbers = itertools.count()

    def __init__(self, server: Server, template: str, copies: dict[Path, str]) -> None:
        """Make the database, as a copy of `template`. `copies`: home → the database that its
        catalog was copied to, kept for the session."""
        self._server, self._copies = server, copies
        self._name = f"test-{next(self._numbers)}"
        self.url = server.create(self._name, template)

    def copied(self, source: Path, target: Path) -> Path:
        """A copy of a home with an SQLite file, whose catalog is from now on in this database."""
        if source not in self._copies:
            name = f"copy-{len(self._copies)}"
            copy_tables(FileLocation(source / CATALOG), parse(self._server.create(name)))
            self._copies[source] = name
        self.drop()
        self._server.create(self._name, self._copies[source])
        ignored = shutil.ignore_patterns(f"{CATALOG}*")
        return Path(shutil.copytree(source, target, ignore=ignored))

    def drop(self) -> None:
        """Delete the database."""
        self._server.drop(self._name)


BackEnd = Files | Database
