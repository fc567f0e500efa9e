"""Label spaces of given vectors, as the benchmarks of rules, peers, audits and proposals make
them."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

import trustvlm

__all__ = ["fill"]


def fill(
    service: trustvlm.TrustService,
    space: str,
    names: Sequence[str],
    text: np.ndarray,
    classifier: np.ndarray,
    verifier: np.ndarray,
    rows: Sequence[np.ndarray | None],
    further: Sequence[trustvlm.LabelInput] = (),
) -> trustvlm.RegisterResult:
    """Make a space and register labels with support images.

    Args:
        names: (n,) of the labels. text: (n, d_t) their vectors.
        classifier: (m, d_t), verifier: (m, d_v) embeddings of images; one object where both
            encoders are one.
        rows: (n,) the rows of each label's support images, None without any.
        further: labels besides.
    """
    same = verifier is classifier
    specs = [f"precomputed:{matrix.shape[1]}" for matrix in (classifier, verifier)]
    service.create_space(
        space, classifier=specs[0], verifier="same" if same else specs[1], logit_scale=100.0
    )
    inputs = [
        trustvlm.LabelInput(
            name,
            text_vector=text[i],
            image_vectors=None if rows[i] is None else verifier[rows[i]],
            classifier_image_vectors=None if same or rows[i] is None else classifier[rows[i]],
        )
        for i, name in enumerate(names)
    ]
    return service.register(space, [*inputs, *further])
