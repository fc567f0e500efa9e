"""Filtered scoring, searching, listing, counting and removing, against the same done by hand."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from cli_runner import Cli
from sqlalchemy import event

import trustvlm
from trustvlm import Filter, LabelInput, Queries

pytestmark = pytest.mark.both_back_ends(slow=True)

REGIONS, LABELS, SHOTS = ("EU", "US", "AS"), 30, 3
EU = {"region": "EU", "size": {"gte": 3}}


def label(number: int) -> LabelInput:
    rng = np.random.default_rng(number)
    described = {"region": REGIONS[number % 3], "size": number % 7} if number % 10 else None
    seasons = [{"season": "winter"}, None, {"region": "sea"}]
    return LabelInput(
        f"l{number:02d}",
        text_vector=rng.normal(size=8),
        image_vectors=rng.normal(size=(SHOTS, 12)),
        attributes=described,
        image_attributes=seasons if number % 2 else None,
    )


def filled(service: Any) -> Any:
    service.create_space("s", classifier="precomputed:8", verifier="precomputed:12")
    service.register("s", [label(number) for number in range(LABELS)])
    return service


@pytest.fixture
def service(verbs: Any) -> Any:
    """A home with 30 labels, or a client of one."""
    return filled(verbs)


def queries(n: int = 5, seed: int = 1) -> Queries:
    rng = np.random.default_rng(seed)
    return Queries(rng.normal(size=(n, 8)), rng.normal(size=(n, 12)))


def names_in(service: Any, fits: Any) -> list[str]:
    return [row.name for row in service.list_labels("s") if fits(row.attributes)]


def in_eu(attributes: dict[str, Any]) -> bool:
    return attributes.get("region") == "EU" and attributes.get("size", -1) >= 3


def require_equal(service: Any, chosen: Any, fits: Any) -> None:
    """Verdicts among the labels of a filter are those among their names."""
    got = service.score("s", queries(), labels=chosen)
    expected = service.score("s", queries(), labels=names_in(service, fits))
    assert got.label.tolist() == expected.label.tolist()
    for name in ("trust", "text_confidence", "image_similarity"):
        np.testing.assert_array_equal(getattr(got, name), getattr(expected, name))


@pytest.mark.both_back_ends
def test_scoring_among_the_labels_of_a_filter(service: Any) -> None:
    require_equal(service, EU, in_eu)
    require_equal(service, Filter('region = "EU" and size >= 3'), in_eu)
    require_equal(service, Filter("region not exists"), lambda a: "region" not in a)
    with pytest.raises(trustvlm.InvalidInput, match="no label of space 's' fits"):
        service.score("s", queries(), labels={"region": "nowhere"})
    with pytest.raises(trustvlm.InvalidInput, match="; did you mean 'region'"):
        service.score("s", queries(), labels=Filter('regoin = "EU"'))
    with pytest.raises(trustvlm.InvalidInput, match="expected one of eq, in"):
        service.score("s", queries(), labels={"size": {"over": 3}})


def test_masks_follow_every_change(service: Any) -> None:
    require_equal(service, EU, in_eu)
    service.update_label("s", "l00", attributes={"region": "EU", "size": 9})
    require_equal(service, EU, in_eu)
    service.update_label("s", "l00", attributes={"region": "US"})
    service.remove_label("s", "l03")
    require_equal(service, EU, in_eu)
    service.register("s", [label(33), LabelInput("new", text_vector=np.ones(8), attributes=None)])
    require_equal(service, EU, in_eu)
    require_equal(service, {"not": EU}, lambda a: not in_eu(a))
    service.restore_label("s", "l03")
    service.update_label("s", "l06", attributes={})
    require_equal(service, EU, in_eu)
    service.remove_label("s", "l12", purge=True)
    service.update_label("s", "l09", text_vector=np.ones(8))
    require_equal(service, EU, in_eu)
    service.alias("s", "l01", "l09")
    got = service.score("s", queries(), labels=EU)
    expected = service.score("s", queries(), labels=names_in(service, in_eu))
    assert got.label.tolist() == expected.label.tolist()


def supports(service: Any) -> dict[int, tuple[dict[str, Any], str, int]]:
    """id → (attributes in force, label, number) of every support image."""
    rows = {}
    for of in service.list_labels("s"):
        for row in service.list_supports("s", of.name):
            rows[row.id] = ({**of.attributes, **row.attributes}, of.name, row.id)
    return rows


def exact(
    rows: dict[int, tuple[dict[str, Any], str, int]], fits: Any, given: Any, k: int
) -> list[list[int]]:
    """Ids of the nearest support images by hand."""
    vectors = {}
    for of in {name for _, name, _ in rows.values()}:
        ids = sorted(key for key, (_, name, _) in rows.items() if name == of)
        images = np.asarray(label(int(of[1:])).image_vectors)
        vectors |= dict(zip(ids, images / np.linalg.norm(images, axis=1)[:, None], strict=True))
    ids = [key for key, (attributes, _, _) in rows.items() if fits(attributes)]
    nearest = []
    for query in given:
        ranked = sorted(ids, key=lambda key: (-float(vectors[key] @ query), key))[:k]
        nearest.append([*ranked, *[-1] * (k - len(ranked))])
    return nearest


FILTERS: list[tuple[dict[str, Any], Any]] = [
    ({"region": "EU"}, lambda a: a.get("region") == "EU"),
    ({"region": "sea"}, lambda a: a.get("region") == "sea"),
    ({"season": "winter", "size": {"lt": 2}}, lambda a: "season" in a and a.get("size", 9) < 2),
    ({"season": {"exists": False}}, lambda a: "season" not in a),
    ({"region": "moon"}, lambda a: False),
]


def test_search_returns_exactly_k_where_k_exist(service: Any) -> None:
    given, rows = queries(), supports(service)
    for chosen, fits in FILTERS:
        for k in (1, 4, 200):
            hits = service.search("s", Queries(verifier=given.verifier), k=k, filter=chosen)
            assert hits.ids.tolist() == exact(rows, fits, np.asarray(given.verifier), k), chosen
        if "season" not in chosen:
            names = names_in(service, fits)
            for kind in ("prototype", "text"):
                hits = service.search("s", given, kind=kind, k=40, filter=chosen)
                assert all({one.label for one in of} == set(names) for of in hits), chosen


def test_search_follows_changes(service: Any) -> None:
    chosen, given = {"region": "EU"}, queries(1)
    service.search("s", Queries(verifier=given.verifier), k=3, filter=chosen)
    service.update_label("s", "l01", attributes={"region": "EU"})
    row = service.list_supports("s", "l02")[0]
    service.update_support("s", row.id, attributes={"region": "EU"})
    service.remove_support("s", [service.list_supports("s", "l03")[0].id])
    hits = service.search("s", Queries(verifier=given.verifier), k=200, filter=chosen)
    rows = supports(service)
    expected = {key for key, (attributes, _, _) in rows.items() if attributes.get("region") == "EU"}
    assert set(hits.ids[hits.ids >= 0].tolist()) == expected
    assert row.id in expected


@pytest.mark.both_back_ends
def test_listing_counting_and_removing(service: Any) -> None:
    text = 'region = "EU" and size >= 3'
    expected = names_in(service, in_eu)
    assert [row.name for row in service.list_labels("s", filter=EU)] == expected
    assert [row.name for row in service.list_labels("s", filter=text)] == expected
    assert service.count_labels("s", filter=Filter(EU)) == len(expected)
    assert service.count_labels("s") == LABELS
    service.alias("s", "l01", expected[0])
    with pytest.raises(trustvlm.Conflict, match="has the alias 'l01'"):
        service.remove_labels("s", filter=EU)
    service.update_label("s", "l01", attributes={"region": "EU", "size": 5})
    before = service.get_space("s").revision
    done = service.remove_labels("s", filter=EU)
    assert (done.removed, done.revision) == (len(expected) + 1, before + 2)  # the alias first
    assert service.count_labels("s", filter=EU) == 0
    assert service.count_labels("s") == LABELS - len(expected) - 1
    assert service.remove_labels("s", filter=EU).removed == 0
    service.restore_label("s", expected[0])
    assert [row.name for row in service.list_labels("s", filter=EU)] == [expected[0]]
    for wrong in ({}, "region =", {"a": None}):
        with pytest.raises(trustvlm.InvalidInput):
            service.remove_labels("s", filter=wrong)


def test_removing_many_labels_asks_the_catalog_once(tmp_path: Path) -> None:
    with trustvlm.open(tmp_path / "home", create=True) as service:
        filled(service)
        names = sorted(row.name for row in service.list_labels("s"))
        sent: list[str] = []

        def note(_: Any, __: Any, statement: str, *___: Any) -> None:
            sent.append(statement)

        event.listen(service._home.catalog._backend.engine, "before_cursor_execute", note)
        assert service.remove_labels("s", names[:-1]).removed == LABELS - 1
        removals = [one for one in sent if "removed_revision=" in one]
        transactions = -(-(LABELS - 1) // 200)
        assert len(removals) == 2 * transactions  # of labels and of support images
        assert [row.name for row in service.list_labels("s")] == names[-1:]


def test_the_command_line(tmp_path: Path) -> None:
    home = tmp_path / "home"
    with trustvlm.open(home, create=True) as service:
        filled(service)
        expected = names_in(service, in_eu)
    given = queries(2)
    vectors, one = tmp_path / "q.npz", tmp_path / "q.npy"
    np.savez(vectors, classifier=given.classifier, verifier=given.verifier)
    np.save(one, np.asarray(given.verifier)[0])
    cli, where = Cli(home), 'region = "EU" and size >= 3'
    listed = cli("label", "list", "s", "--where", where, "--format", "jsonl").splitlines()
    assert [json.loads(line)["name"] for line in listed] == expected
    assert cli("label", "count", "s", "--where", where) == f"{len(expected)}\n"
    nothing = cli.run("label", "list", "s", "--where", "moon = 1")
    assert (nothing.stdout, nothing.stderr) == ("", "no label of space 's' fits --where\n")
    rows = cli("score", "s", "--vectors", vectors, "--where", where, "--format", "jsonl")
    assert {json.loads(row)["label"] for row in rows.splitlines()} <= set(expected)
    hits = cli("search", "s", "--vector", one, "-k", 99, "--where", where, "--format", "jsonl")
    assert {json.loads(row)["label"] for row in hits.splitlines()} <= set(expected)
    assert "--where: expected" in cli("score", "s", "--vectors", vectors, "--where", "a", code=2)
    cli("label", "remove", "s", code=2)
    assert f"removed {len(expected)} labels" in cli("label", "remove", "s", "--where", where)
