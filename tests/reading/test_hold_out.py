"""Holding images out: the side of an image depends on its content and the seed alone."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import hypothesis.strategies as st
import numpy as np
import pytest
from hypothesis import given
from PIL import Image
from served_client import application, client_of

import trustvlm
from trustvlm.errors import InvalidInput
from trustvlm.reading.hold_out import HoldOut, content_of

QUICK: dict[str, Any] = {"draws": 0, "rules": ["msp"]}
Pairs = list[tuple[bytes, str | None]]

contents = st.binary(min_size=1, max_size=2)
pairs = st.lists(st.tuples(contents, st.sampled_from(["a", "b", "ü", None])), max_size=40)
splits = st.builds(HoldOut, st.floats(0.01, 0.99), st.integers(0, 9))


def held_out(split: HoldOut, images: Pairs) -> set[bytes]:
    """The contents on the held-out side; copies are on one side."""
    mask = split.mask([content for content, _ in images], [label for _, label in images])
    sides: dict[bytes, bool] = {}
    for (content, _), is_held_out in zip(images, mask.tolist(), strict=True):
        assert sides.setdefault(content, is_held_out) == is_held_out
    return {content for content, is_held_out in sides.items() if is_held_out}


@given(splits, pairs, st.randoms(use_true_random=False))
def test_order_and_copies_change_nothing(split: HoldOut, images: Pairs, random) -> None:  # type: ignore[no-untyped-def]
    before = held_out(split, images)
    mixed = [*images, *images[::2]]
    random.shuffle(mixed)
    assert held_out(split, mixed) == before


@given(splits, pairs)
def test_each_label_keeps_a_support_image_and_holds_one_out(split: HoldOut, images: Pairs) -> None:
    held = held_out(split, images)
    of_label: dict[str | None, set[bytes]] = {}
    for content, label in images:
        of_label.setdefault(label, set()).add(content)
    for own in of_label.values():
        assert own - held
    lone = [own for own in of_label.values() if len(own - held) == 1]
    for own in of_label.values():  # an image that is the last of another label stays there
        assert own & held or all(any(one in other for other in lone) for one in own)


@given(splits, st.sets(contents, max_size=40), st.sets(contents, max_size=40))
def test_images_that_come_later_leave_the_others_where_they_are(
    split: HoldOut, images: set[bytes], later: set[bytes]
) -> None:
    """In labels that have images on both sides without the two exceptions for small labels."""
    others = [b"another %d" % number for number in range(60)]
    below = {one for one in images if split.mask([one, *others], ["x"] * 61)[0]}
    of_label = [{one for one in images if one[0] % 3 == label} for label in range(3)]
    labels = [own for own in of_label if own & below and own - below]
    before = held_out(split, [(one, str(one[0] % 3)) for one in images])
    after = held_out(split, [(one, str(one[0] % 3)) for one in images | later])
    for own in labels:
        assert own & before == own & after == own & below


def test_the_share_the_seed_and_known_sides() -> None:
    images = [b"image %d" % number for number in range(4_000)]
    labels = [f"label {number % 20}" for number in range(4_000)]
    masks = [HoldOut(0.3, seed).mask(images, labels) for seed in range(3)]
    for mask in masks:
        by_label = mask.reshape(-1, 20).mean(axis=0)
        assert 0.27 < mask.mean() < 0.33
        assert 0.2 < by_label.min() < by_label.max() < 0.4
    assert 0.35 < (masks[0] != masks[1]).mean() < 0.5
    # these sides never change: the same on every machine and in every version
    assert HoldOut(0.3).mask(images[:12], labels[:1] * 12).tolist() == KNOWN


KNOWN = [bool(int(side)) for side in "010001000000"]


def test_a_label_with_one_image_keeps_it() -> None:
    for seed in range(20):
        assert not HoldOut(0.99, seed).mask([b"x", b"x"], ["a", "a"]).any()
        assert HoldOut(0.01, seed).mask([b"x", b"y"], ["a", "a"]).sum() == 1
        assert not HoldOut(0.5, seed).mask([None, b"y"], ["a", "a"]).any()  # unreadable


def test_contents(tmp_path: Path) -> None:
    Image.new("RGB", (3, 2), "red").save(tmp_path / "red.png")
    data = (tmp_path / "red.png").read_bytes()
    assert (
        content_of(data)
        == content_of(tmp_path / "red.png")
        == content_of(str(tmp_path / "red.png"))
    )
    pixels = [content_of(Image.new("RGB", (3, 2), colour)) for colour in ("red", "red", "blue")]
    assert pixels[0] == pixels[1] != pixels[2]
    assert content_of(tmp_path) is content_of(tmp_path / "none") is content_of(3) is None


@pytest.fixture
def space(service: trustvlm.TrustService) -> trustvlm.TrustService:
    service.create_space("s", classifier="precomputed:4", verifier="precomputed:6")
    return service


def test_the_verbs_of_the_library_divide_vectors_alike(space: trustvlm.TrustService) -> None:
    rng = np.random.default_rng(0)
    labels = np.repeat(np.arange(3), 40)
    classifier = np.eye(3, 4)[labels] + 0.3 * rng.normal(size=(120, 4))
    verifier = np.eye(3, 6)[labels] + 0.2 * rng.normal(size=(120, 6))
    names = ["a", "b", "c"]
    inputs = [
        trustvlm.LabelInput(name, np.eye(3, 4)[row], image_vectors=verifier[labels == row])
        for row, name in enumerate(names)
    ]
    truth = [names[label] for label in labels]
    queries = trustvlm.Queries(classifier, verifier, thumbnails=[None] * 120)
    added = space.register("s", inputs, hold_out=0.3, seed=7).added_supports
    assert 70 < added < 98
    evaluation = space.evaluate("s", queries, truth, hold_out=0.3, seed=7, items=True, **QUICK)
    assert (evaluation.images, evaluation.supports) == (120 - added, 0)
    assert evaluation.items is not None
    for item in evaluation.items:  # places among all images that were given
        assert item.truth == truth[item.index]
        assert item.source == f"image {item.index}"
    made = space.calibrate("s", queries, truth, hold_out=0.3, seed=7, rule="msp")
    assert (made.images, made.supports) == (120 - added, 0)
    other = space.evaluate("s", queries, truth, hold_out=0.3, seed=8, **QUICK)
    assert other.supports > 10
    # the blocker: all are support images; the message names the way out, which works
    space.register("s", inputs)
    for verb in (space.evaluate, space.calibrate):
        with pytest.raises(
            InvalidInput, match=r"all 120 are support images.*--sync --hold-out 0\.3"
        ):
            verb("s", queries, truth)
    space.register("s", inputs, hold_out=0.3, seed=7, sync=True)
    assert space.evaluate("s", queries, truth, hold_out=0.3, seed=7, **QUICK).supports == 0


@pytest.mark.parametrize("share", [0, 1, 1.5, -0.1, float("nan"), "0.3", True])
def test_bad_shares(space: trustvlm.TrustService, share: object) -> None:
    with pytest.raises(InvalidInput, match=r"hold_out: expected a number from 0\.01 to 0\.99"):
        space.register("s", {"a": None}, hold_out=share)  # type: ignore[arg-type]


def test_bad_arguments(space: trustvlm.TrustService) -> None:
    one = trustvlm.Queries(np.eye(2, 4), np.eye(2, 6))
    space.register(
        "s", [trustvlm.LabelInput(name, row) for name, row in zip("ab", np.eye(2, 4), strict=True)]
    )
    with pytest.raises(InvalidInput, match="seed: 3 is the seed of a split; pass hold_out, too"):
        space.evaluate("s", one, ["a", "b"], seed=3)
    with pytest.raises(InvalidInput, match="none of 2 images can be held out"):
        space.evaluate("s", one, ["a", "b"], hold_out=0.5)
    with pytest.raises(InvalidInput, match="truth: expected 2 names"):
        space.evaluate("s", one, ["a"], hold_out=0.5)
    bad = trustvlm.Queries(np.eye(2, 4), np.eye(1, 6))
    with pytest.raises(InvalidInput, match="2 classifier embeddings, but 1"):
        space.calibrate("s", bad, ["a", "a"], hold_out=0.5)


def test_the_client_divides_as_the_library_does(tmp_path: Path) -> None:
    rng = np.random.default_rng(1)
    labels = np.repeat([0, 1], 20)
    vectors = np.eye(2, 4)[labels] + 0.2 * rng.normal(size=(40, 4))
    inputs = [
        trustvlm.LabelInput(name, np.eye(2, 4)[row], image_vectors=vectors[labels == row])
        for row, name in enumerate("ab")
    ]
    truth = ["ab"[label] for label in labels]
    with application(tmp_path / "served") as app, client_of(app) as client:
        client.create_space("s", classifier="precomputed:4")
        added = client.register("s", inputs, hold_out=0.4, seed=2).added_supports
        queries = trustvlm.Queries(vectors)
        there = client.evaluate("s", queries, truth, hold_out=0.4, seed=2, items=True, **QUICK)
        made = client.calibrate("s", queries, truth, hold_out=0.4, seed=2, rule="msp")
    with trustvlm.open(tmp_path / "home", create=True) as service:
        service.create_space("s", classifier="precomputed:4")
        assert service.register("s", inputs, hold_out=0.4, seed=2).added_supports == added
        here = service.evaluate("s", queries, truth, hold_out=0.4, seed=2, items=True, **QUICK)
    assert there.items == here.items
    assert (here.images, here.supports, made.images) == (40 - added, 0, 40 - added)
