"""What Prometheus itself, and a strict reader of its format, say of /metrics, of the alerts and of
the dashboard."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from pathlib import Path

import httpx
import pytest
from http_service import served
from prometheus_client import Metric
from prometheus_client.parser import text_string_to_metric_families
from server_process import ready, server
from test_http_processes import prepared

DOCS = Path(__file__).resolve().parents[2] / "docs"
NAMED = 'a "quoted" \\ name — über n'
needs_promtool = pytest.mark.skipif(
    shutil.which("promtool") is None, reason="promtool is not installed (apt install prometheus)"
)


def promtool(*arguments: str, text: str | None = None) -> str:
    done = subprocess.run(
        ["promtool", *arguments],
        input=text,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout + done.stderr


def busy(home: Path) -> str:
    """The metrics of a service that has answered, refused and not found."""
    prepared(home)
    with served(home) as http:
        http("POST", "/v1/spaces", json={"name": NAMED, "classifier": "precomputed:2"}, status=201)
        label = {"name": "one", "text_vector": [1.0, 0.0]}
        http("POST", f"/v1/spaces/{NAMED}/labels", json={"labels": [label]})
        for space, dim in (("s", 8), (NAMED, 2)):
            query = {"classifier": [[1.0] * dim], "rule": "msp"}
            http("POST", f"/v1/spaces/{space}/score", json=query)
        http("POST", "/v1/spaces/s/score", json={"classifier": "none"}, status=422)
        http("GET", "/v1/spaces/nope", status=404)
        return http.ask("GET", "/metrics").text


@pytest.fixture(scope="module")
def metrics(tmp_path_factory: pytest.TempPathFactory) -> str:
    return busy(tmp_path_factory.mktemp("metrics") / "home")


def sound(text: str) -> dict[str, Metric]:
    """The families of a text, by name: each comes once, has a help and a type, samples under its
    own name, no sample twice, and buckets that add up."""
    assert text.endswith("\n")
    families = list(text_string_to_metric_families(text))
    names = [family.name for family in families]
    assert len(names) == len(set(names))
    assert text.count("# TYPE ") == len({re.sub("_total$", "", name) for name in names})
    for family in families:
        assert family.documentation, family.name
        assert family.type in ("counter", "gauge", "histogram"), family.name
        endings = {"counter": ("_total",), "gauge": ("",)}.get(
            family.type, ("_bucket", "_count", "_sum")
        )
        assert {sample.name for sample in family.samples} <= {family.name + one for one in endings}
        keys = [(sample.name, *sorted(sample.labels.items())) for sample in family.samples]
        assert len(keys) == len(set(keys)), family.name
        if family.type == "histogram":
            adds_up(family)
    return {family.name: family for family in families}


def adds_up(family: Metric) -> None:
    buckets: dict[tuple[tuple[str, str], ...], list[tuple[float, float]]] = {}
    counts: dict[tuple[tuple[str, str], ...], float] = {}
    for sample in family.samples:
        labels = tuple(sorted((k, v) for k, v in sample.labels.items() if k != "le"))
        if sample.name.endswith("_bucket"):
            bucket = (float(sample.labels["le"]), sample.value)
            buckets.setdefault(labels, []).append(bucket)
        elif sample.name.endswith("_count"):
            counts[labels] = sample.value
    for labels, steps in buckets.items():
        assert steps == sorted(steps), family.name
        assert [value for _, value in steps] == sorted(value for _, value in steps), family.name
        assert steps[-1] == (float("inf"), counts[labels]), family.name
    assert set(buckets) == set(counts)


def test_a_strict_reader_takes_the_metrics(metrics: str) -> None:
    families = sound(metrics)
    assert {"trustvlm_http_request_seconds", "trustvlm_verdicts", "trustvlm_refused"} <= set(
        families
    )
    spaces = {sample.labels["space"] for sample in families["trustvlm_revision_lag"].samples}
    assert spaces == {"s", NAMED}
    judged = {
        sample.labels["space"]: sample.value for sample in families["trustvlm_verdicts"].samples
    }
    assert judged == {"s": 1.0, NAMED: 1.0}


@needs_promtool
def test_promtool_finds_nothing_wrong_with_the_metrics(metrics: str) -> None:
    assert promtool("check", "metrics", text=metrics) == ""


@pytest.mark.slow
def test_metrics_of_several_workers_are_taken_too(tmp_path: Path) -> None:
    prepared(tmp_path / "home")
    query = {"classifier": [[1.0] * 8], "rule": "msp"}
    with server(tmp_path / "home", "--workers", "2") as (_, address):
        ready(address)
        for _ in range(20):  # by connections of their own, so to either worker
            httpx.post(f"{address}/v1/spaces/s/score", json=query, timeout=60).raise_for_status()
        text = httpx.get(f"{address}/metrics", timeout=60).text
    [sample] = sound(text)["trustvlm_verdicts"].samples
    assert sample.value == 20
    if shutil.which("promtool"):
        assert promtool("check", "metrics", text=text) == ""


@needs_promtool
def test_promtool_takes_the_alerts_and_the_queries_of_the_dashboard(tmp_path: Path) -> None:
    assert "SUCCESS" in promtool("check", "rules", str(DOCS / "alerts.yml"))
    panels = json.loads((DOCS / "grafana.json").read_text())["panels"]
    queries = [target["expr"] for panel in panels for target in panel["targets"]]
    rules = [{"record": f"panel:{number}", "expr": one} for number, one in enumerate(queries)]
    file = tmp_path / "dashboard.json"  # which YAML is, too
    file.write_text(json.dumps({"groups": [{"name": "dashboard", "rules": rules}]}))
    assert f"{len(queries)} rules found" in promtool("check", "rules", str(file))


ON_A = {"instance": "a"}
SLOW = 'trustvlm_http_request_seconds_bucket{route="r", le="%s"}'
FIRING: dict[str, tuple[dict[str, str], dict[str, str]]] = {
    "TrustvlmHostDown": (
        {'up{job="trustvlm", instance="a"}': "0x30"}, {"job": "trustvlm", "instance": "a"},
    ),
    "TrustvlmNoHostLeft": ({'up{job="trustvlm"}': "0x30"}, {}),
    "TrustvlmCatalogAway": ({'trustvlm_catalog_up{instance="a"}': "1 0x30"}, ON_A),
    "TrustvlmErrors": (
        {'trustvlm_http_request_seconds_count{status="500"}': "0x5 1+1x30"}, {},
    ),
    "TrustvlmOverloaded": (
        {'trustvlm_refused_total{kind="Overloaded", instance="a"}': "0+30x40"}, ON_A,
    ),
    "TrustvlmSlow": ({SLOW % "5": "0x40", SLOW % "10": "0+9x40", SLOW % "+Inf": "0+9x40"}, {"route": "r"}),
    "TrustvlmCalibrationStale": ({'trustvlm_calibration_stale{space="s"}': "1x1600"}, {"space": "s"}),
    "TrustvlmMemory": (
        {'process_resident_memory_bytes{job="trustvlm", instance="a"}': "15000000000x40"},
        {"job": "trustvlm", "instance": "a"},
    ),
    "TrustvlmLogDropped": (
        {'trustvlm_log_lines_dropped_total{instance="a"}': "0x5 5+5x40"}, ON_A,
    ),
}  # fmt: skip
"""Alert → the series that set it off, with their values minute by minute, and the alert's labels."""

QUIET = {"up": "1x1600", "trustvlm_catalog_up": "1x1600"}
"""Values at which nothing happens, where these are not zeros."""


@needs_promtool
@pytest.mark.parametrize("fires", [True, False], ids=["fires", "stays quiet"])
def test_each_alert_fires_where_it_is_to_and_nowhere_else(tmp_path: Path, fires: bool) -> None:
    """By Prometheus's own engine."""
    yaml = pytest.importorskip("yaml")
    [group] = yaml.safe_load((DOCS / "alerts.yml").read_text())["groups"]
    assert {rule["alert"] for rule in group["rules"]} == set(FIRING)
    tests = []
    for rule in group["rules"]:
        series, labels = FIRING[rule["alert"]]
        summary = rule["annotations"]["summary"]
        for name, value in labels.items():
            summary = summary.replace("{{ $labels.NAME }}".replace("NAME", name), value)
        alert = {"exp_labels": labels | rule["labels"], "exp_annotations": {"summary": summary}}
        when = {
            "eval_time": "25h" if rule["alert"] == "TrustvlmCalibrationStale" else "20m",
            "alertname": rule["alert"],
            "exp_alerts": [alert] if fires else [],
        }
        values = [
            {
                "series": name,
                "values": text if fires else QUIET.get(name.partition("{")[0], "0x1600"),
            }
            for name, text in series.items()
        ]
        tests.append({"interval": "1m", "input_series": values, "alert_rule_test": [when]})
    file = tmp_path / "alerts.json"  # which YAML is, too
    file.write_text(json.dumps({"rule_files": [str(DOCS / "alerts.yml")], "tests": tests}))
    assert "SUCCESS" in promtool("test", "rules", str(file))
