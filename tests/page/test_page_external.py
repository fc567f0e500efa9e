"""A space whose probabilities another classifier gives: made, filled, and tried on the page."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from browsing import Browsing, browsing, copied
from page_homes import picture, sideways
from playwright.sync_api import expect

import trustvlm
from trustvlm.demo.specs import verifier_spec

pytestmark = pytest.mark.browser

NAMES = ("seven", "nine")


def look(seen: Browsing, name: str) -> None:
    assert sideways(seen) == 0, "the page must not scroll sideways"
    seen.accessible()
    picture(seen, name)


@pytest.mark.flow
@pytest.mark.parametrize(("phone", "dark"), [(False, True), (True, False)])
def test_images_with_probabilities(
    demo_home: Path, tmp_path: Path, phone: bool, dark: bool
) -> None:
    home, mode = copied(demo_home, tmp_path / "home"), "phone" if phone else "desk"
    (home / "trustvlm.toml").write_text(f"serve_encoders = ['{verifier_spec()}']\n")
    images = home / "images"
    query = images / "held-out" / "seven" / "seven_07.png"
    with browsing(home, phone=phone, dark=dark) as seen:
        page = seen.page
        seen.expected += ["404 (Not Found", "422 (Unprocessable"]
        seen.go("digits", "labels")
        page.get_by_role("button", name="New space …").click()
        dialog = page.get_by_role("dialog")
        dialog.get_by_label("Name", exact=True).fill("outputs")
        dialog.get_by_label("Another classifier gives probabilities with each query").check()
        dialog.get_by_label("Room for labels").fill("5")
        expect(dialog.get_by_label("Verifier (compares images)")).to_have_value(verifier_spec())
        look(seen, f"external-new-{mode}")
        dialog.get_by_role("button", name="Create the space").click()
        page.get_by_text("“outputs” has no labels yet.").wait_for()

        page.get_by_role("button", name="Add a label").click()
        for name in NAMES:
            page.get_by_label("Name", exact=True).fill(name)
            photos = sorted((images / "support" / name).iterdir())[:3]
            page.locator(".adding .dropzone input").set_input_files(photos)
            page.get_by_role("button", name="Add the label with 3 support images").click()
            page.get_by_text(f"Added “{name}” with 3 support images.").wait_for()
        assert page.get_by_label("Prompt").count() == 0, "no classifier reads one"
        page.get_by_role("button", name="Add several labels").click()
        page.get_by_label("Names, one on each line").fill("eight")
        page.get_by_role("button", name="Register 1 label").click()
        page.get_by_text("Added 1 label.").wait_for()

        seen.go("outputs", "try")
        field = page.get_by_label("Probabilities as JSON")
        score = page.get_by_role("button", name="Score", exact=True)
        field.fill('{"seven": 0.2, "nine": 0.7}')
        score.click()
        expect(page.locator(".wrong")).to_have_text("Expected an image; choose one first.")
        page.locator(".dropzone input").set_input_files(query)
        page.locator(".strip img").wait_for()
        for wrong, said in (
            ("", "the field is empty"),
            ("[0.2, 0.8]", "probabilities is something else"),
            ('[{"seven": 1}, {"nine": 1}]', "Expected the probabilities of 1 image; got 2."),
        ):
            field.fill(wrong)
            score.click()
            expect(page.locator(".wrong")).to_contain_text(said)
        look(seen, f"external-wrong-{mode}")
        for wrong, said in (('{"sevn": 0.9}', "did you mean 'seven'"), ('{"seven": 2}', "2")):
            field.fill(wrong)
            score.click()
            expect(page.locator(".card.failed .problem")).to_contain_text(said)
        field.fill('{"seven": 0.2, "nine": 0.7}')
        score.click()
        page.locator(".verdict").wait_for()
        with trustvlm.open(home, read_only=True) as service:
            given = [{"seven": 0.2, "nine": 0.7}]
            queries = trustvlm.Queries(images=[query], probabilities=given)
            (expected,) = service.score("outputs", queries).rows()
        expect(page.locator(".side.label a")).to_have_text(expected["label"])
        page.locator(".verdict-numbers > summary").click()
        text = page.locator(".text-labels .value")
        expect(text).to_have_text(["70.0 %", "20.0 %", "10.0 %"])
        look(seen, f"external-verdict-{mode}")
        page.get_by_role("button", name="✓ Right").click()
        page.get_by_text("Stored: ").wait_for()
        page.get_by_role("button", name="as support image").click()
        page.get_by_text("which has 4 support images now").wait_for()
        page.locator(".difference").wait_for()

        seen.go("outputs", "search")
        page.locator(".dropzone input").set_input_files(query)
        page.locator(".found li").first.wait_for()
        expect(page.get_by_label("Labels by their names")).to_be_disabled()
        page.get_by_text("so names have no embeddings").wait_for()
        look(seen, f"external-search-{mode}")
        seen.go("outputs", "trust")
        page.get_by_text("FOLDER --probabilities FILE").wait_for()
        look(seen, f"external-trust-{mode}")


@pytest.mark.parametrize("phone", [False, True])
def test_probabilities_and_embeddings(tmp_path: Path, phone: bool) -> None:
    home, axes = tmp_path / "home", np.eye(3)
    with trustvlm.open(home, create=True) as service:
        service.create_space("outputs", classifier="external:4", verifier="precomputed:3")
        service.register("outputs", [
            trustvlm.LabelInput(name, image_vectors=axes[i : i + 1] + 0.1)
            for i, name in enumerate(("sea", "beach", "port"))
        ])  # fmt: skip
    with browsing(home, phone=phone) as seen:
        seen.expected.append("404 (Not Found")  # thumbnails of what came as embeddings
        seen.go("outputs", "try")
        page = seen.page
        field = page.get_by_label("Probabilities and embedding as JSON")
        look(seen, f"external-embeddings-{'phone' if phone else 'desk'}")
        query = {"probabilities": {"sea": 0.5, "beach": 0.4}, "verifier": axes[1].tolist()}
        field.fill(json.dumps(query))
        page.get_by_role("button", name="Score", exact=True).click()
        page.locator(".verdict").wait_for()
        expect(page.locator(".verdict .answer")).to_contain_text(
            "classifier says sea, images say beach"
        )
        page.get_by_role("button", name="Wrong: it is").click()
        page.get_by_role("button", name="A new label").click()
        page.get_by_label("Name of the new label").fill("strand")
        page.get_by_role("button", name="Create the label").click()
        page.get_by_text("Created the label “strand”").wait_for()
        page.locator(".difference").wait_for()  # the card is drawn again, its forms are empty
        form = page.locator("form.claim")
        form.get_by_label("Is this a …?").fill("port")
        form.get_by_role("button", name="Check").click()
        form.locator(".claim-answer").get_by_text("Fits better").wait_for()
        look(seen, f"external-embeddings-verdict-{'phone' if phone else 'desk'}")
        # Without an embedding: rules that look at the text only.
        page.locator(".advanced > summary").click()
        page.get_by_label("Rule").select_option("msp")
        field.fill('{"probabilities": {"port": 0.8}}')
        page.get_by_role("button", name="Score", exact=True).click()
        expect(page.locator(".verdict .answer")).to_contain_text("port")
        assert page.get_by_role("button", name="as support image").count() == 0
        seen.go("outputs", "search")
        page.get_by_label("Embedding as JSON").fill("[0, 1, 0]")
        page.get_by_role("button", name="Search", exact=True).first.click()
        page.locator(".found li").first.wait_for()
    with trustvlm.open(home, read_only=True) as service:
        assert {row.name for row in service.list_labels("outputs")} >= {"strand"}
