"""Where a catalog is: in an SQLite file, or in a schema of a PostgreSQL server."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from sqlalchemy.engine import URL, make_url
from sqlalchemy.exc import ArgumentError

from trustvlm.errors import InvalidInput
from trustvlm.system.masking import masked
from trustvlm.types.messages.commands import at, command, word

_EXPECTED = "expected 'postgresql://user@host/database' or 'sqlite:////absolute/path'"
_POSTGRESQL = ("postgresql", "postgresql+psycopg", "postgres")


@dataclass(frozen=True)
class FileLocation:
    """An SQLite file."""

    path: Path

    @property
    def name(self) -> str:
        """How a report names it."""
        return self.path.name

    @property
    def file(self) -> Path | None:
        """The file that it is."""
        return self.path

    @property
    def address(self) -> str:
        """What --database-url takes."""
        return URL.create("sqlite", database=str(self.path)).render_as_string()

    def command(self, verb: str) -> str:
        """A command of the command line on it."""
        with at(f"--home {word(str(self.path.parent))}"):
            return command(verb)

    def __str__(self) -> str:
        return str(self.path)


@dataclass(frozen=True)
class ServerLocation:
    """A schema of a PostgreSQL database. Its text and its repr show no password.

    Attributes:
        url: of the database, with the password if there is one.
        schema: what holds the tables; nothing else may be in it.
        pool: connections that one process opens at most, but for one that looks for commits.
        unsafe: open a server that may lose what it acknowledged when its machine stops.
    """

    url: URL = field(repr=False)
    schema: str = "trustvlm"
    pool: int = 16
    unsafe: bool = False

    @property
    def name(self) -> str:
        """How a report names it."""
        return str(self)

    @property
    def file(self) -> Path | None:
        """None: it is no file."""
        return None

    @property
    def address(self) -> str:
        """What --database-url takes: no password, which stands in ~/.pgpass or PGPASSWORD."""
        url = self.url
        public = URL.create(
            "postgresql", url.username, None, url.host, url.port, url.database, url.query
        )
        return public.render_as_string()

    def command(self, verb: str) -> str:
        """A command of the command line on it, which adds --database-url where that was typed."""
        return command(verb)

    def __str__(self) -> str:
        user = f"{self.url.username}@" if self.url.username else ""
        port = f":{self.url.port}" if self.url.port else ""
        host = self.url.host or self.url.query.get("host") or ""
        return f"postgresql://{user}{host}{port}/{self.url.database} (schema {self.schema})"

    def __repr__(self) -> str:
        return f"ServerLocation({str(self)!r})"


Location = FileLocation | ServerLocation


def location_of(place: Location | Path) -> Location:
    """The location that a path stands for."""
    return FileLocation(place) if isinstance(place, Path) else place


def parse(
    database_url: str, *, schema: str = "trustvlm", pool: int = 16, unsafe: bool = False
) -> Location:
    """The location that a URL names. Messages show at most its scheme: the rest may hold a
    password.

    Raises:
        InvalidInput: it is no URL of a PostgreSQL database or of an SQLite file.
    """
    try:
        url = make_url(database_url)
    except (ArgumentError, ValueError):
        # Without the cause, which shows the URL.
        raise InvalidInput(f"database_url: {_EXPECTED}, got {masked(database_url)!r}") from None
    if url.drivername in _POSTGRESQL:
        return ServerLocation(_with_password_apart(url), schema, pool, unsafe)
    if url.drivername == "sqlite" and url.database and url.database != ":memory:":
        return FileLocation(Path(url.database))
    raise InvalidInput(f"database_url: {_EXPECTED}, got {masked(database_url)!r}")


def _with_password_apart(url: URL) -> URL:
    """The URL for the driver psycopg, its password where SQLAlchemy hides it."""
    if not url.database:
        raise InvalidInput(f"database_url: {_EXPECTED}, got no name of a database")
    if any(character in f"{url.host}{url.database}" for character in "@/ "):
        raise InvalidInput(
            "database_url: its host or database holds one of the characters '@', '/' and blank; "
            "write those of a password as %40, %2F and %20"
        )
    if "sslpassword" in url.query:
        raise InvalidInput("database_url: give sslpassword in a service file (~/.pg_service.conf)")
    password = url.query.get("password")
    if isinstance(password, str):
        url = url.set(password=password).difference_update_query(["password"])
    return url.set(drivername="postgresql+psycopg")
