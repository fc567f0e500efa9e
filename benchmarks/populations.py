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
    """

    name: str
    trust: np.ndarray
    right: np.ndarray

    def truth(self, threshold: float, configuration: int = 0) -> tuple[float, float]:
        """(coverage, risk) of accepting trust ≥ threshold; a risk of 0 when nothing is accepted."""
        accepted = self.trust[configuration] >= threshold
        count = int(accepted.sum())
        wrong = count - int(self.right[configuration][accepted].sum())
        return count / len(accepted), wrong / max(count, 1)

    def oracle(self, max_risk: float) -> float:
        """The largest coverage that any threshold of any configuration reaches with a true risk of
        at most `max_risk`."""
        curves = [risk_coverage_curve(*pair) for pair in zip(self.trust, self.right, strict=True)]
        return max(
            float(curve.coverage[curve.risk <= max_risk].max(initial=0.0)) for curve in curves
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
        "heavy tail": heavy,
    }
    return [drawn(name, shape) for name, shape in (shapes | {"overconfident top": flawed}).items()]


def real(data: Path) -> Iterator[Population]:
    """Real embeddings of images that are not support images, under each rule, and under all of
    :data:`RULES` to choose from."""
    for name, (names, text, images, labels) in _spaces(data):
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
                verifier="same",
                logit_scale=100.0,
            )
            rows = [
                trustvlm.LabelInput(names[i], text[i], image_vectors=images[s])
                for i, s in enumerate(supports)
            ]
            service.register("space", rows)
            verdicts = [
                service.score("space", trustvlm.Queries(images[others]), rule=rule)
                for rule in RULES
            ]
        trust = np.array([v.trust for v in verdicts])
        right = np.array(
            [v.label == np.array(names, dtype=object)[labels[others]] for v in verdicts]
        )
        for i, rule in enumerate(RULES):
            yield Population(f"{name}, {rule}", trust[i : i + 1], right[i : i + 1])
        yield Population(f"{name}, best of {len(RULES)} rules", trust, right)


def _spaces(
    data: Path,
) -> Iterator[tuple[str, tuple[list[str], np.ndarray, np.ndarray, np.ndarray]]]:
    """(name, (label names, text vectors, image vectors, label numbers)) of each set."""
    for size in ("b32", "l14"):
        file = np.load(data / f"whurs19_clip_vit_{size}.npz")
        names = [str(name) for name in file["label_names"]]
        yield f"WHU {size}", (names, file["text_vectors"], file["image_vectors"], file["labels"])
    food = np.load(data / "food10_clip_vit_b32.npz")
    images, labels = (
        np.concatenate([food[f"{part}_{what}"] for part in ("train", "test")])
        for what in ("vectors", "labels")
    )
    kept = np.flatnonzero(
        np.isfinite(food["text_vectors"]).all(axis=1)
    )  # one label's text vector is NaN
    mine = np.isin(labels, kept)
    names = [str(food["label_names"][i]) for i in kept]
    yield (
        "Food",
        (names, food["text_vectors"][kept], images[mine], np.searchsorted(kept, labels[mine])),
    )
    cifar = np.load(data / "cifar10_clip_vit_b32.npz")
    names = [str(name) for name in cifar["label_names"]]
    yield "CIFAR", (names, cifar["text_vectors"], cifar["image_vectors"], cifar["labels"])
