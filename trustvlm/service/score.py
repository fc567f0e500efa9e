"""Scoring: label, trust, evidence, for every query at one revision of the space."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from sqlalchemy import Connection

from trustvlm.catalog import labels as label_rows
from trustvlm.errors import InvalidInput, NotFound
from trustvlm.scoring.rules import Judgement, Rule, resolve_parameters
from trustvlm.service.cache import SpaceView
from trustvlm.service.candidates import CANDIDATES, Found, Subset, find_candidates
from trustvlm.service.encoding import unit_queries
from trustvlm.service.evidence import evidence_reader
from trustvlm.service.parts import Parts
from trustvlm.types import Bools, Float64s, Int64s, Objects, Queries, Verdicts

__all__ = ["score"]

BATCH_ROWS = 256
MAX_TOP_K = 1_000


@dataclass(frozen=True, eq=False)
class _Call:
    """What every batch of one score call shares."""

    view: SpaceView
    rule: Rule
    parameters: Mapping[str, float]
    subset: Subset
    imputed: float
    top_k: int


def score(
    parts: Parts,
    space_name: str,
    queries: Queries,
    rule: str | None,
    top_k: int,
    labels: Sequence[str] | npt.NDArray[np.bool_] | None,
    params: Mapping[str, float | None] | None,
) -> Verdicts:
    """See :meth:`TrustService.score`."""
    name, chosen, parameters = resolve_parameters(rule, params)
    if isinstance(top_k, bool) or not isinstance(top_k, int | np.integer) or not 1 <= top_k <= MAX_TOP_K:
        raise InvalidInput(f"top_k: expected a whole number from 1 to {MAX_TOP_K}, got {top_k!r}")
    space = parts.space(space_name)
    classifier, verifier = unit_queries(parts, space, queries)
    if classifier is None:
        raise InvalidInput("queries.classifier: scoring needs classifier embeddings; only verifier embeddings were given")
    if chosen.uses_images and verifier is None:
        raise InvalidInput(
            f"queries.verifier: rule {name!r} needs verifier embeddings of {space.verifier_dim} values; none were given"
        )
    with parts.snapshot(space_name) as (connection, view):
        if view.space.id != space.id:
            raise NotFound(f"space {space_name!r} was removed and made again during the call")
        if not view.text.live:
            raise InvalidInput(f"space {space_name!r} has no labels yet; register some first")
        subset = _subset(connection, view, labels)
        asked = view.text.live if subset.text is None else int(subset.text.sum())
        imputed = _imputed(connection, view) if chosen.uses_images else 0.0
        call = _Call(view, chosen, parameters, subset, imputed, min(int(top_k), asked))
        batches = [
            _Batch(
                call, classifier[start : start + BATCH_ROWS], None if verifier is None else verifier[start : start + BATCH_ROWS]
            )
            for start in range(0, max(len(classifier), 1), BATCH_ROWS)
        ]
    columns = {key: np.concatenate([batch.columns[key] for batch in batches]) for key in batches[0].columns}
    exact = bool(columns.pop("exact").all())
    return Verdicts(
        rule=name,
        params=dict(parameters),
        accepted=np.full(len(classifier), None, dtype=object),
        probability=np.full(len(classifier), None, dtype=object),
        revision=view.revision,
        approximate=not exact,
        error_bound=0.0 if exact else view.cache.recipe.max_error,
        read_evidence=evidence_reader(parts, view, columns["label_id"], columns["rival_id"], verifier),
        **columns,
    )


def _imputed(connection: Connection, view: SpaceView) -> float:
    return view.cache.imputation.at(connection, view.space, view.prototypes, view.text.live)


def _subset(connection: Connection, view: SpaceView, labels: Sequence[str] | npt.NDArray[np.bool_] | None) -> Subset:
    """The asked labels as masks over the view's slots.

    Raises:
        InvalidInput: an empty selection, or a mask of another length. NotFound: an unknown name.
    """
    if labels is None:
        return Subset(None, None)
    if isinstance(labels, str) or not isinstance(labels, Iterable):
        raise InvalidInput(f"labels: expected a list of names or a boolean mask, got {labels!r:.60}")
    alive = np.flatnonzero(view.text.alive)
    array = np.asarray(labels)
    if array.dtype == np.bool_:
        if array.shape != (len(alive),):
            expected = f"one value for each of the {len(alive)} labels, in the order of list_labels"
            raise InvalidInput(f"labels: a mask needs {expected}; got shape {array.shape}")
        slots = alive[np.argsort(view.text.ids[alive])][array]
    else:
        if not all(isinstance(name, str) for name in labels):
            raise InvalidInput("labels: expected a list of names or a boolean mask")
        names = list(dict.fromkeys(labels))
        found = label_rows.find_many(connection, view.space.id, names)
        missing = [name for name in names if name not in found]
        if missing:
            others = f", nor {len(missing) - 1} more" if missing[1:] else ""
            raise NotFound(f"labels: no label {missing[0]!r} in space {view.space.name!r}{others}")
        slots = view.text.slots(np.array([found[name].id for name in names], dtype=np.int64))
    if not len(slots):
        raise InvalidInput("labels: expected at least one label, got none")
    text = np.zeros(view.text.n, np.bool_)
    text[slots] = True
    prototypes = np.zeros(view.prototypes.n, np.bool_)
    rows = view.prototypes.slots(view.text.ids[slots])
    prototypes[rows[rows >= 0]] = True
    return Subset(text, prototypes)


class _Batch:
    """The verdicts of a few hundred queries, as columns."""

    def __init__(self, call: _Call, classifier: Float64s, verifier: Float64s | None) -> None:
        self._call = call
        self.columns = self._judged(classifier, verifier, CANDIDATES)

    def _judged(self, classifier: Float64s, verifier: Float64s | None, leaders: int) -> dict[str, npt.NDArray[np.generic]]:
        call = self._call
        found = find_candidates(
            call.view,
            classifier,
            verifier,
            call.subset,
            leaders=leaders,
            listed=call.top_k,
            temperature=call.parameters.get("temperature"),
            imputed=call.imputed,
        )
        judgement = call.rule.judge(found.candidates, call.parameters)
        columns = self._columns(found, judgement, len(classifier))
        self._search_further(columns, found, judgement, classifier, verifier, leaders)
        return columns

    def _search_further(
        self,
        columns: dict[str, npt.NDArray[np.generic]],
        found: Found,
        judgement: Judgement,
        classifier: Float64s,
        verifier: Float64s | None,
        leaders: int,
    ) -> None:
        """Look at eight times as many candidates where a label outside of them could still be the answer: where it may
        win a rule that relabels, or where equals of the best were cut off and one of them may have a smaller name."""
        unsure = found.tied
        if self._call.rule.relabels:
            best = np.where(found.candidates.valid, judgement.quantity, -np.inf).max(axis=1)
            bound = found.outside + self._call.parameters["lambda"] * found.image_outside
            unsure = unsure | ((found.outside > 0) & (best <= bound))
        short = np.flatnonzero(unsure)
        if not len(short) or leaders >= self._call.view.text.n:
            return
        again = self._judged(classifier[short], None if verifier is None else verifier[short], 8 * leaders)
        for name, column in again.items():
            columns[name][short] = column

    def _columns(self, found: Found, judgement: Judgement, count: int) -> dict[str, npt.NDArray[np.generic]]:
        candidates, valid = found.candidates, found.candidates.valid
        by_text = np.where(found.slots >= 0, candidates.p, -np.inf)
        by_rule = np.where(valid, judgement.quantity, -np.inf)
        names = self._names(found.slots)
        at = np.arange(count)
        chosen = _best(by_rule if self._call.rule.relabels else by_text, names)
        others = by_rule.copy()
        others[at, chosen] = -np.inf
        rival = _best(others, names)
        has_rival = ~np.isneginf(others[at, rival])
        similarity = candidates.similarity
        nearest = _best(np.where(np.isnan(similarity), -np.inf, similarity), names)
        has_nearest = ~np.isnan(similarity[at, nearest])
        order = _order(by_text, names, self._call.top_k)
        ids = self._call.view.text.ids
        unverified = self._unverified(found.slots[at, chosen])
        reason = np.full(count, "not calibrated", dtype=object)
        reason[unverified] = "not calibrated; unverified: the predicted label has no support image"
        return {
            "label": names[at, chosen],
            "label_id": ids[found.slots[at, chosen]],
            "text_confidence": candidates.p[at, chosen],
            "image_similarity": similarity[at, chosen],
            "trust": judgement.trust[at, chosen],
            "nearest_prototype": _or_none(names[at, nearest], has_nearest),
            "nearest_similarity": similarity[at, nearest],
            "agrees": has_nearest & (nearest == chosen),
            "rival": _or_none(names[at, rival], has_rival),
            "rival_id": np.where(has_rival, ids[found.slots[at, rival]], -1),
            "rival_trust": np.where(has_rival, judgement.trust[at, rival], np.nan),
            "unverified": unverified,
            "reason": reason,
            "top_labels": np.take_along_axis(names, order, axis=1),
            "top_confidence": np.take_along_axis(candidates.p, order, axis=1),
            "exact": found.nearest_complete,
        }

    def _names(self, slots: Int64s) -> Objects:
        """(n, m) label names; the empty string where padded."""
        names = self._call.view.names
        found = np.empty(slots.shape, dtype=object)
        found.ravel()[:] = [names[slot] if slot >= 0 else "" for slot in slots.ravel().tolist()]
        return found

    def _unverified(self, slots: Int64s) -> Bools:
        """(n,) whether the labels in these text slots have no prototype."""
        view = self._call.view
        return view.prototypes.slots(view.text.ids[slots]) < 0


def _or_none(names: Objects, there: Bools) -> Objects:
    """`names` with None where there is nothing."""
    found = names.copy()
    found[~there] = None
    return found


def _best(values: Float64s, names: Objects) -> Int64s:
    """(n,) column of the largest value of each row; of several, the one with the smallest name."""
    best: Int64s = values.argmax(axis=1)
    tied = values == values[np.arange(len(values)), best][:, np.newaxis]
    for row in np.flatnonzero(tied.sum(axis=1) > 1).tolist():
        columns = np.flatnonzero(tied[row])
        if not np.isneginf(values[row, columns[0]]):
            best[row] = min(columns.tolist(), key=lambda column: names[row, column])
    return best


def _order(values: Float64s, names: Objects, k: int) -> Int64s:
    """(n, k) columns of the k largest values, best first; ties in order of name."""
    order = np.argsort(-values, axis=1, kind="stable")
    ordered = np.take_along_axis(values, order, axis=1)[:, : k + 1]
    tied = (ordered[:, 1:] == ordered[:, :-1]) & ~np.isneginf(ordered[:, 1:])
    for row in np.flatnonzero(tied.any(axis=1)).tolist():
        order[row] = sorted(order[row].tolist(), key=lambda column: (-values[row, column], names[row, column]))
    return order[:, :k]
