"""A label with further names is called by its own one: in lists, searches, evidence and
verdicts."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from cli_runner import Cli

from trustvlm import LabelInput, Queries

pytestmark = pytest.mark.both_back_ends(slow=True)

TEXT = {
    "sofa": [1.0, 0.0, 0.0, 0.0],
    "couch": [0.95, 0.3, 0.0, 0.0],
    "settee": [0.95, 0.0, 0.3, 0.0],
    "chair": [0.0, 0.0, 0.0, 1.0],
}


@pytest.fixture
def service(verbs: Any) -> Any:
    """An open home, or a client of one: couch and settee are further names of sofa, each with two
    support images."""

    def filled(one: Any) -> Any:
        rng = np.random.default_rng(0)
        one.create_space(
            "s", classifier="precomputed:4", verifier="precomputed:6", logit_scale=10.0
        )
        for name, vector in TEXT.items():
            center = np.eye(6)[5 if name == "chair" else 0]
            images = center + 0.05 * rng.normal(size=(2, 6))
            one.register("s", [LabelInput(name, text_vector=vector, image_vectors=images)])
        one.alias("s", "couch", "sofa")
        one.alias("s", "settee", "sofa")
        return one

    return filled(verbs)


def test_one_name_everywhere(service: Any) -> None:
    rows = {row.name: row for row in service.list_labels("s")}
    assert {name: row.alias_of for name, row in rows.items()} == {
        "sofa": None,
        "couch": "sofa",
        "settee": "sofa",
        "chair": None,
    }
    assert rows["sofa"].support_count == 6

    for name in ("sofa", "couch"):  # a further name stands for its label
        supports = service.list_supports("s", name)
        assert [row.id for row in supports] == [1, 2, 3, 4, 5, 6]
        assert {row.label for row in supports} == {"sofa"}
        assert [row.registered_as for row in supports] == [
            None,
            None,
            "couch",
            "couch",
            "settee",
            "settee",
        ]

    query = Queries(np.array([TEXT["couch"]]), np.eye(6)[:1])
    near = service.search("s", Queries(verifier=np.eye(6)[:1]), kind="support", k=6)
    assert near.labels[0].tolist() == ["sofa"] * 6
    assert service.search("s", Queries(verifier=np.eye(6)[:1]), kind="prototype", k=3).labels[
        0
    ].tolist()[:2] == ["sofa", "chair"]
    by_text = service.search("s", Queries(classifier=np.array([TEXT["couch"]])), kind="text", k=4)
    assert by_text.labels[0].tolist() == [
        "sofa",
        "chair",
        None,
        None,
    ]  # once, by the nearest of its names
    assert by_text.similarity[0, 0] == pytest.approx(1.0)
    assert by_text.ids[0, 0] == rows["sofa"].id
    assert service.search(
        "s", Queries(classifier=np.array([TEXT["couch"]])), kind="text", k=1
    ).labels.tolist() == [["sofa"]]

    for rule in ("posterior", "trustvlm_star", "msp", "knn"):
        verdicts = service.score("s", query, rule=rule)
        assert (verdicts.label[0], verdicts.rival[0]) == ("sofa", "chair")
        assert verdicts.nearest_prototype[0] == "sofa"
        assert {name for name in verdicts.top_labels[0] if name} <= {"sofa", "chair"}
        assert {near.id for near in verdicts.evidence(0, 6).label} == {1, 2, 3, 4, 5, 6}
    assert service.score("s", query, labels=["couch"]).label[0] == "sofa"
    found = service.evaluate(
        "s",
        Queries(np.array([TEXT["couch"]] * 3), np.eye(6)[[0, 0, 0]] + 0.2),
        ["couch"] * 3,
        rules=["msp"],
    )
    assert [row.label for row in found.per_label if row.predicted] == ["sofa"]
    assert found.rules[0].accuracy.value == 1.0


@pytest.mark.parametrize("verbs", ["library"], indirect=True)
def test_one_name_on_the_command_line(service: Any, tmp_path: Path) -> None:
    cli = Cli(tmp_path / "home")
    assert [row["label"] for row in cli.rows("support", "list", "s", "settee")] == ["sofa"] * 6
    table = cli("support", "list", "s", "sofa")
    assert "registered as" in table
    np.save(tmp_path / "q.npy", np.eye(6)[:1])
    assert {
        row["label"] for row in cli.rows("search", "s", "--vector", tmp_path / "q.npy", "-k", 6)
    } == {"sofa"}
