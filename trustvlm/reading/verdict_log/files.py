"""Writes a verdict log to a Parquet file, page by page."""

from __future__ import annotations

import os
import secrets
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from datetime import datetime
from pathlib import Path

from trustvlm.errors import InvalidInput, ReadOnly
from trustvlm.system.files.durable import sync
from trustvlm.types.verdict_log import LoggedPage

_PAGE = 10_000


class LogFiles(ABC):
    """What a verdict log can do with files, by its pages."""

    @abstractmethod
    def page(
        self,
        *,
        since: datetime | None = None,
        until: datetime | None = None,
        decision: str | None = None,
        label: str | None = None,
        request_id: str | None = None,
        limit: int = 100,
        cursor: str | None = None,
        sample: int | None = None,
        seed: int = 0,
    ) -> LoggedPage:
        """Rows of the log, newest first."""

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
        target = Path(path)
        if target.suffix.lower() != ".parquet":
            raise InvalidInput(
                f"path: expected a name that ends with .parquet, got {target.name!r}"
            )

        def page_of(most: int, cursor: str | None) -> LoggedPage:
            return self.page(
                since=since, until=until, decision=decision, label=label, request_id=request_id,
                limit=most, cursor=cursor, sample=sample, seed=seed,
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
