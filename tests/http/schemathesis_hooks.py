"""Lets schemathesis send the bodies that it does not know, .npz files, as bytes, and vectors that
have the dimensions of the spaces that it is let at: of random ones, hardly any do."""

from __future__ import annotations

from typing import Any

import schemathesis

DIMENSIONS = {
    "classifier": 2,
    "verifier": 3,
    "text_vector": 2,
    "image_vectors": 3,
    "classifier_image_vectors": 2,
}


@schemathesis.serializer("application/x-npz")  # type: ignore[untyped-decorator]
def as_bytes(context: object, value: object) -> bytes:
    return value if isinstance(value, bytes) else str(value).encode(errors="replace")


@schemathesis.hook  # type: ignore[untyped-decorator]
def map_body(context: object, body: Any) -> Any:
    """The same body with lists of numbers, where vectors belong, of the dimensions of the spaces.
    What is no list of numbers, and so against the schema, stays as it is."""
    if not isinstance(body, dict):
        return body
    fitting = {
        name: fitted(value, DIMENSIONS[name]) if name in DIMENSIONS else value
        for name, value in body.items()
    }
    if isinstance(fitting.get("labels"), list):
        fitting["labels"] = [map_body(context, one) for one in fitting["labels"]]
    counts = [
        len(rows) for name in ("classifier", "verifier") if (rows := of_vectors(fitting, name))
    ]
    if len(counts) == 2:  # as many of one kind as of the other
        for name in ("classifier", "verifier"):
            fitting[name] = fitting[name][: min(counts)]
    return fitting


def of_vectors(body: dict[str, Any], name: str) -> list[Any]:
    rows = body.get(name)
    return rows if isinstance(rows, list) and all(isinstance(row, list) for row in rows) else []


def fitted(value: Any, dimension: int) -> Any:
    if not isinstance(value, list):
        return value
    if value and all(type(one) in (int, float) for one in value):
        numbers = [max(-9.0, min(9.0, float(one % 19 - 9))) for one in value]
        return [*(numbers + [1.0] * dimension)[: dimension - 1], 1.0]
    return [fitted(one, dimension) for one in value]
