"""Claims: what a rule says of a label that was given elsewhere, whatever that label is."""

from __future__ import annotations

import pickle
import tempfile
from pathlib import Path

import numpy as np
import pytest
from hypothesis import Phase, given, settings
from hypothesis import strategies as st
from thresholds import set_thresholds
from worlds import IMAGE_DIM, TEXT_DIM, World, make_space

import trustvlm
from trustvlm import RULES, InvalidInput, LabelInput, Queries
from trustvlm.scoring.candidates import Candidates, Neighbours
from trustvlm.scoring.image_evidence import ImageEvidence
from trustvlm.softmax.leading import Moments

SCALE, TAU = 30.0, 0.06
OF_LABEL = [name for name, rule in RULES.items() if rule.of_label]
DIRECT = [name for name in OF_LABEL if not RULES[name].discriminant]


def unit(rows: np.ndarray) -> np.ndarray:
    return rows / np.linalg.norm(rows, axis=1, keepdims=True)


class Oracle:
    """The rule's own quantity of one label of one query, from all numbers of the space at once.

    Candidates are K text leaders, K nearest prototypes and the claimed label, as docs/rules.md says
    ("Candidates"); with fewer labels, all of them.
    """

    def __init__(
        self, text: np.ndarray, images: np.ndarray, bare: np.ndarray, imputed: float
    ) -> None:
        self.text, self.images, self.bare = unit(text), unit(images), bare
        self.imputed = imputed

    def trust(self, rule: str, x: np.ndarray, z: np.ndarray, label: int) -> float:
        logit = SCALE * self.text @ (x / np.linalg.norm(x))
        prints = self.images @ (z / np.linalg.norm(z))
        similarity = np.where(self.bare, np.nan, prints)
        order = np.argsort(-logit)[:64]
        nearest = np.argsort(-np.where(self.bare, -np.inf, prints))[:64]
        nearest = nearest[~self.bare[nearest]]
        some = np.array(sorted({*order.tolist(), *nearest.tolist(), label}))
        log_z = np.logaddexp.reduce(logit)
        p = np.exp(logit - log_z)
        votes = np.argsort(-np.where(self.bare, -np.inf, prints))[:20]
        votes = votes[~self.bare[votes]]
        at = {one: place for place, one in enumerate(some.tolist())}
        column = np.array([[at.get(one, -1) for one in votes.tolist()]])
        params = dict(RULES[rule].parameters)
        if "tau" in params:
            params["tau"] = TAU
        temperature = params.get("temperature") or 1.0
        candidates = Candidates(
            logit=logit[None, some],
            moments=Moments(np.array([log_z]), np.zeros(1), np.zeros(1)),
            similarity=similarity[None, some],
            imputed=self.imputed,
            image_log_z=np.array([np.logaddexp.reduce(prints[~self.bare] / temperature)]),
            valid=np.ones((1, len(some)), np.bool_),
            rest=np.array([max(1.0 - p[some].sum(), 0.0)]),
            labels=len(logit),
            prototypes=int((~self.bare).sum()),
            evidence=ImageEvidence(TAU, "fitted", True, 1, 1, 1, 1, 1, self.imputed, ()),
            background=prints[None, ~self.bare],
            neighbours=Neighbours(prints[None, votes], column),
        )
        return float(RULES[rule].judge(candidates, params).trust[0, at[label]])


def params_of(rule: str) -> dict[str, float] | None:
    return {"tau": TAU} if "tau" in RULES[rule].parameters else None


@settings(max_examples=5, deadline=None, phases=(Phase.explicit, Phase.reuse, Phase.generate))
@given(
    labels=st.sampled_from([1, 2, 40, 300]),
    seed=st.integers(0, 10_000),
    share_bare=st.sampled_from([0.0, 0.3, 1.0]),
    streamed=st.booleans(),
)
def test_claims_equal_the_rules_own_quantity_for_that_label(
    labels: int, seed: int, share_bare: float, streamed: bool
) -> None:
    """Of any label, also of those that are no candidates, under every rule and both engines."""
    rng = np.random.default_rng(seed)
    text, images = rng.normal(size=(labels, TEXT_DIM)), rng.normal(size=(labels, IMAGE_DIM))
    bare = rng.random(labels) < share_bare
    names = [f"label {i:03d}" for i in range(labels)]
    x, z = rng.normal(size=(6, TEXT_DIM)), rng.normal(size=(6, IMAGE_DIM))
    claimed = rng.integers(0, labels, 6)
    with tempfile.TemporaryDirectory() as folder:
        home = Path(folder) / "home"
        with trustvlm.open(home, create=True) as service:
            make_space(service, logit_scale=SCALE)
            service.register(
                "s",
                [
                    LabelInput(
                        names[i], text[i], image_vectors=None if bare[i] else images[i][None]
                    )
                    for i in range(labels)
                ],
            )
        if streamed:
            set_thresholds(home, dense_labels=1)
        with trustvlm.open(home) as service:
            imputed = 0.0
            if bare.any():
                only = [names[int(np.flatnonzero(bare)[0])]]
                one = service.score("s", Queries(x[:1], z[:1]), rule="image", labels=only)
                imputed = float(one.trust[0])
            oracle = Oracle(text, images, bare, imputed)
            queries = Queries(x, z, claimed=[names[i] for i in claimed])
            for rule in DIRECT:
                verdicts = service.score("s", queries, rule=rule, params=params_of(rule))
                expected = [oracle.trust(rule, *one) for one in zip(x, z, claimed, strict=True)]
                np.testing.assert_allclose(
                    verdicts.claimed_trust, expected, rtol=1e-3, atol=1e-4, err_msg=rule
                )
                own = service.score("s", Queries(x, z), rule=rule, params=params_of(rule))
                np.testing.assert_array_equal(verdicts.label, own.label)
                np.testing.assert_allclose(verdicts.trust, own.trust, rtol=1e-9, atol=1e-12)


@settings(max_examples=2, deadline=None, phases=(Phase.explicit, Phase.reuse, Phase.generate))
@given(seed=st.integers(0, 10_000), labels=st.sampled_from([30, 250]), part=st.booleans())
def test_both_engines_say_the_same_of_claims(seed: int, labels: int, part: bool) -> None:
    """With further names, removed labels, and a part of the labels; also under the lda rules."""
    rng = np.random.default_rng(seed)
    world = World([f"label {i}" for i in range(labels)], seed)
    claimed = [*(f"label {i}" for i in rng.integers(0, labels, 18)), "nothing", None]
    n = len(claimed)
    with tempfile.TemporaryDirectory() as folder:
        home = Path(folder) / "home"
        with trustvlm.open(home, create=True) as service:
            make_space(service, logit_scale=SCALE)
            service.register("s", world.inputs(2))
            service.alias("s", "label 4", of="label 5")
            service.alias("s", "label 9", of="label 5")
            service.remove_label("s", "label 7")
            count = len(list(service.list_labels("s")))
        mask = np.arange(count) % 4 != 1 if part else None
        queries = Queries(rng.normal(size=(n, TEXT_DIM)), rng.normal(size=(n, IMAGE_DIM)))
        queries = Queries(queries.classifier, queries.verifier, claimed=claimed)
        found = []
        for dense_labels in (100_000, 1):
            set_thresholds(home, dense_labels=dense_labels)
            with trustvlm.open(home) as service:
                found.append(
                    [service.score("s", queries, rule=rule, labels=mask) for rule in OF_LABEL]
                )
        for one, other in zip(*found, strict=True):
            np.testing.assert_allclose(one.claimed_trust, other.claimed_trust, 1e-3, 1e-4)
            for column in ("claimed", "claimed_id", "better_label", "reason", "reason_code"):
                np.testing.assert_array_equal(getattr(one, column), getattr(other, column), column)


def test_a_claim_that_is_no_candidate_of_many_labels(service: trustvlm.TrustService) -> None:
    rng, labels, count = np.random.default_rng(4), 300, 20
    text, images = (unit(rng.normal(size=(labels, dim))) for dim in (TEXT_DIM, IMAGE_DIM))
    make_space(service, logit_scale=SCALE)
    service.register(
        "s",
        [LabelInput(f"label {i}", text[i], image_vectors=images[i][None]) for i in range(labels)],
    )
    x, z = (unit(rng.normal(size=(count, dim))) for dim in (TEXT_DIM, IMAGE_DIM))
    last = np.argsort(-x @ text.T, axis=1)[:, -1]
    power = np.exp(SCALE * x @ text.T)
    p = power / power.sum(axis=1, keepdims=True)
    at = np.arange(count)
    queries = Queries(x, z, claimed=[f"label {i}" for i in last])
    for rule, expected in (("msp", p), ("trustvlm", p + z @ images.T)):
        verdicts = service.score("s", queries, rule=rule)
        np.testing.assert_allclose(verdicts.claimed_trust, expected[at, last], atol=1e-4)
        np.testing.assert_allclose(verdicts.text_confidence, p.max(axis=1), atol=1e-4)


@pytest.fixture
def space(service: trustvlm.TrustService) -> World:
    """The service with a space "s" of twelve labels, one of them with a further name."""
    world = World([f"label {i}" for i in range(12)], 3)
    make_space(service)
    service.register("s", world.inputs(3))
    service.alias("s", "label 11", of="label 0")
    return world


def clear(world: World, label: int, **claims: object) -> Queries:
    return Queries(world.text[[label]], world.images[[label]], **claims)  # type: ignore[arg-type]


def test_a_claim_is_judged_beside_the_spaces_own_label(
    service: trustvlm.TrustService, space: World
) -> None:
    labels = np.array([0, 1, 2, 3, 4])
    claimed = ["label 11", "label 1", "label 9", "aeroplane", None]
    queries = Queries(space.text[labels], space.images[labels], claimed=claimed)
    verdicts = service.score("s", queries)
    assert verdicts.label.tolist() == [f"label {i}" for i in labels]
    assert verdicts.claimed.tolist() == ["label 0", "label 1", "label 9", "aeroplane", None]
    assert verdicts.better_label.tolist() == [None, None, "label 2", "label 3", None]
    assert verdicts.claimed_id[:2].tolist() == verdicts.label_id[:2].tolist()
    assert verdicts.claimed_id[3:].tolist() == [-1, -1]
    assert np.isnan(verdicts.claimed_trust[3:]).all()
    assert verdicts.claimed_probability[3:].tolist() == [None, None]
    assert verdicts.claimed_probability[1] == verdicts.probability[1]
    assert verdicts.reason_code.tolist()[3:] == ["not_a_label", "not_calibrated"]
    assert verdicts.reason[3] == "review: the claimed 'aeroplane' is no label of the space"
    assert verdicts.reason[2].endswith("'label 2' fits better than 'label 9'")
    evidence = verdicts.evidence(2)
    assert [near.similarity for near in evidence.claimed] == sorted(
        (near.similarity for near in evidence.claimed), reverse=True
    )
    assert len(evidence.claimed) == 3
    assert evidence.claimed[0].similarity < evidence.label[0].similarity
    assert verdicts.evidence(1).claimed == verdicts.evidence(1).label
    assert verdicts.evidence(3).claimed == verdicts.evidence(4).claimed == ()


def test_rows_and_tables_have_the_claims(service: trustvlm.TrustService, space: World) -> None:
    without = service.score("s", clear(space, 1))
    assert without.claimed is None
    assert "claimed" not in next(without.rows())
    verdicts = service.score("s", clear(space, 1, claimed=["label 2"]))
    row = next(verdicts.rows())
    assert (row["claimed"], row["better_label"]) == ("label 2", "label 1")
    assert row == verdicts[0].to_dict()
    assert verdicts.to_pandas()["claimed"].tolist() == ["label 2"]
    assert verdicts[:1].claimed.tolist() == ["label 2"]
    assert pickle.loads(pickle.dumps(verdicts)).better_label.tolist() == ["label 1"]


def test_a_name_is_a_claim_whatever_it_holds(service: trustvlm.TrustService, space: World) -> None:
    """No name fails the batch: a language model may answer anything."""
    odd = ["", "\0", "\ud800", "x" * 100_000, "Label 1", "label  1", "'; DROP TABLE labels"]
    n = len(odd)
    queries = Queries(np.tile(space.text[1], (n, 1)), np.tile(space.images[1], (n, 1)))
    verdicts = service.score("s", Queries(queries.classifier, queries.verifier, claimed=odd))
    assert set(verdicts.reason_code) == {"not_a_label"}
    assert "did you mean 'label 1'?" in verdicts.reason[4]
    assert max(map(len, verdicts.reason)) < 300


def test_a_claim_that_takes_no_part_in_the_call(
    service: trustvlm.TrustService, space: World
) -> None:
    queries = clear(space, 1, claimed=["label 3"])
    verdicts = service.score("s", queries, labels=["label 1", "label 2"])
    assert (
        verdicts.reason[0] == "review: the claimed 'label 3' is not among the labels of this call"
    )
    assert verdicts.reason_code[0] == "not_a_label"
    assert verdicts.better_label[0] == "label 1"


@pytest.mark.parametrize("claim", ["nothing", "label 1", "label 5"])
@pytest.mark.parametrize("labels", [None, ["label 1", "label 2", "label 4"]])
def test_the_better_label_is_the_best_by_the_rule_of_any_claim(
    service: trustvlm.TrustService, space: World, claim: str, labels: list[str] | None
) -> None:
    """Where the classifier is nearly undecided and the image evidence is not, also of a claim that
    is no label, or that takes no part."""
    text = 1.05 * unit(space.text[[1]]) + unit(space.text[[2]])
    queries = Queries(text, space.images[[2]], claimed=[claim])
    verdicts = service.score("s", queries, rule="trustvlm", labels=labels)
    assert (verdicts.label[0], verdicts.rival[0]) == ("label 1", "label 2")
    assert verdicts.rival_trust[0] > verdicts.trust[0]
    assert verdicts.better_label[0] == "label 2"


@pytest.mark.parametrize(
    ("claimed", "message"),
    [
        (["label 1", "label 2"], "expected 1 name, one for each query .None for none., got 2"),
        ("label 1", "queries.claimed: expected one label name for each query"),
        ([7], "queries.claimed: expected one label name for each query"),
    ],
)
def test_bad_claims_are_refused(
    service: trustvlm.TrustService, space: World, claimed: object, message: str
) -> None:
    with pytest.raises(InvalidInput, match=message):
        service.score("s", clear(space, 1, claimed=claimed))


@pytest.mark.parametrize("rule", ["entropy", "energy", "doctor"])
def test_rules_without_a_trust_for_labels_are_refused(
    service: trustvlm.TrustService, space: World, rule: str
) -> None:
    with pytest.raises(InvalidInput, match=f"rule: the trust of '{rule}' is the same for every"):
        service.score("s", clear(space, 1, claimed=["label 1"]), rule=rule)


def test_a_calibration_of_predictions_decides_about_no_claim(
    service: trustvlm.TrustService, space: World
) -> None:
    queries = space.queries(12)
    truth = [name for name in space.names for _ in range(12)]
    assert not service.calibrate("s", queries, truth, max_risk=0.2).failed
    own = service.score("s", clear(space, 1))
    assert own.decision[0] == "accept"
    verdicts = service.score("s", clear(space, 1, claimed=["label 1"]))
    assert (verdicts.decision[0], verdicts.accepted[0]) == ("review", None)
    assert verdicts.reason[0] == "review: not calibrated for claims"
    assert verdicts.claims_calibration_id is None
    assert verdicts.calibration_id is not None  # the probability of the own label is calibrated
    assert verdicts.probability[0] == own.probability[0]
