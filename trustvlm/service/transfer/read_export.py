"""Reading an exported space back, row by row, believing nothing: files of strangers come here.

The checksums of the manifest show damage, not malice, since whoever can write the files can write
the manifest. So each file must have exactly the columns that an export writes, uncompressed, in row
groups that fit in memory, and no more rows than its size allows; and each value is checked like one
that a caller passes. What makes pyarrow itself fail is found out before, in another process
(:mod:`trustvlm.service.transfer.sandbox_child`).
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

import numpy as np

from trustvlm.catalog.rows.supports import NewSupport
from trustvlm.errors import InvalidInput, NotFound, TrustVLMError, Unavailable
from trustvlm.scoring.vectors import as_matrix
from trustvlm.service.inputs.names import MAX_PROMPT, check_name
from trustvlm.service.transfer.export import digest_of
from trustvlm.service.transfer.export_format import (
    GROUP_BYTES,
    LABELS,
    MANIFEST,
    SUPPORTS,
    SpaceManifest,
    group_rows,
    label_schema,
    support_schema,
)  # fmt: skip
from trustvlm.types.arrays import Float32s

if TYPE_CHECKING:
    import pyarrow.parquet

__all__ = ["GivenLabel", "batch_rows", "labels_of", "read_manifest", "supports_of"]

_MAX_MANIFEST = 16 * 2**20
_MAX_GROUP = 16 * GROUP_BYTES  # thumbnails and long names make a row group larger than planned
_MAX_SOURCE = 10_000
_MAX_THUMBNAIL = 2**20
_UNIT = 1e-5  # how far the norm of a float32 unit vector may be from 1


@dataclass(frozen=True)
class GivenLabel:
    """A label as a file says it is."""

    name: str
    prompt: str | None
    text_source: str
    alias_of: str | None
    support_count: int
    text_prototype: Float32s
    prototype: Float32s | None


def read_manifest(folder: Path) -> SpaceManifest:
    """The manifest of an exported space, after both files proved to be those that it describes.

    Raises:
        NotFound: no such folder. InvalidInput: something else, or files that were cut off or
            altered.
    """
    if not folder.is_dir():
        raise (InvalidInput if folder.exists() else NotFound)(
            f"{folder} is no folder; expected what 'trustvlm export' wrote"
        )
    for name in (MANIFEST, LABELS, SUPPORTS):
        if not (folder / name).is_file():
            raise InvalidInput(
                f"{folder}: expected {MANIFEST}, {LABELS} and {SUPPORTS}; {name} is missing"
            )
    try:
        with (folder / MANIFEST).open("rb") as file:
            text = file.read(_MAX_MANIFEST + 1)
        if len(text) > _MAX_MANIFEST:
            raise ValueError(f"expected at most {_MAX_MANIFEST >> 20} MiB")
        manifest = SpaceManifest.from_json(text)
        for name, facts in manifest.files.items():
            if (folder / name).stat().st_size != facts.size or digest_of(
                folder / name
            ) != facts.sha256:
                raise InvalidInput(
                    f"{folder / name} is not what its manifest says: it was cut off or altered; "
                    f"export anew"
                )
    except OSError as error:
        raise Unavailable(f"{folder} cannot be read: {error.strerror or error}") from error
    except ValueError as error:
        if isinstance(error, InvalidInput) and str(folder) in str(error):
            raise
        raise InvalidInput(f"{folder / MANIFEST}: {str(error).splitlines()[0]:.200}") from error
    return manifest


def batch_rows(manifest: SpaceManifest) -> int:
    """How many rows are read at a time."""
    return min(1_024, group_rows(manifest))


def labels_of(folder: Path, manifest: SpaceManifest) -> Iterator[GivenLabel]:
    """The labels of an exported space. Raises InvalidInput for a row that cannot be right."""
    path = folder / LABELS
    columns = {"text_prototype": manifest.classifier_dim, "prototype": manifest.verifier_dim}
    for row in _rows(path, manifest, label_schema(manifest), columns):
        name = check_name(row["name"], f"{path}: name")
        what = f"{path}: label {name!r}"
        prompt, source, count = row["prompt"], row["text_source"], row["support_count"]
        if source not in ("name", "prompt", "vector") or (prompt is not None) != (
            source == "prompt"
        ):
            raise InvalidInput(f"{what}: text_source {source!r:.20} does not go with its prompt")
        if prompt is not None and (
            not prompt.strip() or len(prompt) > MAX_PROMPT or "\0" in prompt
        ):
            raise InvalidInput(
                f"{what}: expected a prompt of at most {MAX_PROMPT} characters, got {prompt!r:.60}"
            )
        prototyped = row["prototype"] is not None
        if prototyped != (count > 0) or (prototyped and row["alias_of"] is not None):
            raise InvalidInput(
                f"{what}: a prototype goes with support images of its own, {count} are stated"
            )
        for column in ("text_prototype", "prototype"):
            if (
                row[column] is not None
                and abs(float(np.linalg.norm(row[column].astype(np.float64))) - 1) > _UNIT
            ):
                raise InvalidInput(f"{what}: {column} is no unit vector")
        yield GivenLabel(
            name, prompt, source, row["alias_of"], count, row["text_prototype"], row["prototype"]
        )


def supports_of(folder: Path, manifest: SpaceManifest) -> Iterator[tuple[str, NewSupport]]:
    """(label name, support image) of an exported space. Raises InvalidInput for a row that cannot
    be right."""
    path = folder / SUPPORTS
    columns = {"embedding": manifest.verifier_dim, "classifier_embedding": manifest.classifier_dim}
    for row in _rows(path, manifest, support_schema(manifest), columns):
        source, other, picture = row["source"], row["classifier_embedding"], row["thumbnail"]
        what = f"{path}: support image {row['content_hash'].hex()[:12]}… of {row['label']!r:.60}"
        if source is not None and len(source) > _MAX_SOURCE:
            raise InvalidInput(
                f"{what}: expected a source of at most {_MAX_SOURCE} characters, got {len(source)}"
            )
        if other is not None and manifest.verifier == "same":
            raise InvalidInput(
                f"{what}: it has a classifier embedding, in a space whose verifier is 'same'"
            )
        if picture is not None and not (
            picture.startswith(b"\xff\xd8\xff") and len(picture) <= _MAX_THUMBNAIL
        ):
            raise InvalidInput(
                f"{what}: expected a JPEG of at most {_MAX_THUMBNAIL >> 10} KiB as thumbnail"
            )
        yield (
            row["label"],
            NewSupport(row["content_hash"], source, row["embedding"], other, picture),
        )


def _rows(
    path: Path, manifest: SpaceManifest, schema: Any, vectors: dict[str, int]
) -> Iterator[dict[str, Any]]:
    """The rows of a file as dicts; its vector columns, of which the first has no empty place, hold
    float32 arrays."""
    with path.open("rb") as opened, _as_ours(path):
        file = _open(path, opened, manifest, schema, next(iter(vectors.values())))
        for batch in file.iter_batches(batch_size=batch_rows(manifest), use_threads=False):
            columns = {}
            for name in schema.names:
                column = batch.column(batch.schema.get_field_index(name))
                if not schema.field(name).nullable and column.null_count:
                    raise InvalidInput(f"{path}: the column {name} has empty places")
                columns[name] = (
                    _vectors(path, name, column, vectors[name])
                    if name in vectors
                    else column.to_pylist()
                )
            for i in range(batch.num_rows):
                yield {name: values[i] for name, values in columns.items()}


def _vectors(path: Path, name: str, column: Any, dim: int) -> list[Float32s | None]:
    """A column of fixed-size lists as vectors, None where there is none."""
    there = column.is_valid().to_numpy(zero_copy_only=False)
    inner = column.drop_null().flatten()
    if inner.null_count:
        raise InvalidInput(f"{path}: the column {name} has vectors with empty places")
    matrix = inner.to_numpy().reshape(-1, dim)
    as_matrix(matrix, dim, f"{path}: {name}")
    vectors = iter(np.array(matrix, dtype=np.float32))
    return [next(vectors) if valid else None for valid in there]


def _open(
    path: Path, opened: BinaryIO, manifest: SpaceManifest, schema: Any, dim: int
) -> pyarrow.parquet.ParquetFile:
    """The file, when its own description is one that an export writes."""
    import pyarrow.parquet as pq

    limits = {"thrift_string_size_limit": _MAX_MANIFEST * 2, "thrift_container_size_limit": 10**7}
    file = pq.ParquetFile(opened, pre_buffer=False, page_checksum_verification=True, **limits)
    if not file.schema_arrow.equals(schema, check_metadata=False):
        columns = ", ".join(f"{field.name} ({field.type})" for field in schema)
        raise InvalidInput(f"{path}: expected exactly the columns {columns}")
    size, found = path.stat().st_size, file.metadata
    if found.num_rows != manifest.files[path.name].rows:
        raise InvalidInput(
            f"{path}: expected {manifest.files[path.name].rows} rows, got {found.num_rows}"
        )
    if found.num_rows * 4 * dim > size:
        raise InvalidInput(
            f"{path}: {found.num_rows} rows of {dim} float32 values do not fit in {size} bytes"
        )
    for number in range(found.num_row_groups):
        group = found.row_group(number)
        for place in range(group.num_columns):
            column = group.column(place)
            if (
                column.compression != "UNCOMPRESSED"
                or not 0 <= column.total_uncompressed_size <= _MAX_GROUP
            ):
                limit = f"at most {_MAX_GROUP >> 20} MiB"
                raise InvalidInput(
                    f"{path}: expected uncompressed columns in row groups of {limit}, as an "
                    f"export has"
                )
    return file


@contextmanager
def _as_ours(path: Path) -> Iterator[None]:
    """What pyarrow raises over a file that is not sound, as InvalidInput."""
    import pyarrow as pa

    try:
        yield
    except TrustVLMError:
        raise
    except (pa.ArrowException, OSError, ValueError, TypeError, OverflowError, MemoryError) as error:
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        raise InvalidInput(f"{path} is no sound Parquet file: {reason:.200}") from error
