"""Giving a space other encoders: its labels and support images are re-embedded."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from trustvlm.cli.printing.formats import as_json
from trustvlm.cli.printing.progress import progress_bar
from trustvlm.cli.printing.safe_text import count, note, quoted, shown, utf8
from trustvlm.cli.reading.bounds import Bounded
from trustvlm.cli.session import Session

if TYPE_CHECKING:
    from trustvlm.service import TrustService
    from trustvlm.types.evaluation import Reembedding

__all__ = ["reembed"]

_NPZ = click.Path(path_type=Path)


@click.command()
@click.argument("space", type=utf8)
@click.option(
    "--classifier", metavar="SPEC", type=utf8, help="The new classifier.  [default: as it is]"
)
@click.option(
    "--verifier", metavar="SPEC", type=utf8, help="The new verifier.  [default: as it is]"
)
@click.option(
    "--template",
    "templates",
    metavar="TEXT",
    multiple=True,
    type=utf8,
    help="A new prompt with {} where the label's name goes; repeat it for several.  "
    "[default: as they are]",
)
@click.option(
    "--logit-scale",
    type=Bounded("logit_scale"),
    metavar="X",
    help="Scale of the softmax.  [default: the new classifier's]",
)
@click.option(
    "--from",
    "folders",
    metavar="DIR",
    multiple=True,
    type=click.Path(path_type=Path),
    help="A folder with the image files, found by content whatever their names; besides the "
    "originals that the home keeps.",
)
@click.option(
    "--text-vectors",
    metavar="FILE.npz",
    type=_NPZ,
    help="Text embeddings of the new classifier: arrays label_names and text_vectors.",
)
@click.option(
    "--vectors",
    metavar="FILE.npz",
    type=_NPZ,
    help="Embeddings of the support images: arrays support_ids (see 'trustvlm support "
    "list'), image_vectors and, for search by "
    "text, classifier_image_vectors.",
)
@click.option(
    "--drop-missing",
    is_flag=True,
    help="Leave support images without original behind, with the old embeddings.",
)
@click.option(
    "--status", "action", flag_value="status", help="Show how far it is and what is missing."
)
@click.option(
    "--finish", "action", flag_value="finish", help="Go on with what was begun, and change over."
)
@click.option(
    "--abort",
    "action",
    flag_value="abort",
    help="Give up what was begun; the space stays as it is.",
)
@click.option(
    "--discard-old",
    "action",
    flag_value="discard-old",
    help="Delete the old embeddings with the next purge.",
)
@click.option("--json", "json_", is_flag=True, help="Print the outcome, or the status, as JSON.")
@click.pass_obj
def reembed(session: Session, /, space: str, action: str | None, json_: bool, **given: Any) -> None:
    """Give a space another classifier, verifier or templates.

    Everything is re-embedded beside the space, which goes on answering and changing meanwhile; then
    the new embeddings take its place in one transaction. Interrupted, it goes on where it was when
    the command is repeated. It does not change over while a support image lacks its original or a
    label its text vector: they are named, and --status lists them.

    Afterwards calibrations are stale, and the old embeddings stay: 'trustvlm space restore' puts
    them back, --discard-old deletes them.
    """
    _check_usage(action, given)
    with session.reading() if action == "status" else session.writing() as service:
        if action in ("abort", "discard-old"):
            _end(service, space, action)
            return
        found = (
            service.reembed_status(space) if action == "status" else _reembed(service, space, given)
        )
    if json_:
        click.echo(as_json(asdict(found)))
    else:
        _say(found, done=action != "status")


def _check_usage(action: str | None, given: dict[str, Any]) -> None:
    """What is asked for must go together. Raises click.UsageError."""
    asked = [
        name
        for name in ("classifier", "verifier", "templates", "logit_scale")
        if given[name] not in (None, ())
    ]
    if action is None and not asked:
        raise click.UsageError(
            "Expected --classifier, --verifier or --template: what is to be new (or --finish, "
            "--status)."
        )
    others = [name for name, value in given.items() if value not in (None, (), False)]
    if action in ("status", "abort", "discard-old") and others:
        raise click.UsageError(f"--{action} goes alone.")
    if action == "finish" and asked:
        raise click.UsageError(
            "--finish goes on with the encoders that were asked for at the beginning; leave "
            "them out."
        )


def _end(service: TrustService, space: str, action: str) -> None:
    if action == "abort":
        service.abort_reembed(space)
        click.echo(f"gave up embedding space {quoted(space)} anew; it stays as it is")
    else:
        service.discard_old(space)
        click.echo(
            f"the old embeddings of space {quoted(space)} are deleted with the next purge "
            f"('trustvlm purge')"
        )


def _reembed(service: TrustService, space: str, given: dict[str, Any]) -> Reembedding:
    from trustvlm.cli.reading.arrays import image_vectors_by_id, text_vectors_by_name

    vectors: dict[str, Any] = (
        {} if given["vectors"] is None else image_vectors_by_id(given["vectors"])
    )
    texts = None if given["text_vectors"] is None else text_vectors_by_name(given["text_vectors"])
    with progress_bar(service.get_space(space).support_count, "images") as bar:
        return service.reembed_space(
            space,
            **{
                name: given[name]
                for name in ("classifier", "verifier", "logit_scale", "drop_missing")
            },
            templates=list(given["templates"]) or None,
            originals_from=given["folders"],
            text_vectors=texts,
            **vectors,
            progress=bar.advance,
        )


def _say(found: Reembedding, *, done: bool) -> None:
    """The outcome or the status, for people."""
    encoders = f"classifier {shown(found.classifier)}, verifier {shown(found.verifier)}"
    what = f"{count(found.labels, 'label')}, {count(found.supports, 'support image')}"
    if done:
        click.echo(f"space {quoted(found.space)} is re-embedded: {what}; {encoders}")
        _notes(found)
        return
    words = {
        "none": f"space {quoted(found.space)} is not being re-embedded; {encoders}",
        "kept": f"space {quoted(found.space)} was re-embedded ({what}); {encoders}; its old "
        f"embeddings are kept",
        "staged": f"space {quoted(found.space)} is being re-embedded: {what} so far; {encoders}",
    }
    click.echo(words[found.state])
    for name in found.missing_labels:
        click.echo(f"no text vector: {quoted(name)}")
    for item in found.missing:
        click.echo(
            f"no original: support image {item.id} of "
            f"{quoted(item.label)}{f' from {shown(item.source)}' * bool(item.source)}"
        )
    if found.behind:
        click.echo("the space was changed since: --finish follows")


def _notes(found: Reembedding) -> None:
    if found.missing:
        note(
            f"left behind, with the old embeddings: "
            f"{count(len(found.missing), 'support image')} without original"
        )
    if found.observations_left:
        note(
            f"left behind: {count(found.observations_left, 'image')} of known label "
            f"(calibration, feedback) without original"
        )
    name = quoted(found.space)
    if found.calibrations:
        note(
            f"{count(found.calibrations, 'calibration')} stale: run 'trustvlm recalibrate "
            f"{name}' or calibrate anew"
        )
    note(
        f"the old embeddings are kept: 'trustvlm space restore {name}' puts them back, "
        f"'trustvlm space reembed {name} --discard-old' deletes them"
    )
