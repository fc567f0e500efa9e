"""This process does all units, one after the other."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import closing

from trustvlm.bulk.units import Unit
from trustvlm.bulk.work import Done, Job, Worker


class Here:
    """See :class:`trustvlm.bulk.runners.Runner`."""

    def run(
        self, job: Job, units: Sequence[Unit], advance: Callable[[int], None]
    ) -> Iterator[Done]:
        """What came of each unit, in order."""
        if units:
            with closing(Worker(job, advance)) as worker:
                yield from map(worker.do, units)
