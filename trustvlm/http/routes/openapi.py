"""Declarations of routes (the scope of their key, their body, their answer), and the OpenAPI
document made of them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Any

from fastapi import APIRouter, Depends, FastAPI, Path, Query, Response
from fastapi.openapi.utils import get_openapi

from trustvlm import __version__
from trustvlm.errors import STATUSES
from trustvlm.http.guard.keyring import Scope
from trustvlm.http.routes.docstrings import describe_fields
from trustvlm.http.wire.bodies import (
    FORM,
    JSON,
    NPZ,
    REF,
    form_fields,
    options_of,
    schema_of,
    without_null,
)
from trustvlm.http.wire.examples import EXAMPLES
from trustvlm.http.wire.parameters import OPTIONS, check_request, matched
from trustvlm.types.options import Options

SPACE = "/v1/spaces/{space}"
Id = Annotated[int, Path(ge=1, le=2**63 - 1)]
After = Annotated[int | None, Query(ge=0, le=2**63 - 1)]

_CHECKS = [Depends(check_request), Depends(matched)]
_SCOPES = {scope: [Depends(Scope(scope)), *_CHECKS] for scope in ("read", "write", "admin")}

JPEG: dict[str, Any] = {
    "dependencies": _SCOPES["read"],
    "response_class": Response,
    "responses": {
        200: {"content": {"image/jpeg": {"schema": {"type": "string", "format": "binary"}}}}
    },
}
"""The arguments of a route that answers with a thumbnail."""

_BODIES: dict[str, type[Options]] = {}
_FORMS: dict[str, type[Options]] = {}
_ABOUT = (
    "Says whether a vision-language model's label can be trusted. Keys go into "
    "'Authorization: Bearer KEY' or 'X-API-Key: KEY'."
)
_BYTES = {"type": "string", "format": "binary"}
_PROBLEM = {
    "type": "object",
    "required": ["error"],
    "properties": {
        "error": {
            "type": "object",
            "required": ["kind", "message", "request_id"],
            "properties": {name: {"type": "string"} for name in ("kind", "message", "request_id")},
        }
    },
}


def router_of(*tags: str) -> APIRouter:
    """A group of routes under these headings of the OpenAPI document, each with the name of its
    function."""
    return APIRouter(tags=[*tags], generate_unique_id_function=lambda route: route.name)


def route(
    scope: str,
    answers: Any,
    body: type[Options] | None = None,
    *kinds: str,
    form: type[Options] | None = None,
    status: int = 200,
) -> dict[str, Any]:
    """The arguments of a route: the scope of its key, the type of its answer, and its body.

    Args:
        kinds: the content types of the body. form: the fields of a form, if not those of `body`.
    """
    declared = {"dependencies": _SCOPES[scope], "response_model": answers, "status_code": status}
    return declared if body is None else declared | {"openapi_extra": _takes(body, kinds, form)}


def _takes(body: type[Options], kinds: Sequence[str], form: type[Options] | None) -> dict[str, Any]:
    """The part of a route's OpenAPI entry that describes its body."""
    form = form or body
    content: dict[str, Any] = {}
    query_options = {}
    if JSON in kinds:
        _BODIES[body.__name__] = body
        content[JSON] = {"schema": _named(body.__name__), "example": EXAMPLES.get(body, {})}
    if NPZ in kinds:
        text = "numpy.savez of the same arrays; options as query parameters"
        content[NPZ] = {"schema": _BYTES | {"description": text}}
        query_options[NPZ] = options_of(body)
    if FORM in kinds:
        name = f"{form.__name__.removesuffix('Body').removesuffix('Form')}Form"
        _FORMS[name] = form
        content[FORM] = {"schema": _named(name)}
        query_options[FORM] = options_of(form)
    described = {"requestBody": {"required": True, "content": content}}
    return described | ({OPTIONS: query_options} if query_options else {})


def _named(name: str) -> dict[str, Any]:
    return {"$ref": REF.format(model=name)}


def _form(body: type[Options]) -> dict[str, Any]:
    """The fields of a form: lists are repeated fields, objects and lists of lists are JSON in a
    field, and there are no nulls."""
    kinds = form_fields(body)
    required = [name for name in schema_of(body).get("required", []) if name in kinds]
    images = {"type": "array", "items": _BYTES, "minItems": 1}
    return {
        "type": "object",
        "required": ["images", *required],
        "properties": {"images": images} | {name: _field(kind) for name, kind in kinds.items()},
        "additionalProperties": False,
    }


def _field(kind: dict[str, Any]) -> dict[str, Any]:
    if kind.get("type") == "object":
        return {"type": "string", "contentMediaType": JSON, "examples": ["{}"]}
    if kind.get("type") == "array":
        items = without_null(kind["items"])
        if items.get("type") == "array":
            return {"type": "string", "contentMediaType": JSON, "examples": ['[{"sea": 0.7}]']}
        kind = kind | {"items": _field(items)}
    return {name: value for name, value in kind.items() if name not in ("default", "title")}


def describe(app: FastAPI, root_path: str) -> None:
    """Give the application its OpenAPI document."""

    def document() -> dict[str, Any]:
        if app.openapi_schema is None:
            app.openapi_schema = _document(app, root_path)
        return app.openapi_schema

    app.openapi = document  # type: ignore[method-assign]


def _document(app: FastAPI, root_path: str) -> dict[str, Any]:
    document = get_openapi(
        title="trustvlm",
        version=__version__,
        description=_ABOUT,
        routes=app.routes,
        servers=[{"url": root_path}] if root_path else None,
    )
    document["security"] = [{}, {"key": []}, {"header": []}]
    components = document.setdefault("components", {})
    components["securitySchemes"] = {
        "key": {"type": "http", "scheme": "bearer"},
        "header": {"type": "apiKey", "in": "header", "name": "X-API-Key"},
    }
    schemas = components.setdefault("schemas", {})
    for name in ("HTTPValidationError", "ValidationError"):
        schemas.pop(name, None)
    schemas["Problem"] = _PROBLEM
    for name, body in _BODIES.items():
        schema = schema_of(body)
        schemas |= schema.pop("$defs", {})
        schemas[name] = schema
    schemas |= {name: _form(body) for name, body in _FORMS.items()}
    for schema in schemas.values():
        describe_fields(schema)
    problem = {"description": "see error.kind", "content": {JSON: {"schema": _named("Problem")}}}
    problems = {str(status): problem for status in sorted({*STATUSES.values(), 431, 500})}
    for operations in document["paths"].values():
        for operation in operations.values():
            operation["responses"].pop("422", None)
            operation["responses"] |= problems
    return document
