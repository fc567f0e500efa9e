"""Judges every image of a pool with its own label made without it: one pass over the images to fit
the discriminant, one to judge."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np

from trustvlm.scoring.discriminant.fit import (
    DiscriminantFit,
    Tower,
    fit_discriminant,
    left_out_cosines,
)
from trustvlm.scoring.discriminant.suspicion import suspicions
from trustvlm.scoring.discriminant.whitening import (
    LeftOutImages,
    Scatter,
    TextSide,
    left_out_values,
    whitened_halves,
    whitening,
)
from trustvlm.scoring.vectors import unit_rows
from trustvlm.service.support.pool import Block, Pool
from trustvlm.types.arrays import Bools, Float32s, Float64s, Int64s
from trustvlm.types.thresholds import Thresholds

_ENTRIES = 2**22  # of a matrix of images by labels


class JudgedImages(NamedTuple):
    """What an audit says of n images.

    Attributes:
        owners: (n,) ids of the images' labels. ids, places: (n,) as of a :class:`Block`.
        nats: (n,) suspicion; NaN of images that cannot be judged. likest: (n,) ids of the most
            likely other labels, and likest_probability: (n,).
        by_text: (n,) the text takes part.
    """

    owners: Int64s
    ids: Int64s
    places: Int64s
    nats: Float64s
    likest: Int64s
    likest_probability: Float64s
    by_text: Bools


class Judged(NamedTuple):
    """All images of k labels, and the `kind` of the evidence, as of a :class:`DiscriminantFit`."""

    kind: str
    labels: int
    images: JudgedImages


@dataclass(eq=False)
class _Tower:
    """What the first pass gathers of one encoder's embeddings of the images."""

    sums: Float64s
    scatter: Scatter
    sample: list[LeftOutImages]

    @classmethod
    def empty(cls, labels: int, dim: int) -> _Tower:
        return cls(np.zeros((labels, dim)), Scatter(np.zeros((dim, dim)), 0), [])

    def add(self, raw: Float64s, owners: Int64s, columns: Int64s, rows: Int64s) -> None:
        np.add.at(self.sums, columns, raw)
        left_out, scatter = LeftOutImages.of_labels(raw, owners, rows, columns[rows])
        self.scatter += scatter
        self.sample.append(left_out)

    def tower(self, prototypes: Float64s, chosen: Int64s) -> Tower:
        """As a fit takes it, with the prototypes of the labels `chosen` (ascending columns)."""
        parts = [
            np.concatenate([getattr(part, name) for part in self.sample])
            for name in ("images", "column", "counts", "residuals", "others")
        ]
        parts[1] = np.searchsorted(chosen, parts[1])
        return Tower(LeftOutImages(*parts), self.scatter, prototypes[chosen])


def judge_pool(pool: Pool, texts: Float32s, scale: float, *, two: bool, most: Thresholds) -> Judged:
    """Judge the images of a pool; those of fewer than two labels, or without evidence, get NaN.

    Args:
        texts: (k, d_t) text prototypes of the pool's labels. two: the classifier's image tower
            gives evidence too: every image has an embedding of it.
    """
    first = _FirstPass(pool, texts, scale, two, most)
    if len(pool.labels) < 2 or not first.count:
        fit: DiscriminantFit | None = None
    else:
        fit = first.fit()
    judge = _Judge(first, fit)
    parts = [judge.block(block) for block in pool.blocks()]
    if not parts:
        none, numbers = np.empty(0, np.int64), np.empty(0, np.float64)
        parts = [JudgedImages(none, none, none, numbers, none, numbers, none > 0)]
    joined: Any = (np.concatenate(arrays) for arrays in zip(*parts, strict=True))
    kind = "none" if fit is None else fit.kind
    return Judged(kind, len(pool.labels), JudgedImages(*joined))


class _FirstPass:
    """What one pass over the images of a pool gathers: prototypes, scatter, and a sample of images
    that are left out of their labels."""

    def __init__(
        self, pool: Pool, texts: Float32s, scale: float, two: bool, most: Thresholds
    ) -> None:
        self.labels, self.scale, self._most = pool.labels, scale, most
        self._texts, self.count = texts, pool.most
        share = 1.0 if self.count <= most.fit_sample else most.fit_sample / self.count
        self.verifier = _Tower.empty(len(self.labels), pool.dims[1])
        self.classifier = _Tower.empty(len(self.labels), pool.dims[0]) if two else None
        self._sampled: list[Float64s] = []
        for block in pool.blocks():
            columns = np.searchsorted(self.labels, block.owners)
            rows = _sample(block, share)
            self.verifier.add(block.verifier, block.owners, columns, rows)
            if self.classifier is not None:
                self.classifier.add(block.classifier, block.owners, columns, rows)
            self._sampled.append(block.classifier[rows])
        self.prototypes = _prototypes(self.verifier.sums)
        self.second = None if self.classifier is None else _prototypes(self.classifier.sums)

    def fit(self) -> DiscriminantFit:
        columns = np.concatenate([part.column for part in self.verifier.sample])
        chosen = np.arange(len(self.labels))
        if len(chosen) > self._most.fit_competitors:
            step = len(chosen) // self._most.fit_competitors + 1
            chosen = np.union1d(chosen[::step], columns)
        second = None
        if self.classifier is not None and self.second is not None:
            second = self.classifier.tower(self.second, chosen)
        tower = self.verifier.tower(self.prototypes, chosen)
        return fit_discriminant(tower, self._text(np.searchsorted(chosen, columns), chosen), second)

    def _text(self, owners: Int64s, chosen: Int64s) -> TextSide:
        vectors = np.concatenate(self._sampled)
        places = np.flatnonzero(np.isfinite(vectors[:, 0]))
        logits = self.logits(vectors[places], chosen)
        zeros = np.zeros(len(chosen))
        return TextSide(places, logits, owners[places], zeros, zeros, None)

    def logits(self, classifier: Float64s, chosen: Int64s | slice = slice(None)) -> Float64s:
        """(m, k) text logits of raw classifier embeddings."""
        products = unit_rows(classifier).astype(np.float32) @ self._texts[chosen].T
        logits: Float64s = self.scale * products.astype(np.float64)
        return logits


def _prototypes(sums: Float64s) -> Float64s:
    """(k, d) normalised sums; zeros where embeddings cancel out."""
    none = np.abs(sums).max(axis=1) == 0
    sums[none] = 1.0
    prototypes = unit_rows(sums)
    prototypes[none] = 0.0
    return prototypes


def _sample(block: Block, share: float) -> Int64s:
    """The rows of a block that belong to the sample: those of small content hash."""
    limit = int(share * 2**64)
    small = [int.from_bytes(content[:8], "big") < limit for content in block.hashes]
    return np.flatnonzero(np.array(small, dtype=np.bool_)) if share < 1 else np.arange(len(small))


class _Judge:
    """Judges images, block by block, with what the first pass has gathered."""

    def __init__(self, first: _FirstPass, fit: DiscriminantFit | None) -> None:
        self._first, self._fit = first, fit
        self._matrix: Float64s | None = None
        self._second: Float64s | None = None
        if fit is not None and fit.kind == "whitened":
            matrix = whitening(first.verifier.scatter)
            assert matrix is not None  # the fit whitens
            self._matrix, self._halves = matrix, whitened_halves(matrix, first.prototypes)
            if fit.share < 1 and first.classifier is not None and first.second is not None:
                matrix = whitening(first.classifier.scatter)
                assert matrix is not None
                self._second, self._second_halves = matrix, whitened_halves(matrix, first.second)

    def block(self, block: Block) -> JudgedImages:
        """What is said of the images of a block."""
        count, fit = len(block.ids), self._fit
        nats, likest = np.full(count, np.nan), np.full(count, -1)
        probability, by_text = np.full(count, np.nan), np.zeros(count, np.bool_)
        if fit is not None and fit.kind in ("whitened", "cosine"):
            labels = self._first.labels
            columns = np.searchsorted(labels, block.owners)
            every = np.arange(count)
            images, _ = LeftOutImages.of_labels(block.verifier, block.owners, every, columns)
            others = None
            if self._second is not None:
                others, _ = LeftOutImages.of_labels(block.classifier, block.owners, every, columns)
            step = max(1, _ENTRIES // len(labels))
            usable = images.defined
            for start in range(0, len(usable), step):
                rows = usable[start : start + step]
                evidence = self._evidence(images.part(rows), others and others.part(rows))
                text, by_text[rows] = self._text(block.classifier[rows])
                judgement = suspicions(text, evidence, columns[rows])
                nats[rows], likest[rows] = judgement.nats, labels[judgement.likest]
                probability[rows] = judgement.likest_probability
        return JudgedImages(
            block.owners, block.ids, block.places, nats, likest, probability, by_text
        )

    def _evidence(self, images: LeftOutImages, others: LeftOutImages | None) -> Float64s:
        first, fit = self._first, self._fit
        assert fit is not None
        if self._matrix is None:
            return left_out_cosines(images, first.prototypes) / fit.tau()
        freedom = first.verifier.scatter.freedom
        values = left_out_values(images, self._matrix, freedom, first.prototypes, self._halves)
        if others is None or first.second is None or first.classifier is None:
            return values / fit.tau()
        freedom = first.classifier.scatter.freedom
        assert self._second is not None
        second = left_out_values(others, self._second, freedom, first.second, self._second_halves)
        share = np.where(np.isfinite(second).all(axis=1, keepdims=True), fit.share, 1.0)
        both: Float64s = share * values + (1 - share) * np.where(share < 1, second, 0.0)
        return both / fit.tau()

    def _text(self, classifier: Float64s) -> tuple[Float64s, Bools]:
        """(m, k) logits, zeros where there is no embedding; (m,) where there is one."""
        stored = np.isfinite(classifier[:, 0])
        logits = np.zeros((len(classifier), len(self._first.labels)))
        if stored.any():
            logits[stored] = self._first.logits(classifier[stored])
        return logits, stored
