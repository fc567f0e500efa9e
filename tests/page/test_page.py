"""The page's frame: which space and view, keys, themes, phones."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from browsing import Browsing, browsing, copied
from cli_runner import Cli
from page_homes import vectors
from playwright.sync_api import expect

import trustvlm

pytestmark = pytest.mark.browser


def test_a_home_without_spaces_says_how_to_make_one(tmp_path: Path) -> None:
    trustvlm.open(tmp_path / "home", create=True).close()
    with browsing(tmp_path / "home") as seen:
        seen.page.goto(seen.address)
        seen.page.get_by_text("No label spaces yet.").wait_for()
        seen.accessible()
        seen.shot("no-spaces")


@pytest.mark.parametrize("phone", [False, True])
@pytest.mark.flow
def test_every_view_opens_from_the_bar(demo_home: Path, tmp_path: Path, phone: bool) -> None:
    with browsing(copied(demo_home, tmp_path / "home"), phone=phone) as seen:
        seen.page.goto(seen.address)
        for view in ("Review", "Labels", "Trust", "Search", "Map", "Try"):
            seen.page.get_by_role("link", name=view, exact=True).click()
            seen.shown(view.lower())
            assert seen.page.title() == f"{view} · digits · trustvlm"
            assert seen.page.locator("#views a[aria-current=page]").inner_text() == view


def test_the_api_is_a_page_that_asks_nothing_of_other_sites(tmp_path: Path) -> None:
    trustvlm.open(tmp_path / "home", create=True).close()
    with browsing(tmp_path / "home") as seen:  # a request to another site is an error
        seen.page.goto(f"{seen.address}/docs")
        seen.page.locator(".opblock").first.wait_for(timeout=60_000)
        seen.page.locator("#operations-about-list_rules button").first.click()
        seen.page.get_by_role("button", name="Execute").click()
        seen.page.locator(".responses-table").get_by_text("posterior_star").first.wait_for()
        seen.shot("docs")


def test_the_theme_is_kept(demo_home: Path, tmp_path: Path) -> None:
    with browsing(copied(demo_home, tmp_path / "home")) as seen:
        seen.page.goto(seen.address)
        theme = "document.documentElement.dataset.theme"
        assert seen.page.evaluate(theme) == "light"
        seen.page.get_by_role("button", name="Dark colours").click()
        seen.page.reload()
        assert seen.page.evaluate(theme) == "dark"


def test_a_service_with_keys_asks_for_one_and_takes_no_wrong_one(
    demo_home: Path, tmp_path: Path
) -> None:
    home = copied(demo_home, tmp_path / "home")
    key = Cli(home)("key", "create", "--scope", "read").split()[-1]
    with browsing(home, "--require-key") as seen:
        seen.expected = ["401 (Unauthorized)"]
        seen.page.goto(seen.address)
        seen.page.get_by_role("button", name="Cancel").click()
        seen.page.locator("main").get_by_text("This service asks for a key.").wait_for()
        seen.page.get_by_role("button", name="Enter a key").click()
        field = seen.page.get_by_label("Key", exact=True)
        for wrong, said in (("tvk_…", "This is no key"), ("no-such-key", "unknown, revoked or")):
            field.fill(wrong)
            seen.page.get_by_role("button", name="Continue").click()
            seen.page.get_by_text(said).wait_for()
        seen.accessible()
        field.fill(key)
        seen.page.get_by_role("button", name="Continue").click()
        seen.page.locator("main .view.try.shown h1").wait_for()


CREATE, REMOVE = "New space …", "Remove the space “digits” …"
CHANGES = {
    "labels": ("Add a label", "Add several labels"),
    "labels/seven": ("Rename or prompt …", "Remove the label", "Add attributes …"),
    "review": ("y Right", "Save new images for review"),
    "trust": ("Take calibration 2 back",),
}


@pytest.fixture
def queue_home(demo_home: Path, tmp_path: Path) -> Path:
    """The demo's home with images that wait for review."""
    home = copied(demo_home, tmp_path / "home")
    images = sorted((home / "images" / "held-out" / "seven").glob("*.png"))
    with trustvlm.open(home) as service:
        service.score("digits", images, review=True)
    return home


@contextmanager
def browsing_with_key(home: Path, *options: str) -> Iterator[Browsing]:
    """A browser with a key that was made with these options."""
    key = Cli(home)("key", "create", *options).split()[-1]
    with browsing(home, "--require-key") as seen:
        seen.page.goto(f"{seen.address}/docs")
        seen.page.evaluate("(key) => sessionStorage.setItem('trustvlm-key', key)", key)
        yield seen


def load(seen: Browsing, place: str) -> None:
    """Load the page with a place of the demo's space: nothing of the place before it is left."""
    seen.page.goto(f"{seen.address}/#/digits/{place}")
    seen.page.reload()
    seen.page.locator("main .view.shown h1").wait_for()


@pytest.mark.parametrize("scope", ["read", "write", "admin", "admin of the space"])
def test_only_what_the_key_may_do_is_offered(queue_home: Path, scope: str) -> None:
    of_space = ("--space", "digits") if scope == "admin of the space" else ()
    with browsing_with_key(queue_home, "--scope", scope.split()[0], *of_space) as seen:
        offered = set()
        for place, names in CHANGES.items():
            load(seen, place)
            seen.page.evaluate("document.querySelectorAll('details').forEach((d) => d.open = true)")
            for name in (*names, CREATE, REMOVE):
                if seen.page.get_by_role("button", name=name, exact=True).count():
                    offered.add(name)
            seen.accessible()
        changes = {name for names in CHANGES.values() for name in names}
        expected = {"read": set(), "write": changes, "admin of the space": changes | {REMOVE}}
        assert offered == expected.get(scope, changes | {REMOVE, CREATE})
        expect(seen.page.get_by_text("read only", exact=True)).to_be_visible(
            visible=scope == "read"
        )


PLACES = (
    "try", "try/observation/1", "review", "labels", "labels/seven", "labels//audit",
    "labels//trash", "trust", "search", "map",
)  # fmt: skip


def test_a_key_that_reads_is_refused_nothing_that_the_page_offers(queue_home: Path) -> None:
    """Every button of every view is pressed: a refusal would be an error on the console."""
    image = queue_home / "images" / "held-out" / "seven" / "seven_07.png"
    with trustvlm.open(queue_home) as service:
        service.remove_label("digits", "three")
    pressed = set[str]()
    with browsing_with_key(queue_home, "--scope", "read") as seen:
        for place in PLACES:
            load(seen, place)
            if place == "try":
                seen.page.locator(".dropzone input").set_input_files(image)
                seen.page.locator(".verdict").wait_for()
            pressed |= press_all(seen, place)
    assert {"Check", "Measure on the stored images", "Export CSV", "Search"} <= pressed


def test_a_key_that_reads_hears_who_can_change_what(queue_home: Path) -> None:
    with trustvlm.open(queue_home) as service:
        service.remove_label("digits", "three")
    with browsing_with_key(queue_home, "--scope", "read") as seen:
        seen.expected += ["404 (Not Found"]
        seen.go("digits", "trust")
        told = seen.page.get_by_text("so its guarantee no longer holds.").first
        expect(told).to_contain_text("A key that may write can recalibrate, which renews it.")
        seen.page.goto(f"{seen.address}/#/digits/labels/three")
        problem = seen.page.locator(".problem")
        expect(problem).to_contain_text("a key that may write brings it back")
        expect(problem).not_to_contain_text("trustvlm")


def press_all(seen: Browsing, place: str) -> set[str]:
    """Press the buttons of a view, and those that appear then; their names."""
    page, pressed = seen.page, set[str]()
    while True:
        page.evaluate("document.querySelectorAll('details').forEach((d) => d.open = true)")
        names = page.locator("main button:visible:enabled").evaluate_all(
            "(all) => all.map((one) => one.ariaLabel ?? one.innerText)"
        )
        fresh = [(at, name) for at, name in enumerate(names) if name not in pressed]
        if not fresh:
            return pressed
        at, name = fresh[0]
        pressed.add(name)
        page.locator("main button:visible:enabled").nth(at).click()
        page.keyboard.press("Escape")
        if f"#/digits/{place}" not in page.url:
            page.go_back()
        page.locator("main .view.shown h1").wait_for()
        expect(page.locator("main .working, main .progress")).to_have_count(0, timeout=60_000)


def test_an_address_that_leads_nowhere_says_where_to_look(tmp_path: Path) -> None:
    """One of a label that was removed in another tab, and one that was cut off."""
    vectors(tmp_path / "home")
    with browsing(tmp_path / "home") as seen:
        seen.expected = ["404 (Not Found)"]
        page = seen.page
        seen.go("vectors", "labels")
        page.locator(".label-row", has_text="plain").click()
        page.get_by_role("heading", level=1, name="plain", exact=True).wait_for()
        with trustvlm.open(tmp_path / "home") as service:
            service.remove_label("vectors", "plain")
        page.reload()
        page.get_by_text("no label 'plain' in space 'vectors'").wait_for()
        seen.accessible()
        page.locator("main").get_by_role("link", name="Trash").click()
        page.get_by_role("button", name="Restore plain").click()
        page.get_by_text("“plain” is back.").wait_for()
        page.go_back()
        page.get_by_role("heading", level=1, name="plain", exact=True).wait_for()
        page.goto(f"{seen.address}/#/vectors/labels/%E0%A4%A")
        page.get_by_text("no label '%E0%A4%A' in space 'vectors'").wait_for()


def test_a_service_that_was_away_is_asked_again(demo_home: Path, tmp_path: Path) -> None:
    """Nothing has to be loaded again, and a proxy's answer says what is away."""
    with browsing(copied(demo_home, tmp_path / "home")) as seen:
        seen.expected = ["502 (Bad Gateway)"]
        seen.page.goto(seen.address)
        seen.page.locator("main .view.try.shown h1").wait_for()
        seen.page.route("**/v1/spaces", lambda route: route.fulfill(status=502, body="<html>"))
        seen.page.get_by_role("link", name="Labels").click()
        seen.page.get_by_text("does not answer its proxy (status 502)").wait_for()
        expect(seen.page.locator("#views a[aria-current]")).to_have_text("Labels")
        seen.accessible()
        seen.page.unroute("**/v1/spaces")
        seen.page.get_by_role("button", name="Try again").click()
        seen.page.locator("main .view.labels.shown h1").wait_for()
