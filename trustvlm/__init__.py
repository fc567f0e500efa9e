"""trustvlm: says whether a vision-language model's label can be trusted.

>>> import trustvlm
>>> service = trustvlm.open("home", create=True)  # doctest: +SKIP

Names are handed on when first used, so that importing this package loads neither torch nor faiss.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from trustvlm.errors import (
    Busy,
    Conflict,
    Damaged,
    InvalidInput,
    NotFound,
    ReadOnly,
    SchemaMismatch,
    TrustVLMError,
    Unavailable,
    WeightsMissing,
)

if TYPE_CHECKING:
    from trustvlm.client import AsyncClient, Client
    from trustvlm.reading.label_files import read_labels
    from trustvlm.reading.sets.read import read_images
    from trustvlm.reading.tables import read_parents
    from trustvlm.restoring import restore
    from trustvlm.scoring.rules import DEFAULT_RULE, RULES
    from trustvlm.service import TrustService
    from trustvlm.settings import open_service as open
    from trustvlm.types import (
        Evidence,
        Hit,
        Hits,
        LabelInput,
        LabelRow,
        Neighbour,
        Queries,
        RegisterResult,
        SpaceRow,
        SupportRow,
        Verdict,
        Verdicts,
    )
    from trustvlm.types.attributes.filters import Filter
    from trustvlm.types.backups import Reembedding
    from trustvlm.types.calibration import Calibration, FeedbackResult, MonitorReport
    from trustvlm.types.evaluation import Evaluation
    from trustvlm.types.verification import VerifyReport

__version__ = "0.1.0"

__all__ = [
    "DEFAULT_RULE",
    "RULES",
    "AsyncClient",
    "Busy",
    "Calibration",
    "Client",
    "Conflict",
    "Damaged",
    "Evaluation",
    "Evidence",
    "FeedbackResult",
    "Filter",
    "Hit",
    "Hits",
    "InvalidInput",
    "LabelInput",
    "LabelRow",
    "MonitorReport",
    "Neighbour",
    "NotFound",
    "Queries",
    "ReadOnly",
    "Reembedding",
    "RegisterResult",
    "SchemaMismatch",
    "SpaceRow",
    "SupportRow",
    "TrustService",
    "TrustVLMError",
    "Unavailable",
    "Verdict",
    "Verdicts",
    "VerifyReport",
    "WeightsMissing",
    "__version__",
    "open",
    "read_images",
    "read_labels",
    "read_parents",
    "restore",
]

_FROM = {
    "trustvlm.client": ("AsyncClient", "Client"),
    "trustvlm.reading.label_files": ("read_labels",),
    "trustvlm.reading.sets.read": ("read_images",),
    "trustvlm.reading.tables": ("read_parents",),
    "trustvlm.types.attributes.filters": ("Filter",),
    "trustvlm.types.verification": ("VerifyReport",),
    "trustvlm.types.backups": ("Reembedding",),
    "trustvlm.types.evaluation": ("Evaluation",),
    "trustvlm.types.calibration": ("Calibration", "FeedbackResult", "MonitorReport"),
    "trustvlm.scoring.rules": ("DEFAULT_RULE", "RULES"),
    "trustvlm.service": ("TrustService",),
    "trustvlm.restoring": ("restore",),
    "trustvlm.types": (
        "Evidence", "Hit", "Hits", "LabelInput", "LabelRow", "Neighbour", "Queries",
        "RegisterResult", "SpaceRow", "SupportRow", "Verdict", "Verdicts",
    ),
}  # fmt: skip
_HOME = {name: module for module, names in _FROM.items() for name in names}


def __getattr__(name: str) -> Any:
    if name == "open":
        return import_module("trustvlm.settings").open_service
    if name in ("bulk", "testing"):
        return import_module(f"trustvlm.{name}")
    if name in _HOME:
        value = globals()[name] = getattr(import_module(_HOME[name]), name)
        return value
    raise AttributeError(f"module 'trustvlm' has no attribute {name!r}")


def __dir__() -> list[str]:
    return list(__all__)
