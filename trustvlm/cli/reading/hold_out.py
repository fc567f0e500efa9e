"""The options that hold images out, so that a space is not measured on its support images."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import click

from trustvlm.cli.printing.safe_text import note
from trustvlm.cli.reading.gathered import F, gathered
from trustvlm.cli.reading.options import Bounded

if TYPE_CHECKING:
    from trustvlm.reading.hold_out import HoldOut


def hold_out_options(what: str) -> Callable[[F], F]:
    """--hold-out and --seed, as the argument `split` of the command (None: no split); `what` the
    first one does."""
    seed = click.option(
        "--seed",
        type=Bounded("seed"),
        metavar="N",
        help="Number that draws the split of --hold-out; the same, the same.  [default: 0]",
    )
    share = click.option("--hold-out", type=Bounded("hold_out"), metavar="SHARE", help=what)
    return gathered("split", _split, share, seed)


def _split(hold_out: float | None, seed: int | None) -> HoldOut | None:
    if hold_out is None and seed is not None:
        raise click.UsageError("--seed is for the split by --hold-out; give both.")
    if hold_out is None:
        return None
    from trustvlm.reading.hold_out import HoldOut

    return HoldOut(hold_out, seed or 0)


def note_held_out(split: HoldOut, held_out: int, images: int, used: str) -> None:
    """Say how many images are held out, and whether they are left out or the only ones `used`."""
    note(f"{held_out:,} of {images:,} images are held out (seed {split.seed}): {used}")
