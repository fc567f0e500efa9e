"""The home as a whole: backup, restore, export, import, schema, verification."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from trustvlm.cli.completion import spaces
from trustvlm.cli.printing.formats import Column, as_json, row_writer
from trustvlm.cli.printing.progress import Bar, progress_bar
from trustvlm.cli.printing.safe_text import note, one_line, quoted, shown, utf8, warn
from trustvlm.cli.printing.suggested import here, placed
from trustvlm.cli.reading.options import FILE, SPACE, flag, json_flag, text
from trustvlm.cli.session import Session, exactly_one, pass_local
from trustvlm.errors import FOUND_DAMAGE, Damaged, SchemaMismatch, Unavailable
from trustvlm.types.messages.commands import word
from trustvlm.types.messages.counts import count

if TYPE_CHECKING:
    from trustvlm.service.backup.archive import Manifest
    from trustvlm.types.backups import CatalogFacts, Restored
    from trustvlm.types.verification import VerifyReport

_SHOWN = 50

SPACES = [
    Column("space", "name", "bold"),
    Column("labels", "labels", right=True, form=","),
    Column("support images", "supports", right=True, form=","),
    Column("revision", "revision", right=True, rank=1),
]
DAMAGE = [
    Column("space", "space"),
    Column("what", "what", "bold"),
    Column("problem", lambda row: placed(row["problem"]), narrow="words"),
    Column("--repair", "does", narrow="words"),
]
FACTS = [
    Column("what", "what", "bold"),
    Column("value", "value"),
    Column("state", "state"),
    Column("advice", "advice", narrow="words"),
]
QUARANTINE = [
    Column("since", "since", rank=1, form="%Y-%m-%d %H:%M"),
    Column("space", "space"),
    Column("row", lambda row: f"{row['kind']} {row['row_id']}", "bold"),
    Column("name", "name"),
    Column("reason", "reason", narrow="words"),
]


@click.command()
@click.argument("file", type=FILE)
@flag("--force", help="Replace FILE when it is there.")
@pass_local
def backup(session: Session, file: Path, force: bool) -> None:
    """Write the home, as it is at one moment, to FILE.

    Others may go on working. FILE is one archive, checked when it is read; 'trustvlm restore' makes
    a home of it. What is purged later stays in it.
    """
    with session.reading() as service, _progress("bytes backed up") as progress:
        made = service.backup(file, force=force, progress=progress)
    originals = count(made.originals, "original")
    click.echo(f"backed up schema {made.catalog.schema}, {originals}: {shown(made.path)}")
    _print_spaces(made.catalog)


@click.command()
@click.argument("file", type=FILE)
@text(
    "--to",
    metavar="HOME|URL",
    help="The home to make, or postgresql://user@host/database.  [default: that of --home or "
    "--database-url]",
)
@flag(
    "--replace",
    help="Replace the existing home or catalog; the old home is kept beside it as HOME.aside-TIME, "
    "the old catalog of a database in the schema SCHEMA_aside_TIME.",
)
@flag("--check", help="Only check FILE and say what is in it.")
@pass_local
def restore(session: Session, file: Path, to: str | None, replace: bool, check: bool) -> None:
    """Make a home, or the catalog of a database, of the backup FILE.

    All of FILE is checked before anything is written: one that was cut off or altered is refused.
    Stop everything that uses a home or a catalog before you replace it.
    """
    from trustvlm.restoring import restore_to
    from trustvlm.service.backup.restore import check_backup

    with progress_bar(file.stat().st_size if file.is_file() else 0, "bytes checked") as bar:
        if not check:
            home, location = session.place_of("--to", to)
            done = restore_to(file, home, location, replace=replace, progress=bar.advance)
        else:
            manifest = check_backup(file, progress=bar.advance)
    _print_checked(manifest) if check else _print_restored(done)


def _print_checked(manifest: Manifest) -> None:
    made = f"{manifest.created_at:%Y-%m-%d %H:%M} UTC"
    click.echo(f"sound: a backup of {made}, schema {manifest.schema}")
    _print_spaces(manifest.catalog)


def _print_restored(done: Restored) -> None:
    made = f"{done.created_at:%Y-%m-%d %H:%M} UTC"
    click.echo(f"restored the backup of {made}: {shown(done.database or done.home)}")
    _print_spaces(done.catalog)
    if done.originals_left_out:
        left = count(done.originals_left_out, "original")
        where = "the folder that originals_folder names (docs/scale-out.md)"
        warn(f"not restored: {left}; unpack 'originals/' of FILE into {where}")
    if done.replaced_schema is not None:
        replaced = f"the catalog that was there is now in the schema {done.replaced_schema}"
        click.echo(f"{replaced}; drop it when nothing in it is missed")
    if done.replaced is not None:
        replaced = f"the home that was there is now {shown(done.replaced)}"
        click.echo(f"{replaced}; delete it when nothing in it is missed")
    if done.outdated:
        upgrade = f"trustvlm --home {word(str(done.home))} db upgrade"
        click.echo(f"its schema {done.catalog.schema} is older: {upgrade}")


def _print_spaces(catalog: CatalogFacts) -> None:
    row_writer("table", SPACES).write(map(vars, catalog.spaces))


@click.command()
@SPACE
@click.argument("folder", type=FILE)
@pass_local
def export(session: Session, space: str, folder: Path) -> None:
    """Write SPACE as Parquet files into the new folder FOLDER.

    Labels, support images with their embeddings and thumbnails, and a manifest: for pandas, DuckDB
    and the like, and for 'trustvlm import'. What was removed, calibrations, feedback and the review
    queue are not exported: 'trustvlm backup' has all of them.
    """
    with (
        session.reading() as service,
        progress_bar(service.get_space(space).label_count, "labels") as bar,
    ):
        done = service.export_space(space, folder, progress=bar.advance)
    what = f"{count(done.labels, 'label')}, {count(done.supports, 'support image')}"
    name = f"space {quoted(done.space)} at revision {done.revision}"
    click.echo(f"exported {name}, {what}: {shown(done.folder)}")
    note(
        "not in it: what was removed, calibrations, feedback and the review queue "
        "('trustvlm backup FILE' writes the home with all of these)"
    )


@click.command("import")
@click.argument("folder", type=FILE)
@text("--as", "name", metavar="NAME", help="Name of the space.  [default: the exported name]")
@pass_local
def import_(session: Session, folder: Path, name: str | None) -> None:
    """Make a space of the FOLDER that 'trustvlm export' wrote.

    The space is imported completely or not at all. It is pinned to the same encoders. Creates the
    home if it does not exist.
    """
    total = _label_count(folder)
    with session.writing(create=True) as service, progress_bar(total, "labels") as bar:
        row = service.import_space(folder, name=name, progress=bar.advance)
    what = f"{count(row.label_count, 'label')}, {count(row.support_count, 'support image')}"
    click.echo(f"imported space {quoted(row.name)}: {what}")


def _label_count(folder: Path) -> int:
    """How many labels there will be, for the bar only."""
    try:
        manifest = json.loads((folder / "manifest.json").read_text())
        return int(manifest["files"]["labels.parquet"]["rows"])
    except (OSError, ValueError, KeyError, TypeError, RecursionError):
        return 0


@click.group()
def db() -> None:
    """Create, copy, check and upgrade the database with all data."""


@db.command()
@pass_local
def current(session: Session) -> None:
    """Show this program's schema and the catalog's.

    Exit code 5 when they differ.
    """
    from trustvlm.catalog.catalog import Catalog
    from trustvlm.catalog.store import schema

    click.echo(f"this program: schema {schema.head()}")
    if not session.has_catalog():
        click.echo(f"no catalog at {shown(session.home)}")
        return
    location = session.location
    click.echo(f"{shown(location)}: schema {Catalog.schema_of(location) or 'none'}")
    # SchemaMismatch says which is older, and what to do.
    Catalog(location, read_only=True).close()
    click.echo("the catalog is current")


@db.command()
@pass_local
def create(session: Session) -> None:
    """Make an empty catalog, in the home or where --database-url says.

    One that is there stays as it is.
    """
    from trustvlm.catalog.catalog import Catalog

    existed = session.has_catalog() and Catalog.schema_of(session.location, read_only=False)
    with session.writing(create=True):
        result = "the catalog was there, and is current" if existed else "made an empty catalog"
        click.echo(f"{shown(session.location)}: {result}")


@db.command()
@pass_local
def doctor(session: Session) -> None:
    """Say whether the server of --database-url is fit for a catalog.

    Exit code 5 when it is not. A catalog in a file has no server.
    """
    from trustvlm.catalog.store.location import ServerLocation

    location = session.location
    if not isinstance(location, ServerLocation):
        click.echo(f"{shown(location)} is a file: 'trustvlm verify --all' checks it")
        return
    from trustvlm.catalog.store.backends.server_check import check_server

    facts = check_server(location)
    _print_rows(FACTS, map(vars, facts))
    if any(fact.state == "bad" for fact in facts):
        raise Unavailable(f"{location} is not fit to hold a catalog: see what is bad above")


@db.command("new-epoch")
@pass_local
def new_epoch(session: Session) -> None:
    """Begin a new history of a catalog that was put back in time.

    A database that was put back (point-in-time recovery, copied files) goes through the same
    revisions again, with other rows. Stop all services first. Afterwards every cache and snapshot
    from before is void, and is made again. 'trustvlm restore' and 'db copy' do this themselves.
    """
    from trustvlm.catalog.catalog import Catalog

    with closing(Catalog(session.location)) as catalog:
        epoch = catalog.begin_history()
    click.echo(f"{shown(session.location)}: epoch {epoch}; snapshots from before are void")


@db.command("copy")
@click.argument("source", type=utf8, metavar="FROM")
@click.argument("target", type=utf8, metavar="TO")
@pass_local
def copy(session: Session, source: str, target: str) -> None:
    """Copy a catalog to another home or database.

    FROM and TO are homes, or postgresql://user@host/database. FROM is copied as it is at one
    moment, with its ids and revisions; others may go on working. TO must hold no catalog; it
    appears complete or not at all. Originals that a home keeps, and what is derived, are not
    copied.
    """
    from trustvlm.catalog.upkeep.copy_tables import copy_tables

    places = (session.location_of("FROM", source), session.location_of("TO", target))
    with _progress("rows copied") as progress:
        rows = copy_tables(*places, progress)
    click.echo(f"copied {count(rows, 'row')}: {shown(places[1])}")


@db.command()
@flag("--no-backup", help="Do without the backup that is otherwise made first.")
@pass_local
def upgrade(session: Session, no_backup: bool) -> None:
    """Bring the catalog to this program's schema.

    Before the catalog is changed, it is backed up into the home's folder "backups"; without a
    backup nothing is changed. The upgrade is done completely or not at all. Creates the catalog if
    it does not exist.
    """
    from trustvlm.service.backup.backup import upgrade_home

    location = session.location
    done = upgrade_home(session.home, location, backup=not no_backup)
    if done.before == done.now:
        click.echo(f"{shown(location)}: schema {done.now} is current")
        return
    if done.backup is not None:
        click.echo(f"backup of schema {done.before}: {shown(done.backup)}")
    click.echo(f"{shown(location)}: schema {done.before or 'none'} → {done.now}")


@click.command()
@click.argument("space", type=utf8, required=False, shell_complete=spaces)
@flag("--all", "everything", help="The whole home, removed spaces too.")
@flag("--repair", help="Build again what is derived, put what is damaged into quarantine.")
@json_flag(help="Print the report as JSON.")
@pass_local
def verify(
    session: Session, space: str | None, everything: bool, repair: bool, json_: bool
) -> None:
    """Check every row and snapshot of SPACE, or of the whole home.

    Exit code 6 if anything is damaged (with --repair: if any damage remains). A repair deletes
    nothing: what it takes out of service lies in quarantine, where it is listed, until 'trustvlm
    purge'.
    """
    exactly_one(SPACE=space, all=everything or None)
    report = _report(session, space, repair)
    click.echo(as_json(report.to_dict(), indent=2)) if json_ else _print_report(report, repair)
    if not report.clean:
        click.get_current_context().exit(FOUND_DAMAGE)


def _report(session: Session, space: str | None, repair: bool) -> VerifyReport:
    """The report; of a catalog that cannot be opened, what keeps it from that."""
    from trustvlm.catalog.catalog import Catalog
    from trustvlm.service.verify.verbs import unopened

    opened = session.writing if repair else session.reading
    try:
        with opened() as service, _progress("rows") as progress:
            return service.verify(space, repair=repair, progress=progress)
    except Damaged as error:
        problem = str(error)
    except SchemaMismatch:
        if Catalog.schema_of(session.location) is not None:
            raise
        problem = "it holds no tables: it is empty, or cut short to nothing"
    return unopened(session.home, session.location.name, problem)


@contextmanager
def _progress(what: str) -> Iterator[Callable[[int, int], None]]:
    """Shows (done, in all) as a bar, which begins when the total is known; the total may grow."""
    with ExitStack() as stack:
        bar: Bar | None = None
        size = before = 0

        def progress(done: int, total: int) -> None:
            nonlocal bar, size, before
            if bar is None:
                size, bar = total, stack.enter_context(progress_bar(total, what))
            scaled = size * done // max(total, 1)
            bar.advance(scaled - before)
            before = scaled

        yield progress


def _print_report(report: VerifyReport, repair: bool) -> None:
    from trustvlm.types.verification import REMEDIES

    checked = ", ".join(count(number, kind) for kind, number in sorted(report.checked.items()))
    nothing = "no spaces" if report.clean else "nothing could be read"
    click.echo(f"checked {shown(report.home)}: {checked or nothing}")
    for remark in report.notes:
        click.echo(f"note: {one_line(placed(remark))}")
    if report.repaired:
        click.echo(f"\nmended or put into quarantine: {count(len(report.repaired), 'thing')}")
        _print_rows(DAMAGE[:3], map(vars, report.repaired))
    if report.quarantined:
        rows = count(report.quarantined, "row")
        click.echo(f"\nin quarantine: {rows} ('{here('purge')}' deletes)")
        _print_rows(QUARANTINE, map(vars, report.quarantine))
    if report.clean:
        click.echo("\nno damage")
        return
    things = count(len(report.damage) + report.more, "thing")
    click.echo(f"\n{'damaged still' if repair else 'damaged'}: {things}")
    _print_rows(DAMAGE, (vars(row) | {"does": REMEDIES[row.remedy]} for row in report.damage))
    if not repair and any(row.remedy != "backup" for row in report.damage):
        names = report.spaces if len(report.spaces) == 1 else ()
        mend = here("verify", *names, options="--repair" if names else "--all --repair")
        click.echo(f"to mend what can be: {mend}")


def _print_rows(columns: list[Column], rows: Iterator[dict[str, Any]]) -> None:
    listed = list(rows)
    row_writer("table", columns).write(listed[:_SHOWN])
    if len(listed) > _SHOWN:
        click.echo(f"… and {len(listed) - _SHOWN} more (--json lists them)")
