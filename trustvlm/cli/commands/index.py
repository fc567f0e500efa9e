"""Index recipes, and the index of a space."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING

import click

from trustvlm.cli.printing.formats import Column, details, row_writer
from trustvlm.cli.printing.safe_text import note, quoted, utf8
from trustvlm.cli.reading.bounds import Bounded
from trustvlm.cli.session import Session

if TYPE_CHECKING:
    from trustvlm.service.indexes.stats import IndexStats

__all__ = ["index"]

COLUMNS = [
    Column("recipe", lambda row: row["name"], lambda row: "bold"),
    Column("exact", lambda row: "yes" if row["exact"] else "no"),
    Column("bytes per value", lambda row: f"{row['bytes_per_value']:g}", right=True, rank=1),
    Column("description", lambda row: row["description"], narrow="words"),
]

TUNED = [
    Column("index", lambda row: row["kind"], lambda row: "bold"),
    Column("rows", lambda row: f"{row['rows']:,}", right=True, rank=3),
    Column(
        "parameter", lambda row: f"{row['parameter']} = {row['value']}" if row["parameter"] else "–"
    ),
    Column("tuned on", lambda row: f"{row['tuned']:.3f}", right=True, rank=1),
    Column(
        "proved",
        lambda row: f"{row['recall']:.3f} [{row['low']:.3f}, {row['high']:.3f}]",
        right=True,
    ),
    Column("ms a query", lambda row: f"{row['milliseconds']:.2f}", right=True, rank=1),
    Column("ms exact", lambda row: f"{row['exact_milliseconds']:.2f}", right=True, rank=2),
]

SUGGESTED = [
    Column("recipe", lambda row: row["recipe"], lambda row: "bold"),
    Column("", lambda row: "take" if row["chosen"] else "now" if row["current"] else ""),
    Column("ms a search", lambda row: f"{row['milliseconds']:.1f}", right=True, rank=1),
    Column("recall@10", lambda row: f"{row['recall']:.3f}", right=True),
    Column("MB", lambda row: f"{row['megabytes']:,.0f}", right=True, rank=2),
    Column("s to build", lambda row: f"{row['build_seconds']:,.0f}", right=True, rank=3),
    Column("why", lambda row: row["why"], narrow="words"),
]


@click.group()
def index() -> None:
    """Show and choose index recipes; show, rebuild and tune indexes.

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
    values = {
        name: value
        for name, value in vars(found).items()
        if name not in ("search", "training", "measured")
    }
    tables = {
        f"{table} {key}": value
        for table, keys in found.params.items()
        for key, value in keys.items()
    }
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
@click.option(
    "--recipe", metavar="NAME", type=utf8, help="Change to this recipe; see 'trustvlm index list'."
)
@click.pass_obj
def rebuild(session: Session, space: str, recipe: str | None) -> None:
    """Build SPACE's index anew from the catalog."""
    with session.writing() as service:
        found = service.rebuild_index(space, recipe=recipe)
    click.echo(f"rebuilt the index of space {quoted(space)}")
    _print(found)


@index.command()
@click.argument("space", type=utf8)
@click.option(
    "--recall",
    type=Bounded("recall"),
    default=0.95,
    show_default=True,
    help="Share of the nearest that is to be found.",
)
@click.option(
    "-k", type=Bounded("k"), default=10, show_default=True, help="How many of the nearest count."
)
@click.pass_context
def tune(ctx: click.Context, /, space: str, recall: float, k: int) -> None:
    """Measure how far SPACE's indexes must search, and store that.

    An index that does not compare every row is built again without 768 of them, which are the
    queries: 512 to tune with, 256 to prove with (the share of the nearest found, with its 95 %
    interval). Exit code 1 where the proof falls short of --recall.
    """
    session: Session = ctx.obj
    with session.writing() as service:
        found = service.tune_index(space, recall=recall, k=k)
    row_writer("table", TUNED).write(map(vars, found))
    if not any(row.parameter for row in found):
        click.echo(
            "every row is compared: nothing to tune (recipes with training are exact while an "
            "index is small)"
        )
    short = [row for row in found if not row.reached]
    for row in short:
        note(
            f"{row.kind}: recall {row.recall:.3f} on fresh rows is below {recall:g}: give a "
            f"higher --recall, or another recipe"
        )
    if short:
        ctx.exit(1)


@index.command()
@click.argument("space", type=utf8)
@click.option(
    "--ms",
    "milliseconds",
    type=Bounded("milliseconds"),
    default=25.0,
    show_default=True,
    help="What a search may take.",
)
@click.pass_obj
def suggest(session: Session, space: str, milliseconds: float) -> None:
    """Show what each recipe would cost in SPACE, and which to take.

    Estimated from what was measured of each recipe ('trustvlm index show'), for searches over
    support images on one core.
    """
    with session.reading() as service:
        found = service.suggest_recipe(space, milliseconds=milliseconds)
    row_writer("table", SUGGESTED).write(map(vars, found))
    chosen = next(row for row in found if row.chosen)
    if chosen.current:
        click.echo(f"keep {chosen.recipe}")
        return
    click.echo(
        f"take {chosen.recipe}: trustvlm index rebuild {quoted(space)} --recipe {chosen.recipe}"
    )
    if chosen.recall < 1 and not chosen.exact:
        click.echo(
            f"then measure how much it finds: trustvlm index tune {quoted(space)} --recall 0.95"
        )


def _print(stats: IndexStats) -> None:
    details(
        {
            name.replace("_", " "): "none" if value is None else value
            for name, value in asdict(stats).items()
        }
    )
