"""A mistyped setting in the environment is named, and what others set is left alone."""

from __future__ import annotations

from pathlib import Path

import pytest

import trustvlm


def test_a_variable_that_is_no_setting_is_named_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    for name in ("SERVE_RAET", "HOEM", "QQQQ", "KEY", "SHOTS", "SERVE_RATE"):
        monkeypatch.setenv(f"TRUSTVLM_{name}", "3")
    for name in ("SERVICE_HOST", "SERVICE_PORT_HTTP", "PORT", "PORT_8000_TCP_ADDR"):
        monkeypatch.setenv(f"TRUSTVLM_{name}", "of Kubernetes")
    trustvlm.open(tmp_path / "home", create=True).close()
    trustvlm.open(tmp_path / "home").close()
    assert sorted(record.message for record in caplog.records) == [
        "TRUSTVLM_HOEM is no setting of trustvlm and is ignored; did you mean TRUSTVLM_HOME?",
        "TRUSTVLM_QQQQ is no setting of trustvlm and is ignored",
        "TRUSTVLM_SERVE_RAET is no setting of trustvlm and is ignored; did you mean "
        "TRUSTVLM_SERVE_RATE?",
    ]
