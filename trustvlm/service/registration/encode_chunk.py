"""Encodes a chunk of labels before its transaction: only the images and texts that are new."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, NamedTuple

from sqlalchemy import Connection

from trustvlm.catalog.rows import contents, labels, supports
from trustvlm.catalog.rows.labels import LabelRecord
from trustvlm.catalog.rows.spaces import SpaceRecord
from trustvlm.catalog.rows.supports import NewSupport
from trustvlm.encoders.encode_images import EncodedImage, FailedImage
from trustvlm.encoders.images.decode import hash_image
from trustvlm.reading.image_files import ImageLimits, UnreadableImage, source_name
from trustvlm.reading.sets.rows import with_place
from trustvlm.service.home import originals
from trustvlm.service.home.home import Home
from trustvlm.service.inputs.encode import encode_for
from trustvlm.service.inputs.outputs import is_external
from trustvlm.service.inputs.space_encoders import encode_prompts, encoder_of, prompts_of
from trustvlm.service.registration.plan import PlannedLabel, encoded_again, text_prototypes
from trustvlm.types.arrays import Float32s
from trustvlm.types.messages.remarks import Remark
from trustvlm.types.messages.stored_text import stored_text
from trustvlm.types.registration import KnownImage, UnreadImage

if TYPE_CHECKING:
    from trustvlm.types.inputs import ImageSource


@dataclass(frozen=True)
class RegisterOptions:
    """The options of a register call; see :meth:`TrustService.register`.

    Attributes:
        limits: how the images are read.
        must_exist: unknown labels are NotFound instead of new.
        pictures: content hash → name and small JPEG of images that come as vectors, where the
            caller has them. proposed: they were chosen from images without labels.
        replace: what labels that exist are given replaces what they have.
    """

    limits: ImageLimits
    on_commit: Callable[[list[str]], None] | None = None
    progress: Callable[[int], None] | None = None
    must_exist: bool = False
    keep_originals: bool = False
    bring_back: bool = False
    pictures: Mapping[bytes, tuple[str | None, bytes | None]] = field(default_factory=dict)
    proposed: bool = False
    replace: bool = False


@dataclass(eq=False)
class EncodedChunk:
    """The vectors of a chunk of labels, and what was left out of it.

    Attributes:
        texts: label name → text prototype; not of existing labels that came without vector, nor of
            those of external classifiers.
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


class StoredImages(NamedTuple):
    """The support images that labels have or had.

    Attributes:
        labels: name → record of the labels that exist. present: (label id, content hash).
        taken_out: (label id, content hash) → id of support images that were removed.
    """

    labels: dict[str, LabelRecord]
    present: set[tuple[int, bytes]]
    taken_out: dict[tuple[int, bytes], int]

    def key(self, name: str, content: bytes) -> tuple[int, bytes]:
        """(label id, content hash); −1 where the label does not exist."""
        return (self.labels[name].id if name in self.labels else -1), content


def stored_images(connection: Connection, space: SpaceRecord, names: Sequence[str]) -> StoredImages:
    """The support images of the labels with these names."""
    records = labels.find_many(connection, space.id, names)
    ids = [record.id for record in records.values()]
    present = supports.hashes(connection, ids)
    return StoredImages(records, present, contents.taken_out(connection, ids, present))


def encode_chunk(
    home: Home,
    space: SpaceRecord,
    chunk: Sequence[PlannedLabel],
    earlier: Collection[str],
    options: RegisterOptions,
) -> EncodedChunk:
    """Encode what is new in a chunk: images that their label does not have and that were not taken
    out of it (unless they are brought back), texts of labels that do not exist.

    Args:
        earlier: names of the labels that existed when the call began; only these are looked up.
    """
    encoded = EncodedChunk(
        text_prototypes(space, chunk),
        cut=[],
        supports={label.name: [] for label in chunk},
        contents={label.name: {} for label in chunk},
    )
    stored, existing = _looked_up(home, space, chunk, earlier, encoded)
    call = _Images(encoded, stored, options)
    files: list[tuple[str, ImageSource, str | None]] = []
    for label in chunk:
        for support in label.vectors(space):
            if not call.stays_out(label.name, support.content_hash):
                if (picture := options.pictures.get(support.content_hash)) is not None:
                    support = replace(support, source=picture[0], thumbnail=picture[1])
                support = replace(support, proposed=options.proposed)
                encoded.supports[label.name].append(support)
        for file, text in zip(label.images, label.image_attributes, strict=True):
            if call.is_new(label.name, file):
                files.append((label.name, file, text))
            elif options.progress is not None:
                options.progress(1)
    if files:
        sources = [file for _, file, _ in files]
        results = encode_for(home, space, sources, options.progress, options.limits)
        for (name, _, text), result in zip(files, results, strict=True):
            _add_image(encoded, name, result, text)
    if options.keep_originals:
        images = [image for label in chunk for image in label.images]
        encoded.originals = originals.keep(home, images, options.limits)
    if not is_external(space):  # whose labels get their outputs when they are stored
        _encode_texts(home, space, chunk, existing, encoded, replace=options.replace)
    return encoded


def _looked_up(
    home: Home,
    space: SpaceRecord,
    chunk: Sequence[PlannedLabel],
    earlier: Collection[str],
    encoded: EncodedChunk,
) -> tuple[StoredImages, Mapping[str, LabelRecord]]:
    """The support images of the labels of a chunk that the call brings images for, and the labels
    that come without text vector, of those that exist."""
    listed = [label for label in chunk if label.name in earlier]
    if not listed:
        return StoredImages({}, set(), {}), {}
    names = [label.name for label in listed if label.images or label.hashes]
    without_text = [label.name for label in listed if label.name not in encoded.texts]
    with home.catalog.read() as connection:
        stored = stored_images(connection, space, names)
        return stored, labels.find_many(connection, space.id, without_text)


def _encode_texts(
    home: Home,
    space: SpaceRecord,
    chunk: Sequence[PlannedLabel],
    existing: Mapping[str, LabelRecord],
    encoded: EncodedChunk,
    *,
    replace: bool,
) -> None:
    """Encode the texts of labels that do not exist or, with `replace`, get another prompt."""
    prompts = {
        label.name: prompts_of(label.name, label.prompt, space.templates)
        for label in chunk
        if label.name not in encoded.texts
        and (label.name not in existing or (replace and encoded_again(label, existing[label.name])))
    }
    if prompts:
        texts, encoded.cut = encode_prompts(encoder_of(home, space, "classifier"), prompts)
        encoded.texts |= texts


class _Images(NamedTuple):
    """The images of a call, which are compared with those that their labels have or had."""

    encoded: EncodedChunk
    stored: StoredImages
    options: RegisterOptions

    def stays_out(self, name: str, content: bytes, source: str | None = None) -> bool:
        """Record an image of the call; whether it was taken out of its label and stays out."""
        self.encoded.contents[name].setdefault(content, source)
        removed_id = self.stored.taken_out.get(self.stored.key(name, content))
        if removed_id is None:
            return False
        self.encoded.taken_out.append(KnownImage(source, name, name, removed_id))
        return not self.options.bring_back

    def is_new(self, name: str, file: ImageSource) -> bool:
        """Record an image of the call; whether it is to be encoded. An image that its label has is
        not: that makes repeating an interrupted call cheap."""
        encoded, stored, source = self.encoded, self.stored, source_name(file)
        try:
            content = hash_image(file, self.options.limits)
        except UnreadableImage as error:
            encoded.failures.append(UnreadImage(source, with_place(file, error.reason)))
            return False
        stays_out = self.stays_out(name, content, source)
        if not stays_out and stored.key(name, content) not in stored.present:
            return True
        encoded.skipped += not stays_out
        encoded.relied_on[name] = stored.labels[name].id
        return False


def _add_image(
    encoded: EncodedChunk, name: str, result: EncodedImage | FailedImage, text: str | None
) -> None:
    if isinstance(result, EncodedImage):
        image = support_of(result, result.content_hash, result.source, text)
        encoded.supports[name].append(image)
        encoded.remarks.append((result.source, result.remarks))
    else:
        encoded.failures.append(UnreadImage(result.source, result.reason))


def support_of(
    image: EncodedImage, content_hash: bytes, source: str | None, attributes: str | None = None
) -> NewSupport:
    """The support image that an encoded image becomes."""
    verifier, *others = image.embeddings
    source = None if source is None else stored_text(source)
    classifier = others[0] if others else None
    return NewSupport(
        content_hash, source, verifier, classifier, image.thumbnail, attributes=attributes
    )
