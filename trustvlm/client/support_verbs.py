"""The verbs that clean and extend the support images of a service elsewhere; part of the facade."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from types import EllipsisType
from typing import TYPE_CHECKING, Any

from trustvlm.client import measure
from trustvlm.client.codec import npz_body, source_array
from trustvlm.client.connection import Connected
from trustvlm.client.images import stored_name
from trustvlm.client.measure import Progress, finished
from trustvlm.client.queries import EmbeddedQueries, embedded_queries
from trustvlm.client.transport import options_query, path_of, read
from trustvlm.errors import InvalidInput
from trustvlm.reading.claims import are_labelled_by_claims
from trustvlm.reading.given import given_labelled, given_queries, named_queries
from trustvlm.reading.hold_out import HeldOut
from trustvlm.types import Queries, SupportRow
from trustvlm.types.arrays import id_list, image_names
from trustvlm.types.attributes.filters import FilterLike, as_filter
from trustvlm.types.bounds import callbacks, flags, whole
from trustvlm.types.registration import RemovedSupports
from trustvlm.types.rows import SupportCount, SupportPage
from trustvlm.types.support.audit import Audit, MovedSupports
from trustvlm.types.support.proposals import Proposals, RemovedProposals

if TYPE_CHECKING:
    from trustvlm.reading.sets.rows import LabelledImages
    from trustvlm.types.inputs import Images

_IDS = 200


class SupportVerbs(Connected):
    """Listing, removing, auditing, moving and proposing support images of a service elsewhere."""

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
        callbacks(progress=progress)
        start = 0 if cursor is None else whole("cursor", cursor, bounds="revision")
        most = None if limit is None else whole("limit", limit)
        if queries is None:
            if truth not in (..., None) or sources is not None:
                raise InvalidInput("truth, sources: they belong to queries, and none were given")
            query: dict[str, Any] = {"cursor": start}
            pages = list(self._wire.pages(Audit, ("spaces", space, "audit"), "rows", most, **query))
            return replace(pages[-1], rows=tuple(row for page in pages for row in page.rows))
        if isinstance(queries, Queries) and are_labelled_by_claims(queries, truth):
            given, names = named_queries(queries, sources)
            part = HeldOut(given, [], names)
        else:
            part = HeldOut(*given_labelled(queries, ... if truth is None else truth, sources))
        result = measure.measured(self._wire, "audit", space, part, on_error, [], progress)
        audit = read(Audit, result)
        stop = len(audit) if most is None else min(start + most, len(audit))
        following = stop if start < stop < len(audit) else None
        return replace(audit, rows=audit.rows[start:stop], next_cursor=following)

    def propose(
        self,
        space: str,
        queries: Queries | Images | LabelledImages,
        *,
        accept: bool = False,
        review: bool = False,
        few: int = 4,
        sources: Sequence[str | None] | None = None,
        on_error: str = "raise",
        progress: Progress | None = None,
    ) -> Proposals:
        """Propose support images for labels that have none or few, from images without labels; see
        :meth:`TrustService.propose`. The service does it as a job; `progress` is called as for
        :meth:`evaluate`."""
        flags(accept=accept, review=review)
        callbacks(progress=progress)
        options: list[tuple[str, Any]] = [("accept", bool(accept)), ("review", bool(review))]
        options.append(("few", whole("few", few, bounds="k")))
        named, sources = named_queries(given_queries(queries), sources)
        embedded = embedded_queries(self._wire, space, named, on_error)
        arrays: dict[str, Any] = embedded.arrays | embedded.beside
        if (names := _names(embedded, sources)) is not None:
            arrays["sources"] = source_array(names)
        path = path_of("spaces", space, "propose")
        result = finished(self._wire, path, options_query(options), npz_body(arrays), progress)
        proposals = read(Proposals, result)
        if embedded.sources is None:
            return proposals
        rows = tuple(
            replace(one, place=embedded.places[one.place], source=embedded.sources[one.place])
            if sources is None
            else replace(one, place=embedded.places[one.place])
            for one in proposals.rows
        )
        return replace(proposals, rows=rows, notes=embedded.notes, failures=embedded.failures)

    def remove_proposed(self, space: str, *, label: str | None = None) -> RemovedProposals:
        """Remove the support images that were proposed; see
        :meth:`TrustService.remove_proposed`."""
        path = path_of("spaces", space, "proposed-supports")
        query = options_query([("label", label)])
        return read(RemovedProposals, self._wire.ask("DELETE", path, query=query, write=True))

    def list_supports(
        self,
        space: str,
        label: str | None = None,
        *,
        ids: Sequence[int] | None = None,
        filter: FilterLike | None = None,
        vectors: bool = False,
        after: int = 0,
        limit: int | None = None,
    ) -> list[SupportRow]:
        """Support images of a label, or of the whole space, in order of id; see
        :meth:`TrustService.list_supports`. Sends a request for every 1,000."""
        flags(vectors=vectors)
        if label is not None and not isinstance(label, str):
            raise InvalidInput(f"label: expected a string, got {type(label).__name__}")
        after = whole("after", after, bounds="revision")
        most = None if limit is None else whole("limit", limit)
        if ids is not None:
            if (label, filter, limit, after) != (None, None, None, 0):
                raise InvalidInput("ids: expected without label, filter, after and limit")
            return self._by_id(space, _ids(ids), vectors)
        query: dict[str, Any] = {"label": label, "vectors": vectors or None, "cursor": after}
        query["filter"] = None if filter is None else as_filter(filter).text
        path = ("spaces", space, "supports")
        pages = self._wire.pages(SupportPage, path, "supports", most, **query)
        return [row for page in pages for row in page.supports]

    def _by_id(self, space: str, ids: Sequence[int], vectors: bool) -> list[SupportRow]:
        distinct = list(dict.fromkeys(ids))
        rows = list[SupportRow]()
        for start in range(0, len(distinct), _IDS):
            some = ",".join(map(str, distinct[start : start + _IDS]))
            query = {"ids": some, "vectors": vectors or None}
            rows += self._wire.get(SupportPage, "spaces", space, "supports", **query).supports
        return rows

    def count_supports(
        self, space: str, label: str | None = None, *, filter: FilterLike | None = None
    ) -> int:
        """How many support images the space has, or a label, or a filter keeps of them. Raises
        NotFound, InvalidInput."""
        chosen = _choice(label, filter)
        return self._wire.find(SupportCount, "spaces", space, "count-supports", **chosen).supports

    def remove_supports(
        self, space: str, label: str | None = None, *, filter: FilterLike | None = None
    ) -> RemovedSupports:
        """Remove the support images of a label, or those that a filter keeps, or both; see
        :meth:`TrustService.remove_supports`."""
        if not (content := _choice(label, filter)):
            raise InvalidInput(
                "remove_supports: expected a label or a filter, or both; remove_support takes ids"
            )
        parts = ("spaces", space, "remove-supports")
        return self._wire.write(RemovedSupports, "POST", *parts, **content)

    def move_support(self, space: str, ids: Sequence[int], label: str) -> MovedSupports:
        """Give support images to another label; see :meth:`TrustService.move_support`."""
        parts, numbers = ("spaces", space, "move-supports"), _ids(ids)
        return self._wire.write(MovedSupports, "POST", *parts, ids=numbers, label=label)

    def keep_support(self, space: str, ids: Sequence[int], *, keep: bool = True) -> int:
        """Store that support images are right, or take that back; see
        :meth:`TrustService.keep_support`."""
        flags(keep=keep)
        return self._revision("POST", space, "keep-supports", ids=_ids(ids), keep=bool(keep))


def _ids(ids: object) -> list[int]:
    return id_list(ids, "ids", "a list of support image ids")


def _names(
    embedded: EmbeddedQueries, sources: Sequence[str | None] | None
) -> Sequence[str | None] | None:
    """The names of the queries that are sent: those that were given, else those of their image
    files."""
    if sources is None:
        return None if embedded.sources is None else list(map(stored_name, embedded.sources))
    names = image_names(sources, "sources")
    return names if embedded.sources is None else [names[place] for place in embedded.places]


def _choice(label: str | None, filter: FilterLike | None) -> dict[str, Any]:
    """The label and the filter of a request, as far as they are given."""
    chosen = {} if filter is None else {"filter": as_filter(filter).to_dict()}
    return chosen if label is None else chosen | {"label": label}
