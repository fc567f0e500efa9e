"""Registering labels and support images: validate everything, encode outside the transaction,
commit whole labels."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field

import numpy as np
from sqlalchemy import Connection

from trustvlm.catalog.rows import contents, labels, spaces, supports
from trustvlm.catalog.rows.labels import LabelRecord, NewLabel
from trustvlm.catalog.rows.likeness import told, unknown
from trustvlm.catalog.rows.spaces import SpaceRecord
from trustvlm.catalog.rows.supports import NewSupport
from trustvlm.catalog.store.names import normal
from trustvlm.catalog.store.vectors import unpack
from trustvlm.encoders import (
    EncodedImage,
    ImageLimits,
    Remark,
    UnreadableImage,
    hash_image,
    notes_of,
    source_name,
)
from trustvlm.errors import Conflict, InvalidInput, NotFound
from trustvlm.scoring.prototypes import mean_prototype
from trustvlm.service.home import originals
from trustvlm.service.home.home import Home
from trustvlm.service.home.limits import at_most
from trustvlm.service.inputs.encode import (
    encode_for,
    encode_prompts,
    encoder_of,
    encodes_texts,
    prompts_of,
    reading,
)
from trustvlm.service.inputs.names import source_text
from trustvlm.service.registration.plan import (
    PlannedLabel,
    check_prototype,
    chunks,
    plan,
    same_direction,
    text_prototypes,
)
from trustvlm.service.registration.vector_drift import departed
from trustvlm.system.fault_points import reached
from trustvlm.system.signals import unbroken
from trustvlm.types import LabelInput, RegisterResult
from trustvlm.types.array_input import iterates
from trustvlm.types.arrays import Float32s
from trustvlm.types.registration import KnownImage, UnreadImage

__all__ = ["prototype_of", "register", "renew_prototypes"]

Progress = Callable[[int], None]


@dataclass(frozen=True)
class _Asked:
    """How the call is to go."""

    progress: Progress | None
    must_exist: bool
    keep_originals: bool
    bring_back: bool
    limits: ImageLimits


@dataclass
class _Tally:
    """What the call has done so far."""

    added_labels: int = 0
    skipped: int = 0
    failures: list[tuple[str, str]] = field(default_factory=list)
    revision: int = 0
    ids: list[int] = field(default_factory=list)
    label_ids: dict[str, int] = field(default_factory=dict)
    cut: list[str] = field(default_factory=list)
    taken_out: list[KnownImage] = field(default_factory=list)
    elsewhere: list[KnownImage] = field(default_factory=list)
    remarks: list[tuple[str, tuple[Remark, ...]]] = field(default_factory=list)


@dataclass
class _EncodedImages:
    """What encoding a chunk gave.

    Attributes:
        supports: of each label. skipped: images that their label had already, in the labels
            `relied_on` (name → id).
        failures: (source, reason) of images that could not be read. remarks: on the others, by
            name.
        taken_out: images that were removed from their label before. contents: label → content hash
            → what the image is called.
    """

    supports: dict[str, list[NewSupport]]
    contents: dict[str, dict[bytes, str | None]]
    skipped: int = 0
    relied_on: dict[str, int] = field(default_factory=dict)
    failures: list[tuple[str, str]] = field(default_factory=list)
    taken_out: list[KnownImage] = field(default_factory=list)
    remarks: list[tuple[str, tuple[Remark, ...]]] = field(default_factory=list)


def register(
    home: Home,
    space_name: str,
    inputs: Iterable[LabelInput],
    on_commit: Callable[[list[str]], None] | None = None,
    progress: Progress | None = None,
    *,
    must_exist: bool = False,
    keep_originals: bool = False,
    bring_back: bool = False,
    image_range: tuple[float, float] | None = None,
    accept_truncated: bool = False,
) -> RegisterResult:
    """See :meth:`TrustService.register`; with `must_exist`, unknown labels are NotFound instead of
    new."""
    if isinstance(inputs, LabelInput) or not iterates(inputs):
        raise InvalidInput(f"inputs: expected a list of LabelInput, got {type(inputs).__name__}")
    inputs = at_most(inputs, home.calls, "labels", "inputs")
    with home.catalog.read() as connection:
        space = spaces.find(connection, space_name)
        limits = reading(home, space, image_range, accept_truncated)
        asked = _Asked(progress, must_exist, keep_originals, bring_back, limits)
        planned = plan(space, inputs, home.calls)
        known = labels.find_many(connection, space.id, list(planned))
        if must_exist and len(known) < len(planned):
            raise NotFound(
                told(unknown(connection, space.id, planned), space.name, "register it first")
            )
    for label in planned.values():
        _check_against(space, label, known.get(label.name), must_exist)
        if label.name not in known:
            check_prototype(space, label)
    drift = departed(home, space, planned)
    tally = _Tally(revision=space.revision)
    for chunk in chunks(space, planned.values()):
        while not _commit_chunk(home, space, chunk, tally, asked, on_commit):
            continue  # a label that it relied on has vanished meanwhile
    return RegisterResult(
        added_labels=tally.added_labels,
        added_supports=len(tally.ids),
        skipped_duplicates=tally.skipped,
        failures=tuple(map(UnreadImage._make, tally.failures)),
        revision=tally.revision,
        ids=tuple(tally.ids),
        label_ids=tuple(tally.label_ids.get(normal(item.name), -1) for item in inputs),
        drift=drift,
        cut_prompts=tuple(name for name in tally.cut if name in tally.label_ids),
        elsewhere=tuple(tally.elsewhere),
        taken_out=tuple(tally.taken_out),
        notes=notes_of(tally.remarks),
    )


def _check_against(
    space: SpaceRecord, label: PlannedLabel, known: LabelRecord | None, must_exist: bool
) -> None:
    """What is asked must fit what is stored.

    Raises:
        Conflict: another text vector or prompt. NotFound: `must_exist`, and it does not.
            InvalidInput: nothing gives a text.
    """
    if known is None:
        if must_exist:
            raise NotFound(f"no label {label.name!r} in space {space.name!r}; register it first")
        if label.text_vector is None and not encodes_texts(space.classifier):
            raise InvalidInput(
                f"label {label.name!r}: the classifier of space {space.name!r} is "
                f"{space.classifier!r}, which cannot encode "
                f"its name; a new label needs text_vector"
            )
        return
    if label.prompt is not None and label.prompt != known.prompt:
        raise Conflict(
            f"label {label.name!r} has the prompt {known.prompt!r}, not {label.prompt!r}; "
            f"update_label changes it"
        )
    text = label.text(space)
    if text is not None and not same_direction(
        text, unpack([known.text_prototype], space.classifier_dim)[0]
    ):
        raise Conflict(f"label {label.name!r} has another text vector; update_label changes it")


def _commit_chunk(
    home: Home,
    space: SpaceRecord,
    chunk: Sequence[PlannedLabel],
    tally: _Tally,
    asked: _Asked,
    on_commit: Callable[[list[str]], None] | None,
) -> bool:
    """Encode a chunk, commit it and tell; whether it was, as long as the labels that it relied on
    were there."""
    encoded = _encode_images(home, space, chunk, asked)
    images = [image for label in chunk for image in label.images]
    kept = originals.keep(home, images, asked.limits) if asked.keep_originals else {}
    texts = text_prototypes(space, chunk)
    encoded_texts, cut = _encode_texts(
        home, space, [label for label in chunk if label.name not in texts]
    )
    texts |= encoded_texts
    with unbroken():  # what is committed is told, also when the process was asked to end
        with home.catalog.write("register") as connection:
            if spaces.find(connection, space.name).id != space.id:
                raise Conflict(
                    f"space {space.name!r} is another one since the call began: it was removed "
                    f"and made again, or "
                    f"re-embedded; repeat the call"
                )
            known = labels.find_many(connection, space.id, [label.name for label in chunk])
            there = {name: record.id for name, record in known.items()}
            if not encoded.relied_on.items() <= there.items() or any(
                label.name not in there and label.name not in texts for label in chunk
            ):
                return False
            for label in chunk:
                _check_against(space, label, known.get(label.name), asked.must_exist)
            before = len(tally.ids)
            tally.cut += [name for name in cut if name not in known]
            _write(connection, space, chunk, known, texts, encoded, tally)
            if kept:
                owners = [
                    tally.label_ids[label.name]
                    for label in chunk
                    if label.images and label.name in tally.label_ids
                ]
                originals.refer(home, connection, owners, kept, asked.limits)
            if len(tally.ids) > before:
                home.fitter.supports_changed(connection, space, tally.revision)
        if on_commit is not None:
            on_commit([label.name for label in chunk if label.name in tally.label_ids])
    return True


def _encode_images(
    home: Home, space: SpaceRecord, chunk: Sequence[PlannedLabel], asked: _Asked
) -> _EncodedImages:
    """The support images of each label: those that came as vectors, and the readable images it does
    not have yet; but none that was taken out of it, unless it is to be brought back."""
    supported = [label.name for label in chunk if label.images or label.hashes]
    known, present, gone = {}, set(), {}
    if supported:
        with home.catalog.read() as connection:
            known = labels.find_many(connection, space.id, supported)
            ids = [record.id for record in known.values()]
            present = supports.hashes(connection, ids)
            gone = contents.taken_out(connection, ids, present)
    found = _EncodedImages({label.name: [] for label in chunk}, {label.name: {} for label in chunk})

    def stays_out(name: str, content: bytes, source: str | None) -> bool:
        found.contents[name].setdefault(content, source)
        before = gone.get((known[name].id, content)) if name in known else None
        if before is not None:
            found.taken_out.append(KnownImage(source, name, name, before))
        return before is not None and not asked.bring_back

    for label in chunk:
        for v in label.vectors(space):
            if not stays_out(label.name, v.content_hash, None):
                found.supports[label.name].append(
                    NewSupport(v.content_hash, None, v.embedding, v.classifier_embedding, None)
                )
    wanted = []
    for label in chunk:
        for source in label.images:
            try:
                content = hash_image(source, asked.limits)
            except UnreadableImage as error:
                found.failures.append((source_name(source), error.reason))
            else:
                taken_out = stays_out(label.name, content, source_name(source))
                if not taken_out and (
                    label.name not in known or (known[label.name].id, content) not in present
                ):
                    wanted.append((label.name, source))
                    continue
                # Nothing to encode: this is what makes repeating an interrupted call cheap.
                found.skipped += not taken_out
                found.relied_on[label.name] = known[label.name].id
            if asked.progress is not None:
                asked.progress(1)
    sources = [source for _, source in wanted]
    results = encode_for(home, space, sources, asked.progress, asked.limits) if wanted else []
    for (name, _), result in zip(wanted, results, strict=True):
        if isinstance(result, EncodedImage):
            other = result.embeddings[1] if len(result.embeddings) > 1 else None
            source = source_text(result.source)
            support = NewSupport(
                result.content_hash, source, result.embeddings[0], other, result.thumbnail
            )
            found.supports[name].append(support)
            found.remarks.append((result.source, result.remarks))
        else:
            found.failures.append((result.source, result.reason))
    return found


def _encode_texts(
    home: Home, space: SpaceRecord, missing: Sequence[PlannedLabel]
) -> tuple[dict[str, Float32s], list[str]]:
    """Text prototypes encoded from names or prompts of labels that are not there yet, and which of
    these prompts are cut."""
    if missing:
        with home.catalog.read() as connection:
            known = labels.find_many(connection, space.id, [label.name for label in missing])
        missing = [label for label in missing if label.name not in known]
    if not missing:
        return {}, []
    prompts = {
        label.name: prompts_of(label.name, label.prompt, space.templates) for label in missing
    }
    return encode_prompts(encoder_of(home, space, "classifier"), prompts)


def _write(
    connection: Connection,
    space: SpaceRecord,
    chunk: Sequence[PlannedLabel],
    known: dict[str, LabelRecord],
    texts: dict[str, Float32s],
    encoded: _EncodedImages,
    tally: _Tally,
) -> None:
    """Insert what is new, recompute the prototypes concerned; one revision, or none when nothing is
    new."""
    names = {record.id: name for name, record in known.items()}
    seen = {(names[owner], content) for owner, content in supports.hashes(connection, list(names))}
    fresh: dict[str, list[NewSupport]] = {label.name: [] for label in chunk}
    skipped = encoded.skipped
    for label in chunk:
        for support in encoded.supports[label.name]:
            key = (label.name, support.content_hash)
            if key in seen:
                skipped += 1
            else:
                seen.add(key)
                fresh[label.name].append(support)
    # A new label that was to have support images and has none is not the label that was asked for:
    # it stays out.
    new = [
        label
        for label in chunk
        if label.name not in known and (fresh[label.name] or not label.images)
    ]
    ids = {name: record.id for name, record in known.items()}
    added: list[int] = []
    if new or any(fresh.values()):
        revision = spaces.advance(connection, space.id)
        rows = [_new_label(label, texts[label.name], fresh[label.name]) for label in new]
        ids |= dict(
            zip(
                [label.name for label in new],
                labels.insert_many(connection, space.id, revision, rows),
                strict=True,
            )
        )
        reached("register.labels")
        pairs = [(ids[label.name], support) for label in chunk for support in fresh[label.name]]
        added = supports.insert_many(connection, space.id, revision, pairs)
        changed = [label.name for label in chunk if label.name in known and fresh[label.name]]
        renew_prototypes(connection, space, [ids[name] for name in changed], revision)
        tally.revision = revision
    tally.added_labels += len(new)
    tally.skipped += skipped
    tally.failures += encoded.failures
    tally.taken_out += encoded.taken_out
    tally.elsewhere += contents.elsewhere(connection, space.id, encoded.contents)
    tally.remarks += encoded.remarks
    tally.ids += added
    tally.label_ids |= ids


def _new_label(label: PlannedLabel, text: Float32s, fresh: Sequence[NewSupport]) -> NewLabel:
    source = (
        "vector"
        if label.text_vector is not None
        else "prompt"
        if label.prompt is not None
        else "name"
    )
    return NewLabel(
        label.name, label.prompt, source, text, prototype_of(label.name, fresh), len(fresh)
    )


def prototype_of(name: str, images: Sequence[NewSupport]) -> Float32s | None:
    """The prototype of a label with these support images, in whatever order they come; None without
    any.

    Raises:
        InvalidInput: their embeddings cancel out.
    """
    if not images:
        return None
    ordered = sorted(images, key=lambda image: image.content_hash)
    try:
        return mean_prototype(np.array([image.embedding for image in ordered], dtype=np.float64))
    except InvalidInput as error:
        raise InvalidInput(f"label {name!r}: {error}") from error


def renew_prototypes(
    connection: Connection, space: SpaceRecord, label_ids: Sequence[int], revision: int
) -> None:
    """Recompute the prototypes of labels whose support images changed, from all they have now.

    The support images of an alias are those of the label it stands for.
    """
    label_ids = sorted(set(labels.canonical(connection, label_ids).values()))
    if not label_ids:
        return
    owners, _, embeddings = supports.embeddings(connection, label_ids, space.verifier_dim)
    for label_id in label_ids:
        own = embeddings[owners == label_id]
        try:
            prototype = mean_prototype(own.astype(np.float64)) if len(own) else None
        except InvalidInput as error:
            raise InvalidInput(
                f"label {labels.name_of(connection, label_id)!r}: {error}"
            ) from error
        labels.set_prototype(connection, label_id, revision, prototype, len(own))
