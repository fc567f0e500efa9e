"""The softmax over few rows at once: all logits in one block of memory."""

from __future__ import annotations

import numpy as np

from trustvlm.softmax.leading import ExactRows, LeadingRows, RestSums, similarities, with_moments
from trustvlm.softmax.native import ColumnChoice, library
from trustvlm.types.arrays import Bools, Float32s, Float64s, Floats, Int64s

DENSE_LOGITS = 2**20
"""Most logits of a block: 4 MB of float32."""

_LOWEST = np.float32(-80.0)  # e^−80 is a normal float32; a million rows of it add 1e−29


def dense_rows(
    rows: Float32s,
    queries: Floats,
    scale: float,
    k: int,
    *,
    keep: Bools | None = None,
    sums: bool = True,
) -> LeadingRows:
    """The min(k, N) rows of largest scale · query · row, exactly, and with `sums` the softmax over
    all rows where `keep` is true (None: all).

    Args:
        rows: (N, d) float32 unit vectors. queries: (n, d) unit vectors.
    """
    count = len(rows) if keep is None else int(np.count_nonzero(keep))
    logits = (queries * scale).astype(np.float32, copy=False) @ rows.T
    if keep is not None and count < len(rows):
        logits[:, ~keep] = -np.inf
    slots, leading = _leaders(rows, queries, scale, min(k, len(rows)), logits)
    complete, none = slots.shape[1] >= count, np.zeros(len(logits))
    if not sums:
        return LeadingRows(slots, leading, complete, 0.0, None, none, none)
    if complete:
        return with_moments(slots, leading, count, 0.0, RestSums(none, none, none))
    np.put_along_axis(logits, slots, -np.inf, axis=1)
    logits -= leading[:, :1].astype(np.float32)
    np.maximum(logits, _LOWEST, out=logits)
    powers = np.exp(logits)
    rest = RestSums(
        powers.sum(axis=1, dtype=np.float64),
        np.einsum("nb,nb->n", powers, logits).astype(np.float64),
        np.einsum("nb,nb->n", powers, powers).astype(np.float64),
    )
    return with_moments(slots, leading, count, 0.0, rest)


def _leaders(
    rows: Float32s, queries: Floats, scale: float, width: int, logits: Float32s
) -> tuple[Int64s, Float64s]:
    """(n, width) slots and exact logits of the largest (n, N) logits, best first; −1 and −∞ where
    these are −∞."""
    slots = np.broadcast_to(np.arange(width), (len(logits), width))
    if width < len(rows):
        slots = np.argpartition(logits, -width, axis=1)[:, -width:]
    exact = scale * similarities(ExactRows.in_memory(rows), slots, queries)
    exact[np.isneginf(np.take_along_axis(logits, slots, axis=1))] = -np.inf
    order = np.argsort(-exact, axis=1, kind="stable")
    leading = np.take_along_axis(exact, order, axis=1)
    ordered = np.take_along_axis(slots, order, axis=1)
    return np.where(np.isneginf(leading), -1, ordered), leading


def block_columns(
    logits: Float32s, leading: Float32s, similarity: Float32s | None, choice: ColumnChoice
) -> tuple[Float64s, Float64s]:
    """The columns of n queries, each for a label: text leaders, then nearest labels, then sums; and
    the softmax over all labels.

    Args:
        logits: (n, N), −∞ of a label that takes no part. leading: those that leaders are chosen by.
        similarity: (n, N), −∞ of a label that takes no part or has no prototype.

    Returns:
        (4, n, m): slots as int64, −1 where padded; logits, similarities and p, there −∞, NaN and 0.
        (5, n): log-partition, probability of all labels without a column, Σ p·log p, Gini impurity
        Σ p·(1 − p), and whether a column of the sums is "beyond".
    """
    native = library()
    if native is None or not len(logits):
        return _by_numpy(logits, leading, similarity, choice)
    return native.columns(logits, leading, similarity, choice)


def leaders_of_block(values: Float32s, k: int) -> tuple[Int64s, Float32s]:
    """(n, min(k, N)) places of the k ≤ 64 largest of each row of (n, N) values, best first, and
    these; −1 and −∞ where all others are −∞."""
    block, _ = block_columns(values, values, None, ColumnChoice(text=k, ordered=k))
    return block[0].view(np.int64), block[1].astype(np.float32)


def _by_numpy(
    logits: Float32s, leading: Float32s, similarity: Float32s | None, choice: ColumnChoice
) -> tuple[Float64s, Float64s]:
    """As the compiled loop, where there was no C compiler."""
    rows = np.arange(len(logits))[:, np.newaxis]
    slots = largest(leading, choice.text)
    best = slots[:, :1]
    slots = np.where(np.isneginf(leading[rows, slots]), -1, slots)
    relative = np.maximum(logits - logits[rows, best], _LOWEST)
    powers = np.exp(relative)
    powers[rows, best] = 0.0
    others = powers.sum(axis=1, dtype=np.float64)
    squared, weighted = (np.einsum("nb,nb->n", powers, by) for by in (powers, relative))
    total, beyond = 1.0 + others, np.zeros(len(logits), np.bool_)
    if similarity is not None:
        slots = _with_new(slots, largest(similarity, choice.nearest), similarity)
    if choice.sums:
        joint = powers.copy()
        joint[rows, best] = 1.0
        joint /= total[:, np.newaxis].astype(np.float32)
        if similarity is not None:
            imputed = np.float32(choice.imputed)
            image = np.where(np.isneginf(similarity), imputed, similarity)
            joint += np.float32(choice.weight) * image
        joint[np.isneginf(logits)] = -np.inf
        before, slots = slots.shape[1], _with_new(slots, largest(joint, choice.sums), joint)
        for column in slots[:, before:].T:
            larger = [
                np.count_nonzero(side > side[rows, column[:, np.newaxis]], axis=1)
                for side in (logits, similarity)
                if side is not None
            ]
            beyond |= (column >= 0) & (np.min(larger, axis=0) >= choice.most)
    filled, padded = np.where(slots < 0, best, slots), slots < 0
    powers[rows, filled] = 0.0
    rest = powers.sum(axis=1, dtype=np.float64) / total
    logit, image = logits[rows, filled].astype(np.float64), np.full(slots.shape, np.nan)
    p = np.exp(logit - logits[rows, best]) / total[:, np.newaxis]
    if similarity is not None:
        image = similarity[rows, filled].astype(np.float64)
    image[padded | np.isneginf(image)] = np.nan
    logit[padded], p[padded] = -np.inf, 0.0
    log_total = np.log1p(others)
    impurity = np.maximum((others * (1.0 + total) - squared) / total**2, 0.0)
    entropy, log_z = weighted / total - log_total, logits[rows, best][:, 0] + log_total
    block = np.stack([np.asarray(slots, np.int64).view(np.float64), logit, image, p])
    return block, np.stack([log_z, rest, entropy, impurity, beyond])


def _with_new(slots: Int64s, new: Int64s, values: Float32s) -> Int64s:
    """The slots, and the new ones that are none of them and whose value is no −∞; else −1."""
    rows = np.arange(len(slots))[:, np.newaxis]
    taken = np.isneginf(values)
    taken[rows, np.where(slots < 0, slots[:, :1], slots)] = True
    return np.concatenate([slots, np.where(taken[rows, new], -1, new)], axis=1)


def largest(values: Float32s, k: int) -> Int64s:
    """(n, min(k, N)) columns of the k largest values of each row, best first."""
    rows, chosen = np.arange(len(values))[:, np.newaxis], np.arange(values.shape[1])[np.newaxis]
    if k < values.shape[1]:
        chosen = np.argpartition(values, -k, axis=1)[:, -k:]
    order = np.argsort(-values[rows, chosen], axis=1, kind="stable")
    return np.take_along_axis(np.broadcast_to(chosen, order.shape), order, axis=1)


def log_sums(values: Floats, scale: float) -> Float64s:
    """(n,) log Σ e^(scale · x) of each row of (n, a) values, some of which may be −∞; scale > 0."""
    native = library()
    if native is not None and len(values) and values.dtype == np.float32:
        return native.log_sums(np.ascontiguousarray(values), scale)
    top = values.max(axis=1)
    powers = np.exp((values - top[:, np.newaxis]) * scale)
    log_sum: Float64s = top * np.float64(scale) + np.log(powers.sum(axis=1, dtype=np.float64))
    return log_sum
