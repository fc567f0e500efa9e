"""The page's Labels: listing, searching, adding, removing and bringing back, as the catalog has it
afterwards."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from browsing import Browsing, browsing, copied

import trustvlm

pytestmark = pytest.mark.browser

DIM = 4
MANY = 100_000
NASTY = ["a/slash \"quoted\" 'too'", "🦊 fox", "كلب صغير", "x" * 200, "<b>bold</b>"]


@pytest.fixture
def seen(demo_home: Path, tmp_path: Path) -> Iterator[Browsing]:
    with browsing(copied(demo_home, tmp_path / "home")) as found:
        yield found


def labels_of(home: Path, space: str = "digits") -> dict[str, int]:
    with trustvlm.open(home, read_only=True) as service:
        return {row.name: row.support_count for row in service.list_labels(space)}


def names(seen: Browsing) -> list[str]:
    found: list[str] = seen.page.locator(
        "ul.labels .name"
    ).all_text_contents()  # rows out of sight are not laid out
    return found


def said(seen: Browsing, text: str) -> None:
    seen.page.locator(".view.labels > [role=status]").get_by_text(text).wait_for()


def flowers(home: Path, count: int) -> list[Path]:
    return sorted((home / "images" / "eleventh" / "flower").glob("*.png"))[:count]


@pytest.mark.parametrize(
    ("phone", "dark"), [(False, False), (True, True), (True, False), (False, True)]
)
def test_the_list_and_a_label(demo_home: Path, tmp_path: Path, phone: bool, dark: bool) -> None:
    home = copied(demo_home, tmp_path / "home")
    with trustvlm.open(home) as service:
        service.register(
            "digits",
            [
                trustvlm.LabelInput(name, prompt=f"a photo of {i} {{}}")
                for i, name in enumerate(NASTY)
            ],
        )
        service.alias("digits", "<b>bold</b>", "one")
    with browsing(home, phone=phone, dark=dark) as seen:
        mode = f"{'-phone' if phone else ''}{'-dark' if dark else ''}"
        seen.go("digits", "labels")
        said(seen, "All 15 labels, by name.")
        assert names(seen) == sorted(labels_of(home))
        assert (
            seen.page.locator(".coverage .headline").inner_text()
            == "73.3 % of the labels have support images"
        )
        loaded = "[...document.querySelectorAll('.thumbs img')].some((i) => i.naturalWidth)"
        while not seen.page.evaluate(loaded):  # the page's policy forbids wait_for_function
            seen.page.wait_for_timeout(50)
        assert seen.page.locator(".thumbs img").count() == 30
        check(seen, f"labels{mode}")
        seen.page.get_by_role("button", name="Add a label").click()
        check(seen, f"labels-add{mode}")
        for name in ("x" * 200, "a/slash \"quoted\" 'too'", "كلب صغير", "eight"):
            seen.go("digits", "labels")
            seen.page.locator(".label-row").filter(
                has=seen.page.get_by_text(name, exact=True)
            ).click()
            seen.page.get_by_role("heading", level=1, name=name, exact=True).wait_for()
            check(
                seen, f"label-{name[:2].strip('/')}{mode}" if name.isascii() else f"label-rtl{mode}"
            )


def check(seen: Browsing, name: str) -> None:
    seen.accessible()
    wide = seen.page.evaluate(
        "document.documentElement.scrollWidth - document.documentElement.clientWidth"
    )
    seen.shot(name)
    assert wide == 0, "the page must not scroll sideways"


@pytest.mark.flow
def test_a_label_is_added_with_photos_and_the_next_query_names_it(
    seen: Browsing, tmp_path: Path
) -> None:
    home = tmp_path / "home"
    photos = flowers(home, 9)
    seen.go("digits", "labels")
    seen.page.get_by_role("button", name="Add a label").click()
    seen.page.get_by_label("Name", exact=True).fill("flower")
    seen.page.locator(".adding input[type=file]").set_input_files(photos[:8])
    seen.page.get_by_label(f"Leave out {photos[7].name}").click()
    seen.shot("labels-adding")
    seen.page.get_by_role("button", name="Add the label with 7 support images").click()
    seen.page.get_by_text(
        "Added “flower” with 7 support images. The very next query knows it."
    ).wait_for()
    seen.page.locator(".coverage").get_by_text("All 11 labels").wait_for()
    seen.page.locator(".label-row").get_by_text("flower", exact=True).first.wait_for()
    assert "flower" in names(seen)
    seen.accessible()
    seen.shot("labels-added")
    assert labels_of(home)["flower"] == 7
    answer = seen.page.request.post(
        f"{seen.address}/v1/spaces/digits/score",
        multipart={
            "images": {"name": "new.png", "mimeType": "image/png", "buffer": photos[8].read_bytes()}
        },
    ).json()
    assert answer["verdicts"][0]["label"] == "flower"
    seen.page.get_by_role("button", name="Try it on an image").click()
    seen.page.locator("main .view.try.shown h1").wait_for()


def test_support_images_come_and_go_and_come_back(seen: Browsing, tmp_path: Path) -> None:
    home = tmp_path / "home"
    seen.go("digits", "labels")
    seen.page.get_by_role("link", name="eight").click()
    seen.page.get_by_text("16 support images.").wait_for()
    seen.page.locator(".dropzone input").set_input_files(
        [*flowers(home, 2), home / "images" / "support" / "eight" / "eight_00.png"]
    )
    seen.page.get_by_text(
        "Added 2 support images. 1 image was there already. The very next query uses them."
    ).wait_for()
    assert labels_of(home)["eight"] == 18
    bad = tmp_path / "bad.png"
    bad.write_bytes(b"no image")
    seen.page.locator(".dropzone input").set_input_files([bad])
    seen.page.locator(".failures").get_by_text("bad.png: ").wait_for()
    seen.page.locator("ul.supports li").last.get_by_role("button", name="Remove").click()
    seen.page.get_by_text("17 support images.").wait_for()
    assert labels_of(home)["eight"] == 17
    assert "Remove" in seen.page.evaluate("document.activeElement.ariaLabel"), (
        "focus stays among the images"
    )
    seen.shot("label-removed-one")
    seen.page.get_by_role("button", name="Undo").click()
    seen.page.get_by_text("18 support images.").wait_for()
    assert labels_of(home)["eight"] == 18
    seen.accessible()


@pytest.mark.flow
def test_a_label_is_removed_and_undone_by_keyboard(seen: Browsing, tmp_path: Path) -> None:
    home = tmp_path / "home"
    seen.go("digits", "labels")
    row = seen.page.get_by_role("link", name="nine")
    row.focus()
    row.press("Enter")
    remove = seen.page.get_by_role("button", name="Remove the label")
    remove.wait_for()
    remove.focus()
    seen.expected = ["/thumbnail"]  # of pictures that were on their way when their label went
    remove.press("Enter")
    said(seen, "All 9 labels, by name.")
    assert "nine" not in labels_of(home)
    undo = seen.page.get_by_role("button", name="Undo")
    undo.focus()
    undo.press("Enter")
    seen.page.get_by_role("heading", level=1, name="nine").wait_for()
    seen.page.get_by_text("16 support images.").wait_for()
    assert labels_of(home)["nine"] == 16


def test_a_label_is_renamed_and_prompted(seen: Browsing, tmp_path: Path) -> None:
    seen.go("digits", "labels")
    seen.page.get_by_role("link", name="eight").click()
    seen.page.get_by_role("button", name="Rename or prompt").click()
    seen.accessible()
    seen.shot("label-rename")
    dialog = seen.page.get_by_role("dialog")
    dialog.get_by_label("Name").fill("nine")
    dialog.get_by_role("button", name="Save").click()
    seen.expected = ["409 (Conflict)"]
    dialog.get_by_text("label 'nine' exists already").wait_for()
    dialog.get_by_label("Name").fill('8/2 "acht"')
    dialog.get_by_label("Prompt").fill("the digit {}")
    dialog.get_by_role("button", name="Save").click()
    seen.page.get_by_role("heading", level=1, name='8/2 "acht"').wait_for()
    seen.page.get_by_text("prompt “the digit {}”").wait_for()
    found = labels_of(tmp_path / "home")
    assert "eight" not in found
    assert found['8/2 "acht"'] == 16


@pytest.fixture(scope="module")
def large(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A hundred thousand labels of embeddings, a tenth of them with a support image."""
    home = tmp_path_factory.mktemp("large") / "home"
    rng = np.random.default_rng(0)
    text, image = (
        rng.normal(size=(MANY, DIM)).astype(np.float32),
        rng.normal(size=(MANY, DIM)).astype(np.float32),
    )
    with trustvlm.open(home, create=True) as service:
        service.create_space("many", classifier=f"precomputed:{DIM}", verifier=f"precomputed:{DIM}")
        service.register(
            "many",
            [
                trustvlm.LabelInput(
                    f"label {i:06}",
                    text_vector=text[i],
                    image_vectors=image[i : i + 1] if i % 10 == 0 else None,
                )
                for i in range(MANY)
            ],
        )
    return home


def test_a_hundred_thousand_labels_are_paged_and_searched(large: Path) -> None:
    with browsing(large) as seen:
        seen.go("many", "labels")
        said(seen, "The first 50 labels, by name.")
        assert (
            seen.page.locator(".coverage p")
            .last.inner_text()
            .startswith("90,000 of 100,000 labels have none:")
        )
        assert names(seen) == [f"label {i:06}" for i in range(50)]
        more = seen.page.get_by_role("button", name="Show 50 more")
        more.focus()
        more.press("Enter")
        said(seen, "The first 100 labels")
        assert names(seen)[50:] == [f"label {i:06}" for i in range(50, 100)]
        assert "label 000050" in seen.page.evaluate("document.activeElement.textContent"), (
            "focus goes on where the list went on"
        )
        box = seen.page.get_by_label("Search labels")
        asked: list[str] = []
        seen.page.on(
            "request", lambda request: asked.append(request.url) if "q=" in request.url else None
        )
        box.press_sequentially("04999", delay=10)
        said(seen, "that contain “04999”")
        expected = [f"label {i:06}" for i in range(MANY) if "04999" in f"{i:06}"]
        assert names(seen) == expected
        assert len(asked) == 1, "typing asks once, when it pauses"
        seen.page.get_by_label("Name filter").select_option("begins with")
        said(seen, "No label fits.")
        box.fill("label 0999")
        said(seen, "The first 50 labels that begin with “label 0999”")
        seen.page.get_by_label("only labels without support images").check()
        said(seen, "without support images")
        assert names(seen) == [f"label {i:06}" for i in range(99900, 100_000) if i % 10][:50]
        seen.accessible()
        seen.shot("labels-many")
        seen.page.get_by_role("link", name="label 099901").click()
        seen.page.get_by_text(
            "No support images: its verdicts are judged by text alone."
        ).wait_for()
        seen.page.get_by_role("link", name="← All labels").click()
        said(seen, "that begin with “label 0999” without support images")


def test_a_slow_answer_to_an_earlier_search_is_not_shown(large: Path) -> None:
    with browsing(large) as seen:
        held: list[Any] = []
        seen.page.route("**/labels?*q=07*", lambda route: held.append(route))
        seen.go("many", "labels")
        said(seen, "The first 50 labels")
        box = seen.page.get_by_label("Search labels")
        with seen.page.expect_request("**/labels?*q=0777*"):
            box.fill("0777")
        box.fill("055555")
        said(seen, "1 label that contains “055555”")
        assert held
        assert names(seen) == ["label 055555"]


def test_spaces_of_embeddings_say_what_works(large: Path, tmp_path: Path) -> None:
    home = copied(large, tmp_path / "home")
    with browsing(home) as seen:
        seen.go("many", "labels")
        seen.page.get_by_role("button", name="Add a label").click()
        seen.page.get_by_text("it has no encoder for names, nor for photographs").wait_for()
        seen.accessible()
        seen.shot("labels-embeddings")
        line = {
            "name": "a new one",
            "text_vector": [1.0, 0, 0, 0],
            "image_vectors": [[0, 1.0, 0, 0]],
        }
        (tmp_path / "new.ndjson").write_text(json.dumps(line) + "\n")
        seen.page.get_by_label("NDJSON file").set_input_files(tmp_path / "new.ndjson")
        seen.page.get_by_role("button", name="Import the file").click()
        seen.page.get_by_text("Added 1 label and 1 support image.").wait_for()
        bulk = [json.dumps(line | {"name": f"bulk {i:04}"}) for i in range(1_200)]
        for last, said in (("{", "Line 1,201 is no JSON object."), ("", "Added 200 labels")):
            (tmp_path / "bulk.ndjson").write_text("\n".join([*bulk, last]))
            seen.page.get_by_label("NDJSON file").set_input_files(tmp_path / "bulk.ndjson")
            seen.page.get_by_role("button", name="Import the file").click()
            seen.page.get_by_text(said).wait_for()
            if last:
                seen.page.get_by_text("Added 1,000 labels and 1,000 support images.").wait_for()
        seen.page.locator("ul.labels li").first.get_by_text("a new one").wait_for()
        seen.page.get_by_role("link", name="a new one").click()
        np.savez(tmp_path / "more.npz", image_vectors=np.eye(DIM)[:2] + 0.5)
        seen.page.get_by_label("Add support images from an .npz file").set_input_files(
            tmp_path / "more.npz"
        )
        seen.page.get_by_text("3 support images.").wait_for()
        seen.accessible()
        seen.shot("label-embeddings")
    assert labels_of(home, "many")["a new one"] == 3
