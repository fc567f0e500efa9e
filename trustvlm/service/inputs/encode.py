"""From what a caller has (images, texts, vectors) to the checked vectors of a space."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from trustvlm.catalog.rows.spaces import SpaceRecord
from trustvlm.catalog.store.names import brief
from trustvlm.encoders import (
    GOLDEN_CLOSE,
    GOLDEN_SAME,
    EncodedImage,
    Encoder,
    FailedImage,
    ImageLimits,
    Remark,
    compare_golden,
    encode_images,
    golden_embedding,
    golden_verdict,
    identity_difference,
    libraries,
    notes_of,
    parse_spec,
)
from trustvlm.errors import Conflict, InvalidInput, NotFound, WeightsMissing
from trustvlm.scoring.prototypes import text_prototype
from trustvlm.scoring.vectors import as_matrix, unit_rows
from trustvlm.service.home.home import Home
from trustvlm.service.home.limits import at_most
from trustvlm.service.inputs.names import MAX_PROMPT, check_characters
from trustvlm.types import Embedded, Queries
from trustvlm.types.array_input import sources
from trustvlm.types.array_input import texts as listed
from trustvlm.types.arrays import Float32s, Float64s
from trustvlm.types.bounds import value_range

if TYPE_CHECKING:
    from trustvlm.types.inputs import ImageSource

__all__ = [
    "Embedded",
    "as_sources",
    "check_queries",
    "embed",
    "encode_for",
    "encode_prompts",
    "encoder_of",
    "encodes_images",
    "encodes_texts",
    "prompts_of",
    "raw_queries",
    "reading",
    "told_cut",
    "told_remarks",
    "unit_queries",
]

log = logging.getLogger("trustvlm")


_PLACES = {
    "open_clip": "open_clip:local-dir:/path/to/folder",
    "timm": "timm:MODEL@/path/to/weights",
}
"""What a spec that names a place looks like."""


def encodes_images(spec: str) -> bool:
    """Whether the encoder `spec` has an image tower."""
    return parse_spec(spec).kind in ("open_clip", "timm")


def encodes_texts(spec: str) -> bool:
    """Whether the encoder `spec` has a text tower."""
    return parse_spec(spec).kind == "open_clip"


def encoder_of(home: Home, space: SpaceRecord, side: str) -> Encoder:
    """The space's "classifier" or "verifier", after making sure that it still is the one the space
    was made with.

    Raises:
        Conflict: other weights, preprocessing or pooling, or the golden image's embedding differs;
            the message says which.
        WeightsMissing: its files are not where they were, or could not be fetched.
    """
    spec, identity, pinned, golden = {
        "classifier": (
            space.classifier,
            space.classifier_identity,
            space.classifier_parts,
            space.classifier_golden,
        ),
        "verifier": (
            space.verifier,
            space.verifier_identity,
            space.verifier_parts,
            space.verifier_golden,
        ),
    }[side]
    try:
        encoder = home.encoders.open(spec)
    except (NotFound, WeightsMissing) as error:
        place = _PLACES.get(parse_spec(spec).kind, "SPEC")
        raise WeightsMissing(
            f"the {side} of space {space.name!r} cannot be opened any more: {error}; if its "
            f"files moved, say where they are: "
            f"trustvlm space repoint {space.name} --{side} {place}"
        ) from error
    if (identity, golden) in home.checked.get(spec, ()):
        return encoder
    forward = (
        f"put the old one back, or embed the space anew with it: trustvlm space reembed "
        f"{space.name}"
    )
    if encoder.identity != identity:
        what = (
            f"it is {identity!r}"
            if encoder.parts is None
            else identity_difference(pinned, encoder.parts)
        )
        raise Conflict(
            f"the {side} {spec!r} of space {space.name!r} is not the one it was made with: "
            f"{what}; {forward}"
        )
    fresh = None if golden is None else golden_embedding(encoder)
    if golden is not None and fresh is not None:
        cosine = compare_golden(np.frombuffer(golden, dtype="<f4"), fresh)
        message = (
            f"the {side} {spec!r} gives the golden image an embedding of cosine "
            f"{cosine:.5f} to the one of space {space.name!r}"
        )
        match golden_verdict(cosine):
            case "different":
                raise Conflict(
                    f"{message}, where {GOLDEN_CLOSE} is needed: weights, preprocessing and "
                    f"pooling are the same, but another "
                    f"library version or precision computes something else "
                    f"({_ran(pinned, encoder)}); {forward}"
                )
            case "close":
                log.warning("%s: below %s; %s", message, GOLDEN_SAME, _ran(pinned, encoder))
            case "same":
                pass
    home.checked.setdefault(spec, set()).add((identity, golden))
    return encoder


def _ran(pinned: Mapping[str, str] | None, encoder: Encoder) -> str:
    """Where and how the encoder runs, and where and how it ran when the space was made, as far as
    that was recorded."""
    now = f"{libraries()} on {encoder.device} at {encoder.precision}"
    if pinned is None:
        return f"now {now}"
    return (
        f"made with {pinned['libraries']} on {pinned['device']} at {pinned['precision']}, now {now}"
    )


def reading(
    home: Home, space: SpaceRecord, image_range: object = None, accept_truncated: bool = False
) -> ImageLimits:
    """How the images of a call are read: the home's limits, and what the call says.

    Raises:
        InvalidInput: the range is none.
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
    same = space.verifier == "same"
    verifier_side = "classifier" if same else "verifier"
    if not encodes_images(space.classifier if same else space.verifier):
        raise InvalidInput(
            f"images: the verifier of space {space.name!r} is "
            f"{space.verifier if not same else space.classifier!r}, "
            f"which cannot encode images; pass embeddings of {space.verifier_dim} values instead"
        )
    encoders = [encoder_of(home, space, verifier_side)]
    if not same and encodes_images(space.classifier):
        encoders.append(encoder_of(home, space, "classifier"))
    limits = reading(home, space) if limits is None else limits
    found = encode_images(
        sources,
        encoders,
        batch_size=home.batch_size,
        workers=home.workers,
        limits=limits,
        progress=progress,
    )
    return list(found)


def embed(
    home: Home,
    space: SpaceRecord,
    sources: Sequence[ImageSource],
    progress: Callable[[int], None] | None = None,
    limits: ImageLimits | None = None,
) -> Embedded:
    """Encode images as queries; unreadable ones are reported and left out."""
    home.calls.check("images", len(sources), "images")
    results = encode_for(home, space, sources, progress, limits)
    good = [result for result in results if isinstance(result, EncodedImage)]
    failures = [
        (result.source, result.reason) for result in results if isinstance(result, FailedImage)
    ]
    verifier = np.array([image.embeddings[0] for image in good]).reshape(
        len(good), space.verifier_dim
    )
    if space.verifier == "same":
        queries = Queries(classifier=verifier)
    elif encodes_images(space.classifier):
        classifier = np.array([image.embeddings[1] for image in good]).reshape(
            len(good), space.classifier_dim
        )
        queries = Queries(classifier=classifier, verifier=verifier)
    else:
        queries = Queries(verifier=verifier)
    failed = tuple(result.index for result in results if isinstance(result, FailedImage))
    names, places = [image.source for image in good], tuple(image.index for image in good)
    return Embedded(
        queries,
        names,
        failures,
        places,
        failed,
        *told_remarks(names, [image.remarks for image in good]),
    )


def told_remarks(
    sources: Sequence[str], remarks: Sequence[tuple[Remark, ...]]
) -> tuple[tuple[str, ...], tuple[tuple[Remark, ...], ...]]:
    """(notes, remarks) of images of these names, as :class:`Embedded` has them."""
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
    if queries.images is not None or queries.text is not None:
        if (
            sum(
                part is not None
                for part in (queries.images, queries.text, queries.classifier, queries.verifier)
            )
            > 1
        ):
            raise InvalidInput("queries: pass vectors, or images, or text, not several of them")
        queries = _encoded(home, space, queries, [] if notes is None else notes)
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


def _encoded(home: Home, space: SpaceRecord, queries: Queries, notes: list[str]) -> Queries:
    if queries.text is not None:
        given = [queries.text] if isinstance(queries.text, str) else queries.text
        ends = not isinstance(given, Iterator)  # else it is left behind the limit
        texts = at_most(
            listed(given, "queries.text", "texts") if ends else given,
            home.calls,
            "queries",
            "queries.text",
        )
        if not encodes_texts(space.classifier):
            raise InvalidInput(
                f"queries.text: the classifier of space {space.name!r} is {space.classifier!r}, "
                f"which cannot encode text; "
                f"pass classifier= embeddings of {space.classifier_dim} values instead"
            )
        if not all(isinstance(text, str) and text.strip() for text in texts):
            raise InvalidInput("queries.text: expected non-empty strings")
        if (longest := max(map(len, texts), default=0)) > MAX_PROMPT:
            raise InvalidInput(
                f"queries.text: expected at most {MAX_PROMPT} characters, got {longest}"
            )
        for text in texts:
            check_characters(" ".join(text.split()), "queries.text")
        encoder = encoder_of(home, space, "classifier")
        if cut := [text for text, is_cut in zip(texts, encoder.cut(texts), strict=True) if is_cut]:
            log.warning("queries.text: %s", told_cut(cut))
        return Queries(classifier=encoder.encode_texts(texts))
    assert queries.images is not None
    images = as_sources(queries.images, "queries.images")
    limits = reading(home, space, queries.image_range, queries.accept_truncated)
    found = embed(home, space, images, limits=limits)
    notes += found.notes
    if found.failures:
        source, reason = found.failures[0]
        raise InvalidInput(
            f"queries.images: {source}: {reason} ({len(found.failures)} of {len(images)} cannot "
            f"be read)"
        )
    return found.queries


def as_sources(images: object, what: str) -> list[ImageSource]:
    """A list of image sources; a single path or picture where a list belongs is a mistake worth
    naming."""
    return sources(images, what)


def encode_prompts(
    encoder: Encoder, prompts: Mapping[str, Sequence[str]]
) -> tuple[dict[str, Float32s], list[str]]:
    """(label → the text prototype of its prompts, labels with a prompt that is longer than the
    model's context)."""
    each = [prompt for own in prompts.values() for prompt in own]
    ends = np.cumsum([len(own) for own in prompts.values()])
    groups = np.split(encoder.encode_texts(each).astype(np.float64), ends[:-1])
    cut = np.split(np.array(encoder.cut(each), np.bool_), ends[:-1])
    texts = {name: text_prototype(group) for name, group in zip(prompts, groups, strict=True)}
    return texts, [name for name, some in zip(prompts, cut, strict=True) if some.any()]


def told_cut(names: Sequence[str]) -> str:
    """That the prompts of these labels are cut, in words."""
    some = ", ".join(map(brief, names[:5])) + (f" and {len(names) - 5:,} more" if names[5:] else "")
    return f"prompts longer than the classifier reads, whose ends are ignored: {some}"


def prompts_of(name: str, prompt: str | None, templates: Sequence[str]) -> list[str]:
    """The prompts whose text embeddings make a label's text prototype."""
    return [
        template.replace("{}", name) for template in ([prompt] if prompt is not None else templates)
    ]
