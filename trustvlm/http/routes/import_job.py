"""One import: labels on their way into the space, in committed chunks, and the job that says how
far it is."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import asdict
from typing import Any

from starlette.requests import ClientDisconnect

from trustvlm.catalog.server.jobs import JobRecord
from trustvlm.errors import Conflict
from trustvlm.http.wire.problems import kind_of
from trustvlm.http.work.process import Serving
from trustvlm.types import LabelInput

__all__ = ["Import"]

MOST_TOLD = 10  # sentences or names that are kept
_TOLD = ("drift", "cut_prompts")
_KNOWN = ("elsewhere", "taken_out")  # images, of which as many are kept
_COUNTED = ("added_labels", "added_supports", "skipped_duplicates")


class Import:
    """One stream of labels on its way into the space; the job's `done` counts labels that are
    committed."""

    def __init__(self, serving: Serving, space: str, record: JobRecord) -> None:
        self.serving, self.space, self.id = serving, space, record.id
        self.done = record.done
        nothing: dict[str, Any] = (
            dict.fromkeys(_COUNTED, 0) | {"revision": 0} | {name: [] for name in (*_TOLD, *_KNOWN)}
        )
        self.tally = nothing | (record.content or {})

    async def follow(self, chunks: AsyncIterator[list[LabelInput]]) -> None:
        """Commit one chunk after the other; the next one is read after that."""
        async for inputs in chunks:
            await self.commit(inputs)
        ended = {"state": "done", "phase": "done", "total": self.done, "content": self.tally}
        await self.serving.writing.run(lambda: self.serving.home.change_job(self.id, **ended))

    async def commit(self, inputs: list[LabelInput]) -> None:
        """Register these labels."""
        service, home = self.serving.service, self.serving.home

        def work() -> bool:
            result = service.register(self.space, inputs)
            for name in _COUNTED:
                self.tally[name] += getattr(result, name)
            self.tally["revision"] = result.revision
            for name in _TOLD:
                self.tally[name] = [
                    *dict.fromkeys([*self.tally.get(name, ()), *getattr(result, name)])
                ][:MOST_TOLD]
            for name in _KNOWN:
                images = (asdict(image) for image in getattr(result, name))
                self.tally[name] = [*self.tally.get(name, ()), *images][:MOST_TOLD]
            self.done += len(inputs)
            return home.change_job(self.id, phase="importing", done=self.done, content=self.tally)

        encoders = any(one.text_vector is None for one in inputs)
        going = await (self.serving.encode(work) if encoders else self.serving.writing.run(work))
        if not going:
            await self.serving.writing.run(lambda: home.change_job(self.id, state="cancelled"))
            raise Conflict(f"the import {self.id} was cancelled after {self.done} labels")

    async def interrupted(self, error: BaseException) -> None:
        """Say in the job how it ended; a broken stream is no failure, and can go on."""
        state: dict[str, Any] = {"state": "interrupted"}
        if isinstance(error, ClientDisconnect) or not isinstance(
            error, Exception
        ):  # nobody waits for an answer
            self.serving.writing.post(lambda: self.serving.home.change_job(self.id, **state))
            return
        state["error"] = {"kind": kind_of(error), "message": str(error)}
        await self.serving.writing.run(lambda: self.serving.home.change_job(self.id, **state))
