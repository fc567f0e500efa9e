"""Hands the verdicts of a call to the log of its space."""

from __future__ import annotations

from trustvlm.catalog.rows.spaces import SpaceRecord
from trustvlm.service.home.verdict_log.requests import RequestPart, current_requests
from trustvlm.service.home.verdict_log.writer import VerdictWriter
from trustvlm.types import Verdicts


def keep(
    writer: VerdictWriter, space: SpaceRecord, verdicts: Verdicts, *, all_labels: bool
) -> None:
    """Log the verdicts soon, if the space's log is on; of those among all labels also how similar
    the nearest prototype is."""
    if not len(verdicts) or not (space.verdict_log or {}).get("logging"):
        return
    requests = current_requests()
    if requests is None:
        sources = None if verdicts.source is None else verdicts.source.tolist()
        requests = (RequestPart(len(verdicts), sources=sources),)
    writer.offer(space, verdicts, requests, nearest=all_labels and not verdicts.approximate)
