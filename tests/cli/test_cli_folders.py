"""Folders on the command line: every verb sees the same images, and says what it left out."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from checkpoints import make_clip
from cli_runner import Cli
from test_folders import picture


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory) -> str:
    return make_clip(tmp_path_factory.mktemp("checkpoints") / "clip")


@pytest.fixture
def cli(tmp_path: Path, clip: str) -> Cli:
    """A home with a space "s" of a real encoder."""
    cli = Cli(tmp_path / "home")
    cli("space", "create", "s", "--classifier", clip)
    return cli


KEPT = ["cat/1.png", "cat/more/2.PNG", "dog/3"]
LEFT = [
    "cat/@eaDir/1.png",
    "$RECYCLE.BIN/4.png",
    ".Trash-1000/5.png",
    "cat/._1.png",
    "masks/6.png",
    "dog/3_mask.png",
]
EXCLUDE = ("--exclude", "masks", "--exclude", "*_mask*")


def set_of_images(folder: Path, seed: int) -> Path:
    for number, name in enumerate([*KEPT, *LEFT]):
        picture(folder / name, seed + number, "PNG")
    return folder


def test_every_verb_sees_the_same_images(cli: Cli, tmp_path: Path) -> None:
    folder, others = set_of_images(tmp_path / "set", 0), set_of_images(tmp_path / "others", 100)
    registered = cli.run("register", "s", folder, *EXCLUDE)
    assert registered.stdout == "registered 2 labels (2 new), 3 support images; revision 1\n"
    scored = cli.run("score", "s", others, *EXCLUDE, "--format", "jsonl")
    assert [json.loads(line)["source"] for line in scored.stdout.splitlines()] == [
        str(others / name) for name in KEPT
    ]
    evaluated = cli.run(
        "evaluate", "s", others, *EXCLUDE, "--rules", "msp", "--draws", "0", "--json"
    )
    assert json.loads(evaluated.stdout)["images"] == 3
    fed = cli.run("feedback", "s", others, *EXCLUDE, "--json")
    assert json.loads(fed.stdout)["added"] == 3
    for result in (registered, scored, evaluated, fed):
        assert sum("left out" in line for line in result.stderr.splitlines()) == 1
        assert "2 hidden" in result.stderr
        assert "2 system files or folders" in result.stderr
        assert "2 files or folders excluded by --exclude" in result.stderr
    added = cli.run("support", "add", "s", "cat", others / "cat")
    assert added.stdout == "registered label cat, 2 support images; revision 2\n"


def test_patterns_that_say_nothing(cli: Cli, tmp_path: Path) -> None:
    picture(tmp_path / "set" / "cat" / "1.png")
    registered = cli.run("register", "s", tmp_path / "set", "--exclude", "*.jpg")
    assert '--exclude "*.jpg" matches no file and no folder\n' in registered.stderr
    dry = cli.run("register", "s", tmp_path / "set", "--exclude", "*.gif,x", "--dry-run")
    assert dry.stderr == (
        '--exclude "*.gif,x" matches no file and no folder; a pattern each: --exclude "*.gif" '
        "--exclude x\n"
    )
    assert "there is none" in cli("register", "s", "--label", "x", "--exclude", "y", code=2)
    assert "got an empty one" in cli("score", "s", tmp_path / "set", "--exclude", "", code=2)


# What could not be read


@pytest.fixture
def damaged(cli: Cli, tmp_path: Path) -> Path:
    """A folder with an image, two empty image files, a text, and a link without a target;
    its first image is a support image."""
    folder = tmp_path / "damaged"
    picture(folder / "cat" / "1.png")
    cli("register", "s", folder)
    (folder / "cat" / "2.png").touch()
    (folder / "cat" / "3.png").touch()
    (folder / "cat" / "notes.txt").touch()
    (folder / "cat" / "gone").symlink_to(tmp_path / "nowhere")
    return folder


def work(verb: str, folder: Path) -> list[object]:
    """The command `verb` on a folder of images."""
    out = [folder.parent / "out"] if verb.startswith("bulk") else []
    return [*verb.split(), "s", folder, *out]


@pytest.mark.parametrize(
    ("verb", "done"),
    [
        ("score", "damaged/cat/1.png"),
        ("register", "nothing new"),
        ("feedback", "0 images stored"),
        ("bulk score", "2 without an answer"),
        ("bulk embed", "2 without an answer"),
    ],
)
def test_strict_ends_with_another_code_after_the_rest_is_done(
    cli: Cli, damaged: Path, verb: str, done: str
) -> None:
    command = work(verb, damaged)
    usual = cli.run(*command)
    assert done in usual.stdout
    strict = cli.run("--strict", *command, code=7)
    assert done in strict.stdout
    error = "Error: --strict: 3 inputs could not be read; the rest is done\n"
    assert strict.stderr == usual.stderr + error
    for name in ("2.png", "3.png"):
        (damaged / "cat" / name).unlink()
    (damaged / "cat" / "gone").unlink()
    redo = ["--redo"] if verb.startswith("bulk") else []
    cli.run("--strict", *command, *redo)


@pytest.mark.parametrize("verb", ["score", "register", "bulk score"])
def test_quiet_says_only_what_could_not_be_read(cli: Cli, damaged: Path, verb: str) -> None:
    command = work(verb, damaged)
    assert "left out: 1 file that is not an image" in cli.run(*command).stderr
    said = cli.run("--quiet", *command).stderr.splitlines()
    assert f"could not be read: {damaged}/cat/gone: the link leads nowhere" in said
    assert all("could not be read" in line for line in said)
    for name in ("2.png", "3.png", "gone"):
        (damaged / "cat" / name).unlink()
    redo = ["--redo"] if verb.startswith("bulk") else []
    assert cli.run("-q", *command, *redo).stderr == ""
    assert "--quiet or --verbose" in cli("--quiet", "-v", *command, code=2)


def test_parts_are_refused_by_every_verb(cli: Cli, tmp_path: Path) -> None:
    for name in ("train/cat/1.png", "train/dog/2.png", "train/stray.png", "val/cat/3.png"):
        picture(tmp_path / "set" / name)
    assert f"expected one of them: {tmp_path}/set/train (" in cli(
        "register", "s", tmp_path / "set", code=2
    )
    for verb in ("evaluate", "calibrate", "feedback"):
        assert f"expected one of them: {tmp_path}/set/val (" in cli(
            verb, "s", tmp_path / "set", code=2
        )
    assert cli("label", "list", "s", "--format", "jsonl") == ""


def test_what_may_be_one_level_too_high_is_said(cli: Cli, tmp_path: Path) -> None:
    for seed, name in enumerate(("pets/cat/1.png", "pets/dog/2.png")):
        picture(tmp_path / "set" / name, seed)
    inner = tmp_path / "set" / "pets"
    said = cli("register", "s", tmp_path / "set", code=2)
    assert "all images lie in sub-folders of pets (cat, dog)" in said
    assert f"if these are the labels, name {inner}; --label NAME {inner} takes" in said
    picture(tmp_path / "set" / "toys" / "car" / "3.png", 3)
    said = cli.run("register", "s", tmp_path / "set").stderr
    assert (
        f"all images of pets lie in its sub-folders (cat, dog); if these are the labels, "
        f"name {inner}\n" in said
    )


def test_linked_originals_are_found_again(cli: Cli, tmp_path: Path, clip: str) -> None:
    picture(tmp_path / "elsewhere" / "1.png", 1)
    (tmp_path / "set").mkdir()
    (tmp_path / "set" / "cat").symlink_to(tmp_path / "elsewhere")
    (tmp_path / "set" / "loop").symlink_to(tmp_path / "set")
    cli("register", "s", tmp_path / "set")
    done = cli(
        "space",
        "reembed",
        "s",
        "--verifier",
        make_clip(tmp_path / "other"),
        "--from",
        tmp_path / "set",
    )
    assert "1 label, 1 support image" in done
