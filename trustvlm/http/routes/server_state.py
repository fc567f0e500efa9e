"""Whether the service is alive and ready, its metrics, and the page."""

from __future__ import annotations

from fastapi import APIRouter, Depends, Request, Response
from fastapi.responses import FileResponse, PlainTextResponse, RedirectResponse

from trustvlm.errors import Forbidden, NotFound, Overloaded, Unavailable
from trustvlm.http.guard.keyring import Scope
from trustvlm.http.routes.answers import answer
from trustvlm.http.routes.static_files import STATIC
from trustvlm.http.work.process import serving_of
from trustvlm.types.answers import Status

__all__ = ["router"]

router = APIRouter(tags=["state"])


@router.get("/healthz", response_model=Status)
async def healthz() -> Response:
    """The process answers."""
    return answer(Status("ok"))


@router.get("/readyz", response_model=Status)
async def readyz(request: Request) -> Response:
    """The home can be read, the encoders of its spaces are loaded, and the service is not
    shutting down; 503 otherwise."""
    serving = serving_of(request)
    if serving.closing:
        raise Unavailable("the service is shutting down")
    if not serving.loaded:
        raise Overloaded("the encoders are being loaded", 1)
    await serving.watching.run(serving.home.space_states)
    return answer(Status("ready"))


@router.get("/metrics", dependencies=[Depends(Scope("read"))], response_class=PlainTextResponse)
async def metrics(request: Request) -> Response:
    """For Prometheus: of all spaces, so that a key for one of them does not open it."""
    serving, only = serving_of(request), request.state.caller.space
    if only is not None:
        raise Forbidden(f"this key opens the space {only!r} only; metrics are of all spaces")
    return Response(
        await serving.watching.run(serving.meters.text),
        media_type="text/plain; version=0.0.4; charset=utf-8",
    )


@router.get("/", include_in_schema=False)
async def page(request: Request) -> Response:
    """The page; what it asks for is addressed relative to it, so that its own address must end with
    a slash."""
    root = serving_of(request).options.root_path
    if root and request.scope.get("raw_path", b"/").decode("latin-1") == root:
        return RedirectResponse(f"{root}/")
    return FileResponse(STATIC / "index.html", headers={"cache-control": "no-cache"})


@router.get("/static/{name:path}", include_in_schema=False)
async def static(name: str) -> Response:
    """A file of the page: one of those that lie there, whatever a path may look like."""
    files = {
        path.relative_to(STATIC).as_posix(): path for path in STATIC.rglob("*") if path.is_file()
    }
    if name not in files:
        raise NotFound(f"the page has no file {name!r}")
    return FileResponse(files[name], headers={"cache-control": "no-cache"})
