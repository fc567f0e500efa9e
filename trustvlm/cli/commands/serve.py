"""The HTTP service."""

from __future__ import annotations

from contextlib import suppress

import click

from trustvlm.cli.session import Session

__all__ = ["serve"]


@click.command()
@click.option(
    "--host",
    default="127.0.0.1",
    show_default=True,
    help="Where to listen. Beyond this machine, keys are needed.",
)
@click.option(
    "--port",
    default=8000,
    show_default=True,
    type=click.IntRange(0, 65535),
    help="0: any free one.",
)
@click.option(
    "--workers",
    default=1,
    show_default=True,
    type=click.IntRange(1, 64),
    help="Processes on the home.",
)
@click.option("--require-key", is_flag=True, help="Ask for a key on this machine, too.")
@click.option(
    "--root-path",
    metavar="PATH",
    help="Path under which a proxy serves the page and the API, such as /trust.  [default: /]",
)
@click.pass_obj
def serve(
    session: Session, host: str, port: int, workers: int, require_key: bool, root_path: str | None
) -> None:
    """Serve the home over HTTP, with a page for people at /.

    Keys come from 'trustvlm key create'; none is needed where only this machine can reach the
    service. Logs are JSON lines on stderr. SIGTERM or Ctrl-C finishes what was accepted, then ends;
    the home is made when it is missing.
    """
    from trustvlm.http.run import run_service

    with suppress(
        KeyboardInterrupt
    ):  # Terminated is one: the server has finished what it accepted, which is its success
        where = (session.home, host, port, workers, require_key)
        run_service(*where, session.device, session.precision, echo=click.echo, root_path=root_path)
