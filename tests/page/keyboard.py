"""The keyboard alone: no click, no tap; and what the keyboard has reached must be seen."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from browsing import Browsing

MOST = 150
"""Presses of the Tab key to get somewhere."""

_FOCUS = """
() => {
  const one = document.activeElement;
  if (!one || one === document.body) return null;
  const outlined = (element) => {
    const { outlineStyle, outlineWidth } = getComputedStyle(element);
    return outlineStyle !== "none" && parseFloat(outlineWidth) >= 1;
  };
  const { top, bottom } = one.getBoundingClientRect();
  const bar = document.querySelector(".bar");
  const covered = bar && !bar.contains(one) && !one.closest("dialog, .skip") && bottom <= bar.getBoundingClientRect().bottom;
  const near = [one, one.closest("label"), one.nextElementSibling, one.querySelector(".grip")];
  return {
    what: one.outerHTML.slice(0, 160),
    outlined: near.some((element) => element && outlined(element)),
    inView: bottom > 0 && top < innerHeight && !covered,
  };
}
"""


class Keyboard:
    """Presses keys on a page."""

    def __init__(self, seen: Browsing) -> None:
        self.page = seen.page

    def press(self, *keys: str) -> None:
        """Press keys, one after the other."""
        for key in keys:
            self.page.keyboard.press(key)

    def type(self, text: str) -> None:
        """Write a text where the focus is, in place of what is there."""
        self.page.keyboard.press("Control+a")
        self.page.keyboard.type(text)

    def tab(self, key: str = "Tab") -> Any:
        """Go on to the next element, which must be visible with its focus; None: the browser's
        own."""
        self.page.keyboard.press(key)
        found = self.page.evaluate(_FOCUS)
        if found is not None:
            assert found["outlined"], f"no outline shows the focus of {found['what']}"
            assert found["inView"], f"the focus is out of view: {found['what']}"
        return found

    def to(self, target: Any, key: str = "Tab") -> None:
        """Go on until the focus is on this element (a locator)."""
        target.wait_for(state="attached")
        for _ in range(MOST):
            if target.evaluate("(one) => one === document.activeElement"):
                return
            self.tab(key)
        raise AssertionError(f"the Tab key does not reach {target}")

    def button(self, name: str, key: str = "Enter", **options: Any) -> None:
        """Go to a button and press it."""
        self.to(self.page.get_by_role("button", name=name, **options))
        self.press(key)

    def files(self, target: Any, *paths: Path) -> None:
        """Choose files, or one folder, in the dialog that a field opens."""
        self.to(target)
        with self.page.expect_file_chooser(timeout=60_000) as chooser:
            self.press("Space")
        chooser.value.set_files(list(paths) if len(paths) > 1 else paths[0])
