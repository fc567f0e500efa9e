"""Very many labels as a stream of lines: an import of the service's, which goes on where its stream
broke.

Lines that the service may not have committed yet are kept, so that any iterable can be sent again
from there. They are few: the service reads no faster than it commits.
"""

from __future__ import annotations

import time
import uuid
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from typing import Any

from trustvlm.client.decode import read
from trustvlm.client.jobs import Job, find_job
from trustvlm.client.problems import error_of
from trustvlm.client.transport import Passing, Patience, Wire, path_of
from trustvlm.errors import Conflict, NotFound, TrustVLMError, Unavailable
from trustvlm.types import KnownImage, RegisterResult

__all__ = ["import_lines"]

_LOOK_S = 0.5
_NOTICED_S = 5.0
_GROUP = 64 * 1024
_LONGEST_S = 2.0  # that a line waits for others: the service cuts a stream that stands still

Line = tuple[str, bytes]


class _SourceFailed(Exception):
    """The iterable of labels raised something, which is no failure of the stream."""

    def __init__(self, error: Exception) -> None:
        super().__init__(str(error))
        self.error = error


class _Window:
    """The lines from the first that is not known to be committed on; `base`: its number."""

    def __init__(
        self, lines: Iterator[Line], on_commit: Callable[[list[str]], None] | None
    ) -> None:
        self._source, self._on_commit = lines, on_commit
        self._kept: deque[Line] = deque()
        self.base = 0

    def committed(self, count: int) -> bool:
        """So many lines of the import are; whether that is news."""
        names = [self._kept.popleft()[0] for _ in range(count - self.base)]
        self.base += len(names)
        if names and self._on_commit is not None:
            self._on_commit(list(dict.fromkeys(names)))
        return bool(names)

    def lines(self) -> Iterator[bytes]:
        """All from the base on."""
        number = self.base
        while True:
            while number - self.base < len(self._kept):
                number += 1
                yield self._kept[number - 1 - self.base][1]
            try:
                line = next(self._source, None)
            except Exception as error:
                raise _SourceFailed(error) from error
            if line is None:
                return
            self._kept.append(line)


def import_lines(
    wire: Wire, space: str, lines: Iterator[Line], on_commit: Callable[[list[str]], None] | None
) -> RegisterResult:
    """Register the labels of (name, line) pairs; see :meth:`Client.register`."""
    run = _Import(wire, space, _Window(lines, on_commit))
    patience = Patience(wire.retries, wire.timeout)
    while True:
        try:
            return _result(run.attempt())
        except _SourceFailed as failed:
            raise failed.error from None
        except Passing as passing:
            if run.went_on():
                patience.renew()
            if (done := run.ended()) is not None:
                return _result(done)
            patience.wait(passing)
            run.settle()


class _Import:
    """One import under an id of our own making, and the streams that it takes."""

    def __init__(self, wire: Wire, space: str, window: _Window) -> None:
        self._wire, self._window = wire, window
        self._path, self._id = path_of("spaces", space, "imports"), str(uuid.uuid4())
        self._expected = wire.expected.headers(self._path)
        self._next = 0.0
        self._seen: Job | None = None

    def attempt(self) -> Mapping[str, Any]:
        """One stream. Raises Passing where another may go further."""
        query = [("job", self._id), ("begin", "true"), ("after", self._window.base)]
        headers, self._expected = {"content-type": "application/x-ndjson"} | self._expected, {}
        self._next = time.monotonic() + _LOOK_S
        sent = self._wire.send(
            "POST",
            self._path,
            self._wire.timeout,
            query=query,
            content=self._stream(),
            headers=headers,
        )
        told: Mapping[str, Any] = self._wire.read(sent)
        self._window.committed(told["done"])
        return told["result"] or {}

    def _stream(self) -> Iterator[bytes]:
        """The lines, some at a time; now and then with a look at how many are committed."""
        group, size, sent = [], 0, time.monotonic()
        for line in self._window.lines():
            group.append(line)
            size += len(line)
            if size >= _GROUP or time.monotonic() - sent >= _LONGEST_S:
                yield b"".join(group)
                group, size, sent = [], 0, time.monotonic()
                self._look()
        yield b"".join(group)

    def _look(self) -> None:
        if time.monotonic() < self._next:
            return
        job: Job | None = None
        with suppress(Passing, TrustVLMError):  # a look that fails says nothing of the stream
            job = read(
                Job,
                self._wire.read(self._wire.attempt("GET", path_of("jobs", self._id), 4 * _LOOK_S)),
            )
        self._next = time.monotonic() + _LOOK_S
        if job is None:
            return
        self._window.committed(job.done)
        if job.ended and (
            job.state != "interrupted" or job.error is not None
        ):  # the service reads on, but to no end
            raise Passing(Unavailable(f"the import {self._id} is {job.state}"))

    def went_on(self) -> bool:
        """Whether the service has committed more lines than were known to be; asked after a stream
        broke."""
        try:
            self._seen = find_job(self._wire, self._id)
        except NotFound:  # it broke before it was begun
            self._seen = None
            return False
        return self._window.committed(self._seen.done)

    def settle(self) -> None:
        """Wait until the service has noticed that the stream broke; for a while only, as a process
        that died never will."""
        end = time.monotonic() + _NOTICED_S
        while self._seen is not None and self._seen.state == "running" and time.monotonic() < end:
            time.sleep(0.05)
            self.went_on()

    def ended(self) -> Mapping[str, Any] | None:
        """What the import ended with, whose answer did not arrive; None: it is to go on.

        Raises:
            TrustVLMError: it cannot.
        """
        job = self._seen
        if job is None:
            return None
        if job.state == "done":
            return job.result or {}
        if job.state == "cancelled":
            raise Conflict(f"the import {job.id} was cancelled after {job.done} lines")
        if job.error is not None and job.error["kind"] not in ("Busy", "Overloaded"):
            raise error_of(job.error["kind"], job.error["message"])
        return None


def _result(told: Mapping[str, Any]) -> RegisterResult:
    """What an import changed: counts. Ids of so many labels are not kept, and pairs of near
    synonyms not looked for."""
    counts = {
        name: told.get(name, 0)
        for name in ("added_labels", "added_supports", "skipped_duplicates", "revision")
    }
    drift, cut = (tuple(told.get(name, ())) for name in ("drift", "cut_prompts"))
    elsewhere, out = (
        tuple(read(KnownImage, one) for one in told.get(name, ()))
        for name in ("elsewhere", "taken_out")
    )
    return RegisterResult(
        **counts,
        failures=(),
        near_synonyms=None,
        drift=drift,
        cut_prompts=cut,
        elsewhere=elsewhere,
        taken_out=out,
    )
