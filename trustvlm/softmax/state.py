"""What a pass keeps of the rows that it has seen: the k leaders, and the sums over all others.

Logits are in bits (base 2), as the processor's numbers are: 2^x costs a quarter of e^x. Sums are
relative to the largest logit, so that nothing overflows, and leave the leaders out, so that nothing
cancels where these have almost everything.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from trustvlm.types.arrays import Float64s, Int64s

FLOOR, LEAST = -115.0, 2.0**-62
"""A logit below FLOOR, relative to the largest, counts as FLOOR, and a power below LEAST as LEAST
before it is squared: both results are normal float32 numbers; smaller, denormal numbers are slow. A
million rows of FLOOR add 2e-29 to a sum."""


@dataclass(frozen=True, eq=False)
class State:
    """What a pass over some of the rows gives, per query, of their logits l in bits.

    Attributes:
        slots, logits: (n, k) the rows of the largest l and these, best first; −1 and −∞ where there
            are no more rows.
        top: (n,) m, the largest l; −∞ where no row took part.
        sums: (n, 3) Σ2^(l−m), Σ2^(l−m)·(l−m), Σ4^(l−m) over the rows that are no leaders.
    """

    slots: Int64s
    logits: Float64s
    top: Float64s
    sums: Float64s


def no_rows(count: int, k: int) -> State:
    """The state of a pass of `count` queries over no rows, with room for k leaders."""
    slots, logits = np.full((count, k), -1, np.int64), np.full((count, k), -np.inf)
    return State(slots, logits, np.full(count, -np.inf), np.zeros((count, 3)))


def joined(one: State, other: State, k: int) -> State:
    """The state of a pass over the rows of both, which share none, with up to k leaders."""
    top = np.maximum(one.top, other.top)
    sums = _relative_to(top, one) + _relative_to(top, other)
    slots = np.concatenate([one.slots, other.slots], axis=1)
    logits = np.concatenate([one.logits, other.logits], axis=1)
    order = np.argsort(-logits, axis=1, kind="stable")
    slots, logits = np.take_along_axis(slots, order, 1), np.take_along_axis(logits, order, 1)
    left = np.maximum(_less(logits[:, k:], top[:, np.newaxis]), FLOOR)
    powers = np.where(slots[:, k:] >= 0, np.exp2(left), 0.0)
    sums += np.stack([(powers * part).sum(axis=1) for part in (1.0, left, powers)], axis=1)
    return State(slots[:, :k], logits[:, :k], top, sums)


def _relative_to(top: Float64s, state: State) -> Float64s:
    """(n, 3) the sums of the state, relative to another largest logit."""
    shift = _less(state.top, top)
    shrink = np.exp2(shift)
    total, weighted, squared = state.sums.T
    parts = (shrink * total, shrink * (weighted + shift * total), shrink**2 * squared)
    return np.stack(parts, axis=1)


def _less(before: Float64s, after: Float64s) -> Float64s:
    """before − after, and 0 where no row took part before."""
    with np.errstate(invalid="ignore"):  # −∞ − −∞
        return np.where(np.isneginf(before), 0.0, before - after)
