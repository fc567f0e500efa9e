"""Actors of a Ray cluster, each with the home opened by itself. The only module that imports ray.

Actors that end are started again, where Ray finds room for them, and their unit is given out again.
Only names of units and counts go through Ray: rows stay in files.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from types import ModuleType
from typing import Any

from trustvlm.bulk.units import Unit
from trustvlm.bulk.work import Done, Job, Worker
from trustvlm.errors import InvalidInput, TrustVLMError, Unavailable

_STORE_BYTES = 150 * 2**20
"""Memory of a new cluster for what goes through it; Ray's default is a share of the machine."""
_RESTARTS, _RETRIES = 3, 3


class RayActors:
    """See :class:`trustvlm.bulk.runners.Runner`.

    Args:
        address: of a cluster; None: that of RAY_ADDRESS, else one of this machine for the call.
        actors: how many; None: one a core or, with `num_gpus`, as many as GPUs allow.
        num_gpus: GPUs of each.
    """

    def __init__(self, address: str | None, actors: int | None, num_gpus: float) -> None:
        self._address, self._actors, self._num_gpus = address, actors, num_gpus

    def run(
        self, job: Job, units: Sequence[Unit], advance: Callable[[int], None]
    ) -> Iterator[Done]:
        """What came of each unit, as it comes."""
        if not units:
            return
        address = self._address or os.environ.get("RAY_ADDRESS")
        ray = _imported(address)
        begun = not ray.is_initialized()
        if begun:
            _connect(ray, address)
        try:
            yield from self._shared(ray, job, units, advance)
        finally:
            if begun:
                ray.shutdown()

    def _shared(
        self, ray: ModuleType, job: Job, units: Sequence[Unit], advance: Callable[[int], None]
    ) -> Iterator[Done]:
        options: dict[str, Any] = {"num_gpus": self._num_gpus} if self._num_gpus else {}
        options |= {"num_cpus": 1, "max_restarts": _RESTARTS, "max_task_retries": _RETRIES}
        actor = ray.remote(**options)(_Actor)
        count = min(self._count(ray), len(units))
        actors = [actor.remote(job, str(Path.cwd())) for _ in range(count)]
        waiting, pending = list(reversed(units)), dict[Any, tuple[Any, Unit]]()
        try:
            for one in actors:
                unit = waiting.pop()
                pending[one.do.remote(unit)] = (one, unit)
            while pending:
                (ready, *_), _ = ray.wait(list(pending))
                one, unit = pending.pop(ready)
                done = _answer(ray, ready, unit)
                if waiting:
                    later = waiting.pop()
                    pending[one.do.remote(later)] = (one, later)
                advance(done.written)
                yield done
        finally:
            for one in actors:
                ray.kill(one)

    def _count(self, ray: ModuleType) -> int:
        """Number of actors to start. Raises InvalidInput: the cluster has too few cores or GPUs."""
        resources = ray.cluster_resources()
        cores, gpus = resources.get("CPU", 0.0), resources.get("GPU", 0.0)
        room = int(cores)
        if self._num_gpus:
            room = min(room, int(gpus / self._num_gpus))
        if room < max(self._actors or 1, 1):
            raise InvalidInput(
                f"actors: expected room for {self._actors or 1}, each with a core and "
                f"{self._num_gpus:g} GPUs; the cluster has {cores:g} cores and {gpus:g} GPUs"
            )
        return self._actors or room


class _Actor:
    """A worker in a process of Ray's."""

    def __init__(self, job: Job, folder: str) -> None:
        if Path(folder).is_dir():  # paths are those of the caller
            os.chdir(folder)
        self._job = job
        self._worker: Worker | None = None

    def do(self, unit: Unit) -> Done | TrustVLMError:
        """Do a unit; an error of ours is an answer, as Ray would repeat the task over it."""
        try:
            if self._worker is None:
                self._worker = Worker(self._job)
            return self._worker.do(unit)
        except TrustVLMError as error:
            return error


def _answer(ray: ModuleType, ready: Any, unit: Unit) -> Done:
    """What came of a unit. Raises the error that ended the work."""
    try:
        answer: Any = ray.get(ready)
    except ray.exceptions.RayTaskError as error:
        raise RuntimeError(f"{type(error.cause).__name__}: {error.cause}") from error
    except ray.exceptions.RayError as error:
        reason = (str(error).strip().splitlines() or [type(error).__name__])[0]
        raise Unavailable(
            f"actors of Ray ended over {unit.path} (unit {unit.name}): {reason:.300}; what is "
            f"finished stays"
        ) from error
    if isinstance(answer, TrustVLMError):
        raise answer
    done: Done = answer
    return done


def _imported(address: str | None) -> ModuleType:
    """The library ray, set for a cluster. Raises Unavailable: it is not installed."""
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")
    if _is_loopback(address):  # else Ray looks for this machine under its other address, for ever
        os.environ.setdefault("RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER", "0")
    try:
        import ray
    except ImportError as error:
        raise Unavailable(
            "on='ray' needs Ray, which is not installed: pip install 'trustvlm[ray]', or use "
            "on='processes:N' or shard"
        ) from error
    module: ModuleType = ray
    return module


def _connect(ray: ModuleType, address: str | None) -> None:
    """Join the cluster at an address, or begin one. Raises Unavailable: there is none."""
    options: dict[str, Any] = {"log_to_driver": False, "logging_level": "error"}
    options["address"] = "local" if address is None else address
    if address is None:
        options |= {"include_dashboard": False, "object_store_memory": _STORE_BYTES}
    elif _is_loopback(address):
        options["_node_ip_address"] = "127.0.0.1"
    try:
        ray.init(**options)
    except (ConnectionError, RuntimeError, ValueError, OSError) as error:
        reason = (str(error).strip().splitlines() or [type(error).__name__])[0]
        where = "of this machine" if address is None else f"at {address}"
        raise Unavailable(f"no Ray cluster {where}: {reason:.300}") from error


def _is_loopback(address: str | None) -> bool:
    return address is not None and address.startswith(("127.", "localhost:"))
