"""Bodies in gzip, both ways; and the trace of a request in the log."""

from __future__ import annotations

import gzip
import json
import logging
import zlib
from collections.abc import Iterator
from typing import Any

import pytest
from http_service import Http, served
from worlds import IMAGE_DIM, TEXT_DIM, World, make_space

NAMES = ["airport", "beach", "bridge", "desert"]
SCORE = "/v1/spaces/s/score"
BODY = json.dumps(
    {"classifier": [[1.0] * TEXT_DIM] * 4, "verifier": [[0.5] * IMAGE_DIM] * 4}
).encode()
JSON = {"content-type": "application/json"}
GZIP = JSON | {"content-encoding": "gzip"}


@pytest.fixture(scope="module")
def http(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Http]:
    with served(tmp_path_factory.mktemp("gzip") / "home", body_bytes=1_000_000) as running:
        make_space(running.service)
        running.service.register("s", World(NAMES).inputs(3))
        yield running


def pieces(data: bytes, size: int) -> Any:
    async def body() -> Any:
        for start in range(0, len(data), size):
            yield data[start : start + size]

    return body()


@pytest.mark.parametrize("size", [1, 7, 10**6])
@pytest.mark.parametrize("members", [1, 3])
def test_a_packed_body_is_read_as_the_plain_one(http: Http, size: int, members: int) -> None:
    plain = http.ask("POST", SCORE, content=BODY, headers=JSON).json()
    third = len(BODY) // members + 1
    packed = b"".join(
        gzip.compress(BODY[start : start + third]) for start in range(0, len(BODY), third)
    )
    answer = http.ask("POST", SCORE, content=pieces(packed, size), headers=GZIP)
    assert answer.json() == plain
    upper = GZIP | {"content-encoding": " GZIP "}
    assert http.ask("POST", SCORE, content=packed, headers=upper).json() == plain


@pytest.mark.parametrize(
    ("content", "status", "message"),
    [
        (BODY, 422, "expected gzip, as its header says"),
        (gzip.compress(BODY)[:-9], 422, "its end is missing"),
        (gzip.compress(BODY)[:20], 422, "its end is missing"),
        (gzip.compress(BODY) + b"tail", 422, "expected gzip, as its header says"),
        (zlib.compress(BODY), 422, "expected gzip, as its header says"),
        (gzip.compress(bytes(50 * 2**20)), 413, "unpacks to more than 1000000 bytes"),
        (b"", 422, "body"),
    ],
    ids=["plain", "no trailer", "cut", "tail", "zlib", "bomb", "empty"],
)
def test_a_body_that_is_no_gzip_or_too_large_is_refused(
    http: Http, content: bytes, status: int, message: str
) -> None:
    refused = http.ask("POST", SCORE, status=status, content=content, headers=GZIP)
    assert message in refused.json()["error"]["message"]
    for coding in ("br", "deflate", "gzip, gzip", "identity, gzip", "zstd"):
        headers = JSON | {"content-encoding": coding}
        refused = http.ask("POST", SCORE, status=415, content=BODY, headers=headers)
        assert "expected gzip or none" in refused.json()["error"]["message"]


def test_large_answers_are_packed_for_those_who_accept_it(http: Http) -> None:
    def ask(accepted: str, path: str = "/v1/rules") -> Any:
        return http.ask("GET", path, headers={"accept-encoding": accepted})

    plain, packed = ask("identity"), ask("gzip")
    assert packed.headers["content-encoding"] == "gzip"
    assert int(packed.headers["content-length"]) < len(plain.content)
    assert packed.json() == plain.json()
    assert "accept-encoding" in packed.headers["vary"].lower()
    assert packed.headers["x-request-id"]
    for answer in (plain, ask("gzip", "/healthz"), ask("br")):
        assert "content-encoding" not in answer.headers


TRACE = "0af7651916cd43dd8448eb211c80319c"


@pytest.mark.parametrize(
    ("header", "trace"),
    [
        (f"00-{TRACE}-b7ad6b7169203331-01", TRACE),
        (f"00-{TRACE}-0000000000000000-01", None),
        (f"00-{'0' * 32}-b7ad6b7169203331-01", None),
        (f"ff-{TRACE}-b7ad6b7169203331-01", None),
        ('00-x"y-b7ad6b7169203331-01', None),
        ("", None),
    ],
)
def test_the_log_has_the_trace_of_a_request(
    http: Http, caplog: pytest.LogCaptureFixture, header: str, trace: str | None
) -> None:
    with caplog.at_level(logging.INFO, "trustvlm.http"):
        http.ask("GET", "/v1/rules", headers={"traceparent": header})
    (record,) = [one for one in caplog.records if one.getMessage() == "request"]
    assert record.trace_id == trace  # type: ignore[attr-defined]
    assert record.parent_span == (trace and "b7ad6b7169203331")  # type: ignore[attr-defined]


def test_the_page_is_packed_too(http: Http) -> None:
    script = http.ask("GET", "/static/app.js", headers={"accept-encoding": "gzip"})
    assert script.headers["content-encoding"] == "gzip"
