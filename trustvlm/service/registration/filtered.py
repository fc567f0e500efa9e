"""Labels chosen by a filter: listed, counted, removed."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
from sqlalchemy import Connection

from trustvlm.catalog.rows import label_pages, labels, spaces, supports
from trustvlm.catalog.store.names import brief
from trustvlm.errors import Conflict
from trustvlm.service.home.home import Home
from trustvlm.service.memory.attributes.masks import label_mask
from trustvlm.service.registration.prototypes import follow_supports
from trustvlm.types import LabelRow
from trustvlm.types.arrays import Int64s
from trustvlm.types.attributes.filters import Filter
from trustvlm.types.registration import RemovedLabels

__all__ = ["count_labels", "filtered_page", "filtered_rows", "remove_labels"]

_PAGE_ROWS = 1_000
_AT_ONCE = 200
"""Labels that one transaction removes: about 50 ms."""


def label_ids(home: Home, space_name: str, chosen: Filter) -> Int64s:
    """Ids of the labels that a filter keeps, ascending."""
    return home.answer(
        space_name, lambda reading: np.sort(reading.view.text.ids[label_mask(reading, chosen)])
    )


def count_labels(home: Home, space_name: str, chosen: Filter) -> int:
    """See :meth:`TrustService.count_labels`."""
    return len(label_ids(home, space_name, chosen))


def filtered_page(
    home: Home, space_name: str, chosen: Filter, after: int, limit: int
) -> list[LabelRow]:
    """Up to `limit` labels with ids above `after` that a filter keeps, in order of id."""
    ids = label_ids(home, space_name, chosen)
    return _rows(home, ids[ids > after][:limit].tolist())


def filtered_rows(home: Home, space_name: str, chosen: Filter) -> Iterator[LabelRow]:
    """The labels that a filter keeps at the time of the call, in order of id."""
    ids = label_ids(home, space_name, chosen).tolist()
    pages = (ids[start : start + _PAGE_ROWS] for start in range(0, len(ids), _PAGE_ROWS))
    return (row for page in pages for row in _rows(home, page))


def _rows(home: Home, ids: Sequence[int]) -> list[LabelRow]:
    """The labels of these ids that are still there."""
    with home.catalog.read() as connection:
        return label_pages.rows_of(connection, labels.alive(connection, ids))


def remove_labels(home: Home, space_name: str, chosen: Filter) -> RemovedLabels:
    """See :meth:`TrustService.remove_labels`."""
    ids = label_ids(home, space_name, chosen).tolist()
    with home.catalog.read() as connection:
        space = spaces.find(connection, space_name)
        parts = _aliases_first(connection, ids)
    removed, revision = 0, space.revision
    chunks = (part[i : i + _AT_ONCE] for part in parts for i in range(0, len(part), _AT_ONCE))
    for chunk in chunks:
        with home.catalog.write("label.remove") as connection:
            space = spaces.find(connection, space_name)
            if not (some := labels.alive(connection, chunk)):
                continue
            canonical = labels.canonical(connection, some)
            revision = spaces.advance(connection, space.id, labels=len(some))
            for label_id in some:
                supports.remove_of_label(connection, label_id, revision)
                labels.remove(connection, label_id, revision)
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
                f"label {names[0]} has the alias {names[1]}, which does not fit; unalias it first"
            )
    return [label_id for label_id in ids if canonical[label_id] != label_id], main
