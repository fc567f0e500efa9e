"""The answer of an evaluation, and of re-embedding a space."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Annotated, Literal

from trustvlm.types import Evidence, RuleLeftOut
from trustvlm.types.json_form import Answer, Number, Object
from trustvlm.types.messages.counts import count
from trustvlm.types.registration import UnreadImage
from trustvlm.types.tables.columns import Column, flat_columns
from trustvlm.types.tables.glance import HTML_ROWS, Glance, Share
from trustvlm.types.tables.tabular import Tabular


@dataclass(frozen=True, repr=False)
class Estimate(Answer):
    """A metric and the 95 % interval of its true value on the population from which these images
    are a random sample.

    Attributes:
        value: NaN where it is undefined. low, high: NaN where the images are too few for an
            interval.
        reason: why there is no interval ("too few errors (2) to say"); None with an interval.
    """

    value: Number
    low: Number
    high: Number
    reason: str | None = None


@dataclass(frozen=True)
class PeerOutcome(Answer):
    """How well another system tells right from wrong on the images of an evaluation.

    Attributes:
        system: its name. source: its paper. ours: what differs from the paper here."""

    system: str
    aurc: Estimate
    source: str
    ours: str


@dataclass(frozen=True)
class EvaluatedImage(Answer):
    """An image that was evaluated: its place among the queries (from 0), a name for it, and its
    true label (None: none of the space's).

    Attributes:
        observation: of a stored image, its number. pictured: it has a thumbnail.
    """

    index: int
    source: str
    truth: str | None
    observation: int | None = None
    pictured: bool = False


@dataclass(frozen=True, repr=False)
class ImageOutcome(Answer):
    """What a rule says of an image, and whether the label is right."""

    label: str
    trust: float
    right: bool


@dataclass(frozen=True, repr=False)
class ThresholdOutcome(Answer):
    """What a threshold would have accepted of the images evaluated.

    Attributes:
        threshold: the smallest trust that is accepted.
        accepted, errors: number of accepted images, and of those among them that are wrong.
        risk_bound: exact upper bound of the risk for this one threshold, had it been chosen before
            the images were seen. A threshold chosen on these images promises nothing: calibrate."""

    threshold: float
    accepted: int
    errors: int
    risk_bound: float


@dataclass(frozen=True, repr=False)
class RuleOutcome(Answer):
    """How well one rule tells right from wrong. Fractions in [0, 1]; see
    :mod:`trustvlm.selective.metrics`.

    Attributes:
        rule, kind, params: its name, what it looks at ("text", "image" or "fused"), its parameters.
        versus_msp: its AURC minus that of `msp` on these images, with the paired interval: below 0
            is better.
        coverage_at_risk, risk_at_coverage: at the risk and coverage that the evaluation names.
        ece: for rules that are probabilities, else None; over the bins that the evaluation names.
        curve: (coverage, risk) pairs, at most 400.
        reliability: (mean probability, accuracy, count) of each bin, or None.
        items: the rule's answer to each image of the evaluation; None without the option `items`.
        thresholds: the outcome of every distinct trust, strictest first; None without `items`.
        threshold_range: the lowest and the highest threshold that calibrating on these images
            proves, whichever is requested, for the risk and the confidence of the evaluation; None
            where it proves none, and without `items`."""

    rule: str
    kind: str
    params: Mapping[str, float | None] = field(hash=False)
    accuracy: Estimate
    aurc: Estimate
    versus_msp: Estimate
    e_aurc: Number
    augrc: Number
    auroc: Estimate
    aupr_error: Number
    fpr95: Estimate
    coverage_at_risk: Estimate
    risk_at_coverage: Estimate
    ece: float | None
    curve: tuple[tuple[float, float], ...]
    reliability: tuple[tuple[float, float, int], ...] | None
    items: tuple[ImageOutcome, ...] | None = None
    thresholds: tuple[ThresholdOutcome, ...] | None = None
    threshold_range: tuple[float, float] | None = None


LabelState = Literal["good", "fix", "unclear"]
"""Whether a label can be trusted on the images of an evaluation."""

Advised = Literal["images", "prompt", "correct", "alias", "new_label"]
"""What to do about a label: add support images; change its prompt; make it an alias, or tell it
from the other label by the prompts; register a label for what its images show."""


@dataclass(frozen=True, repr=False)
class LabelOutcome(Answer):
    """One label, over the images that the classifier gives it.

    Attributes:
        label: its name.
        images, predicted, right: number of images of this true label, of images that the classifier
            gives it, and of those among the latter that are right.
        support_count: number of support images of its prototype.
        text, image, fused: AURC under the three rules of the images it was given; NaN without any.
        standing: "no support images"; "no errors"; "profits" (fused is above the ideal order by
            less than 0.8 of what text is); "stays untrustworthy" (fused is above half of the
            ideal); else "as before".
        error_share: share of wrong images among those that it was given; NaN without any.
        state: "fix": the share of wrong images is above the risk of the evaluation by more than
            chance explains (10 %), or most of the label's images were given others; "good": at
            most that risk, of at least 5 images; else "unclear"."""

    label: str
    images: int
    predicted: int
    right: int
    support_count: int
    text: Number
    image: Number
    fused: Number
    standing: str
    error_share: Number
    state: LabelState


@dataclass(frozen=True, repr=False)
class Confusion(Answer):
    """Images of one label that were given another one.

    Attributes:
        truth: the true label (None: none of the space's). label: the label that they were given.
        count: how many. share: of all images of this true label.
        nearest_right: how many of them are nearest to the prototype of their true label; None
            where there are no prototypes, or no true label."""

    truth: str | None
    label: str
    count: int
    share: float
    nearest_right: int | None


@dataclass(frozen=True, repr=False)
class LabelAdvice(Answer):
    """What to do about a label that is wrong too often.

    Attributes:
        label: its name. action: what to do, see :data:`Advised`.
        other: the label that it is confused with most often; None: it is with none.
        wrong, missed: number of images that were wrongly given the label, and of its images that
            were given other labels.
        error_share, support_count: as in :class:`LabelOutcome`.
        reason: what its errors have in common. advice: what to do, as a sentence. command: the
            command line for it; words in capitals stand for what you have."""

    label: str
    action: Advised
    other: str | None
    wrong: int
    missed: int
    error_share: Number
    support_count: int
    reason: str
    advice: str
    command: str


@dataclass(frozen=True, repr=False)
class ShotOutcome(Answer):
    """AURC with at most `shots` support images a label: mean, smallest and largest over random
    draws."""

    shots: int
    rule: str
    mean: Number
    low: Number
    high: Number


@dataclass(frozen=True, repr=False)
class WrongImage(Answer):
    """An image whose wrong label is trusted, with the evidence."""

    source: str
    truth: str | None
    label: str
    trust: Number
    text_confidence: Number
    image_similarity: Number
    rival: str | None
    evidence: Evidence


@dataclass(frozen=True, repr=False)
class Evaluation(Tabular, Answer):
    """How well the rules of a space do on labelled images.

    `evaluation["posterior"]` is the :class:`RuleOutcome` of a rule; iteration gives all of them.
    :meth:`to_arrow` and :meth:`to_pandas` have one row for each rule, with the interval of a metric
    in columns such as `aurc_low` and `aurc_high`.

    Attributes:
        space, revision: what was evaluated.
        images, labels: number of images, and of their true labels.
        supports, duplicates, gone: number of images left out: support images; images that came
            before, as the same file or embedding; stored images whose label was removed since.
        text, image, fused: the rules that stand for text only, image only and both; None without
            one.
        risk, coverage: where `coverage_at_risk` and `risk_at_coverage` are given.
        rules: best AURC first.
        per_label: most errors first.
        label_advice: the labels to fix, and how; most errors first.
        confusions: pairs of labels, one given in place of the other; most images first.
        shots: the curve over the number of support images a label; empty with `draws` 0, or where
            the space is too large.
        wrong: the most trusted wrong images under the fused rule.
        ece_binning: the bins of `ece`, in words.
        left_out: rules that were not compared, with the reason; empty if the rules were named.
        items, confidence: the images, and the confidence of the bounds in `thresholds`; None
            without the option `items`.
        notes: a sentence for each kind of change that made images readable for the encoders.
        failures: (source, reason) of each image that could not be read and was left out.
        claims: everything is about claimed labels: right is a claim that equals the truth.
        unclaimed: number of images left out, since they have no claim, or one that is no label.
        peers: other systems, best AURC first; empty without the option `peers`."""

    space: str
    revision: int
    images: int
    labels: int
    supports: int
    text: str | None
    image: str | None
    fused: str | None
    risk: float
    coverage: float
    rules: tuple[RuleOutcome, ...]
    per_label: tuple[LabelOutcome, ...]
    label_advice: tuple[LabelAdvice, ...]
    confusions: tuple[Confusion, ...]
    shots: tuple[ShotOutcome, ...]
    wrong: tuple[WrongImage, ...]
    gone: int = 0
    duplicates: int = 0
    ece_binning: str = ""
    left_out: tuple[RuleLeftOut, ...] = ()
    items: tuple[EvaluatedImage, ...] | None = None
    confidence: float | None = None
    notes: tuple[str, ...] = ()
    failures: tuple[Annotated[UnreadImage, Object()], ...] = ()
    claims: bool = False
    unclaimed: int = 0
    peers: tuple[PeerOutcome, ...] = ()

    def __getitem__(self, rule: str) -> RuleOutcome:
        """The outcome of a rule by its name. Raises KeyError."""
        for outcome in self.rules:
            if outcome.rule == rule:
                return outcome
        names = ", ".join(outcome.rule for outcome in self.rules)
        raise KeyError(f"expected a rule of this evaluation ({names}), got {rule!r}")

    def __iter__(self) -> Iterator[RuleOutcome]:
        return iter(self.rules)

    def __len__(self) -> int:
        return len(self.rules)

    def __contains__(self, rule: object) -> bool:
        return any(rule in (outcome, outcome.rule) for outcome in self.rules)

    def to_metrics(self) -> dict[str, float]:
        """The numbers of the evaluation by name, for experiment trackers: "images", "labels",
        "unreadable", and of each rule "posterior/aurc", "posterior/aurc_low" and so on, as the
        columns of :meth:`to_pandas`. Undefined numbers are left out.

        >>> mlflow.log_metrics(evaluation.to_metrics())  # doctest: +SKIP
        """
        metrics = {
            "images": float(self.images),
            "labels": float(self.labels),
            "unreadable": float(len(self.failures)),
        }
        for name, column in flat_columns(RuleOutcome, self.rules).items():
            for one, value in zip(self.rules, column.values, strict=True):
                if isinstance(value, int | float) and math.isfinite(value):
                    metrics[f"{one.rule}/{name}"] = float(value)
        return metrics

    def _table(self) -> tuple[dict[str, Column], int]:
        return flat_columns(RuleOutcome, self.rules), len(self.rules)

    def _glance(self) -> Glance:
        columns = ("rule", "accuracy", "aurc", "auroc", "fpr95", "coverage_at_risk")
        rows = [
            (
                one.rule, Share(one.accuracy.value), one.aurc.value, one.auroc.value,
                one.fpr95.value, Share(one.coverage_at_risk.value),
            )
            for one in self.rules[:HTML_ROWS]
        ]  # fmt: skip
        lines: tuple[str, ...] = (
            f"{count(len(self), 'rule')} on {count(self.images, 'image')} of "
            f"{count(self.labels, 'label')}; space "
            f"{self.space!r} at revision {self.revision}",
            f"best AURC first; coverage_at_risk: of at most {100 * self.risk:g} % errors",
        )
        if self.failures:
            unread = f"{count(len(self.failures), 'image')} that could not be read"
            lines += (f"left out: {unread}",)
        return Glance(lines, columns, rows, len(self))
