"""Text as people see it: counts, quotes, and characters that a terminal must not interpret."""

from __future__ import annotations

import shlex
import sys
from typing import TextIO

import click

from trustvlm.cli.printing.suggested import placed


def shown(text: object) -> str:
    """`text` with control characters and bytes of other encodings escaped, so that it stays on its
    line."""
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in str(text))


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
    """`name` as one word of a shell command."""
    return shown(shlex.quote(name))


def note(message: str) -> None:
    """A remark that is no part of the result: on stderr."""
    click.echo(shown(placed(message)), err=True)


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
