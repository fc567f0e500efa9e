"""The public dataclasses: options and answers of all verbs, and the conventions of their arrays.

Names are imported at first use: NumPy takes a tenth of a second that ``--help`` does without.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from trustvlm.types.inputs import Embedded, LabelInput, Queries
    from trustvlm.types.registration import KeptLabel, KnownImage, RegisterResult
    from trustvlm.types.rows import KeyRow, LabelRow, SpaceRow, SupportRow
    from trustvlm.types.tables.evidence import Evidence, Neighbour
    from trustvlm.types.tables.hits import Hit, Hits
    from trustvlm.types.tables.verdict import CALL_COLUMNS, REASON_CODES, VERDICT_COLUMNS, Verdict
    from trustvlm.types.verdicts import RuleLeftOut, Verdicts

__all__ = [
    "CALL_COLUMNS", "REASON_CODES", "VERDICT_COLUMNS", "Embedded", "Evidence", "Hit", "Hits",
    "KeptLabel", "KeyRow", "KnownImage", "LabelInput", "LabelRow", "Neighbour", "Queries",
    "RegisterResult", "RuleLeftOut", "SpaceRow", "SupportRow", "Verdict", "Verdicts",
]  # fmt: skip

_MODULES = {
    "inputs": ("Embedded", "LabelInput", "Queries"),
    "registration": ("KeptLabel", "KnownImage", "RegisterResult"),
    "rows": ("KeyRow", "LabelRow", "SpaceRow", "SupportRow"),
    "tables.evidence": ("Evidence", "Neighbour"),
    "tables.hits": ("Hit", "Hits"),
    "tables.verdict": ("CALL_COLUMNS", "REASON_CODES", "VERDICT_COLUMNS", "Verdict"),
    "verdicts": ("RuleLeftOut", "Verdicts"),
}
_MODULE_OF = {name: module for module, names in _MODULES.items() for name in names}


def __getattr__(name: str) -> Any:
    if name not in _MODULE_OF:
        raise AttributeError(f"module 'trustvlm.types' has no attribute {name!r}")
    return getattr(import_module(f"trustvlm.types.{_MODULE_OF[name]}"), name)
