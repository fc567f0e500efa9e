"""Images that the space knows already are said, and a sync makes the space equal to what is
given."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from checkpoints import make_clip
from cli_runner import Cli
from PIL import Image
from served_client import application, client_of

import trustvlm
from trustvlm import LabelInput

rng = np.random.default_rng(0)
VECTORS = {name: rng.normal(size=(3, 6)) for name in ("a", "b", "c")}
TEXT = dict(zip(VECTORS, np.eye(3, 4), strict=True)) | {"d": np.ones(4), "text": np.full(4, 2.0)}


def label(name: str, vectors: Any) -> LabelInput:
    return LabelInput(name, text_vector=TEXT[name], image_vectors=vectors)


@pytest.fixture
def service(verbs: Any) -> Any:
    """An open home, or a client of one, with the space "s": a, b, c with three support images each,
    and "text" with none."""

    def filled(one: Any) -> Any:
        one.create_space("s", classifier="precomputed:4", verifier="precomputed:6")
        one.register(
            "s",
            [
                *(label(name, vectors) for name, vectors in VECTORS.items()),
                LabelInput("text", TEXT["text"]),
            ],
        )
        return one

    return filled(verbs)


def counts(service: Any) -> dict[str, int]:
    return {row.name: row.support_count for row in service.list_labels("s")}


def test_an_image_of_another_label_is_said(service: Any) -> None:
    result = service.register("s", [label("b", VECTORS["a"][:1])])
    (image,) = result.elsewhere
    assert (image.label, image.other, image.id) == ("b", "a", 1)
    assert result.added_supports == 1  # it is of both, and that is said
    again = service.register("s", [label("b", VECTORS["a"][:1])])
    assert (again.added_supports, again.elsewhere) == (0, result.elsewhere)
    assert service.register("s", [label("a", VECTORS["a"])]).elsewhere == ()  # it was first


def test_what_was_taken_out_stays_out_unless_it_is_asked_for(service: Any) -> None:
    service.remove_support("s", [1])
    result = service.register("s", [label("a", VECTORS["a"])])
    assert (result.added_supports, result.skipped_duplicates) == (0, 2)
    assert [(image.label, image.id) for image in result.taken_out] == [("a", 1)]
    assert counts(service)["a"] == 2
    service.restore_support("s", [1])  # nothing stands in its way
    service.remove_support("s", [1])
    result = service.register("s", [label("a", VECTORS["a"])], bring_back=True)
    assert (result.added_supports, counts(service)["a"]) == (1, 3)
    service.remove_support("s", [2])
    assert (
        service.add_support("s", "a", image_vectors=VECTORS["a"]).added_supports == 1
    )  # asked for by name


def test_a_removed_label_comes_back_whole(service: Any) -> None:
    service.remove_label("s", "a")
    result = service.register("s", [label("a", VECTORS["a"])])
    assert (result.added_labels, result.added_supports, result.taken_out) == (1, 3, ())


def edited() -> list[LabelInput]:
    """One image of a is b's now, one of a is gone, c is called d, and b has a new one."""
    new = np.random.default_rng(1).normal(size=(1, 6))
    return [
        label("a", VECTORS["a"][2:]),
        label("b", np.concatenate([VECTORS["b"], VECTORS["a"][:1], new])),
        label("d", VECTORS["c"]),
    ]


def test_a_dry_run_says_what_a_sync_then_does(service: Any) -> None:
    before, revision = counts(service), service.get_space("s").revision
    plan = service.register("s", edited(), sync=True, dry_run=True)
    assert plan.dry_run
    assert plan.to_add == (("b", 2), ("d", 3))
    assert (plan.added_labels, plan.added_supports, plan.skipped_duplicates) == (1, 5, 4)
    assert sorted((image.other, image.label, image.id) for image in plan.moved) == [
        *(("a", "b", 1), ("c", "d", 7), ("c", "d", 8), ("c", "d", 9))
    ]
    assert [(image.other, image.label, image.id) for image in plan.removed] == [("a", None, 2)]
    assert plan.removed_labels == ("c",)
    assert plan.elsewhere == ()
    assert (counts(service), service.get_space("s").revision) == (before, revision)

    done = service.register("s", edited(), sync=True)
    assert counts(service) == {"a": 1, "b": 5, "d": 3, "text": 0}
    assert (set(done.moved), done.removed, done.removed_labels) == (
        set(plan.moved),
        plan.removed,
        plan.removed_labels,
    )
    assert done.revision == service.get_space("s").revision
    assert not done.dry_run

    again = service.register("s", edited(), sync=True)
    assert (again.added_supports, again.moved, again.removed, again.removed_labels) == (
        0,
        (),
        (),
        (),
    )
    assert again.revision == done.revision

    service.restore_label("s", "c")
    service.restore_support("s", [2])
    assert counts(service) == {"a": 2, "b": 5, "d": 3, "c": 3, "text": 0}


def test_a_dry_run_without_sync(service: Any) -> None:
    service.remove_support("s", [5])
    plan = service.register("s", edited()[1:], dry_run=True)
    assert (plan.added_labels, plan.added_supports, plan.moved, plan.removed_labels) == (
        1,
        5,
        (),
        (),
    )
    assert [image.id for image in plan.taken_out] == [5]
    assert {(image.label, image.other) for image in plan.elsewhere} == {("b", "a"), ("d", "c")}
    assert counts(service)["b"] == 2


@pytest.mark.parametrize("rows", [[["x"]], [[1.0], [1.0, 2.0]], [[float("nan")] * 6]])
def test_a_dry_run_refuses_what_are_no_vectors(service: Any, rows: Any) -> None:
    with pytest.raises(trustvlm.InvalidInput, match="label 'a': image_vectors"):
        service.register("s", [LabelInput("a", image_vectors=rows)], dry_run=True)


def test_an_interrupted_sync_is_completed_by_repeating_it(service: Any) -> None:
    service.register("s", edited())  # what a sync does first; then it was cut off
    done = service.register("s", edited(), sync=True)
    assert (done.added_supports, done.removed_labels) == (0, ("c",))
    assert counts(service) == {"a": 1, "b": 5, "d": 3, "text": 0}


def test_a_sync_that_would_remove_everything_is_refused(service: Any) -> None:
    before = counts(service)
    for inputs in ([label("a", np.ones((1, 6)))], [LabelInput("a")], []):
        for dry_run in (True, False):
            with pytest.raises(trustvlm.InvalidInput):
                service.register("s", inputs, sync=True, dry_run=dry_run)
    assert counts(service) == before


def test_further_names_and_labels_without_images_stay(service: Any) -> None:
    service.alias("s", "text", "c")
    kept = service.register(
        "s", [label("a", VECTORS["a"]), LabelInput("b"), LabelInput("text")], sync=True
    )
    assert counts(service) == {"a": 3, "b": 3, "c": 3, "text": 0}
    assert {one.label for one in kept.kept} == {
        "b",
        "c",
    }  # b: no images were given; c: text is a further name of it
    gone = service.register("s", [label("a", VECTORS["a"]), label("b", VECTORS["b"])], sync=True)
    assert gone.removed_labels == ("text", "c")
    service.restore_label("s", "c")
    service.restore_label("s", "text")
    assert {row.name: row.alias_of for row in service.list_labels("s")}["text"] == "c"


# Folders on the command line


@pytest.fixture(scope="module")
def template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("sync")
    for seed, name in enumerate(
        f"{name}/{i}.png" for name in ("red", "blue", "green") for i in (1, 2)
    ):
        path = folder / "photos" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(np.random.default_rng(seed).integers(0, 255, (24, 24, 3), np.uint8)).save(
            path
        )
    cli = Cli(folder / "home")
    cli("space", "create", "s", "--classifier", make_clip(folder / "clip"))
    cli("register", "s", folder / "photos")
    return folder


@pytest.fixture
def photos(template: Path, tmp_path: Path) -> tuple[Cli, Path]:
    shutil.copytree(template / "home", tmp_path / "home")
    return Cli(tmp_path / "home"), Path(shutil.copytree(template / "photos", tmp_path / "photos"))


def test_a_corrected_folder(photos: tuple[Cli, Path]) -> None:
    cli, folder = photos
    (folder / "red" / "1.png").rename(folder / "blue" / "moved.png")
    (folder / "green").rename(folder / "grün")
    renaming = 'trustvlm label update s green --new-name "grün"'
    assert (
        f"before the sync: {renaming}"
        in cli.run("register", "s", folder, "--sync", "--dry-run").stderr
    )
    said = cli.run("register", "s", folder)
    assert "1 image of blue is a support image of red, too (id in red: 5)" in said.stderr
    assert "register --sync follows images that moved to another folder" in said.stderr
    assert "2 images of 'grün' are support images of green, too (ids in green: 3, 4)" in said.stderr
    assert f'if green was renamed: trustvlm label remove s "grün" && {renaming}' in said.stderr
    plan = cli.run("register", "s", folder, "--sync", "--dry-run")
    assert "dry run: nothing was changed; revision 2" in plan.stdout
    changes = [re.split(r"  +", line)[:2] for line in plan.stdout.splitlines()]
    assert ["move", "red → blue"] in changes
    assert ["move", "green → grün"] in changes
    assert ["remove label", "green"] in changes
    done = cli.run("register", "s", folder, "--sync")
    assert "undo, until the removal is purged: trustvlm label restore s green" in done.stderr
    assert {row["name"]: row["support_count"] for row in cli.rows("label", "list", "s")} == {
        "red": 1,
        "blue": 3,
        "grün": 2,
    }


def test_what_was_taken_out_of_a_folder(photos: tuple[Cli, Path]) -> None:
    cli, folder = photos
    cli("support", "remove", "s", 5)
    said = cli.run("register", "s", folder)
    assert (
        "1 image of red was removed from this label before (id in red: 5) and is not added; "
        "--bring-back" in said.stderr
    )
    assert "nothing new" in said.stdout
    assert "1 support image" in cli("register", "s", folder, "--bring-back")


def test_what_cannot_be_read_removes_nothing(photos: tuple[Cli, Path]) -> None:
    cli, folder = photos
    (folder / "red" / "1.png").write_bytes(b"")
    shutil.rmtree(folder / "blue")
    (folder / "blue").mkdir()
    (folder / "yellow").mkdir()
    result = json.loads(cli("register", "s", folder, "--sync", "--json"))
    assert {one["label"] for one in result["kept"]} == {"red", "blue"}
    assert {row["name"]: row["support_count"] for row in cli.rows("label", "list", "s")} == {
        "red": 2,
        "blue": 2,
        "green": 2,
    }
    (folder / "link").symlink_to(folder / "nowhere")
    assert "nothing was changed" in cli("register", "s", folder, "--sync", code=2)


def test_usage(photos: tuple[Cli, Path], tmp_path: Path) -> None:
    cli, folder = photos
    assert "--sync: expected a folder" in cli(
        "register", "s", folder / "red", "--label", "red", "--sync", code=2
    )
    other = tmp_path / "other" / "red"
    other.mkdir(parents=True)
    Image.new("RGB", (20, 20)).save(other / "1.png")
    said = cli("register", "s", tmp_path / "other", "--sync", code=2)
    assert "none of the 6 support images of space 's' is in the call" in said


def test_an_import_says_what_is_known_already(tmp_path: Path) -> None:
    """More than go into one request: the client sends them in chunks."""
    names = [f"n{i}" for i in range(1_100)]
    rng = np.random.default_rng(0)
    texts, images = rng.normal(size=(1_100, 64)), rng.normal(size=(1_100, 1, 6))
    inputs = [
        LabelInput(name, text_vector=text, image_vectors=vectors)
        for name, text, vectors in zip(names, texts, images, strict=True)
    ]
    with application(tmp_path / "home") as app, client_of(app) as client:
        client.create_space("s", classifier="precomputed:64", verifier="precomputed:6")
        client.register("s", inputs)
        client.remove_support("s", [row.id for row in client.list_supports("s", "n7")])
        inputs[3] = LabelInput("n3", image_vectors=images[9])
        result = client.register("s", inputs)
    assert [(image.label, image.other) for image in result.elsewhere] == [("n3", "n9")]
    assert [image.label for image in result.taken_out] == ["n7"]
    assert (result.added_labels, result.added_supports) == (0, 1)
