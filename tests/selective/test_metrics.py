"""trustvlm.selective.metrics: areas computed by hand, brute force, scikit-learn, and what must not
change them."""

from __future__ import annotations

import math
from itertools import pairwise, permutations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.metrics import average_precision_score, roc_auc_score

from trustvlm.errors import InvalidInput
from trustvlm.selective.metrics import (
    augrc,
    aupr_error,
    aurc,
    auroc,
    coverage_at_risk,
    e_aurc,
    fpr_at_tpr,
    risk_at_coverage,
    risk_coverage_curve,
)
from trustvlm.selective.ranking import BINNING, ece, reliability


def coverage_at_a_third(trust: object, correct: object) -> float:
    return coverage_at_risk(trust, correct, 1 / 3)  # type: ignore[arg-type]


def risk_at_a_half(trust: object, correct: object) -> float:
    return risk_at_coverage(trust, correct, 0.5)  # type: ignore[arg-type]


METRICS = [aurc, e_aurc, augrc, auroc, fpr_at_tpr, aupr_error, coverage_at_a_third, risk_at_a_half]

# Few distinct trust values, so that ties are the rule.
predictions = st.lists(st.tuples(st.integers(-3, 3), st.booleans()), min_size=1, max_size=40)


def split(pairs: list[tuple[int, bool]]) -> tuple[np.ndarray, np.ndarray]:
    return np.array([trust for trust, _ in pairs], float), np.array(
        [correct for _, correct in pairs]
    )


def same(a: float, b: float) -> bool:
    return (math.isnan(a) and math.isnan(b)) or a == pytest.approx(b, abs=1e-12)


def test_areas_by_hand() -> None:
    trust, correct = [0.9, 0.8, 0.7, 0.6], [True, False, True, False]
    assert aurc(trust, correct) == pytest.approx((0 + 1 / 2 + 1 / 3 + 2 / 4) / 4)
    assert e_aurc(trust, correct) == pytest.approx(
        (0 + 1 / 2 + 1 / 3 + 2 / 4) / 4 - (0 + 0 + 1 / 3 + 2 / 4) / 4
    )
    assert augrc(trust, correct) == pytest.approx(((0 + 0) + (0 + 1) + (1 + 1) + (1 + 2)) / 2 / 16)
    assert auroc(trust, correct) == pytest.approx(3 / 4)
    assert fpr_at_tpr(trust, correct) == 0.5
    assert fpr_at_tpr(trust, correct, tpr=0.5) == 0.0
    # The errors by rising trust: the first of 1, the second of 3.
    assert aupr_error(trust, correct) == pytest.approx((1 / 1 + 2 / 3) / 2)
    assert [coverage_at_risk(trust, correct, risk) for risk in (0.0, 0.3, 1 / 3, 0.4, 0.5)] == [
        0.25,
        0.25,
        0.75,
        0.75,
        1.0,
    ]
    assert coverage_at_risk([0.9, 0.8], [0, 1], 0.4) == 0.0
    assert [risk_at_coverage(trust, correct, share) for share in (0.1, 0.25, 0.5, 1.0)] == [
        0.0,
        0.0,
        0.5,
        0.5,
    ]


def test_ties_share_their_mean_error() -> None:
    trust, correct = [1.0, 0.5, 0.5, 0.5], [1, 1, 0, 0]
    errors = [0, 2 / 3, 4 / 3, 2]
    assert aurc(trust, correct) == pytest.approx(
        sum(e / n for e, n in zip(errors, (1, 2, 3, 4), strict=True)) / 4
    )
    assert augrc(trust, correct) == pytest.approx((sum(errors) - errors[-1] / 2) / 16)
    assert auroc(trust, correct) == pytest.approx((1 + 1 + 0.5 + 0.5) / 4)
    assert fpr_at_tpr(trust, correct) == 1.0
    assert aupr_error(trust, correct) == pytest.approx(2 / 3)
    assert coverage_at_risk(trust, correct, 0.5) == 1.0
    assert coverage_at_risk(trust, correct, 0.4) == 0.25
    assert risk_at_coverage(trust, correct, 0.3) == 0.5


def test_curve_has_one_point_per_threshold() -> None:
    curve = risk_coverage_curve([0.2, 0.9, 0.9, math.inf, -math.inf], [0, 1, 0, 1, 0])
    assert curve.threshold.tolist() == [math.inf, 0.9, 0.2, -math.inf]
    assert curve.coverage == pytest.approx([1 / 5, 3 / 5, 4 / 5, 1])
    assert curve.risk == pytest.approx([0, 1 / 3, 2 / 4, 3 / 5])
    coverage, risk, threshold = curve
    assert coverage is curve.coverage
    assert risk is curve.risk
    assert threshold is curve.threshold


@pytest.mark.parametrize("n", [1, 5])
def test_all_right_and_all_wrong(n: int) -> None:
    trust = np.arange(n, dtype=float)
    for correct, area in ((np.ones(n, bool), 0.0), (np.zeros(n, bool), 1.0)):
        assert aurc(trust, correct) == area
        assert e_aurc(trust, correct) == 0.0
        assert augrc(trust, correct) == area / 2
        assert math.isnan(auroc(trust, correct))
        assert math.isnan(fpr_at_tpr(trust, correct))
        assert same(aupr_error(trust, correct), area if area else math.nan)
        assert coverage_at_risk(trust, correct, 0.5) == 1 - area
        assert risk_at_coverage(trust, correct, 0.5) == area


@given(predictions)
def test_ties_are_the_mean_over_all_orders(pairs: list[tuple[int, bool]]) -> None:
    trust, correct = split(pairs[:6])
    areas, joint = [], []
    for order in permutations(range(len(trust))):
        if all(trust[a] >= trust[b] for a, b in pairwise(order)):
            errors = np.cumsum(~correct[list(order)])
            areas.append(np.mean(errors / np.arange(1, len(order) + 1)))
            joint.append(np.trapezoid([0, *errors]) / len(order) ** 2)
    assert aurc(trust, correct) == pytest.approx(np.mean(areas), abs=1e-12)
    assert augrc(trust, correct) == pytest.approx(np.mean(joint), abs=1e-12)


@given(predictions)
def test_brute_force(pairs: list[tuple[int, bool]]) -> None:
    trust, correct = split(pairs)
    right, wrong = trust[correct], trust[~correct]
    if len(right) and len(wrong):
        won = (right[:, None] > wrong) + 0.5 * (right[:, None] == wrong)
        assert auroc(trust, correct) == pytest.approx(won.mean(), abs=1e-12)
        assert auroc(trust, correct) == pytest.approx(roc_auc_score(correct, trust), abs=1e-12)
        for tpr in (0.05, 0.5, 0.95, 1.0):
            threshold = max(t for t in trust if (right >= t).mean() >= tpr)
            assert fpr_at_tpr(trust, correct, tpr) == (wrong >= threshold).mean()
    if len(wrong):
        assert aupr_error(trust, correct) == pytest.approx(
            average_precision_score(~correct, -trust), abs=1e-12
        )
    at = {t: ((trust >= t).mean(), (~correct[trust >= t]).mean()) for t in trust}
    for level in (0.05, 0.5, 1.0):
        assert coverage_at_risk(trust, correct, level) == max(
            (c for c, risk in at.values() if risk <= level), default=0
        )
        assert risk_at_coverage(trust, correct, level) == pytest.approx(
            min((c, r) for c, r in at.values() if c >= level)[1]
        )
    curve = risk_coverage_curve(trust, correct)
    assert (np.diff(curve.coverage) > 0).all()
    assert (np.diff(curve.threshold) < 0).all()
    for coverage, risk, threshold in zip(*curve, strict=True):
        assert coverage == (trust >= threshold).mean()
        assert risk == pytest.approx((~correct[trust >= threshold]).mean(), abs=1e-15)


@given(predictions, st.randoms(use_true_random=False))
def test_order_does_not_matter(pairs: list[tuple[int, bool]], random: object) -> None:
    shuffled = list(pairs)
    random.shuffle(shuffled)  # type: ignore[attr-defined]
    for metric in METRICS:
        a, b = metric(*split(pairs)), metric(*split(shuffled))
        assert a == b or (math.isnan(a) and math.isnan(b))


@given(predictions)
def test_strictly_increasing_maps_change_nothing(pairs: list[tuple[int, bool]]) -> None:
    trust, correct = split(pairs)
    for mapped in (
        np.exp(trust),
        trust * 1e6 - 5,
        np.arctan(trust).astype(np.float32),
        trust.astype(np.int8),
    ):
        for metric in METRICS:
            assert same(metric(trust, correct), metric(mapped, correct))


@given(predictions)
def test_bounds(pairs: list[tuple[int, bool]]) -> None:
    trust, correct = split(pairs)
    assert 0 <= aurc(trust, correct) <= 1
    assert -1e-15 <= e_aurc(trust, correct) <= aurc(trust, correct)
    assert 0 <= augrc(trust, correct) <= 0.5
    assert e_aurc(correct.astype(float), correct) == 0
    for metric in (auroc, fpr_at_tpr):
        assert math.isnan(metric(trust, correct)) == (correct.all() or not correct.any())
        assert not metric(trust, correct) > 1


def test_infinite_trust_is_a_value_like_others() -> None:
    assert auroc([math.inf, math.inf, -math.inf], [1, 0, 0]) == 0.75
    assert auroc([0.0, -0.0], [1, 0]) == 0.5


def test_correct_may_be_bool_or_numbers() -> None:
    trust = [0.3, 0.2, 0.1]
    assert (
        aurc(trust, [True, False, True])
        == aurc(trust, [1, 0, 1])
        == aurc(trust, np.array([1.0, 0.0, 1.0]))
    )


@pytest.mark.parametrize("metric", [*METRICS, risk_coverage_curve, ece, reliability])
@pytest.mark.parametrize(
    ("trust", "correct"),
    [
        ([], []),
        ([0.5, math.nan], [1, 0]),
        ([0.5, 0.4], [1]),
        ([[0.5], [0.4]], [[1], [0]]),
        (0.5, 1),
        ([0.5, 0.4], [1, 2]),
        ([0.5, 0.4], [1, math.nan]),
        (["a", "b"], [1, 0]),
        ([0.5, 0.4], ["right", "wrong"]),
    ],
)
def test_bad_input(metric: object, trust: object, correct: object) -> None:
    with pytest.raises(InvalidInput):
        metric(trust, correct)  # type: ignore[operator]


@pytest.mark.parametrize("tpr", [0.0, -1.0, 1.5, math.nan])
def test_bad_tpr(tpr: float) -> None:
    with pytest.raises(InvalidInput, match="tpr"):
        fpr_at_tpr([0.5, 0.4], [1, 0], tpr)


@pytest.mark.parametrize("level", [-0.1, 1.5, math.nan])
def test_bad_levels(level: float) -> None:
    with pytest.raises(InvalidInput, match="risk"):
        coverage_at_risk([0.5, 0.4], [1, 0], level)
    with pytest.raises(InvalidInput, match="coverage"):
        risk_at_coverage([0.5, 0.4], [1, 0], level)
    with pytest.raises(InvalidInput, match="coverage"):
        risk_at_coverage([0.5, 0.4], [1, 0], 0.0)


def test_reliability_by_hand() -> None:
    probability, correct = [0.1, 0.9, 0.3, 0.7], [0, 1, 1, 0]
    found = reliability(probability, correct, bins=2)
    assert found.probability == pytest.approx([0.2, 0.8])
    assert found.accuracy == pytest.approx([0.5, 0.5])
    assert found.count.tolist() == [2, 2]
    assert ece(probability, correct, bins=2) == pytest.approx(0.3)
    assert ece(probability, correct, bins=1) == pytest.approx(0.0)
    assert ece(probability, correct, bins=15) == pytest.approx((0.1 + 0.1 + 0.7 + 0.7) / 4)
    assert ece([1.0, 0.0], [1, 0]) == 0.0


@given(
    st.lists(st.tuples(st.integers(0, 4), st.booleans()), min_size=1, max_size=40),
    st.integers(1, 20),
)
def test_equal_probabilities_share_a_bin(pairs: list[tuple[int, bool]], bins: int) -> None:
    values, correct = split(pairs)
    probability = values / 4
    found = reliability(probability, correct, bins)
    assert len(found.count) <= min(bins, len(set(values)))
    assert found.count.sum() == len(pairs)
    assert (np.diff(found.probability) > 0).all()
    assert found.count @ found.probability == pytest.approx(probability.sum())
    assert found.count @ found.accuracy == pytest.approx(correct.sum())
    assert same(ece(probability, correct, bins), ece(probability[::-1], correct[::-1], bins))


@pytest.mark.parametrize(
    "bad",
    [
        {"probability": [0.5, 1.1]},
        {"probability": [-0.1, 0.5]},
        {"bins": 0},
        {"bins": True},
        {"bins": 1.5},
    ],
)
def test_bad_reliability(bad: dict[str, object]) -> None:
    with pytest.raises(InvalidInput, match=next(iter(bad))):
        ece(**{"probability": [0.5, 0.6], "correct": [1, 0], **bad})  # type: ignore[arg-type]


def generalised_curve(trust: np.ndarray, correct: np.ndarray) -> tuple[list[float], list[float]]:
    """Coverage and joint risk as the paper draws them: from coverage 0, one point for each distinct
    threshold."""
    points = [(0.0, 0.0)]
    for threshold in sorted(set(trust.tolist()), reverse=True):
        accepted = [
            bool(right)
            for value, right in zip(trust.tolist(), correct.tolist(), strict=True)
            if value >= threshold
        ]
        points.append((len(accepted) / len(trust), accepted.count(False) / len(trust)))
    return [x for x, _ in points], [y for _, y in points]


@given(predictions)
def test_augrc_is_the_area_of_the_paper(pairs: list[tuple[int, bool]]) -> None:
    """Against the area by trapezoids, and against the closed form with the AUROC (Traub et al.
    2024)."""
    trust, correct = split(pairs)
    coverage, risk = generalised_curve(trust, correct)
    assert augrc(trust, correct) == pytest.approx(np.trapezoid(risk, coverage), abs=1e-12)
    wrong = 1 - correct.mean()
    apart = 0.0 if wrong in (0, 1) else wrong * (1 - wrong) * (1 - roc_auc_score(correct, trust))
    assert augrc(trust, correct) == pytest.approx(wrong**2 / 2 + apart, abs=1e-12)


def test_augrc_of_a_hundred_wrong_ones() -> None:
    assert augrc(np.arange(100), np.zeros(100)) == 0.5
    assert augrc(np.zeros(100), np.zeros(100)) == 0.5


def test_ece_bins_have_equal_mass() -> None:
    """Fifteen bins of equal width would put all of these into one; of equal mass, they are told
    apart."""
    probability = np.repeat(np.linspace(0.901, 0.929, 15), 20)
    correct = np.tile(np.arange(20) % 2 == 0, 15)
    bins = reliability(probability, correct)
    assert bins.count.tolist() == [20] * 15
    assert ece(probability, correct) == pytest.approx(np.mean(np.linspace(0.901, 0.929, 15) - 0.5))
    assert BINNING == "15 bins of equal mass"
