"""Scoring with the names of the queries, for the verdict log."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from trustvlm.service import TrustService
    from trustvlm.types import Queries, Verdicts


def score_named(
    service: TrustService,
    space: str,
    sources: Sequence[str],
    queries: Queries,
    options: Mapping[str, Any],
) -> Verdicts:
    """The verdicts of queries that have these names: a space that logs its answers logs the names,
    too, unless a service at --url answers."""
    from trustvlm.service.home.verdict_log.requests import RequestPart, for_requests

    with for_requests([RequestPart(len(sources), sources=sources)]):
        return service.score(space, queries, **options)
