"""The application: routes over an open home, behind the gate."""

from __future__ import annotations

import asyncio
import signal
import threading
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from functools import partial
from types import FrameType
from typing import Any

from fastapi import FastAPI
from fastapi.routing import APIRoute
from starlette.concurrency import run_in_threadpool

from trustvlm import __version__
from trustvlm.http.guard.gate import Gate
from trustvlm.http.guard.metrics import Meters
from trustvlm.http.options import ServeOptions
from trustvlm.http.routes import labels, measuring, queries, spaces, state, supports
from trustvlm.http.routes.openapi import describe
from trustvlm.http.wire import problems
from trustvlm.http.wire.receiving import Bodies
from trustvlm.http.work.process import Serving
from trustvlm.service import TrustService
from trustvlm.service.server.server_home import ServerHome

__all__ = ["ROUTERS", "create_app"]

ROUTERS = (state, spaces, labels, supports, queries, measuring)


def methods_of(path: str) -> list[str]:
    """The methods that some route has for a path."""
    routes = [route for module in ROUTERS for route in module.router.routes]
    matching = [
        route for route in routes if isinstance(route, APIRoute) and route.path_regex.match(path)
    ]
    return sorted({method for route in matching for method in route.methods or ()})


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


def create_app(service: TrustService, options: ServeOptions | None = None) -> FastAPI:
    """The application over an open home, which it closes when it ends.

    Its threads start here: it can be called without a lifespan, and is then closed by
    `app.state.serving.close()`.
    """
    chosen = options or ServeOptions()
    home = ServerHome(service)
    serving = Serving(service, home, chosen, home.worker(), Meters())
    bodies = Bodies(chosen)
    home.sweep(serving.worker)

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        _on_signal(serving.leave, bodies.leave)
        yield
        await run_in_threadpool(serving.close)

    app = FastAPI(
        title="trustvlm",
        version=__version__,
        docs_url=None,
        redoc_url=None,
        lifespan=lifespan,
        generate_unique_id_function=lambda route: route.name,
    )
    app.state.serving = serving
    app.add_middleware(Gate, options=chosen, meters=serving.meters, bodies=bodies)
    problems.install(app, methods_of)
    describe(app, chosen.root_path)
    for module in ROUTERS:
        app.include_router(module.router)
    return app
