"""Exporting a space as Parquet: one read transaction, row groups of bounded size, and a folder that
appears when it is complete."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from importlib.metadata import version
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sqlalchemy import Connection

from trustvlm.catalog.rows import export
from trustvlm.catalog.rows.attributes import rows as attributes
from trustvlm.catalog.rows.spaces import SpaceRecord
from trustvlm.catalog.rows.support.images import marks_in
from trustvlm.catalog.rows.taxonomy.edges import edges, latest
from trustvlm.errors import Conflict
from trustvlm.service.home.home import Home
from trustvlm.service.transfer.export_format import (
    LABELS,
    MANIFEST,
    SUPPORTS,
    TAXONOMY,
    FileFacts,
    SpaceManifest,
    group_rows,
    schema_of,
)
from trustvlm.system.fault_points import reached
from trustvlm.system.files.durable import sync
from trustvlm.system.files.work_folder import unwritable, work_folder
from trustvlm.types.backups import Exported

if TYPE_CHECKING:
    import pyarrow

Rows = Iterator[dict[str, Any]]
"""Values by the names of columns; vectors are packed."""


def export_space(
    home: Home, space_name: str, folder: Path, progress: Callable[[int], None] | None
) -> Exported:
    """See :meth:`TrustService.export_space`."""
    target = folder.absolute()
    with home.read(space_name) as (connection, space):
        if os.path.lexists(target) and not (target.is_dir() and not any(target.iterdir())):
            raise Conflict(f"{target} exists already; choose the name of a new folder")
        with unwritable("exporting to", target), work_folder(target.parent) as work:
            made = work / "export"
            made.mkdir()
            manifest = _manifest_of(space)
            at_once = group_rows(manifest, home.thresholds.export_group_bytes)
            labels = _label_rows(connection, space, at_once)
            most = home.thresholds.transaction_labels
            supports = _support_rows(connection, space, at_once, most, progress)
            of_labels = _optional(connection, space.id, attributes.LABELS)
            of_supports = _optional(connection, space.id, attributes.SUPPORTS)
            of_supports += marks_in(connection, space.id)
            files = {
                LABELS: _write(made / LABELS, manifest, of_labels, labels, at_once),
                SUPPORTS: _write(made / SUPPORTS, manifest, of_supports, supports, at_once),
            }
            if latest(connection, space.id):
                tree = (
                    {"child": child, "parent": parent}
                    for child, parent in edges(connection, space.id)
                )
                files[TAXONOMY] = _write(made / TAXONOMY, manifest, (), tree, at_once)
            (made / MANIFEST).write_text(replace(manifest, files=files).to_json(), encoding="utf-8")
            sync(made / MANIFEST)
            sync(made)
            reached("export.made")
            made.rename(target)  # replaces an empty folder, and nothing else
            reached("export.renamed")
            sync(target.parent)
    return Exported(target, space.name, space.revision, files[LABELS].rows, files[SUPPORTS].rows)


def _optional(connection: Connection, space_id: int, kind: attributes.Kind) -> list[str]:
    """The column of attributes, where a label or support image has some."""
    return ["attributes"] if attributes.any_in(connection, kind, space_id) else []


def _manifest_of(space: SpaceRecord) -> SpaceManifest:
    values: dict[str, Any] = {
        "trustvlm": version("trustvlm"), "files": {},
        "created_at": datetime.now(UTC).isoformat(timespec="seconds"),
    }  # fmt: skip
    of_space = SpaceManifest.__dataclass_fields__.keys() - {*values, "format", "version"}
    values |= {name: getattr(space, name) for name in of_space}
    return SpaceManifest(**values | {"templates": tuple(space.templates)})


def _label_rows(connection: Connection, space: SpaceRecord, at_once: int) -> Rows:
    for labels in export.label_rows(connection, space.id, at_once):
        yield from map(vars, labels)


def _support_rows(
    connection: Connection,
    space: SpaceRecord,
    at_once: int,
    labels_at_once: int,
    progress: Callable[[int], None] | None,
) -> Rows:
    for names in export.label_names(connection, space.id, labels_at_once):
        for supports in export.support_rows(connection, list(names), at_once):
            yield from (vars(one) | {"label": names[one.label_id]} for one in supports)
        if progress is not None:
            progress(len(names))


def _write(
    path: Path, manifest: SpaceManifest, extra: Collection[str], rows: Rows, at_once: int
) -> FileFacts:
    """Write rows, with these of the optional columns, as row groups of `at_once`. The file is on
    disk when this returns."""
    import pyarrow.parquet as pq

    schema = schema_of(path.name, manifest, extra)
    count, last = 0, False
    options = {"compression": "none", "use_dictionary": False, "write_page_checksum": True}
    with path.open("xb") as file, pq.ParquetWriter(file, schema, **options) as writer:
        while not last:
            group = list(islice(rows, at_once))
            writer.write_table(_table(schema, group))  # also without rows
            count, last = count + len(group), len(group) < at_once
    sync(path)
    return FileFacts(count, path.stat().st_size, digest_of(path))


def _table(schema: pyarrow.Schema, rows: Sequence[dict[str, Any]]) -> pyarrow.Table:
    import pyarrow as pa

    columns = [
        _vectors([row[field.name] for row in rows], field.type.list_size)
        if pa.types.is_fixed_size_list(field.type)
        else pa.array([row[field.name] for row in rows], field.type)
        for field in schema
    ]
    return pa.Table.from_arrays(columns, schema=schema)


def _vectors(blobs: Sequence[bytes | None], dim: int) -> pyarrow.Array:
    """Packed float32 vectors as a column of fixed-size lists."""
    import numpy as np
    import pyarrow as pa

    blank = bytes(4 * dim)
    values = np.frombuffer(b"".join(blank if blob is None else blob for blob in blobs), dtype="<f4")
    missing = np.array([blob is None for blob in blobs], dtype=bool)
    return pa.FixedSizeListArray.from_arrays(
        pa.array(values), dim, mask=pa.array(missing) if missing.any() else None
    )


def digest_of(path: Path) -> str:
    """SHA-256 of a file, in hexadecimal."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
