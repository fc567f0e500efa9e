"""What the monitor says, from the verdict log, of images that look like none of the space's."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from cli_runner import Cli
from raw_sql import run_sql
from worlds import IMAGE_DIM, TEXT_DIM, World, make_space

import trustvlm
from trustvlm import Queries, TrustService

pytestmark = pytest.mark.both_back_ends(slow=True)

NAMES = [f"label {i}" for i in range(8)]


@pytest.fixture
def world() -> World:
    return World(NAMES)


@pytest.fixture
def service(tmp_path: Path, world: World) -> Any:
    """An open home with the calibrated space "s" of eight labels with 16 images each."""
    with trustvlm.open(tmp_path / "home", create=True) as made:
        make_space(made)
        made.register("s", world.inputs(16))
        made.calibrate("s", world.queries(20), [n for n in NAMES for _ in range(20)], max_risk=0.2)
        yield made


def strangers(count: int) -> Queries:
    rng = np.random.default_rng(5)
    return Queries(rng.normal(size=(count, TEXT_DIM)), rng.normal(size=(count, IMAGE_DIM)))


def test_half_of_the_images_or_none_look_like_nothing(
    service: TrustService, world: World, tmp_path: Path
) -> None:
    off = service.monitor("s").traffic
    assert off is not None
    assert (off.at_least, off.answers) == (None, 0)
    assert " space log-verdicts s'" in off.message
    service.verdict_log("s").switch(True)
    service.score("s", world.queries(5))
    few = service.monitor("s").traffic
    assert few is not None
    assert (few.at_least, few.answers) == (None, 40)
    assert "at least 50 logged answers" in few.message
    service.score("s", world.queries(20))
    none = service.monitor("s").traffic
    assert none is not None
    assert (none.at_least, none.confidence, none.answers) == (0, 0.95, 200)
    assert none.message.startswith("nothing shows that any of the newest 200 answers is of an")
    service.score("s", strangers(200))
    half = service.monitor("s").traffic
    assert half is not None
    assert half.at_least is not None
    assert 0.3 < half.at_least <= 0.5
    assert half.answers == 400
    said = f"at least {np.floor(1000 * half.at_least) / 10:.1f} % of the newest 400 answers are of "
    assert half.message.startswith(said)
    command = Cli(tmp_path / "home")
    assert said in " ".join(command.run("monitor", "s").stderr.split())
    # Other images of labels, or of other ones: what was said before says nothing any more.
    service.register("s", World([*NAMES, "new"], 1).inputs(4)[-1:])
    changed = service.monitor("s").traffic
    assert changed is not None
    assert (changed.at_least, changed.answers) == (None, 0)


def test_answers_that_cannot_be_compared_are_not_looked_at(
    service: TrustService, world: World, tmp_path: Path
) -> None:
    service.verdict_log("s").switch(True)
    queries = strangers(60)
    service.score("s", queries, labels=NAMES[:3])  # less similar, because others take no part
    service.score("s", Queries(queries.classifier), rule="msp")
    traffic = service.monitor("s").traffic
    assert traffic is not None
    assert (traffic.at_least, traffic.answers) == (None, 0)
    verdicts = service.score("s", queries)
    service.verdict_log("s").status()
    columns = "nearest_similarity, name FROM verdict_log JOIN labels ON labels.id = nearest_id"
    stored = run_sql(tmp_path / "home", f"SELECT {columns} ORDER BY verdict_log.id")
    assert [row[1] for row in stored] == verdicts.nearest_prototype.tolist()
    assert [row[0] for row in stored] == pytest.approx(verdicts.nearest_similarity.tolist())


def test_without_images_to_compare_it_says_so(tmp_path: Path, world: World) -> None:
    with trustvlm.open(tmp_path / "home", create=True) as service:
        make_space(service)
        service.register("s", world.inputs(1))
        truth = [name for name in NAMES for _ in range(20)]
        service.calibrate("s", world.queries(20), truth, max_risk=0.5)
        service.verdict_log("s").switch(True)
        service.score("s", world.queries(10))
        traffic = service.monitor("s").traffic
        assert traffic is not None
        assert (traffic.at_least, traffic.answers) == (None, 80)
        assert "at least 20 support images" in traffic.message
