"""Checks and normalisation of vectors, done once, before anything else sees them."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from trustvlm.errors import InvalidInput
from trustvlm.softmax.native import library
from trustvlm.types.arrays import Array, Float32s, Float64s, real_array
from trustvlm.types.messages.shapes import expected_rows

SAME_IMAGE = 1.0 - 1e-6
"""Cosine at and above which two embeddings count as the same picture: equal but for float32
rounding."""

_USUAL_SQUARES = 1e-30, 1e30  # squared norms that float32 sums without under- or overflow


def as_matrix(values: npt.ArrayLike, dim: int, what: str, *, allow_empty: bool = True) -> Float64s:
    """`values` as a float64 matrix (n, dim) of finite, non-zero rows; a single vector (dim,)
    becomes one row.

    Raises:
        InvalidInput: not numeric, another shape, NaN or infinity, or a row of norm zero; the
            message begins with `what`.
    """
    array = _rows(values, dim, what)
    if not allow_empty and not len(array):
        raise InvalidInput(f"{what}: expected at least one vector of {dim} values, got none")
    # Stored and compared as float32: a value that overflows there is not finite for us.
    with np.errstate(over="ignore"):
        single = array.astype(np.float32, copy=False)
    bad = ~np.isfinite(single).all(axis=1)
    if bad.any():
        row = int(bad.argmax())
        raise InvalidInput(f"{what}: row {row} has {_not_finite(array[row])}")
    matrix = single.astype(np.float64)
    zero = np.einsum("nd,nd->n", matrix, matrix) == 0
    if zero.any():
        row = int(zero.argmax())
        tiny = " as float32" if array[row].any() else ""
        raise InvalidInput(
            f"{what}: row {row} has norm zero{tiny}, so it has no direction to compare"
        )
    return matrix


def _not_finite(row: Array) -> str:
    """What float32 cannot hold of a row."""
    if np.isfinite(row).all():
        return "values beyond ±3.4e38, which float32 does not hold; divide the vectors"
    return "NaN or infinite values"


def as_unit(values: npt.ArrayLike, dim: int, what: str) -> Float32s:
    """The rows of :func:`as_matrix`, each divided by its norm, as float32 (n, dim).

    Raises:
        InvalidInput: as :func:`as_matrix`.
    """
    array = _rows(values, dim, what)
    native, unit, single = library(), None, array
    if array.dtype != np.float32 or not array.flags.c_contiguous:
        with np.errstate(over="ignore"):
            single = np.ascontiguousarray(array, np.float32)
    if native is not None and len(single):
        unit = native.unit(single, *_USUAL_SQUARES)
    return unit_rows(as_matrix(array, dim, what)).astype(np.float32) if unit is None else unit


def _rows(values: npt.ArrayLike, dim: int, what: str) -> npt.NDArray[Any]:
    if type(values) is np.ndarray and (values.dtype == np.float32 or values.dtype == np.float64):
        array: npt.NDArray[Any] = values
    else:
        array = real_array(values, what)
    given = array.shape
    if array.ndim == 1:  # one vector; [] is none
        array = array[np.newaxis] if array.size else array.reshape(0, dim)
    if array.ndim != 2 or array.shape[1] != dim:
        raise InvalidInput(f"{what}: {expected_rows(given, dim)}")
    return array


def unit_rows(matrix: Float64s) -> Float64s:
    """Each row of (n, d) divided by its Euclidean norm, scaled first so that no square under- or
    overflows."""
    if not len(matrix):
        return matrix
    scaled = matrix / np.abs(matrix).max(axis=1, keepdims=True)
    unit: Float64s = scaled / np.linalg.norm(scaled, axis=1, keepdims=True)
    return unit


def unit(vector: Float64s) -> Float32s:
    """One vector (d,) divided by its norm in float64 and cast to float32 once."""
    single: Float32s = unit_rows(vector[np.newaxis])[0].astype(np.float32)
    return single
