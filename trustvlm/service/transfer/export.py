"""Exporting a space as Parquet: one read transaction, row groups of bounded size, a folder that
appears when it is whole."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from sqlalchemy import Connection

from trustvlm.catalog.rows import export, spaces
from trustvlm.catalog.rows.export import StoredLabel, StoredSupport
from trustvlm.catalog.rows.spaces import SpaceRecord
from trustvlm.errors import Conflict
from trustvlm.service.home.home import Home
from trustvlm.service.home.work_folder import unwritable, work_folder
from trustvlm.service.transfer.export_format import (
    LABELS,
    MANIFEST,
    SUPPORTS,
    FileFacts,
    SpaceManifest,
    group_rows,
    label_schema,
    support_schema,
)
from trustvlm.system.durable import sync
from trustvlm.system.fault_points import reached

if TYPE_CHECKING:
    import pyarrow

__all__ = ["Exported", "digest_of", "export_space"]

_LABELS_AT_A_TIME = 500

Row = TypeVar("Row")


@dataclass(frozen=True)
class Exported:
    """A space that was exported: where, at which revision, and how many labels and support
    images."""

    folder: Path
    space: str
    revision: int
    labels: int
    supports: int


def export_space(
    home: Home, space_name: str, folder: Path, progress: Callable[[int], None] | None
) -> Exported:
    """See :meth:`TrustService.export_space`."""
    target = folder.absolute()
    with home.catalog.read() as connection:
        space = spaces.find(connection, space_name)
        if os.path.lexists(target) and not (target.is_dir() and not any(target.iterdir())):
            raise Conflict(f"{target} exists already; choose the name of a new folder")
        with unwritable("exporting to", target), work_folder(target.parent) as work:
            made = work / "export"
            made.mkdir()
            manifest = _described(space)
            labels = _write_labels(connection, space, manifest, made / LABELS)
            supports = _write_supports(connection, space, manifest, made / SUPPORTS, progress)
            files = {
                LABELS: _facts(made / LABELS, labels),
                SUPPORTS: _facts(made / SUPPORTS, supports),
            }
            (made / MANIFEST).write_text(replace(manifest, files=files).to_json(), encoding="utf-8")
            sync(made / MANIFEST)
            sync(made)
            reached("export.made")
            made.rename(target)  # replaces an empty folder, and nothing else
            reached("export.renamed")
            sync(target.parent)
    return Exported(target, space.name, space.revision, labels, supports)


def _described(space: SpaceRecord) -> SpaceManifest:
    own: dict[str, Any] = {"trustvlm": version("trustvlm"), "files": {}}
    own["created_at"] = datetime.now(UTC).isoformat(timespec="seconds")
    taken = SpaceManifest.__dataclass_fields__.keys() - own.keys()
    return SpaceManifest(**own, **{name: getattr(space, name) for name in taken})


def _write_labels(
    connection: Connection, space: SpaceRecord, manifest: SpaceManifest, path: Path
) -> int:
    import pyarrow as pa

    schema = label_schema(manifest)

    def table(rows: Sequence[StoredLabel]) -> Any:
        plain = [[getattr(row, name) for row in rows] for name in schema.names[:5]]
        columns = [
            pa.array(values, field.type) for values, field in zip(plain, schema, strict=False)
        ]
        columns.append(_vectors([row.text_prototype for row in rows], manifest.classifier_dim))
        columns.append(_vectors([row.prototype for row in rows], manifest.verifier_dim))
        return pa.Table.from_arrays(columns, schema=schema)

    batches = export.label_rows(connection, space.id, group_rows(manifest))
    return _write(
        path, schema, (row for batch in batches for row in batch), table, group_rows(manifest)
    )


def _write_supports(
    connection: Connection,
    space: SpaceRecord,
    manifest: SpaceManifest,
    path: Path,
    progress: Callable[[int], None] | None,
) -> int:
    import pyarrow as pa

    schema = support_schema(manifest)

    def rows() -> Iterator[tuple[str, StoredSupport]]:
        for labels in export.label_rows(connection, space.id, _LABELS_AT_A_TIME):
            names = {label.id: label.name for label in labels}
            for batch in export.support_rows(connection, list(names), group_rows(manifest)):
                yield from ((names[support.label_id], support) for support in batch)
            if progress is not None:
                progress(len(labels))

    def table(found: Sequence[tuple[str, StoredSupport]]) -> Any:
        supports = [support for _, support in found]
        columns = [
            pa.array([name for name, _ in found], pa.string()),
            pa.array([support.content_hash for support in supports], pa.binary(32)),
            pa.array([support.source for support in supports], pa.string()),
            _vectors([support.embedding for support in supports], manifest.verifier_dim),
            _vectors(
                [support.classifier_embedding for support in supports], manifest.classifier_dim
            ),
            pa.array([support.thumbnail for support in supports], pa.binary()),
        ]
        return pa.Table.from_arrays(columns, schema=schema)

    return _write(path, schema, rows(), table, group_rows(manifest))


def _write(
    path: Path,
    schema: pyarrow.Schema,
    rows: Iterator[Row],
    table: Callable[[Sequence[Row]], Any],
    group: int,
) -> int:
    """Write rows as row groups of `group`; how many there were. The file is on disk when this
    returns."""
    import pyarrow.parquet as pq

    count = 0
    options = {"compression": "none", "use_dictionary": False, "write_page_checksum": True}
    with path.open("xb") as file, pq.ParquetWriter(file, schema, **options) as writer:
        waiting: list[Row] = []
        for row in rows:
            waiting.append(row)
            if len(waiting) == group:
                writer.write_table(table(waiting))
                count, waiting = count + group, []
        writer.write_table(
            table(waiting)
        )  # also without rows: the file then says what there would be
    sync(path)
    return count + len(waiting)


def _vectors(blobs: Sequence[bytes | None], dim: int) -> Any:
    """Packed float32 vectors as a column of fixed-size lists."""
    import numpy as np
    import pyarrow as pa

    blank = bytes(4 * dim)
    values = np.frombuffer(b"".join(blank if blob is None else blob for blob in blobs), dtype="<f4")
    missing = np.array([blob is None for blob in blobs], dtype=bool)
    return pa.FixedSizeListArray.from_arrays(
        pa.array(values), dim, mask=pa.array(missing) if missing.any() else None
    )


def _facts(path: Path, rows: int) -> FileFacts:
    return FileFacts(rows, path.stat().st_size, digest_of(path))


def digest_of(path: Path) -> str:
    """SHA-256 of a file, in hexadecimal."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
