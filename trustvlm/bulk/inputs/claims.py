"""The labels that rows are claimed to have: of a column of the input, or of a file of claims."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from trustvlm.bulk.inputs.images import Digest
from trustvlm.errors import InvalidInput
from trustvlm.reading.claimed_files import listed_file, read_claims
from trustvlm.reading.sets.rows import label_name
from trustvlm.types.arrays import texts_or_missing
from trustvlm.types.messages.meant import did_you_mean

if TYPE_CHECKING:
    import pyarrow

    from trustvlm.bulk.units import Unit
    from trustvlm.reading.parquet import ParquetFiles

Names = tuple[str | None, ...]
"""A claim for each row; None: there is none."""
_TABLE = "a table with the columns file and label (.csv, .tsv, .parquet)"


@dataclass(frozen=True)
class Claims:
    """Where the claims of the rows of an input stand: one of three.

    Attributes:
        origin: where, in words.
        column: of the input. by_file: file → claim. by_place: a claim for each image, in order.
    """

    origin: str
    column: str | None = None
    by_file: Mapping[str, str | None] | None = None
    by_place: Names | None = None

    def key(self) -> str:
        """What stands for the claims of rows that are not read yet: the name of their column, or a
        digest of the table."""
        if self.by_file is None:
            return f"column {self.column}"
        return digest_of([part for item in sorted(self.by_file.items()) for part in item])

    def of_sources(self, sources: Sequence[str]) -> list[str | None]:
        """The claims of rows by their names, of a table of claims."""
        assert self.by_file is not None
        names = (listed_file(source, self.by_file) for source in sources)
        return [None if name is None else self.by_file[name] for name in names]

    def of_images(self, images: Sequence[str]) -> Names:
        """The claims of image files. Raises InvalidInput: there are none for these."""
        if self.by_place is not None:
            if len(self.by_place) != len(images):
                raise InvalidInput(
                    f"{self.origin}: expected a claim for each image (an empty line, or None, for "
                    f"none), got {len(self.by_place):,} for {len(images):,} images"
                )
            return self.by_place
        if self.by_file is None:
            raise InvalidInput(
                f"claimed: no file {self.column}; a column needs Parquet files, or images in a "
                f"table (.csv, .tsv)"
            )
        claims = self.of_sources(images)
        if not any(listed_file(image, self.by_file) for image in images):
            raise self.of_no_row(f"the {len(images):,} images")
        return tuple(claims)

    def of_no_row(self, rows: str) -> InvalidInput:
        """The error of a table that claims nothing of these rows."""
        files = self.by_file or {}
        return InvalidInput(
            f"{self.origin}: none of its {len(files):,} files is one of {rows}; the first: "
            f"{next(iter(files), '')}"
        )

    def require_of_shards(self) -> None:
        """Raises InvalidInput: claims that rows of tar shards cannot have."""
        if self.by_file is None:
            what = f"no file {self.column}" if self.column else f"{self.origin} is a list"
            raise InvalidInput(f"claimed: {what}; images of tar shards need {_TABLE}")

    def require_of_parquet(self, path: Path, schema: pyarrow.Schema) -> None:
        """Raises InvalidInput: claims that the rows of a Parquet file cannot have."""
        if self.by_place is not None:
            raise InvalidInput(
                f"claimed: {self.origin} is a list; rows of Parquet files need a column of theirs, "
                f"or {_TABLE}"
            )
        if self.column is None:
            return
        if self.column not in schema.names:
            raise InvalidInput(
                f"claimed: no file {self.column}, and {path} has no such column; it has "
                f"{', '.join(schema.names):.200}{did_you_mean(self.column, schema.names)}"
            )
        kind = schema.field(self.column).type
        if not _holds_names(kind):
            raise InvalidInput(
                f"{path}: column {self.column}: expected names of labels, got {kind!s:.80}"
            )


def claims_given(claimed: str | os.PathLike[str] | Sequence[str | None] | None) -> Claims | None:
    """The claims of a call: of a file of claims, a list, or else in the column with this name.

    Raises:
        NotFound, InvalidInput: no such file, it holds no claims, or neither names nor None.
    """
    if claimed is None:
        return None
    if not isinstance(claimed, str | os.PathLike):
        expected = "the name of a column or file, or a label name (or None) for each image"
        return Claims("claimed", by_place=tuple(texts_or_missing(claimed, "claimed", expected)))
    name = os.fspath(claimed)
    read = read_claims(name)
    if isinstance(read, dict):
        return Claims(name, by_file=read)
    if read is not None:
        return Claims(name, by_place=tuple(read))
    if not name:
        raise InvalidInput("claimed: expected the name of a column or of a file, got ''")
    return Claims(f"column {name}", column=name)


def claims_in_column(parquet: ParquetFiles, unit: Unit, column: str) -> Names:
    """The claims of a unit's rows. Raises InvalidInput: its file is no sound one, or has no such
    column any more."""
    path, claims = Path(unit.path), list[str | None]()
    for batch in parquet.batches(path, [column], unit.start, unit.stop):
        for cell in batch.column(column).to_pylist():
            place = f"{path}, row {unit.start + len(claims)}, column {column}"
            claims.append(label_name(cell, None, place))
    return tuple(claims)


def digest_of(claims: Sequence[str | None]) -> str:
    """A digest of claims, in hexadecimal."""
    digest = Digest()
    digest.add(*["\0" if claim is None else f"={claim}" for claim in claims])
    return digest.text()


def _holds_names(kind: Any) -> bool:
    from pyarrow import types

    if types.is_dictionary(kind):
        kind = kind.value_type
    named = (types.is_string, types.is_large_string, types.is_string_view, types.is_integer)
    return types.is_null(kind) or any(of(kind) for of in named)
