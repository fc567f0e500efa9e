"""Search with what is stored, smallest similarity, and vectors that come back with hits, against
the same done by hand."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from cli_runner import Cli

import trustvlm
from trustvlm import InvalidInput, LabelInput, NotFound, Queries

LABELS, SHOTS = 5, 3
RNG = np.random.default_rng(3)
TEXT = RNG.normal(size=(LABELS, 4)).astype(np.float32)
IMAGE = RNG.normal(size=(LABELS, SHOTS, 6)).astype(np.float32)
OTHER = RNG.normal(size=(LABELS, SHOTS, 4)).astype(np.float32)


def unit(rows: Any) -> Any:
    rows = np.asarray(rows, np.float64)
    return rows / np.linalg.norm(rows, axis=-1, keepdims=True)


FLAT = unit(IMAGE.reshape(-1, 6))  # id of a support image: its row + 1
PROTOTYPES = unit(IMAGE.astype(np.float64).mean(axis=1))


def filled(service: Any) -> Any:
    """Five labels, ids 1 … 5, with three images each, and one without images."""
    service.create_space("s", classifier="precomputed:4", verifier="precomputed:6")
    labels = [
        LabelInput(
            f"l{i}",
            text_vector=TEXT[i],
            image_vectors=IMAGE[i],
            classifier_image_vectors=None if i == 4 else OTHER[i],
            attributes={"n": i},
        )
        for i in range(LABELS)
    ]
    service.register("s", [*labels, LabelInput("bare", text_vector=[1, 0, 0, 0])])
    return service


@pytest.fixture
def service(verbs: Any) -> Any:
    return filled(verbs)


def nearest(query: Any, rows: Any, k: int, without: int | None = None) -> list[int]:
    """Places of the k most similar rows."""
    order = [int(one) for one in np.argsort(-(rows @ query), kind="stable") if one != without]
    return order[:k]


def test_a_stored_row_is_searched_with_and_is_no_hit_of_itself(service: Any) -> None:
    hits = service.search("s", Queries(like_supports=[1, 8]), k=4)
    for query, place in enumerate((0, 7)):
        expected = nearest(FLAT[place], FLAT, 4, place)
        assert [one - 1 for one in hits.ids[query]] == expected
        assert np.allclose(hits.similarity[query], FLAT[expected] @ FLAT[place], atol=1e-6)
    prototypes = service.search("s", Queries(like_supports=[1]), kind="prototype", k=5)
    assert [one - 1 for one in prototypes.ids[0]] == nearest(FLAT[0], PROTOTYPES, 5)
    texts = service.search("s", Queries(like_supports=[1]), kind="text", k=1)
    names = unit([*TEXT, [1, 0, 0, 0]])
    assert texts.ids[0, 0] - 1 == nearest(unit(OTHER[0, 0]), names, 1)[0]
    for kind, rows in (("prototype", PROTOTYPES), ("text", names)):
        hits = service.search("s", Queries(like_labels=["l2", "l0"]), kind=kind, k=3)
        for query, place in enumerate((2, 0)):
            assert [one - 1 for one in hits.ids[query]] == nearest(rows[place], rows, 3, place)
    images = service.search("s", Queries(like_labels=["l3"]), k=4)
    assert [one - 1 for one in images.ids[0]] == nearest(PROTOTYPES[3], FLAT, 4)


def test_an_alias_is_its_label(service: Any) -> None:
    service.alias("s", "l1", "l0")
    hits = service.search("s", Queries(like_labels=["l1"]), kind="text", k=6)
    assert not {"l0", "l1"} & set(hits.labels[0])
    assert service.search("s", Queries(like_labels=["l1"]), kind="prototype", k=1).ids[0, 0] > 2


def test_the_smallest_similarity_cuts_the_k_nearest(service: Any) -> None:
    query = Queries(verifier=IMAGE[1, 0])
    all_hits = service.search("s", query, k=15)
    least = float(all_hits.similarity[0, 3])
    some = service.search("s", query, k=15, min_similarity=least)
    assert [hit.id for hit in some[0]] == all_hits.ids[0, :4].tolist()
    assert some.ids.shape == (1, 15)
    assert (some.ids[0, 4:] == -1).all()
    assert np.isneginf(some.similarity[0, 4:]).all()
    both = service.search("s", query, k=2, filter="n >= 2", min_similarity=-1)
    expected = [one for one in nearest(FLAT[3], FLAT, 15) if one >= 6][:2]
    assert [one - 1 for one in both.ids[0]] == expected
    assert [hit.id for hit in service.search("s", query, min_similarity=1)[0]] == [4]
    assert len(service.search("s", Queries(like_supports=[4]), min_similarity=1)[0]) == 0


def test_vectors_come_back_with_hits(service: Any) -> None:
    hits = service.search("s", Queries(verifier=IMAGE[1, :2]), k=20, vectors=True)
    assert hits.vectors.shape == (2, 20, 6)
    places = hits.ids[:, :15] - 1
    assert np.array_equal(hits.vectors[:, :15], IMAGE.reshape(-1, 6)[places])
    assert np.isnan(hits.vectors[:, 15:]).all()
    assert hits[0][0].vector == tuple(IMAGE[1, 0].tolist())
    by_text = service.search("s", Queries(classifier=OTHER[0, 1]), k=1, vectors=True)
    assert np.array_equal(by_text.vectors[0, 0], OTHER[0, 1])
    for kind, rows in (("prototype", PROTOTYPES), ("text", unit(TEXT))):
        hits = service.search("s", Queries(like_labels=["l2"]), kind=kind, k=1, vectors=True)
        assert np.allclose(hits.vectors[0, 0], rows[hits.ids[0, 0] - 1], atol=1e-6)
    assert service.search("s", Queries(verifier=IMAGE[1, 0]), k=1).vectors is None


REFUSED: list[tuple[Queries, dict[str, Any], str]] = [
    (Queries(like_supports=[1, 99]), {}, "like_supports: no support image 99"),
    (Queries(like_labels=["l0", "zebra"]), {}, "no label 'zebra'"),
    (Queries(like_labels=["bare"]), {}, "label 'bare' has no support image"),
    (Queries(like_supports=[13]), {"kind": "text"}, "has no stored classifier embedding"),
    (Queries(like_supports=[1], like_labels=["l0"]), {}, "not several of them"),
    (Queries(verifier=IMAGE[0], like_labels=["l0"]), {}, "not several of them"),
    (Queries(like_supports=["x"]), {}, "a list of support image ids"),
    (Queries(like_labels="l0"), {}, "a list of label names"),
    (Queries(like_supports=range(1, 2000)), {}, "like_supports: "),
    (Queries(like_supports=[]), {}, "like_supports: "),
    (Queries(like_supports=[-1]), {}, "like_supports"),
    (Queries(verifier=IMAGE[0]), {"min_similarity": float("nan")}, "min_similarity: expected"),
    (Queries(verifier=IMAGE[0]), {"min_similarity": 1.5}, "min_similarity: expected a number from"),
    (Queries(verifier=IMAGE[0]), {"min_similarity": "0.5"}, "min_similarity: expected a number"),
    (Queries(verifier=IMAGE[0]), {"vectors": 1}, "vectors: expected True or False"),
]


def test_what_is_wrong_is_said_in_one_sentence(service: Any) -> None:
    for queries, options, words in REFUSED:
        with pytest.raises((InvalidInput, NotFound)) as refused:
            service.search("s", queries, **options)
        assert words in str(refused.value), options
    with pytest.raises(InvalidInput, match="only search takes what is stored"):
        service.score("s", Queries(like_supports=[1]))


def test_more_vectors_than_an_answer_may_have_are_refused(tmp_path: Path) -> None:
    with trustvlm.open(tmp_path / "home", create=True) as service:
        filled(service)
        with pytest.raises(InvalidInput, match="vectors: 40 queries × k = 100,000 × 6 numbers"):
            service.search("s", Queries(verifier=np.ones((40, 6))), k=100_000, vectors=True)


def test_the_command_line_has_them(tmp_path: Path) -> None:
    cli = Cli(tmp_path / "home")
    with trustvlm.open(cli.home, create=True) as service:
        filled(service)
    rows = cli.rows("search", "s", "--like-support", 1, "--like-support", 8, "-k", 2)
    assert [row["query"] for row in rows] == [0, 0, 1, 1]
    assert [row["id"] - 1 for row in rows[:2]] == nearest(FLAT[0], FLAT, 2, 0)
    (row,) = cli.rows("search", "s", "--like-label", "l2", "--kind", "text", "-k", 1, "--vectors")
    assert len(row["vector"]) == 4
    kind = ("--kind", "prototype", "--min-similarity", 1)
    assert cli("search", "s", "--like-label", "l2", *kind, "--format", "jsonl") == ""
    assert "Expected" in cli("search", "s", "--like-label", "l2", "--text", "x", code=2)
