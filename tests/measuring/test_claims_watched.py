"""Feedback with claims, and watching over the promise of a calibration of claims."""

from __future__ import annotations

from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from checkpoints import make_clip
from PIL import Image
from served_client import application, client_of
from test_claims_measured import claims
from worlds import World, make_space

import trustvlm
from trustvlm import InvalidInput, NotFound, Queries


def made(verbs: Any) -> World:
    """A space "s" of ten labels with three support images each."""
    world = World([f"label {i}" for i in range(10)], 5)
    make_space(verbs)
    verbs.register("s", world.inputs(3))
    return world


def wrong(queries: Queries, truth: list[str]) -> np.ndarray[Any, Any]:
    return np.array(queries.claimed) != np.array(truth)


@pytest.mark.both_back_ends
def test_feedback_is_about_the_claims(verbs: Any) -> None:
    world = made(verbs)
    queries, truth = claims(world, 200, 1)
    verbs.calibrate("s", queries, truth, max_risk=0.1)
    fresh, fresh_truth = claims(world, 60, 2)
    fresh = replace(fresh, claimed=[None, "no label", *fresh.claimed[2:]])
    result = verbs.feedback("s", fresh, fresh_truth, sampling="random")
    assert result.ids[:2] == (-1, -1)
    assert (result.unclaimed, result.added, result.updated) == (2, 58, 0)
    false = wrong(fresh, fresh_truth)[2:]
    accepted = verbs.score("s", fresh).decision[2:] == "accept"
    assert result.right == (~false).sum()
    assert result.accepted_wrong == (accepted & false).sum()
    report = verbs.monitor("s", claims=True)
    assert (report.items, report.errors) == (accepted.sum(), (accepted & false).sum())
    assert report.items > 10
    assert not report.broken
    again = verbs.feedback("s", fresh, fresh_truth, sampling="random")
    assert (again.added, again.updated, again.ids) == (0, 58, result.ids)


def test_feedback_with_claims_and_without_are_kept_apart(service: trustvlm.TrustService) -> None:
    world = made(service)
    queries, truth = claims(world, 300, 3)
    plain = replace(queries, claimed=None)
    of_labels = service.calibrate("s", plain, truth, max_risk=0.2)
    of_claims = service.calibrate("s", queries, truth, max_risk=0.1)
    fresh, fresh_truth = claims(world, 40, 4)
    assert service.feedback("s", fresh, fresh_truth, sampling="random").added == 40
    assert service.monitor("s").items == 0
    counts = service.count_observations("s")
    assert (counts.usable, counts.random, counts.claims) == (300, 0, 340)
    watched = service.monitor("s", claims=True)
    service.feedback("s", replace(fresh, claimed=None), fresh_truth, sampling="random")
    assert service.monitor("s").items > 10
    assert service.monitor("s").calibration_id == of_labels.id
    assert service.monitor("s", claims=True) == watched
    assert watched.calibration_id == of_claims.id
    assert (service.recalibrate("s").images, service.recalibrate("s", claims=True).images) == (
        340, 340,
    )  # fmt: skip
    assert service.monitor("s", claims=True).items == 0  # they have made it
    chosen = service.feedback("s", fresh, fresh_truth)
    assert chosen.apart == 40
    assert service.monitor("s", claims=True).items == 0
    assert service.count_observations("s").claims == 340


def test_feedback_outlives_the_next_calibration_of_claims(service: trustvlm.TrustService) -> None:
    world = made(service)
    queries, truth = claims(world, 200, 5)
    service.calibrate("s", queries, truth, max_risk=0.2)
    fresh, fresh_truth = claims(world, 30, 6)
    service.feedback("s", fresh, fresh_truth, sampling="random")
    others, others_truth = claims(world, 200, 7)
    service.calibrate("s", others, others_truth, max_risk=0.2)
    assert service.count_observations("s").claims == 230
    promoted = service.feedback("s", fresh, fresh_truth, sampling="random", promote=True)
    assert promoted.promoted == 30
    assert service.count_observations("s").claims == 200


def test_wrong_accepted_claims_break_the_promise(service: trustvlm.TrustService) -> None:
    world = made(service)
    queries, truth = claims(world, 300, 8)
    service.calibrate("s", queries, truth, max_risk=0.1)
    fresh, _ = claims(world, 60, 9, wrong=0)
    rotated = [*fresh.claimed[1:], fresh.claimed[0]]
    service.feedback("s", fresh, rotated, sampling="random")
    report = service.monitor("s", claims=True)
    assert report.broken
    assert "accepted claims on images" in report.message
    assert " recalibrate s --claims'" in report.message


def test_what_is_missing_names_the_command(verbs: Any) -> None:
    world = made(verbs)
    with pytest.raises(NotFound, match=r"calibration of claims .*FOLDER --claimed FILE'"):
        verbs.monitor("s", claims=True)
    queries, truth = claims(world, 200, 10)
    assert verbs.feedback("s", queries, truth).accepted_wrong == 0  # nothing is calibrated yet
    verbs.calibrate("s", queries, truth, max_risk=0.2)
    message = verbs.monitor("s", claims=True).message
    assert " feedback s FOLDER --claimed FILE --sampling random' adds it" in message
    with pytest.raises(NotFound, match="has no calibration to watch over"):
        verbs.monitor("s")
    with pytest.raises(InvalidInput, match="claims: expected True or False"):
        verbs.monitor("s", claims="yes")
    with pytest.raises(InvalidInput, match="expected 200 names, one for each query"):
        verbs.feedback("s", replace(queries, claimed=queries.claimed[1:]), truth)


def test_logged_answers_on_claims_are_counted(service: trustvlm.TrustService) -> None:
    world = made(service)
    queries, truth = claims(world, 200, 11)
    service.calibrate("s", replace(queries, claimed=None), truth, max_risk=0.3)
    service.calibrate("s", queries, truth, max_risk=0.2)
    service.verdict_log("s").switch(True)
    fresh, _ = claims(world, 20, 12)
    fresh = replace(fresh, claimed=[*fresh.claimed[:15], *[None] * 5])
    accepted = service.score("s", fresh).decision == "accept"
    of_claims, of_labels = service.monitor("s", claims=True), service.monitor("s")
    assert (of_claims.logged, of_claims.accepted) == (15, accepted[:15].sum())
    assert (of_labels.logged, of_labels.accepted) == (5, accepted[15:].sum())


@pytest.mark.parametrize("through", ["library", "client"])
def test_image_files_with_claims(tmp_path: Path, through: str) -> None:
    """Through the client they are forms."""
    paths = []
    for seed in range(6):
        pixels = np.random.default_rng(seed).integers(0, 255, (24, 24, 3), np.uint8)
        paths.append(tmp_path / f"{seed}.png")
        Image.fromarray(pixels).save(paths[-1])
    with ExitStack() as stack:
        app = stack.enter_context(application(tmp_path / "home"))
        library = app.state.serving.service
        library.create_space("photos", classifier=make_clip(tmp_path / "clip"))
        library.register("photos", {"red": paths[:1], "blue": paths[1:2]})
        verbs = library if through == "library" else stack.enter_context(client_of(app))
        queries = Queries(images=paths[1:], claimed=["blue", "red", None, "green", "blue"])
        result = verbs.feedback("photos", queries, ["blue", "red", "red", "red", None])
    assert [one > 0 for one in result.ids] == [False, True, False, False, True]
    assert (result.unclaimed, result.added, result.right) == (2, 2, 1)
