"""Verdicts as rows of a log, and which requests they answer: the HTTP service names these where one
call answers several."""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from trustvlm.types import Verdicts
from trustvlm.types.messages.stored_text import stored_text

NEAREST_NAME = "nearest_name"
"""Column of rows that are about to be stored: the name of the label of the nearest prototype, which
the catalog has the id of."""

MAX_TEXT = 4_000
"""Characters of a claimed name or the source of an image that a log keeps."""
_PLACEHOLDER = re.compile(r"<(?:bytes|image|array|file) [0-9]+>")
"""The name of an image that came without one, by its place in the call."""
_TEXTS = ("decision", "label", "reason_code", "node")
_CLAIMS = ("claimed", "claimed_probability", "claimed_id")


@dataclass(frozen=True)
class RequestPart:
    """One request, and its part of the queries of a call.

    Attributes:
        rows: number of its queries. request_id: None where there is no request.
        sources: the names of its images, as the caller gave them; None: it brought none.
        logged: False for an experiment, whose answers no log keeps.
    """

    rows: int
    request_id: str | None = None
    sources: Sequence[str | None] | None = None
    logged: bool = True


_REQUESTS: ContextVar[tuple[RequestPart, ...] | None] = ContextVar(
    "trustvlm_requests", default=None
)


def current_requests() -> tuple[RequestPart, ...] | None:
    """The requests whose queries the current call has, in their order; None: nothing names them."""
    return _REQUESTS.get()


@contextmanager
def for_requests(requests: Sequence[RequestPart]) -> Iterator[None]:
    """Name the requests of the call within the block."""
    token = _REQUESTS.set(tuple(requests))
    try:
        yield
    finally:
        _REQUESTS.reset(token)


@dataclass(frozen=True, eq=False)
class Batch:
    """The verdicts of one call on a space, to be logged.

    Attributes:
        requests: whose queries they are of, in their order. at: when they were answered.
        nearest: rows say how similar the nearest prototype is, and name its label.
    """

    space_id: int
    space: str
    verdicts: Verdicts
    requests: Sequence[RequestPart]
    nearest: bool = False
    at: datetime = field(default_factory=lambda: datetime.now(UTC))

    @property
    def rows(self) -> int:
        """How many rows the log gets."""
        return sum(one.rows for one in self.requests if one.logged)

    def pieces(self, most: int) -> Iterator[list[dict[str, Any]]]:
        """The rows, up to `most` at a time."""
        start = 0
        for request in self.requests:
            stop = start + request.rows
            if request.logged:
                for first in range(start, stop, most):
                    yield self._rows(first, min(first + most, stop), start, request)
            start = stop

    def _rows(
        self, start: int, stop: int, first: int, request: RequestPart
    ) -> list[dict[str, Any]]:
        """The rows start … stop of a request whose rows begin with `first`."""
        verdicts, part = self.verdicts, slice(start, stop)
        shared = {
            "at": self.at, "request_id": request.request_id, "rule": verdicts.rule,
            "revision": verdicts.revision, "calibration_id": verdicts.calibration_id,
            "claims_calibration_id": verdicts.claims_calibration_id,
        }  # fmt: skip
        columns = {name: getattr(verdicts, name)[part].tolist() for name in _TEXTS}
        columns["label_id"] = verdicts.label_id[part].tolist()
        columns["probability"] = verdicts.probability[part].tolist()
        for name in ("trust", "node_probability"):
            columns[name] = [_finite(one) for one in getattr(verdicts, name)[part].tolist()]
        columns |= self._claims(part, stop - start)
        columns |= self._nearest(part, stop - start)
        sources = request.sources
        columns["source"] = (
            [None] * (stop - start)
            if sources is None
            else [_source(sources[place - first]) for place in range(start, stop)]
        )
        names = tuple(columns)
        return [
            dict(zip(names, cells, strict=True)) | shared
            for cells in zip(*columns.values(), strict=True)
        ]

    def _nearest(self, part: slice, count: int) -> dict[str, list[Any]]:
        """The columns of the nearest prototype, with its label's name in place of the id."""
        if not self.nearest:
            return {"nearest_similarity": [None] * count, NEAREST_NAME: [None] * count}
        similarity = self.verdicts.nearest_similarity[part].tolist()
        return {
            "nearest_similarity": [_finite(one) for one in similarity],
            NEAREST_NAME: self.verdicts.nearest_prototype[part].tolist(),
        }

    def _claims(self, part: slice, count: int) -> dict[str, list[Any]]:
        """The columns of the claims; all None without claims."""
        verdicts = self.verdicts
        if verdicts.claimed is None or verdicts.claimed_id is None:
            return {name: [None] * count for name in _CLAIMS}
        probability = verdicts.claimed_probability
        return {
            "claimed": [_stored(name) for name in verdicts.claimed[part].tolist()],
            "claimed_probability": [None] * count if probability is None else probability[part]
            .tolist(),
            "claimed_id": [None if one < 0 else one for one in verdicts.claimed_id[part].tolist()],
        }  # fmt: skip


def _finite(value: float) -> float | None:
    return value if math.isfinite(value) else None


def _source(name: str | None) -> str | None:
    return None if name is None or _PLACEHOLDER.fullmatch(name) else _stored(name)


def _stored(text: str | None) -> str | None:
    return None if text is None else stored_text(text, MAX_TEXT)
