"""Claims over HTTP: the client and JSON say what the library says."""

from __future__ import annotations

import io
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import httpx
import numpy as np
import pytest
from fastapi import FastAPI
from served_client import URL, application, client_of
from worlds import World, make_space

import trustvlm
from trustvlm import Queries
from trustvlm.client import Client
from trustvlm.testing import AsgiTransport
from trustvlm.types.messages.advised import placed_answer
from trustvlm.types.messages.commands import at
from trustvlm.types.tables.verdict import CLAIM_COLUMNS

NAMES = ["label 1", None, "label 3", "", "aeroplane", "end\0"]
ODD = ["", "\0", "end\0", "end", "\ud83d", "\\ud83d", "\ufffd", "x" * 50_000]


@pytest.fixture
def app(tmp_path: Path) -> Iterator[FastAPI]:
    with application(tmp_path / "home") as running:
        world = World([f"label {i}" for i in range(6)], 2)
        service = running.state.serving.service
        make_space(service)
        service.register("s", world.inputs(2))
        running.state.queries = replace(world.queries(1), claimed=NAMES)
        yield running


@pytest.fixture
def client(app: FastAPI) -> Iterator[Client]:
    with client_of(app) as opened:
        yield opened


def test_the_client_says_what_the_library_says(app: FastAPI, client: Client) -> None:
    queries: Queries = app.state.queries
    library: trustvlm.TrustService = app.state.serving.service
    got, expected = client.score("s", queries), library.score("s", queries)
    for name in (*CLAIM_COLUMNS, "decision", "reason_code", "label", "trust"):
        one, two = getattr(got, name), getattr(expected, name)
        np.testing.assert_array_equal(one, two, err_msg=name)
        assert one.dtype == two.dtype, name
    assert [got.evidence(i) for i in range(6)] == [expected.evidence(i) for i in range(6)]
    assert got.claims_calibration_id is None
    assert client.score("s", replace(queries, claimed=None)).claimed is None


def test_two_different_claims_never_arrive_alike(app: FastAPI, client: Client) -> None:
    """A language model may answer anything: nothing, a NUL, half of a character."""
    row = app.state.queries
    count = len(ODD)
    queries = Queries(
        np.tile(row.classifier[:1], (count, 1)), np.tile(row.verifier[:1], (count, 1)), claimed=ODD
    )
    got = client.score("s", queries)
    assert got.claimed.tolist() == ODD
    expected = app.state.serving.service.score("s", queries)
    assert got.reason.tolist() == expected.reason.tolist()
    with pytest.raises(trustvlm.InvalidInput, match="NUL"):
        client.score("s", row, labels=["label 1\0", "label 2"])


def test_measuring_claims_through_the_client(app: FastAPI, client: Client) -> None:
    world = World([f"label {i}" for i in range(6)], 2)
    queries = world.queries(20)
    truth = [name for name in world.names for _ in range(20)]
    claimed = [truth[(i + 20 * (i % 3 == 0)) % len(truth)] for i in range(len(truth))]
    with_claims = replace(queries, claimed=claimed)
    report = client.evaluate("s", with_claims, truth, rules=["posterior"], draws=0)
    right = np.mean([one == two for one, two in zip(claimed, truth, strict=True)])
    assert report.claims
    assert report["posterior"].accuracy.value == pytest.approx(right)
    made = client.calibrate("s", with_claims, truth, max_risk=0.2)
    assert made.claims
    told = client.feedback("s", with_claims, truth, sampling="random")
    assert told.right == round(right * len(truth))
    watched = client.monitor("s", claims=True)
    assert watched.calibration_id == made.id
    theirs = app.state.serving.service.monitor("s", claims=True)
    with at(client.place):
        assert watched == placed_answer(theirs)


def test_json_and_forms_take_claims(app: FastAPI) -> None:
    queries: Queries = app.state.queries
    body = {"classifier": queries.classifier.tolist(), "verifier": queries.verifier.tolist()}
    with httpx.Client(transport=AsgiTransport(app), base_url=URL) as http:
        plain = http.post("/v1/spaces/s/score", json=body).json()
        assert "claimed" not in plain["verdicts"][0]
        assert "claims_calibration_id" not in plain
        answer = http.post("/v1/spaces/s/score", json=body | {"claimed": NAMES}).json()
        assert [row["claimed"] for row in answer["verdicts"]] == NAMES
        assert answer["verdicts"][4]["reason_code"] == "not_a_label"
        assert answer["claims_calibration_id"] is None
        short = http.post("/v1/spaces/s/score", json=body | {"claimed": NAMES[1:]})
        assert short.status_code == 422
        assert "expected 6 names, one for each query" in short.json()["error"]["message"]
        arrays = io.BytesIO()
        np.savez(arrays, **body, claimed=np.array([name or "" for name in NAMES[:5]] + ["x"]))
        headers = {"content-type": "application/x-npz"}
        packed = http.post("/v1/spaces/s/score", content=arrays.getvalue(), headers=headers).json()
        assert packed["verdicts"][:3] == answer["verdicts"][:3]
        refused = {
            "a number": (np.array([1, 2]), "claimed: expected strings, got an array of int64"),
            "no JSON": (np.array("label 1"), "claimed: expected strings, or one that is a JSON"),
            "an object": (np.array('{"a": 1}'), "claimed: expected a JSON list of strings"),
            "a number in it": (np.array("[1]"), "claimed.0: expected a text"),
        }
        for what, (claimed, said) in refused.items():
            wrong = io.BytesIO()
            np.savez(wrong, **body, claimed=claimed)
            told = http.post("/v1/spaces/s/score", content=wrong.getvalue(), headers=headers)
            assert told.status_code == 422, what
            assert said in told.json()["error"]["message"], what


def test_a_review_asks_about_the_spaces_own_label(app: FastAPI, client: Client) -> None:
    queries: Queries = app.state.queries
    client.score("s", queries, review=True)
    own = app.state.serving.service.score("s", replace(queries, claimed=None))
    waiting = client.review("s").items().items
    assert sorted(item.predicted for item in waiting) == sorted(own.label.tolist())
    assert {item.decision for item in waiting} == {"review"}
