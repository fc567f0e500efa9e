"""Messages of the command line speak of options and commands, not of Python's arguments."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import click
import numpy as np
import pytest
from checkpoints import make_clip
from cli_runner import Cli, commands, save_labels, save_queries
from test_folders import picture


@pytest.fixture(scope="module")
def cli(tmp_path_factory: pytest.TempPathFactory) -> Cli:
    """A home with a space "s" of real encoders, a space "v" of vectors, and beside it what the
    commands below name."""
    folder = tmp_path_factory.mktemp("wording")
    cli = Cli(folder / "home")
    cli("space", "create", "s", "--classifier", make_clip(folder / "clip"))
    cli("space", "create", "v", "--classifier", "precomputed:4", "--verifier", "precomputed:6")
    for seed, name in enumerate(("cat/1.png", "dog/2.png")):
        picture(folder / "set" / name, seed)
    cli("register", "s", folder / "set")
    cli("register", "v", "--vectors", save_labels(folder / "labels.npz"))
    save_queries(folder / "queries.npz")
    np.savez(folder / "verifier.npz", verifier=np.eye(6)[:3])
    return cli


@pytest.mark.parametrize(
    ("command", "code", "said"),
    [
        *(
            (
                f"{verb} FOLDER/verifier.npz",
                2,
                "verifier.npz: expected images, got a file of arrays; give arrays as "
                f"{option} FILE.npz",
            )
            for verb, option in [
                ("score v", "--vectors"),
                ("evaluate v", "--vectors"),
                ("calibrate v", "--vectors"),
                ("feedback v", "--vectors"),
                ("propose v", "--vectors"),
                ("audit v", "--vectors"),
                ("register v", "--vectors"),
                ("support add v airport", "--vectors"),
                ("search s --image", "--vector"),
            ]
        ),
        (
            "register v --label a",
            2,
            "a new label needs its text embedding (--vectors FILE.npz with text_vectors)",
        ),
        (
            "register v --label a --prompt x",
            2,
            "register it with its text embedding (--vectors FILE.npz with text_vectors)",
        ),
        (
            "register v FOLDER/set",
            2,
            "the verifier of space 'v' cannot encode images; pass --vectors FILE.npz with",
        ),
        (
            "register s --label cat --prompt x{}",
            4,
            "has no prompt of its own, not 'x{}'; --replace changes it",
        ),
        ("register s --label a\u202eb", 2, "Error: --label: "),
        ("score s FOLDER/set --rule x", 2, "Error: --rule: expected one of msp"),
        ("score s FOLDER/set --rule msp --tau 1", 2, "Error: rule 'msp' has no parameter 'tau'"),
        ("score s FOLDER/set --only x", 3, "Error: --only: no label 'x'"),
        ("score s FOLDER/set --only cat,dog", 3, "repeat it for several: --only cat --only dog"),
        ("score s FOLDER/set --only=cat,dog", 3, "repeat it for several: --only cat --only dog"),
        ("search s --like-support 1,2", 2, "integer range; --like-support takes one value, repeat"),
        (
            "search s --like-label x,y",
            3,
            "Error: --like-label: no label 'x,y' in space 's'; --like",
        ),
        ("score s FOLDER/set --where a=1", 2, "Error: --where: no label of space 's' fits"),
        ("score v FOLDER/set", 2, "pass embeddings of 6 values instead (--vectors)"),
        ("score v --vectors FOLDER/verifier.npz", 2, "Error: classifier embeddings: scoring needs"),
        ("search v --text x", 2, "Error: --text: the classifier of space 'v'"),
        (
            "search v --image FOLDER/set/cat/1.png",
            2,
            "pass embeddings of 6 values instead (--vector)",
        ),
        ("evaluate s FOLDER/set --rules x", 2, "Error: --rules: expected one of msp"),
        ("evaluate s FOLDER/set", 2, "Error: expected images that are not support images"),
        ("verify", 2, "Error: Expected SPACE or --all; got neither."),
        ("--home= space list", 2, "'TRUSTVLM_HOME'): expected a path, got an empty one"),
        ("nope", 2, "Error: No such command 'nope'."),
        ("label update s cat --new-name a\u202eb", 2, "Error: --new-name: "),
        (
            "space create x --classifier precomputed:4 --template x",
            2,
            "Error: --template: each must be a string with {}",
        ),
    ],
)
def test_errors_name_options(cli: Cli, command: str, code: int, said: str) -> None:
    error = cli(*command.replace("FOLDER", str(cli.home.parent)).split(), code=code)
    assert said in error
    words = (
        "inputs[",
        "text_vector;",
        "queries",
        "update_label",
        "new_name",
        "params:",
        "classifier=",
    )
    assert not any(word in error for word in words)


def path_arguments() -> Iterator[tuple[list[str], str]]:
    """The words of each command and of each of its arguments that is a path, with what names that
    in a message."""
    for path, command in commands():
        words = [*path]
        for one in command.params:
            if isinstance(one.type, click.Path):
                name = one.opts[-1] if isinstance(one, click.Option) else one.make_metavar(CONTEXT)
                yield [*words, *[name] * isinstance(one, click.Option), ""], name
            words += ["x"] * (isinstance(one, click.Argument) and one.required)


CONTEXT = click.Context(click.Command("trustvlm"))


@pytest.mark.parametrize(
    ("words", "name"),
    [
        *path_arguments(),
        (["db", "copy", "", "x"], "FROM"),
        (["db", "copy", "x", ""], "TO"),
        (["restore", "x", "--to", ""], "--to"),
        (["score", "s", "x.png", "--claimed", ""], "--claimed"),
        (["evaluate", "s", "x", "--claimed", ""], "--claimed"),
        (["bulk", "score", "s", "x", "y", "--claimed", ""], "--claimed"),
        (["start", ".", "--names", ""], "--names"),
        (["--url", "", "space", "list"], "--url"),
        (["--database-url", "", "space", "list"], "database_url"),
    ],
    ids=str,
)
def test_an_empty_path_is_not_the_current_folder(cli: Cli, words: list[str], name: str) -> None:
    said = cli(*words, code=2).splitlines()[-1]
    assert name in said
    assert "expected " in said
    assert "got an empty one" in said or "got ''" in said


@pytest.mark.parametrize("option", ["--home", "--url", "--strict", "-q"])
def test_a_global_option_behind_the_command_is_told_its_place(cli: Cli, option: str) -> None:
    said = cli("space", "list", option, code=2)
    assert f"It stands before the command: trustvlm {option} … space\n" in said
    assert "Did you mean" not in said


def test_an_attribute_that_is_not_there_is_said(cli: Cli) -> None:
    cli("label", "set", "s", "cat", "a=1", "b=2")
    done = cli.run("label", "set", "s", "cat", "--unset", "a,b")
    assert done.stderr == (
        "label cat has no attribute a,b: nothing to unset; a key each: --unset a --unset b\n"
    )
    assert cli.run("label", "set", "s", "cat", "--unset", "a", "--unset", "b").stderr == ""


def test_a_whole_folder_changes_prompts_only_when_told_to(cli: Cli, tmp_path: Path) -> None:
    picture(tmp_path / "cat" / "9.png", 9)
    words = ("register", "s", tmp_path, "--prompt", "a photo of a {}, an animal")
    assert "--replace changes it" in cli(*words, code=4)
    cli(*words, "--replace")
    assert "a photo of a {}, an animal" in cli("label", "list", "s")


def test_a_list_changes_attributes_only_when_told_to(cli: Cli, tmp_path: Path) -> None:
    (tmp_path / "names.csv").write_text("name;attr.size\ncat;1,5\n")
    words = ("register", "s", "--labels", tmp_path / "names.csv")
    assert 'has no attributes, not {"size":1.5}; --replace changes them' in cli(*words, code=4)
    assert "changed 1 label" in cli(*words, "--replace")


def test_columns_without_their_usual_names_are_advised_in_words_of_the_command_line(
    cli: Cli, tmp_path: Path
) -> None:
    (tmp_path / "other.csv").write_text("Datei;Klasse\n1.png;cat\n")
    said = cli("register", "s", tmp_path / "other.csv", code=2)
    assert "this has the columns Datei, Klasse; rename one" in said
    assert "read_images" not in said
