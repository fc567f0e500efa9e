"""Arguments and kinds of options that several commands have."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any, TypeVar

import click

from trustvlm.cli.completion import spaces
from trustvlm.cli.printing.safe_text import utf8
from trustvlm.cli.reading.bounds import Bounded, Choice
from trustvlm.cli.reading.paths import FILE

F = TypeVar("F", bound=Callable[..., Any])

SPACE = click.argument("space", type=utf8, shell_complete=spaces)
SPACE_NAME = click.argument("name", type=utf8, shell_complete=spaces)
NAME, LABEL = (click.argument(name, type=utf8) for name in ("name", "label"))
PATHS = click.argument("paths", nargs=-1, type=FILE)
FORMAT = click.option(
    "--format",
    "form",
    type=Choice(["table", "jsonl", "csv"]),
    default="table",
    help="A table for people, or rows for programs.",
)

text = partial(click.option, type=utf8)
file = partial(click.option, type=FILE)
flag = partial(click.option, is_flag=True)


def number(option: str, *, bounds: str = "", **settings: Any) -> Callable[[F], F]:
    """An option within the bounds of that name in :mod:`trustvlm.types.bounds`."""
    name = bounds or option.lstrip("-").replace("-", "_")
    return click.option(option, type=Bounded(name), **settings)


where = partial(
    click.option,
    "--where",
    metavar="FILTER",
    type=utf8,
    help="Only what has attributes that fit: 'region = \"EU\" and size >= 3'.",
)
VECTORS = click.option(
    "--vectors", is_flag=True, help="With the embeddings, in --format jsonl or csv."
)
json_flag = partial(click.option, "--json", "json_", is_flag=True)
