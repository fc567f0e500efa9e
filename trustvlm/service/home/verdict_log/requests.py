"""Which requests a call answers: the HTTP service names them where one call answers several."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass


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
