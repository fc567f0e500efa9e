"""Listing labelled images that are probably wrong, and moving, removing or keeping them."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING, Any

import click

from trustvlm.cli.printing.formats import Column, row_writer, say
from trustvlm.cli.printing.safe_text import note
from trustvlm.cli.printing.suggested import here
from trustvlm.cli.reading.claims import claimed_option
from trustvlm.cli.reading.labelled import LabelledOptions, labelled_options
from trustvlm.cli.reading.options import FORMAT, ID, SPACE, flag, number, text
from trustvlm.cli.session import Session
from trustvlm.errors import InvalidInput, NotFound
from trustvlm.types.messages.counts import count
from trustvlm.types.tables.probability import percent

if TYPE_CHECKING:
    from trustvlm.service import TrustService
    from trustvlm.types.support.audit import Audit, AuditRow

REGISTERED = [
    Column("id", lambda row: "" if row["id"] is None else str(row["id"]), right=True),
    Column("label", "label"),
    Column("looks like", "looks_like", "bold"),
    Column("label is right", lambda row: percent(row["probability"]), right=True),
    Column("", lambda row: _mark(row), rank=2),
    Column("source", "source", narrow="end", rank=1),
]
GIVEN = [column for column in REGISTERED if column.title != "id"]
ACTS = ("move", "remove", "keep", "doubt")
IDS = click.option(
    "--id",
    "ids",
    metavar="ID",
    multiple=True,
    type=ID,
    help="A support image to change; repeat it for several.",
)


def _mark(row: Any) -> str:
    marks = {"flagged": row["flagged"], "kept": row["kept"], "proposed": row["proposed"]}
    return ", ".join(name for name, holds in marks.items() if holds)


@click.command()
@SPACE
@labelled_options
@claimed_option
@flag("--all", "all_", help="List every judged image, not only the flagged ones.")
@number("--limit", help="List at most this number of images.  [default: all]")
@IDS
@flag("--flagged", help="Change every flagged support image.")
@flag("--move", help="Give them to the label that they look like, or that --to names.")
@text("--to", metavar="LABEL", help="The label that --move gives them to.")
@flag("--remove", help="Remove them; 'trustvlm support restore' undoes it.")
@flag("--keep", help="They are right: flag them no more.")
@flag("--doubt", help="Take --keep back.")
@flag("--yes", help="Do it. Without it, print what would be done.")
@FORMAT
@click.pass_obj
def audit(
    session: Session,
    /,
    space: str,
    labelled: LabelledOptions,
    claimed: str | None,
    all_: bool,
    limit: int | None,
    ids: tuple[int, ...],
    flagged: bool,
    to: str | None,
    yes: bool,
    form: str,
    **acts: bool,
) -> None:
    """Find images whose label is probably wrong.

    Each support image is judged with its own label made without it. One is flagged where its label
    has a probability below 1 in 20; the table says which label it looks like. With FOLDER, a table
    or --vectors, labelled images that are not registered are judged, together with the support
    images. With --claimed, the labels of these images are the claimed ones.
    """
    act = _act(acts, ids, flagged, to, labelled)
    if claimed is not None and labelled.folder is None and labelled.vectors is None:
        raise click.UsageError("--claimed is about images; expected FOLDER or --vectors, too.")
    if act is None:
        with session.reading() as service:
            audit = _audited(service, space, labelled, claimed)
            _print(service, space, audit, form, all_, limit)
            if claimed is not None and audit.unlabelled:
                images = count(audit.unlabelled, "image")
                note(f"{images} not judged: without a claim that is a label of {space}")
        return
    with session.writing() if yes else session.reading() as service:
        rows = _chosen(space, service.audit(space), ids, flagged, act)
        _change(service, space, rows, act, to, yes)


def _act(
    acts: dict[str, bool],
    ids: tuple[int, ...],
    flagged: bool,
    to: str | None,
    labelled: LabelledOptions,
) -> str | None:
    """The act that is wanted, if any. Raises click.UsageError."""
    chosen = [name for name in ACTS if acts[name]]
    names = ", ".join(f"--{name}" for name in ACTS)
    if len(chosen) > 1:
        raise click.UsageError(f"Expected one of {names}; got --{' and --'.join(chosen)}.")
    if to is not None and chosen != ["move"]:
        raise click.UsageError("--to LABEL belongs to --move.")
    if not chosen:
        if ids or flagged:
            raise click.UsageError(f"--id and --flagged need one of {names}.")
        return None
    if labelled.folder is not None or labelled.vectors is not None:
        raise click.UsageError(
            f"--{chosen[0]} changes support images; leave out FOLDER and --vectors."
        )
    if bool(ids) == flagged:
        raise click.UsageError(f"--{chosen[0]} needs --id ID or --flagged, and not both.")
    return chosen[0]


def _audited(
    service: TrustService, space: str, labelled: LabelledOptions, claimed: str | None
) -> Audit:
    if labelled.folder is None and labelled.vectors is None:
        return service.audit(space)
    if claimed is not None:
        images = labelled.read_claimed(service, space, claimed)
        return service.audit(space, images.queries, sources=images.sources)
    images = labelled.read(service, space)
    return service.audit(space, images.queries, images.truth, sources=images.sources)


def _chosen(
    space: str, audit: Audit, ids: tuple[int, ...], flagged: bool, act: str
) -> list[AuditRow]:
    """The support images to change. Raises NotFound, InvalidInput."""
    if flagged:
        marked = "kept" if act == "doubt" else "flagged"
        return [row for row in audit if getattr(row, marked)]
    rows = {row.id: row for row in audit}
    missing = [one for one in dict.fromkeys(ids) if one not in rows]
    if missing:
        raise NotFound(
            f"--id {missing[0]}: no support image of space {space!r} that can be judged; "
            f"'trustvlm audit {space} --all' lists them"
        )
    return [rows[one] for one in dict.fromkeys(ids)]


def _change(
    service: TrustService, space: str, rows: list[AuditRow], act: str, to: str | None, yes: bool
) -> None:
    images = count(len(rows), "support image")
    if not rows:
        say(f"no support image of {space} is {'kept' if act == 'doubt' else 'flagged'}")
        return
    if not yes:
        for row in rows:
            target = f" to {to or row.looks_like}" if act == "move" else ""
            say(f"{row.id}: {act}{target} ({row.label}, {row.source or 'an embedding'})")
        note(f"nothing was changed; add --yes to {act} {images}")
        return
    ids = [row.id for row in rows if row.id is not None]
    if act == "move":
        moved = _moved(service, space, rows, to)
        say(f"moved {images}; there they are {_listed(moved)}")
    elif act == "remove":
        service.remove_support(space, ids)
        say(f"removed {images}")
        restore = here("support restore", space, *ids) if len(ids) <= 20 else ""
        note(f"to undo it: {restore}" if restore else "'trustvlm support restore' undoes it")
    else:
        service.keep_support(space, ids, keep=act == "keep")
        say(f"{images} {'kept' if act == 'keep' else 'no longer kept'}")


def _moved(service: TrustService, space: str, rows: list[AuditRow], to: str | None) -> list[int]:
    by_label: dict[str, list[int]] = {}
    for row in rows:
        if row.id is None:
            raise InvalidInput(f"{row.source}: only support images can be moved")
        by_label.setdefault(row.looks_like if to is None else to, []).append(row.id)
    made: list[int] = []
    for label, ids in by_label.items():
        made += service.move_support(space, ids, label).ids
    return made


def _listed(ids: list[int]) -> str:
    shown = ", ".join(map(str, ids[:20]))
    return shown + (f" and {len(ids) - 20} more" if ids[20:] else "")


def _print(
    service: TrustService, space: str, audit: Audit, form: str, all_: bool, limit: int | None
) -> None:
    rows = [row for row in audit if all_ or row.flagged][:limit]
    registered = any(row.id is not None for row in rows)
    if form == "table":
        say(_summary(audit))
    if rows or form != "table":
        row_writer(form, REGISTERED if registered else GIVEN).write(map(asdict, rows))
    if form != "table":
        return
    if audit.alone:
        note(f"{count(audit.alone, 'image')} not judged: their label has no other image")
    if audit.without_text:
        why = _without_text(service.get_space(space).classifier)
        note(f"{count(audit.without_text, 'image')} judged without text: {why}")
    if audit.flagged and rows and rows[0].place is None:
        wrong = audit.precision is not None and audit.precision >= 0.5
        first, others = ("move", "--remove, --keep") if wrong else ("keep", "--move, --remove")
        note(f"next: {here('audit', space, options=f'--{first} --flagged')} (or {others})")


def _without_text(classifier: str) -> str:
    """Why the classifier took no part, and what makes it do so."""
    from trustvlm.encoders.specs.parse import parse_spec

    spec = parse_spec(classifier)
    if spec.is_external:
        return "the classifier is external, and embeds no images"
    files = "register the image files, or " if spec.encodes_texts else ""
    return f"their classifier embedding is not stored; {files}pass classifier_image_vectors"


def _summary(audit: Audit) -> str:
    reasons = {
        "none": "nothing to judge: fewer than two labels have images",
        "one image": "nothing to judge: no label has a second image to compare with",
        "off": "nothing to judge: the images do not tell the labels apart",
    }
    if audit.evidence in reasons:
        return f"{count(audit.images, 'image')}; {reasons[audit.evidence]}"
    parts = [
        f"{audit.flagged:,} of {count(audit.judged, 'image')} flagged",
        f"{percent(audit.precision)} of these have a wrong label (estimated)"
        if audit.precision is not None
        else "",
        f"{audit.kept:,} more kept by a person" if audit.kept else "",
    ]
    return ", ".join(filter(None, parts))
