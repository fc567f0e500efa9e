"""Classifiers that are no vision-language model: their probabilities in place of the text softmax."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from worlds import World, make_space

import trustvlm
from trustvlm import ExternalClassifier, InvalidInput, LabelInput, NotFound, Queries

COLUMNS = ("label", "rival", "decision", "reason", "nearest_prototype", "top_labels")
NUMBERS = ("text_confidence", "trust", "rival_trust", "top_confidence", "image_similarity")


def text_softmax(world: World, queries: Queries, scale: float) -> np.ndarray:
    x = np.asarray(queries.classifier)
    x = x / np.linalg.norm(x, axis=1, keepdims=True)
    text = world.text / np.linalg.norm(world.text, axis=1, keepdims=True)
    logits = scale * x @ text.T
    p = np.exp(logits - logits.max(axis=1, keepdims=True))
    return p / p.sum(axis=1, keepdims=True)


@settings(max_examples=4, deadline=None)
@given(seed=st.integers(0, 1000), labels=st.sampled_from([3, 30, 150]), claims=st.booleans())
def test_fed_with_our_text_softmax_it_gives_our_verdicts(
    tmp_path_factory: pytest.TempPathFactory, seed: int, labels: int, claims: bool
) -> None:
    world = World([f"label {i:03d}" for i in range(labels)], seed)
    external = ExternalClassifier(world.names)
    inputs = world.inputs(2)
    inputs[1] = LabelInput(inputs[1].name, inputs[1].text_vector)  # without support images
    queries = world.queries(1)
    claimed = [world.names[(i * 7) % labels] for i in range(labels)] if claims else None
    queries = Queries(queries.classifier, queries.verifier, claimed=claimed)
    outside = external.queries(
        probabilities=text_softmax(world, queries, 30.0), verifier=queries.verifier, claimed=claimed
    )
    with trustvlm.open(tmp_path_factory.mktemp("home"), create=True) as service:
        make_space(service, "own", logit_scale=30.0)
        make_space(service, "external", classifier=external.spec, logit_scale=external.logit_scale)
        service.register("own", inputs)
        service.register(
            "external",
            [external.label(one.name, image_vectors=one.image_vectors) for one in inputs],
        )
        for rule in trustvlm.RULES:
            if claims and not trustvlm.RULES[rule].of_label:
                continue
            if rule in ("max_logit", "energy"):
                continue  # logits are known but for a number that is the same for all labels
            one = service.score("own", queries, rule=rule)
            other = service.score("external", outside, rule=rule)
            for column in COLUMNS:
                np.testing.assert_array_equal(
                    getattr(one, column), getattr(other, column), err_msg=f"{rule} {column}"
                )
            for column in (*NUMBERS, *(("claimed_trust",) if claims else ())):
                np.testing.assert_allclose(
                    getattr(one, column), getattr(other, column), rtol=1e-3, atol=1e-4, err_msg=rule
                )


def test_a_part_of_the_outputs_is_renormalised_and_zero_is_allowed(
    service: trustvlm.TrustService,
) -> None:
    external = ExternalClassifier(["a", "b", "c", "d"])
    make_space(service, classifier=external.spec, logit_scale=external.logit_scale)
    service.register("s", [external.label(name) for name in ("a", "b", "c")])
    queries = external.queries(probabilities=[[0.1, 0.3, 0.0, 0.6]])
    verdicts = service.score("s", queries, rule="msp", top_k=3)
    assert verdicts.top_labels[0].tolist() == ["b", "a", "c"]
    np.testing.assert_allclose(verdicts.top_confidence[0], [0.75, 0.25, 0.0], atol=1e-5)
    logits = external.queries(log_probabilities=np.log([[0.1, 0.3, 1e-30, 0.6]]) + 5)
    again = service.score("s", logits, rule="msp", top_k=3)
    np.testing.assert_allclose(again.top_confidence, verdicts.top_confidence, atol=1e-5)


def test_the_most_probable_outputs_and_the_rest(service: trustvlm.TrustService) -> None:
    external = ExternalClassifier(["a", "b", "c", "d"])
    make_space(service, classifier=external.spec, logit_scale=external.logit_scale)
    service.register("s", [external.label(name) for name in external.label_names])
    queries = external.queries_of_top([["c", "a"]], [[0.7, 0.2]])
    verdicts = service.score("s", queries, rule="msp", top_k=4)
    assert verdicts.top_labels[0].tolist() == ["c", "a", "b", "d"]
    np.testing.assert_allclose(verdicts.top_confidence[0], [0.7, 0.2, 0.05, 0.05], atol=1e-5)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({}, "probabilities or log_probabilities, one of the two"),
        ({"probabilities": [[0.5, 0.5, 0.5]]}, "shape .n, 2., a value for each output"),
        ({"probabilities": [[0.9, 0.9]]}, "with the sum 1; logits go into log_probabilities"),
        ({"probabilities": [[1.5, -0.5]]}, "rows of at least 0"),
        ({"probabilities": [[np.nan, 1.0]]}, "expected numbers, got NaN"),
        ({"log_probabilities": [[-np.inf, -np.inf]]}, "a finite value in each row"),
        ({"log_probabilities": [[np.inf, 0.0]]}, "none of .inf"),
    ],
)
def test_what_are_no_probabilities_is_refused(given: dict[str, object], message: str) -> None:
    with pytest.raises(InvalidInput, match=message):
        ExternalClassifier(["a", "b"]).queries(**given)  # type: ignore[arg-type]


def test_wrong_names_are_refused() -> None:
    with pytest.raises(InvalidInput, match="'a' comes twice"):
        ExternalClassifier(["a", "b", "a"])
    with pytest.raises(InvalidInput, match="expected 1 to 20,000 names, got 0"):
        ExternalClassifier([])
    external = ExternalClassifier(["airport", "beach"])
    with pytest.raises(NotFound, match="no output 'airprot'; did you mean 'airport'"):
        external.label("airprot")
    with pytest.raises(NotFound, match="no output 'sea'"):
        external.queries_of_top([["sea"]], [[0.5]])
    with pytest.raises(InvalidInput, match="a name comes twice in row 0"):
        external.queries_of_top([["beach", "beach"]], [[0.5, 0.1]])
    with pytest.raises(InvalidInput, match="at most 1 in a row"):
        external.queries_of_top([["beach", "airport"]], [[0.9, 0.4]])
