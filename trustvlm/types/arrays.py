"""Names of NumPy array types, and the conversion of arrays, tensors, columns and lists to them.

Conventions: larger similarity = more similar, larger trust = more trusted. Similarities are inner
products of unit vectors. Ids are int64; a missing neighbour has id −1, similarity −inf and label
None. Arrays inside, rows (plain dicts that JSON can hold) at the edge.

Arguments may be NumPy arrays of any numeric dtype, tensors of torch (any float dtype, any device,
with or without a gradient), arrays of JAX, TensorFlow and other objects with `__array__` or DLPack,
columns and tables of pandas, pyarrow and polars, lists of any of these. Unreadable and missing
values (masked, null, None, NaN) raise InvalidInput, which names the argument, the row and the
remedy. No library is imported for it: a caller with a tensor has imported torch already.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping, Sequence, Set
from decimal import Decimal
from numbers import Integral, Real
from typing import Any

import numpy as np
import numpy.typing as npt

from trustvlm.errors import InvalidInput
from trustvlm.types.messages.array_files import refuse_path
from trustvlm.types.messages.counts import a_or_an

Floats = npt.NDArray[np.floating[Any]]
Float32s = npt.NDArray[np.float32]
Float64s = npt.NDArray[np.float64]
Int64s = npt.NDArray[np.int64]
Bools = npt.NDArray[np.bool_]
Objects = npt.NDArray[np.object_]
Array = npt.NDArray[Any]

_SIMPLE = (str, Real, Decimal, np.generic)
_NA = ("NAType", "NaTType")
"""Types of pandas' missing values."""
_REMEDIES = (  # an attribute of objects that NumPy does not read, and the remedy
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
    refuse_path(values, what)
    array = plain_array(values, what)
    if array.dtype.kind not in "fiu":
        raise InvalidInput(f"{what}: expected real numbers, got {_described(array)}")
    return array


def plain_array(values: Any, what: str) -> Array:
    """`values` as a NumPy array of numbers, bools or strings, in which nothing is missing. Raises
    InvalidInput: no array can be made of it; the message begins with `what`."""
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
    if is_tensor(values):
        return _of_tensor(values, what)
    if isinstance(values, np.ma.MaskedArray):
        _check_mask(values, what)
        return _converted(values.data, what)
    if hasattr(values, "as_py"):  # a scalar of pyarrow, as iteration over a column gives them
        return _converted(values.as_py(), what)
    if isinstance(values, list | tuple):
        kinds = set(map(type, values)) - {np.ndarray}
        if any(not issubclass(kind, (*_SIMPLE, list, tuple)) for kind in kinds):
            return _stacked(values, what)
        try:
            array = np.asarray(values)
        except (ValueError, TypeError, RuntimeError):  # ragged, or tensors further inside
            array = _stacked(values, what)
    elif hasattr(values, "__array__") or not hasattr(values, "__dlpack__"):
        array = np.asarray(values)
    else:
        array = np.from_dlpack(values)
    # bfloat16, float8 and their like, of ml_dtypes
    foreign = array.dtype.kind in "Vf" and array.dtype.type.__module__ != "numpy"
    return array.astype(np.float32) if foreign else array


# Tensors


def is_tensor(values: Any) -> bool:
    """Whether `values` is a tensor of torch, which its caller has imported."""
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
    in_numpy = (torch.float16, torch.float32, torch.float64)
    if plain.is_floating_point() and plain.dtype not in in_numpy:
        plain = plain.float()  # bfloat16 and float8
    array: Array = plain.numpy()
    return array


# Missing values


def _check_mask(values: np.ma.MaskedArray[Any, Any], what: str) -> None:
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


# Arrays of Python objects: rows that are arrays, and numbers that NumPy keeps as they are


def _of_objects(array: Array, values: Any, what: str) -> Array:
    """An array of Python objects as one of numbers, bools or strings."""
    if not array.ndim:
        remedies = (remedy for name, remedy in _REMEDIES if hasattr(values, name))
        remedy = next(remedies, "pass a NumPy array")
        raise InvalidInput(f"{what}: expected an array, got {_kind(values)}; {remedy}")
    if array.ndim == 2 and array.shape[1] == 1 and _holds_rows(array):
        array = array[:, 0]  # a table with one column of lists
    if array.ndim == 1 and _holds_rows(array):
        return _stacked(array.tolist(), what)
    kinds = set(map(type, array.flat))
    if all(issubclass(kind, bool | np.bool_) for kind in kinds):
        return array.astype(np.bool_)
    if all(issubclass(kind, str) for kind in kinds):
        return array
    for place, value in np.ndenumerate(array):
        if _is_null(value):  # NaN is a number: the caller knows whether it is allowed
            raise _missing(what, place[0], value)
    for place, value in np.ndenumerate(array):
        if isinstance(value, bool | np.bool_) or not isinstance(value, Real | Decimal):
            kind = _kind(value)
            raise InvalidInput(f"{what}: expected real numbers, got {kind} in row {place[0]}")
    integers = all(issubclass(kind, Integral) for kind in kinds)
    fit = integers and all(-(2**63) <= value < 2**63 for value in array.flat)
    return array.astype(np.int64 if fit else np.float64)


def _holds_rows(array: Array) -> bool:
    return any(not isinstance(value, _SIMPLE) and not _is_missing(value) for value in array.flat)


def _stacked(values: Sequence[Any], what: str) -> Array:
    """Rows that are lists, arrays or tensors, or single numbers, as one array."""
    rows: list[Array] = []
    for number, value in enumerate(values):
        if _is_null(value):
            raise _missing(what, number, value)
        simple = isinstance(value, _SIMPLE)
        rows.append(np.asarray(value) if simple else plain_array(value, f"{what}: row {number}"))
        if rows[-1].shape != rows[0].shape:
            shapes = f"row {number} has shape {rows[-1].shape}, row 0 has {rows[0].shape}"
            raise InvalidInput(
                f"{what}: expected rows of one length, got a ragged sequence ({shapes})"
            )
    return np.stack(rows)


def _described(array: Array) -> str:
    if array.dtype.names is not None:
        return f"a structured array with the fields {', '.join(array.dtype.names):.80}"
    if array.dtype.kind == "V":
        return (
            f"raw bytes (dtype {array.dtype}), as numpy.save makes of bfloat16 and float8; "
            f"convert to float32 before saving"
        )
    if array.dtype == object or array.dtype.kind in "UST":
        return "strings"
    remedy = "; pass values.astype(float)" if array.dtype == np.bool_ else ""
    return f"dtype {array.dtype}{remedy}"


def _kind(value: Any) -> str:
    kind = type(value)
    if kind.__module__ == "builtins":
        return a_or_an(kind.__name__)
    return f"{kind.__module__.partition('.')[0]}.{kind.__name__}"


# Names and ids


def iterates(values: Any) -> bool:
    """Whether `values` can be iterated over; an array without dimensions only looks like it."""
    try:
        iter(values)
    except TypeError:
        return False
    return True


def sources(values: Any, what: str) -> list[Any]:
    """Images, in a list or a column of their paths. Raises InvalidInput."""
    expected = "a list of paths, bytes or PIL images"
    if isinstance(values, Sequence) and not isinstance(values, str | bytes):
        return list(values)
    is_array = hasattr(values, "__array__") and hasattr(values, "__len__")
    if hasattr(values, "to_pylist") or is_array:
        return list(texts(values, what, expected))
    raise InvalidInput(f"{what}: expected {expected}, got {type(values).__name__}")


def texts(values: Any, what: str, expected: str = "a list of names") -> list[str]:
    """Names, in a list or a column: each a string. Raises InvalidInput."""
    items = _column(values, what, expected)
    if _are_strings(items):
        return items
    for row, value in enumerate(items):
        if _is_missing(value):
            raise _missing(what, row, value)
        _check_text(value, row, what, expected)
    return [str(value) for value in items]


def rule_names(rules: Any) -> list[str] | None:
    """The names of rules as a list; None: no choice. Raises InvalidInput."""
    names = None if rules is None else texts(rules, "rules", "a list of rule names")
    if names == []:
        raise InvalidInput("rules: expected a list of rule names, got none")
    return names


def optional_texts(values: Any, what: str, expected: str) -> list[str | None]:
    """Names, in a list or a column, or None where there is no name: pyarrow and polars read a null
    as None. NaN, which pandas reads, may be a mistake. Raises InvalidInput: as :func:`texts`, and
    for NaN and pandas.NA."""
    return _texts_or_none(_ordered(values, what, expected), what, expected)


def texts_or_missing(values: Any, what: str, expected: str) -> list[str | None]:
    """Names, in a list or a column, or None where there is no name; so are NaN and pandas.NA, which
    pandas makes of None. Raises InvalidInput: as :func:`texts`."""
    items = _ordered(values, what, expected)
    return _texts_or_none([None if _is_missing(one) else one for one in items], what, expected)


def image_names(values: Any, what: str) -> list[str | None]:
    """What images are called, each a text or a path, or None; an empty one is none. Raises
    InvalidInput: as :func:`texts_or_missing`."""
    expected = "one name for each query, or None for no name"
    items = _ordered(values, what, expected)
    names = [os.fspath(one) if isinstance(one, os.PathLike) else one for one in items]
    return [name or None for name in texts_or_missing(names, what, expected)]


def _ordered(values: Any, what: str, expected: str) -> list[Any]:
    if isinstance(values, Set | Mapping):
        why = "has no order" if isinstance(values, Set) else "is no list"
        raise InvalidInput(f"{what}: expected {expected}, got {_kind(values)}, which {why}")
    return _column(values, what, expected)


def _texts_or_none(items: list[Any], what: str, expected: str) -> list[str | None]:
    if _are_strings(items):
        return items
    for row, value in enumerate(items):
        if value is None:
            continue
        if _is_missing(value):
            raise InvalidInput(
                f"{what}: row {row} is missing ({value!r}); give None for none, or leave the "
                f"row out"
            )
        _check_text(value, row, what, expected)
    return [None if value is None else str(value) for value in items]


def _check_text(value: Any, row: int, what: str, expected: str) -> None:
    if not isinstance(value, str):
        hint = "; of class numbers: [names[i] for i in numbers]" if isinstance(value, int) else ""
        raise InvalidInput(f"{what}: expected {expected}, got {_kind(value)} in row {row}{hint}")


def _are_strings(items: list[Any]) -> bool:
    """Whether all are plain strings: of a long list found ten times sooner than by a look at
    each."""
    return set(map(type, items)) <= {str}


def _column(values: Any, what: str, expected: str) -> list[Any]:
    """The items of a list, of another iterable, or of a column of pandas, pyarrow, polars or
    NumPy."""
    if isinstance(values, list) and _are_strings(values):
        return list(values)
    if isinstance(values, str | bytes) or not iterates(values):
        raise InvalidInput(f"{what}: expected {expected}, got {values!r:.60}")
    if isinstance(values, np.ma.MaskedArray):
        _check_mask(values, what)
    if hasattr(values, "to_pylist"):  # pyarrow
        return list(values.to_pylist())
    if not hasattr(values, "__array__"):
        return [value.as_py() if hasattr(value, "as_py") else value for value in values]
    tensor = is_tensor(values)
    array = plain_array(values, what) if tensor else np.asarray(values, dtype=object)
    if array.ndim != 1:
        raise InvalidInput(f"{what}: expected {expected}, got shape {array.shape}")
    return list(array.tolist())


def id_list(values: Any, what: str, expected: str = "a list of ids") -> list[int]:
    """Whole numbers, in a list, a column or a tensor, or a single one. Raises InvalidInput."""
    listed = list(values) if isinstance(values, set | frozenset | range) else values
    array = plain_array(listed, what)
    if array.size and array.dtype.kind == "f" and np.isnan(array).any():
        # a column of integers with a null
        raise _missing(what, int(np.isnan(array).argmax()), None)
    if array.ndim > 1 or (array.size and array.dtype.kind not in "iu"):
        raise InvalidInput(f"{what}: expected {expected}, got {values!r:.60}")
    return [int(value) for value in array.ravel().tolist()]


def row_numbers(key: Any, rows: int, what: str) -> Int64s:
    """The places (from 0) of rows that a mask of `rows` bools or a list of places names; negative
    places count from the end.

    Raises:
        IndexError: a place beyond the rows. InvalidInput: neither of these, or a mask of other
            length.
    """
    array = plain_array(key, what)
    if array.dtype == np.bool_:
        if array.shape != (rows,):
            raise InvalidInput(f"{what}: a mask needs {rows} values, got shape {array.shape}")
        return np.flatnonzero(array)
    if array.ndim != 1 or (array.size and array.dtype.kind not in "iu"):
        raise InvalidInput(f"{what}: expected a place, a slice, a mask or places; got {key!r:.60}")
    places = array.astype(np.int64)
    if ((places < -rows) | (places >= rows)).any():
        bad = places[(places < -rows) | (places >= rows)][0]
        raise IndexError(f"{what}: row {bad} of {rows}")
    return places % rows if rows else places


def names_or_mask(values: Any, what: str) -> list[str] | npt.NDArray[np.bool_]:
    """Names, or True or False for each label of the space: a list or a column of strings or of
    bools. Raises InvalidInput."""
    expected = "a list of names, a boolean mask or trustvlm.Filter('…')"
    items = _column(values, what, expected)
    if _are_strings(items):
        return items
    if not any(isinstance(value, bool | np.bool_) for value in items):
        return texts(items, what, expected)
    for row, value in enumerate(items):
        if _is_missing(value):
            raise _missing(what, row, value)
        if not isinstance(value, bool | np.bool_):
            raise InvalidInput(f"{what}: expected {expected}, got {_kind(value)} in row {row}")
    return np.array(items, dtype=np.bool_)
