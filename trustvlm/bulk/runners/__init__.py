"""Who does the units: this process, processes of this machine, or actors of a Ray cluster."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from importlib import import_module
from typing import Any, Protocol

from trustvlm.bulk.units import Unit
from trustvlm.bulk.work import Done, Job, Worker
from trustvlm.errors import InvalidInput
from trustvlm.types.bounds import number, whole

__all__ = ["Runner", "runner_of"]

_EXPECTED = "on: expected here, processes:N, ray or ray:ADDRESS"
_MOST = 1_024


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


class Here:
    """This process does all units, one after the other; see :class:`Runner`."""

    def run(
        self, job: Job, units: Sequence[Unit], advance: Callable[[int], None]
    ) -> Iterator[Done]:
        """What came of each unit, in order."""
        if units:
            with closing(Worker(job, advance)) as worker:
                yield from map(worker.do, units)


def runner_of(on: str, actors: int | None = None, num_gpus: float = 0.0) -> Runner:
    """The runner that `on` names.

    Args:
        actors: of Ray; None: one a core, or one for each `num_gpus` GPUs. num_gpus: GPUs of an
            actor.

    Raises:
        InvalidInput: there is no such runner, or an option that it does not have.
    """
    actors = None if actors is None else whole("actors", actors)
    num_gpus = number("num_gpus", num_gpus)
    name, _, rest = on.partition(":") if isinstance(on, str) else ("", "", "")
    if name != "ray" and (actors is not None or num_gpus):
        option = "actors" if actors is not None else "num_gpus"
        raise InvalidInput(f"{option}: is for on='ray'; leave it out with {on!r:.80}")
    if on == "here":
        return Here()
    if name == "processes" and re.fullmatch(r"[0-9]{1,4}", rest) and 1 <= int(rest) <= _MOST:
        return _made("processes", "Processes", int(rest))
    if name == "ray" and (rest or ":" not in on):
        return _made("ray", "RayActors", rest or None, actors, num_gpus)
    raise InvalidInput(f"{_EXPECTED} (N from 1 to {_MOST:,}); got {on!r:.80}")


def _made(module: str, name: str, *arguments: Any) -> Runner:
    """A runner, whose module is imported when it is needed: Ray takes seconds, or is not there."""
    runner: Runner = getattr(import_module(f"trustvlm.bulk.runners.{module}"), name)(*arguments)
    return runner
