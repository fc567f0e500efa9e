"""What the service's processes take of the machine, and what program they run, for Prometheus."""

from __future__ import annotations  # noqa: I001

import os
import platform
from functools import partial
from collections.abc import Iterator
from pathlib import Path

from prometheus_client import ProcessCollector
from prometheus_client.core import GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from trustvlm import __version__
from trustvlm.catalog.store import schema

__all__ = ["Processes"]

_LEAST = ("process_start_time_seconds", "process_max_fds")
"""Figures of which several processes have the least; they have the sum of the others."""


class Processes(Collector):
    """CPU time, memory, open files and start time (Linux), and the build.

    Args:
        together: several worker processes serve: the figures are those of all of them and their
            parent.
    """

    def __init__(self, *, together: bool) -> None:
        self._together = together

    def collect(self) -> Iterator[Metric]:
        """The metrics under the names that Prometheus has for them."""
        build = {
            "version": __version__,
            "python": platform.python_version(),
            "schema": schema.head(),
        }
        info = GaugeMetricFamily(
            "trustvlm_build_info", "The program that serves; always 1.", labels=list(build)
        )
        info.add_metric(list(build.values()), 1)
        yield info
        found: dict[str, Metric] = {}
        for process in self._processes():
            for metric in ProcessCollector(pid=partial(int, process), registry=None).collect():
                known = found.setdefault(metric.name, metric)
                if known is not metric:
                    merge = min if metric.name in _LEAST else sum
                    (one,), (other,) = known.samples, metric.samples
                    known.samples = [one._replace(value=merge((one.value, other.value)))]
        yield from found.values()

    def _processes(self) -> list[int]:
        if not self._together:
            return [os.getpid()]
        parent = os.getppid()
        try:
            children = (
                Path(f"/proc/{parent}/task/{parent}/children").read_text(encoding="ascii").split()
            )
        except OSError:
            return [os.getpid()]
        return [parent, *map(int, children)]
