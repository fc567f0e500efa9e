"""The page of a label shows and edits attributes and names the parent; Try answers with a node."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from browsing import Browsing, browsing
from page_homes import LONG, NAMES, embedding, sideways, vectors
from playwright.sync_api import expect

import trustvlm

pytestmark = pytest.mark.browser

ATTRIBUTES: dict[str, Any] = {
    "region": ["EU", "US"],
    "size": 3,
    "k" * 60: "unbroken" * 60,
    "<b>كلب</b>": LONG,
    "taxon": {"order": "x" * 120},
}
NODE = "node " + "n" * 120


@pytest.fixture
def home(tmp_path: Path) -> Path:
    """Embeddings; the label "plain" has attributes, and every label stands under one of two nodes,
    on which a calibration decides."""
    home = tmp_path / "home"
    vectors(home)
    rng = np.random.default_rng(0)
    unclear = [(5, 6), (6, 5)] * 40  # as much of the one as of the other
    pairs = [(i, -2) for i in range(len(NAMES)) for _ in range(20)]
    truth = [NAMES[i] for i, _ in pairs + unclear]
    images = np.array(
        [embedding(i, other, weight=0.1) for i, other in pairs]
        + [embedding(i, other, weight=1.0) for i, other in unclear]
    )
    images += 0.02 * rng.normal(size=images.shape)
    with trustvlm.open(home) as service:
        service.update_label("vectors", "plain", attributes=ATTRIBUTES)
        service.set_parents("vectors", {name: NODE for name in NAMES[4:]} | {NODE: "top"})
        service.set_parents("vectors", dict.fromkeys(NAMES[:4], "other"))
        queries = trustvlm.Queries(images, images)
        service.calibrate("vectors", queries, truth, max_risk=0.1, rule="posterior", back_off=True)
    return home


def attributes(home: Path, name: str = "plain") -> dict[str, Any]:
    with trustvlm.open(home, read_only=True) as service:
        return dict(service.get_label("vectors", name).attributes)


def open_label(seen: Browsing, name: str) -> None:
    seen.expected.append("404 (Not Found")  # thumbnails of what came as embeddings
    seen.go("vectors", "labels")
    seen.page.locator(".label-row").filter(has=seen.page.get_by_text(name, exact=True)).click()
    seen.page.get_by_role("heading", level=1, name=name, exact=True).wait_for()
    seen.shown("labels")


@pytest.mark.parametrize(("phone", "dark"), [(False, False), (True, True)])
def test_attributes_are_shown_and_edited(home: Path, phone: bool, dark: bool) -> None:
    with browsing(home, phone=phone, dark=dark) as seen:
        open_label(seen, "plain")
        page, mode = seen.page, "phone" if phone else "desk"
        card = page.locator("section.attributes")
        assert card.locator("dt").all_text_contents() == list(attributes(home))
        assert "EU, US" in card.locator("dd").all_text_contents()
        assert f"stands under “{NODE}”" in page.locator(".view.labels").inner_text()
        seen.accessible()
        seen.shot(f"label-attributes-{mode}")
        assert sideways(seen) == 0, "the page must not scroll sideways"

        edit, before = card.get_by_role("button", name="Edit the attributes"), attributes(home)
        edit.click()
        dialog = page.get_by_role("dialog")
        field = dialog.get_by_label("A JSON object")
        assert json.loads(field.input_value()) == before
        seen.accessible()
        seen.shot(f"label-attributes-edit-{mode}")
        assert sideways(seen) == 0, "the page must not scroll sideways"
        seen.expected.append("422 (Unprocessable")
        for wrong, said in (
            ("[1]", "Expected an object"),
            ("{", "This is no JSON"),
            ('{"": 1}', "attributes"),
        ):
            field.fill(wrong)
            dialog.get_by_role("button", name="Save").click()
            expect(dialog.get_by_role("alert")).to_contain_text(said)
            assert attributes(home) == before
        page.keyboard.press("Escape")
        dialog.wait_for(state="detached")
        assert attributes(home) == before

        edit.click()
        field.fill('{"region": "AS", "wild": true}')
        dialog.get_by_role("button", name="Save").click()
        expect(card.locator("dd")).to_have_text(["AS", "true"])
        assert attributes(home) == {"region": "AS", "wild": True}
        edit.click()
        field.fill("")
        dialog.get_by_role("button", name="Save").click()
        card.get_by_role("button", name="Add attributes").wait_for()
        assert attributes(home) == {}


@pytest.mark.parametrize("phone", [False, True])
def test_a_verdict_backs_off_to_a_node(home: Path, phone: bool) -> None:
    """Between two labels of one node the node is accepted, the label is a guess."""
    between = embedding(5, 6, weight=0.98)
    with trustvlm.open(home, read_only=True) as service:
        one = np.array([between])
        verdict = service.score("vectors", trustvlm.Queries(one, one))[0]
    assert (verdict.decision, verdict.node) == ("accept", NODE)
    with browsing(home, phone=phone) as seen:
        seen.expected.append("404 (Not Found")
        seen.go("vectors", "try")
        page = seen.page
        page.get_by_label("Embedding as JSON").fill(
            json.dumps({"classifier": between, "verifier": between})
        )
        page.get_by_role("button", name="Score", exact=True).click()
        page.locator(".verdict").wait_for()
        said = " ".join(page.locator(".verdict .answer").inner_text().split())
        assert f"Accept: {NODE}" in said
        assert f"perhaps {verdict.label}" in said
        page.locator(".verdict-numbers > summary").click()
        path = page.locator(".verdict-numbers").get_by_text("In the taxonomy").locator("..")
        expect(path).to_contain_text(" › ".join(verdict.path))
        form = page.locator("form.claim")
        form.get_by_label("Is this a …?").fill(NAMES[0])
        form.get_by_role("button", name="Check").click()
        form.locator(".claim-answer").get_by_text("Fits better").wait_for()
        seen.accessible()
        seen.shot(f"try-node-{'phone' if phone else 'desk'}")
        assert sideways(seen) == 0, "the page must not scroll sideways"
