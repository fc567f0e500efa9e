"""The rules `lda` and `lda_star` through `register` and `score`, against plain refits; what they
fall back to, and which fit they name."""

from __future__ import annotations

import time
from pathlib import Path

import numpy as np
import pytest
from lda_oracle import lda
from thresholds import set_thresholds
from worlds import IMAGE_DIM, TEXT_DIM, World, make_space

import trustvlm
from trustvlm import LabelInput, Queries

SCALE = 10.0


class Supported:
    """A world with support images of which both encoders' embeddings are known; some labels have
    none."""

    def __init__(self, count: int, shots: int, seed: int, bare: int = 0) -> None:
        self.world = World([f"label {i:03d}" for i in range(count)], seed)
        rng = np.random.default_rng(seed + 1)
        self.images = [None if i < bare else self.world.supports(i, shots) for i in range(count)]
        self.seen = [
            None if i < bare else self.world.text[i] + rng.normal(size=(shots, TEXT_DIM))
            for i in range(count)
        ]
        picked = rng.integers(0, count, 40)
        self.queries = Queries(
            self.world.text[picked] + rng.normal(size=(40, TEXT_DIM)),
            self.world.images[picked] + 0.8 * rng.normal(size=(40, IMAGE_DIM)),
        )

    def inputs(self, *, seen: bool = True) -> list[LabelInput]:
        return [
            LabelInput(
                name,
                text_vector=self.world.text[i],
                image_vectors=self.images[i],
                classifier_image_vectors=self.seen[i] if seen else None,
            )
            for i, name in enumerate(self.world.names)
        ]

    def register(self, service: trustvlm.TrustService, *, seen: bool = True) -> int:
        make_space(service)
        return service.register("s", self.inputs(seen=seen)).revision


def assert_same(
    first: trustvlm.Verdicts, second: trustvlm.Verdicts, tolerance: float = 1e-5
) -> None:
    for column in ("label", "rival", "nearest_prototype"):
        np.testing.assert_array_equal(getattr(first, column), getattr(second, column))
    for column in ("trust", "rival_trust"):
        np.testing.assert_allclose(getattr(first, column), getattr(second, column), atol=tolerance)


@pytest.mark.parametrize(
    ("count", "shots", "bare"), [(2, 4, 0), (12, 3, 0), (20, 2, 7), (30, 4, 15)]
)
def test_verdicts_equal_plain_refits(
    service: trustvlm.TrustService, count: int, shots: int, bare: int
) -> None:
    part = Supported(count, shots, seed=count, bare=bare)
    part.register(service)
    expected = lda(
        part.world.text,
        SCALE,
        part.images,
        part.seen,
        (np.asarray(part.queries.classifier), np.asarray(part.queries.verifier)),
    )
    plain = service.score("s", part.queries, rule="lda", params={"towers": 1.0})
    assert plain.image_evidence == "fitted"
    names = np.array(part.world.names, dtype=object)
    column = {name: i for i, name in enumerate(part.world.names)}
    at = [column[label] for label in plain.label]
    np.testing.assert_allclose(plain.trust, expected[np.arange(40), at], atol=1e-4)
    best = expected.argmax(axis=1)
    starred = service.score("s", part.queries, rule="lda_star", params={"towers": 1.0})
    np.testing.assert_array_equal(starred.label, names[best])
    np.testing.assert_allclose(starred.trust, expected.max(axis=1), atol=1e-4)


@pytest.mark.parametrize("labels", [20, 90, 300])
def test_both_engines_and_batches_of_any_size_agree(tmp_path: Path, labels: int) -> None:
    part = Supported(labels, 3, seed=3, bare=labels // 5)
    with trustvlm.open(tmp_path / "home", create=True) as service:
        part.register(service)
        dense = service.score("s", part.queries, rule="lda_star")
        one = service.score(
            "s", Queries(part.queries.classifier[5], part.queries.verifier[5]), rule="lda_star"
        )  # type: ignore[index]
    assert one.trust[0] == pytest.approx(dense.trust[5], abs=1e-5)
    set_thresholds(tmp_path / "home", dense_labels=1)
    with trustvlm.open(tmp_path / "home") as service:
        assert_same(dense, service.score("s", part.queries, rule="lda_star"), 1e-4)


def test_at_weight_zero_the_text_decides(service: trustvlm.TrustService) -> None:
    part = Supported(12, 3, seed=2, bare=4)
    part.register(service)
    text = service.score("s", part.queries, rule="msp")
    none = service.score("s", part.queries, rule="lda", params={"lambda": 0.0})
    np.testing.assert_allclose(none.trust, text.trust, atol=1e-9)


def test_useless_support_images_leave_the_text_without_its_bias(
    service: trustvlm.TrustService,
) -> None:
    part = Supported(12, 4, seed=5)
    rng = np.random.default_rng(0)
    part.images = [rng.normal(size=(4, IMAGE_DIM)) for _ in range(12)]
    part.seen = [rng.normal(size=(4, TEXT_DIM)) for _ in range(12)]  # both encoders are useless
    part.register(service)
    verdicts = service.score("s", part.queries, rule="lda")
    assert (verdicts.image_evidence, verdicts.tau) == ("off", None)
    assert all("image evidence is off" in reason for reason in verdicts.reason)
    assert not np.allclose(verdicts.trust, verdicts.text_confidence)


def test_a_useless_verifier_leaves_the_classifiers_tower(service: trustvlm.TrustService) -> None:
    part = Supported(12, 4, seed=5)
    rng = np.random.default_rng(0)
    part.images = [rng.normal(size=(4, IMAGE_DIM)) for _ in range(12)]
    part.register(service)
    verdicts = service.score("s", part.queries, rule="lda")
    assert verdicts.image_evidence == "fitted"
    alone = service.score("s", part.queries, rule="lda", params={"towers": 1.0})
    classifier = service.score("s", part.queries, rule="lda", params={"towers": 0.0})
    distance = [np.abs(verdicts.trust - one.trust).mean() for one in (classifier, alone)]
    assert distance[0] < distance[1]


def test_images_without_classifier_embeddings(service: trustvlm.TrustService) -> None:
    """Nothing is known of the text's bias, nor of the classifier's tower: verdicts say so."""
    part = Supported(12, 3, seed=7, bare=2)
    part.register(service, seen=False)
    verdicts = service.score("s", part.queries, rule="lda")
    remark = "the classifier embedding of 30 of the 30 support images looked at is not stored"
    assert all(remark in reason for reason in verdicts.reason)
    with pytest.raises(trustvlm.InvalidInput, match="towers: expected 1, as only the verifier"):
        service.score("s", part.queries, rule="lda", params={"towers": 0.5})
    late = Supported(12, 3, seed=7, bare=2)
    fresh = late.world.supports(0, 3)
    service.add_support(
        "s",
        "label 000",
        image_vectors=fresh,
        classifier_image_vectors=late.world.text[:1].repeat(3, axis=0),
    )
    verdicts = service.score("s", part.queries, rule="lda")
    assert "the classifier embedding of 30 of the 33" in verdicts.reason[0]


def test_one_image_a_label(service: trustvlm.TrustService) -> None:
    part = Supported(12, 1, seed=9)
    part.register(service)
    verdicts = service.score("s", part.queries, rule="lda")
    assert verdicts.image_evidence in ("default", "off")
    assert verdicts.tau_revision is None or verdicts.image_evidence == "off"


def test_without_support_images_or_verifier(service: trustvlm.TrustService) -> None:
    part = Supported(5, 1, seed=1, bare=5)
    part.register(service)
    verdicts = service.score("s", part.queries, rule="lda")
    assert verdicts.image_evidence == "none"
    np.testing.assert_array_equal(verdicts.trust, verdicts.text_confidence)


def test_a_process_starts_with_the_fit_of_another(tmp_path: Path) -> None:
    part = Supported(12, 3, seed=4, bare=3)
    with trustvlm.open(tmp_path / "home", create=True) as service:
        revision = part.register(service)
        first = service.score("s", part.queries, rule="lda")
        assert first.tau_revision == revision
        late = service.register("s", [LabelInput("new", part.world.text[0] + 1.0)]).revision
        again = service.score("s", part.queries, rule="lda")
        assert again.tau_revision == late  # a label without images is one more rival
    with trustvlm.open(tmp_path / "home") as service:
        assert_same(again, service.score("s", part.queries, rule="lda"))
    for file in (tmp_path / "home").rglob("*.discriminant.snapshot"):
        file.write_bytes(file.read_bytes()[:-200] + b"x" * 200)  # derived: made again
    with trustvlm.open(tmp_path / "home") as service:
        assert_same(again, service.score("s", part.queries, rule="lda"))


def test_a_purge_leaves_no_fit_of_what_is_gone(tmp_path: Path) -> None:
    part = Supported(12, 3, seed=4)
    with trustvlm.open(tmp_path / "home", create=True) as service:
        part.register(service)
        service.score("s", part.queries, rule="lda")
        assert list((tmp_path / "home").rglob("*.discriminant.snapshot"))
        service.remove_label("s", "label 003", purge=True)
        assert not list((tmp_path / "home").rglob("*.discriminant.snapshot"))


def test_a_large_space_is_answered_with_the_fit_there_is(tmp_path: Path) -> None:
    part = Supported(12, 3, seed=6)
    set_thresholds(tmp_path / "home", fit_on_write_labels=2, fit_in_call_labels=4)
    with trustvlm.open(tmp_path / "home", create=True) as service:
        first = part.register(service)
        assert service.score("s", part.queries, rule="lda").tau_revision == first
        second = service.add_support(
            "s", "label 003", image_vectors=part.world.supports(3, 2)
        ).revision
        seen = {service.score("s", part.queries, rule="lda").tau_revision}
        until = time.monotonic() + 30
        while second not in seen and time.monotonic() < until:
            time.sleep(0.02)
            seen.add(service.score("s", part.queries, rule="lda").tau_revision)
        assert seen == {first, second}
        truth = [part.world.names[int(i)] for i in np.zeros(40)]
        third = service.add_support(
            "s", "label 004", image_vectors=part.world.supports(4, 2)
        ).revision
        calibration = service.calibrate("s", part.queries, truth, rule="lda")
        assert calibration.revision == third
        assert service.score("s", part.queries, rule="lda").tau_revision == third


def test_the_fixed_sample_stands_for_the_space(tmp_path: Path) -> None:
    """With a small sample of images and labels verdicts are close to those of the whole fit."""
    part = Supported(60, 4, seed=8, bare=20)
    trust = []
    for name, values in (("whole", {}), ("sample", {"fit_sample": 60, "fit_competitors": 15})):
        set_thresholds(tmp_path / name, fit_in_call_labels=16, **values)
        with trustvlm.open(tmp_path / name, create=True) as service:
            part.register(service)
            trust.append(service.score("s", part.queries, rule="lda").trust)
    assert np.corrcoef(trust)[0, 1] > 0.8
    assert np.abs(trust[0] - trust[1]).mean() < 0.15
