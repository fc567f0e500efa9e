"""The verbs that evaluate, calibrate and monitor trust."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from trustvlm.catalog.rows import observations, spaces
from trustvlm.errors import InvalidInput
from trustvlm.service.home.calibrations import list_calibrations, remove_calibration
from trustvlm.service.home.open_home import OpenHome
from trustvlm.service.measuring.calibrate import calibrate, recalibrate
from trustvlm.service.measuring.evaluate import evaluate, evaluate_stored, rule_names
from trustvlm.service.measuring.feedback import feedback, monitor
from trustvlm.service.measuring.report import write_report
from trustvlm.service.query.decide import UNKNOWN_RATE
from trustvlm.types import Queries
from trustvlm.types.bounds import flags
from trustvlm.types.calibration import Calibration, FeedbackResult, MonitorReport, ObservationCounts
from trustvlm.types.evaluation import Evaluation
from trustvlm.types.options import CalibrateOptions, EvaluateOptions

__all__ = ["MeasuringVerbs"]


class MeasuringVerbs(OpenHome):
    """Evaluation, calibration, feedback and monitoring of an open home."""

    def evaluate(
        self,
        space: str,
        queries: Queries,
        truth: Sequence[str | None],
        *,
        rules: Sequence[str] | None = None,
        sources: Sequence[str | None] | None = None,
        risk: float = 0.05,
        coverage: float = 0.8,
        draws: int = 5,
        params: Mapping[str, Mapping[str, float | None]] | None = None,
        items: bool = False,
        confidence: float = 0.9,
    ) -> Evaluation:
        """How well each rule separates right from wrong answers on labelled images: metrics with
        intervals, by label, by support images.

        Support images among the queries are left out and counted: their trust is no measurement.

        Args:
            queries: images or embeddings. truth: their label names; None: of no label, any answer
                is wrong.
            rules: names; None: all (those on text alone where there are no verifier embeddings).
            sources: a name for each image. risk, coverage: where to report coverage at risk, and
                risk at coverage.
            draws: number of random parts of the support images for the curve over their number; 0:
                no curve.
            params: parameters by rule, in place of the defaults.
            items: add the value of each rule for each image, and what each threshold would have
                accepted; for at most 100,000 pairs of a rule and an image. confidence: of the
                bounds of the risk that come with the thresholds.

        Raises:
            NotFound: unknown space or label. InvalidInput: wrong shapes or arguments, or only
                support images.
        """
        options = EvaluateOptions(
            rules=rule_names(rules), params=params, risk=risk, coverage=coverage, draws=draws,
            items=items, confidence=confidence,
        )  # fmt: skip
        return evaluate(self._ready(), space, queries, truth, sources, options)

    def evaluate_stored(
        self,
        space: str,
        *,
        rules: Sequence[str] | None = None,
        risk: float = 0.05,
        coverage: float = 0.8,
        draws: int = 0,
        params: Mapping[str, Mapping[str, float | None]] | None = None,
        items: bool = False,
        confidence: float = 0.9,
    ) -> Evaluation:
        """:meth:`evaluate` on the images that :meth:`recalibrate` uses: of the last calibration,
        and randomly drawn feedback.

        Raises:
            NotFound: unknown space. InvalidInput: wrong arguments, or there are no such images.
        """
        options = EvaluateOptions(
            rules=rule_names(rules), params=params, risk=risk, coverage=coverage, draws=draws,
            items=items, confidence=confidence,
        )  # fmt: skip
        return evaluate_stored(self._ready(), space, options)

    def count_observations(self, space: str) -> ObservationCounts:
        """The number of labelled images that a space has stored. Raises NotFound."""
        with self._ready().catalog.read() as connection:
            return observations.counts(connection, spaces.find(connection, space).id)

    def write_report(self, evaluation: Evaluation, path: str | Path) -> None:
        """Write an evaluation as one HTML page with plots, pictures and explanations, which asks
        nothing of the network.

        Raises:
            ReadOnly: the file cannot be written.
        """
        write_report(self._ready(), evaluation, Path(path))

    def calibrate(
        self,
        space: str,
        queries: Queries,
        truth: Sequence[str | None],
        *,
        rule: str = "auto",
        max_risk: float = 0.05,
        confidence: float = 0.9,
        params: Mapping[str, float | None] | None = None,
        on_stale: str = "auto",
        on_unverified: str = "judge",
        unknown_rate: float = UNKNOWN_RATE,
        may_correct: bool = False,
        sources: Sequence[str | None] | None = None,
    ) -> Calibration:
        """Choose rule, parameters and threshold on labelled images, with a promise, and put them
        into force.

        A third of the images (by content) chooses the configuration and the thresholds to try; the
        rest proves one: of what it accepts at most `max_risk` is wrong, with `confidence` over the
        draw of the images. Images that are support images, or come twice, are left out and counted.
        The embeddings are stored, so that :meth:`recalibrate` needs no images.

        Where no threshold can be proved, the calibration has `failed` True: it is listed, but never
        in force. A calibration that was in force before stays in force, with its stored images.

        Args:
            queries: images or embeddings, drawn like those to come. truth: their label names; None:
                of no label of the space.
            rule: "auto" compares the rules that keep the classifier's labels, with `may_correct`
                all rules, with their weights λ, T and τ; or one rule by name, with `params` to hold
                fixed.
            on_stale: what happens once the space has changed: "flag" marks verdicts as stale;
                "abstain" accepts nothing; "auto" abstains if one of these images now gets an added
                label, otherwise flags. New labels that none of these images gets are never
                accepted.
            on_unverified: "judge" labels without support images by their trust; "abstain" accepts
                none of them.
            unknown_rate: share of false alarms of the unknown test, at most 0.1; 0: no test.
            may_correct: the rule may be one that corrects the classifier's labels (a starred one).
            sources: a name for each image, kept with it.

        Raises:
            NotFound: unknown space, or a truth that is no label. InvalidInput: nothing to calibrate
                with, or bad arguments.
        """
        options = CalibrateOptions(
            rule=rule, max_risk=max_risk, confidence=confidence, params=params, on_stale=on_stale,
            on_unverified=on_unverified, unknown_rate=unknown_rate, may_correct=may_correct,
        )  # fmt: skip
        return calibrate(self._writable(), space, queries, truth, options, sources)

    def recalibrate(
        self,
        space: str,
        *,
        rule: str | None = None,
        max_risk: float | None = None,
        confidence: float | None = None,
        params: Mapping[str, float | None] | None = None,
        may_correct: bool | None = None,
    ) -> Calibration:
        """Calibrate the space as it is now on the stored images and random feedback, with the
        options of the last calibration.

        Args:
            rule, max_risk, confidence, may_correct: options in place of those. params: parameters
                of `rule`, to hold fixed.

        Raises:
            NotFound: unknown space. InvalidInput: there are no images yet, or bad arguments.
        """
        if params is not None and rule is None:
            raise InvalidInput("params: name the rule they belong to")
        options: dict[str, Any] = {
            "rule": rule, "max_risk": max_risk, "confidence": confidence,
            "may_correct": may_correct,
        }  # fmt: skip
        changes = {name: value for name, value in options.items() if value is not None}
        if rule is not None:
            changes["params"] = params
        return recalibrate(self._writable(), space, changes)

    def list_calibrations(self, space: str) -> list[Calibration]:
        """The calibrations of a space, newest first: the first one that did not fail is in force.
        Raises NotFound."""
        return list_calibrations(self._ready(), space)

    def remove_calibration(self, space: str, calibration_id: int) -> None:
        """Take a calibration back; the one before it that did not fail is in force again. Raises
        NotFound."""
        remove_calibration(self._writable(), space, calibration_id)

    def feedback(
        self,
        space: str,
        queries: Queries,
        truth: Sequence[str | None] | str | None,
        *,
        sampling: str = "chosen",
        promote: bool = False,
        sources: Sequence[str | None] | None = None,
    ) -> FeedbackResult:
        """Tell the true labels of images; stored with the verdicts they get now.

        Args:
            queries: images or embeddings. truth: their label names (one name for one image); None:
                of no label.
            sampling: how they were picked. Only "random" ones, drawn like what comes in, can
                calibrate and be monitored; "chosen" ones (because they looked wrong, say) would
                distort both. An image may be both: its label as a chosen image then does not
                change its label as an image drawn at random.
            promote: make them support images of their labels, too; then they calibrate no more.

        Raises:
            NotFound: unknown space or label. InvalidInput: wrong shapes or arguments.
        """
        flags(promote=promote)
        return feedback(self._writable(), space, queries, truth, sampling, promote, sources)

    def monitor(self, space: str, *, alpha: float = 0.05) -> MonitorReport:
        """Compare randomly drawn feedback on accepted images with the promise of the calibration in
        force.

        Look as often as you like: a promise that is kept is called broken with a chance of at most
        `alpha`, over all looks.

        Raises:
            NotFound: unknown space, or no calibration. InvalidInput: alpha outside (0, 1).
        """
        return monitor(self._ready(), space, alpha)
