"""The offline demo."""

from __future__ import annotations

from pathlib import Path

import click

from trustvlm.cli.session import Session

__all__ = ["demo"]

DEMO_HOME = Path("demo-home")


@click.command()
@click.pass_obj
def demo(session: Session) -> None:
    """Run the offline demo on handwritten digits.

    Two small models, ten labels registered one at a time, trust scores and their evidence. It
    leaves a home to try the other commands on: ./demo-home, or the one that --home names.
    """
    from trustvlm.demo.run import run_demo

    home = session.home if session.home_given else DEMO_HOME
    run_demo(home, echo=click.echo, device=session.device, precision=session.precision)
