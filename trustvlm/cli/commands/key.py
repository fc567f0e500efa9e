"""Keys of the HTTP service: create, list, rotate, revoke."""

from __future__ import annotations

from dataclasses import asdict
from datetime import timedelta
from typing import TYPE_CHECKING

import click

from trustvlm.cli.printing.formats import Column, Row, format_option, row_writer
from trustvlm.cli.printing.safe_text import quoted, utf8
from trustvlm.cli.reading.bounds import Bounded
from trustvlm.cli.session import Session

if TYPE_CHECKING:
    from trustvlm.service import TrustService
    from trustvlm.service.server.server_home import ServerHome
    from trustvlm.types import KeyRow

__all__ = ["key"]

COLUMNS = [
    Column("id", lambda row: row["id"], lambda row: "bold"),
    Column("scope", lambda row: row["scope"]),
    Column("space", lambda row: row["space"] or "all"),
    Column(
        "state", lambda row: row["state"], lambda row: "" if row["state"] == "valid" else "yellow"
    ),
    Column("last use", lambda row: row["used_at"] or "never", rank=2),
    Column("note", lambda row: row["note"] or "", rank=1, narrow="words"),
]


def _row(key: KeyRow) -> Row:
    times = {
        name: value and value.isoformat(timespec="seconds")
        for name, value in asdict(key).items()
        if name.endswith("_at")
    }
    return asdict(key) | times | {"state": key.state}


def _keys(service: TrustService) -> ServerHome:
    from trustvlm.service.server.server_home import ServerHome

    return ServerHome(service)


@click.group()
def key() -> None:
    """Create, list, rotate and revoke keys of 'trustvlm serve'.

    Of a key only a hash is stored: it is shown once, when it is made.
    """


@key.command()
@click.option(
    "--scope",
    type=click.Choice(["read", "write", "admin"]),
    required=True,
    help="Each may do what those before may.",
)
@click.option("--space", type=utf8, help="The only space that it opens.  [default: all]")
@click.option("--note", type=utf8, help="What it is for.")
@click.option(
    "--rate", type=Bounded("rate"), help="Requests a second.  [default: the setting serve_rate]"
)
@click.option("--days", type=Bounded("days"), help="Days until it expires.  [default: never]")
@click.pass_obj
def create(
    session: Session,
    scope: str,
    space: str | None,
    note: str | None,
    rate: float | None,
    days: float | None,
) -> None:
    """Make a key and show it, this once.

    The key goes to stdout, alone; send it as 'Authorization: Bearer KEY'.
    """
    with session.writing(create=True) as service:
        row, secret = _keys(service).create_key(scope, space=space, note=note, rate=rate, days=days)
    click.echo(
        f"key {row.id}, scope {scope}, "
        f"{f'space {quoted(space)}' if space else 'all spaces'}; it is not shown again:",
        err=True,
    )
    click.echo(secret)


@key.command("list")
@format_option
@click.pass_obj
def list_(session: Session, form: str) -> None:
    """List the keys, without their secrets."""
    with session.reading() as service:
        row_writer(form, COLUMNS).write(_row(row) for row in _keys(service).list_keys())


@key.command()
@click.argument("key_id", type=utf8)
@click.option(
    "--overlap-hours",
    type=Bounded("hours"),
    default=0.0,
    help="How long the old key goes on opening.  [default: 0]",
)
@click.pass_obj
def rotate(session: Session, key_id: str, overlap_hours: float) -> None:
    """Make a key that may do what KEY_ID may, and end that one."""
    with session.writing() as service:
        row, secret = _keys(service).rotate_key(key_id, overlap=timedelta(hours=overlap_hours))
    click.echo(f"key {row.id} takes the place of {key_id}; it is not shown again:", err=True)
    click.echo(secret)


@key.command()
@click.argument("key_id", type=utf8)
@click.pass_obj
def revoke(session: Session, key_id: str) -> None:
    """Make a key worthless; services notice at once."""
    with session.writing() as service:
        changed = _keys(service).revoke_key(key_id)
    click.echo(
        f"revoked key {quoted(key_id)}"
        if changed
        else f"key {quoted(key_id)} was revoked before; nothing changed"
    )
