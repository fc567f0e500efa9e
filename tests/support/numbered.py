"""Labels by number: the same in every process, so that what one registers another can check."""

from __future__ import annotations

from datetime import timedelta

import numpy as np

from trustvlm import LabelInput, Queries, TrustService, Verdicts

CLASSIFIER, VERIFIER = 32, 64
AT_ONCE = timedelta(0)
CATALOG = "catalog.sqlite3"


def vectors(*seed: int, n: int, dim: int) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal((n, dim)).astype(np.float32)


def text(number: int, version: int = 0) -> np.ndarray:
    return vectors(1, number, version, n=1, dim=CLASSIFIER)[0]


def label(number: int, *, supports: int = 3, version: int = 0, first: int = 0) -> LabelInput:
    """Label `number`. `version` changes its text vector, `first` which support images come."""
    return LabelInput(
        f"label {number:04d}",
        text_vector=text(number, version),
        image_vectors=vectors(2, number, n=first + supports, dim=VERIFIER)[first:]
        if supports
        else None,
    )


def create(service: TrustService, name: str = "space") -> None:
    # A small logit scale: probabilities far from 0 and 1, so that every label counts in every
    # verdict.
    service.create_space(
        name,
        classifier=f"precomputed:{CLASSIFIER}",
        verifier=f"precomputed:{VERIFIER}",
        logit_scale=10.0,
    )


def queries(n: int = 40, seed: int = 5) -> Queries:
    return Queries(vectors(seed, 1, n=n, dim=CLASSIFIER), vectors(seed, 2, n=n, dim=VERIFIER))


def require_equal(got: Verdicts, expected: Verdicts, *, ids: bool = True) -> None:
    """Equal verdicts (docs/rules.md, "Equality"): the same labels, numbers within 1e-5."""
    for name in (
        "label",
        "rival",
        "nearest_prototype",
        "agrees",
        "unverified",
        "top_labels",
        *(["label_id"] if ids else []),
    ):
        np.testing.assert_array_equal(getattr(got, name), getattr(expected, name), err_msg=name)
    numbers = (
        "trust",
        "text_confidence",
        "image_similarity",
        "nearest_similarity",
        "rival_trust",
        "top_confidence",
    )
    for name in numbers:
        np.testing.assert_allclose(
            getattr(got, name), getattr(expected, name), atol=1e-5, rtol=0, err_msg=name
        )
