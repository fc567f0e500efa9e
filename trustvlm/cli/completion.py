"""Completion of the command line by a shell: the script for it, and the values that it proposes.

Each press of the Tab key starts `trustvlm` once, so this imports little.
"""

from __future__ import annotations

import os
import re
from pathlib import Path
from urllib.parse import unquote, urlsplit

import click

from trustvlm.system.files.default_home import default_home

_VARIABLE = "_TRUSTVLM_COMPLETE"
_SPECIAL = re.compile(r"[^\w@%+=:,./-]")


@click.command()
@click.argument("shell", type=click.Choice(["bash", "zsh", "fish"]))
@click.pass_context
def completion(ctx: click.Context, shell: str) -> None:
    """Print the script that completes commands in a shell.

    The Tab key then completes commands, options, files, the names of spaces, and rules.
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
    """The spaces of the catalog whose names begin so; none where it cannot be read: a shell that
    completes has no place for messages."""
    given = ctx.find_root().params
    if given.get("url"):
        return []
    home = Path(os.path.expanduser(given.get("home") or default_home()))  # noqa: PTH111
    names = _names(home, given.get("database_url"), beginning)
    return [_typed(name) for name in names if name.isprintable()]


def _names(home: Path, database_url: str | None, beginning: str) -> list[str]:
    """The names of spaces where :class:`trustvlm.settings.Settings`, which is slow to import, finds
    the catalog."""
    from trustvlm.catalog.store.space_names import names_in_file, names_on_server
    from trustvlm.errors import InvalidInput
    from trustvlm.system.files.toml_file import read_toml

    try:
        stored = read_toml(home / "trustvlm.toml")
    except InvalidInput:  # every command says so
        return []
    url = str(database_url or stored.get("database_url", ""))
    if url.startswith("postgres"):
        schema = os.environ.get("TRUSTVLM_DATABASE_SCHEMA") or stored.get("database_schema")
        return names_on_server(url, str(schema or "trustvlm"), beginning)
    file = Path(unquote(urlsplit(url).path[1:])) if url else home / "catalog.sqlite3"
    return names_in_file(file, beginning)


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
