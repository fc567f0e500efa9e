"""The catalog's schema: which it is, and bringing it up to date."""

from __future__ import annotations

import click

from trustvlm.cli.printing.safe_text import shown
from trustvlm.cli.session import Session

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
    from trustvlm.catalog import Catalog
    from trustvlm.catalog.store import schema

    click.echo(f"this program: schema {schema.head()}")
    if not session.catalog.is_file():
        click.echo(f"no catalog at {shown(session.home)}")
        return
    click.echo(f"{shown(session.catalog)}: schema {Catalog.schema_of(session.catalog) or 'none'}")
    Catalog(
        session.catalog, read_only=True
    ).close()  # SchemaMismatch says which is older, and what to do
    click.echo("the catalog is current")


@db.command()
@click.option(
    "--no-backup", is_flag=True, help="Do without the backup that is otherwise made first."
)
@click.pass_obj
def upgrade(session: Session, no_backup: bool) -> None:
    """Bring the catalog to this program's schema.

    Before a catalog is changed, it is backed up into the home's folder "backups"; without a backup
    nothing is changed. The upgrade is done wholly or not at all. The home is made when it is
    missing.
    """
    from trustvlm.service.backup.backup import upgrade_home

    done = upgrade_home(session.home, session.catalog, backup=not no_backup)
    if done.before == done.now:
        click.echo(f"{shown(session.catalog)}: schema {done.now} is current")
        return
    if done.backup is not None:
        click.echo(f"backup of schema {done.before}: {shown(done.backup)}")
    click.echo(f"{shown(session.catalog)}: schema {done.before or 'none'} → {done.now}")
