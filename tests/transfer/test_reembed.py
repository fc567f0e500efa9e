"""A space gets other encoders: nothing is lost, nothing is mixed, and the old embeddings stay until
told."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

import numpy as np
import pytest
from checkpoints import make_clip, make_timm
from cli_runner import NAMES, Cli, save_labels
from PIL import Image
from raw_sql import run_sql
from worlds import assert_same_verdicts

import trustvlm
from trustvlm import LabelInput, Queries, TrustService

COLOURS = {
    "red": (200, 40, 40),
    "green": (40, 200, 40),
    "blue": (40, 40, 200),
    "yellow": (220, 210, 60),
}
TEMPLATES = ["a {} square", "a photo of {}"]


@pytest.fixture(scope="module")
def specs(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """Two classifiers and two verifiers: old and new."""
    folder = tmp_path_factory.mktemp("checkpoints")
    return {
        "clip": make_clip(folder / "clip"),
        "verifier": make_timm(folder / "verifier.safetensors"),
        "new clip": make_clip(folder / "new-clip", seed=1),
        "new verifier": make_timm(folder / "new-verifier.safetensors", seed=1),
    }


def pictures(folder: Path, name: str, count: int, seed: int = 0) -> list[Path]:
    """`count` pictures of a colour."""
    rng = np.random.default_rng([seed, *name.encode()])
    (folder / name).mkdir(parents=True, exist_ok=True)
    found = []
    for i in range(count):
        pixels = np.clip(rng.normal(COLOURS[name], 40, size=(40, 44, 3)), 0, 255).astype(np.uint8)
        found.append(folder / name / f"{i}.png")
        Image.fromarray(pixels).save(found[-1])
    return found


@pytest.fixture
def images(tmp_path: Path) -> dict[str, list[Path]]:
    return {name: pictures(tmp_path / "images", name, 4) for name in COLOURS}


@pytest.fixture
def service(tmp_path: Path, specs: dict[str, str]) -> Iterator[TrustService]:
    with trustvlm.open(tmp_path / "home", create=True, batch_size=4) as opened:
        opened.create_space(
            "s",
            classifier=specs["clip"],
            verifier=specs["verifier"],
            templates=["a photo of a {}."],
        )
        yield opened


def fill(
    service: TrustService, images: dict[str, list[Path]], space: str = "s", **options: bool
) -> None:
    inputs = [LabelInput(name, images=images[name][:3]) for name in ("red", "green", "blue")]
    service.register(
        space,
        [*inputs, LabelInput("violet", prompt="something violet"), LabelInput("sky")],
        **options,
    )
    service.alias(space, "sky", "blue")


def held_out(images: dict[str, list[Path]]) -> Queries:
    return Queries(images=[paths[3] for paths in images.values()])


def require_equal_to_fresh(
    service: TrustService, specs: dict[str, str], images: dict[str, list[Path]], **registered: bool
) -> None:
    """The space answers as one that was made with its encoders and filled with the same things."""
    row = service.get_space("s")
    service.create_space(
        "fresh",
        classifier=row.classifier,
        verifier=row.verifier,
        templates=row.templates,
        logit_scale=row.logit_scale,
    )
    fill(service, images, "fresh")
    for rule in ("posterior", "trustvlm", "trustvlm_star", "knn"):
        got, expected = (
            service.score(space, held_out(images), rule=rule) for space in ("s", "fresh")
        )
        assert_same_verdicts(got, expected)
    names = [
        (label.name, label.prompt, label.support_count, label.alias_of)
        for label in service.list_labels("s")
    ]
    assert sorted(names) == sorted(
        (x.name, x.prompt, x.support_count, x.alias_of) for x in service.list_labels("fresh")
    )
    for kind in ("support", "prototype", "text"):
        got, expected = (
            service.search(space, held_out(images), kind=kind, k=5) for space in ("s", "fresh")
        )
        np.testing.assert_allclose(got.similarity, expected.similarity, atol=1e-5)
    texts = Queries(text=["a red thing"])
    got, expected = (service.search(space, texts, kind="support", k=9) for space in ("s", "fresh"))
    np.testing.assert_allclose(got.similarity, expected.similarity, atol=1e-5)


def new_encoders(specs: dict[str, str]) -> dict[str, object]:
    return {
        "classifier": specs["new clip"],
        "verifier": specs["new verifier"],
        "templates": TEMPLATES,
    }


def test_from_kept_originals_equal_to_a_fresh_space(
    service: TrustService, specs: dict[str, str], images: dict[str, list[Path]], tmp_path: Path
) -> None:
    fill(service, images, keep_originals=True)
    shutil.copytree(tmp_path / "images", tmp_path / "queries")
    shutil.rmtree(tmp_path / "images")  # the originals are the home's
    before = service.get_space("s")
    done = service.reembed_space("s", **new_encoders(specs))
    shutil.copytree(tmp_path / "queries", tmp_path / "images")
    assert (done.state, done.labels, done.supports, done.missing) == ("kept", 5, 9, ())
    after = service.get_space("s")
    assert after.revision > before.revision
    assert (after.label_count, after.support_count) == (5, 9)
    assert after.classifier == specs["new clip"]
    assert [row.name for row in service.list_spaces()] == ["s"]
    require_equal_to_fresh(service, specs, images)


def test_missing_originals_are_listed_and_found_by_content(
    service: TrustService, specs: dict[str, str], images: dict[str, list[Path]], tmp_path: Path
) -> None:
    fill(service, images)
    before = service.score("s", held_out(images))
    with pytest.raises(
        trustvlm.Conflict,
        match=r"9 of its support images have no original \(1 of 'red' from .*0\.png",
    ):
        service.reembed_space("s", **new_encoders(specs))
    status = service.reembed_status("s")
    assert (status.state, status.labels, status.supports) == ("staged", 5, 0)
    assert [(item.label, Path(str(item.source)).name) for item in status.missing] == [
        (name, f"{i}.png") for name in ("red", "green", "blue") for i in range(3)
    ]
    assert_same_verdicts(service.score("s", held_out(images)), before)
    # Files of other names in other places, with one that is not what it was.
    copies = tmp_path / "elsewhere" / "deep"
    copies.mkdir(parents=True)
    for number, path in enumerate(path for paths in images.values() for path in paths[:3]):
        shutil.copy(path, copies / f"{number}.bin")
    (copies / "0.bin").write_bytes(images["red"][3].read_bytes())
    with pytest.raises(
        trustvlm.Conflict, match=r"1 of its support images have no original \(1 of 'red'"
    ):
        service.reembed_space("s", **new_encoders(specs), originals_from=tmp_path / "elsewhere")
    assert [item.id for item in service.reembed_status("s").missing] == [1]
    shutil.copy(images["red"][0], copies / "0.bin")
    encoded: list[int] = []
    done = service.reembed_space(
        "s", originals_from=[tmp_path / "elsewhere"], progress=encoded.append
    )
    assert sum(encoded) == 1, "what was embedded before is not embedded again"
    assert (done.state, done.supports, done.missing) == ("kept", 9, ())
    require_equal_to_fresh(service, specs, images)


def test_what_is_missing_can_be_left_behind(
    service: TrustService, specs: dict[str, str], images: dict[str, list[Path]], tmp_path: Path
) -> None:
    fill(service, images)
    shutil.rmtree(tmp_path / "images" / "red")
    done = service.reembed_space(
        "s", **new_encoders(specs), originals_from=tmp_path / "images", drop_missing=True
    )
    assert (done.supports, [item.label for item in done.missing]) == (6, ["red"] * 3)
    assert {row.name: row.support_count for row in service.list_labels("s")}["red"] == 0
    service.restore_space("s")  # they are with the old embeddings
    assert {row.name: row.support_count for row in service.list_labels("s")}["red"] == 3


def test_an_encoder_that_stays_needs_no_originals(
    service: TrustService, specs: dict[str, str], images: dict[str, list[Path]]
) -> None:
    fill(service, images)
    encoded: list[int] = []
    done = service.reembed_space("s", templates=TEMPLATES, progress=encoded.append)
    assert (encoded, done.supports) == ([], 9)
    service.discard_old("s")
    require_equal_to_fresh(service, specs, images)
    with pytest.raises(trustvlm.Conflict, match="have no original"):
        service.reembed_space("s", verifier=specs["new verifier"])
    service.abort_reembed("s")
    done = service.reembed_space(
        "s", classifier=specs["new clip"]
    )  # the verifier, and so every prototype, stays
    assert (done.state, done.supports, done.missing) == ("kept", 9, ())
    with pytest.raises(
        trustvlm.InvalidInput, match="classifier embedding"
    ):  # search by text needs the originals
        service.search("s", Queries(text=["red"]), kind="support")
    assert service.score("s", held_out(images), rule="image").nearest_prototype.tolist()[:3] == [
        "red",
        "green",
        "blue",
    ]


@pytest.mark.slow  # by default: test_from_kept_originals_equal_to_a_fresh_space
def test_the_way_forward_after_weights_changed_under_their_name(
    tmp_path: Path, images: dict[str, list[Path]]
) -> None:
    spec = make_clip(tmp_path / "clip")
    with trustvlm.open(tmp_path / "home", create=True) as service:
        service.create_space("s", classifier=spec)
        fill(service, images, keep_originals=True)
    assert make_clip(tmp_path / "clip", seed=1) == spec
    with trustvlm.open(tmp_path / "home") as service:
        with pytest.raises(
            trustvlm.Conflict, match=r"its weights changed .*trustvlm .*space reembed s"
        ):
            service.score("s", held_out(images))
        assert service.reembed_space("s", classifier=spec).supports == 9
        require_equal_to_fresh(service, {}, images)


def test_calibrations_and_images_of_known_label(
    service: TrustService, specs: dict[str, str], images: dict[str, list[Path]], tmp_path: Path
) -> None:
    fill(service, images, keep_originals=True)
    known = [pictures(tmp_path / "known", name, 12, seed=1) for name in ("red", "green", "blue")]
    queries = Queries(images=[path for paths in known for path in paths])
    truth = [name for name in ("red", "green", "blue") for _ in range(12)]
    made = service.calibrate("s", queries, truth, rule="image", max_risk=0.5, confidence=0.5)
    told = pictures(tmp_path / "told", "yellow", 2, seed=1)
    service.feedback("s", Queries(images=told), [None, "blue"], sampling="random")
    assert made.threshold is not None
    (tmp_path / "known" / "blue" / "11.png").unlink()
    (tmp_path / "told" / "yellow" / "1.png").unlink()
    done = service.reembed_space("s", **new_encoders(specs), originals_from=tmp_path)
    assert (done.calibrations, done.observations, done.observations_left) == (1, 36, 2)
    (copied,) = service.list_calibrations("s")
    assert copied.other_encoders
    assert (copied.rule, copied.threshold, copied.created_at) == (
        made.rule,
        made.threshold,
        made.created_at,
    )
    verdicts = service.score("s", held_out(images))
    assert verdicts.rule == "image"
    assert verdicts.accepted.tolist() == [False] * 4, "the promise was made for other encoders"
    assert verdicts.probability.tolist() == [None] * 4
    assert verdicts.stale_since == made.revision + 1
    assert " recalibrate s'" in verdicts.reason[0]
    with pytest.raises(trustvlm.NotFound, match="re-embedded"):
        service.monitor("s")
    again = service.recalibrate("s")
    assert (again.other_encoders, again.images, again.max_risk, again.rule) == (
        False,
        36,
        0.5,
        "image",
    )
    assert service.score("s", held_out(images)).accepted.tolist() != [False] * 4
    service.restore_space("s")
    assert not service.list_calibrations("s")[0].other_encoders
    assert service.score("s", held_out(images)).calibration_id == made.id


def kept_files(home: Path) -> set[str]:
    return {path.parent.name + path.name for path in (home / "originals").glob("*/*")}


def test_originals_are_kept_once_and_go_with_the_last_support_image(
    service: TrustService, images: dict[str, list[Path]], tmp_path: Path
) -> None:
    home, red = tmp_path / "home", images["red"]
    picture = Image.open(red[3]).convert("P")  # no file: its pixels are its content
    service.register("s", [LabelInput("red", images=red[:2]), LabelInput("rosso", images=[red[0]])])
    assert not (home / "originals").exists()
    again = service.register(
        "s", [LabelInput("red", images=[*red[:2], picture])], keep_originals=True
    )
    assert (again.added_supports, again.skipped_duplicates) == (1, 2)
    service.register("s", [LabelInput("rosso", images=[red[0].read_bytes()])], keep_originals=True)
    hashes = {content.hex() for (content,) in run_sql(home, "SELECT content_hash FROM supports")}
    assert len(hashes) == 3
    assert kept_files(home) == hashes
    (stray := home / "originals" / "00").mkdir()
    (stray / ("0" * 62)).write_bytes(b"of a call that was killed")
    service.remove_label("s", "red")
    service.purge()
    assert kept_files(home) == hashes, "removed, but within the undo window"
    service.purge(older_than=timedelta(0))
    assert len(kept_files(home)) == 1, "the other label still has one of them"
    service.remove_label("s", "rosso", purge=True)
    assert kept_files(home) == set()


def test_a_damaged_original_is_no_original(
    service: TrustService, specs: dict[str, str], images: dict[str, list[Path]], tmp_path: Path
) -> None:
    picture = Image.open(images["green"][0]).convert("L")
    service.register(
        "s", [LabelInput("red", images=[*images["red"][:2], picture])], keep_originals=True
    )
    files = sorted((tmp_path / "home" / "originals").glob("*/*"))
    for path in files[:2]:
        data = bytearray(path.read_bytes())
        data[-20] ^= 1
        path.write_bytes(data)
    with pytest.raises(trustvlm.Conflict, match="2 of its support images have no original"):
        service.reembed_space("s", **new_encoders(specs))
    service.add_support("s", "red", images=[*images["red"][:2], picture], keep_originals=True)


def test_on_the_command_line(
    specs: dict[str, str], images: dict[str, list[Path]], tmp_path: Path
) -> None:
    cli = Cli(tmp_path / "home")
    cli("space", "create", "s", "--classifier", specs["clip"])
    cli("register", "s", *images["red"][:2], "--label", "red", "--keep-originals")
    cli("register", "s", *images["blue"][:2], "--label", "blue")
    cli("support", "add", "s", "blue", images["blue"][2], "--keep-originals")
    assert "is not being re-embedded" in cli("space", "reembed", "s", "--status")
    asked = (
        "space",
        "reembed",
        "s",
        "--classifier",
        specs["new clip"],
        "--template",
        "a {} square",
    )
    assert "2 of its support images have no original (3 of 'blue' from" in cli(*asked, code=4)
    status = cli("space", "reembed", "s", "--status").splitlines()
    assert status[0].startswith(
        "space s is being re-embedded: 2 labels, 3 support images so far; classifier open_clip:"
    )
    assert status[1:] == [
        f"no original: support image {i} of blue from {images['blue'][i - 3]}" for i in (3, 4)
    ]
    assert (
        json.loads(cli("space", "reembed", "s", "--status", "--json"))["missing"][0]["label"]
        == "blue"
    )
    done = cli.run("space", "reembed", "s", "--finish", "--from", tmp_path / "images")
    assert done.stdout.startswith(
        "space s is re-embedded: 2 labels, 5 support images; classifier open_clip:"
    )
    assert "the old embeddings are kept: 'trustvlm space restore s' puts them back" in done.stderr
    assert "a {} square" in cli("space", "show", "s")
    assert "its old embeddings are kept" in cli("space", "reembed", "s", "--status")
    assert "revision" in cli("space", "restore", "s")
    assert "a photo of a {}." in cli("space", "show", "s")
    cli(*asked, "--drop-missing", "--json")
    assert "deleted with the next purge" in cli("space", "reembed", "s", "--discard-old")
    cli("space", "reembed", "s", "--discard-old", code=3)
    assert "nothing is being re-embedded" in cli("space", "reembed", "s", "--abort", code=3)
    assert "--template with the new value" in cli("space", "reembed", "s", code=2)
    assert "goes alone" in cli("space", "reembed", "s", "--abort", "--from", tmp_path, code=2)
    assert "goes on with the encoders" in cli(
        "space", "reembed", "s", "--finish", "--verifier", "same", code=2
    )


def test_vectors_on_the_command_line(tmp_path: Path) -> None:
    cli = Cli(tmp_path / "home")
    cli("space", "create", "s", "--classifier", "precomputed:4", "--verifier", "precomputed:6")
    cli("register", "s", "--vectors", save_labels(tmp_path / "labels.npz"))
    ids = [
        row["id"] for name in ("airport", "beach") for row in cli.rows("support", "list", "s", name)
    ]
    np.savez(tmp_path / "images.npz", support_ids=np.array(ids), image_vectors=np.eye(4, 5))
    np.savez(tmp_path / "texts.npz", label_names=np.array(NAMES), text_vectors=np.eye(3))
    asked = (
        "space",
        "reembed",
        "s",
        "--classifier",
        "precomputed:3",
        "--verifier",
        "precomputed:5",
    )
    assert "nothing gives 3 of its labels" in cli(
        *asked, "--vectors", tmp_path / "images.npz", code=4
    )
    np.savez(tmp_path / "bad.npz", support_ids=np.array(ids), image_vectors=np.eye(3, 5))
    assert "expected shape (4, dim)" in cli(*asked, "--vectors", tmp_path / "bad.npz", code=2)
    done = cli(
        *asked, "--vectors", tmp_path / "images.npz", "--text-vectors", tmp_path / "texts.npz"
    )
    assert done.startswith(
        "space s is re-embedded: 3 labels, 4 support images; classifier precomputed:3"
    )


KEEPING = """
import sys, trustvlm
with trustvlm.open(sys.argv[1]) as service:
    service.register("s", [trustvlm.LabelInput("red", images=[sys.argv[2]])], keep_originals=True)
"""


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("strace") is None, reason="strace is not installed")
def test_an_original_is_on_the_disk_before_the_commit_that_refers_to_it(
    service: TrustService, images: dict[str, list[Path]], tmp_path: Path
) -> None:
    trace = tmp_path / "trace"
    watched = "trace=fsync,fdatasync,rename,renameat,renameat2"
    command = ["strace", "-f", "-y", "-o", str(trace), "-e", watched, sys.executable, "-c", KEEPING]
    subprocess.run(
        [*command, str(tmp_path / "home"), str(images["red"][0])], check=True, timeout=120
    )
    calls = [line.split(None, 1)[1] for line in trace.read_text().splitlines()]
    (renamed,) = [
        i for i, call in enumerate(calls) if call.startswith("rename") and "/originals/" in call
    ]
    (written,) = [
        i for i, call in enumerate(calls) if call.startswith("fsync") and "/.writing-" in call
    ]
    listed = [
        i
        for i, call in enumerate(calls)
        if call.startswith("fsync") and re.search(r"/originals/\w\w>", call)
    ]
    committed = [
        i for i, call in enumerate(calls) if "sync(" in call and "catalog.sqlite3-wal" in call
    ]
    assert written < renamed < listed[0]
    assert [i for i in committed if i > listed[0]], "the commit comes after it"
    assert not [i for i in committed if written < i < listed[0]]
