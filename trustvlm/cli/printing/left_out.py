"""What a command left out because it could not be read: said on stderr, also with --quiet, and
counted for --strict."""

from __future__ import annotations

import click

from trustvlm.cli.printing.safe_text import note, warn
from trustvlm.reading.images import UNREAD

_COUNT = "trustvlm.left_out"


def count_left_out(number: int = 1) -> None:
    """`number` more images, rows or folders of the running command could not be read."""
    meta = click.get_current_context().meta
    meta[_COUNT] = left_out(click.get_current_context()) + number


def left_out(context: click.Context) -> int:
    """How many inputs of the running command could not be read."""
    number: int = context.meta.get(_COUNT, 0)
    return number


def tell_left_out(line: str) -> None:
    """Say what was left out of a folder. A folder that could not be read counts; files that are no
    images do not."""
    if line.startswith(UNREAD):
        count_left_out()
        warn(line)
    else:
        note(line)
