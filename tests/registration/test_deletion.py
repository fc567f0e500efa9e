"""A purge deletes: no byte of a removed image's embeddings or picture is left in any file of the
home."""

from __future__ import annotations

import shutil
import signal
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from checkpoints import make_clip, make_timm
from damage import flip_in_column
from forked import run_code
from numbered import AT_ONCE, CLASSIFIER, VERIFIER, create, label, queries, require_equal, vectors
from PIL import Image
from raw_sql import run_sql

import trustvlm
from trustvlm import LabelInput, Queries
from trustvlm.index.snapshot import map_snapshot
from trustvlm.service.memory import cache_registry
from trustvlm.softmax.quantize import to_bfloat16

PIECE = 24
"""Bytes in a row that are a picture's or vector's own: six float32 or twelve 16-bit numbers."""


def pieces(secret: bytes) -> Iterator[bytes]:
    """Its beginning, middle and end, so that what is left of half of it is found too."""
    for start in (0, (len(secret) - PIECE) // 2, len(secret) - PIECE):
        yield secret[start : start + PIECE]


def traces(home: Path, secrets: dict[str, bytes]) -> dict[str, set[str]]:
    """What is found, where: of every secret, any piece, in any file, hidden and temporary ones too;
    as text in hex as well."""
    found: dict[str, set[str]] = {}
    for path in (path for path in home.rglob("*") if path.is_file()):
        data = path.read_bytes()
        lower = data.lower()
        for what, secret in secrets.items():
            if (
                any(piece in data for piece in pieces(secret))
                or secret[:PIECE].hex().encode() in lower
            ):
                found.setdefault(what, set()).add(path.name)
    return found


def encodings(row: np.ndarray, centre: np.ndarray | None = None) -> dict[str, bytes]:
    """A vector in every form that a file may hold it in: float32 and unit float32, 16 bits about a
    centre or not, float16."""
    unit = (row.astype(np.float64) / np.linalg.norm(row.astype(np.float64))).astype(np.float32)
    found = {
        "raw": row.astype(np.float32).tobytes(),
        "unit": unit.tobytes(),
        "float64": unit.astype(np.float64).tobytes(),
    }
    found |= {"bfloat16": to_bfloat16(unit).tobytes(), "float16": unit.astype(np.float16).tobytes()}
    if centre is not None:
        found["short"] = to_bfloat16(unit[np.newaxis] - centre).tobytes()
    return found


LARGE, EACH = (
    640,
    8,
)  # from 5,000 support images on, the recipe that is used here makes an index of them


def image(number: int, place: int) -> np.ndarray:
    return vectors(2, number, n=EACH, dim=VERIFIER)[place]


def classifier_image(number: int, place: int) -> np.ndarray:
    return vectors(3, number, n=EACH, dim=CLASSIFIER)[place]


@pytest.fixture(scope="module")
def large(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A space whose snapshots hold everything: 16-bit rows, an index over prototypes, and both
    indexes over support images."""
    home = tmp_path_factory.mktemp("large") / "home"
    with pytest.MonkeyPatch.context() as patched:
        patched.setenv("TRUSTVLM_HALF_FROM", "50")
        opened = trustvlm.open(home, create=True)
    with opened as service:
        create(service)
        inputs = [
            LabelInput(
                f"label {n:04d}", vectors(1, n, n=1, dim=CLASSIFIER)[0], None, vectors(2, n, n=EACH,
                dim=VERIFIER),
                vectors(3, n, n=EACH, dim=CLASSIFIER),
            )
            for n in range(LARGE)
        ]  # fmt: skip
        service.register("space", inputs)
        service.rebuild_index("space", recipe="hnsw")
    return home


@pytest.fixture
def half(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TRUSTVLM_HALF_FROM", "50")


def snapshot_centre(home: Path, side: str) -> np.ndarray:
    return np.array(map_snapshot(home / "snapshots" / "1.snapshot").arrays[f"{side}.centre"])


def secrets_of(home: Path, number: int, *, whole: bool) -> dict[str, bytes]:
    """What must be gone after the purge of label `number` (`whole`), or of its second support image
    only."""
    found: dict[str, bytes] = {}
    for place in (0, EACH - 1) if whole else (1,):
        found |= {
            f"image {place}, {form}": data for form, data in encodings(image(number, place)).items()
        }
        found |= {
            f"classifier image {place}, {f}": data
            for f, data in encodings(classifier_image(number, place)).items()
        }
    ((text, prototype),) = run_sql(
        home, "SELECT text_prototype, prototype FROM labels WHERE name = ?", f"label {number:04d}"
    )
    sides = {"prototypes": prototype, "text": text} if whole else {"prototypes": prototype}
    for side, value in sides.items():
        assert isinstance(value, bytes)
        forms = encodings(np.frombuffer(value, np.float32), snapshot_centre(home, side))
        found |= {f"{side}, {form}": data for form, data in forms.items()}
    return found


@pytest.mark.slow  # by default: the tests of small spaces above
@pytest.mark.parametrize(
    "whole", [True, pytest.param(False, marks=pytest.mark.slow)], ids=["label", "support image"]
)
def test_of_a_large_space(large: Path, tmp_path: Path, half: None, whole: bool) -> None:
    """Float32 and 16-bit rows of snapshots, indexes trained over prototypes and over support
    images: all are searched."""
    home = Path(shutil.copytree(large, tmp_path / "home"))
    secrets = secrets_of(home, 6, whole=whole)
    before = traces(home, secrets)
    files = {name for names in before.values() for name in names}
    supports = {"1.verifier-supports.snapshot", "1.classifier-supports.snapshot"}
    assert files >= {"catalog.sqlite3", "1.snapshot"} | supports
    assert any("short" in what for what in before)  # the search finds them in what it looks for
    with trustvlm.open(home) as service:
        service.score("space", queries())
        service.search("space", queries(), kind="support", k=3)
        ids = [row.id for row in service.list_supports("space", "label 0006")]
        if whole:
            service.remove_label("space", "label 0006")
        else:
            second = run_sql(
                home, "SELECT id FROM supports WHERE embedding = ?", image(6, 1).tobytes()
            )
            service.remove_support("space", [int(str(second[0][0]))])
        assert traces(home, secrets)
        service.purge(older_than=AT_ONCE)
        assert not traces(home, secrets)
        got = service.score("space", queries())
        hits = service.search("space", queries(), kind="support", k=3)
        service.search("space", Queries(classifier=queries().classifier), kind="support", k=3)
        assert not set(ids if whole else ids[1:2]) & set(hits.ids.ravel().tolist())
        assert service.verify().clean
    assert not traces(home, secrets)  # nor in what background threads wrote
    with trustvlm.open(home) as service:
        again = service.score(
            "space", queries()
        )  # from another snapshot: 16-bit rows about another centre
        np.testing.assert_array_equal(again.label, got.label)
        np.testing.assert_allclose(again.trust, got.trust, atol=2e-3, rtol=0)
        service.rebuild_index("space")
    assert not traces(home, secrets)


def photograph(folder: Path, seed: int) -> Path:
    pixels = np.random.default_rng(seed).integers(0, 255, (96, 128, 3), np.uint8)
    Image.fromarray(pixels).save(folder / f"{seed}.png")
    return folder / f"{seed}.png"


def test_pictures(tmp_path: Path) -> None:
    """Thumbnails, and embeddings of both encoders, of images that were encoded here."""
    home = tmp_path / "home"
    (tmp_path / "images").mkdir()
    with trustvlm.open(home, create=True) as service:
        classifier, verifier = (
            make_clip(tmp_path / "clip"),
            make_timm(tmp_path / "verifier.safetensors"),
        )
        service.create_space("space", classifier=classifier, verifier=verifier)
        pictures = [photograph(tmp_path / "images", seed) for seed in range(4)]
        ids = service.register(
            "space", [LabelInput("a", images=pictures[:2]), LabelInput("b", images=pictures[2:])]
        ).ids
        secrets = {}
        for support_id in ids:
            jpeg = service.thumbnail(support_id)
            assert jpeg is not None
            secrets[f"thumbnail {support_id}"] = jpeg[
                jpeg.index(b"\xff\xda") + 14 :
            ]  # what comes before is in every JPEG
            for side in ("embedding", "classifier_embedding"):
                if (
                    value := run_sql(home, f"SELECT {side} FROM supports WHERE id = ?", support_id)[
                        0
                    ][0]
                ) is not None:
                    assert isinstance(value, bytes)
                    secrets[f"{side} {support_id}"] = value
        service.rebuild_index("space")
        assert traces(home, secrets).keys() == secrets.keys()
        service.remove_label("space", "a", purge=True)
        service.remove_support("space", ids[2:3])
        gone = {what for what in secrets if int(what.split()[1]) in ids[:2]}
        assert traces(home, secrets).keys() == secrets.keys() - gone
        service.purge(older_than=AT_ONCE)
        gone |= {what for what in secrets if int(what.split()[1]) == ids[2]}
        assert traces(home, secrets).keys() == secrets.keys() - gone


def test_what_was_made_of_an_image_by_calibration_and_feedback(home: Path) -> None:
    """Observations lose the embeddings of a purged image; what was said about the verdict stays for
    the monitor."""
    asked = queries(30)
    assert asked.classifier is not None
    assert asked.verifier is not None
    classifier, verifier = np.asarray(asked.classifier), np.asarray(asked.verifier)
    secrets = {"fed back": verifier[1].tobytes(), "fed back, classifier": classifier[1].tobytes()}
    secrets |= {
        "calibrated": verifier[2].tobytes(),
        "calibrated, classifier": classifier[2].tobytes(),
    }
    with trustvlm.open(home) as service:
        truth = service.score("space", asked, rule="msp").label.tolist()
        assert not service.calibrate("space", asked, truth, rule="msp", max_risk=0.9).failed
        one = Queries(classifier[1:2], verifier[1:2])
        service.feedback("space", one, ["label 0009"], sampling="random", promote=True)
        added = service.add_support("space", "label 0009", image_vectors=verifier[2:3]).ids
        ids = [
            row.id for row in service.list_supports("space", "label 0009") if row.id >= added[0] - 1
        ]
        assert len(ids) == 2
        watched = service.monitor("space")
        service.remove_support("space", ids)
        service.add_support(
            "space", "label 0010", image_vectors=verifier[2:3]
        )  # it was the wrong label: the image stays
        service.purge(older_than=AT_ONCE)
        left = traces(home, secrets)
        assert left.keys() == {"calibrated", "calibrated, classifier"}
        assert service.monitor("space") == watched
        assert service.verify().clean
        assert service.recalibrate("space").images == 29
        (again,) = [
            row.id for row in service.list_supports("space", "label 0010") if row.id > added[0]
        ]
        service.remove_support("space", [again])
        service.purge(older_than=AT_ONCE)
        assert not traces(home, secrets)
        assert service.recalibrate("space").images == 28


def test_what_lies_in_quarantine(home: Path) -> None:
    """A damaged copy in quarantine goes with the image that was registered again, with its label,
    its space, or by a purge."""
    whole = np.asarray(label(7).image_vectors)
    with trustvlm.open(home) as service:

        def spoil(name: str, images: np.ndarray) -> dict[str, bytes]:
            (row,) = run_sql(
                home, "SELECT id FROM supports WHERE embedding = ?", images[0].tobytes()
            )
            flip_in_column(home, "supports", "embedding", int(str(row[0])), 255)
            assert service.verify(repair=True).quarantined == 1
            assert traces(home, {name: images[0].tobytes()})
            return {name: images[0].tobytes()}

        secret = spoil("registered again", whole)
        (again,) = service.add_support("space", "label 0007", image_vectors=whole[:1]).ids
        service.remove_support("space", [again])
        service.purge(older_than=AT_ONCE)
        assert not traces(home, secret)

        secret = spoil("with its label", whole[1:])
        service.remove_label("space", "label 0007", purge=True)
        assert not traces(home, secret)

        secret = spoil("by a purge", np.asarray(label(6, supports=2).image_vectors))
        service.purge(older_than=AT_ONCE)
        assert not traces(home, secret)

        secret = spoil("with its space", np.asarray(label(6, supports=2).image_vectors)[1:])
        service.remove_space("space")
        service.purge(older_than=AT_ONCE)
        assert not traces(home, secret)


def test_what_a_killed_writer_of_snapshots_left(home: Path) -> None:
    """A temporary file of a process that died in the middle of a snapshot holds rows too."""
    path = home / "snapshots" / "1.snapshot"
    secret = np.asarray(label(7).image_vectors)[0].tobytes()
    code = f"""
import os, signal, numpy as np
from pathlib import Path
from trustvlm.index.snapshot import SnapshotKey, SnapshotWriter
with SnapshotWriter.writing(Path({str(path)!r}), SnapshotKey("e", 1, 1, "flat", "c", "v")) as writer:
    writer.add("rows", np.frombuffer({secret!r}, np.uint8))
    writer._file.flush()
    os.kill(os.getpid(), signal.SIGKILL)
"""
    assert run_code(code).returncode == -signal.SIGKILL
    (left,) = path.parent.iterdir()
    assert traces(home, {"image": secret})["image"] >= {left.name}
    with trustvlm.open(home) as service:
        assert service.verify().clean
        service.remove_label("space", "label 0007", purge=True)
    assert not traces(home, {"image": secret})
    assert list(path.parent.iterdir()) == []


def test_a_snapshot_that_is_being_written_while_a_purge_runs(
    home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It shows a state from before, and would bring back what is gone: it is deleted when it is
    done."""
    secret = np.asarray(label(7).image_vectors)[0].tobytes()
    prototype = run_sql(home, "SELECT prototype FROM labels WHERE name = 'label 0007'")[0][0]
    assert isinstance(prototype, bytes)
    original = cache_registry.write

    with trustvlm.open(home) as service, trustvlm.open(home) as other:

        def write_late(*arguments: object, **options: object) -> None:
            monkeypatch.setattr(cache_registry, "write", original)
            content = arguments[4]
            held = list(content.changes)  # type: ignore[attr-defined]
            other.remove_label("space", "label 0007")
            with other._home.catalog.write() as connection:
                from datetime import UTC, datetime

                from trustvlm.catalog.upkeep import purge

                purge.purge_supports(connection, datetime.now(UTC))
                purge.purge_labels(connection, datetime.now(UTC))
            original(*arguments[:4], replace(content, changes=iter(held)), **options)  # type: ignore[type-var, arg-type]

        monkeypatch.setattr(cache_registry, "write", write_late)
        service.rebuild_index("space")
        assert not (home / "snapshots" / "1.snapshot").exists()
        service.purge(older_than=AT_ONCE)
        assert not traces(home, {"image": secret, "prototype": prototype})


@pytest.mark.both_back_ends
def test_undo_works_until_the_purge(home: Path) -> None:
    with trustvlm.open(home) as service:
        before = service.score("space", queries())
        service.remove_label("space", "label 0007")
        assert service.purge() == 0
        service.restore_label("space", "label 0007")
        require_equal(service.score("space", queries()), before)
        service.remove_label("space", "label 0007", purge=True)
        with pytest.raises(trustvlm.NotFound):
            service.restore_label("space", "label 0007")
