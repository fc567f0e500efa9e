"""Calibrating a space: choosing a rule and a threshold with a promise, and what is in force."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import click

from trustvlm.cli.commands.start.answer import parts_in_words
from trustvlm.cli.completion import rules
from trustvlm.cli.printing.formats import Column, as_json, details, row_writer
from trustvlm.cli.reading.claims import claimed_option
from trustvlm.cli.reading.hold_out import hold_out_options
from trustvlm.cli.reading.labelled import LabelledOptions, labelled_options
from trustvlm.cli.reading.options import FORMAT, SPACE, Choice, flag, json_flag, number
from trustvlm.cli.session import Session
from trustvlm.errors import NotFound
from trustvlm.types.messages.commands import suggested
from trustvlm.types.tables.probability import percent, promise

if TYPE_CHECKING:
    from trustvlm.reading.hold_out import HoldOut
    from trustvlm.service import TrustService
    from trustvlm.types.calibration import Calibration

_SHOWN = 5

CALIBRATIONS = [
    Column("id", "id", right=True),
    Column("made", lambda row: row["created_at"][:19], rank=2),
    Column("author", lambda row: row["author"] or "", rank=6),
    Column("revision", "revision", right=True, rank=3),
    Column("of", lambda row: "claims" if row["claims"] else "predictions", rank=6),
    Column("rule", "rule", "bold"),
    Column(
        "threshold",
        lambda row: "none" if row["threshold"] is None else f"{row['threshold']:.4g}",
        right=True,
    ),
    Column("max risk", "max_risk", right=True, rank=1, form="g"),
    Column("confidence", "confidence", right=True, rank=4, form="g"),
    Column("coverage", lambda row: percent(row["coverage"]), right=True),
    Column("images", "images", right=True, rank=5),
    Column("state", "state", lambda row: "red" if row["failed"] else ""),
]
CHOICES = [
    Column("rule", "rule", "bold"),
    Column("parameters", lambda row: _params(row["params"]), narrow="words"),
    Column("AURC ×1000", lambda row: f"{1000 * row['aurc']:.2f}", right=True),
    Column(
        "± (folds)",
        lambda row: "–" if row["error"] is None else f"{1000 * row['error']:.2f}",
        right=True,
    ),
]


def _params(params: dict[str, float | None]) -> str:
    texts = (
        f"{name} {'fitted' if value is None else format(value, '.3g')}"
        for name, value in params.items()
    )
    return ", ".join(texts) or "–"


def _procedure(otherwise: str) -> Callable[[Any], Any]:
    """The option --procedure, and which one it is where it is not given."""
    return click.option(
        "--procedure",
        type=click.Choice(["ranks", "split"]),
        help="ranks: prove the threshold with all images. split: choose the rule's parameters with "
        f"a third, prove with the rest. Not given: {otherwise}",
    )


@click.command()
@SPACE
@labelled_options
@claimed_option
@hold_out_options(
    "Calibrate only on this share of the images of each label, those that 'trustvlm register' "
    "leaves out with the same option."
)
@number("--max-risk", default=0.05, help="At most this share of accepted answers may be wrong.")
@number(
    "--confidence", default=0.9, help="In at least this share of calibrations the promise is kept."
)
@click.option(
    "--rule",
    shell_complete=rules,
    help="A rule by name; auto: compare the rules that keep the classifier's labels, and their "
    "parameters, with a third of the images. Not given: the default rule, or auto where no "
    "verifier embeddings are given.",
)
@flag(
    "--may-correct",
    help="Allow rules that correct the classifier's labels (trustvlm_star, posterior_star, "
    "lda_star); corrected verdicts say so.",
)
@number(
    "--threshold",
    help="A threshold of your own on the trust of --rule: it is proved, or refused with the "
    "reason. Not given: the calibration chooses one.",
)
@_procedure("split with --rule auto, else ranks.")
@flag(
    "--back-off",
    help="Answer with the finest node of the taxonomy whose probability reaches the threshold, and "
    "promise that the true label stands under it.",
)
@click.option(
    "--on-stale",
    type=Choice(["auto", "flag", "abstain"]),
    default="auto",
    help="What to do once the space has changed. flag: keep accepting and mark verdicts as "
    "stale. abstain: accept nothing. auto: abstain if one of the calibration images now gets an "
    "added label, otherwise flag. New labels that no calibration image gets are never accepted.",
)
@click.option(
    "--on-unverified",
    type=Choice(["judge", "abstain"]),
    default="judge",
    help="Labels without support images: judge them by their trust, or never accept them.",
)
@number(
    "--unknown-rate",
    default=0.01,
    help="Share of false alarms of the test that calls images unknown; 0 switches it off.",
)
@json_flag(help="Print the calibration as JSON.")
@click.pass_obj
def calibrate(
    session: Session,
    /,
    space: str,
    labelled: LabelledOptions,
    split: HoldOut | None,
    claimed: str | None,
    json_: bool,
    **options: Any,
) -> None:
    """Find a threshold on labelled images, with a promise.

    FOLDER has a sub-folder of images for each label, or is a table or a shard, as for 'trustvlm
    evaluate'. At most --max-risk of accepted answers are wrong, with --confidence. The
    images must be drawn like those to come; support images are left out. Verdicts then say accept,
    review or unknown, and a probability. The embeddings are kept: 'trustvlm recalibrate' needs no
    images. With --claimed, at most --max-risk of the claims that are accepted are wrong; that
    threshold decides about claims only, and 'trustvlm recalibrate SPACE --claims' renews it.

    Where no threshold can be proved, the calibration is listed as failed, the one in force stays,
    and the exit code is 1.
    """
    _check_rule(options["rule"], options["may_correct"])
    if options["threshold"] is not None and options["rule"] in (None, "auto"):
        raise click.UsageError("--threshold needs the rule whose trust it limits: add --rule NAME.")
    with session.writing() as service:
        images = labelled.read(service, space, split, claimed)
        made = service.calibrate(
            space, images.queries, images.truth, sources=images.sources, **options
        )
        _print_made(service, replace(made, failures=images.unread()), json_)


def _check_rule(rule: str | None, may_correct: bool) -> None:
    from trustvlm.scoring.rules import RULES

    if rule in RULES and RULES[rule].relabels and not may_correct:
        raise click.UsageError(
            f"--rule {rule} may correct the classifier's labels: add --may-correct, or name a "
            f"rule that keeps them, such as {rule.removesuffix('_star')}."
        )


@click.command()
@SPACE
@flag(
    "--may-correct",
    help="From now on, allow rules that correct the classifier's labels; a rule that was named "
    "gives way to its form that does.",
)
@number(
    "--threshold",
    help="A threshold of your own on the trust of the rule in force (or of --rule): it is proved, "
    "or refused with the reason.",
)
@click.option(
    "--rule", help="Another rule; auto: compare them again. Without --threshold, one is chosen."
)
@_procedure("as before or, with --rule, as that rule needs it.")
@flag("--claims", help="Renew the calibration of claims in place of that of predictions.")
@json_flag(help="Print the calibration as JSON.")
@click.pass_obj
def recalibrate(
    session: Session, /, space: str, may_correct: bool, json_: bool, **options: Any
) -> None:
    """Calibrate SPACE again, as it is now.

    Uses the images of the last calibration and randomly drawn feedback, and asks for the same.
    Where no threshold can be proved, the calibration in force stays in force, and the exit code is
    1.
    """
    with session.writing() as service:
        made = service.recalibrate(space, may_correct=may_correct or None, **options)
        _print_made(service, made, json_)


@click.group()
def calibration() -> None:
    """List, show and remove calibrations.

    The newest that did not fail is in force.
    """


@calibration.command("list")
@SPACE
@FORMAT
@click.pass_obj
def list_(session: Session, space: str, form: str) -> None:
    """List SPACE's calibrations, newest first."""
    with session.reading() as service:
        items = service.list_calibrations(space)
    current = [_in_force(items, claims) for claims in (False, True)]
    rows = [
        item.to_dict() | {"state": _state(item, any(item is one for one in current))}
        for item in items
    ]
    for row in rows:
        for name in ("knots", "candidates", "predicted"):
            row.pop(name)
    row_writer(form, CALIBRATIONS).write(rows)


@calibration.command()
@SPACE
@click.argument("number", type=int, required=False)
@json_flag(help="Print the calibration as JSON.")
@click.pass_obj
def show(session: Session, space: str, number: int | None, json_: bool) -> None:
    """Show calibration NUMBER of SPACE, or the one in force."""
    with session.reading() as service:
        items = service.list_calibrations(space)
    chosen = _in_force(items) or _in_force(items, claims=True)
    if number is not None:
        chosen = next((item for item in items if item.id == number), None)
    if chosen is None:
        what = f"no calibration {number}" if number is not None else "no calibration in force"
        make = suggested("calibrate", space, files="FOLDER")
        raise NotFound(f"space {space!r} has {what}; {make} makes one")
    current = _in_force(items, chosen.claims)
    _print(chosen, json_, _state(chosen, chosen is current))


@calibration.command()
@SPACE
@click.argument("number", type=int)
@click.pass_obj
def remove(session: Session, space: str, number: int) -> None:
    """Remove a calibration.

    The latest earlier calibration that did not fail is in force again.
    """
    with session.writing() as service:
        service.remove_calibration(space, number)
    click.echo(f"removed calibration {number}")


def _in_force(items: list[Calibration], claims: bool = False) -> Calibration | None:
    from trustvlm.types.calibration import decides

    return decides(items, claims)


def _state(item: Calibration, in_force: bool) -> str:
    """ "in force", "in force, stale", "failed", or "earlier": another one took its place."""
    if item.failed or not in_force:
        return "failed" if item.failed else "earlier"
    return "in force, stale" if item.stale else "in force"


def _print_made(service: TrustService, made: Calibration, json_: bool) -> None:
    """Print a calibration that was made just now. One that failed is an error in one sentence,
    after its JSON with --json."""
    if not made.failed:
        _print(made, json_, "in force")
        return
    if json_:
        click.echo(as_json(made.to_dict()))
    items = service.list_calibrations(made.space)
    kept, other = _in_force(items, made.claims), _in_force(items, not made.claims)
    kind = " of claims" if made.claims else "" if other is None else " of predictions"
    stays = f"no calibration{kind} is" if kept is None else f"calibration {kept.id} stays"
    raise click.ClickException(
        f"calibration {made.id} failed: {made.reason}.{parts_in_words(made)} Now {stays} in force"
    )


def _print(made: Calibration, json_: bool, state: str) -> None:
    if json_:
        click.echo(as_json(made.to_dict()))
        return
    from trustvlm.selective.ranking import BINNING
    from trustvlm.types.verdicts import left_out_in_words

    shares = {"support images": made.supports, "duplicates": made.duplicates}
    shares["images that could not be read"] = len(made.failures)
    shares["labels gone"] = made.gone
    shares["images without a claim that is a label"] = made.unclaimed
    out = ", ".join(f"{number:,} {what}" for what, number in shares.items() if number)
    out = f"; left out: {out}" if out else ""
    parts = f"{made.tested:,} to prove the threshold"
    if made.procedure == "split":
        parts = f"a third, drawn by content, to choose the rule: {made.tuning:,}; "
        parts += f"the others to prove the threshold: {made.tested:,}"
    ece = None if made.ece is None else f"ECE {made.ece:.4f} (cross-validated, {BINNING})"
    details(
        {
            "calibration": f"{made.id} of space {made.space}, revision {made.revision}: {state}",
            "images": f"{made.images} ({parts}){out}",
            "rule": f"{made.rule} ({_params(dict(made.params))})",
            "threshold": _threshold(made) + ", on the nodes of the taxonomy" * made.back_off,
            "promise": _promise(made, state),
            "outcome": _outcome(made, state),
            "coverage": f"{percent(made.coverage)} of the images that prove the threshold",
            "probability": ece or "ECE unknown: too few images",
            "corrections": _corrections(made),
        }
    )
    if made.procedure == "ranks":
        return
    click.echo(
        "\nThe best configurations on the images that choose (the default is kept unless "
        "another is clearly better):"
    )
    row_writer("table", CHOICES).write(dict(row) for row in made.candidates[:_SHOWN])
    if made.left_out:
        click.echo(f"not compared: {left_out_in_words(made.left_out)}")


def _threshold(made: Calibration) -> str:
    """The threshold, and which others --threshold would prove."""
    chosen = "none" if made.threshold is None else f"{made.threshold:.6g}"
    if made.asked_threshold is not None:
        chosen += ", of your own"
    if made.threshold_range is None:
        return chosen
    from trustvlm.selective.chosen_threshold import range_in_words

    return f"{chosen} (--threshold may be {range_in_words(*made.threshold_range)})"


def _promise(made: Calibration, state: str) -> str:
    """What it promises as long as it is in force and not stale; nothing else does."""
    if state == "in force, stale":
        changed = f"the space changed since revision {made.revision}"
        options = "--claims" if made.claims else ""
        again = suggested("recalibrate", made.space, options=options)
        return f"none: {changed}; run {again}"
    if state != "in force":
        return f"none: it {'failed' if made.failed else 'is no longer in force'}"
    return promise(made.max_risk, made.confidence)


def _outcome(made: Calibration, state: str) -> str:
    """What was seen when it was made, without the promise that was made of it."""
    if made.failed:
        return made.reason
    of = f"of {made.tested:,} images"
    accepted = f"accepts {made.accepted:,} {of}"
    if state != "in force":
        accepted = f"accepted {made.accepted:,} {of} when it was made"
    return f"{accepted}, {made.errors:,} of them wrong"


def _corrections(made: Calibration) -> str:
    if made.correcting_rule is None:
        return "none"
    images = made.tuning + made.tested
    rightly = f"{made.corrected_rightly} rightly, {made.corrected_wrongly} wrongly"
    counts = f"{made.corrected} of {images} labels: {rightly}"
    if made.rule == made.correcting_rule:
        return counts
    option = f"--rule {made.correcting_rule}" if made.may_correct else "--may-correct"
    return f"none; with {option}, {made.correcting_rule} would correct {counts}"
