"""Fills the space beside a space: each label with its aliases is made completely, outside of the
transaction that stores it.

A label that changes afterwards is made again from the embeddings that its counterpart has already,
so that only what is new is encoded. A run that was killed continues where it was.
"""

from __future__ import annotations

import logging
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from sqlalchemy import Connection

from trustvlm.catalog.rows import labels, originals, spaces, supports
from trustvlm.catalog.rows.export import StoredLabel, StoredSupport, label_rows, support_rows
from trustvlm.catalog.rows.labels import NewLabel
from trustvlm.catalog.rows.supports import NewSupport
from trustvlm.catalog.store.bulk import slices
from trustvlm.catalog.store.vectors import checksum, unpack, vector
from trustvlm.catalog.upkeep import reembed_rows, reembed_runs
from trustvlm.catalog.upkeep.reembed_runs import ReembedRecord
from trustvlm.errors import Conflict
from trustvlm.service.home.home import Home
from trustvlm.service.inputs.space_encoders import cut_message, encode_prompts, encoder_of
from trustvlm.service.reembed.sources import Embeddings, NewText, Sources
from trustvlm.service.registration.encode_chunk import support_of
from trustvlm.service.registration.plan import chunked
from trustvlm.service.registration.prototypes import prototype_of

CHUNK_IMAGES, CHUNK_VECTORS = 256, 2_048
"""Support images, that are encoded or come as vectors, of one transaction: what a kill can cost."""

Progress = Callable[[int], None]

log = logging.getLogger("trustvlm")


@dataclass(eq=False)
class _Label:
    """A label and its counterpart in the making.

    Attributes:
        supports: support image id → the image by the new encoders.
        files: support images that are to be encoded, with their files.
    """

    row: StoredLabel
    text: NewText
    supports: dict[int, NewSupport] = field(default_factory=dict)
    files: list[tuple[StoredSupport, Path]] = field(default_factory=list)

    @property
    def images(self) -> dict[bytes, NewSupport]:
        """Its support images by content hash: two that get equal vectors become one."""
        return {image.content_hash: image for image in self.supports.values()}


def stage_changes(
    home: Home, job: ReembedRecord, sources: Sources, progress: Progress | None, *, incomplete: bool
) -> bool:
    """Bring the labels that changed since the last pass to the new space; whether there were any.

    Args:
        incomplete: try again what could not be made in an earlier pass.

    Raises:
        Conflict: the run was aborted, or finished by another process.
    """
    with home.catalog.read() as connection:
        job = _current(connection, job)
        revision = spaces.find_by_id(connection, job.space_id).revision
        removed = reembed_rows.removed_labels(connection, job)
        groups = reembed_rows.changed_groups(connection, job, incomplete=incomplete)
    for ids in slices(removed):
        with home.catalog.write("reembed.stage") as connection:
            reembed_rows.drop(connection, _current(connection, job), ids)
    images = CHUNK_IMAGES if sources.verifier_encodes else CHUNK_VECTORS
    most = home.thresholds.reembed_labels
    for chunk in chunked(groups, lambda group: group[0], images, most):
        label_ids = [label_id for _, members in chunk for label_id in members]
        planned = _plan(home, job, sources, label_ids)
        _encode(home, sources, planned, progress)
        with home.catalog.write("reembed.stage") as connection:
            _write(connection, _current(connection, job), label_ids, planned)
    if revision != job.synced:
        with home.catalog.write("reembed.follow") as connection:
            reembed_runs.set_synced(connection, job, revision)
    return bool(removed or groups)


def _current(connection: Connection, job: ReembedRecord) -> ReembedRecord:
    now = reembed_runs.find(connection, job.space_id)
    if now is None or (now.id, now.state) != (job.id, "staged"):
        raise Conflict("re-embedding was aborted, or finished by another process, during the call")
    return now


def _plan(
    home: Home, job: ReembedRecord, sources: Sources, label_ids: Sequence[int]
) -> list[_Label]:
    """Labels as they are now, canonical labels before their aliases, without those that nothing
    gives a text for and their aliases."""
    with home.catalog.read() as connection:
        rows = _labels(connection, job.space_id, label_ids)
        images = _supports(connection, label_ids)
        staged_ids = reembed_rows.counterparts(connection, job, "label", label_ids)
        replaced = reembed_rows.counterparts(connection, job, "text", label_ids)
        staged_labels = {
            row.id: row for row in _labels(connection, job.other_id, list(staged_ids.values()))
        }
        staged_images = {
            image.id: image for image in _supports(connection, list(staged_ids.values()))
        }
        pairs = reembed_rows.counterparts(
            connection, job, "support", [image.id for image in images]
        )
    by_id: dict[int, _Label] = {}
    names: set[str] = set()
    for row in sorted(rows, key=lambda row: row.alias_of is not None):
        staged_label = staged_labels.get(staged_ids.get(row.id, -1))
        if row.text_source == "vector" and replaced.get(row.id) != checksum(row.text_prototype):
            staged_label = None  # its text vector was changed meanwhile
        text = sources.text(row, staged_label)
        if text is not None and (row.alias_of is None or row.alias_of in names):
            names.add(row.name)
            by_id[row.id] = _Label(row, text)
    for image in images:
        if image.label_id in by_id:
            staged = staged_images.get(pairs.get(image.id, -1))
            _plan_support(sources, by_id[image.label_id], image, staged)
    return list(by_id.values())


def _labels(connection: Connection, space_id: int, ids: Sequence[int]) -> list[StoredLabel]:
    batches = [label_rows(connection, space_id, len(some), some) for some in slices(ids)]
    return [row for batch in batches for rows in batch for row in rows]


def _supports(connection: Connection, label_ids: Sequence[int]) -> list[StoredSupport]:
    batches = [support_rows(connection, some, CHUNK_IMAGES) for some in slices(label_ids)]
    return [row for batch in batches for rows in batch for row in rows]


def _plan_support(
    sources: Sources, label: _Label, image: StoredSupport, staged: StoredSupport | None
) -> None:
    if staged is not None:
        label.supports[image.id] = NewSupport(
            staged.content_hash,
            staged.source,
            unpack([staged.embedding], sources.new.verifier_dim)[0],
            vector(staged.classifier_embedding, sources.new.classifier_dim),
            staged.thumbnail,
        )
    elif (ready := sources.support(image)) is not None:
        label.supports[image.id] = ready
    elif sources.verifier_encodes and (path := sources.originals.find(image.content_hash)):
        label.files.append((image, path))
    elif (ready := sources.support(image, partial=True)) is not None:
        label.supports[image.id] = ready


def _encode(
    home: Home, sources: Sources, planned: Sequence[_Label], progress: Progress | None
) -> None:
    """Encode the originals and prompts of these labels; an original that cannot be read stays
    missing."""
    files = [(label, image, path) for label in planned for image, path in label.files]
    contents = [(image.content_hash, path) for _, image, path in files]
    results = sources.originals.encode(sources.new, contents, progress)
    for (label, image, _), result in zip(files, results, strict=True):
        if result is not None:
            label.supports[image.id] = support_of(result, image.content_hash, image.source)
    prompts = {label.row.name: label.text.prompts for label in planned if label.text.prompts}
    if not prompts:
        return
    texts, cut = encode_prompts(encoder_of(home, sources.new, "classifier"), prompts)
    for label in planned:
        if label.text.prompts:
            label.text = replace(label.text, prototype=texts[label.row.name])
    if cut:
        log.warning("%s", cut_message(cut))


def _write(
    connection: Connection, job: ReembedRecord, label_ids: Sequence[int], planned: Sequence[_Label]
) -> None:
    """Replace the counterparts of the labels `label_ids` by the planned ones."""
    reembed_rows.drop(connection, job, label_ids)
    _free_names(connection, job, [label.row.name for label in planned])
    revision = spaces.advance(connection, job.other_id, labels=len(planned))
    staged_ids = _insert_labels(connection, job, revision, planned)
    _insert_supports(connection, job, revision, planned, staged_ids)


def _insert_labels(
    connection: Connection, job: ReembedRecord, revision: int, planned: Sequence[_Label]
) -> dict[str, int]:
    """Insert the counterparts of labels, aliases of each other as these are; name → id."""
    shared: dict[str, dict[bytes, NewSupport]] = defaultdict(dict)  # with those of the aliases
    for label in planned:
        shared[label.row.alias_of or label.row.name] |= label.images
    rows = [_new_label(label, shared[label.row.name]) for label in planned]
    inserted = labels.insert_many(connection, job.other_id, revision, rows)
    ids = {label.row.name: key for label, key in zip(planned, inserted, strict=True)}
    for row in (label.row for label in planned):
        if row.alias_of is not None:
            labels.set_alias(connection, ids[row.name], ids[row.alias_of], revision)
    pairs = [(label.row.id, ids[label.row.name]) for label in planned]
    reembed_rows.record(connection, job, "label", pairs)
    vectors = [label.row for label in planned if label.row.text_source == "vector"]
    texts = [(row.id, checksum(row.text_prototype)) for row in vectors]
    reembed_rows.record(connection, job, "text", texts)
    return ids


def _insert_supports(
    connection: Connection,
    job: ReembedRecord,
    revision: int,
    planned: Sequence[_Label],
    label_ids: Mapping[str, int],
) -> None:
    """Insert the support images of the counterparts, which have these ids by name."""
    owned = [
        (label_ids[label.row.name], image) for label in planned for image in label.images.values()
    ]
    inserted = supports.insert_many(connection, job.other_id, revision, owned)
    keys = [(label_id, image.content_hash) for label_id, image in owned]
    support_ids = dict(zip(keys, inserted, strict=True))
    kept = originals.referred(connection, [content for _, content in keys])
    originals.refer(connection, list(label_ids.values()), kept)
    pairs = [
        (source_id, support_ids[label_ids[label.row.name], image.content_hash])
        for label in planned
        for source_id, image in label.supports.items()
    ]
    reembed_rows.record(connection, job, "support", pairs)


def _new_label(label: _Label, images: dict[bytes, NewSupport]) -> NewLabel:
    row, text = label.row, label.text
    assert text.prototype is not None
    prototype = prototype_of(row.name, list(images.values()))
    return NewLabel(row.name, row.prompt, text.source, text.prototype, prototype, len(images))


def _free_names(connection: Connection, job: ReembedRecord, names: Sequence[str]) -> None:
    """Rename the counterparts that still have a name which their label gave up: they are made again
    in this pass or the next one."""
    for name, holder in labels.find_many(connection, job.other_id, names).items():
        if holder.name == name:  # no name of a user's has a line break
            labels.rename(connection, holder.id, f"{name}\n{holder.id}")


def stage_observations(home: Home, job: ReembedRecord, sources: Sources) -> None:
    """Bring the images of known label to the new space, as far as their originals or stored
    embeddings serve; the others stay with the old embeddings."""
    last_id, copied = 0, False
    while True:
        with home.catalog.read() as connection:
            rows = reembed_rows.observations_left(connection, job, last_id, CHUNK_IMAGES)
        if not rows:
            break
        last_id = rows[-1].id
        embeddings: dict[int, Embeddings] = {}
        files: list[tuple[int, bytes, Path]] = []
        for row in rows:
            kept = sources.observation(row.classifier_embedding, row.verifier_embedding)
            if kept is not None:
                embeddings[row.id] = kept
            elif sources.both_encode and (path := sources.originals.find(row.content_hash)):
                files.append((row.id, row.content_hash, path))
        results = sources.originals.encode(sources.new, [file[1:] for file in files])
        for (row_id, *_), result in zip(files, results, strict=True):
            if result is not None:
                verifier, *others = [vector.astype("<f4").tobytes() for vector in result.embeddings]
                embeddings[row_id] = (others[0], verifier) if others else (verifier, None)
        if embeddings:
            copied = True
            with home.catalog.write("reembed.carry") as connection:
                reembed_rows.copy_observations(connection, job, rows, embeddings)
    if copied:  # so that little is left to do in the cut-over
        with home.catalog.write("reembed.carry") as connection:
            reembed_rows.renew_observations(connection, job)
