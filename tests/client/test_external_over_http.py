"""Probabilities of an external classifier over HTTP: the client, JSON and .npz say what the
library says."""

from __future__ import annotations

import base64
import io
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
from fastapi import FastAPI
from PIL import Image
from served_client import URL, application, client_of
from worlds import IMAGE_DIM, World, assert_same_verdicts

import trustvlm
from trustvlm import LabelInput, Queries
from trustvlm.client import Client
from trustvlm.demo.specs import verifier_spec
from trustvlm.testing import AsgiTransport

NAMES = [f"label {i}" for i in range(4)]


@pytest.fixture
def app(tmp_path: Path) -> Iterator[FastAPI]:
    with application(tmp_path / "home") as running:
        with client_of(running) as client:
            client.create_space("s", classifier="external:9", verifier=f"precomputed:{IMAGE_DIM}")
            inputs = World(NAMES, 2).inputs(2)
            client.register(
                "s", [LabelInput(i.name, image_vectors=i.image_vectors) for i in inputs]
            )
        yield running


@pytest.fixture
def client(app: FastAPI) -> Iterator[Client]:
    with client_of(app) as opened:
        yield opened


def labelled(count: int) -> tuple[np.ndarray, np.ndarray, list[str]]:
    """(verifier embeddings, probabilities, true labels) of `count` images of each label."""
    verifier = np.asarray(World(NAMES, 2).queries(count).verifier)
    truth = [name for name in NAMES for _ in range(count)]
    p = np.random.default_rng(0).dirichlet(np.ones(4), len(truth))
    p[np.arange(len(truth)), [NAMES.index(name) for name in truth]] += 1
    return verifier, p / p.sum(axis=1, keepdims=True), truth


def test_the_client_says_what_the_library_says(app: FastAPI, client: Client) -> None:
    library: trustvlm.TrustService = app.state.serving.service
    verifier, p, truth = labelled(20)
    forms: list[dict[str, Any]] = [
        {"probabilities": p, "outputs": NAMES},
        {"log_probabilities": np.log(p), "outputs": NAMES},
        {"probabilities": [dict(zip(NAMES[:3], row, strict=True)) for row in p[:, :3].tolist()]},
    ]
    for form in forms:
        queries = Queries(verifier=verifier, **form)
        assert_same_verdicts(client.score("s", queries), library.score("s", queries))
    queries = Queries(verifier=verifier, **forms[0])
    got = client.evaluate("s", queries, truth, rules=["msp", "posterior"], draws=0)
    expected = library.evaluate("s", queries, truth, rules=["msp", "posterior"], draws=0)
    assert got["posterior"].aurc.value == pytest.approx(expected["posterior"].aurc.value)
    made = client.calibrate("s", queries, truth, max_risk=0.2)
    again = client.recalibrate("s")
    assert again.threshold == pytest.approx(made.threshold)
    client.feedback(
        "s", Queries(verifier=verifier[:4], probabilities=p[:4], outputs=NAMES), truth[:4]
    )
    only = Queries(probabilities=[{"label 1": 0.8}])
    verdicts = client.score("s", only, rule="msp", review=None)
    assert verdicts.label.tolist() == ["label 1"]
    assert verdicts.evidence(0).label == ()


def test_json_and_npz(app: FastAPI) -> None:
    library: trustvlm.TrustService = app.state.serving.service
    verifier, p, _ = labelled(2)
    expected = library.score("s", Queries(verifier=verifier, probabilities=p, outputs=NAMES))
    with httpx.Client(transport=AsgiTransport(app), base_url=URL) as http:
        body: dict[str, Any] = {"verifier": verifier.tolist()}
        dense = body | {"probabilities": p.tolist(), "outputs": NAMES}
        rows = body | {"probabilities": [dict(zip(NAMES, row, strict=True)) for row in p.tolist()]}
        out = io.BytesIO()
        np.savez(out, verifier=verifier, probabilities=p, outputs=NAMES)
        npz = {"content": out.getvalue(), "headers": {"content-type": "application/x-npz"}}
        for sent in ({"json": dense}, {"json": rows}, npz):
            answer = http.post("/v1/spaces/s/score", **sent)
            assert answer.status_code == 200, answer.text
            got = [row["label"] for row in answer.json()["verdicts"]]
            assert got == expected.label.tolist()
            trust = [row["trust"] for row in answer.json()["verdicts"]]
            np.testing.assert_allclose(trust, expected.trust, atol=1e-6)
        half = {"probabilities": [[0.5, None, 0.5]], "outputs": ["label 1", "label 2", None]}
        refused = [
            ({"probabilities": [{"zebra": 1.0}]}, 404, "no label 'zebra'"),
            ({"probabilities": [[0.5]], "outputs": ["label 1"]}, 422, "got the sum 0.5"),
            ({"probabilities": [[0.5]]}, 422, "the label of each column"),
            ({"outputs": ["label 1"]}, 422, "come with probabilities"),
        ]
        for content, status, message in refused:
            answer = http.post("/v1/spaces/s/score", json=content)
            assert (answer.status_code, message in answer.text) == (status, True), answer.text
        answer = http.post("/v1/spaces/s/score", json=half | {"rule": "msp", "top_k": 4})
        got = dict(
            zip(
                *(answer.json()["verdicts"][0][n] for n in ("top_labels", "top_confidence")),
                strict=True,
            )
        )
        assert got == pytest.approx(
            {"label 1": 0.5, "label 0": 1 / 6, "label 2": 1 / 6, "label 3": 1 / 6}, abs=1e-5
        )


def picture(seed: int) -> bytes:
    pixels = np.random.default_rng(seed).integers(0, 255, (24, 24, 3), np.uint8)
    out = io.BytesIO()
    Image.fromarray(pixels).save(out, "png")
    return out.getvalue()


def test_probabilities_beside_image_files(app: FastAPI, client: Client) -> None:
    """Forms and JSON with images say what the library says of the same images and probabilities."""
    library: trustvlm.TrustService = app.state.serving.service
    library.create_space("p", classifier="external:9", verifier=verifier_spec())
    library.register("p", [LabelInput(name, images=[picture(i)]) for i, name in enumerate(NAMES)])
    images, rows = [picture(seed) for seed in (10, 11, 12)], [[0.1, 0.6], [0.7, None], [0.2, 0.3]]
    outputs, objects = ["label 1", "label 2", None], [{"label 1": 0.5}, {"label 3": 0.9}, {}]
    dense = np.array([[*row, 1 - np.nansum(np.array(row, float))] for row in rows], float)
    expected = [
        library.score("p", Queries(images=images, probabilities=dense, outputs=outputs)),
        library.score("p", Queries(images=images, probabilities=objects)),
    ]
    files = [("images", (f"{n}.png", image)) for n, image in enumerate(images)]
    filled = [[None if np.isnan(x) else x for x in row] for row in dense.tolist()]
    fields: list[dict[str, Any]] = [
        {"probabilities": json.dumps(filled), "outputs": ["label 1", "label 2", ""]},
        {"probabilities": json.dumps(objects)},
    ]
    encoded = [base64.b64encode(image).decode() for image in images]
    with httpx.Client(transport=AsgiTransport(app), base_url=URL) as http:

        def said(answer: httpx.Response) -> list[tuple[str, float]]:
            assert answer.status_code == 200, answer.text
            verdicts = answer.json()["verdicts"]
            return [(one["label"], pytest.approx(one["trust"], abs=1e-5)) for one in verdicts]

        for data, wanted in zip(fields, expected, strict=True):
            answer = http.post("/v1/spaces/p/score", data=data, files=files)
            got = said(answer)
            assert got == list(zip(wanted.label.tolist(), wanted.trust.tolist(), strict=True))
        body = {"images": encoded, "probabilities": objects}
        assert said(http.post("/v1/spaces/p/score", json=body)) == got
        broken = [*files[:1], ("images", ("x.png", b"no image")), *files[2:]]
        answer = http.post("/v1/spaces/p/score", data=fields[1], files=broken)
        assert [one["index"] for one in answer.json()["verdicts"]] == [0, 2]
        assert said(answer) == [(one[0], one[1].expected) for one in (got[0], got[2])]
        wrong = [
            (json.dumps(objects[:1]), "expected 3 rows, one for each image, got 1"),
            ("0.5", "probabilities: expected a list"),
            ('[{"label 1": 0.5, "label 1": 0.4}]', "given twice"),
            ("[[0.5], [0.5], [0.5]]", "the label of each column"),
        ]
        for text, message in wrong:
            data = {"probabilities": text}
            answer = http.post("/v1/spaces/p/score", data=data, files=files)
            assert (answer.status_code, message in answer.text) == (422, True), answer.text
        for verb in ("evaluate", "audit"):
            data = fields[1] | {"truth": NAMES[:3]}
            begun = http.post(f"/v1/spaces/p/{verb}", data=data, files=files)
            assert begun.status_code == 202, begun.text
            assert client.wait_job(begun.json()["id"]).state == "done"
    queries = Queries(images=images, log_probabilities=np.log(dense), outputs=outputs)
    given = client.feedback("p", queries, ["label 1", "label 2", None])
    assert given.added == 3
    again = library.feedback("p", queries, ["label 1", "label 2", None])
    assert (again.ids, again.right, again.updated) == (given.ids, given.right, 3)
