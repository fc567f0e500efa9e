"""Converts arrays, tensors, columns and lists of numbers, bools, names or ids to NumPy arrays and
lists, for all arguments.

NumPy arrays of any numeric dtype, tensors of torch (any float dtype, any device, with or without a
gradient), arrays of JAX, TensorFlow and other objects with `__array__` or DLPack, columns and
tables of pandas, pyarrow and polars, lists of any of these. Unreadable and missing values (masked,
null, None, NaN) raise InvalidInput, which names the argument, the row and the remedy. No library is
imported for it: a caller with a tensor has imported torch already.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence, Set
from decimal import Decimal
from numbers import Integral, Real
from typing import Any

import numpy as np
import numpy.typing as npt

from trustvlm.errors import InvalidInput

__all__ = [
    "id_list",
    "iterates",
    "names_or_mask",
    "optional_texts",
    "plain_array",
    "real_array",
    "sources",
    "texts",
]

Array = npt.NDArray[Any]

_SIMPLE = (str, Real, Decimal, np.generic)
_NA = ("NAType", "NaTType")
"""Types of pandas' missing values."""
_OWN_WAY = (  # what an object has that NumPy does not read itself, and the remedy
    ("collect", "call .collect()"),
    ("toarray", "call .toarray()"),
    ("todense", "call .todense()"),
    ("keys", "pass an array of its values"),
    ("__next__", "make it a list: list(…)"),
    ("__iter__", "make it a list: list(…)"),
)


def real_array(values: Any, what: str) -> Array:
    """`values` as a NumPy array of real numbers: floats of any precision, or integers.

    Raises:
        InvalidInput: something else, or something that is missing; the message begins with `what`.
    """
    array = plain_array(values, what)
    if array.dtype.kind not in "fiu":
        raise InvalidInput(f"{what}: expected real numbers, got {_said(array)}")
    return array


def plain_array(values: Any, what: str) -> Array:
    """`values` as a NumPy array of numbers, bools or strings, in which nothing is missing.

    Raises:
        InvalidInput: no array can be made of it; the message begins with `what`.
    """
    try:
        array = _converted(values, what)
        return _of_objects(array, values, what) if array.dtype == object else array
    except (InvalidInput, MemoryError):
        raise
    except Exception as error:  # of another library, which may raise anything
        reason = (str(error).strip() or type(error).__name__).splitlines()[0]
        expected = f"expected an array of numbers, got {_kind(values)} that NumPy cannot read"
        raise InvalidInput(f"{what}: {expected} ({reason:.200}); pass a NumPy array") from error


def _converted(values: Any, what: str) -> Array:
    if _is_tensor(values):
        return _of_tensor(values, what)
    if isinstance(values, np.ma.MaskedArray):
        _nothing_masked(values, what)
        return _converted(values.data, what)
    if hasattr(values, "as_py"):  # a value of pyarrow, as iterating over a column gives them
        return _converted(values.as_py(), what)
    if isinstance(values, list | tuple):
        if any(
            not issubclass(kind, (*_SIMPLE, list, tuple)) and kind is not np.ndarray
            for kind in set(map(type, values))
        ):
            return _stacked(values, what)
        try:
            array = np.asarray(values)
        except (
            ValueError,
            TypeError,
            RuntimeError,
        ):  # not of one length, or tensors further inside
            array = _stacked(values, what)
    elif hasattr(values, "__array__") or not hasattr(values, "__dlpack__"):
        array = np.asarray(values)
    else:
        array = np.from_dlpack(values)
    if (
        array.dtype.kind in "Vf" and array.dtype.type.__module__ != "numpy"
    ):  # bfloat16, float8 and their like, of ml_dtypes
        array = array.astype(np.float32)
    return array


# Tensors


def _is_tensor(values: Any) -> bool:
    kind = getattr(sys.modules.get("torch"), "Tensor", None)
    return kind is not None and isinstance(values, kind)


def _of_tensor(tensor: Any, what: str) -> Array:
    """A tensor's values, without its gradient, on the CPU."""
    torch = sys.modules["torch"]
    if tensor.is_meta:
        raise InvalidInput(
            f"{what}: expected numbers, got a tensor on the device 'meta', which has none"
        )
    if tensor.is_nested:
        raise InvalidInput(f"{what}: expected rows of one length, got a ragged (nested) tensor")
    if tensor.layout is not torch.strided:
        raise InvalidInput(
            f"{what}: expected a dense tensor, got one of layout {tensor.layout}; call .to_dense()"
        )
    plain = tensor.detach().cpu().resolve_conj().resolve_neg()
    if plain.is_quantized:
        plain = plain.dequantize()
    if plain.is_floating_point() and plain.dtype not in (
        torch.float16,
        torch.float32,
        torch.float64,
    ):
        plain = plain.float()  # bfloat16 and float8, of which NumPy has none
    array: Array = plain.numpy()
    return array


# What is missing


def _nothing_masked(values: np.ma.MaskedArray[Any, Any], what: str) -> None:
    mask = np.ma.getmaskarray(values)
    if mask.any():
        row = int(np.argwhere(mask)[0][0]) if values.ndim else 0
        raise InvalidInput(
            f"{what}: row {row} has masked values; leave such rows out, or fill them with "
            f".filled(…)"
        )


def _is_missing(value: Any) -> bool:
    return _is_null(value) or (isinstance(value, float) and value != value)


def _is_null(value: Any) -> bool:
    return value is None or value is np.ma.masked or type(value).__name__ in _NA


def _missing(what: str, row: int, value: Any) -> InvalidInput:
    return InvalidInput(f"{what}: row {row} is missing ({value!r}); leave it out")


# Objects: rows that are arrays themselves, and numbers that NumPy keeps as they are


def _of_objects(array: Array, values: Any, what: str) -> Array:
    """An array of Python objects as one of numbers, bools or strings."""
    if not array.ndim:
        ways = next((way for name, way in _OWN_WAY if hasattr(values, name)), "pass a NumPy array")
        raise InvalidInput(f"{what}: expected an array, got {_kind(values)}; {ways}")
    if (
        array.ndim == 2 and array.shape[1] == 1 and _holds_rows(array)
    ):  # a table with one column of lists
        array = array[:, 0]
    if array.ndim == 1 and _holds_rows(array):
        return _stacked(array.tolist(), what)
    kinds = set(map(type, array.flat))
    if all(issubclass(kind, bool | np.bool_) for kind in kinds):
        return array.astype(np.bool_)
    if all(issubclass(kind, str) for kind in kinds):
        return array
    nothing = next((place for place, value in np.ndenumerate(array) if _is_null(value)), None)
    if nothing is not None:  # NaN is a number: whether there may be one, the caller knows
        raise _missing(what, nothing[0], array[nothing])
    for place, value in np.ndenumerate(array):
        if isinstance(value, bool | np.bool_) or not isinstance(value, Real | Decimal):
            raise InvalidInput(
                f"{what}: expected real numbers, got {_kind(value)} in row {place[0]}"
            )
    whole = all(issubclass(kind, Integral) for kind in kinds) and all(
        -(2**63) <= value < 2**63 for value in array.flat
    )
    return array.astype(np.int64 if whole else np.float64)


def _holds_rows(array: Array) -> bool:
    return any(not isinstance(value, _SIMPLE) and not _is_missing(value) for value in array.flat)


def _stacked(values: Sequence[Any], what: str) -> Array:
    """Rows that are lists, arrays or tensors, or single numbers, as one array."""
    rows = []
    for number, value in enumerate(values):
        if _is_null(value):
            raise _missing(what, number, value)
        rows.append(
            plain_array(value, f"{what}: row {number}")
            if not isinstance(value, _SIMPLE)
            else np.asarray(value)
        )
        if rows[-1].shape != rows[0].shape:
            lengths = f"row {number} has shape {rows[-1].shape}, row 0 has {rows[0].shape}"
            raise InvalidInput(
                f"{what}: expected rows of one length, got a ragged sequence ({lengths})"
            )
    return np.stack(rows)


def _said(array: Array) -> str:
    if array.dtype.names is not None:
        return f"a structured array with the fields {', '.join(array.dtype.names):.80}"
    if array.dtype.kind == "V":
        return (
            f"raw bytes (dtype {array.dtype}), as numpy.save makes of bfloat16 and float8; "
            f"convert to float32 before saving"
        )
    return "strings" if array.dtype == object else f"dtype {array.dtype}"


def _kind(value: Any) -> str:
    kind = type(value)
    return (
        f"{kind.__module__.partition('.')[0]}.{kind.__name__}"
        if kind.__module__ != "builtins"
        else f"a {kind.__name__}"
    )


# Names and ids


def iterates(values: Any) -> bool:
    """Whether `values` can be gone through one by one; an array without dimensions only looks
    so."""
    try:
        iter(values)
    except TypeError:
        return False
    return True


def sources(values: Any, what: str) -> list[Any]:
    """Images, in a list or a column of their paths.

    Raises:
        InvalidInput: a single one, or no list.
    """
    expected = "a list of paths, bytes or PIL images"
    if isinstance(values, Sequence) and not isinstance(values, str | bytes):
        return list(values)
    if hasattr(values, "to_pylist") or (
        hasattr(values, "__array__") and hasattr(values, "__len__")
    ):
        return list(texts(values, what, expected))
    raise InvalidInput(f"{what}: expected {expected}, got {type(values).__name__}")


def texts(values: Any, what: str, expected: str = "a list of names") -> list[str]:
    """Names, in a list or a column: each a string.

    Raises:
        InvalidInput: a single string, no list, or something else among them.
    """
    found = _column(values, what, expected)
    for row, value in enumerate(found):
        if _is_missing(value):
            raise _missing(what, row, value)
        if not isinstance(value, str):
            raise InvalidInput(f"{what}: expected {expected}, got {_kind(value)} in row {row}")
    return [str(value) for value in found]


def optional_texts(values: Any, what: str, expected: str) -> list[str | None]:
    """The same where None, as pyarrow and polars read a null, says that there is no name; NaN,
    pandas' own, may be a mistake.

    Raises:
        InvalidInput: as :func:`texts`, and for NaN and pandas.NA.
    """
    if isinstance(values, Set):
        raise InvalidInput(f"{what}: expected {expected}, got {_kind(values)}, which has no order")
    found = _column(values, what, expected)
    for row, value in enumerate(found):
        if value is not None and _is_missing(value):
            raise InvalidInput(
                f"{what}: row {row} is missing ({value!r}); give None for none, or leave the "
                f"row out"
            )
        if value is not None and not isinstance(value, str):
            raise InvalidInput(f"{what}: expected {expected}, got {_kind(value)} in row {row}")
    return [None if value is None else str(value) for value in found]


def _column(values: Any, what: str, expected: str) -> list[Any]:
    """The items of a list, of another iterable, or of a column of pandas, pyarrow, polars or
    NumPy."""
    if isinstance(values, str | bytes) or not iterates(values):
        raise InvalidInput(f"{what}: expected {expected}, got {values!r:.60}")
    if isinstance(values, np.ma.MaskedArray):
        _nothing_masked(values, what)
    reader: Callable[[], Any] | None = getattr(
        values, "to_pylist", None
    )  # pyarrow, whose items are scalars of its own
    if reader is not None:
        return list(reader())
    if not hasattr(values, "__array__"):
        return [value.as_py() if hasattr(value, "as_py") else value for value in values]
    array = (
        np.asarray(values, dtype=object) if not _is_tensor(values) else plain_array(values, what)
    )
    if array.ndim != 1:
        raise InvalidInput(f"{what}: expected {expected}, got shape {array.shape}")
    return list(array.tolist())


def id_list(values: Any, what: str, expected: str = "a list of ids") -> list[int]:
    """Whole numbers, in a list, a column or a tensor, or a single one.

    Raises:
        InvalidInput: something else, or something that is missing.
    """
    array = plain_array(
        list(values) if isinstance(values, set | frozenset | range) else values, what
    )
    if (
        array.size and array.dtype.kind == "f" and np.isnan(array).any()
    ):  # what a column of integers becomes around a null
        raise _missing(what, int(np.isnan(array).argmax()), None)
    if array.ndim > 1 or (array.size and array.dtype.kind not in "iu"):
        raise InvalidInput(f"{what}: expected {expected}, got {values!r:.60}")
    return [int(value) for value in array.ravel().tolist()]


def names_or_mask(values: Any, what: str) -> list[str] | npt.NDArray[np.bool_]:
    """Names, or yes and no for each of all: a list or a column of strings or of bools.

    Raises:
        InvalidInput: something else, or something that is missing.
    """
    expected = "a list of names or a boolean mask"
    found = _column(values, what, expected)
    if any(isinstance(value, bool | np.bool_) for value in found):
        for row, value in enumerate(found):
            if _is_missing(value):
                raise _missing(what, row, value)
            if not isinstance(value, bool | np.bool_):
                raise InvalidInput(f"{what}: expected {expected}, got {_kind(value)} in row {row}")
        return np.array(found, dtype=np.bool_)
    return texts(found, what, expected)
