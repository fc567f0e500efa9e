"""Rows of vectors from a Parquet file, in parts of the size of a call."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from trustvlm.bulk.inputs.columns import FAILURE, check_vectors, name_column
from trustvlm.bulk.inputs.images import Digest
from trustvlm.bulk.units import CALL_ROWS
from trustvlm.errors import InvalidInput
from trustvlm.reading.parquet import ParquetFiles
from trustvlm.types import Queries
from trustvlm.types.arrays import Bools, Int64s

if TYPE_CHECKING:
    import pyarrow


@dataclass(frozen=True, eq=False)
class VectorRows:
    """Some rows of vectors.

    Attributes:
        sources: a name for each row. failures: place of a row → why it has no usable vectors.
        places: of the other rows. queries: their vectors, in the type that the file has.
    """

    sources: list[str]
    failures: dict[int, str]
    places: Int64s
    queries: Queries


def read_vectors(
    parquet: ParquetFiles,
    path: Path,
    start: int,
    stop: int,
    dims: Mapping[str, int],
    digest: Digest,
) -> Iterator[VectorRows]:
    """The rows start … stop of a file, at most :data:`CALL_ROWS` at a time; `dims`: dimension of
    the vectors of each column to read. What is read goes into `digest`, too.

    Raises:
        InvalidInput: it is no sound Parquet file, or no longer has these columns and rows.
    """
    import pyarrow as pa

    schema = parquet.facts(path).schema
    check_vectors(path, schema, {side: dim for side, dim in dims.items() if side in schema.names})
    named = name_column(path, schema)
    columns = [*dims, *[name for name in (named, FAILURE) if name and name in schema.names]]
    waiting: list[Any] = []
    for batch in parquet.batches(path, columns, start, stop):
        waiting.append(batch)
        if sum(map(len, waiting)) >= CALL_ROWS:
            table = pa.Table.from_batches(waiting)
            yield _rows(path, table.slice(0, CALL_ROWS), start, named, dims, digest)
            start += CALL_ROWS
            waiting = table.slice(CALL_ROWS).to_batches()
    if (left := sum(map(len, waiting))) != stop - start:
        raise InvalidInput(f"{path}: expected {stop - start:,} more rows, got {left:,}")
    if left:
        yield _rows(path, pa.Table.from_batches(waiting), start, named, dims, digest)


def _rows(
    path: Path, table: pyarrow.Table, first: int, named: str | None, dims: Mapping[str, int],
    digest: Digest,
) -> VectorRows:  # fmt: skip
    sources = _names(path, table, first, named)
    failures: dict[int, str] = {}
    if FAILURE in table.column_names:
        said = table.column(FAILURE).to_pylist()
        failures = {place: str(reason) for place, reason in enumerate(said) if reason}
    sides: dict[str, tuple[npt.NDArray[Any], Bools]] = {}
    for side, dim in dims.items():
        sides[side] = _matrix(table.column(side), side, dim, failures)
    usable = np.ones(len(table), np.bool_)
    usable[list(failures)] = False
    vectors = {side: rows[usable[complete]] for side, (rows, complete) in sides.items()}
    digest.add(*sources, *[failures[place] for place in sorted(failures)])
    digest.add(*[part for rows in vectors.values() for part in (rows.dtype.str, rows.tobytes())])
    places = np.flatnonzero(usable).astype(np.int64)
    queries = Queries(vectors.get("classifier"), vectors.get("verifier"))
    return VectorRows(sources, failures, places, queries)


def _names(path: Path, table: pyarrow.Table, first: int, named: str | None) -> list[str]:
    """A name for each row: that of the file or, where it has none, its place there."""
    given = [None] * len(table) if named is None else table.column(named).to_pylist()
    return [
        f"{path}[{row}]" if name is None else str(name) for row, name in enumerate(given, first)
    ]


def _matrix(
    column: pyarrow.ChunkedArray, side: str, dim: int, failures: dict[int, str]
) -> tuple[npt.NDArray[Any], Bools]:
    """((m, dim) of the rows that have `dim` values, (n,) which these are); the other rows, and
    those with values that are no vector, go into `failures`."""
    import pyarrow.compute as pc

    lengths = pc.list_value_length(column).fill_null(-1).to_numpy()
    complete = lengths == dim
    for place in np.flatnonzero(~complete).tolist():
        got = "none" if lengths[place] < 0 else f"{lengths[place]} values"
        failures.setdefault(place, f"{side}: expected a vector of {dim} values, got {got}")
    rows = pc.list_flatten(column.filter(complete)).to_numpy().reshape(-1, dim)
    with np.errstate(over="ignore"):
        lengths_squared = np.square(rows, dtype=np.float64).sum(axis=1)
    places = np.flatnonzero(complete)
    for place in places[~np.isfinite(lengths_squared)].tolist():
        failures.setdefault(place, f"{side}: expected finite values, got NaN or infinity")
    for place in places[lengths_squared == 0].tolist():
        failures.setdefault(place, f"{side}: expected a vector, got one of length 0")
    return rows, complete
