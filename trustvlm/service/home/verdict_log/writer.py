"""The one thread of a process that stores what spaces log, so that no answer waits for it, and what
deletes the rows that are older, or more, than a space keeps.

What is offered was promised to no caller: a process that is killed loses the answers of about the
last second, and a full queue or a catalog that cannot be written drops some, which are counted.
"""

from __future__ import annotations

import atexit
import logging
import threading
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from sqlalchemy import Connection

from trustvlm.catalog.catalog import Catalog
from trustvlm.catalog.rows import labels, spaces
from trustvlm.catalog.rows.verdict_log import rows as log_rows
from trustvlm.errors import TrustVLMError
from trustvlm.service.home.verdict_log.logged import (
    NEAREST_NAME,
    Batch,
    RequestPart,
    current_requests,
)
from trustvlm.system.background import Failures
from trustvlm.types import Verdicts

log = logging.getLogger("trustvlm")

MOST_ROWS = 65_536
"""Answers that may wait; a call that comes while none waits may have more."""
_GATHER_S, _GATHER_ROWS = 1.0, 2_000
_TRIM_S, _TRIM_SHARE = 60.0, 0.02
"""A log is cut after a minute, or after it grew by this share of what it keeps."""

Counted = Callable[[str, int, int], None]
"""Called with (space, rows stored, rows dropped)."""


class VerdictWriter:
    """Stores verdicts of the spaces of one catalog; its thread begins with the first of them."""

    def __init__(self, catalog: Catalog) -> None:
        self._catalog = catalog
        self._waiting: list[Batch] = []
        self._rows = 0
        """Of the batches that wait: no call counts them again, and few wake the thread."""
        self._dropped: Counter[tuple[int, str]] = Counter()
        self._uncounted: Counter[int] = Counter()
        """Dropped answers of each space whose number could not be stored, as on a full disk."""
        self._changed = threading.Condition()
        self._busy = self._closed = self._flush = False
        self._thread: threading.Thread | None = None
        self._failures = Failures(log, "logging verdicts")
        self._grown: Counter[int] = Counter()
        self._trimmed: dict[int, float] = {}
        self._told = set[int]()
        self.counted: Counted = lambda space, stored, dropped: None

    def keep(self, space: spaces.SpaceRecord, verdicts: Verdicts, *, all_labels: bool) -> None:
        """Log the verdicts of a call soon, if the space's log is on and there is room for them; of
        those among all labels also how similar the nearest prototype is."""
        if not len(verdicts) or not (space.verdict_log or {}).get("logging"):
            return
        if self._catalog.read_only:
            self._tell(space)
            return
        if (requests := current_requests()) is None:
            sources = None if verdicts.source is None else verdicts.source.tolist()
            requests = (RequestPart(len(verdicts), sources=sources),)
        nearest = all_labels and not verdicts.approximate
        batch = Batch(space.id, space.name, verdicts, requests, nearest)
        if not batch.rows:
            return
        with self._changed:
            before, after = self._rows, self._rows + batch.rows
            if self._closed or (before and after > MOST_ROWS):
                self._dropped[space.id, space.name] += batch.rows
                return
            if self._thread is None:
                self._begin()
            self._waiting.append(batch)
            self._rows = after
            if not before or before < _GATHER_ROWS <= after:
                self._changed.notify_all()

    def flush(self) -> None:
        """Wait until what was offered before is stored, or dropped."""
        with self._changed:
            self._flush = True
            self._changed.notify_all()
            self._changed.wait_for(lambda: not (self._waiting or self._busy))
            self._flush = False

    def close(self) -> None:
        """Store what waits, and take no more."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()
        if self._thread is not None:
            self._thread.join()
            self._thread = None
            atexit.unregister(self.close)

    def _begin(self) -> None:
        self._thread = threading.Thread(target=self._work, name="trustvlm-verdicts", daemon=True)
        self._thread.start()
        atexit.register(self.close)  # of a program that ends without closing its home

    def _tell(self, space: spaces.SpaceRecord) -> None:
        if space.id not in self._told:
            self._told.add(space.id)
            log.warning(
                "space %r logs its verdicts, but not those of this process: the home is open for "
                "reading only",
                space.name,
            )

    def _work(self) -> None:
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._waiting or self._closed)
                self._changed.wait_for(self._has_enough, _GATHER_S)
                batches, self._waiting, self._rows = self._waiting, [], 0
                dropped, self._dropped = self._dropped, Counter()
                self._busy, closed = True, self._closed
            with self._failures.logged():
                self._store(batches, dropped)
            with self._changed:
                self._busy = False
                self._changed.notify_all()
                if closed and not self._waiting:
                    return

    def _has_enough(self) -> bool:
        return self._closed or self._flush or self._rows >= _GATHER_ROWS

    def _store(self, batches: Sequence[Batch], dropped: Counter[tuple[int, str]]) -> None:
        of_space: dict[tuple[int, str], list[Batch]] = {}
        for batch in batches:
            of_space.setdefault((batch.space_id, batch.space), []).append(batch)
        for key in of_space.keys() | dropped.keys():
            self._store_space(*key, of_space.get(key, []), dropped[key])

    def _store_space(
        self, space_id: int, space: str, batches: Sequence[Batch], dropped: int
    ) -> None:
        total, stored = sum(batch.rows for batch in batches), 0
        try:
            for rows in _gathered(batches):
                self._insert(space_id, rows)
                stored += len(rows)
            self._trim_sometimes(space_id)
        except TrustVLMError as error:
            log.warning("verdicts of space %r are not logged: %s", space, error)
        finally:
            lost = dropped + total - stored
            self.counted(space, stored, lost)
            if lost:
                log.warning("%d verdicts of space %r are not in its log", lost, space)
            if lost or self._uncounted[space_id]:
                self._count_dropped(space_id, lost)

    def _insert(self, space_id: int, rows: Sequence[Mapping[str, Any]]) -> None:
        """Store rows, unless the log was switched off meanwhile or the space is gone."""
        with self._catalog.write("verdict_log") as connection:
            kept = spaces.verdict_log(connection, space_id)
            if kept is not None and kept["logging"]:
                log_rows.add(connection, space_id, _with_ids(connection, space_id, rows))
        self._grown[space_id] += len(rows)

    def _trim_sometimes(self, space_id: int) -> None:
        with self._catalog.read() as connection:
            kept = spaces.verdict_log(connection, space_id)
        due = time.monotonic() >= self._trimmed.get(space_id, 0.0) + _TRIM_S
        if kept is not None and (due or self._grown[space_id] >= _TRIM_SHARE * kept["rows"]):
            trim(self._catalog, space_id, kept)
            self._grown[space_id], self._trimmed[space_id] = 0, time.monotonic()

    def _count_dropped(self, space_id: int, number: int) -> None:
        number += self._uncounted.pop(space_id, 0)
        try:
            with self._catalog.write("verdict_log") as connection:
                if spaces.verdict_log(connection, space_id) is not None:
                    log_rows.add_dropped(connection, space_id, number)
        except TrustVLMError as error:
            self._uncounted[space_id] = number
            log.warning("the number of verdicts that were dropped is stored later: %s", error)


def _with_ids(
    connection: Connection, space_id: int, rows: Sequence[Mapping[str, Any]]
) -> list[dict[str, Any]]:
    """Rows with the ids of the nearest labels in place of their names; None of a label that was
    renamed or removed meanwhile."""
    names = {row[NEAREST_NAME] for row in rows} - {None}
    labels_of = labels.find_many(connection, space_id, sorted(names))
    ids = {name: label.id for name, label in labels_of.items()}
    return [
        {key: value for key, value in row.items() if key != NEAREST_NAME}
        | {"nearest_id": ids.get(row[NEAREST_NAME])}
        for row in rows
    ]


def _gathered(batches: Sequence[Batch]) -> list[list[dict[str, Any]]]:
    """The rows of batches, in pieces for one transaction each."""
    pieces: list[list[dict[str, Any]]] = [[]]
    for batch in batches:
        for rows in batch.pieces(log_rows.CHUNK_ROWS):
            if len(pieces[-1]) + len(rows) > log_rows.CHUNK_ROWS:
                pieces.append([])
            pieces[-1] += rows
    return [piece for piece in pieces if piece]


def trim(catalog: Catalog, space_id: int, kept: Mapping[str, Any]) -> int:
    """Cut the log of a space to what it keeps, in transactions of bounded size; how many rows
    went."""
    total = 0
    while True:
        with catalog.write("verdict_log") as connection:
            number = log_rows.trim_some(connection, space_id, kept["days"], kept["rows"])
        total += number
        if not number:
            return total


def trim_all(catalog: Catalog) -> int:
    """Cut the logs of all spaces, also of those that log no longer; how many rows went. Without
    logs this is one look at the spaces."""
    with catalog.read() as connection:
        logs = spaces.verdict_logs(connection)
        due = {
            space_id: kept
            for space_id, kept in logs.items()
            if log_rows.is_due(connection, space_id, kept["days"], kept["rows"])
        }
    return sum(trim(catalog, space_id, kept) for space_id, kept in due.items())
