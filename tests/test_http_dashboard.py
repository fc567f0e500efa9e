"""The Grafana dashboard asks for metrics that the service has; the OpenAPI document is what the service does."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from http_service import served
from test_http_processes import prepared, ready, server

ROOT = Path(__file__).resolve().parents[1]


def test_the_dashboard_knows_every_metric_and_no_other(tmp_path: Path) -> None:
    dashboard = json.loads((ROOT / "docs" / "grafana.json").read_text())
    asked = " ".join(target["expr"] for panel in dashboard["panels"] for target in panel["targets"])
    prepared(tmp_path / "home")
    with served(tmp_path / "home") as http:
        http("POST", "/v1/spaces/s/score", json={"classifier": [[1.0] * 8]})
        http("GET", "/v1/spaces/nope", status=404)
        text = http.ask("GET", "/metrics").text
    there = {name for name in re.findall(r"^(trustvlm_\w+)", text, re.MULTILINE) if not name.endswith("_created")}
    names = set(re.findall(r"trustvlm_\w+", asked))
    assert names <= there
    families = set(re.findall(r"# TYPE (trustvlm_\w+)", text))
    shown = {family for family in families if any(name.startswith(family) for name in names)}
    assert {family for family in families - shown if not family.endswith("_created")} == {
        "trustvlm_batch_rows", "trustvlm_snapshot_lag", "trustvlm_calibrated",
    }  # fmt: skip


@pytest.mark.slow
def test_schemathesis_finds_nothing(tmp_path: Path) -> None:
    """All checks but one: that whatever fits the schema is accepted cannot hold where vectors must fit a space."""
    pytest.importorskip("schemathesis")
    prepared(tmp_path / "home")
    with server(tmp_path / "home") as (_, address):
        ready(address)
        options = ["--checks", "all", "--exclude-checks", "positive_data_acceptance", "--phases", "examples,coverage,fuzzing"]
        command = [sys.executable, "-m", "schemathesis.cli", "run", f"{address}/openapi.json", *options]
        path = os.pathsep.join([str(ROOT / "tests"), os.environ.get("PYTHONPATH", "")])
        environment = os.environ | {"SCHEMATHESIS_HOOKS": "schemathesis_hooks", "PYTHONPATH": path}
        more = ["--max-examples", "5", "--seed", "1"]
        done = subprocess.run(
            [*command, *more], cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=280, check=False
        )
        assert done.returncode == 0, done.stdout[-5_000:]
    assert '"level": "error"' not in (tmp_path / "home.log").read_text()
