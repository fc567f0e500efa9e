"""Verdicts as JSON rows, column by column: what Verdicts.rows() gives, at a tenth of its cost."""

from __future__ import annotations

from typing import Any

import numpy as np

from trustvlm.scoring.terms import terms_of, trust_range
from trustvlm.types import CALL_COLUMNS, VERDICT_COLUMNS, Verdicts
from trustvlm.types.arrays import Float64s

__all__ = ["term_rows", "verdict_rows"]


def verdict_rows(verdicts: Verdicts, start: int, stop: int) -> list[dict[str, Any]]:
    """The verdicts start … stop as plain dicts; NaN becomes None."""
    columns = [_column(getattr(verdicts, name)[start:stop]) for name in VERDICT_COLUMNS]
    shared = {name: _scalar(getattr(verdicts, name)) for name in CALL_COLUMNS}
    return [
        dict(zip(VERDICT_COLUMNS, row, strict=True)) | shared for row in zip(*columns, strict=True)
    ]


def term_rows(verdicts: Verdicts, start: int, stop: int) -> list[dict[str, Any]]:
    """What of the trust of label and rival comes from text and images (None: the rule does not look
    there), with the ends of the rule's scale (None: it has none), of the verdicts start … stop."""
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
        [None] * len(trust) if side is None else _column(side)
        for side in terms_of(rule, trust, confidence)
    ]
    return [{"text": text, "image": image} for text, image in zip(*sides, strict=True)]


def _column(values: Any) -> list[Any]:
    plain = values.tolist()
    if values.dtype.kind == "f" and np.isnan(values).any():
        return [_plain(value) for value in plain]
    return (
        [_plain(value) for value in plain]
        if values.dtype.kind == "O" and values.ndim == 1
        else plain
    )


def _plain(value: Any) -> Any:
    if isinstance(value, list):
        return [_plain(one) for one in value]
    if isinstance(value, np.generic):
        value = value.item()
    return None if isinstance(value, float) and value != value else value


def _scalar(value: Any) -> Any:
    return _plain(value)
