"""Support images of a space, all of them or some that ids, a label or a filter choose: listed,
counted, removed, moved to another label, or kept where an audit doubts them."""

from __future__ import annotations

from collections.abc import Sequence

from sqlalchemy import Connection

from trustvlm.catalog.rows import labels, spaces, supports
from trustvlm.catalog.rows.likeness import not_found_text, unknown
from trustvlm.catalog.rows.spaces import SpaceRecord
from trustvlm.catalog.rows.support import images
from trustvlm.errors import InvalidInput, NotFound
from trustvlm.service.home.home import Home
from trustvlm.service.memory.label_subset import support_ids
from trustvlm.service.registration.edit_labels import checked_ids, some_of
from trustvlm.service.registration.prototypes import follow_supports
from trustvlm.types import SupportRow
from trustvlm.types.attributes.filters import Filter
from trustvlm.types.messages.commands import suggested
from trustvlm.types.registration import RemovedSupports
from trustvlm.types.support.audit import MovedSupports

_AT_ONCE = 1_000
"""Support images that one transaction removes."""


def supports_by_id(
    home: Home, space_name: str, ids: Sequence[int], vectors: bool
) -> list[SupportRow]:
    """The support images of these ids, in their order. Raises NotFound, InvalidInput."""
    ids = checked_ids(ids)
    with home.read(space_name) as (connection, space):
        require_alive(connection, space, ids)
        dims = space.dims if vectors else None
        return images.rows_of(connection, ids, dims)


def list_supports(
    home: Home,
    space_name: str,
    label: str | None,
    chosen: Filter | None,
    vectors: bool,
    after: int,
    limit: int | None,
) -> list[SupportRow]:
    """See :meth:`TrustService.list_supports`."""
    fitting = _fitting(home, space_name, chosen)
    with home.read(space_name) as (connection, space):
        dims = space.dims if vectors else None
        if label is None and fitting is None:
            ids = images.ids_after(connection, space.id, after, limit)
            return images.rows_of(connection, ids, dims)
        ids = _chosen(connection, space.id, label, fitting)
        behind = [one for one in ids if one > after]
        rows = list[SupportRow]()
        while behind and (limit is None or len(rows) < limit):
            # Some may have been removed since they were chosen.
            most = len(behind) if limit is None else limit - len(rows)
            rows += images.rows_of(connection, behind[:most], dims)
            behind = behind[most:]
    return rows


def count_supports(home: Home, space_name: str, label: str | None, chosen: Filter | None) -> int:
    """See :meth:`TrustService.count_supports`."""
    fitting = _fitting(home, space_name, chosen)
    with home.read(space_name) as (connection, space):
        if label is None and fitting is None:
            return supports.count(connection, space.id)
        return len(_chosen(connection, space.id, label, fitting))


def remove_supports(
    home: Home, space_name: str, label: str | None, chosen: Filter | None
) -> RemovedSupports:
    """See :meth:`TrustService.remove_supports`."""
    if label is None and chosen is None:
        raise InvalidInput(
            "remove_supports: expected a label or a filter, or both; remove_support takes ids"
        )
    fitting = _fitting(home, space_name, chosen)
    with home.read(space_name) as (connection, space):
        ids = _chosen(connection, space.id, label, fitting)
        owners = supports.find_alive(connection, space.id, ids)
    ordered = sorted(owners, key=lambda one: (owners[one], one))  # each label is changed once
    removed, revision = list[int](), space.revision
    for start in range(0, len(ordered), _AT_ONCE):
        with home.write("support.remove", space_name) as (connection, space):
            some = supports.find_alive(connection, space.id, ordered[start : start + _AT_ONCE])
            if not some:
                continue
            revision = spaces.advance(connection, space.id, supports=len(some))
            supports.remove(connection, list(some), revision)
            follow_supports(home, connection, space, some.values(), revision)
        removed += some
    return RemovedSupports(revision, tuple(sorted(removed)))


def _fitting(home: Home, space_name: str, chosen: Filter | None) -> set[int] | None:
    """Ids of the support images that a filter keeps; None without one."""
    if chosen is None:
        return None
    return home.answer(space_name, lambda reading: set(support_ids(reading, chosen).tolist()))


def _chosen(
    connection: Connection, space_id: int, label: str | None, fitting: set[int] | None
) -> list[int]:
    """Ids, ascending, of the support images of a label (None: any) that fit (None: all)."""
    if label is None:
        return sorted(fitting or ())
    record = labels.find(connection, space_id, label)
    ids = images.ids_of_label(connection, record.id)
    return ids if fitting is None else [one for one in ids if one in fitting]


def keep_support(home: Home, space_name: str, ids: Sequence[int], keep: bool) -> int:
    """See :meth:`TrustService.keep_support`."""
    ids = checked_ids(ids)
    with home.write("support.keep", space_name) as (connection, space):
        require_alive(connection, space, ids)
        images.mark_kept(connection, ids, keep)
    return space.revision


def move_support(home: Home, space_name: str, ids: Sequence[int], label: str) -> MovedSupports:
    """See :meth:`TrustService.move_support`."""
    ids = checked_ids(ids)
    with home.write("support.move", space_name) as (connection, space):
        owners = require_alive(connection, space, ids)
        records = labels.find_many(connection, space.id, [label])
        if not records:
            missing = unknown(connection, space.id, [label])
            raise NotFound(f"label: {not_found_text(missing, space.name, 'register it first')}")
        target = next(iter(records.values()))
        of_target = {one for one, owner in owners.items() if owner == target.id}
        if of_target:
            raise InvalidInput(
                f"ids: expected support images of other labels than {target.name!r}; "
                f"{some_of(sorted(of_target))} is one of it"
            )
        if not ids:
            return MovedSupports(space.revision, ())
        revision = spaces.advance(connection, space.id, supports=len(ids))
        stored = images.copies(connection, ids, space.dims)
        supports.remove(connection, ids, revision)
        present = images.ids_of(connection, target.id)
        fresh = {image.content_hash: image for image in stored if image.content_hash not in present}
        rows = [(target.id, image) for image in fresh.values()]
        made = supports.insert_many(connection, space.id, revision, rows)
        present |= dict(zip(fresh, made, strict=True))
        follow_supports(home, connection, space, [*owners.values(), target.id], revision)
    return MovedSupports(revision, tuple(present[image.content_hash] for image in stored))


def require_alive(connection: Connection, space: SpaceRecord, ids: Sequence[int]) -> dict[int, int]:
    """Id → label id of support images that all exist. Raises NotFound."""
    owners = supports.find_alive(connection, space.id, ids)
    missing = [one for one in ids if one not in owners]
    if missing:
        removed = supports.find_removed(connection, space.id, missing, of_live_labels=False)
        hint = (
            f": removed; {suggested('support restore', space.name, files='ID')} restores it"
            if removed
            else f"; {suggested('support list', space.name, files='LABEL')} shows the ids"
        )
        raise NotFound(
            f"no support image {some_of(list(removed) or missing)} in space {space.name!r}{hint}"
        )
    return owners
