"""The OpenAPI document is what the service does: schemathesis, with all its checks, finds nothing
that contradicts it.

No operation is left out. tests/http/schemathesis.toml says which checks are told what is no finding,
such as a 422 where JSON Schema cannot say what fits, and why.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import jsonschema_rs
import numpy as np
import pytest
from http_service import routes, served
from hypothesis import example, given
from hypothesis import strategies as st
from jsonschema_specifications import REGISTRY
from server_process import ready, server
from test_hostile_names import UNSEEN as CASES

import trustvlm
from trustvlm.encoders.specs.parse import parse_spec
from trustvlm.errors import InvalidInput
from trustvlm.http.wire.bodies import schema_of
from trustvlm.http.wire.label_bodies import LabelBody
from trustvlm.http.wire.schemas import SpaceBody
from trustvlm.http.wire.texts import up_to
from trustvlm.service.home.names import UNSEEN, check_name

TESTS = Path(__file__).parent
PATIENT = ["--request-timeout=60", "--max-response-time=60", "--suppress-health-check=too_slow"]
"""How fast a busy machine is, is no finding."""


def tried(folder: Path, *options: str, seconds: int) -> str:
    """What schemathesis prints over a service that it finds no fault with; the service has logged
    no fault either."""
    home = folder / "home"
    with trustvlm.open(home, create=True) as service:
        for space in "stuv":
            service.create_space(space, classifier="precomputed:2", verifier="precomputed:3")
            first = trustvlm.LabelInput(
                "first",
                text_vector=[1, 0],
                image_vectors=np.eye(3),
                attributes={"region": "EU", "size": 5, "taxon": {"order": "P"}},
                image_attributes=[{"season": "spring"}, {"size": 2}, None],
            )
            second = trustvlm.LabelInput(
                "second/half", text_vector=[0, 1], attributes={"region": ["EU", "US"], "size": 1.5}
            )
            others = [
                trustvlm.LabelInput(name, text_vector=[1, 1], image_vectors=np.eye(3)[:2])
                for name in ("third", "fourth")
            ]
            service.register(space, [first, second, *others])
            truth = ["first", "second/half"] * 20
            rng = np.random.default_rng(0)
            seen = trustvlm.Queries(
                np.eye(2)[[0, 1] * 20] + 0.1 * rng.normal(size=(40, 2)),
                np.eye(3)[[0, 1] * 20] + 0.1 * rng.normal(size=(40, 3)),
            )
            service.feedback(space, seen, truth)
            service.calibrate(space, seen, truth, rule="msp", max_risk=0.5)
    with server(home) as (_, address):
        ready(address)
        document = folder / "openapi.json"
        document.write_bytes(httpx.get(f"{address}/openapi.json", timeout=60).content)
        unsure = {"classifier": [[1, 1]], "verifier": [[1, 1, 1]], "review": True}
        for space in "stuv":  # an item in the review queue
            answer = httpx.post(f"{address}/v1/spaces/{space}/score", json=unsure, timeout=60)
            assert answer.status_code == 200, answer.text
        config = ["--config-file", str(TESTS / "schemathesis.toml")]
        command = [
            sys.executable,
            "-m",
            "schemathesis.cli",
            *config,
            "run",
            str(document),
            *("--url", address),
            *PATIENT,
        ]
        path = os.pathsep.join([str(TESTS), os.environ.get("PYTHONPATH", "")])
        environment = os.environ | {"SCHEMATHESIS_HOOKS": "schemathesis_hooks", "PYTHONPATH": path}
        done = subprocess.run(
            [*command, "--seed", "1", *options],
            cwd=folder,
            env=environment,
            capture_output=True,
            text=True,
            timeout=seconds,
            check=False,
        )
    assert done.returncode == 0, done.stdout[-8_000:] + done.stderr[-2_000:]
    assert '"level": "error"' not in home.with_suffix(".log").read_text()
    count = sum(len(route.methods) for route in routes() if route.include_in_schema)
    assert f"Operations:       {count} selected / {count} total" in done.stdout
    return done.stdout


@pytest.mark.slow  # .ci/run names it
def test_schemathesis_finds_nothing(tmp_path: Path) -> None:
    said = tried(
        tmp_path, "--phases", "examples,fuzzing,stateful", "--max-examples", "2", seconds=280
    )
    found = re.search(r"(\d+) generated, (\d+) passed", said)
    assert found, said[-2_000:]
    assert int(found[1]) == int(found[2]) > 100


@pytest.mark.slow
@pytest.mark.timeout(1_800)
def test_schemathesis_finds_nothing_in_long(tmp_path: Path) -> None:
    """All phases, 100 examples an operation."""
    said = tried(tmp_path, "--max-examples", "100", seconds=1_700)
    assert all(
        f"✅ {phase}" in said for phase in ("Examples", "Coverage", "Fuzzing", "Stateful")
    ), said[-2_000:]


BESIDE = {"discriminator", "example", "externalDocs", "xml"}
"""Words of OpenAPI 3.1, beside those of JSON Schema."""


def test_the_document_says_nothing_that_means_nothing(tmp_path: Path) -> None:
    """Each word of its schemas is one of JSON Schema 2020-12 or of OpenAPI 3.1: any other ("ge" for
    "minimum") is passed over by all who read it."""
    core = "https://json-schema.org/draft/2020-12/"
    words = set(BESIDE)
    for part in REGISTRY.contents(f"{core}schema")["allOf"]:
        words |= set(REGISTRY.contents(core + part["$ref"])["properties"])
    with served(tmp_path / "home") as http:
        document = http("GET", "/openapi.json")
    assert {(where, word) for where, one in schemas(document) for word in set(one) - words} == set()


def schemas(document: dict[str, Any]) -> Iterator[tuple[str, dict[str, Any]]]:
    """Each schema of a document, those inside others too, and where it stands."""
    waiting = [*document["components"]["schemas"].items()]
    for path, methods in document["paths"].items():
        for entry in methods.values():
            waiting += [(path, one["schema"]) for one in entry.get("parameters", ())]
            bodies = entry.get("requestBody", {}).get("content", {})
            waiting += [(path, content["schema"]) for content in bodies.values()]
    while waiting:
        where, one = waiting.pop()
        if not isinstance(one, dict):  # true or false
            continue
        yield where, one
        for word in ("properties", "patternProperties", "$defs"):
            waiting += [(f"{where}.{name}", each) for name, each in one.get(word, {}).items()]
        for word in ("anyOf", "oneOf", "allOf", "prefixItems"):
            waiting += [(f"{where}.{word}", each) for each in one.get(word, ())]
        for word in ("items", "additionalProperties", "not", "propertyNames"):
            waiting += [(f"{where}.{word}", one[word])] if word in one else []


LABEL = jsonschema_rs.validator_for(schema_of(LabelBody))
SPACE = jsonschema_rs.validator_for(schema_of(SpaceBody))


def is_name(text: str) -> bool:
    try:
        check_name(text, "name")
    except InvalidInput:
        return False
    return True


PARTS = st.sampled_from(
    [*"ab é日م\u200c\u200d\u00a0\u3000\n\t\x1c\x85/.", *UNSEEN.replace("-", "")]
) | st.characters(exclude_categories=["Cs"])


@given(st.text(PARTS, max_size=6))
@example("م\u200cم")
@example("x" * 500)
def test_the_document_takes_the_names_that_the_service_takes(name: str) -> None:
    assert LABEL.is_valid({"name": name}) == is_name(name)
    assert SPACE.is_valid({"name": name, "classifier": "precomputed:2"}) == (
        is_name(name) and "/" not in name
    )


def test_the_document_refuses_every_name_that_is_not_what_it_seems() -> None:
    for name in CASES.values():
        if name.isascii() or name.encode(errors="ignore").decode() == name:  # JSON that can be sent
            assert not LABEL.is_valid({"name": name}), name


@pytest.mark.parametrize("most", [1, 9, 10, 99, 100, 255, 1_024, 6_553])
def test_numbers_up_to(most: int) -> None:
    pattern = re.compile(up_to(most))
    assert [n for n in range(12 * most) if pattern.fullmatch(str(n))] == list(range(1, most + 1))


@pytest.mark.parametrize(
    "spec",
    [
        "precomputed:1", "precomputed:512:a-tag", "precomputed:65536", "open_clip:ViT-B-16/openai",
        "open_clip:local-dir:/models/one", "open_clip:hf-hub:org/name",
        "precomputed:0", "precomputed:65537", "precomputed:", "precomputed:2:", "precomputed:x",
        "precomputed:2:a b", "clip", "ViT-B/32", "ViT-B-32", "ViT-B-32/openai", "ViT-B-16-SigLIP",
        "openai/clip-vit-base-patch32", "facebook/dinov2-small", "dinov2_vits14", "org/name",
        "laion2b_s34b_b79k", "laion2b_s34b_b88k", "transformers:a/b", "transformers:/models/one",
        "transformers:./one?pooling=mean-tokens", "transformers:one", "transformers:",
        "open_clip:ViT-B-16", "open_clip:hf-hub:name", "open_clip:local-dir:", "same2", "",
    ],
)  # fmt: skip
def test_the_document_takes_the_encoders_that_the_service_takes(spec: str) -> None:
    try:
        parse_spec(spec)
        good = True
    except InvalidInput:
        good = False
    assert SPACE.is_valid({"name": "s", "classifier": spec}) == good
    assert SPACE.is_valid({"name": "s", "classifier": "precomputed:2", "verifier": spec}) == good
