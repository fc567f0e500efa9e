"""Spans of OpenTelemetry for requests, batches, stages and transactions, where the service has a
collector to send them to (extra `trustvlm[otel]`). Without one nothing of this is imported."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from contextvars import Context
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from trustvlm import __version__
from trustvlm.errors import InvalidInput, Unavailable

if TYPE_CHECKING:
    from opentelemetry.sdk.trace import TracerProvider
    from opentelemetry.trace import Span

_CARRIED = ("traceparent", "tracestate")


def check_collector(address: str) -> None:
    """Raises InvalidInput: no address. Unavailable: the extra is not installed."""
    try:
        parts = urlsplit(address)
        is_address = parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
    except ValueError:  # a port that is no number, or above 65,535
        is_address = False
    if not is_address:
        raise InvalidInput(
            f"serve_otlp: expected an address such as http://127.0.0.1:4318/v1/traces, got "
            f"{address!r:.200}"
        )
    try:
        import opentelemetry.exporter.otlp.proto.http.trace_exporter
        import opentelemetry.sdk.trace.export  # noqa: F401
    except ImportError as error:
        raise Unavailable(
            "serve_otlp needs OpenTelemetry, which is not installed: pip install "
            "'trustvlm[otel]', or take the setting away"
        ) from error


def spans_to(address: str) -> Spans:
    """Spans that are sent to a collector, several at once, over OTLP with HTTP. Raises what
    :func:`check_collector` raises."""
    check_collector(address)
    from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
    from opentelemetry.sdk.resources import Resource
    from opentelemetry.sdk.trace import TracerProvider
    from opentelemetry.sdk.trace.export import BatchSpanProcessor

    name = os.environ.get("OTEL_SERVICE_NAME", "trustvlm")
    provider = TracerProvider(resource=Resource.create({"service.name": name}))
    provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter(endpoint=address)))
    return Spans(provider)


class Spans:
    """Makes spans, each a child of what its thread does at the time."""

    def __init__(self, provider: TracerProvider) -> None:
        from opentelemetry import context, trace
        from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

        self._provider, self._context, self._trace = provider, context, trace
        self._tracer = provider.get_tracer("trustvlm", __version__)
        self._propagator = TraceContextTextMapPropagator()

    def begin(self, method: str, headers: Mapping[bytes, str]) -> RequestSpan:
        """The span of a request, below the one that its header traceparent names; until its end it
        is what the task does."""
        carrier = {name: headers.get(name.encode(), "") for name in _CARRIED}
        above = self._propagator.extract({name: one for name, one in carrier.items() if one})
        kind = self._trace.SpanKind.SERVER
        span = self._tracer.start_span(method, above, kind)
        token = self._context.attach(self._trace.set_span_in_context(span))
        return RequestSpan(self, span, token)

    def end(self, token: Any) -> None:
        """The task does no more what it did since the token was given."""
        self._context.detach(token)

    @contextmanager
    def batch(self, name: str, calls: Sequence[Context]) -> Iterator[None]:
        """The span of a batch: below the request of the first call, linked with the others'. None
        where that call belongs to no request. Runs in the context of the first call."""
        if not self._trace.get_current_span().get_span_context().is_valid:
            yield
            return
        others = [call.run(self._trace.get_current_span).get_span_context() for call in calls[1:]]
        links = [self._trace.Link(one) for one in others if one.is_valid]
        about = {"trustvlm.calls": len(calls)}
        with self._tracer.start_as_current_span(f"batch {name}", links=links, attributes=about):
            yield

    def stage_ended(self, stage: str, seconds: float) -> None:
        """Add a span for a stage that this thread has done for a request."""
        if self._trace.get_current_span().get_span_context().is_valid:
            end = time.time_ns()
            begin = end - int(seconds * 1e9)
            self._tracer.start_span(stage, start_time=begin).end(end)

    def close(self) -> None:
        """Send what is left."""
        self._provider.shutdown()


class RequestSpan:
    """The span of a request that is being answered."""

    def __init__(self, spans: Spans, span: Span, token: Any) -> None:
        self._spans, self._span, self._token = spans, span, token

    @property
    def ids(self) -> tuple[str, str]:
        """The ids of the trace and of the span, in hexadecimal."""
        context = self._span.get_span_context()
        return f"{context.trace_id:032x}", f"{context.span_id:016x}"

    def end(self, method: str, route: str, status: int, facts: Mapping[str, str | None]) -> None:
        """End it; paths and contents of the request are in no span."""
        self._span.update_name(f"{method} {route}")
        about = {"http.request.method": method, "http.route": route}
        about |= {name: value for name, value in facts.items() if value is not None}
        self._span.set_attributes({**about, "http.response.status_code": status})
        if status >= 500:
            from opentelemetry.trace import StatusCode

            self._span.set_status(StatusCode.ERROR)
        self._span.end()
        self._spans.end(self._token)
