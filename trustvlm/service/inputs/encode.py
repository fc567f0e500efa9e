"""Encodes images and texts of callers with the encoders of a space; checks vectors of callers."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from trustvlm.catalog.rows.spaces import SpaceRecord
from trustvlm.encoders import (
    EncodedImage,
    FailedImage,
    ImageLimits,
    Remark,
    encode_images,
    notes_of,
)
from trustvlm.errors import InvalidInput
from trustvlm.scoring.vectors import as_matrix, unit_rows
from trustvlm.service.home.home import Home
from trustvlm.service.home.limits import at_most
from trustvlm.service.inputs.names import MAX_PROMPT, check_characters
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
from trustvlm.types.bounds import value_range

if TYPE_CHECKING:
    from trustvlm.types.inputs import ImageSource

__all__ = [
    "check_queries",
    "embed",
    "encode_for",
    "notes_and_remarks",
    "raw_queries",
    "reading",
    "unit_queries",
]

log = logging.getLogger("trustvlm")


def reading(
    home: Home, space: SpaceRecord, image_range: object = None, accept_truncated: bool = False
) -> ImageLimits:
    """How the images of a call are read: by the home's limits and the options of the call.

    Raises:
        InvalidInput: the range is no range.
    """
    return replace(
        home.limits,
        value_range=value_range("image_range", image_range),
        accept_truncated=accept_truncated,
    )


def encode_for(
    home: Home,
    space: SpaceRecord,
    sources: Sequence[ImageSource],
    progress: Callable[[int], None] | None = None,
    limits: ImageLimits | None = None,
) -> list[EncodedImage | FailedImage]:
    """Encode images with the space's encoders, each tower once; embeddings are (verifier,
    classifier or nothing).

    Args:
        limits: how they are read; None: as :func:`reading` says for the space.

    Raises:
        InvalidInput: the space's verifier is precomputed.
    """
    if not encodes_images(image_encoder(space)):
        raise InvalidInput(
            f"images: the verifier of space {space.name!r} is {image_encoder(space)!r}, "
            f"which cannot encode images; pass embeddings of {space.verifier_dim} values instead"
        )
    same = space.verifier == "same"
    encoders = [encoder_of(home, space, "classifier" if same else "verifier")]
    if not same and encodes_images(space.classifier):
        encoders.append(encoder_of(home, space, "classifier"))
    return list(
        encode_images(
            sources,
            encoders,
            batch_size=home.batch_size,
            workers=home.workers,
            limits=reading(home, space) if limits is None else limits,
            progress=progress,
        )
    )


def embed(
    home: Home,
    space: SpaceRecord,
    sources: Sequence[ImageSource],
    progress: Callable[[int], None] | None = None,
    limits: ImageLimits | None = None,
) -> Embedded:
    """Encode images as queries, without the unreadable ones, which are reported."""
    home.calls.check("images", len(sources), "images")
    results = encode_for(home, space, sources, progress, limits)
    images = [result for result in results if isinstance(result, EncodedImage)]
    failed = [result for result in results if isinstance(result, FailedImage)]
    verifier = _column(images, 0, space.verifier_dim)
    if space.verifier == "same":
        queries = Queries(classifier=verifier)
    elif encodes_images(space.classifier):
        classifier = _column(images, 1, space.classifier_dim)
        queries = Queries(classifier=classifier, verifier=verifier)
    else:
        queries = Queries(verifier=verifier)
    names = [image.source for image in images]
    return Embedded(
        queries,
        names,
        [(image.source, image.reason) for image in failed],
        tuple(image.index for image in images),
        tuple(image.index for image in failed),
        *notes_and_remarks(names, [image.remarks for image in images]),
    )


def _column(images: Sequence[EncodedImage], encoder: int, dim: int) -> Float32s:
    """(n, dim) embeddings of images by one of their encoders."""
    return np.array([image.embeddings[encoder] for image in images]).reshape(len(images), dim)


def notes_and_remarks(
    sources: Sequence[str], remarks: Sequence[tuple[Remark, ...]]
) -> tuple[tuple[str, ...], tuple[tuple[Remark, ...], ...]]:
    """(notes, remarks) of images with these names, as in :class:`Embedded`."""
    return notes_of(zip(sources, remarks, strict=True)), tuple(remarks)


def unit_queries(
    home: Home, space: SpaceRecord, queries: Queries, notes: list[str] | None = None
) -> tuple[Float64s | None, Float64s | None]:
    """(classifier, verifier) unit vectors of queries; see :func:`raw_queries`."""
    classifier, verifier = raw_queries(home, space, queries, notes)
    unit = None if classifier is None else unit_rows(classifier)
    if verifier is None or verifier is classifier:
        return unit, unit if verifier is not None else None
    return unit, unit_rows(verifier)


def check_queries(queries: object) -> None:
    """Raises InvalidInput for anything but queries."""
    if not isinstance(queries, Queries):
        raise InvalidInput(f"queries: expected trustvlm.Queries(…), got {type(queries).__name__}")


def raw_queries(
    home: Home, space: SpaceRecord, queries: Queries, notes: list[str] | None = None
) -> tuple[Float64s | None, Float64s | None]:
    """(classifier, verifier) embeddings of queries; where the space's verifier is "same", both are
    one array.

    Args:
        notes: what is said of images is appended to it.

    Raises:
        InvalidInput: nothing or too much given, wrong shapes, an image that cannot be read, or
            texts without a text tower.
    """
    check_queries(queries)
    parts = (queries.images, queries.text, queries.classifier, queries.verifier)
    if queries.images is not None or queries.text is not None:
        if sum(part is not None for part in parts) > 1:
            raise InvalidInput("queries: pass vectors, or images, or text, not several of them")
        if queries.text is not None:
            queries = _encoded_texts(home, space, queries.text)
        else:
            queries = _encoded_images(home, space, queries, [] if notes is None else notes)
    classifier = verifier = None
    if queries.classifier is not None:
        classifier = as_matrix(queries.classifier, space.classifier_dim, "queries.classifier")
    if queries.verifier is not None:
        verifier = as_matrix(queries.verifier, space.verifier_dim, "queries.verifier")
    for matrix in (classifier, verifier):
        home.calls.check("queries", 0 if matrix is None else len(matrix), "queries")
    if classifier is None and verifier is None:
        raise InvalidInput(
            "queries: expected classifier or verifier embeddings, images or text; got none of them"
        )
    if classifier is not None and verifier is not None and len(classifier) != len(verifier):
        raise InvalidInput(
            f"queries: {len(classifier)} classifier embeddings, but {len(verifier)} verifier "
            f"embeddings"
        )
    if space.verifier != "same":
        return classifier, verifier
    if classifier is None:
        return verifier, verifier
    if verifier is not None and not np.allclose(
        unit_rows(classifier), unit_rows(verifier), atol=1e-6
    ):
        raise InvalidInput(
            f"queries: the verifier of space {space.name!r} is 'same', but two different "
            f"embeddings were given"
        )
    return classifier, classifier


def _encoded_texts(home: Home, space: SpaceRecord, text: str | Sequence[str]) -> Queries:
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


def _encoded_images(home: Home, space: SpaceRecord, queries: Queries, notes: list[str]) -> Queries:
    images = image_list(queries.images, "queries.images")
    limits = reading(home, space, queries.image_range, queries.accept_truncated)
    embedded = embed(home, space, images, limits=limits)
    notes += embedded.notes
    if embedded.failures:
        source, reason = embedded.failures[0]
        raise InvalidInput(
            f"queries.images: {source}: {reason} ({len(embedded.failures)} of {len(images)} cannot "
            f"be read)"
        )
    return embedded.queries
