"""Outputs of an external classifier. A label keeps its output until a purge deletes it, so that
the label can be restored; outputs that no label ever had are taken first, since the embeddings of
stored images say nothing of these."""

from __future__ import annotations

from itertools import islice

from sqlalchemy import Connection, bindparam, select

from trustvlm.catalog.store.models import Label

_LIVE = select(Label.name, Label.output).where(
    Label.space_id == bindparam("space"),
    Label.output.is_not(None),
    Label.removed_revision.is_(None),
)
_TAKEN = select(Label.output).where(Label.space_id == bindparam("space"), Label.output.is_not(None))


def by_name(connection: Connection, space_id: int) -> dict[str, int]:
    """Name → output of the live labels of a space."""
    rows = connection.execute(_LIVE, {"space": space_id})
    return {row.name: row.output for row in rows}


def free(connection: Connection, space_id: int, count: int, most: int) -> list[int]:
    """Up to `count` outputs from 0 to `most` − 1 that no label of the space has, removed labels
    included."""
    taken = {int(one) for one in connection.scalars(_TAKEN, {"space": space_id}) if one is not None}
    after = max(taken, default=-1) + 1
    order = (output for output in [*range(after, most), *range(after)] if output not in taken)
    return list(islice(order, count))
