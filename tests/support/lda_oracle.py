"""The rules `lda` and `lda_star` by their formulas: every covariance, mean and prototype computed
again for every image left out, every grid searched through."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from scipy.optimize import minimize

RHO = 0.7


def unit(x: np.ndarray) -> np.ndarray:
    x = np.asarray(x, dtype=np.float64)
    return x / np.linalg.norm(x, axis=-1, keepdims=True)


def log_sum(x: np.ndarray) -> np.ndarray:
    top = x.max(axis=-1, keepdims=True)
    return (top + np.log(np.exp(x - top).sum(axis=-1, keepdims=True)))[..., 0]


def inverse_covariance(scatter: np.ndarray, trace: float, freedom: int) -> np.ndarray:
    d = len(scatter)
    return np.linalg.inv(
        (1 - RHO) * scatter / freedom + RHO * trace / (freedom * d) * np.identity(d)
    )


def discriminant(matrix: np.ndarray, prototypes: np.ndarray, z: np.ndarray) -> np.ndarray:
    return np.array([z @ matrix @ p - p @ matrix @ p / 2 for p in prototypes])


def scatter_of(images: list[np.ndarray]) -> np.ndarray:
    total = np.zeros((images[0].shape[1],) * 2)
    for rows in images:
        for residual in unit(rows) - unit(rows).mean(axis=0):
            total += np.outer(residual, residual)
    return total


@dataclass
class Fit:
    """What the support images say: M, P, whitened and cosine values of left-out images."""

    matrix: np.ndarray
    prototypes: np.ndarray
    values: np.ndarray
    cosines: np.ndarray
    column: np.ndarray


def leave_each_out(images: list[np.ndarray]) -> Fit:
    """Refit for each image of labels with at least two; ν and the trace stay those of all."""
    prototypes = np.array([unit(rows.mean(axis=0)) for rows in images])
    scatter, freedom = scatter_of(images), sum(map(len, images)) - len(images)
    trace = float(np.trace(scatter))
    values, cosines, column = [], [], []
    for label, rows in enumerate(images):
        for i in range(len(rows) if len(rows) > 1 else 0):
            kept = [np.delete(rows, i, axis=0) if j == label else r for j, r in enumerate(images)]
            matrix = inverse_covariance(scatter_of(kept), trace, freedom)
            without = prototypes.copy()
            without[label] = unit(kept[label].mean(axis=0))
            values.append(discriminant(matrix, without, unit(rows[i])))
            cosines.append(without @ unit(rows[i]))
            column.append(label)
    whole = inverse_covariance(scatter, trace, freedom)
    return Fit(whole, prototypes, np.array(values), np.array(cosines), np.array(column))


def smoothed(values: np.ndarray, column: np.ndarray, grid: np.ndarray) -> tuple[float, np.ndarray]:
    """(the likeliest τ, each image's log-likelihood there)."""
    best: tuple[float, float, np.ndarray] = (-math.inf, 0.0, values[:, 0])
    at, smoothing = np.arange(len(values)), 1 / (len(values) + 2)
    for tau in grid:
        log_p = values / tau - log_sum(values / tau)[:, None]
        others = log_p.copy()
        others[at, column] = -np.inf
        likelihood = (1 - smoothing) * log_p[at, column] + smoothing * others.max(axis=1)
        if likelihood.mean() >= best[0]:
            best = likelihood.mean(), tau, likelihood
    return best[1], best[2]


def whitened_grid(values: np.ndarray) -> np.ndarray:
    return np.geomspace(0.003, 30, 90) * np.median(values.std(axis=1))


def tells_apart(likelihood: np.ndarray, labels: int) -> bool:
    error = likelihood.std(ddof=1) / math.sqrt(len(likelihood))
    return bool(likelihood.mean() + math.log(labels) >= 2 * error)


def bias_of(logits: np.ndarray, column: np.ndarray) -> np.ndarray:
    k = logits.shape[1]
    p = np.exp(logits - log_sum(logits)[:, None])
    share = np.mean([p[column == label].mean(axis=0) for label in range(k)], axis=0)
    each = len(logits) / k
    return -np.log((share * k * each + 1) / (each + 1))


def group_weights(
    log_p: np.ndarray,
    log_bare: np.ndarray,
    bias: np.ndarray,
    fit: Fit,
    evidence: np.ndarray,
    each: float,
) -> tuple[np.ndarray, tuple[float, float, float]]:
    """(w₁, w₂, w₀), and (μ_in, μ_out, v)."""
    column, rows = fit.column, range(len(fit.column))
    nearest = fit.cosines.max(axis=1)
    other = np.array([np.delete(fit.cosines[i], column[i]).max() for i in rows])
    novelty = (nearest.mean(), other.mean(), (nearest.var() + other.var()) / 2 + 1e-4)
    cases = []
    for i in rows:
        for hidden in (False, True):
            shown = np.array([not (hidden and j == column[i]) for j in range(log_p.shape[1])])
            bare = log_bare[i] if not hidden else np.logaddexp(log_bare[i], log_p[i, column[i]])
            c = other[i] if hidden else nearest[i]
            cases.append(
                (
                    *features(log_p[i, shown], bare, bias[shown], evidence[i, shown]),
                    log_ratio(c, novelty),
                    -1 if hidden else 1,
                )
            )
    text, gain, ratio, sign = np.array(cases).T

    def loss(w: np.ndarray) -> float:
        odds = text + np.exp(w[0]) * gain + np.exp(w[1]) * ratio + w[2]
        prior = ((w - [math.log(0.3), math.log(0.25), 0]) / [0.8, 0.8, 1.5]) ** 2
        return float(min(1, 2 / each) * np.logaddexp(0, -sign * odds).sum() + prior.sum() / 2)

    found = minimize(
        loss,
        [-1.2, -1.4, 0],
        method="Nelder-Mead",
        options={"xatol": 1e-9, "fatol": 1e-12, "maxiter": 4_000},
    ).x
    return np.array([math.exp(found[0]), math.exp(found[1]), found[2]]), novelty


def features(
    log_p: np.ndarray, log_bare: float, bias: np.ndarray, evidence: np.ndarray
) -> tuple[float, float]:
    """(log A/B, gain) of one image."""
    mass = log_sum(log_p)
    unbiased = log_p + bias - log_sum(log_p + bias) + mass
    gain = log_sum(unbiased + evidence) - mass - (log_sum(evidence) - math.log(len(evidence)))
    return float(mass - log_bare), float(gain)


def log_ratio(nearest: float, novelty: tuple[float, float, float]) -> float:
    own, other, variance = novelty
    return float(np.clip((own - other) / variance * (nearest - (own + other) / 2), -8, 8))


def lda(
    text: np.ndarray,
    scale: float,
    supports: list[np.ndarray | None],
    classifier_supports: list[np.ndarray | None],
    queries: tuple[np.ndarray, np.ndarray],
) -> np.ndarray:
    """(n, N) probability of every label, all of which are candidates, with the verifier alone; at
    least one label has two images."""
    has = np.array([one is not None for one in supports])
    images = [one for one in supports if one is not None]
    fit = leave_each_out(images)
    seen = np.concatenate([one for one in classifier_supports if one is not None])
    owner = np.repeat(np.arange(len(images)), [len(one) for one in images])
    logits = scale * unit(seen) @ unit(text).T
    bias = bias_of(logits[:, has], owner)
    tau, likelihood = smoothed(fit.values, fit.column, whitened_grid(fit.values))
    assert tells_apart(likelihood, len(images))
    tau, each = 1.25 * tau, len(owner) / len(images)
    weights = None
    if not has.all():
        several = np.isin(owner, fit.column)
        log_all = logits - log_sum(logits)[:, None]
        weights, novelty = group_weights(
            log_all[several][:, has],
            log_sum(log_all[several][:, ~has]),
            bias,
            fit,
            fit.values / tau,
            each,
        )
    answers = []
    for x, z in zip(*queries, strict=True):
        log_p = scale * unit(x) @ unit(text).T
        log_p = log_p - log_sum(log_p)
        evidence = discriminant(fit.matrix, fit.prototypes, unit(z)) / tau
        q = np.empty(len(text))
        within = log_p[has] + bias + evidence
        if weights is None:
            q[has] = np.exp(within - log_sum(within))
        else:
            text_odds, gain = features(log_p[has], log_sum(log_p[~has]), bias, evidence)
            nearest = float((fit.prototypes @ unit(z)).max())
            ratio = log_ratio(nearest, novelty)
            odds = text_odds + weights[0] * gain + weights[1] * ratio + weights[2]
            q[has] = np.exp(within - log_sum(within)) / (1 + math.exp(-odds))
            q[~has] = np.exp(log_p[~has] - log_sum(log_p[~has])) / (1 + math.exp(odds))
        answers.append(q)
    return np.array(answers)
