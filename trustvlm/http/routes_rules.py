"""The trust rules that there are, for those who let people choose one."""

from __future__ import annotations

from fastapi import APIRouter, Response

from trustvlm.http.answers import answer
from trustvlm.http.docs import READ
from trustvlm.scoring.rules import DEFAULT_RULE, RULES

__all__ = ["router"]

router = APIRouter(tags=["queries"])


@router.get("/v1/rules", dependencies=READ)
async def list_rules() -> Response:
    """Every rule: what it looks at, its parameters, and whether its trust is a probability."""
    rows = [
        {"name": name, "kind": rule.kind, "parameters": dict(rule.parameters), "probability": rule.probability}
        for name, rule in RULES.items()
    ]
    return answer({"default": DEFAULT_RULE, "rules": rows})
