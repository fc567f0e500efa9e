"""Is a promise still kept? A test that may be looked at after every item, for as long as one likes
(docs/rules.md, "Monitoring"; docs/guarantee.md, "Is it still kept?").

Each item is a bet against the promise "the chance that an accepted item is wrong is at most m". A
gambler who stakes the share c of the capital multiplies it by 1 − c when the item is right and by 1
− c + c/m when it is wrong. If the promise is kept, no bet gains on average, for any past:
capital that began at 1 is an e-process, and it ever reaches 1/α with a chance of at most α (Ville's
inequality, 1939). The capital is spread evenly over many stakes; the best of them earns most of
what the best stake would have.

A gambler who bets from the first item on has little left after thousands of good ones, and is slow
to find it when the risk rises. So half of the capital bets from the first item on, and the other
half is kept in parts: after each error another part joins the bets (:func:`_parts`). What has not
joined yet neither grows nor shrinks, so all of it together is an e-process, too. One recursion per
stake has all parts: its cost grows with the number of errors alone. (Shin, Ramdas and Rinaldo,
"E-detectors", 2024, treat detection by sums of e-processes that begin at different times.)

Source: Waudby-Smith and Ramdas, "Estimating means of bounded random variables by betting", JRSS B
86 (2024), sections 4.1 and 4.4. Stakes are shares of what may be staked (λ = c/m there), so that
the capital against m falls as m grows: the risks that can be ruled out are exactly those below a
bound.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from trustvlm.errors import InvalidInput
from trustvlm.types.arrays import Bools, Float64s, Int64s, plain_array
from trustvlm.types.bounds import number

STAKES = np.geomspace(0.002, 0.95, 30)
AT_ONCE = 0.5
"""The share of the capital that bets from the first item on."""
_SLOWNESS = 10
MOST = 700.0  # exp of more is not a number that JSON can hold


@dataclass(frozen=True)
class Monitoring:
    """Accepted items whose truth became known, against a promise.

    Attributes:
        items, errors: how many came, and how many of them are wrong.
        e_value: evidence against the promise as of the last item (the capital; it may fall again):
            1 without items.
        largest: the largest it ever was; at least 1.
        broken: `largest` reached 1/α: the promise is not kept, with a chance of at most α of saying
            so wrongly, however often one looks.
        broken_after: how many items it took; None when not broken.
        risk_low: lower bound of the risk at confidence 1 − α that holds at every time at once: it
            never falls as items come, and promises below it would have been called broken. Of a
            risk that changes, it bounds the largest so far.
    """

    items: int
    errors: int
    e_value: float
    largest: float
    broken: bool
    broken_after: int | None
    risk_low: float


def monitor(errors: Sequence[bool] | Bools, max_risk: float, alpha: float = 0.05) -> Monitoring:
    """Test the promise "at most `max_risk` of what is accepted is wrong" with items in the order in
    which they came.

    The items must be a fair sample of what is accepted (drawn at random, not because they looked
    wrong); they may depend on each other as long as each one's chance of being wrong, given all
    before, is at most `max_risk` under the promise.

    Args:
        errors: (n,) bool or 0/1, whether each item was wrong, in order of time; may be empty.
        max_risk: the promise, in (0, 1). alpha: chance of a false alarm, ever, in (0, 1).

    Raises:
        InvalidInput: numbers outside their ranges; errors that are not (n,) bool or 0/1.
    """
    number("max_risk", max_risk)
    number("alpha", alpha)
    wrong = _checked(errors)
    # The capital only grows at an error: nothing in between can be its largest.
    places = np.flatnonzero(wrong) + 1
    limit = -np.log(alpha)
    capital = log_capital(places, max_risk)
    over = capital >= limit
    now = log_capital(places, max_risk, now=len(wrong))[-1]
    return Monitoring(
        items=len(wrong),
        errors=len(places),
        e_value=float(np.exp(min(now, MOST))),
        largest=float(np.exp(min(capital.max(initial=0.0), MOST))),
        broken=bool(over.any()),
        broken_after=int(places[over.argmax()]) if over.any() else None,
        risk_low=_risk_low(places, limit),
    )


def log_capital(places: Int64s, risk: float, now: int | None = None) -> Float64s:
    """(e,) log of the capital against `risk` after each error, which were items number `places`; or
    (e + 1,) with that after item `now`, the last one."""
    won, lost = np.log1p(STAKES * (1 / risk - 1)), np.log1p(-STAKES)
    rights = np.diff(places, prepend=0)[:, None] - 1
    growth = np.cumsum(np.vstack([np.zeros_like(STAKES), rights * lost + won]), axis=0)
    joins, kept = _parts(len(places))
    # Per stake: what the parts that joined after 0, 1, … errors would be worth without growth.
    joined = np.logaddexp.accumulate(np.log(joins)[:, None] - growth, axis=0)
    bets = joined[:-1] + growth[1:]
    if now is not None:
        since = now - (places[-1] if len(places) else 0)
        bets = np.vstack([bets, joined[-1] + growth[-1] + since * lost])
    else:
        kept = kept[:-1]
    capital: Float64s = np.logaddexp(
        np.logaddexp.reduce(bets, axis=1) - np.log(len(STAKES)), np.log(kept)
    )
    return capital


def _parts(errors: int) -> tuple[Float64s, Float64s]:
    """(errors + 1,) the part of the capital that joins the bets after 0, 1, … errors, and what is
    kept back at the next error: the half that waits goes ever more slowly, as 1 / log does, so that
    there is a part for any number of errors."""
    count = np.arange(1, errors + 3)
    waits = (1 - AT_ONCE) * np.log(_SLOWNESS) / np.log(_SLOWNESS + count - 1)
    before = np.concatenate([[1.0], waits])
    return before[: errors + 1] - before[1 : errors + 2], before[1 : errors + 2]


def _risk_low(places: Int64s, limit: float) -> float:
    """The largest risk against which the capital ever reached the limit, from below to 1e-6; 0 when
    there is none."""
    low, high = 0.0, 1.0
    while high - low > 1e-6 and len(places):
        risk = (low + high) / 2
        if (log_capital(places, risk) >= limit).any():
            low = risk
        else:
            high = risk
    return low


def _checked(errors: Sequence[bool] | Bools) -> Bools:
    values = plain_array(errors, "errors")
    numeric = not len(values) or values.dtype.kind in "fiub"
    if values.ndim != 1 or not numeric or not ((values == 0) | (values == 1)).all():
        raise InvalidInput(
            f"errors: expected (n,) bool or 0/1, got {values.dtype} of shape {values.shape}, or "
            f"other values"
        )
    return values.astype(np.bool_)
