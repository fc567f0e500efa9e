"""What the HTTP service asks of an open home besides the verbs: keys, pages of labels, repeated calls, jobs."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import timedelta

from trustvlm.catalog import pages
from trustvlm.catalog import spaces as space_rows
from trustvlm.catalog import supports as support_rows
from trustvlm.catalog.keys import KeyRecord
from trustvlm.errors import NotFound
from trustvlm.service.home import OpenHome
from trustvlm.service.keys import KeyRow, create_key, list_keys, revoke_key, rotate_key, use_key
from trustvlm.types import LabelRow

__all__ = ["Serving"]


class Serving(OpenHome):
    """Keys of the HTTP service, and what it shows page by page."""

    def create_key(
        self,
        scope: str,
        *,
        space: str | None = None,
        note: str | None = None,
        rate: float | None = None,
        days: float | None = None,
    ) -> tuple[KeyRow, str]:
        """Make a key of the HTTP service: its row, and the key itself, which nobody can show again.

        Args:
            scope: "read", "write" or "admin"; each may do what the one before may.
            space: the only space that it opens. rate: requests a second. days: until it expires.

        Raises:
            InvalidInput. NotFound: no such space.
        """
        return create_key(self._writable(), scope, space, note, rate, days)

    def list_keys(self) -> Sequence[KeyRow]:
        """Every key, oldest first."""
        return list_keys(self._ready())

    def revoke_key(self, key_id: str) -> None:
        """Make a key worthless: services notice within seconds. Raises NotFound."""
        revoke_key(self._writable(), key_id)

    def rotate_key(self, key_id: str, *, overlap: timedelta = timedelta(0)) -> tuple[KeyRow, str]:
        """Make a key that may do what this one may, which ends after `overlap`. Raises NotFound, Conflict, InvalidInput."""
        return rotate_key(self._writable(), key_id, overlap)

    def use_key(self, key_id: str) -> KeyRecord | None:
        """The key of this id, if it opens anything now."""
        return use_key(self._ready(), key_id)

    def label_page(
        self,
        space: str,
        *,
        after: str | None = None,
        limit: int = 100,
        prefix: str | None = None,
        contains: str | None = None,
        unverified: bool = False,
    ) -> list[LabelRow]:
        """Up to `limit` labels behind the name `after`, by name; those that begin with or contain something, if given.
        `unverified`: those without support images. Raises NotFound."""
        with self._ready().catalog.read() as connection:
            found = space_rows.find(connection, space)
            return pages.label_page(
                connection, found.id, after=after, limit=limit, prefix=prefix, contains=contains, unverified=unverified
            )

    def get_label(self, space: str, label: str) -> LabelRow:
        """One label as it is listed. Raises NotFound."""
        with self._ready().catalog.read() as connection:
            row = pages.find_row(connection, space_rows.find(connection, space).id, label)
        if row is None:
            raise NotFound(f"no label {label!r} in space {space!r}")
        return row

    def unverified_count(self, space: str) -> int:
        """How many labels of a space have no support image. Raises NotFound."""
        with self._ready().catalog.read() as connection:
            return pages.unverified_count(connection, space_rows.find(connection, space).id)

    def support_picture(self, space: str, support_id: int) -> bytes:
        """The JPEG thumbnail of a support image of this space. Raises NotFound: there is none, or it came as a vector."""
        with self._ready().catalog.read() as connection:
            label = pages.support_label(connection, space_rows.find(connection, space).id, support_id)
            picture = None if label is None else support_rows.thumbnail(connection, support_id)
        if picture is None:
            why = "no such support image" if label is None else "it was registered as a vector"
            raise NotFound(f"no thumbnail of support image {support_id} in space {space!r}: {why}")
        return picture
