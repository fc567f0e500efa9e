"""The service's metrics, for Prometheus."""

from __future__ import annotations

import os
import platform
from collections import Counter as Tally
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Protocol

from prometheus_client import CollectorRegistry, Counter, Histogram, ProcessCollector
from prometheus_client.core import GaugeMetricFamily, Metric
from prometheus_client.exposition import choose_encoder
from prometheus_client.multiprocess import MultiProcessCollector
from prometheus_client.registry import Collector

from trustvlm import __version__
from trustvlm.catalog.store import schema
from trustvlm.errors import TrustVLMError
from trustvlm.service.server.server_home import SpaceState
from trustvlm.types import Verdicts

SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30)
SIZES = (1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1024)
TRUST = (*(i / 10 for i in range(-10, 21)), 2.5, 3, 4, 6, 8, 12)
"""Probabilities and sums of two shares lie below 2; a rule with a large λ exceeds it."""

SPACE_GAUGES = (
    ("revision_lag", "lag", "Revisions that this process has not read yet."),
    ("cached_labels", "labels", "Labels in this process's cache."),
    ("cached_prototypes", "prototypes", "Prototypes in this process's cache."),
    ("snapshot_bytes", "snapshot_bytes", "Size of the space's snapshot; 0: there is none."),
    ("snapshot_lag", "replayed", "Labels read since the last snapshot."),
    ("calibrated", "calibrated", "Whether a calibration is in force."),
    ("calibration_stale", "stale", "Whether the space has changed since in what it is about."),
)
"""(metric, attribute of SpaceState, description)."""
_SMALLEST = ("process_start_time_seconds", "process_max_fds")
"""Figures whose value over several processes is the smallest; that of the others is the sum."""


class Waiting(Protocol):
    """Something that calls wait for."""

    name: str

    @property
    def depth(self) -> int:
        """Calls that wait."""
        ...


class _Gauges(Collector):
    """Gauges that are read when the metrics are asked for."""

    def __init__(
        self, queues: Sequence[Waiting], spaces: Callable[[], Sequence[SpaceState]]
    ) -> None:
        self._queues, self._spaces = queues, spaces

    def collect(self) -> Iterator[Metric]:
        depth = GaugeMetricFamily("trustvlm_queue_depth", "Calls that wait.", labels=["owner"])
        for queue in self._queues:
            depth.add_metric([queue.name], queue.depth)
        yield depth
        try:
            spaces: Sequence[SpaceState] = self._spaces()
            reached = 1
        except TrustVLMError:  # the other metrics are wanted most when the catalog is away
            spaces, reached = (), 0
        yield GaugeMetricFamily(
            "trustvlm_catalog_up", "Whether the catalog could be read.", value=reached
        )
        for metric, attribute, text in SPACE_GAUGES:
            gauge = GaugeMetricFamily(f"trustvlm_{metric}", text, labels=["space"])
            for space in spaces:
                gauge.add_metric([space.space], getattr(space, attribute))
            if spaces:
                yield gauge


class Meters:
    """The metrics of one application. With several worker processes they are summed over all
    (PROMETHEUS_MULTIPROC_DIR)."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        labels = ("route", "method", "status")
        self.requests = self._histogram(
            "http_request_seconds", "Time of a request.", SECONDS, *labels
        )
        self.stages = self._histogram("stage_seconds", "Time of a stage.", SECONDS, "stage")
        self.batch_rows = self._histogram(
            "batch_rows", "Queries or images put into one call.", SIZES, "owner"
        )
        self.batch_calls = self._histogram(
            "batch_calls", "Requests put into one call.", SIZES, "owner"
        )
        self.trust = self._histogram(
            "trust", "Trust of the verdicts that were given.", TRUST, "space", "rule"
        )
        self.verdicts = self._counter("verdicts", "Verdicts that were given.", "space", "outcome")
        self.logged_verdicts = self._counter(
            "verdict_log_rows", "Verdicts that were stored in the log of a space.", "space"
        )
        self.unlogged_verdicts = self._counter(
            "verdict_log_dropped", "Verdicts that should be in the log and are not.", "space"
        )
        self.log_lines_dropped = self._counter(
            "log_lines_dropped", "Log lines that could not be written."
        )
        self.refused = self._counter("refused", "Requests refused, by kind of error.", "kind")
        self._gauges = _Gauges((), lambda: ())

    def _histogram(self, name: str, text: str, buckets: Sequence[float], *labels: str) -> Histogram:
        return Histogram(f"trustvlm_{name}", text, labels, registry=self.registry, buckets=buckets)

    def _counter(self, name: str, text: str, *labels: str) -> Counter:
        return Counter(f"trustvlm_{name}", text, labels, registry=self.registry)

    def watch(self, queues: Sequence[Waiting], spaces: Callable[[], Sequence[SpaceState]]) -> None:
        """Add the depth of these queues and the state of each space, read when asked for."""
        self._gauges = _Gauges(queues, spaces)

    def batch(self, owner: str) -> Callable[[int, int], None]:
        """What a batcher of that name calls with (calls, rows) of each batch."""

        def observe(calls: int, rows: int) -> None:
            self.batch_calls.labels(owner).observe(calls)
            self.batch_rows.labels(owner).observe(rows)

        return observe

    def stage_ended(self, stage: str, seconds: float) -> None:
        """Add the time that a stage of an answer took."""
        self.stages.labels(stage).observe(seconds)

    def judged(self, space: str, verdicts: Verdicts) -> None:
        """Count verdicts."""
        trust = self.trust.labels(space, verdicts.rule)
        for value in verdicts.trust.tolist():
            trust.observe(value)
        outcomes = {None: "uncalibrated", True: "accepted", False: "abstained"}
        for accepted, count in Tally(verdicts.accepted.tolist()).items():
            self.verdicts.labels(space, outcomes[accepted]).inc(count)

    def logged(self, space: str, stored: int, dropped: int) -> None:
        """Count what became of verdicts that a space logs."""
        self.logged_verdicts.labels(space).inc(stored)
        self.unlogged_verdicts.labels(space).inc(dropped)

    def text(self, accept: str = "") -> tuple[bytes, str]:
        """(all metrics, their content type) in a text format that a request's header Accept names:
        that of OpenMetrics has the trace of a request beside the times (exemplars)."""
        stored = self.registry
        several = bool(os.environ.get("PROMETHEUS_MULTIPROC_DIR"))
        if several:
            stored = CollectorRegistry()
            MultiProcessCollector(stored)  # type: ignore[no-untyped-call]
        current = CollectorRegistry()
        current.register(self._gauges)
        current.register(_Processes(together=several))
        write, content_type = choose_encoder(accept)
        return write(_Both(stored, current)), content_type


class _Both(Collector):
    """The metrics of two registries."""

    def __init__(self, *registries: CollectorRegistry) -> None:
        self._registries = registries

    def collect(self) -> Iterator[Metric]:
        for registry in self._registries:
            yield from registry.collect()


class _Processes(Collector):
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
