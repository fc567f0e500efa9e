"""Checks the labels of a register call before anything is encoded or written."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, TypeVar

import numpy as np
import numpy.typing as npt

from trustvlm.catalog.rows.labels import LabelRecord
from trustvlm.catalog.rows.spaces import SpaceRecord
from trustvlm.catalog.rows.supports import NewSupport
from trustvlm.catalog.store.vectors import hash_of
from trustvlm.errors import Conflict, InvalidInput
from trustvlm.reading.given import no_label_input
from trustvlm.scoring.prototypes import single_text_prototypes, text_prototype
from trustvlm.scoring.vectors import as_matrix
from trustvlm.service.home.home import CallLimits
from trustvlm.service.home.names import MAX_PROMPT, check_characters, check_name
from trustvlm.service.inputs.space_encoders import encodes_images, encodes_texts, image_encoder
from trustvlm.service.registration.external.outputs import no_text_side
from trustvlm.service.registration.prototypes import prototype_of
from trustvlm.types import LabelInput
from trustvlm.types.arrays import Float32s, Float64s, real_array, sources
from trustvlm.types.attributes.values import attributes_text, each_text
from trustvlm.types.thresholds import Thresholds

if TYPE_CHECKING:
    from trustvlm.types.inputs import ImageSource

CHUNK_BYTES = 16 * 2**20
"""Limits of one transaction: labels, and vectors that come with them."""

_SAME = 1e-6
_TOGETHER = 1_000  # text vectors that are checked at once

T = TypeVar("T")


@dataclass(eq=False)
class PlannedLabel:
    """One label of a call: the parts of every input of that name.

    Vectors are kept as the caller passes them and converted with their chunk, so that a call takes
    no second copy of a large file's arrays. Attributes are JSON: those of the label, of each of
    its vectors and of each of its images.
    """

    name: str
    prompt: str | None = None
    parent: str | None = None
    text_vector: npt.ArrayLike | None = None
    image_vectors: list[tuple[npt.ArrayLike, npt.ArrayLike | None]] = field(default_factory=list)
    hashes: list[bytes] = field(default_factory=list)
    images: list[ImageSource] = field(default_factory=list)
    attributes: str | None = None
    vector_attributes: list[str | None] = field(default_factory=list)
    image_attributes: list[str | None] = field(default_factory=list)

    def share(self, space: SpaceRecord, images: int) -> float:
        """Share of a transaction that this label takes up, of :data:`CHUNK_BYTES` of vectors or of
        `images` images to encode."""
        return max(self._bytes(space) / CHUNK_BYTES, len(self.images) / images)

    def _bytes(self, space: SpaceRecord) -> int:
        """Bytes of vectors that this label may bring."""
        supports = len(self.hashes) + len(self.images)
        return 4 * (1 + supports) * sum(space.dims)

    def text(self, space: SpaceRecord) -> Float32s | None:
        """The text prototype of the label's text vectors."""
        return None if self.text_vector is None else text_prototype(_text_rows(space, self))

    def vectors(self, space: SpaceRecord) -> list[NewSupport]:
        """The support images that came as embeddings."""
        pairs: list[tuple[Float32s, Float32s | None]] = []
        for verifier, classifier in self.image_vectors:  # checked when the call was planned
            rows = _float32(verifier).reshape(-1, space.verifier_dim)
            if classifier is None or space.verifier == "same":
                pairs += [(row, None) for row in rows]
            else:
                pairs += zip(
                    rows, _float32(classifier).reshape(-1, space.classifier_dim), strict=True
                )
        given = zip(self.hashes, pairs, self.vector_attributes, strict=True)
        return [
            NewSupport(content, None, *pair, None, attributes=text) for content, pair, text in given
        ]


def _float32(vectors: npt.ArrayLike) -> Float32s:
    return real_array(vectors, "image_vectors").astype(np.float32, copy=False)


def plan(
    space: SpaceRecord, inputs: Iterable[LabelInput], limits: CallLimits
) -> dict[str, PlannedLabel]:
    """The labels of a call by name, in order of first appearance.

    Raises:
        InvalidInput: a name or a vector that cannot be right, or more images or vectors than a call
            may bring.
        Conflict: two inputs of one name say different things.
    """
    planned: dict[str, PlannedLabel] = {}
    unchecked: list[PlannedLabel] = []
    images = supports = 0
    for number, item in enumerate(inputs):
        if not isinstance(item, LabelInput):
            raise no_label_input(item, number)
        name = check_name(item.name, f"inputs[{number}].name")
        no_text_side(space, f"label {name!r}", item)
        label = planned.setdefault(name, PlannedLabel(name))
        _add_parent(label, item)
        if _add_text(space, label, item):
            unchecked.append(label)
        images, supports = images - len(label.images), supports - len(label.hashes)
        before = len(label.images), len(label.hashes)
        _add_supports(space, label, item)
        _add_attributes(label, item, *before)
        images, supports = images + len(label.images), supports + len(label.hashes)
        limits.check("images", images, "inputs")
        limits.check("supports", supports, "inputs")
        if len(unchecked) == _TOGETHER:
            _check_texts(space, unchecked)
            unchecked = []
    _check_texts(space, unchecked)
    return planned


def text_prototypes(space: SpaceRecord, planned: Sequence[PlannedLabel]) -> dict[str, Float32s]:
    """Name → text prototype of the labels that come with text vectors.

    Raises:
        InvalidInput: a vector that cannot be right; the message names the label.
    """
    labels = [label for label in planned if label.text_vector is not None]
    rows = _stacked(space, labels)
    if rows is None:
        return {label.name: text_prototype(_text_rows(space, label)) for label in labels}
    return {
        label.name: row for label, row in zip(labels, single_text_prototypes(rows), strict=True)
    }


def _check_texts(space: SpaceRecord, labels: Sequence[PlannedLabel]) -> None:
    """Raises InvalidInput, naming the label, for a text vector that cannot be right."""
    if _stacked(space, labels) is None:
        text_prototypes(space, labels)


def _stacked(space: SpaceRecord, labels: Sequence[PlannedLabel]) -> Float64s | None:
    """(n, d) the text vectors of labels with one vector each, checked; None for other labels, or
    where a vector is not right."""
    vectors = [label.text_vector for label in labels]
    if len(vectors) < 2 or not all(
        type(v) is np.ndarray and v.shape == (space.classifier_dim,) for v in vectors
    ):
        return None
    try:
        return as_matrix(np.stack(vectors), space.classifier_dim, "")  # type: ignore[arg-type]
    except InvalidInput:
        return None  # the caller finds out which


def _text_rows(space: SpaceRecord, label: PlannedLabel) -> Float64s:
    assert label.text_vector is not None
    return as_matrix(
        label.text_vector,
        space.classifier_dim,
        f"label {label.name!r}: text_vector",
        allow_empty=False,
    )


def check_prototype(space: SpaceRecord, label: PlannedLabel) -> None:
    """Check, before anything is written, that the image vectors of a new label do not cancel out.

    Raises:
        InvalidInput: they do.
    """
    if len(label.hashes) >= 2 and not label.images:
        distinct = {support.content_hash: support for support in label.vectors(space)}
        prototype_of(label.name, list(distinct.values()))


def _add_parent(label: PlannedLabel, item: LabelInput) -> None:
    if item.parent is None:
        return
    parent = check_name(item.parent, f"label {label.name!r}: parent")
    if parent == label.name:
        raise InvalidInput(f"label {label.name!r}: parent: it would stand under itself")
    if label.parent not in (None, parent):
        raise Conflict(
            f"label {label.name!r}: two parents in one call, {label.parent!r} and {parent!r}"
        )
    label.parent = parent


def _add_text(space: SpaceRecord, label: PlannedLabel, item: LabelInput) -> bool:
    """Take the prompt or text vector of an input; whether the vector is still to be checked."""
    if item.prompt is not None:
        if item.text_vector is not None:
            raise InvalidInput(f"label {label.name!r}: pass a prompt or a text_vector, not both")
        check_prompt(space, label.name, item.prompt)
        if label.prompt not in (None, item.prompt):
            raise Conflict(
                f"label {label.name!r}: two prompts in one call, {label.prompt!r} and "
                f"{item.prompt!r}"
            )
        label.prompt = item.prompt
    if item.text_vector is None:
        return False
    before, label.text_vector = label.text(space), item.text_vector
    if before is None:
        return True
    text = label.text(space)
    if text is not None and not same_direction(before, text):
        raise Conflict(f"label {label.name!r}: two different text vectors in one call")
    return False


def _add_attributes(label: PlannedLabel, item: LabelInput, images: int, vectors: int) -> None:
    """Take the attributes of an input, whose images came behind these numbers of others."""
    what = f"label {label.name!r}: "
    if item.attributes is not None:
        text = attributes_text(item.attributes, f"{what}attributes") or "{}"
        if label.attributes not in (None, text):
            raise Conflict(f"{what}attributes: two different objects in one call")
        label.attributes = text
    images, vectors = len(label.images) - images, len(label.hashes) - vectors
    texts = each_text(item.image_attributes, images + vectors, f"{what}image_attributes")
    label.image_attributes += texts[:images]
    label.vector_attributes += texts[images:]


def check_prompt(space: SpaceRecord, name: str, prompt: object) -> str:
    """`prompt` itself, when the space's classifier can encode it for the label `name`.

    Raises:
        InvalidInput: it cannot, or it is empty, too long or no text.
    """
    if not isinstance(prompt, str) or not prompt.strip() or len(prompt) > MAX_PROMPT:
        expected = f"a non-empty string of at most {MAX_PROMPT} characters"
        raise InvalidInput(f"label {name!r}: prompt: expected {expected}, got {prompt!r:.60}")
    check_characters(prompt, f"label {name!r}: prompt")
    if not encodes_texts(space.classifier):
        raise InvalidInput(
            f"label {name!r}: the classifier {space.classifier!r} cannot encode a prompt; pass "
            f"text_vector"
        )
    return prompt


def _add_supports(space: SpaceRecord, label: PlannedLabel, item: LabelInput) -> None:
    what = f"label {label.name!r}: "
    if item.images is not None:
        images = sources(item.images, what + "images")
        if images and not encodes_images(image_encoder(space)):
            raise InvalidInput(
                f"{what}images: the verifier of space {space.name!r} cannot encode images; pass "
                f"image_vectors"
            )
        label.images += images
    if item.image_vectors is None:
        if item.classifier_image_vectors is not None:
            raise InvalidInput(
                f"{what}classifier_image_vectors come with image_vectors of the same images; "
                f"none were given"
            )
        return
    vectors = as_matrix(item.image_vectors, space.verifier_dim, what + "image_vectors").astype(
        np.float32
    )
    if item.classifier_image_vectors is not None:
        others = as_matrix(
            item.classifier_image_vectors, space.classifier_dim, what + "classifier_image_vectors"
        )
        if len(others) != len(vectors):
            raise InvalidInput(
                f"{what}{len(vectors)} image_vectors, but {len(others)} classifier_image_vectors"
            )
        if space.verifier == "same" and not np.array_equal(vectors, others.astype(np.float32)):
            raise InvalidInput(
                f"{what}in a space whose verifier is 'same', classifier_image_vectors are the "
                f"image_vectors; leave them out"
            )
    label.image_vectors.append((item.image_vectors, item.classifier_image_vectors))
    label.hashes += [hash_of(vector) for vector in vectors]


def same_direction(first: Float32s, second: Float32s) -> bool:
    """Whether two text prototypes are equal but for rounding."""
    return bool(np.abs(first - second).max() <= _SAME)


def chunks(
    space: SpaceRecord, planned: Iterable[PlannedLabel], thresholds: Thresholds
) -> Iterator[list[PlannedLabel]]:
    """Whole labels in transactions of up to `transaction_labels` labels, about :data:`CHUNK_BYTES`
    of vectors, and `transaction_images` images to encode, because an interruption loses what is
    encoded and not committed."""
    images = thresholds.transaction_images
    return chunked(
        planned, lambda label: label.share(space, images), 1.0, thresholds.transaction_labels
    )


def chunked(
    items: Iterable[T], size: Callable[[T], float], max_size: float, max_items: int
) -> Iterator[list[T]]:
    """The items in their order, in chunks of up to `max_items` items whose sizes add up to
    `max_size`; a larger item is a chunk of its own."""
    chunk: list[T] = []
    total = 0.0
    for item in items:
        if chunk and (len(chunk) == max_items or total + size(item) > max_size):
            yield chunk
            chunk, total = [], 0.0
        chunk.append(item)
        total += size(item)
    if chunk:
        yield chunk


def encoded_again(label: PlannedLabel, record: LabelRecord | None) -> bool:
    """Whether the call gives a label that exists another prompt, which is to be encoded."""
    return record is not None and label.prompt is not None and label.prompt != record.prompt
