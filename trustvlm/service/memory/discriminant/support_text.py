"""The support images of the labels that own a sample of them, and what the text side says of those
whose classifier embedding is stored."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from sqlalchemy import Connection

from trustvlm.catalog.rows import labels, supports
from trustvlm.catalog.rows.spaces import SpaceRecord
from trustvlm.scoring.vectors import unit_rows
from trustvlm.types.arrays import Float64s, Int64s

_LABELS_AT_A_TIME = 64
_IMAGES_OF_A_LABEL = 16  # enough to know the bias of its text


@dataclass(frozen=True, eq=False)
class LabelBlock:
    """All m support images of some labels, of which p are in a sample.

    Attributes:
        labels: ids. owners: (m,) the label of each image. embeddings: (m, d) raw.
        places: (p,) in the sample. rows: (p,) where these images are among the m.
    """

    labels: Int64s
    owners: Int64s
    embeddings: Float64s
    places: Int64s
    rows: Int64s


def blocks_of(
    connection: Connection,
    images: Sequence[tuple[int, bytes]],
    dim: int,
    *,
    classifier: bool = False,
) -> Iterator[LabelBlock]:
    """The support images of the labels that own a sample's, given by label id and content hash,
    some labels at a time; with `classifier`, those with a classifier embedding."""
    owner = np.array([label_id for label_id, _ in images], dtype=np.int64)
    owning = np.unique(owner)
    for start in range(0, len(owning), _LABELS_AT_A_TIME):
        some = owning[start : start + _LABELS_AT_A_TIME]
        owners, hashes, raw = supports.embeddings(
            connection, some.tolist(), dim, classifier=classifier
        )
        row_of = {key: row for row, key in enumerate(zip(owners.tolist(), hashes, strict=True))}
        places = np.flatnonzero(np.isin(owner, some))
        rows = np.array([row_of[images[at]] for at in places.tolist()], dtype=np.int64)
        yield LabelBlock(some, owners, raw.astype(np.float64), places, rows)


@dataclass(frozen=True, eq=False)
class SeenImages:
    """Support images whose classifier embedding is stored: those of a sample, and further ones of
    their labels, which the sample lacks in a large space.

    Attributes:
        owners: (t,) label ids. places: (t,) in the sample, −1 of further ones.
        vectors: (t, d_t) unit embeddings.
    """

    owners: Int64s
    places: Int64s
    vectors: Float64s

    def sampled(self) -> tuple[Int64s, Float64s]:
        """(places, vectors) of the images of the sample, by place."""
        rows = np.flatnonzero(self.places >= 0)
        rows = rows[np.argsort(self.places[rows])]
        return self.places[rows], self.vectors[rows]


def seen_images(
    connection: Connection, space: SpaceRecord, images: Sequence[tuple[int, bytes]]
) -> SeenImages:
    """Those of a sample of support images, given by label id and content hash, with up to 16 images
    of each of their labels, smallest hashes first."""
    place_of = {image: place for place, image in enumerate(images)}
    owners, places = [np.empty(0, np.int64)], [np.empty(0, np.int64)]
    vectors = [np.empty((0, space.classifier_dim))]
    owning = sorted({label_id for label_id, _ in images})
    for start in range(0, len(owning), _LABELS_AT_A_TIME):
        labels, hashes, raw = supports.embeddings(
            connection,
            owning[start : start + _LABELS_AT_A_TIME],
            space.classifier_dim,
            classifier=space.verifier != "same",
        )
        keys = zip(labels.tolist(), hashes, strict=True)
        at = np.array([place_of.get(key, -1) for key in keys], dtype=np.int64)
        rank = np.arange(len(labels)) - np.searchsorted(labels, labels)  # they come label by label
        kept = (at >= 0) | (rank < _IMAGES_OF_A_LABEL)
        owners.append(labels[kept])
        places.append(at[kept])
        vectors.append(unit_rows(raw[kept].astype(np.float64)))
    return SeenImages(np.concatenate(owners), np.concatenate(places), np.concatenate(vectors))


def support_logits(
    connection: Connection, space: SpaceRecord, images: Sequence[tuple[int, bytes]], ids: Int64s
) -> tuple[Int64s, Float64s]:
    """(t,) places of the images whose classifier embedding is stored, and (t, k) text logits of the
    labels `ids`."""
    places, vectors = seen_images(connection, space, images).sampled()
    texts = labels.text_prototypes(connection, ids.tolist(), space.classifier_dim)
    return places, space.logit_scale * vectors @ texts.astype(np.float64).T
