"""Columns of pandas and Arrow, with types from the annotations of dataclasses."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields, is_dataclass
from datetime import datetime
from types import NoneType
from typing import TYPE_CHECKING, Any, Literal, get_args, get_origin, get_type_hints

from trustvlm.errors import Unavailable
from trustvlm.types.messages.stored_text import storable

if TYPE_CHECKING:
    import pandas
    import pyarrow


@dataclass(frozen=True, eq=False)
class Column:
    """A column of a table.

    Attributes:
        kind: annotation of one value: int, float, bool, str, datetime, `X | None`, `tuple[X, ...]`.
        values: an array or list with a value for each row; with `repeated`, the value of all rows.
    """

    kind: Any
    values: Any
    repeated: bool = False


def flat_columns(kind: type, rows: Sequence[Any]) -> dict[str, Column]:
    """The fields of dataclasses that fit into one cell: numbers, texts, times, and the numbers of
    nested dataclasses (`value` under the name of its field, others as `name_low`)."""
    columns: dict[str, Column] = {}
    for name, hint in _hints(kind).items():
        cells = [getattr(row, name) for row in rows]
        if isinstance(hint, type) and is_dataclass(hint):
            for part, inner in _hints(hint).items():
                if inner is float:
                    full = name if part == "value" else f"{name}_{part}"
                    values = [getattr(cell, part) for cell in cells]
                    columns[full] = Column(float | None, values)
        elif _plain(hint)[0] in _ARROW:
            columns[name] = Column(hint if hint is not float else float | None, cells)
    return columns


def arrow_table(columns: Mapping[str, Column], rows: int) -> pyarrow.Table:
    """A table of `rows` rows; NaN becomes null where the annotation has None."""
    import pyarrow as pa

    schema, arrays = [], []
    for name, column in columns.items():
        kind, nullable = _plain(column.kind)
        made = _arrow_type(kind)
        if column.repeated:
            array = pa.repeat(pa.scalar(column.values, made), rows)
        elif getattr(column.values, "ndim", 1) > 1 or not hasattr(column.values, "dtype"):
            array = pa.array(list(column.values), made, from_pandas=nullable)
        else:
            array = _arrow_array(column.values, made, nullable)
        schema.append(pa.field(name, made, nullable))
        arrays.append(array)
    return pa.Table.from_arrays(arrays, schema=pa.schema(schema))


def _arrow_array(values: Any, kind: Any, nullable: bool) -> Any:
    import pyarrow as pa

    try:
        return pa.array(values, kind, from_pandas=nullable)
    except UnicodeEncodeError:  # a path may have bytes that are no UTF-8
        plain = [None if one is None else storable(one) for one in values]
        return pa.array(plain, kind)


def pandas_frame(table: pyarrow.Table) -> pandas.DataFrame:
    """The columns of an Arrow table; whole numbers and bools that may be missing have pandas'
    types for that (Int64, boolean).

    Raises:
        Unavailable: pandas is not installed.
    """
    try:
        import pandas
    except ImportError as error:
        raise Unavailable(
            "to_pandas needs pandas, which is not installed: run 'pip install pandas', or use "
            "to_arrow()"
        ) from error
    import pyarrow as pa

    missing = {pa.int64(): pandas.Int64Dtype(), pa.bool_(): pandas.BooleanDtype()}
    series = {
        field.name: column.to_pandas(types_mapper=missing.get if field.nullable else None)
        for field, column in zip(table.schema, table.columns, strict=True)
    }
    return pandas.DataFrame(series)


_ARROW = {int: "int64", float: "float64", bool: "bool_", str: "string", datetime: "timestamp"}


def _hints(kind: Any) -> dict[str, Any]:
    hints = get_type_hints(kind)
    return {field.name: hints[field.name] for field in fields(kind)}


def _plain(hint: Any) -> tuple[Any, bool]:
    """(the type without None, whether there is None)."""
    parts = [part for part in get_args(hint) if part is not NoneType]
    if NoneType in get_args(hint):
        return (_plain(parts[0])[0] if len(parts) == 1 else hint), True
    return (str if get_origin(hint) is Literal else hint), False


def _arrow_type(kind: Any) -> Any:
    import pyarrow as pa

    if get_origin(kind) is tuple:
        return pa.list_(_arrow_type(get_args(kind)[0]))
    if kind is datetime:
        return pa.timestamp("us", "UTC")
    return getattr(pa, _ARROW[kind])()
