"""What ids and vectors must be before anything else of this package, or faiss, sees them.

faiss answers bad input badly: a wrong dimension is an empty AssertionError, NaN gives ids of −1
without an error.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from trustvlm.errors import InvalidInput
from trustvlm.types.arrays import Float32s, Float64s, Int64s, plain_array
from trustvlm.types.messages.shapes import expected_rows

UNIT_TOLERANCE = 1e-3
"""How far a norm may be from 1 and still pass as a unit vector (16-bit rounding stays below it)."""

_LONGEST_QUERY = 1e6
_INT64_MAX = np.iinfo(np.int64).max


def as_ids(ids: npt.ArrayLike) -> Int64s:
    """`ids` as (n,) int64, each in 0 … 2**63 − 1 (−1 is the padding).

    Raises:
        InvalidInput: not one-dimensional, not integers, or out of that range.
    """
    array = plain_array(ids, "ids")
    if array.ndim != 1:
        raise InvalidInput(f"ids: expected one dimension, got shape {array.shape}")
    if array.size == 0:
        return np.empty(0, np.int64)
    if array.dtype.kind not in "iu":
        raise InvalidInput(f"ids: expected integers, got {array.dtype}")
    if array.min() < 0 or array.max() > _INT64_MAX:
        raise InvalidInput(f"ids: expected 0 … 2**63 − 1, got {array.min()} … {array.max()}")
    return np.ascontiguousarray(array, np.int64)


def require_unique(ids: Int64s) -> None:
    """Raises InvalidInput, naming them, when some of `ids` occur twice."""
    if bool(np.all(ids[1:] > ids[:-1])):
        return
    values, counts = np.unique(ids, return_counts=True)
    if len(values) != len(ids):
        raise InvalidInput(
            f"ids: expected each once, got {some(values[counts > 1])} more than once"
        )


def as_vectors(
    vectors: npt.ArrayLike, dim: int, name: str = "vectors", *, count: int | None = None
) -> Float32s:
    """`vectors` as C-contiguous (n, dim) float32, finite; other float types are converted.

    Args:
        vectors: (n, dim) of any float type; n may be 0.
        dim: expected length of each.
        name: what the error calls them.
        count: expected n, if any.

    Raises:
        InvalidInput: another shape, not floats, or values that are not finite as float32.
    """
    array = plain_array(vectors, name)
    if array.ndim != 2 or array.shape[1] != dim:
        raise InvalidInput(f"{name}: {expected_rows(array.shape, dim)}")
    if count is not None and len(array) != count:
        raise InvalidInput(f"{name}: expected {count} rows, one per id, got {len(array)}")
    if array.dtype.kind != "f":
        raise InvalidInput(f"{name}: expected floats, got {array.dtype}")
    with np.errstate(over="ignore"):  # becomes inf, which the next check names
        converted = np.ascontiguousarray(array, np.float32)
    finite = np.isfinite(converted).all(axis=1)
    if not finite.all():
        row = int(finite.argmin())
        raise InvalidInput(
            f"{name}: expected finite float32 values, got NaN or infinity in row {row}"
        )
    return converted


def as_queries(queries: npt.ArrayLike, dim: int) -> Float32s:
    """`queries` as :func:`as_vectors` has them, and so short that no inner product with a unit
    vector overflows.

    Raises:
        InvalidInput: as there, or a norm over 10⁶.
    """
    converted = as_vectors(queries, dim, "queries")
    norms = _norms(converted)
    if (norms > _LONGEST_QUERY).any():
        raise _not_unit("queries", norms, int(norms.argmax()))
    return converted


def require_unit(vectors: Float32s) -> None:
    """Raises InvalidInput, naming the first, when some of the (n, d) `vectors` do not have norm
    1."""
    norms = _norms(vectors)
    wrong = np.abs(norms - 1.0) > UNIT_TOLERANCE
    if wrong.any():
        raise _not_unit("vectors", norms, int(wrong.argmax()))


def _norms(vectors: Float32s) -> Float64s:
    squares: Float64s = np.einsum("ij,ij->i", vectors, vectors, dtype=np.float64)
    return np.sqrt(squares)


def _not_unit(name: str, norms: Float64s, row: int) -> InvalidInput:
    return InvalidInput(f"{name}: expected unit vectors, got norm {norms[row]:.6g} in row {row}")


def some(ids: Int64s) -> str:
    """The first few of `ids`, for a message."""
    shown = ", ".join(str(i) for i in ids[:5].tolist())
    return shown if len(ids) <= 5 else f"{shown} and {len(ids) - 5} more"
