"""The verdict on a stored image of known label, from its stored embeddings."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from http_service import Http, served
from test_http_routes import picture
from test_verdict_reasons import images_of
from worlds import World, make_space

import trustvlm
from trustvlm import Queries
from trustvlm.demo.specs import classifier_spec, verifier_spec

pytestmark = pytest.mark.both_back_ends(slow=True)

AT = "/v1/spaces/s/observations"


@pytest.fixture
def world() -> World:
    return World(["airport", "beach", "bridge", "desert"])


@pytest.fixture
def http(tmp_path: Path) -> Iterator[Http]:
    with served(tmp_path / "home") as running:
        yield running


@pytest.fixture
def space(http: Http, world: World) -> trustvlm.TrustService:
    service: trustvlm.TrustService = http.service
    make_space(service)
    service.register("s", world.inputs(4))
    return service


def test_it_is_the_verdict_on_the_same_embeddings(
    http: Http, space: trustvlm.TrustService, world: World
) -> None:
    queries, truth = images_of(world, 12, 3, noise=0.4)
    sources = [f"image {i}" for i in range(12)]
    ids = space.feedback("s", queries, truth, sources=sources).ids
    for rule in (None, "trustvlm"):
        expected = space.score("s", queries, rule=rule, top_k=3)
        for place in (0, 7):
            row = http("GET", f"{AT}/{ids[place]}")
            assert row | {"created_at": None} == {
                "id": ids[place], "source": f"image {place}", "truth": truth[place],
                "origin": "feedback", "sampling": "chosen", "created_at": None, "pictured": False,
            }  # fmt: skip
            query = "top_k=3&evidence=4&terms=true" + (f"&rule={rule}" if rule else "")
            answer = http("GET", f"{AT}/{ids[place]}/verdict?{query}")
            (verdict,) = answer["verdicts"]
            assert verdict["source"] == f"image {place}"
            assert verdict["label"] == expected.label[place]
            assert verdict["rule"] == answer["rule"] == expected.rule
            assert verdict["top_labels"] == expected.top_labels[place].tolist()
            assert verdict["trust"] == pytest.approx(expected.trust[place], abs=1e-6)
            assert sum(filter(None, verdict["terms"]["label"].values())) == pytest.approx(
                verdict["trust"], abs=1e-6
            )
            theirs = expected.evidence(place, 4)
            for side in ("label", "rival"):
                mine = [near["id"] for near in verdict["evidence"][side]]
                assert mine == [near.id for near in getattr(theirs, side)]


@pytest.mark.both_back_ends(slow=True)
def test_a_filter_chooses_the_labels_that_take_part(
    http: Http, space: trustvlm.TrustService, world: World
) -> None:
    """A filter as text is counted, answered as the JSON that queries take, and used alike."""
    dry = {"airport", "desert"}
    for name in dry:
        space.update_label("s", name, attributes={"dry": True})
    queries, truth = images_of(world, 12, 3, noise=0.4)
    ids = space.feedback("s", queries, truth).ids
    counted = http("POST", "/v1/spaces/s/count-labels", json={"filter": "dry = true"})
    assert counted["labels"] == 2
    assert trustvlm.Filter(counted["filter"]) == trustvlm.Filter({"dry": True})
    assert http("POST", "/v1/spaces/s/count-labels", json={}) == {"labels": 4, "filter": None}
    expected = space.score("s", queries, labels=counted["filter"])
    assert set(expected.label) <= dry
    assert not set(space.score("s", queries).label) <= dry
    for text in ("dry = true", '{"dry": true}'):
        for place, number in enumerate(ids):
            (row,) = http("GET", f"{AT}/{number}/verdict?filter={text}")["verdicts"]
            assert row["label"] == expected.label[place]
            assert row["trust"] == pytest.approx(expected.trust[place], abs=1e-6)
    for wrong, said in (
        ("dry =", "expected a value"),
        ("wet exists", "no label of space 's' fits"),
    ):
        error = http("GET", f"{AT}/{ids[0]}/verdict?filter={wrong}", status=422)["error"]
        assert said in error["message"]


@pytest.mark.both_back_ends(slow=True)
def test_those_with_a_picture_are_spread_over_all(http: Http, tmp_path: Path) -> None:
    service, at = http.service, "/v1/spaces/p/observations/pictured"
    service.create_space("p", classifier=classifier_spec(), verifier=verifier_spec())
    service.register("p", [trustvlm.LabelInput("one"), trustvlm.LabelInput("two")])
    assert http("GET", at)["observations"] == []
    images = [picture(number) for number in range(9)]
    ids = service.feedback("p", Queries(images=images), ["one"] * 9).ids
    made = service.embed("p", [picture(9)]).queries
    vector = Queries(classifier=made.classifier, verifier=made.verifier)
    service.feedback("p", vector, ["two"])  # came as an embedding: it has none
    rows = http("GET", f"{at}?limit=3")["observations"]
    assert [row["id"] for row in rows] == [ids[0], ids[4], ids[8]]
    assert all(row["pictured"] and row["truth"] == "one" for row in rows)
    assert len(http("GET", at)["observations"]) == 8
    assert len(http("GET", f"{at}?limit=100")["observations"]) == 9
    http("GET", f"{at}?limit=0", status=422)
    http("GET", "/v1/spaces/none/observations/pictured", status=404)


def test_what_cannot_be_scored_is_said(
    http: Http, space: trustvlm.TrustService, world: World
) -> None:
    queries, truth = images_of(world, 1, 3, noise=0.4)
    (number,) = space.feedback("s", queries, truth, promote=True).ids
    axes = np.eye(4)
    space.create_space("other", classifier="precomputed:4", verifier="same")
    space.register("other", [trustvlm.LabelInput("one", text_vector=axes[0])])
    (of_other,) = space.feedback("other", Queries(axes[:1] + 0.2), ["one"]).ids

    def refused(path: str, status: int) -> str:
        error: dict[str, Any] = http("GET", path, status=status)["error"]
        return str(error["message"])

    for end in ("", "/verdict"):
        assert "no stored image 999 in space 's'" in refused(f"{AT}/999{end}", 404)
        # an id of another space opens nothing
        assert f"no stored image {of_other} in space 's'" in refused(f"{AT}/{of_other}{end}", 404)
        assert "nowhere" in refused(f"/v1/spaces/nowhere/observations/{number}{end}", 404)
        for wrong in ("0", "-1", "x", str(2**63)):
            refused(f"{AT}/{wrong}{end}", 422)
    assert "rule" in refused(f"{AT}/{number}/verdict?rule=nothing", 422)
    assert "top_k" in refused(f"{AT}/{number}/verdict?top_k=0", 422)
    assert len(http("GET", f"/v1/spaces/other/observations/{of_other}/verdict")["verdicts"]) == 1
    supports = space.list_supports("s", truth[0])
    space.remove_support("s", [supports[-1].id])
    space.purge(older_than=timedelta(0))
    assert http("GET", f"{AT}/{number}")["truth"] == truth[0]
    assert "deleted with the support image" in refused(f"{AT}/{number}/verdict", 404)
