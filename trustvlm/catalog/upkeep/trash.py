"""The trash of a space: removed labels and support images that can still be restored."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import Connection, select

from trustvlm.catalog.store import clock
from trustvlm.catalog.store.models import PURGING, Label, Support
from trustvlm.types.rows import RemovedRow


def removed_rows(
    connection: Connection, space_id: int, undo_window: timedelta, limit: int
) -> tuple[list[RemovedRow], bool]:
    """(the newest `limit` removed labels and as many support images of live labels, newest first;
    whether there are more)."""
    now = clock.now(connection)
    label_columns = (Label.id, Label.name, Label.support_count, Label.removed_at)
    # "+ 0": by the index of removed rows, which are few, not by one of the space's rows.
    labels = select(*label_columns).where(
        Label.space_id + 0 == space_id, Label.removed_at > PURGING
    )
    support_columns = (Support.id, Label.name, Support.source, Support.removed_at)
    supports = (
        select(*support_columns)
        .join(Label, Label.id == Support.label_id)
        .where(
            Support.space_id + 0 == space_id,
            Support.removed_at > PURGING,
            Label.removed_revision.is_(None),
        )
    )
    newest_labels = labels.order_by(Label.removed_at.desc()).limit(limit + 1)
    newest_supports = supports.order_by(Support.removed_at.desc()).limit(limit + 1)
    label_rows = connection.execute(newest_labels).all()
    support_rows = connection.execute(newest_supports).all()

    def times(removed_at: Any) -> tuple[datetime, float]:
        return removed_at, max((removed_at + undo_window - now).total_seconds(), 0.0)

    removed = [
        RemovedRow("label", number, name, None, images, *times(at))
        for number, name, images, at in label_rows[:limit]
    ]
    removed += [
        RemovedRow("support", number, name, source, 1, *times(at))
        for number, name, source, at in support_rows[:limit]
    ]
    more = len(label_rows) > limit or len(support_rows) > limit
    return sorted(removed, key=lambda row: row.removed_at, reverse=True), more
