"""Declarations of routes (the scope of their key, their body, their answer), and the OpenAPI
document made of them."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

from fastapi import Depends, FastAPI
from fastapi.openapi.utils import get_openapi

from trustvlm import __version__
from trustvlm.errors import STATUSES
from trustvlm.http.guard.keyring import Scope
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
from trustvlm.http.wire.matching import matched
from trustvlm.http.wire.parameters import OPTIONS, check_request
from trustvlm.http.wire.schemas import examples
from trustvlm.types.options import Options

__all__ = ["READ", "WRITE", "describe", "route"]

_CHECKS = [Depends(check_request), Depends(matched)]
_SCOPES = {scope: [Depends(Scope(scope)), *_CHECKS] for scope in ("read", "write", "admin")}
READ, WRITE = _SCOPES["read"], _SCOPES["write"]

_BODIES: dict[str, type[Options]] = {}
_FORMS: dict[str, type[Options]] = {}
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


_SPACE = {"space": "$request.path.space"}
_LINKS: dict[tuple[str, str, str], tuple[str, dict[str, str]]] = {
    ("post", "/v1/spaces", "201"): ("space", {"space": "$response.body#/name"}),
    ("get", "/v1/spaces", "200"): ("space", {"space": "$response.body#/spaces/0/name"}),
    ("get", "/v1/spaces/{space}/labels", "200"): (
        "label",
        {**_SPACE, "label": "$response.body#/labels/0/name"},
    ),
    ("get", "/v1/spaces/{space}/labels/{label}/supports", "200"): (
        "support",
        {**_SPACE, "support": "$response.body#/supports/0/id"},
    ),
    ("get", "/v1/spaces/{space}/calibrations", "200"): (
        "calibration",
        {**_SPACE, "calibration": "$response.body#/calibrations/0/id"},
    ),
    ("get", "/v1/jobs", "200"): ("job", {"job": "$response.body#/jobs/0/id"}),
    ("post", "/v1/spaces/{space}/evaluate", "202"): ("job", {"job": "$response.body#/id"}),
}
"""(method, path, status) → the parameter that its answer holds, and where in the exchange each
parameter stands."""


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
        content[JSON] = {"schema": _named(body.__name__), "example": examples(body)}
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
    """The fields of a form: lists are repeated fields, objects are JSON in a field, and there are
    no nulls."""
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
        kind = kind | {"items": _field(without_null(kind["items"]))}
    return {name: value for name, value in kind.items() if name not in ("default", "title")}


def describe(app: FastAPI, root_path: str) -> None:
    """Give the application its OpenAPI document."""

    def document() -> dict[str, Any]:
        if app.openapi_schema is None:
            app.openapi_schema = _document(app, root_path)
        return app.openapi_schema

    app.openapi = document  # type: ignore[method-assign]


def _document(app: FastAPI, root_path: str) -> dict[str, Any]:
    keys = "'Authorization: Bearer KEY' or 'X-API-Key: KEY'"
    document = get_openapi(
        title="trustvlm",
        version=__version__,
        description="Says whether a vision-language model's label can be trusted. Keys go into "
        f"{keys}.",
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
    problem = {"description": "see error.kind", "content": {JSON: {"schema": _named("Problem")}}}
    problems = {str(status): problem for status in sorted({*STATUSES.values(), 500})}
    for operations in document["paths"].values():
        for operation in operations.values():
            operation["responses"].pop("422", None)
            operation["responses"] |= problems
    _link(document["paths"])
    return document


def _link(paths: dict[str, Any]) -> None:
    """Link every answer that holds a name or an id to the requests whose path takes it."""
    operations = [
        (set(re.findall(r"{(\w+)}", path)), operation)
        for path, methods in paths.items()
        for operation in methods.values()
    ]
    for (method, path, status), (held, places) in _LINKS.items():
        paths[path][method]["responses"][status]["links"] = {
            operation["operationId"]: {
                "operationId": operation["operationId"],
                "parameters": {name: places[name] for name in sorted(parameters)},
            }
            for parameters, operation in operations
            if held in parameters and parameters <= places.keys()
        }
