"""From which probability on the verdicts of a call answer with a node."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from trustvlm.errors import InvalidInput
from trustvlm.scoring.rules import DEFAULT_RULE, Rule
from trustvlm.types.bounds import number
from trustvlm.types.calibration import Calibration
from trustvlm.types.options import BackOff

DEFAULT = 0.95
"""The threshold where none is named and no calibration has one: 1 − the default of max_risk."""


@dataclass(frozen=True)
class NodeThreshold:
    """How a call backs off.

    Attributes:
        value: the threshold; None: verdicts have no nodes.
        why_not: why the calibration does not decide about these answers; None: that does not speak
            against it.
    """

    value: float | None
    why_not: str | None = None


def check_back_off(back_off: object) -> bool | float | None:
    """The option as it is, checked. Raises InvalidInput."""
    if back_off is None or isinstance(back_off, bool | np.bool_):
        return None if back_off is None else bool(back_off)
    return number("back_off", back_off)


def node_threshold(
    back_off: BackOff | None, name: str, rule: Rule, calibration: Calibration | None
) -> NodeThreshold:
    """How a call with this option backs off; `calibration`: the one that decides about the rule and
    labels of the call.

    Raises:
        InvalidInput: nodes are requested of a rule whose trust is no probability.
    """
    if back_off not in (None, False) and not rule.probability:
        raise InvalidInput(
            f"back_off: expected a rule whose trust is a probability, such as {DEFAULT_RULE!r}; "
            f"got {name!r}"
        )
    proved = calibration.threshold if calibration is not None and calibration.back_off else None
    if back_off is None or (back_off is True and proved is not None):
        return NodeThreshold(proved)
    value: float | None = DEFAULT if back_off else None
    if not isinstance(back_off, bool):
        value = back_off
    if proved is None:
        return NodeThreshold(value)
    assert calibration is not None
    of_nodes = f"calibration {calibration.id} is for nodes from {proved:.6g} on"
    return NodeThreshold(value, f"not calibrated for this back-off ({of_nodes})")
