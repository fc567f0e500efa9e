"""What the global options say, and opening the home with them."""

from __future__ import annotations

import os
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from trustvlm.service import TrustService

__all__ = ["Session", "default_home", "exactly_one", "on_terminal"]


def default_home() -> Path:
    """$XDG_DATA_HOME/trustvlm, else ~/.local/share/trustvlm."""
    data = os.environ.get("XDG_DATA_HOME", "")
    base = (
        Path(data) if Path(data).is_absolute() else Path.home() / ".local" / "share"
    )  # relative ones are to be ignored
    return base / "trustvlm"


def on_terminal() -> bool:
    """Whether stdin is a terminal, so that a question can be answered."""
    return sys.stdin.isatty()


@dataclass(frozen=True)
class Session:
    """The global options.

    Attributes:
        home: the home directory. home_given: it was asked for, by --home or TRUSTVLM_HOME.
        device, precision: None when not asked for.
    """

    home: Path
    home_given: bool
    device: str | None
    precision: str | None

    @property
    def catalog(self) -> Path:
        """The catalog's file."""
        from trustvlm.settings import catalog_path

        return catalog_path(self.home, None)

    def reading(self) -> TrustService:
        """The home, opened for reading; also on a medium that cannot be written."""
        writable = os.access(self.home, os.W_OK) and os.access(self.catalog, os.W_OK)
        return self._open(read_only=self.catalog.is_file() and not writable)

    def writing(self, *, create: bool = False) -> TrustService:
        """The home, opened for changing it; made when it is missing and `create` says so."""
        return self._open(create=create)

    def _open(self, *, create: bool = False, read_only: bool = False) -> TrustService:
        from trustvlm.settings import open_service

        return open_service(
            self.home,
            create=create,
            read_only=read_only,
            device=self.device,
            precision=self.precision,
        )


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
