"""The compiled inner loops, trustvlm/softmax/loops.c and dense.c.

The library is built when the package is installed (hatch_build.py). Where there was no C compiler,
or the library belongs to another version of its source, :func:`library` gives None, and passes run
through torch (:mod:`trustvlm.softmax.torch_pass`): slower, with the same results.
"""

from __future__ import annotations

import ctypes
import logging
import zlib
from ctypes import (
    Structure,
    byref,
    c_char,
    c_double,
    c_float,
    c_int,
    c_int64,
    c_uint32,
    c_void_p,
)  # fmt: skip
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np

from trustvlm.softmax.quantize import Uint16s
from trustvlm.softmax.state import State
from trustvlm.types.arrays import Bools, Float32s, Float64s, Int64s

log = logging.getLogger("trustvlm")

FOLDER = Path(__file__).parent
_PRODUCT: list[Any] = [c_void_p, c_int64, c_int64, c_void_p, c_int64, c_void_p, c_int64]
_HALVES: list[Any] = [c_void_p, c_int64, c_int64, c_void_p]
_ADD: list[Any] = [c_void_p, *[c_int64] * 4, c_void_p, c_int64, *[c_void_p] * 6]
_SELECT: list[Any] = [c_int64, c_int64, *[c_void_p] * 5]
_COLUMNS: list[Any] = [*[c_void_p] * 3, c_int64, c_int64, c_void_p, c_int64, *[c_void_p] * 2]
_CHOOSE: list[Any] = [*[c_void_p] * 3, *[c_int64] * 3, c_int, *[c_void_p] * 4]
_UNIT: list[Any] = [c_void_p, c_int64, c_int64, c_float, c_float, c_void_p]
_PRODUCTS: list[Any] = [c_void_p, c_int64, c_void_p, c_int64, c_void_p]
_LOG_SUMS: list[Any] = [c_void_p, c_int64, c_int64, c_float, c_void_p]
_FLOAT32, _FLOAT64 = np.dtype(np.float32), np.dtype(np.float64)
_first: Any = c_char.from_buffer
"""The first byte of an array that is not empty, as an object of ctypes: `array.ctypes.data` takes
six times as long."""
TOGETHER = 64
"""Most leaders of a side of a block."""
_BY_NAME = 2  # of trustvlm/softmax/choose.c
NARROW, WIDE, PAIRS, TILES = range(4)
"""What a processor has for products of 16-bit numbers (trustvlm/softmax/loops.c)."""


class ColumnChoice(Structure):
    """Which labels of a block get a column.

    Attributes:
        text: how many text leaders, at most 64, the first `ordered` of them best first.
        nearest: how many of the largest similarities, at most 64. sums: how many of the largest
            p + weight · similarity, at most 8, with `imputed` where a label has no similarity.
        most: a column of the sums is "beyond" if it is behind so many others on both sides.
    """

    _fields_ = [
        *[(name, c_int64) for name in ("text", "ordered", "nearest", "sums", "most")],
        ("weight", c_float),
        ("imputed", c_float),
    ]


@dataclass(frozen=True, eq=False)
class QueryTiles:
    """`count` queries of `dim` numbers as trustvlm/softmax/loops.c multiplies many of them.

    Attributes:
        numbers: tiles of bfloat16 or of whole numbers. worth: of these, what 1 is worth for each
            query.
    """

    count: int
    dim: int
    numbers: Uint16s
    worth: Float32s


class Rounding(Structure):
    """Differences that are not told apart, see trustvlm/softmax/choose.c."""

    _fields_ = [(name, c_double) for name in ("relative", "logit", "similarity")]


class Library:
    """The functions of the library, for arrays. Other Python threads run while one is called.

    Attributes:
        units: what the processor has for products, see :func:`trustvlm_units` in loops.c.
        add, select: what :class:`Running` calls.
    """

    def __init__(self, functions: ctypes.CDLL) -> None:
        self._few = functions.trustvlm_few
        self.add, self.select = functions.trustvlm_add, functions.trustvlm_select
        self._few.argtypes, self._few.restype = _PRODUCT, None
        self.add.argtypes, self.add.restype = _ADD, None
        self.select.argtypes, self.select.restype = _SELECT, None
        self._columns, self._choose = functions.trustvlm_columns, functions.trustvlm_choose
        self._columns.argtypes, self._columns.restype = _COLUMNS, c_int
        self._choose.argtypes, self._choose.restype = _CHOOSE, c_int
        self._unit, self._log_sums = functions.trustvlm_unit, functions.trustvlm_log_sums
        self._unit.argtypes, self._unit.restype = _UNIT, c_int
        self._log_sums.argtypes, self._log_sums.restype = _LOG_SUMS, None
        self._products = functions.trustvlm_products
        self._products.argtypes = [*_PRODUCTS, c_int64, c_void_p, c_int64, c_void_p]
        self._products.restype = None
        self.units: int = functions.trustvlm_units()
        if self.units >= PAIRS:
            self._halves, self._wholes = functions.trustvlm_halves, functions.trustvlm_wholes
            self._halves.argtypes, self._halves.restype = _HALVES, None
            self._wholes.argtypes, self._wholes.restype = [*_HALVES, c_void_p], None
            self._many = functions.trustvlm_many
            self._many.argtypes, self._many.restype = [*_PRODUCT, c_int, c_void_p], c_int

    def few(self, rows: Uint16s, queries: Float32s, out: Float32s) -> None:
        """Write queries (n, d) · rows (m, d)ᵀ into `out` (n, m); `queries` are those of
        :meth:`apart`. The fastest way for few queries."""
        _require(queries.dtype == np.float32 and queries.flags.c_contiguous, "queries")
        _require(queries.shape == (len(out), rows.shape[1]), "queries")
        self._few(*_product(rows, queries, out))

    @staticmethod
    def apart(queries: Float32s) -> Float32s:
        """(n, d) queries as :meth:`few` takes them: of each 32 numbers those at even places, then
        those at odd ones; what is left behind the last multiple of 32 stays in order."""
        count, stop = len(queries), queries.shape[1] // 32 * 32
        pairs = queries[:, :stop].reshape(count, stop // 32, 16, 2).swapaxes(2, 3)
        return np.concatenate([pairs.reshape(count, stop), queries[:, stop:]], axis=1)

    def tiles(self, queries: Float32s) -> QueryTiles:
        """(n, d) queries as :meth:`many` takes them, with units `PAIRS` or `TILES`."""
        _require(queries.dtype == np.float32 and queries.flags.c_contiguous, "queries")
        (count, dim), columns = queries.shape, -(-len(queries) // 16)
        tile = 1_024 if self.units == TILES else 512
        numbers = np.zeros((columns, -(-dim // 32), tile), np.uint16)
        worth = np.zeros(16 * columns, np.float32)
        given = queries.ctypes.data, count, dim, numbers.ctypes.data
        if self.units == TILES:
            self._halves(*given)
        else:
            self._wholes(*given, worth.ctypes.data)
        return QueryTiles(count, dim, numbers, worth)

    def many(self, rows: Uint16s, tiles: QueryTiles, out: Float32s) -> None:
        """As :meth:`few`, with the queries of :meth:`tiles`, in less time for many of them."""
        _require((tiles.count, tiles.dim) == (len(out), rows.shape[1]), "tiles")
        given = _product(rows, tiles.numbers, out)
        if self._many(*given, self.units, tiles.worth.ctypes.data):
            raise MemoryError("no memory for rows as tiles")

    def columns(
        self, logits: Float32s, leading: Float32s, similarity: Float32s | None, choice: ColumnChoice
    ) -> tuple[Float64s, Float64s]:
        """Block (4, n, m) and totals (5, n) of n > 0 queries, as
        :func:`trustvlm.softmax.dense.block_columns` gives them."""
        image = logits if similarity is None else similarity
        flags = logits.flags.c_contiguous, leading.flags.c_contiguous, image.flags.c_contiguous
        same = logits.shape == leading.shape == image.shape and all(flags)
        _require(same and logits.dtype == leading.dtype == image.dtype == _FLOAT32, "logits")
        (count, labels), nearest = logits.shape, 0 if similarity is None else choice.nearest
        width = min(labels, choice.text + nearest + choice.sums)
        block, totals = np.empty((4, count, width)), np.empty((5, count))
        similarities = None if similarity is None else byref(_first(similarity))
        given = byref(_first(logits)), byref(_first(leading)), similarities, count, labels
        out = width, byref(_first(block)), byref(_first(totals))
        if self._columns(*given, byref(choice), *out):
            raise MemoryError("no memory for the powers of a row")
        return block, totals

    def choose(
        self,
        block: Float64s,
        quantity: Float64s,
        trust: Float64s,
        listed: int,
        rounding: Rounding,
        *,
        relabels: bool,
    ) -> tuple[Int64s, Float64s, Bools] | None:
        """Places (6, n), numbers (8, n) and flags (2, n) of what is chosen among the columns of a
        block, see trustvlm/softmax/choose.c; None where names are to decide."""
        _, count, width = block.shape
        flags = block.flags.c_contiguous, quantity.flags.c_contiguous, trust.flags.c_contiguous
        same = quantity.shape == trust.shape == (count, width) and all(flags)
        _require(same and block.dtype == quantity.dtype == trust.dtype == _FLOAT64, "block")
        places, numbers = np.empty((6, count), np.int64), np.empty((8, count))
        marks = np.empty((2, count), np.bool_)
        given = byref(_first(block)), byref(_first(quantity)), byref(_first(trust)), count, width
        out = byref(_first(places)), byref(_first(numbers)), byref(_first(marks))
        doubts = self._choose(*given, listed, relabels, byref(rounding), *out)
        return None if doubts & _BY_NAME else (places, numbers, marks)

    def products(
        self, first: Float32s, rest: Float32s, slots: Int64s, queries: Float64s
    ) -> Float64s:
        """(n, m) products of (n, d) queries and the rows in their (n, m) slots, NaN for −1; the
        rows lie in two pieces."""
        (count, width), dim = slots.shape, queries.shape[1]
        for array, kind in ((first, np.float32), (rest, np.float32), (queries, np.float64)):
            fits = array.dtype == kind and array.flags.c_contiguous and array.shape[1] == dim
            _require(fits, "rows or queries")
        _require(slots.dtype == np.int64 and slots.flags.c_contiguous, "slots")
        _require(int(slots.max(initial=-1)) < len(first) + len(rest), "slots")
        out = np.empty(slots.shape)
        rows = first.ctypes.data, len(first), rest.ctypes.data, dim
        self._products(*rows, queries.ctypes.data, count, slots.ctypes.data, width, out.ctypes.data)
        return out

    def unit(self, rows: Float32s, least: float, most: float) -> Float32s | None:
        """(n, d) rows, n > 0, divided by their norms; None where a squared norm is not between the
        two."""
        _require(rows.dtype == _FLOAT32 and rows.flags.c_contiguous, "rows")
        out, flags = np.empty(rows.shape, np.float32), rows.flags
        given = byref(_first(rows)) if flags.writeable else rows.ctypes.data, *rows.shape
        return out if self._unit(*given, least, most, byref(_first(out))) else None

    def log_sums(self, rows: Float32s, scale: float) -> Float64s:
        """(n,) log Σ e^(scale · x) of the rows of an (n, a) array that is not empty, scale > 0."""
        _require(rows.dtype == _FLOAT32 and rows.flags.c_contiguous, "rows")
        out, flags = np.empty(len(rows)), rows.flags
        given = byref(_first(rows)) if flags.writeable else rows.ctypes.data, *rows.shape
        self._log_sums(*given, scale, byref(_first(out)))
        return out


class Running:
    """A pass in progress: what it keeps of the logits of n queries, with k leaders; without `sums`,
    for the leaders alone."""

    def __init__(self, native: Library, count: int, k: int, *, sums: bool) -> None:
        _require(k > 0, "k")
        self._native, self._k = native, k
        self._candidates = np.full((count, 2 * k), -np.inf, np.float32)
        self._positions = np.full((count, 2 * k), -1, np.int64)
        self._counts = np.zeros(count, np.int64)
        self._floors, self._top = (np.full(count, -np.inf, np.float32) for _ in range(2))
        self._sums = np.zeros((count, 3))
        self._leading = [a.ctypes.data for a in (self._candidates, self._positions, self._counts)]
        self._relative_to = self._top.ctypes.data, self._sums.ctypes.data if sums else None

    def add(self, logits: Float32s, first: int, alive: Bools | None) -> None:
        """Take in the (n, b) logits of the rows `first` …, which are overwritten.

        Args:
            alive: (b,) whether each row takes part; None: all.
        """
        count, width = logits.shape
        _require(logits.dtype == np.float32 and logits.strides[1] == 4, "logits")
        _require(count == len(self._top), "logits")
        if alive is not None:
            _require(alive.dtype == np.bool_ and alive.shape == (width,), "alive")
            _require(alive.flags.c_contiguous, "alive")
        self._native.add(
            logits.ctypes.data,
            count,
            width,
            logits.strides[0] // 4,
            first,
            None if alive is None else alive.ctypes.data,
            self._k,
            *self._leading,
            self._floors.ctypes.data,
            *self._relative_to,
        )

    def state(self) -> State:
        """The state after the last row."""
        self._native.select(len(self._top), self._k, *self._leading, *self._relative_to)
        logits, slots = self._candidates[:, : self._k], self._positions[:, : self._k]
        order = np.argsort(-logits, axis=1, kind="stable")
        return State(
            slots=np.take_along_axis(slots, order, axis=1),
            logits=np.take_along_axis(logits, order, axis=1).astype(np.float64),
            top=self._top.astype(np.float64),
            sums=self._sums,
        )


@cache
def library() -> Library | None:
    """The library that belongs to this source; None without one."""
    return loaded(FOLDER)


def loaded(folder: Path) -> Library | None:
    """The library in a folder; None where there is none of the source in that folder."""
    try:
        functions = ctypes.CDLL(str(folder / "loops.so"))
        functions.trustvlm_source.restype = c_uint32
        sources = (path.read_bytes() for path in sorted(folder.glob("*.[ch]")))
        if functions.trustvlm_source() == zlib.crc32(b"".join(sources)):
            return Library(functions)
        reason = "it was built from another source"
    except (OSError, AttributeError) as error:
        reason = str(error)
    log.info("passes over labels run through torch, slower: no library loops.so (%s)", reason)
    return None


def _product(rows: Uint16s, queries: Float32s | Uint16s, out: Float32s) -> tuple[int, ...]:
    (count, dim), n = rows.shape, len(out)
    _require(rows.dtype == np.uint16 and rows.flags.c_contiguous, "rows")
    _require(out.dtype == np.float32 and out.shape[1] == count and out.strides[1] == 4, "out")
    stride = out.strides[0] // 4
    return rows.ctypes.data, count, dim, queries.ctypes.data, n, out.ctypes.data, stride


def _require(fits: bool, name: str) -> None:
    if not fits:
        raise ValueError(f"{name}: of another type, shape or order than the library takes")
