"""A filter over attributes chooses what Labels lists and Search finds; what is wrong is said."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from browsing import browsing
from page_homes import NAMES, embedding, sideways, vectors
from playwright.sync_api import expect

import trustvlm

pytestmark = pytest.mark.browser


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
