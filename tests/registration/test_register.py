"""Registering: what goes in, in which order, how often, and what a bad input leaves behind."""

from __future__ import annotations

import numpy as np
import pytest
from worlds import IMAGE_DIM, TEXT_DIM, World, assert_same_verdicts, make_space

import trustvlm
from trustvlm import LabelInput, Queries

pytestmark = pytest.mark.both_back_ends(slow=True)


def prototypes(service: trustvlm.TrustService, space: str, names: list[str]) -> np.ndarray:
    """Each label's similarity to fixed probes, to the last bit that float32 holds: equal prototypes
    give equal rows."""
    probes = np.eye(IMAGE_DIM)
    hits = service.search(space, Queries(verifier=probes), kind="prototype", k=len(names))
    table = np.empty((len(names), IMAGE_DIM))
    for probe in range(IMAGE_DIM):
        for label, value in zip(hits.labels[probe], hits.similarity[probe], strict=True):
            table[names.index(label), probe] = value
    return table


def test_result_counts_what_happened(service: trustvlm.TrustService, world: World) -> None:
    make_space(service)
    inputs = world.inputs(3)
    first = service.register("s", inputs)
    assert (first.added_labels, first.added_supports, first.skipped_duplicates) == (6, 18, 0)
    assert (first.failures, first.revision, len(set(first.ids)), len(set(first.label_ids))) == (
        (),
        1,
        18,
        6,
    )
    again = service.register("s", inputs)
    assert (again.added_labels, again.added_supports, again.skipped_duplicates) == (0, 0, 18)
    assert (again.revision, again.ids, again.label_ids) == (1, (), first.label_ids)
    assert service.get_space("s").support_count == 18
    assert [(row.name, row.support_count) for row in service.list_labels("s")] == [
        (name, 3) for name in world.names
    ]


@pytest.mark.both_back_ends(slow=True)
def test_any_order_gives_the_same_bits_and_verdicts(
    service: trustvlm.TrustService, world: World
) -> None:
    inputs, queries = world.inputs(3), world.queries()
    for name in ("bulk", "one-by-one", "shuffled"):
        make_space(service, name)
    service.register("bulk", inputs)
    for item in inputs:
        service.register("one-by-one", [LabelInput(item.name, text_vector=item.text_vector)])
    for shot in range(3):
        for item in inputs:
            vectors = np.asarray(item.image_vectors)[[2 - shot]]
            service.add_support("one-by-one", item.name, image_vectors=vectors)
    rng = np.random.default_rng(1)
    shuffled = [inputs[i] for i in rng.permutation(len(inputs))]
    service.register(
        "shuffled",
        [
            LabelInput(
                item.name,
                text_vector=item.text_vector,
                image_vectors=rng.permutation(np.asarray(item.image_vectors)),
            )
            for item in shuffled
        ],
    )
    bulk = prototypes(service, "bulk", world.names)
    np.testing.assert_array_equal(bulk, prototypes(service, "one-by-one", world.names))
    np.testing.assert_array_equal(bulk, prototypes(service, "shuffled", world.names))
    for rule in ("posterior", "trustvlm_star", "knn"):
        expected = service.score("bulk", queries, rule=rule)
        for other in ("one-by-one", "shuffled"):
            assert_same_verdicts(expected, service.score(other, queries, rule=rule))


def test_prototype_is_the_normalised_mean_of_raw_embeddings(service: trustvlm.TrustService) -> None:
    make_space(service)
    rng = np.random.default_rng(5)
    vectors = rng.normal(size=(7, IMAGE_DIM)) * rng.uniform(
        0.1, 10, size=(7, 1)
    )  # norms differ: mean first, normalise after
    service.register("s", [LabelInput("a", text_vector=np.ones(TEXT_DIM), image_vectors=vectors)])
    mean = vectors.astype(np.float32).astype(np.float64).mean(axis=0)
    expected = mean / np.linalg.norm(mean)
    probe = rng.normal(size=(1, IMAGE_DIM))
    verdict = service.score("s", Queries(np.ones((1, TEXT_DIM)), probe))
    assert verdict.image_similarity[0] == pytest.approx(
        float(probe[0] @ expected / np.linalg.norm(probe)), abs=1e-6
    )


def test_text_vectors_of_templates_are_normalised_averaged_normalised(
    service: trustvlm.TrustService,
) -> None:
    make_space(service, logit_scale=1.0)
    rng = np.random.default_rng(6)
    rows = rng.normal(size=(3, TEXT_DIM)) * np.array([[1.0], [10.0], [0.1]])
    service.register(
        "s", [LabelInput("a", text_vector=rows), LabelInput("b", text_vector=-rows[0])]
    )
    mean = (rows / np.linalg.norm(rows, axis=1, keepdims=True)).mean(axis=0)
    hits = service.search("s", Queries(classifier=rows[:1]), kind="text", k=1)
    expected = rows[0] @ mean / np.linalg.norm(mean) / np.linalg.norm(rows[0])
    assert hits.similarity[0, 0] == pytest.approx(float(expected), abs=1e-6)


def test_removing_what_was_added_restores_the_earlier_verdicts(
    service: trustvlm.TrustService, world: World
) -> None:
    make_space(service)
    service.register("s", world.inputs(4))
    queries = world.queries()
    before = service.score("s", queries)
    bits = prototypes(service, "s", world.names)
    added = service.add_support("s", "beach", image_vectors=world.supports(0, 3))
    service.register(
        "s", [LabelInput("island", text_vector=world.text[0], image_vectors=world.supports(1, 2))]
    )
    assert not np.array_equal(service.score("s", queries).trust, before.trust)
    service.remove_support("s", added.ids)
    service.remove_label("s", "island")
    assert_same_verdicts(before, service.score("s", queries))
    np.testing.assert_array_equal(bits, prototypes(service, "s", world.names))


@pytest.mark.both_back_ends
def test_removed_label_comes_back_as_it_was(service: trustvlm.TrustService, world: World) -> None:
    make_space(service)
    service.register("s", world.inputs(4))
    queries = world.queries()
    before = service.score("s", queries)
    service.remove_label("s", "bridge")
    assert "bridge" not in set(service.score("s", queries).label)
    service.restore_label("s", "bridge")
    assert_same_verdicts(before, service.score("s", queries))
    np.testing.assert_array_equal(before.label_id, service.score("s", queries).label_id)
    with pytest.raises(trustvlm.Conflict, match="'bridge' exists"):
        service.restore_label("s", "bridge")
    service.remove_label("s", "bridge", purge=True)
    with pytest.raises(trustvlm.NotFound, match="purged"):
        service.restore_label("s", "bridge")


def test_label_that_loses_its_last_support_image_is_unverified(
    service: trustvlm.TrustService, world: World
) -> None:
    make_space(service)
    service.register("s", world.inputs(0))
    added = service.add_support("s", "beach", image_vectors=world.supports(1, 2))
    assert not service.score("s", Queries(world.text[1], world.images[1])).unverified[0]
    service.remove_support("s", added.ids)
    verdict = service.score("s", Queries(world.text[1], world.images[1]))
    assert verdict.unverified[0]
    assert np.isnan(verdict.image_similarity[0])
    assert np.isfinite(verdict.trust[0])


def test_existing_label_takes_supports_and_refuses_another_text(
    service: trustvlm.TrustService, world: World
) -> None:
    make_space(service)
    service.register("s", world.inputs(2))
    more = LabelInput(
        "beach", text_vector=world.text[1] * 3, image_vectors=world.supports(1, 1)
    )  # same direction
    assert service.register("s", [more]).added_supports == 1
    with pytest.raises(trustvlm.Conflict, match="another text vector; replace=True of register"):
        service.register(
            "s",
            [
                LabelInput("new", text_vector=world.text[0]),
                LabelInput("beach", text_vector=world.text[0]),
            ],
        )
    assert "new" not in [
        row.name for row in service.list_labels("s")
    ]  # nothing of the refused call went in


def test_one_name_twice_in_a_call_is_one_label(
    service: trustvlm.TrustService, world: World
) -> None:
    make_space(service)
    vectors = world.supports(0, 3)
    result = service.register(
        "s",
        [
            LabelInput("a", text_vector=world.text[0], image_vectors=vectors[:2]),
            LabelInput("a", image_vectors=vectors[1:]),
        ],
    )
    assert (result.added_labels, result.added_supports, result.skipped_duplicates) == (1, 3, 1)
    assert result.label_ids[0] == result.label_ids[1]
    with pytest.raises(trustvlm.Conflict, match="two different text vectors"):
        service.register(
            "s",
            [
                LabelInput("b", text_vector=world.text[0]),
                LabelInput("b", text_vector=world.text[1]),
            ],
        )


@pytest.mark.both_back_ends
def test_chunks_are_acknowledged_in_order(service: trustvlm.TrustService) -> None:
    make_space(service)
    rng = np.random.default_rng(0)
    names = [f"label {i:04d}" for i in range(2_300)]
    seen: list[list[str]] = []
    inputs = (LabelInput(name, text_vector=rng.normal(size=TEXT_DIM)) for name in names)
    result = service.register("s", inputs, on_commit=seen.append)
    assert [len(chunk) for chunk in seen] == [1000, 1000, 300]
    assert [name for chunk in seen for name in chunk] == names
    assert (result.added_labels, result.revision) == (2_300, 3)  # one revision for each chunk


def test_update_label(service: trustvlm.TrustService, world: World) -> None:
    make_space(service)
    service.register("s", world.inputs(2))
    query = Queries(world.text[0], world.images[0])
    assert service.score("s", query).label[0] == "airport"
    service.update_label("s", "airport", new_name="aerodrome")
    assert service.score("s", query).label[0] == "aerodrome"
    service.update_label("s", "aerodrome", text_vector=-world.text[0])
    assert service.score("s", query).label[0] != "aerodrome"
    with pytest.raises(trustvlm.Conflict, match="'beach' exists"):
        service.update_label("s", "aerodrome", new_name="beach")
    with pytest.raises(trustvlm.NotFound, match="no label 'airport'"):
        service.update_label("s", "airport", new_name="x")
    with pytest.raises(trustvlm.InvalidInput, match="got none of them"):
        service.update_label("s", "beach")
    with pytest.raises(trustvlm.InvalidInput, match="cannot encode a prompt"):
        service.update_label("s", "beach", prompt="a beach")


def test_spaces_come_and_go(service: trustvlm.TrustService, world: World) -> None:
    make_space(service, "one")
    make_space(service, "two")
    assert [row.name for row in service.list_spaces()] == ["one", "two"]
    with pytest.raises(trustvlm.Conflict, match="'one' exists already"):
        make_space(service, "one")
    service.register("one", world.inputs(1))
    old = service.score("one", world.queries())
    service.remove_space("one")
    with pytest.raises(trustvlm.NotFound, match="no space 'one' \\(spaces: two\\)"):
        service.score("one", world.queries())
    make_space(service, "one")
    service.register("one", [LabelInput("only", text_vector=world.text[0])])
    verdict = service.score("one", world.queries())
    assert set(verdict.label) == {"only"}
    assert not set(verdict.label_id) & set(old.label_id)  # ids are never reused
    service.remove_space("one")
    service.restore_space("one")
    assert set(service.score("one", world.queries()).label) == {"only"}


BAD_VECTORS = [
    (np.ones(TEXT_DIM + 1), r"expected shape \(n, 16\), got \(17,\)"),
    (np.full(TEXT_DIM, np.nan), "row 0 has NaN or infinite"),
    (np.full(TEXT_DIM, np.inf), "row 0 has NaN or infinite"),
    (np.full(TEXT_DIM, 1e300), "row 0 has values beyond ±3.4e38"),
    (np.zeros(TEXT_DIM), "row 0 has norm zero"),
    ([], "at least one vector"),
    (["a"] * TEXT_DIM, "expected real numbers"),
    ([[1.0, 2.0], [1.0]], "ragged"),
]


def test_a_bad_vector_leaves_nothing_behind(service: trustvlm.TrustService) -> None:
    make_space(service)
    text = np.ones(TEXT_DIM)
    for vector, message in BAD_VECTORS:
        with pytest.raises(trustvlm.InvalidInput, match=message):
            service.register("s", [LabelInput("good", text), LabelInput("bad", text_vector=vector)])
    for vector, message in BAD_VECTORS[1:5]:
        images = np.ones((3, IMAGE_DIM))
        images[2] = vector[0]  # type: ignore[index]
        with pytest.raises(trustvlm.InvalidInput, match=message.replace("row 0", "row 2")):
            service.register("s", [LabelInput("bad", text, image_vectors=images)])
    assert list(service.list_labels("s")) == []
    assert service.get_space("s").revision == 0


def test_bad_names(service: trustvlm.TrustService) -> None:
    make_space(service)
    for name in (
        "",
        "  ",
        " a",
        "a\n",
        "a\0b",
        "a\u202eb",
        "\ud800",
        "x" * 501,
        7,
        None,
        "a\x1b[31m",
    ):
        with pytest.raises(trustvlm.InvalidInput):
            service.register("s", [LabelInput(name, text_vector=np.ones(TEXT_DIM))])  # type: ignore[arg-type]
        with pytest.raises(trustvlm.InvalidInput):
            make_space(service, name)  # type: ignore[arg-type]


@pytest.mark.both_back_ends
def test_unusual_names_are_names(service: trustvlm.TrustService) -> None:
    make_space(service)
    names = ["naïve café", "港口", "a/b", "[red]x[/red]", "emoji 🚢", "O'Hare; DROP TABLE labels"]
    names.append("x" * 500)
    texts, images = np.eye(len(names), TEXT_DIM), np.eye(len(names), IMAGE_DIM)
    service.register("s", [LabelInput(*row) for row in zip(names, texts, strict=True)])
    for name, image in zip(names, images, strict=True):
        service.add_support("s", name, image_vectors=image)
    verdicts = service.score("s", Queries(texts, images))
    assert verdicts.label.tolist() == verdicts.nearest_prototype.tolist() == names


def test_vectors_that_cancel_out_are_refused_before_anything_is_written(
    service: trustvlm.TrustService,
) -> None:
    make_space(service)
    rng = np.random.default_rng(0)
    opposite = np.stack([np.ones(IMAGE_DIM), -np.ones(IMAGE_DIM)])
    inputs = [LabelInput(f"l{i}", text_vector=rng.normal(size=TEXT_DIM)) for i in range(1_200)]
    with pytest.raises(trustvlm.InvalidInput, match=r"label 'bad'.*cancel out"):
        service.register(
            "s", [*inputs, LabelInput("bad", text_vector=np.ones(TEXT_DIM), image_vectors=opposite)]
        )
    assert list(service.list_labels("s")) == []
    first = service.register(
        "s",
        [
            LabelInput(
                "a", text_vector=np.ones(TEXT_DIM), image_vectors=[rng.normal(size=IMAGE_DIM)]
            )
        ],
    )
    service.add_support(
        "s", "a", image_vectors=opposite
    )  # together with what is there they have a mean
    with pytest.raises(trustvlm.InvalidInput, match=r"label 'a'.*cancel out"):
        service.remove_support("s", first.ids)
    assert service.get_space("s").support_count == 3


def test_what_a_precomputed_space_cannot_do(
    service: trustvlm.TrustService, tmp_path: object
) -> None:
    make_space(service)
    cases = [
        (LabelInput("a"), "a new label needs text_vector"),
        (LabelInput("a", prompt="an a"), "cannot encode a prompt"),
        (LabelInput("a", text_vector=np.ones(TEXT_DIM), images=["x.jpg"]), "pass image_vectors"),
        (LabelInput("a", text_vector=np.ones(TEXT_DIM), images="x.jpg"), "expected a list"),  # type: ignore[arg-type]
        (
            LabelInput(
                "a", text_vector=np.ones(TEXT_DIM), classifier_image_vectors=np.ones((1, TEXT_DIM))
            ),
            "come with image_vectors",
        ),
    ]
    for item, message in cases:
        with pytest.raises(trustvlm.InvalidInput, match=message):
            service.register("s", [item])
    with pytest.raises(trustvlm.NotFound, match="no label 'ghost'"):
        service.add_support("s", "ghost", image_vectors=np.ones((1, IMAGE_DIM)))
    with pytest.raises(trustvlm.NotFound, match="no support image"):
        service.remove_support("s", [12345])
    with pytest.raises(trustvlm.InvalidInput, match="cancel out"):
        service.register(
            "s",
            [
                LabelInput(
                    "a",
                    text_vector=np.ones(TEXT_DIM),
                    image_vectors=[np.ones(IMAGE_DIM), -np.ones(IMAGE_DIM)],
                )
            ],
        )
    assert list(service.list_labels("s")) == []


def test_spaces_that_cannot_be(service: trustvlm.TrustService) -> None:
    refused: list[dict] = [
        *({"classifier": spec} for spec in ("precomputed:0", "nonsense", "timm:test_vit", None)),
        *({"templates": templates} for templates in ([], "a photo of {}", ["a photo"])),
        {"logit_scale": 0},
        {"logit_scale": float("nan")},
        {"name": "a/b"},
    ]
    for options in refused:
        with pytest.raises(trustvlm.InvalidInput):
            make_space(service, **options)
    for options in ({"recipe": "nope"}, {"preset": "nope"}):
        with pytest.raises(trustvlm.NotFound):
            make_space(service, **options)
    assert list(service.list_spaces()) == []
