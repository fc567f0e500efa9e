"""The Grafana dashboard asks for metrics that the service has."""

from __future__ import annotations

import json
import re
from pathlib import Path

from http_service import served
from test_http_processes import prepared

ROOT = Path(__file__).resolve().parents[2]


def test_the_dashboard_knows_every_metric_and_no_other(tmp_path: Path) -> None:
    dashboard = json.loads((ROOT / "docs" / "grafana.json").read_text())
    asked = " ".join(target["expr"] for panel in dashboard["panels"] for target in panel["targets"])
    prepared(tmp_path / "home")
    with served(tmp_path / "home") as http:
        http("POST", "/v1/spaces/s/score", json={"classifier": [[1.0] * 8]})
        http("GET", "/v1/spaces/nope", status=404)
        text = http.ask("GET", "/metrics").text
    there = {
        name
        for name in re.findall(r"^(trustvlm_\w+)", text, re.MULTILINE)
        if not name.endswith("_created")
    }
    names = set(re.findall(r"trustvlm_\w+", asked))
    families = set(re.findall(r"# TYPE (trustvlm_\w+)", text))
    assert names <= there | families  # of a counter by space there is no number yet
    shown = {family for family in families if any(name.startswith(family) for name in names)}
    assert {family for family in families - shown if not family.endswith("_created")} == {
        "trustvlm_batch_rows", "trustvlm_snapshot_lag", "trustvlm_calibrated",
    }  # fmt: skip
