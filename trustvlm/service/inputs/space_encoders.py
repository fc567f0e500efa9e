"""Opens the encoders of a space, checks that they are those that the space was made with, and
encodes prompts."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence

import numpy as np

from trustvlm.catalog.rows.spaces import SpaceRecord
from trustvlm.catalog.store.names import brief
from trustvlm.encoders.base import Encoder
from trustvlm.encoders.golden import (
    GOLDEN_CLOSE,
    GOLDEN_SAME,
    compare_golden,
    golden_embedding,
    golden_verdict,
)
from trustvlm.encoders.identity import identity_difference, libraries
from trustvlm.encoders.specs.parse import parse_spec
from trustvlm.errors import Conflict, NotFound, WeightsMissing
from trustvlm.scoring.prototypes import text_prototype
from trustvlm.service.home.home import Home
from trustvlm.types.arrays import Float32s
from trustvlm.types.messages.commands import suggested

log = logging.getLogger("trustvlm")

_PLACES = {
    "open_clip": "open_clip:local-dir:/path/to/folder",
    "timm": "timm:MODEL@/path/to/weights",
    "transformers": "transformers:/path/to/folder",
}
"""Examples of specs that name a place."""


def encodes_images(spec: str) -> bool:
    """Whether the encoder `spec` has an image tower."""
    return parse_spec(spec).encodes_images


def encodes_texts(spec: str) -> bool:
    """Whether the encoder `spec` has a text tower, as a classifier must."""
    return parse_spec(spec).encodes_texts


def image_encoder(space: SpaceRecord) -> str:
    """The spec of the space's verifier: where it is "same", that of its classifier."""
    return space.classifier if space.verifier == "same" else space.verifier


def encoder_of(home: Home, space: SpaceRecord, side: str) -> Encoder:
    """The space's "classifier" or "verifier", after making sure that it still is the one that the
    space was made with.

    Raises:
        Conflict: other weights, preprocessing or pooling, or the golden image's embedding differs;
            the message says which.
        WeightsMissing: its files are not where they were, or could not be fetched.
    """
    spec, identity, golden = (
        getattr(space, side + suffix) for suffix in ("", "_identity", "_golden")
    )
    try:
        encoder = home.encoders.open(spec)
    except (NotFound, WeightsMissing) as error:
        place = _PLACES.get(parse_spec(spec).kind, "SPEC")
        raise WeightsMissing(
            f"the {side} of space {space.name!r} cannot be opened any more: {error}; if its "
            f"files moved, say where they are: "
            f"{suggested('space repoint', space.name, options=f'--{side} {place}')}"
        ) from error
    if (identity, golden) not in home.checked.get(spec, ()):
        _check(encoder, space, side)
        home.checked.setdefault(spec, set()).add((identity, golden))
    return encoder


def _check(encoder: Encoder, space: SpaceRecord, side: str) -> None:
    """Compare an encoder with the identity and the golden embedding that the space has of it; raise
    Conflict, or warn of a small difference."""
    spec, identity, pinned, golden = (
        getattr(space, side + suffix) for suffix in ("", "_identity", "_parts", "_golden")
    )
    remedy = (
        f"put the old one back, or embed the space again with it: "
        f"{suggested('space reembed', space.name, options=f'--{side} SPEC')}"
    )
    if encoder.identity != identity:
        difference = (
            f"it is {identity!r}"
            if encoder.parts is None
            else identity_difference(pinned, encoder.parts)
        )
        raise Conflict(
            f"the {side} {spec!r} of space {space.name!r} is not the one it was made with: "
            f"{difference}; {remedy}"
        )
    embedding = None if golden is None else golden_embedding(encoder)
    if embedding is None:
        return
    cosine = compare_golden(np.frombuffer(golden, dtype="<f4"), embedding)
    verdict = golden_verdict(cosine)
    message = (
        f"the {side} {spec!r} gives the golden image an embedding of cosine {cosine:.5f} to the "
        f"one of space {space.name!r}"
    )
    if verdict == "different":
        raise Conflict(
            f"{message}, where {GOLDEN_CLOSE} is needed: weights, preprocessing and pooling are "
            f"the same, but another library version or precision computes something else "
            f"({_environments(pinned, encoder)}); {remedy}"
        )
    if verdict == "close":
        log.warning("%s: below %s; %s", message, GOLDEN_SAME, _environments(pinned, encoder))


def _environments(pinned: Mapping[str, str] | None, encoder: Encoder) -> str:
    """Where and how the encoder runs, and where and how it ran when the space was made, as far as
    that was recorded."""
    now = f"{libraries()} on {encoder.device} at {encoder.precision}"
    if pinned is None:
        return f"now {now}"
    return (
        f"made with {pinned['libraries']} on {pinned['device']} at {pinned['precision']}, now {now}"
    )


def prompts_of(name: str, prompt: str | None, templates: Sequence[str]) -> list[str]:
    """The prompts whose text embeddings make a label's text prototype."""
    return [
        template.replace("{}", name) for template in ([prompt] if prompt is not None else templates)
    ]


def encode_prompts(
    encoder: Encoder, prompts: Mapping[str, Sequence[str]]
) -> tuple[dict[str, Float32s], list[str]]:
    """(label → the text prototype of its prompts, labels with a prompt that is longer than the
    model's context)."""
    texts = [prompt for of_label in prompts.values() for prompt in of_label]
    ends = np.cumsum([len(of_label) for of_label in prompts.values()])[:-1]
    groups = np.split(encoder.encode_texts(texts).astype(np.float64), ends)
    cut = np.split(np.array(encoder.cut(texts), np.bool_), ends)
    prototypes = {name: text_prototype(group) for name, group in zip(prompts, groups, strict=True)}
    return prototypes, [name for name, group in zip(prompts, cut, strict=True) if group.any()]


def cut_message(names: Sequence[str]) -> str:
    """The message that the prompts of these labels are cut."""
    some = ", ".join(map(brief, names[:5])) + (f" and {len(names) - 5:,} more" if names[5:] else "")
    return f"prompts longer than the classifier reads, whose ends are ignored: {some}"
