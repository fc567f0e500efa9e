"""The discriminant by its formulas: plain refits, brute force, and what must not matter."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from lda_oracle import bias_of, discriminant, leave_each_out, smoothed, unit, whitened_grid

from trustvlm.scoring.discriminant.fit import (
    DiscriminantFit,
    GroupOdds,
    Novelty,
    Tower,
    fit_discriminant,
)
from trustvlm.scoring.discriminant.rule import DiscriminantValues, discriminant_posterior
from trustvlm.scoring.discriminant.whitening import (
    LeftOutImages,
    TextSide,
    left_out_values,
    text_bias,
    whitened_halves,
    whitening,
)
from trustvlm.scoring.image_evidence import (
    agrees_with_text,
    fit_evidence,
    plain_sharpness,
    smoothed_sharpness,
)
from trustvlm.scoring.posterior import general_evidence, posterior

D = 10
PARAMETERS = {"lambda": 1.0, "tau": None, "towers": None}


def images_of(shots: list[int], seed: int, spread: float = 0.6) -> list[np.ndarray]:
    rng = np.random.default_rng(seed)
    return [rng.normal(size=D) + spread * rng.normal(size=(n, D)) for n in shots]


def tower(images: list[np.ndarray]) -> Tower:
    raw = np.concatenate(images)
    owner = np.repeat(np.arange(len(images)), [len(rows) for rows in images])
    left_out, scatter = LeftOutImages.of_labels(raw, owner, np.arange(len(raw)), owner)
    return Tower(left_out, scatter, np.array([unit(rows.mean(axis=0)) for rows in images]))


def text_side(images: list[np.ndarray], seed: int, bare: bool = False) -> TextSide:
    rng = np.random.default_rng(seed)
    owner = np.repeat(np.arange(len(images)), [len(rows) for rows in images])
    logits = rng.normal(size=(len(owner), len(images)))
    logits[np.arange(len(owner)), owner] += 2.0
    log_bare = rng.normal(size=len(owner)) if bare else None
    bias = text_bias(logits, np.identity(len(images)), owner)
    return TextSide(np.arange(len(owner)), logits, owner, bias, np.zeros(len(images)), log_bare)


def values_of(fit: DiscriminantFit, one: Tower, queries: np.ndarray) -> DiscriminantValues:
    cosines = queries @ one.prototypes.T
    g = cosines
    if fit.matrix is not None:
        halves = whitened_halves(fit.matrix, one.prototypes)
        g = queries @ fit.matrix @ one.prototypes.T - halves
    bias = np.broadcast_to(fit.bias, g.shape)
    return DiscriminantValues(fit, g, g, None, None, bias, cosines.max(axis=1))


@pytest.mark.parametrize("shots", [[4] * 5, [2, 3, 6, 2], [1, 5, 3, 1, 2], [2, 2]])
def test_left_out_values_equal_plain_refits(shots: list[int]) -> None:
    images = images_of(shots, seed=sum(shots))
    one, plain = tower(images), leave_each_out(images)
    matrix = whitening(one.scatter)
    assert matrix is not None
    np.testing.assert_allclose(matrix, plain.matrix, rtol=1e-8, atol=1e-8)
    usable = one.left_out.defined
    values = left_out_values(one.left_out.part(usable), matrix, one.scatter.freedom, one.prototypes)
    np.testing.assert_allclose(values, plain.values, rtol=1e-7, atol=1e-7)
    z = unit(np.random.default_rng(1).normal(size=D))
    found = z @ matrix @ one.prototypes.T - whitened_halves(matrix, one.prototypes)
    np.testing.assert_allclose(found, discriminant(matrix, one.prototypes, z))


def test_images_that_do_not_differ_have_no_whitening() -> None:
    same = [np.repeat(rows[:1], 3, axis=0) for rows in images_of([1, 1, 1], 0)]
    assert whitening(tower(same).scatter) is None
    one_each = tower(images_of([1, 1, 1], 0))
    assert one_each.scatter.freedom == 0
    assert whitening(one_each.scatter) is None


@given(seed=st.integers(0, 10_000), spread=st.floats(0.05, 3.0))
@settings(max_examples=30, deadline=None)
def test_tau_is_the_largest_of_the_likeliest(seed: int, spread: float) -> None:
    plain = leave_each_out(images_of([3] * 4, seed, spread))
    grid = whitened_grid(plain.values)
    tau, likelihood = smoothed(plain.values, plain.column, grid)
    found = smoothed_sharpness(plain.values, plain.column, grid)
    assert found.tau == pytest.approx(tau)
    assert found.gain == pytest.approx(likelihood.mean() + math.log(4))
    np.testing.assert_allclose(found.likelihoods, likelihood, atol=1e-9)


def test_targets_are_smoothed_where_the_likeliest_tau_is_none() -> None:
    told_apart = np.array([[1.0, 0.2], [0.9, 0.1], [0.1, 0.8]])
    column, grid = np.array([0, 0, 1]), np.geomspace(1e-4, 10, 80)
    assert plain_sharpness(told_apart, column, grid) is None
    assert grid[10] < smoothed_sharpness(told_apart, column, grid).tau < grid[-10]
    one_wrong = np.concatenate([told_apart, [[0.5, 0.4]]])
    assert plain_sharpness(one_wrong, np.array([0, 0, 1, 1]), grid) is not None


def test_text_bias() -> None:
    rng = np.random.default_rng(2)
    column = np.array([0, 0, 0, 1, 2, 2])
    logits = rng.normal(size=(6, 3))
    np.testing.assert_allclose(text_bias(logits, np.identity(3), column), bias_of(logits, column))
    # Labels of which no image was looked at get 0, and change nothing for the others.
    wide = np.insert(logits, [1, 3], 50.0, axis=1)
    bias = text_bias(wide, np.identity(5), np.array([0, 0, 0, 2, 3, 3]))
    np.testing.assert_allclose(bias[[0, 2, 3]], bias_of(logits, column))
    np.testing.assert_array_equal(bias[[1, 4]], 0.0)
    # What the text chooses too often loses, and a shift of all logits is nothing.
    logits[:, 1] += 5.0
    often = text_bias(logits, np.identity(3), column)
    assert often[1] < min(often[0], often[2])
    np.testing.assert_allclose(text_bias(logits + 7.0, np.identity(3), column), often)
    none = text_bias(np.empty((0, 3)), np.identity(3), np.empty(0, np.int64))
    assert none.tolist() == [0, 0, 0]


def test_one_image_a_label_is_on_where_images_look_alike_as_texts_do() -> None:
    rng = np.random.default_rng(4)
    meaning = rng.normal(size=(20, D))
    column = np.arange(20)
    similar = unit(meaning + 0.3 * rng.normal(size=meaning.shape))
    logits = 10 * unit(meaning) @ unit(meaning).T
    real = similar @ similar.T
    assert agrees_with_text(real, logits, column)
    on = [
        agrees_with_text(noise @ noise.T, logits, column)
        for noise in (unit(rng.normal(size=(20, D))) for _ in range(40))
    ]
    assert sum(on) <= 4
    # By plain correlations, one image at a time.
    rows = [np.corrcoef(np.delete(real[i], i), np.delete(logits[i], i))[0, 1] for i in range(20)]
    assert np.mean(rows) * math.sqrt(190) >= 2
    few = np.arange(3)
    assert agrees_with_text(real[:3, :3], -logits[:3, :3], few)  # three labels tell nothing


def test_the_evidence_of_the_posterior_has_that_guard() -> None:
    rng = np.random.default_rng(6)
    meaning = rng.normal(size=(20, D))
    logits = 10 * unit(meaning) @ unit(meaning).T
    owner, missing = np.arange(20), np.full(20, np.nan)
    similar, noise = (unit(rows) for rows in (meaning + 0.1, rng.normal(size=(20, D))))

    def on(images: np.ndarray, logits: np.ndarray | None) -> bool:
        return fit_evidence(images, owner, missing, owner, images, logits).on

    assert on(similar, logits)
    assert not on(noise, logits)
    assert on(noise, None)  # not known
    partly = logits.copy()
    partly[3:] = np.nan
    assert on(similar, partly)


def test_fit_falls_back_to_cosines_and_to_nothing() -> None:
    rng = np.random.default_rng(0)
    good = images_of([4] * 6, 1)
    assert fit_discriminant(tower(good), text_side(good, 1), None).kind == "whitened"
    noise = [rng.normal(size=(4, D)) for _ in range(6)]
    fit = fit_discriminant(tower(noise), text_side(noise, 1), None)
    assert (fit.kind, fit.on, fit.odds) == ("off", False, None)
    # Labels apart in one direction in which images of a label differ too; no spread elsewhere
    # to whiten: identical images of a label have cosines, and no covariance.
    same = [np.repeat(rows[:1], 4, axis=0) for rows in good]
    assert fit_discriminant(tower(same), text_side(same, 1), None).kind == "cosine"
    single = images_of([1] * 6, 1)
    assert fit_discriminant(tower(single), text_side(single, 1), None).kind in ("one image", "off")


@given(seed=st.integers(0, 1_000))
@settings(max_examples=15, deadline=None)
def test_what_must_not_matter(seed: int) -> None:
    """A rotation of the verifier's space, the order of images and labels, a constant in all text
    logits."""
    rng = np.random.default_rng(seed)
    images, text = images_of([3] * 5, seed), text_side(images_of([3] * 5, seed), seed, bare=True)
    queries = unit(rng.normal(size=(4, D)))
    log_p = np.log(rng.dirichlet(np.ones(5), size=4))

    def answer(images: list[np.ndarray], text: TextSide, queries: np.ndarray) -> np.ndarray:
        one = tower(images)
        values = values_of(fit_discriminant(one, text, None), one, queries)
        return discriminant_posterior(log_p, values, np.zeros(4), np.ones(4), PARAMETERS)

    expected = answer(images, text, queries)
    np.testing.assert_allclose(expected.sum(axis=1), 1.0)
    turned = np.linalg.qr(rng.normal(size=(D, D)))[0]
    np.testing.assert_allclose(
        answer([rows @ turned for rows in images], text, queries @ turned), expected, atol=1e-6
    )
    shifted = TextSide(
        text.images, text.logits + 3.0, text.column, text.bias, text.log_weight, text.log_bare + 3.0
    )
    np.testing.assert_allclose(answer(images, shifted, queries), expected, atol=1e-6)


def odds(by_gain: float = 0.4, by_novelty: float = 0.3, constant: float = -0.2) -> GroupOdds:
    return GroupOdds(by_gain, by_novelty, constant, Novelty(0.8, 0.6, 0.01))


def values(
    seed: int, bare: tuple[int, ...], group: GroupOdds | None, kind: str = "whitened"
) -> DiscriminantValues:
    rng = np.random.default_rng(seed)
    scores = 30 * rng.normal(size=(3, 6))
    scores[:, list(bare)] = np.nan
    bias = np.where(np.isnan(scores), 0.0, rng.normal(size=6))
    fit = DiscriminantFit(
        kind,
        np.eye(2),
        None,
        1.0,
        (20.0,),
        bias[0],
        group,
        1.0,
        0.1,
        9,  # type: ignore[arg-type]
    )
    seen = scores[:, [j for j in range(6) if j not in bare]]
    return DiscriminantValues(fit, scores, seen, None, None, bias, rng.uniform(0.5, 1, size=3))


def test_posterior_of_the_groups_by_the_formula() -> None:
    v = values(3, (1, 4), odds())
    p = np.random.default_rng(3).dirichlet(np.ones(6), size=3) * 0.9
    rest, verified = np.full(3, 0.1), np.full(3, 0.5)  # labels that are no candidates
    q = discriminant_posterior(np.log(p), v, rest, verified, PARAMETERS)
    with_images = [0, 2, 3, 5]
    for i in range(3):
        a, b = p[i, with_images], p[i, [1, 4]]
        total = a.sum() + 0.05
        biased = a * np.exp(v.bias[i, with_images])
        moved = total / (biased.sum() + 0.05)
        evidence = np.exp(v.values[i, with_images] / 20)
        general = np.exp(v.values[i, with_images] / 20).mean()
        fused = (biased * moved * evidence).sum() + 0.05 * moved * general
        gain = math.log(fused / total / general)
        ratio = np.clip((0.8 - 0.6) / 0.01 * (v.nearest[i] - 0.7), -8, 8)
        log_odds = math.log(total / (b.sum() + 0.05)) + 0.4 * gain + 0.3 * ratio - 0.2
        share = 1 / (1 + math.exp(-log_odds))
        np.testing.assert_allclose(q[i, with_images], share * biased * moved * evidence / fused)
        np.testing.assert_allclose(q[i, [1, 4]], (1 - share) * b / (b.sum() + 0.05))


def test_without_fitted_odds_the_posterior_weighs_the_groups() -> None:
    v = values(5, (2,), None)
    v = DiscriminantValues(v.fit, v.values, v.background, None, None, 0 * v.bias, v.nearest)
    log_p = np.log(np.random.default_rng(5).dirichlet(np.ones(6), size=3))
    rest, verified = np.zeros(3), np.ones(3)
    q = discriminant_posterior(log_p, v, rest, verified, PARAMETERS)
    general = general_evidence(v.background, 20.0)
    np.testing.assert_allclose(q, posterior(log_p, v.values / 20, general, rest, verified))
    # With one image a label it does so at its own τ, within the group at the fit's.
    one = values(5, (2,), None, kind="one image")
    one = DiscriminantValues(
        one.fit, one.values / 100, one.background / 100, None, None, 0 * one.bias, one.nearest
    )
    q = discriminant_posterior(log_p, one, rest, verified, PARAMETERS)
    sharp = posterior(
        log_p, one.values / 0.08, general_evidence(one.background, 0.08), rest, verified
    )
    np.testing.assert_allclose(q[:, 2], sharp[:, 2])
    soft = np.delete(np.exp(log_p + one.values / 20), 2, axis=1)
    within = np.delete(q, 2, axis=1)
    np.testing.assert_allclose(
        within / within.sum(axis=1, keepdims=True), soft / soft.sum(axis=1, keepdims=True)
    )


def test_evidence_that_is_off_leaves_the_unbiased_text() -> None:
    v = values(7, (0,), None, kind="off")
    p = np.random.default_rng(7).dirichlet(np.ones(6), size=3)
    q = discriminant_posterior(np.log(p), v, np.zeros(3), np.ones(3), PARAMETERS)
    np.testing.assert_allclose(q[:, 0], p[:, 0])
    moved = p[:, 1:] * np.exp(v.bias[:, 1:])
    moved *= p[:, 1:].sum(axis=1, keepdims=True) / moved.sum(axis=1, keepdims=True)
    np.testing.assert_allclose(q[:, 1:], moved)


def test_two_towers_are_added_by_their_share() -> None:
    images = images_of([4] * 5, 3)
    rng = np.random.default_rng(1)
    poor = [rows + 1.5 * rng.normal(size=rows.shape) for rows in images]
    text = text_side(images, 3)
    alone = fit_discriminant(tower(poor), text, None)
    both = fit_discriminant(tower(poor), text, tower(images))
    assert both.share < 1.0
    assert both.gain > alone.gain
    assert both.tau(1.0) == pytest.approx(alone.tau())
    good = fit_discriminant(tower(images), text, tower(poor))
    assert good.share == 1.0  # no better with the other one, by two standard errors
