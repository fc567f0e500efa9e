"""What a register call asks for, checked before anything is encoded or written."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np

from trustvlm.catalog.spaces import SpaceRecord
from trustvlm.catalog.vectors import pack
from trustvlm.errors import Conflict, InvalidInput
from trustvlm.scoring.prototypes import mean_prototype, text_prototype
from trustvlm.scoring.vectors import as_matrix
from trustvlm.service.encoding import as_sources, encodes_images, encodes_texts
from trustvlm.service.names import MAX_NAME, check_name
from trustvlm.types import Float32s, LabelInput

if TYPE_CHECKING:
    from trustvlm.types import ImageSource

__all__ = [
    "CHUNK_BYTES",
    "CHUNK_LABELS",
    "PlannedLabel",
    "PlannedVector",
    "check_prompt",
    "check_prototype",
    "chunks",
    "plan",
    "same_direction",
]

CHUNK_LABELS = 1_000
CHUNK_BYTES = 16 * 2**20
"""A chunk of labels, and of the vectors that come with them, is one transaction."""

_SAME = 1e-6


@dataclass(frozen=True, eq=False)
class PlannedVector:
    """One support image that came as embeddings."""

    content_hash: bytes
    embedding: Float32s
    classifier_embedding: Float32s | None


@dataclass(eq=False)
class PlannedLabel:
    """One label of a call, the parts of every input of that name together."""

    name: str
    prompt: str | None = None
    text: Float32s | None = None
    vectors: list[PlannedVector] = field(default_factory=list)
    images: list[ImageSource] = field(default_factory=list)

    def size(self, space: SpaceRecord) -> int:
        """Bytes of vectors that this label may bring."""
        supports = len(self.vectors) + len(self.images)
        return 4 * (space.classifier_dim + space.verifier_dim + supports * (space.verifier_dim + space.classifier_dim))


def plan(space: SpaceRecord, inputs: Iterable[LabelInput]) -> dict[str, PlannedLabel]:
    """The labels of a call by name, in order of first appearance.

    Raises:
        InvalidInput: a name or a vector that cannot be right.
        Conflict: two inputs of one name say different things.
    """
    planned: dict[str, PlannedLabel] = {}
    for number, item in enumerate(inputs):
        if not isinstance(item, LabelInput):
            raise InvalidInput(f"inputs[{number}]: expected a LabelInput, got {type(item).__name__}")
        name = check_name(item.name, f"inputs[{number}].name")
        label = planned.setdefault(name, PlannedLabel(name))
        _add_text(space, label, item)
        _add_supports(space, label, item)
    return planned


def check_prototype(label: PlannedLabel) -> None:
    """Support images of a new label that came as vectors must not cancel out; better said before anything is written.

    Raises:
        InvalidInput: they do.
    """
    if not label.vectors or label.images:
        return
    distinct = {vector.content_hash: vector.embedding for vector in label.vectors}
    try:
        mean_prototype(np.array([distinct[content] for content in sorted(distinct)], dtype=np.float64))
    except InvalidInput as error:
        raise InvalidInput(f"label {label.name!r}: {error}") from error


def _add_text(space: SpaceRecord, label: PlannedLabel, item: LabelInput) -> None:
    if item.prompt is not None:
        if item.text_vector is not None:
            raise InvalidInput(f"label {label.name!r}: pass a prompt or a text_vector, not both")
        check_prompt(space, label.name, item.prompt)
        if label.prompt not in (None, item.prompt):
            raise Conflict(f"label {label.name!r}: two prompts in one call, {label.prompt!r} and {item.prompt!r}")
        label.prompt = item.prompt
    if item.text_vector is not None:
        rows = as_matrix(item.text_vector, space.classifier_dim, f"label {label.name!r}: text_vector", allow_empty=False)
        text = text_prototype(rows)
        if label.text is not None and not same_direction(label.text, text):
            raise Conflict(f"label {label.name!r}: two different text vectors in one call")
        label.text = text


def check_prompt(space: SpaceRecord, name: str, prompt: object) -> str:
    """`prompt` itself, when the space's classifier can encode it for the label `name`.

    Raises:
        InvalidInput: it cannot, or it is empty, too long or no text.
    """
    if not isinstance(prompt, str) or not prompt.strip() or len(prompt) > 10 * MAX_NAME or "\0" in prompt:
        expected = f"a non-empty string of at most {10 * MAX_NAME} characters"
        raise InvalidInput(f"label {name!r}: prompt: expected {expected}, got {prompt!r:.60}")
    if not encodes_texts(space.classifier):
        raise InvalidInput(f"label {name!r}: the classifier {space.classifier!r} cannot encode a prompt; pass text_vector")
    return prompt


def _add_supports(space: SpaceRecord, label: PlannedLabel, item: LabelInput) -> None:
    what = f"label {label.name!r}: "
    if item.images is not None:
        images = as_sources(item.images, what + "images")
        if images and not encodes_images(space.classifier if space.verifier == "same" else space.verifier):
            raise InvalidInput(f"{what}images: the verifier of space {space.name!r} cannot encode images; pass image_vectors")
        label.images += images
    if item.image_vectors is None:
        if item.classifier_image_vectors is not None:
            raise InvalidInput(f"{what}classifier_image_vectors come with image_vectors of the same images; none were given")
        return
    vectors = as_matrix(item.image_vectors, space.verifier_dim, what + "image_vectors").astype(np.float32)
    others: list[Float32s | None] = [None] * len(vectors)
    if item.classifier_image_vectors is not None:
        matrix = as_matrix(item.classifier_image_vectors, space.classifier_dim, what + "classifier_image_vectors")
        if len(matrix) != len(vectors):
            raise InvalidInput(f"{what}{len(vectors)} image_vectors, but {len(matrix)} classifier_image_vectors")
        others = list(matrix.astype(np.float32))
        if space.verifier == "same" and not np.array_equal(vectors, np.array(others).reshape(vectors.shape)):
            raise InvalidInput(
                f"{what}in a space whose verifier is 'same', classifier_image_vectors are the image_vectors; leave them out"
            )
    for vector, other in zip(vectors, others, strict=True):
        label.vectors.append(
            PlannedVector(hashlib.sha256(pack(vector)).digest(), vector, None if space.verifier == "same" else other)
        )


def same_direction(first: Float32s, second: Float32s) -> bool:
    """Whether two text prototypes are the same but for rounding."""
    return bool(np.abs(first - second).max() <= _SAME)


def chunks(space: SpaceRecord, planned: Iterable[PlannedLabel]) -> Iterator[list[PlannedLabel]]:
    """Whole labels in transactions of at most :data:`CHUNK_LABELS` labels and about :data:`CHUNK_BYTES` of vectors."""
    chunk: list[PlannedLabel] = []
    size = 0
    for label in planned:
        more = label.size(space)
        if chunk and (len(chunk) == CHUNK_LABELS or size + more > CHUNK_BYTES):
            yield chunk
            chunk, size = [], 0
        chunk.append(label)
        size += more
    if chunk:
        yield chunk
