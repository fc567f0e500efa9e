"""Try with several images: sorted, filtered, selected, exported, enlarged, and all of it by
keyboard."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from browsing import Browsing, browsing, copied
from cli_runner import Cli
from page_homes import picture

import trustvlm

pytestmark = pytest.mark.browser

GIVEN = ("eight_00", "eight_15", "five_13", "three_08", "zero_01", "eight_34")


@pytest.fixture
def home(demo_home: Path, tmp_path: Path) -> Path:
    return copied(demo_home, tmp_path / "home")


@pytest.fixture
def images(home: Path) -> list[Path]:
    folder = home / "images" / "held-out"
    return [folder / name.split("_")[0] / f"{name}.png" for name in GIVEN]


@pytest.fixture
def rows(home: Path, images: list[Path]) -> list[dict[str, Any]]:
    """What the library says of them."""
    with trustvlm.open(home) as service:
        return list(service.score("digits", trustvlm.Queries(images=images)).rows())


@pytest.fixture
def tried(home: Path, images: list[Path], tmp_path: Path) -> Iterator[Browsing]:
    """Try with these images and one that cannot be read."""
    broken = tmp_path / "broken.png"
    broken.write_bytes(b"no image at all")
    with browsing(home) as seen:
        seen.go("digits", "try")
        seen.page.locator(".dropzone input").set_input_files([*images, broken])
        seen.page.locator(".tile").nth(len(images)).wait_for()
        yield seen


def names(seen: Browsing) -> list[str]:
    return [
        one.removeprefix("Select ") for one in seen.page.locator(".pick label").all_inner_texts()
    ]


def focused(seen: Browsing) -> str:
    found: str = seen.page.evaluate(
        "document.activeElement.closest('li')?.querySelector('.pick label').innerText ?? ''"
    )
    return found.removeprefix("Select ")


def downloaded(seen: Browsing, button: str) -> str:
    with seen.page.expect_download() as download:
        seen.page.get_by_role("button", name=button).click()
    return Path(download.value.path()).read_text("utf-8")


def test_sorted_and_filtered(tried: Browsing, rows: list[dict[str, Any]]) -> None:
    page, given = tried.page, [f"{name}.png" for name in GIVEN]
    counts = {
        kind: sum(row["decision"] == kind for row in rows)
        for kind in ("accept", "review", "unknown")
    }
    assert all(counts.values()), "the test needs one of each"
    summary = page.locator(".summary").inner_text()
    said = ", ".join(f"{number} {kind}" for kind, number in counts.items())
    assert summary == f"7 images: {said}, 1 could not be read"
    assert names(tried) == [*given, "broken.png"]
    tried.accessible()
    picture(tried, "try-several")
    urgency = {"unknown": 0, "review": 1, "accept": 2}
    by_decision = sorted(
        range(len(rows)), key=lambda i: (urgency[rows[i]["decision"]], rows[i]["probability"])
    )
    for order, expected in (
        ("decision", ["broken.png", *(given[i] for i in by_decision)]),
        ("name", sorted([*given, "broken.png"])),
    ):
        page.get_by_label("Sort by").select_option(order)
        assert names(tried) == expected
    page.get_by_role("button", name="? Unknown").click()
    assert len(names(tried)) == counts["unknown"]
    assert "Not one of your labels".lower() in page.locator(".tile").first.inner_text().lower()
    page.get_by_role("button", name="All 7").click()
    label = rows[0]["label"]
    page.get_by_label("Label", exact=True).select_option(label)
    assert len(names(tried)) == sum(row["label"] == label for row in rows)
    picture(tried, "try-several-filtered")


def test_the_selection_is_exported_as_the_command_line_writes_it(
    home: Path, tried: Browsing, images: list[Path]
) -> None:
    page = tried.page
    assert page.locator(".pick input").count() == 7
    page.locator(".pick input").nth(0).click()
    page.locator(".pick input").nth(3).click(modifiers=["Shift"])
    page.get_by_text("4 selected").wait_for()
    score = ("score", "digits", *map(str, images[:4]))
    text = downloaded(tried, "Export CSV")
    found, expected = (
        list(csv.DictReader(io.StringIO(one))) for one in (text, Cli(home)(*score, "--format=csv"))
    )
    assert list(found[0]) == list(expected[0])
    assert [row["source"] for row in found] == [image.name for image in images[:4]]
    for mine, theirs in zip(found, expected, strict=True):
        for column in ("label", "decision", "reason", "corrected_from", "top_labels", "accepted"):
            assert mine[column] == theirs[column], column
        assert float(mine["trust"]) == pytest.approx(float(theirs["trust"]), abs=1e-4)
    page.get_by_label("Select all").check()
    lines = [json.loads(line) for line in downloaded(tried, "Export JSON lines").splitlines()]
    page.get_by_text("Exported 6 verdicts; 1 image that could not be read is left out.").wait_for()
    theirs = json.loads(Cli(home)(*score, "--format=jsonl").splitlines()[0])
    assert list(lines[0]) == list(theirs)
    assert lines[0]["evidence"]["label"][0]["id"] == theirs["evidence"]["label"][0]["id"]


@pytest.mark.flow
def test_by_keyboard_alone(tried: Browsing) -> None:
    page, given = tried.page, [f"{name}.png" for name in GIVEN]
    press = page.keyboard.press
    assert "summary" in page.evaluate("document.activeElement.className")
    for key, name in (
        ("j", given[0]), ("j", given[1]), ("ArrowRight", given[2]), ("k", given[1]),
        ("End", "broken.png"), ("Home", given[0]), ("ArrowDown", "broken.png"), ("Home", given[0]),
    ):  # fmt: skip
        press(key)
        assert focused(tried) == name, key
    press("x")
    press("j")
    press("j")
    press("Shift+X")
    page.get_by_text("3 selected").wait_for()
    press("?")
    page.get_by_role("dialog", name="Keys").wait_for()
    tried.accessible()
    press("Escape")
    assert focused(tried) == given[2]
    press("e")
    page.get_by_role("dialog", name="Image").get_by_text(f"{given[2]} · 3 of 7").wait_for()
    tried.accessible()
    press("ArrowRight")
    page.get_by_role("dialog").get_by_text(f"{given[3]} · 4 of 7").wait_for()
    press("Escape")
    page.get_by_role("dialog").wait_for(state="detached")
    assert focused(tried) == given[3]
    press("Enter")
    page.locator(".walker").get_by_text(f"{given[3]} · 4 of 7").wait_for()
    assert "answer" in page.evaluate("document.activeElement.className")
    press("j")
    page.locator(".walker").get_by_text(f"{given[4]} · 5 of 7").wait_for()
    tried.accessible()
    picture(tried, "try-one-of-several")
    press("Escape")
    assert focused(tried) == given[4]
    press("End")
    press("Enter")
    page.get_by_text("not an image in a supported format").wait_for()
