"""Reads what a discriminant is fitted on: the fixed sample of support images and labels of the
evidence fit, with all images of these images' labels, and texts."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from sqlalchemy import Connection

from trustvlm.catalog.rows import evidence_fits, labels, supports
from trustvlm.catalog.rows.spaces import SpaceRecord
from trustvlm.scoring.discriminant.fit import Tower
from trustvlm.scoring.discriminant.whitening import LeftOutImages, Scatter, TextSide, text_bias
from trustvlm.scoring.posterior import log_sum
from trustvlm.scoring.vectors import unit_rows
from trustvlm.service.memory.discriminant.support_text import blocks_of, seen_images
from trustvlm.service.memory.support_fit import Sample, sample_of
from trustvlm.types.arrays import Float32s, Float64s, Int64s
from trustvlm.types.thresholds import Thresholds


@dataclass(frozen=True, eq=False)
class DiscriminantSample:
    """What a fit looks at.

    Attributes:
        support: images, and labels with support images, as of the evidence fit.
        bare_ids, bare_texts: labels without support images, the first ones by name.
        prototyped, bare: how many labels there are of both kinds.
        two_towers: the space is small enough for the classifier's image tower to be looked at too.
    """

    support: Sample
    bare_ids: Int64s
    bare_texts: Float32s
    prototyped: int
    bare: int
    two_towers: bool

    @cached_property
    def digest(self) -> str:
        """Equal for equal samples."""
        sizes = np.array([self.prototyped, self.bare, self.two_towers], dtype=np.int64)
        digest = hashlib.sha256(self.support.digest.encode() + self.bare_ids.tobytes())
        digest.update(sizes.tobytes())
        return digest.hexdigest()

    @property
    def labels(self) -> Int64s:
        """Ids of all labels that are looked at."""
        return np.concatenate([self.support.labels, self.bare_ids])


def discriminant_sample(
    connection: Connection, space: SpaceRecord, thresholds: Thresholds
) -> DiscriminantSample:
    """What a fit of the space's revision looks at."""
    support = sample_of(connection, space, thresholds)
    bare_ids, bare_texts = evidence_fits.bare_texts(
        connection, space.id, thresholds.fit_competitors, space.classifier_dim
    )
    prototyped, bare = evidence_fits.group_sizes(connection, space.id)
    complete = support.last_image is None and prototyped <= thresholds.fit_in_call_labels
    two_towers = space.verifier != "same" and complete
    return DiscriminantSample(support, bare_ids, bare_texts, prototyped, bare, two_towers)


def tower_of(connection: Connection, space: SpaceRecord, sample: Sample) -> Tower:
    """What the verifier says of the support images."""
    prototypes = labels.prototypes(connection, sample.labels.tolist(), space.verifier_dim)
    raw = _Images(connection, space.verifier_dim, sample, classifier=False)
    return Tower(*raw.left_out(), prototypes.astype(np.float64))


def classifier_tower(connection: Connection, space: SpaceRecord, sample: Sample) -> Tower | None:
    """What the classifier's image tower says of them; None unless it has seen all of them."""
    images = _Images(connection, space.classifier_dim, sample, classifier=True)
    if not images.complete:
        return None
    left_out, scatter = images.left_out()
    return Tower(left_out, scatter, images.prototypes())


class _Images:
    """The images of the labels that own the images of a sample."""

    def __init__(
        self, connection: Connection, dim: int, sample: Sample, *, classifier: bool
    ) -> None:
        self._connection, self._dim, self._sample = connection, dim, sample
        self._classifier = classifier
        self._owner = np.array([label_id for label_id, _ in sample.images], dtype=np.int64)
        self._sums: dict[int, Float64s] = {}

    @property
    def complete(self) -> bool:
        """Every image of the sample has an embedding."""
        ids = np.unique(self._owner).tolist()
        owners, hashes, _ = supports.embeddings(
            self._connection, ids, self._dim, classifier=self._classifier
        )
        return set(self._sample.images) == set(zip(owners.tolist(), hashes, strict=True))

    def left_out(self) -> tuple[LeftOutImages, Scatter]:
        """The sample's images, left out; and the scatter of all images of their labels."""
        count, dim = len(self._owner), self._dim
        images, residuals, others = (np.empty((count, dim)) for _ in range(3))
        counts = np.empty(count, np.int64)
        column = np.searchsorted(self._sample.labels, self._owner)
        scatter = Scatter(np.zeros((dim, dim)), 0)
        sampled = self._sample.images
        for block in blocks_of(self._connection, sampled, dim, classifier=self._classifier):
            raw, owners, part = block.embeddings, block.owners, block.places
            left_out, spread = LeftOutImages.of_labels(raw, owners, block.rows, column[part])
            images[part], residuals[part] = left_out.images, left_out.residuals
            others[part], counts[part] = left_out.others, left_out.counts
            scatter += spread
            self._sums |= {one: raw[owners == one].sum(axis=0) for one in block.labels.tolist()}
        return LeftOutImages(images, column, counts, residuals, others), scatter

    def prototypes(self) -> Float64s:
        """(k, d) of the sample's labels, each of which has images in it."""
        return unit_rows(np.array([self._sums[label] for label in self._sample.labels.tolist()]))


def text_of(connection: Connection, space: SpaceRecord, sample: DiscriminantSample) -> TextSide:
    """What the text side says of the support images."""
    support, scale = sample.support, space.logit_scale
    seen = seen_images(connection, space, support.images)
    places, vectors = seen.sampled()
    read = labels.text_prototypes(connection, support.labels.tolist(), space.classifier_dim)
    texts = scale * read.astype(np.float64)
    owners = np.array([label_id for label_id, _ in support.images], dtype=np.int64)
    log_bare = None
    if len(sample.bare_ids):
        logits = scale * vectors @ sample.bare_texts.astype(np.float64).T
        log_bare = log_sum(logits) + np.log(sample.bare / len(sample.bare_ids))
    return TextSide(
        images=places,
        logits=vectors @ texts.T,
        column=np.searchsorted(support.labels, owners[places]),
        bias=text_bias(seen.vectors, texts, np.searchsorted(support.labels, seen.owners)),
        log_weight=_log_weight(support, owners, sample.prototyped),
        log_bare=log_bare,
    )


def _log_weight(support: Sample, owners: Int64s, prototyped: int) -> Float64s:
    """(k,) log of how many labels each label that is looked at stands for: those that own no image
    of the sample stand for the rest of the space too."""
    weight = np.zeros(len(support.labels))
    others = ~np.isin(support.labels, owners)
    count = int(others.sum())
    if count:
        rest = prototyped - (len(support.labels) - count)
        weight[others] = np.log(max(rest, count) / count)
    return weight
