"""The text pass on a CUDA device, and a space that is served from one; run with ``pytest -m
gpu``."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from test_text_pass import LABELS, assert_like, exactly, passed, some

import trustvlm
from benchmarks.synthetic import Labels
from trustvlm.softmax.quantize import Segment

pytestmark = pytest.mark.gpu


@pytest.fixture(autouse=True)
def _gpu() -> None:
    import torch

    if not torch.cuda.is_available():
        pytest.skip("torch sees no GPU on this machine")


@pytest.mark.parametrize("kind", ["all", "half", "tail"])
@pytest.mark.parametrize("batch", [1, 5, 64])
def test_the_pass_is_that_of_float64(
    rows: np.ndarray, queries: np.ndarray, segments: list[Segment], batch: int, kind: str
) -> None:
    asked, keep = queries[:batch], some(kind)
    found = passed(rows, segments, asked, 64, device="cuda", keep=keep)
    assert_like(found, exactly(rows, asked, keep), 3e-4, 2e-3, 0.2)


def test_a_large_space_gives_the_verdicts_of_the_cpu(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TRUSTVLM_HALF_FROM", "1000")
    labels = Labels(LABELS)
    texts, images = labels.text(0, 3_000), labels.images(20)[0]
    with trustvlm.open(tmp_path, create=True) as service:
        service.create_space("space", classifier="precomputed:512")
        inputs = [
            trustvlm.LabelInput(f"label {i}", text, image_vectors=text[np.newaxis])
            for i, text in enumerate(texts)
        ]
        service.register("space", inputs)
        expected = service.score("space", trustvlm.Queries(images))
    monkeypatch.setenv("TRUSTVLM_DEVICE", "cuda")
    with trustvlm.open(tmp_path) as service:
        found = service.score("space", trustvlm.Queries(images))
    assert found.label.tolist() == expected.label.tolist()
    np.testing.assert_allclose(found.text_confidence, expected.text_confidence, atol=1e-3)
    np.testing.assert_allclose(found.image_similarity, expected.image_similarity, atol=1e-6)
