"""What the verbs work with: the parts of an open service, wired by trustvlm.settings."""

from __future__ import annotations

import fcntl
import os
import threading
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field
from datetime import timedelta
from itertools import islice
from pathlib import Path
from typing import TypeVar

from sqlalchemy import Connection

from trustvlm.catalog.catalog import Catalog, Changed
from trustvlm.catalog.rows import spaces
from trustvlm.catalog.rows.spaces import SpaceRecord
from trustvlm.catalog.store.location import ServerLocation
from trustvlm.encoders.base import Encoder
from trustvlm.encoders.open import open_encoder
from trustvlm.encoders.specs.parse import parse_spec
from trustvlm.errors import InvalidInput, Unavailable
from trustvlm.reading.image_files import ImageLimits
from trustvlm.selective.vector_drift import Baseline
from trustvlm.service.home.counts import CountMemo
from trustvlm.service.home.originals_place import OriginalsPlace
from trustvlm.service.home.pictures import RecentPictures
from trustvlm.service.home.verdict_log.writer import VerdictWriter
from trustvlm.service.memory.background_fit import BackgroundFit
from trustvlm.service.memory.cache_registry import CacheRegistry
from trustvlm.service.memory.space_cache import Reading
from trustvlm.types.thresholds import Thresholds

T = TypeVar("T")


class EncoderPool:
    """Opens each encoder once per process; loading a model takes seconds. Two can be opened at the
    same time.

    Args:
        identities: where the identities of weights are remembered, see :func:`open_encoder`.
    """

    def __init__(self, device: str, precision: str, identities: Path | None) -> None:
        self._device = device
        self._precision = precision
        self._identities = identities
        self._open: dict[str, Encoder] = {}
        self._locks: dict[str, threading.Lock] = {}

    def open(self, spec: str) -> Encoder:
        """The encoder `spec`; it may be a name that stands for one."""
        spec = parse_spec(spec).text
        with self._locks.setdefault(spec, threading.Lock()):
            if spec not in self._open:
                self._open[spec] = open_encoder(
                    spec,
                    device=self._device,
                    precision=self._precision,
                    identities=self._identities,
                )
            return self._open[spec]


@dataclass(frozen=True)
class CallLimits:
    """What one call may hold at most; each is a setting of :class:`trustvlm.settings.Settings`.

    Attributes:
        labels: of a register call. supports: support images that come as vectors, of a register
            call.
        images: of any call. queries: vectors or texts that are scored or searched.
    """

    labels: int = 5_000_000
    supports: int = 20_000_000
    images: int = 1_000_000
    queries: int = 1_000_000

    def check(self, kind: str, number: int, what: str) -> None:
        """Make sure that a call has no more than `number` of a kind ("labels", "images" …).

        Raises:
            InvalidInput: it has.
        """
        if number > getattr(self, kind):
            raise too_many(kind, getattr(self, kind), f"got {number:,}", what)


@dataclass(frozen=True)
class ReviewLimits:
    """How much the review queue of a space holds; settings, too.

    Attributes:
        items: images that may wait. share: of all scored images that are drawn at random.
    """

    items: int = 10_000
    share: float = 0.02


def at_most(items: Iterable[T], limits: CallLimits, kind: str, what: str) -> list[T]:
    """`items` as a list; an iterator that does not end is left behind the limit.

    Raises:
        InvalidInput: there are more.
    """
    limit: int = getattr(limits, kind)
    taken = list(islice(items, limit + 1))
    if len(taken) > limit:
        raise too_many(kind, limit, "got more", what)
    return taken


def too_many(kind: str, limit: int, got: str, what: str) -> InvalidInput:
    """The error of a call that asks for too much."""
    return InvalidInput(
        f"{what}: expected at most {limit:,} {kind} in one call (setting max_{kind}), "
        f"{got}; make several calls"
    )


@dataclass(frozen=True)
class Home:
    """The parts of an open service.

    Attributes:
        folder: the home directory.
        catalog: the truth. caches: what is derived from it, in this process.
        background_fit: refits spaces in the background.
        encoders: the open models.
        batch_size, workers: how images are loaded (workers None: chosen by their number). limits:
            what images may be.
        calls: how much a call may ask for. review: how much waits for review.
        pictures: of the images that were encoded last.
        undo_window: how long removed labels and support images can be restored.
        thresholds: sizes at which work on a space changes its way.
        observation_thumbnails: images whose true label is stored keep a small picture.
        originals: where original images are kept.
        verdict_writer: stores the answers of spaces that log them.
        checked: of each encoder spec, the (identity, golden embedding) that it was compared with in
            this process.
        counts: how many labels and support images spaces have.
        baselines: what the stored vectors of (space id, side, encoder identity) look like, of
            spaces with many.
    """

    folder: Path
    catalog: Catalog
    caches: CacheRegistry
    background_fit: BackgroundFit
    encoders: EncoderPool
    batch_size: int
    workers: int | None
    limits: ImageLimits
    undo_window: timedelta
    originals: OriginalsPlace
    verdict_writer: VerdictWriter
    thresholds: Thresholds = field(default_factory=Thresholds)
    observation_thumbnails: bool = True
    calls: CallLimits = field(default_factory=CallLimits)
    review: ReviewLimits = field(default_factory=ReviewLimits)
    pictures: RecentPictures = field(default_factory=RecentPictures)
    checked: dict[str, set[tuple[str, bytes | None]]] = field(default_factory=dict)
    baselines: dict[tuple[int, str, str], Baseline] = field(default_factory=dict)
    counts: CountMemo = field(default_factory=CountMemo)
    process: int = field(default_factory=os.getpid)
    closed: threading.Event = field(default_factory=threading.Event)

    def check_open(self) -> None:
        """Make sure that the service is usable here.

        Raises:
            Unavailable: it was closed, or this process is a fork of the one that opened it.
        """
        if self.closed.is_set():
            raise Unavailable("this service is closed; open it again with trustvlm.open")
        if os.getpid() != self.process:
            raise Unavailable(
                "this service was opened before a fork; open it again in the child with "
                "trustvlm.open"
            )

    def space(self, name: str) -> SpaceRecord:
        """The space's row as it is now."""
        if (kept := self.caches.kept(name)) is not None:
            return kept.view.space
        with self.catalog.read() as connection:
            return spaces.find(connection, name)

    @contextmanager
    def read(self, space: str) -> Iterator[tuple[Connection, SpaceRecord]]:
        """A read transaction, and the row of a space in it. Raises NotFound."""
        with self.catalog.read() as connection:
            yield connection, spaces.find(connection, space)

    @contextmanager
    def write(self, what: str, space: str) -> Iterator[tuple[Connection, SpaceRecord]]:
        """A write transaction that makes a change of the kind `what`, and the row of a space in it.
        Raises NotFound."""
        with self.catalog.write(what) as connection:
            yield connection, spaces.find(connection, space)

    def answer(self, space: str, call: Callable[[Reading], T], revision: int | None = None) -> T:
        """What `call` makes of `space` as it is now.

        While nothing was committed since the last call on the space, it is given what that one
        left in memory, and a transaction only if it asks for one. If something is committed before
        it does, `call` is made a second time: it changes nothing but what it returns.

        Raises:
            Conflict: the space is at another revision than `revision`, if given.
        """
        kept = self.caches.kept(space)
        if kept is not None and revision in (None, kept.view.revision):
            with suppress(Changed), ExitStack() as stack:
                catalog, version = self.catalog, kept.version
                return call(Reading(kept, lambda: stack.enter_context(catalog.read_at(version))))
        with self.snapshot(space, revision) as reading:
            return call(reading)

    @contextmanager
    def snapshot(self, space: str, revision: int | None = None) -> Iterator[Reading]:
        """A read transaction, with the view of `space` at exactly that transaction's revision.

        Raises:
            Conflict: that is another one than `revision`, if given.

        The lock makes the order of transactions the order in which the cache moves, so it can never
        be ahead of the transaction that reads it.
        """
        with ExitStack() as stack:
            with self.caches.lock(space):
                # Before the transaction begins: what is committed in between makes the state one
                # that is not kept for long, but never one that is kept for too long.
                version = self.catalog.version()
                connection = stack.enter_context(self.catalog.read())
                if revision is not None:
                    spaces.require_revision(connection, space, revision)
                epoch = self.catalog.epoch(connection)
                state = self.caches.state(connection, epoch, space, version)
            yield Reading(state, lambda: connection)


@contextmanager
def only_one(home: Home, work: str) -> Iterator[bool]:
    """Whether no other process or thread does `work`, within the block: by a lock on the server
    that holds the catalog, or on the file "`work`.lock" in the home; it ends with the process.
    Waits for nothing."""
    location = home.catalog.location
    if isinstance(location, ServerLocation):
        from trustvlm.catalog.server.presence import alone  # needs the server's driver

        with alone(location, work) as is_alone:
            yield is_alone
        return
    with (home.folder / f"{work}.lock").open("ab") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            is_alone = True
        except BlockingIOError:
            is_alone = False
        yield is_alone
