"""Labels to register, and queries."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, Protocol

import numpy.typing as npt

from trustvlm.types.messages.brief import record_repr
from trustvlm.types.messages.remarks import Remark

if TYPE_CHECKING:
    from PIL.Image import Image

    ImageSource = str | Path | bytes | Image
    """A path, the bytes of an image file, or a decoded PIL image."""

    class ArrowTable(Protocol):
        """A table of pandas, polars, pyarrow and others."""

        def __arrow_c_stream__(self, requested_schema: object = None) -> object: ...

    Images = ImageSource | IO[bytes] | Iterable[ImageSource | IO[bytes]] | ArrowTable
    """A folder, one image, or several; an image may be a file that is open for reading bytes; a
    .csv, .tsv, .parquet or .tar file of images, or a table."""
    Probabilities = npt.ArrayLike | Sequence[Mapping[str, float]]
    """(n, N) values, or for each query a mapping of labels to values."""
    ImagesByLabel = Mapping[str, Images | npt.ArrayLike | None]
    """Label name → its images, or verifier embeddings of them."""


@dataclass(frozen=True, eq=False, repr=False)
class LabelInput:
    """One label to register; everything but the name is optional.

    Attributes:
        name: the label's name, unique in its space.
        text_vector: (d_t,) or (templates, d_t) raw text embeddings; each row is normalised, then
            averaged, then normalised. None: encoded from the name by the space's classifier.
        images: support images as paths, file bytes or PIL images; encoded by the space's encoders.
        image_vectors: (k, d_v) raw verifier embeddings of support images.
        classifier_image_vectors: (k, d_t) raw classifier embeddings of these k support images
            (search by text).
        prompt: a full prompt used instead of the space's templates ("{}" in it stands for the
            name).
        attributes: a JSON object about the label: text, numbers, true, false, lists of these, and
            objects (docs/attributes.md).
        image_attributes: one such object or None for each of the images, then for each of the
            image vectors; or one for all of them.
        parent: the node of the space's taxonomy that the label stands under, by name; a name that
            is no node yet becomes one (docs/taxonomy.md)."""

    name: str
    text_vector: npt.ArrayLike | None = None
    images: Sequence[ImageSource] | None = None
    image_vectors: npt.ArrayLike | None = None
    classifier_image_vectors: npt.ArrayLike | None = None
    prompt: str | None = None
    attributes: Mapping[str, Any] | None = None
    image_attributes: Mapping[str, Any] | Sequence[Mapping[str, Any] | None] | None = None
    parent: str | None = None

    def __repr__(self) -> str:
        """What is given, of at most 2,000 characters."""
        return record_repr(self, given=True)


@dataclass(frozen=True, eq=False, repr=False)
class Queries:
    """What is scored or searched: embeddings, images, or texts (search only).

    Attributes:
        classifier: (n, d_t) classifier embeddings, any float dtype, not normalised by the caller:
            an array, a tensor, a table or a column of lists (docs/arrays.md).
        verifier: (n, d_v) verifier embeddings; may be omitted when the space's verifier is "same"
            or the rule needs none.
        images: paths, file bytes or PIL images, for spaces whose encoders can encode images.
        text: texts, encoded by the space's classifier (search only).
        image_range: of `images` of more than 8 bits a channel, the values (low, high) that become
            black and white; None: estimated from each image.
        accept_truncated: take `images` (JPEG, PNG) that lack their last bytes, their missing part
            filled.
        thumbnails: a small JPEG or None for each query: stored beside embeddings whose true label
            is stored. Those of `images` are made from them.
        claimed: a label name for each query, given by another model, a catalogue or a person, or
            None: verdicts then say whether that label can be accepted (docs/claims.md). A name that
            is no label of the space is no error; its verdict says so.
        probabilities: of spaces with an external classifier (docs/claims.md): (n, N) of N labels,
            each row with the sum 1; or for each query a mapping of some labels to their
            probabilities, of which the other labels share the rest evenly.
        log_probabilities: in place of these, their logarithms; of arrays also any logits.
        outputs: the label of each of the N columns; None: a column with the rest. A table whose
            columns have the names of labels needs none.
        like_supports: ids of stored support images whose embeddings are searched with (search
            only); each is no hit of itself.
        like_labels: names of labels whose text prototype (kind "text") or prototype is searched
            with (search only); a label is no hit of itself.
        sources: a name for each query: a path, an id or an address of its image; None, or an empty
            one: no name. Verdicts, the verdict log, the review queue and what is measured show it;
            of `images` it takes the place of their paths. Not for search.

    Iterators of names and probabilities are made lists.
    """

    classifier: npt.ArrayLike | None = None
    verifier: npt.ArrayLike | None = None
    images: Sequence[ImageSource] | None = None
    text: Sequence[str] | None = None
    image_range: tuple[float, float] | None = None
    accept_truncated: bool = False
    thumbnails: Sequence[bytes | None] | None = None
    claimed: Sequence[str | None] | None = None
    probabilities: Probabilities | None = None
    log_probabilities: Probabilities | None = None
    outputs: Sequence[str | None] | None = None
    like_supports: Sequence[int] | None = None
    like_labels: Sequence[str] | None = None
    sources: Sequence[str | os.PathLike[str] | None] | None = None

    def __post_init__(self) -> None:
        for name in ("claimed", "probabilities", "log_probabilities", "outputs", "sources"):
            values = getattr(self, name)
            if values is not None and isinstance(values, Iterator):
                object.__setattr__(self, name, list(values))  # they are read more than once

    def __repr__(self) -> str:
        """What is given, of at most 2,000 characters."""
        return record_repr(self, given=True)


@dataclass(frozen=True, eq=False, repr=False)
class Embedded:
    """Images turned into queries.

    Attributes:
        queries: their embeddings.
        sources: a name for each.
        failures: (source, reason) of those that could not be read.
        places, failed: the places of the readable and of the unreadable images in the input.
        notes: a sentence for each kind of change that made images readable for the encoders, and
            for each kind of defect.
        remarks: the remarks on each image, from which the notes are made; empty in the client."""

    queries: Queries
    sources: list[str]
    failures: list[tuple[str, str]]
    places: tuple[int, ...] = ()
    failed: tuple[int, ...] = ()
    notes: tuple[str, ...] = ()
    remarks: tuple[tuple[Remark, ...], ...] = ()

    def __repr__(self) -> str:
        """What is given, of at most 2,000 characters."""
        return record_repr(self, given=True)
