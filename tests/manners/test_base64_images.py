"""Image files as base64 in JSON: the same answers as the same files in a form."""

from __future__ import annotations

from base64 import b64encode, encodebytes
from collections.abc import Iterator
from typing import Any

import pytest
from http_service import Http, served
from test_http_routes import picture

from trustvlm.demo.specs import classifier_spec, verifier_spec


def text(number: int) -> str:
    return b64encode(picture(number)).decode()


@pytest.fixture(scope="module")
def http(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Http]:
    """A space with the demo's models and two labels, registered in JSON."""
    specs = (classifier_spec(), verifier_spec())
    with served(tmp_path_factory.mktemp("base64") / "home", encoders=specs) as running:
        space = {"name": "p", "classifier": specs[0], "verifier": specs[1]}
        running("POST", "/v1/spaces", json=space, status=201)
        labels = [
            {"name": "one", "images": [text(1), text(2)], "attributes": {"n": 1}},
            {"name": "two", "images": [f"data:image/png;base64,{text(3)}"]},
        ]
        made = running("POST", "/v1/spaces/p/labels", json={"labels": labels})
        assert (made["added_labels"], made["added_supports"]) == (2, 3)
        again = running("POST", "/v1/spaces/p/labels", json={"labels": labels})
        assert (again["added_supports"], again["skipped_duplicates"]) == (0, 3)
        yield running


def test_json_answers_as_a_form_does(http: Http) -> None:
    files = [("images", (f"{number}.png", picture(number))) for number in (1, 9)]
    images = [text(1), encodebytes(picture(9)).decode()]
    form = http("POST", "/v1/spaces/p/score", files=files)
    json = http("POST", "/v1/spaces/p/score", json={"images": images})
    for one, other in zip(form["verdicts"], json["verdicts"], strict=True):
        assert (one["label"], one["trust"]) == (other["label"], other["trust"])
    assert json["verdicts"][0]["evidence"]
    hits = http("POST", "/v1/spaces/p/search", json={"images": images[:1], "k": 1})["hits"]
    assert hits[0]["similarity"] == pytest.approx(1, abs=1e-5)
    embedded = http("POST", "/v1/spaces/p/embed", json={"images": images})
    assert len(embedded["verifier"]) == 2
    more = {"images": [text(4)], "image_attributes": {"season": "summer"}}
    added = http("POST", "/v1/spaces/p/labels/two/supports", json=more)
    assert added["added_supports"] == 1
    listed = http("GET", f"/v1/spaces/p/supports/{added['ids'][0]}")
    assert listed["attributes"] == {"season": "summer"}
    http.ask("GET", f"/v1/spaces/p/supports/{added['ids'][0]}/thumbnail")
    told = {"images": images, "truth": ["one", "two"]}
    assert http("POST", "/v1/spaces/p/feedback", json=told)["added"] == 1  # one is a support image


def test_an_unreadable_one_is_a_failure_among_others(http: Http) -> None:
    images = [text(1), b64encode(b"no image").decode()]
    answer = http("POST", "/v1/spaces/p/score", json={"images": images})
    assert len(answer["verdicts"]) == 1
    assert answer["failures"][0]["index"] == 1


REFUSED: list[tuple[str, dict[str, Any], str]] = [
    ("score", {"images": ["photo.jpg"]}, "images[0]: expected an image file in base64"),
    ("score", {"images": [text(1), text(2)[:-3]]}, "images[1]: expected an image file in base64"),
    ("score", {"images": [""]}, "images[0]: expected an image file in base64"),
    ("score", {"images": ["data:image/png,abc"]}, "images[0]: expected a data: URL in base64"),
    ("score", {"images": ["https://example.org/a.png"]}, "images[0]: expected an image file"),
    ("score", {"images": []}, "images"),
    ("score", {"images": [text(1)] * 257}, "images"),
    ("score", {"images": text(1)}, "images"),
    ("score", {"images": [text(1)], "verifier": [[1.0]]}, "expected images or verifier, got both"),
    ("search", {"images": [text(1)], "like_labels": ["one"]}, "expected images or like_labels"),
    ("embed", {}, "images: expected at least one image, got none"),
    ("labels", {"labels": [{"name": "x", "images": ["?"]}]}, "'x': images[0]: expected an image"),
    ("labels", {"names": ["x"], "accept_truncated": True}, "accept_truncated: applies to image"),
    (
        "labels",
        {"labels": [{"name": f"x{i}", "images": [text(1)] * 200} for i in range(2)]},
        "labels: expected at most 256 images together, got 400",
    ),
]


def test_what_is_wrong_is_said_in_one_sentence(http: Http) -> None:
    for route, body, words in REFUSED:
        answer = http("POST", f"/v1/spaces/p/{route}", json=body, status=422)
        assert words in answer["error"]["message"], route
        assert len(answer["error"]["message"]) < 400
