"""What the HTTP service answers around the dataclasses of the library: pages, rows, jobs.

Fields that an answer may lack stand in typed dicts; everything else is a dataclass.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Any, Literal, NotRequired, get_type_hints

from pydantic_core import core_schema
from typing_extensions import TypedDict

from trustvlm.types.arrays import Bools, Float64s, Int64s
from trustvlm.types.calibration import Calibration
from trustvlm.types.evaluation import Evaluation
from trustvlm.types.json_form import Answer, Time
from trustvlm.types.rows import LabelRow, SpaceRow, SupportRow
from trustvlm.types.verdicts import CALL_COLUMNS, REASON_CODES, VERDICT_COLUMNS, Evidence, Verdicts

__all__ = [
    "CalibrationList", "CheckedLabels", "Embeddings", "EvidenceList", "Hit", "HitList", "Job",
    "JobList", "LabelPage", "Limits", "PicturedLabelRow", "RemovedCalibration", "RemovedSpace",
    "Revision", "Rule", "RuleList", "Scored", "SpaceDetails", "SpaceList", "Status",
    "StoredCalibration", "SupportList", "UnreadFile", "Verdict",
]  # fmt: skip


@dataclass(frozen=True)
class Status(Answer):
    """Whether the service is alive, or ready."""

    status: str


@dataclass(frozen=True)
class Rule(Answer):
    """A rule that can be scored with."""

    name: str
    kind: Literal["text", "image", "fused"]
    parameters: Mapping[str, float | None]
    probability: bool


@dataclass(frozen=True)
class RuleList(Answer):
    """Every rule, and the one that is used where none is named or in force."""

    default: str
    rules: tuple[Rule, ...]


@dataclass(frozen=True)
class Limits(Answer):
    """How much a request may hold."""

    body_bytes: int
    json_values: int
    form_files: int


@dataclass(frozen=True)
class SpaceList(Answer):
    """Label spaces by name."""

    spaces: tuple[SpaceRow, ...]


@dataclass(frozen=True)
class SpaceDetails(SpaceRow):
    """A label space, and how many of its labels have no support image."""

    unverified_count: int


@dataclass(frozen=True)
class RemovedSpace(Answer):
    """The name of the space that was removed."""

    removed: str


@dataclass(frozen=True)
class RemovedCalibration(Answer):
    """The number of the calibration that was taken back."""

    removed: int


@dataclass(frozen=True)
class Revision(Answer):
    """The revision of the space after a change."""

    revision: int


@dataclass(frozen=True, kw_only=True)
class PicturedLabelRow(LabelRow):
    """A label with the ids of some of its support images."""

    supports: tuple[int, ...]


@dataclass(frozen=True)
class LabelPage(Answer):
    """A page of labels."""

    labels: tuple[LabelRow | PicturedLabelRow, ...]
    next_cursor: str | None


@dataclass(frozen=True)
class CheckedLabels(Answer):
    """How many labels the checked names have."""

    labels: int


@dataclass(frozen=True)
class SupportList(Answer):
    """The support images of a label."""

    supports: tuple[SupportRow, ...]


@dataclass(frozen=True)
class UnreadFile(Answer):
    """A file of a form that could not be read, with its place among the files."""

    index: int
    source: str
    reason: str


class Terms(TypedDict):
    """What of a trust comes from the text and what from the images; null: the rule does not look
    there."""

    text: float | None
    image: float | None


class VerdictTerms(TypedDict):
    """The terms of label and rival, and the ends of the rule's scale; null: it has none."""

    range: tuple[float, float] | None
    label: Terms
    rival: Terms | None


_OBJECTS: dict[str, Any] = {
    "label": str,
    "decision": Literal["accept", "review", "unknown"],
    "reason_code": Literal[REASON_CODES],
    "reason": str,
    "accepted": bool | None,
    "probability": float | None,
    "top_labels": list[str],
    "top_confidence": list[float],
}
_NUMBERS: dict[Any, Any] = {Int64s: int, Float64s: float | None, Bools: bool}
_HINTS = get_type_hints(Verdicts)
_CALL: dict[str, Any] = {name: _HINTS[name] for name in CALL_COLUMNS}
_typed_dict: Any = TypedDict


def _cell(name: str) -> Any:
    """The JSON of one row of a column of verdicts; NaN is null, and so is a text that is absent."""
    return _OBJECTS.get(name) or _NUMBERS.get(_HINTS[name], str | None)


Verdict: Any = _typed_dict(
    "Verdict",
    {name: _cell(name) for name in VERDICT_COLUMNS}
    | _CALL
    | {"evidence": NotRequired[Evidence], "terms": NotRequired[VerdictTerms]}
    | {"index": NotRequired[int], "source": NotRequired[str]},
)


class _Documented:
    """Leaves a value as JSON holds it; only the OpenAPI document names its type."""

    def __init__(self, kind: Any) -> None:
        self.kind = kind

    def __get_pydantic_core_schema__(self, _: Any, handler: Any) -> Any:
        return core_schema.no_info_wrap_validator_function(
            lambda value, _: value,
            handler.generate_schema(self.kind),
            serialization=core_schema.plain_serializer_function_ser_schema(lambda value: value),
        )


class EvidenceState(TypedDict):
    """What the service needs to know to read the evidence of verdicts later."""

    space: int
    epoch: str
    aliases: dict[str, list[int]]


Scored: Any = _typed_dict(
    "Scored",
    _CALL
    | {"params": dict[str, float | None], "top_k": int, "verdicts": list[Verdict]}
    | {
        "evidence_state": NotRequired[EvidenceState],
        "failures": NotRequired[list[UnreadFile]],
        "notes": NotRequired[list[str]],
    },
)


@dataclass(frozen=True)
class EvidenceList(Answer):
    """The evidence of verdicts, in their order."""

    evidence: tuple[Evidence, ...]


@dataclass(frozen=True)
class Embeddings(Answer):
    """Image files as embeddings; null: none could be read."""

    classifier: list[list[float]] | None
    verifier: list[list[float]] | None
    places: tuple[int, ...]
    sources: tuple[str, ...]
    notes: tuple[str, ...]
    failures: tuple[UnreadFile, ...]


class Hit(TypedDict):
    """One of the nearest rows of a query, counted from 0; ranks are counted from 1."""

    query: int
    rank: int
    id: int
    similarity: float
    label: str
    source: str | None


@dataclass(frozen=True)
class HitList(Answer):
    """The nearest support images, prototypes or text prototypes of queries."""

    revision: int
    kind: Literal["support", "prototype", "text"]
    hits: Annotated[list[Hit], _Documented(list[Hit])]
    notes: tuple[str, ...]
    approximate: bool
    error_bound: float
    recall: float | None


@dataclass(frozen=True, kw_only=True)
class StoredCalibration(Calibration):
    """A calibration of a space: whether the space has changed since, and whether it decides."""

    stale: bool
    in_force: bool


@dataclass(frozen=True)
class CalibrationList(Answer):
    """The calibrations of a space, newest first, and its revision."""

    revision: int
    calibrations: tuple[StoredCalibration, ...]


class JobError(TypedDict):
    """Why a job failed or was interrupted."""

    kind: str
    message: str


@dataclass(frozen=True)
class Job(Answer):
    """Long work that the service does.

    Attributes:
        id: its name. space: where.
        kind: "evaluate", "calibrate", or "import" (of an earlier version).
        state: "queued", "running", "done", "failed", "cancelled" or "interrupted" (its service was
            asked to end).
        phase, done, total: what it does now, and how much of it is done; total is None where that
            is not known.
        error: kind and message of what it failed with. result: the answer, as JSON holds it (of a
            listed job: None).
        cancelling: it is to stop. created_at, changed_at: when.
    """

    id: str
    kind: Literal["evaluate", "calibrate", "import"]
    space: str
    state: Literal["queued", "running", "done", "failed", "cancelled", "interrupted"]
    phase: str
    done: int
    total: int | None
    error: JobError | None
    result: Annotated[Mapping[str, Any] | None, _Documented(Evaluation | Calibration | None)]
    cancelling: bool
    created_at: Time
    changed_at: Time

    @property
    def ended(self) -> bool:
        """Whether nothing more is done."""
        return self.state not in ("queued", "running")


@dataclass(frozen=True)
class JobList(Answer):
    """The newest jobs, without their results."""

    jobs: tuple[Job, ...]
