"""Labels, "Check images": support images with a wrong label are moved, removed or kept."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from browsing import Browsing, browsing
from page_homes import sideways
from playwright.sync_api import expect

import trustvlm

pytestmark = [pytest.mark.browser, pytest.mark.flow]

DIM, SHOTS = 12, 8


@pytest.fixture
def home(tmp_path: Path) -> Path:
    """A home with a space of six labels; three images of the first are under the second."""
    rng, home = np.random.default_rng(0), tmp_path / "home"
    axes, names = np.eye(DIM), ["one", "two", "three", "four", "five", "six"]
    with trustvlm.open(home, create=True) as service:
        service.create_space("vectors", classifier=f"precomputed:{DIM}", verifier="same")
        service.register("vectors", [
            trustvlm.LabelInput(name, axes[i], image_vectors=axes[i] + 0.1 * rng.normal(size=(SHOTS, DIM)))
            for i, name in enumerate(names)
        ])  # fmt: skip
        some = [row.id for row in service.list_supports("vectors", "one")[:3]]
        service.move_support("vectors", some, "two")
    return home


def flagged(home: Path) -> int:
    with trustvlm.open(home, read_only=True) as service:
        return service.audit("vectors").flagged


@pytest.mark.parametrize("phone", [False, True])
def test_doubtful_images_are_moved_removed_and_kept(home: Path, phone: bool) -> None:
    before = flagged(home)
    assert before == 3
    with browsing(home, phone=phone) as seen:
        seen.go("vectors", "labels")
        page = seen.page
        page.get_by_role("link", name="Check images").click()
        cards = page.locator(".doubt")
        cards.first.wait_for()
        assert cards.count() == before
        assert "Looks like one" in cards.first.inner_text()
        seen.accessible()
        seen.shot(f"labels-audit-{'390' if phone else '1280'}")
        assert sideways(seen) == 0, "the page must not scroll sideways"
        act(seen, "Move it there", before - 1)
        assert flagged(home) == before - 1
        page.get_by_role("button", name="Undo").click()
        expect(cards).to_have_count(before)
        assert flagged(home) == before
        act(seen, "Remove", before - 1)
        act(seen, "Keep: it is right", before - 2)
    with trustvlm.open(home, read_only=True) as service:
        assert service.audit("vectors").kept == 1
        assert service.get_space("vectors").support_count == 6 * SHOTS - 1


def act(seen: Browsing, title: str, left: int) -> None:
    seen.page.locator(".doubt").first.get_by_role("button", name=title).click()
    expect(seen.page.locator(".doubt")).to_have_count(left)
