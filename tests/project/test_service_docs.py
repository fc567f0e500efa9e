"""docs/service.md names every setting, metric and error that the service has."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from http_service import served

from trustvlm.errors import STATUSES
from trustvlm.settings import Settings

DOCS = Path(__file__).resolve().parents[2] / "docs"
DOCUMENT = (DOCS / "service.md").read_text(encoding="utf-8")
MOST_EXPOSED = 20
"""Tenths of 10 points of `systemd-analyze security`."""


@pytest.mark.parametrize(
    "name", [name for name in Settings.model_fields if name.startswith("serve_")]
)
def test_settings(name: str) -> None:
    assert f"| `{name}` |" in DOCUMENT


@pytest.mark.parametrize(
    ("kind", "status"), STATUSES.items(), ids=[kind.__name__ for kind in STATUSES]
)
def test_errors(kind: type, status: int) -> None:
    assert f"{kind.__name__} {status}" in DOCUMENT


def test_metrics(home: Path) -> None:
    with served(home) as http:
        dim = http("GET", "/v1/spaces/space")["classifier_dim"]
        http(
            "POST",
            "/v1/spaces/space/score",
            json={"classifier": np.eye(1, dim).tolist(), "rule": "msp"},
        )
        http("GET", "/v1/spaces/none", status=404)
        found = set(
            re.findall(r"^# TYPE (trustvlm_\w+)", http.ask("GET", "/metrics").text, re.MULTILINE)
        )
    assert len(found) >= 12
    named = {name.removesuffix("_total") for name in re.findall(r"`(trustvlm_\w+)`", DOCUMENT)}
    assert not {name.removesuffix("_created").removesuffix("_total") for name in found} - named


def test_systemd_takes_the_unit(tmp_path: Path) -> None:
    if shutil.which("systemd-analyze") is None:
        pytest.skip("systemd-analyze is not here: apt-get install systemd")
    unit = tmp_path / "trustvlm.service"
    text = (DOCS / "trustvlm.service").read_text(encoding="utf-8")
    installed = "/opt/trustvlm-venv/bin/trustvlm"
    assert text.count(installed) == 1
    assert installed in DOCUMENT
    unit.write_text(text.replace(installed, str(Path(sys.executable).with_name("trustvlm"))))
    exposure = ("security", "--offline=true", f"--threshold={MOST_EXPOSED}")
    for check in (("verify",), exposure):
        done = subprocess.run(
            ["systemd-analyze", "--no-pager", *check, str(unit)],
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        assert done.returncode == 0, done.stdout + done.stderr
    assert not done.stderr
