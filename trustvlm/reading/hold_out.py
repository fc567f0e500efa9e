"""Holding images out: which images of a data set become support images, and which ones measure
(docs/folders.md, "Hold images out")."""

from __future__ import annotations

import hashlib
import os
import stat
import sys
import unicodedata
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from trustvlm.errors import InvalidInput
from trustvlm.reading.claims import claimed_names
from trustvlm.reading.outputs.probabilities import in_one_form, outputs_of
from trustvlm.types import LabelInput, Queries
from trustvlm.types.arrays import Bools, image_names, optional_texts, real_array, sources
from trustvlm.types.bounds import number, whole
from trustvlm.types.evaluation import Evaluation

Truth = Sequence[str | None]
Array = npt.NDArray[Any]

_RANKS = 2**64


@dataclass(frozen=True, eq=False)
class HeldOut:
    """Labelled images that are held out.

    Attributes:
        queries: their images or embeddings. truth: the label of each. sources: a name for each.
        places: the place of each among all images that were given; None: all are held out.
    """

    queries: Queries
    truth: Truth
    sources: Truth | None
    places: tuple[int, ...] | None = None

    def placed(self, evaluation: Evaluation) -> Evaluation:
        """An evaluation of these images, with their places among all images that were given."""
        if self.places is None or evaluation.items is None:
            return evaluation
        items = (replace(one, index=self.places[one.index]) for one in evaluation.items)
        return replace(evaluation, items=tuple(items))


@dataclass(frozen=True)
class HoldOut:
    """A split of labelled images into support images and held-out images.

    An image is held out where a hash of its content and the seed falls below the share. So the
    side of an image depends on no other image, file name, order or machine; copies are on one side,
    and images that are added later change nothing. Two exceptions, for small labels: each label
    keeps at least one image as support image, and of two or more images holds out at least one.

    Attributes:
        share: of the images of each label, on average. seed: another seed, another split.
    """

    share: float
    seed: int = 0

    @classmethod
    def of(cls, share: Any, seed: Any = 0) -> HoldOut | None:
        """The split that the arguments `hold_out` and `seed` of a verb ask for; None: no split.

        Raises:
            InvalidInput: a number out of range, or a seed without a share.
        """
        seed = whole("seed", seed)
        if share is not None:
            return cls(number("hold_out", share), seed)
        if seed:
            raise InvalidInput(f"seed: {seed} is the seed of a split; pass hold_out, too")
        return None

    def mask(self, contents: Sequence[bytes | None], labels: Truth) -> Bools:
        """(n,) which images are held out.

        Args:
            contents: hash of the content of each image; None: it cannot be read, and is not held
                out. labels: of each image; None: no label.
        """
        of_label: dict[tuple[bool, str], set[bytes]] = {}
        for content, label in zip(contents, labels, strict=True):
            if content is not None:
                name = unicodedata.normalize("NFC", label or "")
                of_label.setdefault((label is not None, name), set()).add(content)
        held = self._held_out([of_label[name] for name in sorted(of_label)])
        return np.array([content in held for content in contents], dtype=np.bool_)

    def _held_out(self, labels: Sequence[set[bytes]]) -> set[bytes]:
        """The held-out contents, given those of each label."""
        ranks = {content: self._rank(content) for contents in labels for content in contents}
        held = {content for content, rank in ranks.items() if rank < self.share * _RANKS}
        for contents in labels:
            if contents <= held:
                held.remove(max(contents, key=ranks.__getitem__))
        owners: dict[bytes, list[int]] = {}
        for place, contents in enumerate(labels):
            for content in contents:
                owners.setdefault(content, []).append(place)
        support_images = [len(contents - held) for contents in labels]
        for contents in labels:
            if held.isdisjoint(contents):
                spare = [
                    content
                    for content in contents
                    if all(support_images[owner] > 1 for owner in owners[content])
                ]
                if spare:
                    chosen = min(spare, key=ranks.__getitem__)
                    held.add(chosen)
                    for owner in owners[chosen]:
                        support_images[owner] -= 1
        return held

    def _rank(self, content: bytes) -> int:
        digest = hashlib.sha256(b"%d\0%s" % (self.seed, content)).digest()
        return int.from_bytes(digest[:8], "big")

    def split(
        self, images: Mapping[str, Sequence[Any]], progress: Callable[[int], None] | None = None
    ) -> tuple[dict[str, list[Any]], dict[str, list[Any]]]:
        """(support images, held-out images) of each label; `progress` is called with a number of
        images after these were read."""
        pairs = [(label, image) for label, listed in images.items() for image in listed]
        contents = list[bytes | None]()
        for _, image in pairs:
            contents.append(content_of(image))
            if progress is not None:
                progress(1)
        held = self.mask(contents, [label for label, _ in pairs])
        support: dict[str, list[Any]] = {label: [] for label in images}
        held_out: dict[str, list[Any]] = {label: [] for label in images}
        for (label, image), is_held_out in zip(pairs, held.tolist(), strict=True):
            (held_out if is_held_out else support)[label].append(image)
        return support, held_out

    def support(self, inputs: Iterable[LabelInput]) -> list[LabelInput]:
        """Labels to register, without their held-out images."""
        given = list(inputs)
        contents, labels = list[bytes | None](), list[str]()
        for item in given:
            if not isinstance(item, LabelInput) or not isinstance(item.name, str):
                return given  # registering says what was expected
            hashes = [*map(content_of, _images(item)), *_contents_of_rows(item.image_vectors)]
            contents += hashes
            labels += [item.name] * len(hashes)
        kept, start, parts = ~self.mask(contents, labels), 0, []
        for item in given:
            images, vectors = _images(item), _rows(item.image_vectors)
            rows = start + len(images)
            end = rows + (0 if vectors is None else len(vectors))
            parts.append(_part(item, kept[start:rows], kept[rows:end]))
            start = end
        return parts

    def measured(self, queries: Queries, truth: Truth, names: Truth | None) -> HeldOut:
        """The held-out images of labelled queries; `names`: what to call them.

        Raises:
            InvalidInput: none is held out, since each label has one image.
        """
        what = "one label name for each query, or None for an image of no label of the space"
        labels = optional_texts(truth, "truth", what)
        called = None if names is None else image_names(names, "sources")
        contents = _contents_of_queries(queries)
        beside = (called or labels, queries.thumbnails or labels, queries.claimed or labels)
        counts = {len(contents), len(labels), *map(len, beside)}
        if not labels or len(counts) > 1:
            return HeldOut(queries, truth, names)  # measuring says what was expected
        places = np.flatnonzero(self.mask(contents, labels)).tolist()
        if not places:
            raise none_held_out(len(labels))
        called = [f"image {place}" for place in range(len(labels))] if called is None else called
        return HeldOut(
            _some_queries(queries, places),
            [labels[place] for place in places],
            [called[place] for place in places],
            tuple(places),
        )


def content_of(image: Any) -> bytes | None:
    """SHA-256 of the bytes of an image file, or of the pixels of a PIL image; None: it cannot be
    read."""
    try:
        if isinstance(image, bytes):
            return hashlib.sha256(image).digest()
        if isinstance(image, str | os.PathLike):
            path = Path(image)
            if not stat.S_ISREG(path.stat().st_mode):  # a pipe or device would never end
                return None
            with path.open("rb") as file:
                return hashlib.file_digest(file, "sha256").digest()
        return _content_of_pixels(image)
    except (OSError, ValueError, SyntaxError):
        return None


def none_held_out(images: int) -> InvalidInput:
    """The error of a measurement on held-out images where there are none."""
    return InvalidInput(
        f"hold_out: none of {images} images can be held out: a label needs two images that can be "
        f"read, one of them as its support image"
    )


def image_count(inputs: Iterable[LabelInput]) -> int:
    """The number of support images, as files or as vectors, of labels to register."""
    return sum(len(_images(item)) + len(_rows(item.image_vectors)) for item in inputs)


def _images(item: LabelInput) -> list[Any]:
    return [] if item.images is None else sources(item.images, f"label {item.name!r:.80}: images")


def _rows(vectors: Any, what: str = "image_vectors") -> Array:
    """Vectors as rows; none for None."""
    rows: Array = np.empty((0, 0)) if vectors is None else real_array(vectors, what)
    return np.atleast_2d(rows) if rows.size else np.empty((0, rows.shape[-1] if rows.ndim else 0))


def _contents_of_rows(vectors: Any, what: str = "image_vectors") -> list[bytes | None]:
    rows = _rows(vectors, what).astype("<f4", copy=False)
    return [hashlib.sha256(np.ascontiguousarray(row).tobytes()).digest() for row in rows]


def _contents_of_queries(queries: Queries) -> list[bytes | None]:
    """The content of each query; none where its parts do not fit together."""
    classifier, verifier = _vectors_of(queries)
    outputs = outputs_of(queries)
    if outputs is not None and classifier is None:
        classifier = outputs.values
    if queries.images is not None:
        return [content_of(image) for image in sources(queries.images, "queries.images")]
    if classifier is None or verifier is None:
        return _contents_of_rows(classifier if verifier is None else verifier)
    return _contents_of_rows(verifier) if len(classifier) == len(verifier) else []


def _vectors_of(queries: Queries) -> tuple[Array | None, Array | None]:
    classifier, verifier = (
        None if vectors is None else _rows(vectors, f"queries.{side}")
        for side, vectors in (("classifier", queries.classifier), ("verifier", queries.verifier))
    )
    return classifier, verifier


def _some_queries(queries: Queries, places: list[int]) -> Queries:
    images = None if queries.images is None else sources(queries.images, "queries.images")
    queries, claimed = in_one_form(queries, places), queries.claimed
    if claimed is not None:
        names = claimed_names(claimed, len(claimed)) or []
        claimed = [names[place] for place in places]
    if images is not None:
        return replace(queries, images=[images[place] for place in places], claimed=claimed)
    classifier, verifier = (
        None if vectors is None else vectors[places] for vectors in _vectors_of(queries)
    )
    pictures = queries.thumbnails
    if pictures is not None:
        pictures = [pictures[place] for place in places]
    return replace(
        queries, classifier=classifier, verifier=verifier, thumbnails=pictures, claimed=claimed
    )


def _part(item: LabelInput, images: Array, rows: Array) -> LabelInput:
    """A label with these of its images and vectors."""
    kept = [one for one, is_kept in zip(_images(item), images.tolist(), strict=True) if is_kept]
    others = item.classifier_image_vectors
    separate = None if others is None else _rows(others, "classifier_image_vectors")
    if separate is not None and len(separate) != len(rows):
        return item  # registering says what was expected
    given = item.image_attributes
    if given is not None and not isinstance(given, Mapping):
        mask = [*images.tolist(), *rows.tolist()]
        if len(given) != len(mask):
            return item
        given = [one for one, is_kept in zip(given, mask, strict=True) if is_kept]
    return replace(
        item,
        image_attributes=given,
        images=None if item.images is None else kept,
        image_vectors=None if item.image_vectors is None else _rows(item.image_vectors)[rows],
        classifier_image_vectors=None if separate is None else separate[rows],
    )


def _content_of_pixels(image: Any) -> bytes | None:
    pil = sys.modules.get("PIL.Image")  # a caller with a PIL image has imported it
    if pil is None or not isinstance(image, pil.Image):
        return None
    if image.format == "EPS" and getattr(image, "tile", None):  # Pillow would run Ghostscript
        return None
    pixels = f"{image.mode} {image.size}".encode() + image.tobytes()
    return hashlib.sha256(pixels).digest()
