"""What a verdict says of itself: decision, reason code and reason belong together, and are true."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from worlds import IMAGE_DIM, TEXT_DIM, World, make_space

import trustvlm
from trustvlm import LabelInput, Queries
from trustvlm.scoring.rules import RULES
from trustvlm.service.memory import support_prints

CODES = {
    "accepted": "accept",
    "unknown": "unknown",
    **dict.fromkeys(
        ("close_call", "low_evidence", "unverified", "stale", "not_calibrated", "copy_of_other"),
        "review"
    ),
}  # fmt: skip
SHARES_OF_TRUST = ("posterior", "posterior_star", "lda", "lda_star", "knn", "trustvlm_star")


def images_of(world: World, count: int, seed: int, noise: float = 1.0) -> tuple[Queries, list[str]]:
    """Noisy images of random labels, and which."""
    rng = np.random.default_rng(seed)
    truth = rng.integers(0, len(world.names), count)
    classifier = world.text[truth] + 1.4 * noise * rng.normal(size=(count, TEXT_DIM))
    verifier = world.images[truth] + noise * rng.normal(size=(count, IMAGE_DIM))
    return Queries(classifier, verifier), [world.names[i] for i in truth]


@pytest.mark.parametrize(
    "seed", [1, *(pytest.param(seed, marks=pytest.mark.slow) for seed in (2, 3))]
)
def test_no_verdict_names_a_rival_far_behind(service: trustvlm.TrustService, seed: int) -> None:
    """Under every rule, in random spaces: with near labels, labels without support images and an
    alias."""
    world = World([f"label {i}" for i in range(12)], seed)
    world.text[1] = world.text[0] + 0.3 * np.random.default_rng(seed).normal(size=TEXT_DIM)
    world.images[3] = world.images[2] + 0.2 * np.random.default_rng(seed).normal(size=IMAGE_DIM)
    make_space(service)
    inputs = world.inputs(3)
    service.register(
        "s", [*inputs[:-2], *(LabelInput(one.name, one.text_vector) for one in inputs[-2:])]
    )
    labelled, truth = images_of(world, 300, seed, noise=0.7)
    clear, hard = (images_of(world, 100, seed + 10, noise=noise)[0] for noise in (0.7, 1.6))
    fresh = Queries(
        np.vstack([clear.classifier, hard.classifier]), np.vstack([clear.verifier, hard.verifier])
    )
    seen = Counter[str]()
    for rule in RULES:
        made = service.calibrate(
            "s", labelled, truth, rule=rule, max_risk=0.1, may_correct=True, unknown_rate=0.02
        )
        if made.failed:
            continue
        verdicts = service.score("s", fresh, rule=rule, params=dict(made.params), top_k=12)
        for row in verdicts.rows():
            seen[row["reason_code"]] += 1
            assert CODES[row["reason_code"]] == row["decision"] == row["reason"].split(":")[0]
            assert (row["decision"] == "accept") == (row["accepted"] is True)
            assert (repr(row["rival"]) in row["reason"]) == (row["reason_code"] == "close_call")
            if row["reason_code"] == "close_call":
                p = dict(zip(row["top_labels"], row["top_confidence"], strict=True))
                if rule in SHARES_OF_TRUST:
                    mine, other = row["trust"], row["rival_trust"]
                else:
                    mine, other = p[row["label"]], p[row["rival"]]
                assert other > 0, (rule, row)
                assert other >= 0.2 * mine, (rule, row)
            if row["reason_code"] in ("close_call", "low_evidence"):
                assert row["trust"] < made.threshold
    assert min(seen[code] for code in ("accepted", "close_call", "low_evidence")) > 50, seen


def test_codes_of_plain_cases(service: trustvlm.TrustService, world: World) -> None:
    make_space(service)
    inputs = world.inputs(5)
    service.register(
        "s", [*inputs, LabelInput("shore", world.text[1], image_vectors=inputs[1].image_vectors)]
    )
    one = Queries(
        np.vstack([world.text[0], world.text[1] + 0.4 * world.text[3]]), world.images[:2] + 0.2
    )
    before = service.score("s", one)
    assert list(before.reason_code) == ["not_calibrated"] * 2
    assert list(before.decision) == ["review"] * 2
    assert list(before.accepted) == [None, None]
    np.testing.assert_array_equal(
        before.probability.astype(float), before.trust
    )  # the rule's own: q
    assert before.probability_source == "rule"
    without = service.score("s", one, rule="trustvlm")
    assert (list(without.probability), without.probability_source) == ([None, None], None)
    labelled, truth = images_of(world, 400, 5, noise=0.4)
    truth = [
        "shore" if name == "beach" and i % 2 else name for i, name in enumerate(truth)
    ]  # they look the same
    service.calibrate("s", labelled, truth, rule="posterior", max_risk=0.02, unknown_rate=0.1)
    far = Queries(world.text[2:3], -world.images.sum(axis=0, keepdims=True))
    rows = [*service.score("s", one).rows(), *service.score("s", far).rows()]
    assert [(row["decision"], row["reason_code"]) for row in rows] == [
        ("accept", "accepted"), ("review", "close_call"), ("unknown", "unknown"),
    ]  # fmt: skip
    assert {"'beach'", "'shore'"} == {
        word for word in rows[1]["reason"].split() if word.startswith("'")
    }
    service.calibrate("s", labelled, truth, rule="posterior", max_risk=0.3, on_unverified="abstain")
    service.register("s", [LabelInput("sea", -world.text[0])])
    service.recalibrate("s")
    (bare,) = service.score("s", Queries(-world.text[:1], world.images[:1])).rows()
    assert (bare["label"], bare["decision"], bare["reason_code"]) == ("sea", "review", "unverified")


def test_a_copy_of_another_labels_support_image_is_a_reason_of_its_own(
    tmp_path: Path, world: World
) -> None:
    with trustvlm.open(tmp_path / "home", create=True) as service:
        make_space(service)
        service.register("s", world.inputs(5))
        own, other = world.supports(1, 1), world.images[1:2] + 0.3
        service.add_support("s", "beach", image_vectors=own)
        service.add_support(
            "s", "airport", image_vectors=other
        )  # an image of a beach among the airports
        queries = Queries(
            world.text[[1, 1, 1]], np.vstack([7 * other, own, other + 1e-2])
        )  # lengths do not matter
        labelled, truth = images_of(world, 400, 5, noise=0.4)
        for calibrate in (False, True):
            if calibrate:
                assert not service.calibrate("s", labelled, truth, max_risk=0.3).failed
            rows = list(service.score("s", queries).rows())
            assert [row["label"] for row in rows] == ["beach"] * 3
            assert (rows[0]["decision"], rows[0]["reason_code"]) == ("review", "copy_of_other")
            assert "a support image of 'airport'" in rows[0]["reason"]
            assert rows[0]["probability"] is None  # which of the two labels is wrong is not known
            assert all(0 < row["probability"] <= 1 for row in rows[1:])
            assert [row["reason_code"] for row in rows[1:]] == [
                "accepted" if calibrate else "not_calibrated"
            ] * 2
            assert rows[0]["accepted"] is (False if calibrate else None)
        service.alias("s", "airport", "beach")
        assert "copy_of_other" not in {*service.score("s", queries).reason_code}


def test_a_copy_is_found_in_an_index_that_rounds(
    service: trustvlm.TrustService, world: World
) -> None:
    service.create_space(
        "s",
        classifier=f"precomputed:{TEXT_DIM}",
        verifier=f"precomputed:{IMAGE_DIM}",
        recipe="flat-fp16",
    )
    service.register("s", world.inputs(5))
    other = world.images[1:2] + 0.3
    service.add_support("s", "airport", image_vectors=other)
    near = other + 1e-2 * np.random.default_rng(0).normal(size=other.shape)
    codes = service.score("s", Queries(world.text[[1, 1]], np.vstack([other, near]))).reason_code
    assert list(codes) == ["copy_of_other", "not_calibrated"]


@pytest.mark.parametrize("most_pairs", [2**20, 8])
@pytest.mark.parametrize("kind", ["dense", "one value of many"])
def test_each_of_many_copies_is_found_and_nothing_else(
    service: trustvlm.TrustService, monkeypatch: pytest.MonkeyPatch, most_pairs: int, kind: str
) -> None:
    monkeypatch.setattr(support_prints, "_MOST_PAIRS", most_pairs)
    rng, labels, dim = np.random.default_rng(0), 12, 300
    images = rng.normal(size=(labels, 5, dim))
    if kind != "dense":
        images *= np.eye(dim)[rng.permutation(dim)[: 5 * labels]].reshape(images.shape)
    texts = np.eye(labels)
    service.create_space("s", classifier=f"precomputed:{labels}", verifier=f"precomputed:{dim}")
    service.register(
        "s", [LabelInput(f"label {i}", texts[i], image_vectors=images[i]) for i in range(labels)]
    )
    copies = images.reshape(-1, dim) * rng.uniform(0.1, 9, size=(5 * labels, 1))
    owner = np.repeat(np.arange(labels), 5)
    near = copies + 0.02 * rng.normal(size=copies.shape)
    for vectors, named, code in [
        (copies.astype(np.float32), (owner + 1) % labels, "copy_of_other"),
        (copies, (owner + 1) % labels, "copy_of_other"),
        (copies, owner, "not_calibrated"),
        (near, (owner + 1) % labels, "not_calibrated"),
    ]:
        verdicts = service.score("s", Queries(texts[named], vectors), rule="msp")
        assert set(verdicts.reason_code) == {code}
        if code == "copy_of_other":
            assert all(
                f"'label {i}'" in reason for i, reason in zip(owner, verdicts.reason, strict=True)
            )


def test_a_stale_calibration_promises_nothing(service: trustvlm.TrustService, world: World) -> None:
    make_space(service)
    service.register("s", world.inputs(5))
    labelled, truth = images_of(world, 400, 5, noise=0.4)
    service.calibrate("s", labelled, truth, max_risk=0.3)
    new = World(["lake"], 9)
    queries = Queries(
        np.vstack([world.text[0], new.text[0]]), np.vstack([world.images[0], new.images[0]])
    )
    calibrated = service.score("s", queries)
    assert None not in calibrated.probability
    assert calibrated.probability_source == "calibration"
    service.register("s", new.inputs(5))
    stale = service.score("s", queries)
    assert stale.probability_source is None
    assert repr(stale).split("\n")[1] == (
        "no probability: calibration 1 is stale since revision 2; run "
        f"'trustvlm {service.place} recalibrate SPACE'"
    )
    known, unseen = service.score("s", queries).rows()
    assert (known["label"], known["decision"], known["probability"]) == ("airport", "accept", None)
    assert known["reason"].endswith(" recalibrate s'")
    assert (unseen["label"], unseen["decision"], unseen["reason_code"]) == (
        "lake",
        "review",
        "stale",
    )
    assert unseen["reason"].startswith("review: label 'lake' is not covered by calibration 1")
    assert unseen["probability"] is None
    assert "stale since revision 2 and promises nothing; run " in service.monitor("s").message
    service.recalibrate("s")
    assert [row["reason_code"] for row in service.score("s", queries).rows()] == [
        "accepted",
        "accepted",
    ]
    service.remove_label("s", "lake")
    service.recalibrate("s")
    service.restore_label("s", "lake")
    assert (
        service.score("s", queries).reason_code[1] == "stale"
    )  # it was gone when that was calibrated
