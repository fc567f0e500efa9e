"""Checks of snapshot files: every byte against its checksum, every row against the catalog."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from sqlalchemy import Connection

from trustvlm.catalog.rows import spaces
from trustvlm.catalog.rows.spaces import SpaceRecord
from trustvlm.catalog.upkeep import purge, stored_rows
from trustvlm.catalog.upkeep.stored_rows import StoredRow, Unreadable
from trustvlm.errors import Damaged, NotFound, TrustVLMError
from trustvlm.index.live import LiveIndex
from trustvlm.index.recipe import load_recipe
from trustvlm.index.snapshot import Snapshot, map_snapshot
from trustvlm.index.snapshot_header import SnapshotKey
from trustvlm.index.string_table import NameTable
from trustvlm.service.memory.discriminant.space_discriminant import SpaceDiscriminant, disagreement
from trustvlm.service.memory.snapshots import SIDES
from trustvlm.service.memory.support_index import KINDS
from trustvlm.service.verify.space_facts import SpaceFacts
from trustvlm.softmax.quantize import to_bfloat16
from trustvlm.types.arrays import Float32s, Int64s
from trustvlm.types.messages.commands import suggested
from trustvlm.types.thresholds import Thresholds
from trustvlm.types.verification import Damage

Tick = Callable[[str, int], None]

_NAME = re.compile(
    r"([0-9]{1,18})(?:\.(?:(verifier|classifier)-supports|(discriminant)))?\.snapshot"
)
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
        kind: of the support images that it indexes, or "discriminant"; None for a snapshot of
            labels.
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
        space_id, kind = int(match[1]), match[2] or match[3]
        try:
            content = map_snapshot(path, None, _ROWS if kind is None else None)
            files.append(OpenSnapshot(path, space_id, kind, content))
        except NotFound:  # replaced or purged at this moment
            continue
        except TrustVLMError as error:
            files.append(OpenSnapshot(path, space_id, kind, None, str(error)))
    return files, notes


def check_snapshot(
    connection: Connection,
    facts: SpaceFacts,
    epoch: str,
    file: OpenSnapshot,
    thresholds: Thresholds,
    tick: Tick,
) -> tuple[list[Damage], list[str]]:
    """(damage, notes) of a snapshot file of a space; `thresholds`: of the home that wrote it."""
    try:
        if file.content is None:
            raise Damaged(file.error)
        space = spaces.find_by_id(connection, facts.id)
        outdated = _outdated(space, facts, epoch, file.content.key)
        if outdated is not None:
            return [], [f"{file.path} is not used: {outdated}"]
        if file.kind == "discriminant":
            problems = _of_discriminant(connection, space, file.content, thresholds)
        else:
            check = _Check(connection, space, file.content, tick)
            check.labels() if file.kind is None else check.supports(KINDS[file.kind])
            problems = list(dict.fromkeys(check.problems))[:_REPORTED]
    except Damaged as error:
        problems = [str(error)]
    return [
        Damage(facts.name, facts.id, "snapshot", None, str(file.path), problem, "snapshot")
        for problem in problems
    ], []


def _of_discriminant(
    connection: Connection, space: SpaceRecord, content: Snapshot, thresholds: Thresholds
) -> list[str]:
    """What is wrong with the stored fit of the rules that whiten."""
    try:
        stored = SpaceDiscriminant.of_arrays(content.arrays, content.key.revision)
    except (ValueError, KeyError, TypeError) as error:
        return [f"its content makes no sense: {type(error).__name__}: {error}"]
    problem = None if stored is None else disagreement(connection, space, stored, thresholds)
    return [] if problem is None else [problem]


def _outdated(space: SpaceRecord, facts: SpaceFacts, epoch: str, key: SnapshotKey) -> str | None:
    """Why a snapshot is not of the present state, though nothing is wrong with it.

    Raises:
        Damaged: something is.
    """
    if key.space_id != space.id:
        raise Damaged(f"it holds space {key.space_id}, its name says {space.id}")
    if key.epoch != epoch:
        return "it belongs to another history of the catalog"
    if facts.purging:
        return f"a purge of its space was interrupted; {suggested('purge')} completes it"
    made_with = (space.recipe, space.classifier_identity, space.verifier_identity)
    if (key.recipe, key.classifier, key.verifier) != made_with:
        return "it was made with another recipe or other encoders"
    if key.revision > space.revision:
        raise Damaged(f"it shows revision {key.revision} of a space at {space.revision}")
    if key.revision < facts.log_start:
        return f"it shows revision {key.revision}, and the change log begins at {facts.log_start}"
    return None


class _Check:
    """The check of one snapshot: rows that have not changed since its revision are those of the
    catalog, and what is derived from rows follows from them."""

    def __init__(
        self, connection: Connection, space: SpaceRecord, snapshot: Snapshot, tick: Tick
    ) -> None:
        self._connection, self._space, self._tick = connection, space, tick
        self._arrays, self._rows = snapshot.arrays, snapshot.rows
        self._revision = snapshot.key.revision
        self._recipe = load_recipe(space.recipe)
        self.problems: list[str] = []

    def labels(self) -> None:
        """Check a snapshot of labels."""
        if self._rows.keys() != _ROWS.keys():
            missing = ", ".join(sorted(_ROWS.keys() - self._rows.keys()))
            self.problems.append(f"it lacks the rows of {missing}")
            return
        self._check_side("text", "text_prototype", self._space.classifier_dim)
        self._check_side("prototypes", "prototype", self._space.verifier_dim)
        if not self._recipe.exact:
            self._check_index()

    def supports(self, classifier: bool) -> None:
        """Check a snapshot of an index over support images."""
        dim = self._space.classifier_dim if classifier else self._space.verifier_dim
        column = "classifier_embedding" if classifier else "embedding"
        view = LiveIndex.from_arrays(self._recipe, dim, self._arrays).view()

        def problem(image: StoredRow, place: int, row: Float32s) -> str | None:
            blob = image[column]
            if not isinstance(blob, bytes) or len(blob) != 4 * dim:
                return None  # the catalog's row is damaged, and reported as such
            stored = np.frombuffer(blob, "<f4").astype(np.float64)
            norm = float(np.linalg.norm(stored))
            same = norm > 0 and float(stored @ row) / norm >= _SAME_DIRECTION
            return None if same else "is not where its embedding is"

        self._compare("support", column, view.blocks(), problem)

    def _check_side(self, side: str, column: str, dim: int) -> None:
        """Check the float32 rows of labels, their names and aliases, and the copies of rows."""
        names = NameTable(self._arrays["names.bytes"], self._arrays["names.offsets"])
        aliases = dict(self._arrays["aliases"].tolist())
        ids, exact = self._arrays[f"{side}.ids"], self._rows[f"{side}.exact"]
        named = side == "text"
        if len(ids) != len(exact) or exact.dim != dim or (named and len(names) != len(ids)):
            self.problems.append(
                f"{side}: {len(ids)} ids and {len(exact)} rows of {exact.dim} do not fit together"
            )
            return
        if not bool((ids[1:] > ids[:-1]).all()):
            self.problems.append(f"{side}: its ids are not in order")

        def blocks() -> Iterator[tuple[Int64s, Float32s]]:
            for start in range(0, len(ids), _BLOCK):
                part = slice(start, min(start + _BLOCK, len(ids)))
                rows = exact.block(part.start, part.stop)
                self._check_copies(side, part, rows)
                yield ids[part], rows

        def problem(label: StoredRow, place: int, row: Float32s) -> str | None:
            if label[column] != row.astype("<f4").tobytes():
                return f"differs from its {column} in the catalog"
            if named and label["name"] != names[place].encode():
                return f"is called {names[place]!r:.60}, in the catalog {label['name']!r:.60}"
            if named and label["alias_of"] != aliases.get(label["id"]):
                return f"is an alias in the catalog of {label['alias_of']}, here of another"
            return None

        self._compare("label", column, blocks(), problem)

    def _compare(
        self,
        kind: str,
        column: str,
        blocks: Iterable[tuple[Int64s, Float32s]],
        problem_of: Callable[[StoredRow, int, Float32s], str | None],
    ) -> None:
        """Compare blocks of rows with those of the catalog that have not changed since."""
        purged = purge.purged_since(self._connection, self._space, kind, self._revision)
        gone, first, compared = set(purged), 0, 0
        for ids, rows in blocks:
            stored = {
                row["id"]: row for row in stored_rows.by_ids(self._connection, kind, ids.tolist())
            }
            for place, row_id in enumerate(ids.tolist()):
                row = stored.get(row_id)
                if row_id in gone if row is None else row.get("revision", 0) > self._revision:
                    continue
                compared += 1
                problem: str | None = None
                if row is None or row.get("removed_revision") is not None:
                    problem = "is not in the catalog, or removed"
                elif not isinstance(row, Unreadable):  # reported as such
                    problem = problem_of(row, first + place, rows[place])
                if problem is not None:
                    self.problems.append(f"{kind} {row_id} {problem}")
            first += len(ids)
            self._tick("snapshot row", len(ids))
        expected = stored_rows.count_live(
            self._connection, kind, self._space.id, self._revision, column
        )
        if compared != expected:
            self.problems.append(
                f"it has {compared} of the {expected} rows with a {column} that have not changed "
                f"since revision {self._revision}"
            )

    def _check_copies(self, side: str, part: slice, rows: Float32s) -> None:
        """Check that the 16-bit copies are those of the float32 rows."""
        short = self._arrays.get(f"{side}.short")
        if short is None:
            return
        if not np.array_equal(short[part], to_bfloat16(rows - self._arrays[f"{side}.centre"])):
            self.problems.append(f"{side}: 16-bit rows from {part.start} are not its float32 rows")

    def _check_index(self) -> None:
        """Check that the index over prototypes holds what the rows do."""
        prefix = "index."
        arrays = {
            name.removeprefix(prefix): array
            for name, array in self._arrays.items()
            if name.startswith(prefix)
        }
        ids, exact = self._arrays["prototypes.ids"], self._rows["prototypes.exact"]
        view = LiveIndex.from_arrays(self._recipe, self._space.verifier_dim, arrays).view()
        if len(view) != len(ids):
            self.problems.append(f"its index has {len(view)} of {len(ids)} prototypes")
        for indexed, rows in view.blocks():
            listed = np.isin(indexed, ids)
            right = exact.take(np.searchsorted(ids, indexed[listed]))
            cosine = np.einsum("ij,ij->i", rows[listed].astype(np.float64), right)
            strangers = (*indexed[~listed], *indexed[listed][cosine < _SAME_DIRECTION])
            self.problems += [f"index: prototype {label_id} is no row" for label_id in strangers]
            self._tick("snapshot row", len(indexed))
