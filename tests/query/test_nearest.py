"""The nearest prototypes of a search, by one product of float32 numbers, against float64: the order,
equals by the smaller id, removed and filtered labels, padding."""

from __future__ import annotations

import numpy as np
import pytest
from worlds import World, make_space

import trustvlm
from trustvlm import Queries
from trustvlm.softmax import dense, native

LABELS, TWINS = 40, 6


@pytest.fixture(params=["compiled", "numpy"])
def without_library(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """The compiled loops, and a machine where the package was installed without a C compiler."""
    if request.param == "numpy":
        monkeypatch.setattr(dense, "library", lambda: None)
    elif native.library() is None:
        pytest.skip("there was no C compiler when the package was installed")


@pytest.fixture
def queries(service: trustvlm.TrustService) -> Queries:
    """Of a space where each of the last labels equals one of the first, and a few are removed."""
    world = World([f"label {i}" for i in range(LABELS)], 3)
    inputs = world.inputs(2)
    for one, twin in zip(inputs[:TWINS], inputs[-TWINS:], strict=True):
        twin_of = {"text_vector": one.text_vector, "image_vectors": one.image_vectors}
        inputs[inputs.index(twin)] = trustvlm.LabelInput(twin.name, **twin_of)
    make_space(service)
    service.register(
        "s",
        [
            trustvlm.LabelInput(
                one.name,
                text_vector=one.text_vector,
                image_vectors=one.image_vectors,
                attributes={"half": i % 2},
            )
            for i, one in enumerate(inputs)
        ],
    )
    service.remove_labels("s", ["label 7", "label 20"])
    return world.queries(1)


@pytest.mark.usefixtures("without_library")
@pytest.mark.parametrize("kind", ["prototype", "text"])
@pytest.mark.parametrize("chosen", [None, {"half": 1}])
@pytest.mark.parametrize(
    "k", [1, 12, 70, *(pytest.param(k, marks=pytest.mark.slow) for k in (5, 63, 64))]
)
def test_hits_are_those_of_float64(
    service: trustvlm.TrustService, queries: Queries, kind: str, chosen: dict | None, k: int
) -> None:
    side = queries.verifier if kind == "prototype" else queries.classifier
    given = np.asarray(side)
    named = Queries(verifier=given) if kind == "prototype" else Queries(classifier=given)
    rows = list(service.list_labels("s", filter=chosen, vectors=True))
    vectors = [row.prototype if kind == "prototype" else row.text_vector for row in rows]
    unit = given / np.linalg.norm(given, axis=1, keepdims=True)
    exact = unit @ np.array(vectors, np.float64).T
    hits = service.search("s", named, kind=kind, k=k, filter=chosen)
    assert hits.ids.shape == hits.similarity.shape == hits.labels.shape == (LABELS, k)
    for row, similarity in enumerate(exact):
        order = sorted(range(len(rows)), key=lambda i: (-round(similarity[i], 9), rows[i].id))[:k]
        padding = k - len(order)
        assert hits.ids[row].tolist() == [rows[i].id for i in order] + [-1] * padding
        assert hits.labels[row].tolist() == [rows[i].name for i in order] + [None] * padding
        np.testing.assert_allclose(hits.similarity[row, : len(order)], similarity[order], atol=1e-6)
        assert (hits.similarity[row, len(order) :] == -np.inf).all()
    assert not hits.approximate


def test_no_queries_have_no_hits(service: trustvlm.TrustService, queries: Queries) -> None:
    none = Queries(verifier=np.asarray(queries.verifier)[:0])
    assert service.search("s", none, kind="prototype", k=3).ids.shape == (0, 3)
