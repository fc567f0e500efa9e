"""What the rules `lda` and `lda_star` look at beyond the candidates of the other rules: g_j of
every candidate and of the sample of prototypes that stands for labels in general; and what verdicts
say of it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from typing import TypeVar

import numpy as np

from trustvlm.errors import InvalidInput
from trustvlm.scoring.discriminant.rule import DiscriminantValues
from trustvlm.scoring.discriminant.whitening import whitened_halves
from trustvlm.scoring.image_evidence import BACKGROUND
from trustvlm.service.memory.discriminant.space_discriminant import SpaceDiscriminant
from trustvlm.service.query.candidates import CandidateSet, UnitQueries
from trustvlm.service.query.context import Context
from trustvlm.softmax.leading import similarities
from trustvlm.types.arrays import Bools, Float32s, Float64s, Floats, Int64s

_SHARED = 32  # candidates of all queries make one product, up to this many times those of a query

T = TypeVar("T")

_SOURCES = {"whitened": "fitted", "cosine": "cosine", "one image": "default", "off": "off"}
"""Kind of a discriminant → what verdicts call it."""

_COSINE = "the whitened evidence does not tell the labels apart: the similarity serves instead"


def discriminant_values(
    context: Context, queries: UnitQueries, candidate_set: CandidateSet
) -> DiscriminantValues:
    """The values of the candidates of n queries."""
    discriminant, candidates = context.discriminant, candidate_set.candidates
    similarity, fit, slots = candidates.similarity, discriminant.fit, candidate_set.slots
    whitened = _Whitened(context, discriminant, candidate_set.rounding > 0)
    bias = whitened.bias[slots]
    bare = np.isnan(similarity)
    nearest = np.where(bare, -np.inf, similarity).max(axis=1)
    if fit.matrix is None or queries.verifier is None or candidates.background is None:
        background = candidates.background
        if background is None:
            background = np.empty((len(similarity), 0))
        return DiscriminantValues(fit, similarity, background, None, None, bias, nearest)
    values, background = whitened.of_verifier(queries.verifier, slots, bare)
    second = whitened.of_classifier(queries.classifier, slots, bare)
    return DiscriminantValues(fit, values, background, *second, bias, nearest)


@dataclass(frozen=True, eq=False)
class _Whitened:
    """g_j of prototypes of a view.

    Attributes:
        rounded: float32 products may serve; else each value of a candidate is summed alone.
    """

    context: Context
    discriminant: SpaceDiscriminant
    rounded: bool

    @property
    def bias(self) -> Float64s:
        """(text slots + 1,) b_j; the last one is that of slot −1."""

        def table() -> Float64s:
            bias, text = np.zeros(self.context.view.text.n + 1), self.context.view.text
            slots = text.slots(self.discriminant.labels)
            bias[slots[slots >= 0]] = self.discriminant.fit.bias[slots >= 0]
            return bias

        return self._once("bias", table)

    def of_verifier(self, queries: Floats, slots: Int64s, bare: Bools) -> tuple[Float64s, Floats]:
        """(n, m) g_j of the labels in these text slots, NaN where `bare`; (n, a) those of the
        sample."""
        if (few := self._few) is not None:
            values = queries.astype(np.float32, copy=False) @ few.whitened - few.halves
            background = values if few.chosen is None else values[:, few.chosen]
            if self.rounded:
                return _columns(values, few.columns[slots], bare), background
        else:
            white = queries.astype(np.float32, copy=False) @ self._matrix
            background = white @ self.context.background.T - self._sample_halves
        view = self.context.view
        rows = view.prototypes.slots(view.text.ids[np.maximum(slots, 0)].ravel())
        rows = np.where(bare, -1, rows.reshape(slots.shape))
        halves = self._halves_of(rows)
        if self.rounded and (some := np.unique(rows[rows >= 0])).size <= _SHARED * rows.shape[1]:
            columns = np.searchsorted(some, rows).clip(max=max(len(some) - 1, 0))
            return _columns(
                white @ view.prototypes.take(some).T, columns, bare
            ) - halves, background
        exact = queries.astype(np.float64) @ self._wide_matrix
        return similarities(view.prototypes.exact, rows, exact) - halves, background

    def of_classifier(
        self, queries: Floats, slots: Int64s, bare: Bools
    ) -> tuple[Float64s | None, Float64s | None]:
        """Likewise of the classifier's image tower; None where it gives no evidence."""
        discriminant, few = self.discriminant, self._few
        matrix, prototypes = discriminant.fit.classifier_matrix, discriminant.classifier_prototypes
        if matrix is None or prototypes is None or few is None:
            return None, None
        wide = prototypes.astype(np.float64)
        halves = self._once("classifier halves", lambda: whitened_halves(matrix, wide))
        values = queries.astype(np.float64) @ matrix @ wide.T - halves
        places = np.searchsorted(discriminant.labels, few.ids).clip(max=len(prototypes) - 1)
        values = values[:, places]
        background = values if few.chosen is None else values[:, few.chosen]
        return _columns(values, few.columns[slots], bare), background

    @cached_property
    def _few(self) -> _Few | None:
        """All prototypes, where they are the sample; None: there are more."""
        view, mask = self.context.view, self.context.subset.prototypes
        if view.prototypes.live > BACKGROUND:
            return None

        def few() -> _Few:
            rows = np.flatnonzero(view.prototypes.alive)
            ids, prototypes = view.prototypes.ids[rows], view.prototypes.take(rows)
            columns = np.full(view.text.n + 1, -1)
            columns[view.text.slots(ids)] = np.arange(len(rows))
            whitened = self._wide_matrix @ prototypes.astype(np.float64).T
            halves = np.einsum("da,ad->a", whitened, prototypes) / 2
            narrow = whitened.astype(np.float32), halves.astype(np.float32)
            return _Few(rows, ids, columns, *narrow, None)

        few_of_all = self._once("prototypes", few)
        if mask is None:
            return few_of_all
        return replace(few_of_all, chosen=np.flatnonzero(mask[few_of_all.rows]))

    @cached_property
    def _matrix(self) -> Float32s:
        matrix: Float32s = np.asarray(self.discriminant.fit.matrix, dtype=np.float32)
        return matrix

    @property
    def _wide_matrix(self) -> Float64s:
        return self._once("wide matrix", lambda: self._matrix.astype(np.float64))

    @property
    def _sample_halves(self) -> Float32s:
        """(a,) ½·P_jᵀM·P_j of the sample."""

        def halves() -> Float32s:
            sample = self.context.background.astype(np.float64)
            return whitened_halves(self._wide_matrix, sample).astype(np.float32)

        return halves() if self.context.subset.prototypes is not None else self._once("a", halves)

    def _halves_of(self, rows: Int64s) -> Float64s:
        """½·P_jᵀM·P_j of prototypes, computed once for each that is a candidate at this state of
        the catalog; any number where the row is −1."""
        prototypes = self.context.view.prototypes
        halves = self._once("halves", lambda: np.full(prototypes.n, np.nan))
        new = np.unique(rows[rows >= 0])
        new, matrix = new[np.isnan(halves[new])], self._wide_matrix
        for start in range(0, len(new), BACKGROUND):
            some = new[start : start + BACKGROUND]
            halves[some] = whitened_halves(matrix, prototypes.take(some).astype(np.float64))
        taken: Float64s = halves[np.maximum(rows, 0)]
        return taken

    def _once(self, what: str, read: Callable[[], T]) -> T:
        """What one fit gives at one state of the catalog."""
        return self.context.reading.once(f"{what} of discriminant {self.discriminant.made}", read)


@dataclass(frozen=True, eq=False)
class _Few:
    """All a prototypes of a small space.

    Attributes:
        rows, ids: (a,) where they are, and of which labels. columns: (text slots + 1,) which of
            them is a label's, −1 where none is.
        whitened: (d, a) M·P_j. halves: (a,) ½·P_jᵀM·P_j.
        chosen: places of those that take part; None: all.
    """

    rows: Int64s
    ids: Int64s
    columns: Int64s
    whitened: Float32s
    halves: Float32s
    chosen: Int64s | None


def _columns(values: Floats, columns: Int64s, bare: Bools) -> Float64s:
    """(n, m) each query's values in its own columns; NaN where `bare`."""
    if not values.shape[1]:
        return np.full(columns.shape, np.nan)
    taken = np.take_along_axis(values, np.maximum(columns, 0), axis=1).astype(np.float64)
    taken[bare] = np.nan
    return taken


def discriminant_evidence(
    context: Context, parameters: Mapping[str, float | None], *, images: bool
) -> tuple[float | None, str | None]:
    """(τ that served, where it came from).

    Args:
        images: whether there are verifier embeddings.

    Raises:
        InvalidInput: a share of the verifier was given where it is the only image tower.
    """
    fit, share = context.discriminant.fit, parameters["towers"]
    if share not in (None, 1.0) and fit.classifier_matrix is None:
        raise InvalidInput(
            f"params: towers: expected 1, as only the verifier gives image evidence in space "
            f"{context.view.space.name!r} (docs/rules.md, 'Two towers'); got {share:g}"
        )
    if not images or fit.kind == "none":
        return None, "none"
    if parameters["tau"] is not None:
        return parameters["tau"], "given"
    return (fit.tau(share) if fit.on else None), _SOURCES[fit.kind]


def discriminant_remarks(context: Context) -> tuple[str, ...]:
    """What the fit of the space had to do without, in words."""
    discriminant, remarks = context.discriminant, []
    if discriminant.fit.kind == "cosine":
        remarks.append(_COSINE)
    if discriminant.texts < discriminant.images:
        remarks.append(
            f"the classifier embedding of {discriminant.images - discriminant.texts} of the "
            f"{discriminant.images} support images looked at is not stored, so that the text's "
            f"bias for their labels is not known"
        )
    return tuple(remarks)
