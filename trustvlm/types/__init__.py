"""The public dataclasses: options and answers of all verbs, and the conventions of their arrays."""

from __future__ import annotations

from trustvlm.types.inputs import Embedded, LabelInput, Queries
from trustvlm.types.registration import KeptLabel, KnownImage, RegisterResult
from trustvlm.types.rows import KeyRow, LabelRow, SpaceRow, SupportRow
from trustvlm.types.verdicts import (
    CALL_COLUMNS,
    REASON_CODES,
    VERDICT_COLUMNS,
    Evidence,
    Hits,
    Neighbour,
    RuleLeftOut,
    Verdicts,
)

__all__ = [
    "CALL_COLUMNS",
    "REASON_CODES",
    "VERDICT_COLUMNS",
    "Embedded",
    "Evidence",
    "Hits",
    "KeptLabel",
    "KeyRow",
    "KnownImage",
    "LabelInput",
    "LabelRow",
    "Neighbour",
    "Queries",
    "RegisterResult",
    "RuleLeftOut",
    "SpaceRow",
    "SupportRow",
    "Verdicts",
]
