"""Says from the verdict log how much of what is sent looks like nothing the space has images of."""

from __future__ import annotations

import math

import numpy as np

from trustvlm.catalog.rows.verdict_log import rows as log_rows
from trustvlm.scoring.discriminant.fit import left_out_cosines
from trustvlm.scoring.traffic import Nearest, covered_share, unlike_share
from trustvlm.service.home.home import Home
from trustvlm.service.memory.discriminant.gather import tower_of
from trustvlm.service.memory.reading import Reading
from trustvlm.service.memory.support_fit import FitMemo, current_fit, sample_of
from trustvlm.types.calibration import TrafficShare
from trustvlm.types.messages.commands import suggested
from trustvlm.types.tables.probability import percent

CONFIDENCE = 0.95
MOST_ANSWERS, FEWEST_ANSWERS, FEWEST_IMAGES = 10_000, 50, 20
_FEWEST_COVERED = 0.5


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
    return TrafficShare(share, CONFIDENCE, answers, _message(share, answers))


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


def _message(share: float, answers: int) -> str:
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
