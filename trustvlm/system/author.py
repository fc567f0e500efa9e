"""Who makes a change: a name that the catalog stores beside it.

The HTTP service names the key of each request, the command line the user of the machine. A name of
the context (a request, a thread) goes before that of the open home.
"""

from __future__ import annotations

from contextvars import ContextVar

from trustvlm.errors import InvalidInput

_LONGEST = 200  # characters of a name

_AUTHOR: ContextVar[str | None] = ContextVar("trustvlm_author", default=None)


def current_author() -> str | None:
    """The author of the changes that this context makes; None: the context names none."""
    return _AUTHOR.get()


def set_author(name: str | None) -> None:
    """Name the author of the changes that this context makes from now on."""
    _AUTHOR.set(name)


def check_author(name: object) -> None:
    """Raises InvalidInput: no name that can be stored."""
    if name is None:
        return
    if not isinstance(name, str) or not 0 < len(name) <= _LONGEST or not name.isprintable():
        raise InvalidInput(
            f"author: expected 1 to {_LONGEST} printable characters, got {name!r:.80}"
        )
