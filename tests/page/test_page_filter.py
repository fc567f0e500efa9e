"""A filter over attributes chooses what Labels lists, Search finds and Try answers; what is wrong
with it is said."""

from __future__ import annotations

import json
import re
import subprocess
from pathlib import Path
from typing import Any

import pytest
from browsing import browsing, copied
from keyboard import Keyboard
from page_homes import NAMES, copied_text, embedding, picture, sideways, vectors
from playwright.sync_api import expect

import trustvlm

pytestmark = pytest.mark.browser

ODD = ("one", "three", "five", "seven", "nine")


@pytest.mark.parametrize("phone", [False, True])
def test_a_filter_chooses_labels_and_hits(tmp_path: Path, phone: bool) -> None:
    home = tmp_path / "home"
    vectors(home)
    with trustvlm.open(home) as service:
        service.update_label("vectors", NAMES[2], attributes={"region": "EU", "size": 3})
        service.update_label("vectors", NAMES[3], attributes={"region": "US"})
        count = service.count_labels("vectors")
    with browsing(home, phone=phone) as seen:
        seen.expected += ["404 (Not Found", "422 (Unprocessable"]
        seen.go("vectors", "labels")
        page = seen.page
        page.locator(".label-row").first.wait_for()
        field = page.get_by_label("Filter", exact=True)
        field.fill('region = "EU" and size >= 3')
        field.press("Enter")
        expect(page.locator(".label-row bdi.name")).to_have_text([NAMES[2]])
        expect(page.get_by_label("Search labels")).to_be_disabled()
        field.fill("region =")
        field.press("Enter")
        expect(page.locator(".end")).to_contain_text("filter")
        seen.accessible()
        assert sideways(seen) == 0, "the page must not scroll sideways"
        field.fill("")
        field.press("Enter")
        expect(page.locator(".label-row")).to_have_count(count)

        seen.go("vectors", "search")
        query = {"classifier": embedding(2, 3), "verifier": embedding(2, 3)}
        page.get_by_label("Embedding as JSON").fill(json.dumps(query))
        page.get_by_role("button", name="Search", exact=True).first.click()
        page.locator(".kinds label", has_text="by their names").click()
        field = page.get_by_label("Filter", exact=True)
        field.fill('region in ("EU", "US") and not size exists')
        field.press("Enter")
        expect(page.locator(".hits a.label")).to_have_text([NAMES[3]])
        expect(page.locator(".hits")).to_contain_text("region: US")
        seen.accessible()
        field.fill("region =")
        field.press("Enter")
        expect(page.locator(".hits")).to_contain_text("Expected a value, got the end")
        assert sideways(seen) == 0, "the page must not scroll sideways"


def test_keys_and_their_values_are_proposed_while_a_filter_is_typed(tmp_path: Path) -> None:
    home = tmp_path / "home"
    vectors(home)
    with trustvlm.open(home) as service:
        attributes = {"region": "EU", "size": 3, "first seen": "May"}
        service.update_label("vectors", NAMES[2], attributes=attributes)
        service.update_label("vectors", NAMES[3], attributes={"region": "US"})
    with browsing(home) as seen:
        seen.go("vectors", "labels")
        page = seen.page
        field = page.get_by_role("combobox", name="Filter", exact=True)
        options = page.locator(f"datalist#{field.get_attribute('list')} option")
        for typed, proposed in {
            "": ["region = ", "size = ", '"first seen" = '],
            "re": ["region = "],
            "Region": ["region = "],
            "region": ["region = "],
            "region = ": ['region = "EU"', 'region = "US"'],
            'region = "u': ['region = "US"'],
            "region=": ['region = "EU"', 'region = "US"'],
            'region = "EU"': ['region = "EU"'],
            'region = "EU" and s': ['region = "EU" and size = '],
            'not (size >= 2 or "fi': ['not (size >= 2 or "first seen" = '],
            "not (size >= ": ["not (size >= 3"],
            '"first seen" = "M': ['"first seen" = "May"'],
            "nothing": [],
            "size > 1 ": [],
        }.items():
            field.fill(typed or " ")
            field.fill(typed)
            expect(options).to_have_count(len(proposed))
            assert sorted(one.get_attribute("value") or "" for one in options.all()) == sorted(
                proposed
            ), typed
        seen.accessible()


@pytest.mark.flow
@pytest.mark.parametrize(("phone", "dark"), [(False, False), (True, True)])
def test_a_filter_chooses_the_labels_that_take_part(
    demo_home: Path, tmp_path: Path, phone: bool, dark: bool
) -> None:
    """By keyboard: what fits is counted beside the field, what is wrong is said there, and the
    verdict, its claim, its command and that of a stored image are about the chosen labels."""
    home, mode = copied(demo_home, tmp_path / "home"), "phone" if phone else "desk"
    image = home / "images" / "held-out" / "seven" / "seven_07.png"
    with trustvlm.open(home) as service:
        for row in service.list_labels("digits"):
            service.update_label("digits", row.name, attributes={"odd": row.name in ODD})
        (expected,) = service.score("digits", [image], labels={"odd": False}).rows()
    assert expected["label"] not in ODD
    with browsing(home, phone=phone, dark=dark) as seen:
        seen.expected.append("422 (Unprocessable")
        seen.go("digits", "try")
        page, keys = seen.page, Keyboard(seen)
        page.locator(".dropzone input").set_input_files(image)
        label = page.locator(".verdict .side.label a")
        expect(label).to_have_text("seven")
        page.locator(".advanced > summary").click()
        field = page.get_by_label("Only labels with", exact=True)
        said = page.locator(".part-field .said")
        keys.to(field)
        keys.type("odd =")
        keys.press("Enter")
        expect(said).to_contain_text("Not used: expected")
        assert field.get_attribute("aria-invalid") == "true"
        expect(field).to_have_accessible_description(re.compile("Not used: expected"))
        seen.accessible()
        picture(seen, f"try-filter-wrong-{mode}")
        keys.to(field)
        keys.type("even = true")
        keys.press("Enter")
        expect(said).to_have_text("Not used: no label has attributes that fit.")
        page.get_by_text("Not scored: the filter under Advanced is not used.").wait_for()
        expect(page.locator(".verdict")).to_have_count(0)  # an old one would be of other labels
        keys.type("odd = false")
        keys.press("Enter")
        expect(said).to_have_text("5 of 10 labels")
        expect(label).to_have_text(expected["label"])
        assert field.get_attribute("aria-invalid") is None
        expect(page.locator(".verdict .why")).to_contain_text("Calibrations are about all labels")
        taking = "Only 5 labels take part: those with odd = false"
        expect(page.locator(".verdict .cautions")).to_contain_text(taking)
        form = page.locator("form.claim")
        form.get_by_label("Is this a …?").fill("seven")
        form.get_by_role("button", name="Check").click()
        expect(form.locator(".claim-answer")).to_contain_text(f"Fits better: {expected['label']}")
        assert sideways(seen) == 0, "the page must not scroll sideways"
        seen.accessible()
        picture(seen, f"try-filter-{mode}")
        if phone:
            return
        row = answered(copied_text(seen, "Copy the check as curl"), image.parent)
        assert (row["claimed"], row["better_label"]) == ("seven", expected["label"])
        row = answered(copied_text(seen, "Copy as curl"), image.parent)
        assert (row["label"], row["trust"]) == (expected["label"], expected["trust"])
        page.goto(f"{seen.address}/#/digits/try/observation/1")
        page.get_by_text("this image is stored with its true label").wait_for()
        expect(field).to_have_value("odd = false")
        shown = label.inner_text()
        assert shown not in ODD
        assert answered(copied_text(seen, "Copy as curl"), tmp_path)["label"] == shown
        field.fill("")
        field.press("Enter")
        expect(said).to_have_text("")
        expect(page.locator(".verdict .why")).not_to_contain_text("Calibrations are about")


def answered(command: str, folder: Path) -> dict[str, Any]:
    """The verdict that a command of the page prints."""
    run = subprocess.run(["bash", "-c", f"{command} -sS"], cwd=folder, capture_output=True)
    (row,) = json.loads(run.stdout)["verdicts"]
    return dict(row)


@pytest.mark.parametrize("phone", [False, True])
def test_the_field_tells_the_keys_and_the_kinds_of_their_values(
    tmp_path: Path, phone: bool
) -> None:
    """Each key puts a condition into the field that keeps what has its first value."""
    home = tmp_path / "home"
    vectors(home)
    odd: dict[str, Any] = {
        "odd key": 'say "A"\\B',
        "nested": {"in": 1},
        "seen": True,
        "tags": ["x", 2],
    }
    with trustvlm.open(home) as service:
        service.update_label("vectors", NAMES[2], attributes=odd | {"year": 2021, "since": "2020"})
        service.update_label("vectors", NAMES[3], attributes={"year": "MMXX"})
    kinds = {
        "odd key": "text, such as",
        "nested.in": "number, such as 1",
        "seen": "true or false, such as true",
        "tags": 'list of texts or list of numbers, such as "x", 2',
        "since": 'text, such as "2020"',
    }
    with browsing(home, phone=phone) as seen:
        seen.expected += ["404 (Not Found"]
        seen.go("vectors", "labels")
        page, keys = seen.page, seen.page.locator(".keys")
        field = page.get_by_label("Filter", exact=True)
        keys.locator("summary").click()
        expect(keys.locator("li", has_text="year")).to_contain_text("number or text")
        for key, kind in kinds.items():
            item = keys.locator("li").filter(has=page.get_by_role("button", name=key, exact=True))
            expect(item).to_contain_text(kind)
            field.fill("")
            item.get_by_role("button").click()
            expect(page.locator(".label-row bdi.name")).to_have_text([NAMES[2]])
            expect(field).to_be_focused()
        field.fill("since >= 2020")  # a number, which no text fits
        field.press("Enter")
        expect(page.locator(".end")).to_contain_text("a number never fits a text")
        seen.accessible()
        picture(seen, f"labels-filter-keys-{'phone' if phone else 'desk'}")
        assert sideways(seen) == 0, "the page must not scroll sideways"
        seen.go("vectors", "search")
        keys.locator("summary").click()
        expect(keys.locator("li", has_text="seen")).to_contain_text("true or false")
        seen.accessible()
