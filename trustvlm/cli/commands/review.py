"""The review queue on the command line: list, answer, take back, exchange with other tools."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from trustvlm.cli.commands.verdict_log import note_nothing
from trustvlm.cli.printing.formats import Column, as_json, details, row_writer, say
from trustvlm.cli.printing.queue import how_to_add, next_step, waiting_in
from trustvlm.cli.printing.safe_text import note, warn
from trustvlm.cli.printing.suggested import here
from trustvlm.cli.reading.options import (
    FILE,
    FORMAT,
    ID,
    SPACE,
    Bounded,
    Choice,
    file,
    flag,
    json_flag,
    log_options,
    text,
)
from trustvlm.cli.session import Session, exactly_one
from trustvlm.errors import Conflict
from trustvlm.types.bounds import FORMATS, STATES, TRAYS
from trustvlm.types.messages.commands import suggested, word
from trustvlm.types.messages.counts import count
from trustvlm.types.tables.probability import chance

if TYPE_CHECKING:
    from trustvlm.types.review import ReviewItem, ReviewQuestion, ReviewStatus, Taught

ITEMS = [
    Column("id", "id", right=True),
    Column("tray", "tray", rank=1),
    Column("decision", "decision"),
    Column("probability", lambda row: chance(row["probability"]), right=True),
    Column("label", "predicted", "bold"),
    Column("answer", lambda row: _answer(row)),
    Column("source", "source", narrow="end"),
]
ITEM = click.argument("item", metavar="ID", type=ID)
TRAY = click.option(
    "--tray",
    type=Choice(TRAYS),
    help="review: not accepted; sample: drawn at random; proposal: proposed as support images.  "
    "[default: all]",
)


def _answer(row: Any) -> str:
    if row["state"] != "answered":
        return "" if row["state"] == "open" else row["state"]
    return row["truth"] if row["truth"] is not None else "none of the labels"


@click.group()
def review() -> None:
    """Answer what was not accepted, and a random sample.

    'trustvlm score SPACE IMAGES --review' puts images into the queue of a space; 'trustvlm review
    on SPACE' lets 'trustvlm serve' do so with what it scores. On its page, Review shows them one by
    one.
    """


@review.command("list")
@SPACE
@TRAY
@click.option("--state", type=Choice([*STATES, "any"]), default="open", help="What became of them.")
@FORMAT
@click.pass_obj
def list_(session: Session, space: str, tray: str | None, state: str, form: str) -> None:
    """List items, oldest first."""
    writer, cursor = row_writer(form, ITEMS), None
    with session.reading() as service:
        queue = service.review(space)
        if form == "table":
            _report(queue.status())
        while True:
            wanted = None if state == "any" else state
            page = queue.items(tray=tray, state=wanted, limit=1_000, cursor=cursor)
            writer.write(map(_row, page.items))
            cursor = page.next_cursor
            if cursor is None:
                return


def _row(item: ReviewItem) -> dict[str, Any]:
    row = asdict(item)
    return row | {name: item.to_dict()[name] for name in ("created_at", "changed_at")}


def _report(status: ReviewStatus) -> None:
    """How many wait, on stderr, above a table."""
    waiting = ", ".join(f"{tray.open:,} in the tray {tray.tray}" for tray in status.trays)
    note(f"waiting: {waiting}; collecting is {'on' if status.collecting else 'off'}")
    if status.missed:
        note(
            f"{count(status.missed, 'image')} drawn at random found no room among {status.limit:,} "
            f"that wait: answer some"
        )


@review.command("add-logged")
@SPACE
@log_options
@click.option(
    "--limit", type=Bounded("log_page"), help="At most this number of the newest.  [default: 100]"
)
@json_flag(help="Print the numbers as JSON.")
@click.pass_obj
def add_logged(session: Session, /, space: str, json_: bool, **which: Any) -> None:
    """Add answers of the log, by the names of their images.

    'trustvlm space log-verdicts' keeps the log. It holds no images: find each by its name, in your
    own system. Without --sample and --decision, these are the newest that were not accepted. With
    --sample the answers are watched by 'trustvlm monitor', but calibrate nothing.
    """
    with session.writing() as service:
        queue = service.review(space)
        done, waiting = queue.add_logged(**which), waiting_in(queue)
        if not done.chosen and not done.unnamed:
            note_nothing(service.verdict_log(space), space, which)
    if json_:
        click.echo(as_json(done.to_dict()))
    else:
        before = done.chosen - done.added
        say(f"{count(done.added, 'item')} added" + f", {before} not added again" * bool(before))
    if done.unnamed:
        note(f"{count(done.unnamed, 'answer')} left out: their images have no names")
    note(next_step(space, waiting))


@review.command("next")
@SPACE
@TRAY
@click.option("--after", type=click.IntRange(0, 2**63 - 1), help="The item behind this one.")
@json_flag(help="Print the item with its evidence as JSON (null: nothing waits).")
@click.pass_obj
def next_(session: Session, space: str, tray: str | None, after: int | None, json_: bool) -> None:
    """Show the oldest item that waits, with likely labels."""
    with session.reading() as service:
        question = service.review(space).next(tray=tray, after=after)
    if json_:
        click.echo(as_json(None if question is None else question.to_dict()))
    elif question is None:
        say(f"nothing waits for review; {how_to_add(space)}")
    else:
        _show(space, question)


def _show(space: str, question: ReviewQuestion) -> None:
    item = question.item
    pairs: dict[str, object] = {"item": f"{item.id}, tray {item.tray}"}
    pairs |= {"image": item.source or "an embedding", "decision": item.decision}
    if item.logged_id is not None:
        pairs["answered"] = "earlier, in the log: find the image by its name"
    pairs |= {"probability": chance(item.probability), "label": item.predicted}
    pairs |= {"likely": ", ".join(question.choices)}
    for side in ("label", "rival"):
        images = getattr(question.evidence, side)
        sources = (one.source or f"support image {one.id}" for one in images)
        name = getattr(question, side)
        pairs[f"like {name}" if name else side] = ", ".join(sources) or "–"
    details(pairs)
    right = suggested("review answer", space, item.id, options="--right")
    note(f"answer: {right} (or --label NAME, --none)")


@review.command()
@SPACE
@ITEM
@flag("--right", help="The predicted label is right.")
@text("--label", metavar="NAME", help="The right label.")
@flag("--none", help="None of the labels is right.")
@flag("--support", help="Make the image a support image of that label, too.")
@json_flag(help="Print the item as JSON.")
@click.pass_obj
def answer(
    session: Session,
    space: str,
    item: int,
    right: bool,
    label: str | None,
    none: bool,
    support: bool,
    json_: bool,
) -> None:
    """Say the right label of an item.

    The answer is stored as feedback: that of an item of the tray sample as drawn at random, that of
    the tray review as chosen.
    """
    exactly_one(right=right or None, label=label, none=none or None)
    with session.writing() as service:
        queue = service.review(space)
        truth = queue.question(item).item.predicted if right else label
        answered = queue.answer(item, truth, use_as_support=support)
        waiting = waiting_in(queue)
    made = answered.support_id
    also = "" if made is None else f"; it is support image {made} now"
    _print_item(answered, f"item {item}: {_answer(asdict(answered))}{also}", json_)
    if support and made is None:
        note("the image was a support image before: nothing was added")
    if answered.taught is not None:
        note(_changes(answered.taught, str(answered.truth)))
    elif not support and made is None and _is_corrected(answered):
        again = here("review answer", space, item, options=f"--label {word(str(label))} --support")
        note(f"recommended, so that the space learns from it: {again}")
    note(next_step(space, waiting))


def _is_corrected(item: ReviewItem) -> bool:
    """The answer is another label, of an image that calibrates nothing."""
    return item.truth not in (None, item.predicted) and item.tray != "sample"


def _changes(taught: Taught, truth: str) -> str:
    """What a support image changes, in a sentence."""
    before = f"{taught.label_before} ({chance(taught.probability_before)})"
    after = f"{taught.label} ({chance(taught.probability)})"
    after = f"known as {truth}" if taught.probability is None else after
    others = f"{taught.changed:,} of {count(taught.waiting, 'waiting image')} get another answer"
    return f"this image: {before} before, {after} now; {others}"


def _print_item(item: ReviewItem, sentence: str, json_: bool) -> None:
    click.echo(as_json(item.to_dict())) if json_ else say(sentence)


@review.command()
@SPACE
@ITEM
@json_flag(help="Print the item as JSON.")
@click.pass_obj
def skip(session: Session, space: str, item: int, json_: bool) -> None:
    """Put an item aside."""
    with session.writing() as service:
        _print_item(service.review(space).skip(item), f"item {item} is put aside", json_)


@review.command()
@SPACE
@ITEM
@json_flag(help="Print the item as JSON.")
@click.pass_obj
def undo(session: Session, space: str, item: int, json_: bool) -> None:
    """Take an answer back, or bring back an item that was put aside.

    The feedback that the answer stored goes, and the support image that it made is removed.
    """
    with session.writing() as service:
        _print_item(service.review(space).undo(item), f"item {item} waits again", json_)


@review.command()
@SPACE
@click.option("--format", "form", type=Choice(FORMATS), default="csv", help="What the file is for.")
@file("--output", "-o", "path", metavar="FILE", required=True, help="The file to write.")
@TRAY
@click.option("--state", type=Choice([*STATES, "any"]), default="open", help="What became of them.")
@click.pass_obj
def export(
    session: Session, space: str, form: str, path: Path, tray: str | None, state: str
) -> None:
    """Write items to a file, to answer them elsewhere.

    csv: fill in the column truth. label-studio: tasks with predictions and pictures. 'trustvlm
    review import' takes the answers of both.
    """
    with session.reading() as service:
        wanted = None if state == "any" else state
        number = service.review(space).export(path, format=form, tray=tray, state=wanted)
    say(f"{count(number, 'item')} written to {path}")
    if number:
        filled = "fill in the column truth" if form == "csv" else "answer them in Label Studio"
        done = suggested("review import", space, files=word(str(path)) if form == "csv" else "FILE")
        note(f"next: {filled}, then {done}")
    else:
        every = "" if state == "any" else "; --state any writes those of every state"
        note(f"no item of the queue is of this kind{every}; {how_to_add(space)}")


@review.command("import")
@SPACE
@click.argument("path", metavar="FILE", type=FILE)
@json_flag(help="Print what became of the answers as JSON.")
@click.pass_obj
def import_(session: Session, space: str, path: Path, json_: bool) -> None:
    """Store the answers of a file that 'review export' wrote.

    FILE is CSV with the columns id and truth ("(none of the labels)" where no label is right), or
    Label Studio's export in the format JSON. An answer that cannot be stored is named and stops no
    other; the exit code is then 4.
    """
    with session.writing() as service:
        queue = service.review(space)
        done, waiting = queue.import_answers(path), waiting_in(queue)
    for item, reason in done.failures:
        warn(f"item {item}: {reason}")
    if json_:
        click.echo(as_json(done.to_dict()))
    else:
        parts = [
            f"{count(done.answered, 'answer')} stored",
            f"{done.same} stored before" if done.same else "",
            f"{done.unanswered} not answered" if done.unanswered else "",
            f"{len(done.failures)} failed" if done.failures else "",
        ]
        say(", ".join(filter(None, parts)))
    if not done.answered + done.same and done.unanswered:
        note(f'{path} has no answer: in the column truth, a label or "(none of the labels)"')
    note(next_step(space, waiting))
    if done.failures:
        raise Conflict(f"{count(len(done.failures), 'answer')} of {path} could not be stored")


@review.command()
@SPACE
@click.pass_obj
def on(session: Session, space: str) -> None:
    """Let 'trustvlm serve' collect what it scores over HTTP.

    'trustvlm score' collects with --review, whether this is on or off.
    Stored are images that are not accepted, and a random share of all, each with its embeddings and
    a small picture. Calls that name a rule, parameters or labels are left out.
    """
    with session.writing() as service:
        status = service.review(space).collect(True)
    say(
        f"collecting from now on, of what 'trustvlm serve' scores: images that are not accepted, "
        f"and {100 * status.share:g} % of all; at most {status.limit:,} wait. For images of the "
        f"command line, add --review: {suggested('score', space, files='IMAGES --review')}"
    )


@review.command()
@SPACE
@flag("--discard", help="Delete the items that wait or were put aside, with their pictures.")
@click.pass_obj
def off(session: Session, space: str, discard: bool) -> None:
    """Collect no further images."""
    with session.writing() as service:
        status = service.review(space).collect(False, discard=discard)
    waiting = sum(tray.open for tray in status.trays)
    say(f"not collecting; {count(waiting, 'item')} wait{'s' * (waiting == 1)}")
