"""Declarations and answers of routes: JSON, pictures, and writes that a client may repeat with an
Idempotency-Key."""

from __future__ import annotations

import functools
import hashlib
import inspect
import json
import logging
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import is_dataclass
from functools import partial
from typing import Any, TypeVar, get_args

from fastapi import Request, Response
from pydantic_core import PydanticSerializationError, to_json

from trustvlm.errors import InvalidInput, TrustVLMError
from trustvlm.http.guard.addressed import SLASH
from trustvlm.http.routes.openapi import JPEG, route
from trustvlm.http.wire.bodies import JSON, Received, read_body
from trustvlm.http.wire.parameters import at_expected
from trustvlm.http.wire.problems import plain
from trustvlm.http.work.process import Serving, serving_of
from trustvlm.types.json_form import to_plain

log = logging.getLogger("trustvlm.http")

F = TypeVar("F", bound=Callable[..., Any])
Method = Callable[..., Callable[[Callable[..., Any]], Any]]
"""A router's get, post, put, patch or delete."""
ByBody = bool | Callable[[Any], bool]

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


def has_images(received: Received[Any]) -> bool:
    """Whether a request brings image files."""
    return received.images is not None


def _jpeg(picture: bytes) -> Response:
    """A thumbnail."""
    headers = {"cache-control": "private, max-age=3600"}
    return Response(picture, media_type="image/jpeg", headers=headers)


def name_of(label: str) -> str:
    """A label's name as it stood in the path, slashes included."""
    return label.replace(SLASH, "/")


def reads(
    method: Method, path: str, *kinds: str, scope: str = "read", **declared: Any
) -> Callable[[F], F]:
    """Declare a route that reads; its function is called by a thread for reading.

    The annotations of the function are those of the route: of the answer (bytes: a JPEG), of the
    values of path and query, and of `body`, or `received`, where the request has one. The function
    gets the process as `serving` and, if it takes it, the request as `request`.

    Args:
        kinds: content types of the body; without any, JSON. declared: further arguments of FastAPI.
    """

    async def respond(request: Request, work: Callable[[Serving], Any], _: Any) -> Response:
        serving = serving_of(request)
        result = await serving.reading.run(lambda: work(serving))
        return _jpeg(result) if isinstance(result, bytes) else answer(result)

    return partial(_declare, partial(method, path, **declared), path, scope, 200, kinds, respond)


def writes(
    method: Method,
    path: str,
    *kinds: str,
    scope: str = "write",
    status: int = 200,
    encoders: ByBody = False,
    repeatable: ByBody = False,
    **declared: Any,
) -> Callable[[F], F]:
    """Declare a route that writes: as :func:`reads`; `encoders`, `repeatable`: as for
    :func:`written`, or a function that decides by what the request brings."""

    async def respond(
        request: Request, work: Callable[[Serving], Any], received: Received[Any] | None
    ) -> Response:
        digest = b"" if received is None else received.digest
        flags = (one(received) if callable(one) else one for one in (encoders, repeatable))
        return await written(request, work, digest, status, *flags)

    return partial(_declare, partial(method, path, **declared), path, scope, status, kinds, respond)


def _declare(
    add: Method,
    path: str,
    scope: str,
    status: int,
    kinds: tuple[str, ...],
    respond: Callable[[Request, Callable[[Serving], Any], Any], Awaitable[Response]],
    work: F,
) -> F:
    """Add the route of the function `work` by :func:`reads` or :func:`writes`."""
    signature = inspect.signature(work, eval_str=True)
    parameters, answers = signature.parameters, signature.return_annotation
    body = _body_of(parameters)
    takes = () if body is None else (body, *(kinds or (JSON,)))

    async def endpoint(request: Request, **values: Any) -> Response:
        received = None if body is None else await read_body(request, *takes)
        if "{label}" in path:
            values["label"] = name_of(values["label"])
        values |= _beside(parameters, request, received)
        return await respond(request, partial(work, **values), received)

    functools.update_wrapper(endpoint, work)
    del endpoint.__wrapped__  # type: ignore[attr-defined]
    vars(endpoint)["__signature__"] = _signature(parameters)
    declared = JPEG if answers is bytes else route(scope, answers, *takes, status=status)
    add(**declared)(endpoint)
    return work


_BESIDE = ("serving", "request", "received", "body")


def _signature(parameters: Mapping[str, inspect.Parameter]) -> inspect.Signature:
    """What FastAPI is to give to a route: the request, and the values of path and query."""
    kind = inspect.Parameter.POSITIONAL_OR_KEYWORD
    request = inspect.Parameter("request", kind, annotation=Request)
    values = [one for name, one in parameters.items() if name not in _BESIDE]
    return inspect.Signature([request, *values])


def _beside(
    parameters: Mapping[str, inspect.Parameter], request: Request, received: Received[Any] | None
) -> dict[str, Any]:
    """What else a route's function takes."""
    beside = {"request": request, "received": received, "body": received and received.body}
    return {name: value for name, value in beside.items() if name in parameters}


def _body_of(parameters: Mapping[str, inspect.Parameter]) -> Any:
    """The dataclass that a route's function takes as its body; None: it takes none."""
    if "received" in parameters:
        return get_args(parameters["received"].annotation)[0]
    return parameters["body"].annotation if "body" in parameters else None


async def written(
    request: Request,
    work: Callable[[Serving], Any],
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
            two, or the answer could not be stored. The answer to other work is stored in the
            transaction of its change.
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
    again. Where repeatable work is done and only its answer cannot be stored, it counts as done."""
    home = serving.home
    earlier = home.begin_call(*call, request_hash, serving.worker)
    if earlier is not None and earlier.status is not None:
        return earlier.body or b"", earlier.status, True
    try:
        if not repeatable:
            body = home.do_call(*call, status, lambda: encoded(change()))
            return body, status, False
        body = encoded(change())
    except BaseException:
        home.drop_call(*call)
        raise
    try:
        home.end_call(*call, status, body)
    except TrustVLMError as error:
        log.warning("a change is stored, its answer for repeated calls is not: %s", error)
        home.drop_call(*call)
    return body, status, False
