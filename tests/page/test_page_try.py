"""Try: an image becomes a verdict that explains itself, and what a person answers reaches the
catalog."""

from __future__ import annotations

import json
import sqlite3
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from browsing import Browsing, browsing, copied
from cli_runner import Cli
from page_homes import BARE, LONG, NAMES, copied_text, embedding, give, picture, sideways, vectors
from PIL import Image

import trustvlm

pytestmark = pytest.mark.browser

SHOWN = "seven_07.png"
"""The text says nine, the images say seven: what the page is for."""


@pytest.fixture
def home(demo_home: Path, tmp_path: Path) -> Path:
    return copied(demo_home, tmp_path / "home")


@pytest.fixture
def tried(home: Path) -> Iterator[Browsing]:
    """Try, on the demo's home."""
    with browsing(home) as seen:
        seen.go("digits", "try")
        yield seen


def held_out(home: Path, name: str = SHOWN) -> Path:
    return home / "images" / "held-out" / name.split("_")[0] / name


def verdict(home: Path, image: Path, rule: str | None = None) -> dict[str, Any]:
    """What the library says of an image."""
    with trustvlm.open(home) as service:
        (row,) = service.score("digits", trustvlm.Queries(images=[image]), rule=rule).rows(
            evidence=3
        )
    return row


def of_state(home: Path, wanted: Any) -> Path:
    """The first of the demo's held-out images whose verdict is one that the test wants."""
    images = sorted((home / "images" / "held-out").rglob("*.png"))
    with trustvlm.open(home) as service:
        for start in range(0, len(images), 64):
            some = images[start : start + 64]
            for image, row in zip(
                some, service.score("digits", trustvlm.Queries(images=some)).rows(), strict=True
            ):
                if wanted(row):
                    return image
    raise AssertionError("the demo has no such image")


def choose(seen: Browsing, *images: Path) -> None:
    seen.page.locator(".dropzone input").set_input_files(images)
    seen.page.locator(".verdict, .tiles, .card.failed").first.wait_for()


def answer(seen: Browsing) -> str:
    """The headline in one line."""
    return " ".join(seen.page.locator(".verdict .answer > span").last.inner_text().split())


def likely(probability: float) -> str:
    """A probability as the page says it, between 1 and 99.5 %."""
    digits = 1 if probability >= 0.99 else 0
    return f"{100 * probability:.{digits}f}".removesuffix(".0") + " %"


def details(seen: Browsing) -> None:
    """Open the numbers behind the verdict."""
    if not seen.page.locator(".verdict-numbers[open]").count():
        seen.page.locator(".verdict-numbers > summary").click()


def advanced(seen: Browsing) -> None:
    seen.page.locator(".advanced > summary").click()


def feedback_in(home: Path) -> list[tuple[Any, ...]]:
    """The feedback in the catalog: (truth, sampling, predicted)."""
    with sqlite3.connect(home / "catalog.sqlite3") as connection:
        found = connection.execute(
            "SELECT truth, sampling, predicted FROM observations WHERE origin = 'feedback' "
            "ORDER BY id"
        )
        return found.fetchall()


def labels(home: Path) -> list[str]:
    with trustvlm.open(home) as service:
        return [row.name for row in service.list_labels("digits")]


def supports(home: Path, label: str) -> int:
    with trustvlm.open(home) as service:
        return len(list(service.list_supports("digits", label)))


@pytest.mark.flow
def test_a_verdict_says_decision_label_probability_and_why(home: Path) -> None:
    image = held_out(home)
    expected = verdict(home, image)
    assert expected["decision"] == "accept"
    assert expected["corrected_from"] == "nine"
    with trustvlm.open(home) as service:
        calibration = service.list_calibrations("digits")[0]
    with browsing(home) as seen:
        seen.go("digits", "try")
        seen.page.get_by_text("Drop an image here").wait_for()
        choose(seen, image)
        page = seen.page
        chance = likely(expected["probability"])
        assert answer(seen) == f"Accept: {expected['label']}, {chance}"
        assert page.evaluate("document.activeElement.className").startswith("answer good")
        assert page.locator(".chance").inner_text().replace("\xa0", " ") == (
            f"{chance} likely that “{expected['label']}” is right "
            f"calibrated on {calibration.images} images"
        )
        assert (
            "at most 5\xa0% of accepted answers are wrong (90\xa0% confidence)"
            in page.locator(".why").inner_text()
        )
        assert "corrected from “nine”" in page.locator(".corrected").inner_text()
        assert page.locator(".side.label a").inner_text() == expected["label"]
        assert page.locator(".side.rival a").inner_text() == expected["rival"]
        for side in ("label", "rival"):
            similarities = page.locator(f".side.{side} .likeness").all_inner_texts()
            assert similarities == [
                f"{near['similarity']:.3f}" for near in expected["evidence"][side]
            ]
        assert not page.locator(".trust-row").first.is_visible()
        seen.accessible()
        picture(seen, "try-accepted")
        details(seen)
        shown = [page.locator(".trust-row .value").nth(i).inner_text() for i in range(2)]
        assert shown == [f"{expected['trust']:.3f}", f"{expected['rival_trust']:.3f}"]
        assert (
            page.locator(".scale-note .mark").inner_text()
            == f"threshold {calibration.threshold:.3f}"
        )
        assert page.locator(".text-labels .name").all_inner_texts() == expected["top_labels"]
        check_bar(seen, expected, calibration)
        seen.accessible()
        picture(seen, "try-details")
        page.locator(".side.label a").click()
        page.locator("main .view.labels.shown h1").wait_for()
        assert page.url.endswith(f"#/digits/labels/{expected['label']}")
        page.go_back()
        page.locator(".verdict").wait_for()
        assert answer(seen).startswith("Accept: ")  # nothing is lost by looking elsewhere


def test_an_empty_screen_offers_images_and_their_verdicts_have_links(
    home: Path, tried: Browsing
) -> None:
    page = tried.page
    first = page.locator(".examples li").first
    first.locator("img").wait_for()
    tried.accessible()
    picture(tried, "try-empty")
    truth = first.inner_text()
    first.locator("a").click()
    page.locator(".verdict").wait_for()
    said = answer(tried)
    page.get_by_text(f"It is “{truth}”: this image is stored with its true label").wait_for()
    assert page.locator(".respond").count() == 0
    assert "#/digits/try/observation/" in page.url
    assert page.locator(".queried img").evaluate("(image) => image.decode().then(() => true)")
    page.get_by_role("button", name="Copy link").click()
    page.locator(".notice").wait_for()
    tried.accessible()
    picture(tried, "try-example")
    page.reload()
    page.locator(".verdict").wait_for()
    assert answer(tried) == said
    choose(tried, held_out(home))  # a person's image: the address is not that of the example
    page.get_by_text("This image is not stored.").wait_for()
    assert page.url.endswith("#/digits/try")
    tried.expected = ["404 (Not Found"]
    for wrong, said in (
        ("support/999999", "There is no picture of support image 999999"),
        ("observation/999999", "no stored image 999999 in space 'digits'"),
        ("elsewhere/1", "expected support/ID or observation/ID"),
    ):
        page.goto(f"{tried.address}/#/digits/try/{wrong}")
        page.locator(".problem").get_by_text(said).wait_for()


def test_what_to_do_first_in_a_space_without_labels_or_support_images(home: Path) -> None:
    image = home / "images" / "support" / "three" / "three_00.png"
    with trustvlm.open(home) as service:
        row = service.get_space("digits")
        encoders = {"classifier": row.classifier, "verifier": row.verifier}
        service.create_space("nothing", **encoders)
        service.create_space("names", **encoders)
        service.register("names", [trustvlm.LabelInput("one"), trustvlm.LabelInput("two")])
        service.create_space("new", **encoders)
        service.register(
            "new", [trustvlm.LabelInput("one"), trustvlm.LabelInput("three", images=[image])]
        )
    with browsing(home) as seen:
        for space, said in (
            ("nothing", "This space has no labels yet."),
            ("names", "No label has a support image yet."),
        ):
            seen.go(space, "try")
            seen.page.get_by_text(said).wait_for()
            seen.accessible()
            picture(seen, f"try-empty-{space}")
        choose(seen, held_out(home))
        assert answer(seen).startswith("Review: ")
        assert answer(seen).endswith("by its name alone")
        assert "not calibrated" in seen.page.locator(".chance").inner_text()
        picture(seen, "try-names-only")
        seen.go("new", "try")  # without stored images of known label: support images
        seen.page.locator(".examples a").click()
        seen.page.get_by_text("This image is a support image").wait_for()
        assert "#/new/try/support/" in seen.page.url
        seen.accessible()
        seen.go("nothing", "try")
        seen.page.get_by_role("link", name="Labels").last.click()
        seen.page.locator("main .view.labels.shown h1").wait_for()


def check_bar(seen: Browsing, expected: dict[str, Any], calibration: Any) -> None:
    """The lengths on the screen are the numbers: text, then images, the threshold where it
    belongs."""
    highest = 1 + 2 * calibration.params["lambda"] if expected["rule"] == "trustvlm_star" else None
    assert highest, "the demo calibrates a rule of a known scale"
    track = seen.page.locator(".trust-row .track").first
    whole = track.bounding_box()
    ends = {}
    for kind in ("text", "image", "threshold"):
        box = track.locator(f".{kind}").bounding_box()
        middle = box["width"] / 2 if kind == "threshold" else box["width"]
        ends[kind] = (box["x"] + middle - whole["x"]) / whole["width"] * highest
    assert ends["text"] == pytest.approx(expected["text_confidence"], abs=0.03)
    assert ends["image"] == pytest.approx(expected["trust"], abs=0.03)
    assert ends["threshold"] == pytest.approx(calibration.threshold, abs=0.03)


@pytest.mark.parametrize("kind", ["drop", "paste"])
def test_images_come_by_dropping_and_by_pasting(home: Path, tried: Browsing, kind: str) -> None:
    give(tried, kind, held_out(home))
    tried.page.locator(".verdict").wait_for()
    give(tried, kind, held_out(home, "two_05.png"), held_out(home, "six_05.png"))
    tried.page.locator(".tile").nth(1).wait_for()
    assert tried.page.locator(".tile").count() == 2


def test_an_abstention_says_between_what_it_is_undecided(home: Path) -> None:
    def text_of(row: dict[str, Any]) -> str:
        return row["corrected_from"] or row["label"]

    def agree(row: dict[str, Any]) -> bool:
        return bool(text_of(row) == row["nearest_prototype"])

    close = of_state(home, lambda row: row["reason_code"] == "close_call" and agree(row))
    apart = of_state(home, lambda row: row["decision"] == "review" and not agree(row))
    expected, other = verdict(home, close), verdict(home, apart)
    with browsing(home) as seen:
        seen.go("digits", "try")
        choose(seen, close)
        assert answer(seen) == f"Review: {expected['label']} or {expected['rival']}"
        assert "Not sure enough to be accepted" in seen.page.locator(".why").inner_text()
        assert likely(expected["probability"]) in (
            seen.page.locator(".chance").inner_text().replace("\xa0", " ")
        )
        picture(seen, "try-close-call")
        choose(seen, apart)
        text, images = text_of(other), other["nearest_prototype"]
        assert answer(seen) == f"Review: text says {text}, images say {images}"
        picture(seen, "try-apart")


@pytest.mark.flow
def test_an_unknown_image_becomes_a_label(home: Path) -> None:
    flowers = home / "images" / "eleventh-held-out" / "flower"
    first, second = sorted(flowers.iterdir())[:2]
    row = verdict(home, first)
    assert row["decision"] == "unknown"
    with browsing(home) as seen:
        seen.go("digits", "try")
        page = seen.page
        choose(seen, first)
        assert answer(seen) == f"Not one of your labels; nearest: {row['nearest_prototype']}"
        assert page.locator(".chance, .corrected").count() == 0
        assert page.get_by_role("button", name="✓ Right").count() == 0
        seen.accessible()
        picture(seen, "try-unknown")
        page.get_by_role("button", name="Create a label from this image").click()
        name = page.get_by_label("Name of the new label")
        name.press("Enter")
        assert len(labels(home)) == 10  # a label needs a name
        name.fill("four")
        name.press("Enter")
        page.get_by_text("“four” is a label already.").wait_for()
        assert supports(home, "four") == 16
        name.fill("  flower ")
        seen.accessible()
        picture(seen, "try-new-label")
        name.press("Enter")
        page.locator(".difference").wait_for()
        assert answer(seen) == "Review: flower"
        cells = [row.split("\t")[1:] for row in page.locator(".difference tr").all_inner_texts()]
        assert cells[1] == ["Unknown", "Review: flower"]
        assert cells[2][0] == "not a label yet"
        assert cells[3] == ["not a label yet", "1st, similarity 1.00"]
        assert supports(home, "flower") == 1
        seen.accessible()
        picture(seen, "try-label-made")
        page.get_by_role("button", name="Recalibrate").click()
        page.get_by_role("button", name="Recalibrate").wait_for(state="detached", timeout=60_000)
        choose(seen, second)
        assert "flower" in answer(seen)  # the next flower is recognised


def test_a_new_label_is_taken_back(home: Path, tried: Browsing) -> None:
    page = tried.page
    choose(tried, held_out(home))
    page.get_by_role("button", name="Wrong: it is").click()
    page.get_by_role("button", name="A new label").click()
    page.get_by_label("Name of the new label").fill("seven with a bar")
    page.get_by_role("button", name="Create the label").click()
    page.get_by_text("Created the label “seven with a bar”").wait_for()
    assert "seven with a bar" in labels(home)
    page.get_by_role("button", name="Undo").click()
    page.get_by_text("The label “seven with a bar” was removed again.").wait_for()
    page.locator(".answer").wait_for()
    assert "seven with a bar" not in labels(home)


def test_a_stale_calibration_promises_nothing_and_is_renewed_beside_the_verdict(home: Path) -> None:
    image = of_state(
        home, lambda row: row["reason_code"] == "accepted" and row["corrected_from"] is not None
    )
    before = verdict(home, image)
    flower = home / "images" / "eleventh-held-out" / "flower" / "flower_00.png"
    with trustvlm.open(home) as service:
        supports = sorted((home / "images" / "eleventh" / "flower").iterdir())
        service.register("digits", [trustvlm.LabelInput("flower", images=supports)])
    with browsing(home) as seen:
        seen.go("digits", "try")
        page = seen.page
        choose(seen, image)
        head = page.locator(".verdict-head")
        assert (
            f"corrected from “{before['corrected_from']}”"
            in head.locator(".corrected").inner_text()
        )
        assert answer(seen) == f"Accept: {before['label']}"
        assert "the calibration is out of date" in page.locator(".chance").inner_text()
        assert "is wrong" not in head.inner_text()
        assert "%" not in head.inner_text()
        seen.accessible()
        picture(seen, "try-stale")
        choose(seen, flower)
        page.get_by_text("The calibration does not cover “flower”").wait_for()
        assert answer(seen) == "Review: flower"
        choose(seen, flower, image)
        page.locator(".out-of-date").get_by_text("so its guarantee no longer holds.").wait_for()
        picture(seen, "try-several-stale")
        page.get_by_role("button", name="Recalibrate").click()
        page.locator(".out-of-date").wait_for(state="detached", timeout=60_000)
        page.locator(".tile").first.click()
        page.get_by_text("Sure enough to be accepted: at most").wait_for()
        assert answer(seen).startswith("Accept: flower, ")


def test_each_kind_of_rule_shows_the_terms_it_has(home: Path, tried: Browsing) -> None:
    choose(tried, held_out(home))
    page, keys = tried.page, {}
    details(tried)
    advanced(tried)
    with trustvlm.open(home) as service:
        calibrated = service.list_calibrations("digits")[0].rule
    assert (
        page.get_by_label("Rule").locator("option").first.inner_text()
        == f"as calibrated ({calibrated})"
    )
    for rule in ("posterior", "msp", "image", "energy"):
        page.get_by_label("Rule").select_option(rule)
        page.locator(".verdict-facts").get_by_text(rule, exact=True).wait_for()
        expected = verdict(home, held_out(home), rule)
        assert answer(tried).startswith("Review: ")
        chance = page.locator(".chance").inner_text()
        if expected["probability"] is None:
            assert f"the rule {rule} gives none without a calibration" in chance
        else:
            assert "not calibrated" in chance
        assert f"under {rule} nothing is accepted" in page.locator(".why").inner_text()
        assert page.locator(".threshold").count() == 0
        keys[rule] = page.locator(".terms .key").all_inner_texts()
        track = page.locator(".trust-row .track").first
        assert (track.count() == 0) == (rule == "energy")
        tried.accessible()
        picture(tried, f"try-rule-{rule}")
    assert len(keys["posterior"]) == 2
    assert keys["posterior"][0].startswith("Text alone")
    assert [len(keys[rule]) for rule in ("msp", "image", "energy")] == [1, 1, 1]
    assert keys["msp"][0].startswith("Text")
    assert keys["image"][0].startswith("Images")


def test_what_the_images_take_away_is_drawn_behind_the_end_of_the_bar(home: Path) -> None:
    images = sorted((home / "images" / "held-out").rglob("*.png"))[:256]
    with trustvlm.open(home) as service:
        found = service.score("digits", trustvlm.Queries(images=images), rule="posterior")
    at = int((found.text_confidence - found.trust).argmax())
    text, trust = float(found.text_confidence[at]), float(found.trust[at])
    assert text - trust > 0.2
    with browsing(home) as seen:
        seen.go("digits", "try")
        advanced(seen)
        seen.page.get_by_label("Rule").select_option("posterior")
        choose(seen, images[at])
        details(seen)
        assert "lower it to" in seen.page.locator(".terms").inner_text()
        track = seen.page.locator(".trust-row .track").first
        whole, taken = track.bounding_box(), track.locator(".taken").bounding_box()
        assert taken["x"] - whole["x"] == pytest.approx(trust * whole["width"], abs=2)
        assert taken["width"] == pytest.approx((text - trust) * whole["width"], abs=2)
        picture(seen, "try-taken")


def test_a_file_that_is_no_image_is_named(tried: Browsing, tmp_path: Path) -> None:
    tried.expected = ["422 (Unprocessable"]
    broken = tmp_path / "broken.png"
    broken.write_bytes(b"no image at all")
    choose(tried, broken)
    assert (
        "This file cannot be read: it is a text, not an image"
        in tried.page.locator(".problem").inner_text()
    )
    assert tried.page.locator(".answer").inner_text() == "broken.png"
    tried.accessible()
    picture(tried, "try-error")


def test_correct_is_stored_as_of_an_image_that_was_picked(home: Path, tried: Browsing) -> None:
    choose(tried, held_out(home))
    label = verdict(home, held_out(home))["label"]
    tried.page.get_by_role("button", name="✓ Right").click()
    tried.page.get_by_text(f"Stored: “{label}” is right. Images that you pick").wait_for()
    assert feedback_in(home) == [(label, "chosen", label)]
    tried.page.get_by_role("button", name="Copy link").wait_for()  # it is stored now
    tried.page.get_by_role("button", name="✓ Right").click()
    tried.page.get_by_text("the earlier answer about this image is replaced").wait_for()
    assert feedback_in(home) == [(label, "chosen", label)]
    tried.accessible()


@pytest.mark.flow
def test_wrong_with_a_label_by_keyboard_alone(home: Path, tried: Browsing) -> None:
    page = tried.page
    choose(tried, held_out(home))
    predicted, other = verdict(home, held_out(home))["label"], "four"

    def tab_to(name: str) -> None:
        for _ in range(30):
            page.keyboard.press("Tab")
            if name in page.evaluate("document.activeElement.innerText ?? ''"):
                return
        raise AssertionError(f"Tab does not reach {name}")

    tab_to("Wrong: it is")
    page.keyboard.press("Enter")
    page.get_by_role("combobox", name="It is").wait_for()
    assert page.evaluate("document.activeElement.getAttribute('role')") == "combobox"
    page.get_by_role("listbox").get_by_role("option").first.wait_for()
    assert predicted not in page.get_by_role("listbox").get_by_role("option").all_inner_texts()
    page.keyboard.type(other[:2])
    page.get_by_role("listbox").get_by_role("option", name=other, exact=True).wait_for()
    page.get_by_text("1 label", exact=True).wait_for()
    tried.accessible()
    picture(tried, "try-combobox")
    page.locator(".combobox input").focus()
    page.get_by_role("listbox").get_by_role("option", name=other, exact=True).wait_for()
    page.keyboard.press("ArrowDown")
    active = page.locator(".combobox input").get_attribute("aria-activedescendant")
    assert page.locator(f"#{active}").inner_text() == other
    page.keyboard.press("Enter")
    page.get_by_text(f"Stored: it is “{other}”").wait_for()
    assert feedback_in(home) == [(other, "chosen", predicted)]
    page.get_by_text(f"Of all labels “{other}” is now").wait_for()
    assert f"Add this image to “{other}”" in page.evaluate("document.activeElement.innerText")


def test_none_of_the_labels_and_a_label_that_is_not_there(home: Path, tried: Browsing) -> None:
    page = tried.page
    choose(tried, home / "images" / "eleventh" / "flower" / "flower_00.png")
    page.get_by_role("button", name="It is …").click()
    page.locator(".combobox input").fill("flo")
    page.get_by_text("No label has “flo” in its name.").wait_for()
    page.locator(".combobox input").press("Enter")
    assert feedback_in(home) == []
    page.get_by_role("button", name="None of the labels").click()
    page.get_by_text("Stored: it is none of the labels").wait_for()
    assert [row[:2] for row in feedback_in(home)] == [(None, "chosen")]


@pytest.mark.flow
def test_a_taught_label_is_shown_before_and_after(home: Path) -> None:
    image = of_state(home, lambda row: row["reason_code"] == "close_call")
    before = verdict(home, image)
    taught = next(name for name in reversed(before["top_labels"]) if name != before["rival"])
    assert taught != before["label"]
    with browsing(home) as seen:
        seen.go("digits", "try")
        page = seen.page
        choose(seen, image)
        page.get_by_role("button", name="Wrong: it is").click()
        page.locator(".combobox input").fill(taught)
        page.get_by_role("listbox").get_by_role("option", name=taught, exact=True).click()
        page.get_by_text(f"Of all labels “{taught}” is now").wait_for()
        picture(seen, "try-told")
        page.get_by_role("button", name="Add this image to").click()
        page.get_by_text("This image is a support image itself now").wait_for()
        assert supports(home, taught) == 17
        rows = [row.split("\t") for row in page.locator(".difference tr").all_inner_texts()]
        assert rows[-1][0] == f"“{taught}” by its images"
        similarities = [float(cell.rsplit(" ", 1)[1]) for cell in rows[-1][1:]]
        assert similarities[0] < similarities[1]
        page.get_by_text("so its guarantee no longer holds.").wait_for()
        seen.accessible()
        picture(seen, "try-taught")
        page.get_by_role("button", name="Undo").click()
        page.get_by_text("was taken away again").wait_for()
        page.get_by_text(f"“{taught}” by its images").wait_for()
        assert supports(home, taught) == 16


def test_adding_an_image_that_is_there_changes_nothing(home: Path, tried: Browsing) -> None:
    there = home / "images" / "support" / "three" / "three_00.png"
    choose(tried, there)
    label = verdict(home, there)["label"]
    tried.page.get_by_role("button", name="as support image").click()
    expected = "has exactly this image already" if label == "three" else "Added to"
    tried.page.get_by_text(expected).wait_for()
    assert supports(home, "three") == 16


@pytest.mark.parametrize("dark", [False, True])
def test_a_phone_shows_all_of_it(home: Path, dark: bool) -> None:
    with browsing(home, phone=True, dark=dark) as seen:
        seen.go("digits", "try")
        choose(seen, held_out(home))
        seen.accessible()
        assert sideways(seen) == 0
        picture(seen, f"try-phone{'-dark' if dark else ''}")
        choose(seen, *[held_out(home, f"{name}_05.png") for name in ("one", "two", "three")])
        assert sideways(seen) == 0
        seen.accessible()
        picture(seen, f"try-phone-several{'-dark' if dark else ''}")


def test_the_dark_desk_is_accessible(home: Path) -> None:
    with browsing(home, dark=True) as seen:
        seen.go("digits", "try")
        choose(seen, held_out(home))
        seen.accessible()
        picture(seen, "try-dark")


def test_a_space_without_a_calibration_says_so(home: Path) -> None:
    with trustvlm.open(home) as service:
        for calibration in service.list_calibrations("digits"):
            service.remove_calibration("digits", calibration.id)
    with browsing(home) as seen:
        seen.go("digits", "try")
        choose(seen, held_out(home))
        expected = verdict(home, held_out(home))
        assert answer(seen).startswith("Review: ")
        chance = seen.page.locator(".chance").inner_text().replace("\xa0", " ")
        assert f"likely that “{expected['label']}” is right not calibrated" in chance
        seen.page.get_by_role("link", name="Calibrate in the view Trust").wait_for()
        advanced(seen)
        assert (
            seen.page.get_by_label("Rule").locator("option").first.inner_text()
            == f"default ({trustvlm.DEFAULT_RULE})"
        )
        assert seen.page.locator(".threshold").count() == 0
        picture(seen, "try-not-calibrated")


def test_embeddings_are_pasted_where_images_cannot_be_encoded(tmp_path: Path) -> None:
    vectors(tmp_path / "home")
    with browsing(tmp_path / "home") as seen:
        seen.expected = ["422 (Unprocessable"]
        seen.go("vectors", "try")
        page = seen.page
        page.get_by_text("images cannot be encoded here").wait_for()
        assert page.locator("input[type=file]").count() == 0
        field, score = (
            page.get_by_label("Embedding as JSON"),
            page.get_by_role("button", name="Score", exact=True),
        )
        for wrong, said in (
            ("", "the field is empty"),
            ("{", "this is no JSON"),
            ('{"classifier": "a"}', "classifier is something else"),
            ('{"picture": [1]}', 'got "picture"'),
            ('{"classifier": [[1], [2]], "verifier": [[1]]}', "got 2 and 1"),
        ):
            field.fill(wrong)
            score.click()
            page.locator(".wrong").get_by_text(said).wait_for()
        seen.accessible()
        picture(seen, "try-embedding-wrong")
        field.fill('{"classifier": [1, 2], "verifier": [1, 2]}')
        score.click()
        page.locator(".card.failed .problem").get_by_text("expected").wait_for()
        one = embedding(6, 5)
        field.fill(json.dumps({"classifier": one, "verifier": one}))
        score.click()
        page.locator(".verdict").wait_for()
        assert "plain" in answer(seen)
        page.locator(".side .none", has_text="no picture").nth(1).wait_for()
        seen.expected += ["404 (Not Found"]  # thumbnails of what came as embeddings
        # The panel of the new verdict shows the messages that came while the image was scored again.
        again: list[Any] = []
        answers: list[Any] = []
        page.route("**/calibrations", lambda route: again.append(route))
        page.route("**/feedback", lambda route: answers.append(route))
        page.get_by_role("button", name="as support image").click()
        page.get_by_text("which has 3 support images now").wait_for()
        with page.expect_request("**/feedback"):
            page.get_by_role("button", name="✓ Right").click()
        for route in again:
            route.continue_()
        page.locator(".difference").wait_for()
        for route in answers:
            route.continue_()
        page.get_by_text("it cannot count as feedback").wait_for()


def test_a_label_without_support_images_is_said_to_be_unverified(tmp_path: Path) -> None:
    vectors(tmp_path / "home")
    with browsing(tmp_path / "home") as seen:
        seen.expected = ["404 (Not Found"]
        seen.go("vectors", "try")
        one = embedding(-1, 6)
        advanced(seen)
        seen.page.get_by_label("Rule").select_option("trustvlm")
        seen.page.get_by_label("Embedding as JSON").fill(
            json.dumps({"classifier": one, "verifier": one})
        )
        seen.page.get_by_role("button", name="Score", exact=True).click()
        seen.page.get_by_text(f"Only the name “{BARE}” supports this answer.").wait_for()
        details(seen)
        seen.page.get_by_text("an average similarity is assumed").wait_for()
        seen.accessible()
        picture(seen, "try-unverified")


@pytest.mark.parametrize("phone", [False, True])
def test_names_of_any_kind_break_nothing(tmp_path: Path, phone: bool) -> None:
    vectors(tmp_path / "home")
    with browsing(tmp_path / "home", phone=phone) as seen:
        seen.expected = ["404 (Not Found"]
        seen.go("vectors", "try")
        page = seen.page
        rows = [embedding(i, i - 1) for i in range(len(NAMES))]
        page.get_by_label("Embedding as JSON").fill(
            json.dumps({"classifier": rows, "verifier": rows})
        )
        page.get_by_role("button", name="Score", exact=True).click()
        page.locator(".tiles").wait_for()
        assert [
            page.locator(".tile .label").nth(i).get_attribute("title") for i in range(len(NAMES))
        ] == NAMES
        assert sideways(seen) == 0
        seen.accessible()
        picture(seen, f"try-names-tiles{'-phone' if phone else ''}")
        for i, name in enumerate(NAMES):
            page.locator(".tile").nth(i).click()
            assert page.locator(".side.label a bdi").inner_text() == name
            assert answer(seen).startswith("Review: ")
            assert sideways(seen) == 0
            seen.accessible()
            picture(seen, f"try-name-{i}{'-phone' if phone else ''}")
            page.get_by_role("button", name=f"← All {len(NAMES)}").click()
        page.locator(".tile").nth(1).click()
        page.get_by_role("button", name="Wrong: it is").click()
        page.locator(".combobox input").fill(
            "CATALOGUE"
        )  # no name begins with it, one has it in the middle, in other letters
        page.get_by_role("listbox").get_by_role("option", name=NAMES[0]).click()
        page.get_by_text(f"Stored: it is “{LONG.strip()[:60]}").wait_for()
        page.get_by_role("button", name="Add this image to").wait_for()
        assert sideways(seen) == 0
        page.get_by_role("button", name="as support image").click()
        page.get_by_text(f"Added to “{NAMES[1]}”").wait_for()
        page.locator(".difference").wait_for()
        assert sideways(seen) == 0
        seen.accessible()
        page.locator(".side.label a").click()
        page.locator("main .view.labels.shown h1").wait_for()
        assert page.url.endswith("labels/tools%2Fhand%2Fhammer%20%26%20sons")


def test_a_read_key_may_look_but_is_not_asked_for_an_answer(home: Path) -> None:
    key = Cli(home)("key", "create", "--scope", "read").split()[-1]
    with browsing(home, "--require-key") as seen:
        seen.expected = ["401 (Unauthorized)"]
        seen.page.goto(f"{seen.address}/#/digits/try")
        seen.page.get_by_label("Key", exact=True).fill(key)
        seen.page.get_by_role("button", name="Continue").click()
        seen.page.locator(".dropzone").wait_for()
        choose(seen, held_out(home))
        loaded = "(image) => image.complete && image.naturalWidth > 0"
        first = seen.page.locator(".side.label img").first
        first.wait_for()
        assert first.evaluate("(image) => image.decode().then(() => true)")
        assert first.evaluate(loaded)
        assert seen.page.locator(".respond").count() == 0
        seen.accessible()


def test_what_was_done_to_a_deep_image_is_said(tried: Browsing, tmp_path: Path) -> None:
    deep = tmp_path / "deep.png"
    Image.fromarray((np.arange(4096, dtype=np.uint16) % 3001).reshape(64, 64)).save(deep)
    choose(tried, deep)
    assert "1 image of 16 bit: values 0–" in tried.page.locator(".notes").inner_text()


@pytest.mark.flow
def test_a_better_rival_is_the_answer_in_one_click(home: Path) -> None:
    """Under a rule that keeps the classifier's label the rival can fit better."""
    with trustvlm.open(home) as service:
        service.recalibrate("digits", rule="posterior", may_correct=False)
    expected = verdict(home, held_out(home))
    assert (expected["label"], expected["rival"]) == ("nine", "seven")
    assert expected["rival_trust"] > expected["trust"]
    with browsing(home) as seen:
        seen.go("digits", "try")
        choose(seen, held_out(home))
        page = seen.page
        assert answer(seen) == "Review: text says nine, images say seven"
        page.get_by_text("Closest images of “seven”, which fits better").wait_for()
        details(seen)
        shown = page.locator(".trust-row .value").all_inner_texts()
        assert shown == [f"{100 * expected[name]:.1f} %" for name in ("trust", "rival_trust")]
        ends = page.locator(".scale-note span").all_inner_texts()
        assert (ends[0], ends[-1]) == ("0 %", "100 %")
        assert "the images lower it to" in page.locator(".terms").inner_text()
        seen.accessible()
        picture(seen, "try-better-rival")
        command = copied_text(seen, "Copy as curl")
        assert "--form-string 'review=false'" in command
        folder = held_out(home).parent
        run = subprocess.run(
            ["bash", "-c", f"{command} -sS"], cwd=folder, capture_output=True, check=True
        )
        (row,) = json.loads(run.stdout)["verdicts"]
        assert (row["label"], row["trust"]) == (expected["label"], expected["trust"])
        page.locator("button", has_text="It is “seven”").click()
        page.get_by_text("Stored: it is “seven”").wait_for()
        assert feedback_in(home) == [("seven", "chosen", "nine")]
        page.locator("button", has_text="Add this image to “seven”").wait_for()
        picture(seen, "try-better-rival-stored")


def test_a_label_in_mind_is_checked(tried: Browsing, home: Path) -> None:
    """ "Is this a …?": the decision is about the typed label, and what fits better is named."""
    image = held_out(home, "three_20.png")
    choose(tried, image)
    form = tried.page.locator("form.claim")
    for name in ("seven", "no such digit"):
        queries = trustvlm.Queries(images=[image], claimed=[name])
        with trustvlm.open(home) as service:
            said = service.score("digits", queries)[0]
        form.get_by_label("Is this a …?").fill(name)
        form.get_by_role("button", name="Check", exact=True).click()
        text = form.locator(".claim-answer").filter(has_text=name)
        text.wait_for()
        assert said.better_label == "three"
        assert "Fits better: three" in text.inner_text()
        assert said.reason.partition(": ")[2][1:30] in text.inner_text()
        assert form.locator(".truth").count() == (name == "seven")  # only a label can be right
    tried.accessible()


def test_a_person_says_whether_a_claim_is_right(tried: Browsing, home: Path) -> None:
    """The answer is stored with the claim: that it is right, or which label is."""
    choose(tried, held_out(home, "three_20.png"))
    page, form = tried.page, tried.page.locator("form.claim")
    for name, right in (("seven", False), ("three", True)):
        form.get_by_label("Is this a …?").fill(name)
        form.get_by_role("button", name="Check", exact=True).click()
        form.locator(".claim-answer bdi").get_by_text(name, exact=True).first.wait_for()
        if right:
            form.get_by_role("button", name="The claim is right").click()
        else:
            form.get_by_role("button", name="It is wrong").click()
            page.get_by_role("option", name="three").click()
        stored = "“three” is right" if right else "it is “three”"
        form.get_by_text(f"Stored: {stored}").wait_for()
        assert claims_in(home) == [("three", name)]
    picture(tried, "try-claim-right")
    tried.accessible()


def claims_in(home: Path) -> list[tuple[str, str]]:
    """(true label, claimed label) of the feedback on claims, as the catalog has it."""
    with sqlite3.connect(home / "catalog.sqlite3") as connection:
        found = connection.execute(
            "SELECT truth, labels.name FROM observations JOIN labels ON labels.id = claimed_id"
        )
        return found.fetchall()
