"""The review queue on the command line: collecting, answering, and both kinds of files there and
back."""

from __future__ import annotations

import csv
import io
import json
from pathlib import Path

import pytest
from cli_runner import Cli
from test_corrections import save
from test_verdict_reasons import images_of
from worlds import World, make_space

import trustvlm

NAMES = ["airport", "=beach", "bridge", "desert", "forest"]
"""One of them is a formula to a spreadsheet."""


@pytest.fixture
def cli(tmp_path: Path) -> Cli:
    """A home with the space "s", without a calibration, and six images in its queue."""
    world = World(NAMES)
    queries, truth = images_of(world, 6, 1)
    home = tmp_path / "home"
    home.mkdir()
    (home / "trustvlm.toml").write_text("review_share = 0\n")
    with trustvlm.open(home, create=True) as service:
        make_space(service)
        service.register("s", world.inputs(3))
    cli = Cli(home)
    file = save(tmp_path / "images.npz", queries, truth)
    scored = cli.run("score", "s", "--vectors", file, "--review")
    assert scored.stderr == (
        "6 images went into the review queue; 6 wait there; next: 'trustvlm review next s'\n"
    )
    return cli


def rows(cli: Cli, *options: str) -> list[dict[str, object]]:
    text = cli("review", "list", "s", "--format", "jsonl", "--state", "any", *options)
    return [json.loads(line) for line in text.splitlines()]


def test_answering_and_taking_back(cli: Cli) -> None:
    assert len(rows(cli)) == 6
    table = cli.run("review", "list", "s")
    assert "probability" in table.stdout
    assert "collecting is off" in table.stderr
    first = json.loads(cli("review", "next", "s", "--json"))["item"]
    shown = cli.run("review", "next", "s")
    assert first["predicted"] in shown.stdout
    assert f"review answer s {first['id']} --right" in shown.stderr
    item = str(first["id"])
    answered = cli.run("review", "answer", "s", item, "--right", "--support")
    assert "support image" in answered.stdout
    taught, rest = answered.stderr.splitlines()
    assert taught.startswith("this image: ")
    assert taught.endswith(" of 5 waiting images get another answer")
    assert rest == "5 items left; next: 'trustvlm review next s'"
    refused = cli.run("review", "answer", "s", item, "--none", code=4)
    assert "answered already" in refused.stderr
    assert "waits again" in cli("review", "undo", "s", item)
    assert "none of the labels" in cli("review", "answer", "s", item, "--none")
    assert "put aside" in cli("review", "skip", "s", str(rows(cli)[1]["id"]))
    assert "Expected" in cli.run("review", "answer", "s", item, "--none", "--right", code=2).stderr
    assert "no review item" in cli.run("review", "undo", "s", "999", code=3).stderr
    unknown = cli.run("review", "answer", "s", str(rows(cli)[2]["id"]), "--label", "desrt", code=3)
    assert unknown.stderr.startswith("Error: --label: no label 'desrt'")
    assert unknown.stderr.endswith("register it, or give --none where no label is right\n")
    started = cli("review", "on", "s")
    assert "at most 10,000 wait" in started
    assert "of what 'trustvlm serve' scores" in started
    assert "add --review: 'trustvlm score s IMAGES --review'" in started
    assert "collecting is on" in cli.run("review", "list", "s").stderr
    assert cli("review", "off", "s", "--discard").startswith("not collecting; 0 items wait")
    assert "'trustvlm score s IMAGES --review' adds images" in cli("review", "next", "s")
    none = cli.run("review", "export", "s", "-o", cli.home / "q.csv")
    assert none.stdout.startswith("0 items written")
    assert "--state any writes those of every state" in none.stderr


def test_csv_there_and_back(cli: Cli, tmp_path: Path) -> None:
    path = tmp_path / "a file.csv"
    assert "6 items written" in cli("review", "export", "s", "-o", path)
    table = list(csv.DictReader(io.StringIO(path.read_text())))
    assert list(table[0]) == [
        "id", "tray", "state", "source", "predicted", "probability", "decision", "truth",
    ]  # fmt: skip
    answers = ["'=beach", "(none of the labels)", "forest", "", "no label", "desert"]
    for row, answer in zip(table, answers, strict=True):
        row["truth"] = answer
    table[5]["predicted"] = "another"
    with path.open("w", newline="") as file:
        writer = csv.DictWriter(file, list(table[0]))
        writer.writeheader()
        writer.writerows(table)
    done = cli.run("review", "import", "s", path, "--json", code=4)
    told = json.loads(done.stdout)
    assert (told["answered"], told["same"], told["unanswered"]) == (3, 0, 1)
    assert [item for item, _ in told["failures"]] == [int(table[4]["id"]), int(table[5]["id"])]
    assert "no label 'no label' in space 's'" in done.stderr
    assert 'register it, or write "(none of the labels)"' in done.stderr
    assert "None" not in done.stderr
    assert "of another space" in done.stderr
    assert [row["truth"] for row in rows(cli, "--tray", "review")][:1] == ["=beach"]
    told = json.loads(cli.run("review", "import", "s", path, "--json", code=4).stdout)
    assert (told["answered"], told["same"]) == (0, 3)
    kept = cli.run("review", "export", "s", "-o", path, code=4)
    assert "has 2 answers that the queue does not have; import the file first" in kept.stderr
    path.unlink()
    cli("review", "export", "s", "-o", path, "--state", "answered")
    cli("review", "export", "s", "-o", path, "--state", "answered")  # no answer would be lost
    again = [row["truth"] for row in csv.DictReader(io.StringIO(path.read_text()))]
    assert again == answers[:3]


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16"])
def test_a_spreadsheet_of_another_country_saves_the_file(
    cli: Cli, tmp_path: Path, encoding: str
) -> None:
    path, separator = tmp_path / "q.csv", "\t" if encoding == "utf-16" else ";"
    cli("review", "export", "s", "-o", path)
    table = list(csv.DictReader(io.StringIO(path.read_text())))
    table[1]["truth"] = "forest"
    with path.open("w", newline="", encoding=encoding) as file:
        writer = csv.DictWriter(file, list(table[0]), delimiter=separator, lineterminator="\r\n")
        writer.writeheader()
        writer.writerows({**row, "probability": "0,97"} for row in table)
    assert cli("review", "import", "s", path) == "1 answer stored, 5 not answered\n"
    path.write_text("id;truth\n1;b\xe4r\n", encoding="cp1252")
    assert "iconv -f WINDOWS-1252" in cli.run("review", "import", "s", path, code=2).stderr


def test_label_studio_there_and_back(cli: Cli, tmp_path: Path) -> None:
    path = tmp_path / "tasks.json"
    cli("review", "export", "s", "--format", "label-studio", "-o", path)
    tasks = json.loads(path.read_text())
    predicted = [row["predicted"] for row in rows(cli)]
    for task, label in zip(tasks, predicted, strict=True):
        (result,) = task["predictions"][0]["result"]
        assert result == {
            "from_name": "label", "to_name": "image", "type": "choices",
            "value": {"choices": [label]},
        }  # fmt: skip
        assert 0 <= task["predictions"][0]["score"] <= 1
        assert "annotations" not in task

    def said(*labels: str, cancelled: bool = False) -> dict[str, object]:
        """As Label Studio exports an annotation."""
        result = {"id": "x", "from_name": "label", "to_name": "image", "type": "choices",
                  "origin": "manual", "value": {"choices": list(labels)}}  # fmt: skip
        return {"id": 1, "was_cancelled": cancelled, "lead_time": 1.5, "result": [result]}

    tasks[0]["annotations"] = [said("=beach"), said("=beach")]
    tasks[1]["annotations"] = [said("desert", cancelled=True), said("(none of the labels)")]
    tasks[2]["annotations"] = [said("desert"), said("forest")]
    tasks[3]["annotations"] = [said("desert", cancelled=True)]
    path.write_text(json.dumps(tasks))
    done = cli.run("review", "import", "s", path, code=4)
    assert done.stdout.startswith("2 answers stored, 3 not answered, 1 failed")
    assert "disagree: 'desert', 'forest'" in done.stderr
    assert [(row["state"], row["truth"]) for row in rows(cli)][:2] == [
        ("answered", "=beach"),
        ("answered", None),
    ]


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ("", "no id and no truth"),
        ("id,truth\nx,beach\n", "line 2: expected the id of a review item, got 'x'"),
        ("[1", "expected JSON"),
        ('[{"image": "a.jpg", "label": "beach"}]', "data.review_id"),
        ("\x00", "U+0000"),
    ],
)
def test_files_that_are_something_else(cli: Cli, tmp_path: Path, content: str, said: str) -> None:
    path = tmp_path / "file"
    path.write_text(content)
    assert said in cli.run("review", "import", "s", path, code=2).stderr
    assert "no file" in cli.run("review", "import", "s", tmp_path / "none", code=3).stderr
