"""What the routes have for the sake of the client: evidence asked for later, several pictured
labels."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from http_service import Http, served
from test_http_routes import SPACE, as_json, picture, query_json
from worlds import IMAGE_DIM, World

import trustvlm
from trustvlm.demo.specs import classifier_spec
from trustvlm.service.server.server_home import ServerHome


@pytest.fixture
def http(tmp_path: Path, world: World) -> Iterator[Http]:
    """With the spaces "s" and "t", the same six labels in each."""
    with served(tmp_path / "home") as running:
        for name in ("s", "t"):
            running("POST", "/v1/spaces", json=SPACE | {"name": name}, status=201)
            running(
                "POST",
                f"/v1/spaces/{name}/labels",
                json={"labels": [as_json(one) for one in world.inputs(3)]},
            )
        yield running


def test_evidence_that_is_asked_for_later(http: Http, world: World) -> None:
    queries = query_json(world.queries(1))
    scored = http("POST", "/v1/spaces/s/score", json=queries | {"evidence": 2})
    rows = scored["verdicts"]
    body: dict[str, Any] = queries | {
        "state": scored["evidence_state"], "revision": scored["revision"], "k": 2,
        "label_ids": [row["label_id"] for row in rows],
        "rival_ids": [row["rival_id"] for row in rows],
    }  # fmt: skip
    asked = http("POST", "/v1/spaces/s/evidence", json=body)["evidence"]
    assert asked == [row["evidence"] for row in rows]
    http("DELETE", f"/v1/spaces/s/supports/{asked[0]['label'][0]['id']}")
    assert http("POST", "/v1/spaces/s/evidence", json=body)["evidence"] == asked
    without = {name: value for name, value in body.items() if name != "verifier"}
    assert (
        http("POST", "/v1/spaces/s/evidence", json=without)["evidence"]
        == [{"label": [], "rival": [], "claimed": []}] * 6
    )

    def refused(change: dict[str, Any], status: int, space: str = "s") -> str:
        return str(
            http("POST", f"/v1/spaces/{space}/evidence", json=body | change, status=status)[
                "error"
            ]["message"]
        )

    assert "re-embedded" in refused({}, 409, "t")
    assert "restored" in refused({"state": body["state"] | {"epoch": "another"}}, 409)
    assert "is at 2, got 3" in refused({"revision": 3}, 422)
    assert "belong together" in refused({"label_ids": [1]}, 422)
    for state in (
        {},
        {"space": "x", "epoch": 1, "aliases": {}},
        body["state"] | {"aliases": {"1": [2**70]}},
    ):
        assert "evidence_state" in refused({"state": state}, 422)
    for wrong in (
        {"label_ids": [2**70] * 6},
        {"k": 0},
        {"verifier": [[0.0] * IMAGE_DIM] * 6},
        {"revision": -1},
    ):
        refused(wrong, 422)


def test_evidence_shows_nothing_of_another_space(http: Http, world: World) -> None:
    """Whoever may read "s" can name the labels of "t", as labels or as aliases: they have nothing
    to show."""
    of_t = next(row["id"] for row in http("GET", "/v1/spaces/t/labels")["labels"])
    scored = http("POST", "/v1/spaces/s/score", json=query_json(world.queries(1)))
    queries = {name: rows[:1] for name, rows in query_json(world.queries(1)).items()}
    body = queries | {"revision": scored["revision"], "rival_ids": [-1], "k": 9}
    state = scored["evidence_state"]
    found = http(
        "POST", "/v1/spaces/s/evidence", json=body | {"state": state, "label_ids": [of_t]}
    )["evidence"]
    assert found == [{"label": [], "rival": [], "claimed": []}]
    sneaky = state | {"aliases": {"1": [of_t]}}
    found = http("POST", "/v1/spaces/s/evidence", json=body | {"state": sneaky, "label_ids": [1]})[
        "evidence"
    ]
    assert len(found[0]["label"]) == 3


@pytest.fixture(scope="module")
def pictured(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Http]:
    """A service that wants a key, with two spaces of the demo's classifier."""
    home = tmp_path_factory.mktemp("pictures") / "home"
    with served(home, encoders=(classifier_spec(),), require_key=True, rate=1e6) as running:
        for name in ("p", "q"):
            running.service.create_space(name, classifier=classifier_spec())
        yield running


def test_support_images_by_id(pictured: Http) -> None:
    service = pictured.service
    added = [
        service.register(name, [trustvlm.LabelInput("a", images=[picture(1)])]).ids[0]
        for name in ("p", "q")
    ]
    reading = {
        space: ServerHome(service).create_key("read", space=space)[1] for space in (None, "p")
    }
    for support in added:
        assert pictured.ask(
            "GET", f"/v1/supports/{support}/thumbnail", key=reading[None]
        ).content.startswith(b"\xff\xd8")
    pictured.ask("GET", f"/v1/supports/{added[0]}/thumbnail", key=reading["p"])
    for support, key, status in (
        (added[1], "p", 404),
        (99, "p", 404),
        (99, None, 404),
        (0, None, 422),
    ):
        pictured("GET", f"/v1/supports/{support}/thumbnail", key=reading[key], status=status)
    service.remove_space("q")
    pictured("GET", f"/v1/supports/{added[1]}/thumbnail", key=reading[None], status=404)


def test_several_support_images_at_once(http: Http) -> None:
    ids = [row["id"] for row in http("GET", "/v1/spaces/s/labels/beach/supports")["supports"]]
    of_t = http("GET", "/v1/spaces/t/labels/beach/supports")["supports"][0]["id"]
    http("POST", "/v1/spaces/s/remove-supports", json={"ids": [*ids, of_t]}, status=404)
    assert http("POST", "/v1/spaces/s/remove-supports", json={"ids": ids[:2]}) == {
        "revision": 2,
        "ids": ids[:2],
    }
    assert len(http("GET", "/v1/spaces/s/labels/beach/supports")["supports"]) == 1
    http("POST", "/v1/spaces/s/restore-supports", json={"ids": ids}, status=404)
    assert http("POST", "/v1/spaces/s/restore-supports", json={"ids": ids[:2]}) == {"revision": 3}
    for wrong in ({"ids": [0]}, {"ids": "1"}, {}, {"ids": [2**63]}):
        http("POST", "/v1/spaces/s/remove-supports", json=wrong, status=422)


def test_labels_in_the_order_of_their_ids(http: Http) -> None:
    page = http("GET", "/v1/spaces/s/labels?order=id&limit=4")
    rest = http("GET", f"/v1/spaces/s/labels?order=id&limit=4&cursor={page['next_cursor']}")
    assert [row["id"] for row in page["labels"] + rest["labels"]] == [
        row.id for row in http.service.list_labels("s")
    ]
    assert rest["next_cursor"] is None
    for wrong in (
        "order=size",
        "order=id&q=b",
        "order=id&unverified=true",
        "order=id&cursor=YQ==",
        "order=id&cursor=LTE=",
    ):
        http("GET", f"/v1/spaces/s/labels?{wrong}", status=422)


def test_aliases(http: Http) -> None:
    assert http("POST", "/v1/spaces/s/labels/beach/alias", json={"of": "harbour"}) == {
        "revision": 2
    }
    assert http("GET", "/v1/spaces/s/labels/beach")["alias_of"] == "harbour"
    http("POST", "/v1/spaces/s/labels/beach/alias", json={"of": "nope"}, status=404)
    assert http("DELETE", "/v1/spaces/s/labels/beach/alias") == {"revision": 3}
    http("DELETE", "/v1/spaces/s/labels/beach/alias", status=409)


def test_calibrating_anew_needs_images(http: Http) -> None:
    ended = http.job(http("POST", "/v1/spaces/s/observations/calibrate", json={}, status=202))
    assert (ended["state"], ended["error"]["kind"]) == ("failed", "InvalidInput")
    http("GET", "/v1/spaces/s/monitor?alpha=1", status=422)


def test_labels_with_their_images_in_one_form(pictured: Http) -> None:
    key = ServerHome(pictured.service).create_key("write")[1]

    def http(method: str, path: str, **options: Any) -> Any:
        return pictured(method, path, key=key, **options)

    files = [("images", (f"{number}.png", picture(number))) for number in (1, 2)] + [
        ("images", ("bad.png", b"?"))
    ]
    labels = [
        {"name": "one", "images": 2},
        {"name": "two", "prompt": "a two"},
        {"name": "ghost", "images": 1},
    ]

    def register(status: int = 200, **data: Any) -> Any:
        return http("POST", "/v1/spaces/p/labels", data=data, files=files, status=status)

    done = register(labels=json.dumps(labels))
    assert (done["added_labels"], done["added_supports"], done["label_ids"][2]) == (2, 2, -1)
    assert [failure["source"] for failure in done["failures"]] == ["bad.png"]
    assert [
        row["source"] for row in http("GET", "/v1/spaces/p/labels/one/supports")["supports"]
    ] == ["1.png", "2.png"]
    for data, message in (
        ({"labels": json.dumps(labels[:1])}, "2 images, but 3 files"),
        ({"labels": json.dumps(labels), "name": "x"}, "one of them"),
        ({"labels": json.dumps(labels), "prompt": "x"}, "prompt"),
        ({"labels": "{"}, "labels: "),
        ({"labels": '[{"name": "one", "files": 3}]'}, "files"),
        ({}, "one of them"),
    ):
        assert message in register(422, **data)["error"]["message"]
    bad = [("images", ("bad.png", b"?"))]
    for path, data in (("labels", {"name": "x"}), ("labels/one/supports", {})):
        http("POST", f"/v1/spaces/p/{path}", data=data, files=bad, status=422)
        told = http("POST", f"/v1/spaces/p/{path}", data=data | {"unreadable": "report"}, files=bad)
        assert [failure["source"] for failure in told["failures"]] == ["bad.png"]
    embedded = http("POST", "/v1/spaces/p/embed", files=[*bad, ("images", ("new.png", picture(3)))])
    assert (embedded["places"], embedded["sources"], embedded["failures"][0]["index"]) == (
        [1],
        ["new.png"],
        0,
    )
    assert len(embedded["classifier"]) == 1
    assert http("POST", "/v1/spaces/p/embed", files=bad)["places"] == []
    http("POST", "/v1/spaces/p/embed", json={}, status=422)
