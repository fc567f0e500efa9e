"""The command `trustvlm start`: makes a space of a folder, measures it, and says what is so."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import click

from trustvlm.cli.commands.serve import serve as serve_command
from trustvlm.cli.commands.start.answer import ADDRESS
from trustvlm.cli.commands.start.material import Material, Source
from trustvlm.cli.commands.start.measure import (
    Outcome,
    measured,
    require_same_source,
    space_for,
    space_name,
    unlabelled,
    without_labels,
)
from trustvlm.cli.printing.formats import say
from trustvlm.cli.printing.suggested import here
from trustvlm.cli.reading.folders import check_exclude, exclude_option
from trustvlm.cli.reading.images import image_options
from trustvlm.cli.reading.options import FILE, Choice, flag, number, text
from trustvlm.cli.session import Session, pass_local
from trustvlm.types.messages.commands import word


@click.command()
@click.argument("source", type=FILE)
@text(
    "--names",
    metavar="NAMES",
    help="For images without a known label: the names of the labels, with commas between them, or "
    "a file of them. For sub-folders: a file that maps them to names.",
)
@flag(
    "--clean-names",
    help="Turn folder names into plain words: golden_retriever becomes 'golden retriever'.",
)
@click.option(
    "--preset",
    type=Choice(["small", "paper", "large"]),
    help="Both encoders by name: small (0.7 GB, fast on a CPU), paper (0.9 GB) or large (2.9 GB, "
    "for a GPU).  [default: small]",
)
@text("--classifier", metavar="SPEC", help="The classifier; see 'trustvlm space create'.")
@text("--verifier", metavar="SPEC", help="The verifier; see 'trustvlm space create'.")
@text("--space", metavar="NAME", help="The space.  [default: the name of SOURCE]")
@number(
    "--hold-out",
    default=0.3,
    metavar="SHARE",
    help="The share of the images of each label that measures; the others become support images.",
)
@number(
    "--seed", default=0, metavar="N", help="Number that draws that split: the same one, the same."
)
@flag("--serve", help="Then serve the home, with a page for people, until Ctrl-C.")
@click.option(
    "--port", default=8000, type=click.IntRange(0, 65535), help="Port of --serve; 0: any free one."
)
@exclude_option
@image_options
@pass_local
def start(
    session: Session,
    /,
    source: Path,
    names: str | None,
    clean_names: bool,
    space: str | None,
    hold_out: float,
    seed: int,
    serve: bool,
    port: int,
    exclude: tuple[str, ...],
    reading: dict[str, Any],
    **encoders: str | None,
) -> None:
    """Go from a folder of images to a trusted answer.

    \b
    start FOLDER                  one sub-folder of images for each label
    start FOLDER                  train/ and test/ (or val/) with such sub-folders
    start FOLDER --names cat,dog  images whose labels are not known
    start FILE                    a table of images and labels (.csv, .tsv, .parquet), tar shards
    start FILE                    vectors (.npz, .parquet, .ndjson), as for 'register --vectors'

    Makes the home and a space, registers one part of the labelled images as support images,
    measures on the other part, and calibrates: finds out how many images can be accepted
    automatically with at most 5 % wrong. Then says so, and which labels to fix. Images of 'test'
    are measured on where there is such a part; else --hold-out and --seed choose.

    The same command again continues: it adds what is new in SOURCE, keeps images on their side,
    and repeats the answer. It never removes anything. Where nothing can be proved yet, it says how
    many images are needed (exit code 0).
    """
    check_exclude(exclude, source)
    split = _split(hold_out, seed)
    material = Source(source, names, clean_names, exclude, split, _typed()).read()
    if not material.inputs and not session.has_catalog():
        raise without_labels(material)
    name = space_name(source) if space is None else space
    with session.writing(create=True) as service:
        row = space_for(service, name, material, encoders, derived=space is None)
        if space is None:
            require_same_source(service, row, material)
        if material.unlabelled:
            outcome = unlabelled(service, row, material, source, reading, hold_out)
        else:
            outcome = measured(service, row, material, source, reading, split)
    for line in outcome.lines:
        say(line)
    for command in _next(name, source, material, outcome, serves=serve):
        click.echo(command)
    if serve:
        click.get_current_context().invoke(serve_command, port=port)


def _split(share: float, seed: int) -> Any:
    from trustvlm.reading.hold_out import HoldOut

    return HoldOut(share, seed)


def _typed() -> bool:
    """Whether the split was asked for on the command line."""
    context = click.get_current_context()
    sources = map(context.get_parameter_source, ("hold_out", "seed"))
    return click.core.ParameterSource.COMMANDLINE in sources


def _next(
    name: str, source: Path, material: Material, outcome: Outcome, *, serves: bool
) -> Iterator[str]:
    """Commands to go on with."""
    images = word(str(source)) if material.unlabelled else "IMAGES"
    if material.encoders is not None:
        images = "--vectors FILE.npz"
    yield "Next:"
    if not serves:
        yield f"  {here('serve')}    # a page for people, at {ADDRESS}"
    if outcome.scores:
        score = here("score", name, files=images)
        yield f"  {score}    # decide on each image: accept, review or unknown"
    if outcome.evaluates:
        report = f"{material.measured_with} --report report.html"
        yield f"  {here('evaluate', name, files=report)}    # which labels to fix, and how"
