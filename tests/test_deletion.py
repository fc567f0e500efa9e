"""A purge deletes: no byte of a removed image's embeddings or picture is left in any file of the home."""

from __future__ import annotations

import io
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from damage import flip_in_column, run_sql
from numbered import AT_ONCE, CLASSIFIER, VERIFIER, create, label, queries, require_equal, vectors
from PIL import Image

import trustvlm
from trustvlm import LabelInput, Queries, TrustService
from trustvlm.encoders import EncodedImage
from trustvlm.index.snapshot import map_snapshot
from trustvlm.scoring.rounding import shortened, to_bfloat16

PIECE = 24
"""Bytes in a row that are a picture's or vector's own: six float32 or twelve 16-bit numbers."""


def pieces(secret: bytes) -> Iterator[bytes]:
    """Parts of a value, so that what is left of half of it is found too."""
    for start in range(0, len(secret) - PIECE + 1, PIECE):
        yield secret[start : start + PIECE]


def traces(home: Path, secrets: dict[str, bytes]) -> dict[str, set[str]]:
    """What is found, where: of every secret, any piece, in any file, hidden and temporary ones too; as text in hex as well."""
    found: dict[str, set[str]] = {}
    for path in (path for path in home.rglob("*") if path.is_file()):
        data = path.read_bytes()
        lower = data.lower()
        for what, secret in secrets.items():
            if any(piece in data or piece.hex().encode() in lower for piece in pieces(secret)):
                found.setdefault(what, set()).add(path.name)
    return found


def encodings(row: np.ndarray, centre: np.ndarray | None = None) -> dict[str, bytes]:
    """A vector in every form that a file may hold it in: float32 and unit float32, 16 bits about a centre or not, float16."""
    unit = (row.astype(np.float64) / np.linalg.norm(row.astype(np.float64))).astype(np.float32)
    found = {"raw": row.astype(np.float32).tobytes(), "unit": unit.tobytes(), "float64": unit.astype(np.float64).tobytes()}
    found |= {"bfloat16": to_bfloat16(unit).tobytes(), "float16": unit.astype(np.float16).tobytes()}
    if centre is not None:
        found["short"] = shortened(unit[np.newaxis], centre).tobytes()
    return found


LARGE = 700


def image(number: int, place: int) -> np.ndarray:
    return vectors(2, number, n=2, dim=VERIFIER)[place]


def classifier_image(number: int, place: int) -> np.ndarray:
    return vectors(3, number, n=2, dim=CLASSIFIER)[place]


def large_home(home: Path) -> None:
    """A space whose snapshots hold everything: 16-bit rows, a trained index, and both indexes over support images."""
    with trustvlm.open(home, create=True) as service:
        create(service)
        inputs = [
            LabelInput(
                f"label {n:04d}", vectors(1, n, n=1, dim=CLASSIFIER)[0], None, vectors(2, n, n=2, dim=VERIFIER),
                vectors(3, n, n=2, dim=CLASSIFIER),
            )
            for n in range(LARGE)
        ]  # fmt: skip
        service.register("space", inputs)
        service.rebuild_index("space", recipe="ivf-flat")


@pytest.fixture
def half(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TRUSTVLM_HALF_FROM", "50")


def snapshot_centre(home: Path, side: str) -> np.ndarray:
    return np.array(map_snapshot(home / "snapshots" / "1.snapshot").arrays[f"{side}.centre"])


def secrets_of(home: Path, number: int, *, whole: bool) -> dict[str, bytes]:
    """What must be gone after the purge of label `number` (`whole`), or of its second support image only."""
    found: dict[str, bytes] = {}
    for place in (0, 1) if whole else (1,):
        found |= {f"image {place}, {form}": data for form, data in encodings(image(number, place)).items()}
        found |= {f"classifier image {place}, {f}": data for f, data in encodings(classifier_image(number, place)).items()}
    ((text, prototype),) = run_sql(home, "SELECT text_prototype, prototype FROM labels WHERE name = ?", f"label {number:04d}")
    sides = {"prototypes": prototype, "text": text} if whole else {"prototypes": prototype}
    for side, value in sides.items():
        assert isinstance(value, bytes)
        forms = encodings(np.frombuffer(value, np.float32), snapshot_centre(home, side))
        found |= {f"{side}, {form}": data for form, data in forms.items()}
    return found


@pytest.mark.parametrize("whole", [True, False], ids=["label", "support image"])
def test_of_a_large_space(tmp_path: Path, half: None, whole: bool) -> None:
    """Float32 and 16-bit rows of snapshots, indexes trained over prototypes and over support images: all are searched."""
    home = tmp_path / "home"
    large_home(home)
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
            second = run_sql(home, "SELECT id FROM supports WHERE embedding = ?", image(6, 1).tobytes())
            service.remove_support("space", [int(str(second[0][0]))])
        assert traces(home, secrets)
        service.purge(older_than=AT_ONCE)
        assert not traces(home, secrets)
        got = service.score("space", queries())
        hits = service.search("space", queries(), kind="support", k=3)
        service.search("space", Queries(classifier=queries().classifier), kind="support", k=3)
        assert not set(ids[:2] if whole else []) & set(hits.ids.ravel().tolist())
        assert service.verify().clean
    assert not traces(home, secrets)  # nor in what background threads wrote
    with trustvlm.open(home) as service:
        require_equal(service.score("space", queries()), got)
        service.rebuild_index("space")
    assert not traces(home, secrets)


def photograph(seed: int) -> bytes:
    rng = np.random.default_rng(seed)
    held = io.BytesIO()
    Image.fromarray(rng.integers(0, 255, (96, 128, 3), np.uint8)).save(held, "PNG")
    return held.getvalue()


class Pictured:
    """Puts support images with thumbnails into a space of precomputed embeddings, through the catalog's own verb."""

    def __init__(self, service: TrustService) -> None:
        self.service = service

    def thumbnail_of(self, name: str, number: int) -> bytes:
        from trustvlm.encoders.images import ImageLimits, decode_image

        picture = decode_image(photograph(number), ImageLimits())
        encoded = EncodedImage(0, "picture", picture.content_hash, picture.thumbnail, ())
        row = self.service.list_supports("space", name)[0]
        home = self.service._parts.home
        run_sql(home, "INSERT INTO thumbnails VALUES (?, ?)", row.id, encoded.thumbnail)
        return encoded.thumbnail


def test_pictures(home: Path) -> None:
    with trustvlm.open(home) as service:
        secret = Pictured(service).thumbnail_of("label 0005", 1)
        kept = Pictured(service).thumbnail_of("label 0006", 2)
        assert traces(home, {"picture": secret, "other": kept}).keys() == {"picture", "other"}
        service.remove_label("space", "label 0005", purge=True)
        assert traces(home, {"picture": secret, "other": kept}).keys() == {"other"}


def test_what_was_made_of_an_image_by_calibration_and_feedback(home: Path) -> None:
    """Observations lose the embeddings of a purged image; what was said about the verdict stays for the monitor."""
    asked = queries(30)
    assert asked.classifier is not None
    assert asked.verifier is not None
    classifier, verifier = np.asarray(asked.classifier), np.asarray(asked.verifier)
    secrets = {"fed back": verifier[1].tobytes(), "fed back, classifier": classifier[1].tobytes()}
    secrets |= {"calibrated": verifier[2].tobytes(), "calibrated, classifier": classifier[2].tobytes()}
    with trustvlm.open(home) as service:
        service.calibrate("space", asked, ["label 0007"] * 30, rule="msp", max_risk=0.9)
        one = Queries(classifier[1:2], verifier[1:2])
        service.feedback("space", one, ["label 0009"], sampling="random", promote=True)
        added = service.add_support("space", "label 0009", image_vectors=verifier[2:3]).ids
        ids = [row.id for row in service.list_supports("space", "label 0009") if row.id >= added[0] - 1]
        assert len(ids) == 2
        watched = service.monitor("space")
        service.remove_support("space", ids)
        service.add_support("space", "label 0010", image_vectors=verifier[2:3])  # it was the wrong label: the image stays
        service.purge(older_than=AT_ONCE)
        left = traces(home, secrets)
        assert left.keys() == {"calibrated", "calibrated, classifier"}
        assert service.monitor("space") == watched
        assert service.verify().clean
        assert service.recalibrate("space").images == 29
        (again,) = [row.id for row in service.list_supports("space", "label 0010") if row.id > added[0]]
        service.remove_support("space", [again])
        service.purge(older_than=AT_ONCE)
        assert not traces(home, secrets)
        assert service.recalibrate("space").images == 28


def test_what_lies_in_quarantine(home: Path) -> None:
    """A damaged copy in quarantine goes with the image that was registered again, with its label, its space, or by a purge."""
    whole = np.asarray(label(7).image_vectors)
    with trustvlm.open(home) as service:

        def spoil(name: str, images: np.ndarray) -> dict[str, bytes]:
            (row,) = run_sql(home, "SELECT id FROM supports WHERE embedding = ?", images[0].tobytes())
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
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == -signal.SIGKILL
    (left,) = path.parent.iterdir()
    assert traces(home, {"image": secret})["image"] >= {left.name}
    with trustvlm.open(home) as service:
        assert service.verify().clean
        service.remove_label("space", "label 0007", purge=True)
    assert not traces(home, {"image": secret})
    assert list(path.parent.iterdir()) == []


def test_a_snapshot_that_is_being_written_while_a_purge_runs(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It shows a state from before, and would bring back what is gone: it is deleted when it is done."""
    import trustvlm.service.caches as caches

    secret = np.asarray(label(7).image_vectors)[0].tobytes()
    prototype = run_sql(home, "SELECT prototype FROM labels WHERE name = 'label 0007'")[0][0]
    assert isinstance(prototype, bytes)
    original = caches.write

    with trustvlm.open(home) as service, trustvlm.open(home) as other:

        def write_late(*arguments: object, **options: object) -> None:
            monkeypatch.setattr(caches, "write", original)
            content = arguments[4]
            held = list(content.changes)  # type: ignore[attr-defined]
            other.remove_label("space", "label 0007")
            with other._parts.catalog.write() as connection:
                from datetime import UTC, datetime

                from trustvlm.catalog import purge

                purge.purge_supports(connection, datetime.now(UTC))
                purge.purge_labels(connection, datetime.now(UTC))
            import dataclasses

            original(*arguments[:4], dataclasses.replace(content, changes=iter(held)), **options)  # type: ignore[type-var, arg-type]

        monkeypatch.setattr(caches, "write", write_late)
        service.rebuild_index("space")
        assert not (home / "snapshots" / "1.snapshot").exists()
        service.purge(older_than=AT_ONCE)
        assert not traces(home, {"image": secret, "prototype": prototype})


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
