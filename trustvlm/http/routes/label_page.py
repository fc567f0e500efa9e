"""A page of labels: which rows, in which order, and where the next page begins."""

from __future__ import annotations

import re
from dataclasses import dataclass

from trustvlm.errors import InvalidInput
from trustvlm.service.server.server_home import ServerHome
from trustvlm.types import LabelRow
from trustvlm.types.answers import LabelPage, PicturedLabelRow
from trustvlm.types.attributes.filters import Filter
from trustvlm.types.rows import LabelPredictions

CURSOR = "^after(-(id|images|errors|share))?:"
_CURSORS = {
    "name": ("after:", r".*"),
    "id": ("after-id:", r"\d{1,18}"),
    "images": ("after-images:", r"\d{1,18}-\d{1,18}"),
    "errors": ("after-errors:", r"\d{1,9}"),
    "share": ("after-share:", r"\d{1,9}"),
}
"""The beginning of the cursors of each order, and what follows: the last name of the page, its last
id, its last number of support images and id, or the number of labels so far."""

Rows = list[tuple[LabelRow, list[int]]]


@dataclass(frozen=True)
class PageRequest:
    """Which labels are to be listed, in which order, and with what of each."""

    cursor: str | None
    limit: int
    q: str | None
    match: str | None
    unverified: bool
    order: str
    thumbnails: int
    predictions: bool
    filter: str | None = None
    vectors: bool = False


def label_page(home: ServerHome, space: str, wanted: PageRequest) -> LabelPage:
    """A page of labels.

    Raises:
        NotFound: no such space. InvalidInput: a combination that is not served, or the cursor of
            another order.
    """
    _check(wanted)
    rows = _rows(home, space, wanted, _after(wanted))
    listed = [row for row, _ in rows[: wanted.limit]]
    more = len(rows) > wanted.limit
    next_cursor = _next_cursor(wanted, listed[-1]) if more else None
    if not wanted.thumbnails and not wanted.predictions:
        return LabelPage(tuple(listed), next_cursor)
    said, images = dict[int, LabelPredictions](), None
    if wanted.predictions:
        said, images = home.label_records.predictions(
            space, [row.id for row in listed if not row.alias_of]
        )
    pictured = (
        PicturedLabelRow(**vars(row), supports=tuple(ids), predictions=said.get(row.id))
        for row, ids in rows[: wanted.limit]
    )
    return LabelPage(tuple(pictured), next_cursor, images)


def _check(wanted: PageRequest) -> None:
    """Raises InvalidInput."""
    if wanted.match is not None and wanted.q is None:
        raise InvalidInput("match: says how the text of q is compared; it needs q")
    refused = [] if wanted.order == "name" else ["q", "unverified"]
    refused += ["thumbnails", "predictions"] if wanted.order == "id" else ["filter", "vectors"]
    if filtered := ", ".join(name for name in refused if getattr(wanted, name)):
        raise InvalidInput(
            f"order: {wanted.order} cannot be combined with {filtered}; "
            + (
                "it needs order=id"
                if wanted.filter or wanted.vectors
                else "omit order, or list all labels"
            )
        )


def _after(wanted: PageRequest) -> str | None:
    """What the cursor holds. Raises InvalidInput: a cursor of another order."""
    if wanted.cursor is None:
        return None
    start, pattern = _CURSORS[wanted.order]
    after = wanted.cursor.removeprefix(start)
    if after == wanted.cursor or not re.fullmatch(pattern, after, re.ASCII | re.DOTALL):
        raise InvalidInput(
            f"cursor: expected the next_cursor of an earlier page with order={wanted.order}, got "
            f"{wanted.cursor!r:.60}"
        )
    return after


def _rows(home: ServerHome, space: str, wanted: PageRequest, after: str | None) -> Rows:
    """The rows of the page, and one more where there is one."""
    limit, thumbnails = wanted.limit + 1, wanted.thumbnails
    if wanted.order == "id":
        begin = int(after or 0)
        if wanted.filter is None:
            listed = home.label_page_by_id(space, after=begin, limit=limit, vectors=wanted.vectors)
        else:
            chosen = Filter(wanted.filter)
            listed = home.label_records.filtered(
                space, chosen, after=begin, limit=limit, vectors=wanted.vectors
            )
        return [(row, []) for row in listed]
    if wanted.order == "images":
        last = None
        if after is not None:
            count, _, label_id = after.partition("-")
            last = int(count), int(label_id)
        return home.label_page_by_images(space, after=last, limit=limit, thumbnails=thumbnails)
    if wanted.order in ("errors", "share"):
        return home.label_records.ranked(
            space, wanted.order, start=int(after or 0), limit=limit, thumbnails=thumbnails
        )
    return home.label_page(
        space,
        after=after,
        limit=limit,
        unverified=wanted.unverified,
        thumbnails=thumbnails,
        **({} if wanted.q is None else {wanted.match or "contains": wanted.q}),
    )


def _next_cursor(wanted: PageRequest, last: LabelRow) -> str:
    """The cursor of the page behind the label `last`."""
    begun = int(_after(wanted) or 0) if wanted.order in ("errors", "share") else 0
    place = {
        "name": last.name,
        "id": str(last.id),
        "images": f"{last.support_count}-{last.id}",
    }.get(wanted.order, str(begun + wanted.limit))
    return f"{_CURSORS[wanted.order][0]}{place}"
