"""Verdicts, their evidence, and search hits."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from trustvlm.types.arrays import Bools, Float64s, Int64s, Objects
from trustvlm.types.json_form import Answer, to_plain

__all__ = [
    "CALL_COLUMNS", "REASON_CODES", "VERDICT_COLUMNS", "Evidence", "Hits", "Neighbour",
    "RuleLeftOut", "Verdicts", "left_out_in_words",
]  # fmt: skip


@dataclass(frozen=True)
class Neighbour(Answer):
    """One support image near a query."""

    id: int
    source: str | None
    similarity: float


@dataclass(frozen=True)
class Evidence(Answer):
    """The nearest support images of the predicted label and of its rival, best first."""

    label: tuple[Neighbour, ...]
    rival: tuple[Neighbour, ...]


@dataclass(frozen=True, eq=False)
class Verdicts:
    """The answers to n queries; every array has n rows.

    Attributes:
        rule: the rule that gave them, with its parameters in `params`.
        label, label_id: the predicted label.
        corrected_from: the classifier's own label where the rule predicts another one, else None.
        text_confidence: softmax probability of the predicted label over all labels that take part.
        image_similarity: cosine of the query and the predicted label's prototype; NaN without one.
        trust: the rule's trust; larger = more likely correct.
        nearest_prototype, nearest_similarity: the label whose prototype is nearest, None/NaN when
            there is none or no verifier embedding was given; `agrees` says whether it is the
            predicted one.
        rival, rival_id, rival_trust: the best other label under the rule (None, −1, NaN when there
            is no other).
        unverified: the predicted label has no support image.
        decision: "accept", "review" or "unknown" (the image is close to no prototype); "review"
            without a calibration.
        accepted: whether the calibration in force accepts it; None where there is none for this
            rule.
        probability: of being right: by the calibration that decided, None where that is stale;
            without one the rule's own where its trust is a probability, else None.
        reason_code: the first of these that holds: "copy_of_other" (the image equals a support
            image of another label), "not_calibrated", "stale" (the calibration is, and accepts
            nothing, or never saw this label), "unknown", "unverified" (where the calibration
            refuses these), "accepted", "close_call" (trust below the threshold, and a rival near in
            the rule's own quantity), "low_evidence" (trust below the threshold).
        reason: the reason code as a short sentence; a rival is named in a close call only.
        top_labels, top_confidence: (n, k) the labels of largest text confidence, best first.
        revision: the space's revision at which everything was computed.
        unknown: the image is close to no prototype, compared with how close support images are to
            theirs.
        tau, tau_revision: the τ of a posterior rule, and the revision at which it was fitted (None:
            it was not).
        image_evidence: where τ came from: "fitted", "default" (nothing to fit it on), "given",
            "off" (the support images do not tell labels apart: q = p) or "none" (no prototypes);
            None for rules without τ.
        calibration_id: the calibration that decided. stale_since: the first revision that it does
            not know.
        rival_confidence: softmax probability of the rival, as text_confidence is of the label; NaN
            without a rival. No column of the rows: it splits the rival's trust into terms.
        approximate: whether anything came from a search that could have missed some candidates.
            error_bound: largest error of the numbers given; what an index that does not compare
                every row misses, `index_stats` says (recall).
        notes: a sentence for each kind of change that made image queries readable for the encoders.
    """

    rule: str
    params: dict[str, float | None]
    label: Objects
    label_id: Int64s
    corrected_from: Objects
    text_confidence: Float64s
    image_similarity: Float64s
    trust: Float64s
    nearest_prototype: Objects
    nearest_similarity: Float64s
    agrees: Bools
    rival: Objects
    rival_id: Int64s
    rival_trust: Float64s
    unverified: Bools
    decision: Objects
    accepted: Objects
    probability: Objects
    reason_code: Objects
    reason: Objects
    top_labels: Objects
    top_confidence: Float64s
    revision: int
    approximate: bool
    error_bound: float
    read_evidence: Callable[[int, int], Evidence] = field(repr=False)
    unknown: Bools
    tau: float | None = None
    tau_revision: int | None = None
    image_evidence: str | None = None
    calibration_id: int | None = None
    stale_since: int | None = None
    rival_confidence: Float64s | None = None
    notes: tuple[str, ...] = ()

    def __len__(self) -> int:
        return len(self.label)

    def evidence(self, i: int, k: int = 3) -> Evidence:
        """The `k` nearest support images of verdict i's label and rival, as of the verdicts'
        revision.

        Raises:
            IndexError: there is no verdict i.
            Unavailable: the support images were purged since, the service is closed, or the
            verdicts were pickled: their evidence stays with the service. Copies in the same process
                keep it.
        """
        if not -len(self) <= i < len(self):
            raise IndexError(f"verdict {i} of {len(self)}")
        return self.read_evidence(i % len(self), k)

    def rows(self, *, evidence: int = 0) -> Iterator[dict[str, Any]]:
        """One plain dict per verdict, ready for JSON (NaN becomes None); with `evidence` nearest
        support images if > 0."""
        for start in range(0, len(self), _BLOCK):
            for i, row in enumerate(self.plain_rows(start, start + _BLOCK), start):
                if evidence:
                    row["evidence"] = to_plain(self.evidence(i, evidence))
                yield row

    def plain_rows(self, start: int, stop: int) -> list[dict[str, Any]]:
        """The rows start … stop; built by column, at a quarter of the cost of building by row."""
        columns = [_cells(getattr(self, name)[start:stop]) for name in VERDICT_COLUMNS]
        shared = {name: _plain(getattr(self, name)) for name in CALL_COLUMNS}
        return [
            dict(zip(VERDICT_COLUMNS, cells, strict=True)) | shared
            for cells in zip(*columns, strict=True)
        ]


_BLOCK = 1_000

VERDICT_COLUMNS = (
    "label", "label_id", "corrected_from", "decision", "reason_code", "reason", "trust",
    "text_confidence",
    "image_similarity", "unverified", "accepted", "probability", "unknown", "nearest_prototype",
    "nearest_similarity",
    "agrees", "rival", "rival_id", "rival_trust", "top_labels", "top_confidence",
)  # fmt: skip


REASON_CODES = (
    "copy_of_other", "not_calibrated", "stale", "unknown", "unverified", "accepted", "close_call",
    "low_evidence",
)  # fmt: skip
"""Why a verdict is as it is: the first of these that holds."""


CALL_COLUMNS = (
    "rule", "revision", "approximate", "error_bound", "tau", "tau_revision", "image_evidence",
    "calibration_id", "stale_since",
)  # fmt: skip


@dataclass(frozen=True)
class RuleLeftOut(Answer):
    """A rule that a comparison of all rules goes without, and the reason in words."""

    rule: str
    reason: str


def left_out_in_words(rules: Sequence[RuleLeftOut]) -> str:
    """One clause for people: the rules, grouped by reason; "" without any."""
    reasons = dict.fromkeys(one.reason for one in rules)
    return "; ".join(
        f"{', '.join(one.rule for one in rules if one.reason == why)} ({why})" for why in reasons
    )


@dataclass(frozen=True, eq=False)
class Hits:
    """The k nearest rows of n queries, best first; padded with −1, −inf and None.

    Attributes:
        kind: "support" (ids of support images), "prototype" or "text" (ids of labels).
        ids: (n, k) int64.
        similarity: (n, k) cosine similarity.
        labels: (n, k) label names.
        sources: (n, k) where each support image came from; None for the other kinds.
        revision: the space's revision of the hits.
        notes: a sentence for each kind of change that made image queries readable for the encoders.
        approximate: some of the nearest may be missing, or in another order. error_bound: largest
            error of a similarity.
        recall: share of the 10 nearest that the index finds, measured when it was built or tuned,
            on rows that were not in it; None where every row is compared.
    """

    kind: str
    ids: Int64s
    similarity: Float64s
    labels: Objects
    sources: Objects
    revision: int
    notes: tuple[str, ...] = ()
    approximate: bool = False
    error_bound: float = 0.0
    recall: float | None = None

    def __len__(self) -> int:
        return len(self.ids)

    def rows(self) -> Iterator[dict[str, Any]]:
        """One plain dict per hit: query, rank, id, similarity, label, source; padding is left
        out."""
        for query, rank in np.argwhere(self.ids >= 0):
            yield {
                "query": int(query),
                "rank": int(rank) + 1,
                "id": int(self.ids[query, rank]),
                "similarity": float(self.similarity[query, rank]),
                "label": self.labels[query, rank],
                "source": self.sources[query, rank],
            }


def _cells(values: Any) -> list[Any]:
    """A column as JSON holds it; only where it may hold NaN or NumPy's numbers, cell by cell."""
    cells: list[Any] = values.tolist()
    mixed = values.dtype.kind == "O" and values.ndim == 1
    if mixed or (values.dtype.kind == "f" and np.isnan(values).any()):
        return [_plain(cell) for cell in cells]
    return cells


def _plain(value: Any) -> Any:
    if isinstance(value, list):
        return [_plain(item) for item in value]
    if isinstance(value, np.generic):
        value = value.item()
    return None if isinstance(value, float) and math.isnan(value) else value
