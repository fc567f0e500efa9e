"""The text pass over 16-bit rows, with every kernel, against float64 over float32 rows."""

from __future__ import annotations

import numpy as np
import pytest

from benchmarks.synthetic import Labels, quantiles
from trustvlm.softmax.kernels import DEVICE, EXACT, KERNELS, Kernels, measure
from trustvlm.softmax.quantize import (
    Coarse,
    Segment,
    coarsened,
    rotation,
    shortened,
    shuffled,
    to_bfloat16,
    widened,
)
from trustvlm.softmax.softmax import leading_rows, refined, softmax_pass

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
    order = shuffled(len(rows))
    turned = rotation(rows.shape[1])
    coarse = Coarse(*coarsened(rows[order], centre, turned), order, turned)
    return Segment(0, shortened(rows, centre), centre, covariance, coarse)


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


@pytest.mark.parametrize("kind", ["all", "half", "tail"])
@pytest.mark.parametrize("batch", [1, 5, 64])
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
    found = softmax_pass(segments, asked, SCALE, 64, keep=keep, kernels=chosen(kernel, batch))
    exact = exactly(rows, asked, keep)
    p = np.exp(exact - log_sum(exact)[:, np.newaxis])
    np.testing.assert_allclose(
        found.logits, np.take_along_axis(exact, found.slots, axis=1), atol=0.15
    )
    # What the pass left out is no better than its last leader, but for rounding.
    left_out = exact.copy()
    np.put_along_axis(left_out, found.slots, -np.inf, axis=1)
    assert (
        left_out.max(axis=1) < np.take_along_axis(exact, found.slots, axis=1)[:, -1] + 0.2
    ).all()
    moments, _, rest = refined(
        found,
        np.take_along_axis(exact, found.slots, axis=1),
        LABELS if keep is None else keep.sum(),
    )
    np.testing.assert_allclose(moments.log_z, log_sum(exact), atol=1e-3)
    np.testing.assert_allclose(np.exp(exact.max(axis=1) - moments.log_z), p.max(axis=1), atol=1e-3)
    np.testing.assert_allclose(
        rest, 1 - np.take_along_axis(p, found.slots, axis=1).sum(axis=1), atol=1e-3
    )
    np.testing.assert_allclose(moments.impurity, 1 - (p**2).sum(axis=1), atol=1e-3)
    with np.errstate(divide="ignore", invalid="ignore"):
        entropy = np.where(p > 0, p * np.log(p), 0.0).sum(axis=1)
    np.testing.assert_allclose(moments.negative_entropy, entropy, atol=2e-3)


@pytest.mark.parametrize("kind", ["all", "half", "tail"])
@pytest.mark.parametrize("batch", [1, 64])
@pytest.mark.parametrize("kernel", [*KERNELS, DEVICE])
def test_leaders_alone_are_those_of_the_pass(
    rows: np.ndarray,
    queries: np.ndarray,
    segments: list[Segment],
    kernel: str,
    batch: int,
    kind: str,
) -> None:
    asked, keep = queries[:batch], some(kind)
    slots, logits = leading_rows(segments, asked, 1.0, 80, keep=keep, kernels=chosen(kernel, batch))
    cosines = exactly(rows, asked, keep) / SCALE
    np.testing.assert_allclose(logits, np.take_along_axis(cosines, slots, axis=1), atol=0.0015)
    best = np.argsort(-cosines, axis=1)[:, :64]
    assert all(
        set(few) <= set(found)
        for few, found in zip(best[:, :40].tolist(), slots.tolist(), strict=True)
    )


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
    short, steps = coarsened(some_rows, centre, turned)
    back = (short * steps[:, np.newaxis]) @ turned.T + centre
    apart = np.linalg.norm(back - some_rows, axis=1) / np.linalg.norm(some_rows - centre, axis=1)
    assert apart.mean() < 0.009
    assert apart.max() < 0.015
    np.testing.assert_allclose(turned @ turned.T, np.eye(rows.shape[1]), atol=1e-5)
    assert sorted(shuffled(50)) == list(range(50))


def test_float32_rows_do_not_care_for_kernels(rows: np.ndarray, queries: np.ndarray) -> None:
    exact = exactly(rows, queries, None)
    for kernels in (EXACT, Kernels(((64, "scan"),)), Kernels(((64, "bfloat16"),))):
        found = softmax_pass(rows, queries, SCALE, 16, kernels=kernels)
        assert (found.slots == np.argsort(-exact, axis=1)[:, :16]).all()
        np.testing.assert_allclose(found.log_z, log_sum(exact), atol=2e-5)


@pytest.mark.parametrize("block_rows", [1, 7, 4_096, 100_000])
def test_the_block_size_changes_nothing(
    rows: np.ndarray, queries: np.ndarray, segments: list[Segment], block_rows: int
) -> None:
    if block_rows < 100:  # thousands of blocks take their time
        segments = [whole(rows[:300], *about(segments[0])), Segment(300, rows[300:350])]
    kernels = Kernels(((64, "scan"),))
    one = softmax_pass(segments, queries[:3], SCALE, 40, kernels=kernels)
    other = softmax_pass(segments, queries[:3], SCALE, 40, kernels=kernels, block_rows=block_rows)
    np.testing.assert_allclose(other.log_z, one.log_z, atol=1e-5)
    assert (other.slots == one.slots).all()


def test_more_leaders_than_rows(
    rows: np.ndarray, segments: list[Segment], queries: np.ndarray
) -> None:
    few = [whole(rows[:5], *about(segments[0]))]
    for kernel in (*KERNELS, DEVICE):
        found = softmax_pass(few, queries[:2], SCALE, 9, kernels=chosen(kernel, 2))
        assert (np.sort(found.slots, axis=1)[:, -5:] == np.arange(5)).all()
        assert (found.slots[:, 5:] == -1).all()
        assert np.isneginf(found.logits[:, 5:]).all()
        assert np.isfinite(found.log_z).all()


def test_no_queries_and_no_rows(segments: list[Segment], queries: np.ndarray) -> None:
    assert softmax_pass(segments, queries[:0], SCALE, 4).slots.shape == (0, 4)
    nothing = softmax_pass([], queries[:2], SCALE, 4)
    assert (nothing.slots == -1).all()
    assert np.isneginf(nothing.log_z).all()


def test_bfloat16_is_what_torch_makes_of_it() -> None:
    torch = pytest.importorskip("torch")
    rng = np.random.default_rng(3)
    values = np.concatenate(
        [rng.standard_normal(10_000), [0.0, -0.0, 1e-30, 65504.0, 2**-126, 1.00390625, 1.01171875]]
    )
    values = values.astype(np.float32)
    expected = torch.from_numpy(values).bfloat16()
    assert (to_bfloat16(values) == expected.view(torch.int16).numpy().view(np.uint16)).all()
    assert (widened(to_bfloat16(values)) == expected.float().numpy()).all()


def test_measuring_names_a_kernel_for_every_number_of_queries() -> None:
    kernels = measure()
    assert {kernels.of(count) for count in (1, 2, 10, 100, 10_000)} <= set(KERNELS)
    assert [most for most, _ in kernels.steps] == sorted({most for most, _ in kernels.steps})


def test_the_synthetic_labels_behave_like_those_of_clip() -> None:
    found = quantiles(Labels(16_384), images=400)
    np.testing.assert_allclose(found["text–text cosine: mean, deviation"], [0.65, 0.04], atol=0.006)
    np.testing.assert_allclose(
        found["image and own label: 5, 50, 95 %"], [0.23, 0.30, 0.36], atol=0.015
    )
    np.testing.assert_allclose(
        found["image and another: 1, 50, 99 %"], [0.10, 0.15, 0.21], atol=0.012
    )
    assert (Labels(9_000).text(8_000, 9_000) == Labels(9_000).text()[8_000:]).all()
