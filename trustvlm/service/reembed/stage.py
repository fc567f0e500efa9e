"""Making the space beside the space: whole labels in durable chunks, encoded outside of the
transactions.

What has been made is remembered row by row, so a run that was killed goes on where it was, and a
pass over labels that were changed meanwhile encodes only what is new of them.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from sqlalchemy import Connection

from trustvlm.catalog.rows import labels, originals, spaces, supports
from trustvlm.catalog.rows.labels import NewLabel
from trustvlm.catalog.rows.spaces import SpaceRecord
from trustvlm.catalog.rows.supports import NewSupport
from trustvlm.catalog.store.vectors import unpack
from trustvlm.catalog.upkeep import reembed_rows, reembed_runs
from trustvlm.catalog.upkeep.reembed_rows import OldLabel, OldSupport
from trustvlm.catalog.upkeep.reembed_runs import ReembedRecord
from trustvlm.encoders import EncodedImage
from trustvlm.errors import Conflict
from trustvlm.service.home.home import Home
from trustvlm.service.inputs.encode import encode_for, encode_prompts, encoder_of, reading, told_cut
from trustvlm.service.reembed.sources import Sources
from trustvlm.service.registration.chunks import chunked
from trustvlm.service.registration.register import renew_prototypes
from trustvlm.types.arrays import Float32s

__all__ = ["stage_labels"]

CHUNK_LABELS = 200
CHUNK_IMAGES = 256
"""A chunk of labels, and of the images of theirs that are encoded for it, is one transaction and
what a kill can cost."""

Progress = Callable[[int], None]

log = logging.getLogger("trustvlm")


@dataclass(eq=False)
class _Label:
    """One label on its way.

    Attributes:
        staged: its counterpart, if it has one. known: support image id → counterpart.
        text_source, text: of its new text prototype; text None: to be encoded from `prompts`, or
            (no prompts) as it is.
        fresh: support image id → what it becomes. encode: those whose originals are to be encoded.
    """

    old: OldLabel
    staged: OldLabel | None
    known: dict[int, int]
    text_source: str = ""
    text: Float32s | None = None
    prompts: list[str] = field(default_factory=list)
    fresh: dict[int, NewSupport] = field(default_factory=dict)
    encode: list[tuple[OldSupport, Path]] = field(default_factory=list)


def stage_labels(
    home: Home,
    job: ReembedRecord,
    sources: Sources,
    label_ids: Sequence[int],
    progress: Progress | None = None,
) -> None:
    """Bring the counterparts of these labels up to date, and take away those of labels that are
    gone.

    Raises:
        Conflict: the job was aborted, or the encoders are not those that it began with.
    """
    with home.catalog.read() as connection:
        gone = reembed_runs.gone_labels(connection, job)
    for start in range(0, len(gone), CHUNK_LABELS):
        with home.catalog.write("reembed.stage") as connection:
            _drop(connection, job, gone[start : start + CHUNK_LABELS])
    with home.catalog.read() as connection:
        aliases = labels.canonical(connection, label_ids)
    ordered = sorted(
        label_ids, key=lambda label_id: (aliases.get(label_id, label_id) != label_id, label_id)
    )
    for start in range(0, len(ordered), CHUNK_LABELS):
        found, unmade = _planned(home, job, sources, ordered[start : start + CHUNK_LABELS])
        if unmade:
            with home.catalog.write("reembed.stage") as connection:
                _drop(connection, job, unmade)
        for chunk in _chunks(found):
            _encode(home, sources, chunk, progress)
            with home.catalog.write("reembed.stage") as connection:
                _write(connection, job, sources, chunk)


def _drop(connection: Connection, job: ReembedRecord, pairs: Sequence[tuple[int, int]]) -> None:
    """Take away counterparts of labels, with those of their support images."""
    _check(connection, job)
    gone = reembed_rows.delete_labels(connection, [staged for _, staged in pairs])
    reembed_runs.unmap(connection, job.id, "label", [source for source, _ in pairs])
    reembed_runs.unmap_staged(connection, job.id, "support", gone)
    spaces.advance(connection, job.other_id)


def _check(connection: Connection, job: ReembedRecord) -> None:
    now = reembed_runs.find(connection, job.space_id)
    if now is None or (now.id, now.state) != (job.id, "staged"):
        raise Conflict(
            "embedding the space anew was aborted, or finished by another process, during the call"
        )


def _chunks(planned: Sequence[_Label]) -> Iterator[list[_Label]]:
    """These labels in chunks of about :data:`CHUNK_IMAGES` images to encode."""
    return chunked(planned, lambda label: len(label.encode), CHUNK_IMAGES)


def _planned(
    home: Home, job: ReembedRecord, sources: Sources, ids: Sequence[int]
) -> tuple[list[_Label], list[tuple[int, int]]]:
    """These labels as they are now, and (id, id of the counterpart) of those whose counterpart says
    what nothing gives now.

    Labels that nothing gives a text for are left out, with their aliases: see
    :func:`reembeds.missing_labels`.
    """
    with home.catalog.read() as connection:
        found = reembed_rows.old_labels(connection, ids)
        counterparts = reembed_runs.mapped(
            connection, job.id, "label", [label.id for label in found]
        )
        staged = reembed_rows.staged_labels(connection, list(counterparts.values()))
        of_label = {label.id: [support.id for support in label.supports] for label in found}
        known = reembed_runs.mapped(
            connection, job.id, "support", [i for own in of_label.values() for i in own]
        )
        pictures = reembed_rows.thumbnails(
            connection, [i for own in of_label.values() for i in own if i not in known]
        )
        canonical = {label.alias_of for label in found if label.alias_of is not None}
        made = set(reembed_runs.mapped(connection, job.id, "label", sorted(canonical)))
    planned: list[_Label] = []
    unmade: list[tuple[int, int]] = []
    for old in found:
        mine = {i: known[i] for i in of_label[old.id] if i in known}
        label = _Label(old, staged.get(counterparts.get(old.id, -1)), mine)
        if not _plan_text(sources, label) or (
            old.alias_of is not None and old.alias_of not in made
        ):
            unmade += [] if label.staged is None else [(old.id, label.staged.id)]
            continue
        made.add(old.id)
        _plan_supports(sources, label, pictures)
        planned.append(label)
    return planned, unmade


def _plan_text(sources: Sources, label: _Label) -> bool:
    """Decide where the text comes from; False where nothing gives it."""
    found, staged = sources.text(label.old), label.staged
    if found is None:
        if staged is None or staged.text_source != "vector" or label.old.text_source != "vector":
            return False
        if staged.name != label.old.name:  # a vector stays when the label is renamed
            label.text = unpack([staged.text_prototype], sources.new.classifier_dim)[0]
        label.text_source = "vector"  # given in an earlier run
        return True
    label.text_source, label.text, label.prompts = found
    unchanged = staged is not None and (staged.name, staged.prompt, staged.text_source) == (
        label.old.name, label.old.prompt, label.text_source,
    )  # fmt: skip
    if unchanged and label.text is None:
        label.prompts = []  # encoded already
    return True


def _plan_supports(sources: Sources, label: _Label, pictures: dict[int, bytes]) -> None:
    for support in label.old.supports:
        if support.id in label.known:
            continue
        ready = sources.ready(support, pictures.get(support.id))
        if (
            ready is None
            and sources.encodes
            and (original := sources.originals.find(support.content_hash)) is not None
        ):
            label.encode.append((support, original))
        elif (
            ready := ready or sources.ready(support, pictures.get(support.id), part=True)
        ) is not None:
            label.fresh[support.id] = ready


def _encode(
    home: Home, sources: Sources, chunk: Sequence[_Label], progress: Progress | None
) -> None:
    """Encode the originals and prompts of a chunk; an original that cannot be read stays
    missing."""
    wanted = [(label, support, original) for label in chunk for support, original in label.encode]
    limits = reading(home, sources.new, accept_truncated=True)  # what was taken once is taken again
    results = (
        encode_for(home, sources.new, [original for *_, original in wanted], progress, limits)
        if wanted
        else []
    )
    for (label, support, original), result in zip(wanted, results, strict=True):
        if isinstance(result, EncodedImage) and sources.originals.still_is(
            original, support.content_hash, result.content_hash
        ):
            other = result.embeddings[1] if len(result.embeddings) > 1 else None
            made = NewSupport(
                support.content_hash, support.source, result.embeddings[0], other, result.thumbnail
            )
            label.fresh[support.id] = made
    asked = [label for label in chunk if label.prompts]
    if asked:
        prompts = {label.old.name: label.prompts for label in asked}
        texts, cut = encode_prompts(encoder_of(home, sources.new, "classifier"), prompts)
        for label in asked:
            label.text = texts[label.old.name]
        if cut:
            log.warning("%s", told_cut(cut))


def _write(
    connection: Connection, job: ReembedRecord, sources: Sources, chunk: Sequence[_Label]
) -> None:
    """One transaction: the counterparts of these labels become what the labels are."""
    _check(connection, job)
    new = spaces.find_by_id(connection, job.other_id)
    _free_names(connection, new, chunk)
    revision = spaces.advance(connection, job.other_id)
    ids = _write_labels(connection, job, chunk, revision)
    renew: set[int] = set()
    for label in chunk:
        staged_id = ids[label.old.id]
        gone = [] if label.staged is None else _remove_outdated(connection, job, label)
        if gone or label.fresh:
            renew.add(staged_id)
    _write_supports(connection, job, chunk, ids, revision)
    wanted = sorted({label.old.alias_of for label in chunk if label.old.alias_of is not None})
    canonical = reembed_runs.mapped(connection, job.id, "label", wanted)
    for label in chunk:
        staged_id, before = (
            ids[label.old.id],
            None if label.staged is None else label.staged.alias_of,
        )
        now = None if label.old.alias_of is None else canonical.get(label.old.alias_of)
        if now == before:
            continue
        labels.set_alias(connection, staged_id, now, revision)
        labels.set_prototype(connection, staged_id, revision, None, 0)
        renew |= {staged_id} | ({before} if before is not None else set())
    renew_prototypes(connection, new, sorted(renew), revision)


def _free_names(connection: Connection, new: SpaceRecord, chunk: Sequence[_Label]) -> None:
    """Where labels changed names, counterparts that have not come to their turn may still have
    names that are wanted now."""
    own = {label.old.name: None if label.staged is None else label.staged.id for label in chunk}
    for name, record in labels.find_many(connection, new.id, list(own)).items():
        if record.id != own[name]:
            labels.rename(
                connection, record.id, f"{name}\n{record.id}"
            )  # no name of a user's has a line break


def _remove_outdated(connection: Connection, job: ReembedRecord, label: _Label) -> list[int]:
    """Take away the counterparts of support images that the label has no more; ids of these
    images."""
    assert label.staged is not None
    pairs = reembed_runs.supports_of(connection, job, label.staged.id)
    live = {support.id for support in label.old.supports}
    gone = [source for source, _ in pairs if source not in live]
    wanted = {staged for source, staged in pairs if source in live}
    reembed_rows.delete_supports(
        connection, sorted({staged for source, staged in pairs if source not in live} - wanted)
    )
    reembed_runs.unmap(connection, job.id, "support", gone)
    return gone


def _write_labels(
    connection: Connection, job: ReembedRecord, chunk: Sequence[_Label], revision: int
) -> dict[int, int]:
    """Insert new labels and renew the texts of known ones; id → id of the counterpart."""
    fresh = [label for label in chunk if label.staged is None]
    rows = []
    for label in fresh:
        assert label.text is not None
        rows.append(
            NewLabel(label.old.name, label.old.prompt, label.text_source, label.text, None, 0)
        )
    inserted = labels.insert_many(connection, job.other_id, revision, rows)
    pairs = [(label.old.id, staged_id) for label, staged_id in zip(fresh, inserted, strict=True)]
    reembed_runs.map_rows(connection, job.id, "label", pairs)
    for label in chunk:
        if label.staged is not None and label.text is not None:
            labels.set_text(
                connection, label.staged.id, revision, name=label.old.name, prompt=label.old.prompt,
                text_source=label.text_source, text_prototype=label.text,
            )  # fmt: skip
    return dict(pairs) | {
        label.old.id: label.staged.id for label in chunk if label.staged is not None
    }


def _write_supports(
    connection: Connection,
    job: ReembedRecord,
    chunk: Sequence[_Label],
    ids: dict[int, int],
    revision: int,
) -> None:
    """Insert new support images; two of one label that become the same one get one counterpart."""
    unique: dict[tuple[int, bytes], NewSupport] = {}
    owners: list[tuple[int, tuple[int, bytes]]] = []
    for label in chunk:
        for support_id, made in label.fresh.items():
            key = (ids[label.old.id], made.content_hash)
            unique.setdefault(key, made)
            owners.append((support_id, key))
    there = supports.ids_in(connection, sorted({label_id for label_id, _ in unique}))
    missing = [key for key in unique if key not in there]
    inserted = supports.insert_many(
        connection, job.other_id, revision, [(key[0], unique[key]) for key in missing]
    )
    places = there | dict(zip(missing, inserted, strict=True))
    pairs = [(support_id, places[key]) for support_id, key in owners]
    reembed_runs.map_rows(connection, job.id, "support", pairs)
    kept = [
        (old, new) for (old, new), (_, key) in zip(pairs, owners, strict=True) if key in missing
    ]
    originals.copy(connection, kept)
