"""Lists of a space's labels and support images, and names that are no labels."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from trustvlm.catalog.rows import label_pages, labels, spaces, supports
from trustvlm.catalog.rows.likeness import unknown
from trustvlm.service.home.home import Home
from trustvlm.types import LabelRow, SupportRow
from trustvlm.types.bounds import identifier

__all__ = ["list_labels", "list_supports", "thumbnail", "unknown_labels"]

PAGE_ROWS = 1_000


def list_labels(home: Home, space_name: str) -> Iterator[LabelRow]:
    """See :meth:`TrustService.list_labels`. Unknown spaces are refused at once, not with the first
    row."""
    space = home.space(space_name)

    def rows() -> Iterator[LabelRow]:
        after = 0
        while True:
            # One transaction a page: none stays open while the caller works on the rows.
            with home.catalog.read() as connection:
                page = label_pages.label_page_by_id(connection, space.id, after, PAGE_ROWS)
            yield from page
            if len(page) < PAGE_ROWS:
                return
            after = page[-1].id

    return rows()


def unknown_labels(
    home: Home, space_name: str, names: Iterable[str | None]
) -> dict[str, str | None]:
    """See :meth:`TrustService.unknown_labels`."""
    with home.catalog.read() as connection:
        space = spaces.find(connection, space_name)
        return unknown(connection, space.id, [name for name in names if name is not None])


def list_supports(home: Home, space_name: str, label_name: str) -> list[SupportRow]:
    """See :meth:`TrustService.list_supports`."""
    with home.catalog.read() as connection:
        label = labels.find(connection, spaces.find(connection, space_name).id, label_name)
        return label_pages.list_group(connection, label.id)


def thumbnail(home: Home, support_id: int) -> bytes | None:
    """See :meth:`TrustService.thumbnail`."""
    support_id = identifier("support image", support_id)
    with home.catalog.read() as connection:
        return supports.thumbnail(connection, support_id)
