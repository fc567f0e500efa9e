"""The page's Trust starts and stops the log of answers, and shows the newest."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from browsing import browsing
from page_homes import NAMES, embedding, sideways, vectors
from worlds import World, make_space

import trustvlm

pytestmark = pytest.mark.browser


@pytest.mark.parametrize("phone", [False, True])
def test_the_log_of_answers(tmp_path: Path, phone: bool) -> None:
    home = tmp_path / "home"
    vectors(home)
    with browsing(home, phone=phone) as seen:
        seen.go("vectors", "trust")
        card = seen.page.locator(".card.answers")
        card.locator("summary").click()
        card.get_by_text("Answers are not logged").wait_for()
        card.get_by_label("Days").fill("7")
        card.get_by_role("button", name="Start the log").click()
        card.get_by_text("Answers are logged").wait_for()
        with trustvlm.open(home) as service:
            assert service.verdict_log("vectors").status().days == 7
            queries = [embedding(4, 5, weight=0.1)]
            named = ["folder/" + "x" * 200]
            service.score("vectors", trustvlm.Queries(queries, queries, sources=named))
        card.locator("summary").click()
        card.locator("summary").click()
        row = card.get_by_role("row").nth(1)
        row.wait_for()
        assert NAMES[4] in row.inner_text()
        seen.accessible()
        assert sideways(seen) == 0, "the page must not scroll sideways"
        card.get_by_role("button", name="Stop the log").click()
        card.get_by_text("Answers are not logged").wait_for()
        assert "1 row" in card.inner_text()


def test_traffic_that_looks_like_nothing(tmp_path: Path) -> None:
    home, world = tmp_path / "home", World([f"label {i}" for i in range(6)])
    with trustvlm.open(home, create=True) as service:
        make_space(service)
        service.register("s", world.inputs(12))
        truth = [name for name in world.names for _ in range(40)]
        service.calibrate("s", world.queries(40), truth, max_risk=0.2)
        service.verdict_log("s").switch(True)
        rng = np.random.default_rng(5)
        service.score("s", trustvlm.Queries(rng.normal(size=(80, 16)), rng.normal(size=(80, 24))))
        expected = service.monitor("s").traffic
        assert expected is not None
        assert (expected.at_least or 0) > 0.2
    with browsing(home) as seen:
        seen.go("s", "trust")
        said = seen.page.locator(".trust-now .traffic")
        said.wait_for()
        assert said.inner_text().lower() == f"{expected.message}.".lower()
