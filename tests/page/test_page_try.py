"""Try: an image becomes a verdict that explains itself, and what a person answers reaches the
catalog."""

from __future__ import annotations

import json
import os
import sqlite3
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from browsing import DESK, Browsing, browsing, copied, demo_home
from cli_runner import Cli
from page_homes import BARE, LONG, NAMES, embedding, give, picture, sideways, vectors
from PIL import Image

import trustvlm

pytestmark = pytest.mark.browser
__all__ = ["demo_home"]

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


def told(home: Path) -> list[tuple[Any, ...]]:
    """The feedback in the catalog: (truth, sampling, predicted)."""
    with sqlite3.connect(home / "catalog.sqlite3") as connection:
        found = connection.execute(
            "SELECT truth, sampling, predicted FROM observations WHERE origin = 'feedback' "
            "ORDER BY id"
        )
        return found.fetchall()


def supports(home: Path, label: str) -> int:
    with trustvlm.open(home) as service:
        return len(list(service.list_supports("digits", label)))


@pytest.mark.flow
def test_a_verdict_says_label_trust_and_why(home: Path) -> None:
    image = held_out(home)
    expected = verdict(home, image)
    with trustvlm.open(home) as service:
        calibration = service.list_calibrations("digits")[0]
    with browsing(home) as seen:
        seen.go("digits", "try")
        seen.page.get_by_text("Drop an image here").wait_for()
        seen.accessible()
        picture(seen, "try-empty")
        choose(seen, image)
        page = seen.page
        assert page.locator(".answer").inner_text() == expected["label"]
        assert page.evaluate("document.activeElement.className").startswith("answer")
        state = expected["decision"].capitalize()
        assert state in page.locator(".verdict-head .badge").first.inner_text()
        shown = [page.locator(".trust-row .value").nth(i).inner_text() for i in range(2)]
        assert shown == [f"{expected['trust']:.2f}", f"{expected['rival_trust']:.2f}"]
        assert (
            page.locator(".scale-note .mark").inner_text()
            == f"threshold {calibration.threshold:.2f}"
        )
        assert f"{100 * expected['probability']:.1f} %" in page.locator(".chance").inner_text()
        assert page.locator(".side.label a").inner_text() == expected["label"]
        assert page.locator(".side.rival a").inner_text() == expected["rival"]
        for side in ("label", "rival"):
            similarities = page.locator(f".side.{side} .likeness").all_inner_texts()
            assert similarities == [
                f"{near['similarity']:.3f}" for near in expected["evidence"][side]
            ]
        assert page.locator(".text-labels .name").all_inner_texts() == expected["top_labels"]
        check_bar(seen, expected, calibration)
        seen.accessible()
        picture(seen, "try-accepted")
        page.set_viewport_size(DESK)
        if folder := os.environ.get("TRUSTVLM_SHOTS"):
            page.screenshot(path=Path(folder) / "readme-try.png")
        page.locator(".side.label a").click()
        page.locator("main .view.labels h1").wait_for()
        assert page.url.endswith(f"#/digits/labels/{expected['label']}")
        page.go_back()
        assert (
            page.locator(".answer").inner_text() == expected["label"]
        )  # nothing is lost by looking elsewhere


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


def test_abstaining_and_unknown_images_say_so_and_why(home: Path) -> None:
    close = of_state(home, lambda row: row["reason_code"] == "close_call")
    flower = home / "images" / "eleventh" / "flower" / "flower_00.png"
    rival = verdict(home, close)["rival"]
    assert verdict(home, flower)["unknown"]
    with browsing(home) as seen:
        seen.go("digits", "try")
        choose(seen, close)
        assert "Review" in seen.page.locator(".verdict-head .badge").first.inner_text()
        why = seen.page.locator(".why").inner_text()
        assert "below the threshold" in why
        assert f"it is a close call with “{rival}”" in why
        picture(seen, "try-abstains")
        choose(seen, flower)
        seen.page.get_by_text("it may be of none of these labels").wait_for()
        assert "if it is of these labels at all" in seen.page.locator(".chance").inner_text()
        seen.accessible()
        picture(seen, "try-unknown")


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
        assert "Accept" in head.locator(".badge").first.inner_text()
        assert page.locator(".chance").count() == 0
        assert "is wrong" not in head.inner_text()
        assert "%" not in head.inner_text()
        seen.accessible()
        picture(seen, "try-stale")
        choose(seen, flower)
        page.get_by_text("Not covered: no calibration image has the label “flower”.").wait_for()
        assert "Review" in head.locator(".badge").first.inner_text()
        page.get_by_role("button", name="Recalibrate").click()
        page.get_by_text("of what calibration", exact=False).wait_for(timeout=60_000)
        assert "Accept" in head.locator(".badge").first.inner_text()
        assert page.get_by_role("button", name="Recalibrate").count() == 0


def test_each_kind_of_rule_shows_the_terms_it_has(home: Path, tried: Browsing) -> None:
    choose(tried, held_out(home))
    page, keys = tried.page, {}
    with trustvlm.open(home) as service:
        calibrated = service.list_calibrations("digits")[0].rule
    assert (
        page.get_by_label("Rule").locator("option").first.inner_text()
        == f"as calibrated ({calibrated})"
    )
    for rule in ("posterior", "msp", "image", "energy"):
        page.get_by_label("Rule").select_option(rule)
        page.get_by_text(f"Rule {rule} ·").wait_for()
        expected = verdict(home, held_out(home), rule)
        assert page.locator(".answer").inner_text() == expected["label"]
        assert "not calibrated" in page.locator(".verdict-head .badge").first.inner_text()
        assert f"under {rule}" in page.locator(".why").inner_text()
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
        seen.page.get_by_label("Rule").select_option("posterior")
        choose(seen, images[at])
        assert "lower it to" in seen.page.locator(".terms").inner_text()
        track = seen.page.locator(".trust-row .track").first
        whole, taken = track.bounding_box(), track.locator(".taken").bounding_box()
        assert taken["x"] - whole["x"] == pytest.approx(trust * whole["width"], abs=2)
        assert taken["width"] == pytest.approx((text - trust) * whole["width"], abs=2)
        picture(seen, "try-taken")


def test_several_images_become_a_grid_from_which_one_is_opened(
    home: Path, tried: Browsing, tmp_path: Path
) -> None:
    broken = tmp_path / "broken.png"
    broken.write_bytes(b"no image at all")
    images = [
        held_out(home, f"{name}_0{i}.png") for name in ("zero", "three", "nine") for i in range(3)
    ]
    page = tried.page
    choose(tried, *images, broken)
    with trustvlm.open(home) as service:
        verdicts = service.score("digits", trustvlm.Queries(images=images))
    accepted = int(sum(one is True for one in verdicts.accepted))
    summary = page.locator(".summary").inner_text()
    assert summary.startswith(f"10 images: {accepted} accept,")
    assert summary.endswith("1 could not be read")
    assert page.locator(".tile .label").all_inner_texts() == [
        *verdicts.label.tolist(),
        "broken.png",
    ]
    tried.accessible()
    picture(tried, "try-several")
    page.locator(".tile").nth(4).focus()
    page.keyboard.press("Enter")
    assert page.locator(".answer").inner_text() == verdicts.label[4]
    assert "three_01.png" in page.locator(".walker").inner_text()
    page.get_by_role("button", name="Next image").click()
    assert "three_02.png · 6 of 10" in page.locator(".walker").inner_text()
    picture(tried, "try-one-of-several")
    page.get_by_role("button", name="← All 10").click()
    assert page.evaluate("document.activeElement.classList.contains('tile')")
    page.locator(".tile").nth(9).click()
    page.get_by_text("not an image in a supported format").wait_for()


def test_a_file_that_is_no_image_is_named(tried: Browsing, tmp_path: Path) -> None:
    tried.expected = ["422 (Unprocessable"]
    broken = tmp_path / "broken.png"
    broken.write_bytes(b"no image at all")
    choose(tried, broken)
    assert "This file cannot be read: not an image" in tried.page.locator(".problem").inner_text()
    assert tried.page.locator(".answer").inner_text() == "broken.png"
    tried.accessible()
    picture(tried, "try-error")


def test_correct_is_stored_with_how_the_image_was_picked(home: Path, tried: Browsing) -> None:
    choose(tried, held_out(home))
    label = tried.page.locator(".answer").inner_text()
    tried.page.get_by_role("button", name="Correct").click()
    tried.page.get_by_text(
        f"Stored: “{label}” is right. As an image picked for a reason"
    ).wait_for()
    assert told(home) == [(label, "chosen", label)]
    tried.page.get_by_label("It was drawn at random").check()
    tried.page.get_by_role("button", name="Correct").click()
    tried.page.get_by_text("the earlier answer about this image is replaced").wait_for()
    assert told(home) == [(label, "random", label)]
    tried.accessible()
    tried.page.get_by_role("button", name="Score again").click()
    tried.page.get_by_text("Scored again: the same").wait_for()


@pytest.mark.flow
def test_wrong_with_a_label_by_keyboard_alone(home: Path, tried: Browsing) -> None:
    page = tried.page
    choose(tried, held_out(home))
    predicted = page.locator(".answer").inner_text()
    other = "four" if predicted != "four" else "five"

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
    assert told(home) == [(other, "chosen", predicted)]
    assert "Score again" in page.evaluate("document.activeElement.innerText")


def test_none_of_the_labels_and_a_label_that_is_not_there(home: Path, tried: Browsing) -> None:
    page = tried.page
    choose(tried, home / "images" / "eleventh" / "flower" / "flower_00.png")
    page.get_by_role("button", name="Wrong: it is").click()
    page.locator(".combobox input").fill("flo")
    page.get_by_text("No label has “flo” in its name.").wait_for()
    page.locator(".combobox input").press("Enter")
    assert told(home) == []
    page.get_by_role("button", name="None of the labels").click()
    page.get_by_text("Stored: it is none of the labels").wait_for()
    assert [row[:2] for row in told(home)] == [(None, "chosen")]


@pytest.mark.flow
def test_a_support_image_is_added_scored_with_and_taken_back(home: Path) -> None:
    image = of_state(home, lambda row: row["reason_code"] == "close_call")
    before = verdict(home, image)
    right = before["rival"]
    with browsing(home) as seen:
        seen.go("digits", "try")
        page = seen.page
        choose(seen, image)
        page.get_by_role("button", name="… of another label").click()
        page.get_by_role("listbox").get_by_role("option", name=right, exact=True).click()
        page.get_by_text(f"Added to “{right}” as support image").wait_for()
        assert supports(home, right) == 17
        page.get_by_role("button", name="Score again").click()
        page.get_by_text("The image is a support image itself now").wait_for()
        after = verdict(home, image)
        cells = page.locator(".difference td.n").all_inner_texts()
        assert cells == [f"{before['trust']:.2f}", f"{after['trust']:.2f}"]
        assert cells[0] != cells[1]
        page.get_by_text("is stale since revision").wait_for()
        seen.accessible()
        picture(seen, "try-scored-again")
        page.get_by_role("button", name="Correct").click()
        page.get_by_text("it cannot count as feedback").wait_for()
        page.get_by_role("button", name="Undo").click()
        page.get_by_text("was taken away again").wait_for()
        assert supports(home, right) == 16
        page.get_by_role("button", name="Add as support image").click()
        page.locator(".done li").nth(3).get_by_text("it has 17 support images now").wait_for()
        assert supports(home, page.locator(".answer").inner_text()) == 17


def test_adding_an_image_that_is_there_changes_nothing(home: Path, tried: Browsing) -> None:
    there = home / "images" / "support" / "three" / "three_00.png"
    choose(tried, there)
    label = tried.page.locator(".answer").inner_text()
    tried.page.get_by_role("button", name="Add as support image").click()
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
        assert "not calibrated" in seen.page.locator(".verdict-head .badge").first.inner_text()
        seen.page.get_by_text("No calibration says yet how much trust is enough").wait_for()
        assert (
            seen.page.get_by_label("Rule").locator("option").first.inner_text()
            == f"default ({trustvlm.DEFAULT_RULE})"
        )
        assert seen.page.locator(".threshold, .chance").count() == 0
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
        assert page.locator(".answer").inner_text() == "plain"
        page.locator(".side .none", has_text="no picture").nth(1).wait_for()
        seen.expected += ["404 (Not Found"]  # thumbnails of what came as embeddings
        page.get_by_role("button", name="Add as support image").click()
        page.get_by_text("it has 3 support images now").wait_for()
        page.get_by_role("button", name="Correct").click()
        page.get_by_text("it cannot count as feedback").wait_for()


def test_a_label_without_support_images_is_said_to_be_unverified(tmp_path: Path) -> None:
    vectors(tmp_path / "home")
    with browsing(tmp_path / "home") as seen:
        seen.expected = ["404 (Not Found"]
        seen.go("vectors", "try")
        one = embedding(-1, 6)
        seen.page.get_by_label("Rule").select_option("trustvlm")
        seen.page.get_by_label("Embedding as JSON").fill(
            json.dumps({"classifier": one, "verifier": one})
        )
        seen.page.get_by_role("button", name="Score", exact=True).click()
        seen.page.get_by_text(
            f"“{BARE}” has no support image: only its name supports this answer."
        ).wait_for()
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
            assert page.locator(".answer").inner_text() == name
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
        assert sideways(seen) == 0
        page.get_by_role("button", name="Add as support image").click()
        page.get_by_text(f"Added to “{NAMES[1]}”").wait_for()
        seen.accessible()
        page.locator(".side.label a").click()
        page.locator("main .view.labels h1").wait_for()
        assert page.url.endswith("labels/tools%2Fhand%2Fhammer%20%26%20sons")


def test_a_read_key_may_look_but_is_told_that_it_may_not_answer(home: Path) -> None:
    key = Cli(home)("key", "create", "--scope", "read").split()[-1]
    with browsing(home, "--require-key") as seen:
        seen.expected = ["401 (Unauthorized)", "403 (Forbidden)"]
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
        seen.page.get_by_role("button", name="Correct").click()
        seen.page.locator(".notice.bad").get_by_text("this needs a key of scope 'write'").wait_for()
        assert told(home) == []
        seen.accessible()


def test_what_was_done_to_a_deep_image_is_said(tried: Browsing, tmp_path: Path) -> None:
    deep = tmp_path / "deep.png"
    Image.fromarray((np.arange(4096, dtype=np.uint16) % 3001).reshape(64, 64)).save(deep)
    choose(tried, deep)
    assert "1 image of 16 bit: values 0–" in tried.page.locator(".notes").inner_text()
