"""The page in a real Chromium: a server process on a home, a browser on it, and what must be true
of every page.

Screenshots go into the folder of the environment variable TRUSTVLM_SHOTS, where one is named.
TRUSTVLM_SLOWER=4 makes the browser's processor four times slower: a race shows itself.
"""

from __future__ import annotations

import atexit
import functools
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.resources import files
from pathlib import Path
from typing import Any

from forked import preload
from server_process import ready, server

PHONE, DESK = {"width": 390, "height": 844}, {"width": 1280, "height": 860}


class Browsing:
    """A page of the browser, with what it said on its console."""

    def __init__(self, page: Any, address: str) -> None:
        self.page, self.address = page, address
        self.errors: list[str] = []
        self.expected: list[str] = []
        page.on(
            "console",
            lambda message: (
                self.errors.append(f"{message.text} {message.location['url']}")
                if message.type in ("error", "warning")
                else None
            ),
        )
        page.on("pageerror", lambda error: self.errors.append(str(error)))
        page.on("request", self._only_here)
        # Always caught: one that opens before the browser was told to would stay open for good.
        page.on("filechooser", lambda _: None)

    def _only_here(self, request: Any) -> None:
        if not request.url.startswith((self.address, "blob:", "data:")):
            self.errors.append(f"asked another site: {request.url}")

    def go(self, space: str, view: str) -> None:
        """Open a view, and wait until it is shown."""
        self.page.goto(f"{self.address}/#/{space}/{view}")
        self.shown(view)

    def shown(self, view: str) -> None:
        """Wait until a view has all that it shows without being asked."""
        self.page.locator(f"main .view.{view}.shown h1").wait_for(timeout=60_000)

    def accessible(self) -> None:
        """axe-core finds nothing, at any level of severity."""
        if not self.page.evaluate("'axe' in window"):
            script = files("axe_playwright_python").joinpath("axe.min.js")
            self.page.evaluate(script.read_text("utf-8"))
        found = self.page.evaluate("() => axe.run(document, {resultTypes: ['violations']})")[
            "violations"
        ]
        assert not found, [
            (one["id"], one["help"], [node["html"][:200] for node in one["nodes"]]) for one in found
        ]

    def shot(self, name: str) -> None:
        """A picture of the whole page, for people to look at."""
        if folder := os.environ.get("TRUSTVLM_SHOTS"):
            Path(folder).mkdir(parents=True, exist_ok=True)
            self.page.screenshot(path=Path(folder) / f"{name}.png", full_page=True)

    def quiet(self) -> None:
        """The console has no error but those that the test `expected` (parts of their text)."""
        unexpected = [
            error for error in self.errors if not any(part in error for part in self.expected)
        ]
        assert not unexpected, unexpected


@contextmanager
def browsing(
    home: Path, *options: str, phone: bool = False, dark: bool = False
) -> Iterator[Browsing]:
    """A browser on a server of its own; at the end its console must be quiet."""
    preload("open_clip", "timm")
    with server(home, *options) as (_, address):
        ready(address)
        scheme: Any = "dark" if dark else "light"
        context = _chromium().new_context(
            viewport=PHONE if phone else DESK,
            has_touch=phone,
            color_scheme=scheme,
            reduced_motion="reduce",
        )
        try:
            context.set_default_timeout(15_000)
            found = Browsing(context.new_page(), address)
            if slower := os.environ.get("TRUSTVLM_SLOWER"):
                session = context.new_cdp_session(found.page)
                session.send("Emulation.setCPUThrottlingRate", {"rate": float(slower)})
            yield found
            found.quiet()
        finally:
            context.close()


@functools.cache
def _chromium() -> Any:
    """The browser of this process: each test has a context of its own, as of a new profile."""
    from playwright.sync_api import sync_playwright

    chromium = shutil.which("chromium")
    assert chromium, "these tests need Chromium: apt-get install chromium"
    playwright = sync_playwright().start()
    browser = playwright.chromium.launch(
        executable_path=chromium, args=["--no-sandbox", "--disable-gpu"]
    )
    atexit.register(playwright.stop)
    atexit.register(browser.close)
    return browser


def copied(home: Path, to: Path) -> Path:
    """A copy of a home that a test may change."""
    return Path(shutil.copytree(home, to))
