"""Commands that are sent to a running service print what they print on the home, and say the same
when something is wrong."""

from __future__ import annotations

import contextlib
import json
import re
import shlex
import shutil
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from checkpoints import make_clip
from cli_runner import COMMAND, Cli, commands, save_labels, save_queries, without_home_variables
from click.testing import CliRunner
from PIL import Image
from server_process import ready, server

import trustvlm
from trustvlm.cli import main
from trustvlm.client import transport

COLOURS = {"red": (200, 40, 40), "green": (40, 200, 40), "blue": (40, 40, 200)}
SPLIT = {"red": 4, "green": 4, "blue": 4}


def picture(path: Path, colour: tuple[int, int, int], seed: int) -> Path:
    pixels = np.random.default_rng(seed).normal(colour, 40, size=(48, 56, 3))
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.clip(pixels, 0, 255).astype(np.uint8)).save(path)
    return path


class Both:
    """A home and the service on it. What changes it is run on a copy of the home, too.

    Attributes:
        folder: where commands run. address: of the service.
    """

    def __init__(self, folder: Path, address: str) -> None:
        self.folder, self.address = folder, address

    def run(self, *arguments: object, url: bool, **variables: str) -> tuple[int, str, str]:
        """(exit code, stdout, stderr) of a command; suggested commands without their place."""
        place = ("--url", self.address) if url else ("--home", str(self.folder / "home"))
        runner = CliRunner(env={"TRUSTVLM_HOME": None, "TRUSTVLM_URL": None} | variables)
        with contextlib.chdir(self.folder):
            done = runner.invoke(main, [*place, *map(str, arguments)], prog_name="trustvlm")
        out, err = (
            re.sub(f"trustvlm ({' '.join(place)}|--home HOME) ", "trustvlm ", text)
            for text in (done.stdout, done.stderr)
        )
        return done.exit_code, out, err

    def check(self, *arguments: object, code: int = 0) -> str:
        """What a command that changes nothing prints, on the home and through the service."""
        here, there = (self.run(*arguments, url=url) for url in (False, True))
        assert here[0] == code, here
        assert there == here
        return here[2] if code else here[1]

    def change(self, *arguments: object, code: int = 0) -> str:
        """What a command prints on a copy of the home, and then through the service on the home
        itself."""
        copy = self.folder / "copy"
        shutil.copytree(self.folder / "home", copy / "home")
        try:
            here = Both(copy, "").run(*arguments, url=False)
        finally:
            shutil.rmtree(copy)
        there = self.run(*arguments, url=True)
        assert here[0] == code, here
        assert there == here
        return there[1]


@pytest.fixture(scope="module")
def both(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Both]:
    """A home with the space "v" of vectors and "i" of images, and a service on it."""
    folder = tmp_path_factory.mktemp("remote")
    for name, colour in COLOURS.items():
        for number in range(4):
            place = folder / ("learn" if number < 2 else "test") / name / f"{number}.png"
            picture(place, colour, number)
    (folder / "learn" / "red" / "bad.png").write_bytes(b"no picture")
    save_labels(folder / "labels.npz")
    save_queries(folder / "queries.npz")
    noise = np.random.default_rng(0).normal(scale=0.05, size=(60, 10))
    np.savez(
        folder / "truth.npz",
        classifier=np.eye(3, 4).repeat(20, 0) + noise[:, :4],
        verifier=np.eye(6)[[0, 1, 5]].repeat(20, 0) + noise[:, 4:],
        truth=np.repeat(["airport", "beach", "sea [red]"], 20),
    )
    cli = Cli(folder / "home")
    cli.home.mkdir()
    (cli.home / "trustvlm.toml").write_text("review_share = 0\n")
    vectors = ("--classifier", "precomputed:4", "--verifier", "precomputed:6")
    cli("space", "create", "v", *vectors, "--logit-scale", "10")
    cli("register", "v", "--vectors", folder / "labels.npz")
    cli("space", "create", "i", "--classifier", make_clip(folder / "clip"))
    cli("register", "i", folder / "learn")
    with server(folder / "home", log=folder / "log") as (_, address):
        ready(address)
        yield Both(folder, address)


READING = [
    "space list",
    "space list --format jsonl",
    "space show v",
    "label list v",
    "label list i --format csv",
    "support list v airport",
    "support list v --vectors --format jsonl",
    "support count v airport",
    "space verdicts v --sample 3",
    "score v --vectors queries.npz",
    "score v --vectors queries.npz --format jsonl --rule trustvlm --lambda 0.5",
    "score v --vectors queries.npz --only airport --only beach --evidence 2",
    "score i test learn/red/bad.png --format csv",
    "score i test/red/2.png",
    "search i --image test/blue/3.png --format jsonl -k 4",
    "search i --text 'a photo of a red.'",
    "search v --vector queries.npz --kind prototype",
    "map v --format csv",
    "map i --limit 4",
    "evaluate v --vectors truth.npz --draws 0",
    "evaluate i test --draws 0 --json",
    "calibration list v",
    "register i test --dry-run",
    "audit v",
    "label count v --where 'size >= 3'",
    "label tree v",
    "space history v --format jsonl",
    "space changes v --since 1 --format csv",
]


@pytest.mark.parametrize("line", READING)
def test_a_command_prints_what_it_prints_on_the_home(both: Both, line: str) -> None:
    both.check(*shlex.split(line))


WRONG = [
    ("space show nothing", 3),
    ("score nothing test", 3),
    ("score v", 2),
    ("score v test", 2),
    ("score v missing.jpg", 3),
    ("score i learn/red/bad.png", 2),
    ("score i test --rule none", 2),
    ("score i test --only purple", 3),
    ("search i --image missing.png", 3),
    ("search i --image learn/red/bad.png", 2),
    ("search v --text red", 2),
    ("evaluate i learn", 2),
    ("evaluate i test --no-label purple", 2),
    ("evaluate v test", 3),
    ("evaluate nothing test", 3),
    ("calibrate i test --rule posterior_star", 2),
    ("calibration show v", 3),
    ("label remove v airprot", 3),
    ("label restore v airport", 4),
    ("support remove v 999", 3),
    ("space create v --classifier precomputed:4", 4),
    ("register v --vectors queries.npz", 2),
    ("register v learn", 2),
    ("monitor v", 3),
]


@pytest.mark.parametrize(("line", "code"), WRONG)
def test_errors_have_the_same_sentences_and_exit_codes(both: Both, line: str, code: int) -> None:
    assert both.check(*line.split(), code=code).splitlines()[-1].startswith("Error: ")


def test_names_that_are_no_labels_are_told_with_what_was_meant(both: Both, tmp_path: Path) -> None:
    for name in ("red", "gren", "purple", "blues"):
        picture(tmp_path / name / "1.png", (9, 9, 9), 1)
    said = both.check("evaluate", "i", tmp_path, code=3)
    assert "did you mean" in said


def test_changes_are_made_in_the_service(both: Both, tmp_path: Path) -> None:
    extra = picture(tmp_path / "extra.png", COLOURS["red"], 9)
    both.change("register", "i", extra, "--label", "red")
    both.change("register", "i", tmp_path, "--label", "grey", "--json")
    both.change("register", "v", "--vectors", both.folder / "labels.npz")
    both.change("support", "add", "i", "grey", picture(tmp_path / "b" / "2.png", (8, 8, 8), 3))
    both.change("support", "remove", "v", "1")
    both.change("support", "restore", "v", "1")
    both.change("label", "update", "i", "grey", "--new-name", "gray")
    both.change("label", "set", "i", "gray", "size=3")
    both.change("label", "parent", "i", "gray", "colour")
    both.change("label", "parent", "i", "gray", "--none")
    both.change("support", "update", "v", "1", "--attributes", '{"size": 3}')
    both.change("space", "log-verdicts", "v", "--days", "2")
    both.change("space", "log-verdicts", "v", "--off")
    both.change("propose", "i", both.folder / "test")
    both.change("label", "alias", "i", "gray", "red")
    both.change("label", "unalias", "i", "gray")
    both.change("label", "remove", "i", "gray")
    both.change("label", "restore", "i", "gray")
    both.change("label", "remove", "i", "gray", "--purge")
    both.change("space", "create", "w", "--classifier", "precomputed:3")
    both.change("space", "remove", "w", "--yes")
    both.change("space", "restore", "w")
    both.change("feedback", "v", "--vectors", both.folder / "truth.npz", "--sampling", "random")
    calibrate = ("--vectors", both.folder / "truth.npz", "--rule", "msp", "--max-risk", "0.4")
    both.change("calibrate", "v", *calibrate)
    both.change("recalibrate", "v")
    both.check("calibration", "show", "v", "--json")
    both.check("monitor", "v")
    both.check("bulk", "status", both.folder, code=3)  # it reads a folder, and needs no home
    both.change("calibration", "remove", "v", "1")
    both.change("register", "i", both.folder / "learn", "--sync")


def test_a_report_is_written_here(both: Both, tmp_path: Path) -> None:
    code, _, said = both.run(
        "evaluate", "i", "test", "--draws", "0", "--report", tmp_path / "r.html", url=True
    )
    assert code == 0
    assert "report: " in said
    page = (tmp_path / "r.html").read_text()
    assert "#/i/labels/" in page
    assert 'href="http://127.0.0.1:8000/' not in page  # the service that answered is linked
    both.run("evaluate", "i", "test", "--draws", "0", "--report", tmp_path / "h.html", url=False)
    assert page.count("<img") == (tmp_path / "h.html").read_text().count("<img") > 0


ON_THE_HOME = (
    "start FOLDER", "backup FILE", "restore FILE", "export v FOLDER", "import FOLDER",
    "db current", "db upgrade", "db create", "db copy h k", "db doctor",
    "verify --all", "purge", "serve", "demo", "key create --scope read", "key list",
    "key rotate K", "key revoke K", "index stats v", "index rebuild v", "index tune v",
    "index suggest v", "label synonyms v", "space repoint v --verifier same",
    "space reembed v --status", "space index-attribute v size", "db new-epoch",
    "bulk score v IN OUT", "bulk embed v IN OUT",
)  # fmt: skip
ANYWHERE = ("index list", "index show flat", "completion bash")


@pytest.mark.parametrize("line", ON_THE_HOME)
def test_a_command_that_needs_the_home_says_so(both: Both, line: str) -> None:
    code, _, said = both.run(*line.split(), url=True)
    name = " ".join(word for word in line.split()[:2] if re.fullmatch("[a-z]{2,}", word))
    assert code == 2
    assert re.search(rf"'trustvlm {name}.*' works on the home itself: run it where", said)


def test_the_review_queue_is_the_same(both: Both) -> None:
    doubtful = np.array([[1, 1, 1, 0, 0, 0], [1, 1, 0, 0, 0, 1]])
    queue = save_queries(
        both.folder / "doubtful.npz", classifier=doubtful[:, :4], verifier=doubtful, sources=None
    )
    both.change("review", "on", "v")
    both.change("score", "v", "--vectors", queue, "--review")
    listed = both.check("review", "list", "v", "--state", "any", "--format", "jsonl")
    first, second, *_ = (json.loads(line)["id"] for line in listed.splitlines())
    both.check("review", "next", "v", "--json")
    both.change("review", "answer", "v", first, "--right")
    both.change("review", "skip", "v", second)
    both.change("review", "undo", "v", second)
    both.change("review", "export", "v", "--state", "any", "-o", both.folder / "queue.csv")
    both.change("review", "import", "v", both.folder / "queue.csv")
    both.change("review", "answer", "v", 999, "--right", code=3)
    both.change("review", "add-logged", "v", "--sample", "2", "--json")
    both.change("review", "off", "v")


def test_every_command_is_sent_or_refused() -> None:
    tried = [line for line, _ in WRONG] + READING + list(ON_THE_HOME + ANYWHERE)
    source = Path(__file__).read_text(encoding="utf-8")
    for words, command in commands():
        if words and not hasattr(command, "commands"):
            called = " ".join(words)
            changed = '", "'.join(words)
            assert any(line.startswith(called) for line in tried) or f'("{changed}"' in source


LIGHT = (
    "score i test/red/2.png",
    pytest.param("search i --image test/red/2.png", marks=pytest.mark.slow),
    pytest.param("register i learn/red/0.png --label red", marks=pytest.mark.slow),
)


@pytest.mark.parametrize("line", LIGHT)
def test_nothing_heavy_is_imported_to_send_a_command(both: Both, line: str) -> None:
    command = [sys.executable, "-X", "importtime", *COMMAND[1:], "--url", both.address]
    done = subprocess.run(
        [*command, *line.split()],
        capture_output=True, text=True, check=True, timeout=120, cwd=both.folder,
        env=without_home_variables(),
    )  # fmt: skip
    imported = {line.rpartition("|")[2].strip() for line in done.stderr.splitlines()}
    assert "httpx" in imported
    heavy = ("torch", "faiss", "sqlalchemy", "alembic", "open_clip", "timm", "torchvision", "scipy")
    assert not imported.intersection((*heavy, "fastapi", "trustvlm.settings", "PIL"))


def test_home_and_url_together_are_refused(both: Both) -> None:
    both_given = ["--home", "h", "--url", both.address, "space", "list"]
    done = subprocess.run(
        [*COMMAND, *both_given], capture_output=True, text=True, check=False, timeout=60,
        env=without_home_variables(),
    )  # fmt: skip
    assert done.returncode == 2
    expected = "Expected --home (TRUSTVLM_HOME) or --url (TRUSTVLM_URL); got both together."
    assert done.stderr.splitlines()[-1] == f"Error: {expected}"


def test_the_command_line_goes_before_the_environment(both: Both) -> None:
    listed = both.check("space", "list")
    assert both.run("space", "list", url=True, TRUSTVLM_HOME="/nowhere")[1] == listed
    assert both.run("space", "list", url=False, TRUSTVLM_URL="http://127.0.0.1:9")[1] == listed
    code, _, said = both.run("--device", "cpu", "space", "list", url=True)
    assert code == 2
    assert said.endswith("leave out --device and --precision.\n")


def test_no_service_and_no_key_are_said(both: Both, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(transport, "FIRST_PAUSE_S", 0.01)
    nobody = Both(both.folder, "http://127.0.0.1:9")
    code, _, said = nobody.run("space", "list", url=True)
    assert code == 5
    assert said.startswith("Error: http://127.0.0.1:9: no answer (")
    code, _, said = Both(both.folder, "nonsense").run("space", "list", url=True)
    assert code == 2
    assert said.startswith("Error: --url: expected something like 'http://127.0.0.1:8000'")


def test_folders_of_the_client_stay_with_it(both: Both, tmp_path: Path) -> None:
    """A service stores image files by name; the command prints their paths as on the home."""
    image = picture(tmp_path / "far" / "new.png", (90, 160, 120), 7)
    assert str(image) in both.change("score", "i", image, "--review")
    both.change("feedback", "i", "--image", picture(image.with_name("b.png"), (40, 40, 200), 8),
                "--label", "blue")  # fmt: skip
    code, listed, _ = both.run("review", "list", "i", "--format", "jsonl", url=True)
    assert (code, [json.loads(line)["source"] for line in listed.splitlines()]) == (0, ["new.png"])
    with trustvlm.Client(both.address) as client:
        assert client.score("i", [image], review=True).source.tolist() == [str(image)]
        stored = [item.source for item in client.review("i").items().items]
        assert stored == ["new.png"]
    catalog = both.folder / "home" / "catalog.sqlite3"
    with contextlib.closing(sqlite3.connect(catalog)) as connection:
        stored = connection.execute("select source from observations").fetchall()
        assert ("b.png",) in stored
        assert not [source for (source,) in stored if "far" in (source or "")]
