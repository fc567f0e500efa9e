"""One verdict, and the names and types of the columns of all."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Literal, get_args

from trustvlm.types.messages.brief import brief_repr
from trustvlm.types.tables.evidence import Evidence
from trustvlm.types.tables.probability import ProbabilitySource

ReasonCode = Literal[
    "not_a_label", "copy_of_other", "not_calibrated", "stale", "unknown", "unverified", "accepted",
    "better_label", "close_call", "low_evidence",
]  # fmt: skip

REASON_CODES: tuple[str, ...] = get_args(ReasonCode)
"""Why a verdict is as it is: the first of these that holds."""

VERDICT_COLUMNS = (
    "decision", "probability", "label", "reason_code", "reason", "rival", "trust",
    "text_confidence", "image_similarity", "nearest_prototype", "nearest_similarity", "agrees",
    "rival_trust", "unverified", "unknown", "accepted", "corrected_from", "label_id", "rival_id",
    "top_labels", "top_confidence", "node", "node_probability", "path",
)  # fmt: skip
"""What each verdict says, in the order of all tables and rows."""

CALL_COLUMNS = (
    "probability_source", "rule", "revision", "approximate", "error_bound", "tau", "tau_revision",
    "image_evidence", "calibration_id", "stale_since",
)  # fmt: skip
"""What all verdicts of a call share; in rows and tables behind the others."""

CLAIM_COLUMNS = (
    "claimed", "claimed_probability", "claimed_trust", "better_label", "claimed_id",
)  # fmt: skip
"""What a verdict says of a claimed label; in rows and tables of calls with claims only."""

CLAIM_CALL_COLUMNS = ("claims_calibration_id",)
"""What all verdicts of a call with claims share besides."""


@dataclass(frozen=True, kw_only=True, repr=False)
class Verdict:
    """The answer to one query: the fields of :class:`trustvlm.Verdicts`, each with one value;
    undefined numbers are None, as in JSON.

    Attributes:
        source: name of the image; None: it has none.
        claimed, claimed_probability, claimed_trust, better_label, claimed_id,
            claims_calibration_id: None in a call without claims.
    """

    decision: Literal["accept", "review", "unknown"]
    probability: float | None
    label: str
    reason_code: ReasonCode
    reason: str
    rival: str | None
    trust: float | None
    text_confidence: float | None
    image_similarity: float | None
    nearest_prototype: str | None
    nearest_similarity: float | None
    agrees: bool
    rival_trust: float | None
    unverified: bool
    unknown: bool
    accepted: bool | None
    corrected_from: str | None
    label_id: int
    rival_id: int
    top_labels: tuple[str, ...]
    top_confidence: tuple[float, ...]
    node: str | None
    node_probability: float | None
    path: tuple[str, ...]
    probability_source: ProbabilitySource | None
    rule: str
    revision: int
    approximate: bool
    error_bound: float
    tau: float | None
    tau_revision: int | None
    image_evidence: str | None
    calibration_id: int | None
    stale_since: int | None
    claimed: str | None = None
    claimed_probability: float | None = None
    claimed_trust: float | None = None
    better_label: str | None = None
    claimed_id: int | None = None
    claims_calibration_id: int | None = None
    source: str | None = None
    read_evidence: Callable[[int], Evidence] = field(compare=False)

    def evidence(self, k: int = 3) -> Evidence:
        """The `k` nearest support images of label and rival; see :meth:`Verdicts.evidence`."""
        return self.read_evidence(k)

    def to_dict(self) -> dict[str, Any]:
        """The verdict as JSON holds it, with the names of the columns as keys."""
        names: tuple[str, ...] = (*VERDICT_COLUMNS, *CALL_COLUMNS)
        if self.claimed_id is not None:  # of a call with claims; −1 without one for this query
            names += (*CLAIM_COLUMNS, *CLAIM_CALL_COLUMNS)
        row = {name: getattr(self, name) for name in names}
        return {k: list(value) if isinstance(value, tuple) else value for k, value in row.items()}

    def __repr__(self) -> str:
        shown = (
            "source", "decision", "probability", "probability_source", "label", "rival", "trust",
            "claimed", "claimed_probability", "better_label", "reason",
        )  # fmt: skip
        values = ((name, getattr(self, name)) for name in shown)
        said = (f"{name}={brief_repr(value):.200}" for name, value in values if value is not None)
        return f"Verdict({', '.join(said)})"
