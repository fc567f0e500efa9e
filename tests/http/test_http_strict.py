"""A request that holds what its route does not take is refused by name: query parameters, fields,
arrays, bodies, numbers."""

from __future__ import annotations

import io
import json
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from http_service import Http, routes, served
from test_http_routes import NPZ, SPACE, as_json, npz, picture, query_json
from worlds import World

NAMES = ["airport", "beach", "bridge", "desert", "forest", "harbour"]
JSON = {"content-type": "application/json"}


@pytest.fixture(scope="module")
def space(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Http]:
    """The space "s": six labels with four support images each."""
    with served(tmp_path_factory.mktemp("strict") / "home") as http:
        http("POST", "/v1/spaces", json=SPACE, status=201)
        http(
            "POST",
            "/v1/spaces/s/labels",
            json={"labels": [as_json(one) for one in World(NAMES).inputs(4)]},
        )
        yield http


@pytest.fixture(scope="module")
def queries() -> dict[str, Any]:
    return query_json(World(NAMES).queries(1))


def refused(space: Http, method: str, path: str, **options: Any) -> str:
    error = space(method, path, status=422, **options)["error"]
    assert error["kind"] == "InvalidInput"
    return str(error["message"])


OPERATIONS = [
    (method, route.path)
    for route in routes()
    if route.path.startswith("/v1/")
    for method in route.methods
]


@pytest.mark.parametrize(("method", "path"), OPERATIONS)
def test_no_route_takes_a_parameter_that_it_does_not_know(
    space: Http, method: str, path: str
) -> None:
    numbers = {"support": 1, "calibration": 1, "observation": 1, "item": 1}
    where = path.format(space="s", label="beach", job="x", **numbers)
    for name in ("zz", "Limit", "rul", ""):
        said = refused(
            space,
            method,
            where,
            params={name: "1"},
            json={} if method in ("POST", "PATCH") else None,
        )
        assert said.startswith(f"{name}: not a query parameter of {method} {path}")
        assert "; expected " in said


def test_no_more_than_one_value_and_no_empty_one(space: Http) -> None:
    label, before = "/v1/spaces/s/labels/beach", space("GET", "/v1/spaces/s")["revision"]
    for query in (
        "purge=true&purge=false",
        "purge=false&purge=false",
        "purge=",
        "purge",
        "purg=true",
        "Purge=true",
        "purge=maybe",
    ):
        assert (
            refused(space, "DELETE", f"{label}?{query}").partition(":")[0].removeprefix("query.")
            in query
        )
    assert "did you mean 'purge'" in refused(space, "DELETE", f"{label}?purg=true")
    assert "expected one value in the query, got 2" in refused(
        space, "DELETE", f"{label}?purge=true&purge=true"
    )
    for query in (
        "limit=",
        "limit=5&limit=6",
        "q=",
        "cursor=",
        "order=",
        "match=",
        "unverified=",
        "thumbnails=",
    ):
        refused(space, "GET", f"/v1/spaces/s/labels?{query}")
    for query in ("request_id=", "label=", "request_id=x&label="):
        said = refused(space, "GET", f"/v1/spaces/s/verdicts?{query}")
        assert "expected a value in the query, got an empty one" in said
    refused(space, "GET", "/v1/spaces/s/supports?label=")
    assert space("GET", "/v1/spaces/s")["revision"] == before


def test_options_beside_a_body_that_holds_them(space: Http, queries: dict[str, Any]) -> None:
    said = refused(space, "POST", "/v1/spaces/s/score?rule=msp", json=queries)
    assert (
        said == "rule: not a query parameter beside a body of application/json; give it in the body"
    )
    vectors = {name: np.array(rows) for name, rows in queries.items()}
    names = ["beach"] * len(vectors["classifier"])
    assert (
        space("POST", "/v1/spaces/s/score?rule=msp", content=npz(**vectors), headers=NPZ)["rule"]
        == "msp"
    )
    for query, name in (("rul=msp", "rule"), ("rule=msp&rule=msp", "rule"), ("param={}", "params")):
        assert name in refused(
            space, "POST", f"/v1/spaces/s/score?{query}", content=npz(**vectors), headers=NPZ
        )
    truth = npz(**vectors, truth=np.array(names))
    said = refused(space, "POST", "/v1/spaces/s/feedback?truth=forest", content=truth, headers=NPZ)
    assert said == "truth: given twice, as an array and in the query"


def test_arrays_that_a_route_does_not_take(space: Http, queries: dict[str, Any]) -> None:
    vectors = {name: np.array(rows) for name, rows in queries.items()}
    for wrong in ("image_vectors", "text_vector", "truth", "verifer"):
        said = refused(
            space,
            "POST",
            "/v1/spaces/s/score",
            content=npz(**vectors, **{wrong: np.array(["x"])}),
            headers=NPZ,
        )
        assert said.startswith(f"{wrong}: not an array of this body")
    assert "did you mean 'verifier'" in said


def test_arrays_that_come_twice(space: Http, queries: dict[str, Any]) -> None:
    content = io.BytesIO(npz(**{name: np.array(rows) for name, rows in queries.items()}))
    with zipfile.ZipFile(content, "a") as archive, pytest.warns(UserWarning, match="Duplicate"):
        archive.writestr("verifier.npy", archive.read("verifier.npy"))
    said = refused(space, "POST", "/v1/spaces/s/score", content=content.getvalue(), headers=NPZ)
    assert said == "body: two arrays are named verifier"


def test_fields_that_a_body_does_not_have(space: Http, queries: dict[str, Any]) -> None:
    said = refused(space, "POST", "/v1/spaces/s/score", json=queries | {"rul": "msp"})
    assert said.startswith(
        "rul: not a field of this request (did you mean 'rule'?); expected classifier, "
        "verifier, probabilities"
    )
    said = refused(space, "POST", "/v1/spaces/s/score", json=queries | {"rule": "postrior"})
    assert said.endswith("got 'postrior'; did you mean 'posterior'?")
    said = refused(
        space,
        "POST",
        "/v1/spaces/s/labels",
        json={"labels": [{"name": "x"}, {"name": "y", "promt": "z"}]},
    )
    assert said.startswith("labels.1.promt: not a field of this object (did you mean 'prompt'?)")


def test_fields_that_come_twice(space: Http, queries: dict[str, Any]) -> None:
    """One of the two would be dropped."""
    body = json.dumps(queries)[:-1]
    for more in (', "rule": "msp", "rule": "knn"}', ', "params": {}, "top_k": 1, "top_k": 1}'):
        said = refused(space, "POST", "/v1/spaces/s/score", content=body + more, headers=JSON)
        assert said.endswith("given twice in one JSON object")
    twice = '{"name": "x", "name": "y"}'
    said = refused(
        space, "POST", "/v1/spaces/s/labels", content=f'{{"labels": [{twice}]}}', headers=JSON
    )
    assert said.startswith("labels.0.name: given twice")
    form = {
        "files": [("images", ("a.png", picture(1)))],
        "data": {"params": '{"lambda": 1, "lambda": 2}'},
    }
    said = refused(space, "POST", "/v1/spaces/s/score", **form)
    assert said.startswith("params.lambda: given twice")
    form["data"] = {"labels": f"[{twice}]"}
    assert refused(space, "POST", "/v1/spaces/s/labels", **form).startswith(
        "labels.0.name: given twice"
    )


def test_form_fields(space: Http) -> None:
    path, files = "/v1/spaces/s/score", [("images", ("a.png", picture(1)))]
    assert "did you mean 'rule'" in refused(space, "POST", path, files=files, data={"rul": "msp"})
    assert (
        refused(space, "POST", path, files=files, data={"rule": ["msp", "msp"]})
        == "rule: expected one value, got several"
    )
    assert "one value" in refused(
        space, "POST", f"{path}?rule=msp", files=files, data={"rule": "msp"}
    )
    assert refused(space, "POST", path, files=files, data={"classifier": "[[1]]"}).startswith(
        "classifier: not a field of this request"
    )
    assert "expected image files, each with a filename" in refused(
        space, "POST", path, files=[("images", (None, "x"))]
    )
    assert "'images'" in refused(space, "POST", path, files=[*files, ("image", ("b.png", b""))])
    for field, value in (
        ("rule", ""),
        ("top_k", ""),
        ("top_k", "5.5"),
        ("params", ""),
        ("params", '{"lambda": "1"}'),
    ):
        assert refused(space, "POST", path, files=files, data={field: value}).startswith(field)
    said = refused(
        space, "POST", "/v1/spaces/s/search", files=files, data={"text": "a beach", "kind": "text"}
    )
    assert said == "text: expected images or text to search with, got both"


def test_a_body_where_none_is_taken(space: Http) -> None:
    before = space("GET", "/v1/spaces/s")["revision"]
    said = refused(space, "DELETE", "/v1/spaces/s/labels/beach", json={"purge": True})
    assert (
        said == "body: DELETE /v1/spaces/{space}/labels/{label} takes no body; its options go into "
        "the query: purge"
    )
    assert refused(space, "POST", "/v1/jobs/x/cancel", content=b"now").endswith("takes no body")
    assert space("GET", "/v1/spaces/s")["revision"] == before
    space("POST", "/v1/jobs/x/cancel", json={}, status=404)  # many clients send an empty object


WHOLE: list[tuple[str, dict[str, Any], str]] = [
    ("score", {}, "top_k"),
    ("score", {}, "evidence"),
    ("search", {}, "k"),
    ("evaluate", {"truth": [None] * 6, "rules": ["msp"]}, "draws"),
]


@pytest.mark.parametrize(("verb", "more", "field"), WHOLE)
def test_a_number_without_a_fraction_is_an_integer(
    space: Http, queries: dict[str, Any], verb: str, more: dict[str, Any], field: str
) -> None:
    path, body = f"/v1/spaces/s/{verb}", json.dumps(queries | more)[:-1]
    for text in ("3", "3.0", "3e0", "0.3e1"):
        space(
            "POST",
            path,
            content=f'{body}, "{field}": {text}}}',
            headers=JSON,
            status=202 if verb == "evaluate" else 200,
        )
    for text in ("3.5", '"3"', "true", "NaN", "Infinity", "1e400", "[3]", "{}", "1e300"):
        said = refused(space, "POST", path, content=f'{body}, "{field}": {text}}}', headers=JSON)
        assert said.startswith(f"{field}: expected ")
    assert refused(space, "POST", path, content=f'{body}, "{field}": 3.5}}', headers=JSON).endswith(
        "got 3.5"
    )


def test_ids_without_a_fraction(space: Http, queries: dict[str, Any]) -> None:
    rows = space("GET", "/v1/spaces/s/labels/forest/supports")["supports"]
    first = rows[0]["id"]
    path = "/v1/spaces/s/remove-supports"
    for text in (
        f"{first}.5",
        f'"{first}"',
        "true",
        "NaN",
        "9007199254740994.0",
        "0.0",
        "-1.0",
        "null",
    ):
        refused(space, "POST", path, content=f'{{"ids": [{text}]}}', headers=JSON)
    assert space("GET", "/v1/spaces/s/labels/forest/supports")["supports"] == rows
    space("POST", path, content=f'{{"ids": [{first}.0]}}', headers=JSON)
    assert first not in [
        row["id"] for row in space("GET", "/v1/spaces/s/labels/forest/supports")["supports"]
    ]
    space("POST", f"/v1/spaces/s/supports/{first}.0/restore")
    refused(space, "POST", f"/v1/spaces/s/supports/{first}.5/restore")
    scored = space("POST", "/v1/spaces/s/score", json=queries)
    count = len(scored["verdicts"])
    state, revision = scored["evidence_state"], scored["revision"]
    body = queries | {
        "label_ids": [1.0] * count,
        "rival_ids": [-1.0] * count,
        "revision": float(revision),
        "k": 1.0,
    }
    given = state | {"space": float(state["space"])}
    assert (
        len(space("POST", "/v1/spaces/s/evidence", json=body | {"state": given})["evidence"])
        == count
    )
    for wrong in (0.5 + state["space"], str(state["space"]), True, None):
        assert "evidence_state" in refused(
            space, "POST", "/v1/spaces/s/evidence", json=body | {"state": given | {"space": wrong}}
        )


def test_lists_that_cannot_be_served(space: Http) -> None:
    path = "/v1/spaces/s/labels"
    for query, name in (
        ("q=a", "q"),
        ("unverified=true", "unverified"),
        ("thumbnails=2", "thumbnails"),
    ):
        assert f"order: id cannot be combined with {name}" in refused(
            space, "GET", f"{path}?order=id&{query}"
        )
    assert "combined with q, unverified" in refused(
        space, "GET", f"{path}?order=id&q=a&unverified=true"
    )
    assert refused(space, "GET", f"{path}?match=prefix").startswith("match: ")
    by_name = space("GET", f"{path}?limit=2")["next_cursor"]
    by_id = space("GET", f"{path}?limit=2&order=id")["next_cursor"]
    assert (
        len(
            space("GET", f"{path}?limit=2&order=id", params={"cursor": by_id, "order": "id"})[
                "labels"
            ]
        )
        == 4
    )
    assert "order=id" in refused(space, "GET", path, params={"order": "id", "cursor": by_name})
    assert "order=name" in refused(space, "GET", path, params={"cursor": by_id})


def test_probes_and_files_may_carry_any_parameter(space: Http, tmp_path: Path) -> None:
    for path in ("/healthz", "/readyz", "/metrics", "/openapi.json", "/", "/static/app.js"):
        space.ask("GET", f"{path}?probe=1&probe=2")
