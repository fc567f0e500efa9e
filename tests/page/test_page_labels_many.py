"""The page's Labels beyond one label: sorting, pasting many names, further names, the trash, spaces
made and removed."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from browsing import Browsing, browsing, copied
from page_homes import picture, sideways, vectors
from test_page_labels import labels_of, names, said

import trustvlm
from trustvlm.demo.specs import classifier_spec, verifier_spec

pytestmark = pytest.mark.browser

PASTED = """kite
paper boat\ta photo of a boat that is folded from paper
eight
 Gänseblümchen\u0020
كلب صغير
<script>alert(1)</script>
kite
\ta prompt alone
hidden\u200bcharacter
{long}
"""


@pytest.fixture
def home(demo_home: Path, tmp_path: Path) -> Path:
    return copied(demo_home, tmp_path / "home")


@pytest.fixture
def seen(home: Path) -> Iterator[Browsing]:
    with browsing(home) as found:
        yield found


def look(seen: Browsing, name: str) -> None:
    assert sideways(seen) == 0, "the page must not scroll sideways"
    seen.accessible()
    picture(seen, name)


@pytest.mark.parametrize(("phone", "dark"), [(False, False), (True, True)])
def test_labels_are_sorted(home: Path, phone: bool, dark: bool) -> None:
    with trustvlm.open(home) as service:
        service.add_support("digits", "two", images=[home / "images/support/one/one_00.png"])
    mode = f"{'-phone' if phone else ''}{'-dark' if dark else ''}"
    with browsing(home, phone=phone, dark=dark) as seen:
        seen.go("digits", "labels")
        sort = seen.page.get_by_label("Sort by")
        sort.select_option("support images")
        said(seen, "All 10 labels, most support images first.")
        assert names(seen)[0] == "two"
        sort.select_option("wrong")
        said(seen, "10 labels with checked images, most wrong first.")
        wrong = [text.split(" of ")[0] for text in counts(seen)]
        assert wrong == sorted(wrong, key=int, reverse=True)
        assert len(names(seen)) == 10
        look(seen, f"labels-errors{mode}")
        sort.select_option("share of images")
        said(seen, "given to most images first.")
        seen.page.get_by_label("Search labels").fill("ne")
        said(seen, "2 labels that contain “ne”.")
        assert sort.is_disabled()
        seen.page.get_by_text("what is searched for comes by name").wait_for()


def counts(seen: Browsing) -> list[str]:
    """The first line of each label's predictions."""
    found: list[str] = seen.page.locator(".label-row .count").evaluate_all(
        "all => all.map((one) => one.children[1].textContent)"
    )
    return found


@pytest.mark.flow
def test_many_names_are_pasted(home: Path, seen: Browsing) -> None:
    seen.go("digits", "labels")
    seen.page.get_by_role("button", name="Add several labels").click()
    text = PASTED.format(long="x" * 501)
    seen.page.get_by_label("Names, one on each line").fill(text)
    new = seen.page.locator(".names-new")
    new.get_by_text("5 new names").wait_for()
    assert seen.page.locator(".names-there li").all_inner_texts() == ["eight"]
    problems = seen.page.locator(".names-wrong li").all_inner_texts()
    assert problems == [
        "Line 7 is the same as line 1",
        "Line 8 has no name before the tab",
        "Line 9 holds the character U+200B, which is not visible",
        "Line 10 has 501 characters; at most 500 are allowed",
    ]
    assert labels_of(home).keys().isdisjoint({"kite"}), "a preview changes nothing"
    look(seen, "labels-paste")
    seen.page.get_by_role("button", name="Register 5 labels").click()
    seen.page.get_by_text("Added 5 labels.").wait_for()
    said(seen, "All 15 labels, by name.")
    look(seen, "labels-pasted")
    assert set(labels_of(home)) >= {
        "kite",
        "Gänseblümchen",
        "كلب صغير",
        "<script>alert(1)</script>",
    }
    with trustvlm.open(home, read_only=True) as service:
        prompts = {row.name: row.prompt for row in service.list_labels("digits")}
    assert prompts["paper boat"] == "a photo of a boat that is folded from paper"


def test_a_space_of_vectors_says_why_names_cannot_be_pasted(tmp_path: Path) -> None:
    vectors(tmp_path / "home")
    with browsing(tmp_path / "home", phone=True) as seen:
        seen.go("vectors", "labels")
        seen.page.get_by_role("button", name="Add several labels").click()
        seen.page.get_by_text("This is not possible in “vectors”").wait_for()
        look(seen, "labels-paste-vectors")


@pytest.mark.flow
def test_a_label_gets_further_names(home: Path, seen: Browsing) -> None:
    page = seen.page
    page.goto(f"{seen.address}/#/digits/labels/nine")
    page.get_by_label("Another name for it").fill("IX, neun")
    page.get_by_label("Another name for it").press("Enter")
    page.locator(".aliases li").get_by_text("IX, neun").wait_for()
    assert aliases(home) == {"IX, neun": "nine"}
    look(seen, "label-aliases")
    page.get_by_label("Another name for it").fill("four")
    page.get_by_role("button", name="Add the name").click()
    page.get_by_text("is a label with 16 support images").wait_for()
    seen.accessible()
    page.get_by_role("button", name="Make them one").click()
    page.locator(".aliases li").get_by_text("four").wait_for()
    page.get_by_text("32 support images").wait_for()
    page.locator(".aliases li").get_by_role("link", name="four").click()
    page.get_by_text("This is a further name of nine").wait_for()
    look(seen, "label-alias")
    page.get_by_role("button", name="Make it a separate label").click()
    page.get_by_text("“four” is a separate label again.").wait_for()
    page.get_by_label("Another name for it").wait_for()
    assert aliases(home) == {"IX, neun": "nine"}
    assert labels_of(home)["four"] == 16


def aliases(home: Path) -> dict[str, str]:
    with trustvlm.open(home, read_only=True) as service:
        return {row.name: row.alias_of for row in service.list_labels("digits") if row.alias_of}


@pytest.mark.flow
def test_the_trash_gives_back_and_is_emptied(home: Path, seen: Browsing) -> None:
    page = seen.page
    with trustvlm.open(home) as service:
        service.remove_label("digits", "one")
        service.remove_label("digits", "two")
        service.remove_support("digits", [service.list_supports("digits", "six")[0].id])
    seen.go("digits", "labels")
    page.get_by_role("link", name="Trash").press("Enter")
    page.get_by_role("heading", name="Trash").wait_for()
    page.locator(".trash-row").nth(2).wait_for()
    assert [one.split("\n")[0] for one in page.locator(".trash-row").all_inner_texts()] == [
        "six_00.png", "two", "one",
    ]  # fmt: skip
    assert "23 h" in page.locator(".trash-row .left").first.inner_text()
    look(seen, "labels-trash")
    page.get_by_role("button", name="Restore two").press("Enter")
    page.get_by_text("“two” is back.").wait_for()
    page.get_by_role("button", name="Restore six_00.png").click()
    page.get_by_text("“six_00.png” is back.").wait_for()
    assert labels_of(home).keys() >= {"two"}
    assert labels_of(home)["six"] == 16
    page.get_by_role("button", name="Empty the trash …").click()
    page.get_by_text("cannot be restored after this").wait_for()
    seen.accessible()
    seen.shot("labels-trash-sure")
    page.get_by_role("button", name="Delete for good").click()
    page.get_by_text("The trash is empty.").wait_for()
    look(seen, "labels-trash-empty")
    with trustvlm.open(home) as service, pytest.raises(trustvlm.NotFound, match="purged"):
        service.restore_label("digits", "one")


@pytest.mark.flow
@pytest.mark.parametrize("phone", [False, True])
def test_a_space_is_made_and_removed(home: Path, phone: bool) -> None:
    (home / "trustvlm.toml").write_text(
        f"serve_encoders = ['{classifier_spec()}', '{verifier_spec()}']\n"
    )
    with browsing(home, phone=phone, dark=phone) as seen:
        seen.expected = ["409 (Conflict", "422 (Unprocessable"]
        page = seen.page
        seen.go("digits", "labels")
        page.get_by_role("button", name="New space …").click()
        name = page.get_by_role("dialog").get_by_label("Name", exact=True)
        name.fill("digits")
        page.get_by_label("Encoders that this server offers").check()
        page.get_by_text("setting serve_encoders").first.wait_for()
        page.get_by_role("button", name="Create the space").click()
        page.locator("dialog [role=alert]").get_by_text("space 'digits' exists").wait_for()
        seen.accessible()
        seen.shot(f"space-new{'-phone-dark' if phone else ''}")
        name.fill("Grüße & <b>")
        page.get_by_role("button", name="Create the space").click()
        page.get_by_text("“Grüße & <b>” has no labels yet.").wait_for()
        look(seen, f"space-empty{'-phone-dark' if phone else ''}")
        page.get_by_role("button", name="New space …").click()
        name.fill("vectors")
        page.get_by_label("I compute embeddings myself").check()
        page.get_by_label("Values of a classifier embedding").fill("4")
        page.get_by_role("button", name="Create the space").click()
        page.get_by_text("“vectors” has no labels yet.").wait_for()
        page.get_by_role("button", name="Remove the space “vectors” …").click()
        page.get_by_role("button", name="Remove the space", exact=True).click()
        page.get_by_text("Removed the space “vectors”.").wait_for()
        page.get_by_role("button", name="Undo").click()
        page.get_by_text("“vectors” has no labels yet.").wait_for()
        with trustvlm.open(home, read_only=True) as service:
            rows = {row.name: row for row in service.list_spaces()}
        assert rows.keys() == {"digits", "Grüße & <b>", "vectors"}
        assert rows["Grüße & <b>"].classifier == classifier_spec()
        assert (rows["vectors"].classifier, rows["vectors"].verifier) == ("precomputed:4", "same")
