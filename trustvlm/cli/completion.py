"""Completion of the command line by a shell: the script for it, and the values that it proposes.

Each press of the Tab key starts `trustvlm` once, so this imports little.
"""

from __future__ import annotations

import os
import re
import sqlite3
from pathlib import Path

import click

from trustvlm.cli.session import default_home

__all__ = ["completion", "rules", "spaces"]

_VARIABLE = "_TRUSTVLM_COMPLETE"
_SPECIAL = re.compile(r"[^\w@%+=:,./-]")


@click.command()
@click.argument("shell", type=click.Choice(["bash", "zsh", "fish"]))
@click.pass_context
def completion(ctx: click.Context, shell: str) -> None:
    """Print the script that completes commands in a shell.

    The Tab key then completes commands, options, files, the names of spaces in the home, and rules.
    The script stays valid when trustvlm is updated. To set it up for all new shells:

    \b
      bash  trustvlm completion bash >> ~/.bashrc
      zsh   trustvlm completion zsh >> ~/.zshrc      (after the line with compinit)
      fish  trustvlm completion fish > ~/.config/fish/completions/trustvlm.fish
    """
    from click.shell_completion import get_completion_class

    kind = get_completion_class(shell)
    assert kind is not None, shell
    root = ctx.find_root()
    script = kind(root.command, {}, "trustvlm", _VARIABLE).source()
    # Click's script for fish cuts a description at its first comma.
    click.echo(script.replace('string split "," ', 'string split --max 1 "," '))


def spaces(ctx: click.Context, _: click.Parameter, beginning: str) -> list[str]:
    """The spaces of the home whose names begin so; none where no home can be read: a shell that
    completes has no place for messages."""
    from trustvlm.catalog.store.space_names import space_names

    given = ctx.find_root().params
    if given.get("url"):
        return []
    home = Path(given.get("home") or default_home()).expanduser()
    try:
        names = space_names(home / "catalog.sqlite3", beginning)
    except sqlite3.Error:
        return []
    return [_typed(name) for name in names if name.isprintable()]


def rules(_: click.Context, __: click.Parameter, beginning: str) -> list[str]:
    """The rules whose names begin so."""
    from trustvlm.scoring.rules import RULES

    return [name for name in RULES if name.startswith(beginning)]


def _typed(name: str) -> str:
    """`name` as the shell takes it. Bash inserts what it reads as it is, and click's script reads
    one backslash of two; other shells quote by themselves."""
    if os.environ.get(_VARIABLE) != "bash_complete":
        return name
    return _SPECIAL.sub(r"\\\g<0>", name).replace("\\", r"\\")
