"""Attributes: stored with labels and support images, returned, changed, kept and purged with
them; and what they may not hold."""

from __future__ import annotations

import json
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from cli_runner import Cli
from raw_sql import run_sql

import trustvlm
from trustvlm import InvalidInput, LabelInput, Queries

pytestmark = pytest.mark.both_back_ends(slow=True)

ROBIN: dict[str, Any] = {"region": ["EU", "AS"], "size": 3, "song": True, "taxon": {"order": "P"}}
SUMMER = {"season": "summer", "lux": 0.5}


def filled(service: Any) -> Any:
    service.create_space("s", classifier="precomputed:4", verifier="precomputed:6")
    text, images = np.eye(4), np.eye(6)
    service.register(
        "s",
        [
            LabelInput(
                "robin",
                text_vector=text[0],
                image_vectors=images[:2],
                attributes=ROBIN,
                image_attributes=[SUMMER, None],
            ),
            LabelInput("crow", text_vector=text[1], image_vectors=images[2:3]),
        ],
    )
    return service


@pytest.fixture
def service(verbs: Any) -> Any:
    """A home with two labels, or a client of one."""
    return filled(verbs)


def of_labels(service: Any) -> dict[str, Any]:
    return {row.name: row.attributes for row in service.list_labels("s")}


def test_attributes_are_returned_wherever_their_rows_are(service: Any) -> None:
    assert of_labels(service) == {"robin": ROBIN, "crow": {}}
    assert service.get_label("s", "robin").attributes == ROBIN
    first, second = service.list_supports("s", "robin")
    assert (first.attributes, second.attributes) == (SUMMER, {})
    queries = Queries(np.eye(4)[:1], np.eye(6)[:1])
    hits = service.search("s", queries, k=2)
    assert [hit.attributes for hit in hits[0]] == [SUMMER, {}]
    assert json.loads(hits.to_arrow().column("attributes")[0].as_py()) == SUMMER
    named = service.search("s", queries, kind="text", k=2)
    assert [hit.attributes for hit in named[0]] == [ROBIN, {}]
    evidence = service.score("s", queries).evidence(0)
    assert evidence.label[0].attributes == SUMMER


def test_attributes_are_changed_and_taken_away(service: Any) -> None:
    before = service.get_space("s").revision
    label = service.get_label("s", "robin")
    assert service.update_label("s", "robin", attributes={"region": "EU"}) == before + 1
    assert of_labels(service)["robin"] == {"region": "EU"}
    assert service.get_label("s", "robin").revision == label.revision  # its vectors are the same
    service.update_label("s", "crow", attributes={"size": 5}, new_name="raven")
    assert of_labels(service) == {"robin": {"region": "EU"}, "raven": {"size": 5}}
    service.update_label("s", "raven", attributes={})
    first, second = service.list_supports("s", "robin")
    service.update_support("s", second.id, attributes={"season": "winter"})
    service.update_support("s", first.id, attributes={})
    rows = service.list_supports("s", "robin")
    assert [row.attributes for row in rows] == [{}, {"season": "winter"}]
    assert of_labels(service)["raven"] == {}
    hits = service.search("s", Queries(verifier=np.eye(6)[1:2]), k=1)
    assert hits[0][0].attributes == {"season": "winter"}
    with pytest.raises(trustvlm.NotFound):
        service.update_support("s", 999, attributes={})


def test_registering_again_changes_no_attributes(service: Any) -> None:
    again = LabelInput("robin", image_vectors=np.eye(6)[3:4], image_attributes=SUMMER)
    service.register("s", [again, LabelInput("crow", attributes={})])
    assert of_labels(service)["robin"] == ROBIN
    assert service.list_supports("s", "robin")[-1].attributes == SUMMER
    service.register("s", [LabelInput("robin", attributes=ROBIN)])
    with pytest.raises(
        trustvlm.Conflict, match="replace=True of register, or update_label, changes them"
    ):
        service.register("s", [LabelInput("robin", attributes={"region": "EU"})])
    added = {"image_vectors": np.eye(6)[4:], "image_attributes": [{"n": 1}, {"n": 2}]}
    service.add_support("s", "crow", **added)
    rows = service.list_supports("s", "crow")
    assert [row.attributes for row in rows] == [{}, {"n": 1}, {"n": 2}]


DEEP: dict[str, Any] = {"a": {"b": {"c": {"d": {"e": 1}}}}}
REFUSED: list[tuple[object, str]] = [
    ([1], "expected a mapping"),
    ({"": 1}, "expected as key a text of 1 to 100 characters"),
    ({"k" * 101: 1}, "expected as key a text of 1 to 100 characters"),
    ({"a.b": 1}, "without '.'"),
    ({"not": 1}, "words of filters"),
    ({"a\0": 1}, "not seen"),
    ({" a": 1}, "blanks"),
    ({"a": None}, "leave the key out"),
    ({"a": float("nan")}, "finite"),
    ({"a": float("inf")}, "finite"),
    ({"a": 2**53 + 1}, "2\\*\\*53"),
    ({"a": 10**5000}, "2\\*\\*53"),
    ({"a": "x\0y"}, "NUL"),
    ({"a": "\ud800"}, "half of a character"),
    ({"a": "x" * 1001}, "at most 1,000 characters"),
    ({"a": [[1]]}, "in a list"),
    ({"a": [{"b": 1}]}, "in a list"),
    ({"a": list(range(257))}, "at most 256 values"),
    (DEEP, "at most 4 deep"),
    ({f"k{n}": n for n in range(65)}, "at most 64 keys"),
    ({f"k{n}": "x" * 900 for n in range(10)}, "at most 8,192 bytes"),
    ({"a": b"x"}, "expected text"),
]


def test_what_attributes_may_not_hold(tmp_path: Path) -> None:
    """One sentence, and nothing is written."""
    with trustvlm.open(tmp_path / "home", create=True) as service:
        filled(service)
        before = service.get_space("s").revision
        for number, (given, message) in enumerate(REFUSED):
            for call in refusals(service, given)[number % 2 :: 2]:
                with pytest.raises(trustvlm.InvalidInput, match=message) as caught:
                    call()
                assert "\n" not in str(caught.value)
                assert len(str(caught.value)) < 300
        assert service.get_space("s").revision == before


def refusals(service: Any, given: Any) -> list[Callable[[], object]]:
    vector = {"text_vector": np.eye(4)[2], "image_vectors": np.eye(6)[5:]}
    of_label = LabelInput("new", **vector, attributes=given)
    of_image = LabelInput("new", **vector, image_attributes=[given])
    return [
        lambda: service.register("s", [of_label]),
        lambda: service.register("s", [of_image]),
        lambda: service.update_label("s", "robin", attributes=given),
        lambda: service.update_support("s", 1, attributes=given),
    ]


def test_numbers_of_numpy_and_equal_values(tmp_path: Path) -> None:
    with trustvlm.open(tmp_path / "home", create=True) as service:
        filled(service)
        given = {"n": np.int64(3), "x": np.float32(0.5), "b": np.bool_(False), "t": ("a", 1)}
        service.update_label("s", "crow", attributes=given)
        stored = service.get_label("s", "crow").attributes
        assert stored == {"n": 3, "x": 0.5, "b": False, "t": ["a", 1]}
        assert stored["b"] is False
        bad = LabelInput("crow", image_vectors=np.eye(6)[5:], image_attributes=[{}, {}])
        with pytest.raises(trustvlm.InvalidInput, match="one for each of 1 images"):
            service.register("s", [bad])


@pytest.mark.both_back_ends
def test_kept_by_export_import_backup_and_purged_with_their_row(tmp_path: Path) -> None:
    home = tmp_path / "home"
    with trustvlm.open(home, create=True) as service:
        filled(service)
        service.export_space("s", tmp_path / "files")
        service.import_space(tmp_path / "files", name="again")
        rows = {row.name: row.attributes for row in service.list_labels("again")}
        assert rows == {"robin": ROBIN, "crow": {}}
        assert service.list_supports("again", "robin")[0].attributes == SUMMER
        assert service.verify().clean
        service.remove_label("s", "robin")
        service.restore_label("s", "robin")
        assert of_labels(service) == {"robin": ROBIN, "crow": {}}
        service.remove_label("s", "robin", purge=True)
        assert service.verify().clean
        service.remove_space("again")
        service.purge(older_than=timedelta(0))
        with service._home.catalog.read() as connection:
            for table in ("label_attributes", "support_attributes"):
                assert connection.exec_driver_sql(f"SELECT * FROM {table}").all() == []


def test_an_export_without_attributes_has_the_columns_of_before(tmp_path: Path) -> None:
    import pyarrow.parquet as pq

    with trustvlm.open(tmp_path / "home", create=True) as service:
        filled(service)
        service.create_space("plain", classifier="precomputed:4")
        service.register("plain", [LabelInput("sea", text_vector=np.eye(4)[0])])
        for name in ("s", "plain"):
            service.export_space(name, tmp_path / name)
    columns = {
        name: pq.read_schema(tmp_path / name / "labels.parquet").names for name in ("s", "plain")
    }
    assert columns["s"] == [*columns["plain"], "attributes"]


def test_kept_by_new_encoders(tmp_path: Path) -> None:
    with trustvlm.open(tmp_path / "home", create=True) as service:
        filled(service)
        names = ["robin", "crow"]
        rows = [row for name in names for row in service.list_supports("s", name)]
        texts = dict(zip(names, np.eye(5), strict=False))
        images = {row.id: vector for row, vector in zip(rows, np.eye(7), strict=False)}
        service.reembed_space(
            "s",
            classifier="precomputed:5",
            verifier="precomputed:7",
            text_vectors=texts,
            image_vectors=images,
        )
        assert of_labels(service) == {"robin": ROBIN, "crow": {}}
        assert service.list_supports("s", "robin")[0].attributes == SUMMER
        assert service.verify().clean


@pytest.mark.only_sqlite("damage is written into the file")
def test_damaged_attributes_are_reported_and_repaired(tmp_path: Path) -> None:
    home = tmp_path / "home"
    with trustvlm.open(home, create=True) as service:
        filled(service)
    run_sql(home, "UPDATE label_attributes SET content = '{\"a\": NaN}'")
    with trustvlm.open(home) as service:
        (damage,) = service.verify().damage
        assert (damage.kind, damage.remedy) == ("label data", "quarantine")
        assert service.verify(repair=True).clean
        assert service.get_label("s", "robin").attributes == {}


def test_the_command_line(tmp_path: Path) -> None:
    home = tmp_path / "home"
    with trustvlm.open(home, create=True) as service:
        filled(service)
    cli = Cli(home)
    cli("label", "set", "s", "crow", "region=EU", "size=4", 'tags=["a", "b"]', "code=007")
    rows = [json.loads(line) for line in cli("label", "list", "s", "--format=jsonl").splitlines()]
    expected = {"region": "EU", "size": 4, "tags": ["a", "b"], "code": "007"}
    assert {row["name"]: row["attributes"] for row in rows} == {"robin": ROBIN, "crow": expected}
    cli("label", "set", "s", "crow", "size=5", "--unset", "code", "--unset", "tags")
    assert "region=EU, size=5" in cli("label", "list", "s")
    cli("label", "update", "s", "crow", "--attributes", '{"x": 1}')
    cli("support", "update", "s", 3, "--attributes", '{"season": "winter"}')
    assert "season=winter" in cli("support", "list", "s", "crow")
    for wrong in ('{"x": 1, "x": 2}', "{", "[1]", '{"x": NaN}', '{"x": null}'):
        assert "Error: " in cli("label", "update", "s", "crow", "--attributes", wrong, code=2)
    cli("label", "set", "s", "crow", code=2)
    cli("label", "set", "s", "nothing", "a=1", code=3)


def test_single_keys_change_and_the_others_stay(service: Any) -> None:
    (image, _) = (row.id for row in service.list_supports("s", "robin"))
    service.update_label("s", "robin", attributes={"size": 4, "song": None}, merge=True)
    assert of_labels(service)["robin"] == {key: ROBIN[key] for key in ("region", "taxon")} | {
        "size": 4
    }
    service.update_support("s", image, attributes={"lux": None, "hour": 7}, merge=True)
    assert service.list_supports("s", "robin")[0].attributes == {"season": "summer", "hour": 7}
    service.update_label("s", "crow", new_name="raven", attributes={"size": 9}, merge=True)
    assert of_labels(service)["raven"] == {"size": 9}
    for options, words in (
        ({"attributes": {"size": None}}, "leave the key out"),
        ({"attributes": {"a.b": 1}, "merge": True}, "expected as key one without"),
        ({"attributes": {f"k{i}": i for i in range(63)}, "merge": True}, "at most 64 keys"),
        ({"new_name": "x", "merge": True}, "merge: it says how attributes change"),
    ):
        with pytest.raises(InvalidInput, match=words):
            service.update_label("s", "robin", **options)


@pytest.mark.both_back_ends
def test_two_at_once_on_one_label_lose_nothing(service: Any) -> None:
    """Each change reads and writes in one transaction."""
    with ThreadPoolExecutor(4) as pool:
        list(
            pool.map(
                lambda n: service.update_label("s", "crow", attributes={f"k{n}": n}, merge=True),
                range(12),
            )
        )
    assert of_labels(service)["crow"] == {f"k{n}": n for n in range(12)}
