"""What the service measures of itself, for Prometheus."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from prometheus_client import CollectorRegistry, Counter, Histogram, generate_latest
from prometheus_client.core import GaugeMetricFamily, Metric
from prometheus_client.multiprocess import MultiProcessCollector
from prometheus_client.registry import Collector

from trustvlm.http.guard.processes import Processes
from trustvlm.types import Verdicts

__all__ = ["Meters"]

SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30)
SIZES = (1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1024)
TRUST = (*(i / 10 for i in range(-10, 21)), 2.5, 3, 4, 6, 8, 12)
"""Probabilities and sums of two shares lie below 2; a rule with a large λ goes beyond."""


class _Read(Collector):
    """Gauges that are read when somebody asks."""

    def __init__(
        self, read: Callable[[], Iterator[tuple[str, str, Mapping[str, str], float]]]
    ) -> None:
        self._read = read

    def collect(self) -> Iterator[Metric]:
        families: dict[str, GaugeMetricFamily] = {}
        for name, what, labels, value in self._read():
            family = families.setdefault(name, GaugeMetricFamily(name, what, labels=list(labels)))
            family.add_metric(list(labels.values()), value)
        yield from families.values()


class Meters:
    """The metrics of one application. With several worker processes they are summed over all
    (PROMETHEUS_MULTIPROC_DIR)."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self.requests = self._of(
            Histogram,
            "http_request_seconds",
            "Time of a request.",
            "route",
            "method",
            "status",
            SECONDS,
        )
        self.stages = self._of(Histogram, "stage_seconds", "Time of a stage.", "stage", SECONDS)
        self.batch_rows = self._of(
            Histogram, "batch_rows", "Queries or images put into one call.", "owner", SIZES
        )
        self.batch_calls = self._of(
            Histogram, "batch_calls", "Requests put into one call.", "owner", SIZES
        )
        self.trust = self._of(
            Histogram, "trust", "Trust of the verdicts that were given.", "space", "rule", TRUST
        )
        self.verdicts = self._of(
            Counter, "verdicts", "Verdicts that were given.", "space", "outcome"
        )
        self.log_lines_dropped = self._of(
            Counter, "log_lines_dropped", "Log lines that could not be written."
        )
        self.refused = self._of(
            Counter, "refused", "Requests that were refused, by kind of error.", "kind"
        )

    def _of(self, kind: Any, name: str, what: str, *labels: Any) -> Any:
        buckets = {"buckets": labels[-1]} if labels and isinstance(labels[-1], tuple) else {}
        names = [label for label in labels if isinstance(label, str)]
        return kind(f"trustvlm_{name}", what, names, registry=self.registry, **buckets)

    def watch(
        self, read: Callable[[], Iterator[tuple[str, str, Mapping[str, str], float]]]
    ) -> None:
        """Add gauges that `read` yields, as (name, description, labels, value), whenever somebody
        asks."""
        self._watched = _Read(read)

    def batch(self, owner: str) -> Callable[[int, int], None]:
        """What a batcher of that name tells its (calls, rows) to."""

        def observe(calls: int, rows: int) -> None:
            self.batch_calls.labels(owner).observe(calls)
            self.batch_rows.labels(owner).observe(rows)

        return observe

    def staged(self, stage: str, seconds: float) -> None:
        """A stage of some answer took so long."""
        self.stages.labels(stage).observe(seconds)

    def judged(self, space: str, verdicts: Verdicts, start: int, stop: int) -> None:
        """Count the verdicts start … stop."""
        trust = self.trust.labels(space, verdicts.rule)
        for value in verdicts.trust[start:stop].tolist():
            trust.observe(value)
        told: dict[str, int] = {}
        for accepted in verdicts.accepted[start:stop].tolist():
            outcome = (
                "uncalibrated" if accepted is None else "accepted" if accepted else "abstained"
            )
            told[outcome] = told.get(outcome, 0) + 1
        for outcome, count in told.items():
            self.verdicts.labels(space, outcome).inc(count)

    def text(self) -> bytes:
        """All of it, as Prometheus reads it."""
        registry = self.registry
        if os.environ.get("PROMETHEUS_MULTIPROC_DIR"):
            registry = CollectorRegistry()
            MultiProcessCollector(registry)  # type: ignore[no-untyped-call]
        answer = generate_latest(registry)
        own = CollectorRegistry()
        own.register(self._watched)
        own.register(Processes(together=registry is not self.registry))
        return answer + generate_latest(own)

    _watched: Collector = _Read(lambda: iter(()))
