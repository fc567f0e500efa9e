"""What an evaluation finds."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from trustvlm.types import Evidence, RuleLeftOut
from trustvlm.types.codec import Answer, Number

__all__ = [
    "Estimate",
    "EvaluatedImage",
    "Evaluation",
    "ImageOutcome",
    "LabelOutcome",
    "MissingOriginal",
    "Reembedding",
    "RuleOutcome",
    "ShotOutcome",
    "ThresholdOutcome",
    "WrongImage",
]


@dataclass(frozen=True)
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
class EvaluatedImage(Answer):
    """An image that was evaluated: its place among the queries (from 0), a name for it, and its
    true label (None: of none)."""

    index: int
    source: str
    truth: str | None


@dataclass(frozen=True)
class ImageOutcome(Answer):
    """What a rule says of an image, and whether the label is right."""

    label: str
    trust: float
    right: bool


@dataclass(frozen=True)
class ThresholdOutcome(Answer):
    """What accepting from a threshold on would have done to the images evaluated.

    Attributes:
        threshold: the smallest trust that is accepted. accepted, errors: how many are, and how many
            of them are wrong.
        risk_bound: exact upper bound of the risk for this one threshold, had it been chosen without
            looking at the images; one that was chosen by looking promises nothing, however small it
            is: calibrating does.
    """

    threshold: float
    accepted: int
    errors: int
    risk_bound: float


@dataclass(frozen=True)
class RuleOutcome(Answer):
    """How well one rule tells right from wrong. Fractions in [0, 1]; see
    :mod:`trustvlm.selective.metrics`.

    Attributes:
        rule, kind: its name, and what it looks at: "text", "image" or "fused". params: its
            parameters.
        versus_msp: its AURC minus that of `msp` on the same images, with the paired interval: below
            0 is better.
        coverage_at_risk, risk_at_coverage: at the risk and coverage that the evaluation names.
        ece: for rules that are probabilities, else None; over the bins that the evaluation names.
        curve: (coverage, risk) pairs, at most 400 of them. reliability: (mean probability,
            accuracy, count), or None.
        items: what it says of each of the evaluation's items, and thresholds: of every distinct
            trust, strictest first; None where they were not asked for.
    """

    rule: str
    kind: str
    params: Mapping[str, float | None]
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


@dataclass(frozen=True)
class LabelOutcome(Answer):
    """One label, over the images that the classifier gives it.

    Attributes:
        label: its name. images: of this true label. predicted: images that the classifier gives it.
            right: how many of these.
        support_count: of its prototype.
        text, image, fused: AURC of the images it was given under the three rules; NaN where there
            are none.
        standing: "no support images"; "no errors"; "profits" (what fused has above the ideal order
            is below 0.8 of what text has); "stays untrustworthy" (it is above half of the ideal);
            else "as before".
    """

    label: str
    images: int
    predicted: int
    right: int
    support_count: int
    text: Number
    image: Number
    fused: Number
    standing: str


@dataclass(frozen=True)
class ShotOutcome(Answer):
    """AURC with so many support images a label: mean, smallest and largest over draws of them."""

    shots: int
    rule: str
    mean: Number
    low: Number
    high: Number


@dataclass(frozen=True)
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


@dataclass(frozen=True)
class Evaluation(Answer):
    """How well the rules of a space do on labelled images.

    Attributes:
        space, revision: what was evaluated. images: how many. labels: how many true labels they
            have.
        supports: how many were left out because they are support images. duplicates: because they
            came before, as the same file or with the same embedding.
        text, image, fused: the rules that stand for text only, image only and both; None where
            there is none.
        risk, coverage: at which `coverage_at_risk` and `risk_at_coverage` are given.
        rules: best AURC first. per_label: most errors first. shots: the curve over support images a
        label, empty where it was not asked for or the space is too large. wrong: the most trusted
        wrong images under the fused rule. ece_binning: the bins of `ece`, in words.
        gone: how many stored images were left out because their label was removed since.
        left_out: rules that were not compared, with the reason; empty where the rules were named.
        items: the images, and confidence: that of the bounds in `thresholds`; None where they were
            not asked for.
        notes: a sentence for each thing that was done so that the encoders see the images.
    """

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
    shots: tuple[ShotOutcome, ...]
    wrong: tuple[WrongImage, ...]
    gone: int = 0
    duplicates: int = 0
    ece_binning: str = ""
    left_out: tuple[RuleLeftOut, ...] = ()
    items: tuple[EvaluatedImage, ...] | None = None
    confidence: float | None = None
    notes: tuple[str, ...] = ()

    def __getitem__(self, rule: str) -> RuleOutcome:
        """The outcome of a rule by its name. Raises KeyError."""
        for outcome in self.rules:
            if outcome.rule == rule:
                return outcome
        raise KeyError(rule)


@dataclass(frozen=True)
class MissingOriginal(Answer):
    """A support image that cannot be re-embedded: neither its original nor a vector for it was
    found."""

    id: int
    label: str
    source: str | None


@dataclass(frozen=True)
class Reembedding(Answer):
    """How far a space is with being re-embedded; see :meth:`TrustService.reembed_space`.

    Attributes:
        space: its name. state: "none", "staged" (under way) or "kept" (done; the old embeddings are
            still there).
        classifier, verifier: the specs of the new encoders.
        labels, supports: how many have their new embeddings.
        missing: support images that have none yet; after the cut-over, those that were left behind.
        missing_labels: labels whose text came as a vector of the old classifier, and none of the
            new one was given.
        behind: whether the space was changed since the new embeddings were last brought up to date.
        calibrations: how many were copied, all of them stale. observations, observations_left: how
            many images of known label were carried over, and how many stay with the old embeddings.
        cut_over_s: how long the catalog was locked for the cut-over, in seconds; None before it.
    """

    space: str
    state: str
    classifier: str
    verifier: str
    labels: int = 0
    supports: int = 0
    missing: tuple[MissingOriginal, ...] = ()
    missing_labels: tuple[str, ...] = ()
    behind: bool = False
    calibrations: int = 0
    observations: int = 0
    observations_left: int = 0
    cut_over_s: float | None = None
