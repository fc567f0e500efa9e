"""The taxonomy of a space: stored by name, a tree at all times, and kept by all that keeps a
space."""

from __future__ import annotations

import json
from datetime import timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from cli_runner import Cli

import trustvlm
from trustvlm import LabelInput
from trustvlm.errors import Conflict, InvalidInput, NotFound

LEAVES = {"taxi": "car", "van": "car", "oak": "plant"}


@pytest.fixture
def service(verbs: Any) -> Any:
    """An open home, or a client of one, with the labels of LEAVES and "rock", which has no
    parent."""
    return filled(verbs)


def filled(service: Any) -> Any:
    service.create_space("s", classifier="precomputed:4", verifier="precomputed:4")
    rows = dict(zip([*LEAVES, "rock"], np.eye(4), strict=True))
    service.register(
        "s",
        [
            LabelInput(name, text_vector=row, image_vectors=[row], parent=LEAVES.get(name))
            for name, row in rows.items()
        ],
    )
    service.set_parents("s", {"car": "thing", "plant": "thing"})
    return service


def edges(service: Any, space: str = "s") -> dict[str, str | None]:
    return {node.name: node.parent for node in service.taxonomy(space).nodes}


TREE = {"car": "thing", "oak": "plant", "plant": "thing", "taxi": "car", "thing": None,
        "van": "car"}  # fmt: skip


@pytest.mark.both_back_ends
def test_labels_and_nodes(service: Any) -> None:
    tree = service.taxonomy("s")
    assert edges(service) == TREE
    assert {node.name: (node.label, node.labels) for node in tree.nodes} == {
        "car": (False, 2), "oak": (True, 1), "plant": (False, 1), "taxi": (True, 1),
        "thing": (False, 3), "van": (True, 1),
    }  # fmt: skip
    assert tree.revision == service.get_space("s").revision
    parents = {row.name: row.parent for row in service.list_labels("s")}
    assert parents == LEAVES | {"rock": None}

    before = service.get_space("s").revision
    assert service.set_parents("s", {"taxi": "car"}) == before  # nothing new
    assert service.set_parents("s", {}) == before
    assert service.set_parents("s", {"taxi": None, "rock": "thing"}) == before + 1
    assert edges(service) == {k: v for k, v in TREE.items() if k != "taxi"} | {"rock": "thing"}


def test_registering_a_parent(service: Any) -> None:
    again = service.register("s", [LabelInput("taxi", parent="car")])
    assert again.revision == service.get_space("s").revision
    service.register("s", [LabelInput("rock", parent="mineral")])  # it had none
    assert edges(service)["rock"] == "mineral"
    with pytest.raises(Conflict, match=r"'taxi' has the parent 'car', not 'plant'.*label parent"):
        service.register("s", [LabelInput("taxi", parent="plant")])
    new = dict(text_vector=[1, 1, 0, 0])
    with pytest.raises(InvalidInput, match="would stand under itself"):
        service.register("s", [LabelInput("thing", **new, parent="car")])
    with pytest.raises(InvalidInput, match="would stand under itself"):
        service.register("s", [LabelInput("new", **new, parent="new")])
    two = [LabelInput("new", **new, parent="a"), LabelInput("new", parent="b")]
    with pytest.raises(Conflict, match="two parents in one call"):
        service.register("s", two)
    with pytest.raises(InvalidInput, match=r"parent: .*blanks"):
        service.register("s", [LabelInput("new", **new, parent=" a")])
    service.register("s", [LabelInput("car", **new)])  # a node that becomes a label, too
    assert {node.name: node.label for node in service.taxonomy("s").nodes}["car"]
    assert edges(service) == TREE | {"rock": "mineral", "mineral": None}


REFUSED: list[tuple[Any, type[Exception], str]] = [
    ({"thing": "car"}, InvalidInput, "would stand under itself"),
    ({"thing": "oak"}, InvalidInput, "would stand under itself"),
    ({"a": "b", "b": "a"}, InvalidInput, "would stand under itself"),
    ({"rock": "rock"}, InvalidInput, "would stand under itself"),
    ({"taxis": "car"}, NotFound, "'taxis' is neither a label .* did you mean 'taxi'"),
    ({"": "car"}, InvalidInput, "expected a name"),
    ({"taxi": ""}, InvalidInput, "expected a name"),
    ({"taxi": 7}, InvalidInput, "string|expected a text"),
    (["taxi"], InvalidInput, "expected a mapping"),
]


def test_refused(service: Any) -> None:
    before = service.get_space("s").revision
    for parents, error, words in REFUSED:
        both = {"rock": "mineral"} | parents if isinstance(parents, dict) else parents
        with pytest.raises(error, match=words):
            service.set_parents("s", both)
        assert edges(service) == TREE  # all or nothing
    assert service.get_space("s").revision == before
    with pytest.raises(NotFound):
        service.set_parents("none", {"taxi": "car"})
    chain = {"rock": "n0"} | {f"n{i}": f"n{i + 1}" for i in range(120)}
    with pytest.raises(InvalidInput, match="more than 100 nodes"):
        service.set_parents("s", chain)


def test_names_that_change(service: Any) -> None:
    """The tree follows a new name; a further name has no place; a label that comes back has its
    place again."""
    service.register("s", [LabelInput("car", text_vector=[1, 1, 0, 0])])
    service.update_label("s", "car", new_name="automobile")
    assert edges(service)["taxi"] == edges(service)["van"] == "automobile"
    assert edges(service)["automobile"] == "thing"
    assert "car" not in edges(service)
    with pytest.raises(Conflict, match="'plant' is a node of the tree"):
        service.update_label("s", "rock", new_name="plant")

    service.register("s", [LabelInput("cab", text_vector=[1, 0.1, 0, 0])])
    service.alias("s", "cab", "taxi")
    for wrong in ({"cab": "plant"}, {"rock": "cab"}):
        with pytest.raises(InvalidInput, match="'cab' is a further name of 'taxi'"):
            service.set_parents("s", wrong)

    service.remove_label("s", "oak")
    assert {node.name: node.labels for node in service.taxonomy("s").nodes}["plant"] == 0
    service.restore_label("s", "oak")
    assert edges(service)["oak"] == "plant"


@pytest.mark.both_back_ends
def test_kept_by_export_import_and_reembedding(tmp_path: Path) -> None:
    with trustvlm.open(tmp_path / "home", create=True) as home:
        filled(home)
        home.export_space("s", tmp_path / "files")
        home.import_space(tmp_path / "files", name="copy")
        assert edges(home, "copy") == TREE
        vectors = {row.name: row.id for row in home.list_labels("copy")}
        home.set_parents("copy", {"rock": "thing"})
        assert edges(home) == TREE  # a space of its own
        assert set(vectors) == {*LEAVES, "rock"}
        home.create_space("plain", classifier="precomputed:4", verifier="precomputed:4")
        home.export_space("plain", tmp_path / "plain")
        assert not (tmp_path / "plain" / "taxonomy.parquet").exists()

        home.remove_space("copy")
        home.purge(older_than=timedelta(0))
        assert home.verify().clean


def test_commands(cli: Cli, tmp_path: Path) -> None:
    cli("space", "create", "s", "--classifier", "precomputed:4", "--verifier", "precomputed:4")
    rows = [
        {"name": name, "text_vector": row.tolist(), "parent": LEAVES.get(name)}
        for name, row in zip([*LEAVES, "rock"], np.eye(4), strict=True)
    ]
    (tmp_path / "labels.ndjson").write_text("\n".join(map(json.dumps, rows)))
    cli("register", "s", "--vectors", str(tmp_path / "labels.ndjson"))
    (tmp_path / "tree.csv").write_text("child,parent\ncar,thing\nplant,thing\n")
    assert "read 2 parents" in cli("label", "parent", "s", "--file", str(tmp_path / "tree.csv"))
    lines = cli("label", "tree", "s").splitlines()
    assert lines[:3] == ["thing  (3 labels)", "  car  (2 labels)", "    taxi"]
    assert "rock stands under thing" in cli("label", "parent", "s", "rock", "thing")
    assert "under no node" in cli("label", "parent", "s", "rock", "--none")
    rows = cli.rows("label", "tree", "s")
    assert {row["name"]: row["parent"] for row in rows} == TREE
    for wrong in (["rock"], ["rock", "thing", "--none"], []):
        assert cli("label", "parent", "s", *wrong, code=2)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("child,parent\na,b\n", {"a": "b"}),
        ("a,b\nb,\n", {"a": "b", "b": None}),
        ("parent\tchild\nb\ta\n", {"a": "b"}),
        ("# a comment\nlabel;parent\na;b\n", {"a": "b"}),
        ('"a, x",b\n', {"a, x": "b"}),
    ],
)
def test_files_of_parents(tmp_path: Path, text: str, expected: dict[str, str | None]) -> None:
    (tmp_path / "tree.csv").write_text(text)
    assert trustvlm.read_parents(tmp_path / "tree.csv") == expected


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("a\n", "expected a table with the columns child and parent"),
        ("a,b,c\n", "expected a table with the columns child and parent"),
        ("child,parent\n", "got no rows"),
        ("a,b\na,c\n", "line 2: 'a' has two parents"),
        ("child,parent\n,b\n", "expected a child"),
    ],
)
def test_files_that_are_no_tree(tmp_path: Path, text: str, words: str) -> None:
    (tmp_path / "tree.csv").write_text(text)
    with pytest.raises(InvalidInput, match=words):
        trustvlm.read_parents(tmp_path / "tree.csv")
