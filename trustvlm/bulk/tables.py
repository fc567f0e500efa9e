"""Tables of the output: a row for each row of the input, those without an answer included."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from trustvlm.bulk.inputs.columns import FAILURE, SIDES
from trustvlm.types import Queries, Verdicts
from trustvlm.types.arrays import Int64s
from trustvlm.types.messages.stored_text import storable

if TYPE_CHECKING:
    import pyarrow


def verdict_table(
    verdicts: Verdicts, sources: Sequence[str], places: Int64s, failures: Mapping[int, str]
) -> pyarrow.Table:
    """The columns of :meth:`Verdicts.to_arrow` behind `source`, then `failure`.

    Args:
        sources: (n,) a name for each row. places: (k,) of the verdicts among the rows.
        failures: place of each other row → why it has no verdict.
    """
    table = verdicts.to_arrow()
    if "source" in table.column_names:
        table = table.drop_columns(["source"])
    return _spread(table, sources, places, failures)


def embedding_table(
    queries: Queries, sources: Sequence[str], places: Int64s, failures: Mapping[int, str]
) -> pyarrow.Table:
    """The columns `source`, classifier and verifier as far as there are embeddings, `failure`."""
    import pyarrow as pa

    columns: dict[str, Any] = {}
    for side in SIDES:
        if (given := getattr(queries, side)) is not None:
            rows = np.ascontiguousarray(given, np.float32)
            values = pa.array(rows.ravel())
            columns[side] = pa.FixedSizeListArray.from_arrays(values, rows.shape[1])
    return _spread(pa.table(columns), sources, places, failures)


def _spread(
    table: pyarrow.Table, sources: Sequence[str], places: Int64s, failures: Mapping[int, str]
) -> pyarrow.Table:
    """A table of k rows at their places among n; the others have nulls and a reason."""
    import pyarrow as pa

    rows = len(sources)
    if len(places) < rows:
        taken = np.zeros(rows, np.int64)
        taken[places] = np.arange(len(places))
        missing = np.ones(rows, np.bool_)
        missing[places] = False
        table = table.take(pa.array(taken, mask=missing))
    reasons = pa.array([failures.get(place) for place in range(rows)], pa.string())
    names = pa.array([storable(source) for source in sources], pa.string())
    fields = [pa.field("source", pa.string(), nullable=False)]
    fields += [field.with_nullable(True) for field in table.schema]
    fields.append(pa.field(FAILURE, pa.string()))
    return pa.Table.from_arrays([names, *table.columns, reasons], schema=pa.schema(fields))
