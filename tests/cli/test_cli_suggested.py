"""Commands that messages suggest run as they are copied: with the home or the address that was
typed, and with names quoted for a shell."""

from __future__ import annotations

import html
import re
import shlex
from pathlib import Path

import click
import numpy as np
import pytest
from cli_runner import commands, save_labels
from click.testing import CliRunner

from trustvlm.cli import main
from trustvlm.types.messages.commands import ON_HOME, command, suggested, word
from trustvlm.types.messages.meant import did_you_mean

SUGGESTED = re.compile(r"'(trustvlm [^']*)'")


class Typed:
    """The command line with --home in each call."""

    def __init__(self, home: Path) -> None:
        self.home = home

    def __call__(self, *arguments: object, place: tuple[str, str] | None = None) -> str:
        """stdout and stderr of a command."""
        place = place or ("--home", str(self.home))
        return CliRunner().invoke(main, [*place, *map(str, arguments)], prog_name="trustvlm").output


@pytest.fixture
def typed(tmp_path: Path) -> Typed:
    """A home whose path has a blank, with a space whose name has one."""
    cli = Typed(tmp_path / "a home")
    create = ("--classifier", "precomputed:4", "--verifier", "precomputed:6")
    cli("space", "create", "my pets", *create)
    cli("register", "my pets", "--vectors", save_labels(tmp_path / "labels.npz"))
    return cli


def test_what_is_suggested_runs(typed: Typed) -> None:
    place = f'trustvlm --home "{typed.home}" '
    removed = typed("label", "remove", "my pets", "sea [red]")
    (undo,) = SUGGESTED.findall(removed)
    assert undo == f'{place}label restore "my pets" "sea [red]"'
    assert "restored" in typed(*shlex.split(undo)[3:])
    typed("label", "remove", "my pets", "beach")
    missing = typed("support", "list", "my pets", "beach")
    assert [place in one for one in SUGGESTED.findall(missing)] == [True, True]
    refused = typed("score", "my pets", "--vectors", "none", "--rule", "msp")
    assert "trustvlm" not in refused
    assert f"'{place}calibrate \"my pets\" FOLDER'" in typed("calibration", "show", "my pets")


def test_a_home_of_the_environment_is_not_repeated(typed: Typed) -> None:
    by_variable = CliRunner(env={"TRUSTVLM_HOME": str(typed.home)})
    said = by_variable.invoke(main, ["calibration", "show", "my pets"]).output
    assert SUGGESTED.findall(said) == ['trustvlm calibrate "my pets" FOLDER']


def test_a_command_of_a_line_of_its_own_and_in_a_table(typed: Typed, tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    truth = np.repeat(["airport", "beach"], 20)
    text = np.eye(4)[[1] * 40] + 0.01 * rng.normal(size=(40, 4))  # all are read as beaches
    images = np.eye(6)[np.repeat([0, 1], 20)] + 0.1 * rng.normal(size=(40, 6))
    np.savez(tmp_path / "v.npz", classifier=text, verifier=images, truth=truth)
    report = tmp_path / "report.html"
    vectors = ("--vectors", tmp_path / "v.npz", "--draws", "0", "--report", report)
    said = typed("evaluate", "my pets", *vectors)
    fix = f'trustvlm --home "{typed.home}" support add "my pets" airport FOLDER'
    assert fix in said
    assert f"<code>{fix}</code>" in html.unescape(report.read_text(encoding="utf-8"))
    with np.load(tmp_path / "labels.npz") as before:
        fewer = {
            "label_names": before["label_names"][:1], "text_vectors": before["text_vectors"][:1],
            "image_vectors": before["image_vectors"][:2], "image_labels": [0, 0],
        }  # fmt: skip
    np.savez(tmp_path / "fewer.npz", **fewer)
    said = typed("register", "my pets", "--sync", "--vectors", tmp_path / "fewer.npz")
    undo = f'trustvlm --home "{typed.home}" label restore "my pets" beach'
    assert f"undo, until the removal is purged: {undo}" in said


def test_every_command_knows_where_it_may_run() -> None:
    """A command that works on the home alone is suggested with a home, also to the users of a
    service."""
    local = {" ".join(path) for path, one in commands() if hasattr(one.callback, "works_on_home")}
    assert {"start", "serve", "purge", "label synonyms", "index rebuild"} <= local
    assert not {"score", "register", "label list"} & local
    every = {" ".join(path) for path, one in commands() if not isinstance(one, click.Group)}
    assert set(filter(ON_HOME.match, every)) == local


def test_names_are_quoted_for_the_shell_and_for_the_sentence() -> None:
    for name in ("plain", "two words", "it's", 'a "b"', "$HOME", "a\\b", "!!", "ü", "-x", "*"):
        assert shlex.split(word(name)) == [name]
        words = shlex.split(command("label list", "s", name, options="--format csv"))
        assert set(words) == {"trustvlm", "label", "list", "s", name, "--format", "csv"} | (
            {"--"} if name.startswith("-") else set()
        )
    assert suggested("recalibrate", "my pets") == "'trustvlm recalibrate \"my pets\"'"


@pytest.mark.parametrize(
    ("line", "meant"),
    [
        ("start x --preset smal", "Did you mean 'small'?"),
        ("space create x --preset smal", "did you mean 'small'?"),
        ("space create x --classifier precomputed:4 --recipe hsnw", "did you mean 'hnsw'?"),
        ("score 'my pets' --vectors x.npz --format tabl", "Did you mean 'table'?"),
        ("label list 'my pet'", "did you mean 'my pets'?"),
        ("label remove 'my pets' airprt", "did you mean 'airport'?"),
        ("review export 'my pets' -o x --format labelstudio", "Did you mean 'label-studio'?"),
        ("evaluate 'my pets' --vectors v.npz --rules postrior", "did you mean 'posterior'?"),
    ],
)
def test_a_name_that_was_probably_meant_is_named(
    typed: Typed, line: str, meant: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    truth = {"classifier": np.eye(2, 4), "verifier": np.eye(2, 6), "truth": ["airport", "beach"]}
    np.savez("v.npz", **truth)
    assert typed(*shlex.split(line)).rstrip().endswith(meant)


def test_nothing_is_proposed_where_nothing_is_like_it() -> None:
    assert did_you_mean("zebra", ("posterior", "msp")) == ""
    assert did_you_mean(7, ("7",)) == ""
    assert did_you_mean("POSTERIOR", ("posterior", "msp")) == "; did you mean 'posterior'?"
