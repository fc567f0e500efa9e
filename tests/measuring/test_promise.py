"""Aliases, calibrations, feedback and monitoring, through the service."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from raw_sql import run_sql
from worlds import IMAGE_DIM, TEXT_DIM, World, assert_same_verdicts, make_space

import trustvlm
from trustvlm import LabelInput, Queries

pytestmark = pytest.mark.both_back_ends(slow=True)


def labelled(world: World, count: int, seed: int = 1) -> tuple[Queries, list[str]]:
    rng = np.random.default_rng(seed)
    truth = rng.integers(0, len(world.names), count)
    return (
        Queries(
            world.text[truth] + 1.2 * rng.normal(size=(count, TEXT_DIM)),
            world.images[truth] + 0.5 * rng.normal(size=(count, IMAGE_DIM)),
        ),
        [world.names[i] for i in truth],
    )


@pytest.fixture
def space(service: trustvlm.TrustService, world: World) -> trustvlm.TrustService:
    make_space(service)
    service.register("s", world.inputs(5))
    return service


@pytest.mark.only_sqlite("two homes have a catalog each")
def test_an_alias_shares_mass_and_support_images(tmp_path: Path, world: World) -> None:
    images, more = world.supports(0, 3), world.supports(0, 2)
    queries, _ = labelled(world, 20)
    near = world.text[0] + 0.01
    with (
        trustvlm.open(tmp_path / "one", create=True) as one,
        trustvlm.open(tmp_path / "two", create=True) as two,
    ):
        for service in (one, two):
            make_space(service)
            service.register("s", world.inputs(0)[1:])
        one.register(
            "s", [LabelInput("airport", world.text[0], image_vectors=np.vstack([images, more]))]
        )
        two.register("s", [LabelInput("airport", world.text[0], image_vectors=images)])
        found = two.register("s", [LabelInput("airfield", near, image_vectors=more)])
        assert [pair[:2] for pair in found.near_synonyms or ()] == [("airfield", "airport")]
        apart = two.score("s", queries)
        two.alias("s", "airfield", "airport")
        assert two.near_synonyms("s") == []
        pooled = two.score("s", queries, top_k=10)
        np.testing.assert_allclose(
            pooled.image_similarity, one.score("s", queries).image_similarity, atol=1e-6
        )
        assert "airfield" not in {
            *pooled.label,
            *pooled.rival,
            *pooled.nearest_prototype,
            *pooled.top_labels.ravel(),
        }
        np.testing.assert_allclose(pooled.top_confidence.sum(axis=1), 1)
        both = np.isin(apart.label, ["airport", "airfield"])
        assert both.any()
        assert (pooled.text_confidence[both] > apart.text_confidence[both]).all()
        with trustvlm.open(tmp_path / "two") as other:
            assert_same_verdicts(pooled, other.score("s", queries, top_k=10))
            subset = other.score("s", queries, labels=["airfield", "beach"])
            assert set(subset.label) <= {"airport", "beach"}
        assert {row.name for row in two.list_labels("s") if row.alias_of} == {"airfield"}
        assert {row.alias_of for row in two.list_labels("s")} == {None, "airport"}
        for call in (
            lambda: two.remove_label("s", "airport"),
            lambda: two.alias("s", "beach", "airfield"),
            lambda: two.alias("s", "airport", "beach"),
        ):
            with pytest.raises(trustvlm.Conflict):
                call()
        two.remove_label("s", "airfield")
        two.restore_label("s", "airfield")
        assert_same_verdicts(pooled, two.score("s", queries, top_k=10))
        two.unalias("s", "airfield")
        assert_same_verdicts(apart, two.score("s", queries))


def test_calibration_decides_and_goes_stale(space: trustvlm.TrustService, world: World) -> None:
    queries, truth = labelled(world, 400)
    support = world.supports(0, 1)
    space.add_support("s", "airport", image_vectors=support)
    revision = space.get_space("s").revision
    both = Queries(
        np.vstack([queries.classifier, world.text[:1]]), np.vstack([queries.verifier, support])
    )
    made = space.calibrate("s", both, [*truth, "airport"], max_risk=0.1, confidence=0.9)
    assert (made.images, made.supports, made.tuning + made.tested) == (401, 1, 400)
    assert made.threshold is not None
    assert made.risk_bound <= 0.1
    assert space.get_space("s").revision == revision
    fresh, fresh_truth = labelled(world, 500, seed=9)
    verdicts = space.score("s", fresh)
    assert (verdicts.rule, verdicts.calibration_id, verdicts.stale_since) == (
        made.rule,
        made.id,
        None,
    )
    accepted = verdicts.accepted.astype(bool)
    assert 0 < (~accepted).sum() < 500 or accepted.all()
    assert (
        verdicts.label[accepted] != np.array(fresh_truth, dtype=object)[accepted]
    ).mean() <= 0.12
    order = np.argsort(verdicts.trust)
    assert (np.diff(verdicts.probability[order].astype(float)) >= 0).all()
    assert [reason.split(":")[0] for reason in verdicts.reason] == verdicts.decision.tolist()
    assert ((verdicts.decision == "accept") == accepted).all()
    assert set(space.score("s", fresh, labels=["airport", "beach"]).accepted) == {None}
    far = space.register("s", [LabelInput("ocean", text_vector=-world.text.sum(axis=0))]).revision
    flagged = space.score("s", fresh)
    assert flagged.stale_since == far
    space.register("s", [LabelInput("aerodrome", world.text[0], image_vectors=[world.images[0]])])
    assert {*space.score("s", fresh).reason_code} == {"stale"}
    space.remove_label("s", "aerodrome")
    again = space.recalibrate("s")
    assert (again.images, again.supports, space.score("s", fresh).stale_since) == (401, 1, None)
    assert [item.id for item in space.list_calibrations("s")] == [again.id, made.id]
    space.remove_calibration("s", again.id)
    assert space.score("s", fresh).calibration_id == made.id
    with pytest.raises(trustvlm.NotFound):
        space.remove_calibration("s", 99)


def test_too_few_images_and_bad_arguments(space: trustvlm.TrustService, world: World) -> None:
    queries, truth = labelled(world, 20)
    made = space.calibrate("s", queries, truth, max_risk=0.01)
    assert made.threshold is None
    assert made.needed is None or made.needed > 0
    assert made.failed
    assert {*space.score("s", queries).reason_code} == {"not_calibrated"}  # it is never in force
    for options in (
        {"max_risk": 0},
        {"confidence": 1},
        {"rule": "magic"},
        {"on_stale": "x"},
        {"params": {"tau": 1}},
    ):
        with pytest.raises(trustvlm.InvalidInput):
            space.calibrate("s", queries, truth, **options)
    with pytest.raises(trustvlm.InvalidInput, match="at least 2"):
        space.calibrate("s", Queries(queries.classifier[:1], queries.verifier[:1]), truth[:1])


def test_a_damaged_observation_is_found_before_it_calibrates(
    space: trustvlm.TrustService, world: World, tmp_path: Path
) -> None:
    queries, truth = labelled(world, 100)
    space.calibrate("s", queries, truth)
    emptied = "UPDATE observations SET classifier_embedding = ? WHERE id = 7"
    run_sql(tmp_path / "home", emptied, bytes(4 * TEXT_DIM))
    with pytest.raises(trustvlm.Damaged, match="observation 7"):
        space.recalibrate("s")
    assert len(space.list_calibrations("s")) == 1


def test_aliases_in_a_large_space_and_after_a_restart(tmp_path: Path) -> None:
    """200 labels, more than there are candidates; the twenty with the most mass have a further name
    each."""
    rng = np.random.default_rng(6)
    many = World([f"label {i:03d}" for i in range(200)], seed=2)
    queries = Queries(many.text[:30] + 0.5 * rng.normal(size=(30, TEXT_DIM)), many.images[:30])
    with trustvlm.open(tmp_path / "home", create=True) as service:
        make_space(service)
        service.register("s", many.inputs(2))
        names = [f"other {i:03d}" for i in range(20)]
        inputs = [
            LabelInput(name, many.text[i] + 0.01, image_vectors=many.supports(i, 1))
            for i, name in enumerate(names)
        ]
        service.register("s", inputs)
        for i, name in enumerate(names):
            service.alias("s", name, many.names[i])
        service.rebuild_index("s")
        before = service.score("s", queries, top_k=200)
        np.testing.assert_allclose(before.top_confidence.sum(axis=1), 1, atol=1e-6)
        assert not {name for row in before.top_labels for name in row} & set(names)
        assert sorted(before.top_labels[0]) == many.names
        with trustvlm.open(tmp_path / "home") as other:
            assert_same_verdicts(before, other.score("s", queries, top_k=200))


def test_feedback_calibrates_only_when_random_and_monitors(
    space: trustvlm.TrustService, world: World
) -> None:
    queries, truth = labelled(world, 300)
    made = space.calibrate("s", queries, truth, max_risk=0.1)
    with pytest.raises(trustvlm.NotFound):
        space.feedback("s", queries, ["ghost"] * 300)
    told, told_truth = labelled(world, 60, seed=4)
    assert space.feedback("s", told, told_truth).added == 60
    assert space.recalibrate("s").images == 300
    again = space.feedback("s", told, told_truth, sampling="random")
    assert (again.added, again.updated) == (0, 60)
    assert space.recalibrate("s").images == 360
    promoted = space.feedback("s", told, told_truth, sampling="random", promote=True)
    assert promoted.promoted == 60
    assert space.feedback("s", told, told_truth).ids == (-1,) * 60
    assert space.recalibrate("s").images == 300
    assert space.monitor("s").items == 0
    space.feedback("s", queries, truth, sampling="random")
    space.feedback("s", queries, truth, sampling="chosen")
    assert space.recalibrate("s").images == 300  # drawn is drawn, however often one looks
    assert space.monitor("s").items == 0  # what made a calibration cannot testify about it
    space.feedback("s", queries, truth, sampling="random")
    assert space.monitor("s").items == 0
    space.calibrate(
        "s", Queries(queries.classifier[:50], queries.verifier[:50]), truth[:50], max_risk=0.1
    )
    assert space.recalibrate("s").images == 300  # feedback stays, whatever calibrated meanwhile
    others, _ = labelled(world, 100, seed=7)
    space.feedback("s", others, [None] * 100, sampling="random")
    report = space.monitor("s")
    assert report.broken
    assert report.errors == report.items > 0
    assert "broken" in report.message
    assert made.id < report.calibration_id
