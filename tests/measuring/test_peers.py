"""Other systems on the same embeddings: against direct formulas, and through `evaluate`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from cli_runner import Cli, save_labels, save_queries
from served_client import application, client_of
from worlds import World, make_space

import trustvlm
from trustvlm import InvalidInput, Queries
from trustvlm.scoring.peers import PEERS, Material, _left_out, run
from trustvlm.scoring.prototypes import mean_prototype
from trustvlm.selective.metrics import aurc, auroc

LABELS, DIM = 6, 8
NAMES = [f"label {i}" for i in range(LABELS)]


def unit(rows: np.ndarray) -> np.ndarray:
    return rows / np.linalg.norm(rows, axis=-1, keepdims=True)


def material(seed: int = 0, shots: int = 4, queries: int = 40) -> tuple[Material, np.ndarray]:
    """Queries whose text is often wrong and whose images are telling; and their true labels."""
    rng = np.random.default_rng(seed)
    centres, text = unit(rng.normal(size=(LABELS, DIM))), unit(rng.normal(size=(LABELS, DIM)))
    truth, owner = rng.integers(LABELS, size=queries), np.repeat(np.arange(LABELS), shots)

    def images(labels: np.ndarray) -> np.ndarray:
        return unit(centres[labels] + 0.15 * rng.normal(size=(len(labels), DIM)))

    def seen(labels: np.ndarray) -> np.ndarray:
        return unit(text[labels] + 0.5 * rng.normal(size=(len(labels), DIM)))

    given = Material(text, 10.0, seen(truth), images(truth), images(owner), seen(owner), owner)
    return given, truth


@pytest.mark.parametrize(
    "seed", [0, *(pytest.param(seed, marks=pytest.mark.slow) for seed in (1, 2))]
)
def test_formulas(seed: int) -> None:
    given, _ = material(seed)
    trust = run(given)
    assert set(trust) == set(PEERS)
    for i in range(len(given.classifier)):
        logits = 10.0 * given.text @ given.classifier[i]
        label = int(logits.argmax())
        p = float(np.exp(logits[label]) / np.exp(logits).sum())
        distance = np.linalg.norm(given.supports - given.verifier[i], axis=1)
        own, other = distance[given.owner == label].min(), distance[given.owner != label].min()
        assert trust["trust-score"][i] == pytest.approx(other / own)
        nearest = np.argsort(distance)[:10]
        votes = float(np.mean(given.owner[nearest] == label))
        assert trust["knn-votes"][i] == pytest.approx(votes + p)
        cosine = given.supports @ given.verifier[i]
        cache = [np.exp(-5.5 * (1 - cosine[given.owner == j])).sum() for j in range(LABELS)]
        both = np.exp(logits + cache)
        assert trust["tip-adapter"][i] == pytest.approx(both[label] / both.sum())
        assert given.support_classifier is not None
        mean = unit(given.support_classifier[nearest].mean(axis=0))
        mixed = np.exp(10.0 * given.text @ unit(given.classifier[i] + mean))
        assert trust["retrieval"][i] == pytest.approx(mixed[label] / mixed.sum())


def test_prototypes_are_made_without_the_support_image_itself() -> None:
    given, _ = material(shots=3)
    left_out = _left_out(given)
    for i, label in enumerate(given.owner.tolist()):
        others = [j for j in np.flatnonzero(given.owner == label) if j != i]
        expected = float(mean_prototype(given.supports[others]) @ given.supports[i])
        assert left_out[i, label] == pytest.approx(expected, abs=1e-6)


def test_telling_images_help_every_system_without_a_trained_head() -> None:
    given, truth = material(5, shots=8, queries=400)
    right, trust = given.predicted == truth, run(given)
    text = auroc(given.probability, right)
    for name in ("trust-score", "knn-votes", "gaussians", "tip-adapter", "stacker"):
        assert auroc(trust[name], right) > text + 0.02, name
    again = run(given)
    for name, values in trust.items():
        assert np.isfinite(values).all(), name
        np.testing.assert_array_equal(values, again[name], err_msg=name)


def test_one_image_a_label_trains_nothing() -> None:
    given, _ = material(shots=1)
    trained = {name for name, peer in PEERS.items() if peer.shots > 1}
    assert trained == {"stacker", "vilu-head"}
    assert set(run(given)) == set(PEERS) - trained


def test_evaluate_compares_them(service: trustvlm.TrustService) -> None:
    world = World(NAMES)
    make_space(service)
    service.register("s", world.inputs(3))
    service.alias("s", NAMES[5], of=NAMES[4])
    queries, truth = world.queries(4), [name for name in NAMES for _ in range(4)]
    assert service.evaluate("s", queries, truth, draws=0).peers == ()
    evaluation = service.evaluate("s", queries, truth, draws=0, peers=True)
    given = [one.system for one in evaluation.peers]
    assert set(given) == {"trust-score", "knn-votes", "gaussians", "tip-adapter"}
    values = [one.aurc.value for one in evaluation.peers]
    assert values == sorted(values)
    for one in evaluation.peers:
        assert one.source == PEERS[one.system].source
        assert one.aurc.low <= one.aurc.value <= one.aurc.high or one.aurc.reason


def test_the_order_is_that_of_the_metric(service: trustvlm.TrustService) -> None:
    """The AURC of `trust-score` is what its formula gives for the registered images."""
    world = World(NAMES, seed=3)
    make_space(service)
    inputs = world.inputs(2)
    service.register("s", inputs)
    queries, truth = world.queries(5), np.repeat(np.arange(LABELS), 5)
    (found,) = [
        one.aurc.value
        for one in service.evaluate(
            "s", queries, [NAMES[i] for i in truth], draws=0, peers=True
        ).peers
        if one.system == "trust-score"
    ]
    images = unit(np.concatenate([np.asarray(label.image_vectors) for label in inputs]))
    owner = np.repeat(np.arange(LABELS), 2)
    label = (unit(np.asarray(queries.classifier)) @ unit(world.text).T).argmax(axis=1)
    distance = np.sqrt(2 - 2 * unit(np.asarray(queries.verifier)) @ images.T)
    same = owner[None, :] == label[:, None]
    ratio = np.where(same, 9, distance).min(axis=1) / np.where(same, distance, 9).min(axis=1)
    assert found == pytest.approx(aurc(ratio, label == truth), abs=1e-6)


def test_what_cannot_be_compared_is_refused(service: trustvlm.TrustService) -> None:
    world = World(NAMES)
    make_space(service)
    service.register("s", world.inputs(0))
    queries, truth = world.queries(2), [name for name in NAMES for _ in range(2)]
    with pytest.raises(InvalidInput, match="peers: expected a space of 1 to 20,000 support images"):
        service.evaluate("s", queries, truth, peers=True)
    with pytest.raises(InvalidInput, match="peers: expected verifier embeddings"):
        service.evaluate("s", Queries(queries.classifier), truth, peers=True)
    wrong: Any = "yes"
    with pytest.raises(InvalidInput, match="peers: expected True or False"):
        service.evaluate("s", queries, truth, peers=wrong)


def test_over_http_and_on_the_command_line(tmp_path: Path) -> None:
    world = World(NAMES)
    queries, truth = world.queries(3), [name for name in NAMES for _ in range(3)]
    with application(tmp_path / "home") as app, client_of(app) as client:
        service = app.state.serving.service
        make_space(service)
        service.register("s", world.inputs(2))
        here = service.evaluate("s", queries, truth, draws=0, peers=True)
        assert client.evaluate("s", queries, truth, draws=0, peers=True).peers == here.peers
    cli, truth = Cli(tmp_path / "other"), np.array(["airport", "airport", "sea [red]"])
    cli("space", "create", "s", "--classifier", "precomputed:4", "--verifier", "precomputed:6")
    cli("register", "s", "--vectors", save_labels(tmp_path / "labels.npz"))
    vectors = save_queries(tmp_path / "queries.npz", truth=truth)
    shown = cli("evaluate", "s", "--vectors", vectors, "--draws", 0, "--peers")
    assert "tip-adapter" in shown
    assert "tip-adapter" not in cli("evaluate", "s", "--vectors", vectors, "--draws", 0)
