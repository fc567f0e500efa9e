"""The page's frame: which space and view, keys, themes, phones."""

from __future__ import annotations

from pathlib import Path

import pytest
from browsing import browsing, copied
from cli_runner import Cli

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
        field = seen.page.get_by_label("Key", exact=True)
        field.fill("no such key")
        seen.page.get_by_role("button", name="Continue").click()
        seen.page.get_by_text("unknown, revoked or expired").wait_for()
        seen.accessible()
        field.fill(key)
        seen.page.get_by_role("button", name="Continue").click()
        seen.page.locator("main .view.try.shown h1").wait_for()


@pytest.mark.parametrize("scope", ["read", "write", "admin"])
def test_only_what_the_key_may_do_is_offered(demo_home: Path, tmp_path: Path, scope: str) -> None:
    home = copied(demo_home, tmp_path / "home")
    key = Cli(home)("key", "create", "--scope", scope).split()[-1]
    with browsing(home, "--require-key") as seen:
        seen.expected = ["401 (Unauthorized)"]
        seen.page.goto(f"{seen.address}/#/digits/labels")
        seen.page.get_by_label("Key", exact=True).fill(key)
        seen.page.get_by_role("button", name="Continue").click()
        seen.shown("labels")
        offered = [
            seen.page.get_by_role("button", name=name).count()
            for name in ("New space …", "Remove the space", "Add a label", "Add several labels")
        ]
        assert offered == {"read": [0] * 4, "write": [0, 0, 1, 1], "admin": [1] * 4}[scope]
        seen.accessible()


def test_a_service_that_was_away_is_asked_again(demo_home: Path, tmp_path: Path) -> None:
    """Nothing has to be loaded again, and a proxy's answer says what is away."""
    with browsing(copied(demo_home, tmp_path / "home")) as seen:
        seen.expected = ["502 (Bad Gateway)"]
        seen.page.goto(seen.address)
        seen.page.locator("main .view.try.shown h1").wait_for()
        seen.page.route("**/v1/spaces", lambda route: route.fulfill(status=502, body="<html>"))
        seen.page.get_by_role("link", name="Labels").click()
        seen.page.get_by_text("does not answer its proxy (status 502)").wait_for()
        seen.accessible()
        seen.page.unroute("**/v1/spaces")
        seen.page.get_by_role("button", name="Try again").click()
        seen.page.locator("main .view.labels.shown h1").wait_for()
