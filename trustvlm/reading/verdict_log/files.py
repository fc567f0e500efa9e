"""What a verdict log is, of a home and of a service elsewhere alike; and writing it to a Parquet
file, page by page."""

from __future__ import annotations

import os
import secrets
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from datetime import datetime
from pathlib import Path

from trustvlm.errors import InvalidInput, ReadOnly
from trustvlm.system.files.durable import sync
from trustvlm.types.bounds import flags, path_of, whole
from trustvlm.types.verdict_log import (
    LogFilter,
    LoggedPage,
    LogOptions,
    VerdictLogStatus,
    check_draw,
)

_PAGE = 10_000
_DRAWN = "is one page of that number of rows"


class VerdictLog(ABC):
    """What a space answered, where it logs that: see docs/history.md. Made by
    :meth:`trustvlm.TrustService.verdict_log` and :meth:`trustvlm.Client.verdict_log`.

    Errors of every method: NotFound for an unknown space.
    """

    @abstractmethod
    def status(self) -> VerdictLogStatus:
        """Whether the space logs, what it keeps, and what is there."""

    def switch(
        self,
        logging: bool,
        *,
        days: float | None = None,
        rows: int | None = None,
        discard: bool = False,
    ) -> VerdictLogStatus:
        """Switch the log on or off. Every process logs from its next call on.

        Args:
            days: age at which a row is deleted, 0.001 to 36,500; None: as it is, at first 30. This
                goes on while the log is off.
            rows: newest rows that are kept, 1 to 10,000,000; None: as it is, at first 100,000.
            discard: delete the rows that are there.

        Raises:
            InvalidInput: a number out of range. ReadOnly: the home cannot be written.
        """
        flags(logging=logging, discard=discard)
        options = LogOptions(logging=bool(logging), days=days, rows=rows, discard=bool(discard))
        return self._switch(options)

    def page(
        self,
        *,
        since: datetime | None = None,
        until: datetime | None = None,
        decision: str | None = None,
        label: str | None = None,
        request_id: str | None = None,
        limit: int | None = None,
        cursor: str | None = None,
        sample: int | None = None,
        seed: int = 0,
    ) -> LoggedPage:
        """Rows of the log, newest first.

        Args:
            since, until: answered at or after, and before a time with a time zone.
            decision: "accept", "review" or "unknown". label: the predicted label, by its name
                then. request_id: of an HTTP request.
            limit: most rows of the page, up to 10,000; None: 100. cursor: the `next_cursor` of the
                page before, with the same filter.
            sample: in place of a page, this number of rows drawn at random, each with the same
                chance; all, where there are fewer. seed: the same draw for the same rows.

        Raises:
            InvalidInput: a value out of range, a limit or a cursor beside a sample, or a seed
                without one.
        """
        which = LogFilter(
            since=since, until=until, decision=decision, label=label, request_id=request_id
        ).checked()
        most = None if limit is None else whole("limit", limit, bounds="log_page")
        drawn = None if sample is None else whole("sample", sample, bounds="log_page")
        check_draw(drawn, whole("seed", seed), _DRAWN, limit=most, cursor=cursor)
        return self._page(which, most, cursor, drawn, seed)

    @abstractmethod
    def _switch(self, options: LogOptions) -> VerdictLogStatus:
        """See :meth:`switch`."""

    @abstractmethod
    def _page(
        self, which: LogFilter, limit: int | None, cursor: str | None, sample: int | None, seed: int
    ) -> LoggedPage:
        """See :meth:`page`; all values are checked."""

    def export(
        self,
        path: str | os.PathLike[str],
        *,
        since: datetime | None = None,
        until: datetime | None = None,
        decision: str | None = None,
        label: str | None = None,
        request_id: str | None = None,
        limit: int | None = None,
        sample: int | None = None,
        seed: int = 0,
    ) -> int:
        """Write rows to a Parquet file, newest first, with the columns of
        :meth:`LoggedPage.to_arrow`; how many.

        Args:
            path: the file, which is replaced; it appears whole or not at all.
            limit: the newest rows only; None: all. The others: as for :meth:`page`.

        Raises:
            InvalidInput: the name does not end with .parquet. ReadOnly: the file cannot be written.
        """
        target = path_of("path", path)
        if target.suffix.lower() != ".parquet":
            raise InvalidInput(
                f"path: expected a name that ends with .parquet, got {target.name!r}"
            )

        check_draw(sample, seed, _DRAWN, limit=limit)

        def page_of(most: int, cursor: str | None) -> LoggedPage:
            return self.page(
                since=since, until=until, decision=decision, label=label, request_id=request_id,
                limit=most if sample is None else None, cursor=cursor, sample=sample, seed=seed,
            )  # fmt: skip

        pages = _pages(page_of, limit)
        first = next(pages)  # what cannot be asked is refused before a file is begun
        unfinished = target.with_name(f".{target.name}.{secrets.token_hex(4)}")
        try:
            try:
                rows = _write(unfinished, first, pages)
                unfinished.replace(target)
                sync(target.parent)
            finally:
                unfinished.unlink(missing_ok=True)
        except OSError as error:
            reason = error.strerror or error
            raise ReadOnly(f"{target} cannot be written: {reason}") from error
        return rows


def _pages(
    page_of: Callable[[int, str | None], LoggedPage], limit: int | None
) -> Iterator[LoggedPage]:
    cursor: str | None = None
    while True:
        most = _PAGE if limit is None else min(limit, _PAGE)
        page = page_of(most, cursor)
        yield page
        cursor = page.next_cursor
        limit = None if limit is None else limit - len(page.verdicts)
        if cursor is None or limit == 0:
            return


def _write(path: Path, first: LoggedPage, others: Iterator[LoggedPage]) -> int:
    import pyarrow.parquet as pq

    table = first.to_arrow()
    rows: int = table.num_rows
    with path.open("xb") as file:
        with pq.ParquetWriter(file, table.schema, compression="zstd") as writer:
            writer.write_table(table)
            for page in others:
                table = page.to_arrow()
                rows += table.num_rows
                writer.write_table(table)
        file.flush()
        os.fsync(file.fileno())
    return rows
