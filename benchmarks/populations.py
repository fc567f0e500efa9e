"""Populations with a known truth, to calibrate on samples of and to compare what was promised with
what is.

A population is a finite table of images: the trust in each prediction, and whether it is right.
Images are drawn from it with replacement, so that the true risk and coverage of a threshold are
counted, not estimated.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np

import trustvlm
from trustvlm.selective.metrics import risk_coverage_curve

SIZE = 20_000  # images of a synthetic population
SHOTS = 4
RULES = ("msp", "trustvlm", "posterior")


@dataclass(frozen=True, eq=False)
class Population:
    """Images and what each of c configurations says of them.

    Attributes:
        name: for people.
        trust: (c, M) trust in the prediction. right: (c, M) whether it is right.
        max_risk: what is promised of it.
    """

    name: str
    trust: np.ndarray
    right: np.ndarray
    max_risk: float = 0.05

    @cached_property
    def levels(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Of the first configuration: its distinct trust values, ascending; coverage and risk of
        each as a threshold; and one more that accepts nothing."""
        curve = risk_coverage_curve(self.trust[0], self.right[0])
        coverage, risk = (np.append(values[::-1], 0.0) for values in (curve.coverage, curve.risk))
        return curve.threshold[::-1], coverage, risk

    def truth(self, threshold: float, configuration: int = 0) -> tuple[float, float]:
        """(coverage, risk) of accepting trust ≥ threshold; a risk of 0 when nothing is accepted."""
        accepted = self.trust[configuration] >= threshold
        count = int(accepted.sum())
        wrong = count - int(self.right[configuration][accepted].sum())
        return count / len(accepted), wrong / max(count, 1)

    def oracle(self) -> float:
        """The largest coverage that any threshold of any configuration reaches with a true risk of
        at most :attr:`max_risk`."""
        curves = [risk_coverage_curve(*pair) for pair in zip(self.trust, self.right, strict=True)]
        return max(
            float(curve.coverage[curve.risk <= self.max_risk].max(initial=0.0)) for curve in curves
        )


def synthetic() -> list[Population]:
    """Score shapes, each from a chance of being right that rises with the trust (or hardly
    does)."""

    def drawn(
        name: str, shape: Callable[[np.random.Generator], tuple[np.ndarray, np.ndarray]]
    ) -> Population:
        rng = np.random.default_rng(7)
        trust, chance = shape(rng)
        return Population(name, trust[None], (rng.random(SIZE) < chance)[None])

    def logistic(x: np.ndarray) -> np.ndarray:
        return 1 / (1 + np.exp(-x))

    def separated(rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
        x = np.where(rng.random(SIZE) < 0.75, 4.0, -3.0) + 1.5 * rng.standard_normal(SIZE)
        return logistic(x), logistic(1.5 * x)

    def gradual(rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
        x = rng.random(SIZE)
        return x, 0.5 + 0.5 * x**0.25

    def weak(rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
        x = rng.standard_normal(SIZE)
        return x, logistic(2.2 + 0.9 * x)

    def tied(rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
        level = rng.integers(0, 8, SIZE)
        return level / 7, np.array([0.4, 0.6, 0.75, 0.86, 0.93, 0.965, 0.985, 0.995])[level]

    def waves(rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
        # The risk crosses 5 % five times on the way down; at 80 % coverage for the last time.
        level = rng.integers(0, 40, SIZE)
        parts = np.repeat([0.8, 0.985, 0.8, 0.99, 0.85, 0.98], [10, 14, 2, 8, 2, 4])
        return level / 39, parts[level]

    def heavy(rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
        x = rng.standard_cauchy(SIZE)
        return x, logistic(2.5 + np.sign(x) * np.log1p(np.abs(x)) * 1.5)

    def flawed(rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
        x = rng.random(SIZE)
        return x, np.where(
            x > 0.97, 0.7, logistic(8 * x - 1)
        )  # the most trusted are wrong surprisingly often

    shapes = {
        "well separated": separated,
        "gradual": gradual,
        "weak": weak,
        "eight levels": tied,
        "waves in 40 levels": waves,
        "heavy tail": heavy,
    }
    return [drawn(name, shape) for name, shape in (shapes | {"overconfident top": flawed}).items()]


def real(data: Path) -> Iterator[Population]:
    """Real embeddings of images that are not support images, under each rule, and under all of
    :data:`RULES` to choose from."""
    for name, (names, text, images, labels), verifier in _spaces(data):
        max_risk = 0.02 if name == "Food" else 0.05  # all of Food has a risk below 6 %
        seen = images if verifier is None else verifier
        rng = np.random.default_rng(0)
        supports = [rng.permutation(np.flatnonzero(labels == i))[:SHOTS] for i in range(len(names))]
        others = np.setdiff1d(np.arange(len(labels)), np.concatenate(supports))
        with (
            tempfile.TemporaryDirectory() as folder,
            trustvlm.open(Path(folder) / "home", create=True) as service,
        ):
            service.create_space(
                "space",
                classifier=f"precomputed:{text.shape[1]}",
                verifier="same" if verifier is None else f"precomputed:{verifier.shape[1]}",
                logit_scale=100.0,
            )
            rows = [
                trustvlm.LabelInput(names[i], text[i], image_vectors=seen[s])
                for i, s in enumerate(supports)
            ]
            service.register("space", rows)
            queries = trustvlm.Queries(images[others], None if verifier is None else seen[others])
            verdicts = [service.score("space", queries, rule=rule) for rule in RULES]
        trust = np.array([v.trust for v in verdicts])
        right = np.array(
            [v.label == np.array(names, dtype=object)[labels[others]] for v in verdicts]
        )
        for i, rule in enumerate(RULES):
            yield Population(f"{name}, {rule}", trust[i : i + 1], right[i : i + 1], max_risk)
        yield Population(f"{name}, best of {len(RULES)} rules", trust, right, max_risk)


Space = tuple[list[str], np.ndarray, np.ndarray, np.ndarray]


def _spaces(data: Path) -> Iterator[tuple[str, Space, np.ndarray | None]]:
    """(name, (label names, text vectors, image vectors, label numbers), the verifier's image
    vectors where it is another model) of each set."""
    whu = {size: np.load(data / f"whurs19_clip_vit_{size}.npz") for size in ("b32", "l14")}
    for size, file in whu.items():
        names = [str(name) for name in file["label_names"]]
        space = names, file["text_vectors"], file["image_vectors"], file["labels"]
        yield f"WHU {size}", space, None
        if size == "b32":
            yield "WHU b32, seen by l14", space, whu["l14"]["image_vectors"]
    food = np.load(data / "food10_clip_vit_b32.npz")
    images, labels = (
        np.concatenate([food[f"{part}_{what}"] for part in ("train", "test")])
        for what in ("vectors", "labels")
    )
    # One label's text vector is NaN.
    kept = np.flatnonzero(np.isfinite(food["text_vectors"]).all(axis=1))
    mine = np.isin(labels, kept)
    names = [str(food["label_names"][i]) for i in kept]
    labels = np.searchsorted(kept, labels[mine])
    yield "Food", (names, food["text_vectors"][kept], images[mine], labels), None
    cifar = np.load(data / "cifar10_clip_vit_b32.npz")
    names = [str(name) for name in cifar["label_names"]]
    yield "CIFAR", (names, cifar["text_vectors"], cifar["image_vectors"], cifar["labels"]), None
