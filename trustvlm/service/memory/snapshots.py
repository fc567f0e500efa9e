"""What a snapshot of a label space holds, and how it is written and taken up again.

It is written block by block, from the catalog or from a view, so that memory stays bounded however
large the space is. The float32 rows always lie in it; a space of many labels also gets their 16-bit
copies and the centre that these were taken about (see :mod:`trustvlm.softmax.quantize`); a recipe
that is not exact, its FAISS index.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from sqlalchemy import Connection

from trustvlm.catalog.rows import label_changes
from trustvlm.catalog.rows.label_changes import LabelChange
from trustvlm.catalog.rows.spaces import SpaceRecord
from trustvlm.errors import Conflict, Damaged
from trustvlm.index.live import IndexView, LiveIndex
from trustvlm.index.recall import Block
from trustvlm.index.recipe import Recipe
from trustvlm.index.row_file import row_sums
from trustvlm.index.rows import RowBase, RowTable, RowView
from trustvlm.index.snapshot import Snapshot, SnapshotWriter, map_snapshot
from trustvlm.index.snapshot_header import SnapshotKey
from trustvlm.index.string_table import NameTable, pack_strings
from trustvlm.service.memory.aliases import Aliases
from trustvlm.softmax.quantize import Segment, to_bfloat16
from trustvlm.types.arrays import Float32s, Int64s
from trustvlm.types.messages.commands import suggested

SIDES = ("text", "prototypes")
_BLOCK = 4_096
_ROWS = {f"{side}.exact": f"{side}.sums" for side in SIDES}
_NAMES, _SHORT = ("names.bytes", "names.offsets", "aliases"), ("short", "centre")


@dataclass(frozen=True, eq=False)
class Content:
    """What goes into a snapshot: numbers of labels and of prototypes, and all labels in order of
    id."""

    labels: int
    prototypes: int
    changes: Iterator[LabelChange]
    index: IndexView | None = None
    """The index over the prototypes, if it need not be built."""


@dataclass(frozen=True, eq=False)
class Loaded:
    """What came out of a snapshot. `index` is None for an exact recipe on a CPU: it holds nothing
    that the rows do not."""

    revision: int
    names: NameTable
    aliases: Aliases
    text: RowTable
    prototypes: RowTable
    index: LiveIndex | None
    mapped: bool


def snapshot_key(space: SpaceRecord, epoch: str, revision: int) -> SnapshotKey:
    """What a snapshot must match to be used."""
    return SnapshotKey(
        epoch, space.id, revision, space.recipe, space.classifier_identity, space.verifier_identity
    )


def from_catalog(connection: Connection, space: SpaceRecord) -> Content:
    """The space as the transaction sees it."""
    return Content(
        *label_changes.totals(connection, space.id),
        label_changes.changed(connection, space.id, 0, space.dims),
    )


def from_view(
    text: RowView,
    prototypes: RowView,
    names: NameTable,
    aliases: Aliases,
    index: IndexView | None = None,
) -> Content:
    """The space as a view sees it, with the index as it is unless it has been outgrown."""
    kept = None if index is None or index.outgrown else index
    changes = _changes(text, prototypes, names, aliases.canonical)
    return Content(text.live, prototypes.live, changes, kept)


def _changes(
    text: RowView, prototypes: RowView, names: NameTable, canonical: Mapping[int, int]
) -> Iterator[LabelChange]:
    slots = np.flatnonzero(text.alive)
    slots = slots[np.argsort(text.ids[slots])]
    for start in range(0, len(slots), _BLOCK):
        part = slots[start : start + _BLOCK]
        ids = text.ids[part]
        rows = prototypes.slots(ids)
        yield LabelChange(
            ids=ids.tolist(),
            names=[names[slot] for slot in part.tolist()],
            text=text.take(part),
            prototyped=np.flatnonzero(rows >= 0).tolist(),
            prototypes=prototypes.take(rows[rows >= 0]),
            aliases=[(label, canonical[label]) for label in ids.tolist() if label in canonical],
            removed=[],
        )


def write(
    path: Path,
    key: SnapshotKey,
    dims: tuple[int, int],
    recipe: Recipe,
    content: Content,
    *,
    half: bool,
) -> None:
    """Write a snapshot file, with 16-bit rows if `half`.

    Raises:
        ReadOnly, Unavailable: it cannot be written. Damaged: what the catalog holds does not fit
            together.
    """
    with SnapshotWriter.writing(path, key) as writer:
        ids = _add_labels(writer, dims, content)
        for side, dim in zip(SIDES, dims, strict=True):
            if half:
                _add_short(writer, side, len(ids[side]), dim)
        if not recipe.exact:
            index = content.index or _indexed(writer, recipe, dims[1], ids["prototypes"])
            for name, array in index.to_arrays().items():
                writer.add(f"index.{name}", array)


def _add_labels(
    writer: SnapshotWriter, dims: tuple[int, int], content: Content
) -> dict[str, Int64s]:
    """Write the rows of labels, their names and aliases; by side, the ids of its rows.

    Raises:
        Damaged: there are more or fewer labels than were counted.
    """
    ids: dict[str, list[Int64s]] = {side: [np.empty(0, np.int64)] for side in SIDES}
    sums = {side: [np.empty(0, np.uint32)] for side in SIDES}
    names: list[str] = []
    aliases: list[tuple[int, int]] = []
    counts = (content.labels, content.prototypes)
    for side, count, dim in zip(SIDES, counts, dims, strict=True):
        writer.reserve(f"{side}.exact", "<f4", (count, dim))
    for change in content.changes:
        label_ids = np.array(change.ids, dtype=np.int64)
        for side, rows, owners in (
            ("text", change.text, label_ids),
            ("prototypes", change.prototypes, label_ids[change.prototyped]),
        ):
            writer.put(f"{side}.exact", rows)
            ids[side].append(owners)
            sums[side].append(row_sums(rows))
        names += change.names
        aliases += change.aliases
    if len(names) != content.labels:
        raise Damaged(
            f"expected {content.labels} labels in the space, got {len(names)}; run "
            f"{suggested('verify', options='--all')}"
        )
    joined = {side: np.concatenate(parts) for side, parts in ids.items()}
    for side in SIDES:
        writer.add(f"{side}.ids", joined[side])
        writer.add(f"{side}.sums", np.concatenate(sums[side]))
    packed, offsets = pack_strings(names)
    writer.add("names.bytes", packed)
    writer.add("names.offsets", offsets)
    writer.add("aliases", np.array(sorted(aliases), dtype=np.int64).reshape(-1, 2))
    return joined


def _indexed(writer: SnapshotWriter, recipe: Recipe, dim: int, ids: Int64s) -> IndexView:
    """An index over the prototypes that were written, trained where the recipe asks for it."""

    def blocks() -> Iterator[Block]:
        for start in range(0, len(ids), _BLOCK):
            stop = min(start + _BLOCK, len(ids))
            yield ids[start:stop], writer.written("prototypes.exact", start, stop)

    return LiveIndex.build(recipe, dim, len(ids), blocks).view()


def _add_short(writer: SnapshotWriter, side: str, count: int, dim: int) -> None:
    """The 16-bit copies of rows that were written, and their centre."""

    def blocks() -> Iterator[Float32s]:
        for start in range(0, count, _BLOCK):
            yield writer.written(f"{side}.exact", start, min(start + _BLOCK, count))

    total = np.zeros(dim)
    for rows in blocks():
        total += rows.sum(axis=0, dtype=np.float64)
    centre = (total / max(count, 1)).astype(np.float32)
    writer.add(f"{side}.centre", centre)
    writer.reserve(f"{side}.short", "<u2", (count, dim))
    for rows in blocks():
        writer.put(f"{side}.short", to_bfloat16(rows - centre))


def load(
    path: Path, key: SnapshotKey, dims: tuple[int, int], recipe: Recipe, device: str, half_from: int
) -> Loaded:
    """The state in a snapshot file: mapped when it has 16-bit rows and at least `half_from` labels,
    else in memory.

    Raises:
        NotFound: there is none. Conflict: it belongs to something else. Damaged, Unavailable: it
            cannot be used.
    """
    snapshot = map_snapshot(path, key, _ROWS)
    arrays = snapshot.arrays
    halves = "text.short" in arrays
    _require_arrays(path, snapshot, halves)
    mapped = halves and len(arrays["text.ids"]) >= half_from
    text, prototypes = (
        _table(snapshot, side, dim, mapped=mapped) for side, dim in zip(SIDES, dims, strict=True)
    )
    index = None
    if not recipe.exact:
        prefix = "index."
        parts = {n.removeprefix(prefix): a for n, a in arrays.items() if n.startswith(prefix)}
        index = LiveIndex.from_arrays(recipe, dims[1], parts, device=device)
    elif device != "cpu":
        index = LiveIndex(recipe, dims[1], device=device)
        view = prototypes.view()
        for start in range(0, view.n, _BLOCK):
            slots = np.arange(start, min(start + _BLOCK, view.n))
            index.add(view.ids[slots], view.take(slots))
    names = NameTable(arrays["names.bytes"], arrays["names.offsets"])
    pairs = [(int(alias), int(label)) for alias, label in arrays["aliases"]]
    aliases = Aliases().followed((), pairs, ())
    return Loaded(snapshot.key.revision, names, aliases, text, prototypes, index, mapped)


def _require_arrays(path: Path, snapshot: Snapshot, halves: bool) -> None:
    """Raises Conflict when a snapshot has other arrays than this version writes."""
    names = {name for name in snapshot.arrays if not name.startswith("index.")}
    of_sides = ("ids", *(_SHORT if halves else ()))
    expected = {*_NAMES, *(f"{side}.{name}" for side in SIDES for name in of_sides)}
    if names != expected or snapshot.rows.keys() != _ROWS.keys():
        raise Conflict(f"snapshot {path} was written by another version of trustvlm")


def _table(snapshot: Snapshot, side: str, dim: int, *, mapped: bool) -> RowTable:
    ids, exact = np.array(snapshot.arrays[f"{side}.ids"]), snapshot.rows[f"{side}.exact"]
    if mapped:
        short, centre = (snapshot.arrays[f"{side}.{name}"] for name in _SHORT)
        segment = Segment(0, short, np.array(centre))
        return RowTable(dim, base=RowBase(ids, segment, exact))
    table = RowTable(dim, len(ids))
    for start in range(0, len(ids), _BLOCK):
        stop = min(start + _BLOCK, len(ids))
        table.append(ids[start:stop], exact.block(start, stop))
    return table
