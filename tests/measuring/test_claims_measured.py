"""Measuring claims: how far rules tell right claims from wrong ones, and thresholds for claims."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from worlds import IMAGE_DIM, TEXT_DIM, World, make_space

import trustvlm
from trustvlm import InvalidInput, Queries


@pytest.fixture
def world(service: trustvlm.TrustService) -> World:
    """The service with a space "s" of ten labels with three support images each."""
    made = World([f"label {i}" for i in range(10)], 5)
    make_space(service)
    service.register("s", made.inputs(3))
    return made


def claims(world: World, count: int, seed: int, wrong: float = 0.4) -> tuple[Queries, list[str]]:
    """Clear images of random labels, a share of which are claimed to be another label; their true
    labels."""
    rng = np.random.default_rng(seed)
    truth = rng.integers(0, len(world.names), count)
    classifier = world.text[truth] + 0.8 * rng.normal(size=(count, TEXT_DIM))
    verifier = world.images[truth] + 0.5 * rng.normal(size=(count, IMAGE_DIM))
    other = (truth + rng.integers(1, len(world.names), count)) % len(world.names)
    named = np.where(rng.random(count) < wrong, other, truth)
    claimed = [world.names[i] for i in named]
    return Queries(classifier, verifier, claimed=claimed), [world.names[i] for i in truth]


def test_a_claim_is_right_when_it_equals_the_truth(
    service: trustvlm.TrustService, world: World
) -> None:
    queries, truth = claims(world, 200, 1)
    right = np.array(queries.claimed) == np.array(truth)
    report = service.evaluate("s", queries, truth, draws=0)
    assert report.claims
    assert {one.rule for one in report.left_out} == {"entropy", "energy", "doctor"}
    verdicts = service.score("s", queries, rule="posterior")
    outcome = report["posterior"]
    assert outcome.accuracy.value == pytest.approx(right.mean())
    auroc = trustvlm.selective.metrics.auroc(verdicts.claimed_trust, right)
    assert outcome.auroc.value == pytest.approx(auroc, abs=1e-6)
    assert auroc > 0.95
    assert {one.label for one in report.wrong} <= {
        name for name, is_right in zip(queries.claimed, right, strict=True) if not is_right
    }
    assert report.label_advice == ()


def test_images_without_a_claim_that_is_a_label_are_left_out(
    service: trustvlm.TrustService, world: World
) -> None:
    queries, truth = claims(world, 60, 2)
    names = [None, "no label", *queries.claimed[2:]]
    report = service.evaluate("s", replace(queries, claimed=names), truth, draws=0, rules=["msp"])
    assert (report.images, report.unclaimed) == (58, 2)
    made = service.calibrate("s", replace(queries, claimed=names), truth, max_risk=0.3)
    assert (made.tested, made.unclaimed) == (58, 2)


def test_rules_without_a_trust_for_labels_are_refused(
    service: trustvlm.TrustService, world: World
) -> None:
    queries, truth = claims(world, 30, 3)
    with pytest.raises(InvalidInput, match="the trust of 'energy' is the same for every label"):
        service.evaluate("s", queries, truth, rules=["energy"])
    with pytest.raises(InvalidInput, match="the trust of 'doctor' is the same for every label"):
        service.calibrate("s", queries, truth, rule="doctor")
    with pytest.raises(InvalidInput, match="expected 30 names, one for each query"):
        service.calibrate("s", replace(queries, claimed=queries.claimed[1:]), truth)


@pytest.mark.both_back_ends
def test_a_calibration_of_claims_decides_about_claims_only(
    service: trustvlm.TrustService, world: World
) -> None:
    queries, truth = claims(world, 400, 4)
    made = service.calibrate("s", queries, truth, max_risk=0.1)
    assert made.claims
    assert not made.failed
    fresh, fresh_truth = claims(world, 400, 5)
    verdicts = service.score("s", fresh)
    accepted = verdicts.decision == "accept"
    right = np.array(fresh.claimed) == np.array(fresh_truth)
    assert accepted.sum() > 100
    assert (accepted & ~right).sum() <= 0.1 * accepted.sum()
    np.testing.assert_array_equal(accepted, verdicts.claimed_trust >= made.threshold)
    assert verdicts.claims_calibration_id == made.id
    assert verdicts.calibration_id is None
    np.testing.assert_allclose(
        verdicts.claimed_probability.astype(float), made.probability(verdicts.claimed_trust)
    )
    assert set(verdicts.reason_code[~accepted]) <= {
        "better_label", "unknown", "close_call", "low_evidence",
    }  # fmt: skip
    assert "better_label" in verdicts.reason_code
    own = service.score("s", replace(fresh, claimed=None))
    assert set(own.reason_code) == {"not_calibrated"}


def test_both_kinds_of_calibration_are_in_force_at_once(
    service: trustvlm.TrustService, world: World
) -> None:
    queries, truth = claims(world, 400, 6)
    plain = replace(queries, claimed=None)
    of_labels = service.calibrate("s", plain, truth, max_risk=0.2)
    assert not of_labels.failed
    of_claims = service.calibrate("s", queries, truth, max_risk=0.1)
    assert service.count_observations("s").calibration == of_labels.images  # they stay stored
    names = [*queries.claimed[:5], *[None] * 395]
    verdicts = service.score("s", replace(queries, claimed=names))
    own = service.score("s", plain)
    assert verdicts.calibration_id == own.calibration_id == of_labels.id
    assert verdicts.claims_calibration_id == of_claims.id
    for column in ("decision", "reason", "reason_code", "accepted"):  # without a claim, as without
        np.testing.assert_array_equal(getattr(verdicts, column)[5:], getattr(own, column)[5:])
    np.testing.assert_array_equal(verdicts.probability, own.probability)
    assert service.recalibrate("s").claims is False
    assert service.monitor("s").calibration_id == service.list_calibrations("s")[0].id
    service.remove_calibration("s", of_claims.id)
    assert service.score("s", queries).claims_calibration_id is None


def test_a_calibration_of_claims_is_renewed_with_its_images(verbs: Any) -> None:
    """With the labels that they are claimed to have, by their names of now; predictions are never
    calibrated on them."""
    made = World([f"label {i}" for i in range(10)], 5)
    make_space(verbs)
    verbs.register("s", made.inputs(3))
    with pytest.raises(InvalidInput, match=r"no images with claims yet; .*FOLDER --claimed FILE'"):
        verbs.recalibrate("s", claims=True)
    queries, truth = claims(made, 150, 7)
    names = [*queries.claimed[:148], None, "no label"]
    first = verbs.calibrate("s", replace(queries, claimed=names), truth, max_risk=0.3)
    assert not first.failed
    assert first.unclaimed == 2
    for ask in (verbs.recalibrate, verbs.evaluate_stored):
        with pytest.raises(
            InvalidInput, match=r"that calibrate predictions.*recalibrate s --claim"
        ):
            ask("s")
    again = verbs.recalibrate("s", claims=True)
    assert again.claims
    assert (again.threshold, again.tested) == (first.threshold, first.tested)
    failed = verbs.calibrate("s", queries, truth, max_risk=0.001, confidence=0.99)
    assert failed.failed  # the images of the one in force stay
    again = verbs.recalibrate("s", claims=True)
    assert (again.images, again.unclaimed, again.max_risk) == (148, 0, 0.3)
    verbs.update_label("s", "label 1", new_name="other")
    verbs.register("s", [trustvlm.LabelInput("new", np.ones(TEXT_DIM))])
    verbs.remove_label("s", "label 2")
    stale = verbs.score("s", queries)
    assert set(stale.reason_code) <= {"stale", "not_a_label"}
    assert any(" recalibrate s --claims'" in reason for reason in stale.reason)
    renewed = verbs.recalibrate("s", claims=True)
    gone = names.count("label 2")
    assert gone
    assert (renewed.images, renewed.unclaimed) == (148, gone)
    assert "stale" not in verbs.score("s", queries).reason_code
    assert verbs.count_observations("s").usable == 0


def test_added_labels_make_a_calibration_of_claims_accept_nothing(
    service: trustvlm.TrustService, world: World
) -> None:
    queries, truth = claims(world, 300, 7)
    assert not service.calibrate("s", queries, truth, max_risk=0.1).failed
    service.register("s", [trustvlm.LabelInput("new", np.ones(TEXT_DIM))])
    verdicts = service.score("s", queries)
    assert set(verdicts.reason_code) == {"stale"}
    assert "never saw" in verdicts.reason[0]


def test_claims_are_refused_where_nothing_is_done_with_them(
    service: trustvlm.TrustService, world: World
) -> None:
    queries, _ = claims(world, 3, 8)
    with pytest.raises(InvalidInput, match="search takes no claims"):
        service.search("s", queries)
