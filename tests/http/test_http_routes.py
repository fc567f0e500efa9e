"""Every route over a real home: what it does is what the library's verbs say, and its errors have
one shape."""

from __future__ import annotations

import io
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from http_service import Http, routes, served
from PIL import Image
from worlds import IMAGE_DIM, TEXT_DIM, World

import trustvlm
from trustvlm.demo.specs import classifier_spec, verifier_spec
from trustvlm.system.stages import STAGES
from trustvlm.types import CALL_COLUMNS

SPACE = {
    "name": "s",
    "classifier": f"precomputed:{TEXT_DIM}",
    "verifier": f"precomputed:{IMAGE_DIM}",
    "logit_scale": 10.0,
}


@pytest.fixture
def http(tmp_path: Path) -> Iterator[Http]:
    with served(tmp_path / "home") as running:
        yield running


@pytest.fixture
def space(http: Http, world: World) -> Http:
    """With the space "s": six labels, four support images each."""
    http("POST", "/v1/spaces", json=SPACE, status=201)
    http("POST", "/v1/spaces/s/labels", json={"labels": [as_json(one) for one in world.inputs(4)]})
    return http


def as_json(label: trustvlm.LabelInput) -> dict[str, Any]:
    given = {name: value for name, value in vars(label).items() if value is not None}
    return {
        name: value.tolist() if isinstance(value, np.ndarray) else value
        for name, value in given.items()
    }


def query_json(queries: trustvlm.Queries) -> dict[str, Any]:
    return {
        "classifier": np.asarray(queries.classifier).tolist(),
        "verifier": np.asarray(queries.verifier).tolist(),
    }


def npz(**arrays: Any) -> bytes:
    out = io.BytesIO()
    np.savez(out, **arrays)
    return out.getvalue()


NPZ = {"content-type": "application/x-npz"}


# Spaces


def test_spaces(http: Http) -> None:
    assert http("GET", "/v1/spaces") == {"spaces": [], "scope": "admin", "key_space": None}
    made = http("POST", "/v1/spaces", json=SPACE, status=201)
    assert made["classifier_dim"] == TEXT_DIM
    assert http("POST", "/v1/spaces", json=SPACE, status=409)["error"]["kind"] == "Conflict"
    shown = http("GET", "/v1/spaces/s")
    assert shown == made | {"unverified_count": 0, "classifier_supports": False}
    assert http("DELETE", "/v1/spaces/s") == {"removed": "s"}
    assert http("GET", "/v1/spaces/s", status=404)["error"]["kind"] == "NotFound"
    assert http("POST", "/v1/spaces/s/restore")["name"] == "s"
    assert [row["name"] for row in http("GET", "/v1/spaces")["spaces"]] == ["s"]


def test_clients_choose_no_encoder_that_the_operator_did_not_allow(tmp_path: Path) -> None:
    allowed = classifier_spec()
    with served(tmp_path / "home", encoders=(allowed,)) as http:
        for classifier in (
            "open_clip:local-dir:/etc",
            "timm:vit_tiny_patch16_224@/etc/passwd",
            "open_clip:ViT-B-32/openai",
            "ViT-B/32",
            "openai/clip-vit-base-patch32",
            "transformers:/etc",
        ):
            body = {"name": "x", "classifier": classifier}
            error = http("POST", "/v1/spaces", json=body, status=403)["error"]
            assert "serve_encoders" in error["message"]
        for preset in ("small", "paper", "large"):
            http("POST", "/v1/spaces", json={"name": "x", "preset": preset}, status=403)
        body = {"name": "x", "classifier": "ViT-B-32"}
        error = http("POST", "/v1/spaces", json=body, status=422)["error"]
        assert "did you mean 'open_clip:ViT-B-32/openai'" in error["message"]
        http(
            "POST",
            "/v1/spaces",
            json={"name": "x", "classifier": "precomputed:4", "verifier": verifier_spec()},
            status=403,
        )
        http("POST", "/v1/spaces", json={"name": "x"}, status=422)
        assert (
            http("POST", "/v1/spaces", json={"name": "x", "classifier": allowed}, status=201)[
                "verifier"
            ]
            == "same"
        )


# Labels


def test_labels(space: Http) -> None:
    rows = space("GET", "/v1/spaces/s/labels")
    assert [row["name"] for row in rows["labels"]] == sorted(
        row.name for row in space.service.list_labels("s")
    )
    assert rows["next_cursor"] is None
    assert {row["support_count"] for row in rows["labels"]} == {4}
    assert (
        space("PATCH", "/v1/spaces/s/labels/beach", json={"new_name": "sea/side"})["revision"] == 2
    )
    assert space("GET", "/v1/spaces/s/labels/sea%2Fside")["name"] == "sea/side"
    space("GET", "/v1/spaces/s/labels/beach", status=404)
    assert space("DELETE", "/v1/spaces/s/labels/sea%2fside") == {"revision": 3}
    space("DELETE", "/v1/spaces/s/labels/sea%2Fside", status=404)
    assert space("POST", "/v1/spaces/s/labels/sea%2Fside/restore") == {"revision": 4}
    assert len(space("GET", "/v1/spaces/s/labels/sea%2Fside/supports")["supports"]) == 4
    space("DELETE", "/v1/spaces/s/labels/sea%2Fside?purge=true")
    space("POST", "/v1/spaces/s/labels/sea%2Fside/restore", status=404)


def test_registration_is_that_of_the_library(space: Http, world: World) -> None:
    answer = space(
        "POST", "/v1/spaces/s/labels", json={"labels": [as_json(one) for one in world.inputs(0)]}
    )
    assert answer["added_labels"] == answer["added_supports"] == 0
    other = {"name": "beach", "text_vector": world.text[0].tolist()}
    space("POST", "/v1/spaces/s/labels", json={"labels": [other]}, status=409)
    space("POST", "/v1/spaces/s/labels", json={"names": ["no text tower here"]}, status=422)
    space("POST", "/v1/spaces/s/labels", json={}, status=422)
    error = space(
        "POST", "/v1/spaces/s/labels", json={"labels": [other | {"text_vektor": [1]}]}, status=422
    )["error"]
    assert "text_vektor" in error["message"]
    space("POST", "/v1/spaces/t/labels", json={"labels": [other]}, status=404)


def test_paging_and_search(http: Http) -> None:
    """Every label comes exactly once, by name, whatever the page; what is looked for is found in
    any page size."""
    http("POST", "/v1/spaces", json={"name": "s", "classifier": "precomputed:4"}, status=201)
    names = [
        f"{kind} {i:03}" for kind in ("Ape", "ape", "bee", "50% _off_", "ünder") for i in range(23)
    ]
    http.service.register(
        "s",
        [trustvlm.LabelInput(name, text_vector=[1.0, i, i * i, 1]) for i, name in enumerate(names)],
    )
    http.service.add_support("s", "bee 003", image_vectors=[[1, 0, 0, 0]])

    def paged(limit: int, **wanted: Any) -> list[str]:
        found, cursor = [], None
        while True:
            page = http(
                "GET",
                "/v1/spaces/s/labels",
                params={"limit": limit, **({"cursor": cursor} if cursor else {}), **wanted},
            )
            assert len(page["labels"]) <= limit
            found += [row["name"] for row in page["labels"]]
            cursor = page["next_cursor"]
            if cursor is None:
                return found

    for limit in (7, 23, 115, 1000):
        assert paged(limit) == sorted(names)
        assert paged(limit, q="pe 01") == sorted(name for name in names if "pe 01" in name)
        assert paged(limit, q="APE") == sorted(name for name in names if "ape" in name.lower())
        assert paged(limit, q="ape", match="prefix") == sorted(
            name for name in names if name.startswith("ape")
        )
        assert paged(limit, q="% _") == sorted(name for name in names if "% _" in name)
        assert paged(limit, unverified="true") == sorted(set(names) - {"bee 003"})
        assert paged(limit, q="bee", unverified="true") == [
            name for name in sorted(names) if "bee" in name and "003" not in name
        ]
    assert paged(10, q="nothing") == []
    for wrong in (
        {"cursor": "???"},
        {"cursor": "é"},
        {"limit": 0},
        {"limit": 1001},
        {"match": "regex"},
    ):
        http("GET", "/v1/spaces/s/labels", params=wrong, status=422)


# Support images


def test_supports(space: Http, world: World) -> None:
    more = world.supports(1, 3)
    answer = space(
        "POST", "/v1/spaces/s/labels/beach/supports", json={"image_vectors": more.tolist()}
    )
    assert answer["added_supports"] == 3
    again = space(
        "POST", "/v1/spaces/s/labels/beach/supports", content=npz(image_vectors=more), headers=NPZ
    )
    assert again["skipped_duplicates"] == 3
    rows = space("GET", "/v1/spaces/s/labels/beach/supports")["supports"]
    assert [row["id"] for row in rows][-3:] == answer["ids"]
    first = answer["ids"][0]
    assert space("GET", f"/v1/spaces/s/supports/{first}/thumbnail", status=404)["error"][
        "message"
    ].endswith("as a vector")
    space("DELETE", f"/v1/spaces/s/supports/{first}")
    space("DELETE", f"/v1/spaces/s/supports/{first}", status=404)
    assert len(space("GET", "/v1/spaces/s/labels/beach/supports")["supports"]) == 6
    space("POST", f"/v1/spaces/s/supports/{first}/restore")
    assert len(space("GET", "/v1/spaces/s/labels/beach/supports")["supports"]) == 7
    space(
        "POST",
        "/v1/spaces/s/labels/nope/supports",
        json={"image_vectors": more.tolist()},
        status=404,
    )
    for wrong in ("0", "-1", "x", str(2**63), str(2**70)):
        space("DELETE", f"/v1/spaces/s/supports/{wrong}", status=422)


def test_the_support_images_of_another_space_stay_closed(space: Http) -> None:
    """An id that belongs to another space opens nothing: neither its thumbnail nor its removal."""
    space("POST", "/v1/spaces", json=SPACE | {"name": "t"}, status=201)
    of_s = space("GET", "/v1/spaces/s/labels/beach/supports")["supports"][0]["id"]
    for method, path in (("GET", "/thumbnail"), ("DELETE", ""), ("POST", "/restore")):
        space(method, f"/v1/spaces/t/supports/{of_s}{path}", status=404)


# Queries


def test_scores_are_those_of_the_library(space: Http, world: World) -> None:
    queries = world.queries()
    expected = space.service.score("s", queries, rule="trustvlm", params={"lambda": 0.5}, top_k=3)
    body = query_json(queries) | {
        "rule": "trustvlm",
        "params": {"lambda": 0.5},
        "top_k": 3,
        "evidence": 2,
    }
    answer = space("POST", "/v1/spaces/s/score", json=body)
    rows = json.loads(json.dumps(list(expected.rows(evidence=2))))
    assert answer["verdicts"] == rows
    assert {name: answer[name] for name in CALL_COLUMNS} == {
        name: getattr(expected, name) for name in CALL_COLUMNS
    }
    assert (answer["params"], answer["top_k"]) == ({"lambda": 0.5}, 3)
    packed = space(
        "POST", "/v1/spaces/s/score", content=npz(**vars_of(queries)), headers=NPZ,
        params={"rule": "trustvlm", "params": '{"lambda": 0.5}', "top_k": 3, "evidence": 2},
    )  # fmt: skip
    assert packed == answer
    some = space(
        "POST", "/v1/spaces/s/score", json=query_json(queries) | {"labels": ["beach", "forest"]}
    )
    assert {row["label"] for row in some["verdicts"]} <= {"beach", "forest"}
    assert "evidence" not in some["verdicts"][0]
    assert (
        space("POST", "/v1/spaces/s/score", json={"classifier": [], "verifier": []})["verdicts"]
        == []
    )


def vars_of(queries: trustvlm.Queries) -> dict[str, Any]:
    return {"classifier": queries.classifier, "verifier": queries.verifier}


def test_searches_are_those_of_the_library(space: Http, world: World) -> None:
    queries = world.queries(1)
    for kind in ("support", "prototype", "text"):
        hits = space.service.search("s", queries, kind=kind, k=4)
        answer = space(
            "POST", "/v1/spaces/s/search", json=query_json(queries) | {"kind": kind, "k": 4}
        )
        exact = {"approximate": False, "error_bound": 0.0, "recall": None}
        exact |= {"notes": [], "supports": None}
        assert (
            answer == {"revision": hits.revision, "kind": kind, "hits": list(hits.rows())} | exact
        )
    space(
        "POST", "/v1/spaces/s/search", json={"text": ["a beach"], "kind": "text"}, status=422
    )  # no text tower


@pytest.mark.parametrize(
    "change",
    [
        {"classifier": [[1, 2]]},
        {"classifier": "x"},
        {"classifier": None, "verifier": None},
        {"verifier": [[0.0] * IMAGE_DIM]},
        {"classifier": [[1.0] * TEXT_DIM, [1.0]]},
        {"classifier": [[1.0] * TEXT_DIM] * 2},
        {"rule": "nope"},
        {"params": {"nope": 1}},
        {"top_k": 0},
        {"top_k": 10**30},
        {"labels": []},
        {"evidence": -1},
        {"extra": 1},
    ],
)
def test_a_score_that_cannot_be(space: Http, world: World, change: dict[str, Any]) -> None:
    space("POST", "/v1/spaces/s/score", json=query_json(world.queries(1)) | change, status=None)
    body = query_json(
        trustvlm.Queries(*(np.asarray(rows)[:1] for rows in vars_of(world.queries(1)).values()))
    )
    assert (
        space("POST", "/v1/spaces/s/score", json=body | change, status=422)["error"]["kind"]
        == "InvalidInput"
    )


def test_numbers_that_json_does_not_have(space: Http, world: World) -> None:
    body = json.dumps(query_json(world.queries(1))).replace("[[", "[[NaN,", 1)
    json_type = {"content-type": "application/json"}
    for content in (
        body,
        "{",
        "",
        "[]",
        '{"classifier": [[1e999]]}',
        "[" * 100_000,
        '{"rule": "\\ud800"}',
        b"\xff\xfe",
    ):
        error = space("POST", "/v1/spaces/s/score", content=content, headers=json_type, status=422)[
            "error"
        ]
        assert error["kind"] == "InvalidInput"
    space(
        "POST",
        "/v1/spaces/s/score",
        content="x",
        headers={"content-type": "text/plain"},
        status=415,
    )
    space("POST", "/v1/spaces/s/score", content="x", status=415)


# Measuring


def test_evaluating_and_calibrating_are_jobs(space: Http, world: World) -> None:
    queries = world.queries(40)
    truth = [name for name in world.names for _ in range(40)]
    expected = space.service.evaluate("s", queries, truth, rules=["msp", "trustvlm"], draws=0)
    body = query_json(queries) | {"truth": truth}
    begun = space(
        "POST", "/v1/spaces/s/evaluate", json=body | {"rules": ["msp", "trustvlm"]}, status=202
    )
    ended = space.job(begun)
    assert (ended["state"], ended["kind"], ended["space"]) == ("done", "evaluate", "s")
    assert [rule["rule"] for rule in ended["result"]["rules"]] == [
        rule.rule for rule in expected.rules
    ]
    assert ended["result"]["rules"][0]["aurc"]["value"] == pytest.approx(
        expected.rules[0].aurc.value
    )
    assert space("GET", "/v1/spaces/s/calibrations")["calibrations"] == []
    done = space.job(
        space(
            "POST",
            "/v1/spaces/s/calibrate",
            json=body | {"max_risk": 0.2, "rule": "posterior"},
            status=202,
        )
    )
    assert done["state"] == "done", done
    listed = space("GET", "/v1/spaces/s/calibrations")["calibrations"]
    assert [one["id"] for one in listed] == [done["result"]["id"]]
    assert listed[0]["max_risk"] == 0.2
    assert listed[0]["stale"] is False
    scored = space("POST", "/v1/spaces/s/score", json=query_json(queries))["verdicts"]
    assert {row["accepted"] for row in scored} <= {True, False}
    told = space(
        "POST",
        "/v1/spaces/s/feedback",
        json=query_json(world.queries(1)) | {"truth": world.names, "sampling": "random"},
    )
    assert told["added"] == 6
    assert space("GET", "/v1/spaces/s/monitor")["calibration_id"] == listed[0]["id"]
    assert [job["kind"] for job in space("GET", "/v1/jobs")["jobs"]] == ["calibrate", "evaluate"]
    space("DELETE", f"/v1/spaces/s/calibrations/{listed[0]['id']}")
    space("DELETE", f"/v1/spaces/s/calibrations/{listed[0]['id']}", status=404)


def test_a_job_that_fails_says_why(space: Http, world: World) -> None:
    ended = space.job(space("POST", "/v1/spaces/s/observations/evaluate", json={}, status=202))
    assert ended["state"] == "failed"
    assert ended["error"]["kind"] == "InvalidInput"
    assert "no calibration images yet" in ended["error"]["message"]
    body = query_json(world.queries(1)) | {"truth": ["nope"] * 6}
    refused = space("POST", "/v1/spaces/s/evaluate", json=body, status=404)  # no job is begun
    assert "no label 'nope'" in refused["error"]["message"]
    space("POST", "/v1/spaces/t/evaluate", json=body, status=404)
    space("GET", "/v1/jobs/nope", status=404)
    space("POST", "/v1/jobs/nope/cancel", status=404)


# State


def test_state_and_metrics(space: Http, world: World, tmp_path: Path) -> None:
    assert space("GET", "/healthz") == {"status": "ok"}
    assert space("GET", "/readyz") == {"status": "ready"}
    space("POST", "/v1/spaces/s/score", json=query_json(world.queries()))
    space("POST", "/v1/spaces/nope/score", json=query_json(world.queries()), status=404)
    found = space.ask("GET", "/metrics").text
    for line in (
        'trustvlm_http_request_seconds_count{method="POST",route="/v1/spaces/{space}/score",status="200"} 1.0',
        'trustvlm_http_request_seconds_count{method="POST",route="/v1/spaces/{space}/score",status="404"} 1.0',
        'trustvlm_batch_rows_sum{owner="scorer"} 18.0',
        'trustvlm_stage_seconds_count{stage="text pass"} 1.0',
        'trustvlm_stage_seconds_count{stage="image pass"} 1.0',
        'trustvlm_stage_seconds_count{stage="fuse"} 1.0',
        'trustvlm_verdicts_total{outcome="uncalibrated",space="s"} 18.0',
        'trustvlm_revision_lag{space="s"} 0.0',
        'trustvlm_cached_labels{space="s"} 6.0',
        'trustvlm_queue_depth{owner="scorer"} 0.0',
        'trustvlm_refused_total{kind="NotFound"} 1.0',
    ):
        assert line in found.splitlines(), line
    with trustvlm.open(tmp_path / "home") as other:
        other.register("s", [trustvlm.LabelInput("new", text_vector=np.ones(TEXT_DIM))])
    assert 'trustvlm_revision_lag{space="s"} 1.0' in space.ask("GET", "/metrics").text


def test_not_ready_while_models_load(space: Http, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(space.serving, "loaded", False)
    answer = space.ask("GET", "/readyz", status=503)
    error = answer.json()["error"]
    assert (error["kind"], answer.headers["retry-after"]) == ("Unavailable", "1")
    assert "models of the spaces are loading" in error["message"]
    metrics = space.ask("GET", "/metrics").text
    assert 'trustvlm_refused_total{kind="ModelsLoading"}' in metrics


def test_the_page_and_what_is_not_there(http: Http) -> None:
    page = http.ask("GET", "/")
    assert page.headers["content-type"].startswith("text/html")
    assert "<script>" not in page.text
    for path in (
        "/nope",
        "/static/nope",
        "/static/..%2F..%2Fapp.py",
        "/static/%2e%2e",
        "/v1",
        "/docs/redoc.standalone.js",
        "/%ff",
        "/v1/spaces/%00",
    ):
        assert http("GET", path, status=404)["error"]["kind"] == "NotFound"
    assert http("PUT", "/v1/spaces", status=405)["error"]["kind"] == "MethodNotAllowed"


@pytest.mark.parametrize(
    ("path", "methods"),
    [
        ("observations/calibrate", "POST"),
        ("observations/evaluate", "POST"),
        ("observations/pictured", "GET"),
        ("observations/1", "GET"),
        ("labels/none", "DELETE, GET, PATCH, PUT"),
    ],
)
def test_a_refused_method_names_those_of_the_path(http: Http, path: str, methods: str) -> None:
    answer = http.ask("OPTIONS", f"/v1/spaces/s/{path}", status=405)
    assert answer.headers["allow"] == methods


def test_a_verb_is_no_number_of_an_observation(space: Http) -> None:
    answer = space.ask("GET", "/v1/spaces/s/observations/calibrate", status=405)
    assert answer.headers["allow"] == "POST"
    space("GET", "/v1/spaces/s/observations/none", status=422)


def test_the_document_names_every_route(http: Http) -> None:
    document = http("GET", "/openapi.json")
    documented = {
        (path, method.upper())
        for path, operations in document["paths"].items()
        for method in operations
    }
    assert documented == {
        (route.path, method)
        for route in routes()
        if route.include_in_schema
        for method in route.methods
    }
    body = document["paths"]["/v1/spaces/{space}/score"]["post"]["requestBody"]["content"]
    assert set(body) == {"application/json", "application/x-npz", "multipart/form-data"}
    assert body["application/json"]["example"]["classifier"]
    assert "Problem" in document["components"]["schemas"]


# Images


def picture(number: int, size: int = 40) -> bytes:
    rng = np.random.default_rng(number)
    out = io.BytesIO()
    Image.fromarray(rng.integers(0, 255, (size, size, 3), dtype=np.uint8)).save(out, "PNG")
    return out.getvalue()


@pytest.fixture(scope="module")
def pictured(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Http]:
    """A space with the demo's models and two labels with two pictures each."""
    specs = (classifier_spec(), verifier_spec())
    with served(tmp_path_factory.mktemp("pictures") / "home", encoders=specs) as http:
        http(
            "POST",
            "/v1/spaces",
            json={"name": "p", "classifier": specs[0], "verifier": specs[1]},
            status=201,
        )
        for label, numbers in (("one", (1, 2)), ("two", (3, 4))):
            files = [("images", (f"{number}.png", picture(number))) for number in numbers]
            answer = http("POST", "/v1/spaces/p/labels", data={"name": label}, files=files)
            assert (answer["added_labels"], answer["added_supports"]) == (1, 2)
        yield http


def test_images_are_scored_with_their_evidence(pictured: Http) -> None:
    files = [
        ("images", ("a/b\\c.png", picture(1))),
        ("images", ("bad.png", b"no image")),
        ("images", ("new.png", picture(9))),
    ]
    answer = pictured("POST", "/v1/spaces/p/score", files=files, data={"rule": "trustvlm"})
    assert [row["source"] for row in answer["verdicts"]] == [r"b\c.png", "new.png"]
    assert [row["index"] for row in answer["verdicts"]] == [0, 2]
    assert answer["failures"][0]["index"] == 1
    assert answer["failures"][0]["source"] == "bad.png"
    expected = pictured.service.score(
        "p", trustvlm.Queries(images=[picture(1), picture(9)]), rule="trustvlm"
    )
    np.testing.assert_allclose(
        [row["trust"] for row in answer["verdicts"]], expected.trust, atol=2e-3
    )
    stages = pictured.serving.meters.stages
    assert all(stages.labels(stage)._sum.get() > 0 for stage in STAGES)
    near = answer["verdicts"][0]["evidence"][
        "label" if answer["verdicts"][0]["label"] == "one" else "rival"
    ]
    assert near[0]["source"] == "1.png"
    assert near[0]["similarity"] == pytest.approx(1, abs=1e-4)
    shown = pictured.ask("GET", f"/v1/spaces/p/supports/{near[0]['id']}/thumbnail")
    assert shown.headers["content-type"] == "image/jpeg"
    assert shown.content.startswith(b"\xff\xd8")


def test_images_and_texts_are_searched_and_told(pictured: Http) -> None:
    found = pictured("POST", "/v1/spaces/p/search", files=[("images", picture(3))], data={"k": 1})[
        "hits"
    ]
    assert (found[0]["label"], found[0]["query"]) == ("two", 0)
    texts = pictured(
        "POST", "/v1/spaces/p/search", json={"text": ["a photo of a one."], "kind": "text", "k": 1}
    )["hits"]
    assert texts[0]["label"] in ("one", "two")
    told = pictured(
        "POST",
        "/v1/spaces/p/feedback",
        files=[("images", picture(20))],
        data={"truth": "two", "promote": "true"},
    )
    assert (told["added"], told["promoted"]) == (1, 1)
    more = pictured(
        "POST",
        "/v1/spaces/p/labels/two/supports",
        files=[("images", picture(20)), ("images", picture(21))],
    )
    assert (more["added_supports"], more["skipped_duplicates"]) == (1, 1)
    files = [("images", picture(n)) for n in (30, 31, 32)]
    data = {
        "truth": ["one", "two", ""],
        "rules": "msp",
        "items": "true",
        "sources": ["a", "b", "c"],
    }
    result = pictured.job(
        pictured("POST", "/v1/spaces/p/evaluate", files=files, data=data, status=202)
    )["result"]
    assert result["images"] == 3
    assert [item["source"] for item in result["items"]] == ["a", "b", "c"]
    error = pictured(
        "POST",
        "/v1/spaces/p/evaluate",
        files=files,
        data=data | {"sources": ["a", "b"]},
        status=422,
    )["error"]
    assert error["message"] == "sources: expected 3 names, one for each query, got 2"


def test_names_are_encoded(pictured: Http) -> None:
    assert (
        pictured("POST", "/v1/spaces/p/labels", json={"names": ["three", "four"]})["added_labels"]
        == 2
    )
    assert pictured("GET", "/v1/spaces/p/labels?unverified=true")["labels"][0]["name"] == "four"
    assert pictured("GET", "/v1/spaces/p")["unverified_count"] == 2
