"""The parts of verdicts' trust that come from text and from images, as JSON rows."""

from __future__ import annotations

from typing import Any

from trustvlm.scoring.terms import terms_of, trust_range
from trustvlm.types import Verdicts
from trustvlm.types.arrays import Float64s


def term_rows(verdicts: Verdicts, start: int, stop: int) -> list[dict[str, Any]]:
    """The parts of the trust of label and rival that come from text and from images (None: the rule
    does not use them), with the ends of the rule's scale (None: it has none)."""
    scale = trust_range(verdicts.rule, verdicts.params)
    label = _terms(verdicts.rule, verdicts.trust[start:stop], verdicts.text_confidence[start:stop])
    assert verdicts.rival_confidence is not None
    rival = _terms(
        verdicts.rule, verdicts.rival_trust[start:stop], verdicts.rival_confidence[start:stop]
    )
    return [
        {"range": scale, "label": one, "rival": None if name is None else other}
        for one, other, name in zip(label, rival, verdicts.rival[start:stop].tolist(), strict=True)
    ]


def _terms(rule: str, trust: Float64s, confidence: Float64s) -> list[dict[str, float | None]]:
    sides = [
        [None] * len(trust) if side is None else _undefined_as_none(side)
        for side in terms_of(rule, trust, confidence)
    ]
    return [{"text": text, "image": image} for text, image in zip(*sides, strict=True)]


def _undefined_as_none(numbers: Float64s) -> list[float | None]:
    return [None if number != number else number for number in numbers.tolist()]
