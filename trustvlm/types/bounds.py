"""Bounds of numeric parameters, words to choose from, and other checks of arguments: one table for
the library, the HTTP service and the command line, which imports it for its help.

The bounds keep arithmetic exact and work finite: a probability of 1e-12 would need a million
million images, and one of 5e-324 gives bounds that are NaN.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from datetime import timedelta
from inspect import iscoroutinefunction
from numbers import Integral, Real
from pathlib import Path
from typing import Any

from trustvlm.errors import InvalidInput
from trustvlm.types.messages.meant import did_you_mean

DECISIONS = ("accept", "review", "unknown")
TRAYS = ("review", "sample", "proposal")
"""Where items of a review queue wait: verdicts that were not accepted, verdicts drawn at random,
and proposed support images."""
STATES = ("open", "answered", "skipped")
FORMATS = ("csv", "label-studio")
"""Files that a review queue is written to and answers are read from."""

LEAST = 1e-6

NUMBERS: dict[str, tuple[float, float]] = {
    "max_risk": (LEAST, 1 - LEAST),
    "confidence": (LEAST, 1 - LEAST),
    "threshold": (-1e300, 1e300),
    "back_off": (LEAST, 1.0),
    "min_similarity": (-1.0, 1.0),
    "alpha": (LEAST, 1 - LEAST),
    "unknown_rate": (0.0, 0.1),
    "hold_out": (0.01, 0.99),
    "risk": (0.0, 1.0),
    "coverage": (LEAST, 1.0),
    "recall": (LEAST, 1.0),
    "milliseconds": (LEAST, 1e9),
    "logit_scale": (LEAST, 10_000.0),
    "lambda": (0.0, 1e6),
    "temperature": (1e-4, 1e4),
    "tau": (1e-4, 1e4),
    "towers": (0.0, 1.0),
    "rate": (1e-3, 1e6),
    "days": (1e-9, 36_500.0),
    "hours": (0.0, 1e6),
    "log_days": (0.001, 36_500.0),
    "num_gpus": (0.0, 64.0),
}
"""Parameter → its smallest and its largest allowed value."""

WHOLE: dict[str, tuple[int, int]] = {
    "draws": (0, 100),
    "seed": (0, 2**63 - 1),
    "k": (1, 1_000),
    "hits": (1, 100_000),
    "top_k": (1, 1_000),
    "limit": (1, 1_000_000),
    "bins": (1, 10_000),
    "points": (1, 10_000),
    "images": (1, 10**9),
    "revision": (0, 2**63 - 1),
    "since": (0, 2**63 - 1),
    "changes": (1, 10_000),
    "rows": (1, 10_000_000),
    "log_rows": (1, 10_000_000),
    "log_page": (1, 10_000),
    "actors": (1, 4_096),
}
"""Parameter that is a whole number → its smallest and its largest allowed value."""

_MOST_ID = 2**63 - 1


def number(name: str, value: Any, *, bounds: str | None = None) -> float:
    """`value` as a float within the bounds of the parameter `name` (or of the entry `bounds` of
    :data:`NUMBERS`). Raises InvalidInput."""
    low, high = NUMBERS[bounds or name]
    real: bool = isinstance(value, Real) and not isinstance(value, bool)
    if not real or not low <= value <= high:
        raise InvalidInput(
            f"{name}: expected a number from {low:g} to {_shown(high)}, got {got(value)}"
        )
    return float(value)


def value_range(name: str, value: Any) -> tuple[float, float] | None:
    """`value` as (low, high), two finite numbers with low below high; None stays None. Raises
    InvalidInput."""
    if value is None:
        return None
    pair = (
        tuple(value) if isinstance(value, Sequence) and not isinstance(value, str | bytes) else ()
    )
    real = len(pair) == 2 and all(
        isinstance(one, Real) and not isinstance(one, bool) for one in pair
    )
    if not real or not -math.inf < pair[0] < pair[1] < math.inf:
        raise InvalidInput(
            f"{name}: expected two numbers (low, high) with low below high, got {got(value)}"
        )
    return float(pair[0]), float(pair[1])


def whole(name: str, value: Any, *, bounds: str | None = None) -> int:
    """`value` as an int within the bounds of the parameter `name` (or of the entry `bounds` of
    :data:`WHOLE`). Raises InvalidInput."""
    low, high = WHOLE[bounds or name]
    if isinstance(value, bool) or not isinstance(value, Integral) or not low <= int(value) <= high:
        raise InvalidInput(
            f"{name}: expected a whole number from {low} to {high}, got {got(value)}"
        )
    return int(value)


def flags(**given: Any) -> None:
    """Make sure that each argument is True or False: "false" and "no" would count as yes. Raises
    InvalidInput."""
    import numpy as np  # not at the top: the command line's help needs none of it

    for name, value in given.items():
        if not isinstance(value, bool | np.bool_):
            raise InvalidInput(f"{name}: expected True or False, got {got(value)}")


def callbacks(**given: Any) -> None:
    """Make sure that each argument, a function that the work calls as it goes on, can be called: 3
    would end the work in its middle, and the answer of an ``async def`` is never awaited. Raises
    InvalidInput."""
    for name, value in given.items():
        if value is not None and (not callable(value) or iscoroutinefunction(value)):
            kind = "async def" if callable(value) else got(value)
            raise InvalidInput(f"{name}: expected a function to call, or None; got {kind}")


def path_of(name: str, value: Any) -> Path:
    """`value`, the path of a file or a folder, as it is given.

    Raises:
        InvalidInput: it is no path, is empty, as that of a variable that is not set (`Path` would
            take the current folder), or has a NUL character.
    """
    text = value if isinstance(value, str) else getattr(value, "__fspath__", lambda: None)()
    if not isinstance(text, str) or not text or "\0" in text:
        raise InvalidInput(f"{name}: expected a path, got {got(value)}")
    return Path(text)


def choice(name: str, value: Any, choices: Sequence[str]) -> str:
    """`value`, which is one of `choices`. Raises InvalidInput."""
    if not isinstance(value, str) or value not in choices:
        meant = did_you_mean(value, choices)
        raise InvalidInput(f"{name}: expected one of {', '.join(choices)}; got {got(value)}{meant}")
    return value


def duration(name: str, value: Any) -> timedelta:
    """`value`, a length of time that a clock can be set back or ahead by.

    Raises:
        InvalidInput: it is none, is negative, or is longer than the `hours` of :data:`NUMBERS`.
    """
    most = NUMBERS["hours"][1]
    if not isinstance(value, timedelta) or not timedelta(0) <= value <= timedelta(hours=most):
        raise InvalidInput(
            f"{name}: expected a timedelta from 0 to {most:g} hours, got {got(value)}"
        )
    return value


def identifier(name: str, value: Any) -> int:
    """`value` as an id that the catalog can hold. Raises InvalidInput."""
    if (
        isinstance(value, bool)
        or not isinstance(value, Integral)
        or not 1 <= int(value) <= _MOST_ID
    ):
        raise InvalidInput(f"{name}: expected a whole number from 1 to 2**63 - 1, got {got(value)}")
    return int(value)


def got(value: Any) -> str:
    """A value for a message; Python prints no integer of more than some thousand digits."""
    try:
        return f"{value!r:.80}"
    except ValueError:
        return "a number of thousands of digits"


def _shown(high: float) -> str:
    """A bound with all of its digits: 0.999999 is no 1."""
    return f"{high:g}" if float(f"{high:g}") == high else f"{high:.15g}"
