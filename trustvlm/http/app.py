"""The application: routes over an open home, behind the gate."""

from __future__ import annotations

import asyncio
import gc
import signal
import threading
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from functools import partial
from types import FrameType
from typing import Any

from fastapi import FastAPI
from fastapi.middleware.asyncexitstack import AsyncExitStackMiddleware
from fastapi.routing import APIRoute
from starlette.concurrency import run_in_threadpool
from starlette.middleware.exceptions import ExceptionMiddleware
from starlette.middleware.gzip import GZipMiddleware
from starlette.types import Receive, Scope, Send

from trustvlm import __version__
from trustvlm.http.guard.gate import Gate
from trustvlm.http.guard.metrics import Meters
from trustvlm.http.guard.tracing import Spans, spans_to
from trustvlm.http.options import ServeOptions
from trustvlm.http.routes import (
    cleaning,
    history,
    labels,
    measuring,
    queries,
    review,
    spaces,
    state,
    supports,
)
from trustvlm.http.routes.direct import Direct
from trustvlm.http.routes.openapi import describe
from trustvlm.http.wire import problems
from trustvlm.http.wire.receiving import Bodies
from trustvlm.http.work.process import Serving
from trustvlm.service import TrustService
from trustvlm.service.server.server_home import ServerHome

PACKED_FROM = 1_024
"""Bytes from which on an answer is compressed, for clients that accept it."""

ROUTERS = (
    state, spaces, labels, supports, cleaning, queries, measuring, review,
    history,
)  # fmt: skip


def methods_of(path: str) -> list[str]:
    """The methods that a path has: of the routes that match it, those with the fewest parameters,
    as "calibrate" in …/observations/calibrate is no number of an observation."""
    matching = [route for route in _routes() if route.path_regex.match(path)]
    fewest = min((len(route.param_convertors) for route in matching), default=0)
    closest = [route for route in matching if len(route.param_convertors) == fewest]
    return sorted({method for route in closest for method in route.methods or ()})


def _routes() -> list[APIRoute]:
    """Every route of the application."""
    routes = [route for module in ROUTERS for route in module.router.routes]
    return [route for route in routes if isinstance(route, APIRoute)]


def _on_signal(*begin: Callable[[], None]) -> None:
    """Call `begin`, and the server's own handler, when a signal asks the process to end: the server
    tells an application only when all requests are answered."""
    if threading.current_thread() is not threading.main_thread():
        return  # Python has signal handlers in the main thread only
    loop = asyncio.get_running_loop()

    def chained(before: Any, number: int, frame: FrameType | None) -> None:
        for function in begin:
            loop.call_soon_threadsafe(function)
        if callable(before):
            before(number, frame)

    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, partial(chained, signal.getsignal(number)))


class _Application(FastAPI):
    """The declarations of FastAPI behind the gate, without the layers that FastAPI puts around an
    application: the gate answers errors and limits bodies."""

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        scope["app"] = self
        assert self.middleware_stack is not None
        await self.middleware_stack(scope, receive, send)


def create_app(
    service: TrustService, options: ServeOptions | None = None, spans: Spans | None = None
) -> FastAPI:
    """The application over an open home, which it closes when it ends; `spans`: in place of those
    of the option `otlp`.

    Its threads start here: it can be called without a lifespan, and is then closed by
    `app.state.serving.close()`.
    """
    chosen = options or ServeOptions()
    service.place = ""  # paths of this machine are not for clients
    home = ServerHome(service)
    if spans is None and chosen.otlp:
        spans = spans_to(chosen.otlp)
    serving = Serving(service, home, chosen, home.worker(), Meters(), spans)
    bodies = Bodies(chosen)
    home.sweep()

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        _on_signal(serving.leave, bodies.leave)
        gc.collect()
        gc.freeze()  # what is here stays: no collection while serving looks through it again
        yield
        gc.unfreeze()
        await run_in_threadpool(serving.close)

    app = _Application(
        title="trustvlm", version=__version__, docs_url=None, redoc_url=None, lifespan=lifespan
    )
    app.state.serving = serving
    problems.install(app, methods_of, home)
    describe(app, chosen.root_path)
    for module in ROUTERS:
        # As they are: FastAPI makes included routes a second time, in 0.4 s of a processor.
        app.router.routes.extend(module.router.routes)
    usual = ExceptionMiddleware(AsyncExitStackMiddleware(app.router), app.exception_handlers)
    direct = Direct(usual, _routes())
    packed = GZipMiddleware(direct, minimum_size=PACKED_FROM, compresslevel=1)
    app.middleware_stack = Gate(packed, chosen, serving.meters, bodies, home, spans)
    return app
