"""What whoever asks may choose from, and how much they may send."""

from __future__ import annotations

from fastapi import APIRouter, Request, Response

from trustvlm.http.routes.answers import answer
from trustvlm.http.routes.openapi import READ
from trustvlm.http.wire.bodies import MOST_FILES, MOST_VALUES
from trustvlm.http.work.process import serving_of
from trustvlm.scoring.rules import DEFAULT_RULE, RULES
from trustvlm.types.answers import Limits, Rule, RuleList

__all__ = ["router"]

router = APIRouter(tags=["about"])


@router.get("/v1/rules", dependencies=READ, response_model=RuleList)
async def list_rules() -> Response:
    """Every rule: what it looks at, its parameters, and whether its trust is a probability."""
    rows = (
        Rule(name, rule.kind, rule.parameters, rule.probability) for name, rule in RULES.items()
    )
    return answer(RuleList(DEFAULT_RULE, tuple(rows)))


@router.get("/v1/limits", dependencies=READ, response_model=Limits)
async def limits(request: Request) -> Response:
    """How much a request may hold: bytes of its body, values of a JSON body, files of a form; 413
    or 422 beyond it."""
    options = serving_of(request).options
    return answer(Limits(options.body_bytes, MOST_VALUES, MOST_FILES))
