"""What the routes answer, as types: the dataclasses of the library, and the JSON objects around
them.

Nothing is validated against them when an answer is sent: they are for the OpenAPI document, and a
test holds the answers of every route against them.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields
from datetime import datetime
from typing import Any, Literal, NotRequired, get_type_hints

from pydantic import TypeAdapter
from pydantic.json_schema import GenerateJsonSchema, JsonSchemaValue
from pydantic_core import core_schema
from typing_extensions import TypedDict

from trustvlm.types import (
    CALL_COLUMNS,
    REASON_CODES,
    VERDICT_COLUMNS,
    Evidence,
    KnownImage,
    LabelRow,
    RegisterResult,
    SpaceRow,
    SupportRow,
    Verdicts,
)
from trustvlm.types.arrays import Bools, Float64s, Int64s
from trustvlm.types.calibration import Calibration, MonitorReport
from trustvlm.types.evaluation import (
    Estimate,
    Evaluation,
    LabelOutcome,
    RuleOutcome,
    ShotOutcome,
    WrongImage,
)

__all__ = ["schemas_of"]

UNDEFINED = (
    Estimate,
    RuleOutcome,
    LabelOutcome,
    ShotOutcome,
    WrongImage,
    Calibration,
    MonitorReport,
)
"""Their numbers may be NaN, which JSON does not have: null."""

_typed_dict: Any = TypedDict  # made of fields that are known only here


def _like(name: str, kind: type, **others: Any) -> Any:
    """The JSON object of a dataclass: its fields, some of them as something else, and further
    ones."""
    hints = get_type_hints(kind)
    return _typed_dict(name, {field.name: hints[field.name] for field in fields(kind)} | others)


class Status(TypedDict):
    """Whether the service is alive, or ready."""

    status: str


class Rule(TypedDict):
    """A rule that can be scored with."""

    name: str
    kind: Literal["text", "image", "fused"]
    parameters: dict[str, float | None]
    probability: bool


class RuleList(TypedDict):
    """Every rule, and the one that is used where none is named or in force."""

    default: str
    rules: list[Rule]


class Limits(TypedDict):
    """How much a request may hold."""

    body_bytes: int
    json_values: int
    form_files: int


class SpaceList(TypedDict):
    """Label spaces by name."""

    spaces: list[SpaceRow]


SpaceDetails: Any = _like("SpaceDetails", SpaceRow, unverified_count=int)


class RemovedSpace(TypedDict):
    """The name of the space that was removed."""

    removed: str


class RemovedCalibration(TypedDict):
    """The number of the calibration that was taken back."""

    removed: int


class Revision(TypedDict):
    """The revision of the space after a change."""

    revision: int


ListedLabel: Any = _like("ListedLabel", LabelRow, supports=NotRequired[list[int]])


class LabelPage(TypedDict):
    """A page of labels."""

    labels: list[ListedLabel]
    next_cursor: str | None


class CheckedLabels(TypedDict):
    """How many labels the names that were checked are of."""

    labels: int


class SupportList(TypedDict):
    """The support images of a label."""

    supports: list[SupportRow]


class UnreadImage(TypedDict):
    """An image that could not be read."""

    source: str
    reason: str


class UnreadFile(UnreadImage):
    """One of a form's files that could not be read, by its place among them."""

    index: int


class NearSynonyms(TypedDict):
    """Two labels whose text is nearly the same."""

    label: str
    other: str
    cosine: float


Registration: Any = _like(
    "Registration",
    RegisterResult,
    failures=list[UnreadImage],
    near_synonyms=list[NearSynonyms] | None,
)


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
}
_ROWS: dict[str, Any] = {"top_confidence": list[float]}
_NUMBERS: dict[Any, Any] = {Int64s: int, Float64s: float | None, Bools: bool}
_HINTS = get_type_hints(Verdicts)
_CALL: dict[str, Any] = {name: _HINTS[name] for name in CALL_COLUMNS}


def _column(name: str) -> Any:
    """The JSON of one row of a column of verdicts; NaN is null, and texts that are not always there
    are, too."""
    return _ROWS.get(name) or _NUMBERS.get(_HINTS[name]) or _OBJECTS.get(name, str | None)


Verdict: Any = _typed_dict(
    "Verdict",
    {name: _column(name) for name in VERDICT_COLUMNS}
    | _CALL
    | {"evidence": NotRequired[Evidence], "terms": NotRequired[VerdictTerms]}
    | {"index": NotRequired[int], "source": NotRequired[str]},
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


class EvidenceList(TypedDict):
    """The evidence of verdicts, in their order."""

    evidence: list[Evidence]


class Embeddings(TypedDict):
    """Image files as embeddings; null: none could be read."""

    classifier: list[list[float]] | None
    verifier: list[list[float]] | None
    places: list[int]
    sources: list[str]
    notes: list[str]
    failures: list[UnreadFile]


class Hit(TypedDict):
    """One of the nearest rows of a query, counted from 0; ranks are counted from 1."""

    query: int
    rank: int
    id: int
    similarity: float
    label: str
    source: str | None


class HitList(TypedDict):
    """The nearest support images, prototypes or text prototypes of queries."""

    revision: int
    kind: Literal["support", "prototype", "text"]
    hits: list[Hit]
    notes: list[str]
    approximate: bool
    error_bound: float
    recall: float | None


MadeCalibration: Any = _like("MadeCalibration", Calibration, failed=bool)
StoredCalibration: Any = _like(
    "StoredCalibration", Calibration, failed=bool, stale=bool, in_force=bool
)


class CalibrationList(TypedDict):
    """The calibrations of a space, newest first, and its revision."""

    revision: int
    calibrations: list[StoredCalibration]


class ImportResult(TypedDict):
    """What an import has changed so far."""

    added_labels: int
    added_supports: int
    skipped_duplicates: int
    revision: int
    drift: list[str]
    elsewhere: list[KnownImage]
    taken_out: list[KnownImage]
    cut_prompts: list[str]


class JobError(TypedDict):
    """Why a job failed or was interrupted."""

    kind: str
    message: str


class Job(TypedDict):
    """Long work: how far it is and, at its end, what it found."""

    id: str
    kind: Literal["evaluate", "calibrate", "import"]
    space: str
    state: Literal["queued", "running", "done", "failed", "cancelled", "interrupted"]
    phase: str
    done: int
    total: int | None
    error: JobError | None
    result: Evaluation | MadeCalibration | ImportResult | None
    cancelling: bool
    created_at: datetime
    changed_at: datetime


class JobList(TypedDict):
    """The newest jobs, without their results."""

    jobs: list[Job]


class _Answers(GenerateJsonSchema):
    """Schemas of what is sent: where a number may be undefined, it may be null."""

    _undefined = False

    def _of(self, cls: type, schema: Any, make: Any) -> JsonSchemaValue:
        before, self._undefined = (
            self._undefined,
            issubclass(cls, UNDEFINED) or cls in (MadeCalibration, StoredCalibration),
        )
        made: JsonSchemaValue = make(schema)
        self._undefined = before
        return made

    def dataclass_schema(self, schema: core_schema.DataclassSchema) -> JsonSchemaValue:
        return self._of(schema["cls"], schema, super().dataclass_schema)

    def typed_dict_schema(self, schema: core_schema.TypedDictSchema) -> JsonSchemaValue:
        return self._of(schema.get("cls", dict), schema, super().typed_dict_schema)

    def float_schema(self, schema: core_schema.FloatSchema) -> JsonSchemaValue:
        made = super().float_schema(schema)
        return {"anyOf": [made, {"type": "null"}]} if self._undefined else made


def schemas_of(kinds: Mapping[str, Any], template: str) -> dict[str, JsonSchemaValue]:
    """The schemas of these kinds, and of what they refer to by `template`, by name."""
    adapters: Any = [(name, "serialization", TypeAdapter(kind)) for name, kind in kinds.items()]
    _, rest = TypeAdapter.json_schemas(adapters, ref_template=template, schema_generator=_Answers)
    found: dict[str, JsonSchemaValue] = rest["$defs"]
    return found
