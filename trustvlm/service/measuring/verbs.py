"""The verbs that evaluate, calibrate and monitor trust."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from types import EllipsisType
from typing import TYPE_CHECKING, Any

from trustvlm.catalog.rows import observations, spaces
from trustvlm.errors import InvalidInput
from trustvlm.reading.given import given_labelled
from trustvlm.reading.hold_out import HeldOut, HoldOut
from trustvlm.reading.review.queue import ReviewQueue
from trustvlm.service.home.calibrations import list_calibrations, remove_calibration
from trustvlm.service.home.open_home import OpenHome
from trustvlm.service.measuring.calibrate import calibrate, recalibrate
from trustvlm.service.measuring.evaluate import evaluate, evaluate_stored
from trustvlm.service.measuring.feedback import feedback
from trustvlm.service.measuring.monitor import monitor
from trustvlm.service.measuring.report import write_report
from trustvlm.service.measuring.review.queue import HomeReviewQueue
from trustvlm.service.query.decide import UNKNOWN_RATE
from trustvlm.types import Queries
from trustvlm.types.arrays import rule_names
from trustvlm.types.bounds import flags, identifier, path_of
from trustvlm.types.calibration import Calibration, FeedbackResult, MonitorReport, ObservationCounts
from trustvlm.types.evaluation import Evaluation
from trustvlm.types.options import CalibrateOptions, EvaluateOptions

if TYPE_CHECKING:
    from trustvlm.reading.sets.rows import LabelledImages
    from trustvlm.types.inputs import Images


class MeasuringVerbs(OpenHome):
    """Evaluation, calibration, feedback and monitoring of an open home."""

    def evaluate(
        self,
        space: str,
        queries: Queries | Images | LabelledImages,
        truth: Sequence[str | None] | EllipsisType = ...,
        *,
        rules: Sequence[str] | None = None,
        sources: Sequence[str | None] | None = None,
        risk: float = 0.05,
        coverage: float = 0.8,
        draws: int = 5,
        params: Mapping[str, Mapping[str, float | None]] | None = None,
        items: bool = False,
        confidence: float = 0.9,
        peers: bool = False,
        hold_out: float | None = None,
        seed: int = 0,
        on_error: str = "raise",
    ) -> Evaluation:
        """How well each rule separates right from wrong answers on labelled images: metrics with
        intervals, by label, by support images.

        Support images among the queries are left out and counted: their trust is no measurement.

        Args:
            queries: images or embeddings, as for :meth:`score`. truth: their label names; None: of
                no label, any answer is wrong. Left out: `queries` bring their labels, as those of
                :meth:`register` do.
            rules: names; None: all (those on text alone where there are no verifier embeddings).
            sources: a name for each image. risk, coverage: where to report coverage at risk, and
                risk at coverage.
            draws: number of random parts of the support images for the curve over their number; 0:
                no curve.
            params: parameters by rule, in place of the defaults.
            items: add the value of each rule for each image, and what each threshold would have
                accepted; for at most 100,000 pairs of a rule and an image. confidence: of the
                bounds of the risk that come with the thresholds.
            peers: compare other systems, too, in a space of at most 2,000 labels and 20,000
                support images; some are trained on these, for seconds (docs/comparison.md).
            hold_out, seed: measure only on the images that :meth:`register` leaves out with the
                same two arguments.
            on_error: as for :meth:`score`.

        Raises:
            NotFound: unknown space or label. InvalidInput: wrong shapes or arguments, or only
                support images.
        """
        options = EvaluateOptions(
            rules=rule_names(rules), params=params, risk=risk, coverage=coverage, draws=draws,
            items=items, confidence=confidence, peers=peers,
        )  # fmt: skip
        home = self._ready()
        given = given_labelled(queries, truth, sources, home.calls.images)
        split = HoldOut.of(hold_out, seed)
        part = HeldOut(*given) if split is None else split.measured(*given)
        labelled = (part.queries, part.truth, part.sources)
        return part.placed(evaluate(home, space, *labelled, options, on_error))

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
        peers: bool = False,
    ) -> Evaluation:
        """:meth:`evaluate` on the images that :meth:`recalibrate` uses: of the last calibration,
        and randomly drawn feedback.

        Raises:
            NotFound: unknown space. InvalidInput: wrong arguments, or there are no such images.
        """
        options = EvaluateOptions(
            rules=rule_names(rules), params=params, risk=risk, coverage=coverage, draws=draws,
            items=items, confidence=confidence, peers=peers,
        )  # fmt: skip
        return evaluate_stored(self._ready(), space, options)

    def count_observations(self, space: str) -> ObservationCounts:
        """The number of labelled images that a space has stored. Raises NotFound."""
        with self._ready().catalog.read() as connection:
            return observations.counts(connection, spaces.find(connection, space).id)

    def write_report(
        self, evaluation: Evaluation, path: str | Path, *, page: str | None = None
    ) -> None:
        """Write an evaluation as one HTML file with answers, plots and pictures, which asks nothing
        of the network.

        Args:
            page: the address of a service, such as http://127.0.0.1:8000/: names of labels then
                link to its page.

        Raises:
            ReadOnly: the file cannot be written. InvalidInput: `page` is no address.
        """
        write_report(self._ready(), evaluation, path_of("path", path), page)

    def calibrate(
        self,
        space: str,
        queries: Queries | Images | LabelledImages,
        truth: Sequence[str | None] | EllipsisType = ...,
        *,
        rule: str | None = None,
        max_risk: float = 0.05,
        confidence: float = 0.9,
        params: Mapping[str, float | None] | None = None,
        on_stale: str = "auto",
        on_unverified: str = "judge",
        unknown_rate: float = UNKNOWN_RATE,
        may_correct: bool = False,
        threshold: float | None = None,
        procedure: str | None = None,
        back_off: bool = False,
        sources: Sequence[str | None] | None = None,
        hold_out: float | None = None,
        seed: int = 0,
        on_error: str = "raise",
    ) -> Calibration:
        """Find a threshold on labelled images, with a promise, and put it into force with its rule.

        At most `max_risk` of accepted answers are wrong, with `confidence` over the draw of the
        images. Images that are support images, or come twice, are left out and counted. The
        embeddings are stored, so that :meth:`recalibrate` needs no images.

        Where no threshold can be proved, the calibration has `failed` True: it is listed, but never
        in force. A calibration that was in force before stays in force, with its stored images.

        Args:
            queries: images or embeddings, as for :meth:`score`, drawn like those to come. truth:
                their label names, as for :meth:`evaluate`; None: of no label of the space.
            rule: one by name, with `params` or its defaults; "auto" compares the rules that keep
                the classifier's labels, with `may_correct` all rules, with their weights λ, T and
                τ. None: :data:`trustvlm.DEFAULT_RULE`, with `may_correct` its form that corrects
                labels; "auto" without verifier embeddings.
            on_stale: what happens once the space has changed: "flag" marks verdicts as stale;
                "abstain" accepts nothing; "auto" abstains if one of these images now gets an added
                label, otherwise flags. New labels that none of these images gets are never
                accepted.
            on_unverified: "judge" labels without support images by their trust; "abstain" accepts
                none of them.
            unknown_rate: share of false alarms of the unknown test, at most 0.1; 0: no test.
            may_correct: the rule may be one that corrects the classifier's labels (a starred one).
            threshold: a threshold of your own on the trust of `rule`, which must be named: it is
                proved, or refused (a failed calibration, with the reason). You may look at the
                images to choose it. None: the calibration chooses one.
            procedure: "ranks" proves the threshold with all images, "split" with two thirds, after
                a third (by content) has chosen the rule's parameters and where to begin. None:
                "split" with rule "auto", which needs it; "ranks" with any other.
            back_off: verdicts are to answer with the finest node of the taxonomy whose probability
                reaches the threshold (:meth:`score`), and this is what is promised: of what is
                accepted, at most `max_risk` has a true label that does not stand under the node.
            sources: a name for each image, kept with it.
            hold_out, seed: calibrate only on the images that :meth:`register` leaves out with the
                same two arguments.
            on_error: as for :meth:`score`.

        Raises:
            NotFound: unknown space, or a truth that is no label. InvalidInput: nothing to calibrate
                with, or bad arguments.
        """
        options = CalibrateOptions(
            rule=rule, max_risk=max_risk, confidence=confidence, params=params, on_stale=on_stale,
            on_unverified=on_unverified, unknown_rate=unknown_rate, may_correct=may_correct,
            threshold=threshold, procedure=procedure, back_off=back_off,
        )  # fmt: skip
        home = self._writable()
        given = given_labelled(queries, truth, sources, home.calls.images)
        split = HoldOut.of(hold_out, seed)
        part = HeldOut(*given) if split is None else split.measured(*given)
        return calibrate(home, space, part.queries, part.truth, options, part.sources, on_error)

    def recalibrate(
        self,
        space: str,
        *,
        rule: str | None = None,
        max_risk: float | None = None,
        confidence: float | None = None,
        params: Mapping[str, float | None] | None = None,
        may_correct: bool | None = None,
        threshold: float | None = None,
        procedure: str | None = None,
        claims: bool = False,
    ) -> Calibration:
        """Calibrate the space as it is now on the stored images and random feedback, with the
        options of the last calibration.

        Args:
            rule, max_risk, confidence, may_correct: options in place of those. params: parameters
                of `rule`. A rule that a third of the images has chosen before is proved with the
                others, any other one with all. With `may_correct` and no `rule`, a rule that was
                named before gives way to its form that corrects labels.
            threshold: a threshold of your own, as for :meth:`calibrate`, on the trust of the rule
                in force unless `rule` is given. None: as requested last; one is chosen where `rule`
                is given.
            procedure: as for :meth:`calibrate`; "ranks" is refused for a rule that a third of the
                images has chosen before. None: as requested last or, where `rule` is given, as that
                rule needs it.
            claims: renew the calibration of claims, on the images of the last one and random
                feedback with claims, whose claims are stored with them.

        Raises:
            NotFound: unknown space. InvalidInput: there are no images yet, or bad arguments.
        """
        if params is not None and rule is None:
            raise InvalidInput("params: name the rule they belong to")
        options: dict[str, Any] = {
            "rule": rule, "max_risk": max_risk, "confidence": confidence,
            "may_correct": may_correct, "threshold": threshold, "procedure": procedure,
        }  # fmt: skip
        changes = {name: value for name, value in options.items() if value is not None}
        if rule is not None:
            changes["params"] = params
        flags(claims=claims)
        return recalibrate(self._writable(), space, changes, claims=bool(claims))

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
        queries: Queries | Images | LabelledImages,
        truth: Sequence[str | None] | str | EllipsisType | None = ...,
        *,
        sampling: str = "chosen",
        promote: bool = False,
        sources: Sequence[str | None] | None = None,
    ) -> FeedbackResult:
        """Tell the true labels of images; stored with the verdicts they get now.

        Args:
            queries: images or embeddings, as for :meth:`score`. Where they have claims, all that is
                said is about these, as in :meth:`calibrate`; images without a claim that is a label
                are left out and counted. truth: their label names, as for :meth:`evaluate` (or one
                name for one image); None: of no label.
            sampling: how they were picked. Only "random" ones, drawn like what comes in, can
                calibrate and be monitored; "chosen" ones (because they looked wrong, say) would
                distort both. An image may be both: its label as a chosen image then does not
                change its label as an image drawn at random.
            promote: make them support images of their labels, too; then they calibrate no more.

        Raises:
            NotFound: unknown space or label. InvalidInput: wrong shapes or arguments.
        """
        flags(promote=promote)
        home = self._writable()
        given, labels, names = given_labelled(queries, truth, sources, home.calls.images)
        return feedback(home, space, given, labels, sampling, promote, names)

    def observation_thumbnail(self, space: str, observation_id: int) -> bytes | None:
        """The JPEG thumbnail of a stored image; None where it has none (it came as an embedding,
        or the setting `observation_thumbnails` is off), or is not there. Raises NotFound: no such
        space."""
        observation_id = identifier("observation", observation_id)
        with self._ready().read(space) as (connection, record):
            return observations.thumbnail(connection, record.id, observation_id)

    def review(self, space: str) -> ReviewQueue:
        """The review queue of a space: images that wait for a person's answer."""
        return HomeReviewQueue(space, self._ready, self._writable, self.place)

    def monitor(self, space: str, *, alpha: float = 0.05, claims: bool = False) -> MonitorReport:
        """Compare randomly drawn feedback on accepted images with the promise of the calibration in
        force.

        Look as often as you like: a promise that is kept is called broken with a chance of at most
        `alpha`, over all looks.

        Args:
            claims: watch the calibration of claims, by feedback with claims.

        Raises:
            NotFound: unknown space, or no calibration. InvalidInput: alpha outside (0, 1).
        """
        flags(claims=claims)
        return monitor(self._ready(), space, alpha, claims=bool(claims))
