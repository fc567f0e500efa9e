"""Notices: few at a time, over no control for good, heard by screen readers, and gone after a while."""

from __future__ import annotations

from pathlib import Path

import pytest
from browsing import Browsing, browsing
from page_homes import NAMES, sideways, vectors
from playwright.sync_api import expect

pytestmark = pytest.mark.browser

TELL = """
async ([text, kind, action]) => {
  const { notice } = await import("./static/parts.js");
  notice(text, action && { name: "Undo", run: () => {} }, { kind });
}
"""

FREE = """
() => {
  scrollTo(0, document.documentElement.scrollHeight);
  const last = [...document.querySelectorAll("main button")].at(-1).getBoundingClientRect();
  const notices = document.getElementById("notices").getBoundingClientRect();
  return last.bottom <= notices.top && last.top >= document.querySelector(".bar").getBoundingClientRect().bottom;
}
"""
"""At the end of the page its last button is neither under the notices nor under the bar."""


def tell(seen: Browsing, text: str, kind: str = "plain", action: bool = False) -> None:
    """Show a notice, as each view does."""
    seen.page.evaluate(TELL, [text, kind, action])


@pytest.mark.parametrize(("phone", "dark"), [(False, False), (True, True)])
def test_notices_are_few_and_leave_every_control_free(
    tmp_path: Path, phone: bool, dark: bool
) -> None:
    vectors(tmp_path / "home")
    with browsing(tmp_path / "home", phone=phone, dark=dark) as seen:
        seen.expected.append("404 (Not Found")
        seen.go("vectors", "labels")
        page, notices = seen.page, seen.page.locator("#notices .notice")
        assert page.locator("#notices").get_attribute("aria-live") == "polite"
        for number in range(6):
            tell(seen, f"notice {number} " + NAMES[0], action=number == 0)
        expect(notices).to_have_count(4)
        expect(notices.first).to_contain_text("notice 0")  # one with a way back stays longest
        tell(seen, "it failed", kind="bad")
        tell(seen, "it failed", kind="bad")
        expect(page.get_by_role("alert")).to_have_text(["it failed (2 times)×"])
        seen.accessible()
        assert sideways(seen) == 0, "the page must not scroll sideways"
        page.wait_for_function(FREE)
        seen.shot(f"notices-{'phone' if phone else 'desk'}")


def test_notices_close_and_go(tmp_path: Path) -> None:
    vectors(tmp_path / "home")
    with browsing(tmp_path / "home") as seen:
        seen.expected.append("404 (Not Found")
        seen.page.clock.install()
        seen.go("vectors", "labels")
        page, notices = seen.page, seen.page.locator("#notices .notice")
        tell(seen, "first")
        tell(seen, "second", action=True)
        page.clock.fast_forward(6_000)
        expect(notices).to_have_text(["secondUndo×"])
        notices.get_by_role("button", name="Undo").focus()
        page.clock.fast_forward(60_000)
        expect(notices).to_have_count(1)  # whoever is on it may take the time
        page.get_by_label("Filter", exact=True).focus()
        page.clock.fast_forward(21_000)
        expect(notices).to_have_count(0)
        tell(seen, "third")
        notices.get_by_role("button", name="Dismiss").click()
        expect(notices).to_have_count(0)
