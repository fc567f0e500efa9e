"""The OpenAPI document: which bodies the routes take, what they answer, and who may ask."""

from __future__ import annotations

from typing import Any

from fastapi import Depends, FastAPI
from fastapi.openapi.utils import get_openapi

from trustvlm import __version__
from trustvlm.errors import STATUSES
from trustvlm.http.guard.keyring import Scope
from trustvlm.http.routes.links import link
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

__all__ = ["ADMIN", "READ", "WRITE", "describe", "takes"]

_CHECKS = [Depends(check_request), Depends(matched)]
READ, WRITE, ADMIN = ([Depends(Scope(scope)), *_CHECKS] for scope in ("read", "write", "admin"))

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


def takes(body: type[Options], *kinds: str, form: type[Options] | None = None) -> dict[str, Any]:
    """The part of a route's OpenAPI entry that says which bodies it takes."""
    content: dict[str, Any] = {}
    for kind in kinds:
        if kind == JSON:
            _BODIES[body.__name__] = body
            content[kind] = {"schema": _named(body.__name__), "example": examples(body)}
        elif kind == NPZ:
            content[kind] = {
                "schema": _BYTES
                | {"description": "numpy.savez of the same arrays; options as query parameters"}
            }
        elif kind == FORM:
            name = f"{(form or body).__name__.removesuffix('Body').removesuffix('Form')}Form"
            _FORMS[name] = form or body
            content[kind] = {"schema": _named(name)}
    options = {
        kind: options_of(model)
        for kind, model in ((NPZ, body), (FORM, form or body))
        if kind in kinds
    }
    return {"requestBody": {"required": True, "content": content}} | (
        {OPTIONS: options} if options else {}
    )


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
    text = f"Says whether a vision-language model's label can be trusted. Keys go into {keys}."
    servers = [{"url": root_path}] if root_path else None
    found = get_openapi(
        title="trustvlm", version=__version__, description=text, routes=app.routes, servers=servers
    )
    schemas = found.setdefault("components", {}).setdefault("schemas", {})
    schemas["Problem"] = _PROBLEM
    for name, body in _BODIES.items():
        schema = schema_of(body)
        schemas |= schema.pop("$defs", {})
        schemas[name] = schema
    schemas |= {name: _form(body) for name, body in _FORMS.items()}
    found["components"]["securitySchemes"] = {
        "key": {"type": "http", "scheme": "bearer"},
        "header": {"type": "apiKey", "in": "header", "name": "X-API-Key"},
    }
    found["security"] = [{}, {"key": []}, {"header": []}]
    statuses = {str(status) for status in (*STATUSES.values(), 500)}
    for path in found["paths"].values():
        for operation in path.values():
            operation["responses"].pop("422", None)
            for status in sorted(statuses):
                problem = {"schema": _named("Problem")}
                operation["responses"][status] = {
                    "description": "see error.kind",
                    "content": {JSON: problem},
                }
    link(found["paths"])
    for name in ("HTTPValidationError", "ValidationError"):
        schemas.pop(name, None)
    return found
