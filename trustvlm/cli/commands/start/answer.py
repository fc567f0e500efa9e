"""What `trustvlm start` says at its end: what can be accepted, what needs a look, what to run."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from trustvlm.cli.printing.safe_text import one_line, quoted, shown
from trustvlm.types.messages.counts import count
from trustvlm.types.tables.probability import percent

if TYPE_CHECKING:
    from trustvlm.types import SpaceRow, Verdicts
    from trustvlm.types.calibration import Calibration
    from trustvlm.types.evaluation import Evaluation

ADDRESS = "http://127.0.0.1:8000/"
MAX_RISK, CONFIDENCE = 0.05, 0.9
"""The promise that is asked for where the space has no calibration yet."""

_SHOWN = 3


@dataclass(frozen=True)
class Measured:
    """What was measured.

    Attributes:
        space: after registration. evaluation: on the held-out images. calibration: that was made on
            them, or the earlier one that still fits; None: too few images for an attempt.
        in_force: the calibration in force; None: none.
        given: number of labelled images from which the held-out ones were chosen, without the
            `unread` ones, which could not be read.
    """

    space: SpaceRow
    evaluation: Evaluation
    calibration: Calibration | None
    in_force: Calibration | None
    given: int
    unread: int = 0


def measured_lines(measured: Measured, split: str) -> Iterator[str]:
    """The answer in a few lines; `split`: how the images were divided, in words."""
    evaluation, space = measured.evaluation, measured.space
    labels, supports = (
        count(space.label_count, "label"),
        count(space.support_count, "support image"),
    )
    held_out = count(evaluation.images, "held-out image")
    unread = f"; {count(measured.unread, 'image')} could not be read" if measured.unread else ""
    yield (
        f"Space {quoted(space.name)}: {labels}, {supports}; measured on {held_out} "
        f"({split}){unread}."
    )
    right = sum(one.right for one in evaluation.per_label)
    yield (
        f"The label is right for {right:,} of {evaluation.images:,} held-out images "
        f"({percent(right / evaluation.images, 0)})."
    )
    made = measured.calibration
    if made is None or made.failed:
        yield _not_proved(measured)
        if measured.in_force is None:
            yield "Every image needs a look: the decision is review."
        else:
            yield f"Calibration {measured.in_force.id} stays in force, but the space has changed."
    else:
        yield _accepted(made)
    if advice := evaluation.label_advice:
        yield f"{count(len(advice), 'label')} to fix: {_listed(evaluation)}."
        first = advice[0]
        yield f"Fix {shown(first.label)} first: {one_line(first.reason)}. {one_line(first.advice)}"


def enough_images(share: float | None = None) -> int:
    """About how many labelled images (without `share`, held-out ones) the smallest proof takes."""
    return _rounded_up(_smallest_proof(MAX_RISK, CONFIDENCE) / (1.0 if share is None else share))


def _smallest_proof(max_risk: float, confidence: float, made: Calibration | None = None) -> float:
    """How many held-out images the smallest proof takes, in a calibration like the one that was
    made: those accepted without an error and, by ranks, one that marks the threshold; after a
    split, half as many to choose the rule."""
    from trustvlm.selective.risk import smallest_accepted

    accepted = smallest_accepted(max_risk, confidence)
    return 1.5 * accepted if made is not None and made.procedure == "split" else accepted + 1


def _accepted(made: Calibration) -> str:
    accepted = math.floor(100 * made.coverage)
    share = f"{accepted} %" if accepted else "less than 1 %"
    promise = f"at most {100 * made.max_risk:g} % wrong ({100 * made.confidence:g} % confidence)"
    if accepted == 100:
        return f"You can accept all of them automatically, {promise}."
    look = f"{100 - accepted} %" if accepted else "The rest"
    verb = "needs" if look in ("1 %", "The rest") else "need"
    return f"You can accept {share} automatically, {promise}. {look} {verb} a look."


def _not_proved(measured: Measured) -> str:
    """Why nothing can be accepted, and what may change that."""
    from trustvlm.selective.risk import smallest_accepted

    made = measured.calibration
    risk, confidence = (MAX_RISK, CONFIDENCE) if made is None else (made.max_risk, made.confidence)
    promise = f"at most {100 * risk:g} % wrong ({100 * confidence:g} % confidence)"
    smallest = smallest_accepted(risk, confidence)
    few = made is None or made.tested < smallest
    if made is not None and made.needed is None and not few:
        why = made.reason.partition(": ")[2]
        return (
            f"Nothing can be accepted automatically with {promise}: {why}.{parts_in_words(made)} "
            f"More support images, or other encoders, may help."
        )
    yet = f"Nothing can be accepted automatically yet: there are too few images to prove {promise}."
    yet += "" if made is None else parts_in_words(made)
    proof = f"The smallest proof takes {smallest:,} accepted ones without an error."
    number = f"there are {measured.given:,}"
    if made is None or made.needed is None:
        share = min(1.0, measured.evaluation.images / max(measured.given, 1))
        held_out = _smallest_proof(risk, confidence, made)
        least = _rounded_up(held_out / share)
        return f"{yet} {proof} At least {least:,} labelled images are needed; {number}."
    held_out = made.tuning + made.tested
    more = _rounded_up(made.needed * measured.given / held_out)
    part = "" if more <= made.needed else f" (so that about {made.needed:,} more are held out)"
    return f"{yet} {proof} About {more:,} more labelled images are needed{part}; {number}."


def parts_in_words(made: Calibration) -> str:
    """How the images of a calibration were divided, in a sentence after a space; "" where all of
    them are left for the proof."""
    if made.procedure == "ranks":
        return ""
    return (
        f" Of the {made.tuning + made.tested:,} images a third, drawn by content, chose the rule "
        f"({made.tuning:,}); the others are left for the proof ({made.tested:,})."
    )


def _listed(evaluation: Evaluation) -> str:
    """The labels to fix that have most errors: images wrongly given the label, and images of it
    that were given another one."""
    outcomes = {one.label: one for one in evaluation.per_label}
    some = []
    for one in evaluation.label_advice[:_SHOWN]:
        outcome = outcomes[one.label]
        wrong = f"{one.wrong:,} of the {outcome.predicted:,} given it are wrong"
        missed = f"{one.missed:,} of its {outcome.images:,} are missed"
        kinds = [*([wrong] if one.wrong else []), *([missed] if one.missed else [])]
        errors = count(one.wrong + one.missed, "error")
        some.append(f"{shown(one.label)} ({errors}: {', '.join(kinds)})")
    more = len(evaluation.label_advice) - _SHOWN
    return f"{'; '.join(some)}{f'; and {more:,} more' if more > 0 else ''}"


def unlabelled_lines(space: SpaceRow, verdicts: Verdicts, share: float) -> Iterator[str]:
    """What can be said of images without known labels."""
    images = count(len(verdicts), "image")
    supports = count(space.support_count, "support image") if space.support_count else "no images"
    labels = f"{count(space.label_count, 'label')} with {supports} to compare with"
    yield f"Space {quoted(space.name)}: {labels}; {images} scored, none of them with a known label."
    names = _counted(verdicts.label.tolist())
    more = f", {len(names) - 5:,} more" if names[5:] else ""
    yield f"Labels: {', '.join(f'{shown(name)} {number:,}' for name, number in names[:5])}{more}."
    decisions = dict(_counted(verdicts.decision.tolist()))
    if "accept" in decisions:
        yield ", ".join(f"{number:,} {decision}" for decision, number in decisions.items()) + "."
        return
    basis = "by text alone" if not space.support_count else "by text and support images"
    yield (
        f"The labels are chosen {basis}, and how many are right is not known: no image with a "
        f"known label has measured it. Every image needs a look."
    )
    yield (
        f"To measure it, give each label a sub-folder of its images (about "
        f"{enough_images(share):,} in all for a proof; a few already help), and run 'trustvlm "
        f"start' on the folder that holds them."
    )


def _counted(values: Sequence[str]) -> list[tuple[str, int]]:
    """Each value and how often it occurs, most frequent first."""
    return sorted(Counter(values).items(), key=lambda item: (-item[1], item[0]))


def _rounded_up(number: float) -> int:
    """To two digits."""
    step: int = 10 ** max(0, math.floor(math.log10(max(number, 1))) - 1)
    return math.ceil(round(number / step, 9)) * step
