"""Commands of the terminal that messages suggest: a person copies them, so their names are quoted
as a shell needs it.

A sentence has a command between apostrophes. It names the home where the library was opened on one
that ``trustvlm`` alone would not take (:func:`at`). The command line adds --home or --url as they
were typed, where it prints (:mod:`trustvlm.cli.printing.suggested`); the HTTP service names no
home, since paths of its machine are not for its clients, whose errors name its address
(:func:`placed_in`).
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar

IN_SENTENCE = re.compile(r"(?<=')trustvlm (?=[a-z][^']*')")
"""Where a sentence has a command that names no home and no service."""
ON_HOME = re.compile(
    r"(backup|bulk (score|embed)|db|demo|export|import|index (stats|rebuild|tune|suggest)|key"
    r"|label synonyms|purge|restore|serve|space (repoint|reembed|index-attribute)|start|verify)\b"
)
"""Commands that cannot be sent to a service: they run where its home is."""

_LIVE = frozenset('"$`\\!')
"""Characters that mean something to a shell between double quotes, too."""

PLACE: ContextVar[str] = ContextVar("place", default="")
"""The options that commands have here, see :func:`at`."""


@contextmanager
def at(place: str) -> Iterator[None]:
    """Within the block, commands have these options, which name a home; none where it is empty."""
    token = PLACE.set(place)
    try:
        yield
    finally:
        PLACE.reset(token)


def word(text: str) -> str:
    """`text` as one word of a shell command, between double quotes where it needs some: apostrophes
    stand around the whole command. What is not printed is escaped as bash and zsh read it between
    $'…'."""
    if not text.isprintable():
        return "$'" + "".join(map(_in_dollar_quotes, text)) + "'"
    if shlex.quote(text) == text or _LIVE & set(text):
        return shlex.quote(text)
    return f'"{text}"'


def _in_dollar_quotes(character: str) -> str:
    if character in "\\'":
        return f"\\{character}"
    if character.isprintable():
        return character
    try:
        data = character.encode(errors="surrogateescape")  # a path's byte that is no UTF-8
    except UnicodeEncodeError:
        data = character.encode(errors="surrogatepass")
    return "".join(f"\\x{byte:02x}" for byte in data)


def command(verb: str, *names: object, files: str = "", options: str = "") -> str:
    """A command; `names` are quoted, `files` and `options` stand as they are: placeholders, too."""
    given = " ".join(word(str(name)) for name in names)
    dashed = any(str(name).startswith("-") for name in names)
    words = [options, "--", given, files] if dashed else [given, files, options]
    return " ".join(filter(None, ["trustvlm", _place_of(verb), verb, *words]))


def _place_of(verb: str) -> str:
    """The options that a command beginning with `verb` has here."""
    place = PLACE.get()
    return "--home HOME" if place.startswith("--url ") and ON_HOME.match(verb) else place


def placed_in(message: str) -> str:
    """`message` with the options that commands have here, in those of its commands that have
    none."""
    if not PLACE.get():
        return message
    return IN_SENTENCE.sub(lambda at: f"trustvlm {_place_of(message[at.end() :])} ", message)


def placed_command(text: str) -> str:
    """The command `text`, on a line of its own, with the options that commands have here."""
    return placed_in(f"'{text}'")[1:-1]


def suggested(verb: str, *names: object, files: str = "", options: str = "") -> str:
    """The command of :func:`command` between apostrophes, as a sentence has it."""
    return f"'{command(verb, *names, files=files, options=options)}'"
