"""Encodes images and texts of callers with the encoders of a space; checks vectors of callers."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np
import numpy.typing as npt

from trustvlm.catalog.rows.spaces import SpaceRecord
from trustvlm.encoders.encode_images import EncodedImage, FailedImage, encode_images
from trustvlm.errors import InvalidInput
from trustvlm.reading.given import ImageStream
from trustvlm.reading.image_files import ImageLimits
from trustvlm.reading.outputs.probabilities import beside_images
from trustvlm.scoring.vectors import unit_rows
from trustvlm.service.home.home import Home, at_most, too_many
from trustvlm.service.home.names import MAX_PROMPT, check_characters
from trustvlm.service.home.pictures import Picture
from trustvlm.service.inputs.outputs import is_external, no_text_search, with_vectors
from trustvlm.service.inputs.space_encoders import (
    cut_message,
    encoder_of,
    encodes_images,
    encodes_texts,
    image_encoder,
)
from trustvlm.types import Embedded, Queries
from trustvlm.types.arrays import Float32s, Float64s
from trustvlm.types.arrays import sources as image_list
from trustvlm.types.arrays import texts as text_list
from trustvlm.types.bounds import flags, value_range
from trustvlm.types.messages.remarks import Remark, notes_of
from trustvlm.types.messages.shapes import unequal
from trustvlm.types.registration import UnreadImage, unreadable

if TYPE_CHECKING:
    from trustvlm.types.inputs import ImageSource

log = logging.getLogger("trustvlm")

Matrix = TypeVar("Matrix", Float32s, Float64s)

_PICTURES = 200
"""Thumbnails of images in memory that are kept of a call: about 1 MB."""


def image_limits(
    home: Home, image_range: object = None, accept_truncated: bool = False
) -> ImageLimits:
    """How the images of a call are read: by the home's limits and the options of the call.

    Raises:
        InvalidInput: the range is no range, or `accept_truncated` is neither True nor False.
    """
    flags(accept_truncated=accept_truncated)
    return replace(
        home.limits,
        value_range=value_range("image_range", image_range),
        accept_truncated=accept_truncated,
    )


def encode_for(
    home: Home,
    space: SpaceRecord,
    sources: Iterable[ImageSource],
    progress: Callable[[int], None] | None = None,
    limits: ImageLimits | None = None,
) -> Iterator[EncodedImage | FailedImage]:
    """Encode images with the space's encoders, each tower once; embeddings are (verifier,
    classifier or nothing).

    Args:
        limits: how they are read; None: as :func:`image_limits` says of a call without options.

    Raises:
        InvalidInput: the space's verifier is precomputed.
    """
    if not encodes_images(image_encoder(space)):
        raise InvalidInput(
            f"images: the verifier of space {space.name!r} is {image_encoder(space)!r}, "
            f"which cannot encode images; pass embeddings of {space.verifier_dim} values instead"
        )
    same = space.verifier == "same"
    sides = ["classifier" if same else "verifier"]
    if not same and encodes_images(space.classifier):
        sides.append("classifier")
    with ThreadPoolExecutor(len(sides), thread_name_prefix="trustvlm-open") as threads:
        encoders = list(threads.map(partial(encoder_of, home, space), sides))
    return encode_images(
        sources,
        encoders,
        batch_size=home.batch_size,
        workers=home.workers,
        limits=image_limits(home) if limits is None else limits,
        progress=progress,
    )


@dataclass(frozen=True, eq=False)
class ImageQueries:
    """Images as queries: n of them that could be read, and those that could not.

    Attributes:
        queries: the embeddings. names, hashes, remarks: a name, the content hash and the remarks of
            each. places: of each among all that came.
        failures: the others. failed: their places.
        pictures: path or thumbnail of each, None where neither is kept.
    """

    queries: Queries
    names: list[str]
    hashes: list[bytes]
    remarks: list[tuple[Remark, ...]]
    places: list[int]
    failures: tuple[UnreadImage, ...]
    failed: list[int]
    pictures: list[str | bytes | None]

    @property
    def came(self) -> int:
        """How many images came."""
        return len(self.places) + len(self.failed)

    @property
    def notes(self) -> tuple[str, ...]:
        """What is said of the images."""
        return notes_of(zip(self.names, self.remarks, strict=True))


def embed(
    home: Home,
    space: SpaceRecord,
    sources: Iterable[ImageSource],
    progress: Callable[[int], None] | None = None,
    limits: ImageLimits | None = None,
) -> Embedded:
    """Encode images as queries, without the unreadable ones, which are reported."""
    images = _encode_queries(home, space, sources, progress, limits, thumbnails=True)
    return Embedded(
        images.queries,
        images.names,
        [(source, reason) for source, reason in images.failures],
        tuple(images.places),
        tuple(images.failed),
        images.notes,
        tuple(images.remarks),
    )


def _encode_queries(
    home: Home,
    space: SpaceRecord,
    sources: Iterable[ImageSource],
    progress: Callable[[int], None] | None = None,
    limits: ImageLimits | None = None,
    *,
    thumbnails: bool = False,
) -> ImageQueries:
    """Encode images; of an iterator only those that are being encoded are held. With `thumbnails`
    the queries have one of each image."""
    if isinstance(sources, Sequence):
        home.calls.check("images", len(sources), "images")
    images = ImageQueries(Queries(), [], [], [], [], (), [], [])
    failures: list[UnreadImage] = []
    rows: list[tuple[Float32s, ...]] = []
    small: list[bytes | None] = []
    kept = 0
    counted: Any = sources if isinstance(sources, Sequence) else _limited(home, sources)
    for result in encode_for(home, space, counted, progress, limits):
        if isinstance(result, FailedImage):
            failures.append(UnreadImage(result.source, result.reason))
            images.failed.append(result.index)
            continue
        images.names.append(result.source)
        images.hashes.append(result.content_hash)
        images.remarks.append(result.remarks)
        images.places.append(result.index)
        images.pictures.append(result.path or (result.thumbnail if kept < _PICTURES else None))
        kept += result.path is None
        rows.append(result.embeddings)
        picture = Picture(result.content_hash, result.thumbnail, result.source)
        home.pictures.remember(result.embeddings[0], picture)
        if thumbnails:
            small.append(result.thumbnail)
    queries = replace(_queries(space, rows), thumbnails=small if thumbnails else None)
    return replace(images, queries=queries, failures=tuple(failures))


def _limited(home: Home, sources: Iterable[ImageSource]) -> Iterator[ImageSource]:
    """The images of an iterator. Raises InvalidInput: there are more than a call may have."""
    for number, source in enumerate(sources):
        if number == home.calls.images:
            raise too_many("images", number, "got more", "images")
        yield source


def _queries(space: SpaceRecord, rows: Sequence[tuple[Float32s, ...]]) -> Queries:
    """Images as embeddings; `rows` has the (verifier, classifier or nothing) embedding of each."""
    verifier = _column(rows, 0, space.verifier_dim)
    if space.verifier == "same":
        return Queries(classifier=verifier)
    if encodes_images(space.classifier):
        return Queries(_column(rows, 1, space.classifier_dim), verifier)
    return Queries(verifier=verifier)


def _column(rows: Sequence[tuple[Float32s, ...]], encoder: int, dim: int) -> Float32s:
    """(n, dim) embeddings of images by one of their encoders."""
    return np.array([row[encoder] for row in rows]).reshape(len(rows), dim)


def encoded(
    home: Home,
    space: SpaceRecord,
    queries: Queries,
    on_error: str = "raise",
    *,
    thumbnails: bool = False,
) -> tuple[Queries, ImageQueries | None]:
    """Queries as embeddings and, where they were images, these, with their `thumbnails`.

    Raises:
        InvalidInput: several kinds of queries, texts without a text tower, or, unless `on_error` is
            "skip", an image that cannot be read.
    """
    check_queries(queries)
    parts = (queries.images, queries.text, queries.classifier, queries.verifier)
    if queries.images is None and queries.text is None:
        return with_vectors(home, space, queries), None
    if sum(part is not None for part in parts) > 1:
        raise InvalidInput("queries: pass vectors, or images, or text, not several of them")
    if queries.text is not None:
        return _encoded_texts(home, space, queries.text), None
    given = queries.images
    sources = given if isinstance(given, ImageStream) else image_list(given, "queries.images")
    limits = image_limits(home, queries.image_range, queries.accept_truncated)
    images = _encode_queries(home, space, sources, limits=limits, thumbnails=thumbnails)
    if images.failures and on_error != "skip":
        raise unreadable(images.failures, len(images.names) + len(images.failures))
    both = beside_images(queries, images.queries, images.came, images.places)
    return with_vectors(home, space, both), images


def to_be_encoded(queries: Queries) -> bool:
    """Whether queries are not embeddings yet, but images, texts or probabilities."""
    embeddings = queries.images is queries.text is None
    return not (embeddings and queries.probabilities is queries.log_probabilities is None)


def check_queries(queries: object) -> None:
    """Raises InvalidInput for anything but queries."""
    if not isinstance(queries, Queries):
        raise InvalidInput(f"queries: expected trustvlm.Queries(…), got {type(queries).__name__}")
    for name in ("like_supports", "like_labels"):
        if getattr(queries, name) is not None:
            raise InvalidInput(f"queries.{name}: only search takes what is stored as a query")


def query_vectors(
    home: Home,
    space: SpaceRecord,
    queries: Queries,
    read: Callable[[npt.ArrayLike, int, str], Matrix],
) -> tuple[Matrix | None, Matrix | None]:
    """(classifier, verifier) embeddings; where the space's verifier is "same", both are one array.

    Args:
        read: makes rows of (values, dimension, name): unit vectors :func:`as_unit`, raw ones
            :func:`as_matrix`.

    Raises:
        InvalidInput: nothing given, or wrong shapes.
    """
    check_queries(queries)
    if not (queries.probabilities is queries.log_probabilities is queries.outputs is None):
        queries = with_vectors(home, space, queries)
    classifier = verifier = None
    if queries.classifier is not None:
        classifier = read(queries.classifier, space.classifier_dim, "queries.classifier")
    if queries.verifier is not None:
        verifier = read(queries.verifier, space.verifier_dim, "queries.verifier")
    given = verifier if classifier is None else classifier
    if given is None:
        raise InvalidInput(
            "queries: expected classifier or verifier embeddings, images or text; got none of them"
        )
    home.calls.check("queries", len(given), "queries")
    if classifier is not None and verifier is not None and len(classifier) != len(verifier):
        first = "probabilities" if is_external(space) else "classifier"
        raise InvalidInput(unequal({first: len(classifier), "verifier": len(verifier)}))
    if space.verifier != "same":
        return classifier, verifier
    if classifier is None:
        return verifier, verifier
    if verifier is not None and not np.allclose(
        unit_rows(classifier.astype(np.float64)), unit_rows(verifier.astype(np.float64)), atol=1e-6
    ):
        raise InvalidInput(
            f"queries: the verifier of space {space.name!r} is 'same', but two different "
            f"embeddings were given"
        )
    return classifier, classifier


def _encoded_texts(home: Home, space: SpaceRecord, text: str | Sequence[str]) -> Queries:
    if is_external(space):
        raise no_text_search(space)
    if not encodes_texts(space.classifier):
        raise InvalidInput(
            f"queries.text: the classifier of space {space.name!r} is {space.classifier!r}, "
            f"which cannot encode text; "
            f"pass classifier= embeddings of {space.classifier_dim} values instead"
        )
    texts = _checked_texts(home, text)
    encoder = encoder_of(home, space, "classifier")
    if cut := [text for text, is_cut in zip(texts, encoder.cut(texts), strict=True) if is_cut]:
        log.warning("queries.text: %s", cut_message(cut))
    return Queries(classifier=encoder.encode_texts(texts))


def _checked_texts(home: Home, text: str | Sequence[str]) -> list[str]:
    items = [text] if isinstance(text, str) else text
    if not isinstance(items, Iterator):  # an iterator may not end: it is read up to the limit only
        items = text_list(items, "queries.text", "texts")
    texts = at_most(items, home.calls, "queries", "queries.text")
    if not all(isinstance(text, str) and text.strip() for text in texts):
        raise InvalidInput("queries.text: expected non-empty strings")
    if (longest := max(map(len, texts), default=0)) > MAX_PROMPT:
        raise InvalidInput(f"queries.text: expected at most {MAX_PROMPT} characters, got {longest}")
    for text in texts:
        check_characters(" ".join(text.split()), "queries.text")
    return texts
