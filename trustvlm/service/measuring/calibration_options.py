"""What a calibration is asked for: checked, completed, and asked for again."""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping
from dataclasses import replace
from typing import Any

from trustvlm.errors import InvalidInput
from trustvlm.scoring.rules import DEFAULT_RULE, RULES, resolve_parameters
from trustvlm.types.bounds import choice, flags, number
from trustvlm.types.calibration import Calibration
from trustvlm.types.options import ON_STALE, ON_UNVERIFIED, PROCEDURES, CalibrateOptions

CORRECTING = f"{DEFAULT_RULE}_star"
"""The rule whose corrections are counted where the chosen one makes none."""

POLICIES = ("on_stale", "on_unverified", "may_correct", "back_off")
"""Options that a calibration keeps under their names."""


def options_again(
    before: Calibration | None, changes: Mapping[str, Any], chosen: Collection[str]
) -> CalibrateOptions:
    """What the calibration `before` was made with, and `changes` of it; `chosen`: the rules that
    some of the images chose."""
    options = CalibrateOptions()
    if before is not None:
        params = before.asked_params
        kept = ("max_risk", "confidence", "unknown_rate", "procedure", *POLICIES)
        options = CalibrateOptions(
            rule=before.asked_rule,
            params=None if params is None else dict(params),
            threshold=before.asked_threshold,
            **{name: getattr(before, name) for name in kept},
        )
    return replace(options, **_with_rule(changes, before, chosen))


def _with_rule(
    changes: Mapping[str, Any], before: Calibration | None, chosen: Collection[str]
) -> dict[str, Any]:
    """`changes` in which rule, procedure and threshold fit: a threshold is one of the trust of a
    rule with certain parameters, and images that chose the rule do not prove it."""
    if before is not None and changes.get("procedure") == "ranks":
        _check_ranks(changes.get("rule", before.rule), chosen)
    if "rule" in changes:
        procedure = "split" if _is_chosen(changes["rule"], chosen) else None
        return {"threshold": None, "procedure": procedure, **changes}
    if changes.get("may_correct") and before is not None:
        corrects = _correcting(before.rule if "threshold" in changes else before.asked_rule)
        if corrects is not None:
            return _with_rule({"rule": corrects, **changes}, before, chosen)
    if "threshold" in changes and before is not None:
        return {**changes, "rule": before.rule, "params": dict(before.params)}
    return dict(changes)


def _correcting(rule: str | None) -> str | None:
    """The form of a rule that corrects labels; None where no rule is named, or this one does.

    Raises InvalidInput: the rule has no such form.
    """
    if rule not in RULES or RULES[rule].relabels:
        return None
    if f"{rule}_star" not in RULES:
        raise InvalidInput(
            f"may_correct: the calibration has the rule {rule!r}, which has no form that corrects "
            f"labels; name a rule that does, such as rule={CORRECTING!r}"
        )
    return f"{rule}_star"


def _check_ranks(rule: str, chosen: Collection[str]) -> None:
    """Raises InvalidInput: some of the stored images chose the rule that all shall prove."""
    if _is_chosen(rule, chosen):
        raise InvalidInput(
            f"procedure: 'ranks' proves a rule that was fixed before, with all images; a third of "
            f"the stored images chose {rule!r} or its parameters, so they do not prove it. Leave "
            f"procedure out, name another rule, or calibrate on other images"
        )


def _is_chosen(rule: str, chosen: Collection[str]) -> bool:
    """Whether some of the images chose this rule, or any where it is "auto"."""
    return bool(chosen) if rule == "auto" else rule in chosen


def check_options(options: CalibrateOptions) -> None:
    """Raises InvalidInput."""
    rule = options.rule
    if rule is not None and not isinstance(rule, str):
        raise InvalidInput(
            f"rule: expected 'auto' or one of the names of trustvlm.RULES, got {rule!r:.60}"
        )
    flags(may_correct=options.may_correct, back_off=options.back_off)
    if options.procedure is not None:
        choice("procedure", options.procedure, PROCEDURES)
    _check_procedure(rule, options.procedure)
    if rule not in (None, "auto"):
        corrects = resolve_parameters(rule, options.params)[1].relabels
        if corrects and not options.may_correct:
            raise InvalidInput(
                f"rule: {rule!r} may correct the classifier's labels; pass may_correct=True to "
                f"allow that, or name a rule that keeps them, such as {DEFAULT_RULE!r}"
            )
    elif options.params is not None:
        raise InvalidInput("params: name the rule they belong to")
    for name in ("max_risk", "confidence", "unknown_rate"):
        number(name, getattr(options, name))
    if options.threshold is not None:
        number("threshold", options.threshold)
        if rule in (None, "auto"):
            raise InvalidInput(
                f"threshold: name the rule whose trust it is compared with, such as "
                f"rule={DEFAULT_RULE!r}"
            )
        _check_threshold(options.threshold, rule, options.params)
    if options.back_off:
        _check_back_off(options)
    choice("on_stale", options.on_stale, ON_STALE)
    choice("on_unverified", options.on_unverified, ON_UNVERIFIED)


def _check_threshold(threshold: float, rule: str, given: Mapping[str, float | None] | None) -> None:
    """Raises InvalidInput: no trust of the rule can be on both sides of the threshold."""
    name, described, parameters = resolve_parameters(rule, given)
    low, high = described.trust_range(parameters)
    if low <= threshold <= high:
        return
    lies = f"lies between {low:g} and {high:g}"
    if math.isinf(high):
        lies = f"is {low:g} or more"
    elif math.isinf(low):
        lies = f"is {high:g} or less"
    raise InvalidInput(f"threshold: the trust of rule {name!r} {lies}; got {threshold:g}")


def _check_back_off(options: CalibrateOptions) -> None:
    """Raises InvalidInput: an option that a promise about nodes does not go with."""
    if options.rule is not None and not (options.rule in RULES and RULES[options.rule].probability):
        raise InvalidInput(
            f"back_off: expected a rule whose trust is a probability, such as {DEFAULT_RULE!r}; "
            f"got {options.rule!r}"
        )
    if options.procedure == "split":
        raise InvalidInput("back_off: nodes are proved by ranks; leave out procedure='split'")
    if options.threshold is not None:
        raise InvalidInput("back_off: the calibration chooses the threshold; leave out threshold")


def _check_procedure(rule: str | None, procedure: str | None) -> None:
    """Raises InvalidInput."""
    if rule == "auto" and procedure == "ranks":
        raise InvalidInput(
            f"procedure: 'ranks' proves a rule that was fixed before; rule='auto' chooses one with "
            f"the same images, which takes 'split'. Name a rule, such as {DEFAULT_RULE!r}"
        )


def resolved(options: CalibrateOptions, *, images: bool) -> CalibrateOptions:
    """The options with a rule and a procedure; `images`: there are verifier embeddings."""
    rule = options.rule
    if rule is None and images:
        rule = CORRECTING if options.may_correct else DEFAULT_RULE
    if rule is None and options.back_off:
        rule = "msp"  # without verifier embeddings, the rule of probabilities
    rule = rule or "auto"
    _check_procedure(rule, options.procedure)
    procedure = options.procedure or ("split" if rule == "auto" else "ranks")
    return replace(options, rule=rule, procedure=procedure)
