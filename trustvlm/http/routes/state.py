"""The service itself: health, readiness, metrics, rules, limits, and the pages."""

from __future__ import annotations

from importlib.resources import files
from pathlib import Path

from fastapi import Depends, Request, Response
from fastapi.responses import FileResponse, PlainTextResponse, RedirectResponse

from trustvlm.errors import Forbidden, NotFound, Unavailable
from trustvlm.http.guard.keyring import Scope
from trustvlm.http.routes.answers import answer, reads
from trustvlm.http.routes.openapi import router_of
from trustvlm.http.wire.bodies import MOST_VALUES
from trustvlm.http.wire.image_files import MOST_FILES
from trustvlm.http.wire.problems import problem
from trustvlm.http.work.process import Serving, serving_of
from trustvlm.scoring.rules import DEFAULT_RULE, RULES
from trustvlm.types.answers import Limits, Rule, RuleList, Status

router = router_of()
STATIC = Path(__file__).parents[1] / "static"
_FRESH = {"cache-control": "no-cache"}
_SWAGGER = ("swagger-ui.css", "swagger-ui-bundle.js")


@router.get("/healthz", tags=["state"], response_model=Status)
async def healthz() -> Response:
    """The process answers."""
    return answer(Status("ok"))


@router.get("/readyz", tags=["state"], response_model=Status)
async def readyz(request: Request) -> Response:
    """The home can be read, the encoders of its spaces are loaded, and the service is not
    shutting down; 503 otherwise."""
    serving = serving_of(request)
    if serving.closing:
        raise Unavailable("the service is shutting down")
    if not serving.loaded:
        request.state.error = "ModelsLoading"  # in the log and the metrics, beside the status
        message = "the models of the spaces are loading; ask again in a second"
        return problem(request.state.request_id, 503, "Unavailable", message, {"retry-after": "1"})
    await serving.watching.run(serving.home.space_states)
    return answer(Status("ready"))


@router.get(
    "/metrics",
    tags=["state"],
    dependencies=[Depends(Scope("read"))],
    response_class=PlainTextResponse,
)
async def metrics(request: Request) -> Response:
    """Metrics of all spaces for Prometheus; a key for one space does not open them."""
    serving, key_space = serving_of(request), request.state.caller.space
    if key_space is not None:
        raise Forbidden(f"this key opens the space {key_space!r} only; metrics are of all spaces")
    accept = request.headers.get("accept", "")
    text, kind = await serving.watching.run(lambda: serving.meters.text(accept))
    return Response(text, headers={"content-type": kind})


@reads(router.get, "/v1/rules", tags=["about"])
def list_rules(serving: Serving) -> RuleList:
    """Every rule: what it looks at, its parameters, and whether its trust is a probability."""
    rules = (
        Rule(name, rule.kind, rule.parameters, rule.probability) for name, rule in RULES.items()
    )
    return RuleList(DEFAULT_RULE, tuple(rules))


@reads(router.get, "/v1/limits", tags=["about"])
def limits(serving: Serving) -> Limits:
    """How much a request may hold: bytes of its body, values of a JSON body, files of a form; 413
    or 422 beyond it."""
    return Limits(serving.options.body_bytes, MOST_VALUES, MOST_FILES)


@router.get("/", include_in_schema=False)
async def page(request: Request) -> Response:
    """The page. Its files have addresses relative to it: its own address must end with a slash."""
    root = serving_of(request).options.root_path
    if root and request.scope.get("raw_path", b"/").decode("latin-1") == root:
        return RedirectResponse(f"{root}/")
    return FileResponse(STATIC / "index.html", headers=_FRESH)


@router.get("/docs", include_in_schema=False)
async def docs() -> Response:
    """The HTTP API as a page that sends requests, without anything from elsewhere."""
    return FileResponse(STATIC / "docs" / "docs.html", headers=_FRESH)


@router.get("/docs/{name}", include_in_schema=False)
async def docs_file(name: str) -> Response:
    """A file of Swagger UI."""
    if name not in _SWAGGER:
        raise NotFound(f"the page of the API has no file {name!r}")
    return FileResponse(Path(str(files("fastapi_offline"))) / "static" / name, headers=_FRESH)


@router.get("/static/{name:path}", include_in_schema=False)
async def static(name: str) -> Response:
    """A file of the page: only one that lies in its folder, for any path."""
    files = {
        path.relative_to(STATIC).as_posix(): path for path in STATIC.rglob("*") if path.is_file()
    }
    if name not in files:
        raise NotFound(f"the page has no file {name!r}")
    return FileResponse(files[name], headers=_FRESH)
