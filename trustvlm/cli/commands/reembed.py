"""Giving a space other encoders: its labels and support images are re-embedded."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, TypeVar

import click

from trustvlm.cli.printing.formats import as_json, say
from trustvlm.cli.printing.progress import progress_bar
from trustvlm.cli.printing.safe_text import note, quoted, shown, warn
from trustvlm.cli.reading.options import SPACE, file, flag, json_flag, number, text
from trustvlm.cli.session import Session, pass_local
from trustvlm.types.messages.commands import suggested
from trustvlm.types.messages.counts import count

if TYPE_CHECKING:
    from trustvlm.service import TrustService
    from trustvlm.types.backups import Reembedding

F = TypeVar("F", bound=Callable[..., Any])


def _action(name: str, help: str) -> Callable[[F], F]:
    return click.option(f"--{name}", "action", flag_value=name, help=help)


@click.command()
@SPACE
@text("--classifier", metavar="SPEC", help="The new classifier.  [default: as it is]")
@text("--verifier", metavar="SPEC", help="The new verifier.  [default: as it is]")
@text(
    "--template",
    "templates",
    metavar="TEXT",
    multiple=True,
    help="A new prompt with {} where the label's name goes; repeat it for several.  "
    "[default: as they are]",
)
@number("--logit-scale", metavar="X", help="Scale of the softmax.  [default: the new classifier's]")
@file(
    "--from",
    "folders",
    metavar="DIR",
    multiple=True,
    help="A folder with the image files, found by content, not by name; besides the "
    "originals that the home keeps.",
)
@file(
    "--text-vectors",
    metavar="FILE.npz",
    help="Text embeddings of the new classifier: arrays label_names and text_vectors.",
)
@file(
    "--vectors",
    metavar="FILE.npz",
    help="Embeddings of the support images: arrays support_ids (see 'trustvlm support "
    "list'), image_vectors and, for search by text, classifier_image_vectors.",
)
@flag(
    "--drop-missing", help="Leave support images without original behind, with the old embeddings."
)
@_action("status", help="Show how far it is and what is missing.")
@_action("finish", help="Continue the started re-embedding and switch to it.")
@_action("abort", help="Discard the started re-embedding; the space stays as it is.")
@_action("discard-old", help="Delete the old embeddings with the next purge.")
@json_flag(help="Print the outcome, or the status, as JSON.")
@pass_local
def reembed(session: Session, /, space: str, action: str | None, json_: bool, **given: Any) -> None:
    """Re-embed a space with another classifier, verifier or templates.

    Everything is re-embedded beside the space, which goes on answering and changing meanwhile; then
    the new embeddings take its place in one transaction. Interrupted, it goes on where it was when
    the command is repeated. It does not change over while a support image lacks its original or a
    label its text vector: they are named, and --status lists them.

    Afterwards calibrations are stale, and the old embeddings stay: 'trustvlm space restore' puts
    them back, --discard-old deletes them.
    """
    _check_usage(action, given)
    with session.reading() if action == "status" else session.writing() as service:
        if action == "abort":
            service.abort_reembed(space)
            click.echo(f"aborted the re-embedding of space {quoted(space)}; it stays as it is")
        elif action == "discard-old":
            service.discard_old(space)
            old = f"the old embeddings of space {quoted(space)}"
            say(f"{old} are deleted with the next purge ('trustvlm purge')")
        elif action == "status":
            status = service.reembed_status(space)
            click.echo(as_json(status.to_dict())) if json_ else _print_status(status)
        else:
            done = _reembed(service, space, given)
            click.echo(as_json(done.to_dict())) if json_ else _print_done(done)


def _check_usage(action: str | None, given: dict[str, Any]) -> None:
    """What is asked for must go together. Raises click.UsageError."""
    present = [name for name, value in given.items() if value not in (None, (), False)]
    encoders = {"classifier", "verifier", "templates", "logit_scale"} & set(present)
    if action is None and not encoders:
        raise click.UsageError(
            "Expected --classifier, --verifier or --template with the new value, or one of "
            "--status, --finish, --abort and --discard-old."
        )
    if action in ("status", "abort", "discard-old") and present:
        raise click.UsageError(f"--{action} goes alone.")
    if action == "finish" and encoders:
        raise click.UsageError(
            "--finish goes on with the encoders that were asked for at the beginning; leave "
            "them out."
        )


def _reembed(service: TrustService, space: str, given: dict[str, Any]) -> Reembedding:
    from trustvlm.cli.reading.arrays import image_vectors_by_id, text_vectors_by_name

    vectors, texts = given.pop("vectors"), given.pop("text_vectors")
    given["templates"] = list(given["templates"]) or None
    given["originals_from"] = given.pop("folders")
    given["text_vectors"] = None if texts is None else text_vectors_by_name(texts)
    given |= {} if vectors is None else image_vectors_by_id(vectors)
    with progress_bar(service.get_space(space).support_count, "images") as bar:
        return service.reembed_space(space, progress=bar.advance, **given)


def _encoders(state: Reembedding) -> str:
    return f"classifier {shown(state.classifier)}, verifier {shown(state.verifier)}"


def _contents(state: Reembedding) -> str:
    return f"{count(state.labels, 'label')}, {count(state.supports, 'support image')}"


def _print_status(status: Reembedding) -> None:
    what, encoders = _contents(status), _encoders(status)
    states = {
        "none": f"is not being re-embedded; {encoders}",
        "kept": f"was re-embedded ({what}); {encoders}; its old embeddings are kept",
        "staged": f"is being re-embedded: {what} so far; {encoders}",
    }
    click.echo(f"space {quoted(status.space)} {states[status.state]}")
    for name in status.missing_labels:
        click.echo(f"no text vector: {quoted(name)}")
    for item in status.missing:
        source = f" from {shown(item.source)}" if item.source else ""
        click.echo(f"no original: support image {item.id} of {quoted(item.label)}{source}")
    if status.behind:
        click.echo("the space was changed since: --finish follows")


def _print_done(done: Reembedding) -> None:
    name = quoted(done.space)
    click.echo(f"space {name} is re-embedded: {_contents(done)}; {_encoders(done)}")
    if done.missing:
        images = count(len(done.missing), "support image")
        warn(f"left behind, with the old embeddings: {images} without original")
    if done.observations_left:
        images = count(done.observations_left, "image")
        warn(f"left behind: {images} of known label (calibration, feedback) without original")
    if done.calibrations:
        stale = f"{count(done.calibrations, 'calibration')} stale"
        recalibrate = suggested("recalibrate", done.space)
        note(f"{stale}: run {recalibrate} or calibrate with new images")
    restore = f"{suggested('space restore', done.space)} puts them back"
    discard = suggested("space reembed", done.space, options="--discard-old")
    note(f"the old embeddings are kept: {restore}, {discard} deletes them")
