"""The products of the dense engine on a device of torch's: on "cpu" here, where the same code runs,
and on a CUDA device with ``pytest -m gpu``."""

from __future__ import annotations

import gc
from pathlib import Path

import numpy as np
import pytest
import torch

import trustvlm
from benchmarks.synthetic import DIM, Labels
from trustvlm.softmax import on_device

LABELS = 1_000


class Contract:
    device = "cpu"

    @pytest.mark.parametrize("batch", [0, 1, 80])
    def test_products_are_those_of_float64(self, batch: int) -> None:
        rows, queries = Labels(LABELS).text(), Labels(LABELS).images(80)[0][:batch]
        for some in (rows, rows[:900], rows[100:], rows[::2], np.asfortranarray(rows)):
            found = on_device.products(queries, some, self.device)
            assert (found.shape, found.dtype) == ((batch, len(some)), np.float32)
            expected = queries.astype(np.float64) @ some.T.astype(np.float64)
            np.testing.assert_allclose(found, expected, atol=1e-6)
            found[:] = 0.0  # it belongs to the caller

    def test_rows_are_sent_once_and_leave_the_device_with_their_array(self) -> None:
        gc.collect()
        rows, before = Labels(LABELS).text(), len(on_device._copies)
        queries = Labels(LABELS).images(80)[0]
        expected = queries @ rows.T
        few = on_device.products(queries, rows[:900], self.device)
        rows[:900] = 0.0  # which shows that they are not sent again
        more = on_device.products(queries, rows, self.device)
        np.testing.assert_allclose(few, expected[:, :900], atol=1e-6)
        np.testing.assert_allclose(more, expected, atol=1e-6)
        assert len(on_device._copies) == before + 1
        del rows
        gc.collect()
        assert len(on_device._copies) == before

    @pytest.mark.slow  # by default: test_products_are_those_of_float64
    def test_a_space_that_grows_gives_the_verdicts_of_the_processor(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        labels = Labels(LABELS)
        asked = trustvlm.Queries(labels.images(80)[0])
        inputs = [
            trustvlm.LabelInput(f"label {i}", text, image_vectors=text[np.newaxis])
            for i, text in enumerate(labels.text())
        ]
        gc.collect()
        before = len(on_device._copies)

        def verdicts(folder: str, device: str | None) -> list[trustvlm.Verdicts]:
            monkeypatch.setattr("trustvlm.service.memory.space_cache.pass_device", lambda _: device)
            with trustvlm.open(tmp_path / folder, create=True) as service:
                service.create_space("space", classifier=f"precomputed:{DIM}")
                service.register("space", inputs[: LABELS // 2])
                found = [service.score("space", asked)]
                service.register("space", inputs[LABELS // 2 :])
                service.remove_label("space", str(found[0].label[0]))
                found.append(service.score("space", asked))
                assert (len(on_device._copies) > before) == (device is not None)
                return found

        expected = verdicts("processor", None)
        assert expected[0].label.tolist() != expected[1].label.tolist()
        for found, exact in zip(verdicts("device", self.device), expected, strict=True):
            assert found.label.tolist() == exact.label.tolist()
            assert found.nearest_prototype.tolist() == exact.nearest_prototype.tolist()
            np.testing.assert_allclose(found.trust, exact.trust, atol=1e-5)


class TestOnTorchCpu(Contract):
    pass


def test_a_device_without_room(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def full(*_: object, **__: object) -> None:
        raise torch.OutOfMemoryError("CUDA out of memory")

    monkeypatch.setattr(torch, "empty", full)
    rows, queries = Labels(LABELS).text(), Labels(LABELS).images(80)[0]
    for _ in range(2):
        np.testing.assert_array_equal(on_device.products(queries, rows, "cpu"), queries @ rows.T)
    assert [record.getMessage() for record in caplog.records] == [
        "device cpu has no room for 1000 labels: products run on the CPU"
    ]


@pytest.mark.gpu
class TestOnCard(Contract):
    device = "cuda"

    @pytest.fixture(autouse=True)
    def _gpu(self) -> None:
        if not torch.cuda.is_available():
            pytest.skip("torch sees no GPU on this machine")
