"""Index recipes, and the index of a space."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING

import click

from trustvlm.cli.output import Column, details, row_writer
from trustvlm.cli.session import Session
from trustvlm.cli.text import quoted, utf8

if TYPE_CHECKING:
    from trustvlm.service.indexes import IndexStats

__all__ = ["index"]

COLUMNS = [
    Column("recipe", lambda row: row["name"], lambda row: "bold"),
    Column("exact", lambda row: "yes" if row["exact"] else "no"),
    Column("bytes per value", lambda row: f"{row['bytes_per_value']:g}", right=True),
    Column("description", lambda row: row["description"]),
]


@click.group()
def index() -> None:
    """Show index recipes; show and rebuild indexes.

    Indexes are derived: the catalog holds the truth.
    """


@index.command("list")
def list_() -> None:
    """List the index recipes; needs no home."""
    from trustvlm.index.recipe import list_recipes

    row_writer("table", COLUMNS).write(vars(recipe) for recipe in list_recipes())


@index.command()
@click.argument("recipe", type=utf8)
def show(recipe: str) -> None:
    """Show what the index recipe RECIPE says; needs no home."""
    from trustvlm.index.recipe import load_recipe

    found = load_recipe(recipe)
    values = {name: value for name, value in vars(found).items() if name not in ("search", "training", "measured")}
    tables = {f"{table} {key}": value for table, keys in found.params.items() for key, value in keys.items()}
    details({name.replace("_", " "): value for name, value in (values | tables).items()})


@index.command()
@click.argument("space", type=utf8)
@click.pass_obj
def stats(session: Session, space: str) -> None:
    """Show size and state of SPACE's index."""
    with session.reading() as service:
        _print(service.index_stats(space))


@index.command()
@click.argument("space", type=utf8)
@click.option("--recipe", metavar="NAME", type=utf8, help="Change to this recipe; see 'trustvlm index list'.")
@click.pass_obj
def rebuild(session: Session, space: str, recipe: str | None) -> None:
    """Build SPACE's index anew from the catalog."""
    with session.writing() as service:
        found = service.rebuild_index(space, recipe=recipe)
    click.echo(f"rebuilt the index of space {quoted(space)}")
    _print(found)


def _print(stats: IndexStats) -> None:
    details({name.replace("_", " "): "none" if value is None else value for name, value in asdict(stats).items()})
