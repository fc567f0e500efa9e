"""What an error becomes: one JSON shape, one table of statuses (trustvlm.errors.STATUSES), no
traces."""

from __future__ import annotations

import logging
import math
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import fields
from typing import Any

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from starlette.exceptions import HTTPException

from trustvlm import errors
from trustvlm.errors import STATUSES, TrustVLMError
from trustvlm.http.wire.refusals import unfit
from trustvlm.service import TrustService
from trustvlm.service.server.server_home import ServerHome
from trustvlm.types import Queries

log = logging.getLogger("trustvlm.http")

REQUEST_ID = "x-request-id"
UNEXPECTED = "something unexpected went wrong; the service's log has it under this request id"
_OTHERS = {404: "NotFound", 405: "MethodNotAllowed", 415: "UnsupportedType", 400: "InvalidInput"}
_FIELDS = "|".join(field.name for field in fields(Queries))
_FIELD = re.compile(rf"^queries: |(?<![\w'\"])queries\.(?=(?:{_FIELDS})\b)")
"""In a message, the parameter of a verb as the subject, or before the name of a field; a request
has the fields alone."""
_VERBS = "|".join(sorted(name for name in dir(TrustService) if "_" in name.strip("_")))
_VERB = re.compile(rf"^(?:{_VERBS}): ")
"""In a message, the verb as the subject; a request has a body."""
_NONE = re.compile(r"(?:(?<=\bor )|(?<=\bgive )|(?<=\())None(?= for\b)")
"""None among the values that a message expects; a request has null."""


def status_of(error: TrustVLMError) -> int:
    """The status of the first kind that the error is an instance of."""
    return next((status for kind, status in STATUSES.items() if isinstance(error, kind)), 500)


def kind_of(error: BaseException) -> str:
    """The name of the nearest public class of the error tree; of anything else, "Unexpected"."""
    return next(
        (kind.__name__ for kind in type(error).__mro__ if kind.__name__ in errors.__all__),
        "Unexpected",
    )


def problem(
    request_id: str, status: int, kind: str, message: str, headers: Mapping[str, str] | None = None
) -> JSONResponse:
    """The one shape of every error."""
    body = {"error": {"kind": kind, "message": message, "request_id": request_id}}
    return JSONResponse(body, status_code=status, headers=dict(headers or {}))


def of_error(request_id: str, error: TrustVLMError, home: ServerHome) -> JSONResponse:
    """The answer for an error of the tree, which names no folder of the `home`."""
    headers = {}
    if (seconds := getattr(error, "retry_after", None)) is not None:
        headers["retry-after"] = str(max(1, math.ceil(seconds)))
    elif isinstance(error, errors.Unavailable) and not isinstance(error, errors.LASTING):
        headers["retry-after"] = "1"
    if isinstance(error, errors.Unauthorized):
        headers["www-authenticate"] = "Bearer"
    message = _plain(public(error, {"request_id": request_id}, home))
    return problem(request_id, status_of(error), kind_of(error), message, headers)


def public(error: TrustVLMError, context: Mapping[str, str], home: ServerHome) -> str:
    """The message of an error for a client, without the folders of the `home`. The log gets the
    other one, where there are two, with the `context` that the log line names."""
    message = home.without_folders(str(error)) if error.public is None else error.public
    if message != str(error):
        log.warning("%s", error, extra=dict(context))
    if error.public is not None:
        return message
    return _NONE.sub("null", _VERB.sub("body: ", _FIELD.sub("", message)))


def _plain(message: str) -> str:
    """Messages may quote what a client sent: lone surrogates cannot go over the wire."""
    return message.encode(errors="backslashreplace").decode()


def install(app: FastAPI, allowed: Callable[[str], Sequence[str]], home: ServerHome) -> None:
    """Answer every error of the application in the one shape; `allowed`: the methods that a path
    has."""

    @app.exception_handler(TrustVLMError)
    async def ours(request: Request, error: TrustVLMError) -> JSONResponse:
        request.state.error = kind_of(error)
        return of_error(request.state.request_id, error, home)

    @app.exception_handler(RequestValidationError)
    async def malformed(request: Request, error: RequestValidationError) -> JSONResponse:
        if request.method not in allowed(request.scope["path"]):  # "calibrate" read as a number
            return await other(request, HTTPException(405))
        request.state.error = "InvalidInput"
        return of_error(request.state.request_id, unfit(error), home)

    @app.exception_handler(HTTPException)
    async def other(request: Request, error: HTTPException) -> JSONResponse:
        kind = request.state.error = _OTHERS.get(error.status_code, "Refused")
        status = 422 if error.status_code == 400 else error.status_code
        message, headers = str(error.detail), error.headers
        if status == 404:
            message = f"no route {request.method} {request.url.path}; see /openapi.json"
        elif status == 405:
            methods = ", ".join(allowed(request.scope["path"]))
            message = f"{request.method} is no method of {request.url.path}; expected {methods}"
            headers = {"allow": methods}
        return problem(request.state.request_id, status, kind, _plain(message), headers)


def unexpected(request_id: str, error: BaseException) -> JSONResponse:
    """A fault of ours: the log has all of it, the client nothing but the request id."""
    log.error(
        "unexpected %s", type(error).__name__, exc_info=error, extra={"request_id": request_id}
    )
    return problem(request_id, 500, "Unexpected", UNEXPECTED)


def plain(value: Any) -> Any:
    """`value` as JSON holds it: NaN and infinities become None."""
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, dict):
        return {str(key): plain(one) for key, one in value.items()}
    if isinstance(value, list | tuple):
        return [plain(one) for one in value]
    return value
