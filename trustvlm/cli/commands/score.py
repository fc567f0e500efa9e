"""Scoring images or vectors: label, trust, evidence."""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from trustvlm.cli.printing.formats import Column, Row, RowWriter, blocks, row_writer, say
from trustvlm.cli.printing.progress import Bar, progress_bar
from trustvlm.cli.printing.queue import report_waiting, waiting_in
from trustvlm.cli.printing.safe_text import warn
from trustvlm.cli.printing.suggested import placed
from trustvlm.cli.reading.beside import Beside, probabilities_given, probabilities_option
from trustvlm.cli.reading.claims import ByPlace, claimed_images, claimed_option, claims_given
from trustvlm.cli.reading.folders import check_exclude, exclude_option, finding
from trustvlm.cli.reading.images import image_options, note_images, report_unreadable
from trustvlm.cli.reading.options import (
    FORMAT,
    PATHS,
    SPACE,
    back_off_option,
    file,
    flag,
    judging_options,
    where,
)
from trustvlm.cli.reading.sets import given_images
from trustvlm.cli.session import Session, exactly_one
from trustvlm.errors import InvalidInput
from trustvlm.types.attributes.filters import Filter
from trustvlm.types.messages.commands import suggested
from trustvlm.types.messages.counts import count
from trustvlm.types.messages.remarks import merged_notes
from trustvlm.types.tables.probability import chance, probability_line

if TYPE_CHECKING:
    from trustvlm.reading.images import ImageFinder
    from trustvlm.service import TrustService
    from trustvlm.types import Queries, Verdicts

    Batches = Generator[tuple[list[str], Queries, Bar], None, None]
    """(sources, queries, progress bar), a batch at a time."""

BATCH_ROWS = 1_024
_DECISION_COLOURS = {"accept": "green", "review": "yellow", "unknown": "magenta"}


def _number(value: float | None) -> str:
    return "–" if value is None else f"{value:.4f}"


def _disagrees(row: Row) -> bool:
    """Whether another label's prototype is nearer than that of the label judged, a claimed one
    where there is a claim."""
    judged = row["label"] if row.get("claimed") is None else row["claimed"]
    return row["nearest_prototype"] not in (None, judged)


def _colour(row: Row) -> str:
    """Trust of different rules has different scales; what stands behind it has not."""
    if row["unverified"]:
        return "yellow"
    return "red" if _disagrees(row) else "green" if row["agrees"] else ""


def _node(row: Row) -> str:
    """The label, or the node above it, that a call backs off to, with its probability."""
    return "–" if row["node"] is None else f"{row['node']} ({chance(row['node_probability'])})"


def _notes(row: Row) -> str:
    """What the decision leaves to say: why it is not "accept", and what is odd."""
    corrected = "" if row["corrected_from"] is None else f"corrected from {row['corrected_from']}"
    old = row["stale_since"] is not None
    if row.get("claimed") is not None:
        old = f"calibration {row['claims_calibration_id']} is stale" in row["reason"]
    stale = "stale" if old and row["reason_code"] != "stale" else ""
    return "; ".join(filter(None, [corrected, _why(row), stale]))


def _why(row: Row) -> str:
    """The reason in words, without what is said of a stale calibration once for all rows."""
    if row["reason_code"] == "accepted":
        return ""
    if row["reason_code"] == "not_calibrated":
        odd = [name for name in ("unverified", "unknown") if row[name]]
        return ", ".join(odd + ["disagrees"] * _disagrees(row))
    decided = row["calibration_id" if row.get("claimed") is None else "claims_calibration_id"]
    reason = str(row["reason"]).split(f"; calibration {decided} is stale")[0]
    return placed(reason.partition(": ")[2])


VERDICTS = [
    Column("source", "source", narrow="end"),
    Column("decision", "decision", lambda row: _DECISION_COLOURS[row["decision"]]),
    Column("probability", lambda row: chance(row["probability"]), right=True),
    Column("label", "label", "bold"),
    Column("note", _notes, narrow="words"),
    Column("trust", lambda row: _number(row["trust"]), _colour, right=True, rank=1),
    Column("text conf.", lambda row: _number(row["text_confidence"]), right=True, rank=5),
    Column("image sim.", lambda row: _number(row["image_similarity"]), right=True, rank=4),
    Column(
        "nearest",
        lambda row: "✓" if row["agrees"] else row["nearest_prototype"] or "–",
        _colour,
        rank=3,
    ),
    Column("rival", lambda row: row["rival"] or "–", rank=2),
    Column("its trust", lambda row: _number(row["rival_trust"]), right=True, rank=6),
]
"""The decision, how likely the label is right, and the label; then details."""
CLAIMS = [
    Column("source", "source", narrow="end"),
    Column("decision", "decision", lambda row: _DECISION_COLOURS[row["decision"]]),
    Column("probability", lambda row: chance(row["claimed_probability"]), right=True),
    Column("claimed", lambda row: row["claimed"] or "–", "bold"),
    Column("better label", lambda row: row["better_label"] or "–"),
    Column("note", _notes, narrow="words"),
    Column("trust", lambda row: _number(row["claimed_trust"]), right=True, rank=1),
    Column("space's label", "label", rank=2),
    Column("its probability", lambda row: chance(row["probability"]), right=True, rank=3),
]
"""The decision about the claimed label, how likely it is right, and what fits better; then the
label that the space gives."""
NODE = Column("answer", _node, "bold")
"""Of a call that backs off, behind the label."""
EVIDENCE = [
    Column("evidence", "query", narrow="end"),
    Column("for", "side"),
    Column("label", "label", "bold"),
    Column("similarity", lambda row: _number(row["similarity"]), right=True),
    Column("id", "id", right=True, rank=1),
    Column("support image", "source", narrow="end"),
]


@click.command()
@SPACE
@PATHS
@file(
    "--vectors",
    metavar="FILE.npz",
    help="Embeddings in the arrays classifier and verifier, as far as needed, and sources (names); "
    "of an external classifier probabilities and outputs (label names).",
)
@judging_options
@where(help="Only labels whose attributes fit take part: 'region = \"EU\" and size >= 3'.")
@back_off_option
@click.option(
    "--evidence",
    type=click.IntRange(0, 1_000),
    metavar="N",
    help="List the N nearest support images of label and rival.  [default: 3 for jsonl, else 0]",
)
@claimed_option
@probabilities_option
@flag("--review", help="Put what is not accepted, and a random share, into the review queue.")
@exclude_option
@image_options
@FORMAT
@click.pass_obj
def score(
    session: Session,
    /,
    space: str,
    paths: tuple[Path, ...],
    vectors: Path | None,
    evidence: int | None,
    claimed: str | None,
    probabilities: Path | None,
    review: bool,
    exclude: tuple[str, ...],
    reading: dict[str, Any],
    form: str,
    judging: dict[str, Any],
    where: str | None,
    back_off: bool | float | None,
) -> None:
    """Score images: decision, probability, label, evidence.

    PATHS are image files, folders (searched through, in order of name), tables of images (.csv,
    .tsv, .parquet, with a column file) and shards (.tar). Images that cannot be read are named on
    stderr and the rest is scored.

    The decision is accept, review or unknown; without a calibration ('trustvlm calibrate'), review.
    The probability is that of the label being right; the line above the table says where it comes
    from. What stands right of the note are details.

    With --claimed, decision and probability are those of the claimed label, and the table names the
    label that fits better, where one does.

    On a terminal trust is green where the nearest prototype is the predicted label's (✓), red where
    it is another's, and yellow where the predicted label has no support image (unverified).
    """
    exactly_one(PATHS=paths, vectors=vectors)
    if judging["labels"] is not None and where is not None:
        raise click.UsageError("Expected --only or --where, not both.")
    options = judging | {"back_off": back_off}
    if where is not None:
        options["labels"] = Filter(where, "--where")
    check_exclude(exclude, paths)
    beside = Beside(
        claims_given(claimed, paths, vectors), probabilities_given(probabilities, vectors)
    )
    options["review"] = review or None  # None: as the service at --url is set
    if evidence is None:
        evidence = 3 if form == "jsonl" else 0
    with session.writing() if review else session.reading() as service:
        if vectors is not None:
            batches = _vectors(vectors, beside)
        else:
            images = _Given(paths, exclude, beside, session.stored_names)
            batches = _images(service, space, images, reading, options)
        before = waiting_in(service.review(space)) if review else 0
        with closing(batches):  # an error takes the progress bar away before it is reported
            _write(service, space, batches, options, evidence, form)
        if review:
            report_waiting(service.review(space), space, before)


def _write(
    service: TrustService,
    space: str,
    batches: Batches,
    options: dict[str, Any],
    evidence: int,
    form: str,
) -> None:
    evidence_writer = row_writer(form, EVIDENCE)
    verdict_writer: RowWriter | None = None
    for batch, (sources, queries, bar) in enumerate(batches):
        verdicts = service.score(space, queries, **options)
        if not batch and verdicts.claimed is not None:
            verdict_writer = row_writer(form, CLAIMS)
        rows = [
            {"source": name} | row
            for name, row in zip(sources, verdicts.rows(evidence=evidence), strict=True)
        ]
        if verdict_writer is None:
            backs_off = any(row["path"] for row in rows)
            columns = [*VERDICTS[:4], NODE, *VERDICTS[4:]] if backs_off else VERDICTS
            verdict_writer = row_writer(form, columns)
        with bar.hidden():
            if not batch and rows:
                _introduce(space, verdicts, form)
            verdict_writer.write(rows)
            if evidence and form == "table":
                click.echo()
                evidence_writer.write(_evidence(rows))


def _introduce(space: str, verdicts: Verdicts, form: str) -> None:
    """Say once, above the table, where the probability comes from; of other formats, on stderr,
    that a calibration promises nothing any more."""
    if form == "table":
        source, calibration = verdicts.probability_source, verdicts.calibration_id
        since = verdicts.stale_since
        if verdicts.claimed is not None:
            from trustvlm.scoring.rules import RULES

            calibration, since = verdicts.claims_calibration_id, None
            source = "calibration" if calibration else None
            if source is None and RULES[verdicts.rule].probability:
                source = "rule"
        say(probability_line(source, verdicts.rule, calibration, since, space))
    elif verdicts.stale_since is not None:
        stale = f"calibration {verdicts.calibration_id} is stale since revision"
        remedy = f"run {suggested('recalibrate', space)}"
        warn(f"{stale} {verdicts.stale_since} and promises nothing; {remedy}")


def _evidence(rows: Iterable[Row]) -> Iterator[Row]:
    """A row for each support image that speaks for a predicted label or its rival."""
    for row in rows:
        for side, images in row["evidence"].items():
            shared = {"query": row["source"], "side": side, "label": row.get(side)}
            yield from (shared | image for image in images)


@dataclass(frozen=True)
class _Given:
    """The images of a call, as they were given; `stored`: see :meth:`Session.stored_names`."""

    paths: tuple[Path, ...]
    exclude: tuple[str, ...]
    beside: Beside
    stored: Callable[[Sequence[str]], list[str]]

    def images(self, finder: ImageFinder) -> tuple[Iterable[Any], int]:
        """The images and their number, 0 where it is not known."""
        claims = self.beside.claims
        if isinstance(claims, ByPlace) and claims.in_column:
            return claimed_images(claims, self.paths), 0
        return given_images(finder, self.paths)


def _vectors(path: Path, beside: Beside) -> Batches:
    from trustvlm.cli.reading.arrays import query_batches

    done = 0
    with progress_bar(0, "queries") as bar:
        for sources, queries in query_batches(path, BATCH_ROWS):
            places = range(done, done + len(sources))
            done += len(sources)
            queries = replace(queries, sources=sources)
            yield sources, beside.added(queries, sources, places), bar
    beside.end(done)


def _images(
    service: TrustService,
    space: str,
    given: _Given,
    reading: dict[str, Any],
    options: dict[str, Any],
) -> Batches:
    """Batches of encoded images. Raises InvalidInput when there are none, or none of them can be
    read."""
    # A wrong option shows before any image is encoded.
    nothing = _no_queries(service, space)
    service.score(space, given.beside.added(nothing, [], []), **options)
    with finding(given.exclude) as finder:
        images, total = given.images(finder)
    failures, notes, done = list[tuple[str, str]](), list[str](), 0
    with progress_bar(total, "images") as bar:
        for batch in blocks(images, BATCH_ROWS):
            start, done = done, done + len(batch)
            embedded = service.embed(space, batch, progress=bar.advance, **reading)
            failures += embedded.failures
            notes += embedded.notes
            if embedded.sources:
                places = (start + place for place in embedded.places)
                queries = given.beside.added(embedded.queries, embedded.sources, places)
                queries = replace(queries, sources=given.stored(embedded.sources))
                yield embedded.sources, queries, bar
    if not done:
        raise InvalidInput(f"no images in {', '.join(map(str, given.paths))}")
    given.beside.end(done)
    report_unreadable(failures)
    note_images(merged_notes(notes))
    if len(failures) == done:
        raise InvalidInput("no image could be read")
    if failures:
        warn(f"{count(len(failures), 'image')} of {done:,} could not be read")


def _no_queries(service: TrustService, space: str) -> Queries:
    import numpy as np

    from trustvlm.types import Queries

    row = service.get_space(space)
    verifier = None if row.verifier == "same" else np.empty((0, row.verifier_dim))
    return Queries(classifier=np.empty((0, row.classifier_dim)), verifier=verifier)
