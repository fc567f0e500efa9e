"""Index recipes, and the index of a space."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING

import click

from trustvlm.cli.printing.formats import Column, details, row_writer
from trustvlm.cli.printing.safe_text import note, quoted, utf8
from trustvlm.cli.printing.suggested import here
from trustvlm.cli.reading.options import SPACE, Bounded, number, text
from trustvlm.cli.session import Session, pass_local

if TYPE_CHECKING:
    from trustvlm.service.indexes.stats import IndexStats

RECIPES = [
    Column("recipe", "name", "bold"),
    Column("exact", lambda row: "yes" if row["exact"] else "no"),
    Column("bytes per value", "bytes_per_value", right=True, rank=1, form="g"),
    Column("description", "description", narrow="words"),
]
TUNED = [
    Column("index", "kind", "bold"),
    Column("rows", "rows", right=True, rank=3, form=","),
    Column(
        "parameter", lambda row: f"{row['parameter']} = {row['value']}" if row["parameter"] else "–"
    ),
    Column("tuned on", "tuned", right=True, rank=1, form=".3f"),
    Column("proved", lambda row: "{recall:.3f} [{low:.3f}, {high:.3f}]".format(**row), right=True),
    Column("ms a query", "milliseconds", right=True, rank=1, form=".2f"),
    Column("ms exact", "exact_milliseconds", right=True, rank=2, form=".2f"),
]
SUGGESTED = [
    Column("recipe", "recipe", "bold"),
    Column("", lambda row: "take" if row["chosen"] else "now" if row["current"] else ""),
    Column("ms a search", "milliseconds", right=True, rank=1, form=".1f"),
    Column("recall@10", "recall", right=True, form=".3f"),
    Column("MB", "megabytes", right=True, rank=2, form=",.0f"),
    Column("s to build", "build_seconds", right=True, rank=3, form=",.0f"),
    Column("why", "why", narrow="words"),
]


@click.group()
def index() -> None:
    """Show and choose index recipes; show, rebuild and tune indexes.

    An index recipe says how vectors are indexed for search. Indexes are derived: the catalog holds
    the truth.
    """


@index.command("list")
def list_() -> None:
    """List the index recipes; needs no home."""
    from trustvlm.index.recipe import list_recipes

    row_writer("table", RECIPES).write(map(vars, list_recipes()))


@index.command()
@click.argument("recipe", type=utf8)
def show(recipe: str) -> None:
    """Show the index recipe RECIPE; needs no home."""
    from trustvlm.index.recipe import load_recipe

    loaded = load_recipe(recipe)
    tables = ("search", "training", "measured")
    values = {name: value for name, value in vars(loaded).items() if name not in tables}
    for table, keys in loaded.params.items():
        values |= {f"{table} {key}": value for key, value in keys.items()}
    details({name.replace("_", " "): value for name, value in values.items()})


@index.command()
@SPACE
@pass_local
def stats(session: Session, space: str) -> None:
    """Show size and state of SPACE's index."""
    with session.reading() as service:
        _print(service.index_stats(space))


@index.command()
@SPACE
@text("--recipe", metavar="NAME", help="Change to this recipe; see 'trustvlm index list'.")
@pass_local
def rebuild(session: Session, space: str, recipe: str | None) -> None:
    """Build SPACE's index again from the catalog."""
    with session.writing() as service:
        rebuilt = service.rebuild_index(space, recipe=recipe)
    click.echo(f"rebuilt the index of space {quoted(space)}")
    _print(rebuilt)


def _print(stats: IndexStats) -> None:
    values = {name.replace("_", " "): value for name, value in asdict(stats).items()}
    shown = {name: value for name, value in values.items() if value != {}}
    details({name: "none" if value is None else value for name, value in shown.items()})


@index.command()
@SPACE
@number("--recall", default=0.95, help="Share of the nearest rows that a search must find.")
@number("-k", default=10, help="How many of the nearest count.")
@pass_local
def tune(session: Session, /, space: str, recall: float, k: int) -> None:
    """Tune how far SPACE's indexes search, and store the value.

    An index that does not compare every row is built again without 768 of them, which are the
    queries: 512 to tune with, 256 to prove with (the share of the nearest found, with its 95 %
    interval). Exit code 1 where the proof falls short of --recall.
    """
    with session.writing() as service:
        tuned = service.tune_index(space, recall=recall, k=k)
    row_writer("table", TUNED).write(map(vars, tuned))
    if not any(row.parameter for row in tuned):
        click.echo("every search compares all rows: nothing to tune")
    short = [row for row in tuned if not row.reached]
    for row in short:
        proof = f"{row.kind}: recall {row.recall:.3f} on fresh rows is below {recall:g}"
        note(f"{proof}: give a higher --recall, or another recipe")
    if short:
        click.get_current_context().exit(1)


@index.command()
@SPACE
@click.option(
    "--ms",
    "milliseconds",
    type=Bounded("milliseconds"),
    default=25.0,
    help="Milliseconds that a search may take.",
)
@pass_local
def suggest(session: Session, space: str, milliseconds: float) -> None:
    """Show what each recipe would cost in SPACE, and which to take.

    Estimated from what was measured of each recipe ('trustvlm index show'), for searches over
    support images on one core.
    """
    with session.reading() as service:
        suggestions = service.suggest_recipe(space, milliseconds=milliseconds)
    row_writer("table", SUGGESTED).write(map(vars, suggestions))
    chosen = next(row for row in suggestions if row.chosen)
    if chosen.current:
        click.echo(f"keep recipe {chosen.recipe}")
        return
    rebuild = here("index rebuild", space, options=f"--recipe {chosen.recipe}")
    click.echo(f"take recipe {chosen.recipe}: {rebuild}")
    if chosen.recall < 1 and not chosen.exact:
        tune = here("index tune", space, options="--recall 0.95")
        click.echo(f"then measure how much it finds: {tune}")
