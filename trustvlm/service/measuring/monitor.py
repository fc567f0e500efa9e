"""Monitoring: randomly drawn feedback against the promise of a calibration, and how much of what is
sent looks like nothing the space has images of (docs/guarantee.md, "Is it still kept?")."""

from __future__ import annotations

import math

import numpy as np

from trustvlm.catalog.rows import observations
from trustvlm.catalog.rows.verdict_log import rows as log_rows
from trustvlm.errors import NotFound
from trustvlm.scoring.discriminant.fit import left_out_cosines
from trustvlm.scoring.traffic import Nearest, covered_share, unlike_share
from trustvlm.selective import monitoring
from trustvlm.selective.monitoring import Monitoring
from trustvlm.service.home.calibrations import in_force, stale_since
from trustvlm.service.home.home import Home
from trustvlm.service.measuring.feedback import right_answers
from trustvlm.service.memory.discriminant.gather import tower_of
from trustvlm.service.memory.space_cache import Reading
from trustvlm.service.memory.support_fit import FitMemo, current_fit, sample_of
from trustvlm.types.calibration import Calibration, MonitorReport, TrafficShare
from trustvlm.types.messages.commands import suggested
from trustvlm.types.tables.probability import percent, promise
from trustvlm.types.verdict_log import LogFilter

CONFIDENCE = 0.95
MOST_ANSWERS, FEWEST_ANSWERS, FEWEST_IMAGES = 10_000, 50, 20
_FEWEST_COVERED = 0.5


def monitor(home: Home, space_name: str, alpha: float, *, claims: bool = False) -> MonitorReport:
    """See :meth:`TrustService.monitor`."""
    home.verdict_writer.flush()
    with home.snapshot(space_name) as reading:
        connection, view = reading.connection, reading.view
        calibration = in_force(connection, view.space, claims=claims)
        if calibration is None:
            raise _nothing_to_watch(space_name, claims=claims)
        if calibration.other_encoders:
            raise NotFound(
                f"space {space_name!r} was re-embedded since calibration {calibration.id}, "
                f"which decides nothing any more; run {_renewing(calibration)}"
            )
        pairs = observations.accepted_random(connection, view.space.id, claims=claims)
        answered = np.array([pair[0] for pair in pairs], dtype=np.int64)
        truth = np.array([pair[1] for pair in pairs], dtype=np.int64)
        right = right_answers(reading, answered, [pair[2] for pair in pairs], truth)
        counts = _logged(reading, calibration)
        traffic = traffic_share(home, reading)
        since = stale_since(reading, calibration) if calibration.stale else None
    seen = monitoring.monitor((~right).tolist(), calibration.max_risk, alpha)
    return MonitorReport(
        calibration_id=calibration.id,
        max_risk=calibration.max_risk,
        items=seen.items,
        errors=seen.errors,
        risk=seen.errors / seen.items if seen.items else None,
        risk_low=seen.risk_low,
        evidence=seen.largest,
        broken=seen.broken,
        broken_after=seen.broken_after,
        alpha=alpha,
        message=_message(calibration, seen, since),
        logged=counts[0],
        accepted=counts[1],
        traffic=traffic,
    )


def _nothing_to_watch(space: str, *, claims: bool) -> NotFound:
    """The error of a space without a calibration in force."""
    kind, options = (" of claims", "--claimed FILE") if claims else ("", "")
    make = suggested("calibrate", space, files="FOLDER", options=options)
    return NotFound(f"space {space!r} has no calibration{kind} to watch over; run {make}")


def _renewing(calibration: Calibration) -> str:
    """The command that renews a calibration."""
    options = "--claims" if calibration.claims else ""
    return suggested("recalibrate", calibration.space, options=options)


def _logged(reading: Reading, calibration: Calibration) -> tuple[int | None, int | None]:
    """How many logged answers a calibration decided, and how many of them it accepted; None where
    the space logs none."""
    space = reading.view.space
    if not (space.verdict_log or {}).get("logging"):
        return None, None
    facts = log_rows.facts(
        reading.connection, space.id, LogFilter(), calibration.id, claims=calibration.claims
    )
    return facts.accept + facts.review + facts.unknown, facts.accept


def _message(calibration: Calibration, seen: Monitoring, since: int | None) -> str:
    """What a monitor says; `since`: the first revision that the calibration does not know."""
    promised = promise(calibration.max_risk, calibration.confidence)
    accepted = "accepted claims on images" if calibration.claims else "accepted images"
    counts = f"{seen.errors} of {seen.items} {accepted} whose label became known are wrong"
    remedy = f"run {_renewing(calibration)}"
    if seen.broken:
        return (
            f"the promise is broken that {promised}: {counts}, and the risk is at least "
            f"{percent(seen.risk_low)}. Do not rely on calibration {calibration.id}; {remedy}"
        )
    if since is not None:
        return (
            f"calibration {calibration.id} is stale since revision {since} "
            f"and promises nothing{f': {counts}' if seen.items else ''}; {remedy}"
        )
    if not seen.items:
        options = "--sampling random"
        if calibration.claims:
            options = f"--claimed FILE {options}"
        add = suggested("feedback", calibration.space, files="FOLDER", options=options)
        return (
            f"no random feedback on {accepted} yet, to test the promise that {promised}; "
            f"{add} adds it"
        )
    return f"nothing contradicts the promise that {promised}: {counts}"


def traffic_share(home: Home, reading: Reading) -> TrafficShare:
    """The share of the newest logged answers, of those since the support images were last fitted,
    that are of images unlike the support images."""
    view, connection = reading.view, reading.connection
    space = view.space
    if not (space.verdict_log or {}).get("logging"):
        start = suggested("space log-verdicts", space.name)
        return _nothing(0, f"space {space.name!r} keeps no log of answers; {start} begins one")
    before = reading.memo.latest(FitMemo)
    made = current_fit(connection, view, before, home.thresholds).fit.made
    traffic = Nearest(*log_rows.nearest(connection, space.id, made, MOST_ANSWERS))
    answers = len(traffic.label)
    if answers < FEWEST_ANSWERS:
        return _nothing(
            answers,
            f"expected at least {FEWEST_ANSWERS} logged answers among all labels since the support "
            f"images last changed, to compare with these; there are {answers}",
        )
    support = _left_out(home, reading)
    if (images := len(support.label)) < FEWEST_IMAGES:
        return _nothing(
            answers,
            f"expected at least {FEWEST_IMAGES} support images of labels with two or more, to "
            f"compare the answers with; there are {images}",
        )
    if covered_share(support, traffic) < _FEWEST_COVERED:
        return _nothing(
            answers,
            "most answers are nearest to labels that none of the compared support images is "
            "nearest to",
        )
    share = unlike_share(support, traffic, CONFIDENCE)
    return TrafficShare(share, CONFIDENCE, answers, _share_message(share, answers))


def _left_out(home: Home, reading: Reading) -> Nearest:
    """The support images of the fit's sample, each compared with the prototypes of the sample, its
    own made without it."""
    connection, space = reading.connection, reading.view.space
    sample = sample_of(connection, space, home.thresholds)
    if not sample.images:
        return Nearest(np.empty(0), np.empty(0, np.int64))
    tower = tower_of(connection, space, sample)
    images = tower.left_out.part(tower.left_out.defined)
    similarity = left_out_cosines(images, tower.prototypes)
    nearest = similarity.argmax(axis=1)
    return Nearest(similarity[np.arange(len(nearest)), nearest], sample.labels[nearest])


def _nothing(answers: int, why: str) -> TrafficShare:
    about = "traffic that looks like nothing the space has images of"
    return TrafficShare(None, CONFIDENCE, answers, f"{about}: {why}")


def _share_message(share: float, answers: int) -> str:
    sure = f"with confidence {percent(CONFIDENCE, 0)}"
    if not share:
        return (
            f"nothing shows that any of the newest {answers:,} answers is of an image that looks "
            f"like nothing the space has images of, {sure}"
        )
    at_least = percent(math.floor(1_000 * share) / 1_000) if share >= 0.001 else percent(share)
    return (
        f"at least {at_least} of the newest {answers:,} answers are of images that look like "
        f"nothing the space has images of, {sure}"
    )
