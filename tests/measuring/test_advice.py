"""Which labels an evaluation calls good, which are to be fixed, and how."""

from __future__ import annotations

import json
import shlex
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from cli_runner import Cli
from scipy.stats import binom
from worlds import IMAGE_DIM, TEXT_DIM, World, make_space

import trustvlm
from trustvlm import LabelInput, Queries
from trustvlm.cli.commands.label import label as label_group
from trustvlm.cli.commands.support import support
from trustvlm.selective.advice import label_advice, labels_in_words, labels_to_fix, state_of
from trustvlm.types.evaluation import Confusion, LabelOutcome

NAN = float("nan")


def label(name: str, images: int, given: int, right: int, supports: int = 16) -> LabelOutcome:
    share = (given - right) / given if given else NAN
    state = state_of(images, given, right, 0.05)
    return LabelOutcome(
        name, images, given, right, supports, NAN, NAN, NAN, "as before", share, state
    )


def confused(truth: str | None, given: str, count: int, nearest: int | None = 0) -> Confusion:
    return Confusion(truth, given, count, 0.1, nearest)


@pytest.mark.parametrize("risk", [0.01, 0.05, 0.2])
def test_a_label_is_to_be_fixed_where_chance_does_not_explain_its_errors(risk: float) -> None:
    for given in (1, 2, 5, 10, 60):
        for wrong in range(given + 1):
            state = state_of(given, given, given - wrong, risk)
            surprising = wrong >= 2 and binom.sf(wrong - 1, given, risk) <= 0.1
            missed = wrong >= 2 and wrong > given / 2
            good = given >= 5 and wrong / given <= risk
            assert state == ("fix" if surprising or missed else "good" if good else "unclear")
    assert state_of(4, 0, 0, risk) == "fix"  # never given: all of its images get other labels
    assert state_of(1, 0, 0, risk) == state_of(0, 0, 0, risk) == "unclear"


@pytest.mark.parametrize(
    ("supports", "confusions", "action", "other", "said"),
    [
        (1, [confused("b", "a", 9, 9)], "images", "b", "it has 1 support image"),
        (0, [confused("b", "a", 9, None)], "images", "b", "it has no support image"),
        (16, [confused("b", "a", 9, 2)], "images", "b", "only 2 of its 9 errors look most like"),
        (16, [confused("b", "a", 9, 8)], "prompt", "b", "support images are right about 8 of its"),
        (16, [confused("b", "a", 9, None)], "prompt", "b", "the text alone was compared"),
        (16, [confused("b", "a", 6, 6), confused("a", "b", 3, 3)], "alias", "b", "(3 and 6 images"),
        (16, [confused("b", "a", 8, 8), confused("a", "b", 1, 1)], "prompt", "b", "9 errors"),
        (16, [confused("b", "a", 4, 4), confused("c", "a", 5, 5)], "prompt", "c", "9 of its 9"),
        (16, [confused(None, "a", 7), confused("b", "a", 2)], "new_label", "b", "show none of the"),
    ],
)
def test_the_remedy_follows_from_what_the_errors_have_in_common(
    supports: int, confusions: list[Confusion], action: str, other: str, said: str
) -> None:
    (advice,) = label_advice("my pets", [label("a", 20, 30, 18, supports)], confusions)
    assert (advice.action, advice.other, advice.support_count) == (action, other, supports)
    assert said in advice.reason
    assert (advice.wrong, advice.missed, advice.error_share) == (12, 2, 0.4)
    assert advice.advice.endswith(".")
    words = shlex.split(advice.command)
    assert words[0] == "trustvlm"
    assert "my pets" in words


def test_labels_without_prompts_are_advised_what_they_can_do() -> None:
    labels, both = [label("a", 20, 30, 18)], [confused("b", "a", 6, 6), confused("a", "b", 3, 3)]
    for confusions, said in (
        ([confused("b", "a", 9, 8)], "the classifier is not"),
        ([confused("b", "a", 9, None)], "the classifier alone was compared"),
    ):
        (advice,) = label_advice("s", labels, confusions, prompts=False)
        assert advice.action == "correct"
        assert said in advice.reason
        assert advice.command == "trustvlm calibrate s FOLDER --may-correct"
    (alias,) = label_advice("s", labels, both, prompts=False)
    assert (alias.action, "prompt" in alias.advice) == ("alias", False)


@pytest.mark.parametrize("name", ["a b", "-rf", "$(id)", "it's", "--prompt"])
def test_commands_can_be_pasted_into_a_shell(name: str) -> None:
    for supports, words in ((0, "support add"), (16, "label update")):
        (advice,) = label_advice("s", [label(name, 20, 30, 18, supports)], [])
        context = label_group if words.startswith("label") else support
        verb = context.commands[words.split()[1]]
        given = shlex.split(advice.command)[3:]
        parsed = verb.make_context(words, given, resilient_parsing=True).params
        assert parsed["space"] == "s"
        assert name in (parsed.get("name"), parsed.get("label"))


def test_the_answer_names_the_worst_first_and_cuts_long_lists() -> None:
    names = [f"label {i}" for i in range(9)]
    labels = [label(name, 20, 20 + i, 10) for i, name in enumerate(names)]
    labels += [label("good", 20, 20, 20), label("few", 2, 2, 2)]
    advice = label_advice("s", labels, [])
    assert [one.label for one in advice] == names[::-1]
    assert labels_to_fix(advice) == (
        "9 labels to fix: label 8, label 7, label 6, label 5, label 4 and 4 more (change the "
        "prompt)"
    )
    mixed = [replace(advice[0], action="images"), *advice[1:3]]
    assert labels_to_fix(mixed) == (
        "3 labels to fix: label 8 (add support images); label 7 and label 6 (change the prompt)"
    )
    assert labels_to_fix([]) == "no label to fix"
    said = labels_in_words(labels, 0.05, advice)
    assert "1 label did well here (of the 20 images given it, at most 5 % are wrong): good." in said
    assert said.endswith("good. For 1 label the images are too few to tell.")
    assert labels_in_words(labels[:9], 0.05, advice).endswith("without a look.")
    assert labels_in_words(labels[-1:], 0.05, []) == (
        "No label to fix. For 1 label the images are too few to tell."
    )
    assert len(labels_to_fix([replace(advice[0], label="x" * 300)])) < 120


def test_an_evaluation_says_what_to_fix(service: trustvlm.TrustService, tmp_path: Path) -> None:
    world = World(["airport", "beach", "bridge", "sofa; rm -rf ~"])
    make_space(service)
    service.register("s", world.inputs(5)[:3])
    service.register("s", [LabelInput(world.names[3], text_vector=world.text[3])])
    rng = np.random.default_rng(0)
    truth = np.repeat(np.arange(4), 20)
    text = world.text[truth] + 0.1 * rng.normal(size=(80, TEXT_DIM))
    text[10:20] = world.text[1]  # half of the airports are read as beaches
    text[65:80] = world.text[3]
    text[40:50] = world.text[3]  # half of the bridges as the label without images
    queries = Queries(text, world.images[truth] + 0.1 * rng.normal(size=(80, IMAGE_DIM)))
    names: list[str | None] = [world.names[i] for i in truth]
    found = service.evaluate("s", queries, names, draws=0)
    states = {one.label: one.state for one in found.per_label}
    assert states == {"airport": "good", "beach": "fix", "bridge": "good", world.names[3]: "fix"}
    assert {one.label: round(one.error_share, 3) for one in found.per_label} == {
        "airport": 0, "beach": 0.333, "bridge": 0, world.names[3]: 0.333,
    }  # fmt: skip
    pairs = [(one.truth, one.label, one.count, one.share, one.nearest_right)
             for one in found.confusions]  # fmt: skip
    assert pairs == [("airport", "beach", 10, 0.5, 10), ("bridge", world.names[3], 10, 0.5, 10)]
    assert [(one.label, one.action) for one in found.label_advice] == [
        ("beach", "correct"), (world.names[3], "images"),
    ]  # fmt: skip
    command = shlex.split(found.label_advice[1].command)
    assert command[1:] == [
        "--home", str(tmp_path / "home"), "support", "add", "s", world.names[3], "FOLDER",
    ]  # fmt: skip
    np.savez(tmp_path / "v.npz", classifier=queries.classifier, verifier=queries.verifier,
             truth=np.array(names))  # fmt: skip
    service.close()
    cli = Cli(tmp_path / "home")
    arguments = ("evaluate", "s", "--vectors", tmp_path / "v.npz", "--draws", "0")
    said = cli(*arguments)
    assert said.startswith(
        "2 labels to fix: beach (let the images correct it); sofa; rm -rf ~ (add support images). 2 labels "
        "did well here (of the 10 images given to each, at most 5 % are wrong): airport and bridge."
    )
    assert "trustvlm calibrate s FOLDER --may-correct" in said
    assert "33.3 %" in said
    plain = json.loads(cli(*arguments, "--json"))
    assert [one["label"] for one in plain["label_advice"]] == ["beach", world.names[3]]
    assert plain["confusions"][0] == {
        "truth": "airport", "label": "beach", "count": 10, "share": 0.5, "nearest_right": 10,
    }  # fmt: skip
    nothing = json.loads(cli(*arguments, "--rules", "posterior_star", "--json"))
    assert nothing["label_advice"] == nothing["per_label"] == nothing["confusions"] == []
