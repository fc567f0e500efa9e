"""Where the new embeddings of a space come from: the old ones where the encoder stayed, originals,
vectors that were given."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import numpy.typing as npt

from trustvlm.catalog.rows.spaces import SpaceRecord
from trustvlm.catalog.rows.supports import NewSupport
from trustvlm.catalog.store.vectors import pack, unpack
from trustvlm.catalog.upkeep.reembed_rows import OldLabel, OldSupport
from trustvlm.encoders import GOLDEN_SAME, UnreadableImage, compare_golden, hash_image
from trustvlm.errors import InvalidInput, NotFound
from trustvlm.reading.images import every_file
from trustvlm.scoring.prototypes import text_prototype
from trustvlm.scoring.vectors import as_matrix
from trustvlm.service.home.home import Home
from trustvlm.service.home.originals import kept_original
from trustvlm.service.inputs.encode import encodes_images, encodes_texts, prompts_of
from trustvlm.types.arrays import Float32s

__all__ = ["GivenVectors", "Originals", "Sources", "given_vectors"]


@dataclass(frozen=True, eq=False)
class GivenVectors:
    """Embeddings of the new encoders that the caller has.

    Attributes:
        texts: label name → (d_t,) or (templates, d_t) raw text embeddings.
        images: support image id → (d_v,) verifier embedding. others: the same for classifier
            embeddings.
    """

    texts: Mapping[str, npt.ArrayLike] = field(default_factory=dict)
    images: Mapping[int, Float32s] = field(default_factory=dict)
    others: Mapping[int, Float32s] = field(default_factory=dict)


def given_vectors(
    space: SpaceRecord,
    texts: Mapping[str, npt.ArrayLike] | None,
    images: Mapping[int, npt.ArrayLike] | None,
    others: Mapping[int, npt.ArrayLike] | None,
) -> GivenVectors:
    """The vectors of a call, checked against the encoders of the space that is being made.

    Raises:
        InvalidInput: a vector that cannot be right, or a classifier embedding of an image without
            its verifier embedding.
    """
    for name, vector in (texts or {}).items():
        text_prototype(
            as_matrix(vector, space.classifier_dim, f"text_vectors[{name!r}]", allow_empty=False)
        )
    checked = {
        key: _one(vector, space.verifier_dim, f"image_vectors[{key}]")
        for key, vector in (images or {}).items()
    }
    apart = {
        key: _one(vector, space.classifier_dim, f"classifier_image_vectors[{key}]")
        for key, vector in (others or {}).items()
    }
    if without := sorted(apart.keys() - checked.keys()):
        raise InvalidInput(
            f"classifier_image_vectors[{without[0]}]: expected an image_vectors entry of the "
            f"same support image"
        )
    return GivenVectors(dict(texts or {}), checked, {} if space.verifier == "same" else apart)


def _one(vector: npt.ArrayLike, dim: int, what: str) -> Float32s:
    matrix = as_matrix(vector, dim, what, allow_empty=False)
    if len(matrix) != 1:
        raise InvalidInput(f"{what}: expected one vector of {dim} values, got {len(matrix)}")
    single: Float32s = matrix[0].astype(np.float32)
    return single


class Originals:
    """Image files by content hash: those the home keeps, then those under the folders that were
    named.

    The folders are hashed once, when the first image is asked for that the home does not keep.
    """

    def __init__(self, home: Home, folders: Sequence[Path]) -> None:
        self._home, self._folders = home, folders
        self._found: dict[bytes, Path] | None = None
        for folder in folders:
            if not folder.is_dir():
                raise NotFound(f"no folder {folder} to look for originals in")

    def find(self, content: bytes) -> Path | None:
        """The image file of this content hash, checked; None where there is none."""
        return kept_original(self._home, content) or self._by_hash().get(content)

    def still_is(self, path: Path, content: bytes, read: bytes) -> bool:
        """Whether a file that was found for `content` still was that when it was read, with the
        hash `read`.

        A kept picture that was no file has another hash as the file that it is now, and nobody else
        writes in the home.
        """
        return read == content or path.is_relative_to(self._home.folder)

    def _by_hash(self) -> dict[bytes, Path]:
        if self._found is None:
            self._found = {}
            for path in (path for folder in self._folders for path in every_file(folder)):
                try:
                    self._found.setdefault(hash_image(path, self._home.limits), path)
                except UnreadableImage:
                    continue  # not an image that could have been registered
        return self._found


@dataclass(frozen=True, eq=False)
class Sources:
    """What the space that is being made (`new`) can take from the old one and from what was given.

    Attributes:
        originals: image files. given: vectors.
    """

    old: SpaceRecord
    new: SpaceRecord
    originals: Originals
    given: GivenVectors

    @property
    def encodes(self) -> bool:
        """Whether originals are of use: the new verifier encodes images."""
        return encodes_images(
            self.new.classifier if self.new.verifier == "same" else self.new.verifier
        )

    @property
    def same_text(self) -> bool:
        """Whether text embeddings of the old classifier are those of the new one."""
        return _is_same(self.old, "classifier", self.new, "classifier")

    def text(self, label: OldLabel) -> tuple[str, Float32s | None, list[str]] | None:
        """(where the text comes from, its text prototype or None, prompts to encode otherwise);
        None where nothing gives it."""
        if (vector := self.given.texts.get(label.name)) is not None:
            return (
                "vector",
                text_prototype(
                    as_matrix(vector, self.new.classifier_dim, f"text_vectors[{label.name!r}]")
                ),
                [],
            )
        prompted = label.text_source == "vector" or label.prompt is not None
        if self.same_text and (prompted or self.old.templates == self.new.templates):
            return label.text_source, unpack([label.text_prototype], self.new.classifier_dim)[0], []
        if label.text_source == "vector" or not encodes_texts(self.new.classifier):
            return None
        return label.text_source, None, prompts_of(label.name, label.prompt, self.new.templates)

    def ready(
        self, support: OldSupport, thumbnail: bytes | None, *, part: bool = False
    ) -> NewSupport | None:
        """The support image without encoding anything, from a vector that was given or from its old
        embeddings.

        With `part`, also where only its verifier embedding can be had and the classifier's (search
        by text) is lost.
        """
        if (vector := self.given.images.get(support.id)) is not None:
            content = hashlib.sha256(pack(vector)).digest()
            return NewSupport(
                content, support.source, vector, self.given.others.get(support.id), thumbnail
            )
        own = self._old(support, "verifier")
        if own is None:
            return None
        other = None if self.new.verifier == "same" else self._old(support, "classifier")
        if (
            other is None
            and self.new.verifier != "same"
            and encodes_images(self.new.classifier)
            and not part
        ):
            return None
        return NewSupport(support.content_hash, support.source, own, other, thumbnail)

    def _old(self, support: OldSupport, side: str) -> Float32s | None:
        """The old embedding that is what the new encoder of this side gives."""
        dim = self.new.verifier_dim if side == "verifier" else self.new.classifier_dim
        column = self.column(side)
        blob = None
        if column == "verifier" or (column == "classifier" and self.old.verifier == "same"):
            blob = support.embedding
        elif column == "classifier":
            blob = support.classifier_embedding
        return None if blob is None else unpack([blob], dim)[0]

    def column(self, side: str) -> str | None:
        """Which of the old encoders is the new one of this side: "verifier", "classifier" or
        None."""
        return next(
            (old for old in (side, *_SIDES) if _is_same(self.old, old, self.new, side)), None
        )


_SIDES = ("verifier", "classifier")


def _is_same(old: SpaceRecord, old_side: str, new: SpaceRecord, new_side: str) -> bool:
    """Whether two pinned encoders give the same embeddings: by their identity, and by the golden
    image."""
    if getattr(old, f"{old_side}_identity") != getattr(new, f"{new_side}_identity"):
        return False
    before, now = getattr(old, f"{old_side}_golden"), getattr(new, f"{new_side}_golden")
    if before is None or now is None:
        return before is None and now is None
    return (
        compare_golden(np.frombuffer(before, dtype="<f4"), np.frombuffer(now, dtype="<f4"))
        >= GOLDEN_SAME
    )
