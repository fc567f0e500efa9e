"""Changes and lists the taxonomy of a space: under which node a label or another node stands."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from sqlalchemy import Connection

from trustvlm.catalog.rows import labels, spaces
from trustvlm.catalog.rows.likeness import unknown as labels_like
from trustvlm.catalog.rows.taxonomy import edges
from trustvlm.catalog.store.names import brief
from trustvlm.errors import Conflict, InvalidInput, NotFound
from trustvlm.service.home.home import Home
from trustvlm.service.home.names import check_name
from trustvlm.types.messages.commands import suggested
from trustvlm.types.messages.meant import likest
from trustvlm.types.taxonomy import Taxonomy, TreeNode

MAX_DEPTH = 100
"""Nodes above a label. WordNet, the deepest tree in use, has 19."""


def set_parents(home: Home, space_name: str, parents: Mapping[str, str | None]) -> int:
    """See :meth:`TrustService.set_parents`."""
    wanted = _checked(parents)
    with home.write("label.parent", space_name) as (connection, space):
        _check_children(connection, space.id, space_name, wanted)
        before = edges.parents_of(connection, space.id, wanted)
        changed = {child: parent for child, parent in wanted.items() if before.get(child) != parent}
        if not changed:
            return space.revision
        check_acyclic(connection, space.id, changed)
        revision = spaces.advance(connection, space.id, labels=len(changed), effect="nodes")
        edges.store(connection, space.id, revision, changed)
    return revision


def taxonomy(home: Home, space_name: str) -> Taxonomy:
    """See :meth:`TrustService.taxonomy`."""
    with home.read(space_name) as (connection, space):
        parents = dict(edges.edges(connection, space.id))
        names = list(dict.fromkeys([*parents, *parents.values()]))
        records = labels.find_many(connection, space.id, names)
    below = dict.fromkeys(names, 0)
    for name, record in records.items():
        if record.alias_of is None:  # a further name has no place
            for node in _upwards(name, parents):
                below[node] = below.get(node, 0) + 1
    nodes = [
        TreeNode(name, parents.get(name), name in records, below[name]) for name in sorted(names)
    ]
    return Taxonomy(space.name, space.revision, tuple(nodes))


def new_edges(
    connection: Connection, space_id: int, parents: Mapping[str, str], *, replace: bool = False
) -> dict[str, str | None]:
    """Those of the `parents` of labels, name → parent, that are not stored yet, checked.

    Raises:
        Conflict: a label has another parent, unless `replace`. InvalidInput: they would make a
            circle.
    """
    if not parents:
        return {}
    before = edges.parents_of(connection, space_id, parents)
    for child, parent in before.items():
        if parent != parents[child] and not replace:
            raise Conflict(
                f"label {brief(child)} has the parent {brief(parent)}, not "
                f"{brief(parents[child])}; {suggested('label parent')} changes it"
            )
    new: dict[str, str | None] = {
        child: parent for child, parent in parents.items() if before.get(child) != parent
    }
    if new:
        check_acyclic(connection, space_id, new)
    return new


def check_acyclic(connection: Connection, space_id: int, changes: Mapping[str, str | None]) -> None:
    """Make sure that the tree stays a tree when each child in `changes` gets its new parent.

    Raises:
        InvalidInput: a name would stand under itself, or under more than :data:`MAX_DEPTH` nodes.
    """
    parents = dict(changes)
    frontier = {parent for parent in changes.values() if parent is not None} - parents.keys()
    while frontier:  # upwards, a level of the stored tree at a time
        stored = edges.parents_of(connection, space_id, frontier)
        parents |= dict.fromkeys(frontier) | stored
        frontier = {*stored.values()} - parents.keys()
    sound: set[str] = set()
    for child in changes:
        path = [child]
        for node in _upwards(parents[child], parents):
            if node == child or node in path:
                around = " → ".join(brief(one) for one in [*path[path.index(node) :], node])
                raise InvalidInput(f"parent: {brief(node)} would stand under itself: {around}")
            if len(path) > MAX_DEPTH:
                raise InvalidInput(
                    f"parent: {brief(child)} would stand under more than {MAX_DEPTH} nodes"
                )
            if node in sound:
                break
            path.append(node)
        sound.update(path)


def check_node_name(connection: Connection, space_id: int, old: str, new: str) -> None:
    """Raises Conflict: the label `old` is renamed to a name that stands for a node of the tree."""
    if new != old and edges.nodes_among(connection, space_id, [new]):
        raise Conflict(
            f"new_name: {brief(new)} is a node of the tree; choose another name, or take the node "
            f"out of the tree first ({suggested('label tree')} shows it)"
        )


def _upwards(name: str | None, parents: Mapping[str, str | None]) -> Iterable[str]:
    """`name` and the nodes above it; endless where they are a circle."""
    while name is not None:
        yield name
        name = parents.get(name)


def _checked(parents: object) -> dict[str, str | None]:
    """The edges of a call. Raises InvalidInput."""
    if not isinstance(parents, Mapping):
        raise InvalidInput(
            f"parents: expected a mapping of names to names of nodes, such as {{'taxi': 'car'}}, "
            f"got {type(parents).__name__}"
        )
    wanted: dict[str, str | None] = {}
    for child, parent in parents.items():
        child = check_name(child, "parents")
        parent = None if parent is None else check_name(parent, f"parent of {brief(child)}")
        if child == parent:
            raise InvalidInput(f"parent: {brief(child)} would stand under itself")
        if wanted.setdefault(child, parent) != parent:
            raise InvalidInput(f"parents: {brief(child)} is given two parents")
        wanted[child] = parent
    return wanted


def _check_children(
    connection: Connection, space_id: int, space_name: str, wanted: Mapping[str, str | None]
) -> None:
    """Raises NotFound: a child is neither a label nor a node. InvalidInput: it is a further name of
    a label, or stands under one."""
    above = {parent for parent in wanted.values() if parent is not None}
    records = labels.find_many(connection, space_id, [*wanted.keys() | above])
    for name in (*wanted, *above):
        record = records.get(name)
        if record is not None and record.alias_of is not None and wanted.get(name, "") is not None:
            label = labels.name_of(connection, record.alias_of)
            raise InvalidInput(
                f"parents: {brief(name)} is a further name of {brief(label)} and has no place of "
                f"its own; name {brief(label)}"
            )
    left = [name for name in wanted if name not in records and name not in above]
    unknown = [name for name in left if name not in edges.nodes_among(connection, space_id, left)]
    if unknown:
        guess = next(iter(labels_like(connection, space_id, unknown[:1]).values()))
        guess = guess or likest(unknown[0], above)
        meant = "" if guess is None else f"; did you mean {brief(guess)}?"
        more = f" (and {len(unknown) - 1} more)" if unknown[1:] else ""
        listed = suggested("label list", space_name)
        raise NotFound(
            f"parents: {brief(unknown[0])}{more} is neither a label of space {space_name!r} nor a "
            f"node of its tree{meant or f'; {listed} shows the labels'}"
        )
