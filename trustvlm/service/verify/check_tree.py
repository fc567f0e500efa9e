"""Checks of a space's taxonomy: it is a tree, of revisions that there were."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from sqlalchemy import Connection

from trustvlm.catalog.rows.taxonomy import edges
from trustvlm.catalog.store.names import brief
from trustvlm.service.verify.space_facts import SpaceFacts
from trustvlm.types.verification import Damage


def check_tree(connection: Connection, facts: SpaceFacts) -> Iterator[Damage]:
    """What is wrong with the taxonomy of a space."""
    for child, problem in bad_edges(connection, facts).items():
        what = f"the place of {brief(child)} in the taxonomy"
        yield Damage(facts.name, facts.id, "tree", None, what, problem, "tree")


def bad_edges(connection: Connection, facts: SpaceFacts) -> dict[str, str]:
    """Name → what is wrong with its standing under its parent; without these edges it is a tree."""
    bad = _circles(dict(edges.edges(connection, facts.id)))
    for child, revision in edges.revisions_beyond(connection, facts.id, facts.revision):
        bad.setdefault(child, f"changed at revision {revision} of a space at {facts.revision}")
    return bad


def _circles(parents: Mapping[str, str]) -> dict[str, str]:
    """The first name of each circle, with the circle in words."""
    circles: dict[str, str] = {}
    seen: set[str] = set()
    for start in sorted(parents):
        path: dict[str, None] = {}
        name: str | None = start
        while name is not None and name not in seen and name not in path:
            path[name] = None
            name = parents.get(name)
        if name is not None and name in path:
            members = [*path][[*path].index(name) :]
            first = min(members)
            place = members.index(first)
            around = " → ".join(brief(one) for one in [*members[place:], *members[:place], first])
            circles[first] = f"it stands under itself: {around:.300}"
        seen.update(path)
    return circles
