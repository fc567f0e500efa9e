"""The page's Trust: measuring, the threshold and what it does, calibrating, taking back."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from decimal import ROUND_HALF_UP, Decimal
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from browsing import Browsing, browsing, copied
from page_homes import picture

import trustvlm
from trustvlm.types.evaluation import Evaluation, RuleOutcome

pytestmark = pytest.mark.browser

EACH = 24


@pytest.fixture(scope="module")
def folder(demo_home: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Held-out images: some of each label, of which the space makes mistakes, too."""
    found = tmp_path_factory.mktemp("held-out") / "labelled"
    for label in sorted((demo_home / "images" / "held-out").iterdir()):
        (found / label.name).mkdir(parents=True)
        for image in sorted(label.iterdir())[:EACH]:
            shutil.copy(image, found / label.name)
    return found


@pytest.fixture(scope="module")
def evaluation(
    demo_home: Path, folder: Path, tmp_path_factory: pytest.TempPathFactory
) -> Evaluation:
    """What the library says of the same images, with the parameters that are in force."""
    images = sorted(folder.glob("*/*.png"))
    with trustvlm.open(copied(demo_home, tmp_path_factory.mktemp("library") / "home")) as service:
        current = service.list_calibrations("digits")[0]
        params = {current.rule: current.params}
        truth = [image.parent.name for image in images]
        queries = service.embed("digits", images).queries  # as the page: split by the embeddings
        return service.evaluate("digits", queries, truth, params=params, items=True, draws=0)


@pytest.fixture
def seen(demo_home: Path, tmp_path: Path) -> Iterator[Browsing]:
    with browsing(copied(demo_home, tmp_path / "home")) as found:
        yield found


def measure(seen: Browsing, folder: Path) -> None:
    seen.go("digits", "trust")
    seen.page.locator(".measure input[type=file]").set_input_files(folder)
    seen.page.get_by_role("button", name="Measure on them").click()
    seen.page.locator(".bench .curve svg path.main").wait_for(state="attached", timeout=60_000)


def calibrations(home: Path) -> list[Any]:
    with trustvlm.open(home, read_only=True) as service:
        return service.list_calibrations("digits")


def drop(seen: Browsing, *paths: Path) -> None:
    """Let files or folders of this machine fall where folders are dropped."""
    zone = seen.page.locator(".measure .dropzone")
    zone.scroll_into_view_if_needed()
    box = zone.bounding_box()
    at = {"x": box["x"] + box["width"] / 2, "y": box["y"] + box["height"] / 2}
    data = {"items": [], "files": [str(path) for path in paths], "dragOperationsMask": 1}
    session = seen.page.context.new_cdp_session(seen.page)
    for kind in ("dragEnter", "dragOver", "drop"):
        session.send("Input.dispatchDragEvent", {"type": kind, **at, "data": data})


def figures(seen: Browsing) -> dict[str, str]:
    return {
        name: seen.page.locator(f".readout dd[data-name={name}]").inner_text()
        for name in ("coverage", "risk", "review")
    }


def slider(seen: Browsing) -> Any:
    return seen.page.get_by_role("slider", name="Threshold")


def position(seen: Browsing) -> int:
    return int(slider(seen).get_attribute("aria-valuenow"))


def percent(share: float) -> str:
    rounded = str(Decimal(100 * share).quantize(Decimal("0.1"), ROUND_HALF_UP))  # as browsers round
    return (
        ">99.9 %"
        if share < 1 and rounded == "100.0"
        else "<0.1 %"
        if share > 0 and rounded == "0.0"
        else f"{rounded} %"
    )


def at(evaluation: Evaluation, rule: RuleOutcome, place: int) -> dict[str, str]:
    """The three figures of a position, from the library's items."""
    assert rule.items is not None
    trust, right = (
        np.array([one.trust for one in rule.items]),
        np.array([one.right for one in rule.items]),
    )
    threshold = np.unique(trust)[::-1][place - 1]
    accepted, errors = int((trust >= threshold).sum()), int((~right[trust >= threshold]).sum())
    return {
        "coverage": percent(accepted / evaluation.images),
        "risk": percent(errors / accepted),
        "review": percent(1 - accepted / evaluation.images),
    }


def proved(rule: RuleOutcome, place: int) -> bool:
    """Whether the threshold of a position is one of those that are proved."""
    assert rule.thresholds is not None
    low, high = rule.threshold_range or (np.inf, -np.inf)
    return bool(low <= rule.thresholds[place - 1].threshold <= high)


def promise(seen: Browsing, risk: str) -> None:
    """Ask for another risk; the page measures again."""
    seen.page.get_by_label("At most wrong, in %").fill(risk)
    seen.page.get_by_label("At most wrong, in %").press("Enter")
    seen.page.get_by_role("button", name=f"Calibrate for at most {risk} % wrong").wait_for(
        timeout=60_000
    )


def moved(rule: RuleOutcome, one: int, other: int) -> tuple[int, int]:
    """How many items change their decision between two positions, and how many of these are wrong."""
    assert rule.items is not None
    trust, right = (
        np.array([item.trust for item in rule.items]),
        np.array([item.right for item in rule.items]),
    )
    levels = np.append(np.inf, np.unique(trust)[::-1])
    between = (trust >= levels[max(one, other)]) & (trust < levels[min(one, other)])
    return int(between.sum()), int((~right[between]).sum())


def sides(seen: Browsing) -> tuple[int, int]:
    panel = seen.page.locator(".sides")
    return int(panel.get_attribute("data-moved")), int(panel.get_attribute("data-wrong"))


@pytest.mark.parametrize(
    ("phone", "dark"), [(False, False), (True, True), (True, False), (False, True)]
)
def test_how_it_looks(
    demo_home: Path, folder: Path, tmp_path: Path, phone: bool, dark: bool
) -> None:
    mode = f"{'-phone' if phone else ''}{'-dark' if dark else ''}"
    with browsing(copied(demo_home, tmp_path / "home"), phone=phone, dark=dark) as seen:
        seen.go("digits", "trust")
        seen.accessible()
        seen.shot(f"trust-before{mode}")
        measure(seen, folder)
        slider(seen).press("PageDown")
        seen.page.locator(".moved img").first.wait_for()
        seen.page.locator(".as-table summary").click()
        seen.accessible()
        seen.page.evaluate("scrollTo(0, 0)")
        seen.shot(f"trust-measured{mode}")
        wide = seen.page.evaluate(
            "document.documentElement.scrollWidth - document.documentElement.clientWidth"
        )
        assert wide == 0, "the page must not scroll sideways"


@pytest.mark.flow
def test_the_threshold_by_keyboard_and_by_mouse(
    seen: Browsing, folder: Path, evaluation: Evaluation, tmp_path: Path
) -> None:
    measure(seen, folder)
    page = seen.page
    rule = evaluation["trustvlm_star"]
    page.locator(".advanced > summary").click()
    assert page.get_by_role("radio", name="trustvlm_star both").is_checked(), (
        "the rule in force is shown first"
    )
    assert rule.thresholds is not None
    handle, last, start = slider(seen), len(rule.thresholds), position(seen)
    in_force = sum(
        one.threshold >= calibrations(tmp_path / "home")[0].threshold for one in rule.thresholds
    )
    assert abs(start - in_force) <= 1, "it stands where the calibration in force has it"
    assert int(handle.get_attribute("aria-valuemax")) == last
    assert figures(seen) == at(evaluation, rule, start)
    assert sides(seen) == (0, 0)
    for key, expected in (
        ("ArrowLeft", start - 1),
        ("ArrowDown", start - 2),
        ("ArrowRight", start - 1),
        ("PageDown", start - 1 - round(last / 10)),
        ("End", last),
        ("ArrowUp", last),
    ):
        handle.press(key)
        assert position(seen) == expected
        assert figures(seen) == at(evaluation, rule, expected)
        assert sides(seen) == moved(rule, start, expected)
        text = handle.get_attribute("aria-valuetext")
        assert all(figures(seen)[name] in text for name in ("coverage", "risk"))
        assert ("Proved. " in text) == proved(rule, expected)
        said = page.locator(".readout .proof").inner_text()
        assert said.startswith("✓ Proved. " if proved(rule, expected) else "✗ Not proved. ")
    wrong = moved(rule, start, last)[1]
    assert page.locator(".moved .badge.bad").count() == min(wrong, 16)
    assert (
        page.locator(".sides .said")
        .inner_text()
        .startswith(f"From review to accept: {moved(rule, start, last)[0]} images, ")
    )
    handle.press("Home")
    assert figures(seen) == {"coverage": "0.0 %", "risk": "–", "review": "100.0 %"}
    assert page.get_by_role("button", name="Use this threshold").is_disabled()
    assert page.locator(".sides .said").inner_text().startswith("From accept to review: ")
    # By mouse: to 60 % of the coverage, and on to 85 %.
    plot = page.locator(".curve")
    plot.scroll_into_view_if_needed()
    box = plot.bounding_box()
    assert box is not None
    across = lambda share: box["x"] + 68 + share * (box["width"] - 68 - 16)  # noqa: E731
    page.mouse.move(across(0.6), box["y"] + 150)
    page.mouse.down()
    for share in (0.6, 0.7, 0.85):
        page.mouse.move(across(share), box["y"] + 150)
        place = position(seen)
        assert abs(rule.thresholds[place - 1].accepted / evaluation.images - share) < 0.02
        assert figures(seen) == at(evaluation, rule, place)
        assert sides(seen) == moved(rule, start, place)
    page.mouse.up()
    page.mouse.move(across(0.3), box["y"] + 150)
    assert position(seen) == place, "it stays where it was let go"
    page.get_by_role("button", name="Compare with this threshold").click()
    assert sides(seen) == (0, 0)
    handle.press("ArrowRight")
    assert sides(seen) == moved(rule, place, place + 1)
    # Another rule: its own curve.
    page.get_by_role("radio", name="msp text").check()
    other = position(seen)
    assert figures(seen) == at(evaluation, evaluation["msp"], other)
    handle.press("PageDown")
    assert sides(seen) == moved(evaluation["msp"], other, position(seen))


def test_the_table_says_what_the_curve_says(
    seen: Browsing, folder: Path, evaluation: Evaluation
) -> None:
    measure(seen, folder)
    seen.page.locator(".as-table summary").click()
    rule = evaluation["trustvlm_star"]
    assert rule.thresholds is not None
    by_accepted = {one.accepted: one for one in rule.thresholds}
    rows = [
        row.locator("td").all_inner_texts() for row in seen.page.locator(".as-table tbody tr").all()
    ]
    assert len(rows) >= 15
    for coverage, _, accepted, wrong, risk, shown in rows:
        one = by_accepted[int(accepted)]
        assert int(wrong) == one.errors
        assert coverage == percent(one.accepted / evaluation.images)
        assert risk == percent(one.errors / one.accepted)
        shows_proof = shown in ("yes", "in use")
        assert shows_proof == proved(rule, rule.thresholds.index(one) + 1)
        assert shows_proof or shown.startswith("no: ")
        assert (shown == "no: more than 5 % wrong") == (one.errors > 0.05 * one.accepted)


@pytest.mark.flow
def test_calibrating_puts_a_promise_into_force_and_it_can_be_taken_back(
    seen: Browsing, folder: Path, tmp_path: Path
) -> None:
    home, page = tmp_path / "home", seen.page
    before = calibrations(home)
    measure(seen, folder)
    promise(seen, "10")
    page.get_by_label("this one: trustvlm_star").check()
    page.get_by_role("button", name="Calibrate for at most 10 % wrong").click()
    page.locator(".calibrate .good-news").get_by_text("In use now.").wait_for(timeout=60_000)
    page.locator(".bench .about").get_by_text("from the stored images").wait_for(timeout=60_000)
    made = calibrations(home)
    assert len(made) == len(before) + 1
    assert (made[0].max_risk, made[0].confidence, made[0].rule, made[0].images) == (
        0.1,
        0.9,
        "trustvlm_star",
        10 * EACH,
    )
    assert dict(made[0].params) == dict(before[0].params)
    share = round(100 * made[0].coverage)
    assert page.locator(".trust-now .headline").inner_text() == (
        f"You can accept {share} % automatically: at most 10 % of accepted answers are wrong (90 % "
        "confidence)."
    )
    assert f"The other {100 - share} % need review." in page.locator(".trust-now").inner_text()
    assert page.locator(".calibrations li").count() == 2
    diamond = page.locator(".curve .diamond")
    assert diamond.count() == 1
    plot, box = page.locator(".curve").bounding_box(), diamond.bounding_box()
    expected = plot["x"] + 68 + made[0].coverage * (plot["width"] - 68 - 16)
    assert abs(box["x"] + box["width"] / 2 - expected) < 2
    seen.accessible()
    page.evaluate("scrollTo(0, 0)")
    seen.shot("trust-calibrated")
    page.locator(".calibrations summary").first.click()
    page.get_by_role("button", name=f"Take calibration {made[0].id} back").click()
    page.get_by_role("dialog").wait_for()
    seen.accessible()
    seen.shot("trust-take-back")
    page.get_by_role("button", name="Take it back").click()
    page.locator(".trust-now .headline").get_by_text("at most 5 %").wait_for()
    assert [one.id for one in calibrations(home)] == [before[0].id]


@pytest.mark.flow
def test_a_threshold_of_ones_own_is_proved_or_refused(
    seen: Browsing, folder: Path, tmp_path: Path
) -> None:
    """By keyboard only, from the folder to the verdict of an image that changed side."""
    home, page = tmp_path / "home", seen.page
    with trustvlm.open(home) as service:
        before = service.list_calibrations("digits")
        refused = service.recalibrate("digits", threshold=0.0)
    assert refused.failed
    measure(seen, folder)
    handle, use = slider(seen), page.get_by_role("button", name="Use this threshold")
    assert use.is_disabled(), "it stands at the threshold in force"
    for _ in range(3):
        handle.press("ArrowLeft")
    page.locator(".readout .proof.proved").wait_for()
    use.press("Enter")
    page.locator(".bench .good-news").get_by_text("Proved, and in use now.").wait_for(
        timeout=60_000
    )
    mine = calibrations(home)[0]
    assert mine.threshold == mine.asked_threshold
    assert mine.rule == before[0].rule
    page.locator(".bench .about").get_by_text("from the stored images").wait_for(timeout=60_000)
    assert (
        page.locator(".trust-now .headline")
        .inner_text()
        .startswith(f"You can accept {round(100 * mine.coverage)} % automatically: at most 5 %")
    )
    assert "this threshold was chosen by hand" in page.locator(".trust-now").inner_text()
    slider(seen).press("PageUp")
    tiles = page.locator(".moved a.picture")
    tiles.first.locator("img").wait_for()
    items = page.locator(".calibrations li")
    assert items.count() == 3
    items.first.locator("summary").press("Enter")
    details = items.first.locator("dl").inner_text()
    assert "chosen by hand" in details
    assert "240: 240 to prove" in details
    assert "failed" in items.nth(1).inner_text()
    items.nth(1).locator("summary").press("Enter")
    share = percent(refused.errors / refused.accepted)
    assert (
        f"At this threshold {refused.errors} of the {refused.accepted} accepted test images are wrong"
        f" ({share})." in items.nth(1).locator("dl").inner_text()
    )
    seen.accessible()
    picture(seen, "trust-used")
    address = tiles.first.get_attribute("href")
    tiles.first.press("Enter")
    page.wait_for_url(f"**/{address}")


def test_too_few_images_are_told_how_many_would_do(
    seen: Browsing, folder: Path, evaluation: Evaluation, tmp_path: Path
) -> None:
    few, images = tmp_path / "few", sorted(folder.glob("*/*.png"))
    items = evaluation["trustvlm_star"].items
    assert items is not None
    for image in [image for image, item in zip(images, items, strict=True) if item.right][::12]:
        (few / image.parent.name).mkdir(parents=True, exist_ok=True)
        shutil.copy(image, few / image.parent.name)
    measure(seen, few)
    seen.page.get_by_role("button", name="Calibrate for at most 5 % wrong").click()
    seen.page.get_by_text("No threshold could be proved:").wait_for(timeout=60_000)
    made = calibrations(tmp_path / "home")[0]
    assert made.threshold is None
    assert made.needed
    seen.page.locator(".calibrate .warn").get_by_text(
        f"about {made.needed:,} more would do"
    ).wait_for()
    seen.page.locator(".calibrate .warn").get_by_text("The threshold in use stays.").wait_for()
    seen.page.locator(".calibrations li").first.get_by_text("failed", exact=True).wait_for()
    seen.page.locator(".trust-now .headline").get_by_text("at most 5 %").wait_for()
    seen.accessible()
    seen.page.evaluate("scrollTo(0, 0)")
    seen.shot("trust-too-few")


def test_stored_images_are_measured_and_recalibrate_what_is_stale(
    demo_home: Path, tmp_path: Path
) -> None:
    home = copied(demo_home, tmp_path / "home")
    with trustvlm.open(home) as service:
        service.register("digits", [trustvlm.LabelInput("a new label")])
        stored = service.count_observations("digits").usable
        kept = service.evaluate_stored("digits", rules=["msp"], items=True).items
    assert kept is not None
    with browsing(home) as seen:
        seen.go("digits", "trust")
        page = seen.page
        page.locator(".trust-now .badge").get_by_text("in use, out of date").wait_for()
        page.get_by_text("Labels or support images changed after this calibration").wait_for()
        assert "at most" not in page.locator(".trust-now").inner_text()
        assert "promised: at most 5 % wrong" in page.locator(".calibrations li").inner_text()
        seen.accessible()
        seen.shot("trust-stale")
        page.get_by_role("button", name="Measure on the stored images").click()
        page.locator(".bench .curve svg path.main").wait_for(state="attached", timeout=60_000)
        assert (
            page.locator(".bench .about")
            .inner_text()
            .startswith(f"{stored} images of 10 labels, from the stored images.")
        )
        slider(seen).press("PageDown")
        tiles = page.locator(".moved a.picture")
        names = {tile.get_attribute("aria-label") for tile in tiles.all()}
        assert names <= {f"Verdict on {item.source.split('/')[-1]}" for item in kept}
        shown = tiles.first.locator("img")
        shown.wait_for()
        assert shown.evaluate("(image) => image.decode().then(() => image.naturalWidth)") > 8
        numbers = {item.observation for item in kept}
        address = tiles.first.get_attribute("href")
        assert address.startswith("#/digits/try/observation/")
        assert int(address.rpartition("/")[2]) in numbers
        seen.accessible()
        seen.shot("trust-stored")
        page.get_by_role("button", name="Recalibrate").click()
        page.locator(".trust-now .badge").get_by_text("up to date").wait_for(timeout=60_000)
        assert calibrations(home)[0].revision == 11
        promise(seen, "20")
        page.get_by_role("button", name="Calibrate for at most 20 % wrong").click()
        page.locator(".trust-now .headline").get_by_text("at most 20 %").wait_for(timeout=60_000)
        assert calibrations(home)[0].max_risk == 0.2


def test_folders_that_are_no_labels_and_files_that_are_no_images(
    seen: Browsing, folder: Path, tmp_path: Path
) -> None:
    mixed = tmp_path / "mixed"
    shutil.copytree(folder / "one", mixed / "one")
    shutil.copytree(tmp_path / "home" / "images" / "eleventh-held-out" / "flower", mixed / "flower")
    (mixed / "one" / "broken.png").write_bytes(b"no image")
    (mixed / "loose.png").write_bytes(b"not looked at")
    flowers = len(list((mixed / "flower").iterdir()))
    seen.go("digits", "trust")
    page = seen.page
    page.locator(".measure input[type=file]").set_input_files(mixed)
    page.get_by_text(f"{EACH + 1 + flowers} images in 2 sub-folders.").wait_for()
    page.get_by_text("“flower” is no label of this space").wait_for()
    seen.accessible()
    seen.shot("trust-unknown-folder")
    page.get_by_role("button", name="Measure on them").click()
    page.locator(".bench").wait_for(timeout=60_000)
    assert page.locator(".bench .about").inner_text().startswith(f"{EACH} images of 1 label,")
    page.get_by_text("1 file could not be read").click()
    page.locator(".failures").get_by_text("broken.png: ").wait_for()
    page.locator(".measure input[type=file]").set_input_files(mixed)
    page.get_by_label("Count them as images of no label").check()
    page.get_by_role("button", name="Measure on them").click()
    page.get_by_text(f"{EACH + flowers} images of 1 label,").wait_for(timeout=60_000)
    slider(seen).press("End")
    risk = figures(seen)["risk"]
    assert float(risk.removesuffix(" %")) >= 100 * flowers / (EACH + flowers) - 0.1


def test_copies_are_left_out_and_counted(seen: Browsing, folder: Path, tmp_path: Path) -> None:
    shutil.copytree(folder, tmp_path / "copies")
    for image in sorted((tmp_path / "copies" / "seven").iterdir())[:5]:
        shutil.copy(image, image.with_name(f"again-{image.name}"))
    measure(seen, tmp_path / "copies")
    assert "5 copies of others left out" in seen.page.locator(".bench").inner_text()


def test_a_folder_can_be_dropped(seen: Browsing, folder: Path) -> None:
    """One folder of sub-folders, or the sub-folders themselves: both are what the library says of
    those images."""
    page = seen.page
    seen.go("digits", "trust")
    drop(seen, folder)
    page.get_by_text("240 images in 10 sub-folders.").wait_for()
    drop(seen, folder / "one", folder / "two")
    page.get_by_text(f"{2 * EACH} images in 2 sub-folders.").wait_for()
    page.get_by_role("button", name="Measure on them").click()
    page.locator(".bench").wait_for(timeout=60_000)
    assert page.locator(".bench .about").inner_text().startswith(f"{2 * EACH} images of 2 labels,")
    drop(seen, next(folder.glob("one/*.png")))
    page.get_by_text("There are no sub-folders with images in it").wait_for()


def test_of_a_folder_that_is_too_large_some_are_drawn(
    demo_home: Path, folder: Path, tmp_path: Path
) -> None:
    """The embeddings of all images do not fit into a request of this service: as many as do are
    drawn and measured."""
    home = copied(demo_home, tmp_path / "home")
    (home / "trustvlm.toml").write_text("serve_body_bytes = 300000\n")
    with browsing(home) as seen:
        page = seen.page
        seen.go("digits", "trust")
        page.locator(".measure input[type=file]").set_input_files(folder)
        said = page.get_by_text("of them, drawn at random, will be used")
        said.wait_for()
        drawn = int(said.inner_text().split("sub-folders.")[1].split()[0])
        assert 20 < drawn < 240
        seen.shot("trust-too-large")
        page.get_by_role("button", name="Measure on them").click()
        page.locator(".bench").wait_for(timeout=60_000)
        assert (
            page.locator(".bench .about").inner_text().startswith(f"{drawn} images of 10 labels,")
        )


def test_measuring_can_be_stopped(seen: Browsing, folder: Path) -> None:
    seen.go("digits", "trust")
    held: list[Any] = []
    seen.page.route(
        "**/embed",
        lambda route: held.append(route) if held else route.continue_() or held.append(None),
    )
    seen.page.locator(".measure input[type=file]").set_input_files(folder)
    seen.page.get_by_role("button", name="Measure on them").click()
    seen.page.get_by_text("16 of 240").wait_for()
    seen.accessible()
    seen.shot("trust-measuring")
    seen.page.get_by_role("button", name="Cancel").click()
    seen.page.get_by_text("Stopped.").wait_for()
    assert seen.page.locator(".bench").count() == 0


def test_spaces_of_embeddings_and_without_a_promise(tmp_path: Path) -> None:
    with trustvlm.open(tmp_path / "home", create=True) as service:
        service.create_space("vectors", classifier="precomputed:4")
        service.register(
            "vectors",
            [
                trustvlm.LabelInput("one", text_vector=np.eye(4)[0]),
                trustvlm.LabelInput("two", text_vector=np.eye(4)[1]),
            ],
        )
    with browsing(tmp_path / "home", phone=True) as seen:
        seen.go("vectors", "trust")
        seen.page.get_by_role("heading", name="Nothing is accepted automatically yet.").wait_for()
        seen.page.get_by_text(
            "trustvlm --url " + seen.address + " calibrate vectors --vectors FILE.npz"
        ).wait_for()
        seen.page.get_by_text("at least 46 are needed; about 300 are a good start").wait_for()
        assert seen.page.get_by_role("button", name="Measure on the stored images").is_disabled()
        seen.accessible()
        seen.shot("trust-embeddings-phone")
        wide = seen.page.evaluate(
            "document.documentElement.scrollWidth - document.documentElement.clientWidth"
        )
        assert wide == 0


def test_what_the_page_calibrates_with_is_what_the_files_are(
    seen: Browsing, folder: Path, tmp_path: Path
) -> None:
    """The embeddings that the page sends back are those that the files have, to the last bit of a
    float32."""
    measure(seen, folder)
    seen.page.get_by_label("this one: trustvlm_star").check()
    seen.page.get_by_role("button", name="Calibrate for at most 5 % wrong").click()
    seen.page.locator(".calibrations li").nth(1).wait_for(timeout=60_000)
    found = calibrations(tmp_path / "home")[0]
    with trustvlm.open(tmp_path / "home") as service:
        images = sorted(folder.glob("*/*.png"))
        embedded = service.embed("digits", images)
        truth = [image.parent.name for image in images]
        again = service.calibrate(
            "digits",
            embedded.queries,
            truth,
            rule=found.rule,
            params=found.params,
            may_correct=found.may_correct,
        )
    assert json.loads(json.dumps(found.candidates)) == json.loads(json.dumps(again.candidates))
    assert (found.threshold, found.accepted, found.errors, found.tested) == pytest.approx(
        (again.threshold, again.accepted, again.errors, again.tested), abs=1e-4
    )


def test_folders_as_people_have_them(seen: Browsing, folder: Path, tmp_path: Path) -> None:
    """System folders are left out, images below sub-folders count, the parts of a data set are
    refused."""
    mixed = tmp_path / "mixed"
    shutil.copytree(folder / "one", mixed / "one" / "deep" / "er")
    for name in ("@eaDir", "$RECYCLE.BIN", "one/@eaDir"):
        (mixed / name).mkdir(parents=True)
        shutil.copy(next((folder / "two").iterdir()), mixed / name / "x.png")
    seen.go("digits", "trust")
    page = seen.page
    page.locator(".measure input[type=file]").set_input_files(mixed)
    page.get_by_text(f"{EACH} images in 1 sub-folder. 3 files left out").wait_for()
    parts = tmp_path / "parts"
    for name in ("train", "test"):
        shutil.copytree(folder / "one", parts / name / "one")
    page.locator(".measure input[type=file]").set_input_files(parts)
    page.get_by_text("“test”, “train”: parts of a data set, not labels.").wait_for()
    drop(seen, parts)
    page.get_by_text("“test”, “train”: parts of a data set, not labels.").first.wait_for()
    drop(seen, parts / "test")
    page.get_by_text(f"{EACH} images in 1 sub-folder.").wait_for()


@pytest.fixture
def keeping(demo_home: Path, tmp_path: Path) -> Path:
    """The demo's home with a calibration that keeps the classifier's labels. Its rule's trust is a
    probability."""
    home = copied(demo_home, tmp_path / "keeping")
    with trustvlm.open(home) as service:
        made = service.recalibrate("digits", rule="posterior", may_correct=False)
    assert made.rule == "posterior"
    return home


def stored_measured(seen: Browsing) -> None:
    seen.go("digits", "trust")
    seen.page.get_by_role("button", name="Measure on the stored images").click()
    seen.page.locator(".bench .curve svg path.main").wait_for(state="attached", timeout=60_000)


def test_a_threshold_that_new_answers_refute_is_not_saved(keeping: Path) -> None:
    before = calibrations(keeping)
    with browsing(keeping) as seen:
        stored_measured(seen)
        page = seen.page
        slider(seen).press("ArrowLeft")
        for _ in range(30):
            if page.locator(".readout .proof.proved").count():
                break
            slider(seen).press("ArrowLeft")
        images = sorted((keeping / "images" / "held-out" / "one").iterdir())
        with trustvlm.open(keeping) as service:  # meanwhile others say that these are no "one"
            service.feedback("digits", images, ["two"] * len(images), sampling="random")
        page.get_by_role("button", name="Use this threshold").click()
        refused = page.locator(".bench .warn")
        refused.get_by_text("Not saved: at this threshold").wait_for(timeout=60_000)
        made = calibrations(keeping)[0]
        assert made.failed
        assert f"{made.errors} of the {made.accepted} accepted" in refused.inner_text()
        assert "The threshold in use stays." in refused.inner_text()
        now = page.locator(".trust-now")
        now.get_by_role("heading", name="The promise is broken.").wait_for()
        now.get_by_text("accepted images whose label became known are wrong").wait_for()
        assert "run '" not in now.inner_text()
        promised = "at most 5 % of accepted answers are wrong"
        said = now.inner_text()
        assert said.count(promised) == said.count(f"The promise is broken that {promised}")
        seen.accessible()
        picture(seen, "trust-not-saved")
    assert [one.id for one in calibrations(keeping)[1:]] == [one.id for one in before]


def test_where_accepting_everything_is_proved_no_lowest_threshold_is_named(keeping: Path) -> None:
    with trustvlm.open(keeping) as service:
        service.recalibrate("digits", rule="posterior", may_correct=False, max_risk=0.2)
    with browsing(keeping) as seen:
        seen.go("digits", "trust")
        seen.page.locator(".calibrations summary").first.click()
        facts = seen.page.locator(".calibrations dl").first.inner_text()
        assert "Every threshold up to " in facts, facts
        assert "∞" not in facts
        assert "e+" not in facts
