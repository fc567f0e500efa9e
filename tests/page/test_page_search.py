"""Search: what is nearest to an image, a text or an embedding, and the way from a hit to its
label."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from browsing import Browsing, browsing, copied
from page_homes import DIM, NAMES, copied_text, embedding, give, picture, sideways, vectors
from playwright.sync_api import expect

import trustvlm

pytestmark = pytest.mark.browser


@pytest.fixture
def home(demo_home: Path, tmp_path: Path) -> Path:
    return copied(demo_home, tmp_path / "home")


def image_of(home: Path) -> Path:
    return home / "images" / "held-out" / "eight" / "eight_52.png"


def hits(home: Path, kind: str, k: int, **query: Any) -> tuple[list[str], list[str]]:
    """(labels, similarities as they are shown) that the library finds."""
    with trustvlm.open(home) as service:
        found = service.search("digits", trustvlm.Queries(**query), kind=kind, k=k)
    labels = [label for label in found.labels[0].tolist() if label is not None]
    return labels, [
        f"{value:.3f}".replace("-", "−") for value in found.similarity[0, : len(labels)]
    ]


def shown(seen: Browsing) -> tuple[list[str], list[str]]:
    items = seen.page.locator(".hits li")
    items.first.wait_for()
    values = [text.split()[-1] for text in items.locator(".value").all_inner_texts()]
    return items.locator("a.label").all_inner_texts(), values


def kind(seen: Browsing, name: str) -> None:
    seen.page.locator(".kinds label", has_text=name).click()


@pytest.mark.flow
def test_an_image_finds_support_images_and_labels_and_a_hit_opens_its_label(home: Path) -> None:
    image = image_of(home)
    with browsing(home) as seen:
        seen.go("digits", "search")
        seen.page.get_by_text("Nothing is looked for yet.").wait_for()
        seen.accessible()
        picture(seen, "search-empty")
        seen.page.locator(".dropzone input").set_input_files(image)
        assert shown(seen) == hits(home, "support", 12, images=[image])
        assert seen.page.locator(".found img").count() == 12
        seen.accessible()
        picture(seen, "search-image")
        seen.page.get_by_label("How many").select_option("24")
        seen.page.get_by_text("24 support images nearest to eight_52.png").wait_for()
        assert shown(seen) == hits(home, "support", 24, images=[image])
        for name, wanted in (
            ("Labels by their images", "prototype"),
            ("Labels by their names", "text"),
        ):
            kind(seen, name)
            seen.page.locator(".ranked").wait_for()
            seen.page.get_by_text(
                "prototypes," if wanted == "prototype" else "text prototypes"
            ).wait_for()
            assert shown(seen) == hits(home, wanted, 24, images=[image])
            seen.accessible()
            picture(seen, f"search-{wanted}")
        label = seen.page.locator(".ranked a.label").nth(2).inner_text()
        seen.page.locator(".ranked a.label").nth(2).click()
        seen.page.locator("main .view.labels.shown h1").wait_for()
        assert seen.page.url.endswith(f"#/digits/labels/{label}")
        seen.page.go_back()
        seen.page.get_by_text(
            "10 labels nearest to eight_52.png"
        ).wait_for()  # the hits are still there


@pytest.mark.parametrize("how", ["drop", "paste"])
def test_an_image_is_dropped_or_pasted(home: Path, how: str) -> None:
    with browsing(home) as seen:
        seen.go("digits", "search")
        seen.page.locator(".dropzone").wait_for()
        give(seen, how, image_of(home))
        assert shown(seen) == hits(home, "support", 12, images=[image_of(home)])


def test_a_text_finds_names_and_images_by_keyboard_alone(home: Path) -> None:
    with browsing(home) as seen:
        seen.go("digits", "search")
        page = seen.page
        for _ in range(20):
            page.keyboard.press("Tab")
            if page.evaluate("document.activeElement.type") == "search":
                break
        page.keyboard.type("a photo of a three.")
        page.keyboard.press("Enter")
        page.get_by_text("12 support images nearest to “a photo of a three.”").wait_for()
        page.get_by_text(
            "as the classifier sees them · revision"
        ).wait_for()  # a text is nothing to a verifier
        assert shown(seen) == hits(home, "support", 12, text=["a photo of a three."])
        seen.accessible()
        picture(seen, "search-text")
        page.keyboard.press("Tab")
        page.keyboard.press("Tab")
        assert page.evaluate("document.activeElement.value") == "support"
        assert page.locator(".kinds [value=prototype]").is_disabled()
        page.locator(".reasons").get_by_text(
            "Labels by their images: they are means of verifier embeddings, which a text cannot be"
        ).wait_for()
        page.keyboard.press("ArrowRight")  # past what is disabled
        page.locator(".ranked").wait_for()
        assert shown(seen) == hits(home, "text", 12, text=["a photo of a three."])
        assert shown(seen)[0][0] == "three"
        assert page.locator(".kinds input:checked").get_attribute("value") == "text"


def test_what_cannot_be_compared_is_disabled_with_the_reason(home: Path) -> None:
    with trustvlm.open(home) as service:
        row = service.get_space("digits")
        service.create_space("bare", classifier=row.classifier, verifier=row.verifier)
        axes = np.eye(row.verifier_dim)
        service.register(
            "bare",
            [trustvlm.LabelInput(name, image_vectors=[axes[i]]) for i, name in enumerate("ab")],
        )
        service.create_space("empty", classifier=row.classifier, verifier=row.verifier)
    with browsing(home) as seen:
        seen.go("bare", "search")
        assert seen.page.locator(".kinds input:disabled").count() == 0
        seen.page.get_by_label("Or look for a text").fill("a")
        seen.page.get_by_role("button", name="Search").click()
        seen.page.get_by_text("2 labels nearest to “a”").wait_for(timeout=60_000)
        seen.page.locator(".reasons").get_by_text(
            "Support images: a text is compared with classifier embeddings, and none are stored"
        ).wait_for()
        assert seen.page.locator(".kinds input:disabled").count() == 2
        seen.accessible()
        picture(seen, "search-impossible")
        seen.go("empty", "search")
        expect(seen.page.locator(".reasons p")).to_have_text(
            ["Nothing can be searched: the space has no labels yet."]
        )
        assert seen.page.get_by_label("Or look for a text").is_disabled()
        seen.page.locator(".dropzone input").set_input_files(image_of(home))
        seen.page.get_by_text("Nothing here can be compared with it.").wait_for()
        picture(seen, "search-nothing")
        seen.accessible()
        seen.page.get_by_role("link", name="Labels", exact=True).last.click()
        seen.page.locator("main .view.labels.shown h1").wait_for()


def test_a_search_is_copied_as_a_command_that_runs(home: Path) -> None:
    image = image_of(home)
    with browsing(home) as seen:
        seen.go("digits", "search")
        seen.page.locator(".dropzone input").set_input_files(image)
        seen.page.locator(".found li").first.wait_for()
        for text in (None, 'it\'s a "three"; $(nothing)'):
            if text:
                seen.page.get_by_label("Or look for a text").fill(text)
                seen.page.get_by_role("button", name="Search").click()
                seen.page.get_by_role("heading", name="nearest to “it's").wait_for()
            command = copied_text(seen, "Copy as curl")
            run = subprocess.run(
                ["bash", "-c", f"{command} -sS"], cwd=image.parent, capture_output=True, check=True
            )
            answer = json.loads(run.stdout)
            assert [hit["label"] for hit in answer["hits"]] == shown(seen)[0]


def test_a_file_that_is_no_image_is_refused_in_words(home: Path, tmp_path: Path) -> None:
    broken = tmp_path / "broken.png"
    broken.write_bytes(b"no image at all")
    with browsing(home) as seen:
        seen.expected = ["422 (Unprocessable"]
        seen.go("digits", "search")
        seen.page.locator(".dropzone input").set_input_files(broken)
        seen.page.locator(".problem").get_by_text("not an image in a supported format").wait_for()


@pytest.mark.parametrize("phone", [False, True])
def test_embeddings_are_searched_with_where_images_cannot_be_encoded(
    tmp_path: Path, phone: bool
) -> None:
    home = tmp_path / "home"
    vectors(home)
    with browsing(home, phone=phone, dark=phone) as seen:
        seen.expected = ["404 (Not Found"]
        seen.go("vectors", "search")
        page = seen.page
        page.get_by_text("images cannot be encoded here").wait_for()
        assert page.locator("input[type=file]").count() == 0
        assert page.get_by_label("Or look for a text").is_disabled()
        page.get_by_text("which reads no texts: search with embeddings").wait_for()
        one = embedding(1, 3)
        page.get_by_label("Embedding as JSON").fill(
            json.dumps(one)
        )  # of the verifier, which this search needs
        page.get_by_role("button", name="Search", disabled=False).click()
        page.get_by_text("12 support images nearest to the embedding").wait_for()
        page.locator(".found .none", has_text="no picture").nth(1).wait_for()
        found = page.locator(".found a.label")
        assert found.first.inner_text() == NAMES[1]
        assert {found.nth(i).get_attribute("title") for i in range(12)} <= set(NAMES)
        seen.accessible()
        picture(seen, f"search-names{'-phone' if phone else ''}")
        kind(seen, "Labels by their images")
        page.locator(".ranked").wait_for()
        assert page.locator(".ranked li").count() == len(NAMES)
        assert sideways(seen) == 0
        seen.accessible()
        picture(seen, f"search-names-ranked{'-phone' if phone else ''}")
        assert page.locator(".kinds [value=text]").is_disabled()
        page.get_by_text("names are compared with a classifier embedding").wait_for()
        page.get_by_label("Embedding as JSON").fill(json.dumps({"classifier": one}))
        page.get_by_role("button", name="Search", disabled=False).click()
        page.get_by_text(f"{DIM} labels nearest to the embedding").wait_for()
        assert page.locator(".kinds input:checked").get_attribute("value") == "text"
        assert page.locator(".ranked a.label").first.inner_text() == NAMES[1]
        page.locator(".ranked a.label").first.click()
        assert page.url.endswith("labels/tools%2Fhand%2Fhammer%20%26%20sons")


@pytest.mark.parametrize("dark", [False, True])
def test_a_phone_shows_all_of_it(home: Path, dark: bool) -> None:
    with browsing(home, phone=True, dark=dark) as seen:
        seen.go("digits", "search")
        seen.page.locator(".dropzone input").set_input_files(image_of(home))
        shown(seen)
        assert sideways(seen) == 0
        seen.accessible()
        picture(seen, f"search-phone{'-dark' if dark else ''}")
