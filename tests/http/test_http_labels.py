"""Labels in other orders than by name, with what the stored images say of them; the trash; the map;
encoders for new spaces; the API as a page."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from http_service import Http, served
from served_client import client_of
from worlds import IMAGE_DIM, World, make_space

import trustvlm
from trustvlm.demo.specs import classifier_spec

pytestmark = pytest.mark.both_back_ends(slow=True)  # in short: test_equal_back_ends.py

NAMES = ["airport", "beach", "bridge", "desert", "forest", "harbour"]


@pytest.fixture(scope="module")
def http(tmp_path_factory: pytest.TempPathFactory, shared_back_end: None) -> Iterator[Http]:
    """A space of six labels, the i-th with i + 1 support images and one alias, and 120 stored
    images: ten of "beach" are said to be of "bridge"."""
    with served(
        tmp_path_factory.mktemp("labels") / "home", encoders=(classifier_spec(),)
    ) as running:
        service, world = running.service, World(NAMES)
        make_space(service)
        inputs = [
            trustvlm.LabelInput(
                name, text_vector=world.text[i], image_vectors=world.supports(i, i + 1)
            )
            for i, name in enumerate(NAMES)
        ]
        service.register("s", [*inputs, trustvlm.LabelInput("sea", text_vector=world.text[1])])
        service.alias("s", "sea", "beach")
        queries = world.queries(20)
        truth = [name for name in NAMES for _ in range(20)]
        truth[20:30] = ["bridge"] * 10
        service.feedback("s", queries, truth, sampling="random")
        yield running


def pages(http: Http, query: str) -> list[dict[str, Any]]:
    """All rows, page by page."""
    rows, cursor = [], ""
    while True:
        page = http("GET", f"/v1/spaces/s/labels?{query}{cursor}")
        rows += page["labels"]
        if page["next_cursor"] is None:
            return rows
        cursor = f"&cursor={page['next_cursor']}"


def test_labels_by_support_images(http: Http) -> None:
    for limit in (1, 2, 3, 100):
        rows = pages(http, f"order=images&limit={limit}&thumbnails=2")
        assert [(row["name"], row["support_count"]) for row in rows] == [
            *((name, i + 1) for i, name in reversed(list(enumerate(NAMES)))), ("sea", 0),
        ]  # fmt: skip
        assert [len(row["supports"]) for row in rows] == [2, 2, 2, 2, 2, 1, 0]


def test_labels_by_what_the_stored_images_say(http: Http) -> None:
    rows = pages(http, "order=errors&predictions=true&limit=2")
    assert rows == pages(http, "order=errors&predictions=true")
    verdicts = http.service.evaluate_stored("s", rules=["posterior"], items=True)
    expected = {
        one.label: (one.predicted, one.predicted - one.right, one.images)
        for one in verdicts.per_label
    }
    said = {row["name"]: row["predictions"] for row in rows}
    assert {
        name: (one["predicted"], one["wrong"], one["images"]) for name, one in said.items()
    } == expected
    assert next(iter(said)) == "beach"
    assert said["beach"]["wrong"] >= 8
    assert said["bridge"]["missed"] >= 8
    by_share = [row["predictions"]["predicted"] for row in pages(http, "order=share&predictions=1")]
    assert by_share == sorted(by_share, reverse=True)
    page = http("GET", "/v1/spaces/s/labels?predictions=true")
    assert page["predicted_images"] == 120
    assert {row["name"]: row["predictions"] for row in page["labels"]} == said | {"sea": None}


def test_the_errors_of_a_label_are_the_images_of_the_map(http: Http) -> None:
    points = [one for one in http.service.project("s").points if one.error]
    for name, other in (("beach", "sea"), ("bridge", None), ("airport", None)):
        found = http("GET", f"/v1/spaces/s/labels/{name}/errors")
        expected = {
            "wrong": {(one.id, one.label, one.truth) for one in points if one.label == name},
            "missed": {(one.id, one.label, one.truth) for one in points if one.truth == name},
        }
        for kind, images in expected.items():
            shown = [(one["id"], one["label"], one["truth"]) for one in found[kind]]
            assert set(shown) == images
            assert shown == sorted(shown, reverse=True), "newest first"
            assert found["predictions"][kind] == len(images)
        assert found["stored_images"] == 120
        if other is not None:  # a further name of it
            assert http("GET", f"/v1/spaces/s/labels/{other}/errors") == found
    assert len(http("GET", "/v1/spaces/s/labels/beach/errors?limit=3")["wrong"]) == 3
    error = http("GET", "/v1/spaces/s/labels/beech/errors", status=404)["error"]
    assert "did you mean 'beach'" in error["message"]


def test_labels_that_are_found_have_pictures_where_they_came_as_images(http: Http) -> None:
    world = World(NAMES)
    queries = world.queries(1)
    body = {"classifier": queries.classifier.tolist(), "verifier": queries.verifier.tolist()}
    for kind in ("prototype", "text"):
        found = http("POST", "/v1/spaces/s/search", json=body | {"kind": kind, "supports": 2})
        assert len(found["hits"]) == len(NAMES) ** 2
        assert found["supports"] == [[]] * len(found["hits"])  # vectors have no pictures
    plain = http("POST", "/v1/spaces/s/search", json=body | {"kind": "text"})
    assert plain["supports"] is None
    refused = http("POST", "/v1/spaces/s/search", json=body | {"supports": 2}, status=422)
    assert refused["error"]["message"].startswith("supports: applies to labels")


@pytest.mark.parametrize(
    ("query", "message"),
    [
        ("order=images&q=a", "order: images cannot be combined with q"),
        ("order=errors&unverified=true", "order: errors cannot be combined with unverified"),
        ("order=id&predictions=true", "order: id cannot be combined with predictions"),
        ("order=images&cursor=after:beach", "with order=images, got 'after:beach'"),
        ("order=images&cursor=after-images:4", "with order=images"),
        ("order=share&cursor=after-errors:4", "with order=share"),
        ("order=errors&cursor=after-errors:-1", "with order=errors"),
    ],
)
def test_what_cannot_be_combined(http: Http, query: str, message: str) -> None:
    error = http("GET", f"/v1/spaces/s/labels?{query}", status=422)["error"]
    assert message in error["message"]


def test_a_label_shows_its_further_names(http: Http) -> None:
    assert http("GET", "/v1/spaces/s/labels/beach")["aliases"] == ["sea"]
    shown = http("GET", "/v1/spaces/s/labels/sea")
    assert (shown["alias_of"], shown["aliases"]) == ("beach", [])


def test_the_map(http: Http) -> None:
    answer = http("GET", "/v1/spaces/s/projection")
    assert (answer["method"], answer["support_images"], answer["observations"]) == (
        "t-SNE",
        21,
        120,
    )
    points = answer["points"]
    assert [point["kind"] for point in points] == ["support"] * 21 + ["observation"] * 120
    assert {point["label"] for point in points[:21]} == set(NAMES)
    assert all(-1 <= point[axis] <= 1 for point in points for axis in "xy")
    assert all(point["error"] is None for point in points[:21])
    for point in points[21:]:
        assert point["error"] == (point["label"] != point["truth"])
    # An image lies near to the support images of its label.
    places = np.array([[point["x"], point["y"]] for point in points])
    labels = np.array([point["label"] for point in points])
    nearest = np.linalg.norm(places[21:, None] - places[None, :21], axis=2).argmin(axis=1)
    assert (labels[:21][nearest] == labels[21:]).mean() > 0.9
    assert http.service.project("s").to_dict() == answer
    part = http.service.project("s", limit=10)
    assert (len(part), part.method, part.support_images) == (10, "PCA", 21)
    assert [point.kind for point in part.points].count("observation") == 5
    assert part.to_arrow().num_rows == 10
    assert "10 of 141 images" in repr(part)
    http("GET", "/v1/spaces/s/projection?limit=0", status=422)
    http("GET", "/v1/spaces/none/projection", status=404)


def test_maps_of_little(tmp_path: Path) -> None:
    with trustvlm.open(tmp_path / "home", create=True) as service:
        make_space(service)
        assert service.project("s").points == ()
        world = World(["a", "b"])
        service.register("s", world.inputs(0))
        service.feedback("s", world.queries(1), ["a", "b"], sampling="random")
        first = service.project("s")
        assert [(point.kind, point.truth) for point in first.points] == [
            ("observation", "a"), ("observation", "b"),
        ]  # fmt: skip
        same = np.tile(np.eye(1, IMAGE_DIM), (3, 1)) * [[1], [2], [3]]
        service.register("s", [trustvlm.LabelInput("a", image_vectors=same)])
        service.remove_label("s", "b")
        points = service.project("s").points
        assert [point.kind for point in points].count("support") == 3
        assert np.isfinite([[point.x, point.y] for point in points]).all()
        with pytest.raises(trustvlm.InvalidInput, match="limit: expected a whole number from 1 to"):
            service.project("s", limit=20_000)


def test_the_trash_is_listed_restored_and_emptied(http: Http) -> None:
    http.service.create_space("t", classifier="precomputed:2")
    http.service.register(
        "t",
        [
            trustvlm.LabelInput(name, text_vector=[1, i], image_vectors=[[2, i], [i, 3]])
            for i, name in enumerate(["a", "b", "c"])
        ],
    )
    assert http("GET", "/v1/spaces/t/removed")["removed"] == []
    first = http.service.list_supports("t", "a")[0].id
    http("DELETE", f"/v1/spaces/t/supports/{first}")
    http("DELETE", "/v1/spaces/t/labels/b")
    http("DELETE", "/v1/spaces/t/labels/c")
    trash = http("GET", "/v1/spaces/t/removed")
    with client_of(http.app) as client:
        assert [row.label for row in client.removed("t").removed] == ["c", "b", "a"]
    assert [(row["kind"], row["label"], row["support_count"]) for row in trash["removed"]] == [
        ("label", "c", 2), ("label", "b", 2), ("support", "a", 1),
    ]  # fmt: skip
    assert trash["removed"][2]["id"] == first
    for row in trash["removed"]:
        assert 0 < row["seconds_left"] <= trash["undo_seconds"] == 24 * 3600
    assert not trash["more"]
    http("POST", "/v1/spaces/t/labels/b/restore")
    http("POST", f"/v1/spaces/t/supports/{first}/restore")
    http("DELETE", f"/v1/spaces/t/supports/{first}")
    assert http("DELETE", "/v1/spaces/t/removed") == {"purged": 4}  # a label with 2, and 1
    assert http("GET", "/v1/spaces/t/removed")["removed"] == []
    http("POST", "/v1/spaces/t/labels/c/restore", status=404)
    http("POST", f"/v1/spaces/t/supports/{first}/restore", status=404)
    assert [row["name"] for row in http("GET", "/v1/spaces/t/labels")["labels"]] == ["a", "b"]
    assert len(http("GET", "/v1/spaces/s/labels")["labels"]) == 7  # another space keeps its rows


def test_encoders_for_new_spaces(http: Http) -> None:
    offered = http("GET", "/v1/encoders")
    assert offered["encoders"] == [classifier_spec()]
    assert [one["name"] for one in offered["presets"]] == ["small", "paper", "large"]
    assert all("serve_encoders" in one["reason"] for one in offered["presets"])


def test_the_api_as_a_page(http: Http) -> None:
    page = http.ask("GET", "/docs")
    assert page.headers["content-type"].startswith("text/html")
    assert "//" not in page.text.replace("<!doctype", "")  # nothing of another site
    assert len(http.ask("GET", "/docs/swagger-ui-bundle.js").content) > 1_000_000
    http("GET", "/docs/core.py", status=404)
