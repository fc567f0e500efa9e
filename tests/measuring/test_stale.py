"""A calibration is stale where something changed that verdicts depend on, and only there: the
library, the list of calibrations, the monitor, metrics and another process say the same."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from cli_runner import Cli
from raw_sql import run_sql
from worlds import World, assert_same_verdicts, make_space

import trustvlm
from trustvlm import LabelInput, Queries, TrustService
from trustvlm.service.server.server_home import ServerHome

pytestmark = pytest.mark.both_back_ends(slow=True)

Change = Callable[[TrustService, World], object]


def _support(service: TrustService) -> int:
    return service.list_supports("s", "beach")[0].id


def _new_support(service: TrustService, world: World) -> None:
    service.add_support("s", "beach", image_vectors=world.supports(1, 1))


def _back(service: TrustService, world: World) -> None:
    service.remove_label("s", "bridge")
    service.restore_label("s", "bridge")


def _image_back(service: TrustService, world: World) -> None:
    number = _support(service)
    service.remove_support("s", [number])
    service.restore_support("s", [number])


NOTHING_FOR_VERDICTS: dict[str, Change] = {
    "attributes of a label": lambda service, _: service.update_label(
        "s", "beach", attributes={"coast": True}
    ),
    "attributes of an image": lambda service, _: service.update_support(
        "s", _support(service), attributes={"season": "summer"}
    ),
    "an indexed key": lambda service, _: service.index_attribute("s", "coast"),
    "a parent": lambda service, _: service.set_parents("s", {"beach": "nature"}),
    "a parent, registered": lambda service, world: service.register(
        "s", [LabelInput("beach", text_vector=world.text[1], parent="nature")]
    ),
    "the same name": lambda service, _: service.update_label("s", "beach", new_name="beach"),
    "the same vector": lambda service, world: service.update_label(
        "s", "beach", text_vector=world.text[1]
    ),
    "a doubt taken back": lambda service, _: service.keep_support("s", [_support(service)]),
    "what is there already": lambda service, world: service.register("s", world.inputs(0)),
}

FOR_VERDICTS: dict[str, Change] = {
    "a new label": lambda service, world: service.register(
        "s", [LabelInput("ocean", text_vector=-world.text.sum(axis=0))]
    ),
    "a label removed": lambda service, _: service.remove_label("s", "harbour"),
    "a label removed and restored": _back,
    "another name": lambda service, _: service.update_label("s", "desert", new_name="dunes"),
    "another vector": lambda service, world: service.update_label(
        "s", "beach", text_vector=world.text[1] + 0.1
    ),
    "a new image": _new_support,
    "an image removed": lambda service, _: service.remove_support("s", [_support(service)]),
    "an image removed and restored": _image_back,
    "an image moved": lambda service, _: service.move_support("s", [_support(service)], "bridge"),
    "an alias": lambda service, _: service.alias("s", "bridge", "beach"),
}


@pytest.fixture
def calibrated(service: TrustService, world: World) -> TrustService:
    make_space(service)
    service.register("s", world.inputs(4))
    names = [name for name in world.names for _ in range(20)]
    assert not service.calibrate("s", world.queries(20), names, max_risk=0.3).failed
    return service


def said(service: TrustService, home: Path, queries: Queries) -> set[bool]:
    """What each place says: whether the calibration in force is stale."""
    listed = Cli(home).rows("calibration", "list", "s")
    in_use = next(row["state"] for row in listed if row["state"].startswith("in force"))
    with trustvlm.open(home) as other:
        elsewhere = other.score("s", queries)
    (state,) = ServerHome(service).space_states()
    here = service.score("s", queries)
    return {
        here.stale_since is not None,
        here.probability_source is None,
        elsewhere.stale_since is not None,
        service.list_calibrations("s")[0].stale,
        "is stale since" in service.monitor("s").message,
        in_use == "in force, stale",
        state.stale,
    }


def test_what_alters_no_verdict_makes_nothing_stale(
    calibrated: TrustService, tmp_path: Path, world: World
) -> None:
    queries = world.queries(1)
    before = calibrated.score("s", queries)
    for what, change in NOTHING_FOR_VERDICTS.items():
        change(calibrated, world)
        assert said(calibrated, tmp_path / "home", queries) == {False}, what
    assert_same_verdicts(before, calibrated.score("s", queries))
    assert not calibrated.verify().damage


def test_what_alters_verdicts_makes_it_stale_until_the_next_one(
    calibrated: TrustService, tmp_path: Path, world: World
) -> None:
    queries = world.queries(1)
    for what, change in FOR_VERDICTS.items():
        change(calibrated, world)
        calibrated.update_label("s", "airport", attributes={"after": what})
        assert said(calibrated, tmp_path / "home", queries) == {True}, what
        assert calibrated.recalibrate("s").stale is False
        assert said(calibrated, tmp_path / "home", queries) == {False}, what


def test_stale_since_names_the_change_that_made_it_stale(
    calibrated: TrustService, world: World
) -> None:
    """Not one of attributes or of the taxonomy, that came before it."""
    calibrated.update_label("s", "beach", attributes={"coast": True})
    calibrated.set_parents("s", {"beach": "nature"})
    calibrated.remove_label("s", "harbour")
    since = calibrated.get_space("s").revision
    calibrated.update_label("s", "beach", attributes={"coast": False})
    verdicts = calibrated.score("s", world.queries(1))
    assert verdicts.stale_since == since
    assert f"stale since revision {since}:" in verdicts[0].reason
    assert f"stale since revision {since} " in calibrated.monitor("s").message


def test_with_back_off_the_taxonomy_counts_and_attributes_do_not(
    calibrated: TrustService, tmp_path: Path, world: World
) -> None:
    calibrated.set_parents("s", {"beach": "nature", "forest": "nature"})
    names = [name for name in world.names for _ in range(20)]
    made = calibrated.calibrate("s", world.queries(20), names, max_risk=0.3, back_off=True)
    assert made.back_off
    assert not made.failed
    queries = world.queries(1)
    calibrated.update_label("s", "beach", attributes={"coast": True})
    assert said(calibrated, tmp_path / "home", queries) == {False}
    calibrated.set_parents("s", {"beach": "coast"})
    assert said(calibrated, tmp_path / "home", queries) == {True}


@pytest.mark.both_back_ends
def test_a_space_of_an_earlier_schema_goes_by_its_revision(
    calibrated: TrustService, tmp_path: Path, world: World
) -> None:
    """The columns are empty there."""
    run_sql(tmp_path / "home", "UPDATE spaces SET verdicts_revision = NULL, nodes_revision = NULL")
    queries = world.queries(1)
    assert said(calibrated, tmp_path / "home", queries) == {False}
    calibrated.update_label("s", "beach", attributes={"coast": True})
    assert said(calibrated, tmp_path / "home", queries) == {False}
    run_sql(
        tmp_path / "home", "UPDATE spaces SET revision = revision + 1, verdicts_revision = NULL"
    )
    assert said(calibrated, tmp_path / "home", queries) == {True}


def test_verify_reports_and_repairs_an_impossible_revision(
    calibrated: TrustService, tmp_path: Path
) -> None:
    run_sql(tmp_path / "home", "UPDATE spaces SET verdicts_revision = 99")
    (damage,) = calibrated.verify().damage
    assert (damage.kind, damage.remedy) == ("space", "space")
    assert not calibrated.verify(repair=True).damage
    assert calibrated.list_calibrations("s")[0].stale  # a repair proves nothing of the verdicts
