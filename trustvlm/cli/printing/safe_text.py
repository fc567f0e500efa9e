"""Text as people see it: counts, quotes, and characters that a terminal must not interpret."""

from __future__ import annotations

import shlex
import sys
from typing import TextIO

import click

from trustvlm.cli.printing.suggested import placed
from trustvlm.types.messages.commands import word
from trustvlm.types.messages.stored_text import printable


def shown(name: object) -> str:
    """A name or path with escapes for what is not printed; two different ones never look alike."""
    return printable(str(name))


def one_line(message: str) -> str:
    """A message with escapes for what is not printed; the names in it are quoted already."""
    return "".join(c if c.isprintable() else printable(c) for c in message)


def cell_text(text: str) -> str:
    """`text` as a cell of a CSV file, which spreadsheets open: no control characters, and nothing
    that they would compute.

    A cell that begins with =, +, - or @ (also after blanks) is a formula to them; an apostrophe in
    front makes it text.
    """
    text = shown(text)
    return (
        f"'{text}"
        if text.lstrip().startswith(("=", "+", "-", "@", "＝", "＋", "－", "＠"))
        else text
    )


def quoted(name: str) -> str:
    """`name` as one word of a shell command, between apostrophes where it needs some."""
    return shlex.quote(name) if name.isprintable() else word(name)


def quiet() -> bool:
    """Whether --quiet was given: no notes, no progress bars."""
    context = click.get_current_context(silent=True)
    return context is not None and bool(context.find_root().params.get("quiet"))


def note(message: str) -> None:
    """A remark that is no part of the result: on stderr; nothing with --quiet."""
    if not quiet():
        warn(message)


def warn(message: str) -> None:
    """A remark on what a person must know: on stderr, also with --quiet."""
    click.echo(one_line(placed(message)), err=True)


def tolerate_any_character(*streams: TextIO) -> None:
    """Escape what a stream's encoding cannot hold instead of failing half-way through the
    output."""
    for stream in streams or (sys.stdout, sys.stderr):
        if (reconfigure := getattr(stream, "reconfigure", None)) is not None:
            reconfigure(errors="backslashreplace")


def utf8(value: str) -> str:
    """The type of text arguments: what can be stored and compared."""
    try:
        value.encode()
    except UnicodeEncodeError as error:
        raise click.BadParameter(f"'{shown(value)}' is not valid UTF-8") from error
    return value
