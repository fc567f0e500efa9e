"""Inputs of bulk work over the space of tests/support/numbered.py."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numbered import queries

import trustvlm
from trustvlm import Queries, Verdicts

FILES, ROWS = 3, 40


def batch(number: int, rows: int = ROWS) -> Queries:
    """The vectors of file `number`."""
    return queries(rows, seed=number + 10)


def write_vectors(path: Path, vectors: Queries, **columns: Any) -> Path:
    """A Parquet file of vectors, in row groups of 16."""
    sides = {
        side: pa.array(list(np.asarray(rows)))
        for side in ("classifier", "verifier")
        if (rows := getattr(vectors, side)) is not None
    }
    path.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(pa.table(sides | columns), path, row_group_size=16)
    return path


def folder_of_vectors(folder: Path, files: int = FILES, rows: int = ROWS) -> Path:
    for number in range(files):
        write_vectors(folder / f"part-{number}.parquet", batch(number, rows))
    return folder


def scored(home: Path, vectors: Queries, **options: Any) -> Verdicts:
    with trustvlm.open(home) as service:
        return service.score("space", vectors, **options)


def plain(table: pa.Table) -> pa.Table:
    """The columns of verdicts, without the name of the row and without its metadata."""
    return table.drop_columns(["source", "failure"]).replace_schema_metadata()


def equal(path: Path, verdicts: Verdicts) -> bool:
    """Whether a file holds exactly these verdicts, to the bit."""
    expected = verdicts.to_arrow()
    got = plain(pq.read_table(path))
    return got.column_names == expected.column_names and got.cast(expected.schema).equals(expected)


def sources(out: Path) -> list[str]:
    """The name of every row of an output."""
    return sorted(
        name
        for path in out.glob("*.parquet")
        for name in pq.read_table(path, columns=["source"]).column("source").to_pylist()
    )
