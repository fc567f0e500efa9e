"""A short way to routes that read their request themselves.

FastAPI finds a route by trying one pattern after the other, and resolves the arguments of its
function for every request. A route whose function takes only the request and texts of the path
needs neither: one look-up finds it, and its function is called after its checks.
"""

from __future__ import annotations

import functools
import inspect
from collections.abc import Awaitable, Callable, Iterable, Mapping
from dataclasses import dataclass
from re import Pattern
from typing import Any

from fastapi import Request
from fastapi.routing import APIRoute
from starlette.types import ASGIApp, Receive, Scope, Send


@dataclass(frozen=True)
class _Entry:
    """A route that is called directly."""

    route: APIRoute
    path: Pattern[str]
    checks: tuple[Callable[[Request], Awaitable[None]], ...]


class Direct:
    """Calls routes that end in a fixed word and take nothing but the request and texts of the
    path; passes every other request on to `app`."""

    def __init__(self, app: ASGIApp, routes: Iterable[APIRoute]) -> None:
        self.app = app
        self._entries: dict[tuple[str, str], list[_Entry]] = {}
        for route in routes:
            word = route.path.rpartition("/")[2]
            if "{" in word or not _reads_its_request(route):
                continue
            checks = tuple(one.dependency for one in route.dependencies if one.dependency)
            for method in route.methods or ():
                entry = _Entry(route, route.path_regex, checks)
                self._entries.setdefault((method, word), []).append(entry)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http":
            path: str = scope["path"]
            for entry in self._entries.get((scope["method"], path[path.rfind("/") + 1 :]), ()):
                if match := entry.path.match(path):
                    await _call(entry, match.groupdict(), scope, receive, send)
                    return
        await self.app(scope, receive, send)


async def _call(
    entry: _Entry, names: dict[str, Any], scope: Scope, receive: Receive, send: Send
) -> None:
    scope["route"], scope["path_params"] = entry.route, names
    request = Request(scope, receive, send)
    for check in entry.checks:
        await check(request)
    response = await entry.route.endpoint(request, **names)
    await response(scope, receive, send)


def _reads_its_request(route: APIRoute) -> bool:
    """Whether the route's function takes the request and texts of the path, and no more."""
    kinds = _annotations(route.endpoint)
    texts = {one.name for one in route.dependant.path_params}
    return kinds.get("request") is Request and all(
        name in texts and kind is str for name, kind in kinds.items() if name != "request"
    )


@functools.cache
def _annotations(function: Callable[..., Any]) -> Mapping[str, Any]:
    """The types of a function's parameters, by name."""
    signature = inspect.signature(function, eval_str=True)
    return {one.name: one.annotation for one in signature.parameters.values()}
