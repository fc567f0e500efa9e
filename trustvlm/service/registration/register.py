"""Registers labels and support images: validates everything, encodes outside the transaction,
commits whole labels."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from sqlalchemy import Connection

from trustvlm.catalog.rows import contents, labels, spaces, supports
from trustvlm.catalog.rows.attributes import rows as attributes
from trustvlm.catalog.rows.labels import LabelRecord, NewLabel
from trustvlm.catalog.rows.likeness import not_found_text, unknown
from trustvlm.catalog.rows.spaces import SpaceRecord
from trustvlm.catalog.rows.supports import NewSupport
from trustvlm.catalog.rows.taxonomy import edges
from trustvlm.catalog.store.names import normal
from trustvlm.catalog.store.vectors import unpack
from trustvlm.errors import Conflict, InvalidInput, NotFound
from trustvlm.service.home import originals
from trustvlm.service.home.home import Home, at_most
from trustvlm.service.inputs.outputs import is_external
from trustvlm.service.inputs.space_encoders import encodes_texts
from trustvlm.service.registration.attributes import CHANGES, check_stored
from trustvlm.service.registration.encode_chunk import EncodedChunk, RegisterOptions, encode_chunk
from trustvlm.service.registration.external.outputs import new_outputs
from trustvlm.service.registration.plan import (
    PlannedLabel,
    check_prototype,
    chunks,
    encoded_again,
    plan,
    same_direction,
)
from trustvlm.service.registration.prototypes import prototype_of, renew_prototypes
from trustvlm.service.registration.taxonomy import new_edges
from trustvlm.service.registration.vector_drift import departed
from trustvlm.system.fault_points import reached
from trustvlm.system.signals import unbroken
from trustvlm.types import LabelInput, RegisterResult
from trustvlm.types.arrays import Float32s, iterates
from trustvlm.types.messages.remarks import Remark, notes_of
from trustvlm.types.registration import KnownImage, UnreadImage


@dataclass
class _Tally:
    """Counts of what a call has committed so far; see :class:`RegisterResult`."""

    revision: int
    added_labels: int = 0
    replaced: int = 0
    skipped: int = 0
    ids: list[int] = field(default_factory=list)
    label_ids: dict[str, int] = field(default_factory=dict)
    cut: list[str] = field(default_factory=list)
    failures: list[UnreadImage] = field(default_factory=list)
    taken_out: list[KnownImage] = field(default_factory=list)
    elsewhere: list[KnownImage] = field(default_factory=list)
    remarks: list[tuple[str, tuple[Remark, ...]]] = field(default_factory=list)

    def add(self, encoded: EncodedChunk) -> None:
        """Add what was left out of a chunk, or said of it, when it was encoded."""
        self.skipped += encoded.skipped
        self.failures += encoded.failures
        self.taken_out += encoded.taken_out
        self.remarks += encoded.remarks


def labels_of_call(home: Home, inputs: Iterable[LabelInput]) -> list[LabelInput]:
    """The inputs of a call as a list. Raises InvalidInput: no list, or one that is too long."""
    if isinstance(inputs, LabelInput) or not iterates(inputs):
        raise InvalidInput(f"inputs: expected a list of LabelInput, got {type(inputs).__name__}")
    return at_most(inputs, home.calls, "labels", "inputs")


def register(
    home: Home, space_name: str, inputs: Iterable[LabelInput], options: RegisterOptions
) -> RegisterResult:
    """See :meth:`TrustService.register`."""
    inputs = labels_of_call(home, inputs)
    with home.read(space_name) as (connection, space):
        planned = plan(space, inputs, home.calls)
        existing = labels.find_many(connection, space.id, list(planned))
        if not options.replace:
            check_stored(connection, _given(planned.values(), existing))
        new_edges(connection, space.id, _parents(planned.values()), replace=options.replace)
        if options.must_exist and len(existing) < len(planned):
            missing = unknown(connection, space.id, planned)
            raise NotFound(not_found_text(missing, space.name, "register it first"))
    for label in planned.values():
        _check_against(space, label, existing.get(label.name), options)
        if label.name not in existing:
            check_prototype(space, label)
    drift = departed(home, space, planned)
    tally = _Tally(space.revision)
    for chunk in chunks(space, planned.values(), home.thresholds):
        while not _commit_chunk(home, space, chunk, existing, tally, options):
            continue  # a label that it relied on was removed meanwhile: encode again
    return RegisterResult(
        added_labels=tally.added_labels,
        replaced_labels=tally.replaced,
        added_supports=len(tally.ids),
        skipped_duplicates=tally.skipped,
        failures=tuple(tally.failures),
        revision=tally.revision,
        ids=tuple(tally.ids),
        label_ids=tuple(tally.label_ids.get(normal(item.name), -1) for item in inputs),
        drift=drift,
        cut_prompts=tuple(name for name in tally.cut if name in tally.label_ids),
        elsewhere=tuple(tally.elsewhere),
        taken_out=tuple(tally.taken_out),
        notes=notes_of(tally.remarks),
    )


def _parents(planned: Iterable[PlannedLabel]) -> dict[str, str]:
    return {label.name: label.parent for label in planned if label.parent is not None}


def _check_against(
    space: SpaceRecord, label: PlannedLabel, existing: LabelRecord | None, options: RegisterOptions
) -> None:
    """Compare a label of the call with the stored one.

    Raises:
        Conflict: another text vector or prompt. NotFound: `must_exist`, and it does not.
        InvalidInput: nothing gives a text.
    """
    if existing is None:
        if options.must_exist:
            raise NotFound(f"no label {label.name!r} in space {space.name!r}; register it first")
        if label.text_vector is None and not (
            encodes_texts(space.classifier) or is_external(space)
        ):
            raise InvalidInput(
                f"label {label.name!r}: the classifier of space {space.name!r} is "
                f"{space.classifier!r}, which cannot encode its name; a new label needs text_vector"
            )
        return
    if options.replace:
        return
    if encoded_again(label, existing):
        raise Conflict(
            f"label {label.name!r} has the prompt {existing.prompt!r}, not {label.prompt!r}; "
            f"{CHANGES} it"
        )
    text = label.text(space)
    if text is not None and not same_direction(
        text, unpack([existing.text_prototype], space.classifier_dim)[0]
    ):
        raise Conflict(f"label {label.name!r} has another text vector; {CHANGES} it")


def _given(
    planned: Iterable[PlannedLabel], existing: Mapping[str, LabelRecord]
) -> list[tuple[LabelRecord, str]]:
    """The labels that exist and that the call gives attributes to."""
    return [
        (existing[label.name], label.attributes)
        for label in planned
        if label.attributes is not None and label.name in existing
    ]


def _commit_chunk(
    home: Home,
    space: SpaceRecord,
    chunk: Sequence[PlannedLabel],
    earlier: Collection[str],
    tally: _Tally,
    options: RegisterOptions,
) -> bool:
    """Encode a chunk, commit it and report it; False, and nothing done, where a label that it
    relied on was removed meanwhile. `earlier`: the labels that existed when the call began."""
    encoded = encode_chunk(home, space, chunk, earlier, options)
    with unbroken():  # what is committed is reported, also when the process was asked to end
        with home.catalog.write("register") as connection:
            existing = _existing(connection, space, chunk, encoded, options.replace)
            if existing is None:
                return False
            for label in chunk:
                _check_against(space, label, existing.get(label.name), options)
            if not options.replace:
                check_stored(connection, _given(chunk, existing))
            added = _write(connection, space, chunk, existing, encoded, tally, options.replace)
            if encoded.originals:
                named = {label.name for label in chunk if label.images}
                owners = [tally.label_ids[name] for name in named & tally.label_ids.keys()]
                originals.refer(home, connection, owners, encoded.originals, options.limits)
            if added:
                home.background_fit.supports_changed(connection, space, tally.revision)
        if options.on_commit is not None:
            options.on_commit([label.name for label in chunk if label.name in tally.label_ids])
    return True


def _existing(
    connection: Connection,
    space: SpaceRecord,
    chunk: Sequence[PlannedLabel],
    encoded: EncodedChunk,
    replace: bool,
) -> dict[str, LabelRecord] | None:
    """The labels of the chunk that exist; None where one that the encoding relied on does not.

    Raises:
        Conflict: the space is another one.
    """
    spaces.require_same(connection, space)
    existing = labels.find_many(connection, space.id, [label.name for label in chunk])
    ids = {name: record.id for name, record in existing.items()}
    complete = is_external(space) or all(
        label.name in encoded.texts
        or (label.name in existing and not (replace and encoded_again(label, existing[label.name])))
        for label in chunk
    )
    return existing if complete and encoded.relied_on.items() <= ids.items() else None


def _write(
    connection: Connection,
    space: SpaceRecord,
    chunk: Sequence[PlannedLabel],
    existing: Mapping[str, LabelRecord],
    encoded: EncodedChunk,
    tally: _Tally,
    replace: bool,
) -> bool:
    """Insert what is new, change what is replaced, and recompute the prototypes concerned, at one
    new revision, or at none when nothing is new; whether support images were added or texts
    replaced."""
    fresh = _fresh_supports(connection, existing, encoded)
    # A new label whose images all failed is not the label that the caller means: it stays out.
    new = [
        label
        for label in chunk
        if label.name not in existing and (fresh[label.name] or not label.images)
    ]
    ids = {name: record.id for name, record in existing.items()}
    added: list[int] = []
    kept = [label for label in chunk if label.name in existing or label in new]
    placed = new_edges(connection, space.id, _parents(kept), replace=replace)
    images = sum(map(len, fresh.values()))
    changes = _replaced_labels(connection, space, chunk, existing, encoded.texts) if replace else []
    texts = sum(one.text is not None for one in changes)
    if new or placed or images or changes:
        revision = spaces.advance(
            connection, space.id, labels=max(len(new) + len(changes), len(placed)), supports=images,
            effect="verdicts" if new or images or texts else "nodes" if placed else "none",
        )  # fmt: skip
        _store(connection, space, revision, changes)
        edges.store(connection, space.id, revision, placed)
        if is_external(space):
            encoded.texts |= new_outputs(connection, space, [label.name for label in new])
        rows = [_new_label(space, label, encoded, fresh[label.name]) for label in new]
        inserted = labels.insert_many(connection, space.id, revision, rows)
        ids |= dict(zip([label.name for label in new], inserted, strict=True))
        reached("register.labels")
        owned = [(ids[label.name], image) for label in chunk for image in fresh[label.name]]
        added = supports.insert_many(connection, space.id, revision, owned)
        changed = [record.id for name, record in existing.items() if fresh[name]]
        renew_prototypes(connection, space, changed, revision)
        tally.revision = revision
    tally.added_labels += len(new)
    tally.replaced += len(changes)
    tally.ids += added
    tally.label_ids |= ids
    tally.skipped += sum(map(len, encoded.supports.values())) - images
    tally.cut += [name for name in encoded.cut if name not in existing]
    tally.elsewhere += contents.elsewhere(connection, space.id, encoded.contents)
    tally.add(encoded)
    return bool(added or texts)


def _fresh_supports(
    connection: Connection, existing: Mapping[str, LabelRecord], encoded: EncodedChunk
) -> dict[str, list[NewSupport]]:
    """Label name → the support images that it does not have, each content once."""
    names = {record.id: name for name, record in existing.items()}
    stored: dict[str, set[bytes]] = {name: set() for name in encoded.supports}
    for label_id, content in supports.hashes(connection, list(names)):
        stored[names[label_id]].add(content)
    fresh: dict[str, dict[bytes, NewSupport]] = {name: {} for name in encoded.supports}
    for name, images in encoded.supports.items():
        for image in images:
            if image.content_hash not in stored[name]:
                fresh[name].setdefault(image.content_hash, image)
    return {name: list(images.values()) for name, images in fresh.items()}


def _new_label(
    space: SpaceRecord, label: PlannedLabel, encoded: EncodedChunk, images: Sequence[NewSupport]
) -> NewLabel:
    source = "name" if label.prompt is None else "prompt"
    source = "output" if is_external(space) else source
    return NewLabel(
        name=label.name,
        prompt=label.prompt,
        text_source=source if label.text_vector is None else "vector",
        text_prototype=encoded.texts[label.name],
        prototype=prototype_of(label.name, images),
        support_count=len(images),
        attributes=None if label.attributes == "{}" else label.attributes,
    )


@dataclass(frozen=True, eq=False)
class _Replaced:
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


def _replaced_labels(
    connection: Connection,
    space: SpaceRecord,
    chunk: Iterable[PlannedLabel],
    existing: Mapping[str, LabelRecord],
    texts: Mapping[str, Float32s],
) -> list[_Replaced]:
    """What changes of the labels of a chunk that exist; `texts`: the encoded ones, and those that
    came as vectors."""
    pairs = [(label, existing[label.name]) for label in chunk if label.name in existing]
    given = [record.id for label, record in pairs if label.attributes is not None]
    stored = attributes.contents(connection, attributes.LABELS, given)
    changes = []
    for label, record in pairs:
        text, prompt, source = None, None, "vector"
        if label.text_vector is not None:
            now = unpack([record.text_prototype], space.classifier_dim)[0]
            given_text = texts[label.name]
            text = None if same_direction(given_text, now) else given_text
        elif encoded_again(label, record):
            text, prompt, source = texts[label.name], label.prompt, "prompt"
        described = label.attributes
        if described == stored.get(record.id, "{}"):
            described = None
        if text is not None or described is not None:
            changes.append(_Replaced(record, prompt, source, text, described))
    return changes


def _store(
    connection: Connection, space: SpaceRecord, revision: int, changes: Sequence[_Replaced]
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
        attributes.put(connection, attributes.LABELS, space.id, revision, described)
