"""Checks of snapshot files: every byte against its checksum, every row against the catalog."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from sqlalchemy import Connection

from trustvlm.catalog.rows import spaces
from trustvlm.catalog.rows.spaces import SpaceRecord
from trustvlm.catalog.upkeep import purge, stored_rows
from trustvlm.catalog.upkeep.stored_rows import StoredRow
from trustvlm.errors import Damaged, NotFound, TrustVLMError
from trustvlm.index.live import LiveIndex
from trustvlm.index.recipe import load_recipe
from trustvlm.index.snapshot import Snapshot, map_snapshot
from trustvlm.index.string_table import NameTable
from trustvlm.service.memory.snapshots import SIDES
from trustvlm.service.memory.support_index import KINDS
from trustvlm.service.verify.space_facts import SpaceFacts
from trustvlm.softmax.quantize import to_bfloat16, to_int8
from trustvlm.types.arrays import Float32s, Int64s
from trustvlm.types.verification import Damage

__all__ = ["OpenSnapshot", "check_snapshot", "open_snapshots"]

Tick = Callable[[str, int], None]

_NAME = re.compile(r"([0-9]{1,18})(?:\.(verifier|classifier)-supports)?\.snapshot")
_BLOCK = 1_000
_REPORTED = 5
_ROWS = {f"{side}.exact": f"{side}.sums" for side in SIDES}
_SAME_DIRECTION = 0.99
"""Cosine below which a stored row is another one's: what compressed codes lose stays far above
it."""


@dataclass(frozen=True, eq=False)
class OpenSnapshot:
    """A snapshot file that is open, or why it is not.

    Attributes:
        kind: of the support images that it indexes; None for a snapshot of labels.
    """

    path: Path
    space_id: int
    kind: str | None
    content: Snapshot | None
    error: str = ""

    @property
    def rows(self) -> int:
        """How many float32 rows it holds."""
        return 0 if self.content is None else sum(map(len, self.content.rows.values()))


def open_snapshots(folder: Path) -> tuple[list[OpenSnapshot], list[str]]:
    """The snapshot files in a folder, and notes on other files there.

    Open them before the transaction that they are compared with begins: then none shows a later
    revision.
    """
    files, notes = [], []
    for path in sorted(folder.iterdir()) if folder.is_dir() else []:
        match = _NAME.fullmatch(path.name)
        if match is None:
            if path.name.endswith(".tmp"):
                notes.append(f"{path} is being written, or was left by a process that died")
            continue
        space_id, kind = int(match[1]), match[2]
        try:
            content = map_snapshot(path, None, _ROWS if kind is None else None)
            files.append(OpenSnapshot(path, space_id, kind, content))
        except NotFound:  # replaced or purged at this moment
            continue
        except TrustVLMError as error:
            files.append(OpenSnapshot(path, space_id, kind, None, str(error)))
    return files, notes


def check_snapshot(
    connection: Connection, facts: SpaceFacts, epoch: str, file: OpenSnapshot, tick: Tick
) -> tuple[list[Damage], list[str]]:
    """(damage, notes) of a snapshot file of a space."""
    try:
        if file.content is None:
            raise Damaged(file.error)
        space = spaces.find_by_id(connection, facts.id)
        outdated = _outdated(space, facts, epoch, file.content)
        if outdated is not None:
            return [], [f"{file.path} is not used: {outdated}"]
        if file.kind is None:
            problems = _check_labels(connection, space, facts, file.content, tick)
        else:
            classifier = KINDS[file.kind]
            problems = _check_supports(connection, space, facts, file.content, classifier, tick)
        reported = list(dict.fromkeys(problems))[:_REPORTED]
    except Damaged as error:
        reported = [str(error)]
    return [
        Damage(facts.name, facts.id, "snapshot", None, str(file.path), problem, "snapshot")
        for problem in reported
    ], []


def _outdated(space: SpaceRecord, facts: SpaceFacts, epoch: str, snapshot: Snapshot) -> str | None:
    """Why a snapshot is not of the present state, though nothing is wrong with it.

    Raises:
        Damaged: something is.
    """
    key = snapshot.key
    if key.space_id != space.id:
        raise Damaged(f"it holds space {key.space_id}, its name says {space.id}")
    if key.epoch != epoch:
        return "it belongs to another history of the catalog"
    made_with = (space.recipe, space.classifier_identity, space.verifier_identity)
    if (key.recipe, key.classifier, key.verifier) != made_with:
        return "it was made with another recipe or other encoders"
    if key.revision > space.revision:
        raise Damaged(f"it shows revision {key.revision} of a space at {space.revision}")
    if key.revision < facts.log_start:
        return f"it shows revision {key.revision}, and the change log begins at {facts.log_start}"
    return None


@dataclass
class _Comparison:
    """Compares rows of a snapshot with those of the catalog that have not changed since its
    revision."""

    connection: Connection
    space_id: int
    kind: str
    column: str
    revision: int
    compared: int = 0

    def __post_init__(self) -> None:
        purged = purge.purged_since(self.connection, self.space_id, self.kind, self.revision)
        self._purged = set(purged)

    def unchanged(self, ids: Int64s) -> Iterator[tuple[int, int, StoredRow | None]]:
        """(place, id, row of the catalog or None) of those that have not changed since."""
        stored = {
            row["id"]: row for row in stored_rows.by_ids(self.connection, self.kind, ids.tolist())
        }
        for place, row_id in enumerate(ids.tolist()):
            row = stored.get(row_id)
            if row_id in self._purged if row is None else row.get("revision", 0) > self.revision:
                continue
            self.compared += 1
            yield place, row_id, row

    def missing(self) -> Iterator[str]:
        """Whether the snapshot lacks rows that it should have."""
        expected = stored_rows.count_live(
            self.connection, self.kind, self.space_id, self.revision, self.column
        )
        if self.compared != expected:
            yield (
                f"it has {self.compared} of the {expected} {self.kind} rows that have not changed "
                f"since revision {self.revision}"
            )


def _check_labels(
    connection: Connection, space: SpaceRecord, facts: SpaceFacts, snapshot: Snapshot, tick: Tick
) -> Iterator[str]:
    """What of a snapshot of labels is not what the catalog holds, or does not follow from the rest
    of it."""
    if snapshot.rows.keys() != _ROWS.keys():
        yield f"it lacks the rows of {', '.join(sorted(_ROWS.keys() - snapshot.rows.keys()))}"
        return
    arrays = snapshot.arrays
    names = NameTable(arrays["names.bytes"], arrays["names.offsets"])
    aliases = dict(arrays["aliases"].tolist())
    columns = ("text_prototype", facts.classifier_dim), ("prototype", facts.verifier_dim)
    for side, (column, dim) in zip(SIDES, columns, strict=True):
        ids, exact = arrays[f"{side}.ids"], snapshot.rows[f"{side}.exact"]
        named = side != "text" or len(names) == len(ids)
        if len(ids) != len(exact) or exact.dim != dim or not named:
            yield f"{side}: {len(ids)} ids and {len(exact)} rows of {exact.dim} do not fit together"
            continue
        if not bool((ids[1:] > ids[:-1]).all()):
            yield f"{side}: its ids are not in order"
        comparison = _Comparison(connection, space.id, "label", column, snapshot.key.revision)
        places = _coarse_places(arrays, side, len(ids))
        for start in range(0, len(ids), _BLOCK):
            stop = min(start + _BLOCK, len(ids))
            rows = exact.block(start, stop)
            for place, label_id, label in comparison.unchanged(ids[start:stop]):
                problem = _label_problem(label, column, rows[place])
                if problem is None and label is not None and side == "text":
                    problem = _name_problem(label, names[start + place], aliases.get(label_id))
                if problem is not None:
                    yield f"{side}: row {start + place} (label {label_id}) {problem}"
            yield from _copy_problems(arrays, side, places, slice(start, stop), rows)
            tick("snapshot row", stop - start)
        yield from comparison.missing()
    yield from _check_index(space, snapshot, tick)


def _label_problem(label: StoredRow | None, column: str, row: Float32s) -> str | None:
    if label is None or label["removed_revision"] is not None:
        return "is not in the catalog, or removed"
    return None if label[column] == row.astype("<f4").tobytes() else "is not what the catalog holds"


def _name_problem(label: StoredRow, name: str, canonical: int | None) -> str | None:
    if label["name"] != name.encode():
        return f"is called {name!r:.60}, in the catalog {label['name']!r:.60}"
    if label["alias_of"] != canonical:
        return f"is an alias of {canonical}, in the catalog of {label['alias_of']}"
    return None


def _coarse_places(arrays: Mapping[str, Any], side: str, count: int) -> Int64s | None:
    """Where the 8-bit copy of each row is; None without any. Empty: not in an order of all rows."""
    order = arrays.get(f"{side}.order")
    if order is None:
        return None
    complete = order.shape == (count,) and np.array_equal(np.sort(order), np.arange(count))
    return np.argsort(order) if complete else np.empty(0, np.int64)


def _copy_problems(
    arrays: Mapping[str, Any], side: str, places: Int64s | None, part: slice, rows: Float32s
) -> Iterator[str]:
    """Whether the 16-bit and 8-bit copies are those of the float32 rows."""
    if places is None:
        return
    centre = arrays[f"{side}.centre"]
    if not np.array_equal(arrays[f"{side}.short"][part], to_bfloat16(rows - centre)):
        yield f"{side}: 16-bit rows from {part.start} are not those of its float32 rows"
    if not len(places):
        yield f"{side}: its 8-bit rows are not in an order of its rows"
        return
    expected, steps = to_int8(rows, centre, arrays[f"{side}.rotation"])
    coarse = arrays[f"{side}.coarse"][places[part]].astype(np.int16)
    # A product of other blocks may round a value to the next step.
    apart = np.abs(coarse - expected).max(initial=0) > 1
    if apart or not np.allclose(arrays[f"{side}.steps"][places[part]], steps, rtol=1e-4):
        yield f"{side}: 8-bit rows from {part.start} are not those of its float32 rows"


def _check_index(space: SpaceRecord, snapshot: Snapshot, tick: Tick) -> Iterator[str]:
    """Whether the index over prototypes holds what the rows do."""
    if load_recipe(space.recipe).exact:
        return
    prefix = "index."
    arrays = {
        name.removeprefix(prefix): array
        for name, array in snapshot.arrays.items()
        if name.startswith(prefix)
    }
    ids, exact = snapshot.arrays["prototypes.ids"], snapshot.rows["prototypes.exact"]
    view = LiveIndex.from_arrays(load_recipe(space.recipe), space.verifier_dim, arrays).view()
    if len(view) != len(ids):
        yield f"its index has {len(view)} of {len(ids)} prototypes"
    for indexed, rows in view.blocks():
        listed = np.isin(indexed, ids)
        for label_id in indexed[~listed].tolist():
            yield f"index: prototype {label_id} is not among its prototypes"
        right = exact.take(np.searchsorted(ids, indexed[listed]))
        cosine = np.einsum("ij,ij->i", rows[listed].astype(np.float64), right)
        for label_id in indexed[listed][cosine < _SAME_DIRECTION].tolist():
            yield f"index: prototype {label_id} is not where its row is"
        tick("snapshot row", len(indexed))


def _check_supports(
    connection: Connection,
    space: SpaceRecord,
    facts: SpaceFacts,
    snapshot: Snapshot,
    classifier: bool,
    tick: Tick,
) -> Iterator[str]:
    """What of a snapshot of an index over support images is not what the catalog holds."""
    dim = facts.classifier_dim if classifier else facts.verifier_dim
    column = "classifier_embedding" if classifier else "embedding"
    view = LiveIndex.from_arrays(load_recipe(space.recipe), dim, snapshot.arrays).view()
    comparison = _Comparison(connection, space.id, "support", column, snapshot.key.revision)
    for ids, rows in view.blocks():
        for place, support_id, image in comparison.unchanged(ids):
            if (problem := _image_problem(image, column, dim, rows[place])) is not None:
                yield f"support image {support_id} {problem}"
        tick("snapshot row", len(ids))
    yield from comparison.missing()


def _image_problem(image: StoredRow | None, column: str, dim: int, row: Float32s) -> str | None:
    if image is None or image["removed_revision"] is not None:
        return "is not in the catalog, or removed"
    blob = image[column]
    if not isinstance(blob, bytes) or len(blob) != 4 * dim:
        return None  # the catalog's row is damaged, and reported as such
    stored = np.frombuffer(blob, "<f4").astype(np.float64)
    norm = float(np.linalg.norm(stored))
    same = norm > 0 and float(stored @ row) / norm >= _SAME_DIRECTION
    return None if same else "is not where its embedding is"
