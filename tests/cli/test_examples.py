"""The examples in the helps of the commands work, one after the other, on the demo's home."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import click
import pytest
from cli_runner import commands
from click.testing import CliRunner

from trustvlm.cli import main
from trustvlm.cli.printing.examples import EXAMPLES
from trustvlm.demo.specs import classifier_spec, verifier_spec

ON_ITEMS = {"review next", "review answer", "review undo", "review skip", "review import"}
NOT_HERE = {"serve", "completion", *ON_ITEMS}
"""One does not end, one appends to a file of the user's, and the others need images that the
service scored."""


def test_each_command_has_one_and_shows_it() -> None:
    leaves = {" ".join(path): one for path, one in commands() if not isinstance(one, click.Group)}
    assert set(EXAMPLES) == set(leaves)
    for words, example in EXAMPLES.items():
        assert re.search(rf"^ *trustvlm (--home \S+ )?{words}\b", example, re.MULTILINE)
        assert example in (leaves[words].help or "")


@pytest.mark.slow
def test_they_work_as_printed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("TRUSTVLM_HOME", "demo-home")
    stand_ins = {  # models of the hub, and what is different in each home
        "--preset small": f"--classifier '{classifier_spec()}' --verifier '{verifier_spec()}'",
        "open_clip:local-dir:/path/to/clip": classifier_spec(),
        "--classifier ViT-L-14/openai": "--template 'a picture of the {}.'",
    }
    for words, example in EXAMPLES.items():
        if words in NOT_HERE:
            continue
        for written, here in stand_ins.items():
            example = example.replace(written, here)
        for line in example.replace("\\\n", " ").splitlines():
            done = CliRunner().invoke(main, shlex.split(line)[1:], prog_name="trustvlm")
            assert done.exit_code == 0, f"{line}\n{done.output}"
        if words == "key create":
            stand_ins["1f0c2a9b"] = done.stderr.split()[1].rstrip(",")
        if words == "key rotate":
            stand_ins["1f0c2a9b"] = done.stderr.split()[1]
