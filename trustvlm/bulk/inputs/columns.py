"""Which columns of a Parquet file bulk work reads."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from trustvlm.errors import InvalidInput
from trustvlm.reading.sets.arrow_table import ArrowSet, arrow_set
from trustvlm.reading.sets.columns import folded, only_column

if TYPE_CHECKING:
    import pyarrow

SIDES = ("classifier", "verifier")
FAILURE = "failure"
"""The column that says why a row has no answer, or no vectors."""
_NAMES = ("source", "sources", "id", "key", "name", "file", "path", "filename", "file_name")


def vector_columns(columns: Sequence[str]) -> tuple[str, ...]:
    """The columns of vectors among these, classifier first; none: the rows are images."""
    return tuple(side for side in SIDES if side in columns)


def name_column(path: Path, schema: pyarrow.Schema) -> str | None:
    """The column that names rows of vectors: text or whole numbers with a usual name. Raises
    InvalidInput: two of one name."""
    from pyarrow import types

    for usual in _NAMES:
        for field in schema:
            kind = field.type
            named = types.is_string(kind) or types.is_large_string(kind) or types.is_integer(kind)
            if folded(field.name) == usual and named:
                names = [folded(name) for name in schema.names]
                return str(schema.names[only_column(str(path), schema.names, names, usual)])
    return None


def check_vectors(path: Path, schema: pyarrow.Schema, dims: Mapping[str, int]) -> None:
    """Raises InvalidInput for columns that cannot hold vectors of these dimensions."""
    for side, dim in dims.items():
        kind = schema.field(only_column(str(path), schema.names, schema.names, side)).type
        if not _holds_vectors(kind):
            raise InvalidInput(
                f"{path}: column {side}: expected lists of {dim} numbers, got {kind!s:.80}"
            )
        size = getattr(kind, "list_size", dim)
        if size != dim:
            raise InvalidInput(
                f"{path}: column {side}: expected vectors of {dim} values, as the {side} of the "
                f"space has them, got {size}"
            )


def image_columns(path: Path, schema: pyarrow.Schema) -> ArrowSet:
    """How rows become images. Raises InvalidInput: no column of vectors and none of images."""
    try:
        return arrow_set(str(path), path.parent, schema)
    except InvalidInput as error:
        raise InvalidInput(
            f"{error}; for vectors, expected columns classifier or verifier"
        ) from error


def _holds_vectors(kind: Any) -> bool:
    from pyarrow import types

    lists = (types.is_list, types.is_large_list, types.is_fixed_size_list)
    if not any(of(kind) for of in lists):
        return False
    return bool(types.is_floating(kind.value_type) or types.is_integer(kind.value_type))
