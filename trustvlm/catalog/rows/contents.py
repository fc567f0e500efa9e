"""Support images by their content: which label has an image, which label had it, and all that a
space has."""

from __future__ import annotations

from collections.abc import Mapping, Sequence, Set
from dataclasses import dataclass

from sqlalchemy import Connection, select

from trustvlm.catalog.rows import labels
from trustvlm.catalog.store.models import Label, Support
from trustvlm.types.registration import KnownImage

__all__ = ["ContentRow", "LabelRowOf", "elsewhere", "every", "labels_of", "owners", "taken_out"]

_IN_CHUNK = 500


@dataclass(frozen=True)
class ContentRow:
    """A support image: its id, its label's id and name, its content hash, and where it came
    from."""

    id: int
    label_id: int
    label: str
    content_hash: bytes
    source: str | None


@dataclass(frozen=True)
class LabelRowOf:
    """A live label: id, name, and the id of the label that it is a further name of."""

    id: int
    name: str
    alias_of: int | None


_COLUMNS = (Support.id, Support.label_id, Label.name, Support.content_hash, Support.source)
_JOINED = select(*_COLUMNS).join(Label, Label.id == Support.label_id)


def owners(
    connection: Connection, space_id: int, contents: Sequence[bytes]
) -> dict[bytes, list[ContentRow]]:
    """Content hash → the live support images of the space with that content, by id."""
    found: dict[bytes, list[ContentRow]] = {}
    alive = (Support.space_id == space_id, Support.removed_revision.is_(None))
    for start in range(0, len(contents), _IN_CHUNK):
        among = Support.content_hash.in_(contents[start : start + _IN_CHUNK])
        for row in connection.execute(_JOINED.where(*alive, among).order_by(Support.id)):
            found.setdefault(row.content_hash, []).append(ContentRow(*row))
    return found


def taken_out(
    connection: Connection, label_ids: Sequence[int], present: Set[tuple[int, bytes]]
) -> dict[tuple[int, bytes], int]:
    """(label id, content hash) → id of the support images of these labels that were removed and not
    purged or added again.

    Args:
        present: (label id, content hash) of the live ones.
    """
    found: dict[tuple[int, bytes], int] = {}
    removed = Support.removed_revision.is_not(None)
    for start in range(0, len(label_ids), _IN_CHUNK):
        mine = Support.label_id.in_(label_ids[start : start + _IN_CHUNK])
        query = (
            select(Support.label_id, Support.content_hash, Support.id)
            .where(mine, removed)
            .order_by(Support.id)
        )
        found |= {(row.label_id, row.content_hash): row.id for row in connection.execute(query)}
    return {key: support_id for key, support_id in found.items() if key not in present}


def every(connection: Connection, space_id: int) -> list[ContentRow]:
    """All live support images of a space, by id."""
    alive = (Support.space_id == space_id, Support.removed_revision.is_(None))
    return [
        ContentRow(*row) for row in connection.execute(_JOINED.where(*alive).order_by(Support.id))
    ]


def labels_of(connection: Connection, space_id: int) -> list[LabelRowOf]:
    """All live labels of a space, by id."""
    query = select(Label.id, Label.name, Label.alias_of).where(
        Label.space_id == space_id, Label.removed_revision.is_(None)
    )
    return [LabelRowOf(*row) for row in connection.execute(query.order_by(Label.id))]


def elsewhere(
    connection: Connection, space_id: int, images: Mapping[str, Mapping[bytes, str | None]]
) -> list[KnownImage]:
    """The images that are support images of another label, too, and were that first; further names
    of a label are that label.

    Args:
        images: label name → content hash → what the image is called.
    """
    found = owners(
        connection, space_id, sorted({content for mine in images.values() for content in mine})
    )
    shared = {
        name
        for name, mine in images.items()
        if any(row.label != name for c in mine for row in found.get(c, ()))
    }
    if not shared:
        return []
    images = {name: mine for name, mine in images.items() if name in shared}
    ids = {
        name: record.id
        for name, record in labels.find_many(connection, space_id, list(images)).items()
    }
    canonical = labels.canonical(
        connection,
        sorted({*ids.values(), *(row.label_id for rows in found.values() for row in rows)}),
    )
    twins = []
    for name, mine in images.items():
        label_id = ids.get(name, -1)
        for content, source in mine.items():
            rows = found.get(content, [])
            own = min((row.id for row in rows if row.label_id == label_id), default=None)
            others = [row for row in rows if canonical[row.label_id] != canonical.get(label_id)]
            if others and (own is None or others[0].id < own):
                twins.append(KnownImage(source, name, others[0].label, others[0].id))
    return twins
