"""`trustvlm audit`: labelled images that are probably wrong, and what becomes of them."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

import trustvlm
from tests.support.cli_runner import Cli
from trustvlm.scoring.discriminant.suspicion import FLAG
from trustvlm.selective.metrics import auroc
from trustvlm.types.support.audit import Audit

LABELS, SHOTS, DIM = 10, 16, 32


class Noisy:
    """Labelled images of which every tenth has the label of another one."""

    def __init__(self, seed: int = 0, shots: int = SHOTS) -> None:
        rng = np.random.default_rng(seed)
        self.names = [f"label {i}" for i in range(LABELS)]
        self.text = rng.normal(size=(LABELS, DIM))
        labels = np.repeat(np.arange(LABELS), shots)
        self.verifier = rng.normal(size=(LABELS, DIM))[labels] + 0.8 * rng.normal(
            size=(len(labels), DIM)
        )
        self.classifier = self.text[labels] + 1.5 * rng.normal(size=(len(labels), DIM))
        self.wrong = np.zeros(len(labels), np.bool_)
        self.wrong[rng.permutation(len(labels))[: len(labels) // 10]] = True
        other = (labels + rng.integers(1, LABELS, len(labels))) % LABELS
        self.truth, self.label = labels, np.where(self.wrong, other, labels)

    def inputs(self, *, text: bool = True) -> list[trustvlm.LabelInput]:
        return [
            trustvlm.LabelInput(
                name,
                text_vector=self.text[i],
                image_vectors=self.verifier[self.label == i],
                classifier_image_vectors=self.classifier[self.label == i] if text else None,
            )
            for i, name in enumerate(self.names)
        ]

    def wrong_by_id(self) -> dict[int, bool]:
        """Of support images registered in the order of :meth:`inputs`."""
        order = np.argsort(self.label, kind="stable")
        return {place + 1: bool(self.wrong[row]) for place, row in enumerate(order.tolist())}


def make(service: trustvlm.TrustService, name: str = "s") -> None:
    service.create_space(
        name, classifier=f"precomputed:{DIM}", verifier=f"precomputed:{DIM}", logit_scale=10.0
    )


@pytest.fixture
def noisy() -> Noisy:
    return Noisy()


@pytest.fixture
def service(tmp_path: Path, noisy: Noisy) -> Iterator[trustvlm.TrustService]:
    with trustvlm.open(tmp_path / "home", create=True) as opened:
        make(opened)
        opened.register("s", noisy.inputs())
        yield opened


def test_wrong_images_are_the_most_suspicious(service: trustvlm.TrustService, noisy: Noisy) -> None:
    audit, wrong = service.audit("s"), noisy.wrong_by_id()
    assert audit.images == audit.judged == len(audit) == LABELS * SHOTS
    suspicion = [row.suspicion for row in audit]
    assert suspicion == sorted(suspicion, reverse=True)
    assert auroc(np.array(suspicion), np.array([wrong[row.id or 0] for row in audit])) >= 0.99
    clean = [row for row in audit if not wrong[row.id or 0]]
    assert sum(row.flagged for row in clean) <= 0.015 * len(clean)
    flagged = [row for row in audit if row.flagged]
    assert [row.suspicion > FLAG for row in audit] == [row.flagged for row in audit]
    assert audit.flagged == len(flagged) >= 0.9 * noisy.wrong.sum()
    assert audit.precision is not None
    assert audit.wrong_share is not None
    assert audit.precision == pytest.approx(
        np.mean([wrong[row.id or 0] for row in flagged]), abs=0.15
    )
    assert audit.wrong_share == pytest.approx(noisy.wrong.mean(), abs=0.03)
    order = np.argsort(noisy.label, kind="stable")
    named = [row for row in flagged if wrong[row.id or 0]]
    right = [row.looks_like == noisy.names[noisy.truth[order[(row.id or 0) - 1]]] for row in named]
    assert np.mean(right) >= 0.9
    assert audit.evidence == "whitened"
    assert audit.without_text == audit.alone == 0


def test_leave_one_out_is_that_of_a_space_without_the_image(
    service: trustvlm.TrustService, noisy: Noisy
) -> None:
    """Taking an image out changes M and the prototype of its label: the closed form knows both.
    The order of the suspicions of left-out images follows a real removal."""
    row = service.audit("s")[0]
    revision = service.get_space("s").revision
    assert row.id is not None
    assert row.label != row.looks_like
    service.remove_support("s", [row.id])
    order = np.argsort(noisy.label, kind="stable")
    image = order[row.id - 1]
    queries = trustvlm.Queries(noisy.classifier[[image]], noisy.verifier[[image]])
    verdict = service.score("s", queries, rule="lda_star")[0]
    assert verdict.label == row.looks_like
    assert verdict.probability == pytest.approx(row.looks_like_probability, abs=0.02)
    given = service.audit("s", queries, [row.label])
    assert given[0].suspicion == pytest.approx(row.suspicion, rel=0.05)
    assert (given[0].id, given[0].place) == (None, 0)
    assert given.images == given.judged == len(given) == 1
    assert service.get_space("s").revision == revision + 1


def test_pages_hold_all_rows_in_order(service: trustvlm.TrustService) -> None:
    every = service.audit("s")
    pages, cursor = [], None
    while True:
        page = service.audit("s", limit=60, cursor=cursor)
        assert (page.images, page.flagged) == (every.images, every.flagged)
        pages += page.rows
        cursor = page.next_cursor
        if cursor is None:
            break
    assert tuple(pages) == every.rows


def test_a_labelled_set_that_is_not_registered(tmp_path: Path, noisy: Noisy) -> None:
    """Labels without any support image are enough: the set is judged by itself."""
    with trustvlm.open(tmp_path / "home", create=True) as service:
        make(service)
        service.register(
            "s", [trustvlm.LabelInput(n, t) for n, t in zip(noisy.names, noisy.text, strict=True)]
        )
        truth: list[str | None] = [noisy.names[i] for i in noisy.label]
        truth[0] = None
        queries = trustvlm.Queries(noisy.classifier, noisy.verifier)
        sources = [f"image {i}" for i in range(len(truth))]
        audit = service.audit("s", queries, truth, sources=sources)
        assert audit.images == len(truth) - 1
        assert audit.unlabelled == 1
        places = np.array([row.place for row in audit])
        assert sorted(places.tolist()) == list(range(1, len(truth)))
        assert [row.source for row in audit] == [sources[place] for place in places]
        suspicion = np.array([row.suspicion for row in audit])
        assert auroc(suspicion, noisy.wrong[places]) >= 0.99
        assert all(row.id is None for row in audit)
        assert service.get_space("s").support_count == 0


def test_a_given_support_image_is_judged_once(service: trustvlm.TrustService, noisy: Noisy) -> None:
    of = np.flatnonzero(noisy.label == 3)
    queries = trustvlm.Queries(
        noisy.classifier[of].astype(np.float32), noisy.verifier[of].astype(np.float32)
    )
    given = service.audit("s", queries, ["label 3"] * len(of))
    registered = {row.id: row.suspicion for row in service.audit("s")}
    assert len(given) == len(of)
    for row in given:
        assert row.id is not None
        assert row.suspicion == pytest.approx(registered[row.id], rel=1e-6)


def test_kept_images_do_not_come_back(service: trustvlm.TrustService) -> None:
    first = [row.id for row in service.audit("s") if row.flagged]
    revision = service.get_space("s").revision
    assert service.keep_support("s", first[:2]) == revision
    audit = service.audit("s")
    assert [row.id for row in audit if row.flagged] == first[2:]
    assert [row.id for row in audit if row.kept] == first[:2]
    assert audit.kept == 2
    service.keep_support("s", first[:1], keep=False)
    assert [row.id for row in service.audit("s") if row.flagged] == [first[0], *first[2:]]


def test_moved_images_are_of_the_other_label(service: trustvlm.TrustService) -> None:
    flagged = [row for row in service.audit("s") if row.flagged]
    row = flagged[0]
    assert row.id is not None
    before = service.get_space("s").support_count
    moved = service.move_support("s", [row.id], row.looks_like)
    assert service.get_space("s").support_count == before
    assert moved.revision == service.get_space("s").revision
    of_label = {one.id for one in service.list_supports("s", row.looks_like)}
    assert set(moved.ids) <= of_label
    again = {one.id: one for one in service.audit("s")}
    assert not again[moved.ids[0]].flagged
    assert row.id not in again
    with pytest.raises(trustvlm.InvalidInput, match="of other labels than"):
        service.move_support("s", moved.ids, row.looks_like)
    service.remove_support("s", moved.ids)
    service.restore_support("s", [row.id])
    assert {one.id for one in service.audit("s") if one.flagged} >= {row.id}


@pytest.mark.parametrize(("ids", "label"), [([10**6], "label 1"), ([1], "no such label")])
def test_nothing_moves_where_something_is_missing(
    service: trustvlm.TrustService, ids: list[int], label: str
) -> None:
    revision = service.get_space("s").revision
    with pytest.raises(trustvlm.NotFound):
        service.move_support("s", [*ids, 2], label)
    assert service.get_space("s").revision == revision


def test_what_cannot_be_judged_is_counted(tmp_path: Path, noisy: Noisy) -> None:
    inputs = noisy.inputs(text=False)
    first = noisy.label == 0
    inputs[0] = trustvlm.LabelInput(
        "label 0", noisy.text[0], image_vectors=noisy.verifier[first][:1]
    )
    with trustvlm.open(tmp_path / "home", create=True) as service:
        make(service)
        assert service.audit("s").evidence == "none"
        service.register("s", inputs)
        audit = service.audit("s")
        assert audit.alone == 1
        assert audit.judged == audit.images - 1 == audit.without_text
        assert {row.judged_by for row in audit} == {"image"}
        make(service, "single")
        service.register("single", [
            trustvlm.LabelInput(name, noisy.text[i], image_vectors=noisy.verifier[i * SHOTS][None])
            for i, name in enumerate(noisy.names)
        ])  # fmt: skip
        single = service.audit("single")
        assert (single.evidence, single.judged, single.rows) == ("one image", 0, ())
        assert single.precision is None
        assert single.wrong_share is None


def test_images_of_an_alias_are_those_of_its_label(
    service: trustvlm.TrustService, noisy: Noisy
) -> None:
    before = {row.id: row.suspicion for row in service.audit("s") if row.label == "label 1"}
    service.register("s", [trustvlm.LabelInput("other name", text_vector=noisy.text[1])])
    service.alias("s", "other name", of="label 1")
    some = sorted(one for one in before if one is not None)[:4]
    moved = service.move_support("s", some, "other name")
    after = {row.id: row for row in service.audit("s")}
    assert {after[one].label for one in moved.ids} == {"other name"}
    for old, new in zip(some, moved.ids, strict=True):
        assert after[new].suspicion == pytest.approx(before[old], rel=1e-6)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"truth": ["label 1"]}, "belong to queries"),
        ({"queries": trustvlm.Queries(np.ones((1, DIM))), "truth": ["label 1"]}, "verifier"),
        ({"limit": 0}, "limit"),
        ({"cursor": -1}, "cursor"),
    ],
)
def test_bad_arguments(
    service: trustvlm.TrustService, arguments: dict[str, object], message: str
) -> None:
    with pytest.raises(trustvlm.InvalidInput, match=message):
        service.audit("s", **arguments)  # type: ignore[arg-type]


def test_command_line(service: trustvlm.TrustService, noisy: Noisy, tmp_path: Path) -> None:
    flagged = [row for row in service.audit("s") if row.flagged]

    cli = Cli(tmp_path / "home")
    assert f"{len(flagged)} of 160 images flagged" in cli("audit", "s")
    rows = [json.loads(line) for line in cli("audit", "s", "--format", "jsonl").splitlines()]
    assert [row["id"] for row in rows] == [row.id for row in flagged]
    assert len(cli("audit", "s", "--all", "--format", "csv").splitlines()) == 161
    dry = cli.run("audit", "s", "--move", "--flagged")
    assert f"{flagged[0].id}: move to {flagged[0].looks_like}" in dry.stdout
    assert "add --yes" in dry.stderr
    assert service.audit("s").flagged == len(flagged)
    first, second, third = (row.id for row in flagged[:3])
    cli("audit", "s", "--keep", "--id", first, "--yes")
    cli("audit", "s", "--remove", "--id", second, "--yes")
    cli("audit", "s", "--move", "--id", third, "--to", "label 9", "--yes")
    left = {row.id for row in service.audit("s") if row.flagged}
    assert not {first, second, third} & left
    cli("audit", "s", "--doubt", "--flagged", "--yes")
    assert first in {row.id for row in service.audit("s") if row.flagged}
    assert "belongs to --move" in cli("audit", "s", "--to", "label 1", code=2)
    assert "--id ID or --flagged" in cli("audit", "s", "--move", code=2)
    assert "no support image" in cli("audit", "s", "--keep", "--id", 10**7, code=3)
    np.savez(
        tmp_path / "set.npz", classifier=noisy.classifier, verifier=noisy.verifier,
        truth=[noisy.names[i] for i in noisy.label],
    )  # fmt: skip
    assert "leave out FOLDER" in cli(
        "audit", "s", "--vectors", tmp_path / "set.npz", "--move", "--flagged", code=2
    )
    assert "flagged" in cli("audit", "s", "--vectors", tmp_path / "set.npz")


def test_the_repr_of_an_audit_is_short(service: trustvlm.TrustService) -> None:
    audit = service.audit("s", limit=1)
    assert isinstance(audit, Audit)
    assert len(repr(audit)) < 2_000
