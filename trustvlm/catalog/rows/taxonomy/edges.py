"""The edges of a space's taxonomy: label or node → the node that it stands under, by name."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping

from sqlalchemy import ColumnElement, Connection, func, or_, select, update

from trustvlm.catalog.store.bulk import delete_among, insert_rows, rows_among
from trustvlm.catalog.store.models import TreeEdge

Edge = tuple[str, str | None]
"""(child, parent); without a parent, it stood under one before."""

_ROWS = 10_000


def parents_of(connection: Connection, space_id: int, names: Collection[str]) -> dict[str, str]:
    """Name → its parent, of those of `names` that have one."""
    query = select(TreeEdge.child, TreeEdge.parent).where(*_live(space_id))
    return {
        row.child: row.parent for row in rows_among(connection, query, TreeEdge.child, [*names])
    }


def nodes_among(connection: Connection, space_id: int, names: Collection[str]) -> set[str]:
    """Those of `names` that stand in the tree: under a node, or above something."""
    above = select(TreeEdge.parent).where(*_live(space_id)).distinct()
    rows = rows_among(connection, above, TreeEdge.parent, [*names])
    return {row.parent for row in rows} | parents_of(connection, space_id, names).keys()


def children(connection: Connection, space_id: int, name: str) -> list[str]:
    """What stands directly under a node, by name."""
    query = select(TreeEdge.child).where(*_live(space_id), TreeEdge.parent == name)
    return list(connection.scalars(query.order_by(TreeEdge.child)))


def edges(connection: Connection, space_id: int) -> Iterator[tuple[str, str]]:
    """(child, parent) of every edge, by child."""
    query = select(TreeEdge.child, TreeEdge.parent).where(*_live(space_id))
    rows = connection.execute(query.order_by(TreeEdge.child).execution_options(yield_per=_ROWS))
    for row in rows:
        yield row.child, row.parent


def latest(connection: Connection, space_id: int) -> int:
    """The last revision that changed the tree; 0: there never was one."""
    query = select(func.max(TreeEdge.revision)).where(TreeEdge.space_id == space_id)
    return connection.scalar(query) or 0


def revisions_beyond(connection: Connection, space_id: int, revision: int) -> list[tuple[str, int]]:
    """(child, revision) of the edges of revisions that a space at `revision` cannot have."""
    outside = or_(TreeEdge.revision > revision, TreeEdge.revision < 1)
    query = select(TreeEdge.child, TreeEdge.revision).where(TreeEdge.space_id == space_id, outside)
    return [(row.child, row.revision) for row in connection.execute(query)]


def since(connection: Connection, space_id: int, revision: int) -> list[Edge]:
    """The edges that changed after `revision`."""
    query = select(TreeEdge.child, TreeEdge.parent)
    changed = (TreeEdge.space_id == space_id, TreeEdge.revision > revision)
    return [(row.child, row.parent) for row in connection.execute(query.where(*changed))]


def store(
    connection: Connection, space_id: int, revision: int, parents: Mapping[str, str | None]
) -> None:
    """Put each child under its parent, or (None) under nothing."""
    delete_among(connection, TreeEdge.child, list(parents), TreeEdge.space_id == space_id)
    rows = [
        {"space_id": space_id, "child": child, "parent": parent, "revision": revision}
        for child, parent in parents.items()
    ]
    insert_rows(connection, TreeEdge, rows)


def rename(connection: Connection, space_id: int, old: str, new: str, revision: int) -> None:
    """Let what stood in the tree under the name `old` stand there as `new`."""
    of_space = TreeEdge.space_id == space_id
    parent = parents_of(connection, space_id, [old]).get(old)
    if parent is not None:
        store(connection, space_id, revision, {old: None, new: parent})
    below = update(TreeEdge).where(of_space, TreeEdge.parent == old)
    connection.execute(below.values(parent=new, revision=revision))


def copy(connection: Connection, space_id: int, other_id: int, revision: int) -> None:
    """Give another space, which has no tree, the tree of a space."""
    rows = [
        {"space_id": other_id, "child": child, "parent": parent, "revision": revision}
        for child, parent in edges(connection, space_id)
    ]
    insert_rows(connection, TreeEdge, rows)


def _live(space_id: int) -> tuple[ColumnElement[bool], ...]:
    return TreeEdge.space_id == space_id, TreeEdge.parent.is_not(None)
