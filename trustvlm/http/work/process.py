"""What the routes work with: the open home, and who does the work."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from fastapi import Request

from trustvlm.catalog.rows.likeness import told
from trustvlm.errors import InvalidInput, NotFound, TrustVLMError
from trustvlm.http.guard.keyring import Keyring
from trustvlm.http.guard.logs import DROPPED
from trustvlm.http.guard.metrics import Meters
from trustvlm.http.options import ServeOptions
from trustvlm.http.wire.bodies import ImageFile
from trustvlm.http.wire.problems import kind_of
from trustvlm.http.work.batcher import Batcher
from trustvlm.http.work.jobs import Jobs
from trustvlm.http.work.thread_lanes import Lane
from trustvlm.service import TrustService
from trustvlm.service.inputs.encode import told_remarks
from trustvlm.service.server.server_home import ServerHome
from trustvlm.service.server.workers import Worker
from trustvlm.system.timing import LISTENERS
from trustvlm.types import Embedded, Hits, Queries, Verdicts

__all__ = ["Part", "ScoreKey", "SearchKey", "Serving", "refuse_unknown", "serving_of", "shaped"]

log = logging.getLogger("trustvlm.http")


@dataclass(frozen=True)
class ScoreKey:
    """Which score calls can be one."""

    space: str
    rule: str | None
    params: tuple[tuple[str, float | None], ...] | None
    top_k: int
    labels: tuple[str, ...] | None
    revision: int | None
    shape: tuple[int | None, int | None]


@dataclass(frozen=True)
class SearchKey:
    """Which search calls can be one."""

    space: str
    kind: str
    k: int
    revision: int | None
    shape: tuple[int | None, int | None]


@dataclass(frozen=True, eq=False)
class Part:
    """A call's share of a batch: the rows start … stop."""

    whole: Any
    start: int
    stop: int


class Serving:
    """One process's share of the service: made when it starts, closed when it ends."""

    def __init__(
        self,
        service: TrustService,
        home: ServerHome,
        options: ServeOptions,
        worker: Worker,
        meters: Meters,
    ) -> None:
        self.service, self.home, self.options = service, home, options
        self.worker, self.meters = worker, meters
        self.keyring = Keyring(
            home, required=options.require_key, rate=options.rate, workers=options.workers
        )
        waiting, deadline = options.queue, options.deadline_s
        self.checking = Lane("keys", 2, waiting, deadline)
        self.reading = Lane("reads", 8, waiting, deadline)
        self.writing = Lane("writes", 2, waiting, deadline)
        self.watching = Lane("watchers", 2, waiting, deadline)
        batching: dict[str, Any] = {"capacity": waiting, "deadline_s": deadline}
        self.scorer = Batcher(
            "scorer",
            self._scored,
            most_rows=options.batch_rows,
            observe=meters.batch("scorer"),
            **batching,
        )
        self.encoder = Batcher(
            "encoder", self._encoded, most_rows=64, observe=meters.batch("encoder"), **batching
        )
        self.jobs = Jobs(home, worker, options.job_s)
        self.closing = False
        self.loaded = False
        self._known: set[str] = set()
        self._queues = (
            self.scorer,
            self.encoder,
            self.reading,
            self.writing,
            self.checking,
            self.watching,
        )
        meters.watch(self._queues, home.space_states)
        LISTENERS.append(meters.stage_ended)
        DROPPED.append(meters.log_lines_dropped.inc)
        self.reading.post(self._load)

    def leave(self) -> None:
        """The process was asked to end: say so, begin no job any more, and interrupt the one under
        way."""
        self.closing = True
        self.jobs.leave()

    def close(self) -> None:
        """Finish what was accepted, except for jobs, then let go of the home."""
        self.leave()
        self.jobs.close()
        for queue in reversed(self._queues):
            queue.close()
        LISTENERS.remove(self.meters.stage_ended)
        DROPPED.remove(self.meters.log_lines_dropped.inc)
        self.service.close()
        self.worker.close()

    async def require_space(self, space: str) -> None:
        """Refuse what is asked of a space that never was, before it is read; one that was removed
        is noticed later.

        Raises:
            NotFound: there is none.
        """
        if space not in self._known:
            await self.reading.run(lambda: self.home.get_label_space(space))
            self._known.add(space)

    async def score(self, key: ScoreKey, queries: Queries, rows: int) -> Part:
        """The verdicts of embeddings, in one call with whatever else waits."""
        found: Part = await self.scorer.ask(key, queries, rows)
        return found

    async def search(self, key: SearchKey, queries: Queries, rows: int) -> Part:
        """The hits of embeddings, likewise."""
        found: Part = await self.scorer.ask(key, queries, rows)
        return found

    async def embed(
        self,
        space: str,
        images: Sequence[ImageFile],
        image_range: Sequence[float] | None = None,
        accept_truncated: bool = False,
    ) -> Embedded:
        """The embeddings of image files, in one call with other waiting images that are read with
        the same options."""
        key = (
            "images",
            space,
            None if image_range is None else tuple(image_range),
            accept_truncated,
        )
        found: Embedded = await self.encoder.ask(key, list(images), len(images))
        return found

    async def encode(self, work: Callable[[], Any]) -> Any:
        """What `work`, which uses the encoders, returns; done by their owner."""
        return await self.encoder.ask(object(), work, 1)

    def encode_now(self, work: Callable[[], Any]) -> Any:
        """The same for a thread that may wait."""
        return self.encoder.ask_now(object(), work, 1)

    def _load(self) -> None:
        """Open the encoders of every space, so that the first request finds them there. One that
        cannot be opened spoils only the requests that need it, which are told why."""
        try:
            for space in self.service.list_spaces():
                try:
                    self.encode_now(lambda name=space.name: self.home.load_encoders(name))  # type: ignore[misc]
                    log.info("encoders are loaded", extra={"space": space.name})
                except TrustVLMError as error:
                    log.warning(
                        "an encoder cannot be opened: %s",
                        error,
                        extra={"space": space.name, "error": kind_of(error)},
                    )
        finally:
            self.loaded = True

    def _scored(self, key: ScoreKey | SearchKey, payloads: Sequence[Queries]) -> list[Part]:
        queries = payloads[0] if len(payloads) == 1 else _joined(payloads)
        whole: Verdicts | Hits
        if isinstance(key, ScoreKey):
            labels = None if key.labels is None else list(key.labels)
            params = None if key.params is None else dict(key.params)
            options: dict[str, Any] = {"labels": labels, "params": params, "revision": key.revision}
            whole = self.service.score(
                key.space, queries, rule=key.rule, top_k=key.top_k, **options
            )
        else:
            whole = self.service.search(
                key.space, queries, kind=key.kind, k=key.k, revision=key.revision
            )
        if len(payloads) == 1:
            return [Part(whole, 0, len(whole))]
        ends = np.cumsum([rows_of(payload) for payload in payloads]).tolist()
        return [Part(whole, start, stop) for start, stop in zip([0, *ends[:-1]], ends, strict=True)]

    def _encoded(self, key: Any, payloads: Sequence[Any]) -> list[Any]:
        if not isinstance(key, tuple):
            return [work() for work in payloads]
        _, space, image_range, accept_truncated = key
        how: dict[str, Any] = {"image_range": image_range, "accept_truncated": accept_truncated}
        found = self.service.embed(space, [image for images in payloads for image in images], **how)
        return list(_split(found, [len(images) for images in payloads]))


async def refuse_unknown(
    serving: Serving, space: str, what: str, names: Sequence[str | None]
) -> None:
    """Refuse names that are no labels before any image is encoded and before a job is begun. Raises
    NotFound."""
    if missing := await serving.reading.run(lambda: serving.service.unknown_labels(space, names)):
        raise NotFound(f"{what}: {told(missing, space)}")


def rows_of(queries: Queries) -> int:
    """How many queries there are."""
    given = queries.classifier if queries.classifier is not None else queries.verifier
    return len(given) if given is not None else 0  # type: ignore[arg-type]


def shaped(queries: Queries) -> tuple[Queries, tuple[int | None, int | None], int]:
    """(queries as matrices, their dimensions, their number): only what fits together is put
    together.

    Raises:
        InvalidInput: not matrices of numbers, or of different lengths.
    """
    found: dict[str, Any] = {}
    for name in ("classifier", "verifier"):
        given = getattr(queries, name)
        if given is None:
            continue
        try:
            rows = np.asarray(given, dtype=np.float64)
        except (TypeError, ValueError) as error:
            raise InvalidInput(f"{name}: expected rows of the same number of values") from error
        if rows.ndim != 2 and rows.shape != (0,):
            raise InvalidInput(f"{name}: expected (n, d) embeddings, got shape {rows.shape}")
        found[name] = rows
    if len({len(rows) for rows in found.values()}) > 1:
        raise InvalidInput(
            f"classifier and verifier: got {len(found['classifier'])} and "
            f"{len(found['verifier'])} embeddings"
        )
    shape = tuple(
        found[name].shape[-1] if name in found else None for name in ("classifier", "verifier")
    )
    queries = Queries(found.get("classifier"), found.get("verifier"))
    return queries, (shape[0], shape[1]), rows_of(queries)


def _joined(parts: Sequence[Queries]) -> Queries:
    def column(name: str) -> Any:
        return (
            None
            if getattr(parts[0], name) is None
            else np.concatenate([getattr(part, name) for part in parts])
        )

    return Queries(column("classifier"), column("verifier"))


def _split(found: Embedded, sizes: Sequence[int]) -> Iterator[Embedded]:
    """The share of each of several requests whose images were embedded together."""
    places, failed, start = np.array(found.places, np.int64), np.array(found.failed, np.int64), 0
    for size in sizes:
        good = np.flatnonzero((places >= start) & (places < start + size))
        bad = np.flatnonzero((failed >= start) & (failed < start + size))
        sides = [getattr(found.queries, name) for name in ("classifier", "verifier")]
        classifier, verifier = (None if rows is None else np.asarray(rows)[good] for rows in sides)
        queries = Queries(classifier, verifier)
        sources = [found.sources[i] for i in good.tolist()]
        yield Embedded(
            queries,
            sources,
            [found.failures[i] for i in bad.tolist()],
            tuple((places[good] - start).tolist()),
            tuple((failed[bad] - start).tolist()),
            *told_remarks(sources, [found.remarks[i] for i in good.tolist()]),
        )
        start += size


def serving_of(request: Request) -> Serving:
    """The serving that a request's application works with."""
    found: Serving = request.app.state.serving
    return found
