"""Which labels can be trusted on labelled images, which are to be fixed, and how."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from trustvlm.types.evaluation import Advised, Confusion, LabelAdvice, LabelOutcome, LabelState
from trustvlm.types.messages.commands import command
from trustvlm.types.messages.counts import count

FEW_SUPPORTS = 4
"""Support images below which more of them are the first thing to try."""

_FEWEST_GIVEN = 5  # images that must be given a label before it is called good
_FEWEST_ERRORS = 2  # a single error may be the fault of its own image
_SURPRISE = 0.1  # chance of so many errors at the accepted risk, below which a label is to be fixed
_BOTH_WAYS = 0.25  # of the errors of the larger direction, for two labels to be confused mutually

_NAMED, _LONGEST = 5, 60  # names in a sentence, and their characters
_IN_WORDS: dict[Advised, str] = {
    "images": "add support images",
    "prompt": "change the prompt",
    "correct": "let the images correct it",
    "alias": "make it an alias, or tell them apart",
    "new_label": "register the label that is missing",
}


def state_of(images: int, given: int, right: int, risk: float) -> LabelState:
    """Whether a label is "good", "fix" or "unclear".

    "fix": so many of the images that were given the label are wrong that, at a risk of `risk`, this
    would happen with a chance of at most 10 % (exact, binomial); or more than half of the label's
    images were given other labels. "good": at most the share `risk` of at least 5 images is wrong.
    """
    from scipy.special import bdtrc

    wrong, missed = given - right, images - right
    if wrong >= _FEWEST_ERRORS and bdtrc(wrong - 1, given, risk) <= _SURPRISE:
        return "fix"
    if missed >= _FEWEST_ERRORS and missed > images / 2:
        return "fix"
    return "good" if given >= _FEWEST_GIVEN and wrong <= risk * given else "unclear"


def label_advice(
    space: str,
    labels: Sequence[LabelOutcome],
    confusions: Sequence[Confusion],
    *,
    prompts: bool = True,
) -> tuple[LabelAdvice, ...]:
    """What to do about each label that is to be fixed, most errors first; `prompts`: the labels
    have prompts, which can be changed."""
    involved: dict[str | None, list[Confusion]] = {}
    for one in confusions:
        involved.setdefault(one.label, []).append(one)
        involved.setdefault(one.truth, []).append(one)
    supports = {one.label: one.support_count for one in labels}
    advice = [
        _advice(space, _Errors(one, tuple(involved.get(one.label, ())), supports, prompts))
        for one in labels
        if one.state == "fix"
    ]
    return tuple(sorted(advice, key=lambda one: (-one.wrong - one.missed, one.label)))


@dataclass(frozen=True)
class _Errors:
    """The errors of a label: those of images given it, and those of its images."""

    label: LabelOutcome
    confusions: tuple[Confusion, ...]
    supports: dict[str, int]
    prompts: bool

    @property
    def all(self) -> int:
        """Number of both."""
        return sum(one.count for one in self.confusions)

    @property
    def wrong(self) -> int:
        """Number of images that were wrongly given the label."""
        return self.label.predicted - self.label.right

    @property
    def of_no_label(self) -> int:
        """Those of them that show no label of the space."""
        return sum(one.count for one in self.confusions if one.truth is None)

    @property
    def images_right(self) -> int | None:
        """Errors whose image is nearest to the prototype of its true label; None: no prototypes."""
        counts = [one.nearest_right for one in self.confusions if one.truth is not None]
        if any(count is None for count in counts):
            return None
        return sum(count or 0 for count in counts)

    def with_other(self) -> tuple[str | None, int, int]:
        """(the label that it is confused with most often, how many of the other's images were
        given this one, and the reverse)."""
        counts: dict[str, list[int]] = {}
        for one in self.confusions:
            other = one.truth if one.label == self.label.label else one.label
            if other is not None:
                counts.setdefault(other, [0, 0])[one.label != self.label.label] += one.count
        if not counts:
            return None, 0, 0
        other = min(counts, key=lambda name: (-sum(counts[name]), name))
        theirs, ours = counts[other]
        return other, theirs, ours


def _advice(space: str, errors: _Errors) -> LabelAdvice:
    label, (other, theirs, ours) = errors.label, errors.with_other()
    action, reason, advice, fix = _remedy(space, errors, other, theirs, ours)
    return LabelAdvice(
        label=label.label,
        action=action,
        other=other,
        wrong=errors.wrong,
        missed=label.images - label.right,
        error_share=label.error_share,
        support_count=label.support_count,
        reason=reason,
        advice=advice,
        command=fix,
    )


def _remedy(
    space: str, errors: _Errors, other: str | None, theirs: int, ours: int
) -> tuple[Advised, str, str, str]:
    """(action, what the errors have in common, what to do, the command for it)."""
    name, supports = errors.label.label, errors.label.support_count
    if 2 * errors.of_no_label > errors.all:
        reason = f"{errors.of_no_label} of its {count(errors.all, 'error')} show none of the labels"
        fix = command("register", space, files="FOLDER", options="--label NAME")
        return "new_label", reason, "Register a label for what these images show.", fix
    if supports < FEW_SUPPORTS:
        reason = f"it has {count(supports, 'support image') if supports else 'no support image'}"
        advice = f"Add support images, so that it has {FEW_SUPPORTS} or more."
        return "images", reason, advice, command("support add", space, name, files="FOLDER")
    mutual = min(theirs, ours) >= max(1, _BOTH_WAYS * max(theirs, ours)) and theirs + ours >= 3
    if other is not None and mutual and 2 * (theirs + ours) >= errors.all:
        reason = f"it is confused with {other!r} in both directions ({ours} and {theirs} images)"
        advice = "If both mean the same, make one an alias of the other."
        if errors.prompts:
            advice += f" If not, say in their prompts how {name!r} differs from {other!r}."
        return "alias", reason, advice, command("label alias", space, name, other)
    return _text_or_images(space, errors, other)


def _text_or_images(
    space: str, errors: _Errors, other: str | None
) -> tuple[Advised, str, str, str]:
    """Where the support images know better than the classifier, change the prompt or let them
    correct the label; else add images."""
    name, judged = errors.label.label, errors.all - errors.of_no_label
    right = errors.images_right
    if right is None or 2 * right >= judged:
        classifier = "text" if errors.prompts else "classifier"
        reason = (
            f"the {classifier} alone was compared, and it is wrong about {count(judged, 'error')}"
            if right is None
            else f"the support images are right about {right} of its {count(judged, 'error')}, the "
            f"{classifier} is not"
        )
        if not errors.prompts:
            fix = command("calibrate", space, files="FOLDER", options="--may-correct")
            return "correct", reason, "Let the images correct the label.", fix
        versus = "" if other is None else f", so that it differs from {other!r}"
        fix = command("label update", space, name, options="--prompt TEXT")
        advice = f"Change its prompt{versus}"
        if right is not None:
            advice += ", or let the images correct the label (calibrate --may-correct)"
        return "prompt", reason, f"{advice}.", fix
    reason = f"only {right} of its {count(judged, 'error')} look most like the right support images"
    both = repr(name) if other is None else f"{name!r} and of {other!r}"
    advice = f"Add support images of {both} that look like those that are wrong."
    return "images", reason, advice, command("support add", space, name, files="FOLDER")


def labels_to_fix(advice: Sequence[LabelAdvice], most: int = _NAMED) -> str:
    """One clause: "3 labels to fix: nine and seven (change the prompt); two (add images)"."""
    if not advice:
        return "no label to fix"
    groups: dict[Advised, list[str]] = {}
    for one in advice:
        groups.setdefault(one.action, []).append(one.label)
    said = (f"{_listed(names, most)} ({_IN_WORDS[action]})" for action, names in groups.items())
    return f"{count(len(advice), 'label')} to fix: {'; '.join(said)}"


def labels_in_words(
    labels: Sequence[LabelOutcome], risk: float, advice: Sequence[LabelAdvice]
) -> str:
    """The answer in one or two sentences: which labels do well, which are to be fixed, and how many
    have too few images."""
    good = [one for one in labels if one.state == "good"]
    unclear = sum(one.state == "unclear" for one in labels)
    words = labels_to_fix(advice)
    words = f"{words[0].upper()}{words[1:]}. "
    if good:
        few, many = (number(one.predicted for one in good) for number in (min, max))
        images = f"{few:,}" if few == many else f"{few:,} to {many:,}"
        each = "given it" if len(good) == 1 else "given to each"
        share = f"of the {images} images {each}, at most {100 * risk:g} % are wrong"
        names = _listed([one.label for one in good], _NAMED)
        words += f"{count(len(good), 'label')} did well here ({share}): {names}."
    elif unclear < len(labels):
        words += "No label did well enough on these images to be trusted without a look."
    if unclear:
        words = f"{words.rstrip()} For {count(unclear, 'label')} the images are too few to tell."
    return words


def _listed(names: Sequence[str], most: int) -> str:
    shown = [one if len(one) <= _LONGEST else f"{one[: _LONGEST - 1]}…" for one in names[:most]]
    if len(names) > most:
        shown.append(f"{len(names) - most:,} more")
    return shown[0] if len(shown) == 1 else f"{', '.join(shown[:-1])} and {shown[-1]}"
