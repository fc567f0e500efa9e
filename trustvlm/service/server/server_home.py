"""What the HTTP service asks of an open home besides the verbs: keys, pages of labels, repeated
calls, jobs."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import timedelta
from typing import Any, BinaryIO, cast

from trustvlm.catalog.rows import label_pages
from trustvlm.catalog.rows import spaces as space_rows
from trustvlm.catalog.rows import supports as support_rows
from trustvlm.catalog.rows.likeness import told, unknown
from trustvlm.catalog.rows.spaces import SpaceRecord
from trustvlm.catalog.server import idempotency, jobs
from trustvlm.catalog.server.idempotency import CallRecord
from trustvlm.catalog.server.jobs import JobRecord
from trustvlm.catalog.server.keys import KeyRecord
from trustvlm.errors import NotFound
from trustvlm.service.home.open_home import OpenHome
from trustvlm.service.home.work_folder import unwritable
from trustvlm.service.inputs.encode import encoder_of, encodes_images
from trustvlm.service.query.evidence import evidence_of
from trustvlm.service.registration.sync import Contents, preview, sync_contents
from trustvlm.service.server.idempotency import KEPT, begin_call, sweep
from trustvlm.service.server.keys import create_key, list_keys, revoke_key, rotate_key, use_key
from trustvlm.service.server.states import SpaceState, space_states
from trustvlm.service.server.workers import Worker
from trustvlm.types import Evidence, KeyRow, LabelRow, Queries, RegisterResult
from trustvlm.types.bounds import identifier, whole

__all__ = ["Serving"]


class Serving(OpenHome):
    """Keys of the HTTP service, and what it shows page by page."""

    def create_key(
        self,
        scope: str,
        *,
        space: str | None = None,
        note: str | None = None,
        rate: float | None = None,
        days: float | None = None,
    ) -> tuple[KeyRow, str]:
        """Make a key of the HTTP service: its row, and the key itself, which nobody can show again.

        Args:
            scope: "read", "write" or "admin"; each may do what the one before may.
            space: the only space that it opens. rate: requests a second. days: until it expires.

        Raises:
            InvalidInput. NotFound: no such space.
        """
        return create_key(self._writable(), scope, space, note, rate, days)

    def list_keys(self) -> Sequence[KeyRow]:
        """Every key, oldest first."""
        return list_keys(self._ready())

    def revoke_key(self, key_id: str) -> bool:
        """Make a key worthless: services notice within seconds; False: it was revoked before.
        Raises NotFound."""
        return revoke_key(self._writable(), key_id)

    def rotate_key(self, key_id: str, *, overlap: timedelta = timedelta(0)) -> tuple[KeyRow, str]:
        """Make a key that may do what this one may, which ends after `overlap`. Raises NotFound,
        Conflict, InvalidInput."""
        return rotate_key(self._writable(), key_id, overlap)

    def use_key(self, key_id: str) -> KeyRecord | None:
        """The key of this id, if it opens anything now."""
        return use_key(self._ready(), key_id)

    def label_page(
        self,
        space: str,
        *,
        after: str | None = None,
        limit: int = 100,
        prefix: str | None = None,
        contains: str | None = None,
        unverified: bool = False,
    ) -> list[LabelRow]:
        """Up to `limit` labels behind the name `after`, by name; those that begin with or contain
        something, if given. `unverified`: those without support images. Raises NotFound."""
        limit = whole("limit", limit)
        with self._ready().catalog.read() as connection:
            found = space_rows.find(connection, space)
            return label_pages.label_page(
                connection,
                found.id,
                after=after,
                limit=limit,
                prefix=prefix,
                contains=contains,
                unverified=unverified,
            )

    def pictured_page(
        self, space: str, *, thumbnails: int, **page: Any
    ) -> list[tuple[LabelRow, list[int]]]:
        """The rows of :meth:`label_page`, each with the ids of its label's first support images.
        Raises NotFound."""
        with self._ready().catalog.read() as connection:
            rows = label_pages.label_page(connection, space_rows.find(connection, space).id, **page)
            found = label_pages.first_supports(connection, [row.id for row in rows], thumbnails)
        return [(row, found[row.id]) for row in rows]

    def label_page_by_id(self, space: str, *, after: int, limit: int) -> list[LabelRow]:
        """Up to `limit` labels with ids above `after`, in the order of
        :meth:`TrustService.list_labels`. Raises NotFound."""
        with self._ready().catalog.read() as connection:
            return label_pages.label_page_by_id(
                connection, space_rows.find(connection, space).id, after, limit
            )

    def evidence_of(
        self,
        space: str,
        queries: Queries,
        label_ids: Sequence[int],
        rival_ids: Sequence[int],
        *,
        state: Mapping[str, Any],
        revision: int,
        k: int,
    ) -> list[Evidence]:
        """The evidence of verdicts that were made elsewhere: the same that `Verdicts.evidence`
        gives.

        Args:
            queries: their embeddings. label_ids, rival_ids: what they said. state, revision: which
                came with them.

        Raises:
            NotFound, InvalidInput. Unavailable: the support images were purged since, or the space
            was replaced.
        """
        return evidence_of(self._ready(), space, queries, label_ids, rival_ids, state, revision, k)

    def get_label(self, space: str, label: str) -> LabelRow:
        """One label as it is listed. Raises NotFound."""
        with self._ready().catalog.read() as connection:
            found = space_rows.find(connection, space)
            row = label_pages.find_row(connection, found.id, label)
            if row is None:
                raise NotFound(told(unknown(connection, found.id, [label]), found.name))
        return row

    def unknown_labels(self, space: str, names: Iterable[str | None]) -> dict[str, str | None]:
        """Those of `names` (None aside) that are no labels of the space → the label that was
        probably meant, or None.

        Raises:
            NotFound: no such space.
        """
        with self._ready().catalog.read() as connection:
            return unknown(
                connection,
                space_rows.find(connection, space).id,
                (name for name in names if name is not None),
            )

    def sync_contents(
        self,
        space: str,
        has: Contents,
        *,
        dry_run: bool = False,
        sync: bool = True,
        bring_back: bool = False,
    ) -> RegisterResult:
        """The second half of :meth:`TrustService.register` with `sync`, for those who registered
        what the space lacked: remove the support images that are not in `has`. With `dry_run`, what
        the whole of it would change.

        Raises:
            NotFound: no such space. InvalidInput: `has` and the space have nothing in common.
        """
        if dry_run:
            return preview(
                self._ready(), self.get_label_space(space), has, bring_back=bring_back, sync=sync
            )
        return sync_contents(self._writable(), space, has)

    def get_label_space(self, space: str) -> SpaceRecord:
        """The space's row without counts. Raises NotFound."""
        return self._ready().space(space)

    def unverified_count(self, space: str) -> int:
        """How many labels of a space have no support image. Raises NotFound."""
        parts = self._ready()
        with parts.catalog.read() as connection:
            return parts.counts.of(
                connection, parts.catalog.epoch(connection), space_rows.find(connection, space)
            ).unverified

    def support_picture(self, space: str, support_id: int) -> bytes:
        """The JPEG thumbnail of a support image of this space. Raises NotFound: there is none, or
        it came as a vector."""
        support_id = identifier("support image", support_id)
        with self._ready().catalog.read() as connection:
            label = label_pages.support_label(
                connection, space_rows.find(connection, space).id, support_id
            )
            picture = None if label is None else support_rows.thumbnail(connection, support_id)
        if picture is None:
            why = "no such support image" if label is None else "it was registered as a vector"
            raise NotFound(f"no thumbnail of support image {support_id} in space {space!r}: {why}")
        return picture

    def support_space(self, support_id: int) -> str:
        """The name of the space that a support image belongs to. Raises NotFound."""
        support_id = identifier("support image", support_id)
        with self._ready().catalog.read() as connection:
            found = label_pages.support_space(connection, support_id)
        if found is None:
            raise NotFound(f"no support image {support_id}")
        return found

    def space_states(self) -> list[SpaceState]:
        """Where each space stands, and where this process's caches are."""
        return space_states(self._ready())

    def load_encoders(self, space: str) -> None:
        """Open the encoders of a space that encode here, and see that they are those it was made
        with, before they are needed.

        Raises:
            NotFound: no such space. Conflict: another encoder. Unavailable: weights that are not on
                this machine.
        """
        parts = self._ready()
        record = parts.space(space)
        for side, spec in (("classifier", record.classifier), ("verifier", record.verifier)):
            if encodes_images(spec):
                encoder_of(parts, record, side)

    def worker(self) -> Worker:
        """Make this process one of those that serve the home."""
        return Worker(self._writable().folder)

    def begin_call(self, owner: str, key: str, request: bytes, worker: Worker) -> CallRecord | None:
        """Claim the call with this idempotency key; if it was answered before, what was answered.

        Raises:
            InvalidInput: the key came with another request. Overloaded: somebody is at it.
        """
        return begin_call(self._writable(), owner, key, request, worker)

    def do_call(self, owner: str, key: str, status: int, work: Callable[[], bytes]) -> bytes:
        """What a claimed call answers, stored in the transaction of the change that it makes: both
        are there, or neither.

        Args:
            work: makes one short change, and returns what is to be answered.
        """
        parts = self._writable()  # now: what it purges by the way is no part of the call
        try:
            with parts.catalog.together():
                body = work()
                self.end_call(owner, key, status, body)
        except BaseException:
            parts.counts.forget()  # it may have counted what was undone
            raise
        return body

    def end_call(self, owner: str, key: str, status: int, body: bytes) -> None:
        """Store the answer to a claimed call."""
        with self._ready().catalog.write("call") as connection:
            idempotency.answer(connection, owner, key, status, body)

    def drop_call(self, owner: str, key: str) -> None:
        """Give up a claim, so that the call can be made again."""
        with self._ready().catalog.write("call") as connection:
            idempotency.forget(connection, owner, key)

    def create_job(self, record: JobRecord) -> None:
        """Store a new job."""
        with self._writable().catalog.write("job") as connection:
            jobs.create(connection, record)

    def get_job(self, job_id: str) -> JobRecord:
        """A job. Raises NotFound."""
        with self._ready().catalog.read() as connection:
            found = jobs.find(connection, job_id)
        if found is None:
            raise NotFound(f"no job {job_id!r}; ended ones are kept for {KEPT.days} days")
        return found

    def list_jobs(self, space: str | None, limit: int) -> list[JobRecord]:
        """The newest jobs, of one space or all."""
        limit = whole("limit", limit)
        with self._ready().catalog.read() as connection:
            return jobs.list_rows(connection, space, limit)

    def change_job(self, job_id: str, **changes: Any) -> bool:
        """Store how far a job is; whether it shall go on."""
        with self._ready().catalog.write("job") as connection:
            return jobs.progress(connection, job_id, changes)

    def cancel_job(self, job_id: str) -> None:
        """Ask a job to stop."""
        with self._writable().catalog.write("job") as connection:
            jobs.ask_cancel(connection, job_id)

    def spool(self) -> BinaryIO:
        """A new file in the home that has no name: it is gone when it is closed, or when its
        process dies.

        Raises:
            ReadOnly, Unavailable: it cannot be made.
        """
        home = self._writable().folder
        with unwritable("making a file in", home):
            return cast(BinaryIO, tempfile.TemporaryFile(dir=home))

    def sweep(self, worker: Worker) -> None:
        """Settle what dead processes left behind, and forget answers and jobs that are old."""
        sweep(self._writable(), worker)
