"""float32 vectors as bytes in a row, with a checksum that is looked at whenever they are read."""

from __future__ import annotations

import hashlib
import zlib
from collections.abc import Sequence
from typing import Any, TypeVar

import numpy as np

from trustvlm.errors import Damaged
from trustvlm.types.arrays import Float32s
from trustvlm.types.messages.commands import suggested

Record = TypeVar("Record", bound=Any)


def _remedy() -> str:
    repair = suggested("verify", options="--all --repair")
    return f"restore a backup, or {repair} takes it out of service"


def pack(vector: Float32s) -> bytes:
    """Little-endian float32 bytes of one vector (d,)."""
    return np.ascontiguousarray(vector, dtype="<f4").tobytes()


def hash_of(vector: Float32s) -> bytes:
    """The content hash of an image that comes as its embedding by the verifier (the classifier's
    where there is none)."""
    return hashlib.sha256(pack(vector)).digest()


def checksum(*parts: bytes | None) -> int:
    """CRC-32 over the parts; None counts as nothing."""
    value = 0
    for part in parts:
        if part is not None:
            value = zlib.crc32(part, value)
    return value


def unpack(blobs: Sequence[bytes], dim: int) -> Float32s:
    """(n, dim) matrix of n packed vectors.

    Raises:
        Damaged: a vector has another length.
    """
    for length in set(map(len, blobs)) - {4 * dim}:
        raise Damaged(
            f"the catalog holds a vector of {length} bytes where {4 * dim} were expected; "
            f"{_remedy()}"
        )
    matrix = np.frombuffer(b"".join(blobs), dtype="<f4").astype(np.float32, copy=False)
    return matrix.reshape(len(blobs), dim)


def vector(blob: bytes | None, dim: int) -> Float32s | None:
    """(dim,) vector that was packed; None where there is none. Raises Damaged, as :func:`unpack`
    does."""
    return None if blob is None else unpack([blob], dim)[0]


_VECTORS = {
    "label": ("text_prototype", "prototype"),
    "support image": ("embedding", "classifier_embedding"),
    "observation": ("classifier_embedding", "verifier_embedding"),
    "review item": ("classifier_embedding", "verifier_embedding"),
}
"""What the checksum of a row is made of."""


def verified(what: str, rows: Sequence[Record]) -> Sequence[Record]:
    """The rows, whose vectors match their checksums; `what`: a key of :data:`_VECTORS`.

    Raises:
        Damaged: naming the first row that does not match.
    """
    first, second = _VECTORS[what]
    stored = [(r.id, r.checksum, (getattr(r, first), getattr(r, second))) for r in rows]
    verify_checksums(what, stored)
    return rows


def verify_checksums(what: str, rows: Sequence[tuple[int, int, tuple[bytes | None, ...]]]) -> None:
    """Compare (id, stored checksum, parts) of each row.

    Raises:
        Damaged: naming the first row that does not match.
    """
    for row_id, stored, parts in rows:
        if checksum(*parts) != stored:
            raise Damaged(
                f"the vectors of {what} {row_id} in the catalog do not match their checksum; "
                f"{_remedy()}"
            )
