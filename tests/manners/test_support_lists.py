"""Support images listed, counted and removed by label, by id and by filter, and vectors that come
back, in the library, the client and the command line."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from cli_runner import Cli

import trustvlm
from trustvlm import Conflict, InvalidInput, LabelInput, NotFound

pytestmark = pytest.mark.both_back_ends(slow=True)

LABELS, SHOTS = 6, 3
RNG = np.random.default_rng(0)
TEXT = RNG.normal(size=(LABELS, 4)).astype(np.float32)
IMAGE = RNG.normal(size=(LABELS, SHOTS, 6)).astype(np.float32)
OTHER = RNG.normal(size=(LABELS, SHOTS, 4)).astype(np.float32)


def filled(service: Any) -> Any:
    """Six labels with three images each, ids 1 … 18; "l1" is an alias of "l0"."""
    service.create_space("s", classifier="precomputed:4", verifier="precomputed:6")
    labels = [
        LabelInput(
            f"l{i}",
            text_vector=TEXT[i],
            image_vectors=IMAGE[i],
            classifier_image_vectors=OTHER[i] if i == 2 else None,
            attributes={"n": i},
            image_attributes=[{"season": "winter"}, {"n": 9}, None],
        )
        for i in range(LABELS)
    ]
    service.register("s", labels)
    service.alias("s", "l1", "l0")
    return service


@pytest.fixture
def service(verbs: Any) -> Any:
    return filled(verbs)


def ids(rows: Any) -> list[int]:
    return [row.id for row in rows]


def test_all_images_of_a_space_come_in_pages(service: Any) -> None:
    assert ids(service.list_supports("s")) == list(range(1, 19))
    page = service.list_supports("s", after=4, limit=3)
    assert ids(page) == [5, 6, 7]
    assert (page[0].label, page[0].registered_as, page[2].label) == ("l0", "l1", "l2")
    assert ids(service.list_supports("s", after=18)) == []
    assert ids(service.list_supports("s", "l1")) == [1, 2, 3, 4, 5, 6]
    assert ids(service.list_supports("s", "l0", after=2, limit=2)) == [3, 4]
    assert ids(service.list_supports("s", ids=[9, 2, 9])) == [9, 2]
    assert service.list_supports("s", ids=[]) == []


@pytest.mark.both_back_ends
def test_a_filter_lists_counts_and_removes_images(service: Any) -> None:
    both = {"n": {"gte": 3}, "season": "winter"}
    assert ids(service.list_supports("s", filter=both)) == [10, 13, 16]
    assert ids(service.list_supports("s", filter=both, after=10, limit=1)) == [13]
    assert ids(service.list_supports("s", "l4", filter=both)) == [13]
    assert service.count_supports("s", filter="n = 9") == LABELS  # its own, in place of the label's
    assert service.count_supports("s", filter={"n": 1}) == 2
    assert (service.count_supports("s"), service.count_supports("s", "l1")) == (18, 6)
    removed = service.remove_supports("s", filter="n = 9")
    assert removed.ids == (2, 5, 8, 11, 14, 17)
    assert removed.revision == service.get_space("s").revision
    assert service.count_supports("s", filter="n = 9") == 0
    assert service.remove_supports("s", filter="n = 9").ids == ()
    assert service.remove_supports("s", "l3", filter='season = "winter"').ids == (10,)
    assert service.remove_supports("s", "l5").ids == (16, 18)
    assert service.get_label("s", "l5").support_count == 0
    service.restore_support("s", removed.ids)
    assert service.count_supports("s") == 15
    assert ids(service.list_supports("s", filter={"n": 9})) == list(removed.ids)


def test_vectors_come_back_as_they_were_given(service: Any) -> None:
    rows = service.list_supports("s", "l2", vectors=True)
    assert np.array_equal([row.image_vector for row in rows], IMAGE[2])
    assert np.array_equal([row.classifier_image_vector for row in rows], OTHER[2])
    (row,) = service.list_supports("s", ids=[12], vectors=True)
    assert np.array_equal(row.image_vector, IMAGE[3, 2])
    assert row.classifier_image_vector is None
    assert service.list_supports("s", ids=[12])[0].image_vector is None
    label = service.get_label("s", "l2", vectors=True)
    mean = IMAGE[2].astype(np.float64).mean(axis=0)
    assert np.allclose(label.text_vector, TEXT[2] / np.linalg.norm(TEXT[2]), atol=1e-6)
    assert np.allclose(label.prototype, mean / np.linalg.norm(mean), atol=1e-6)
    assert list(service.list_labels("s", vectors=True))[2] == label
    assert list(service.list_labels("s", filter="n = 2", vectors=True)) == [label]
    service.remove_supports("s", "l2")
    assert service.get_label("s", "l2", vectors=True).prototype is None
    assert service.get_label("s", "l2").text_vector is None


def test_marks_are_listed(service: Any) -> None:
    service.keep_support("s", [3])
    assert [row.kept for row in service.list_supports("s", ids=[3, 4])] == [True, False]
    assert not service.list_supports("s", ids=[3])[0].proposed


def test_labels_are_removed_by_name(service: Any) -> None:
    with pytest.raises(Conflict, match="'l0' has the alias 'l1'"):
        service.remove_labels("s", ["l0"])
    with pytest.raises(NotFound, match="labels: no label 'l9'"):
        service.remove_labels("s", ["l3", "l9"])
    assert service.count_labels("s") == LABELS
    assert service.remove_labels("s", ["l0", "l1", "l3", "l3"]).removed == 3
    assert [row.name for row in service.list_labels("s")] == ["l2", "l4", "l5"]
    assert service.count_supports("s") == 9


REFUSED: list[tuple[str, dict[str, Any], str]] = [
    ("list_supports", {"ids": [1, 99]}, "no support image 99"),
    ("list_supports", {"ids": ["x"]}, "ids: expected a list of support image ids"),
    ("list_supports", {"ids": [1], "label": "l0"}, "ids: expected without label"),
    ("list_supports", {"label": "l9"}, "no label 'l9'"),
    ("list_supports", {"after": -1}, "after: expected a whole number from 0"),
    ("list_supports", {"limit": 0}, "limit: expected a whole number from 1"),
    ("list_supports", {"filter": "n ="}, "filter: "),
    ("list_supports", {"vectors": "no"}, "vectors: expected True or False"),
    ("count_supports", {"filter": 3}, "filter: expected a mapping"),
    ("remove_supports", {}, "remove_supports: expected a label or a filter"),
    ("remove_labels", {}, "remove_labels: expected labels or a filter, one of them"),
    ("remove_labels", {"labels": "l0"}, "labels: expected a list of label names"),
]


def test_what_is_wrong_is_said_in_one_sentence(service: Any) -> None:
    for verb, options, words in REFUSED:
        with pytest.raises((InvalidInput, NotFound)) as refused:
            getattr(service, verb)("s", **options)
        assert words in str(refused.value)
    assert service.count_supports("s") == 18


def test_the_command_line_has_them(tmp_path: Path) -> None:
    cli = Cli(tmp_path / "home")
    with trustvlm.open(cli.home, create=True) as service:
        filled(service)
        service.keep_support("s", [3])
    rows = cli.rows("support", "list", "s", "--where", 'n >= 3 and season = "winter"')
    assert [row["id"] for row in rows] == [10, 13, 16]
    assert "image_vector" not in rows[0]
    (row,) = cli.rows("support", "list", "s", "l2", "--where", "n = 9", "--vectors")
    assert np.allclose(row["image_vector"], IMAGE[2, 1])
    assert "kept" in cli("support", "list", "s", "l0")
    assert "marks" not in cli("support", "list", "s", "l5")
    assert cli("support", "count", "s") == "18\n"
    assert cli("support", "count", "s", "l0", "--where", "n = 9") == "2\n"
    done = cli.run("support", "remove", "s", "--label", "l5")
    assert "removed 3 support images" in done.stdout
    assert "support restore s 16 17 18" in done.stderr
    assert "removed 5 support images" in cli("support", "remove", "s", "--where", "n = 9")
    assert "one kind of them" in cli("support", "remove", "s", "1", "--label", "l0", code=2)
    assert "removed 2 labels" in cli("label", "remove", "s", "l3", "l4")
    assert "text_vector" in cli.rows("label", "list", "s", "--vectors")[0]
