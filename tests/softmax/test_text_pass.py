"""The text pass over 16-bit rows, in every way, against float64 over float32 rows."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from benchmarks.synthetic import Labels, quantiles
from trustvlm.softmax import leading, native, products, streamed, torch_pass
from trustvlm.softmax.dense import dense_rows
from trustvlm.softmax.leading import ExactRows, LeadingRows, similarities
from trustvlm.softmax.quantize import Segment, to_bfloat16
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
    return [short(head, centre), Segment(len(head), rows[-TAIL:])]


def short(rows: np.ndarray, centre: np.ndarray) -> Segment:
    """16-bit rows, as a snapshot holds them."""
    return Segment(0, to_bfloat16(rows - centre), centre)


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


_UNITS = native.NARROW if native.library() is None else native.library().units
WAYS = ("library", *["pairs"] * (_UNITS == native.TILES), "walk", "float32", "torch")


@pytest.fixture(params=WAYS)
def way(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str | None:
    """Each way that a pass takes on one machine or another, as the `device` of the pass: with all
    that the compiled library has here, with AVX512-VNNI where that is less, without matrix units
    (few queries are a walk over the rows, more become float32 products), and with torch."""
    if request.param == "torch":
        return "cpu"
    library = native.library()
    if library is None:
        pytest.skip("there was no C compiler when the package was installed")
    if request.param != "library":
        units = native.PAIRS if request.param == "pairs" else native.NARROW
        few = 10**6 if request.param == "walk" else 0
        monkeypatch.setattr(library, "units", units)
        monkeypatch.setattr(products, "_FEW", {units: few})
    return None


@pytest.fixture
def no_library(monkeypatch: pytest.MonkeyPatch) -> None:
    """A machine where the package was installed without a C compiler."""
    for module in (streamed, products, leading):
        monkeypatch.setattr(module, "library", lambda: None)


def passed(
    rows: np.ndarray,
    segments: list[Segment],
    queries: np.ndarray,
    k: int,
    *,
    scale: float = SCALE,
    **options: Any,
) -> LeadingRows:
    exact = queries.astype(np.float64)
    return streamed_rows(segments, ExactRows.in_memory(rows), exact, scale, k, **options)


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


@pytest.mark.parametrize("kind", ["all", pytest.param("half", marks=pytest.mark.slow), "tail"])
@pytest.mark.parametrize("batch", [1, 64])
def test_every_way_finds_leaders_and_total(
    rows: np.ndarray,
    queries: np.ndarray,
    segments: list[Segment],
    way: str | None,
    batch: int,
    kind: str,
) -> None:
    asked, keep = queries[:batch], some(kind)
    exact = exactly(rows, asked, keep)
    found = passed(rows, segments, asked, 64, device=way, keep=keep)
    assert found.slots.shape == (batch, 80)
    assert_like(found, exact, 5e-4, 2e-3, 0.2)
    alone = passed(rows, segments, asked, 64, device=way, keep=keep, scale=1.0, sums=False)
    best = np.argsort(-exact, axis=1)[:, :40]
    assert all(set(b) <= set(a) for a, b in zip(alone.slots.tolist(), best.tolist(), strict=True))


@pytest.mark.parametrize("way", [way for way in WAYS if way in ("library", "pairs")], indirect=True)
@pytest.mark.parametrize("crowd", [0, 2_000])
def test_leaders_are_all_rows_that_rounding_may_put_first(
    rows: np.ndarray, queries: np.ndarray, way: str | None, crowd: int
) -> None:
    """Also where a crowd of rows is nearer to the best one than rounding tells apart."""
    rng, exact = np.random.default_rng(7), rows.copy()
    near = queries[rng.integers(len(queries) // 2, size=crowd)]
    exact[:crowd] = near + 1e-3 * rng.standard_normal(near.shape, dtype=np.float32)
    exact /= np.linalg.norm(exact, axis=1, keepdims=True)
    parts = [
        short(exact[:-TAIL], exact[:-TAIL].mean(axis=0)),
        Segment(LABELS - TAIL, exact[-TAIL:]),
    ]
    leading = passed(exact, parts, queries, 4, device=way, scale=1.0, sums=False)
    every = exactly(exact, queries, None) / SCALE
    sure = leading.surely_nearest()
    np.testing.assert_array_equal(leading.slots[sure, 0], every.argmax(axis=1)[sure])
    assert sure[len(sure) // 2 :].all()  # no query of a crowd is among these
    assert sure.all() == (crowd == 0)
    np.put_along_axis(every, leading.slots, -np.inf, axis=1)
    assert (every.max(axis=1) <= leading.logits[:, -1] + leading.slack).all()


@pytest.mark.parametrize("kind", ["all", pytest.param("half", marks=pytest.mark.slow), "tail"])
@pytest.mark.parametrize("batch", [1, pytest.param(5, marks=pytest.mark.slow), 64])
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


@pytest.mark.parametrize("dim", [1, 15, 48, 100])
@pytest.mark.parametrize("batch", [1, 17, 64])
def test_rows_of_any_length(dim: int, batch: int, way: str | None) -> None:
    rng = np.random.default_rng(dim)
    rows, asked = (
        values / np.linalg.norm(values, axis=1, keepdims=True)
        for values in (
            rng.standard_normal((900, dim), dtype=np.float32),
            rng.standard_normal((batch, dim), dtype=np.float32),
        )
    )
    found = passed(rows, [short(rows, rows.mean(axis=0))], asked, 20, device=way)
    exact = exactly(rows, asked, None)
    assert found.moments is not None
    np.testing.assert_allclose(found.moments.log_z, log_sum(exact), atol=2e-2)
    np.testing.assert_allclose(found.logits[:, 0], exact.max(axis=1), rtol=1e-12)


@pytest.mark.parametrize("dim", [1, 96, 4_096])
def test_the_longest_rows_are_multiplied_exactly_enough(dim: int, way: str | None) -> None:
    """Rows of norm 2 behind the centre, along the queries and against them, of one number or all:
    whole numbers of 16 bits, and their sums of 32, are large enough."""
    rng = np.random.default_rng(dim)
    directions = rng.standard_normal((24, dim)) * (rng.random((24, dim)) < 0.5)
    directions[:8] = np.eye(dim)[np.arange(8) % dim]
    directions[8:16] = np.where(directions[8:16] > 0, 1.0, -1.0)
    directions[:, 0] += 1e-3
    directions = (directions / np.linalg.norm(directions, axis=1, keepdims=True)).astype(np.float32)
    rows = 2 * np.concatenate([directions, -directions])
    segment = Segment(0, to_bfloat16(rows), np.zeros(dim, np.float32))
    found = passed(rows, [segment], directions, 4, device=way, scale=10.0)
    logits = 10 * directions.astype(np.float64) @ rows.T.astype(np.float64)
    np.testing.assert_allclose(found.logits[:, 0], logits.max(axis=1), rtol=1e-12)
    np.testing.assert_allclose(found.moments.log_z, log_sum(logits), atol=1e-2)


def test_what_leaders_leave_is_known_where_they_have_everything(way: str | None) -> None:
    """The sums leave the leaders out, so that nothing is lost beside a probability of nearly 1."""
    rng = np.random.default_rng(0)
    rows = rng.standard_normal((5_000, 64), dtype=np.float32)
    rows /= np.linalg.norm(rows, axis=1, keepdims=True)
    found = passed(rows, [short(rows, np.zeros(64, np.float32))], rows[:9], 8, device=way)
    exact = exactly(rows, rows[:9], None)
    left_out = exact.copy()
    np.put_along_axis(left_out, found.slots, -np.inf, axis=1)
    rest = np.exp(left_out - log_sum(exact)[:, np.newaxis]).sum(axis=1)
    assert rest.max() < 1e-12
    np.testing.assert_allclose(found.rest, rest, rtol=0.05)


def test_without_the_library_all_is_as_with_it(
    rows: np.ndarray, queries: np.ndarray, segments: list[Segment], no_library: None
) -> None:
    for parts, error in ((segments, 3e-4), ([Segment(0, rows)], 2e-5)):
        found = passed(rows, parts, queries[:9], 64)
        assert_like(found, exactly(rows, queries[:9], None), error, 2e-3, 0.2)


def test_the_library_is_built_from_this_source(tmp_path: Path) -> None:
    """One of an older source is not loaded, nor anything else that is no library."""
    if native.library() is None:
        pytest.skip("there was no C compiler when the package was installed")
    for content in (None, b"", (native.FOLDER / "loops.so").read_bytes()):
        (tmp_path / "loops.c").write_text("another source")
        if content is not None:
            (tmp_path / "loops.so").write_bytes(content)
        assert native.loaded(tmp_path) is None


def test_float32_rows_are_not_rounded(
    rows: np.ndarray, queries: np.ndarray, way: str | None
) -> None:
    exact = exactly(rows, queries, None)
    found = passed(rows, [Segment(0, rows)], queries, 16, device=way)
    assert (found.slots == np.argsort(-exact, axis=1)[:, :16]).all()
    assert_like(found, exact, 2e-5, 1e-4, 1e-4)


@pytest.mark.parametrize("block_rows", [1, 7, 4_096, 100_000])
def test_the_block_size_changes_nothing(
    rows: np.ndarray, queries: np.ndarray, segments: list[Segment], block_rows: int
) -> None:
    if block_rows < 100:  # thousands of blocks take their time
        segments = [short(rows[:300], rows[:300].mean(axis=0)), Segment(300, rows[300:350])]
    one = passed(rows, segments, queries[:3], 40)
    other = passed(rows, segments, queries[:3], 40, block_rows=block_rows)
    assert one.moments is not None
    assert other.moments is not None
    np.testing.assert_allclose(other.moments.log_z, one.moments.log_z, atol=1e-5)
    assert (other.slots == one.slots).all()


def test_more_leaders_than_rows(rows: np.ndarray, queries: np.ndarray, way: str | None) -> None:
    few, keep = [short(rows[:5], rows[:5].mean(axis=0))], np.arange(5) < 3
    for found, n in (
        (passed(rows, few, queries[:2], 9, device=way), 5),
        (passed(rows, few, queries[:2], 9, device=way, keep=keep), 3),
        (dense_rows(rows[:5], queries[:2].astype(np.float64), SCALE, 9, keep=keep), 3),
    ):
        assert (np.sort(found.slots, axis=1)[:, -n:] == np.arange(n)).all()
        assert np.isneginf(found.logits[:, n:]).all()
        assert found.moments is not None
        assert np.isfinite(found.moments.log_z).all()
        assert not found.rest.any()


@pytest.mark.parametrize("dim", [1, 31, 100])
@pytest.mark.parametrize("compiled", [True, False])
def test_products_of_rows_in_two_pieces(
    dim: int, compiled: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Those of equal rows are equal to the last bit; only rows of the first piece are checked."""
    if not compiled:
        monkeypatch.setattr(leading, "library", lambda: None)
    rng, checked = np.random.default_rng(dim), set()
    rows = rng.standard_normal((40, dim), dtype=np.float32)
    rows[35] = rows[3]
    asked, slots = rng.standard_normal((200, dim)), rng.integers(-1, 40, (200, 7))
    slots[:, :2] = 3, 35
    pieces = ExactRows(rows[:30], rows[30:], lambda some: checked.update(some.tolist()))
    got = similarities(pieces, slots, asked)
    expected = np.einsum("nd,nmd->nm", asked, rows[slots].astype(np.float64))
    np.testing.assert_array_equal(np.isnan(got), slots < 0)
    np.testing.assert_allclose(got[slots >= 0], expected[slots >= 0], rtol=1e-12, atol=1e-13)
    np.testing.assert_array_equal(got[:, 0], got[:, 1])
    assert checked == set(slots[(slots >= 0) & (slots < 30)].tolist())


def test_no_queries_and_no_rows(
    rows: np.ndarray, segments: list[Segment], queries: np.ndarray, way: str | None
) -> None:
    assert passed(rows, segments, queries[:0], 4, device=way).slots.shape == (0, 20)
    keep = np.zeros(LABELS, np.bool_)
    for none in (
        passed(rows, segments, queries[:2], 4, keep=keep, device=way),
        dense_rows(rows, queries[:2].astype(np.float64), SCALE, 4, keep=keep),
    ):
        assert (none.slots == -1).all()
        assert none.moments is not None
        assert np.isneginf(none.moments.log_z).all()


def test_rows_lie_on_a_device_as_in_the_segment(
    segments: list[Segment], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch_pass, "_MOST_ROWS", 700)  # in several blocks, the last one shorter
    for segment in segments:
        copied = torch_pass._rows_on(segment, "cpu")
        assert torch_pass._rows_on(segment, "cpu") is copied
        np.testing.assert_array_equal(
            copied.float().numpy(), torch_pass._tensor(segment, 0, len(segment.rows)).float()
        )


def test_bfloat16_is_what_torch_makes_of_it() -> None:
    torch = pytest.importorskip("torch")
    rng = np.random.default_rng(3)
    values = np.concatenate(
        [rng.standard_normal(10_000), [0.0, -0.0, 1e-30, 65504.0, 2**-126, 1.00390625, 1.01171875]]
    )
    values = values.astype(np.float32)
    expected = torch.from_numpy(values).bfloat16()
    assert (to_bfloat16(values) == expected.view(torch.int16).numpy().view(np.uint16)).all()


@pytest.mark.slow  # by default: none, as benchmarks alone use them
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
