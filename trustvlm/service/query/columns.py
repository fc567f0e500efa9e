"""Verdicts as columns of numbers: what is chosen among the candidates of each query. Names are
looked up when their column is read."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import numpy.typing as npt

from trustvlm.index.string_table import NameTable
from trustvlm.scoring.rules import Judgement, Rule, close_calls
from trustvlm.service.query.candidates import CandidateSet
from trustvlm.service.query.context import Context
from trustvlm.softmax.native import Rounding, library
from trustvlm.types.arrays import Bools, Float64s, Int64s, Objects

CLAIMED = "claimed_"
"""Begins the names of the columns that are about claimed labels, where there are any."""

NAMES = {
    "label": "label_slot",
    "corrected_from": "corrected_slot",
    "nearest_prototype": "nearest_slot",
    "rival": "rival_slot",
    "top_labels": "top_slots",
}
"""Column of names → column of the text slots that they are the names of; −1 stands for no name."""

_NUMBERS = (
    "label_id", "text_confidence", "image_similarity", "trust", "nearest_similarity", "agrees",
    "rival_id", "rival_trust", "rival_confidence", "unverified", "top_confidence",
)  # fmt: skip
"""The columns of numbers that a verdict shows."""


class Columns(Mapping[str, Any]):
    """The verdict columns of n queries, each an array of n rows.

    Args:
        names: label name of each text slot.
        arrays: every column but those of :data:`NAMES`, with the slots that these come from.
    """

    def __init__(self, names: NameTable, arrays: dict[str, npt.NDArray[Any]]) -> None:
        self._names, self.arrays = names, arrays
        self._looked_up: dict[str, Objects] = {}

    @classmethod
    def joined(cls, parts: Sequence[Columns]) -> Columns:
        """The rows of all parts, of which there is at least one."""
        if len(parts) == 1:
            return parts[0]
        every = [part.arrays for part in parts]
        arrays = {key: np.concatenate([one[key] for one in every]) for key in every[0]}
        return cls(parts[0]._names, arrays)

    def __getitem__(self, key: str) -> npt.NDArray[Any]:
        if key not in NAMES:
            return self.arrays[key]
        if key not in self._looked_up:
            self._looked_up[key] = self._named(self.arrays[NAMES[key]])
        return self._looked_up[key]

    def names(self) -> dict[str, Callable[[], Any]]:
        """Column of names → a function that looks the names up."""
        return {key: partial(self.__getitem__, key) for key in NAMES}

    def numbers(self) -> dict[str, npt.NDArray[Any]]:
        """The columns of numbers that a verdict shows."""
        return {key: self.arrays[key] for key in _NUMBERS}

    def with_arrays(self, arrays: dict[str, npt.NDArray[Any]]) -> Columns:
        """Other columns whose slots have the same names."""
        return Columns(self._names, arrays)

    def __iter__(self) -> Iterator[str]:
        yield from self.arrays
        yield from NAMES

    def __len__(self) -> int:
        return len(self.arrays) + len(NAMES)

    def _named(self, slots: Int64s) -> Objects:
        names: Objects = np.empty(slots.size, dtype=object)
        names[:] = self._names.of(slots.ravel())
        return names.reshape(slots.shape)


def no_nodes(count: int) -> dict[str, Callable[[], Objects | Float64s]]:
    """The columns about nodes of the taxonomy of n verdicts that do not back off, made when they
    are read."""

    def no_path() -> Objects:
        path = np.empty(count, dtype=object)
        path.fill(())
        return path

    return {
        "node": lambda: np.full(count, None, dtype=object),
        "node_probability": lambda: np.full(count, np.nan),
        "path": no_path,
    }


def verdict_columns(
    context: Context,
    candidate_set: CandidateSet,
    rule: Rule,
    judgement: Judgement,
    top_k: int,
    *,
    close: bool,
) -> tuple[Columns, Bools, Int64s]:
    """The verdict columns, (n,) where float32 did not surely tell the answer from the next, and
    (n,) the column of the label among the candidates."""
    view, p, slots = context.view, candidate_set.candidates.p, candidate_set.slots
    chosen = choose(context, candidate_set, judgement, top_k, relabels=rule.relabels)
    label, rival, label_slot, corrected_slot, nearest_slot, rival_slot = chosen.places
    text_confidence, image_similarity, trust, quantity, nearest_similarity = chosen.numbers[:5]
    rival_trust, rival_confidence, rival_quantity = chosen.numbers[5:]
    has_rival, label_id, listed = rival_slot >= 0, view.text.ids[label_slot], chosen.listed
    unverified = np.isnan(image_similarity)
    if unverified.any():  # perhaps only because no verifier embeddings were given
        unverified = view.prototypes.slots(label_id) < 0
    if listed is None:
        top_slots, top_confidence = slots[:, :top_k].copy(), p[:, :top_k].copy()
    else:
        top_slots = np.take_along_axis(slots, listed, axis=1)
        top_confidence = np.take_along_axis(p, listed, axis=1)
    arrays = {
        "label_slot": label_slot,
        "label_id": label_id,
        "corrected_slot": corrected_slot,
        "text_confidence": text_confidence,
        "image_similarity": image_similarity,
        "trust": trust,
        "nearest_slot": nearest_slot,
        "nearest_similarity": nearest_similarity,
        "agrees": chosen.agrees,
        "rival_slot": rival_slot,
        "rival_id": np.where(has_rival, view.text.ids[rival_slot], -1),
        "rival_trust": rival_trust,
        "rival_confidence": rival_confidence,
        "unverified": unverified,
        "top_slots": top_slots,
        "top_confidence": top_confidence,
        "exact": candidate_set.surely_nearest.copy(),
    }
    if close:
        arrays["close"] = has_rival & close_calls(rule, judgement, p, label, rival)
        arrays["ahead"] = has_rival & (rival_quantity > quantity)
    return Columns(view.names, arrays), chosen.unsure, label


@dataclass(frozen=True, eq=False)
class Chosen:
    """What is chosen for n queries.

    Attributes:
        places: (6, n) columns of label and rival among the candidates; slots of the label, of the
            classifier's own label where that is another one, of the nearest label, and of the
            rival; −1 where there is none.
        numbers: (8, n) p, similarity, trust and quantity of the label; similarity of the nearest
            label; trust, p and quantity of the rival. NaN where there is none; quantity: −∞.
        agrees: (n,) the label is the nearest one.
        unsure: (n,) float32 did not surely tell the answer from the next one.
        listed: (n, k) columns of the text leaders, best first; None: the first columns.
    """

    places: Int64s
    numbers: Float64s
    agrees: Bools
    unsure: Bools
    listed: Int64s | None = None


def choose(
    context: Context,
    candidate_set: CandidateSet,
    judgement: Judgement,
    top_k: int,
    *,
    relabels: bool,
) -> Chosen:
    """Choose by the quantity of a rule that `relabels`, else the first text leader; equals go by
    name, and are `unsure` where numbers are rounded."""
    native, block, rounding = library(), candidate_set.block, candidate_set.rounding
    scale = context.view.space.logit_scale
    if native is not None and block is not None and block.size:
        margins = Rounding(rounding * scale, rounding * scale, rounding)
        quantity, trust = judgement.quantity, judgement.trust
        made = native.choose(block, quantity, trust, top_k, margins, relabels=relabels)
        if made is not None:
            places, numbers, flags = made
            return Chosen(places, numbers, flags[0], flags[1])
    return _choose_by_name(context, candidate_set, judgement, top_k, relabels=relabels)


def _choose_by_name(
    context: Context,
    candidate_set: CandidateSet,
    judgement: Judgement,
    top_k: int,
    *,
    relabels: bool,
) -> Chosen:
    candidates, slots = candidate_set.candidates, candidate_set.slots
    p, similarity, trust = candidates.p, candidates.similarity, judgement.trust
    scale = context.view.space.logit_scale
    ranking = Ranking(context.view.names, slots, candidate_set.rounding)
    listed = ranking.order(candidates.logit, scale, top_k, candidate_set.ordered)
    by_rule = np.where(candidates.valid, judgement.quantity, -np.inf)
    label = ranking.best(by_rule, scale, relative=True) if relabels else listed[:, 0]
    of_label = ranking.first + label
    largest = by_rule.take(of_label)
    by_rule.put(of_label, -np.inf)
    rival = ranking.best(by_rule, scale, relative=True)
    of_rival = ranking.first + rival
    largest_other = by_rule.take(of_rival)
    has_rival = largest_other > -np.inf
    nearest = ranking.best(np.where(np.isnan(similarity), -np.inf, similarity), 1.0)
    of_nearest = ranking.first + nearest
    nearest_similarity = similarity.take(of_nearest)
    has_nearest = ~np.isnan(nearest_similarity)
    label_slot, own = slots.take(of_label), slots.take(ranking.first + listed[:, 0])
    places = [
        label,
        rival,
        label_slot,
        np.where(own == label_slot, -1, own),
        np.where(has_nearest, slots.take(of_nearest), -1),
        np.where(has_rival, slots.take(of_rival), -1),
    ]
    numbers = [p.take(of_label), similarity.take(of_label), trust.take(of_label), largest]
    numbers += [nearest_similarity]
    numbers += [np.where(has_rival, values.take(of_rival), np.nan) for values in (trust, p)]
    agrees = has_nearest & (nearest == label)
    made = np.stack(places), np.stack([*numbers, largest_other])
    return Chosen(*made, agrees, ranking.unsure, listed)


class Ranking:
    """Chooses the best of m labels of each of n queries; of equal ones that with the smallest name.

    Attributes:
        first: (n,) places of the first label of each query, where (n, m) values are one row.
        unsure: (n,) where a choice was between values that rounding may have made unequal.
    """

    def __init__(self, names: NameTable, slots: Int64s, rounding: float) -> None:
        self._names, self._slots, self._rounding = names, slots, rounding
        self.first = np.arange(len(slots)) * slots.shape[1]
        self.unsure = np.zeros(len(slots), np.bool_)

    def best(self, values: Float64s, scale: float, *, relative: bool = False) -> Int64s:
        """(n,) column of the largest value of each row.

        Args:
            scale: by how much values grow with a similarity; `relative`: to the value.
        """
        best: Int64s = values.argmax(axis=1)
        largest = values.take(self.first + best)
        margin: Float64s | float = self._rounding * scale
        if relative and self._rounding:
            margin = margin * np.abs(largest)
        close = values >= (largest - margin)[:, np.newaxis]
        if np.count_nonzero(close) == len(best):  # each only the best itself
            return best
        several = (largest > -np.inf) & (np.count_nonzero(close & (values > -np.inf), axis=1) > 1)
        if self._rounding:  # what is exactly 0 is no matter of rounding
            nonzero = largest != 0
            self.unsure |= several & nonzero
            several &= ~nonzero
        for row in np.flatnonzero(several).tolist():
            columns = np.flatnonzero(values[row] == largest[row]).tolist()
            best[row] = min(columns, key=lambda column: self._name(row, column))
        return best

    def order(self, values: Float64s, scale: float, k: int, ordered: int) -> Int64s:
        """(n, k) columns of the k largest values, best first.

        Args:
            ordered: how many of the first columns are these already: k + 1 or all of them; or 0.
        """
        if ordered:
            order = np.tile(np.arange(ordered), (len(values), 1))
        else:
            order = np.argsort(-values, axis=1, kind="stable")
        best = values.take(self.first[:, np.newaxis] + order[:, : k + 1])
        later = best[:, 1:]
        tied = (later > -np.inf) & (later >= best[:, :-1] - self._rounding * scale)
        several = tied.any(axis=1)
        if self._rounding:
            self.unsure |= several
            return order[:, :k]
        for row in np.flatnonzero(several).tolist():
            columns = order[row].tolist()
            columns.sort(key=lambda column: (-values[row, column], self._name(row, column)))
            order[row] = columns
        return order[:, :k]

    def _name(self, row: int, column: int) -> str:
        slot = int(self._slots[row, column])
        return self._names[slot] if slot >= 0 else ""
