"""The seam between the work and who does it."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Protocol

from trustvlm.bulk.units import Unit
from trustvlm.bulk.work import Done, Job


class Runner(Protocol):
    """Does units, in any order."""

    def run(
        self, job: Job, units: Sequence[Unit], advance: Callable[[int], None]
    ) -> Iterator[Done]:
        """What came of each unit, as it comes; closing the iterator ends the workers.

        Args:
            advance: called with a number of rows when these are done.

        Raises:
            Unavailable: workers do not start, or end again and again. Others, as the work does.
        """
