"""Labels in the catalog: each with its text prototype and, once it has support images, its
prototype."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Any

import numpy as np
from sqlalchemy import Connection, Row, bindparam, select, update

from trustvlm.catalog.rows.attributes import rows as attributes
from trustvlm.catalog.rows.likeness import unknown
from trustvlm.catalog.store import clock
from trustvlm.catalog.store.bulk import inserted_ids, rows_among, slices, update_among
from trustvlm.catalog.store.models import PROTOTYPED, Label, Space
from trustvlm.catalog.store.names import brief, forms, meant, normal
from trustvlm.catalog.store.vectors import checksum, pack, unpack, verified
from trustvlm.errors import NotFound
from trustvlm.scoring.external import output_of
from trustvlm.types.arrays import Float32s, Int64s
from trustvlm.types.messages.commands import suggested


@dataclass(frozen=True)
class LabelRecord:
    """A label's row, without its prototype."""

    id: int
    name: str
    prompt: str | None
    text_source: str
    support_count: int
    revision: int
    removed_revision: int | None
    text_prototype: bytes
    alias_of: int | None


@dataclass(frozen=True)
class NewLabel:
    """A label about to be inserted."""

    name: str
    prompt: str | None
    text_source: str
    text_prototype: Float32s
    prototype: Float32s | None
    support_count: int
    attributes: str | None = None


_RECORD = [getattr(Label, name) for name in LabelRecord.__dataclass_fields__]
_OF_SPACE = Label.space_id == bindparam("space")
_LIVE = Label.removed_revision.is_(None)
VECTORS = select(Label.id, Label.checksum, Label.text_prototype, Label.prototype)
_SINCE = Label.revision > bindparam("since")

# Made once: in the calls that a registration and a query consist of, putting a statement together
# takes as long as running it.
_FIND_MANY = select(*_RECORD).where(
    _OF_SPACE, Label.name.in_(bindparam("names", expanding=True)), _LIVE
)
_INSERTED = select(Label.name, Label.id).where(
    _OF_SPACE, Label.revision == bindparam("at"), Label.created_revision == bindparam("at")
)
_NAMES_MORE = (
    select(Label.name)
    .where(_OF_SPACE, _LIVE)
    .order_by(Label.name)
    .limit(1)
    .offset(bindparam("beyond"))
)
# A bound number would hide from SQLite that the partial index of name hashes holds these rows, and
# without the lower bound of the hash it prefers the index of support counts and sorts every row.
_PROTOTYPED = (
    select(Label.id, Label.name_hash)
    .where(_OF_SPACE, PROTOTYPED, Label.name_hash >= 0)
    .order_by(Label.name_hash)
)
_PROTOTYPED_MORE = _PROTOTYPED.limit(1).offset(bindparam("beyond"))
_COMPETITORS = _PROTOTYPED.limit(bindparam("most"))
_TOUCHED = select(Label.id, Label.support_count).where(_OF_SPACE, _SINCE)
_TAKEN_OUTPUTS = select(Label.output).where(_OF_SPACE, Label.output.is_not(None))
_OUTPUTS = _TAKEN_OUTPUTS.add_columns(Label.name).where(_LIVE)
_ALIASES = select(Label.id, Label.alias_of).where(_LIVE)


def name_hash(name: str) -> int:
    """A stable 63-bit hash of a label's name: the order in which samples of labels are taken."""
    return int.from_bytes(hashlib.blake2b(name.encode(), digest_size=8).digest()) >> 1


def find(connection: Connection, space_id: int, name: str) -> LabelRecord:
    """The live label `name`.

    Raises:
        NotFound: there is none; the message says whether it was removed.
    """
    label = find_many(connection, space_id, [name]).get(name)
    if label is not None:
        return label
    space = connection.scalars(select(Space.name).where(Space.id == space_id)).one()
    problem = f"no label {brief(name)} in space {space!r}"
    if find_last_removed(connection, space_id, name) is not None:
        undo, purge = suggested("label restore", space, name), suggested("purge")
        raise NotFound(
            f"{problem}: it is removed; {undo} brings it back, {purge} deletes it for good"
        )
    guess = unknown(connection, space_id, [name])[name]
    listed = f"{suggested('label list', space)} lists its labels"
    raise NotFound(f"{problem}; {meant(guess, listed)}")


def find_many(
    connection: Connection, space_id: int, names: Sequence[str]
) -> dict[str, LabelRecord]:
    """The live labels among `names`, by the given names, which are compared in normal form C.

    Raises:
        InvalidInput: something that no name can be.
    """
    stored: dict[str, LabelRecord] = {}
    for some in slices(sorted(forms(names))):
        rows = connection.execute(_FIND_MANY, {"space": space_id, "names": some})
        stored.update({row.name: LabelRecord(*row) for row in rows})
    # As it is spelt first: a home may hold both spellings from before names were normalised.
    return {
        name: stored.get(name) or stored[normal(name)]
        for name in names
        if name in stored or normal(name) in stored
    }


def name_of(connection: Connection, label_id: int) -> str:
    """The name of a label that exists."""
    return connection.execute(select(Label.name).where(Label.id == label_id)).scalar_one()


def find_last_removed(connection: Connection, space_id: int, name: str) -> LabelRecord | None:
    """The label `name` that was removed last and not yet purged; None: there is none."""
    removed = (Label.space_id == space_id, Label.removed_revision.is_not(None))
    rows = connection.execute(select(*_RECORD).where(*removed, Label.name.in_(forms([name]))))
    last = max(rows, key=lambda row: row.removed_revision, default=None)
    return None if last is None else LabelRecord(*last)


def insert_many(
    connection: Connection, space_id: int, revision: int, labels: Sequence[NewLabel]
) -> list[int]:
    """Insert labels; their ids in the order of `labels`."""
    if not labels:
        return []
    rows = []
    for label in labels:
        text, source = pack(label.text_prototype), label.text_source
        image = None if label.prototype is None else pack(label.prototype)
        rows.append(
            {
                "space_id": space_id, "name": label.name, "name_hash": name_hash(label.name),
                "prompt": label.prompt, "text_source": source,
                "support_count": label.support_count, "created_revision": revision,
                "revision": revision, "removed_revision": None, "removed_at": None,
                "output": output_of(label.text_prototype) if source == "output" else None,
                "checksum": checksum(text, image),
                "text_prototype": text, "prototype": image,
            }
        )  # fmt: skip
    ids = inserted_ids(connection, Label, rows)
    if ids is None:
        inserted = connection.execute(_INSERTED, {"space": space_id, "at": revision})
        by_name = {row.name: row.id for row in inserted}
        ids = [by_name[label.name] for label in labels]
    given = {i: one.attributes for i, one in zip(ids, labels, strict=True) if one.attributes}
    attributes.add(connection, attributes.LABELS, space_id, revision, given)
    return ids


def set_prototype(
    connection: Connection,
    label_id: int,
    revision: int,
    prototype: Float32s | None,
    support_count: int,
) -> None:
    """Store a label's recomputed prototype (None: it has no support image any more)."""
    text = _vectors(connection, label_id).text_prototype
    image = None if prototype is None else pack(prototype)
    values = {"prototype": image, "support_count": support_count, "checksum": checksum(text, image)}
    _set(connection, label_id, revision=revision, **values)


def set_text(
    connection: Connection,
    label_id: int,
    revision: int,
    *,
    name: str,
    prompt: str | None,
    text_source: str,
    text_prototype: Float32s,
) -> None:
    """Store a label's changed name, prompt and text prototype."""
    image, text = _vectors(connection, label_id).prototype, pack(text_prototype)
    _set(
        connection, label_id, name=name, name_hash=name_hash(name), prompt=prompt,
        text_source=text_source, revision=revision, text_prototype=text,
        checksum=checksum(text, image),
    )  # fmt: skip


def _vectors(connection: Connection, label_id: int) -> Row[*tuple[Any, ...]]:
    """The stored vectors of a label, verified: damaged ones must not get a new checksum.

    Raises:
        Damaged: they do not match their checksum.
    """
    return verified("label", connection.execute(VECTORS.where(Label.id == label_id)).all())[0]


def _set(connection: Connection, label_id: int, **values: Any) -> None:
    connection.execute(update(Label).where(Label.id == label_id).values(**values))


def rename(connection: Connection, label_id: int, name: str) -> None:
    """Give a label of a space that is not visible yet another name."""
    _set(connection, label_id, name=name, name_hash=name_hash(name))


def set_alias(
    connection: Connection, label_id: int, canonical_id: int | None, revision: int
) -> None:
    """Make a label an alias of another, or (None) a label of its own again."""
    _set(connection, label_id, alias_of=canonical_id, revision=revision)


def remove(connection: Connection, ids: Sequence[int], revision: int) -> None:
    """Hide labels; their rows stay until a purge."""
    time = clock.stamp(connection)
    values = {"removed_revision": revision, "removed_at": time, "revision": revision}
    update_among(connection, Label.id, ids, values)


def restore(connection: Connection, label_id: int, revision: int) -> None:
    """Show a hidden label again."""
    _set(connection, label_id, removed_revision=None, removed_at=None, revision=revision)


def prototypes(
    connection: Connection, ids: Sequence[int], dim: int, column: str = "prototype"
) -> Float32s:
    """(n, dim) prototypes of labels that have one, in the order of `ids`; of the `column`
    "text_prototype", their text prototypes.

    Raises:
        Damaged: a vector does not match its checksum.
    """
    rows = verified("label", list(rows_among(connection, VECTORS, Label.id, ids)))
    stored: dict[int, bytes] = {row.id: getattr(row, column) for row in rows}
    return unpack([stored[label_id] for label_id in ids], dim)


def text_prototypes(connection: Connection, ids: Sequence[int], dim: int) -> Float32s:
    """(n, dim) text prototypes of labels, as :func:`prototypes` gives the others."""
    return prototypes(connection, ids, dim, "text_prototype")


def canonical(connection: Connection, ids: Sequence[int]) -> dict[int, int]:
    """Label id → id of its canonical label: for an alias its label, else itself."""
    rows = rows_among(connection, select(Label.id, Label.alias_of), Label.id, ids)
    return {row.id: row.id if row.alias_of is None else row.alias_of for row in rows}


def sample_texts(connection: Connection, space_id: int, limit: int, dim: int) -> Float32s:
    """(n, dim) text prototypes of up to `limit` live labels, those that changed longest ago.

    Raises:
        Damaged: a vector does not match its checksum.
    """
    query = VECTORS.where(Label.space_id == space_id, _LIVE).order_by(Label.revision)
    rows = verified("label", connection.execute(query.limit(limit)).all())
    return unpack([row.text_prototype for row in rows], dim)


def support_counts(connection: Connection, ids: Sequence[int]) -> dict[int, int]:
    """Label id → number of its support images, those of its aliases included."""
    rows = rows_among(connection, select(Label.id, Label.support_count), Label.id, ids)
    return {row.id: row.support_count for row in rows}


def is_alive(connection: Connection, label_id: int) -> bool:
    """Whether a label exists, is not removed, and is no alias."""
    query = select(Label.id).where(Label.id == label_id, _LIVE, Label.alias_of.is_(None))
    return connection.scalar(query) is not None


def alive(connection: Connection, ids: Sequence[int]) -> list[int]:
    """Those of these ids that are live labels, in their order."""
    rows = rows_among(connection, select(Label.id).where(_LIVE), Label.id, ids)
    alive_ids = {row.id for row in rows}
    return [label_id for label_id in ids if label_id in alive_ids]


def more_than(connection: Connection, space_id: int, limit: int) -> bool:
    """Whether the space has more than `limit` live labels; reads no more than that, and only the
    index of names."""
    return connection.scalar(_NAMES_MORE, {"space": space_id, "beyond": limit}) is not None


def prototyped_more_than(connection: Connection, space_id: int, limit: int) -> bool:
    """Whether more than `limit` live labels of the space have support images; reads no more than
    that."""
    return connection.scalar(_PROTOTYPED_MORE, {"space": space_id, "beyond": limit}) is not None


def groups(connection: Connection, ids: Sequence[int]) -> dict[int, int]:
    """Member id → canonical id, of these canonical labels and their live aliases."""
    rows = rows_among(connection, _ALIASES, Label.alias_of, ids)
    return {label_id: label_id for label_id in ids} | {row.id: row.alias_of for row in rows}


def competitors(connection: Connection, space_id: int, limit: int) -> tuple[Int64s, Int64s]:
    """(k,) ids and name hashes of the up to `limit` labels with support images whose name hash is
    smallest, by hash, then id."""
    rows = connection.execute(_COMPETITORS, {"space": space_id, "most": limit}).all()
    table = np.array([tuple(row) for row in rows], dtype=np.int64).reshape(-1, 2)
    return table[:, 0], table[:, 1]


def touched(connection: Connection, space_id: int, since: int) -> list[tuple[int, int]]:
    """(id, support count) of the labels created, changed or removed after revision `since`, purged
    ones left out."""
    rows = connection.execute(_TOUCHED, {"space": space_id, "since": since})
    return [(row.id, row.support_count) for row in rows]


def outputs_by_name(connection: Connection, space_id: int) -> dict[str, int]:
    """Name → output of the live labels of a space."""
    rows = connection.execute(_OUTPUTS, {"space": space_id})
    return {row.name: row.output for row in rows}


def free_outputs(connection: Connection, space_id: int, count: int, most: int) -> list[int]:
    """Up to `count` outputs from 0 to `most` − 1 that no label of the space has.

    A label keeps its output until a purge deletes it, so that it can be restored. Outputs that no
    label ever had are taken first: embeddings of stored images say nothing of these.
    """
    taken = {
        int(one)
        for one in connection.scalars(_TAKEN_OUTPUTS, {"space": space_id})
        if one is not None
    }
    after = max(taken, default=-1) + 1
    order = (output for output in [*range(after, most), *range(after)] if output not in taken)
    return list(islice(order, count))
