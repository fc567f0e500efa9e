"""The page's Map: what is on it, what is under the pointer, the keyboard, zoom, and the lists beside
it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from browsing import Browsing, browsing, copied
from page_homes import BARE, picture, sideways, vectors

import trustvlm

pytestmark = pytest.mark.browser

INTO_VIEW = "(c) => scrollTo(0, c.getBoundingClientRect().top + scrollY - 140)"


def look(seen: Browsing, name: str) -> None:
    assert sideways(seen) == 0, "the page must not scroll sideways"
    seen.accessible()
    picture(seen, name)


def points(home: Path, space: str = "digits") -> list[Any]:
    with trustvlm.open(home, read_only=True) as service:
        return list(service.project(space).points)


@pytest.mark.flow
@pytest.mark.parametrize(("phone", "dark"), [(False, False), (True, True)])
def test_the_map_shows_errors_and_leads_to_labels_and_verdicts(
    demo_home: Path, tmp_path: Path, phone: bool, dark: bool
) -> None:
    home = copied(demo_home, tmp_path / "home")
    on_it = points(home)
    wrong = [point for point in on_it if point.error]
    mode = f"{'-phone' if phone else ''}{'-dark' if dark else ''}"
    with browsing(home, phone=phone, dark=dark) as seen:
        page = seen.page
        seen.go("digits", "map")
        canvas = page.locator("canvas")
        canvas.wait_for(timeout=60_000)
        page.get_by_text(f"{len(wrong)} stored images get a wrong answer.").wait_for()
        page.get_by_role("heading", name=f"Errors ({len(wrong)})").wait_for()
        assert page.locator(".listed section").nth(1).locator("li").count() == 10
        inked = "(c) => c.getContext('2d').getImageData(0, 0, c.width, c.height).data.some(Boolean)"
        assert canvas.evaluate(inked), "something is drawn"
        look(seen, f"map{mode}")
        # By keyboard: the first mark is an error, Enter opens its verdict.
        canvas.focus()
        canvas.press("ArrowRight")
        page.locator(".about .wrong").wait_for()
        for key in ("ArrowLeft", "ArrowLeft", "+", "+"):
            canvas.press(key)
        assert page.locator(".about a").count() == 1
        page.locator(".zoom").get_by_text("of 10 labels in view.").wait_for()
        look(seen, f"map-mark{mode}")
        page.get_by_role("button", name="Show the whole map").click()
        assert page.locator(".zoom p").inner_text() == ""
        canvas.press("Escape")
        page.get_by_text("Point at a mark").wait_for()
        # By pointer, in the middle of a support image's mark.
        canvas.evaluate(INTO_VIEW)
        box = canvas.bounding_box()
        assert box
        unit = min(box["width"], box["height"]) / 2 - 24
        target = max(
            (point for point in on_it if point.kind == "support"), key=lambda point: point.x
        )
        x = box["x"] + box["width"] / 2 + target.x * unit
        y = box["y"] + box["height"] / 2 - target.y * unit
        if phone:
            page.touchscreen.tap(x, y)
            page.locator(".about img").wait_for()
            page.get_by_role("link", name="Open the").click()
        else:
            page.mouse.move(x, y)
            page.locator(".about").get_by_text("Open the").wait_for()
            look(seen, "map-hover")
            canvas.evaluate(INTO_VIEW)
            page.mouse.click(x, y)
        page.wait_for_url(lambda address: not address.endswith("/map"))
        page.go_back()
        page.locator(".listed section").first.locator("a").first.press("Enter")
        page.wait_for_url("**/#/digits/try/observation/*")


def test_a_space_of_vectors_has_a_map_and_an_empty_one_says_so(tmp_path: Path) -> None:
    home = tmp_path / "home"
    vectors(home)
    with trustvlm.open(home) as service:
        service.create_space("empty", classifier="precomputed:2")
    with browsing(home, phone=True) as seen:
        page = seen.page
        seen.go("vectors", "map")
        page.locator("canvas").wait_for(timeout=60_000)
        page.get_by_text("Errors are not known: no stored image has a known label.").wait_for()
        labels = page.locator(".listed section").nth(1).locator("li")
        assert labels.count() == 7
        assert BARE not in " ".join(labels.all_inner_texts())
        look(seen, "map-vectors")
        page.get_by_label("Show at most").select_option("500")
        page.locator("canvas").wait_for()
        seen.go("empty", "map")
        page.get_by_text("Nothing to map yet.").wait_for()
        look(seen, "map-empty")
