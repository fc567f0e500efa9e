"""Weights that are programs, and index sections that are not what their file says: refused before
anything reads them."""

from __future__ import annotations

import hashlib
import json
import os
import pickle
import struct
from pathlib import Path
from typing import Any

import faiss
import numpy as np
import pytest
import torch
from checkpoints import make_clip, make_timm
from cli_runner import Cli
from numbered import create, label, queries, require_equal

import trustvlm
from trustvlm.encoders.open import open_encoder
from trustvlm.errors import Damaged, TrustVLMError
from trustvlm.index.live import LiveIndex
from trustvlm.index.recipe import list_recipes
from trustvlm.index.snapshot import map_snapshot, read_snapshot, write_snapshot
from trustvlm.index.snapshot_header import SnapshotKey

KEY = SnapshotKey("epoch", 7, 3, "flat-fp16", "c", "v")


class Trap:
    """Unpickling this runs a command."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> Any:
        return (os.system, (f"touch {self.path}",))


def test_the_command_line_runs_no_checkpoint(cli: Cli, tmp_path: Path) -> None:
    sprung, weights = tmp_path / "sprung", tmp_path / "weights.pth"
    torch.save({"state_dict": {"a": torch.ones(2)}, "epoch": Trap(sprung)}, weights)
    spec = make_clip(tmp_path / "clip")
    said = cli(
        "space",
        "create",
        "s",
        "--classifier",
        spec,
        "--verifier",
        f"timm:test_vit@{weights}",
        code=2,
    )
    assert "holds more than tensors" in said
    for name in ("open_clip_model.safetensors", "open_clip_pytorch_model.bin"):
        for old in (tmp_path / "clip").glob("open_clip_*model.*"):
            old.unlink()
        (tmp_path / "clip" / name).write_bytes(weights.read_bytes())
        assert cli(
            "space",
            "create",
            "s",
            "--classifier",
            spec,
            code=5 if name.endswith("safetensors") else 2,
        )
    assert not sprung.exists()
    torch.load(weights, weights_only=False)  # the trap is a real one
    assert sprung.exists()


def safetensors(header: object, body: bytes = bytes(64), length: int | None = None) -> bytes:
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    return struct.pack("<Q", len(text) if length is None else length) + text + body


def tensor(**changes: object) -> dict[str, object]:
    return {"a": {"dtype": "F32", "shape": [4, 4], "data_offsets": [0, 64]} | changes}


LYING_TENSORS = [
    safetensors(tensor(), length=2**63),
    safetensors(tensor(), length=2**40),
    safetensors(tensor(), length=0),
    safetensors(tensor(data_offsets=[0, 2**60])),
    safetensors(tensor(data_offsets=[64, 0])),
    safetensors(tensor(data_offsets=[-1, 63])),
    safetensors(tensor(shape=[2**32, 2**32])),
    safetensors(tensor(shape=[2**62, 4])),
    safetensors(tensor(shape=[5, 4])),
    safetensors(tensor(dtype="OBJECT")),
    safetensors(tensor(dtype=None)),
    safetensors({"a": tensor()["a"], "b": tensor()["a"]}),
    safetensors(tensor(), body=b""),
    safetensors(b"[" * 100_000),
    safetensors(b'{"a":' * 50_000),
    safetensors(b"not json"),
    safetensors(b"\xff\xfe"),
    b"",
    bytes(7),
    pickle.dumps({"a": 1}),
    b"PK\3\4" + bytes(100),
]


@pytest.mark.parametrize("content", LYING_TENSORS, ids=range(len(LYING_TENSORS)))
def test_safetensors_that_lie(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "w.safetensors"
    path.write_bytes(content)
    with pytest.raises(TrustVLMError, match=r"w\.safetensors") as caught:
        open_encoder(f"timm:test_vit@{path}")
    assert len(str(caught.value).replace(str(path), "")) < 600


@pytest.mark.parametrize(
    "content",
    [
        b"[" * 100_000,
        b"null",
        b"[]",
        b'{"model_cfg": {"embed_dim": 1e999}}',
        b"\xff",
        b'{"a":' * 50_000,
    ],
)
def test_model_configs_that_lie(tmp_path: Path, content: bytes) -> None:
    spec = make_clip(tmp_path / "clip")
    (tmp_path / "clip" / "open_clip_config.json").write_bytes(content)
    with pytest.raises(TrustVLMError, match="open_clip_config"):
        open_encoder(spec)


def test_weights_that_are_no_files(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.safetensors")
    (tmp_path / "zero.safetensors").symlink_to("/dev/zero")
    (tmp_path / "folder.safetensors").mkdir()
    for name in ("pipe", "zero", "folder", "missing"):
        with pytest.raises(TrustVLMError, match="no weights file"):
            open_encoder(f"timm:test_vit@{tmp_path}/{name}.safetensors")
    make_timm(tmp_path / "good.safetensors")
    (tmp_path / "link.safetensors").symlink_to("good.safetensors")
    assert open_encoder(f"timm:test_vit@{tmp_path}/link.safetensors").dim == 64


# Index sections


@pytest.fixture
def seen(monkeypatch: pytest.MonkeyPatch) -> list[bytes]:
    """Every piece of bytes that is handed to faiss to read, by checksum."""
    found: list[bytes] = []
    deserialize = faiss.deserialize_index

    def watched(data: np.ndarray) -> Any:
        found.append(hashlib.sha256(data.tobytes()).digest())
        return deserialize(data)

    monkeypatch.setattr(faiss, "deserialize_index", watched)
    return found


def index_home(home: Path) -> Path:
    """A home with a space whose snapshot holds a faiss section; the snapshot's path."""
    with trustvlm.open(home, create=True) as service:
        create(service)
        service.register("space", [label(number, supports=2) for number in range(60)])
        service.rebuild_index("space", recipe="flat-fp16")
    (path,) = (
        path
        for path in (home / "snapshots").rglob("*")
        if path.is_file() and path.read_bytes().startswith(b"TVLMSNAP") and section(path)
    )
    return path


def section(path: Path) -> tuple[int, int] | None:
    """Where the faiss section of a snapshot lies."""
    head = path.read_bytes()
    length = struct.unpack_from("<I", head, 12)[0]
    for entry in json.loads(head[48 : 48 + length])["arrays"]:
        if entry["name"].endswith("faiss"):
            return entry["offset"], entry["shape"][0]
    return None


def test_a_changed_section_never_reaches_faiss(tmp_path: Path, seen: list[bytes]) -> None:
    path = index_home(tmp_path / "home")
    good = path.read_bytes()
    start, size = section(path) or (0, 0)
    right = hashlib.sha256(good[start : start + size]).digest()
    with trustvlm.open(tmp_path / "home") as service:
        expected = service.score("space", queries())
    assert right in seen  # so the watch works, and an unchanged section is read
    forged = faiss.serialize_index(faiss.index_factory(8, "Flat")).tobytes()
    changes = [bytes(size), forged + good[start + len(forged) : start + size]]
    changes += [
        good[start : start + at]
        + bytes([good[start + at] ^ 1])
        + good[start + at + 1 : start + size]
        for at in (0, 4, 20, size // 2, size - 1)
    ]
    for changed in changes:
        path.unlink()
        path.write_bytes(good[:start] + changed + good[start + size :])
        seen.clear()
        with trustvlm.open(tmp_path / "home") as service:
            require_equal(service.score("space", queries()), expected)
        assert hashlib.sha256(changed).digest() not in seen


def test_another_kind_with_a_right_checksum_is_damaged_unread(
    tmp_path: Path, seen: list[bytes]
) -> None:
    """What each recipe stores, and some that none does, under the name of every other recipe."""
    rows = np.random.default_rng(0).normal(size=(40, 8)).astype(np.float32)
    rows /= np.linalg.norm(rows, axis=1, keepdims=True)
    recipe = next(r for r in list_recipes() if r.name == "flat-fp16")
    arrays = (
        LiveIndex.build(recipe, 8, 40, lambda: iter([(np.arange(40), rows)])).view().to_arrays()
    )
    others = [
        faiss.index_factory(8, kind)
        for kind in ("Flat", "LSH", "PCA4,Flat", "IDMap,Flat", "HNSW8,Flat")
    ]
    forgeries = [faiss.serialize_index(other) for other in others] + [
        np.frombuffer(b"IxXX" + bytes(60), np.uint8),
        np.empty(0, np.uint8),
    ]
    for number, forged in enumerate(forgeries):
        path = tmp_path / f"{number}.snapshot"
        write_snapshot(path, KEY, arrays | {"faiss": forged})
        for read in (read_snapshot, map_snapshot):
            stored = read(path, KEY)  # whole, and its checksums are right
            seen.clear()
            with pytest.raises(Damaged, match="of kind"):
                LiveIndex.from_arrays(recipe, 8, stored.arrays)
            assert seen == []
    fine = LiveIndex.from_arrays(recipe, 8, arrays)
    np.testing.assert_array_equal(fine.view().search(rows, 1)[0][:, 0], np.arange(40))
    narrow = LiveIndex.build(
        recipe, 4, 2, lambda: iter([(np.arange(2), np.eye(2, 4, dtype=np.float32))])
    )
    wrong_dim = narrow.view().to_arrays()
    with pytest.raises(Damaged):
        LiveIndex.from_arrays(recipe, 8, wrong_dim)
    for cut in (4, 20, len(arrays["faiss"]) // 2, len(arrays["faiss"]) - 1):
        with pytest.raises(Damaged):
            LiveIndex.from_arrays(recipe, 8, arrays | {"faiss": arrays["faiss"][:cut]})
