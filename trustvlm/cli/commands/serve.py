"""The HTTP service, its keys, and the offline demo."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import asdict
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from trustvlm.cli.completion import spaces
from trustvlm.cli.printing.formats import Column, Row, row_writer
from trustvlm.cli.printing.safe_text import quoted, utf8
from trustvlm.cli.reading.options import FORMAT, Choice, flag, number, text
from trustvlm.cli.session import Session, pass_local

if TYPE_CHECKING:
    from trustvlm.service import TrustService
    from trustvlm.service.server.server_home import ServerHome
    from trustvlm.types import KeyRow

KEYS = [
    Column("id", "id", "bold"),
    Column("scope", "scope"),
    Column("space", lambda row: row["space"] or "all"),
    Column("state", "state", lambda row: "" if row["state"] == "valid" else "yellow"),
    Column("last use", lambda row: row["used_at"] or "never", rank=2),
    Column("note", "note", rank=1, narrow="words"),
]


@click.command()
@click.option(
    "--host", default="127.0.0.1", help="Where to listen. Beyond this machine, keys are needed."
)
@click.option("--port", default=8000, type=click.IntRange(0, 65535), help="0: any free one.")
@click.option("--workers", default=1, type=click.IntRange(1, 64), help="Server processes.")
@flag("--require-key", help="Ask for a key on this machine, too.")
@click.option(
    "--root-path",
    metavar="PATH",
    help="Path under which a proxy serves the page and the API, such as /trust.  [default: /]",
)
@pass_local
def serve(
    session: Session, host: str, port: int, workers: int, require_key: bool, root_path: str | None
) -> None:
    """Serve the home over HTTP, with a page for people at /.

    Keys come from 'trustvlm key create'; none is needed where only this machine can reach the
    service. Logs are JSON lines on stderr. SIGTERM or Ctrl-C finishes the accepted requests, then
    ends; jobs are interrupted. Creates the home if it does not exist.
    """
    from trustvlm.http.run import run_service

    # The signal ends the wait; the server has finished what it accepted, which is its success.
    with suppress(KeyboardInterrupt):
        where = (session.home, host, port, workers, require_key)
        run_service(
            *where,
            session.device,
            session.precision,
            echo=click.echo,
            database_url=session.database_url,
            root_path=root_path,
        )


@click.command()
@pass_local
def demo(session: Session) -> None:
    """Run the offline demo on handwritten digits.

    Two small models, ten labels registered one at a time, trust and its evidence. It leaves a home
    to try the other commands on: ./demo-home, or the one that --home names.
    """
    from trustvlm.demo.run import run_demo

    home = session.home if session.home_given else Path("demo-home")
    run_demo(home, echo=click.echo, device=session.device, precision=session.precision)


@click.group()
def key() -> None:
    """Create, list, rotate and revoke keys of 'trustvlm serve'.

    Only a hash of a key is stored: the key is shown once, when it is made.
    """


def _keys(service: TrustService) -> ServerHome:
    from trustvlm.service.server.server_home import ServerHome

    return ServerHome(service)


@key.command()
@click.option(
    "--scope",
    type=Choice(["read", "write", "admin"]),
    required=True,
    help="read; write: also change labels, calibrate and give feedback; admin: also make and "
    "remove spaces. Each includes those before it.",
)
@text(
    "--space",
    metavar="NAME",
    shell_complete=spaces,
    help="The only space that the key opens.  [default: all]",
)
@text("--note", metavar="TEXT", help="What it is for.")
@number("--rate", help="Requests a second.  [default: the setting serve_rate]")
@number("--days", help="Days until it expires.  [default: never]")
@pass_local
def create(session: Session, /, scope: str, space: str | None, **options: Any) -> None:
    """Make a key and show it.

    It is not shown again. The key goes to stdout, alone; send it as 'Authorization: Bearer KEY'.
    """
    with session.writing(create=True) as service:
        row, secret = _keys(service).create_key(scope, space=space, **options)
    spaces = f"space {quoted(space)}" if space else "all spaces"
    click.echo(f"key {row.id}, scope {scope}, {spaces}; it is not shown again:", err=True)
    click.echo(secret)


@key.command("list")
@FORMAT
@pass_local
def list_(session: Session, form: str) -> None:
    """List the keys, without their secrets."""
    with session.reading() as service:
        row_writer(form, KEYS).write(map(_key_row, _keys(service).list_keys()))


def _key_row(key: KeyRow) -> Row:
    values = asdict(key) | {"state": key.state}
    return {
        name: value.isoformat(timespec="seconds") if name.endswith("_at") and value else value
        for name, value in values.items()
    }


@key.command()
@click.argument("key_id", type=utf8)
@number(
    "--overlap-hours",
    bounds="hours",
    default=0.0,
    show_default=False,
    help="Hours that the old key stays valid.  [default: 0]",
)
@pass_local
def rotate(session: Session, key_id: str, overlap_hours: float) -> None:
    """Replace KEY_ID by a new key with its scope, space, rate and note."""
    with session.writing() as service:
        row, secret = _keys(service).rotate_key(key_id, overlap=timedelta(hours=overlap_hours))
    click.echo(f"key {row.id} takes the place of {key_id}; it is not shown again:", err=True)
    click.echo(secret)


@key.command()
@click.argument("key_id", type=utf8)
@pass_local
def revoke(session: Session, key_id: str) -> None:
    """End a key; running services refuse it at once."""
    with session.writing() as service:
        changed = _keys(service).revoke_key(key_id)
    done = f"revoked key {quoted(key_id)}"
    click.echo(done if changed else f"key {quoted(key_id)} was revoked before; nothing changed")
