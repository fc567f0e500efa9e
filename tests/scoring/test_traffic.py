"""The lower bound of the share of images that look like none of the support images."""

from __future__ import annotations

import numpy as np
import pytest

from trustvlm.scoring.traffic import Nearest, covered_share, unlike_share

LABELS = 10
LEVEL = np.linspace(0.5, 0.8, LABELS)  # labels are not equally alike within


def like(rng: np.random.Generator, labels: np.ndarray) -> Nearest:
    return Nearest(LEVEL[labels] + 0.05 * rng.normal(size=len(labels)), labels)


def sent(rng: np.random.Generator, share: float, count: int = 400) -> Nearest:
    """Traffic of which the share is unlike, and the rest mostly of the two labels that are least
    alike within: they look unlike to a bound that takes all labels to be equally frequent."""
    often = np.r_[0.4, 0.3, np.full(LABELS - 2, 0.3 / (LABELS - 2))]
    labelled = like(rng, rng.choice(LABELS, count, p=often))
    unlike = rng.random(count) < share
    far = 0.2 + 0.05 * rng.normal(size=count)
    return Nearest(
        np.where(unlike, far, labelled.similarity),
        np.where(unlike, rng.integers(0, LABELS, count), labelled.label),
    )


@pytest.mark.parametrize("share", [0.0, 0.1, 0.5])
def test_the_bound_holds_as_often_as_it_says(share: float) -> None:
    bounds = []
    for seed in range(200):
        rng = np.random.default_rng(seed)
        support = like(rng, np.repeat(np.arange(LABELS), 16))
        bounds.append(unlike_share(support, sent(rng, share)))
    assert np.mean(np.array(bounds) > share) <= 0.05
    if share == 0.5:
        assert np.median(bounds) > 0.3  # and it is of use


def test_ties_and_odd_labels() -> None:
    same = Nearest(np.repeat([0.5, 0.6, 0.7], [2, 20, 28]), np.zeros(50, np.int64))
    assert unlike_share(same, same) == 0
    assert unlike_share(same, Nearest(np.full(80, 0.6), np.zeros(80, np.int64))) < 0.45
    assert unlike_share(same, Nearest(np.full(80, 0.4), np.zeros(80, np.int64))) > 0.7
    elsewhere = Nearest(np.full(80, 0.4), np.repeat([-1, 7], 40))
    assert unlike_share(same, elsewhere) == 0
    assert covered_share(same, elsewhere) == 0
    nothing = Nearest(np.empty(0), np.empty(0, np.int64))
    assert unlike_share(same, nothing) == covered_share(same, nothing) == 0


def test_images_of_labels_without_support_images_count_as_like_them() -> None:
    rng = np.random.default_rng(1)
    support, traffic = like(rng, np.repeat(np.arange(LABELS), 16)), sent(rng, 0.5)
    others = Nearest(np.full(400, 0.1), np.full(400, LABELS + 3))
    both = Nearest(np.r_[traffic.similarity, others.similarity], np.r_[traffic.label, others.label])
    assert covered_share(support, both) == 0.5
    alone = unlike_share(support, traffic)
    assert 0.35 * alone < unlike_share(support, both) < 0.6 * alone


def test_more_confidence_says_less() -> None:
    rng = np.random.default_rng(0)
    support, traffic = like(rng, np.repeat(np.arange(LABELS), 16)), sent(rng, 0.5)
    bounds = [unlike_share(support, traffic, level) for level in (0.5, 0.9, 0.99)]
    assert bounds == sorted(bounds, reverse=True)
    assert bounds[0] > bounds[2] > 0
