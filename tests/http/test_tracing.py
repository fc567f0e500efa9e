"""Spans of OpenTelemetry: a tree for each request, by the SDK's own exporter, and traces beside the
times of requests."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from http_service import served
from prometheus_client.openmetrics.parser import text_string_to_metric_families
from waiting import until
from worlds import World, make_space

import trustvlm
from trustvlm.http.app import create_app
from trustvlm.http.guard.tracing import Spans, spans_to
from trustvlm.http.options import ServeOptions
from trustvlm.http.run import run_service
from trustvlm.testing import AsgiTransport

TRACE, ABOVE = "4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7"
HEADER = {"traceparent": f"00-{TRACE}-{ABOVE}-01"}
NAMES = ["airport", "beach", "bridge"]


@pytest.fixture
def traced(tmp_path: Path) -> Iterator[tuple[httpx.Client, Any]]:
    """A client of a service with spans, and what keeps them."""
    reason = "OpenTelemetry's SDK is not installed (pip install trustvlm[otel])"
    sdk = pytest.importorskip("opentelemetry.sdk.trace", reason=reason)
    from opentelemetry.sdk.trace.export import SimpleSpanProcessor
    from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

    exporter, provider = InMemorySpanExporter(), sdk.TracerProvider()
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    service = trustvlm.open(tmp_path / "home", create=True, workers=0)
    make_space(service)
    service.register("s", World(NAMES).inputs(2))
    app = create_app(service, ServeOptions(), Spans(provider))
    until(lambda: app.state.serving.loaded)
    with httpx.Client(transport=AsgiTransport(app), base_url="http://127.0.0.1") as client:
        yield client, exporter
    app.state.serving.close()


def body() -> dict[str, Any]:
    queries = World(NAMES).queries(1)
    return {"classifier": queries.classifier.tolist(), "verifier": queries.verifier.tolist()}


def test_a_request_is_a_tree_below_the_callers_span(traced: tuple[httpx.Client, Any]) -> None:
    client, exporter = traced
    client.post("/v1/spaces/s/score", json=body(), headers=HEADER)
    client.post("/v1/spaces/s/labels", json={"names": []}, headers=HEADER)
    spans = {span.context.span_id: span for span in exporter.get_finished_spans()}
    assert {f"{span.context.trace_id:032x}" for span in spans.values()} == {TRACE}
    requests = [one for one in spans.values() if one.kind.name == "SERVER"]
    assert {f"{one.parent.span_id:016x}" for one in requests} == {ABOVE}
    score = next(one for one in requests if one.name == "POST /v1/spaces/{space}/score")
    assert score.attributes["http.response.status_code"] == 200
    assert score.attributes["trustvlm.space"] == "s"

    def path(span: Any) -> list[str]:
        above = spans.get(span.parent.span_id)
        return [span.name] if above is None else [*path(above), span.name]

    paths = [path(span) for span in spans.values()]
    assert [score.name, "batch scorer", "text pass"] in paths
    assert any(one[-1] == "transaction" for one in paths)
    assert all(span.start_time <= span.end_time for span in spans.values())


def test_a_failed_request_and_one_without_a_trace(traced: tuple[httpx.Client, Any]) -> None:
    client, exporter = traced
    client.get("/v1/spaces/none")
    (span,) = (one for one in exporter.get_finished_spans() if one.kind.name == "SERVER")
    assert span.parent is None
    assert span.attributes["error.type"] == "NotFound"
    assert span.attributes["http.response.status_code"] == 404


@pytest.mark.parametrize("path", ["/healthz", "/readyz", "/metrics"])
def test_monitoring_makes_no_spans(traced: tuple[httpx.Client, Any], path: str) -> None:
    client, exporter = traced
    exporter.clear()
    assert client.get(path, headers=HEADER).status_code == 200
    assert exporter.get_finished_spans() == ()


def test_times_have_the_trace_beside_them(tmp_path: Path) -> None:
    """In the format of OpenMetrics, also without the SDK; the usual format stays as it was."""
    with served(tmp_path / "home") as http:
        http.ask("GET", "/v1/rules", headers=HEADER)
        plain = http.ask("GET", "/metrics")
        assert plain.headers["content-type"] == "text/plain; version=0.0.4; charset=utf-8"
        assert TRACE not in plain.text
        asked = {"accept": "application/openmetrics-text; version=1.0.0"}
        answer = http.ask("GET", "/metrics", headers=asked)
    assert answer.headers["content-type"].startswith("application/openmetrics-text")
    samples = [
        sample
        for family in text_string_to_metric_families(answer.text)
        for sample in family.samples
        if sample.name == "trustvlm_http_request_seconds_bucket" and sample.exemplar
    ]
    assert {sample.exemplar.labels["trace_id"] for sample in samples} == {TRACE}
    assert {sample.labels["route"] for sample in samples} == {"/v1/rules"}


def test_what_is_wrong_with_the_setting() -> None:
    with pytest.raises(trustvlm.InvalidInput, match="serve_otlp: expected an address such as"):
        spans_to("localhost:4318")


@pytest.mark.parametrize(
    "address", ["http://h:99999/v1", "http://h:x/", "http://:4318/", "ftp://h"]
)
def test_a_wrong_address_is_refused_before_the_service_greets(tmp_path: Path, address: str) -> None:
    home, said = tmp_path / "home", list[str]()
    trustvlm.open(home, create=True).close()
    (home / "trustvlm.toml").write_text(f'serve_otlp = "{address}"\n')
    with pytest.raises(trustvlm.InvalidInput, match="serve_otlp: expected an address such as"):
        run_service(home, "127.0.0.1", 0, 1, False, None, None, echo=said.append)
    assert said == []


@pytest.mark.slow  # by default: the imports of tests/cli/test_cli_remote.py
def test_nothing_is_imported_without_a_collector(tmp_path: Path) -> None:
    code = (
        "import sys, trustvlm\n"
        "from trustvlm.http.app import create_app\n"
        f"app = create_app(trustvlm.open({str(tmp_path / 'home')!r}, create=True))\n"
        "app.state.serving.close()\n"
        "ours = ('opentelemetry.sdk', 'opentelemetry.exporter')\n"
        "print([name for name in sys.modules if name.startswith(ours)])"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=120
    )
    assert done.stdout.strip() == "[]"
