"""Resources that the service's processes use, and their build, for Prometheus."""

from __future__ import annotations

import os
import platform
from collections.abc import Iterator
from functools import partial
from pathlib import Path

from prometheus_client import ProcessCollector
from prometheus_client.core import GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from trustvlm import __version__
from trustvlm.catalog.store import schema

_SMALLEST = ("process_start_time_seconds", "process_max_fds")
"""Figures whose value over several processes is the smallest; that of the others is the sum."""


class Processes(Collector):
    """CPU time, memory, open files and start time (Linux), and the build.

    Args:
        together: report all worker processes and their parent.
    """

    def __init__(self, *, together: bool) -> None:
        self._together = together

    def collect(self) -> Iterator[Metric]:
        """The metrics under Prometheus's names."""
        python = platform.python_version()
        build = {"version": __version__, "python": python, "schema": schema.head()}
        info = GaugeMetricFamily(
            "trustvlm_build_info", "The program that serves; always 1.", labels=list(build)
        )
        info.add_metric(list(build.values()), 1)
        yield info
        totals: dict[str, Metric] = {}
        for process in self._processes():
            for metric in ProcessCollector(pid=partial(int, process), registry=None).collect():
                total = totals.setdefault(metric.name, metric)
                if total is not metric:
                    merge = min if metric.name in _SMALLEST else sum
                    (sample,), (other,) = total.samples, metric.samples
                    total.samples = [sample._replace(value=merge((sample.value, other.value)))]
        yield from totals.values()

    def _processes(self) -> list[int]:
        if not self._together:
            return [os.getpid()]
        parent = os.getppid()
        try:
            children = Path(f"/proc/{parent}/task/{parent}/children").read_text(encoding="ascii")
        except OSError:
            return [os.getpid()]
        return [parent, *map(int, children.split())]
