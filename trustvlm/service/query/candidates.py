"""From queries to candidate labels: the text leaders and the nearest prototypes, by two engines.

The dense engine makes two float32 products of a few queries with every label of a space in memory;
the streamed one (:mod:`trustvlm.service.query.streamed`) passes over rows of any number and gives
float64 numbers. Both return a :class:`CandidateSet`.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from trustvlm.scoring.candidates import Candidates
from trustvlm.scoring.image_evidence import BACKGROUND
from trustvlm.service.memory.space_cache import SpaceView
from trustvlm.service.query.context import Context
from trustvlm.softmax.dense import block_columns, log_sums
from trustvlm.softmax.leading import Moments
from trustvlm.softmax.native import ColumnChoice
from trustvlm.softmax.on_device import products
from trustvlm.system.stages import stage
from trustvlm.types.arrays import Bools, Float32s, Float64s, Floats, Int64s

CANDIDATES = 64
"""K, the number of text leaders and of nearest prototypes (docs/rules.md, "Candidates")."""

_TEXT = 3  # text leaders of a rule that does not reach all K: label, rival, and an equal of that
_NEAREST = 2  # nearest prototypes of a rule that does not reach all K: the first, and its equal
_SUMS = 3  # sums of a rule that reaches these: the label's or the rival, the best, and its equal
_GATHERED = 16  # less than this share of the labels is gathered
_ROUNDING = 1e-6  # of a similarity in float32


@dataclass(frozen=True, eq=False)
class UnitQueries:
    """Unit vectors of n queries: (n, d_t) and, where given, (n, d_v)."""

    classifier: Floats
    verifier: Floats | None

    def __getitem__(self, rows: Int64s | slice) -> UnitQueries:
        verifier = None if self.verifier is None else self.verifier[rows]
        return UnitQueries(self.classifier[rows], verifier)

    def exact(self) -> UnitQueries:
        """In float64."""
        verifier = None if self.verifier is None else self.verifier.astype(np.float64, copy=False)
        return UnitQueries(self.classifier.astype(np.float64, copy=False), verifier)


@dataclass(frozen=True)
class Request:
    """What a rule asks of an engine.

    Attributes:
        leaders: K, of each side. listed: how many text leaders to return at least.
        reach: see :class:`trustvlm.scoring.rules.Rule`. weight: λ, where `reach` is "sum".
        temperature: T of the softmax over prototypes, for a rule that asks for it.
    """

    leaders: int
    listed: int
    reach: str
    weight: float
    temperature: float | None


@dataclass(frozen=True, eq=False)
class CandidateSet:
    """n queries' candidates: a column for every label, or for the text leaders and the nearest
    prototypes.

    Attributes:
        slots: (n, m) text slots, −1 where padded. Some are only listed; they are not `valid`
            candidates.
        candidates: logits and similarities of all of them.
        outside: (n,) upper bound of p of any label that is not a candidate.
        image_outside: (n,) upper bound of softmax(c/T) of any label that is not a candidate (0
            without a temperature).
        surely_nearest: (n,) the nearest prototype is surely among the candidates.
        tied: (n,) equals of the best may have been cut off: the smallest name is sure only among
            more candidates.
        ordered: how many of the first columns are text leaders, best first.
        rounding: largest error of a similarity; of a logit the scale times that; 0: numbers are
            exact. Answers that differ by less are decided with exact numbers.
        block: of :func:`trustvlm.softmax.dense.block_columns`, where the candidates are these.
    """

    slots: Int64s
    candidates: Candidates
    outside: Float64s
    image_outside: Float64s
    surely_nearest: Bools
    tied: Bools
    ordered: int
    rounding: float
    block: Float64s | None = None


def fits_dense(context: Context) -> bool:
    """Whether the rows of the space lie in memory and are few, and most of them take part: a few
    of many are better gathered."""
    text, prototypes = context.view.text, context.view.prototypes
    in_memory = text.base is None and prototypes.base is None
    few = text.n <= context.home.thresholds.dense_labels
    return in_memory and few and _GATHERED * context.subset.rows > text.n


class DenseEngine:
    """The float32 matrices of n queries against the N text slots of a view.

    A slot that takes no part has the logit −∞. The probability mass of a group of names lies on its
    label; its further names take no part.
    """

    def __init__(self, context: Context, queries: UnitQueries) -> None:
        self._context, self._aliases = context, context.view.aliases
        view, reading, verifier = context.view, context.reading, queries.verifier
        self._prototypes, self._mask = context.subset.prototyped, context.subset.prototypes
        if self._mask is None and view.prototypes.live < view.prototypes.n:
            self._mask = view.prototypes.alive
        with stage("text pass"):
            self._by_name = _logits(context, queries.classifier)
            self._logits = self._pooled() if self._aliases.pairs else self._by_name
        self._products = self._similarity = None
        if verifier is not None and view.prototypes.live:
            with stage("image pass"):
                vectors, rows = verifier.astype(np.float32, copy=False), view.prototypes.rows
                self._products = _products(vectors, rows, view.device)
                if self._mask is not None:
                    self._products[:, ~self._mask] = -np.inf
            slots = reading.once("prototype slots", lambda: _prototype_slots(view))
            self._similarity = self._products
            if slots is not None:
                self._similarity = self._products.take(slots, axis=1)
                self._similarity[:, slots < 0] = -np.inf

    def candidates(self, request: Request) -> CandidateSet:
        """The candidates that `request` asks for.

        Of a rule that does not reach all K of each side they are those that can be its label or its
        rival, the labels to list, and the nearest prototypes.
        """
        logits, evidence = self._logits, self._context.fit.evidence
        temperature = request.temperature
        reach, ordered = request.reach, request.listed + 1
        wide = reach == "candidates" or (reach == "sum" and bool(self._aliases.pairs))
        choice = ColumnChoice(
            text=request.leaders if wide else max(ordered, _TEXT),
            ordered=ordered,
            nearest=request.leaders if wide else _NEAREST,
            sums=0 if wide or reach == "text" else _SUMS,
            most=request.leaders,
            weight=request.weight,
            imputed=evidence.imputed,
        )
        leading = self._leading(request.leaders) if wide and self._aliases.pairs else logits
        block, totals = block_columns(logits, leading, self._similarity, choice)
        log_z, rest, entropy, impurity, beyond = totals
        slots, none = block[0].view(np.int64), np.zeros(len(logits))
        candidates = Candidates(
            logit=block[1],
            moments=Moments(log_z, entropy, impurity),
            similarity=block[2],
            imputed=evidence.imputed,
            image_log_z=None if temperature is None else self._image_log_z(temperature),
            valid=slots >= 0,
            rest=rest,
            labels=self._context.subset.labels,
            prototypes=self._prototypes,
            evidence=evidence,
            background=self._background() if wide else None,
            known_p=block[3],
        )
        outside = image_outside = none
        if temperature is not None and logits.shape[1] > request.leaders:
            outside, image_outside = self._outside(request.leaders, temperature, candidates)
        return CandidateSet(
            slots=slots,
            candidates=candidates,
            outside=outside,
            image_outside=image_outside,
            surely_nearest=none == 0,
            tied=beyond > 0,
            ordered=min(ordered, slots.shape[1]),
            rounding=_ROUNDING,
            block=block,
        )

    def _outside(
        self, leaders: int, temperature: float, candidates: Candidates
    ) -> tuple[Float64s, Float64s]:
        """(n,) upper bounds of p and of softmax(c/T) of a label that is no candidate: those of the
        last leaders."""
        none, log_z = np.zeros(len(self._logits)), candidates.image_log_z
        if self._similarity is None or log_z is None:
            return none, none
        last, image = (
            np.partition(values, -leaders, axis=1)[:, -leaders].astype(np.float64)
            for values in (self._logits, self._similarity)
        )
        bound = np.exp(image / temperature - log_z)
        return np.exp(last - candidates.moments.log_z), bound

    def _pooled(self) -> Float32s:
        """The logits, with that of the sum of powers for a label with further names."""
        logits = self._by_name.copy()
        for label, name in self._pairs():
            logits[:, label] = np.logaddexp(logits[:, label], logits[:, name])
            logits[:, name] = -np.inf
        return logits

    def _pairs(self) -> Iterator[tuple[Int64s, Int64s]]:
        """(slots of labels, slots of a further name of each)."""
        text = self._context.view.text
        for labels, names in self._aliases.pairs:
            yield text.slots(labels), text.slots(names)

    def _leading(self, leaders: int) -> Float32s:
        """The logits of the labels that are among the K text leaders, or have a further name that
        is; −∞ of the others."""
        if leaders >= self._logits.shape[1]:
            return self._logits
        least = np.partition(self._by_name, -leaders, axis=1)[:, -leaders]
        leads = self._by_name >= least[:, np.newaxis]
        for label, name in self._pairs():
            leads[:, label] |= leads[:, name]
        return np.where(leads, self._logits, np.float32(-np.inf))

    def _background(self) -> Float32s | None:
        """(n, a) similarities to the prototypes that stand for labels in general."""
        products, mask = self._products, self._mask
        if products is not None and self._prototypes > BACKGROUND:
            return products.take(self._context.background_slots, axis=1)
        return products if products is None or mask is None else products[:, mask]

    def _image_log_z(self, temperature: float) -> Float64s:
        """(n,) log Σ e^(c/T) over all prototypes; −∞ without any."""
        if self._products is None:
            return np.full(len(self._logits), -np.inf)
        return log_sums(self._products, 1.0 / temperature)


def _logits(context: Context, classifier: Floats) -> Float32s:
    """(n, N) s·x·t_j, further names by themselves; −∞ of what takes no part."""
    view, keep = context.view, context.subset.text
    scale, rows = np.float32(view.space.logit_scale), view.text.rows
    vectors = classifier.astype(np.float32, copy=False)
    if len(rows) < rows.shape[1]:  # what has fewer numbers is multiplied by the scale
        logits = _products(vectors, rows, view.device)
        logits *= scale
    else:
        logits = _products(vectors * scale, rows, view.device)
    if keep is None and view.text.live < view.text.n:
        keep = view.text.alive
    if keep is not None:
        logits[:, ~keep] = -np.inf
    return logits


def _products(vectors: Float32s, rows: Float32s, device: str | None) -> Float32s:
    """(n, N) inner products of (n, d) and (N, d) vectors, on the device of the view, if any."""
    return vectors @ rows.T if device is None else products(vectors, rows, device)


def _prototype_slots(view: SpaceView) -> Int64s | None:
    """(N,) the slot of each label's prototype, −1 where it has none; None: slots are the same."""
    if np.array_equal(view.text.ids, view.prototypes.ids):
        return None
    return np.where(view.text.alive, view.prototypes.slots(view.text.ids), -1)
