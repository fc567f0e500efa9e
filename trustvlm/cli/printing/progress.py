"""A progress bar on stderr where that is a terminal; silence where it is not, and with --quiet."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from trustvlm.cli.printing.safe_text import quiet

if TYPE_CHECKING:
    from rich.progress import Progress


class Bar:
    """Counts what is done out of a total."""

    def __init__(self, live: Progress | None, total: int, what: str) -> None:
        self._live = live
        self._task = None if live is None else live.add_task(what, total=total)

    def advance(self, number: int) -> None:
        """`number` more are done."""
        if self._live is not None and self._task is not None:
            self._live.advance(self._task, number)

    @contextmanager
    def hidden(self) -> Iterator[None]:
        """Out of the way of what is written meanwhile."""
        if self._live is None:
            yield
            return
        self._live.stop()
        yield
        self._live.start()


@contextmanager
def progress_bar(total: int, what: str) -> Iterator[Bar]:
    """A bar for `total` things called `what`, gone when the block ends."""
    if not sys.stderr.isatty() or total < 2 or quiet():
        yield Bar(None, total, what)
        return
    from rich.console import Console
    from rich.progress import (
        BarColumn,
        MofNCompleteColumn,
        Progress,
        TextColumn,
        TimeRemainingColumn,
    )

    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeRemainingColumn(),
    )
    # Rich would send what is printed to stdout meanwhile to its own console, which is stderr.
    with Progress(
        *columns, console=Console(file=sys.stderr), transient=True, redirect_stdout=False
    ) as live:
        yield Bar(live, total, what)


@contextmanager
def rate_bar(what: str) -> Iterator[Callable[[int, int | None], None]]:
    """A bar with the number of things a second and the time left, gone when the block ends; it is
    told (how many are done, of how many; None: not known)."""
    if not sys.stderr.isatty() or quiet():
        yield lambda done, total: None
        return
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (
        TextColumn(f"{{task.fields[counted]}} {what}"),
        BarColumn(),
        TextColumn("{task.fields[pace]}"),
        TimeRemainingColumn(),
    )
    console = Console(file=sys.stderr)
    with Progress(*columns, console=console, transient=True, redirect_stdout=False) as live:
        task = live.add_task(what, total=None, counted="0", pace="")

        def update(done: int, total: int | None) -> None:
            of = "" if total is None else f" of {total:,}"
            live.update(task, completed=done, total=total, counted=f"{done:,}{of}")
            speed = live.tasks[0].speed
            live.update(task, pace="" if speed is None else f"{speed:,.0f} a second")

        yield update
