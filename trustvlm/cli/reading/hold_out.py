"""The options that hold images out, so that a space is not measured on its support images."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, TypeVar, cast

import click

from trustvlm.cli.printing.safe_text import note
from trustvlm.cli.reading.bounds import Bounded

if TYPE_CHECKING:
    from trustvlm.reading.hold_out import HoldOut

F = TypeVar("F", bound=Callable[..., Any])


def hold_out_options(what: str) -> Callable[[F], F]:
    """--hold-out and --seed, as the argument `split` of the command (None: no split); `what` the
    first one does."""

    def decorate(command: F) -> F:
        @functools.wraps(command)
        def run(*args: Any, hold_out: float | None, seed: int | None, **given: Any) -> Any:
            return command(*args, split=_split(hold_out, seed), **given)

        seed_option = click.option(
            "--seed",
            type=Bounded("seed"),
            metavar="N",
            help="Number that draws the split of --hold-out; the same, the same.  [default: 0]",
        )
        share = click.option("--hold-out", type=Bounded("hold_out"), metavar="SHARE", help=what)
        return cast("F", share(seed_option(run)))

    return decorate


def _split(share: float | None, seed: int | None) -> HoldOut | None:
    if share is None and seed is not None:
        raise click.UsageError("--seed is for the split by --hold-out; give both.")
    if share is None:
        return None
    from trustvlm.reading.hold_out import HoldOut

    return HoldOut(share, seed or 0)


def note_held_out(split: HoldOut, held_out: int, images: int, used: str) -> None:
    """Say how many images are held out, and whether they are left out or the only ones `used`."""
    note(f"{held_out:,} of {images:,} images are held out (seed {split.seed}): {used}")
