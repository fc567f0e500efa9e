"""Indexed keys of attributes: which, and the file that holds their values."""

from __future__ import annotations

from trustvlm.catalog.rows.attributes import rows
from trustvlm.errors import InvalidInput, NotFound
from trustvlm.service.home.home import Home
from trustvlm.types.attributes.filters import key_path

MOST_INDEXED = 64
"""Indexed keys of a space."""


def index_attribute(home: Home, space_name: str, key: str, *, remove: bool) -> list[str]:
    """See :meth:`TrustService.index_attribute`."""
    key_path(key, "key")
    with home.write("space.attribute", space_name) as (connection, space):
        keys = rows.indexed_keys(connection, space.id)
        if remove and not rows.remove_indexed_key(connection, space.id, key):
            indexed = ", ".join(keys) or "none"
            raise NotFound(f"key: {key!r} is not indexed; indexed keys: {indexed}")
        if not remove and key not in keys:
            if len(keys) >= MOST_INDEXED:
                raise InvalidInput(f"key: expected at most {MOST_INDEXED} indexed keys")
            rows.add_indexed_key(connection, space.id, key)
    files = home.caches.attributes
    with home.read(space_name) as (connection, space):
        files.write(connection, space, home.catalog.epoch(connection))
        keys = rows.indexed_keys(connection, space.id)
    files.check(space.id, space.revision)
    return keys
