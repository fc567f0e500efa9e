"""Labels, all of them or some that a filter or their names choose: listed, counted, removed."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
from sqlalchemy import Connection

from trustvlm.catalog.rows import label_pages, labels, spaces, supports
from trustvlm.catalog.rows.likeness import not_found_text, unknown
from trustvlm.catalog.store.names import brief
from trustvlm.errors import Conflict, InvalidInput, NotFound
from trustvlm.service.home.home import Home
from trustvlm.service.memory.label_subset import label_mask
from trustvlm.service.registration.prototypes import follow_supports
from trustvlm.types import LabelRow
from trustvlm.types.arrays import Int64s, texts
from trustvlm.types.attributes.filters import Filter, FilterLike, as_filter
from trustvlm.types.registration import RemovedLabels

_PAGE_ROWS = 1_000
_AT_ONCE = 200
"""Labels that one transaction removes: about 50 ms."""


def label_ids(home: Home, space_name: str, chosen: Filter) -> Int64s:
    """Ids of the labels that a filter keeps, ascending."""
    return home.answer(
        space_name, lambda reading: np.sort(reading.view.text.ids[label_mask(reading, chosen)])
    )


def filtered_page(
    home: Home, space_name: str, chosen: Filter, after: int, limit: int, vectors: bool = False
) -> list[LabelRow]:
    """Up to `limit` labels with ids above `after` that a filter keeps, in order of id."""
    ids = label_ids(home, space_name, chosen)
    dims = home.space(space_name).dims if vectors else None
    return _rows(home, ids[ids > after][:limit].tolist(), dims)


def filtered_rows(
    home: Home, space_name: str, chosen: Filter, vectors: bool = False
) -> Iterator[LabelRow]:
    """The labels that a filter keeps at the time of the call, in order of id."""
    ids = label_ids(home, space_name, chosen).tolist()
    dims = home.space(space_name).dims if vectors else None
    pages = (ids[start : start + _PAGE_ROWS] for start in range(0, len(ids), _PAGE_ROWS))
    return (row for page in pages for row in _rows(home, page, dims))


def label_rows(home: Home, space_name: str, vectors: bool = False) -> Iterator[LabelRow]:
    """Every label of a space, in order of id. One transaction a page: none stays open while the
    caller works on the rows."""
    home.space(space_name)  # an unknown one is refused now

    def rows() -> Iterator[LabelRow]:
        after: int | None = 0
        while after is not None:
            page = label_page(home, space_name, after, _PAGE_ROWS, vectors)
            yield from page
            after = page[-1].id if len(page) == _PAGE_ROWS else None

    return rows()


def label_page(
    home: Home, space_name: str, after: int, limit: int, vectors: bool = False
) -> list[LabelRow]:
    """Up to `limit` labels with ids above `after`, in order of id; with `vectors`, theirs."""
    with home.read(space_name) as (connection, space):
        page = label_pages.label_page_by_id(connection, space.id, after, limit)
        return label_pages.with_vectors(connection, page, space.dims) if vectors else page


def _rows(home: Home, ids: Sequence[int], dims: tuple[int, int] | None = None) -> list[LabelRow]:
    """The labels of these ids that are still there."""
    with home.catalog.read() as connection:
        rows = label_pages.rows_of(connection, labels.alive(connection, ids))
        return rows if dims is None else label_pages.with_vectors(connection, rows, dims)


def chosen_labels(
    home: Home, space_name: str, names: Sequence[str] | None, filter: FilterLike | None
) -> list[int]:
    """Ids of the labels that a call names or that its filter keeps.

    Raises:
        InvalidInput: neither names nor a filter, or both. NotFound: a name that is no label.
    """
    if (names is None) == (filter is None):
        raise InvalidInput("remove_labels: expected labels or a filter, one of them")
    if filter is not None:
        return list(map(int, label_ids(home, space_name, as_filter(filter))))
    listed = texts(names, "labels", "a list of label names")
    with home.read(space_name) as (connection, space):
        if missing := unknown(connection, space.id, listed):
            raise NotFound(f"labels: {not_found_text(missing, space.name)}")
        records = labels.find_many(connection, space.id, listed)
    return sorted(record.id for record in records.values())


def remove_labels(home: Home, space_name: str, ids: Sequence[int]) -> RemovedLabels:
    """Remove labels by id, see :meth:`TrustService.remove_labels`."""
    with home.read(space_name) as (connection, space):
        parts = _aliases_first(connection, ids)
    removed, revision = 0, space.revision
    chunks = (part[i : i + _AT_ONCE] for part in parts for i in range(0, len(part), _AT_ONCE))
    for chunk in chunks:
        with home.write("label.remove", space_name) as (connection, space):
            if not (some := labels.alive(connection, chunk)):
                continue
            canonical = labels.canonical(connection, some)
            revision = spaces.advance(connection, space.id, labels=len(some))
            supports.remove_of_labels(connection, some, revision)
            labels.remove(connection, some, revision)
            left = sorted(set(canonical.values()) - set(some))
            follow_supports(home, connection, space, left, revision)
        removed += len(some)
    return RemovedLabels(removed, revision)


def _aliases_first(connection: Connection, ids: Sequence[int]) -> tuple[list[int], list[int]]:
    """The aliases, and the other labels, which are removed after them: a label that comes back has
    the support images that it had without its aliases.

    Raises:
        Conflict: a label has an alias that is not among them.
    """
    chosen, canonical = set(ids), labels.canonical(connection, ids)
    main = [label_id for label_id, other in canonical.items() if label_id == other]
    for alias, label_id in labels.groups(connection, main).items():
        if alias not in chosen:
            names = [brief(labels.name_of(connection, one)) for one in (label_id, alias)]
            raise Conflict(
                f"label {names[0]} has the alias {names[1]}, which is not among those to remove; "
                f"unalias it first"
            )
    return [label_id for label_id in ids if canonical[label_id] != label_id], main
