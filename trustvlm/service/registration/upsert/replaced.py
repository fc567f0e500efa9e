"""What a register call with `replace` changes of labels that exist."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from sqlalchemy import Connection

from trustvlm.catalog.rows import labels
from trustvlm.catalog.rows.attributes import rows
from trustvlm.catalog.rows.labels import LabelRecord
from trustvlm.catalog.rows.spaces import SpaceRecord
from trustvlm.catalog.store.vectors import unpack
from trustvlm.service.registration.plan import PlannedLabel, same_direction
from trustvlm.types.arrays import Float32s


@dataclass(frozen=True, eq=False)
class Replaced:
    """A label that exists, with what a call gives it in place of what it has.

    Attributes:
        prompt, source, text: its text prototype and where that comes from; `text` None: it stays.
        attributes: as JSON; None: they stay.
    """

    record: LabelRecord
    prompt: str | None
    source: str
    text: Float32s | None
    attributes: str | None


def encoded_again(label: PlannedLabel, record: LabelRecord | None) -> bool:
    """Whether the call gives a label that exists another prompt, which is to be encoded."""
    return record is not None and label.prompt is not None and label.prompt != record.prompt


def replaced_labels(
    connection: Connection,
    space: SpaceRecord,
    chunk: Iterable[PlannedLabel],
    existing: Mapping[str, LabelRecord],
    texts: Mapping[str, Float32s],
) -> list[Replaced]:
    """What changes of the labels of a chunk that exist; `texts`: the encoded ones, and those that
    came as vectors."""
    pairs = [(label, existing[label.name]) for label in chunk if label.name in existing]
    given = [record.id for label, record in pairs if label.attributes is not None]
    stored = rows.contents(connection, rows.LABELS, given)
    changes = []
    for label, record in pairs:
        text, prompt, source = None, None, "vector"
        if label.text_vector is not None:
            now = unpack([record.text_prototype], space.classifier_dim)[0]
            given_text = texts[label.name]
            text = None if same_direction(given_text, now) else given_text
        elif encoded_again(label, record):
            text, prompt, source = texts[label.name], label.prompt, "prompt"
        attributes = label.attributes
        if attributes == stored.get(record.id, "{}"):
            attributes = None
        if text is not None or attributes is not None:
            changes.append(Replaced(record, prompt, source, text, attributes))
    return changes


def store(
    connection: Connection, space: SpaceRecord, revision: int, changes: Sequence[Replaced]
) -> None:
    """Store what replaces what labels have."""
    for one in changes:
        if one.text is not None:
            labels.set_text(
                connection, one.record.id, revision, name=one.record.name, prompt=one.prompt,
                text_source=one.source, text_prototype=one.text,
            )  # fmt: skip
    described = {one.record.id: one.attributes for one in changes if one.attributes is not None}
    if described:
        rows.put(connection, rows.LABELS, space.id, revision, described)
