"""What the global options say, and opening the home, or a client of a service, with them."""

from __future__ import annotations

import functools
import getpass
import os
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar, cast

import click

from trustvlm.system.files.default_home import expanded
from trustvlm.system.masking import has_password

if TYPE_CHECKING:
    from trustvlm.catalog.store.location import Location
    from trustvlm.service import TrustService

F = TypeVar("F", bound=Callable[..., Any])


def on_terminal() -> bool:
    """Whether stdin is a terminal, so that a question can be answered."""
    return sys.stdin.isatty()


@dataclass(frozen=True)
class Session:
    """The global options.

    Attributes:
        home: the home directory. home_given: it was asked for, by --home or TRUSTVLM_HOME.
        database_url: where the catalog is, if not in the home and not as settings say.
        url: the running service that commands are sent to, instead of opening the home.
        device, precision: None when not asked for.
        typed: those of --home, --database-url and --url that stand on the command line, with their
            values. What the environment or the default says holds for the next command, too.
    """

    home: Path
    home_given: bool
    database_url: str | None
    url: str | None
    device: str | None
    precision: str | None
    typed: tuple[tuple[str, str], ...] = ()

    @property
    def location(self) -> Location:
        """Where the catalog is."""
        from trustvlm.settings import Settings

        return Settings.of(self.home, database_url=self.database_url).location(self.home)

    def location_of(self, argument: str, place: str) -> Location:
        """Where the catalog of another home, or of a URL, is. Raises click.UsageError for an empty
        place, and a URL with a password."""
        if not place:
            raise click.UsageError(f"{argument}: expected a home or a URL, got an empty one.")
        from trustvlm.settings import CATALOG_NAME, Settings

        if "://" not in place:
            from trustvlm.catalog.store.location import FileLocation

            return FileLocation(expanded(Path(place)) / CATALOG_NAME)
        refuse_password(argument, place)
        return Settings.of(self.home, database_url=place).location(self.home)

    def place_of(self, argument: str, place: str | None) -> tuple[Path, Location]:
        """The home that a verb works in, and where its catalog is; those of this session where no
        `place`, another home or a URL, is given. Raises click.UsageError as
        :meth:`location_of`."""
        if place is None:
            return self.home, self.location
        location = self.location_of(argument, place)
        return (location.file.parent if location.file else self.home), location

    def has_catalog(self) -> bool:
        """Whether there is a catalog; of a server, it is taken for granted."""
        file = self.location.file
        return file is None or file.is_file()

    def is_read_only(self) -> bool:
        """Whether the catalog is a file that cannot be written."""
        file = self.location.file
        if file is None or not file.is_file():
            return False
        return not (os.access(self.home, os.W_OK) and os.access(file, os.W_OK))

    def reading(self) -> TrustService:
        """The home, opened for reading, also on a medium that cannot be written; or the service at
        --url."""
        if self.url is not None:
            return self._remote(self.url)
        return self._open(read_only=self.is_read_only())

    def writing(self, *, create: bool = False) -> TrustService:
        """The home, opened for changing it, made when it is missing and `create` says so; or the
        service at --url."""
        if self.url is not None:
            return self._remote(self.url)
        return self._open(create=create)

    def stored_names(self, paths: Sequence[str]) -> list[str]:
        """What image files are stored by: in a home by path, in a service by name, as folders of
        this machine are not for others."""
        return list(paths) if self.url is None else [Path(path).name for path in paths]

    def _remote(self, url: str) -> TrustService:
        from trustvlm.cli.remote import Remote

        return cast("TrustService", Remote(url))  # it has the verbs that commands use

    def _open(self, *, create: bool = False, read_only: bool = False) -> TrustService:
        from trustvlm.settings import open_service

        service = open_service(
            self.home,
            create=create,
            read_only=read_only,
            database_url=self.database_url,
            device=self.device,
            precision=self.precision,
            author=None if read_only else _user(),
        )
        service.place = ""  # what prints adds the options as they were typed
        return service


def _user() -> str | None:
    """The name of the user of this machine, or the number of one without a name."""
    try:
        return getpass.getuser()[:200] or None
    except (KeyError, OSError):  # a container may run under a number without a name
        return f"uid {os.geteuid()}"


def refuse_password(argument: str, address: str) -> None:
    """Raises click.UsageError for an address of a database, on the command line, with a
    password."""
    if has_password(address):
        raise click.UsageError(
            f"{argument}: expected no password, because every user of this machine sees what "
            f"stands on a command line. Write it into ~/.pgpass, or set PGPASSWORD."
        )


def works_on_home(command: click.Command) -> bool:
    """Whether the command cannot be sent to a service."""
    return hasattr(command.callback, "works_on_home")


def pass_local(command: F) -> F:
    """Like click.pass_obj, for a command that cannot be sent to a service: with --url it ends with
    click.UsageError."""

    @click.pass_context
    @functools.wraps(command)
    def run(context: click.Context, /, *args: Any, **options: Any) -> Any:
        session: Session = context.obj
        if session.url is not None:
            raise click.UsageError(
                f"'{context.command_path}' works on the home itself: run it where the home is, "
                f"with --home in place of --url (TRUSTVLM_URL)."
            )
        return context.invoke(command, session, *args, **options)

    vars(run)["works_on_home"] = True  # wrappers around it inherit this
    return cast("F", run)


def exactly_one(**given: object) -> str:
    """The name of the one option that was given.

    Raises:
        click.UsageError: none or several were.
    """
    present = [name for name, value in given.items() if value not in (None, ())]
    if len(present) == 1:
        return present[0]
    names = [name if name.isupper() else f"--{name}" for name in given]
    what = f"{', '.join(names[:-1])} or {names[-1]}"
    got = " and ".join(name if name.isupper() else f"--{name}" for name in present)
    none = "neither" if len(names) == 2 else "none of them"
    raise click.UsageError(f"Expected {what}; got {f'{got} together' if got else none}.")
