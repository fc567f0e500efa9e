"""Every rule on every legal state of a space: it works, it is left out with a reason, or the
refusal says what is missing."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path

import numpy as np
import pytest
from cli_runner import Cli
from worlds import IMAGE_DIM, TEXT_DIM

import trustvlm
from trustvlm import InvalidInput, LabelInput, Queries, TrustService
from trustvlm.types.evaluation import Evaluation
from trustvlm.types.json_form import from_plain as read

NAMES = ["airport", "beach", "bridge", "desert", "forest"]
IMAGE_RULES = {name for name, rule in trustvlm.RULES.items() if rule.kind == "image"}
NEEDS_VERIFIER = {name for name, rule in trustvlm.RULES.items() if rule.uses_images}
SHOTS: dict[str, list[int]] = {
    "one label, no images": [0],
    "one label, one image": [1],
    "one label, some images": [4],
    "no images": [0, 0, 0, 0, 0],
    "images for some": [0, 4, 0, 4, 0],
    "one image in all": [0, 0, 1, 0, 0],
    "one image each": [1, 1, 1, 1, 1],
    "images for all": [4, 4, 4, 4, 4],
}
CHANGES: dict[str, tuple[list[int], Callable[[TrustService], object]]] = {
    "aliases only": ([2, 2], lambda service: service.alias("s", "beach", of="airport")),
    "aliases only, no images": ([0, 0], lambda service: service.alias("s", "beach", of="airport")),
    "all images removed": (
        [3, 3, 3, 3, 3],
        lambda service: [
            service.remove_support("s", [row.id for row in service.list_supports("s", name)])
            for name in NAMES
        ],
    ),
    "all labels but a bare one removed": (
        [3, 0],
        lambda service: service.remove_label("s", "airport"),
    ),
}
STATES = {name: (shots, lambda _: None) for name, shots in SHOTS.items()} | CHANGES
SIDES = ("verifier", "same", "no verifier queries")


def filled(service: TrustService, state: str, side: str) -> tuple[Queries, list[str]]:
    """A space in that state, and queries of its labels with their truth."""
    shots, change = STATES[state]
    rng = np.random.default_rng(1)
    same = side == "same"
    text, images = rng.normal(size=(5, TEXT_DIM)), rng.normal(size=(5, IMAGE_DIM))
    prototypes = text if same else images
    service.create_space(
        "s",
        classifier=f"precomputed:{TEXT_DIM}",
        verifier="same" if same else f"precomputed:{IMAGE_DIM}",
    )
    noise = 0.4 * rng.normal(size=(5, 4, prototypes.shape[1]))
    service.register(
        "s",
        [
            LabelInput(
                NAMES[i],
                text_vector=text[i],
                image_vectors=prototypes[i] + noise[i, :count] if count else None,
            )
            for i, count in enumerate(shots)
        ],
    )
    change(service)
    names = [label.name for label in service.list_labels("s")]
    truth = [NAMES.index(names[i % len(names)]) for i in range(24)]
    classifier = text[truth] + 1.5 * rng.normal(size=(24, TEXT_DIM))
    verifier = images[truth] + 0.6 * rng.normal(size=(24, IMAGE_DIM))
    return Queries(classifier, verifier if side == "verifier" else None), [NAMES[i] for i in truth]


QUICK = ("no images", "images for some")
"""States that are tried with every side in each run; the others with their own verifier only."""


def case(state: str, side: str, half: bool = False) -> object:
    quick = not half and (side == "verifier" or state in QUICK)
    return pytest.param(state, side, half, marks=[] if quick else pytest.mark.slow)


CASES = [case(state, side) for state in STATES for side in SIDES] + [
    case("images for some", "verifier", half=True),
    case("no images", "same", half=True),
]


@pytest.mark.parametrize(("state", "side", "half"), CASES)
def test_rules_and_states(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, state: str, side: str, half: bool
) -> None:
    if half:
        monkeypatch.setenv("TRUSTVLM_HALF_FROM", "1")
    with trustvlm.open(tmp_path / "home", create=True) as service:
        queries, truth = filled(service, state, side)
        if half:
            service.rebuild_index("s")  # from the first query on, rows are read from the snapshot
        bare = not any(label.support_count for label in service.list_labels("s"))
        possible = [
            rule
            for rule in trustvlm.RULES
            if side != "no verifier queries" or rule not in NEEDS_VERIFIER
        ]
        compared = [rule for rule in possible if not (bare and rule in IMAGE_RULES)]
        for rule in trustvlm.RULES:
            if rule in possible:
                verdicts = service.score("s", queries, rule=rule)
                assert np.isfinite(verdicts.trust).all()
                assert not bare or verdicts.unverified.all()
            else:
                with pytest.raises(
                    InvalidInput,
                    match=rf"queries\.verifier: rule '{rule}' needs verifier embeddings of",
                ):
                    service.score("s", queries, rule=rule)
                with pytest.raises(
                    InvalidInput,
                    match=rf"queries\.verifier: rule '{rule}' needs verifier embeddings of",
                ):
                    service.evaluate("s", queries, truth, rules=[rule])
                with pytest.raises(InvalidInput, match=r"queries\.verifier: "):
                    service.calibrate("s", queries, truth, rule=rule, may_correct=True)
        found = service.evaluate("s", queries, truth, draws=1)
        assert {outcome.rule for outcome in found.rules} == set(compared)
        assert {one.rule for one in found.left_out} == set(trustvlm.RULES) - set(compared)
        assert all(one.reason for one in found.left_out)
        assert (
            read(Evaluation, json.loads(json.dumps(found.to_dict(), allow_nan=False))).left_out
            == found.left_out
        )
        if state == "no images" and side == "verifier":
            service.write_report(found, tmp_path / "report.html")
            assert "Not compared: image, knn, ratio (" in (tmp_path / "report.html").read_text(
                "utf-8"
            )
            every = service.evaluate("s", queries, truth, rules=possible, draws=1, items=True)
            assert (len(every.rules), every.left_out) == (len(possible), ())
        if side == "no verifier queries" and not bare:
            with pytest.raises(
                InvalidInput, match=r"queries\.verifier: space 's' has support images"
            ):
                service.calibrate("s", queries, truth, rule="auto", may_correct=True)
        else:
            made = service.calibrate("s", queries, truth, rule="auto", may_correct=True)
            assert {row["rule"] for row in made.candidates} == set(compared)
            assert made.left_out == found.left_out
            assert service.list_calibrations("s")[0].left_out == made.left_out
            assert len(service.score("s", queries, rule=made.rule)) == 24
            service.evaluate_stored("s")
            if bare:
                for rule in IMAGE_RULES & set(possible):
                    assert (
                        service.calibrate("s", queries, truth, rule=rule, may_correct=True).left_out
                        == ()
                    )
        for kind in ("text", "prototype", "support"):
            if side == "verifier" or kind == "text" or side == "same":
                assert (service.search("s", queries, kind=kind, k=3).ids == -1).all() == (
                    bare and kind != "text"
                )
        assert isinstance(service.near_synonyms("s"), list)
        assert any(one.chosen for one in service.suggest_recipe("s"))
        assert asdict(service.rebuild_index("s")) | {"snapshot_bytes": 0} == asdict(
            service.index_stats("s")
        ) | {"snapshot_bytes": 0}


def test_each_rule_alone(service: TrustService) -> None:
    """Whichever rule stands for its side, there is an evaluation and, where it can be drawn, the
    curve."""
    queries, truth = filled(service, "images for some", "verifier")
    for rule in trustvlm.RULES:
        found = service.evaluate("s", queries, truth, rules=[rule], draws=1)
        assert {shot.rule for shot in found.shots} == (
            set() if rule in ("knn", "trustvlm_star", "lda", "lda_star") else {rule}
        )


def test_the_command_line_says_what_was_left_out(cli: Cli, tmp_path: Path) -> None:
    with trustvlm.open(cli.home, create=True) as service:
        queries, truth = filled(service, "no images", "verifier")
    np.savez(
        tmp_path / "q.npz",
        classifier=queries.classifier,
        verifier=queries.verifier,
        truth=np.array(truth),
    )
    words = "not compared: image, knn, ratio (no label has support images to compare with)"
    assert words in cli("evaluate", "s", "--vectors", tmp_path / "q.npz")
    assert words in cli(
        "calibrate",
        "s",
        "--vectors",
        tmp_path / "q.npz",
        "--rule",
        "auto",
        "--max-risk",
        "0.95",
        "--confidence",
        "0.5",
    )
    told = json.loads(cli("evaluate", "s", "--vectors", tmp_path / "q.npz", "--json"))
    assert [one["rule"] for one in told["left_out"]] == ["image", "knn", "ratio"]
