"""What support images say of themselves, against a plain leave-one-out computation."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from trustvlm.scoring.image_evidence import ImageEvidence, fit_evidence
from trustvlm.scoring.prototypes import leave_one_out

TAUS = np.geomspace(0.003, 0.5, 60)


def unit(x: np.ndarray) -> np.ndarray:
    return x / np.linalg.norm(x, axis=-1, keepdims=True)


def supports(
    shots: list[int], spread: float, seed: int = 0, dim: int = 12
) -> tuple[np.ndarray, np.ndarray]:
    """(n, dim) raw embeddings around a direction for each label, and their label ids (10, 11,
    …)."""
    rng = np.random.default_rng(seed)
    owner = np.repeat(np.arange(len(shots)), shots)
    return rng.normal(size=(len(shots), dim))[owner] + spread * rng.normal(
        size=(len(owner), dim)
    ), owner + 10


def fitted(raw: np.ndarray, owner: np.ndarray) -> ImageEvidence:
    ids = np.unique(owner)
    prototypes = unit(np.array([raw[owner == label].mean(axis=0) for label in ids]))
    own = leave_one_out(raw, owner, np.arange(len(raw)))
    return fit_evidence(unit(raw), owner, own, ids, prototypes)


def brute_force(raw: np.ndarray, owner: np.ndarray) -> dict[str, float]:
    """τ, gain, its error, c̃ and the sorted nearest similarities by recomputing every prototype for
    every image left out."""
    ids = np.unique(owner)
    rows, other, own = [], [], []
    for i in range(len(raw)):
        prototypes = []
        for label in ids:
            members = (owner == label) & (np.arange(len(raw)) != i)
            prototypes.append(
                unit(raw[members].mean(axis=0)) if members.any() else np.full(raw.shape[1], np.nan)
            )
        similarity = np.array(prototypes) @ unit(raw[i])
        at = int(np.flatnonzero(ids == owner[i])[0])
        other.append(np.delete(similarity, at).max() if len(ids) > 1 else math.nan)
        if (owner == owner[i]).sum() > 1:
            rows.append((similarity, at))
            own.append(similarity[at])
    told_apart = all(similarity[at] == similarity.max() for similarity, at in rows)
    smoothing = 1 / (len(rows) + 2) if told_apart else 0.0
    table = []
    for tau in TAUS:
        likelihood = []
        for similarity, at in rows:
            scaled = similarity / tau
            log_p = scaled - scaled.max() - math.log(np.exp(scaled - scaled.max()).sum())
            likelihood.append((1 - smoothing) * log_p[at] + smoothing * np.delete(log_p, at).max())
        table.append(np.array(likelihood))
    means = np.array([likelihood.mean() for likelihood in table])
    at = int(np.flatnonzero(means == means.max())[-1])
    return {
        "tau": min(1.5 * TAUS[at], 0.08 if told_apart else math.inf),
        "gain": means[at] + math.log(len(ids)),
        "gain_error": table[at].std(ddof=1) / math.sqrt(len(rows)),
        "imputed": (np.mean(own) + np.mean(other)) / 2,
        "nearest": sorted(similarity.max() for similarity, _ in rows),  # type: ignore[dict-item]
    }


@pytest.mark.parametrize(
    ("shots", "spread"),
    [([4] * 6, 0.7), ([2, 3, 9, 2, 5], 1.2), ([2, 2], 0.1), ([6] * 12, 3.0), ([3, 1, 4, 1], 0.8)],
)
def test_fit_equals_brute_force(shots: list[int], spread: float) -> None:
    raw, owner = supports(shots, spread)
    found = fitted(raw, owner)
    expected = brute_force(raw, owner)
    assert found.source == "fitted"
    for name in ("tau", "gain", "gain_error", "imputed"):
        assert getattr(found, name) == pytest.approx(expected[name], rel=1e-9, abs=1e-12), name
    nearest = expected["nearest"]
    assert list(found.lowest) == pytest.approx(nearest[: len(found.lowest)])  # type: ignore[index]
    assert found.on == (found.gain >= 2 * found.gain_error)
    assert (found.images, found.labels) == (len(raw), len(shots))


@given(
    seed=st.integers(0, 10_000),
    spread=st.floats(0.01, 5.0),
    labels=st.integers(2, 6),
    shots=st.integers(2, 5),
)
@settings(max_examples=40)
def test_tau_is_the_largest_of_the_likeliest(
    seed: int, spread: float, labels: int, shots: int
) -> None:
    raw, owner = supports([shots] * labels, spread, seed)
    assert fitted(raw, owner).tau == pytest.approx(brute_force(raw, owner)["tau"])


def test_guard() -> None:
    rng = np.random.default_rng(3)
    noise = rng.normal(size=(40, 64))
    assert not fitted(noise, np.repeat(np.arange(10), 4)).on  # random vectors say nothing
    assert fitted(*supports([4] * 10, 0.5)).on


def test_where_nothing_can_be_left_out() -> None:
    one_each = fitted(*supports([1, 1, 1], 0.5))
    assert (one_each.tau, one_each.source, one_each.on) == (0.08, "default", True)
    single = fitted(*supports([5], 0.5))
    assert (single.tau, single.source, single.on) == (0.08, "default", True)
    nothing = fit_evidence(
        np.empty((0, 4)),
        np.empty(0, np.int64),
        np.empty(0),
        np.empty(0, np.int64),
        np.empty((0, 4)),
    )
    assert (nothing.source, nothing.on, nothing.imputed) == ("none", False, 0.0)
    for evidence in (one_each, single, nothing):
        assert evidence.unknown_below(0.05) == -math.inf
        assert ImageEvidence.of_values(evidence.to_values()) == pytest.approx(
            evidence, nan_ok=True
        ) or math.isnan(evidence.gain)


def test_unknown_below_keeps_its_false_alarm_rate() -> None:
    """New images of the labels fall below the threshold of rate r in a share of at most about r."""
    raw, owner = supports([100] * 8, 0.8, seed=5)
    kept = np.arange(len(raw)) % 2 == 0
    evidence = fitted(raw[kept], owner[kept])
    prototypes = unit(
        np.array([raw[kept & (owner == label)].mean(axis=0) for label in np.unique(owner)])
    )
    nearest = (unit(raw[~kept]) @ prototypes.T).max(axis=1)
    for rate in (0.01, 0.05, 0.1):
        alarms = (nearest < evidence.unknown_below(rate)).mean()
        assert alarms <= rate + 2 * math.sqrt(rate / len(nearest)), rate
    strangers = unit(np.random.default_rng(1).normal(size=(500, 12)))
    assert ((strangers @ prototypes.T).max(axis=1) < evidence.unknown_below(0.05)).mean() > 0.5
    assert evidence.unknown_below(0.001) == -math.inf  # 400 images cannot tell 1 in 1,000
    assert evidence.unknown_below(0.01) <= evidence.unknown_below(0.1)


def test_values_survive_json() -> None:
    import json

    evidence = fitted(*supports([4] * 6, 0.7))
    assert ImageEvidence.of_values(json.loads(json.dumps(evidence.to_values()))) == evidence
