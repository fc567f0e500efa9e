"""The benchmark for machines with a GPU: all of it runs, on a stand-in."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

from benchmarks import gpu


@pytest.mark.slow
def test_all_of_it_runs_on_a_stand_in(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "gpu.json"
    monkeypatch.setattr("sys.argv", ["gpu", "--small", "--json", str(path)])
    gpu.main()
    report = json.loads(path.read_text())
    assert [row["recipe"] for row in report["parity"]] == list(gpu.RECIPES)
    assert all(row["on_gpu"] for row in report["parity"])
    for row in report["parity"]:
        assert max(row["largest_error"], row["largest_loss"] / 2) <= row["allowed_error"]
    assert [(row["recipe"], row["on_gpu"]) for row in report["ivf"]] == [
        ("ivf-flat", True),
        ("ivf-flat", False),
        ("ivf-sq8", True),
        ("ivf-sq8", False),
    ]
    assert {row["labels"] for row in report["passes"]} == set(gpu.SMALL.labels)
    assert all(row["error_of_log_partition"] < 1e-3 for row in report["passes"])
    assert report["pipeline"][0]["encode_ms"] > 0


@pytest.mark.skipif(torch.cuda.is_available(), reason="has a GPU")
def test_without_a_gpu_it_says_so_and_writes_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "gpu.json"
    monkeypatch.setattr("sys.argv", ["gpu", "--json", str(path)])
    gpu.main()
    assert "skipped: torch sees no GPU" in capsys.readouterr().out
    assert not path.exists()
