"""The labels and support images that changed since a revision: each once, as it is now; once more
where only its attributes or its parent changed later."""

from __future__ import annotations

from typing import Any, NamedTuple

from sqlalchemy import ColumnElement, Connection, Select, and_, case, literal, null, or_, select
from sqlalchemy.orm import InstrumentedAttribute, aliased

from trustvlm.catalog.store.models import Change, Label, Support, TreeEdge
from trustvlm.catalog.store.side_models import LabelAttributes, RevisionRow, SupportAttributes
from trustvlm.types.rows import ChangeRow

Place = tuple[int, str, int]
"""Revision, kind ("label", then "support") and id of a change: changes come in this order."""

_OWNER = aliased(Label)


def page(
    connection: Connection, space_id: int, since: int, after: Place, limit: int
) -> list[ChangeRow]:
    """Up to `limit` of the changes since a revision that come after a place.

    What was purged is listed without a name.
    """
    kinds = ("label", "support")
    sources = (_labels(since), _supports(since), *map(_described, kinds), _placed())
    rows = list[Any]()
    for source in (*sources, *map(_purged, kinds)):
        rows += _after(connection, source, space_id, after, limit)
    # Attributes and parent of a label can have changed at one revision.
    places = {(row.revision, row.kind, row.id): row for row in rows}
    return [ChangeRow(**places[place]._mapping) for place in sorted(places)[:limit]]


class _Source(NamedTuple):
    """A table that changes are read from: its columns, and the kind of its rows."""

    kind: str
    query: Select[*tuple[Any, ...]]
    space_id: Any
    revision: Any
    row_id: Any


def _labels(since: int) -> _Source:
    change = _change(Label.removed_revision, Label.created_revision, since)
    query = select(
        literal("label").label("kind"), change, Label.id, Label.name.label("label"),
        Label.id.label("label_id"), Label.revision,
    )  # fmt: skip
    return _Source("label", query, Label.space_id, Label.revision, Label.id)


def _supports(since: int) -> _Source:
    change = _change(Support.removed_revision, Support.created_revision, since)
    query = select(
        literal("support").label("kind"), change, Support.id, _OWNER.name.label("label"),
        Support.label_id, Support.revision,
    ).join(_OWNER, _OWNER.id == Support.label_id)  # fmt: skip
    return _Source("support", query, Support.space_id, Support.revision, Support.id)


def _described(kind: str) -> _Source:
    """What has other attributes since it changed otherwise."""
    table: Any = LabelAttributes if kind == "label" else SupportAttributes
    model: Any = Label if kind == "label" else Support
    key = getattr(table, f"{kind}_id")
    label_id = Label.id if kind == "label" else Support.label_id
    query = select(
        literal(kind).label("kind"), literal("changed").label("change"), key.label("id"),
        _OWNER.name.label("label"), label_id.label("label_id"), table.revision,
    )  # fmt: skip
    query = query.join(model, model.id == key).join(_OWNER, _OWNER.id == label_id)
    query = query.where(model.removed_revision.is_(None), table.revision > model.revision)
    return _Source(kind, query, table.space_id, table.revision, key)


def _placed() -> _Source:
    """Labels that stand under another node, or under none, since they changed otherwise."""
    query = (
        select(
            literal("label").label("kind"), literal("changed").label("change"), Label.id,
            Label.name.label("label"), Label.id.label("label_id"), TreeEdge.revision,
        )
        .join(Label, and_(Label.space_id == TreeEdge.space_id, Label.name == TreeEdge.child))
        .where(Label.removed_revision.is_(None), TreeEdge.revision > Label.revision)
    )  # fmt: skip
    return _Source("label", query, TreeEdge.space_id, TreeEdge.revision, Label.id)


def _purged(kind: str) -> _Source:
    query = select(
        Change.kind, literal("purged").label("change"), Change.row_id.label("id"),
        null().label("label"), Change.label_id, Change.revision,
    ).where(Change.kind == kind)  # fmt: skip
    return _Source(kind, query, Change.space_id, Change.revision, Change.row_id)


def _change(
    removed: InstrumentedAttribute[int | None], created: InstrumentedAttribute[int], since: int
) -> ColumnElement[str]:
    """What became of a row since a revision."""
    fresh = (created > since, literal("added"))
    gone = (removed.is_not(None), literal("removed"))
    return case(gone, fresh, else_=literal("changed")).label("change")


def _after(
    connection: Connection, source: _Source, space_id: int, after: Place, limit: int
) -> list[Any]:
    """Up to `limit` rows of a table after a place, with when and by whom their revision was
    made."""
    revision, kind, row_id = after
    within = source.revision > revision
    if source.kind == kind:
        within = or_(within, and_(source.revision == revision, source.row_id > row_id))
    elif source.kind > kind:
        within = source.revision >= revision
    made = and_(RevisionRow.space_id == source.space_id, RevisionRow.revision == source.revision)
    query = (
        source.query.add_columns(RevisionRow.at, RevisionRow.author, RevisionRow.action)
        .outerjoin(RevisionRow, made)
        .where(source.space_id == space_id, source.revision >= revision, within)
        .order_by(source.revision, source.row_id)
        .limit(limit)
    )
    return list(connection.execute(query))
