"""What whoever asks may choose from, and how much they may send."""

from __future__ import annotations

from fastapi import APIRouter, Request, Response

from trustvlm.http.routes.answers import answer
from trustvlm.http.routes.openapi import READ, gives
from trustvlm.http.wire.bodies import MOST_FILES, MOST_VALUES
from trustvlm.http.wire.shapes import Limits, RuleList
from trustvlm.http.work.process import serving_of
from trustvlm.scoring.rules import DEFAULT_RULE, RULES

__all__ = ["router"]

router = APIRouter(tags=["about"])


@router.get("/v1/rules", dependencies=READ, openapi_extra=gives(RuleList))
async def list_rules() -> Response:
    """Every rule: what it looks at, its parameters, and whether its trust is a probability."""
    rows = [
        {
            "name": name,
            "kind": rule.kind,
            "parameters": dict(rule.parameters),
            "probability": rule.probability,
        }
        for name, rule in RULES.items()
    ]
    return answer({"default": DEFAULT_RULE, "rules": rows})


@router.get("/v1/limits", dependencies=READ, openapi_extra=gives(Limits))
async def limits(request: Request) -> Response:
    """How much a request may hold: bytes of its body, values of a JSON body, files of a form; 413
    or 422 beyond it."""
    options = serving_of(request).options
    return answer(
        {"body_bytes": options.body_bytes, "json_values": MOST_VALUES, "form_files": MOST_FILES}
    )
