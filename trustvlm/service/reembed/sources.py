"""Where new embeddings come from: the caller's vectors, stored embeddings of an encoder that stays,
originals."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
import numpy.typing as npt

from trustvlm.catalog.rows.export import StoredLabel, StoredSupport
from trustvlm.catalog.rows.spaces import SpaceRecord
from trustvlm.catalog.rows.supports import NewSupport
from trustvlm.catalog.store.vectors import hash_of, unpack, vector
from trustvlm.encoders.encode_images import EncodedImage
from trustvlm.encoders.golden import GOLDEN_SAME, compare_golden
from trustvlm.encoders.images.decode import hash_image
from trustvlm.errors import InvalidInput, NotFound
from trustvlm.reading.image_files import UnreadableImage
from trustvlm.reading.images import every_file
from trustvlm.scoring.prototypes import text_prototype
from trustvlm.scoring.vectors import as_matrix
from trustvlm.service.home.home import Home
from trustvlm.service.home.originals import is_kept, kept_original
from trustvlm.service.inputs.encode import encode_for, image_limits
from trustvlm.service.inputs.outputs import is_external
from trustvlm.service.inputs.space_encoders import (
    encodes_images,
    encodes_texts,
    image_encoder,
    prompts_of,
)
from trustvlm.types.arrays import Float32s

Embeddings = tuple[bytes, bytes | None]
"""Packed (classifier, verifier) embeddings; no verifier embedding where the verifier is "same"."""


class GivenVectors:
    """Embeddings by the new encoders that the caller passes.

    Attributes:
        texts: label name → text prototype.
        images, classifier_images: support image id → verifier and classifier embedding.

    Raises:
        InvalidInput: a vector has a wrong shape or value, a classifier embedding of an image comes
            without its verifier embedding, or the classifier is external and has none.
    """

    def __init__(
        self,
        space: SpaceRecord,
        texts: Mapping[str, npt.ArrayLike] | None,
        images: Mapping[int, npt.ArrayLike] | None,
        classifier_images: Mapping[int, npt.ArrayLike] | None,
    ) -> None:
        if is_external(space) and (texts or classifier_images):
            raise InvalidInput(
                f"text_vectors, classifier_image_vectors: the classifier of space {space.name!r} "
                f"is external and has none; leave them out"
            )
        self.texts = {
            name: text_prototype(
                as_matrix(given, space.classifier_dim, f"text_vectors[{name!r}]", allow_empty=False)
            )
            for name, given in (texts or {}).items()
        }
        self.images = _single(images, space.verifier_dim, "image_vectors")
        apart = _single(classifier_images, space.classifier_dim, "classifier_image_vectors")
        self.classifier_images = {} if space.verifier == "same" else apart
        if alone := sorted(apart.keys() - self.images.keys()):
            raise InvalidInput(
                f"classifier_image_vectors[{alone[0]}]: expected an image_vectors entry of the "
                f"same support image"
            )


def _single(
    vectors: Mapping[int, npt.ArrayLike] | None, dim: int, argument: str
) -> dict[int, Float32s]:
    checked: dict[int, Float32s] = {}
    for key, given in (vectors or {}).items():
        what = f"{argument}[{key}]"
        matrix = as_matrix(given, dim, what, allow_empty=False)
        if len(matrix) != 1:
            raise InvalidInput(f"{what}: expected one vector of {dim} values, got {len(matrix)}")
        checked[key] = matrix[0].astype(np.float32)
    return checked


class Originals:
    """Image files by content hash: those that the home keeps, then those below the given folders,
    which are hashed when the first image is missing from the home."""

    def __init__(self, home: Home, folders: Sequence[Path]) -> None:
        self._home, self._folders = home, folders
        for folder in folders:
            if not folder.is_dir():
                raise NotFound(f"no folder {folder} to look for originals in")

    def find(self, content: bytes) -> Path | None:
        """The image file with this content hash; None where there is none."""
        return kept_original(self._home, content) or self._paths.get(content)

    def encode(
        self,
        space: SpaceRecord,
        images: Sequence[tuple[bytes, Path]],
        progress: Callable[[int], None] | None = None,
    ) -> list[EncodedImage | None]:
        """Encode (content hash, file) for `space`; None for a file that is damaged or another image
        by now."""
        if not images:
            return []
        # A truncated image that was registered once is accepted again.
        limits = image_limits(self._home, accept_truncated=True)
        results = encode_for(self._home, space, [path for _, path in images], progress, limits)
        # A picture without file was hashed by its pixels: its kept original has another hash.
        return [
            result
            if isinstance(result, EncodedImage)
            and (result.content_hash == content or is_kept(self._home, path))
            else None
            for (content, path), result in zip(images, results, strict=True)
        ]

    @cached_property
    def _paths(self) -> dict[bytes, Path]:
        paths: dict[bytes, Path] = {}
        for path in (path for folder in self._folders for path in every_file(folder)):
            try:
                paths.setdefault(hash_image(path, self._home.limits), path)
            except UnreadableImage:
                continue  # not an image that could have been registered
        return paths


@dataclass(frozen=True, eq=False)
class NewText:
    """The text of a counterpart: its origin ("name", "prompt", "vector"), and its text prototype or
    the prompts that it is to be encoded from."""

    source: str
    prototype: Float32s | None
    prompts: Sequence[str] = ()


@dataclass(frozen=True, eq=False)
class Sources:
    """The embeddings of the space `new` that can be had for the rows of the space `old`."""

    old: SpaceRecord
    new: SpaceRecord
    vectors: GivenVectors
    originals: Originals

    @property
    def verifier_encodes(self) -> bool:
        """Whether the new verifier encodes images, so that originals serve."""
        return encodes_images(image_encoder(self.new))

    @property
    def both_encode(self) -> bool:
        """Whether the new classifier and the new verifier encode images."""
        return self.verifier_encodes and encodes_images(self.new.classifier)

    def text(self, label: StoredLabel, staged: StoredLabel | None) -> NewText | None:
        """The text of a label; `staged` is its counterpart of an earlier pass. None: nothing gives
        it."""
        if (vector := self.vectors.texts.get(label.name)) is not None:
            return NewText("vector", vector)
        dim, of_vector = self.new.classifier_dim, label.text_source == "vector"
        templates_matter = not of_vector and label.prompt is None
        if self._same_encoder["classifier"] == "classifier" and not (
            templates_matter and self.old.templates != self.new.templates
        ):
            return NewText(label.text_source, unpack([label.text_prototype], dim)[0])
        if staged is not None and (
            staged.text_source == "vector"
            if of_vector
            else (staged.name, staged.prompt) == (label.name, label.prompt)
        ):
            return NewText(staged.text_source, unpack([staged.text_prototype], dim)[0])
        if of_vector or not encodes_texts(self.new.classifier):
            return None
        prompts = prompts_of(label.name, label.prompt, self.new.templates)
        return NewText(label.text_source, None, prompts)

    def support(self, image: StoredSupport, *, partial: bool = False) -> NewSupport | None:
        """The support image without encoding anything; None: it needs its original.

        With `partial`, its verifier embedding is enough: search by text does without the image.
        """
        if (given := self.vectors.images.get(image.id)) is not None:
            content = hash_of(given)
            other = self.vectors.classifier_images.get(image.id)
            return NewSupport(content, image.source, given, other, image.thumbnail)
        same = self.old.verifier == "same"
        stored = {
            "classifier": image.embedding if same else image.classifier_embedding,
            "verifier": image.embedding,
        }
        verifier, classifier = self._kept(stored, "verifier"), None
        if verifier is None:
            return None
        if self.new.verifier != "same":
            classifier = self._kept(stored, "classifier")
            if classifier is None and encodes_images(self.new.classifier) and not partial:
                return None
        return NewSupport(
            image.content_hash,
            image.source,
            unpack([verifier], self.new.verifier_dim)[0],
            vector(classifier, self.new.classifier_dim),
            image.thumbnail,
        )

    def observation(self, classifier: bytes, verifier: bytes | None) -> Embeddings | None:
        """The new embeddings of an observation with these old ones; None: it needs its original."""
        if self.old.verifier == "same":
            verifier = classifier
        stored = {"classifier": classifier, "verifier": verifier}
        kept = self._kept(stored, "classifier")
        if kept is None or self.new.verifier == "same":
            return None if kept is None else (kept, None)
        other = self._kept(stored, "verifier")
        # An observation of text has no verifier embedding and needs none.
        return None if other is None and verifier is not None else (kept, other)

    def _kept(self, stored: Mapping[str, bytes | None], side: str) -> bytes | None:
        """The stored embedding, by side of the old encoder, that is that of the new encoder."""
        old_side = self._same_encoder[side]
        return None if old_side is None else stored[old_side]

    @cached_property
    def _same_encoder(self) -> dict[str, str | None]:
        """Side of a new encoder → side of the old encoder that computes the same; None: neither."""
        sides = ("verifier", "classifier")
        return {
            side: next(
                (old for old in (side, *sides) if _computes_same(self.old, old, self.new, side)),
                None,
            )
            for side in sides
        }


def _computes_same(old: SpaceRecord, old_side: str, new: SpaceRecord, new_side: str) -> bool:
    """Whether two pinned encoders agree by identity and by their embedding of the golden image."""
    if getattr(old, f"{old_side}_identity") != getattr(new, f"{new_side}_identity"):
        return False
    golden = getattr(old, f"{old_side}_golden"), getattr(new, f"{new_side}_golden")
    if None in golden:
        return golden == (None, None)
    before, now = (np.frombuffer(vector, dtype="<f4") for vector in golden)
    return compare_golden(before, now) >= GOLDEN_SAME
