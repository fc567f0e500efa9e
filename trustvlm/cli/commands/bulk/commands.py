"""The commands of bulk work."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from trustvlm.cli.commands.bulk.report import print_report, print_status
from trustvlm.cli.printing.left_out import count_left_out, tell_left_out
from trustvlm.cli.printing.progress import rate_bar
from trustvlm.cli.printing.safe_text import utf8, warn
from trustvlm.cli.reading.folders import exclude_option
from trustvlm.cli.reading.gathered import gathered
from trustvlm.cli.reading.images import image_options
from trustvlm.cli.reading.options import FILE, SPACE, Choice, flag, judging_options, number, text
from trustvlm.cli.session import Session, pass_local
from trustvlm.errors import InvalidInput
from trustvlm.types.messages.counts import count

if TYPE_CHECKING:
    from trustvlm.types.bulk import BulkReport

FORM = click.option(
    "--format",
    "form",
    type=Choice(["table", "json"]),
    default="table",
    help="A summary for people, or one object for programs, with every label.",
)
OUT = click.argument("out", type=FILE)


work_options = gathered(
    "how",
    dict,
    click.option(
        "--on",
        metavar="RUNNER",
        default="here",
        help="Who works: here (this process), processes:N (of this machine), ray, or ray:ADDRESS "
        "of a cluster (pip install 'trustvlm[ray]').",
    ),
    number(
        "--actors",
        metavar="N",
        help="Actors of Ray.  [default: one a core, or as many as --num-gpus allows]",
    ),
    number(
        "--num-gpus",
        default=0.0,
        metavar="X",
        help="GPUs of each actor of Ray; with --device cuda. 0.5: two share one.",
    ),
    text(
        "--shard",
        metavar="I/N",
        help="Do every N-th file only, from the I-th: N such commands, on any machines, do all.",
    ),
    number(
        "--rows",
        metavar="N",
        help="Rows of a file of the output.  [default: 98,304 vectors or 2,048 images]",
    ),
    exclude_option,
    flag(
        "--redo",
        help="Make files again whose settings or input have changed, and those of an earlier "
        "revision of the space.",
    ),
    names=("on", "actors", "num_gpus", "shard", "rows", "exclude", "redo"),
)
"""Who works, on which part of the input: arguments of the library."""


@click.group()
def bulk() -> None:
    """Score or embed inputs of any size, into files.

    A command that was interrupted is repeated, and does what is missing.

    IN is a folder of images, of .parquet files or of .tar shards (WebDataset); such a file; a .csv
    or .tsv table of images; or a list of files, one a line (.txt). Parquet files hold vectors, in
    the columns classifier and verifier, or images, as paths or bytes. OUT is a folder; a Parquet
    file appears there for each unit of the input, whole.
    """


@bulk.command()
@SPACE
@click.argument("input_", metavar="IN", type=FILE)
@OUT
@judging_options
@click.option(
    "--claimed",
    metavar="COLUMN|FILE",
    type=utf8,
    help="Judge labels that were given elsewhere: a column of the Parquet files or of the table of "
    "images; a table (.csv, .tsv, .parquet) with the columns file and label; or, for image files, "
    "a file with a label a line, in their order. An empty one is no claim.",
)
@flag(
    "--keep-embeddings",
    help="Store embeddings of images, too: later rules, labels and calibrations encode nothing.",
)
@work_options
@image_options
@FORM
@pass_local
def score(
    session: Session,
    /,
    space: str,
    input_: Path,
    out: Path,
    judging: dict[str, Any],
    claimed: str | None,
    keep_embeddings: bool,
    how: dict[str, Any],
    reading: dict[str, Any],
    form: str,
) -> None:
    """Score IN into OUT: a row with a verdict for each image or vector.

    The rows have the columns of 'trustvlm score --format jsonl', with the name in source; failure
    says why a row has no verdict. What was done is not done again: repeat the command after an
    interruption. Files of other settings are not replaced without --redo.
    """
    from trustvlm.bulk import score as work

    with _progress() as shown:
        report = work(
            session.home, space, input_, out, keep_embeddings=keep_embeddings, claimed=claimed,
            **judging, **how, **reading, **_opening(session), **shown,
        )  # fmt: skip
    _end(report, form)


@bulk.command()
@SPACE
@click.argument("input_", metavar="IN", type=FILE)
@OUT
@work_options
@image_options
@FORM
@pass_local
def embed(
    session: Session,
    /,
    space: str,
    input_: Path,
    out: Path,
    how: dict[str, Any],
    reading: dict[str, Any],
    form: str,
) -> None:
    """Encode the images of IN into OUT, which 'bulk score' takes as IN.

    The rows have the columns source, classifier and verifier (as far as SPACE encodes images) and
    failure, which says why an image could not be read.
    """
    from trustvlm.bulk import embed as work

    with _progress() as shown:
        report = work(
            session.home, space, input_, out, **how, **reading, **_opening(session), **shown
        )
    _end(report, form)


@bulk.command()
@OUT
@FORM
def status(out: Path, form: str) -> None:
    """Say how far the work in OUT is, and how the rows were decided."""
    from trustvlm.bulk import status as look

    print_status(look(out), form)


def _opening(session: Session) -> dict[str, Any]:
    """How workers open the home."""
    return {
        "database_url": session.database_url,
        "device": session.device,
        "precision": session.precision,
        "read_only": session.is_read_only(),
    }


@contextmanager
def _progress() -> Iterator[dict[str, Any]]:
    """A progress bar with rows a second and the time left; as arguments of the library."""
    with rate_bar("rows") as update:
        yield {"progress": update, "note": tell_left_out}


def _end(report: BulkReport, form: str) -> None:
    """Print the report. Raises InvalidInput: a part of the input could not be read."""
    print_report(report, form)
    count_left_out(report.failed)
    if report.failed:
        warn(
            f"{count(report.failed, 'row')} of {report.rows:,} could not be read: the column "
            f"failure says why"
        )
    for one in report.failed_units:
        warn(f"could not be read: {one.unit}: {one.reason}")
    if report.failed_units:
        raise InvalidInput(
            f"{len(report.failed_units):,} of {report.units:,} parts of the input could not be "
            f"read; the others are done, and repeating the command does these"
        )
