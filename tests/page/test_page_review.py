"""Review: images wait, a person answers by key or touch, and what is said reaches the catalog."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import pytest
from browsing import Browsing, browsing, copied
from keyboard import Keyboard
from page_homes import copied_text, embedding, picture, sideways, vectors
from playwright.sync_api import Page

import trustvlm

pytestmark = pytest.mark.browser

IMAGES = 96


@pytest.fixture
def home(demo_home: Path, tmp_path: Path) -> Path:
    """The demo's home with a queue of held-out images, a fifth of them drawn at random."""
    home = copied(demo_home, tmp_path / "home")
    (home / "trustvlm.toml").write_text("review_share = 0.2\n")
    images = sorted((home / "images" / "held-out").rglob("*.png"))
    strange = sorted((home / "images" / "eleventh-held-out").rglob("*.png"))[:4]
    with trustvlm.open(home) as service:
        service.score("digits", [*strange, *images[:: len(images) // IMAGES]], review=True)
    return home


def waiting(home: Path) -> list[int]:
    with trustvlm.open(home, read_only=True) as service:
        return [tray.open for tray in service.review("digits").status().trays]


def answers(home: Path) -> list[tuple[str | None, str, bool]]:
    with trustvlm.open(home, read_only=True) as service:
        items = service.review("digits").items(state="answered").items
    return [(item.truth, item.tray, item.support_id is not None) for item in items]


def headline(seen: Browsing) -> str:
    return str(seen.page.locator(".review-item .answer").inner_text())


def stored(seen: Browsing, words: str) -> None:
    seen.page.locator(".review-said", has_text=words).wait_for()


@pytest.mark.flow
def test_answering_by_keys(home: Path) -> None:
    before = waiting(home)
    with browsing(home) as seen:
        seen.go("digits", "review")
        page = seen.page
        page.locator(".review-item").wait_for()
        assert page.locator(".nav-count").inner_text().split()[0] == str(sum(before))
        page.locator(".review-item .image img").wait_for()
        seen.accessible()
        picture(seen, "review-1280")
        first = headline(seen)
        page.keyboard.press("y")
        stored(seen, "Stored")
        assert page.evaluate("document.activeElement.className").startswith("answer")
        page.keyboard.press("u")
        stored(seen, "taken back")
        assert headline(seen) == first
        assert waiting(home) == before
        choice = page.locator(".choice bdi").nth(1).inner_text()
        page.keyboard.press("s")
        page.keyboard.press("2")
        stored(seen, "support image")
        page.keyboard.press("0")
        stored(seen, "none of the labels")
        page.keyboard.press("n")
        page.get_by_role("combobox", name="The right label").fill("seven")
        page.locator("[role=option]", has_text="seven").wait_for()
        page.keyboard.press("Enter")
        stored(seen, "“seven”")
        page.keyboard.press("k")
        stored(seen, "Skipped")
        page.keyboard.press("?")
        page.get_by_role("dialog").wait_for()
        seen.accessible()
        picture(seen, "review-keys")
        page.keyboard.press("Escape")
        said = answers(home)
        assert {(truth, support) for truth, _, support in said} == {
            (choice, True), (None, False), ("seven", False),
        }  # fmt: skip
        assert sum(waiting(home)) == sum(before) - 4
        assert page.locator(".nav-count").inner_text().split()[0] == str(sum(before) - 4)
        tray(page, "Random sample")
        page.locator(".review-item", has_text="Chosen at random").wait_for()
        picture(seen, "review-sample")


def test_an_item_that_is_answered_elsewhere_meanwhile(home: Path) -> None:
    before = waiting(home)
    with browsing(home, phone=True) as seen:
        seen.go("digits", "review")
        seen.page.locator(".review-item").wait_for()
        with trustvlm.open(home) as service:
            first = service.review("digits").items(limit=1).items[0]
            service.review("digits").answer(first.id, "two")
        seen.expected.append("409 (Conflict")
        seen.page.keyboard.press("0")
        stored(seen, "was answered elsewhere meanwhile: “two”. That answer stays.")
        assert answers(home) == [("two", first.tray, False)]
        seen.page.keyboard.press("0")  # about the next one
        stored(seen, "Stored: none of the labels")
        assert sum(waiting(home)) == sum(before) - 2


@pytest.mark.parametrize(("phone", "dark"), [(False, True), (True, False), (True, True)])
def test_how_it_looks_elsewhere(home: Path, phone: bool, dark: bool) -> None:
    with browsing(home, phone=phone, dark=dark) as seen:
        seen.go("digits", "review")
        seen.page.locator(".review-item .image img").wait_for()
        assert sideways(seen) == 0
        seen.accessible()
        name = f"review-{'390' if phone else '1280'}{'-dark' if dark else ''}"
        picture(seen, name)
        if phone:
            seen.page.locator(".choice").nth(1).tap()
            stored(seen, "Stored")
            seen.page.locator(".review-said").get_by_role("button", name="Undo").tap()
            stored(seen, "taken back")


def test_until_something_is_collected(demo_home: Path, tmp_path: Path) -> None:
    home = copied(demo_home, tmp_path / "home")
    with browsing(home, phone=True) as seen:
        seen.go("digits", "review")
        page = seen.page
        page.get_by_text("New images are not saved for review.").wait_for()
        assert not page.locator(".nav-count").is_visible()
        seen.accessible()
        picture(seen, "review-off")
        page.get_by_role("button", name="Save new images for review").click()
        page.get_by_text("Nothing to review").wait_for()
        seen.accessible()
        picture(seen, "review-nothing")
        with trustvlm.open(home, read_only=True) as service:
            assert service.review("digits").status().collecting
        page.get_by_role("button", name="Stop saving").click()
        page.get_by_text("New images are not saved for review.").wait_for()


@pytest.mark.flow
def test_the_queue_is_answered_elsewhere(home: Path, tmp_path: Path) -> None:
    """As CSV and as tasks of Label Studio; and what was skipped is asked again."""
    before = waiting(home)
    with browsing(home) as seen:
        seen.go("digits", "review")
        page = seen.page
        page.locator(".review-item").wait_for()
        page.keyboard.press("k")
        stored(seen, "Skipped")
        page.get_by_role("button", name="Ask about it again").click()
        stored(seen, "1 skipped image waits again.")
        assert waiting(home) == before
        page.locator(".elsewhere summary").click()
        seen.accessible()
        picture(seen, "review-elsewhere")
        path = downloaded(seen, "Export CSV", tmp_path)
        assert path.name == "digits-review.csv"
        with path.open(encoding="utf-8", newline="") as file:
            rows = list(csv.DictReader(file))
        assert len(rows) == sum(before)
        for row, truth in zip(rows, ("one", "(none of the labels)", "onne"), strict=False):
            row["truth"] = truth
        with path.open("w", encoding="utf-8", newline="") as file:
            writer = csv.DictWriter(file, rows[0])
            writer.writeheader()
            writer.writerows(rows)
        page.get_by_label("Import answers").set_input_files(path)
        said = page.locator(".elsewhere .outcome")
        said.get_by_text(
            f"Stored 2 answers. {len(rows) - 3} images of the file have none."
        ).wait_for()
        said.get_by_text("did you mean 'one'").wait_for()
        assert {truth for truth, _, _ in answers(home)} == {"one", None}
        seen.accessible()
        picture(seen, "review-imported")
        tasks = json.loads(downloaded(seen, "Export for Label Studio", tmp_path).read_text("utf-8"))
        assert len(tasks) == sum(before) - 2
        assert all(task["data"]["image"].startswith("data:image/jpeg") for task in tasks)
        tasks[0]["annotations"] = [{"result": tasks[0]["predictions"][0]["result"]}]
        path = tmp_path / "annotated.json"
        path.write_text(json.dumps(tasks), "utf-8")
        page.get_by_label("Import answers").set_input_files(path)
        said.get_by_text("Stored 1 answer.").wait_for()
        path.write_text("a,b\n1,2\n", "utf-8")
        page.get_by_label("Import answers").set_input_files(path)
        page.locator(".elsewhere .problem").get_by_text(
            "annotated.json: expected the columns id and truth"
        ).wait_for()


def downloaded(seen: Browsing, button: str, folder: Path) -> Path:
    with seen.page.expect_download() as download:
        seen.page.get_by_role("button", name=button).click()
    path = folder / download.value.suggested_filename
    download.value.save_as(path)
    return path


@pytest.mark.parametrize("phone", [False, True])
def test_proposals_become_support_images(demo_home: Path, tmp_path: Path, phone: bool) -> None:
    home = copied(demo_home, tmp_path / "home")
    images = sorted((home / "images" / "held-out").rglob("*.png"))
    with trustvlm.open(home) as service:
        proposed = len(service.propose("digits", images, review=True, few=100))
        before = service.get_space("digits").support_count
    assert proposed >= 2
    with browsing(home, phone=phone) as seen:
        seen.go("digits", "review")
        page = seen.page
        tray(page, "Proposed")
        page.locator(".review-item", has_text="Proposed as a support image").wait_for()
        page.locator(".review-item .image img").wait_for()
        assert page.locator(".support-too").count() == 0
        seen.accessible()
        assert sideways(seen) == 0
        picture(seen, f"review-proposed-{'390' if phone else '1280'}")
        page.keyboard.press("y")
        stored(seen, "added as support image")
        page.keyboard.press("0")
        stored(seen, "none of the labels")
        seen.accessible()
        assert sideways(seen) == 0
    said = {(truth is None, tray, support) for truth, tray, support in answers(home)}
    assert said == {(False, "proposal", True), (True, "proposal", False)}
    with trustvlm.open(home, read_only=True) as service:
        assert service.get_space("digits").support_count == before + 1


def tray(page: Page, name: str) -> None:
    """Go to a tray, and wait until its first item is shown."""
    page.locator(".trays button", has_text=name).click()
    page.locator(".trays button[aria-pressed=true]", has_text=name).wait_for()


def test_a_correction_teaches_in_one_click(home: Path) -> None:
    """What was answered without a support image can become one, and the page says what it
    changed."""
    with browsing(home) as seen:
        seen.go("digits", "review")
        page = seen.page
        tray(page, "Not accepted")
        page.locator(".review-item .image img").wait_for()
        choice = page.locator(".choice bdi").nth(1).inner_text()
        page.keyboard.press("2")
        stored(seen, "Stored")
        assert [support for _, _, support in answers(home)] == [False]
        page.get_by_role("button", name="Use it as a support image").click()
        stored(seen, "This image: ")
        page.locator(".review-said", has_text="waiting image").wait_for()
        seen.accessible()
        picture(seen, "review-taught")
    assert answers(home) == [(choice, "review", True)]


@pytest.mark.parametrize("phone", [False, True])
def test_answers_of_the_log_are_asked_about(tmp_path: Path, phone: bool) -> None:
    """By keyboard: a sample of the log comes into the queue, found by the names of the images."""
    home, named = tmp_path / "home", "s3://bucket/" + "folder/" * 20 + "0.png"
    vectors(home)
    with trustvlm.open(home) as service:
        service.verdict_log("vectors").switch(True)
        rows = [embedding(4, 5, weight=0.1), embedding(6, 5), embedding(6, 4)]
        queries = trustvlm.Queries(rows, rows, sources=[named, "b.png", None])
        service.score("vectors", queries)
    with browsing(home, phone=phone, dark=phone) as seen:
        seen.go("vectors", "review")
        page, keys = seen.page, Keyboard(seen)
        keys.to(page.locator("summary", has_text="Ask about answers of the log"))
        keys.press("Enter")
        keys.to(page.get_by_label("Which"))
        page.get_by_label("Which").select_option("a random sample of all answers")
        seen.accessible()
        assert sideways(seen) == 0
        picture(seen, f"review-log-{'390' if phone else '1280'}")
        keys.button("Put them into the queue")
        page.get_by_text("2 answers came into the queue.").wait_for()
        page.get_by_text("1 answer has an image without a name").wait_for()
        tray(page, "Random sample")
        page.locator(".review-item", has_text="The log of answers keeps no images").wait_for()
        shown = page.locator(".elsewhere-name code").inner_text()
        assert shown in (named, "b.png"), "the whole name"
        assert copied_text(seen, "Copy the name") == shown
        assert page.locator(".support-too, .review-item .near").count() == 0
        seen.accessible()
        assert sideways(seen) == 0
        picture(seen, f"review-logged-{'390' if phone else '1280'}")
        keys.press("y")
        stored(seen, "Stored")
        keys.press("0")
        stored(seen, "none of the labels")
        button = page.get_by_role("button", name="Put them into the queue")
        button.click()
        page.get_by_text("Nothing is new. 2 answers were there already").wait_for()
    with trustvlm.open(home, read_only=True) as service:
        items = service.review("vectors").items(state="answered").items
        assert {item.tray for item in items} == {"sample"}
        assert sorted(item.truth is None for item in items) == [False, True]
        assert service.count_observations("vectors").random == 2
