"""What the HTTP service answers around the dataclasses of the library: pages, rows, jobs.

Fields that an answer may lack stand in typed dicts; everything else is a dataclass.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Annotated, Any, Literal, NotRequired, get_type_hints

from pydantic_core import core_schema
from typing_extensions import TypedDict

from trustvlm.types.calibration import Calibration
from trustvlm.types.evaluation import Evaluation
from trustvlm.types.json_form import Answer, FilterObject, Time
from trustvlm.types.review import ReviewImport
from trustvlm.types.rows import LabelPredictions, LabelRow, RemovedRow, SpaceRow, SupportRow
from trustvlm.types.support.audit import Audit
from trustvlm.types.support.proposals import Proposals
from trustvlm.types.tables import verdict
from trustvlm.types.tables.evidence import Evidence
from trustvlm.types.tables.hits import Hit
from trustvlm.types.tables.verdict import (
    CALL_COLUMNS,
    CLAIM_CALL_COLUMNS,
    CLAIM_COLUMNS,
    VERDICT_COLUMNS,
)


@dataclass(frozen=True)
class Status(Answer):
    """Whether the service is alive, or ready."""

    status: str


@dataclass(frozen=True, repr=False)
class Rule(Answer):
    """A rule that can be scored with."""

    name: str
    kind: Literal["text", "image", "fused"]
    parameters: Mapping[str, float | None] = field(hash=False)
    probability: bool


@dataclass(frozen=True, repr=False)
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
class OfferedPreset(Answer):
    """A preset, and whether clients may make spaces with it.

    Attributes:
        reason: why not; None: they may."""

    name: str
    classifier: str
    verifier: str
    reason: str | None


@dataclass(frozen=True, repr=False)
class EncoderList(Answer):
    """The encoders that clients may make spaces with, besides precomputed ones: the setting
    serve_encoders."""

    encoders: tuple[str, ...]
    presets: tuple[OfferedPreset, ...]


@dataclass(frozen=True, repr=False)
class SpaceList(Answer):
    """Label spaces by name.

    Attributes:
        scope: of the key that asked: read, write or admin; admin without keys.
        key_space: the name of the only space that the key opens, also where that space does not
            exist; None: all spaces.
    """

    spaces: tuple[SpaceRow, ...]
    scope: str = "admin"
    key_space: str | None = None


@dataclass(frozen=True, repr=False)
class SpaceDetails(SpaceRow):
    """A label space, and what its labels and support images have.

    Attributes:
        unverified_count: how many labels have no support image.
        classifier_supports: support images can be compared with texts and classifier embeddings:
            one of the 1,000 that changed longest ago has a classifier embedding."""

    unverified_count: int
    classifier_supports: bool


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


@dataclass(frozen=True, kw_only=True, repr=False)
class PicturedLabelRow(LabelRow):
    """A label with the ids of some of its support images, and what the stored images say of it;
    `predictions` is null where that was not requested, and for an alias."""

    supports: tuple[int, ...]
    predictions: LabelPredictions | None = None


@dataclass(frozen=True, repr=False)
class LabelPage(Answer):
    """A page of labels; `predicted_images`: of how many stored images their predictions are, where
    these were requested."""

    labels: tuple[LabelRow | PicturedLabelRow, ...]
    next_cursor: str | None
    predicted_images: int | None = None


@dataclass(frozen=True, kw_only=True, repr=False)
class LabelDetails(LabelRow):
    """A label, and its further names."""

    aliases: tuple[str, ...]


@dataclass(frozen=True, repr=False)
class RemovedList(Answer):
    """The trash of a space: what was removed and can be restored, newest first.

    Attributes:
        removed: labels, and support images of labels that are not removed; 1,000 of each at most.
        more: there is more than that.
        undo_seconds: running time for which removed rows can be restored."""

    removed: tuple[RemovedRow, ...]
    more: bool
    undo_seconds: float


@dataclass(frozen=True)
class EmptiedTrash(Answer):
    """How many removed labels and support images were deleted for good."""

    purged: int


@dataclass(frozen=True)
class CheckedLabels(Answer):
    """How many labels the checked names have."""

    labels: int


@dataclass(frozen=True)
class LabelCount(Answer):
    """How many labels there are, or fit.

    Attributes:
        filter: the filter as JSON, as `labels` of queries takes it; None: all are counted.
    """

    labels: int
    filter: FilterObject | None = None


@dataclass(frozen=True, repr=False)
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


_ROW = get_type_hints(verdict.Verdict, localns={"Evidence": Evidence})
_CLAIMS = {name: NotRequired[_ROW[name]] for name in CLAIM_COLUMNS}
_CLAIM_CALL = {name: NotRequired[_ROW[name]] for name in CLAIM_CALL_COLUMNS}
_CALL: dict[str, Any] = {name: _ROW[name] for name in CALL_COLUMNS}
_typed_dict: Any = TypedDict


Verdict: Any = _typed_dict(
    "Verdict",
    {name: _ROW[name] for name in (*VERDICT_COLUMNS, *CALL_COLUMNS)}
    | _CLAIMS
    | _CLAIM_CALL
    | {"evidence": NotRequired[Evidence], "terms": NotRequired[VerdictTerms]}
    | {"index": NotRequired[int], "source": NotRequired[str | None]},
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
    | _CLAIM_CALL
    | {"params": dict[str, float | None], "top_k": int, "verdicts": list[Verdict]}
    | {
        "evidence_state": NotRequired[EvidenceState],
        "failures": NotRequired[list[UnreadFile]],
        "notes": NotRequired[list[str]],
    },
)


@dataclass(frozen=True, repr=False)
class EvidenceList(Answer):
    """The evidence of verdicts, in their order."""

    evidence: tuple[Evidence, ...]


@dataclass(frozen=True, repr=False)
class Embeddings(Answer):
    """Image files as embeddings; null: none could be read.

    Attributes:
        thumbnails: a small JPEG of each in base64; null where they are not requested."""

    classifier: list[list[float]] | None = field(hash=False)
    verifier: list[list[float]] | None = field(hash=False)
    places: tuple[int, ...]
    sources: tuple[str, ...]
    notes: tuple[str, ...]
    failures: tuple[UnreadFile, ...]
    thumbnails: tuple[str, ...] | None = None


@dataclass(frozen=True, repr=False)
class HitList(Answer):
    """The nearest support images, prototypes or text prototypes of queries.

    Attributes:
        supports: for each hit the ids of some support images of its label that have a picture,
            where these are requested."""

    revision: int
    kind: Literal["support", "prototype", "text"]
    hits: Annotated[list[Hit], _Documented(list[Hit])] = field(hash=False)
    notes: tuple[str, ...]
    approximate: bool
    error_bound: float
    recall: float | None
    supports: tuple[tuple[int, ...], ...] | None = None


@dataclass(frozen=True, kw_only=True, repr=False)
class StoredCalibration(Calibration):
    """A calibration of a space, and whether it decides."""

    in_force: bool


@dataclass(frozen=True, repr=False)
class CalibrationList(Answer):
    """The calibrations of a space, newest first, and its revision."""

    revision: int
    calibrations: tuple[StoredCalibration, ...]


class JobError(TypedDict):
    """Why a job failed or was interrupted."""

    kind: str
    message: str


@dataclass(frozen=True, repr=False)
class Job(Answer):
    """Long work that the service does.

    Attributes:
        id: its name. space: where.
        kind: "evaluate", "calibrate", "audit", "propose" or "import" (of answers to the review
            queue).
        state: "queued", "running", "done", "failed", "cancelled" or "interrupted" (its service was
            asked to end).
        phase, done, total: what it does now, and how much of it is done; total is None where that
            is not known.
        error: kind and message of what it failed with. result: the answer, as JSON holds it (of a
            listed job: None).
        cancelling: it is to stop. created_at, changed_at: when.
    """

    id: str
    kind: Literal["evaluate", "calibrate", "audit", "propose", "import"]
    space: str
    state: Literal["queued", "running", "done", "failed", "cancelled", "interrupted"]
    phase: str
    done: int
    total: int | None
    error: JobError | None = field(hash=False)
    result: Annotated[
        Mapping[str, Any] | None,
        _Documented(Evaluation | Calibration | Audit | Proposals | ReviewImport | None),
    ] = field(hash=False)
    cancelling: bool
    created_at: Time
    changed_at: Time

    @property
    def ended(self) -> bool:
        """Whether nothing more is done."""
        return self.state not in ("queued", "running")


@dataclass(frozen=True, repr=False)
class JobList(Answer):
    """The newest jobs, without their results."""

    jobs: tuple[Job, ...]
