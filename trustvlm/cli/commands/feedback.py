"""Feedback: telling true labels, and watching over a promise with them."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Any

import click

from trustvlm.cli.printing.formats import as_json, say
from trustvlm.cli.printing.safe_text import count, note, utf8
from trustvlm.cli.reading.bounds import Bounded
from trustvlm.cli.reading.folders import check_exclude, check_naming
from trustvlm.cli.reading.images import note_images
from trustvlm.cli.reading.labelled import check_names, labelled_images, labelled_options
from trustvlm.cli.session import Session, exactly_one
from trustvlm.reading.naming import Naming

__all__ = ["feedback", "monitor"]


@click.command()
@click.argument("space", type=utf8)
@labelled_options
@click.option(
    "--image", metavar="FILE", type=click.Path(path_type=Path), help="One image, with --label."
)
@click.option("--label", metavar="NAME", type=utf8, help="The true label of --image.")
@click.option(
    "--sampling",
    type=click.Choice(["chosen", "random"]),
    default="chosen",
    show_default=True,
    help="random: drawn like what comes in; only these calibrate and are monitored. chosen: "
    "picked for a reason.",
)
@click.option("--promote", is_flag=True, help="Make them support images of their labels, too.")
@click.option("--json", "json_", is_flag=True, help="Print what was stored as JSON.")
@click.pass_obj
def feedback(
    session: Session,
    space: str,
    folder: Path | None,
    vectors: Path | None,
    no_label: tuple[str, ...],
    naming: Naming,
    exclude: tuple[str, ...],
    reading: dict[str, Any],
    image: Path | None,
    label: str | None,
    sampling: str,
    promote: bool,
    json_: bool,
) -> None:
    """Tell the true labels of images.

    FOLDER has a sub-folder for each label; or --vectors; or --image with --label. They are stored
    with the verdict that they get now. 'trustvlm recalibrate' and 'trustvlm monitor' use the random
    ones.
    """
    exactly_one(FOLDER=folder, vectors=vectors, image=image)
    if (image is None) != (label is None):
        raise click.UsageError("--image and --label belong together.")
    check_exclude(exclude, folder)
    check_naming(naming, folder)
    from trustvlm.types import Queries

    with session.writing() as service:
        if image is not None:
            check_names(service, space, [label], no_label)
            truth = [None if label in no_label else label]
            result = service.feedback(
                space,
                Queries(images=[image], **reading),
                truth,
                sampling=sampling,
                promote=promote,
                sources=[str(image)],
            )
        else:
            told = labelled_images(
                service, space, folder, vectors, no_label, naming, exclude, reading
            )
            result = service.feedback(
                space,
                told.queries,
                told.truth,
                sampling=sampling,
                promote=promote,
                sources=told.sources,
            )
    if json_:
        click.echo(as_json(asdict(result)))
        return
    note_images(result.notes)
    refused = result.ids.count(-1)
    parts = [
        f"{count(result.added, 'image')} stored",
        f"{result.updated} known already" if result.updated else "",
        f"{result.right} labelled rightly",
        f"{result.accepted_wrong} accepted and wrong" if result.accepted_wrong else "",
        f"{result.promoted} made support images" if promote else "",
    ]
    say(", ".join(filter(None, parts)))
    if result.apart:
        note(
            f"{count(result.apart, 'image')} drawn at random before: the earlier truth stays in "
            f"use for calibration; "
            f"to correct it, repeat this command with --sampling random, or calibrate again"
        )
    if refused:
        note(f"{count(refused, 'image')} left out: support images cannot count as feedback")


@click.command()
@click.argument("space", type=utf8)
@click.option(
    "--alpha",
    type=Bounded("alpha"),
    default=0.05,
    show_default=True,
    help="Chance of a false alarm, over all looks together.",
)
@click.option("--json", "json_", is_flag=True, help="Print the comparison as JSON.")
@click.pass_obj
def monitor(session: Session, space: str, alpha: float, json_: bool) -> None:
    """Watch over the promise of the calibration in force.

    Compares it with the accepted images whose label became known: feedback of sampling
    "random". Look as often as you like: the test stays valid.
    """
    with session.reading() as service:
        report = service.monitor(space, alpha=alpha)
    click.echo(as_json(asdict(report))) if json_ else say(report.message)
    if report.broken and not json_:
        note(f"calibration {report.calibration_id} no longer keeps its promise")
