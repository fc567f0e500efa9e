"""Spaces with an external classifier: its probabilities in place of a text softmax."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from worlds import IMAGE_DIM, World, assert_same_verdicts, make_space

import trustvlm
from trustvlm import Conflict, InvalidInput, LabelInput, NotFound, Queries, TrustService

COLUMNS = ("label", "rival", "decision", "reason", "nearest_prototype", "top_labels", "unknown")
NUMBERS = ("text_confidence", "trust", "rival_trust", "top_confidence", "image_similarity")
VERIFIER = f"precomputed:{IMAGE_DIM}"


def external_space(
    service: TrustService, world: World, name: str = "s", classifier: str = "external:20"
) -> None:
    service.create_space(name, classifier=classifier, verifier=VERIFIER)
    service.register(name, without_texts(world.inputs(3)))


def without_texts(inputs: list[LabelInput]) -> list[LabelInput]:
    return [LabelInput(one.name, image_vectors=one.image_vectors) for one in inputs]


def text_softmax(world: World, queries: Queries, scale: float) -> np.ndarray:
    x = np.asarray(queries.classifier)
    x = x / np.linalg.norm(x, axis=1, keepdims=True)
    text = world.text / np.linalg.norm(world.text, axis=1, keepdims=True)
    logits = scale * x @ text.T
    p = np.exp(logits - logits.max(axis=1, keepdims=True))
    return p / p.sum(axis=1, keepdims=True)


def outside(world: World, queries: Queries, **others: Any) -> Queries:
    """The queries as our text softmax of them, which somebody else could have computed."""
    p = text_softmax(world, queries, 30.0)
    return Queries(verifier=queries.verifier, probabilities=p, outputs=world.names, **others)


@settings(max_examples=3, deadline=None)
@given(seed=st.integers(0, 1000), labels=st.sampled_from([3, 70]), claims=st.booleans())
def test_fed_with_our_text_softmax_it_gives_our_verdicts(
    tmp_path_factory: pytest.TempPathFactory, seed: int, labels: int, claims: bool
) -> None:
    world = World([f"label {i:03d}" for i in range(labels)], seed)
    inputs = world.inputs(2)
    inputs[1] = LabelInput(inputs[1].name, inputs[1].text_vector)  # without support images
    queries = world.queries(1)
    claimed = [world.names[(i * 7) % labels] for i in range(labels)] if claims else None
    own = Queries(queries.classifier, queries.verifier, claimed=claimed)
    with trustvlm.open(tmp_path_factory.mktemp("home"), create=True) as service:
        make_space(service, "own", logit_scale=30.0)
        service.register("own", inputs)
        service.create_space("external", classifier="external", verifier=VERIFIER)
        service.register("external", without_texts(inputs)[::-1])
        for rule in trustvlm.RULES:
            if trustvlm.RULES[rule].absolute or (claims and not trustvlm.RULES[rule].of_label):
                continue
            one = service.score("own", own, rule=rule)
            other = service.score("external", outside(world, queries, claimed=claimed), rule=rule)
            for column in COLUMNS:
                np.testing.assert_array_equal(
                    getattr(one, column), getattr(other, column), err_msg=f"{rule} {column}"
                )
            for column in (*NUMBERS, *(("claimed_trust",) if claims else ())):
                np.testing.assert_allclose(
                    getattr(one, column), getattr(other, column), rtol=1e-3, atol=1e-4, err_msg=rule
                )


def confidences(service: TrustService, queries: Queries, **options: Any) -> dict[str, float]:
    verdicts = service.score("s", queries, rule="msp", top_k=4, **options)
    names, values = verdicts.top_labels[0].tolist(), verdicts.top_confidence[0].tolist()
    return dict(zip(names, values, strict=True))


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ({"probabilities": [{"c": 0.7, "a": 0.2}]}, [0.2, 0.05, 0.7, 0.05]),
        ({"probabilities": [{"c": 1}]}, [0, 0, 1, 0]),
        ({"probabilities": [{}]}, [0.25, 0.25, 0.25, 0.25]),
        ({"log_probabilities": [{"a": np.log(0.4)}]}, [0.4, 0.2, 0.2, 0.2]),
        ({"probabilities": [[0.3, 0.7, 0, 0]], "outputs": list("dcba")}, [0, 0, 0.7, 0.3]),
        ({"probabilities": np.float16([0.3, 0.7]), "outputs": ["d", "c"]}, [0, 0, 0.7, 0.3]),
        ({"probabilities": [[0.1, None, 0.9]], "outputs": ["b", "a", None]}, [0.3, 0.1, 0.3, 0.3]),
        (
            {"log_probabilities": [[5.0, 5.0, -np.inf, 5.0]], "outputs": list("abcd")},
            [1 / 3, 1 / 3, 0, 1 / 3],
        ),
    ],
)
def test_probabilities_in_every_form(
    service: TrustService, given: dict[str, Any], expected: list[float]
) -> None:
    service.create_space("s", classifier="external:7", verifier=VERIFIER)
    service.register("s", [LabelInput(name) for name in "abcd"])
    got = confidences(service, Queries(**given))
    np.testing.assert_allclose([got[name] for name in "abcd"], expected, atol=2e-3)


def test_one_row_and_the_columns_of_tables_are_taken(service: TrustService) -> None:
    service.create_space("s", classifier="external:7", verifier=VERIFIER)
    service.register("s", [LabelInput(name) for name in "ab"])
    row = np.array([0.25, 0.75])
    table = pa.table({"a": row[:1], "b": row[1:]})
    for values, outputs in ((row, "ab"), (row.astype(">f2"), "ab"), (table, None)):
        names = None if outputs is None else list(outputs)
        queries = Queries(probabilities=values, outputs=names)
        assert confidences(service, queries)["b"] == pytest.approx(0.75, abs=2e-3)


def test_some_labels_are_renormalised(service: TrustService) -> None:
    service.create_space("s", classifier="external:7", verifier=VERIFIER)
    service.register("s", [LabelInput(name) for name in "abcd"])
    queries = Queries(probabilities=[{"a": 0.1, "b": 0.3, "d": 0.6}])
    verdicts = service.score("s", queries, rule="msp", labels=["a", "b"], top_k=2)
    np.testing.assert_allclose(verdicts.top_confidence[0], [0.75, 0.25], atol=1e-5)


BAD: list[tuple[dict[str, Any], str]] = [
    (
        {"probabilities": [[0.9, 0.9]], "outputs": ["a", "b"]},
        "row 0: .* the sum 1, got the sum 1.8",
    ),
    ({"probabilities": [[0.4, 0.4]], "outputs": ["a", "b"]}, "got the sum 0.8; logits go into log"),
    ({"probabilities": [[1.5, -0.5]], "outputs": ["a", "b"]}, "at least 0 .* got -0.5"),
    ({"probabilities": [[np.nan, 1.0]], "outputs": ["a", "b"]}, "row 0 has NaN"),
    ({"probabilities": [[np.inf, 1.0]], "outputs": ["a", "b"]}, "expected finite values"),
    ({"probabilities": [[1.0]], "outputs": ["a", "b"]}, r"shape \(n, 2\), a value for each name"),
    (
        {"probabilities": [[[0.5, 0.5]]], "outputs": ["a", "b"]},
        r"got \(1, 1, 2\); pass values\[0\]",
    ),
    ({"probabilities": [[0.5], [0.5]], "outputs": ["a", "b"]}, r"got \(2, 1\); pass values\.T"),
    (
        {"probabilities": [0.5, 0.5], "outputs": ["a", "b"], "verifier": np.ones((2, IMAGE_DIM))},
        "1 row of probabilities, but 2 verifier embeddings; expected one of each",
    ),
    ({"probabilities": [[0.5, 0.5]]}, "expected the label of each column"),
    ({"probabilities": [[0.5, 0.5]], "outputs": ["a", "a"]}, "'a' comes twice"),
    ({"probabilities": [{"a": 0.9, "b": 0.2}]}, "a sum of at most 1, got the sum 1.1"),
    ({"probabilities": [{"a": 1.0}, [1.0]]}, "row 1: expected {label: probability}"),
    ({"probabilities": [{"a": 1.0}], "outputs": ["a"]}, "name the labels themselves"),
    ({"probabilities": [{"a": "much"}]}, "row 0"),
    ({"probabilities": [{"a": 0.5, "b": 0.1}]}, "names every label of the space, with the sum 0.6"),
    ({"log_probabilities": [[-np.inf] * 2], "outputs": ["a", "b"]}, "a finite value in each row"),
    ({"outputs": ["a", "b"]}, "names of columns come with probabilities"),
    ({"probabilities": [{"a": 1.0}], "log_probabilities": [{"a": 0.0}]}, "not both"),
    ({"probabilities": [{"a": 1.0}], "classifier": np.ones((1, 8))}, "or probabilities, not both"),
    ({"verifier": np.ones((1, IMAGE_DIM))}, "needs the probabilities that it gives"),
]


@pytest.mark.parametrize(("given", "message"), BAD, ids=[message for _, message in BAD])
def test_what_are_no_probabilities_is_refused(
    service: TrustService, given: dict[str, Any], message: str
) -> None:
    service.create_space("s", classifier="external:7", verifier=VERIFIER)
    service.register("s", [LabelInput(name) for name in "ab"])
    with pytest.raises(InvalidInput, match=message):
        service.score("s", Queries(**given), rule="msp")


def test_names_are_labels(service: TrustService) -> None:
    service.create_space("s", classifier="external:7", verifier=VERIFIER)
    service.register("s", [LabelInput(name) for name in ("airport", "été")])
    with pytest.raises(NotFound, match="no label 'airprot' in space 's'; did you mean 'airport'"):
        service.score("s", Queries(probabilities=[{"airprot": 1.0}]), rule="msp")
    decomposed = Queries(probabilities=[{"e\u0301te\u0301": 0.9}])
    assert service.score("s", decomposed, rule="msp").label.tolist() == ["été"]
    make_space(service, "own")
    with pytest.raises(InvalidInput, match="is made with classifier='external'"):
        service.score("own", Queries(probabilities=[{"airport": 1.0}]))
    with pytest.raises(InvalidInput, match="search compares embeddings"):
        service.search("s", Queries(probabilities=[{"airport": 1.0}]))


@pytest.mark.slow  # by default: test_fed_with_our_text_softmax_it_gives_our_verdicts
def test_everything_downstream(service: TrustService, tmp_path: Path) -> None:
    world = World([f"label {i}" for i in range(6)], 3)
    external_space(service, world)
    queries = world.queries(30)
    truth = [name for name in world.names for _ in range(30)]
    given = outside(world, queries)
    report = service.evaluate("s", given, truth, draws=0)
    assert {one.rule for one in report.left_out} == {"max_logit", "energy"}
    assert report["posterior_star"].accuracy.value > 0.9
    made = service.calibrate("s", given, truth, max_risk=0.1)
    before = service.score("s", given)
    assert (before.decision == "accept").mean() > 0.5
    assert service.recalibrate("s").threshold == pytest.approx(made.threshold, abs=1e-9)
    stored = service.evaluate_stored("s", rules=["msp"], draws=0)["msp"].accuracy.value
    assert stored == report["msp"].accuracy.value
    service.feedback("s", outside(world, world.queries(1)), world.names)
    assert service.monitor("s") is not None
    assert service.score("s", given, review=True).label.tolist() == before.label.tolist()
    assert service.review("s").status().trays
    assert not service.verify().damage
    service.export_space("s", tmp_path / "export")
    service.import_space(tmp_path / "export", name="copy")
    service.backup(tmp_path / "home.tar.zst")
    trustvlm.restore(tmp_path / "home.tar.zst", tmp_path / "restored")
    with trustvlm.open(tmp_path / "restored") as restored:
        assert_same_verdicts(service.score("s", given), restored.score("s", given))
    one = service.score("copy", given, rule="posterior")
    assert_same_verdicts(service.score("s", given, rule="posterior"), one)
    service.register("copy", [LabelInput("new")])
    assert (
        service.score("copy", Queries(probabilities=[{"new": 0.9}]), rule="msp").label[0] == "new"
    )
    for rule in ("energy", "max_logit"):
        with pytest.raises(InvalidInput, match="looks at the logits themselves"):
            service.score("s", given, rule=rule)
        with pytest.raises(InvalidInput, match="looks at the logits themselves"):
            service.evaluate("s", given, truth, rules=[rule])
        with pytest.raises(InvalidInput, match="looks at the logits themselves"):
            service.calibrate("s", given, truth, rule=rule)


@pytest.mark.both_back_ends
def test_labels_come_and_go(service: TrustService) -> None:
    service.create_space("s", classifier="external:4", verifier=VERIFIER)
    service.register("s", [LabelInput("a"), LabelInput("b")])
    service.register("s", [LabelInput("c"), LabelInput("a", image_vectors=np.ones((1, IMAGE_DIM)))])
    service.remove_label("s", "b")
    service.register("s", [LabelInput("d")])
    with pytest.raises(Conflict, match=r"room for 4 labels .* 0 more fit, not 1"):
        service.register("s", [LabelInput("e")])
    service.restore_label("s", "b")
    service.update_label("s", "c", new_name="sea")
    service.alias("s", "d", "sea")
    got = confidences(service, Queries(probabilities=[{"a": 0.1, "b": 0.2, "d": 0.3, "sea": 0.4}]))
    assert got["sea"] == pytest.approx(0.7, abs=1e-5)
    assert got["b"] == pytest.approx(0.2, abs=1e-5)
    service.remove_label("s", "b")
    service.purge(older_than=timedelta(0))
    service.register("s", [LabelInput("e")])
    assert service.score("s", Queries(probabilities=[{"e": 0.9}]), rule="msp").label[0] == "e"
    with pytest.raises(NotFound, match=r"no label 'b' in space 's'.* divide the other values"):
        service.score("s", Queries(probabilities=[{"b": 0.2}]), rule="msp")


def test_a_space_says_what_it_cannot_take(service: TrustService) -> None:
    options: list[tuple[dict[str, Any], str]] = [
        ({}, "verifier: an external classifier has no image tower"),
        ({"verifier": "external"}, "verifier: expected an image encoder, got 'external'"),
        ({"verifier": VERIFIER, "templates": ["a {}."]}, "templates: .* takes none"),
        ({"verifier": VERIFIER, "logit_scale": 10}, "logit_scale: .* takes none"),
        ({"verifier": VERIFIER, "classifier": "external:20001"}, "room for 1 to 20,000 labels"),
        ({"verifier": VERIFIER, "classifier": "external:x"}, "not 'x', as in external:1000"),
    ]
    for chosen, message in options:
        with pytest.raises(InvalidInput, match=message):
            service.create_space("s", **({"classifier": "external"} | chosen))
    assert (
        service.create_space("s", classifier="external", verifier=VERIFIER).classifier_dim == 1001
    )
    text_sides: list[dict[str, Any]] = [{"text_vector": np.ones(1001)}, {"prompt": "a cat"}]
    for side in text_sides:
        with pytest.raises(InvalidInput, match="is external, and its labels have none"):
            service.register("s", [LabelInput("cat", **side)])
    service.register("s", [LabelInput("cat")])
    with pytest.raises(InvalidInput, match=r"prompt: .* is external"):
        service.update_label("s", "cat", prompt="a cat")
    with pytest.raises(InvalidInput, match="expected 'external:1000' as it is"):
        service.reembed_space("s", classifier="precomputed:3")


def test_there_is_no_search_by_text(service: TrustService) -> None:
    world = World(["airport", "beach"], 1)
    external_space(service, world)
    for queries in (Queries(text=["a beach"]), Queries(classifier=np.ones((1, 21)))):
        for kind in ("text", "support"):
            with pytest.raises(InvalidInput, match="has no search by text; search with images"):
                service.search("s", queries, kind=kind)
    assert len(service.search("s", Queries(verifier=world.images), kind="support")) == 2


def test_probabilities_come_with_their_names(service: TrustService) -> None:
    """As the columns of a table; what has none says where they go."""
    world = World(["airport", "beach"], 1)
    external_space(service, world)
    table = pd.DataFrame([[0.1, 0.9], [0.8, 0.2]], columns=["airport", "beach"])
    assert service.score("s", Queries(probabilities=table), rule="msp").label.tolist() == [
        "beach", "airport",
    ]  # fmt: skip
    rows = ({"beach": one} for one in (0.9, 0.1))
    verdicts = service.score("s", Queries(probabilities=rows), rule="msp")
    assert verdicts.label.tolist() == ["beach", "airport"]
    with pytest.raises(InvalidInput, match="expected the label of each column"):
        service.score("s", Queries(probabilities=table.set_axis([0, 1], axis=1)), rule="msp")
    with pytest.raises(InvalidInput, match="got one mapping; put it in a list"):
        service.score("s", Queries(probabilities={"beach": 1.0}), rule="msp")  # type: ignore[arg-type]
    with pytest.raises(InvalidInput, match="logits come as an array, with outputs"):
        service.score("s", Queries(log_probabilities=[{"beach": 3.1}]), rule="msp")
