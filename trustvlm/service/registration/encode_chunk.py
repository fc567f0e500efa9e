"""Encoding a chunk of labels before its transaction: only the images and texts that are new."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from trustvlm.catalog.rows import contents, labels, supports
from trustvlm.catalog.rows.labels import LabelRecord
from trustvlm.catalog.rows.spaces import SpaceRecord
from trustvlm.catalog.rows.supports import NewSupport
from trustvlm.encoders import (
    EncodedImage,
    ImageLimits,
    Remark,
    UnreadableImage,
    hash_image,
    source_name,
)
from trustvlm.service.home import originals
from trustvlm.service.home.home import Home
from trustvlm.service.inputs.encode import encode_for
from trustvlm.service.inputs.names import source_text
from trustvlm.service.inputs.space_encoders import encode_prompts, encoder_of, prompts_of
from trustvlm.service.registration.plan import PlannedLabel, text_prototypes
from trustvlm.types.arrays import Float32s
from trustvlm.types.registration import KnownImage, UnreadImage

if TYPE_CHECKING:
    from trustvlm.types.inputs import ImageSource

__all__ = ["EncodedChunk", "RegisterOptions", "encode_chunk", "support_of"]


@dataclass(frozen=True)
class RegisterOptions:
    """The options of a register call; see :meth:`TrustService.register`.

    Attributes:
        must_exist: unknown labels are NotFound instead of new.
        limits: how the images are read.
    """

    on_commit: Callable[[list[str]], None] | None
    progress: Callable[[int], None] | None
    must_exist: bool
    keep_originals: bool
    bring_back: bool
    limits: ImageLimits


@dataclass(eq=False)
class EncodedChunk:
    """The vectors of a chunk of labels, and what was left out of it.

    Attributes:
        texts: label name → text prototype; not of existing labels that came without vector.
        cut: labels with a prompt that the classifier cuts.
        supports: label name → its support images, without those that it has.
        contents: label name → content hash → name of each image in the call.
        skipped: images that their label has; relied_on: these labels, name → id.
        taken_out: images that were removed from their label before.
        failures: (source, reason) of unreadable images. remarks: (source, remarks) of the others.
        originals: content hash → source of the images whose files are kept.
    """

    texts: dict[str, Float32s]
    cut: list[str]
    supports: dict[str, list[NewSupport]]
    contents: dict[str, dict[bytes, str | None]]
    skipped: int = 0
    relied_on: dict[str, int] = field(default_factory=dict)
    taken_out: list[KnownImage] = field(default_factory=list)
    failures: list[UnreadImage] = field(default_factory=list)
    remarks: list[tuple[str, tuple[Remark, ...]]] = field(default_factory=list)
    originals: dict[bytes, ImageSource] = field(default_factory=dict)


@dataclass(frozen=True)
class _StoredImages:
    """The support images that labels of a chunk have or had.

    Attributes:
        labels: name → record. present: (label id, content hash).
        taken_out: (label id, content hash) → support image id.
    """

    labels: dict[str, LabelRecord]
    present: set[tuple[int, bytes]]
    taken_out: dict[tuple[int, bytes], int]


def encode_chunk(
    home: Home, space: SpaceRecord, chunk: Sequence[PlannedLabel], options: RegisterOptions
) -> EncodedChunk:
    """Encode what is new in a chunk: images that their label does not have and that were not taken
    out of it (unless they are brought back), texts of labels that do not exist."""
    stored = _stored_images(home, space, chunk)
    encoded = EncodedChunk(
        texts={},
        cut=[],
        supports={label.name: [] for label in chunk},
        contents={label.name: {} for label in chunk},
    )
    new_images: list[tuple[str, ImageSource]] = []
    for label in chunk:
        for support in label.vectors(space):
            if not _stays_out(encoded, stored, options, label.name, support.content_hash, None):
                encoded.supports[label.name].append(support)
        new_images += [
            (label.name, source)
            for source in label.images
            if _is_new(encoded, stored, options, label.name, source)
        ]
    _encode_images(home, space, encoded, new_images, options)
    if options.keep_originals:
        images = [image for label in chunk for image in label.images]
        encoded.originals = originals.keep(home, images, options.limits)
    _encode_texts(home, space, encoded, chunk)
    return encoded


def _stored_images(home: Home, space: SpaceRecord, chunk: Sequence[PlannedLabel]) -> _StoredImages:
    names = [label.name for label in chunk if label.images or label.hashes]
    if not names:
        return _StoredImages({}, set(), {})
    with home.catalog.read() as connection:
        records = labels.find_many(connection, space.id, names)
        ids = [record.id for record in records.values()]
        present = supports.hashes(connection, ids)
        return _StoredImages(records, present, contents.taken_out(connection, ids, present))


def _stays_out(
    encoded: EncodedChunk,
    stored: _StoredImages,
    options: RegisterOptions,
    name: str,
    content: bytes,
    source: str | None,
) -> bool:
    """Record an image of the call; whether it was taken out of its label and stays out."""
    encoded.contents[name].setdefault(content, source)
    label = stored.labels.get(name)
    removed_id = None if label is None else stored.taken_out.get((label.id, content))
    if removed_id is None:
        return False
    encoded.taken_out.append(KnownImage(source, name, name, removed_id))
    return not options.bring_back


def _is_new(
    encoded: EncodedChunk,
    stored: _StoredImages,
    options: RegisterOptions,
    name: str,
    source: ImageSource,
) -> bool:
    """Record an image of the call; whether it is to be encoded.

    An image that its label has is not: that makes repeating an interrupted call cheap.
    """
    try:
        content = hash_image(source, options.limits)
    except UnreadableImage as error:
        encoded.failures.append(UnreadImage(source_name(source), error.reason))
    else:
        stays_out = _stays_out(encoded, stored, options, name, content, source_name(source))
        label = stored.labels.get(name)
        present = label is not None and (label.id, content) in stored.present
        if not stays_out and not present:
            return True
        assert label is not None
        encoded.skipped += not stays_out
        encoded.relied_on[name] = label.id
    if options.progress is not None:
        options.progress(1)
    return False


def _encode_images(
    home: Home,
    space: SpaceRecord,
    encoded: EncodedChunk,
    images: Sequence[tuple[str, ImageSource]],
    options: RegisterOptions,
) -> None:
    """Encode (label name, image) pairs into the support images of the chunk."""
    if not images:
        return
    sources = [source for _, source in images]
    results = encode_for(home, space, sources, options.progress, options.limits)
    for (name, _), result in zip(images, results, strict=True):
        if isinstance(result, EncodedImage):
            encoded.supports[name].append(support_of(result, result.content_hash, result.source))
            encoded.remarks.append((result.source, result.remarks))
        else:
            encoded.failures.append(UnreadImage(result.source, result.reason))


def support_of(image: EncodedImage, content_hash: bytes, source: str | None) -> NewSupport:
    """The support image that an encoded image becomes."""
    verifier, *others = image.embeddings
    source = None if source is None else source_text(source)
    classifier = others[0] if others else None
    return NewSupport(content_hash, source, verifier, classifier, image.thumbnail)


def _encode_texts(
    home: Home, space: SpaceRecord, encoded: EncodedChunk, chunk: Sequence[PlannedLabel]
) -> None:
    """Make the text prototypes of vectors, and those of the names and prompts of new labels."""
    encoded.texts = text_prototypes(space, chunk)
    missing = [label for label in chunk if label.name not in encoded.texts]
    if missing:
        with home.catalog.read() as connection:
            names = [label.name for label in missing]
            existing = labels.find_many(connection, space.id, names)
        missing = [label for label in missing if label.name not in existing]
    if missing:
        prompts = {
            label.name: prompts_of(label.name, label.prompt, space.templates) for label in missing
        }
        texts, encoded.cut = encode_prompts(encoder_of(home, space, "classifier"), prompts)
        encoded.texts |= texts
