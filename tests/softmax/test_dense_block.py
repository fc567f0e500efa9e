"""What is kept of a block of logits: the compiled loop and NumPy against float64 over all labels."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from trustvlm.scoring import vectors
from trustvlm.scoring.vectors import as_unit
from trustvlm.softmax import dense, native
from trustvlm.softmax.native import ColumnChoice

QUERIES = 40
CHOICES = {
    "text": ColumnChoice(6, 6, 2, 0, 64, 0.0, 0.0),
    "sum": ColumnChoice(4, 4, 2, 3, 64, 0.8, 0.1),
    "wide": ColumnChoice(64, 6, 64, 0, 64, 0.0, 0.0),
    "listed": ColumnChoice(33, 33, 2, 0, 64, 0.0, 0.0),
}


@pytest.fixture(params=["compiled", "numpy"])
def without_library(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """The compiled loops, and a machine where the package was installed without a C compiler."""
    if request.param == "numpy":
        monkeypatch.setattr(dense, "library", lambda: None)
        monkeypatch.setattr(vectors, "library", lambda: None)
    elif native.library() is None:
        pytest.skip("there was no C compiler when the package was installed")


def block(labels: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """(n, N) logits and similarities; a seventh of the labels takes no part, a fifth has no
    prototype."""
    rng = np.random.default_rng(seed)
    logits = (20 + 4 * rng.standard_normal((QUERIES, labels))).astype(np.float32)
    similarity = (0.1 * rng.standard_normal((QUERIES, labels))).astype(np.float32)
    logits[:, 3::7] = -np.inf
    similarity[:, 2::5] = similarity[:, 3::7] = -np.inf
    return logits, similarity


def largest(values: np.ndarray, k: int) -> list[int]:
    """Places of the k largest values that are no −∞, best first."""
    order = np.argsort(-values, kind="stable")[:k].tolist()
    return [place for place in order if values[place] > -np.inf]


def expected_slots(
    logits: np.ndarray, similarity: np.ndarray | None, p: np.ndarray, choice: ColumnChoice
) -> tuple[list[int], set[int]]:
    """(the text leaders in order, all labels with a column) of one query."""
    text = largest(logits, choice.text)
    slots = {*text}
    image = np.zeros(len(logits))
    if similarity is not None:
        slots |= {*largest(similarity, choice.nearest)}
        image = np.where(np.isneginf(similarity), choice.imputed, similarity)
    sums = np.where(np.isneginf(logits), -np.inf, p + choice.weight * image)
    return text[: choice.ordered], slots | {*largest(sums, choice.sums)}


@pytest.mark.parametrize("labels", [1, 3, 10, 16, 17, 64, 70, 130, 700])
@pytest.mark.parametrize("choice", CHOICES)
@pytest.mark.parametrize("images", [True, False])
@pytest.mark.usefixtures("without_library")
def test_columns_and_softmax_are_exact(labels: int, choice: str, images: bool) -> None:
    logits, similarity = block(labels, labels)
    given, chosen = similarity if images else None, CHOICES[choice]
    numbers, totals = dense.block_columns(logits, logits, given, chosen)
    slots = numbers[0].view(np.int64)
    wide = logits.astype(np.float64)
    top = wide.max(axis=1, keepdims=True)
    log_z = (top + np.log(np.exp(wide - top).sum(axis=1, keepdims=True)))[:, 0]
    p = np.exp(wide - log_z[:, np.newaxis])
    for row in range(QUERIES):
        there = slots[row] >= 0
        ordered, every = expected_slots(
            logits[row], None if given is None else given[row], p[row], chosen
        )
        assert slots[row, : len(ordered)].tolist() == ordered
        assert sorted(slots[row, there].tolist()) == sorted(every)
        columns = slots[row, there]
        np.testing.assert_array_equal(numbers[1, row, there], wide[row, columns])
        np.testing.assert_allclose(numbers[3, row, there], p[row, columns], rtol=1e-5)
        image = np.full(len(columns), -np.inf) if given is None else given[row, columns]
        np.testing.assert_array_equal(numbers[2, row, there], np.where(image > -1, image, np.nan))
        rest = p[row].sum() - p[row, columns].sum()
        np.testing.assert_allclose(totals[1, row], rest, rtol=1e-5, atol=1e-12)
    np.testing.assert_array_equal(numbers[1][slots < 0], -np.inf)
    np.testing.assert_array_equal(numbers[3][slots < 0], 0.0)
    np.testing.assert_allclose(totals[0], log_z, rtol=1e-6)
    with np.errstate(divide="ignore", invalid="ignore"):
        entropy = np.where(p > 0, p * np.log(p), 0.0).sum(axis=1)
    np.testing.assert_allclose(totals[2], entropy, atol=2e-6)
    np.testing.assert_allclose(totals[3], (p * (1 - p)).sum(axis=1), atol=2e-6)


@pytest.mark.usefixtures("without_library")
def test_a_sum_beyond_the_leaders_of_both_sides_shows() -> None:
    logits, similarity = block(400, 0)
    logits[:, 3::7], similarity[:, 2::5] = 0.0, 0.0
    choice = ColumnChoice(3, 3, 2, 3, 64, 0.5, 0.0)
    _, totals = dense.block_columns(logits, logits, similarity, choice)
    assert (totals[4] == 0).all()  # the largest sums have a large similarity
    choice = ColumnChoice(3, 3, 2, 3, 1, 0.5, 0.0)
    _, totals = dense.block_columns(logits, logits, similarity, choice)
    assert (totals[4] == 1).any()
    assert (totals[4] == 0).any() or QUERIES < 2


@pytest.mark.usefixtures("without_library")
def test_leaders_come_from_other_logits() -> None:
    logits, similarity = block(200, 1)
    leading = logits.copy()
    leading[:, ::2] = -np.inf
    leading[:, 0] = logits[:, 0] = 60.0
    choice = ColumnChoice(64, 4, 64, 0, 64, 0.0, 0.0)
    numbers, _ = dense.block_columns(logits, leading, similarity, choice)
    slots = numbers[0].view(np.int64)
    assert (slots[:, 0] == 0).all()
    assert (slots[:, 1:4] % 2 == 1).all()


@pytest.mark.parametrize("labels", [10, 90, 500])
@pytest.mark.usefixtures("without_library")
def test_equals_have_columns_once(labels: int) -> None:
    logits = np.full((3, labels), 5.0, np.float32)
    numbers, totals = dense.block_columns(logits, logits, logits, CHOICES["wide"])
    slots = numbers[0].view(np.int64)
    for row in slots:
        assert len({*row[row >= 0].tolist()}) == np.count_nonzero(row >= 0) >= min(labels, 64)
    np.testing.assert_allclose(totals[0], 5.0 + np.log(labels), rtol=1e-6)


@pytest.mark.usefixtures("without_library")
def test_probabilities_far_below_the_first_are_not_equal() -> None:
    logits = np.array([[0.0, -200.0, -300.0, -700.0]], np.float32)
    numbers, totals = dense.block_columns(logits, logits, None, CHOICES["text"])
    np.testing.assert_allclose(numbers[3], np.exp(logits.astype(np.float64)), rtol=1e-6)
    assert totals[0, 0] == pytest.approx(0.0, abs=1e-30)


@pytest.mark.parametrize("dim", [3, 16, 77, 768])
@pytest.mark.usefixtures("without_library")
def test_unit_vectors(dim: int) -> None:
    rng = np.random.default_rng(dim)
    rows = (rng.standard_normal((20, dim)) * 10.0 ** rng.integers(-30, 30, (20, 1))).astype("f4")
    wide = rows.astype(np.float64)
    expected = wide / np.linalg.norm(wide, axis=1, keepdims=True)
    for given in (rows, np.asfortranarray(rows), rows.astype(np.float64), rows[::2]):
        frozen = given.copy()
        frozen.flags.writeable = False
        unit = as_unit(frozen, dim, "rows")
        assert unit.dtype == np.float32
        np.testing.assert_allclose(unit, expected[:: 20 // len(given)], atol=2e-7)
    assert as_unit(np.empty((0, dim), np.float32), dim, "rows").shape == (0, dim)


@pytest.mark.parametrize(("count", "scale"), [(1, 1.0), (15, 30.0), (200, 1e4), (1_024, 12.5)])
@pytest.mark.usefixtures("without_library")
def test_log_sums(count: int, scale: float) -> None:
    values = np.random.default_rng(count).uniform(-1, 1, (9, count)).astype(np.float32)
    values[1:, 1::3] = -np.inf
    wide = values.astype(np.float64) * scale
    top = wide.max(axis=1)
    expected = top + np.log(np.exp(wide - top[:, np.newaxis]).sum(axis=1))
    np.testing.assert_allclose(dense.log_sums(values, scale), expected, rtol=1e-6, atol=2e-6)


def test_the_library_takes_no_array_of_another_kind() -> None:
    library = native.library()
    if library is None:
        pytest.skip("there was no C compiler when the package was installed")
    logits, similarity = block(30, 0)
    odd: list[Callable[[], object]] = [
        lambda: library.columns(logits, logits, similarity[:, :-1], CHOICES["text"]),
        lambda: library.columns(logits, logits.T.copy().T, similarity, CHOICES["text"]),
        lambda: library.columns(logits.astype(np.float64), logits, None, CHOICES["text"]),
        lambda: library.unit(logits[:, ::2], 0.0, 1.0),
        lambda: library.log_sums(logits.astype(np.float64), 1.0),
    ]
    for call in odd:
        with pytest.raises(ValueError, match="of another type, shape or order"):
            call()
