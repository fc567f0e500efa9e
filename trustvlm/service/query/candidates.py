"""From queries to candidate labels: the text leaders and the nearest prototypes, by two engines.

The dense engine makes two float32 products of a few queries with every label of a space in memory;
the streamed one (:mod:`trustvlm.service.query.streamed`) passes over rows of any number and gives
float64 numbers. Both return a :class:`CandidateSet`.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np

from trustvlm.scoring.candidates import Candidates
from trustvlm.scoring.image_evidence import BACKGROUND
from trustvlm.service.query.context import Context
from trustvlm.softmax.dense import DenseSoftmax, at_least, largest
from trustvlm.softmax.on_device import products
from trustvlm.system.timing import stage
from trustvlm.types.arrays import Bools, Float32s, Float64s, Floats, Int64s

CANDIDATES = 64
"""K, the number of text leaders and of nearest prototypes (docs/rules.md, "Candidates")."""

_FEW = 12  # up to this many labels have a column each, under any rule
_SMALL = 2_048  # logits of a batch whose labels are all columns: fewer steps, each of them small
_TEXT = 3  # text leaders of a rule that does not reach all K: label, rival, and an equal of that
_NEAREST = 2  # nearest prototypes of a rule that does not reach all K: the first, and its equal
_PAIRS = 64  # slots of few columns are compared pair by pair
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

    def __len__(self) -> int:
        return len(self.classifier)

    def exact(self) -> ExactQueries:
        """In float64."""
        verifier = None if self.verifier is None else self.verifier.astype(np.float64, copy=False)
        return ExactQueries(self.classifier.astype(np.float64, copy=False), verifier)


@dataclass(frozen=True, eq=False)
class ExactQueries(UnitQueries):
    """Unit vectors in float64."""

    classifier: Float64s
    verifier: Float64s | None


@dataclass(frozen=True)
class Request:
    """What a rule asks of an engine.

    Attributes:
        leaders: K, of each side. listed: how many text leaders to return at least.
        reach: see :class:`trustvlm.scoring.rules.Rule`. weight: λ, where `reach` is "sum".
        temperature: T of the softmax over prototypes, for a rule that asks for it.
        moments: entropy and impurity of the softmax over all labels are needed.
    """

    leaders: int
    listed: int
    reach: str
    weight: float
    temperature: float | None
    moments: bool


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
        order: (n, k) columns of the text leaders, best first; None: not computed.
        rounding: largest error of a similarity; of a logit the scale times that; 0: numbers are
            exact. Answers that differ by less are decided with exact numbers.
    """

    slots: Int64s
    candidates: Candidates
    outside: Float64s
    image_outside: Float64s
    surely_nearest: Bools
    tied: Bools
    order: Int64s | None
    rounding: float


def fits_dense(context: Context) -> bool:
    """Whether the rows of the space lie in memory and are few, and most of them take part: a few
    of many are better gathered."""
    text, prototypes = context.view.text, context.view.prototypes
    in_memory = text.base is None and prototypes.base is None
    few = text.n <= context.home.thresholds.dense_labels
    return in_memory and few and _GATHERED * context.subset.rows > text.n


class DenseEngine:
    """The float32 matrices of n queries against the N text slots of a view, made at the first need.

    A slot that takes no part has the logit −∞. The probability mass of a group of names lies on its
    label; its further names take no part.
    """

    def __init__(self, context: Context, queries: UnitQueries) -> None:
        self._context, self._queries = context, queries
        self._rows = np.arange(len(queries))[:, np.newaxis]
        self._aliases = context.view.aliases

    def candidates(self, request: Request) -> CandidateSet:
        """The candidates that `request` asks for.

        Of a rule that does not reach all K of each side they are those that can be its label or its
        rival, the labels to list, and the nearest prototypes.
        """
        if request.reach == "sum" and self._aliases.pairs:
            request = replace(request, reach="candidates")
        most = 2 * request.leaders if request.reach == "candidates" else _FEW
        if self.logits.shape[1] <= most or self.logits.size <= _SMALL:
            return self._every_label(request)
        return self._leaders(request)

    def _every_label(self, request: Request) -> CandidateSet:
        """A column for each label; valid candidates are the leaders of both sides."""
        logit = self.logits.astype(np.float64)
        valid = logit > -np.inf
        slots = np.where(valid, np.arange(logit.shape[1]), -1)
        if request.leaders < logit.shape[1]:
            leads = self._leading(request.leaders)
            if self.similarity is not None:
                leads |= at_least(self.similarity, request.leaders) & self._verified
            valid &= leads
        order = largest(self.logits, request.listed + 1)
        softmax = DenseSoftmax(logit, order[:, 0], valid)
        return self._set(request, slots, softmax, self.similarity, order)

    def _leaders(self, request: Request) -> CandidateSet:
        """A column for each of the leaders of both sides, and of the sums, if these matter."""
        logits, similarity, wide = self.logits, self.similarity, request.reach == "candidates"
        if wide and self._aliases.pairs:
            leading = np.where(self._leading(request.leaders), logits, -np.inf)
            slots = largest(leading, request.leaders)
        else:
            slots = largest(logits, request.leaders if wide else max(request.listed + 1, _TEXT))
        powers = logits - logits[self._rows, slots[:, :1]]
        np.exp(powers, out=powers)
        beyond = None
        if similarity is not None:
            image = largest(similarity, request.leaders if wide else _NEAREST)
            image = np.where(self._verified[image], self._without(image, slots), -1)
            slots = np.concatenate([slots, image], axis=1)
        if request.reach == "sum":
            sums = self._without(self._largest_sums(powers, request.weight), slots)
            beyond = self._beyond(sums, request.leaders)
            slots = np.concatenate([slots, sums], axis=1)
        filled = np.where(slots < 0, slots[:, :1], slots)  # padding looks at the best label again
        logit = logits[self._rows, filled].astype(np.float64)
        logit[slots < 0] = -np.inf
        valid = logit > -np.inf
        powers[self._rows, filled] = 0.0
        softmax = DenseSoftmax(logit, np.zeros(len(slots), np.int64), valid, powers, logits)
        taken = None if similarity is None else similarity[self._rows, filled]
        order = np.broadcast_to(np.arange(request.listed + 1), (len(slots), request.listed + 1))
        return self._set(request, np.where(valid, slots, -1), softmax, taken, order, beyond)

    def _set(
        self,
        request: Request,
        slots: Int64s,
        softmax: DenseSoftmax,
        taken: Float32s | None,
        order: Int64s,
        beyond: Bools | None = None,
    ) -> CandidateSet:
        """The candidates in these (n, m) slots, with their similarities."""
        none, context = np.zeros(len(slots)), self._context
        similarity = np.full(slots.shape, np.nan) if taken is None else taken.astype(np.float64)
        if taken is not None and not (present := (slots >= 0) & (taken > -np.inf)).all():
            similarity[~present] = np.nan
        candidates = Candidates(
            logit=softmax.logit,
            moments=softmax.moments(entropy=request.moments),
            similarity=similarity,
            imputed=context.fit.evidence.imputed,
            image_log_z=None,
            valid=softmax.valid,
            rest=softmax.rest,
            labels=context.subset.labels,
            prototypes=self._prototypes,
            evidence=context.fit.evidence,
            background=self._background if request.reach == "candidates" else None,
            known_p=softmax.p,
        )
        outside = image_outside = none
        if request.temperature is not None:
            log_z = self._image_log_z(request.temperature)
            candidates = replace(candidates, image_log_z=log_z)
            outside, image_outside = self._outside(request, candidates)
        return CandidateSet(
            slots=slots,
            candidates=candidates,
            outside=outside,
            image_outside=image_outside,
            surely_nearest=np.ones(len(slots), np.bool_),
            tied=np.zeros(len(slots), np.bool_) if beyond is None else beyond,
            order=order,
            rounding=_ROUNDING,
        )

    def _outside(self, request: Request, candidates: Candidates) -> tuple[Float64s, Float64s]:
        """(n,) upper bounds of p and of softmax(c/T) of a label that is no candidate: those of the
        last leaders."""
        none, leaders = np.zeros(len(candidates.logit)), request.leaders
        if self.logits.shape[1] <= leaders or self.similarity is None:
            return none, none
        assert request.temperature is not None
        assert candidates.image_log_z is not None
        last = np.partition(self.logits, -leaders, axis=1)[:, -leaders].astype(np.float64)
        image = np.partition(self.similarity, -leaders, axis=1)[:, -leaders].astype(np.float64)
        bound = np.exp(image / request.temperature - candidates.image_log_z)
        return np.exp(last - candidates.moments.log_z), bound

    @cached_property
    def _by_name(self) -> Float32s:
        """(n, N) s·x·t_j, further names by themselves."""
        view, keep = self._context.view, self._context.subset.text
        with stage("text pass"):
            scale, rows = np.float32(view.space.logit_scale), view.text.rows
            vectors = self._queries.classifier.astype(np.float32, copy=False)
            if len(rows) < rows.shape[1]:  # what has fewer numbers is multiplied by the scale
                logits = products(vectors, rows, view.device)
                logits *= scale
            else:
                logits = products(vectors * scale, rows, view.device)
            if keep is None and view.text.live < view.text.n:
                keep = view.text.alive
            if keep is not None:
                logits[:, ~keep] = -np.inf
        return logits

    @cached_property
    def logits(self) -> Float32s:
        """(n, N) s·x·t_j; of a label with further names the log of the sum of their powers."""
        if not self._aliases.pairs:
            return self._by_name
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

    def _leading(self, leaders: int) -> Bools:
        """(n, N) which labels are among the K text leaders, or have a further name that is."""
        leads = at_least(self._by_name, leaders)
        for label, name in self._pairs():
            leads[:, label] |= leads[:, name]
        return leads

    @cached_property
    def similarity(self) -> Float32s | None:
        """(n, N) similarity to each label's prototype, −∞ where it has none; None without any."""
        view, products = self._context.view, self._products
        if products is None or np.array_equal(view.text.ids, view.prototypes.ids):
            return products
        slots = self._context.reading.once(
            "prototype slots",
            lambda: np.where(view.text.alive, view.prototypes.slots(view.text.ids), -1),
        )
        similarity: Float32s = products[:, slots]
        similarity[:, slots < 0] = -np.inf
        return similarity

    @cached_property
    def _products(self) -> Float32s | None:
        """(n, M) similarity to each slot of the prototypes, −∞ where it takes no part; None without
        any."""
        view, verifier = self._context.view, self._queries.verifier
        if verifier is None or not len(view.prototypes):
            return None
        with stage("image pass"):
            vectors = verifier.astype(np.float32, copy=False)
            similarity = products(vectors, view.prototypes.rows, view.device)
            if self._mask is not None:
                similarity[:, ~self._mask] = -np.inf
        return similarity

    @cached_property
    def _mask(self) -> Bools | None:
        """Which prototypes take part; None: all."""
        prototypes, mask = self._context.view.prototypes, self._context.subset.prototypes
        return prototypes.alive if mask is None and prototypes.live < prototypes.n else mask

    @cached_property
    def _prototypes(self) -> int:
        """How many prototypes take part."""
        mask = self._context.subset.prototypes
        return len(self._context.view.prototypes) if mask is None else int(np.count_nonzero(mask))

    @cached_property
    def _background(self) -> Float32s | None:
        """(n, a) similarities to the prototypes that stand for labels in general."""
        products = self._products
        if products is not None and self._prototypes > BACKGROUND:
            return products.take(self._context.background_slots, axis=1)
        return products if products is None or self._mask is None else products[:, self._mask]

    @cached_property
    def _verified(self) -> Bools:
        """(N,) which labels have a prototype that takes part."""
        assert self.similarity is not None
        one = self.similarity[:1]
        verified: Bools = np.isfinite(one[0]) if len(one) else np.ones(one.shape[1], np.bool_)
        return verified

    def _without(self, new: Int64s, slots: Int64s) -> Int64s:
        """`new`, −1 where it is among the `slots` of its row."""
        if new.shape[1] * slots.shape[1] <= _PAIRS:
            among = (new[:, :, np.newaxis] == slots[:, np.newaxis, :]).any(axis=2)
        else:
            marked = np.zeros(self.logits.shape, np.bool_)
            marked[self._rows, slots] = True
            among = marked[self._rows, new]
        return np.where(among, -1, new)

    def _largest_sums(self, powers: Float32s, weight: float) -> Int64s:
        """(n, 3) slots of the largest p + λ·c of all labels: the rival, the rule's best, and what
        may equal them."""
        sums = powers / powers.sum(axis=1, keepdims=True)
        if self.similarity is not None:
            filled = self.similarity
            if not self._verified.all():
                imputed = np.float32(self._context.fit.evidence.imputed)
                filled = np.where(self._verified, filled, imputed)
            sums += filled if weight == 1.0 else filled * np.float32(weight)
        absent = np.isneginf(self.logits[:1])
        if absent.any():
            sums[:, absent[0]] = -np.inf
        return largest(sums, 3)

    def _beyond(self, chosen: Int64s, leaders: int) -> Bools:
        """(n,) whether one of the chosen slots (−1: none) is neither a text leader nor a nearest
        prototype."""
        beyond = np.zeros(len(chosen), np.bool_)
        if self.logits.shape[1] <= leaders:
            return beyond
        for slots in chosen.T:
            rows = np.flatnonzero(slots >= 0)
            for values in (self.similarity, self.logits):
                if values is None or not len(rows):
                    continue
                least = values[rows, slots[rows]][:, np.newaxis]
                rows = rows[np.count_nonzero(values[rows] > least, axis=1) >= leaders]
            beyond[rows] = True
        return beyond

    def _image_log_z(self, temperature: float) -> Float64s:
        """(n,) log Σ e^(c/T) over all prototypes; −∞ without any."""
        products = self._products
        if products is None:
            return np.full(len(self._rows), -np.inf)
        top = products.max(axis=1, keepdims=True)
        powers = np.exp((products - top) / np.float32(temperature))
        log_z: Float64s = top[:, 0] / temperature + np.log(powers.sum(axis=1, dtype=np.float64))
        return log_z
