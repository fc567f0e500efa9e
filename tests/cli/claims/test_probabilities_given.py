"""Spaces with an external classifier on the command line: tables and arrays of probabilities."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from checkpoints import make_clip
from cli_runner import Cli
from PIL import Image

FILES = ["red/1.png", "red/2.png", "red/3.png", "blue/1.png", "blue/2.png"]
REST = ["red/3.png", "blue/2.png"]


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory) -> tuple[Cli, Path]:
    """A home whose external space "s" has an image or two of red and blue, and green; photos."""
    folder = tmp_path_factory.mktemp("external")
    for seed, name in enumerate(FILES):
        path = folder / ("photos" if name in REST else "known") / name
        path.parent.mkdir(parents=True, exist_ok=True)
        pixels = np.random.default_rng(seed).integers(0, 255, (24, 24, 3), np.uint8)
        Image.fromarray(pixels).save(path)
    cli = Cli(folder / "home")
    clip = make_clip(folder / "clip")
    said = cli("space", "create", "s", "--classifier", "external:9", "--verifier", clip)
    assert "classifier external:9" in said
    cli("register", "s", folder / "known")
    (folder / "names.txt").write_text("green\n")
    cli("register", "s", "--labels", folder / "names.txt")
    (folder / "wide.csv").write_text(
        "file,red,blue,green\nred/3.png,0.9,,\nblue/2.png,0.1,0.7,0.2\n"
    )
    return cli, folder


def test_tables_of_probabilities(photos: tuple[Cli, Path]) -> None:
    cli, folder = photos
    (folder / "long.tsv").write_text(
        "path\tlabel\tprobability\nred/3.png\tred\t0.9\nblue/2.png\tred\t0.1\nblue/2.png\tblue\t0.7\n"
    )
    table = {"file": REST, "red": [0.9, 0.1], "blue": [None, 0.7], "green": [None, 0.2]}
    pq.write_table(pa.table(table), folder / "wide.parquet")
    answers = []
    for name in ("wide.csv", "long.tsv", "wide.parquet"):
        given = ("--probabilities", folder / name, "--rule", "msp")
        rows = cli.rows("score", "s", folder / "photos", *given)
        answers.append([(row["label"], round(row["text_confidence"], 4)) for row in rows])
    assert answers[0] == [("blue", 0.7), ("red", 0.9)]
    assert answers[1] == answers[2] == answers[0]


def test_measuring(photos: tuple[Cli, Path]) -> None:
    cli, folder = photos
    given = (folder / "photos", "--probabilities", folder / "wide.csv")
    assert "accuracy" in cli("evaluate", "s", *given, "--rules", "msp")
    said = cli("calibrate", "s", *given, "--rule", "msp", "--threshold", "0.5", code=1)
    assert "0 of 2 accepted images are wrong, which are too few" in said
    vectors = folder / "new.npz"
    row = cli.rows("space", "list")[0]
    verifier = np.random.default_rng(3).normal(size=(2, row["verifier_dim"]))
    np.savez(
        vectors, verifier=verifier, probabilities=[[0.2, 0.8], [0.6, 0.4]],
        outputs=["red", "blue"], truth=["blue", "red"],
    )  # fmt: skip
    rows = cli.rows("score", "s", "--vectors", vectors, "--rule", "msp")
    assert [row["label"] for row in rows] == ["blue", "red"]
    assert "100" in cli("evaluate", "s", "--vectors", vectors, "--rules", "msp")


def test_an_audit_says_why_no_text_takes_part(photos: tuple[Cli, Path]) -> None:
    cli, folder = photos
    rng = np.random.default_rng(0)
    middles = np.repeat(np.eye(2, 8), 12, axis=0)
    arrays = {"image_vectors": middles + 0.2 * rng.normal(size=(24, 8))}
    arrays["image_labels"] = np.repeat(np.arange(2), 12)
    for classifier, why in (
        ("external:9", "the classifier is external, and embeds no images"),
        (
            "precomputed:4",
            "their classifier embedding is not stored; pass classifier_image_vectors",
        ),
    ):
        space = f"audited-{classifier.partition(':')[0]}"
        cli("space", "create", space, "--classifier", classifier, "--verifier", "precomputed:8")
        texts = {} if "external" in classifier else {"text_vectors": np.eye(2, 4)}
        np.savez(folder / "supports.npz", label_names=["red", "blue"], **arrays, **texts)
        cli("register", space, "--vectors", folder / "supports.npz")
        assert f"24 images judged without text: {why}" in cli.run("audit", space).stderr


def test_printed_numbers_are_taken_as_they_are(photos: tuple[Cli, Path]) -> None:
    """Rounded to two decimals, with a decimal comma, or both; sums above and below 1."""
    cli, folder = photos
    (folder / "rounded.csv").write_text(
        "file;red;blue;green\nred/3.png;0,67;0,17;0,17\nblue/2.png;0.33;0.34;0.32\n"
    )
    given = ("--probabilities", folder / "rounded.csv", "--rule", "msp")
    rows = cli.rows("score", "s", folder / "photos", *given)
    assert [(row["label"], round(row["text_confidence"], 4)) for row in rows] == [
        ("blue", round(0.34 / 0.99, 4)),
        ("red", round(0.67 / 1.01, 4)),
    ]
    np.savez(
        folder / "wrong.npz", probabilities=[[0.5, 0.5], [0.9, 0.9]], outputs=["red", "blue"],
    )  # fmt: skip
    error = cli("score", "s", "--vectors", folder / "wrong.npz", "--rule", "msp", code=2)
    assert "wrong.npz: probabilities: row 1: expected values of at least 0 with the sum 1" in error


def test_what_does_not_fit_is_refused(photos: tuple[Cli, Path]) -> None:
    cli, folder = photos
    score = ("score", "s", folder / "photos", "--probabilities")
    texts = {
        "none.csv": ("file,red\nred/3.png,1\n", "no probabilities of"),
        "twice.csv": ("file,red\nred/3.png,1\nred/3.png,1\n", "red/3.png comes twice"),
        "words.csv": ("file,red\nred/3.png,likely\n", "red: expected a probability, got 'likely'"),
        "columns.csv": ("red,blue\n1,0\n", "expected a column file and a column for each label"),
        "sums.csv": (
            "file,red,blue\nblue/2.png,1,0\nred/3.png,1,1\n",
            "sums.csv: red/3.png: expected values of at least 0 with a sum of at most 1, got the sum "
            "2; logits go into log_probabilities; divide others by their sum",
        ),
        "percent.csv": ("file,red,blue\nred/3.png,90,10\n", "divide others by 100 (per cent)"),
        "sign.csv": ("file;red;blue\nred/3.png;90 %;10 %\n", "90 % is written as 0.9"),
        "low.csv": (
            "file,red,blue,green\nred/3.png,0.2,0.2,0.2\nblue/2.png,1,0,0\n",
            "--probabilities: ",
        ),
        "others.csv": ("file,reed\nred/3.png,1\nblue/2.png,1\n", "did you mean 'red'"),
        "table.txt": ("red\n", "expected a table (.csv, .tsv, .parquet)"),
    }
    for name, (text, message) in texts.items():
        (folder / name).write_text(text)
        code = 3 if name == "others.csv" else 2
        assert message in cli(*score, folder / name, code=code), name
    assert "no file" in cli(*score, folder / "absent.csv", code=3)
    assert "needs the probabilities" in cli("score", "s", folder / "photos", code=2)
    error = cli("score", "s", "--vectors", "x.npz", "--probabilities", folder / "wide.csv", code=2)
    assert "is a table about images" in error
