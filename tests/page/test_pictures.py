"""Takes the pictures of the page that the documentation shows, with the demo's digits: `make
pictures` writes them into docs/pictures. What a person would do is done by the same steps as in the
tests of the page."""

from __future__ import annotations

import io
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from browsing import Browsing, browsing, copied
from page_homes import LOADED
from PIL import Image

import trustvlm

pytestmark = pytest.mark.pictures

TARGET = Path(__file__).parents[2] / "docs" / "pictures"
WINDOW = {"width": 1000, "height": 1000}
COLOURS = 256
MOST_BYTES = 60_000


@pytest.fixture(scope="module")
def home(demo_home: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The demo's home with a queue of images that were not accepted."""
    home = copied(demo_home, tmp_path_factory.mktemp("pictures") / "home")
    (home / "trustvlm.toml").write_text("review_share = 0.0\n")
    images = sorted((home / "images" / "held-out").rglob("*.png"))
    with trustvlm.open(home) as service:
        service.score("digits", images, review=True)
    return home


def attempt(seen: Browsing, home: Path) -> Any:
    """Try: the text says nine, the images say seven."""
    image = home / "images" / "held-out" / "seven" / "seven_07.png"
    seen.page.locator(".dropzone input").set_input_files(image)
    seen.page.locator(".verdict .evidence img").nth(5).wait_for()
    return seen.page.locator(".verdict")


def review(seen: Browsing, home: Path) -> Any:
    """Review: an image that waits."""
    seen.page.locator(".review-item .near img").nth(5).wait_for()
    return seen.page.locator(".review-item")


def label(seen: Browsing, home: Path) -> Any:
    """Labels: the errors of one label."""
    seen.page.locator("ul.errors img").first.wait_for()
    return seen.page.locator(".label-errors")


def trust(seen: Browsing, home: Path) -> Any:
    """Trust: a threshold on the curve."""
    seen.page.get_by_role("button", name="Measure on the stored images").click()
    seen.page.locator(".bench .curve svg path.main").wait_for(state="attached", timeout=60_000)
    return seen.page.locator(".bench")


def search(seen: Browsing, home: Path) -> Any:
    """Search: the labels that are nearest to a text."""
    seen.page.get_by_label("Or look for a text").fill("a photo of a three.")
    seen.page.get_by_role("button", name="Search").click()
    seen.page.locator(".found li").first.wait_for()
    seen.page.locator(".kinds label", has_text="Labels by their names").click()
    seen.page.locator(".ranked .thumbs img").first.wait_for()
    return seen.page.locator(".ranked")


def the_map(seen: Browsing, home: Path) -> Any:
    """Map: labels that lie apart, and errors among them."""
    seen.page.locator("canvas").wait_for(timeout=60_000)
    return seen.page.locator(".mapped")


VIEWS: dict[str, tuple[str, Callable[[Browsing, Path], Any]]] = {
    "try": ("try", attempt),
    "review": ("review", review),
    "label": ("labels/nine", label),
    "trust": ("trust", trust),
    "search": ("search", search),
    "map": ("map", the_map),
}


def test_pictures_of_the_page(home: Path, tmp_path: Path) -> None:
    with browsing(copied(home, tmp_path / "home")) as seen:
        seen.page.set_viewport_size(WINDOW)
        for name, (view, steps) in VIEWS.items():
            seen.page.goto(f"{seen.address}/#/digits/{view}")
            seen.page.locator("main .view.shown h1").wait_for()
            shown = steps(seen, home)
            seen.page.evaluate(LOADED)
            save(shown.screenshot(), TARGET / f"page-{name}.png")


def save(png: bytes, path: Path) -> None:
    """Write a picture with few colours, which keep it small."""
    image = Image.open(io.BytesIO(png)).convert("RGB")
    few = image.quantize(COLOURS, method=Image.Quantize.FASTOCTREE, dither=Image.Dither.NONE)
    few.save(path, optimize=True)
    assert path.stat().st_size <= MOST_BYTES, f"{path.name} has {path.stat().st_size} bytes"
