"""What becomes of support images that an audit doubts: moved to another label, or kept."""

from __future__ import annotations

from collections.abc import Sequence

from sqlalchemy import Connection

from trustvlm.catalog.rows import labels, spaces, supports
from trustvlm.catalog.rows.likeness import not_found_text, unknown
from trustvlm.catalog.rows.spaces import SpaceRecord
from trustvlm.catalog.rows.support import images
from trustvlm.errors import InvalidInput, NotFound
from trustvlm.service.home.home import Home
from trustvlm.service.registration.edit_labels import checked_ids, some_of
from trustvlm.service.registration.prototypes import follow_supports
from trustvlm.types.messages.commands import suggested
from trustvlm.types.support.audit import MovedSupports


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
