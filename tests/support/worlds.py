"""Labels with a direction each in text and image space, spaces for them, and the equality of
verdicts."""

from __future__ import annotations

import numpy as np

import trustvlm

TEXT_DIM, IMAGE_DIM = 16, 24


class World:
    """Labels with a true direction each in text and image space; images are noisy copies of
    them."""

    def __init__(self, names: list[str], seed: int = 0) -> None:
        rng = np.random.default_rng(seed)
        self.names = names
        self.text = rng.normal(size=(len(names), TEXT_DIM))
        self.images = rng.normal(size=(len(names), IMAGE_DIM))
        self._rng = rng

    def supports(self, label: int, count: int) -> np.ndarray:
        return self.images[label] + 0.4 * self._rng.normal(size=(count, IMAGE_DIM))

    def inputs(self, shots: int) -> list[trustvlm.LabelInput]:
        return [
            trustvlm.LabelInput(
                name,
                text_vector=self.text[i],
                image_vectors=self.supports(i, shots) if shots else None,
            )
            for i, name in enumerate(self.names)
        ]

    def queries(self, per_label: int = 3) -> trustvlm.Queries:
        labels = np.repeat(np.arange(len(self.names)), per_label)
        classifier = self.text[labels] + 1.0 * self._rng.normal(size=(len(labels), TEXT_DIM))
        verifier = self.images[labels] + 0.4 * self._rng.normal(size=(len(labels), IMAGE_DIM))
        return trustvlm.Queries(classifier, verifier)


def make_space(
    service: trustvlm.TrustService, name: str = "s", **options: object
) -> trustvlm.SpaceRow:
    given: dict[str, object] = {
        "classifier": f"precomputed:{TEXT_DIM}",
        "verifier": f"precomputed:{IMAGE_DIM}",
        "logit_scale": 10.0,
    }
    return service.create_space(name, **(given | options))  # type: ignore[arg-type]


def assert_same_verdicts(
    first: trustvlm.Verdicts, second: trustvlm.Verdicts, tolerance: float = 1e-5
) -> None:
    """Equal verdicts (docs/rules.md, "Equality"): same labels and evidence, numbers within the
    tolerance. Ids and revisions may differ. Evidence is read again for each verdict: that of at most
    a dozen is compared, from the first verdict to the last."""
    for column in ("label", "nearest_prototype", "rival", "unverified", "agrees", "top_labels"):
        np.testing.assert_array_equal(
            getattr(first, column), getattr(second, column), err_msg=column
        )
    for column in (
        "trust",
        "text_confidence",
        "image_similarity",
        "nearest_similarity",
        "rival_trust",
        "top_confidence",
    ):
        np.testing.assert_allclose(
            getattr(first, column), getattr(second, column), atol=tolerance, rtol=0, err_msg=column
        )
    for i in np.unique(np.linspace(0, len(first) - 1, 12).astype(int)).tolist():
        one, two = first.evidence(i), second.evidence(i)
        for side in ("label", "rival"):
            np.testing.assert_allclose(
                [near.similarity for near in getattr(one, side)],
                [near.similarity for near in getattr(two, side)],
                atol=tolerance,
            )
