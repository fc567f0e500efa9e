"""The work on one unit: its rows are read, encoded where they are images, scored, and written as
one file."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from trustvlm.bulk.files import KEPT, SUFFIX, stored_key, write_table
from trustvlm.bulk.inputs.claims import Claims, Names, claims_in_column, digest_of
from trustvlm.bulk.inputs.images import Digest, read_images
from trustvlm.bulk.inputs.vectors import VectorRows, read_vectors
from trustvlm.bulk.tables import embedding_table, verdict_table
from trustvlm.bulk.tally import Tally
from trustvlm.bulk.units import CALL_ROWS, Unit, difference
from trustvlm.errors import Conflict, InvalidInput, Unavailable
from trustvlm.reading.parquet import ParquetFiles
from trustvlm.settings import open_service
from trustvlm.system.fault_points import reached
from trustvlm.types import Queries
from trustvlm.types.bulk import Work

if TYPE_CHECKING:
    import pyarrow

REDO = "redo=True makes such files again; or name another folder for the output"

Progress = Callable[[int], None]


@dataclass(frozen=True)
class Opening:
    """How a process that works opens the home.

    Attributes:
        database_url: with its password, where there is one: never shown.
    """

    home: str
    database_url: str | None = field(default=None, repr=False)
    device: str | None = None
    precision: str | None = None
    batch_size: int | None = None
    workers: int | None = None
    read_only: bool = False

    def service(self) -> Any:
        """The open service."""
        return open_service(**vars(self))


@dataclass(frozen=True)
class Job:
    """What is done with every unit.

    Attributes:
        out: folder of the output.
        options: of the call of `score`: rule, params, top_k, labels. reading: of the images.
        dims: dimension of the vectors of each side that is read from Parquet files, of kept
            embeddings, too.
        settings: the key of a file but for its input. kept_settings: that of a file of embeddings.
        revision: of the space when the call began.
        claims: where the claims of rows of Parquet files and shards stand; those of image files are
            in their units.
    """

    work: Work
    opening: Opening
    space: str
    out: str
    options: Mapping[str, Any]
    reading: Mapping[str, Any]
    dims: Mapping[str, int]
    keep_embeddings: bool
    redo: bool
    settings: Mapping[str, Any]
    kept_settings: Mapping[str, Any]
    revision: int
    claims: Claims | None = None

    def path(self, unit: Unit) -> Path:
        """The file of a unit."""
        return Path(self.out) / f"{unit.name}{SUFFIX}"

    def kept_path(self, unit: Unit) -> Path:
        """The file of the embeddings of a unit."""
        return Path(self.out) / KEPT / f"{unit.name}{SUFFIX}"


@dataclass(frozen=True)
class Done:
    """What came of a unit: counts, or why it could not be read.

    Attributes:
        written: rows that were written now; 0 for a file that was there. cpu: seconds of CPU time
            that this took, without those of the sandbox that reads files.
    """

    unit: str
    tally: Tally | None
    written: int = 0
    cpu: float = 0.0
    reason: str | None = None


class Worker:
    """An open service that does units, one after the other; close it.

    Args:
        advance: called with a number of rows when these are done.
    """

    def __init__(self, job: Job, advance: Progress = lambda rows: None) -> None:
        self._job, self._advance = job, advance
        self._service = job.opening.service()
        self._parquet = ParquetFiles()

    def close(self) -> None:
        """Close the service."""
        self._parquet.close()
        self._service.close()

    def do(self, unit: Unit) -> Done:
        """Do a unit, unless its file is there.

        Raises:
            Conflict: its file was made in another way, and is not to be replaced. Others, as
            :meth:`TrustService.score`; but an input that cannot be read is an answer.
        """
        job, path = self._job, self._job.path(unit)
        if is_done(job, unit, self._parquet):
            return Done(unit.name, Tally.read(path))
        begun = time.process_time()
        reached("bulk.begun")
        try:
            claims = _claims_of(job, unit, self._parquet)
            table, digest = self._made(unit, claims)
        except InvalidInput as error:
            return Done(unit.name, None, reason=str(error))
        key = {**job.settings, "input": unit.input_key(digest) | _claims_key(claims)}
        tally = Tally.of(table)
        if tally.revisions:
            key["revision"] = min(tally.revisions)
        self._write(path, table, key)
        return Done(unit.name, tally, len(table), time.process_time() - begun)

    @staticmethod
    def _write(path: Path, table: pyarrow.Table, key: Mapping[str, Any]) -> None:
        try:
            write_table(path, table, key)
        except OSError as error:
            raise Unavailable(f"{path} cannot be written: {error.strerror or error}") from error

    def _made(self, unit: Unit, claims: Names | None) -> tuple[pyarrow.Table, str]:
        """(the table of a unit, the digest of its input)."""
        if unit.kind == "vectors":
            digest, path = Digest(), Path(unit.path)
            rows = read_vectors(self._parquet, path, unit.start, unit.stop, self._job.dims, digest)
            return self._scored(rows, claims), digest.text()
        if (digest_text := self._kept(unit)) is None:
            table, digest_text = self._embedded(unit)
            if self._job.work == "embed":
                return table, digest_text
            if self._job.keep_embeddings:
                key = {**self._job.kept_settings, "input": unit.input_key(digest_text)}
                self._write(self._job.kept_path(unit), table, key)
            return self._scored(_rows_of(table), claims, counted=True), digest_text
        path = self._job.kept_path(unit)
        count = self._parquet.facts(path).rows
        rows = read_vectors(self._parquet, path, 0, count, self._job.dims, Digest())
        return self._scored(rows, claims), digest_text

    def _kept(self, unit: Unit) -> str | None:
        """The digest of a unit's input, where its embeddings are kept and are those of the encoders
        of now; else None."""
        path = self._job.kept_path(unit)
        if self._job.work == "embed" or not path.exists():
            return None
        key = stored_key(path) or {}
        if difference(key, dict(self._job.kept_settings)) is not None:
            return None
        same = _same_input(key, unit, {}, self._parquet)
        return str(key["input"]["digest"]) if same else None

    def _embedded(self, unit: Unit) -> tuple[pyarrow.Table, str]:
        digest = Digest()
        images = read_images(self._parquet, unit, digest)
        made = self._service.embed(
            self._job.space, images, progress=self._advance, **self._job.reading
        )
        failures = {
            place: reason for place, (_, reason) in zip(made.failed, made.failures, strict=True)
        }
        names = dict(zip(made.places, made.sources, strict=True))
        names |= {
            place: source for place, (source, _) in zip(made.failed, made.failures, strict=True)
        }
        sources = [names[place] for place in range(len(names))]
        places = np.array(made.places, np.int64)
        return embedding_table(made.queries, sources, places, failures), digest.text()

    def _scored(
        self, parts: Iterator[VectorRows], claims: Names | None, *, counted: bool = False
    ) -> pyarrow.Table:
        """The verdicts of all parts, on the claims of their rows, if they have some; `counted`:
        progress has counted the rows already."""
        import pyarrow as pa

        tables, first = [], 0
        for rows in parts:
            some = None if claims is None else claims[first : first + len(rows.sources)]
            first += len(rows.sources)
            queries = _with_claims(rows, some, self._job.claims)
            verdicts = self._service.score(
                self._job.space, queries, review=False, **self._job.options
            )
            tables.append(verdict_table(verdicts, rows.sources, rows.places, rows.failures))
            if not counted:
                self._advance(len(rows.sources))
        return pa.concat_tables(tables)


def _with_claims(
    rows: VectorRows, claims: Sequence[str | None] | None, of: Claims | None
) -> Queries:
    """The queries of some rows with the claims of these, which a table has where none are given."""
    if claims is None and of is not None:
        claims = of.of_sources(rows.sources)
    if claims is None:
        return rows.queries
    return replace(rows.queries, claimed=[claims[place] for place in rows.places.tolist()])


def _claims_of(job: Job, unit: Unit, parquet: ParquetFiles) -> Names | None:
    """The claims of a unit's rows; None: it has none, or they are looked up by the names of rows.
    Raises InvalidInput: they cannot be read."""
    if job.claims is None or job.claims.column is None:
        return unit.claims
    return claims_in_column(parquet, unit, job.claims.column)


def _claims_key(claims: Names | None) -> dict[str, str]:
    """What the key of a file says of the claims."""
    return {} if claims is None else {"claims": digest_of(claims)}


def _rows_of(table: pyarrow.Table) -> Iterator[VectorRows]:
    """The rows of a table of embeddings, in parts of the size of a call."""
    for start in range(0, max(len(table), 1), CALL_ROWS):
        part = table.slice(start, CALL_ROWS)
        reasons = part.column("failure").to_pylist()
        failures = {place: reason for place, reason in enumerate(reasons) if reason is not None}
        places = np.array([i for i, reason in enumerate(reasons) if reason is None], np.int64)
        vectors = {}
        for side in set(part.column_names) & {"classifier", "verifier"}:
            column = part.column(side)
            rows = column.take(places).combine_chunks()
            vectors[side] = rows.flatten().to_numpy().reshape(len(places), column.type.list_size)
        yield VectorRows(part.column("source").to_pylist(), failures, places, Queries(**vectors))


def is_done(job: Job, unit: Unit, parquet: ParquetFiles) -> bool:
    """Whether the file of a unit is there, and need not be made again.

    Raises:
        Conflict: it is there, but was made in another way, and is not to be replaced.
    """
    path = job.path(unit)
    if (key := stored_key(path)) is None:
        return False
    reason = difference(key, dict(job.settings))
    if reason is None and not _same_input(key, unit, job.dims, parquet):
        reason = f"its input, {unit.path}, has changed, or is divided otherwise"
    if reason is None and not _same_claims(key, unit, job, parquet):
        reason = f"the claims of its rows, of {unit.path}, have changed"
    if reason is None:
        return not (job.redo and key.get("revision", job.revision) < job.revision)
    if job.redo:
        return False
    raise Conflict(f"{path}: {reason}; {REDO}")


def _same_input(
    key: Mapping[str, Any], unit: Unit, dims: Mapping[str, int], parquet: ParquetFiles
) -> bool:
    """Whether a file was made from the content that a unit has now: nothing has touched it since,
    or it is the same for all that."""
    stored, now = key.get("input", {}), unit.input_key("")
    if any(stored.get(name) != now[name] for name in ("name", "rows")):
        return False
    if stored.get("stamp") == unit.stamp:
        return True
    return bool(stored.get("digest") == _digest_of(unit, dims, parquet))


def _same_claims(key: Mapping[str, Any], unit: Unit, job: Job, parquet: ParquetFiles) -> bool:
    """Whether a file was made from the claims that the rows of a unit have now; those in a file
    that nothing has touched since are not read."""
    stored = key.get("input", {})
    if unit.claims is None and stored.get("stamp") == unit.stamp:
        return True
    try:
        return bool(
            stored.get("claims") == _claims_key(_claims_of(job, unit, parquet)).get("claims")
        )
    except InvalidInput:
        return False


def _digest_of(unit: Unit, dims: Mapping[str, int], parquet: ParquetFiles) -> str | None:
    """The digest of a unit's content now; None: it cannot be read."""
    digest = Digest()
    rows: Iterator[Any]
    if unit.kind == "vectors":
        rows = read_vectors(parquet, Path(unit.path), unit.start, unit.stop, dims, digest)
    else:
        rows = read_images(parquet, unit, digest)
    try:
        deque(rows, maxlen=0)
    except InvalidInput:
        return None
    return digest.text()
