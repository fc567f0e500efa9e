"""The catalog's schema: which it is, and bringing it up to date."""

from __future__ import annotations

import os

import click

from trustvlm.cli.session import Session
from trustvlm.cli.text import shown
from trustvlm.errors import ReadOnly
from trustvlm.folders import make_folder

__all__ = ["db"]


@click.group()
def db() -> None:
    """Show and upgrade the catalog's schema."""


@db.command()
@click.pass_obj
def current(session: Session) -> None:
    """Show this program's schema and the catalog's.

    Exit code 5 when they differ.
    """
    from trustvlm.catalog import Catalog, schema

    click.echo(f"this program: schema {schema.head()}")
    if not session.catalog.is_file():
        click.echo(f"no catalog at {shown(session.home)}")
        return
    click.echo(f"{shown(session.catalog)}: schema {Catalog.schema_of(session.catalog) or 'none'}")
    Catalog(session.catalog, read_only=True).close()  # SchemaMismatch says which is older, and what to do
    click.echo("the catalog is current")


@db.command()
@click.pass_obj
def upgrade(session: Session) -> None:
    """Bring the catalog to this program's schema.

    The home is made when it is missing.
    """
    from trustvlm.catalog import Catalog, schema

    path = session.catalog
    before = Catalog.schema_of(path, read_only=not os.access(path.parent, os.W_OK)) if path.is_file() else None
    if before == schema.head():
        click.echo(f"{shown(path)}: schema {before} is current")
        return
    try:
        make_folder(path.parent)
    except OSError as error:
        raise ReadOnly(f"{path.parent} cannot be made: {error.strerror}") from error
    Catalog.upgrade(path)
    click.echo(f"{shown(path)}: schema {before or 'none'} → {schema.head()}")
