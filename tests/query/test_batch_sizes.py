"""A verdict does not depend on how many queries are asked with it: small batches are searched in
other ways than large ones."""

from __future__ import annotations

import numpy as np
import pytest
from worlds import IMAGE_DIM, TEXT_DIM, make_space

import trustvlm
from trustvlm import LabelInput, Queries

LABELS, QUERIES = 400, 40


def directions(rng: np.random.Generator, count: int, dim: int) -> np.ndarray:
    return rng.standard_normal((count, dim)).astype(np.float32)


def rows(queries: Queries, chosen: slice) -> Queries:
    return Queries(np.asarray(queries.classifier)[chosen], np.asarray(queries.verifier)[chosen])


@pytest.fixture
def asked(service: trustvlm.TrustService) -> Queries:
    """Queries to a space "s" with more labels than candidates: every fifth has no support image,
    some are gone again, and "twin …" has the support images of the label that the first queries
    show."""
    rng = np.random.default_rng(0)
    texts, images = directions(rng, LABELS, TEXT_DIM), directions(rng, LABELS, IMAGE_DIM)
    images[LABELS - 10 :] = images[:10]
    names = [f"label {i}" if i < LABELS - 10 else f"twin {LABELS - 1 - i}" for i in range(LABELS)]
    bare = {i for i in range(10, LABELS - 10) if i % 5 == 0}
    make_space(service)
    service.register(
        "s",
        [
            LabelInput(
                names[i], texts[i], image_vectors=None if i in bare else images[i][np.newaxis]
            )
            for i in range(LABELS)
        ],
    )
    near = (
        texts[:QUERIES] + 0.5 * directions(rng, QUERIES, TEXT_DIM),
        images[:QUERIES] + 0.3 * directions(rng, QUERIES, IMAGE_DIM),
    )
    service.score("s", Queries(*near))  # what goes after this leaves dead rows behind
    for i in range(12, LABELS - 10, 30):
        service.remove_label("s", names[i])
    return Queries(*near)


@pytest.mark.parametrize(
    "rule",
    [
        *("posterior", "image", "trustvlm", "trustvlm_star"),
        *(pytest.param(rule, marks=pytest.mark.slow) for rule in ("ratio", "knn")),
    ],
)
def test_verdicts_are_the_same_in_batches_of_any_size(
    service: trustvlm.TrustService, asked: Queries, rule: str
) -> None:
    whole = service.score("s", asked, rule=rule)
    for size in (1, 4, 5, 16):
        for start in (0, QUERIES - size):
            part, own = (
                service.score("s", rows(asked, slice(start, start + size)), rule=rule),
                slice(start, start + size),
            )
            for column in (
                "label",
                "rival",
                "nearest_prototype",
                "top_labels",
                "agrees",
                "unverified",
                "unknown",
            ):
                np.testing.assert_array_equal(
                    getattr(part, column), getattr(whole, column)[own], column
                )
            for column in ("trust", "rival_trust", "nearest_similarity", "text_confidence"):
                np.testing.assert_allclose(
                    getattr(part, column),
                    getattr(whole, column)[own],
                    rtol=1e-5,
                    atol=1e-6,
                    err_msg=column,
                )
            assert not part.approximate


@pytest.mark.parametrize(
    "size", [1, *(pytest.param(n, marks=pytest.mark.slow) for n in (4, 5)), 40]
)
def test_the_nearest_prototype_is_the_nearest_of_all(
    service: trustvlm.TrustService, asked: Queries, size: int
) -> None:
    """Of twins, the one with the smaller name."""
    verdicts = service.score("s", rows(asked, slice(0, size)), rule="image")
    prototypes = sum(row.support_count > 0 for row in service.list_labels("s"))
    everything = service.search(
        "s", Queries(verifier=np.asarray(asked.verifier)[:size]), kind="prototype", k=prototypes
    )
    best = everything.similarity[:, :1]
    for i, similar in enumerate(everything.similarity):
        twins = sorted(
            name
            for name, one in zip(everything.labels[i], similar, strict=True)
            if one >= best[i] - 1e-6
        )
        assert verdicts.nearest_prototype[i] == twins[0]
        assert i >= 10 or len(twins) == 2
    np.testing.assert_allclose(verdicts.nearest_similarity, best[:, 0], atol=1e-5)
