"""Every view, wide and on a phone, light and dark: nothing to find for axe-core, nothing beside the
window, a quiet console, and a focus that is seen."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from browsing import Browsing, browsing, copied
from keyboard import Keyboard
from page_homes import LOADED, sideways

import trustvlm

pytestmark = pytest.mark.browser

STOPS = 40
"""Elements of a view that the Tab key is tried on."""


@pytest.fixture(scope="module")
def home(demo_home: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The demo's home with images that wait for review, an alias and a label in the trash."""
    home = copied(demo_home, tmp_path_factory.mktemp("views") / "home")
    images = sorted((home / "images" / "held-out").rglob("*.png"))
    with trustvlm.open(home) as service:
        service.score("digits", images[::7], review=True)
        service.register("digits", [trustvlm.LabelInput("Null"), trustvlm.LabelInput("ten")])
        service.alias("digits", "Null", "zero")
        service.remove_label("digits", "ten")
        service.recalibrate(
            "digits",
            rule="trustvlm_star",
            params={"lambda": 3.0, "temperature": 0.03},
            may_correct=True,
        )
    return home


def waits(view: str, *selectors: str) -> Callable[[Browsing], None]:
    """Opens a view and waits for what comes last."""

    def look(seen: Browsing) -> None:
        seen.page.goto(f"{seen.address}/#/digits/{view}")
        for selector in selectors:
            seen.page.locator(selector).first.wait_for(timeout=60_000)

    return look


def measured(seen: Browsing) -> None:
    """Trust, once the stored images are measured."""
    waits("trust", ".measure button:not([disabled])")(seen)
    seen.page.get_by_role("button", name="Measure on the stored images").click()
    seen.page.locator(".bench .curve svg path.main").wait_for(state="attached", timeout=60_000)


def searched(kind: str) -> Callable[[Browsing], None]:
    """Search, after a text was looked for."""

    def look(seen: Browsing) -> None:
        waits("search", ".by-text")(seen)
        seen.page.get_by_label("Or look for a text").fill("a photo of a three.")
        seen.page.get_by_role("button", name="Search").click()
        seen.page.locator(".hits li").first.wait_for()
        seen.page.locator(".kinds label", has_text=kind).click()
        seen.page.locator(".ranked li, .found li").first.wait_for()

    return look


VIEWS: dict[str, Callable[[Browsing], None]] = {
    "try": waits("try", ".examples img"),
    "try-verdict": lambda seen: (
        waits("try", ".examples a")(seen),
        seen.page.locator(".examples a").first.click(),
        seen.page.locator(".verdict .evidence img").first.wait_for(),
    )[-1],
    "review": waits("review", ".review-item .image img", ".elsewhere"),
    "labels": waits("labels", "ul.labels li"),
    "label": waits("labels/nine", "ul.supports img", "ul.errors img"),
    "trash": waits("labels//trash", ".trash-row"),
    "trust": waits("trust", ".calibrations li"),
    "trust-measured": measured,
    "search": searched("Support images"),
    "search-names": searched("Labels by their names"),
    "map": waits("map", "canvas", ".listed li"),
}


@pytest.mark.flow
@pytest.mark.parametrize("dark", [False, True])
@pytest.mark.parametrize("phone", [False, True])
def test_every_view(home: Path, tmp_path: Path, phone: bool, dark: bool) -> None:
    mode = f"{'-phone' if phone else ''}{'-dark' if dark else ''}"
    with browsing(copied(home, tmp_path / "home"), phone=phone, dark=dark) as seen:
        for name, look in VIEWS.items():
            look(seen)
            seen.accessible()
            assert sideways(seen) == 0, f"{name} is wider than the window"
            seen.page.evaluate(LOADED)
            seen.shot(f"view-{name}{mode}")
            if phone == dark:  # colours alone move no focus
                focus_is_seen(seen)


def focus_is_seen(seen: Browsing) -> None:
    """Go forward through a view, and a little back."""
    keys = Keyboard(seen)
    for _ in range(STOPS):
        if keys.tab() is None:
            break
    for _ in range(5):
        keys.tab("Shift+Tab")


@pytest.mark.parametrize("dark", [False, True])
@pytest.mark.parametrize("phone", [False, True])
def test_the_page_of_the_api(tmp_path: Path, phone: bool, dark: bool) -> None:
    trustvlm.open(tmp_path / "home", create=True).close()
    with browsing(tmp_path / "home", phone=phone, dark=dark) as seen:
        seen.page.goto(f"{seen.address}/docs")
        seen.page.locator(".opblock").first.wait_for(timeout=60_000)
        mode = f"{'-phone' if phone else ''}{'-dark' if dark else ''}"
        seen.shot(f"view-docs{mode}")
        seen.accessible()
        assert sideways(seen) == 0
        seen.page.locator("#operations-review-list_review_items button").first.click()
        seen.page.get_by_role("button", name="Execute").first.wait_for()
        seen.page.locator("#operations-review-list_review_items").scroll_into_view_if_needed()
        seen.accessible()
        seen.shot(f"view-docs-open{mode}")
        focus_is_seen(seen)
