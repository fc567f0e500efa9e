"""Every flow of the page by keyboard alone: no click, no tap; the focus is seen wherever it goes."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from browsing import Browsing, browsing, copied
from keyboard import Keyboard

import trustvlm
from trustvlm.demo.specs import classifier_spec, verifier_spec

pytestmark = pytest.mark.browser


@pytest.fixture
def home(demo_home: Path, tmp_path: Path) -> Path:
    home = copied(demo_home, tmp_path / "home")
    encoders = f"serve_encoders = ['{classifier_spec()}', '{verifier_spec()}']\n"
    (home / "trustvlm.toml").write_text(f"review_share = 0.2\n{encoders}")
    return home


@pytest.fixture
def seen(home: Path) -> Iterator[Browsing]:
    with browsing(home) as found:
        yield found


@pytest.fixture
def keys(seen: Browsing) -> Keyboard:
    return Keyboard(seen)


def labels(home: Path, space: str = "digits") -> dict[str, int]:
    with trustvlm.open(home, read_only=True) as service:
        return {row.name: row.support_count for row in service.list_labels(space)}


@pytest.mark.flow
def test_try_creates_a_label_and_takes_it_back(home: Path, seen: Browsing, keys: Keyboard) -> None:
    page = seen.page
    seen.go("digits", "try")
    flower = next((home / "images" / "eleventh-held-out" / "flower").iterdir())
    keys.files(page.locator(".dropzone input"), flower)
    page.get_by_role("heading", name="Not one of your labels").wait_for()
    keys.button("Create a label from this image")
    keys.type("flower")
    keys.press("Enter")
    page.get_by_text("Created the label “flower”").wait_for()
    assert labels(home)["flower"] == 1
    keys.button("Undo")
    page.get_by_text("The label “flower” was removed again.").wait_for()
    assert "flower" not in labels(home)


@pytest.mark.flow
def test_review_is_answered_and_taken_back(home: Path, seen: Browsing, keys: Keyboard) -> None:
    images = sorted((home / "images" / "held-out").rglob("*.png"))
    with trustvlm.open(home) as service:
        service.score("digits", images[:: len(images) // 80], review=True)
    page = seen.page
    seen.go("digits", "review")
    said = page.locator(".review-said")
    choices = page.locator(".choice bdi")
    choices.nth(4).wait_for()
    names = choices.all_inner_texts()
    predicted = names[0]
    for key, truth in (("y", predicted), *((str(i + 1), name) for i, name in enumerate(names))):
        keys.press(key)
        said.get_by_text(f"Stored: “{truth}”").wait_for()
        assert answers(home) == [truth]
        keys.press("u")
        said.get_by_text("The answer is taken back.").wait_for()
        assert answers(home) == []
    other = next(name for name in labels(home) if name not in names)
    keys.press("n")
    page.get_by_role("combobox", name="The right label").wait_for()
    keys.type(other)
    page.locator("[role=option]", has_text=other).wait_for()
    keys.press("Enter")
    said.get_by_text(f"Stored: “{other}”").wait_for()
    assert answers(home) == [other]
    keys.button("Undo", exact=True)  # the button, not its key
    said.get_by_text("The answer is taken back.").wait_for()
    assert answers(home) == []


def answers(home: Path) -> list[str | None]:
    with trustvlm.open(home, read_only=True) as service:
        return [item.truth for item in service.review("digits").items(state="answered").items]


def test_labels_are_added_and_pasted(home: Path, seen: Browsing, keys: Keyboard) -> None:
    page = seen.page
    seen.go("digits", "labels")
    page.locator("ul.labels li").first.wait_for()
    keys.button("Add a label")
    keys.type("flower")
    photos = sorted((home / "images" / "eleventh" / "flower").iterdir())[:3]
    keys.files(page.locator(".adding .dropzone input"), *photos)
    keys.button("Add the label with 3 support images")
    page.get_by_text("Added “flower” with 3 support images.").wait_for()
    keys.button("Add several labels", key="Space")
    keys.to(page.get_by_label("Names, one on each line"))
    page.keyboard.type("kite\n")
    page.keyboard.type("boat")
    keys.button("Register 2 labels")
    page.get_by_text("Added 2 labels.").wait_for()
    assert labels(home).items() >= {"flower": 3, "kite": 0, "boat": 0}.items()


def test_a_label_gets_a_further_name_and_goes_into_the_trash_and_back(
    home: Path, seen: Browsing, keys: Keyboard
) -> None:
    page = seen.page
    seen.go("digits", "labels")
    keys.to(page.get_by_role("link", name="nine"))
    keys.press("Enter")
    keys.to(page.get_by_label("Another name for it"))
    page.keyboard.type("IX")
    keys.press("Enter")
    page.locator(".aliases li").get_by_text("IX").wait_for()
    keys.button("Make IX a separate label")
    page.get_by_text("“IX” is a separate label again.").wait_for()
    page.locator(".aliases li").wait_for(state="detached")
    keys.button("Remove the label", key="Space")
    page.get_by_role("heading", level=1, name="Labels").wait_for()
    assert "nine" not in labels(home)
    keys.to(page.get_by_role("link", name="Trash"))
    keys.press("Enter")
    keys.button("Restore nine")
    page.get_by_text("“nine” is back.").wait_for()
    assert labels(home)["nine"] == 16


def test_a_space_is_made(home: Path, seen: Browsing, keys: Keyboard) -> None:
    page = seen.page
    seen.go("digits", "labels")
    keys.button("New space …")
    dialog = page.get_by_role("dialog")
    dialog.wait_for()
    keys.to(dialog.get_by_label("Name", exact=True))
    page.keyboard.type("ducks")
    keys.to(dialog.locator("input[type=radio]:checked"))
    offered = dialog.get_by_label("I compute embeddings myself")
    for _ in range(4):
        if offered.is_checked():
            break
        keys.press("ArrowDown")
    keys.to(dialog.get_by_label("Values of a classifier embedding"))
    keys.type("4")
    keys.button("Create the space")
    page.get_by_text("“ducks” has no labels yet.").wait_for()
    with trustvlm.open(home, read_only=True) as service:
        assert service.get_space("ducks").classifier == "precomputed:4"


@pytest.mark.flow
def test_trust_uses_a_threshold_and_recalibrates(
    home: Path, seen: Browsing, keys: Keyboard
) -> None:
    page = seen.page
    seen.go("digits", "trust")
    keys.button("Measure on the stored images")
    page.locator(".bench .curve svg path.main").wait_for(state="attached", timeout=60_000)
    keys.to(page.get_by_role("slider", name="Threshold"))
    for _ in range(20):
        keys.press("ArrowLeft")
        if page.locator(".readout .proof.proved").count():
            break
    keys.button("Use this threshold")
    page.get_by_text("Proved, and in use now.").wait_for(timeout=60_000)
    with trustvlm.open(home) as service:
        mine = service.list_calibrations("digits")[0]
        assert mine.threshold == mine.asked_threshold
        service.register("digits", [trustvlm.LabelInput("a new label")])
    page.reload()
    page.get_by_role("heading", name="The calibration is out of date.").wait_for()
    keys.button("Recalibrate")
    page.locator(".trust-now .badge").get_by_text("up to date").wait_for(timeout=60_000)
    with trustvlm.open(home, read_only=True) as service:
        assert service.list_calibrations("digits")[0].revision == 11


@pytest.mark.flow
def test_search_finds_and_opens_a_label(home: Path, seen: Browsing, keys: Keyboard) -> None:
    page = seen.page
    seen.go("digits", "search")
    image = home / "images" / "held-out" / "eight" / "eight_52.png"
    keys.files(page.locator(".dropzone input"), image)
    page.get_by_text("12 support images nearest to eight_52.png").wait_for()
    keys.to(page.locator(".kinds input:checked"))
    keys.press("ArrowRight")
    page.locator(".ranked li .thumbs img").first.wait_for()
    first = page.locator(".ranked a.label").first
    name = first.inner_text()
    keys.to(first)
    keys.press("Enter")
    page.get_by_role("heading", level=1, name=name).wait_for()
    keys.to(page.locator("ul.errors a").first)
    keys.press("Enter")
    page.locator(".verdict").wait_for()


@pytest.mark.flow
def test_map_is_walked_through(seen: Browsing, keys: Keyboard) -> None:
    page = seen.page
    seen.go("digits", "map")
    canvas = page.locator("canvas")
    canvas.wait_for(timeout=60_000)
    keys.to(canvas)
    keys.press("ArrowRight", "+", "+", "-")
    page.locator(".about a").wait_for()
    keys.press("Enter")
    page.wait_for_url(is_verdict)
    page.locator(".verdict").wait_for()


def is_verdict(address: Any) -> bool:
    return "/try/observation/" in str(address)
