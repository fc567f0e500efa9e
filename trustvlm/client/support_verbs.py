"""The verbs that clean and extend the support images of a service elsewhere; part of the facade."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from types import EllipsisType
from typing import TYPE_CHECKING, Any

from trustvlm.client import measure
from trustvlm.client.codec import options_query, read
from trustvlm.client.connection import Connected
from trustvlm.client.jobs import Progress
from trustvlm.client.transport import json_body, path_of
from trustvlm.errors import InvalidInput
from trustvlm.reading.given import given_labelled
from trustvlm.reading.hold_out import HeldOut
from trustvlm.types import Queries
from trustvlm.types.arrays import id_list
from trustvlm.types.bounds import flags, whole
from trustvlm.types.support.audit import Audit, AuditRow, MovedSupports

if TYPE_CHECKING:
    from trustvlm.reading.sets.rows import LabelledImages
    from trustvlm.types.inputs import Images

__all__ = ["SupportVerbs"]

_PAGE = 1_000


class SupportVerbs(Connected):
    """Auditing and moving support images of a service elsewhere."""

    def audit(
        self,
        space: str,
        queries: Queries | Images | LabelledImages | None = None,
        truth: Sequence[str | None] | EllipsisType | None = ...,
        *,
        sources: Sequence[str | None] | None = None,
        limit: int | None = None,
        cursor: int | None = None,
        on_error: str = "raise",
        progress: Progress | None = None,
    ) -> Audit:
        """Which labelled images probably have a wrong label, and which label they look like; see
        :meth:`TrustService.audit`. Labelled images of the call are judged by a job; `progress` is
        called as for :meth:`evaluate`."""
        start = 0 if cursor is None else whole("cursor", cursor, bounds="revision")
        most = None if limit is None else whole("limit", limit)
        if queries is None:
            if truth not in (..., None) or sources is not None:
                raise InvalidInput("truth, sources: they belong to queries, and none were given")
            return self._pages(space, start, most)
        part = HeldOut(*given_labelled(queries, ... if truth is None else truth, sources))
        result = measure.measured(self._wire, "audit", space, part, on_error, [], progress)
        audit = read(Audit, result)
        stop = len(audit) if most is None else min(start + most, len(audit))
        following = stop if start < stop < len(audit) else None
        return replace(audit, rows=audit.rows[start:stop], next_cursor=following)

    def _pages(self, space: str, start: int, most: int | None) -> Audit:
        path, rows = path_of("spaces", space, "audit"), list[AuditRow]()
        cursor: int | None = start
        while True:
            left = _PAGE if most is None else min(_PAGE, most - len(rows))
            query = options_query([("limit", left), ("cursor", cursor)])
            page = read(
                Audit, self._wire.ask("GET", path_of("spaces", space, "audit"), query=query)
            )
            rows += page.rows
            cursor = page.next_cursor
            if cursor is None or len(rows) == most:
                return replace(page, rows=tuple(rows))

    def move_support(self, space: str, ids: Sequence[int], label: str) -> MovedSupports:
        """Give support images to another label; see :meth:`TrustService.move_support`."""
        return read(MovedSupports, self._of(space, "move-supports", ids, label=label))

    def keep_support(self, space: str, ids: Sequence[int], *, keep: bool = True) -> int:
        """Store that support images are right, or take that back; see
        :meth:`TrustService.keep_support`."""
        flags(keep=keep)
        return int(self._of(space, "keep-supports", ids, keep=bool(keep))["revision"])

    def _of(self, space: str, verb: str, ids: object, **further: Any) -> Any:
        content = {"ids": id_list(ids, "ids", "a list of support image ids"), **further}
        path = path_of("spaces", space, verb)
        return self._wire.ask("POST", path, body=json_body(content), write=True)
