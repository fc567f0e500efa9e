"""Answers that back off to a node of the taxonomy: their probability against brute force, the
threshold that a calibration promises, and what becomes of it."""

from __future__ import annotations

import itertools
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from cli_runner import Cli
from scipy.special import softmax
from thresholds import set_thresholds
from worlds import World, make_space

import trustvlm
from trustvlm import LabelInput, Queries
from trustvlm.errors import InvalidInput
from trustvlm.scoring.tree import Tree, finest, node_mass, worst_wrong
from trustvlm.selective.ranks import find_by_ranks


def test_places_of_a_tree() -> None:
    """Every subtree is one range of places, for random trees."""
    rng = np.random.default_rng(0)
    for size in (1, 2, 7, 60):
        above = {f"n{i}": f"n{rng.integers(0, i)}" for i in range(1, size)} | {"a": "b"}
        tree = Tree.of(above)
        for one, other in itertools.product(tree.names, tree.names):
            walk, node = other, False
            while True:
                node = node or walk == one
                if walk not in above:
                    break
                walk = above[walk]
            first, last = (ends[tree.number[one]] for ends in (tree.first, tree.last))
            assert (first <= tree.first[tree.number[other]] < last) == node
    empty = Tree.of({})
    assert empty.paths(np.array([-1])).tolist() == [[-1]]


def test_mass_of_nodes_against_brute_force() -> None:
    """Where all labels outside of the candidates have one evidence, the sums are those over all
    labels."""
    rng = np.random.default_rng(1)
    n, labels, m = 40, 50, 9
    p = softmax(rng.normal(size=(n, labels)) * 2, axis=1)
    outside = rng.normal(size=(n, 1))
    evidence = np.repeat(outside, labels, axis=1)
    evidence[:, :m] = rng.normal(size=(n, m)) * 2
    q = p * np.exp(evidence)
    q /= q.sum(axis=1, keepdims=True)
    below = np.zeros((labels, 3), np.bool_)
    below[[0, 3], 0] = below[:30, 1] = below[:45, 2] = True
    below[40:, 1] = False
    text = p @ below
    among = np.repeat(below[np.newaxis, :m], n, axis=0)
    valid = np.ones((n, m), np.bool_)
    mass = node_mass(q[:, :m], p[:, :m], valid, among, text)
    np.testing.assert_allclose(mass, q @ below, rtol=1e-9)

    mass = np.array([[0.2, 0.5, np.nan], [0.7, 0.8, 0.9]])
    assert finest(mass, 0.5).tolist() == [1, 0]
    assert finest(mass, 0.85).tolist() == [-1, 2]
    right = np.array([[False, True, True], [False, False, True]])
    assert worst_wrong(mass, right).tolist() == [0.2, 0.8]
    assert worst_wrong(mass, ~right).tolist() == [0.5, 0.9]


def tree_of(names: list[str], rng: np.random.Generator) -> dict[str, str]:
    """Parents of most of the names, in a tree of three levels and a lonely node."""
    leaves = {name: f"node {rng.integers(0, 6)}" for name in names if rng.random() < 0.9}
    above = {"node 0": "top", "node 1": "top", "node 2": "middle", "middle": "top"}
    used = {*leaves.values()} | ({"middle"} if "node 2" in leaves.values() else set())
    return leaves | {node: parent for node, parent in above.items() if node in used}


def under(name: str, node: str, parents: dict[str, str]) -> bool:
    while name != node and name in parents:
        name = parents[name]
    return name == node


@pytest.mark.parametrize("count", [9, 150])
def test_nodes_against_brute_force_in_both_engines(tmp_path: Path, count: int) -> None:
    """The text softmax summed over every label: with further names, labels that are gone, and a
    part of the labels."""
    rng = np.random.default_rng(count)
    names = [f"label {i}" for i in range(count)]
    world, parents = World(names, seed=3), tree_of(names, rng)
    with trustvlm.open(tmp_path, create=True) as home:
        make_space(home, logit_scale=20.0)
        home.register("s", world.inputs(2))
        home.set_parents("s", parents)
        home.alias("s", "label 1", "label 2")
        home.remove_label("s", "label 4")
    queries = world.queries(1)
    gone = {"label 4"}
    for part in (None, [name for name in names if name not in gone][: count // 2]):
        kept = [
            i for i, name in enumerate(names) if name not in gone and (not part or name in part)
        ]
        text = world.text / np.linalg.norm(world.text, axis=1, keepdims=True)
        given = np.asarray(queries.classifier)
        given = given / np.linalg.norm(given, axis=1, keepdims=True)
        p = softmax(20.0 * given @ text[kept].T, axis=1)
        place = {name: "label 2" if name == "label 1" else name for name in names}
        labels = {place[names[i]] for i in kept}
        for dense in (100_000, 1):
            set_thresholds(tmp_path, dense_labels=dense)
            with trustvlm.open(tmp_path) as home:
                got = home.score("s", queries, rule="msp", back_off=0.6, labels=part)
            answered = 0
            for i, verdict in enumerate(got):
                assert verdict.path[-1] == verdict.label
                assert under(verdict.label, verdict.path[0], parents)
                sums = []
                for node in reversed(verdict.path):
                    inside = [under(place[names[j]], node, parents) for j in kept]
                    is_every_label = {
                        name for name in labels if under(name, node, parents)
                    } == labels
                    sums.append(np.nan if is_every_label and len(labels) > 1 else p[i] @ inside)
                enough = [k for k, value in enumerate(sums) if value >= 0.6]
                expected = verdict.path[::-1][enough[0]] if enough else None
                assert verdict.node == expected, (sums, verdict)
                if enough:
                    answered += verdict.node != verdict.label
                    assert verdict.node_probability == pytest.approx(sums[enough[0]], abs=2e-4)
                    assert verdict.node_probability >= 0.6
            assert answered or count == 9


def test_probability_of_two_siblings(tmp_path: Path) -> None:
    """Of a posterior over four labels, two under each node, that of a node is the sum of two."""
    world = World(["a", "b", "c", "d"], seed=5)
    with trustvlm.open(tmp_path, create=True) as home:
        make_space(home)
        home.register("s", world.inputs(3))
        home.set_parents("s", {"a": "ab", "b": "ab", "c": "cd", "d": "cd"})
        sharp = world.queries(40)
        mixed = [
            0.5 * (np.asarray(rows)[:40] + np.asarray(rows)[40:80])
            for rows in (sharp.classifier, sharp.verifier)
        ]
        queries = Queries(*mixed)
        for rule in ("posterior", "posterior_star", "lda", "lda_star"):
            verdicts = home.score("s", queries, rule=rule, back_off=0.97)
            seen = 0
            for one in verdicts:
                if one.node == one.label:
                    assert one.node_probability == one.trust >= 0.97
                elif one.node is not None and {one.label, one.rival} in ({"a", "b"}, {"c", "d"}):
                    assert one.trust < 0.97
                    assert one.node_probability == pytest.approx(one.trust + one.rival_trust)
                    seen += 1
            assert seen, rule
        labels = home.score("s", queries)
        assert set(labels.node) == {None}
        assert set(labels.path) == {()}
        assert np.isnan(labels.node_probability).all()
        with pytest.raises(InvalidInput, match="whose trust is a probability"):
            home.score("s", queries, rule="trustvlm", back_off=0.9)
        for wrong in (0, 1.5, "high", np.nan):
            with pytest.raises(InvalidInput, match="back_off: expected a number"):
                home.score("s", queries, back_off=wrong)  # type: ignore[arg-type]
        home.set_parents("s", dict.fromkeys("abcd"))
        with pytest.raises(InvalidInput, match="have no parents"):
            home.score("s", queries, back_off=True)


def confusable(seed: int = 0) -> tuple[World, dict[str, str]]:
    """Eight labels in four pairs; the two of a pair look nearly alike."""
    world = World([f"{pair}{side}" for pair in "abcd" for side in "12"], seed=seed)
    for first in range(0, 8, 2):
        world.text[first + 1] = world.text[first] + 0.3 * world.text[first + 1]
        world.images[first + 1] = world.images[first] + 0.45 * world.images[first + 1]
    return world, {name: name[0] for name in world.names}


@pytest.fixture
def service(verbs: Any) -> Any:
    return verbs


def test_calibrated_back_off(service: Any) -> None:
    """More is accepted than with labels alone, the errors are counted by node, and the verdicts,
    the feedback and the monitor follow."""
    world, parents = confusable()
    make_space(service)
    service.register(
        "s",
        [
            LabelInput(one.name, one.text_vector, image_vectors=one.image_vectors,
                       parent=parents[one.name])
            for one in world.inputs(4)
        ],
    )  # fmt: skip
    images, truth = world.queries(25), list(np.repeat(world.names, 25))
    plain = service.calibrate("s", images, truth, max_risk=0.1)
    made = service.calibrate("s", images, truth, max_risk=0.1, back_off=True)
    assert made.back_off and not plain.back_off  # noqa: PT018
    assert made.procedure == "ranks"
    assert made.coverage > plain.coverage + 0.2

    verdicts = service.score("s", images)
    accepted = verdicts.decision == "accept"
    assert accepted.sum() == made.accepted
    right = [
        node is not None and under(name, node, parents)
        for node, name in zip(verdicts.node.tolist(), truth, strict=True)
    ]
    assert int((accepted & ~np.array(right)).sum()) <= made.errors <= 0.1 * made.accepted
    assert {len(node) for node in verdicts.node[accepted]} == {1, 2}  # nodes and labels
    assert (verdicts.node_probability[accepted] >= made.threshold).all()
    assert all(node is None for node in verdicts.node[~accepted & ~verdicts.unknown])

    only = service.score("s", images, back_off=False)
    assert set(only.reason_code) == {"not_calibrated"}
    assert "for nodes from" in only.reason[0]
    assert set(only.node) == {None}
    given = service.score("s", images, back_off=0.5)
    assert set(given.decision) == {"review"}
    assert service.score("s", images, back_off=True).node.tolist() == verdicts.node.tolist()

    later, names = world.queries(10), list(np.repeat(world.names, 10))
    now = service.score("s", later)
    service.feedback("s", later, names, sampling="random")
    report = service.monitor("s")
    taken = now.decision == "accept"
    wrong = [
        not under(name, node, parents)
        for node, name in zip(now.node[taken].tolist(), np.array(names)[taken], strict=True)
    ]
    assert (report.items, report.errors) == (int(taken.sum()), sum(wrong))

    drawn = service.project("s")  # it judges the stored images, so it needs the tree as well
    assert len({point.label for point in drawn.points if point.error is False}) == len(parents)

    again = service.recalibrate("s")
    assert again.back_off
    service.set_parents("s", {"a1": "b"})
    stale = service.score("s", images)
    assert set(stale.decision) == {"review"}
    assert "the taxonomy changed" in stale.reason[0]


def test_refused_options(tmp_path: Path) -> None:
    world = World(["a", "b"], seed=1)
    with trustvlm.open(tmp_path, create=True) as home:
        make_space(home)
        home.register("s", world.inputs(2))
        images, truth = world.queries(20), list(np.repeat(world.names, 20))
        for options, words in (
            ({}, "have no parents"),
            ({"rule": "trustvlm"}, "whose trust is a probability"),
            ({"rule": "auto"}, "whose trust is a probability"),
            ({"procedure": "split"}, "proved by ranks"),
            ({"rule": "lda", "threshold": 0.9}, "leave out threshold"),
        ):
            with pytest.raises(InvalidInput, match=words):
                home.calibrate("s", images, truth, back_off=True, **options)  # type: ignore[arg-type]


def test_ranks_of_answers_that_become_coarser() -> None:
    """With answers that are wrong up to their own trust it is the promise on labels; the errors at
    the threshold are those that are counted one by one."""
    rng = np.random.default_rng(2)
    for _ in range(20):
        n = 300
        trust = np.round(rng.random(n), 2)
        right = rng.random(n) < 0.5 + 0.5 * trust
        keys = [i.to_bytes(4) for i in range(n)]
        same = find_by_ranks(trust, right, keys, max_risk=0.2)
        wrong = np.where(right, -np.inf, trust)
        labels, _ = find_by_ranks(trust, right, keys, max_risk=0.2, wrong_up_to=wrong)
        assert (labels.accepted, labels.errors) == (same[0].accepted, same[0].errors)
        sooner = np.where(right, -np.inf, trust * rng.random(n))
        choice, _ = find_by_ranks(trust, right, keys, max_risk=0.2, wrong_up_to=sooner)
        assert choice.threshold is not None
        assert choice.errors >= int((sooner >= choice.threshold).sum())
        assert choice.accepted == int((trust >= choice.threshold).sum())
        assert choice.accepted >= same[0].accepted


def test_commands(cli: Cli, tmp_path: Path) -> None:
    world, parents = confusable()
    with trustvlm.open(cli.home, create=True) as home:
        make_space(home)
        home.register("s", world.inputs(4))
        home.set_parents("s", parents)
    queries = world.queries(5)
    np.savez(tmp_path / "q.npz", classifier=queries.classifier, verifier=queries.verifier)
    rows = cli.rows("score", "s", "--vectors", tmp_path / "q.npz", "--back-off", "0.9")
    assert {row["path"][-1] for row in rows} == {row["label"] for row in rows}
    assert any(row["node"] in "abcd" for row in rows if row["node"])
    table = cli("score", "s", "--vectors", tmp_path / "q.npz", "--back-off", "auto")
    assert "answer" in table.splitlines()[1]
    plain = cli("score", "s", "--vectors", tmp_path / "q.npz")
    assert "answer" not in plain.splitlines()[1]
    wrong = cli("score", "s", "--vectors", tmp_path / "q.npz", "--back-off", "most", code=2)
    assert "expected a number from 1e-06 to 1, auto or off" in wrong
