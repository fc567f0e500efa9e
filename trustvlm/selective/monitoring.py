"""Is a promise still kept? A test that may be looked at after every item, for as long as one likes
(docs/rules.md, "Monitoring"; docs/guarantee.md, "Is it still kept?").

Each item is a bet against the promise "the chance that an accepted item is wrong is at most m". A
gambler who stakes the share c of the capital multiplies it by 1 − c when the item is right and by 1
− c + c/m when it is wrong. If the promise is kept, no bet gains on average, whatever came before:
capital that began at 1 is an e-process, and it ever reaches 1/α with a chance of at most α (Ville's
inequality, 1939). The capital is spread evenly over many stakes; the best of them earns most of
what the best stake would have.

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

__all__ = ["Monitoring", "monitor"]

STAKES = np.geomspace(0.002, 0.95, 30)
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
    counts = np.arange(1, len(places) + 1)
    limit = -np.log(alpha)
    capital = _log_capital(places, counts, max_risk)
    over = capital >= limit
    now = _log_capital(np.array([len(wrong)]), np.array([len(places)]), max_risk)[0]
    return Monitoring(
        items=len(wrong),
        errors=len(places),
        e_value=float(np.exp(min(now, MOST))),
        largest=float(np.exp(min(capital.max(initial=0.0), MOST))),
        broken=bool(over.any()),
        broken_after=int(places[over.argmax()]) if over.any() else None,
        risk_low=_risk_low(places, counts, limit),
    )


def _log_capital(items: Int64s, errors: Int64s, risk: float) -> Float64s:
    """(t,) log of the capital against `risk` after these numbers of items and errors: the mean over
    the stakes."""
    won, lost = np.log1p(STAKES * (1 / risk - 1)), np.log1p(-STAKES)
    each = errors[:, None] * won + (items - errors)[:, None] * lost
    capital: Float64s = np.logaddexp.reduce(each, axis=1) - np.log(len(STAKES))
    return capital


def _risk_low(places: Int64s, counts: Int64s, limit: float) -> float:
    """The largest risk against which the capital ever reached the limit, from below to 1e-6; 0 when
    there is none."""
    low, high = 0.0, 1.0
    while high - low > 1e-6 and len(places):
        risk = (low + high) / 2
        if (_log_capital(places, counts, risk) >= limit).any():
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
