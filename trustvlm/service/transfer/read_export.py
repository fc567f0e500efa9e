"""Reading an exported space row by row, and checking everything: it may be a stranger's.

The checksums of the manifest show damage, not malice, because whoever can write the files can write
the manifest. So each file must have exactly the columns that an export writes, uncompressed, and no
more rows than its size allows; and each value is checked like one that a caller passes.
"""

from __future__ import annotations

from collections.abc import Generator, Iterator
from pathlib import Path
from typing import Any

import numpy as np

from trustvlm.catalog.rows.labels import NewLabel
from trustvlm.catalog.rows.supports import NewSupport
from trustvlm.encoders.specs.parse import parse_spec
from trustvlm.errors import InvalidInput, NotFound, Unavailable
from trustvlm.reading.parquet import ParquetFacts, read_batches
from trustvlm.scoring.external import output_of
from trustvlm.scoring.vectors import as_matrix
from trustvlm.service.home.names import MAX_PROMPT, check_name
from trustvlm.service.transfer.export import digest_of
from trustvlm.service.transfer.export_format import (
    LABELS,
    MANIFEST,
    MARKS,
    OPTIONAL,
    SUPPORTS,
    TAXONOMY,
    SpaceManifest,
    schema_of,
)
from trustvlm.types.arrays import Float32s
from trustvlm.types.attributes.values import attributes_text, parse_attributes
from trustvlm.types.messages.commands import suggested

_MAX_MANIFEST = 16 * 2**20
_MAX_SOURCE = 10_000
_MAX_THUMBNAIL = 2**20
_UNIT = 1e-5  # how far the norm of a float32 unit vector may be from 1


def read_manifest(folder: Path) -> SpaceManifest:
    """The manifest of an exported space, after both files have the sizes and checksums in it.

    Raises:
        NotFound: no such folder. InvalidInput: something else, or files that were cut off or
            altered.
    """
    if not folder.is_dir():
        raise (InvalidInput if folder.exists() else NotFound)(
            f"{folder} is no folder; expected what {suggested('export')} wrote"
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
            raise InvalidInput(f"{folder / MANIFEST}: expected at most {_MAX_MANIFEST >> 20} MiB")
        manifest = _parsed(folder / MANIFEST, text)
        for name, facts in manifest.files.items():
            path = folder / name
            if path.stat().st_size != facts.size or digest_of(path) != facts.sha256:
                raise InvalidInput(
                    f"{path} is not what its manifest says: it was cut off or altered; "
                    f"export the space again"
                )
    except OSError as error:
        raise Unavailable(f"{folder} cannot be read: {error.strerror or error}") from error
    return manifest


def _parsed(path: Path, text: bytes) -> SpaceManifest:
    try:
        return SpaceManifest.from_json(text)
    except InvalidInput as error:
        raise InvalidInput(f"{path}: {str(error).splitlines()[0]:.200}") from error


def read_label_rows(
    folder: Path, manifest: SpaceManifest
) -> Generator[tuple[NewLabel, str | None]]:
    """Each label as the file states it, and the label that it is an alias of. Raises InvalidInput
    for a row that cannot be right."""
    path, taken = folder / LABELS, set[int]()
    external = parse_spec(manifest.classifier).is_external
    for row in _rows(path, manifest, "text_prototype"):
        alias_of = row.pop("alias_of")
        name = check_name(row["name"], f"{path}: name")
        what = f"{path}: label {name!r}"
        label = NewLabel(**row | {"name": name, "attributes": _attributes(row, what)})
        prompt, source = label.prompt, label.text_source
        from_prompt = source == "prompt"
        sources = ("output",) if external else ("name", "prompt", "vector")
        if source not in sources or (prompt is not None) != from_prompt:
            raise InvalidInput(f"{what}: text_source {source!r:.20} does not go with its prompt")
        if external:
            _check_output(label, taken, what)
        if prompt is not None and (
            not prompt.strip() or len(prompt) > MAX_PROMPT or "\0" in prompt
        ):
            raise InvalidInput(
                f"{what}: expected a prompt of at most {MAX_PROMPT} characters, got {prompt!r:.60}"
            )
        prototyped = label.prototype is not None
        if prototyped != (label.support_count > 0) or (prototyped and alias_of is not None):
            raise InvalidInput(
                f"{what}: a prototype goes with support images of its own, {label.support_count} "
                f"are stated"
            )
        for column in ("text_prototype", "prototype"):
            vector = row[column]
            if vector is not None and abs(np.linalg.norm(vector.astype(float)) - 1) > _UNIT:
                raise InvalidInput(f"{what}: {column} is no unit vector")
        yield label, alias_of


def _check_output(label: NewLabel, taken: set[int], what: str) -> None:
    """Raises InvalidInput: a label of an external classifier has no output of its own."""
    output = output_of(label.text_prototype)
    if output is None or output in taken:
        raise InvalidInput(f"{what}: text_prototype: expected the axis of an output of its own")
    taken.add(output)


def read_support_rows(folder: Path, manifest: SpaceManifest) -> Generator[tuple[str, NewSupport]]:
    """(label name, support image) of an exported space. Raises InvalidInput for a row that cannot
    be right."""
    path = folder / SUPPORTS
    for row in _rows(path, manifest, "embedding"):
        label = row.pop("label")
        what = f"{path}: support image {row['content_hash'].hex()[:12]}… of {label!r:.60}"
        marks = {mark: bool(row.get(mark)) for mark in MARKS}
        image = NewSupport(**row | {"attributes": _attributes(row, what)} | marks)
        if image.source is not None and len(image.source) > _MAX_SOURCE:
            raise InvalidInput(
                f"{what}: expected a source of at most {_MAX_SOURCE} characters, got "
                f"{len(image.source)}"
            )
        if image.classifier_embedding is not None and manifest.verifier == "same":
            raise InvalidInput(
                f"{what}: it has a classifier embedding, in a space whose verifier is 'same'"
            )
        picture = image.thumbnail
        if picture is not None and not (
            picture.startswith(b"\xff\xd8\xff") and len(picture) <= _MAX_THUMBNAIL
        ):
            raise InvalidInput(
                f"{what}: expected a JPEG of at most {_MAX_THUMBNAIL >> 10} KiB as thumbnail"
            )
        yield label, image


def _attributes(row: dict[str, Any], what: str) -> str | None:
    """The attributes of a row, checked. Raises InvalidInput."""
    text = row.get("attributes")
    return None if text is None else attributes_text(parse_attributes(text, what), what)


def read_tree(folder: Path, manifest: SpaceManifest) -> Iterator[tuple[str, str]]:
    """(child, parent) of the taxonomy; nothing without one. Raises InvalidInput for a row that
    cannot be right."""
    path = folder / TAXONOMY
    if TAXONOMY not in manifest.files:
        return
    for row in _rows(path, manifest, None):
        yield (
            check_name(row["child"], f"{path}: child"),
            check_name(row["parent"], f"{path}: parent"),
        )


def _rows(path: Path, manifest: SpaceManifest, full_column: str | None) -> Iterator[dict[str, Any]]:
    """The rows of a file as dictionaries, vectors as float32 arrays; every row has a vector in
    `full_column`, or (None) two texts. Optional columns may be missing."""
    schema = schema_of(path.name, manifest)
    width = 8 if full_column is None else 4 * schema.field(full_column).type.list_size
    fields: list[Any] = []

    def check(facts: ParquetFacts) -> None:
        expected_schema = schema_of(path.name, manifest, facts.schema.names)
        if not facts.schema.equals(expected_schema, check_metadata=False):
            wanted, perhaps = (
                ", ".join(
                    f"{one.name} ({one.type})" for one in schema if (one.name in OPTIONAL) is some
                )
                for some in (False, True)
            )
            more = f", and perhaps {perhaps}" if perhaps else ""
            raise InvalidInput(f"{path}: expected exactly the columns {wanted}{more}")
        fields.extend(expected_schema)
        expected, size = manifest.files[path.name].rows, path.stat().st_size
        if facts.rows != expected:
            raise InvalidInput(f"{path}: expected {expected} rows, got {facts.rows}")
        if facts.rows * width > size:
            raise InvalidInput(
                f"{path}: {facts.rows} rows with {width} bytes each do not fit in {size} bytes"
            )
        if facts.compressed:
            raise InvalidInput(f"{path}: expected uncompressed columns, as an export has")

    for batch in read_batches(path, check):
        columns = {field.name: _cells(path, field, batch.column(field.name)) for field in fields}
        for i in range(batch.num_rows):
            yield {name: cells[i] for name, cells in columns.items()}


def _cells(path: Path, field: Any, column: Any) -> list[Any]:
    """The values of a column, one a row; a vector is a float32 array, or None."""
    import pyarrow as pa

    if not field.nullable and column.null_count:
        raise InvalidInput(f"{path}: the column {field.name} has empty places")
    if not pa.types.is_fixed_size_list(field.type):
        return list(column.to_pylist())
    inner = column.drop_null().flatten()
    if inner.null_count:
        raise InvalidInput(f"{path}: the column {field.name} has vectors with empty places")
    matrix: Float32s = inner.to_numpy().reshape(-1, field.type.list_size)
    as_matrix(matrix, matrix.shape[1], f"{path}: {field.name}")
    vectors = iter(np.array(matrix, dtype=np.float32))
    return [next(vectors) if valid else None for valid in column.is_valid().to_pylist()]
