"""Malformed uploads: whatever comes, the answer is a 4xx in the one shape, and the service goes on
as before."""

from __future__ import annotations

import io
import logging
import time
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pytest
from http_service import Http, check, served
from test_http_routes import picture

import trustvlm
from trustvlm.demo.specs import classifier_spec

log = logging.getLogger(__name__)

FEW, MANY = 300, 5_000
MULTIPART = "multipart/form-data; boundary=b"


@pytest.fixture(scope="module")
def http(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Http]:
    """A space with a model, one of vectors, and the pixel limit of 'trustvlm serve'."""
    with served(
        tmp_path_factory.mktemp("uploads") / "home", encoders=(classifier_spec(),)
    ) as running:
        running(
            "POST", "/v1/spaces", json={"name": "p", "classifier": classifier_spec()}, status=201
        )
        running("POST", "/v1/spaces/p/labels", json={"names": ["one", "two"]})
        running("POST", "/v1/spaces", json={"name": "v", "classifier": "precomputed:4"}, status=201)
        running.service.register("v", [trustvlm.LabelInput("a", text_vector=[1, 0, 0, 0])])
        yield running


def part(name: str, data: bytes, filename: str | None = "x.png") -> bytes:
    named = "" if filename is None else f'; filename="{filename}"'
    head = f'--b\r\nContent-Disposition: form-data; name="{name}"{named}\r\n\r\n'.encode(
        errors="surrogateescape"
    )
    return head + data + b"\r\n"


def malformed(rng: np.random.Generator, good: bytes) -> tuple[str, str, bytes, str]:
    """(method, path, body, content type) of a request that nobody could answer."""
    junk = rng.bytes(int(rng.integers(0, 400)))
    cut = good[: int(rng.integers(0, len(good) // 2))]
    flipped = bytearray(good)
    for place in rng.integers(0, 60, 20):
        flipped[place] = int(rng.integers(0, 256))
    out = io.BytesIO()
    np.savez(out, classifier=np.ones((1, 4), np.float32))
    archive = bytearray(out.getvalue())
    for place in rng.integers(0, len(archive), 30):
        archive[place] ^= int(rng.integers(1, 256))
    bodies: list[tuple[bytes, str]] = [
        (part("images", junk) + b"--b--\r\n", MULTIPART),
        (part("images", cut) + b"--b--\r\n", MULTIPART),
        (part("images", bytes(flipped)[:200]) + b"--b--\r\n", MULTIPART),
        (part("pictures", good) + b"--b--\r\n", MULTIPART),
        (part("images", good)[:-30], MULTIPART),
        (b"--b\r\n" + junk, MULTIPART),
        (junk, MULTIPART),
        (part("images", good), "multipart/form-data"),
        (part("rule", junk, None) + part("images", good) + b"--b--\r\n", MULTIPART),
        (bytes(archive)[: int(rng.integers(1, 120))], "application/x-npz"),
        (junk, "application/x-npz"),
        (junk, "application/json"),
        (b'{"classifier": [[' + junk, "application/json"),
        (b'{"classifier": [[1, 2, 3, "' + junk.hex().encode() + b'"]]}', "application/json"),
        (junk, "image/png"),
        (junk, ""),
    ]
    body, kind = bodies[int(rng.integers(0, len(bodies)))]
    paths = (
        "score",
        "search",
        "labels",
        "labels/one/supports",
        "feedback",
        "evaluate",
        "calibrate",
    )
    return (
        "POST",
        f"/v1/spaces/{'pv'[int(rng.integers(0, 2))]}/{paths[int(rng.integers(0, len(paths)))]}",
        body,
        kind,
    )


def hurl(http: Http, count: int, seed: int) -> None:
    rng, good = np.random.default_rng(seed), picture(1)
    for number in range(count):
        method, path, body, kind = malformed(rng, good)
        headers = {"content-type": kind} if kind else {}
        answer = http.ask(method, path, status=None, content=body, headers=headers)
        assert 400 <= answer.status_code < 500, (
            f"request {number} of seed {seed}: {method} {path}: {answer.status_code}"
        )


def test_some_malformed_uploads(http: Http) -> None:
    before = [row.label_count for row in http.service.list_spaces()]
    hurl(http, FEW, 0)
    assert [row.label_count for row in http.service.list_spaces()] == before
    assert http("POST", "/v1/spaces/p/score", files=[("images", picture(1))], data={"rule": "msp"})[
        "verdicts"
    ]


@pytest.mark.slow
def test_many_malformed_uploads_leave_nothing_behind(http: Http) -> None:
    process = psutil.Process()
    hurl(http, 1_000, 1)
    before = process.memory_full_info().uss, process.num_fds(), process.num_threads()
    hurl(http, MANY, 2)
    after = process.memory_full_info().uss, process.num_fds(), process.num_threads()
    sizes = before[0], after[0], before[1:], after[1:]
    log.warning(
        "%d malformed uploads: memory %d bytes before, %d after; files, threads %s, %s",
        MANY,
        *sizes,
    )
    assert after[0] < before[0] + 20 * 2**20
    assert after[1] <= before[1] + 5
    assert after[2] <= before[2] + 5


def bomb(width: int, height: int) -> bytes:
    """A PNG of so many black pixels, in some kilobytes."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return (
            len(data).to_bytes(4, "big") + kind + data + zlib.crc32(kind + data).to_bytes(4, "big")
        )

    header = width.to_bytes(4, "big") + height.to_bytes(4, "big") + b"\x08\x02\x00\x00\x00"
    rows = zlib.compressobj(9)
    row = bytes(1 + 3 * width)
    packed = b"".join(rows.compress(row) for _ in range(height)) + rows.flush()
    return (
        b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", packed) + chunk(b"IEND", b"")
    )


def test_an_image_bomb_is_refused_from_its_header(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from trustvlm.http import run

    home = tmp_path / "home"
    trustvlm.open(home, create=True).close()
    monkeypatch.setenv(
        run.TASK,
        run._TASK.dump_json(run._Task(home, None, None, None, run.ServeOptions())).decode(),
    )
    opened = run.application().state.serving.service
    try:
        opened.create_space("p", classifier=classifier_spec())
        large = bomb(9_000, 9_000)
        assert len(large) < 2**20
        begin = time.perf_counter()
        with pytest.raises(
            trustvlm.InvalidInput, match="81000000 pixels, more than the limit of 24000000"
        ):
            opened.score("p", trustvlm.Queries(images=[large]))
        assert time.perf_counter() - begin < 10
    finally:
        opened.close()


def test_a_repeated_field_and_an_unknown_one_are_named(http: Http) -> None:
    def refusal_of(data: Any, **options: Any) -> str:
        return str(
            http(
                "POST",
                "/v1/spaces/p/score",
                files=[("images", picture(1))],
                data=data,
                status=422,
                **options,
            )["error"]
        )

    assert "top_k: expected one value" in refusal_of({"top_k": ["1", "2"]})
    assert "not a field of this request (did you mean 'top_k'?)" in refusal_of({"topk": "1"})
    assert "not a field of this request" in refusal_of({"classifier": "[[1]]"})
    assert "expected one value" in refusal_of({"top_k": "1"}, params={"top_k": "2"})
    files = [("images", picture(number, 8)) for number in range(257)]
    check(http.ask("POST", "/v1/spaces/p/score", files=files, status=None), 422)
