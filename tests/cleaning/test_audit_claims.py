"""An audit of claims: which labels that were given elsewhere are probably wrong."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from checkpoints import make_clip
from PIL import Image

import trustvlm
from tests.cleaning.test_audit import Noisy, make
from tests.support.cli_runner import Cli

UNKNOWN = "no such label"


@pytest.fixture
def noisy() -> Noisy:
    return Noisy(shots=6)


def queries_of(noisy: Noisy, claimed: Any) -> trustvlm.Queries:
    return trustvlm.Queries(noisy.classifier, noisy.verifier, claimed=claimed)


def claims_of(noisy: Noisy) -> list[str | None]:
    claims: list[str | None] = [noisy.names[label] for label in noisy.label]
    claims[3], claims[5] = None, UNKNOWN
    return claims


def test_claims_are_judged_as_labels(verbs: Any, noisy: Noisy) -> None:
    make(verbs)
    verbs.register(
        "s", [trustvlm.LabelInput(n, t) for n, t in zip(noisy.names, noisy.text, strict=True)]
    )
    claims, sources = claims_of(noisy), [f"image {row}" for row in range(len(noisy.label))]
    truth = [None if claim == UNKNOWN else claim for claim in claims]
    plain = trustvlm.Queries(noisy.classifier, noisy.verifier)
    expected = verbs.audit("s", plain, truth, sources=sources)
    audit = verbs.audit("s", queries_of(noisy, claims), sources=sources)
    assert audit == expected
    assert audit.unlabelled == 2
    assert audit.flagged > 0
    array = np.array(["" if claim is None else claim for claim in claims])
    assert verbs.audit("s", queries_of(noisy, array.tolist()), limit=3).rows == tuple(
        row for row in verbs.audit("s", plain, truth, limit=3).rows
    )
    with pytest.raises(trustvlm.InvalidInput, match=r"truth, claimed: .* one of the two"):
        verbs.audit("s", queries_of(noisy, claims), truth)
    for wrong in (claims[:-1], []):
        with pytest.raises(trustvlm.InvalidInput, match=r"claimed: expected 60 names"):
            verbs.audit("s", queries_of(noisy, wrong))


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory) -> tuple[Cli, Path]:
    """A home of two labels, with six images each; six photos and what they are claimed to be."""
    root = tmp_path_factory.mktemp("photos")
    cli = Cli(root / "home")
    rows = ["file,said"]
    for number in range(18):
        name = ("red", "blue")[number % 2]
        kind = "support/" + name if number < 12 else "new"
        path = root / kind / f"{number}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        noise = np.random.default_rng(number).normal(0, 8, (24, 24, 3))
        colour = np.array([230, 20, 20] if name == "red" else [20, 20, 230])
        Image.fromarray(np.clip(colour + noise, 0, 255).astype(np.uint8)).save(path)
        if number >= 12:
            said = {16: "blue", 17: UNKNOWN}.get(number, name)
            rows.append(f"new/{number}.png,{said}")
    (root / "table.csv").write_text("\n".join([*rows, ""]))
    (root / "claims.csv").write_text("\n".join(["file,label", *rows[1:], ""]))
    (root / "claims.txt").write_text("\n".join([*[row.split(",")[1] for row in rows[1:]], ""]))
    cli("space", "create", "s", "--classifier", make_clip(root / "clip"))
    cli("register", "s", root / "support")
    return cli, root


@pytest.mark.parametrize(
    ("given", "claimed"),
    [
        ("table.csv", "said"),
        ("new", "claims.csv"),
        ("table.csv", "claims.csv"),
        ("new", "claims.txt"),
    ],
)
def test_the_command_line(photos: tuple[Cli, Path], given: str, claimed: str) -> None:
    cli, root = photos
    where = root / claimed if "." in claimed else claimed
    command = ("audit", "s", root / given, "--claimed", where, "--all")
    result = cli.run(*command, "--format", "jsonl")
    rows = [json.loads(line) for line in result.stdout.splitlines()]
    assert {Path(row["source"]).name: row["label"] for row in rows} == {
        "12.png": "red", "13.png": "blue", "14.png": "red", "15.png": "blue", "16.png": "blue",
    }  # fmt: skip
    assert Path(rows[0]["source"]).name == "16.png"
    assert rows[0]["looks_like"] == "red"
    table = cli.run(*command)
    assert "1 image not judged: without a claim that is a label of s" in table.stderr


def test_vectors_with_an_array_of_claims(tmp_path: Path, noisy: Noisy) -> None:
    cli = Cli(tmp_path / "home")
    with trustvlm.open(tmp_path / "home", create=True) as service:
        make(service)
        service.register("s", noisy.inputs())
        expected = service.audit("s", queries_of(noisy, claims_of(noisy)))
    path = tmp_path / "vectors.npz"
    said = np.array([claim or "" for claim in claims_of(noisy)])
    np.savez(path, classifier=noisy.classifier, verifier=noisy.verifier, said=said)
    rows = cli.rows("audit", "s", "--vectors", path, "--claimed", "said", "--all")
    assert [row["place"] for row in rows] == [row.place for row in expected]
    assert [row["suspicion"] for row in rows] == pytest.approx([r.suspicion for r in expected])


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--claimed", "said"], "--claimed is about images; expected FOLDER or --vectors, too"),
        (["new", "--claimed", "said"], "--claimed: no file said; a column needs images in a table"),
        (["table.csv", "--claimed", "sayd"], "expected a column 'sayd'"),
        (["new", "--claimed", "claims.txt", "--clean-names"], "--claimed, leave them out"),
        (["new", "--claimed", "claims.txt", "--remove", "--id", "1"], "leave out FOLDER"),
    ],
)
def test_what_is_no_claim_is_refused(
    photos: tuple[Cli, Path], options: list[str], message: str
) -> None:
    cli, root = photos
    given = [str(root / one) if (root / one).exists() else one for one in options]
    assert message in " ".join(cli("audit", "s", *given, code=2).split())
