"""If-Match: the revision that a request expects its space to have (optimistic concurrency)."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

from fastapi import Request

from trustvlm.errors import InvalidInput
from trustvlm.service import TrustService

_TAG = re.compile('"([0-9]{1,18})"|([0-9]{1,18})')


def expected_revision(request: Request) -> int | None:
    """The revision of the If-Match header; None without one, or for "*" (any revision). Raises
    InvalidInput."""
    values = request.headers.getlist("if-match")
    if not values or values == ["*"]:
        return None
    tag = _TAG.fullmatch(values[0].strip()) if len(values) == 1 else None
    if tag is None:
        raise InvalidInput(
            f'If-Match: expected one revision such as "12", got {", ".join(values)!r:.100}'
        )
    if "space" not in request.path_params:
        raise InvalidInput(
            "If-Match: only requests about a space (/v1/spaces/SPACE/…) have a revision"
        )
    return int(tag[1] or tag[2])


async def matched(request: Request) -> None:
    """A route's dependency: the space must be at the expected revision as the request begins.

    A write with an Idempotency-Key may be a repeated one, whose first answer counts:
    :func:`at_expected` checks it later.

    Raises:
        Conflict: it is at another. InvalidInput: see :func:`expected_revision`.
    """
    revision = expected_revision(request)
    if revision is None or (request.method != "GET" and "idempotency-key" in request.headers):
        return
    serving, space = request.app.state.serving, request.path_params["space"]

    def check() -> None:
        with serving.service.at_revision(space, revision):
            return

    await serving.reading.run(check)


def at_expected(
    request: Request, service: TrustService, work: Callable[..., Any]
) -> Callable[..., Any]:
    """`work`, which changes the space of the request, done only if the space is at the expected
    revision as it begins."""
    revision = expected_revision(request)
    if revision is None:
        return work

    def checked(*arguments: Any) -> Any:
        with service.at_revision(request.path_params["space"], revision):
            return work(*arguments)

    return checked
