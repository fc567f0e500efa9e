"""The OpenAPI document is valid, says of every answer what it is, and others can make clients of
it."""

from __future__ import annotations

import functools
import hashlib
import importlib.util
import json
import re
import sys
import warnings
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path
from types import ModuleType
from typing import Any

import httpx
import jsonschema_rs
import numpy as np
import pytest
from http_service import Http, routes, served
from openapi_spec_validator import validate
from openapi_spec_validator.readers import read_from_filename
from test_http_routes import NPZ, SPACE, as_json, npz, picture, query_json
from worlds import IMAGE_DIM, TEXT_DIM, World

import trustvlm
from trustvlm.demo.specs import classifier_spec, verifier_spec


@pytest.fixture(scope="module")
def http(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Http]:
    """A service that lets its clients use the demo's encoders."""
    with served(
        tmp_path_factory.mktemp("openapi") / "home", encoders=(classifier_spec(), verifier_spec())
    ) as running:
        yield running


@pytest.fixture(scope="module")
def document(http: Http) -> dict[str, Any]:
    found: dict[str, Any] = http("GET", "/openapi.json")
    return found


def operations(document: dict[str, Any]) -> list[tuple[str, str, dict[str, Any]]]:
    return [
        (path, method, entry)
        for path, methods in document["paths"].items()
        for method, entry in methods.items()
    ]


def test_the_document_is_valid(document: dict[str, Any]) -> None:
    validate(document)


@pytest.mark.slow  # by default: test_the_document_is_valid
def test_examples_of_bodies_fit_their_schemas(document: dict[str, Any]) -> None:
    for path, method, entry in operations(document):
        body = entry.get("requestBody", {}).get("content", {}).get("application/json")
        if body is not None:
            schema = {"components": document["components"], **body["schema"]}
            assert jsonschema_rs.is_valid(schema, body["example"]), (method, path)


def test_fields_say_what_they_mean(document: dict[str, Any]) -> None:
    """What the docstring of an answer says of a field stands at the field, in words of JSON."""
    for name, schema in document["components"]["schemas"].items():
        assert not re.search(r"Attributes:|:\w+:`|\bNone\b|to_arrow", json.dumps(schema)), name
    calibration = document["components"]["schemas"]["Calibration"]["properties"]
    assert calibration["max_risk"]["description"] == "the promise."
    assert calibration["threshold"]["description"].startswith("accept when trust ≥ this; null:")


def test_a_reader_of_yaml_reads_the_same(
    http: Http, document: dict[str, Any], tmp_path: Path
) -> None:
    path = tmp_path / "openapi.json"
    path.write_bytes(http.ask("GET", "/openapi.json").content)
    assert read_from_filename(str(path))[0] == document


def test_names(document: dict[str, Any]) -> None:
    ids = [entry["operationId"] for _, _, entry in operations(document)]
    assert len(ids) == len(set(ids)) > 40
    assert all(re.fullmatch("[a-z]+(_[a-z]+){0,3}", one) for one in ids), ids
    assert all(re.fullmatch("([A-Z][a-z]+)+", name) for name in document["components"]["schemas"])
    refs = set(re.findall(r'"#/components/schemas/(\w+)"', json.dumps(document)))
    assert refs == set(document["components"]["schemas"])  # all are there, none is for nothing


def test_every_answer_has_a_schema(document: dict[str, Any]) -> None:
    for path, method, entry in operations(document):
        good = [answer for status, answer in entry["responses"].items() if status.startswith("2")]
        assert len(good) == 1, (method, path)
        for kind, content in good[0]["content"].items():
            assert content["schema"], (method, path)
            assert kind in ("application/json", "text/plain", "image/jpeg")
            if kind == "application/json":
                assert set(content["schema"]) == {"$ref"}, (method, path)


class Held:
    """Holds every answer of a service against its document, and against the models that
    datamodel-code-generator makes of it; what the document does not name must not be in it."""

    def __init__(self, document: dict[str, Any], models: ModuleType) -> None:
        self.tried: set[tuple[str, str, str]] = set()
        self._models = models
        self._paths = {
            path: re.compile(re.sub(r"\{\w+\}", "[^/]+", path)) for path in document["paths"]
        }
        self._document = document
        self._strict = {
            "components": json.loads(json.dumps(document["components"]), object_hook=_closed)
        }
        self._validator_of = functools.cache(self._made_validator)

    def _made_validator(self, reference: str) -> jsonschema_rs.Validator:
        return jsonschema_rs.validator_for({"$ref": reference} | self._strict)

    async def look(self, response: httpx.Response) -> None:
        await response.aread()
        target = response.request.url.raw_path.decode().partition("?")[0]
        matching = [path for path, pattern in self._paths.items() if pattern.fullmatch(target)]
        path = min(matching, key=lambda one: one.count("{"))
        entry = self._document["paths"][path][response.request.method.lower()]
        answer = entry["responses"][str(response.status_code)]["content"]
        kind = response.headers["content-type"].partition(";")[0]
        assert kind in answer, (path, kind)
        self.tried.add((path, response.request.method.lower(), str(response.status_code)))
        if kind == "application/json":
            self._validator_of(answer[kind]["schema"]["$ref"]).validate(response.json())
            model = getattr(self._models, answer[kind]["schema"]["$ref"].rpartition("/")[2])
            read = model.model_validate_json(response.content).model_dump(mode="json")
            require_whole(response.json(), read)


def require_whole(sent: Any, read: Any) -> None:
    """Nothing of an answer is lost or changed in a model but the way times are written."""
    if isinstance(sent, dict):
        assert set(sent) <= set(read)
        for name, value in sent.items():
            require_whole(value, read[name])
    elif isinstance(sent, list):
        assert len(sent) == len(read)
        for one, other in zip(sent, read, strict=True):
            require_whole(one, other)
    elif sent != read:
        assert datetime.fromisoformat(sent) == datetime.fromisoformat(read)


def _closed(value: dict[str, Any]) -> dict[str, Any]:
    return (
        value | {"additionalProperties": False}
        if "properties" in value and "required" in value
        else value
    )


def test_answers_are_what_the_document_says(
    http: Http, document: dict[str, Any], models: ModuleType, world: World
) -> None:
    held = Held(document, models)
    http.client.event_hooks = {"response": [held.look]}
    try:
        _of_vectors(http, world)
        _of_images(http)
        http("DELETE", "/v1/spaces/s")
        http("POST", "/v1/spaces/s/restore")
        for path in (
            "/healthz",
            "/readyz",
            "/v1/rules",
            "/v1/limits",
            "/v1/encoders",
            "/v1/spaces",
            "/v1/jobs",
        ):
            http("GET", path)
        http.ask("GET", "/metrics")
    finally:
        http.client.event_hooks = {}
    good = {(path, method) for path, method, status in held.tried if status.startswith("2")}
    assert good == {(path, method) for path, method, _ in operations(document)}
    assert {status for _, _, status in held.tried} >= {"404", "409", "422"}


def _done(http: Http, answer: dict[str, Any]) -> None:
    ended = http.job(answer)
    assert ended["state"] == "done", ended["error"]


def _of_vectors(http: Http, world: World) -> None:
    """A space of vectors: with labels that have no support images, an alias, and every rule."""
    http("POST", "/v1/spaces", json=SPACE, status=201)
    http("POST", "/v1/spaces", json=SPACE, status=409)
    http("GET", "/v1/spaces/s")
    queries = query_json(world.queries(20))
    truth = [name for name in world.names for _ in range(20)]
    few = query_json(world.queries(1))
    rules = {"rules": ["msp", "knn", "posterior"]}
    text_only = {
        "labels": [
            {"name": name, "text_vector": row}
            for name, row in zip(world.names, world.text.tolist(), strict=True)
        ]
    }
    http("POST", "/v1/spaces/s/labels", json=text_only)
    tree = {"parents": {name: "thing" for name in world.names[1:]}}
    http("PUT", "/v1/spaces/s/taxonomy", json=tree)
    http("GET", "/v1/spaces/s/taxonomy")
    http("POST", "/v1/spaces/s/score", json=few | {"rule": "msp", "back_off": 0.9})
    for kind in ("support", "prototype", "text"):
        http("POST", "/v1/spaces/s/search", json=few | {"kind": kind})
    for rule in trustvlm.RULES:  # of labels without support images: much of it is not defined
        http("POST", "/v1/spaces/s/score", json=few | {"rule": rule, "terms": True}, status=None)
    _done(
        http,
        http(
            "POST",
            "/v1/spaces/s/evaluate",
            json=few | {"truth": world.names, "items": True},
            status=202,
        ),
    )
    http(
        "POST",
        "/v1/spaces/s/labels",
        json={"labels": [as_json(one) for one in world.inputs(4)[:5]]},
    )
    more = {"image_vectors": world.supports(1, 3).tolist()}
    ids = http("POST", "/v1/spaces/s/labels/beach/supports", json=more)["ids"]
    also = {"name": "also beach", "text_vector": world.text[1].tolist()}
    http("POST", "/v1/spaces/s/labels", json={"labels": [also]})
    for path in (
        "labels",
        "labels?thumbnails=3&limit=2",
        "labels?order=id&limit=3",
        "labels/beach",
        "labels/beach/supports",
    ):
        http("GET", f"/v1/spaces/s/{path}")
    http("PUT", "/v1/spaces/s/labels/beach", json={"attributes": {"n": 1}})
    http("PUT", "/v1/spaces/s/labels/beach", json={"attributes": {}})
    http("POST", "/v1/spaces/s/labels/also%20beach/alias", json={"of": "beach"})
    http("DELETE", "/v1/spaces/s/labels/also%20beach/alias")
    listed = http("GET", "/v1/spaces/s/supports?label=beach&limit=1&vectors=true")
    assert listed["next_cursor"] == listed["supports"][0]["id"]
    for query in (f"ids={ids[0]}", 'filter={"n":{"exists":false}}', "cursor=3"):
        http("GET", f"/v1/spaces/s/supports?{query}")
    http("GET", "/v1/spaces/s/supports?ids=x", status=422)
    http("GET", f"/v1/spaces/s/supports/{ids[0]}?vectors=true")
    http("GET", "/v1/spaces/s/supports/999999", status=404)
    http("POST", "/v1/spaces/s/count-supports", json={"label": "beach"})
    http("GET", "/v1/spaces/s/labels/beach?vectors=true")
    http("GET", "/v1/spaces/s/labels?order=id&vectors=true")
    like = {"like_supports": ids[:1], "min_similarity": -1, "vectors": True}
    http("POST", "/v1/spaces/s/search", json=like)
    http("DELETE", f"/v1/spaces/s/supports/{ids[0]}")
    http("POST", f"/v1/spaces/s/supports/{ids[0]}/restore")
    http("POST", "/v1/spaces/s/remove-supports", json={"ids": ids})
    http("POST", "/v1/spaces/s/restore-supports", json={"ids": ids})
    http("PATCH", "/v1/spaces/s/labels/also%20beach", json={"new_name": "shore"})
    _described(http, ids)
    _clean(http, few | {"truth": world.names}, few, ids)
    http("DELETE", "/v1/spaces/s/labels/shore")
    http("POST", "/v1/spaces/s/labels/shore/restore")
    http("POST", "/v1/spaces/s/check-labels", json={"names": ["beach", "forest"]})
    http("GET", "/v1/spaces/s/projection?limit=20")
    http("DELETE", f"/v1/spaces/s/supports/{ids[1]}")
    http("POST", "/v1/spaces/s/verdict-log", json={"logging": True, "days": 7.5})
    for path in ("removed", "history", "changes", "verdict-log", "verdicts"):
        http("GET", f"/v1/spaces/s/{path}")
    http("DELETE", "/v1/spaces/s/removed")
    http("GET", "/v1/spaces/s/labels/none", status=404)
    http("POST", "/v1/spaces/s/score", json={}, status=422)
    for rule in trustvlm.RULES:
        scored = http(
            "POST", "/v1/spaces/s/score", json=few | {"rule": rule, "terms": True, "evidence": 2}
        )
    state = {"state": scored["evidence_state"], "revision": scored["revision"]}
    named = {
        f"{side}_ids": [row[f"{side}_id"] for row in scored["verdicts"]]
        for side in ("label", "rival")
    }
    http("POST", "/v1/spaces/s/evidence", json=few | state | named)
    _review(http, few)  # without a calibration every verdict is to be reviewed
    for verb in ("calibrate", "evaluate"):
        options = rules if verb == "evaluate" else {"rule": "msp", "max_risk": 0.3}
        drawn = {"draws": 1} if verb == "evaluate" else {}
        _done(
            http,
            http(
                "POST",
                f"/v1/spaces/s/{verb}",
                json=queries | {"truth": truth} | options | drawn,
                status=202,
            ),
        )
        _done(http, http("POST", f"/v1/spaces/s/observations/{verb}", json=options, status=202))
    http(
        "POST",
        "/v1/spaces/s/score",
        content=npz(**{name: np.array(rows) for name, rows in few.items()}),
        headers=NPZ,
    )
    told = http(
        "POST", "/v1/spaces/s/feedback", json=few | {"truth": world.names, "sampling": "random"}
    )
    stored = f"/v1/spaces/s/observations/{told['ids'][0]}"
    http("GET", stored)
    http("GET", "/v1/spaces/s/observations/pictured?limit=3")
    http("GET", f"{stored}/verdict?rule=posterior&evidence=2&terms=true")
    http("GET", f"{stored}/verdict?filter=region exists")
    http("GET", "/v1/spaces/s/observations/999999/verdict", status=404)
    http("GET", "/v1/spaces/s/observations")
    http("GET", "/v1/spaces/s/monitor")
    http("GET", "/v1/spaces/s/labels?order=errors&predictions=true&limit=2")
    http("GET", f"/v1/spaces/s/labels/{world.names[0]}/errors?limit=2")
    http("GET", "/v1/spaces/s/projection")
    for one in http("GET", "/v1/spaces/s/calibrations")["calibrations"]:
        http("DELETE", f"/v1/spaces/s/calibrations/{one['id']}")
    ended = http("GET", "/v1/jobs")["jobs"][0]["id"]
    http("GET", f"/v1/jobs/{ended}")
    http("POST", f"/v1/jobs/{ended}/cancel")


def _described(http: Http, ids: list[int]) -> None:
    """Attributes, and labels by filter."""
    described = {"attributes": {"region": "EU", "size": 3}}
    http("PATCH", "/v1/spaces/s/labels/airport", json=described)
    http("PATCH", f"/v1/spaces/s/supports/{ids[0]}", json=described)
    http("GET", "/v1/spaces/s/labels?order=id&filter=region = EU")
    http("POST", "/v1/spaces/s/count-labels", json={"filter": {"size": {"gte": 3}}})
    http("POST", "/v1/spaces/s/remove-labels", json={"filter": "moon exists"})


def _clean(
    http: Http, labelled: dict[str, Any], unlabelled: dict[str, Any], ids: list[int]
) -> None:
    """Audits and proposals of a space with support images."""
    http("GET", "/v1/spaces/s/audit?limit=3")
    _done(http, http("POST", "/v1/spaces/s/audit", json=labelled, status=202))
    claimed = {name: value for name, value in labelled.items() if name != "truth"}
    claimed["claimed"] = ["no label", *labelled["truth"][1:]]
    _done(http, http("POST", "/v1/spaces/s/audit", json=claimed, status=202))
    http("POST", "/v1/spaces/s/audit", json=labelled | {"claimed": labelled["truth"]}, status=422)
    http("POST", "/v1/spaces/s/keep-supports", json={"ids": ids[:1]})
    moved = {"ids": ids[:1], "label": "airport"}
    made = http("POST", "/v1/spaces/s/move-supports", json=moved)["ids"]
    http("POST", "/v1/spaces/s/remove-supports", json={"ids": made})
    http("POST", "/v1/spaces/s/restore-supports", json={"ids": ids[:1]})
    _done(http, http("POST", "/v1/spaces/s/propose", json=unlabelled, status=202))
    http("DELETE", "/v1/spaces/s/proposed-supports")


def _review(http: Http, queries: dict[str, Any]) -> None:
    """The queue, with and without items."""
    where = "/v1/spaces/s/review"
    http("GET", where)
    assert http("GET", f"{where}/next")["question"] is None
    http("POST", where, json={"collecting": True})
    http("POST", "/v1/spaces/s/score", json=queries | {"rule": "msp", "review": True})
    http("POST", f"{where}/logged", json={"sample": 2})
    http("GET", f"{where}/items?state=any&limit=2")
    item = http("GET", f"{where}/next")["question"]["item"]["id"]
    text = http("GET", f"{where}/export?format=label-studio&state=any")["content"]
    _done(http, http("POST", f"{where}/import", json={"content": text}, status=202))
    http("GET", f"{where}/items/{item}")
    http("GET", f"{where}/items/{item}/picture", status=404)
    for verb, body in (("skip", {}), ("undo", {}), ("answer", {"json": {"truth": None}})):
        http("POST", f"{where}/items/{item}/{verb}", **body)
    http("POST", f"{where}/items/{item}/skip", status=409)
    http("POST", where, json={"collecting": False, "discard": True})


def _of_images(http: Http) -> None:
    """A space of the demo's models, with files that cannot be read among the good ones."""
    space = {"name": "p", "classifier": classifier_spec(), "verifier": verifier_spec()}
    http("POST", "/v1/spaces", json=space, status=201)
    files = [("images", (f"{number}.png", picture(number))) for number in (1, 2)]
    broken = [*files, ("images", ("broken.png", b"no image"))]
    http("POST", "/v1/spaces/p/labels", data={"name": "one"}, files=broken)
    http("POST", "/v1/spaces/p/labels", json={"names": ["two", "twos"]})
    assert http("POST", "/v1/spaces/p/labels", data={"name": "two"}, files=files)["elsewhere"]
    for row in http("GET", "/v1/spaces/p/labels/two/supports")["supports"]:
        http("DELETE", f"/v1/spaces/p/supports/{row['id']}")
    assert http("POST", "/v1/spaces/p/labels", data={"name": "two"}, files=files)["taken_out"]
    whole = [{"name": "one", "contents": [hashlib.sha256(picture(1)).hexdigest()]}]
    http("POST", "/v1/spaces/p/sync", json={"labels": whole, "dry_run": True})
    http("POST", "/v1/spaces/p/score", files=broken)
    found = http("POST", "/v1/spaces/p/search", json={"text": ["x"], "kind": "text", "supports": 1})
    of_one = http("GET", "/v1/spaces/p/labels/one/supports")["supports"]
    assert [of_one[0]["id"]] in found["supports"]
    http("POST", "/v1/spaces/p/score", data={"review": "true"}, files=files)
    item = http("GET", "/v1/spaces/p/review/next")["question"]["item"]
    assert item["has_picture"]
    assert item["source"] in ("1.png", "2.png")  # the order may be drawn at random
    http.ask("GET", f"/v1/spaces/p/review/items/{item['id']}/picture")
    http("POST", "/v1/spaces/p/search", files=files)
    http("POST", "/v1/spaces/p/embed", files=broken)
    first = http("GET", "/v1/spaces/p/labels/one/supports")["supports"][0]["id"]
    http.ask("GET", f"/v1/spaces/p/supports/{first}/thumbnail")
    http.ask("GET", f"/v1/supports/{first}/thumbnail")
    seen = http(
        "POST",
        "/v1/spaces/p/feedback",
        data={"truth": "one"},
        files=[("images", ("3.png", picture(3)))],
    )["ids"][0]
    http.ask("GET", f"/v1/spaces/p/observations/{seen}/thumbnail")


@pytest.fixture(scope="module")
def models(http: Http, tmp_path_factory: pytest.TempPathFactory) -> ModuleType:
    """What datamodel-code-generator makes of the document."""
    from datamodel_code_generator import DataModelType, InputFileType, generate

    target = tmp_path_factory.mktemp("models") / "generated_models.py"
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # its own, of options that may change
        generate(
            http.ask("GET", "/openapi.json").text,
            input_file_type=InputFileType.OpenAPI,
            output=target,
            output_model_type=DataModelType.PydanticV2BaseModel,
            formatters=[],
        )
    spec = importlib.util.spec_from_file_location(target.stem, target)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


@pytest.mark.filterwarnings("ignore:Pydantic serializer warnings")
@pytest.mark.parametrize(
    "options", [{}, {"exclude_none": True}, {"exclude_unset": True}], ids=["all", "no nulls", "set"]
)
def test_generated_models_make_requests_that_are_accepted(
    tmp_path: Path, world: World, models: ModuleType, options: dict[str, bool]
) -> None:
    def sent(model: Any) -> dict[str, Any]:
        return {
            "content": model.model_dump_json(**options),
            "headers": {"content-type": "application/json"},
        }

    with served(tmp_path / "home") as http:
        dims = {"classifier": f"precomputed:{TEXT_DIM}", "verifier": f"precomputed:{IMAGE_DIM}"}
        made = http("POST", "/v1/spaces", **sent(models.SpaceBody(name="s", **dims)), status=201)
        assert models.SpaceRow.model_validate(made).classifier_dim == TEXT_DIM
        labels = [models.LabelBody(**as_json(one)) for one in world.inputs(2)]
        told = models.RegisterResult.model_validate(
            http("POST", "/v1/spaces/s/labels", **sent(models.RegisterBody(labels=labels)))
        )
        assert (told.added_labels, told.added_supports) == (6, 12)
        changed = http(
            "PATCH", "/v1/spaces/s/labels/beach", **sent(models.PatchBody(new_name="sea"))
        )
        assert models.Revision.model_validate(changed).revision == told.revision + 1
        vectors = world.queries(1)
        queries = query_json(vectors)
        for body in (
            models.ScoreBody(**queries),
            models.ScoreBody(**queries, rule="posterior", evidence=2, terms=True),
        ):
            answer = models.Scored.model_validate(http("POST", "/v1/spaces/s/score", **sent(body)))
            expected = http.service.score("s", vectors, rule=answer.rule)
            assert [row.label for row in answer.verdicts] == expected.label.tolist()
        found = http(
            "POST",
            "/v1/spaces/s/search",
            **sent(models.SearchBody(verifier=queries["verifier"], k=2)),
        )
        assert len(models.HitList.model_validate(found).hits) == 12
        models.LabelPage.model_validate(http("GET", "/v1/spaces/s/labels"))


def test_every_documented_route_is_a_route(document: dict[str, Any]) -> None:
    there = {
        (route.path, method.lower())
        for route in routes()
        for method in route.methods
        if route.include_in_schema
    }
    assert {(path, method) for path, method, _ in operations(document)} == there
