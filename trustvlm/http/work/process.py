"""One process of the service: the open home, and the threads that do the work."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from typing import Any

from fastapi import Request

from trustvlm.catalog.rows.likeness import not_found_text
from trustvlm.errors import NotFound, TrustVLMError
from trustvlm.http.guard.keyring import Keyring
from trustvlm.http.guard.logs import DROPPED
from trustvlm.http.guard.metrics import Meters
from trustvlm.http.guard.tracing import Spans
from trustvlm.http.options import ServeOptions
from trustvlm.http.wire.image_files import ImageFile
from trustvlm.http.wire.problems import kind_of
from trustvlm.http.work.batcher import Batcher
from trustvlm.http.work.batches import Part, divided, hashable, joined, parts_of, row_count, shaped
from trustvlm.http.work.collector import Collector
from trustvlm.http.work.job_queue import Jobs
from trustvlm.http.work.thread_lanes import Lane
from trustvlm.http.work.upkeep import Upkeep
from trustvlm.reading.claims import source_names
from trustvlm.service import TrustService
from trustvlm.service.home.verdict_log.logged import RequestPart, for_requests
from trustvlm.service.server.server_home import ServerHome
from trustvlm.service.server.workers import Worker
from trustvlm.system.stages import LISTENERS
from trustvlm.types import Embedded, Queries, Verdicts

log = logging.getLogger("trustvlm.http")


_CHOICES = ("rule", "params", "labels", "back_off")


class Serving:
    """One process's share of the service, from its start to its end."""

    def __init__(
        self,
        service: TrustService,
        home: ServerHome,
        options: ServeOptions,
        worker: Worker,
        meters: Meters,
        spans: Spans | None = None,
    ) -> None:
        self.service, self.home, self.options = service, home, options
        self.worker, self.meters, self.spans = worker, meters, spans
        self.keyring = Keyring(
            home, required=options.require_key, rate=options.rate, processes=options.processes
        )
        lane = partial(Lane, capacity=options.queue, deadline_s=options.deadline_s)
        self.checking, self.watching = lane("keys", 2), lane("watchers", 2)
        self.reading, self.writing = lane("reads", 8), lane("writes", 2)
        self.scorer = self._batcher("scorer", options.batch_rows)
        self.encoder = self._batcher("encoder", 64)
        self.collector = Collector(home)
        self._collecting: dict[tuple[str, bool, bool], bool] = {}
        self._queues = (
            self.collector,  # closed last: the others offer it what they scored
            *(self.scorer, self.encoder),
            *(self.reading, self.writing, self.checking, self.watching),
        )
        self.jobs = Jobs(home, worker, options.job_s)
        self.upkeep = Upkeep(home, worker)
        self.closing = self.closed = self.loaded = False
        self._existing_spaces: set[str] = set()
        self._look_ups: dict[str, asyncio.Future[Any]] = {}
        meters.watch(self._queues, home.space_states)
        home.watch_verdict_log(meters.logged)
        self._listeners = [meters.stage_ended, *([spans.stage_ended] if spans else [])]
        LISTENERS.extend(self._listeners)
        DROPPED.append(meters.log_lines_dropped.inc)
        self.reading.post(self._load_encoders)

    def _batcher(self, name: str, most_rows: int) -> Batcher:
        return Batcher(
            name,
            capacity=self.options.queue,
            most_rows=most_rows,
            deadline_s=self.options.deadline_s,
            observe=self.meters.batch(name),
            spans=self.spans,
        )

    def leave(self) -> None:
        """Begin to end: report not ready, begin no job, and interrupt the running one."""
        self.closing = True
        self.jobs.leave()

    def close(self) -> None:
        """Finish the accepted requests, but no jobs, then close the home. Does nothing the second
        time."""
        if self.closed:
            return
        self.closed = True
        self.leave()
        self.jobs.close()
        for queue in reversed(self._queues):
            queue.close()
        self.upkeep.close()
        for listener in self._listeners:
            LISTENERS.remove(listener)
        DROPPED.remove(self.meters.log_lines_dropped.inc)
        self.service.close()
        self.worker.close()
        if self.spans is not None:
            self.spans.close()

    async def require_space(self, space: str) -> None:
        """Refuse a request about a space that never existed before its body is read; one that was
        removed is noticed later. Requests that come meanwhile wait for the same look-up, so that a
        burst of them fills no queue. Raises NotFound."""
        if space in self._existing_spaces:
            return
        look_up = self._look_ups.get(space)
        if look_up is None:
            work = self.reading.run(lambda: self.home.get_label_space(space))
            look_up = self._look_ups[space] = asyncio.ensure_future(work)
            look_up.add_done_callback(lambda done: self._looked_up(space, done))
        await asyncio.shield(look_up)  # others may wait for it

    def _looked_up(self, space: str, look_up: asyncio.Future[Any]) -> None:
        del self._look_ups[space]
        if not look_up.cancelled() and look_up.exception() is None:
            self._existing_spaces.add(space)

    async def score(
        self,
        space: str,
        queries: Queries,
        options: dict[str, Any],
        *,
        review: bool | None = None,
        request_id: str | None = None,
        sources: Sequence[str | None] | None = None,
    ) -> Part:
        """The verdicts of embeddings, in one call with other waiting ones of the same options.

        The space's verdict log, if it has one, gets them with the id of the request and the names
        of its images, unless `review` is False, or there is no id. Rows have these names, too.

        With `review`, they are in the review queue when this returns. With None, where the space
        collects by itself, those of calls without claims or a choice of rule, parameters or labels
        follow soon after.
        """

        kind = (space, queries.classifier is None, queries.verifier is None)

        def rows_of(verdicts: Verdicts) -> list[dict[str, Any]]:
            self.meters.judged(space, verdicts)
            self._collecting[kind] = self.home.collects(space, queries)
            return verdicts.plain_rows(0, len(verdicts))

        logged = review is not False and request_id is not None
        origin = RequestPart(0, request_id, sources, logged)
        part = await self._ask_scorer(self.service.score, space, queries, options, rows_of, origin)
        for row, source in zip(part.rows, sources or (), strict=sources is not None):
            row["source"] = source
        if queries.claimed is not None:
            if review:  # a person is asked about the label that the space gives
                plain = replace(queries, claimed=None)
                await self.score(space, plain, options, review=True, sources=sources)
        elif review:
            rows = list(part.rows)
            await self.writing.run(lambda: self.home.collect(space, queries, rows))
        elif review is None and self._collects(kind, options):
            self.collector.offer(space, queries, [dict(row) for row in part.rows])
        return part

    def _collects(self, kind: tuple[str, bool, bool], options: dict[str, Any]) -> bool:
        """Whether queries of this kind, in a call with these options, go into the review queue."""
        chosen = any(options[name] is not None for name in _CHOICES)
        return self._collecting.get(kind, False) and not chosen

    async def search(self, space: str, queries: Queries, options: dict[str, Any]) -> Part:
        """The hits of embeddings, in one call with other waiting ones of the same options."""
        verb, origin = self.service.search, RequestPart(0)
        return await self._ask_scorer(verb, space, queries, options, lambda hits: [], origin)

    async def search_alone(self, find: Callable[[], Any]) -> Any:
        """The hits of a call that joins no others, found by the scorer's thread."""
        return await self.scorer.ask(object(), lambda _: [find()], None, 1)

    async def _ask_scorer(
        self,
        verb: Callable[..., Any],
        space: str,
        queries: Queries,
        options: dict[str, Any],
        rows_of: Callable[[Any], list[dict[str, Any]]],
        origin: RequestPart,
    ) -> Part:
        queries, dimensions, rows = shaped(queries)
        source_names(origin.sources, rows)
        origin = replace(origin, rows=rows)

        def run(batch: Sequence[tuple[Queries, RequestPart]]) -> list[Part]:
            with for_requests([request for _, request in batch]):
                answer = verb(space, joined([part for part, _ in batch]), **options)
            return parts_of(answer, [row_count(part) for part, _ in batch], rows_of(answer))

        key = (verb.__name__, space, dimensions, queries.claimed is None, hashable(options))
        part: Part = await self.scorer.ask(key, run, (queries, origin), rows)
        return part

    async def embed(
        self, space: str, images: Sequence[ImageFile], options: dict[str, Any]
    ) -> Embedded:
        """The embeddings of image files, in one call with other waiting ones of the same
        options."""

        def run(batch: Sequence[Sequence[ImageFile]]) -> list[Embedded]:
            files = [image for part in batch for image in part]
            embedded = self.service.embed(space, files, **options)
            return list(divided(embedded, [len(part) for part in batch]))

        key = ("embed", space, hashable(options))
        embedded: Embedded = await self.encoder.ask(key, run, images, len(images))
        return embedded

    async def encode(self, work: Callable[[], Any]) -> Any:
        """The result of `work`, which uses the encoders, done by their thread."""
        return await self.encoder.ask(object(), lambda _: [work()], None, 1)

    def encode_now(self, work: Callable[[], Any]) -> Any:
        """As :meth:`encode`, for a thread that may wait."""
        return self.encoder.ask_now(object(), lambda _: [work()], None, 1)

    def _load_encoders(self) -> None:
        """Open the encoders of every space before the first request. One that cannot be opened
        fails only the requests that need it, with the reason."""
        try:
            for space in self.service.list_spaces():
                extra = {"space": space.name}
                try:
                    self.encode_now(partial(self.home.load_encoders, space.name))
                    log.info("encoders are loaded", extra=extra)
                except TrustVLMError as error:
                    extra["error"] = kind_of(error)
                    log.warning("an encoder cannot be opened: %s", error, extra=extra)
        finally:
            self.loaded = True


async def refuse_unknown(
    serving: Serving, space: str, field: str, names: Sequence[str | None]
) -> None:
    """Refuse names that are no labels before any image is encoded and before a job is begun. Raises
    NotFound."""
    await serving.reading.run(partial(require_labels, serving, space, field, names))


def require_labels(serving: Serving, space: str, field: str, names: Sequence[str | None]) -> None:
    """Raises NotFound: one of the names is no label."""
    if missing := serving.service.unknown_labels(space, names):
        raise NotFound(f"{field}: {not_found_text(missing, space)}")


async def with_vectors(serving: Serving, space: str, queries: Queries) -> Queries:
    """Queries whose probabilities, if they have some, are embeddings, as the verbs take them too.
    Raises InvalidInput, NotFound: see :class:`trustvlm.Queries`."""
    if queries.probabilities is queries.log_probabilities is queries.outputs is None:
        return queries
    return await serving.reading.run(partial(serving.home.with_vectors, space, queries))


def serving_of(request: Request) -> Serving:
    """The serving of a request's application."""
    serving: Serving = request.app.state.serving
    return serving
