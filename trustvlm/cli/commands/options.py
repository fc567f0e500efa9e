"""Arguments and kinds of options that several commands have."""

from __future__ import annotations

from functools import partial
from pathlib import Path

import click

from trustvlm.cli.printing.safe_text import utf8

__all__ = ["FORMAT", "LABEL", "NAME", "PATHS", "SPACE", "file", "flag", "json_flag", "text"]

FILE = click.Path(path_type=Path)
SPACE, NAME, LABEL = (click.argument(name, type=utf8) for name in ("space", "name", "label"))
PATHS = click.argument("paths", nargs=-1, type=FILE)
FORMAT = click.option(
    "--format",
    "form",
    type=click.Choice(["table", "jsonl", "csv"]),
    default="table",
    help="A table for people, or rows for programs.",
)

text = partial(click.option, type=utf8)
file = partial(click.option, type=FILE)
flag = partial(click.option, is_flag=True)
json_flag = partial(click.option, "--json", "json_", is_flag=True)
