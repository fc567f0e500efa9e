"""A load that wrk makes: filtered scores and searches, while labels outside the filter come and
go."""

from __future__ import annotations

import json
import shutil
import subprocess
import threading
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
from server_process import ready, server

import trustvlm

LABELS, DIM, SECONDS = 2_000, 32, 4
REGIONS = ("EU", "US", "AS", "AF")

SCRIPT = """
local bodies, paths, threads, number = BODIES, PATHS, {}, 0
function setup(thread) table.insert(threads, thread) end
function init() good, bad = 0, 0 end
function request()
  number = number % #bodies + 1
  return wrk.format("POST", paths[number], {["content-type"] = "application/json"}, bodies[number])
end
function response(status, headers, body)
  if status == 200 then good = good + 1 else bad = bad + 1; print(status, body) end
end
function done(summary)
  local errors = summary.errors
  local good, bad = 0, 0
  for _, thread in ipairs(threads) do
    good = good + thread:get("good")
    bad = bad + thread:get("bad")
  end
  local lost = errors.connect + errors.read + errors.write + errors.timeout
  print(string.format('{"good": %d, "bad": %d, "lost": %d}', good, bad, lost))
end
"""


def prepare(home: Path) -> np.ndarray[Any, Any]:
    """A space of 2,000 labels in four regions, two of three with a support image; queries."""
    rng = np.random.default_rng(0)
    texts = rng.normal(size=(LABELS, DIM))
    images = texts + 0.3 * rng.normal(size=texts.shape)
    with trustvlm.open(home, create=True) as service:
        service.create_space("s", classifier=f"precomputed:{DIM}", logit_scale=10.0)
        service.register(
            "s",
            [
                trustvlm.LabelInput(
                    f"label {number:04d}",
                    text_vector=texts[number],
                    image_vectors=images[number : number + 1] if number % 3 else None,
                    attributes={"region": REGIONS[number % 4], "size": number % 90},
                )
                for number in range(LABELS)
            ],
        )
    return texts[:40:5] + 0.5 * rng.normal(size=(8, DIM))


def asked(queries: np.ndarray[Any, Any]) -> list[tuple[str, dict[str, Any]]]:
    """(path, body) of filtered scores and searches."""
    wide: dict[str, Any] = {"region": "EU"}
    narrow = {"and": [{"region": {"in": ["EU", "AS"]}}, {"size": {"gte": 10, "lt": 40}}]}
    requests: list[tuple[str, dict[str, Any]]] = []
    for number, query in enumerate(queries.tolist()):
        chosen = (wide, narrow)[number % 2]
        score = {"classifier": [query], "rule": ("msp", "trustvlm")[number % 2]}
        requests.append(("/v1/spaces/s/score", score | {"labels": chosen}))
        search = {"classifier": [query], "kind": ("text", "support")[number // 2 % 2], "k": 7}
        if search["kind"] == "support":
            search["verifier"] = search.pop("classifier")
        requests.append(("/v1/spaces/s/search", search | {"filter": chosen}))
    return requests


def answered(client: httpx.Client, requests: list[tuple[str, dict[str, Any]]]) -> list[Any]:
    """The verdicts and hits."""
    answers = []
    for path, body in requests:
        answer = client.post(path, json=body).raise_for_status().json()
        answers.append(answer["hits"] if path.endswith("search") else answer["verdicts"])
        assert answers[-1]
    return answers


def require_equal(answer: Any, expected: Any) -> None:
    """Equal but for the revision, numbers as docs/rules.md says, "Equality"."""
    if isinstance(expected, float):
        assert answer == pytest.approx(expected, abs=1e-4)
    elif isinstance(expected, dict):
        assert set(answer) == set(expected)
        for name in set(expected) - {"revision"}:
            require_equal(answer[name], expected[name])
    elif isinstance(expected, list):
        assert len(answer) == len(expected)
        for one, other in zip(answer, expected, strict=True):
            require_equal(one, other)
    else:
        assert answer == expected


def come_and_go(client: httpx.Client, over: threading.Event, revisions: list[int]) -> None:
    """Register and remove labels of another region until it is over."""
    rng = np.random.default_rng(1)
    while not over.wait(0.05):
        name = f"other {len(revisions)}"
        label = {
            "name": name,
            "text_vector": rng.normal(size=DIM).tolist(),
            "image_vectors": rng.normal(size=(1, DIM)).tolist(),
            "attributes": {"region": "US", "size": 20},
        }
        made = client.post("/v1/spaces/s/labels", json={"labels": [label]}).raise_for_status()
        revisions.append(made.json()["revision"])
        if len(revisions) % 2:
            client.delete(f"/v1/spaces/s/labels/{name}").raise_for_status()


def lua(texts: list[str]) -> str:
    """A table of texts, as a program in Lua writes it."""
    return "{" + ", ".join(f"[==[{text}]==]" for text in texts) + "}"


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("wrk") is None, reason="wrk is not installed (apt install wrk)")
@pytest.mark.parametrize("workers", [1, 2])
def test_filtered_answers_under_load(tmp_path: Path, workers: int) -> None:
    requests = asked(prepare(tmp_path / "home"))
    script = tmp_path / "load.lua"
    bodies, paths = lua([json.dumps(body) for _, body in requests]), lua([at for at, _ in requests])
    script.write_text(SCRIPT.replace("BODIES", bodies).replace("PATHS", paths))
    over, revisions = threading.Event(), list[int]()
    with (
        server(tmp_path / "home", "--workers", str(workers)) as (_, address),
        httpx.Client(base_url=address, timeout=120) as client,
        httpx.Client(base_url=address, timeout=120) as writer,
    ):
        ready(address)
        before = answered(client, requests)
        change = threading.Thread(target=come_and_go, args=(writer, over, revisions))
        change.start()
        try:
            done = subprocess.run(
                [
                    "wrk", "--threads", "2", "--connections", "16", "--timeout", "60s",
                    "--duration", f"{SECONDS}s", "--script", str(script), address,
                ],
                capture_output=True, text=True, timeout=200, check=True,
            )  # fmt: skip
        finally:
            over.set()
            change.join()
        after = answered(client, requests)
    said = json.loads(done.stdout.strip().splitlines()[-1])
    assert said["bad"] == said["lost"] == 0, done.stdout
    assert said["good"] >= len(requests) / 2  # a busy machine answers few
    assert revisions  # there were changes
    assert len(before) == len(after) == len(requests)
    for one, other in zip(before, after, strict=True):
        require_equal(other, one)
