"""The rules by their formulas: dense, in float64, over candidates made by hand."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest

import trustvlm
from trustvlm.errors import InvalidInput
from trustvlm.scoring.candidates import Candidates, Neighbours
from trustvlm.scoring.image_evidence import ImageEvidence
from trustvlm.scoring.posterior import posterior
from trustvlm.scoring.rules import RULES, resolve_parameters
from trustvlm.softmax.dense import dense_rows

N, M, D = 5, 7, 16


def unit(x: np.ndarray) -> np.ndarray:
    return x / np.linalg.norm(x, axis=-1, keepdims=True)


def candidates(
    seed: int = 0, bare: tuple[int, ...] = (2,), rest: float = 0.0, tau: float = 0.05
) -> Candidates:
    """M candidates, and ten more labels, eight with a prototype, that have the probability `rest`
    together."""
    rng = np.random.default_rng(seed)
    text, queries = (
        unit(rng.normal(size=(M, D))).astype(np.float32),
        unit(rng.normal(size=(N, D))).astype(np.float32),
    )
    images, looked = unit(rng.normal(size=(M, D))), unit(rng.normal(size=(N, D)))
    logits = 10.0 * queries.astype(np.float64) @ text.T.astype(np.float64)
    moments = dense_rows(text, queries.astype(np.float64), 10.0, M).moments
    assert moments is not None
    moments = replace(moments, log_z=moments.log_z - math.log(1 - rest))
    similarity = looked @ images.T
    similarity[:, list(bare)] = np.nan
    seen = [label for label in range(M) if label not in bare]
    evidence = ImageEvidence(tau, "fitted", True, 1.0, 0.1, 20, len(seen), 20, 0.3, ())
    image_log_z = np.log(np.exp(similarity[:, seen] / 0.01).sum(axis=1))
    return Candidates(
        logits, moments, similarity, 0.3, image_log_z, np.ones((N, M), np.bool_), np.full(N, rest),
        M + 10, len(seen) + 8,
        evidence, looked @ images[seen].T,
    )  # fmt: skip


def judged(name: str, c: Candidates, **given: float) -> tuple[np.ndarray, np.ndarray]:
    _, rule, parameters = resolve_parameters(
        name, {("lambda" if k == "weight" else k): v for k, v in given.items()}
    )
    found = rule.judge(c, parameters)
    return found.quantity, found.trust


def test_text_rules() -> None:
    c = candidates()
    p = np.exp(c.logit) / np.exp(c.logit).sum(axis=1, keepdims=True)
    best = p.argmax(axis=1)
    at = np.arange(N)
    second = np.sort(p, axis=1)[:, -2]
    expected = {
        "msp": p[at, best],
        "max_logit": c.logit[at, best],
        "margin": p[at, best] - second,
        "entropy": (p * np.log(p)).sum(axis=1),
        "energy": np.log(np.exp(c.logit).sum(axis=1)),
        "doctor": 1 - (1 - (p**2).sum(axis=1)) / (p**2).sum(axis=1),
    }
    assert {name for name, rule in RULES.items() if rule.kind == "text"} == set(expected)
    for name, trust in expected.items():
        np.testing.assert_allclose(judged(name, c)[1][at, best], trust, rtol=1e-9, err_msg=name)


def test_margin_of_other_labels_and_of_a_single_one() -> None:
    c = candidates()
    trust = judged("margin", c)[1]
    for row in range(N):
        for label in range(M):
            assert trust[row, label] == pytest.approx(
                c.p[row, label] - np.delete(c.p[row], label).max()
            )
    alone = replace(c, logit=c.logit[:, :1], similarity=c.similarity[:, :1], valid=c.valid[:, :1])
    np.testing.assert_allclose(judged("margin", alone)[1], alone.p)


def test_doctor_and_entropy_keep_their_precision_where_one_label_has_almost_everything() -> None:
    rows = np.array([[1.0, 0.0], [0.0, 1.0]], dtype=np.float32)
    queries = unit(np.array([[1.0, 0.0], [1.0, 0.02]])).astype(np.float32)
    logits = 40.0 * queries.astype(np.float64) @ rows.T.astype(np.float64)
    moments = dense_rows(rows, queries.astype(np.float64), 40.0, 2).moments
    assert moments is not None
    gap = logits[:, 0] - logits[:, 1]
    q = np.exp(-gap)  # p₂/p₁, 4e−18 and 1e−17: 1 − p₁ in float64 would be 0
    np.testing.assert_allclose(moments.impurity, 2 * q, rtol=1e-6)
    np.testing.assert_allclose(moments.negative_entropy, -q * (1 + gap), rtol=1e-6)


def test_ratio_is_the_distance_to_another_label_over_the_distance_to_the_own() -> None:
    c = candidates()
    trust = judged("ratio", c)[1]
    for row in range(N):
        for label in range(M):
            own = 0.3 if label == 2 else c.similarity[row, label]
            others = [c.similarity[row, other] for other in range(M) if other not in (2, label)]
            assert trust[row, label] == pytest.approx(
                math.sqrt(2 - 2 * max(others)) / math.sqrt(2 - 2 * own)
            )


def test_knn_shares_the_votes() -> None:
    near = Neighbours(
        np.array([[0.9, 0.8, 0.5]] * N),
        np.array([[1, 4, 1], [1, -1, -1], [0, 0, 0], [3, 4, 5], [-1, -1, -1]]),
    )
    votes = judged("knn", replace(candidates(), neighbours=near))[1]
    weight = np.exp(np.array([0.9, 0.8, 0.5]) / 0.07)
    weight /= weight.sum()
    assert votes[0, 1] == pytest.approx(weight[0] + weight[2])
    assert votes[0, 4] == pytest.approx(weight[1])
    assert votes[1, 1] == pytest.approx(weight[0])
    np.testing.assert_allclose(votes.sum(axis=1), [1, weight[0], 1, 1, 0], atol=1e-12)
    nothing = Neighbours(np.full((N, 2), -np.inf), np.full((N, 2), -1))
    assert not judged("knn", replace(candidates(), neighbours=nothing))[1].any()


@pytest.mark.parametrize(
    ("rest", "weight", "tau"),
    [(0.0, 1.0, None), (0.25, 1.0, None), (0.25, 0.5, 0.02), (0.0, 0.0, 0.3)],
)
def test_posterior(rest: float, weight: float, tau: float | None) -> None:
    c = candidates(rest=rest)
    given = {"weight": weight} | ({} if tau is None else {"tau": tau})
    q, trust = judged("posterior", c, **given)
    assert c.evidence is not None
    assert c.background is not None
    sharp = 0.05 if tau is None else tau
    general = np.exp(weight * np.log(np.exp(c.background / sharp).mean(axis=1)))
    p = (1 - rest) * np.exp(c.logit) / np.exp(c.logit).sum(axis=1, keepdims=True)
    bare = np.isnan(c.similarity)
    joint = np.where(bare, 0, p * np.exp(weight * c.similarity / sharp))
    mass = (
        np.where(bare, 0, p).sum(axis=1) + 0.8 * rest
    )  # of the labels outside, 80 % have support images
    fused, unknown = joint.sum(axis=1) + 0.8 * rest * general, 1 - mass
    kappa = 1 / np.sqrt(
        1 + np.pi * (10 * weight) ** 2 / 8 * (np.where(bare, p, 0) ** 2).sum(axis=1) / unknown**2
    )
    odds = mass / unknown * (fused / mass / general * np.exp(weight)) ** kappa
    share = (odds / (1 + odds))[:, np.newaxis]
    expected = np.where(
        bare, (1 - share) * p / unknown[:, np.newaxis], share * joint / fused[:, np.newaxis]
    )
    np.testing.assert_allclose(q, expected, rtol=1e-9)
    np.testing.assert_array_equal(q, trust)
    np.testing.assert_array_equal(q, judged("posterior_star", c, **given)[0])
    assert ((q >= 0) & (q <= 1)).all()


def test_posterior_without_bare_labels_is_the_plain_one() -> None:
    """docs/rules.md: q_j = p_j·e^(c_j/τ) / (Σ_C p_i·e^(c_i/τ) + (1 − Σ_C p_i)·mean of e^(c/τ))."""
    rng = np.random.default_rng(8)
    c = replace(candidates(rest=0.25), similarity=rng.uniform(0.1, 0.9, (N, M)), prototypes=M + 10)
    p = 0.75 * np.exp(c.logit) / np.exp(c.logit).sum(axis=1, keepdims=True)
    power = p * np.exp(c.similarity / 0.05)
    assert c.background is not None
    total = power.sum(axis=1) + 0.25 * np.exp(c.background / 0.05).mean(axis=1)
    np.testing.assert_allclose(judged("posterior", c)[0], power / total[:, np.newaxis], rtol=1e-9)


def test_posterior_where_a_group_is_empty() -> None:
    """Nothing but bare candidates, or a padded row: still probabilities."""
    c = candidates()
    only_bare = replace(c, similarity=np.full((N, M), np.nan), prototypes=0)
    np.testing.assert_allclose(judged("posterior", only_bare)[0], only_bare.p, rtol=1e-9)
    some = replace(
        only_bare,
        rest=np.full(N, 0.25),
        moments=replace(c.moments, log_z=c.moments.log_z - np.log(0.75)),
        prototypes=5,
    )
    q = judged("posterior", some)[0]
    assert (q.sum(axis=1) < 1).all()
    np.testing.assert_allclose(
        q / q.sum(axis=1, keepdims=True), c.p / c.p.sum(axis=1, keepdims=True), rtol=1e-9
    )


def test_a_lone_bare_label_is_left_to_the_text_more_than_many() -> None:
    """An image that looks like its label's prototype gains more against ten bare labels than
    against one of their mass."""
    log_p = np.log(
        np.array([[0.4, 0.6] + [0.0] * 9, [0.4] + [0.06] * 10], dtype=np.float64) + 1e-300
    )
    evidence = np.full((2, 11), np.nan)
    evidence[:, 0] = 10.0
    q = posterior(log_p, evidence, general=np.zeros(2), rest=np.zeros(2), verified=np.zeros(2))
    assert 0.4 < q[0, 0] < q[1, 0] < 1
    np.testing.assert_allclose(q.sum(axis=1), 1)
    np.testing.assert_allclose(
        posterior(log_p, evidence, np.zeros(2), np.zeros(2), np.zeros(2), weight=0.0),
        np.exp(log_p),
        atol=1e-12,
    )


def test_posterior_without_image_evidence_is_the_softmax() -> None:
    c = candidates()
    assert c.evidence is not None
    off = replace(c, evidence=replace(c.evidence, on=False))
    np.testing.assert_array_equal(judged("posterior", off)[0], c.p)
    assert not np.allclose(
        judged("posterior", off, tau=0.05)[0], c.p
    )  # a τ that is given overrides the guard
    bare = replace(c, similarity=np.full((N, M), np.nan), background=np.empty((N, 0)))
    np.testing.assert_array_equal(judged("posterior", bare, tau=0.05)[0], c.p)


def test_posterior_survives_extremes() -> None:
    c = candidates(tau=0.003)
    sharp = replace(
        c,
        logit=c.logit * 500,
        moments=replace(c.moments, log_z=np.log(np.exp(c.logit * 1.0).sum(axis=1)) * 500),
    )
    q = judged("posterior", sharp)[0]
    assert np.isfinite(q).all()


def test_the_table() -> None:
    assert trustvlm.DEFAULT_RULE in RULES
    for name, rule in RULES.items():
        assert rule.judge.__doc__, name
        assert rule.uses_images == (rule.kind != "text")
        found = rule.judge(
            replace(
                candidates(), neighbours=Neighbours(np.empty((N, 0)), np.empty((N, 0), np.int64))
            ),
            rule.parameters,
        )
        assert found.quantity.shape == found.trust.shape == (N, M)
        assert np.isfinite(found.trust).all(), name
    with pytest.raises(InvalidInput, match="has no parameter 'tau'"):
        resolve_parameters("trustvlm", {"tau": 0.1})
    with pytest.raises(InvalidInput, match="expected one of msp, max_logit"):
        resolve_parameters("mps", None)
