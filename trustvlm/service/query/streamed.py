"""From queries to candidate labels with exact numbers: the text leaders and the nearest prototypes.

Each side asks one seam for its leading rows (:func:`trustvlm.service.memory.passes.leading_rows`);
only prototypes in an approximate index, or on a GPU, are searched there. Numbers are float64.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from trustvlm.index.live import IndexView
from trustvlm.scoring.candidates import Candidates
from trustvlm.service.memory.aliases import missing_members, pooled
from trustvlm.service.memory.passes import leading_rows
from trustvlm.service.memory.space_cache import SpaceView
from trustvlm.service.query.candidates import CandidateSet, Request, UnitQueries
from trustvlm.service.query.context import Context
from trustvlm.softmax.leading import LeadingRows, Moments, similarities
from trustvlm.system.stages import stage
from trustvlm.types.arrays import Bools, Float64s, Floats, Int64s

if TYPE_CHECKING:
    from trustvlm.index.rows import RowView

_TIE = 1e-6  # similarities nearer than this may be equal, after float32 rounding of a pass


@dataclass(frozen=True, eq=False)
class _NearestPrototypes:
    """The prototypes nearest to n queries.

    Attributes:
        slots: (n, k) text slots of their labels, −1 where there are no more. similarity: (n, k),
            NaN where it is not exact.
        surely_nearest, tied: as of a :class:`CandidateSet`. outside: its `image_outside`.
        log_z: (n,) log Σ e^(c/T) over all prototypes; None without a temperature.
    """

    slots: Int64s
    similarity: Float64s
    surely_nearest: Bools
    tied: Bools
    outside: Float64s
    log_z: Float64s | None


def streamed_candidates(context: Context, queries: UnitQueries, request: Request) -> CandidateSet:
    """All K candidates of each side of some queries, under every rule."""
    view, aliases, leaders = context.view, context.view.aliases, request.leaders
    scale, temperature = view.space.logit_scale, request.temperature
    exact = queries.exact()
    listed = request.listed * aliases.largest  # as many are left when further names are pooled
    with stage("text pass"):
        text = leading_rows(
            view.text,
            exact.classifier,
            scale,
            max(leaders, listed),
            view.device,
            context.subset.text,
        )
    with stage("image pass"):
        nearest = _nearest_prototypes(context, exact, leaders, temperature)
    columns = _columns(view, exact.classifier, text, nearest, leaders)
    slots, logits, moments = columns.slots, columns.logits, text.moments
    assert moments is not None
    rest = _probability_outside(text, moments, columns)
    outside = text.bound * aliases.largest
    behind = np.zeros(len(slots), np.bool_)
    if aliases.groups:
        slots, logits, moments = pooled(aliases, view.text, slots, logits, moments)
        # names that are no leaders may make a label that is to be listed
        place = min(request.listed, logits.shape[1]) - 1
        listed_logit = -np.partition(-logits, place, axis=1)[:, place]
        behind = outside > np.exp(listed_logit - moments.log_z)
    valid = slots >= 0
    valid[:, columns.end :] = False
    evidence, subset, verifier = context.fit.evidence, context.subset, exact.verifier
    background = None
    if verifier is not None and request.reach == "candidates":
        background = verifier.astype(np.float32) @ context.background.T
    candidates = Candidates(
        logit=logits,
        moments=moments,
        similarity=_similarities(view, slots, valid, verifier, columns.similarity),
        imputed=evidence.imputed,
        image_log_z=nearest.log_z,
        valid=valid,
        rest=rest,
        labels=subset.labels,
        prototypes=subset.prototyped,
        evidence=evidence,
        background=background,
    )
    tied = nearest.tied | ((text.bound > 0) & text.cut_through_equals(listed, _TIE * scale))
    return CandidateSet(
        slots,
        candidates,
        outside,
        nearest.outside,
        nearest.surely_nearest,
        tied | behind,
        ordered=0,
        rounding=0.0,
    )


@dataclass(frozen=True, eq=False)
class _Columns:
    """n queries' labels: K text leaders, the nearest prototypes that are not among them, what the
    groups of both lack; behind these candidates the further text leaders.

    Attributes:
        slots: (n, m) text slots, −1 where padded. logits: (n, m), −∞ there. similarity: (n, m) as
            far as a search gave it, else NaN.
        end: how many columns are candidates.
    """

    slots: Int64s
    logits: Float64s
    similarity: Float64s
    end: int


def _columns(
    view: SpaceView, classifier: Floats, text: LeadingRows, image: _NearestPrototypes, leaders: int
) -> _Columns:
    scale, grouped = view.space.logit_scale, bool(view.aliases.groups)
    members = others = np.empty((len(classifier), 0), np.int64)
    first, further = text.slots[:, :leaders], text.slots[:, leaders:]
    nearest = np.where(_among(image.slots, first), -1, image.slots)
    used = (nearest >= 0).any(axis=0)
    nearest = nearest[:, used]
    if grouped:
        members = missing_members(view.aliases, view.text, np.concatenate([first, nearest], axis=1))
    further = np.where(_among(further, np.concatenate([nearest, members], axis=1)), -1, further)
    slots = np.concatenate([first, nearest, members, further], axis=1)
    if grouped:
        others = missing_members(view.aliases, view.text, slots)
        slots = np.concatenate([slots, others], axis=1)
    end, last = slots.shape[1] - further.shape[1] - others.shape[1], slots.shape[1]
    logits = np.empty(slots.shape)
    logits[:, : first.shape[1]] = text.logits[:, :leaders]
    logits[:, end : end + further.shape[1]] = text.logits[:, leaders:]
    for part in (slice(first.shape[1], end), slice(last - others.shape[1], last)):
        if part.start < part.stop:
            logits[:, part] = scale * similarities(view.text.exact, slots[:, part], classifier)
    logits[slots < 0] = -np.inf
    similarity = np.full(slots.shape, np.nan)
    similarity[:, first.shape[1] : first.shape[1] + nearest.shape[1]] = image.similarity[:, used]
    return _Columns(slots, logits, similarity, end)


def _probability_outside(text: LeadingRows, moments: Moments, columns: _Columns) -> Float64s:
    """(n,) probability of all labels that are not candidates: of those behind the text leaders,
    less that of candidates among these, and that of leaders that are only listed."""
    width, slots, end = text.slots.shape[1], columns.slots, columns.end
    if width >= slots.shape[1] and end >= width:  # the candidates are the leaders
        return text.rest
    p = np.exp(columns.logits - moments.log_z[:, np.newaxis])
    leads = _among(slots, text.slots)
    nearest = np.where(leads, 0.0, p)[:, :end].sum(axis=1)
    listed = np.where(leads, p, 0.0)[:, end:].sum(axis=1)
    outside: Float64s = np.maximum(text.rest - nearest + listed, 0.0)
    return outside


def _similarities(
    view: SpaceView, slots: Int64s, valid: Bools, verifier: Floats | None, exact: Float64s
) -> Float64s:
    """(n, m) similarity of each candidate's prototype, where it is not `exact` already; NaN where
    it has none, or is only listed."""
    if verifier is None or not len(view.prototypes):
        return exact
    labels = view.text.ids[np.maximum(slots, 0)]
    rows = view.prototypes.slots(labels.ravel()).reshape(slots.shape)
    rows[~valid | ~np.isnan(exact)] = -1
    computed = similarities(view.prototypes.exact, rows, verifier)
    return np.where(valid & (rows < 0), exact, computed)


def _nearest_prototypes(
    context: Context, queries: UnitQueries, k: int, temperature: float | None
) -> _NearestPrototypes:
    view, mask, count = context.view, context.subset.prototypes, len(queries.classifier)
    none = np.zeros(count)
    if queries.verifier is None or not len(view.prototypes):
        log_z = None if temperature is None else np.full(count, -np.inf)
        empty, false = np.empty((count, 0)), np.zeros(count, np.bool_)
        return _NearestPrototypes(empty.astype(np.int64), empty, ~false, false, none, log_z)
    index = view.index
    if index is not None and temperature is None and mask is None:
        return _searched(view, index, queries.verifier, k)
    scale = 1.0 if temperature is None else 1.0 / temperature
    leading = leading_rows(
        view.prototypes, queries.verifier, scale, k, view.device, mask, sums=temperature is not None
    )
    slots = _text_slots(view, view.prototypes, leading.slots[:, :k])
    tied = leading.cut_through_equals(0, _TIE * scale)
    log_z = None if leading.moments is None else leading.moments.log_z
    similarity = leading.logits[:, :k] / scale
    return _NearestPrototypes(
        slots, similarity, leading.surely_nearest(), tied, leading.bound, log_z
    )


def _searched(view: SpaceView, index: IndexView, verifier: Floats, k: int) -> _NearestPrototypes:
    """The prototypes that the index returns."""
    ids, similarity = index.search(verifier.astype(np.float32), min(k, len(index)))
    slots = np.where(ids < 0, -1, view.text.slots(np.maximum(ids, 0).ravel()).reshape(ids.shape))
    # What was left out looked no better than the last one returned; both may be off by `max_error`.
    margin = similarity[:, 0] - similarity[:, -1]
    sure = view.recipe.exact or k >= len(index)
    surely_nearest = index.exhaustive & (sure | (margin >= 2 * index.max_error))
    tied = (margin <= _TIE) & (k < len(index))
    inexact, none = np.full(ids.shape, np.nan), np.zeros(len(ids))
    return _NearestPrototypes(slots, inexact, surely_nearest, tied, none, None)


def _text_slots(view: SpaceView, rows: RowView, slots: Int64s) -> Int64s:
    """The text slots of the labels in these slots of `rows`; −1 stays."""
    ids = rows.ids[np.maximum(slots, 0)]
    return np.where(slots < 0, -1, view.text.slots(ids.ravel()).reshape(slots.shape))


def _among(slots: Int64s, others: Int64s) -> Bools:
    """(n, m) which slots are in the same row of `others`."""
    among: Bools = (slots[:, :, np.newaxis] == others[:, np.newaxis]).any(axis=2)
    return among
