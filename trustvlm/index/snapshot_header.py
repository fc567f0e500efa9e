"""The head of a snapshot file: what it was derived from, and where each array lies.

Layout, little-endian: 8 bytes magic; uint32 version; uint32 length of the description; 32 bytes
SHA-256 of (version, length, description); the description, JSON padded with blanks; then the raw
bytes of each array, each starting at a multiple of 64, zeros in between. The description holds the
key, the file's size, and each array's name, dtype, shape, offset and SHA-256.
"""

from __future__ import annotations

import hashlib
import json
import math
import os
import struct
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from trustvlm.errors import Damaged, InvalidInput

DTYPES = frozenset(
    ["|b1", "|i1", "|u1", "<i2", "<u2", "<i4", "<u4", "<i8", "<u8", "<f2", "<f4", "<f8"]
)
"""The array types a snapshot may hold, as numpy spells them."""

_MAGIC = b"TVLMSNAP"
_VERSION = 1
_FIXED = struct.Struct("<8sII32s")
_ALIGNMENT = 64
_MAX_HEADER = 16 << 20

HEAD_BYTES = _FIXED.size
"""Bytes before the description."""


@dataclass(frozen=True)
class SnapshotKey:
    """What a snapshot was derived from. All but the revision must agree for it to be usable at all.

    Attributes:
        epoch: the catalog's epoch (a UUID).
        space_id: id of the label space.
        revision: the space's revision it shows.
        recipe: name of the index recipe.
        classifier, verifier: identities of the encoders.
    """

    epoch: str
    space_id: int
    revision: int
    recipe: str
    classifier: str
    verifier: str


@dataclass(frozen=True)
class Entry:
    """One array as the header describes it."""

    name: str
    dtype: str
    shape: tuple[int, ...]
    offset: int
    sha256: str

    @property
    def nbytes(self) -> int:
        return np.dtype(self.dtype).itemsize * math.prod(self.shape)


def head_of(key: SnapshotKey, entries: Sequence[Entry], size: int, room: int) -> bytes:
    """Everything before the first array, with `room` bytes for the description.

    Raises:
        InvalidInput: the description needs more.
    """
    text = _description(key, entries, size).ljust(room)
    if len(text) > room:
        raise InvalidInput(
            f"expected a header of at most {room} bytes, got {len(text)}: too many arrays"
        )
    return _FIXED.pack(_MAGIC, _VERSION, len(text), _header_sum(_VERSION, text)) + text


def room_for(key: SnapshotKey, names: Iterable[str]) -> int:
    """Bytes that suffice for the description of arrays of these names, at any sizes.

    Raises:
        InvalidInput: more than a header may have.
    """
    largest = [Entry(name, "<f8", (2**47,) * 3, 2**62, "0" * 64) for name in names]
    room = len(_description(key, largest, 2**62))
    if room > _MAX_HEADER:
        raise InvalidInput(
            f"expected a header of at most {_MAX_HEADER} bytes, got {room}: too many arrays"
        )
    return room


def _description(key: SnapshotKey, entries: Sequence[Entry], size: int) -> bytes:
    arrays = [asdict(entry) for entry in entries]
    return json.dumps({"key": asdict(key), "size": size, "arrays": arrays}).encode()


def aligned(position: int) -> int:
    """Where an array may start that comes behind `position`."""
    return -(-position // _ALIGNMENT) * _ALIGNMENT


def read_head(path: Path, file: BinaryIO) -> tuple[SnapshotKey, list[Entry]]:
    """The key and the arrays of an open snapshot file.

    Raises:
        Damaged: naming what is wrong.
    """
    size = os.fstat(file.fileno()).st_size
    fixed = file.read(_FIXED.size)
    if len(fixed) < _FIXED.size:
        raise Damaged(f"snapshot {path}: {size} bytes are no snapshot")
    magic, version, length, checksum = _FIXED.unpack(fixed)
    if magic != _MAGIC:
        raise Damaged(f"snapshot {path}: not a trustvlm snapshot (it starts with {magic!r})")
    if version != _VERSION:
        raise Damaged(
            f"snapshot {path}: version {version}, but this trustvlm reads {_VERSION}: from "
            f"another one, or damaged"
        )
    if length > min(_MAX_HEADER, size - _FIXED.size):
        raise Damaged(f"snapshot {path}: truncated in its header")
    text = file.read(length)
    if _header_sum(version, text) != checksum:
        raise Damaged(f"snapshot {path}: the header does not match its checksum")
    try:
        content = json.loads(text)
        key, entries = _key(content["key"]), [_entry(entry) for entry in content["arrays"]]
        expected = content["size"]
        _check_layout(entries, _FIXED.size + length, expected)
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise Damaged(f"snapshot {path}: the header makes no sense: {error}") from error
    if size != expected:
        raise Damaged(f"snapshot {path}: truncated or grown: expected {expected} bytes, got {size}")
    return key, entries


def _key(content: object) -> SnapshotKey:
    """The key as the header spells it; ValueError if it is none."""
    kinds = {field.name: int if field.type == "int" else str for field in fields(SnapshotKey)}
    if not isinstance(content, dict) or {n: type(v) for n, v in content.items()} != kinds:
        raise ValueError(f"wrong key {content!r}")
    return SnapshotKey(**content)


def _entry(content: dict[str, Any]) -> Entry:
    """An array as the header spells it; ValueError if none could be like that."""
    entry = Entry(**(content | {"shape": tuple(content["shape"])}))
    texts, numbers = (entry.name, entry.dtype, entry.sha256), (*entry.shape, entry.offset)
    if not all(isinstance(text, str) for text in texts) or entry.dtype not in DTYPES:
        raise ValueError(f"array {entry.name!r} has dtype {entry.dtype!r}")
    if any(type(number) is not int or not 0 <= number < 2**48 for number in numbers):
        raise ValueError(f"array {entry.name!r} has shape {entry.shape} at {entry.offset!r}")
    return entry


def _check_layout(entries: list[Entry], start: int, size: object) -> None:
    """ValueError unless the arrays lie one behind the other, as the writer lays them, and end at
    `size`."""
    position = start
    for entry in entries:
        if entry.offset != aligned(position):
            raise ValueError(f"array {entry.name!r} at {entry.offset}, behind {position}")
        position = entry.offset + entry.nbytes
    if position != size or len({entry.name for entry in entries}) != len(entries):
        raise ValueError(f"arrays end at {position}, size is {size!r}, or a name occurs twice")


def _header_sum(version: int, text: bytes) -> bytes:
    return hashlib.sha256(struct.pack("<II", version, len(text)) + text).digest()
