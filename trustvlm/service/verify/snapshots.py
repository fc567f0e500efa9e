"""Snapshot files looked at: every byte against its checksum, and every row against the catalog."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from sqlalchemy import Connection

from trustvlm.catalog.rows import spaces
from trustvlm.catalog.rows.spaces import SpaceRecord
from trustvlm.catalog.upkeep import purge, raw
from trustvlm.catalog.upkeep.raw import Raw
from trustvlm.errors import Damaged, NotFound, TrustVLMError
from trustvlm.index.live import LiveIndex
from trustvlm.index.recipe import load_recipe
from trustvlm.index.row_file import RowFile
from trustvlm.index.snapshot import Snapshot, map_snapshot
from trustvlm.index.string_table import NameTable
from trustvlm.service.memory.snapshots import SIDES
from trustvlm.service.memory.support_index import KINDS
from trustvlm.service.verify.facts import Facts, as_text
from trustvlm.softmax.quantize import coarsened, shortened
from trustvlm.types.arrays import Float32s, Int64s
from trustvlm.types.verification import Damage

__all__ = ["OpenSnapshot", "check_snapshot", "open_snapshots"]

Tick = Callable[[str, int], None]

_NAME = re.compile(r"([0-9]{1,18})(?:\.(verifier|classifier)-supports)?\.snapshot")
_BLOCK = 1_000
ROWS = {f"{side}.exact": f"{side}.sums" for side in SIDES}
_SAME_DIRECTION = 0.99
"""Cosine below which a stored row is another one's: what compressed codes lose stays far above
it."""


@dataclass(frozen=True, eq=False)
class OpenSnapshot:
    """A snapshot file that is open, or why it is not. `kind`: of the support images it indexes;
    None for one of labels."""

    path: Path
    space_id: int
    kind: str | None
    content: Snapshot | None
    error: str | None


def open_snapshots(folder: Path) -> tuple[list[OpenSnapshot], list[str]]:
    """The snapshot files in a folder, and notes on other files there.

    Open them before the transaction that they are compared with begins: then none shows a later
    revision.
    """
    found, notes = [], []
    for path in sorted(folder.iterdir()) if folder.is_dir() else []:
        match = _NAME.fullmatch(path.name)
        if match is None:
            if path.name.endswith(".tmp"):
                notes.append(
                    f"{path} is a snapshot being written, or was left by a process that died"
                )
            continue
        space_id, kind = int(match[1]), match[2]
        try:
            content = map_snapshot(path, None, ROWS if kind is None else None)
            found.append(OpenSnapshot(path, space_id, kind, content, None))
        except NotFound:  # replaced or purged at this moment
            continue
        except TrustVLMError as error:
            found.append(OpenSnapshot(path, space_id, kind, None, str(error)))
    return found, notes


def check_snapshot(
    connection: Connection, facts: Facts, epoch: str, file: OpenSnapshot, tick: Tick
) -> tuple[list[Damage], list[str]]:
    """(damage, notes) of a snapshot file of a space."""
    try:
        note = _unused(connection, facts, epoch, file)
        if note is not None:
            return [], [f"{file.path} is not used: {note}"]
        space = spaces.find_by_id(connection, facts.id)
        check = _check_labels if file.kind is None else _check_supports
        problems = list(dict.fromkeys(check(connection, space, facts, file, tick)))
    except Damaged as error:
        problems = [str(error)]
    return [
        facts.damage("snapshot", None, str(file.path), problem, "snapshot")
        for problem in problems[:5]
    ], []


def _unused(connection: Connection, facts: Facts, epoch: str, file: OpenSnapshot) -> str | None:
    """Why a file is not of the present state, though nothing is wrong with it.

    Raises:
        Damaged: something is.
    """
    if file.content is None:
        raise Damaged(file.error or "it cannot be read")
    key = file.content.key
    row = raw.by_ids(connection, "space", [facts.id])[0]
    if key.space_id != facts.id:
        raise Damaged(f"it holds space {key.space_id}, its name says {facts.id}")
    if key.epoch != epoch:
        return "it belongs to another history of the catalog"
    if (key.recipe, key.classifier, key.verifier) != tuple(
        as_text(row[name]) for name in ("recipe", "classifier_identity", "verifier_identity")
    ):
        return "it was made with another recipe or other encoders"
    if key.revision > row["revision"]:
        raise Damaged(f"it shows revision {key.revision} of a space at {row['revision']}")
    if key.revision < facts.log_start:
        return f"it shows revision {key.revision}, and the change log begins at {facts.log_start}"
    return None


def _check_labels(
    connection: Connection, space: SpaceRecord, facts: Facts, file: OpenSnapshot, tick: Tick
) -> Iterator[str]:
    """What of a snapshot of labels is not what the catalog holds, or does not follow from the rest
    of it."""
    snapshot = file.content
    assert snapshot is not None
    if snapshot.rows.keys() != ROWS.keys():
        yield f"it lacks the rows of {', '.join(sorted(ROWS.keys() - snapshot.rows.keys()))}"
        return
    arrays, revision = snapshot.arrays, snapshot.key.revision
    names = NameTable(arrays["names.bytes"], arrays["names.offsets"])
    aliases = dict(arrays["aliases"].tolist())
    gone = set(purge.purged_since(connection, facts.id, "label", revision))
    for side, column in zip(SIDES, ("text_prototype", "prototype"), strict=True):
        ids, exact = arrays[f"{side}.ids"], snapshot.rows[f"{side}.exact"]
        dim = facts.classifier_dim if side == "text" else facts.verifier_dim
        if (
            len(ids) != len(exact)
            or exact.dim != dim
            or (len(names) != len(ids) and side == "text")
        ):
            yield (
                f"{side}: {len(ids)} ids, {len(names)} names and {len(exact)} rows of "
                f"{exact.dim} values do not fit together"
            )
            continue
        if not bool((ids[1:] > ids[:-1]).all()):
            yield f"{side}: its ids are not in order"
        same, places = 0, _coarse_places(arrays, side, len(ids))
        for start in range(0, len(ids), _BLOCK):
            stop = min(start + _BLOCK, len(ids))
            rows = exact.block(start, stop)
            labels = {
                row["id"]: row for row in raw.by_ids(connection, "label", ids[start:stop].tolist())
            }
            for place, label_id in enumerate(ids[start:stop].tolist()):
                label = labels.get(label_id)
                if _changed_since(label, label_id, revision, gone):
                    continue
                problem = _difference(label, column, rows[place])
                if problem is None and label is not None and side == "text":
                    problem = _other_name(label, names[start + place], aliases.get(label_id))
                if problem is not None:
                    yield f"{side}: row {start + place} (label {label_id}) {problem}"
                same += 1
            yield from _short_problems(arrays, side, start, stop, rows)
            yield from _coarse_problems(arrays, side, places, start, stop, rows)
            tick("snapshot row", stop - start)
        expected = raw.count_live(connection, "label", facts.id, revision, column)
        if same != expected:
            yield (
                f"{side}: it has {same} of the {expected} labels that have not changed since "
                f"revision {revision}"
            )
    yield from _index_problems(space, snapshot, tick)


def _changed_since(row: Raw | None, row_id: int, revision: int, gone: set[int]) -> bool:
    """Whether a row is no more what it was at that revision, so that nothing can be said."""
    return row_id in gone if row is None else bool(row.get("revision", 0) > revision)


def _difference(label: Raw | None, column: str, row: Float32s) -> str | None:
    if label is None:
        return "is not in the catalog"
    if label["removed_revision"] is not None:
        return "is removed"
    return None if label[column] == row.astype("<f4").tobytes() else "is not what the catalog holds"


def _other_name(label: Raw, name: str, canonical: int | None) -> str | None:
    if label["name"] != name.encode():
        return f"is called {name!r:.60}, in the catalog {as_text(label['name'])!r:.60}"
    return (
        None
        if label["alias_of"] == canonical
        else f"is an alias of {canonical}, in the catalog of {label['alias_of']}"
    )


def _short_problems(
    arrays: dict[str, Any], side: str, start: int, stop: int, rows: Float32s
) -> Iterator[str]:
    """Whether the 16-bit rows are those of the float32 rows."""
    short, centre = arrays.get(f"{side}.short"), arrays.get(f"{side}.centre")
    if short is None or centre is None:
        return
    if len(short) < stop or not np.array_equal(short[start:stop], shortened(rows, centre)):
        yield f"{side}: 16-bit rows {start} … {stop} are not those of its float32 rows"


def _coarse_places(arrays: dict[str, Any], side: str, count: int) -> Int64s | None:
    """Where the 8-bit copy of each row is; None where there is none. Empty where they are not in an
    order of all rows."""
    order = arrays.get(f"{side}.order")
    if order is None:
        return None
    nowhere = np.empty(0, np.int64)
    if order.shape != (count,) or not np.array_equal(np.sort(order), np.arange(count)):
        return nowhere
    return np.argsort(order)


def _coarse_problems(
    arrays: dict[str, Any], side: str, places: Int64s | None, start: int, stop: int, rows: Float32s
) -> Iterator[str]:
    """Whether the 8-bit rows are those of the float32 rows, but for what a product of other blocks
    rounds otherwise."""
    if places is None:
        return
    if not len(places):
        yield f"{side}: its 8-bit rows are not in an order of its rows"
        return
    own = places[start:stop]
    short, steps = coarsened(rows, arrays[f"{side}.centre"], arrays[f"{side}.rotation"])
    apart = np.abs(arrays[f"{side}.coarse"][own].astype(np.int16) - short)
    if apart.max(initial=0) > 1 or not np.allclose(arrays[f"{side}.steps"][own], steps, rtol=1e-4):
        yield f"{side}: 8-bit rows {start} … {stop} are not those of its float32 rows"


def _index_problems(space: SpaceRecord, snapshot: Snapshot, tick: Tick) -> Iterator[str]:
    """Whether the index over prototypes holds what the rows do."""
    of = {
        name.removeprefix("index."): array
        for name, array in snapshot.arrays.items()
        if name.startswith("index.")
    }
    if load_recipe(space.recipe).exact:
        return
    ids, exact = snapshot.arrays["prototypes.ids"], snapshot.rows["prototypes.exact"]
    view = LiveIndex.from_arrays(load_recipe(space.recipe), space.verifier_dim, of).view()
    if len(view) != len(ids):
        yield f"its index has {len(view)} of {len(ids)} prototypes"
    for found, rows in view.blocks():
        yield from (
            f"index: prototype {label_id} {what}"
            for label_id, what in _apart(found, rows, ids, exact)
        )
        tick("snapshot row", len(found))


def _apart(found: Int64s, rows: Float32s, ids: Int64s, exact: RowFile) -> Iterator[tuple[int, str]]:
    """Rows of an index that are not those of the rows beside it."""
    at = np.searchsorted(ids, found)
    there = (
        (at < len(ids)) & (ids[np.minimum(at, len(ids) - 1)] == found)
        if len(ids)
        else np.zeros(len(found), np.bool_)
    )
    for label_id in found[~there].tolist():
        yield label_id, "is not among its prototypes"
    cosine = np.einsum("ij,ij->i", rows[there].astype(np.float64), exact.take(at[there]))
    for label_id in found[there][cosine < _SAME_DIRECTION].tolist():
        yield label_id, "is not where its prototype is"


def _check_supports(
    connection: Connection, space: SpaceRecord, facts: Facts, file: OpenSnapshot, tick: Tick
) -> Iterator[str]:
    """What of a snapshot of an index over support images is not what the catalog holds."""
    snapshot, classifier = file.content, KINDS[str(file.kind)]
    assert snapshot is not None
    dim = facts.classifier_dim if classifier else facts.verifier_dim
    column, revision = "classifier_embedding" if classifier else "embedding", snapshot.key.revision
    view = LiveIndex.from_arrays(load_recipe(space.recipe), dim, snapshot.arrays).view()
    gone = set(purge.purged_since(connection, facts.id, "support", revision))
    same = 0
    for found, rows in view.blocks():
        images = {row["id"]: row for row in raw.by_ids(connection, "support", found.tolist())}
        for place, support_id in enumerate(found.tolist()):
            image = images.get(support_id)
            if _changed_since(image, support_id, revision, gone):
                continue
            same += 1
            if (problem := _other_image(image, column, dim, rows[place])) is not None:
                yield f"support image {support_id} {problem}"
        tick("snapshot row", len(found))
    expected = raw.count_live(connection, "support", facts.id, revision, column)
    if same != expected:
        yield (
            f"it has {same} of the {expected} support images that have not changed since "
            f"revision {revision}"
        )


def _other_image(image: Raw | None, column: str, dim: int, row: Float32s) -> str | None:
    if image is None:
        return "is not in the catalog"
    if image["removed_revision"] is not None:
        return "is removed"
    blob = image[column]
    if not isinstance(blob, bytes) or len(blob) != 4 * dim:
        return None  # the catalog's row is damaged, and reported as such
    stored = np.frombuffer(blob, "<f4").astype(np.float64)
    norm = float(np.linalg.norm(stored))
    return (
        None
        if norm and float(stored @ row) / norm >= _SAME_DIRECTION
        else "is not where its embedding is"
    )
