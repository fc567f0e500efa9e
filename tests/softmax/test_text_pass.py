"""The text pass over 16-bit rows, with every kernel, against float64 over float32 rows."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from benchmarks.synthetic import Labels, quantiles
from trustvlm.softmax.dense import dense_rows
from trustvlm.softmax.kernel_speed import measure
from trustvlm.softmax.kernels import DEVICE, EXACT, KERNELS, Kernels
from trustvlm.softmax.leading import LeadingRows
from trustvlm.softmax.quantize import (
    Int8Rows,
    Segment,
    from_bfloat16,
    random_order,
    rotation,
    to_bfloat16,
    to_int8,
)
from trustvlm.softmax.streamed import streamed_rows

LABELS, TAIL, QUERIES, SCALE = 20_000, 700, 64, 100.0


@pytest.fixture(scope="module")
def rows() -> np.ndarray:
    return Labels(LABELS).text()


@pytest.fixture(scope="module")
def queries() -> np.ndarray:
    return Labels(LABELS).images(QUERIES)[0]


@pytest.fixture(scope="module")
def segments(rows: np.ndarray) -> list[Segment]:
    """16-bit rows, and behind them a tail of float32 rows."""
    head = rows[:-TAIL]
    centre = head.mean(axis=0)
    covariance = (head - centre).T @ (head - centre) / len(head)
    return [whole(head, centre, covariance), Segment(len(head), rows[-TAIL:])]


def whole(rows: np.ndarray, centre: np.ndarray, covariance: np.ndarray) -> Segment:
    """Rows in 16 bits and in 8, as a snapshot holds them."""
    order = random_order(len(rows))
    turned = rotation(rows.shape[1])
    int8 = Int8Rows(*to_int8(rows[order], centre, turned), order, turned)
    return Segment(0, to_bfloat16(rows - centre), centre, covariance, int8)


def about(segment: Segment) -> tuple[np.ndarray, np.ndarray]:
    assert segment.centre is not None
    assert segment.covariance is not None
    return segment.centre, segment.covariance


def exactly(rows: np.ndarray, queries: np.ndarray, keep: np.ndarray | None) -> np.ndarray:
    """(n, N) float64 logits."""
    logits = SCALE * queries.astype(np.float64) @ rows.T.astype(np.float64)
    return logits if keep is None else np.where(keep, logits, -np.inf)


def log_sum(logits: np.ndarray) -> np.ndarray:
    top = logits.max(axis=1)
    return top + np.log(np.exp(logits - top[:, np.newaxis]).sum(axis=1))


def some(kind: str) -> np.ndarray | None:
    rng = np.random.default_rng(1)
    return {
        "all": None,
        "half": rng.random(LABELS) < 0.5,
        "tail": np.arange(LABELS) >= LABELS - TAIL // 2,
    }[kind]


def chosen(kernel: str, batch: int) -> Kernels:
    """The kernel for so many queries; "device": torch's own "cpu", where the same code runs that
    serves a GPU."""
    return Kernels(device="cpu") if kernel == DEVICE else Kernels(((batch, kernel),))


def passed(
    rows: np.ndarray,
    segments: list[Segment],
    queries: np.ndarray,
    k: int,
    kernels: Kernels = EXACT,
    *,
    scale: float = SCALE,
    **options: Any,
) -> LeadingRows:
    exact = queries.astype(np.float64)
    return streamed_rows(segments, rows.__getitem__, exact, scale, k, kernels=kernels, **options)


def assert_like(
    found: LeadingRows, exact: np.ndarray, moments: float, entropy: float, slack: float
) -> None:
    """The leaders and moments are those of the (n, N) float64 logits."""
    p = np.exp(exact - log_sum(exact)[:, np.newaxis])
    there = found.slots >= 0
    chosen = np.take_along_axis(exact, found.slots, axis=1)
    np.testing.assert_allclose(found.logits[there], chosen[there], rtol=1e-12)
    # What the pass left out is no better than its last leader, but for rounding.
    left_out = exact.copy()
    np.put_along_axis(left_out, found.slots, -np.inf, axis=1)
    assert (left_out.max(axis=1) < chosen[:, -1] + slack).all()
    assert found.moments is not None
    np.testing.assert_allclose(found.moments.log_z, log_sum(exact), atol=moments)
    np.testing.assert_allclose(
        found.rest, 1 - np.take_along_axis(p, found.slots, axis=1).sum(axis=1), atol=moments
    )
    np.testing.assert_allclose(found.moments.impurity, 1 - (p**2).sum(axis=1), atol=moments)
    with np.errstate(divide="ignore", invalid="ignore"):
        expected = np.where(p > 0, p * np.log(p), 0.0).sum(axis=1)
    np.testing.assert_allclose(found.moments.negative_entropy, expected, atol=entropy)
    assert (left_out.max(axis=1) - found.moments.log_z <= np.log(found.bound) + 1e-3).all()


@pytest.mark.parametrize("kind", ["all", "half", "tail"])
@pytest.mark.parametrize("batch", [1, 64])
@pytest.mark.parametrize("kernel", [*KERNELS, DEVICE])
def test_every_kernel_finds_leaders_and_total(
    rows: np.ndarray,
    queries: np.ndarray,
    segments: list[Segment],
    kernel: str,
    batch: int,
    kind: str,
) -> None:
    asked, keep = queries[:batch], some(kind)
    exact = exactly(rows, asked, keep)
    found = passed(rows, segments, asked, 64, chosen(kernel, batch), keep=keep)
    assert found.slots.shape == (batch, 80)
    assert_like(found, exact, 1e-3, 2e-3, 0.2)
    alone = passed(
        rows, segments, asked, 64, chosen(kernel, batch), keep=keep, scale=1.0, sums=False
    )
    best = np.argsort(-exact, axis=1)[:, :40]
    assert all(set(b) <= set(a) for a, b in zip(alone.slots.tolist(), best.tolist(), strict=True))


@pytest.mark.parametrize("kind", ["all", "half", "tail"])
@pytest.mark.parametrize("batch", [1, 5, 64])
def test_the_dense_engine_finds_the_same(
    rows: np.ndarray, queries: np.ndarray, batch: int, kind: str
) -> None:
    asked, keep = queries[:batch], some(kind)
    exact = exactly(rows, asked, keep)
    dense = dense_rows(rows, asked.astype(np.float64), SCALE, 64, keep=keep)
    streamed = passed(rows, [Segment(0, rows)], asked, 64, keep=keep)
    for found in (dense, streamed):
        assert_like(found, exact, 1e-5, 1e-4, 1e-4)
    np.testing.assert_array_equal(dense.slots[:, :60], streamed.slots[:, :60])
    alone = dense_rows(rows, asked.astype(np.float64), SCALE, 64, keep=keep, sums=False)
    np.testing.assert_array_equal(alone.slots, dense.slots)
    assert alone.moments is None


@pytest.mark.parametrize("outliers", [0, 3])
def test_8_bit_rows_are_near_whatever_their_shape(rows: np.ndarray, outliers: int) -> None:
    """Dimensions that hold most of the energy, as image encoders have them, cost nothing: rows are
    rotated first."""
    some_rows = rows[:2_000].copy()
    some_rows[:, 100 : 100 + outliers] += 5.0 * np.random.default_rng(2).standard_normal(
        (2_000, outliers), dtype=np.float32
    )
    some_rows /= np.linalg.norm(some_rows, axis=1, keepdims=True)
    centre, turned = some_rows.mean(axis=0), rotation(rows.shape[1])
    short, steps = to_int8(some_rows, centre, turned)
    back = (short * steps[:, np.newaxis]) @ turned.T + centre
    apart = np.linalg.norm(back - some_rows, axis=1) / np.linalg.norm(some_rows - centre, axis=1)
    assert apart.mean() < 0.009
    assert apart.max() < 0.015
    np.testing.assert_allclose(turned @ turned.T, np.eye(rows.shape[1]), atol=1e-5)
    assert sorted(random_order(50)) == list(range(50))


def test_float32_rows_do_not_care_for_kernels(rows: np.ndarray, queries: np.ndarray) -> None:
    exact = exactly(rows, queries, None)
    for kernels in (EXACT, Kernels(((64, "scan"),)), Kernels(((64, "bfloat16"),))):
        found = passed(rows, [Segment(0, rows)], queries, 16, kernels)
        assert (found.slots == np.argsort(-exact, axis=1)[:, :16]).all()
        assert_like(found, exact, 2e-5, 1e-4, 1e-4)


@pytest.mark.parametrize("block_rows", [1, 7, 4_096, 100_000])
def test_the_block_size_changes_nothing(
    rows: np.ndarray, queries: np.ndarray, segments: list[Segment], block_rows: int
) -> None:
    if block_rows < 100:  # thousands of blocks take their time
        segments = [whole(rows[:300], *about(segments[0])), Segment(300, rows[300:350])]
    kernels = Kernels(((64, "scan"),))
    one = passed(rows, segments, queries[:3], 40, kernels)
    other = passed(rows, segments, queries[:3], 40, kernels, block_rows=block_rows)
    assert one.moments is not None
    assert other.moments is not None
    np.testing.assert_allclose(other.moments.log_z, one.moments.log_z, atol=1e-5)
    assert (other.slots == one.slots).all()


def test_more_leaders_than_rows(
    rows: np.ndarray, segments: list[Segment], queries: np.ndarray
) -> None:
    few = [whole(rows[:5], *about(segments[0]))]
    for kernel in (*KERNELS, DEVICE):
        keep = np.arange(5) < 3
        for found, n in (
            (passed(rows, few, queries[:2], 9, chosen(kernel, 2)), 5),
            (passed(rows, few, queries[:2], 9, chosen(kernel, 2), keep=keep), 3),
            (dense_rows(rows[:5], queries[:2].astype(np.float64), SCALE, 9, keep=keep), 3),
        ):
            assert (np.sort(found.slots, axis=1)[:, -n:] == np.arange(n)).all()
            assert np.isneginf(found.logits[:, n:]).all()
            assert found.moments is not None
            assert np.isfinite(found.moments.log_z).all()
            assert not found.rest.any()


def test_no_queries_and_no_rows(
    rows: np.ndarray, segments: list[Segment], queries: np.ndarray
) -> None:
    assert passed(rows, segments, queries[:0], 4).slots.shape == (0, 20)
    keep = np.zeros(LABELS, np.bool_)
    for none in (
        passed(rows, segments, queries[:2], 4, keep=keep),
        dense_rows(rows, queries[:2].astype(np.float64), SCALE, 4, keep=keep),
    ):
        assert (none.slots == -1).all()
        assert none.moments is not None
        assert np.isneginf(none.moments.log_z).all()


def test_bfloat16_is_what_torch_makes_of_it() -> None:
    torch = pytest.importorskip("torch")
    rng = np.random.default_rng(3)
    values = np.concatenate(
        [rng.standard_normal(10_000), [0.0, -0.0, 1e-30, 65504.0, 2**-126, 1.00390625, 1.01171875]]
    )
    values = values.astype(np.float32)
    expected = torch.from_numpy(values).bfloat16()
    assert (to_bfloat16(values) == expected.view(torch.int16).numpy().view(np.uint16)).all()
    assert (from_bfloat16(to_bfloat16(values)) == expected.float().numpy()).all()


def test_measuring_names_a_kernel_for_every_number_of_queries() -> None:
    kernels = measure()
    assert {kernels.of(count) for count in (1, 2, 10, 100, 10_000)} <= set(KERNELS)
    assert [most for most, _ in kernels.steps] == sorted({most for most, _ in kernels.steps})


def test_the_synthetic_labels_behave_like_those_of_clip() -> None:
    found = quantiles(Labels(8_192), images=300)
    np.testing.assert_allclose(found["text–text cosine: mean, deviation"], [0.65, 0.04], atol=0.006)
    np.testing.assert_allclose(
        found["image and own label: 5, 50, 95 %"], [0.23, 0.30, 0.36], atol=0.015
    )
    np.testing.assert_allclose(
        found["image and another: 1, 50, 99 %"], [0.10, 0.15, 0.21], atol=0.012
    )
    assert (Labels(9_000).text(8_000, 9_000) == Labels(9_000).text()[8_000:]).all()
