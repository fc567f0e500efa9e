"""What a calibration promises, what was fed back, and whether the promise holds."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Annotated, Any

import numpy as np
from pydantic import computed_field

from trustvlm.types import RuleLeftOut
from trustvlm.types.arrays import Float64s
from trustvlm.types.json_form import Answer, Number, Object, Time
from trustvlm.types.registration import UnreadImage
from trustvlm.types.tables.columns import Column, flat_columns
from trustvlm.types.tables.glance import Glance, Share
from trustvlm.types.tables.tabular import Tabular


@dataclass(frozen=True, repr=False)
class Calibration(Tabular, Answer):
    """A rule with its parameters and a threshold: at most `max_risk` of accepted answers are
    wrong, with `confidence`.

    :meth:`to_arrow` and :meth:`to_pandas` have one row with the fields that fit into a cell.

    Attributes:
        id, space, created_at: its number in the catalog, the space's name, when it was made.
        revision: of the space, when it was made.
        stale: it does not cover the space as it is: labels, support images or encoders changed
            since or, with `back_off`, the taxonomy. Attributes change no verdict.
        rule, params: what is scored with when no rule is named.
        threshold: accept when trust ≥ this; None: the attempt failed, since no threshold could be
            shown to keep the promise. It is never in force.
        max_risk, confidence: the promise.
        reason: one sentence: what the threshold does, or why there is none.
        needed: about how many more images to calibrate with would be enough, beside `tuning` and
            `tested`, and divided as these; 0 with a threshold, None if no number would be.
        images: number of images that came in.
        supports, duplicates, gone: number of images left out: support images; images that came
            twice; images whose label was removed since.
        back_off: verdicts answer with the finest node of the taxonomy whose probability reaches the
            threshold; then `errors` are answers that the true label does not stand under.
        procedure: "ranks": all images prove the threshold, at their own trust values; "split": some
            choose the configuration, the others prove the threshold.
        tuning, tested: number of images to choose with (0 by ranks), and to prove with.
        accepted, errors: number of tested images that are accepted, and of those among them that
            are wrong.
        coverage, risk_bound: accepted / tested; upper bound of the risk at `confidence`.
        ece: cross-validated expected calibration error of `probability`.
        candidates: the compared configurations (all, best first; by ranks the only one): rule,
            params, mean AURC over the folds and its error.
        on_stale, on_unverified, unknown_rate: policies.
        knots: the map from trust to the probability of being right: (trust, probability) pairs,
            both non-decreasing.
        predicted: ids of the labels that its images were given.
        asked_rule, asked_params: the requested rule ("auto": choose; None: the default one) and
            parameters.
        asked_threshold: the requested threshold, proved or refused; None: the calibration chose.
            Where it is refused, `accepted`, `errors` and `risk_bound` are those at that threshold.
        threshold_range: the lowest and the highest threshold that can be requested of these images:
            all between them are proved at once, whichever is chosen; None: not one is.
        left_out: rules that were not compared, with the reason; empty if one rule was named.
        other_encoders: the space was re-embedded since: nothing is accepted until it is calibrated
            again.
        claims: the threshold is on the trust of claimed labels, and decides about claims only; else
            on that of predicted labels, and decides about these only. unclaimed: number of images
            left out, since they have no claim, or one that is no label.
        may_correct: whether the rule may be one that corrects the classifier's labels.
        correcting_rule: `rule` if it corrects labels, else the rule that would be chosen with
            `may_correct`; None without verifier embeddings.
        corrected, corrected_rightly, corrected_wrongly: number of labels of the calibrating images
            that the correcting rule changes; from wrong to right; from right to wrong.
        author: who made it, see :class:`HistoryRow`; None: not named.
        notes: a sentence for each kind of change that made images readable for the encoders.
        failures: (source, reason) of each image that could not be read and was left out. Both are
            not stored."""

    id: int
    space: str
    created_at: Time
    revision: int
    rule: str
    params: Mapping[str, float | None] = field(hash=False)
    threshold: float | None
    max_risk: Number
    confidence: Number
    reason: str
    needed: int | None
    images: int
    supports: int
    duplicates: int
    gone: int
    tuning: int
    tested: int
    accepted: int
    errors: int
    coverage: Number
    risk_bound: Number
    ece: float | None
    candidates: tuple[Mapping[str, Any], ...] = field(hash=False)
    on_stale: str
    on_unverified: str
    unknown_rate: Number
    knots: tuple[tuple[float, float], ...]
    predicted: tuple[int, ...]
    asked_rule: str | None
    asked_params: Mapping[str, float | None] | None = field(hash=False)
    left_out: tuple[RuleLeftOut, ...] = ()
    other_encoders: bool = False
    stale: bool = False
    may_correct: bool = False
    correcting_rule: str | None = None
    corrected: int = 0
    corrected_rightly: int = 0
    corrected_wrongly: int = 0
    asked_threshold: float | None = None
    threshold_range: tuple[float, float] | None = None
    procedure: str = "split"
    claims: bool = False
    unclaimed: int = 0
    author: str | None = None
    back_off: bool = False
    notes: tuple[str, ...] = ()
    failures: tuple[Annotated[UnreadImage, Object()], ...] = ()

    @computed_field  # type: ignore[prop-decorator]
    @property
    def failed(self) -> bool:
        """Nothing could be proved: it is kept as an attempt, and never in force."""
        return self.threshold is None

    def probability(self, trust: Float64s) -> Float64s:
        """(n,) probability of being right for trust values: between the knots a straight line,
        beyond them constant."""
        x, y = np.array(self.knots, dtype=np.float64).reshape(-1, 2).T
        return np.interp(trust, x, y)

    def _table(self) -> tuple[dict[str, Column], int]:
        columns = flat_columns(Calibration, [self])
        return columns | {"failed": Column(bool, [self.failed])}, 1

    def _glance(self) -> Glance:
        accepted, promise = Share(self.coverage), Share(self.max_risk)
        rows = [
            ("rule", self.rule), ("threshold", self.threshold), ("coverage", accepted),
            ("max_risk", promise), ("confidence", Share(self.confidence)),
            ("risk_bound", Share(self.risk_bound)),
            ("accepted", f"{self.accepted:,} of {self.tested:,} tested"),
            ("errors", self.errors),
        ]  # fmt: skip
        state = "failed" if self.failed else "made"
        lines = (
            f"calibration {self.id} of space {self.space!r}, {state} at revision {self.revision}",
            self.reason,
        )
        return Glance(lines, ("field", "value"), rows, len(rows))


def decides(calibrations: Sequence[Calibration], claims: bool = False) -> Calibration | None:
    """The one that is in force of a space's calibrations, newest first: it decides about predicted
    labels or, with `claims`, about claimed ones."""
    kind = (one for one in calibrations if one.claims == claims and not one.failed)
    return next(kind, None)


@dataclass(frozen=True)
class ObservationCounts(Answer):
    """How many images with known labels a space has stored.

    Attributes:
        calibration: images of the last calibration.
        random, chosen: images of feedback, drawn at random or picked; picked ones can neither
            calibrate nor be evaluated on.
        usable: images of the calibration and of random feedback that can (none of them became a
            support image).
        claims: images with claims, of the calibration of claims and of random feedback, that can
            calibrate claims."""

    calibration: int
    random: int
    chosen: int
    usable: int
    claims: int = 0


@dataclass(frozen=True)
class TaughtImages(Answer):
    """What new support images change.

    Attributes:
        images, corrected: how many they are, and to how many images of the call the space gave
            another label.
        waiting, changed: open images of the review queue that were compared, the 500 oldest at
            most; and how many of them get another label or decision now, or a probability that
            differs by 0.1."""

    images: int
    corrected: int
    waiting: int
    changed: int


@dataclass(frozen=True, repr=False)
class FeedbackResult(Answer):
    """What a feedback call stored.

    Attributes:
        ids: of the stored observations, in input order; −1 where the image is a support image,
            which cannot count as feedback, or has no claim where others have one.
        added, updated: number of new images, and of stored images with a new label.
        right: number of stored images that the space labels rightly or, with claims, whose claim is
            right.
        accepted_wrong: number of stored images that are accepted and wrong.
        promoted: number of images that became support images.
        apart: number of chosen images that were also drawn at random before. Their earlier labels
            stay in use for calibration; their new labels are stored beside these and do not
            calibrate.
        taught: what it changes that images became support images; None where none did.
        notes: a sentence for each kind of change that made images readable for the encoders.
        unclaimed: number of images that are left out of a call with claims, since they have none,
            or one that is no label."""

    ids: tuple[int, ...]
    added: int
    updated: int
    right: int
    accepted_wrong: int
    promoted: int
    apart: int = 0
    taught: TaughtImages | None = None
    notes: tuple[str, ...] = ()
    unclaimed: int = 0


@dataclass(frozen=True)
class TrafficShare(Answer):
    """How much of what a space is sent looks like nothing it has images of (docs/rules.md,
    "Traffic"). Verdicts and calibrations make no use of it.

    Attributes:
        at_least: a lower bound of that share of the answers; 0: nothing shows that there are any.
            None: `message` says what is missing.
        confidence: chance that the bound holds, of each look; not of all looks together.
        answers: how many logged answers were looked at: the newest ones, up to 10,000, since the
            support images last changed.
        message: one sentence for people.
    """

    at_least: Number | None
    confidence: Number
    answers: int
    message: str


@dataclass(frozen=True, repr=False)
class MonitorReport(Answer):
    """Accepted items of known label, against the promise of the calibration that accepted them.

    Attributes:
        calibration_id, max_risk: the calibration, and its promise.
        items, errors: number of accepted items of random feedback, in order of time, and of wrong
            ones among them.
        risk: errors / items; None without items.
        risk_low: a lower bound of the risk that holds at every time at once.
        evidence: e-value against the promise: 1 = none; broken when it ever reached 1 / alpha.
        broken: the promise is broken; wrong with a chance of at most alpha, however often one
            looks.
        broken_after: the number of items it took; None when not broken.
        alpha, message: the false-alarm rate; one sentence for people.
        logged, accepted: answers in the verdict log that this calibration decided, and how many of
            them it accepted; None where the space logs none.
        traffic: how much of what is sent looks like nothing the space has images of, by the verdict
            log; None: the service is of an earlier version."""

    calibration_id: int
    max_risk: Number
    items: int
    errors: int
    risk: float | None
    risk_low: Number
    evidence: Number
    broken: bool
    broken_after: int | None
    alpha: Number
    message: str
    logged: int | None = None
    accepted: int | None = None
    traffic: TrafficShare | None = None
