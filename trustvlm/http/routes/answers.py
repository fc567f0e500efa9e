"""Answers of routes: JSON, and writes that a client may repeat with an Idempotency-Key."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from dataclasses import is_dataclass
from typing import Any

from fastapi import Request, Response
from pydantic_core import PydanticSerializationError, to_json

from trustvlm.errors import InvalidInput
from trustvlm.http.wire.bodies import JSON
from trustvlm.http.wire.matching import at_expected
from trustvlm.http.wire.problems import plain
from trustvlm.http.work.process import Serving, serving_of
from trustvlm.types.json_form import to_plain

IDEMPOTENCY_KEY = "idempotency-key"
REPLAYED = "idempotent-replayed"
_LONGEST = 200


def encoded(content: Any) -> bytes:
    """A dataclass of trustvlm.types, or plain values, as JSON, with null for numbers that JSON does
    not have; in ASCII where a text holds what UTF-8 has no bytes for (lone surrogates)."""
    content = to_plain(content) if is_dataclass(content) else content
    try:
        return to_json(content, inf_nan_mode="null")
    except PydanticSerializationError:
        return json.dumps(plain(content), allow_nan=False, separators=(",", ":")).encode()


def answer(content: Any, status: int = 200) -> Response:
    """A JSON response; its ETag is the revision of the space that it shows, for If-Match."""
    plain_values = content if isinstance(content, dict) else vars(content)
    return Response(encoded(content), status, _tag(plain_values.get("revision")), JSON)


def _tag(revision: Any) -> dict[str, str]:
    return {"etag": f'"{revision}"'} if isinstance(revision, int) else {}


def jpeg(picture: bytes) -> Response:
    """A thumbnail."""
    headers = {"cache-control": "private, max-age=3600"}
    return Response(picture, media_type="image/jpeg", headers=headers)


async def read(request: Request, work: Callable[[Serving], Any]) -> Response:
    """The answer to a read: the result of `work`, done by a thread for reading."""
    serving = serving_of(request)
    return answer(await serving.reading.run(lambda: work(serving)))


async def written(
    request: Request,
    work: Callable[[Serving], Any],
    *,
    digest: bytes = b"",
    status: int = 200,
    encoders: bool = False,
    repeatable: bool = False,
) -> Response:
    """The answer to a write, whose `work` is done once even where the request comes again with the
    same Idempotency-Key.

    Args:
        digest: of the body. encoders: the work may use them.
        repeatable: the work does no harm when it is done twice, and is more than one short change.
            Its answer is stored after it, and it is done again where the process died between the
            two. The answer to other work is stored in the transaction of its change.
    """
    serving, key = serving_of(request), request.headers.get(IDEMPOTENCY_KEY)
    change = at_expected(request, serving.service, lambda: work(serving))
    run = serving.encode if encoders else serving.writing.run
    if key is None:
        return answer(await run(change), status)
    if not 0 < len(key) <= _LONGEST or not key.isprintable():
        raise InvalidInput(f"Idempotency-Key: expected 1 to {_LONGEST} printable characters")
    path = f"{request.method} {request.url.path}".encode(errors="surrogatepass")
    request_hash = hashlib.sha256(path + b"\0" + digest).digest()
    call = request.state.caller.key, key
    body, status, replayed = await run(
        lambda: _once(serving, call, request_hash, change, status, repeatable)
    )
    headers = _tag(json.loads(body).get("revision"))
    return Response(body, status, headers | ({REPLAYED: "true"} if replayed else {}), JSON)


def _once(
    serving: Serving,
    call: tuple[str, str],
    request_hash: bytes,
    change: Callable[[], Any],
    status: int,
    repeatable: bool,
) -> tuple[bytes, int, bool]:
    """(body, status, whether it is an earlier answer). A call that fails is dropped: it may be made
    again."""
    home = serving.home
    earlier = home.begin_call(*call, request_hash, serving.worker)
    if earlier is not None and earlier.status is not None:
        return earlier.body or b"", earlier.status, True
    try:
        if repeatable:
            body = encoded(change())
            home.end_call(*call, status, body)
        else:
            body = home.do_call(*call, status, lambda: encoded(change()))
    except BaseException:
        home.drop_call(*call)
        raise
    return body, status, False
