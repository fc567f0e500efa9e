"""Counts the labels and support images of a space: all of them in an index of nothing else, or only
what was added since an earlier count."""

from __future__ import annotations

import sys
from dataclasses import dataclass

from sqlalchemy import Connection, bindparam, func, select

from trustvlm.catalog.store.models import Label, Support

_MOST = 20_000
"""New labels up to this number are counted one by one instead of counting all again."""

_MOST_SUPPORTS = 1_000
"""Changed support images up to this number are counted one by one instead of counting all again."""


@dataclass(frozen=True)
class Counts:
    """Numbers of live labels, of their support images, and of labels without support images. An
    alias is a label but never unverified."""

    labels: int = 0
    supports: int = 0
    unverified: int = 0


@dataclass(frozen=True)
class SupportCount:
    """Bounds of the number of live support images of a space at a revision."""

    revision: int
    least: int
    most: int


_ALIVE = Label.removed_revision.is_(None)
_ALL = (
    select(Label.support_count, func.count())
    .where(Label.space_id == bindparam("space"), _ALIVE)
    .group_by(Label.support_count)
)
# "+ 0": by the index of aliases, which are few, not by one of the space's labels.
_ALIASES = select(func.count(Label.id)).where(
    Label.alias_of.is_not(None), Label.space_id + 0 == bindparam("space"), _ALIVE
)
_SINCE = (
    select(Label.created_revision, Label.removed_revision, Label.alias_of, Label.support_count)
    .where(Label.space_id == bindparam("space"), Label.revision > bindparam("since"))
    .limit(bindparam("most"))
)

_SUPPORTS_UP_TO = select(func.count()).select_from(
    select(Support.id)
    .where(Support.space_id == bindparam("space"), Support.removed_revision.is_(None))
    .limit(bindparam("most"))
    .subquery()
)
_SUPPORTS_SINCE = (
    select(Support.removed_revision)
    .where(Support.space_id == bindparam("space"), Support.revision > bindparam("since"))
    .limit(bindparam("most"))
)


def count(connection: Connection, space_id: int) -> Counts:
    """Count everything in a space from the index of support counts: 0.1 s for a million labels."""
    labels_with: dict[int, int] = {
        row[0]: row[1] for row in connection.execute(_ALL, {"space": space_id})
    }
    aliases: int = connection.scalar(_ALIASES, {"space": space_id}) or 0
    return Counts(
        sum(labels_with.values()),
        sum(supports * labels for supports, labels in labels_with.items()),
        labels_with.get(0, 0) - aliases,
    )


def grown(connection: Connection, space_id: int, before: Counts, since: int) -> Counts | None:
    """The counts now, when they were `before` at revision `since`; None where older labels have
    changed, or too many are new. Nothing that the space had then may be purged
    (:func:`trustvlm.catalog.upkeep.purge.lost_since`)."""
    rows = connection.execute(_SINCE, {"space": space_id, "since": since, "most": _MOST + 1}).all()
    if len(rows) > _MOST or any(row.created_revision <= since for row in rows):
        return None
    new = [row for row in rows if row.removed_revision is None]
    return Counts(
        before.labels + len(new),
        before.supports + sum(row.support_count for row in new),
        before.unverified + sum(row.support_count == 0 and row.alias_of is None for row in new),
    )


def count_supports(
    connection: Connection, space_id: int, revision: int, limit: int, before: SupportCount | None
) -> SupportCount:
    """Bound the number of live support images closely enough to tell whether it is above `limit`.

    Args:
        revision: that of the transaction.
        before: bounds at an earlier revision, to which the changes since are added; the space must
            not have been purged since. None: count, up to twice the limit.
    """
    if before is not None:
        values = {"space": space_id, "since": before.revision, "most": _MOST_SUPPORTS + 1}
        changed = connection.scalars(_SUPPORTS_SINCE, values).all()
        gone = sum(removed is not None for removed in changed)
        least, most = before.least - gone, before.most + len(changed) - gone
        if len(changed) <= _MOST_SUPPORTS and (least > limit or most <= limit):
            return SupportCount(revision, least, most)
    counted = connection.execute(
        _SUPPORTS_UP_TO, {"space": space_id, "most": 2 * limit}
    ).scalar_one()
    return SupportCount(revision, counted, counted if counted < 2 * limit else sys.maxsize)
