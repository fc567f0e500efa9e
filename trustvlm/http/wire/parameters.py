"""What a request may carry beside its path: query parameters and bodies, of which a route refuses
those that it does not take, and If-Match, the revision that a request expects its space to have
(optimistic concurrency)."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from fastapi import Request

from trustvlm.errors import InvalidInput, UnsupportedType
from trustvlm.service import TrustService
from trustvlm.types.messages.meant import did_you_mean

OPTIONS = "x-query-options"
"""Of an operation in the OpenAPI document: the options that go into the query, by the content type
of the body."""
_CHARSET = re.compile(r"(?i)(?:^|;)\s*charset\s*=\s*\"?([^;\"]*)")
_TAG = re.compile('"([0-9]{1,18})"|([0-9]{1,18})')
_NOTHING = (b"", b"{}", b"null")


def not_taken(name: str, what: str, taken: Iterable[str], where: str | None = None) -> InvalidInput:
    """The error for a name that is not taken: `what` it is not, which name may have been meant, and
    which ones are taken."""
    names = list(taken)
    meant = did_you_mean(name, names).removeprefix("; ")
    hint = f" ({meant})" if meant else ""
    return InvalidInput(
        f"{(where or name)[:200]}: {what}{hint}; expected {', '.join(names) or 'none'}"
    )


async def check_request(request: Request) -> None:
    """A route's dependency: every query parameter is one that the route takes, once and with a
    value, and a body comes where one is taken.

    Raises:
        InvalidInput: a parameter that the route does not take, one that is given twice or
            empty, or a body that is not taken.
    """
    route = request.scope["route"]
    extra: dict[str, Any] = route.openapi_extra or {}
    declared = [field.alias for field in route.dependant.query_params]
    if request.scope["query_string"]:
        _check_query(request, declared, extra.get(OPTIONS, {}))
    if "requestBody" not in extra and (await request.body()).strip() not in _NOTHING:
        where = f"; its options go into the query: {', '.join(declared)}" if declared else ""
        raise InvalidInput(f"body: {request.method} {route.path} takes no body{where}")


def _check_query(
    request: Request, declared: Sequence[str], options: Mapping[str, Sequence[str]]
) -> None:
    kind = content_type(request)
    beside = options.get(kind, ())
    for name, count in Counter(name for name, _ in request.query_params.multi_items()).items():
        if name in declared and count > 1:
            raise InvalidInput(f"{name}: expected one value in the query, got {count}")
        if name in (*declared, *beside) and not request.query_params[name]:
            raise InvalidInput(f"{name}: expected a value in the query, got an empty one")
        if name in declared or name in beside:
            continue
        if any(name in names for names in options.values()):
            raise InvalidInput(
                f"{name}: not a query parameter beside a body of {kind or 'no type'}; give it "
                f"in the body"
            )
        route = f"{request.method} {request.scope['route'].path}"
        raise not_taken(name, f"not a query parameter of {route}", [*declared, *beside])


def content_type(request: Request) -> str:
    """The content type of a request's body, in small letters and without parameters; empty where
    there is none. Raises UnsupportedType: several, or another charset than UTF-8."""
    given = request.headers.getlist("content-type")
    if len(given) > 1:
        raise UnsupportedType(f"content-type: expected one, got {len(given)}")
    kind, _, parameters = (given[0] if given else "").partition(";")
    charset = _CHARSET.search(parameters)
    if charset is not None and charset[1].strip().lower() not in ("utf-8", "utf8", "us-ascii"):
        raise UnsupportedType(f"content-type: expected charset utf-8, got {charset[1][:80]!r}")
    return kind.strip().lower()


def accepted_type(request: Request, *accepted: str) -> str:
    """The content type of a request's body, one of `accepted`. Raises UnsupportedType."""
    kind = content_type(request)
    if kind not in accepted:
        raise UnsupportedType(
            f"content-type: expected {' or '.join(accepted)}, got {kind[:80] or 'none'!r}"
        )
    return kind


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
