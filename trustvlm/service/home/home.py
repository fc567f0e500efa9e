"""What the verbs work with: the parts of an open service, wired by trustvlm.settings."""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path

from sqlalchemy import Connection

from trustvlm.catalog import Catalog
from trustvlm.catalog.rows import spaces
from trustvlm.catalog.rows.spaces import SpaceRecord
from trustvlm.encoders import Encoder, ImageLimits, open_encoder
from trustvlm.errors import Unavailable
from trustvlm.selective.vector_drift import Baseline
from trustvlm.service.home.counts import CountMemo
from trustvlm.service.home.limits import CallLimits
from trustvlm.service.memory.background_fit import BackgroundFit
from trustvlm.service.memory.cache_registry import CacheRegistry
from trustvlm.service.memory.space_cache import SpaceView

__all__ = ["EncoderPool", "Home"]


class EncoderPool:
    """Opens each encoder once per process; loading a model takes seconds."""

    def __init__(self, device: str, precision: str) -> None:
        self._device = device
        self._precision = precision
        self._open: dict[str, Encoder] = {}
        self._lock = threading.Lock()

    def open(self, spec: str) -> Encoder:
        """The encoder `spec`."""
        with self._lock:
            if spec not in self._open:
                self._open[spec] = open_encoder(
                    spec, device=self._device, precision=self._precision
                )
            return self._open[spec]


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
        calls: how much a call may ask for.
        undo_window: how long removed labels and support images can be restored.
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
    calls: CallLimits = field(default_factory=CallLimits)
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
        with self.catalog.read() as connection:
            return spaces.find(connection, name)

    @contextmanager
    def snapshot(
        self, space: str, revision: int | None = None
    ) -> Iterator[tuple[Connection, SpaceView]]:
        """A read transaction and the view of `space` at exactly that transaction's revision.

        Raises:
            Conflict: that is another one than `revision`, if given.

        The lock makes the order of transactions the order in which the cache moves, so it can never
        be ahead of the transaction that reads it.
        """
        with ExitStack() as stack:
            with self.caches.lock(space):
                connection = stack.enter_context(self.catalog.read())
                if revision is not None:
                    spaces.require_revision(connection, space, revision)
                view = self.caches.view(connection, self.catalog.epoch(connection), space)
            yield connection, view
