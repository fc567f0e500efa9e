"""Feedback: storing true labels, and testing a calibration with them."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from trustvlm.cli.printing.formats import as_json, say
from trustvlm.cli.printing.safe_text import note, warn
from trustvlm.cli.reading.claims import claimed_option
from trustvlm.cli.reading.folders import check_exclude, check_naming
from trustvlm.cli.reading.images import note_images
from trustvlm.cli.reading.labelled import LabelledOptions, check_names, labelled_options
from trustvlm.cli.reading.options import SPACE, Choice, file, flag, json_flag, number, text
from trustvlm.cli.session import Session, exactly_one
from trustvlm.types.messages.counts import count

if TYPE_CHECKING:
    from trustvlm.service import TrustService
    from trustvlm.types.calibration import FeedbackResult, TaughtImages


@click.command()
@SPACE
@labelled_options
@claimed_option
@file("--image", metavar="FILE", help="One image, with --label.")
@text("--label", metavar="NAME", help="The true label of --image.")
@click.option(
    "--sampling",
    type=Choice(["chosen", "random"]),
    default="chosen",
    help="random: drawn at random from the incoming images; only these are used by recalibrate and "
    "monitor. chosen: selected for any other reason.",
)
@flag("--promote", help="Make them support images of their labels, too.")
@json_flag(help="Print what was stored as JSON.")
@click.pass_obj
def feedback(
    session: Session,
    /,
    space: str,
    labelled: LabelledOptions,
    claimed: str | None,
    image: Path | None,
    label: str | None,
    json_: bool,
    **options: Any,
) -> None:
    """Store the true labels of images.

    FOLDER has a sub-folder for each label, or is a table or a shard, as for 'trustvlm evaluate'; or
    --vectors; or --image with --label. Each image is
    stored with the verdict that it gets now. 'trustvlm recalibrate' and 'trustvlm monitor' use only
    those with --sampling random. With --claimed, the verdict and all that is printed are about the
    claimed labels.
    """
    exactly_one(FOLDER=labelled.folder, vectors=labelled.vectors, image=image)
    if (image is None) != (label is None):
        raise click.UsageError("--image and --label belong together.")
    if image is not None and claimed is not None:
        raise click.UsageError("--claimed is about the images of FOLDER or --vectors.")
    check_exclude(labelled.exclude, labelled.folder)
    check_naming(labelled.naming, labelled.folder)
    with session.writing() as service:
        if image is not None:
            options["sources"] = session.stored_names([str(image)])
            result = _of_image(service, space, labelled, image, label, options)
        else:
            images = labelled.read(service, space, claimed=claimed)
            named = (list if labelled.vectors else session.stored_names)(images.sources)
            options["sources"] = named
            result = service.feedback(space, images.queries, images.truth, **options)
    if json_:
        click.echo(as_json(result.to_dict()))
    else:
        _print(result, options["promote"], claims=claimed is not None)


def _of_image(
    service: TrustService,
    space: str,
    labelled: LabelledOptions,
    image: Path,
    label: str | None,
    options: dict[str, Any],
) -> FeedbackResult:
    from trustvlm.types import Queries

    check_names(service, space, [label], labelled.no_label)
    truth = [None if label in labelled.no_label else label]
    queries = Queries(images=[image], **labelled.reading)
    return service.feedback(space, queries, truth, **options)


def _print(result: FeedbackResult, promote: bool, *, claims: bool) -> None:
    note_images(result.notes)
    parts = [
        f"{count(result.added, 'image')} stored",
        f"{result.updated} stored already" if result.updated else "",
        f"{result.right} claimed rightly" if claims else f"{result.right} labelled rightly",
        f"{result.accepted_wrong} accepted and wrong" if result.accepted_wrong else "",
        f"{result.promoted} made support images" if promote else "",
    ]
    say(", ".join(filter(None, parts)))
    if result.taught is not None:
        note(_changes(result.taught))
    if result.apart:
        note(
            f"{count(result.apart, 'image')} drawn at random before: the earlier truth stays in "
            f"use for calibration; to correct it, repeat this command with --sampling random, or "
            f"calibrate again"
        )
    if result.unclaimed:
        warn(f"{count(result.unclaimed, 'image')} left out: without a claim that is a label")
    if refused := result.ids.count(-1) - result.unclaimed:
        warn(f"{count(refused, 'image')} left out: support images cannot count as feedback")


def _changes(taught: TaughtImages) -> str:
    """What the new support images change, in a sentence."""
    images = (
        f"{count(taught.images, 'new support image')}, {taught.corrected} labelled wrongly before"
    )
    if not taught.waiting:
        return images
    others = f"{taught.changed:,} of {count(taught.waiting, 'waiting image')} get another answer"
    return f"{images}; {others}"


@click.command()
@SPACE
@number("--alpha", default=0.05, help="Chance of a false alarm, over all looks together.")
@flag("--claims", help="The calibration of claims in place of that of predictions.")
@json_flag(help="Print the comparison as JSON.")
@click.pass_obj
def monitor(session: Session, /, space: str, json_: bool, **options: Any) -> None:
    """Test whether the calibration in force keeps its promise.

    Compares it with the accepted images whose label became known: feedback of sampling
    "random". Look as often as you like: the test stays valid. Where the space keeps a log of
    answers, it also says how much of what is sent looks like nothing that the space has images of.
    """
    with session.reading() as service:
        report = service.monitor(space, **options)
    click.echo(as_json(report.to_dict())) if json_ else say(report.message)
    if report.broken and not json_:
        warn(f"calibration {report.calibration_id} no longer keeps its promise")
    if report.logged and not json_:
        share = 100 * (report.accepted or 0) / report.logged
        note(f"it accepted {share:.3g} % of the {count(report.logged, 'answer')} in the log")
    if report.logged is not None and report.traffic is not None and not json_:
        note(report.traffic.message)
