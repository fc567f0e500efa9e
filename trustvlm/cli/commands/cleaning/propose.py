"""Proposing support images from images without labels."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from trustvlm.cli.printing.formats import Column, row_writer, say
from trustvlm.cli.printing.safe_text import note
from trustvlm.cli.printing.suggested import here
from trustvlm.cli.reading.folders import check_exclude, exclude_option, images_in
from trustvlm.cli.reading.images import embedded, image_options
from trustvlm.cli.reading.options import FORMAT, PATHS, SPACE, file, flag, number
from trustvlm.cli.session import Session, exactly_one
from trustvlm.types.messages.counts import count
from trustvlm.types.tables.probability import chance

if TYPE_CHECKING:
    from trustvlm.service import TrustService
    from trustvlm.types import Queries
    from trustvlm.types.support.proposals import Proposals

PROPOSALS = [
    Column("label", "label", "bold"),
    Column("probability", lambda row: chance(row["probability"]), right=True),
    Column("like neighbours", "neighbours", right=True, rank=2),
    Column("support image", "support_id", right=True, rank=1),
    Column("source", "source", narrow="end"),
]


_ALL = 10**9  # rows: images are compared with each other


@click.command()
@SPACE
@PATHS
@file("--vectors", metavar="FILE.npz", help="Embeddings in the arrays classifier and verifier.")
@number("--few", bounds="k", default=4, help="Propose for labels with fewer support images.")
@flag("--accept", help="Make them support images at once.")
@flag("--review", help="Put them into the review queue, for a person to accept each.")
@exclude_option
@image_options
@FORMAT
@click.pass_obj
def propose(
    session: Session,
    space: str,
    paths: tuple[Path, ...],
    vectors: Path | None,
    few: int,
    accept: bool,
    review: bool,
    exclude: tuple[str, ...],
    reading: dict[str, Any],
    form: str,
) -> None:
    """Propose support images for labels that have none or few.

    PATHS are images without labels, and folders of them: the more, the better. A label gets its 4
    to 8 most probable images, if images like them get the same label. Without --accept or --review
    they are listed only. 'trustvlm support remove SPACE --proposed' removes accepted ones together.
    """
    exactly_one(PATHS=paths, vectors=vectors)
    check_exclude(exclude, paths)
    if accept and review:
        raise click.UsageError("Expected --accept or --review, got both.")
    with session.writing() if accept or review else session.reading() as service:
        queries, sources = _given(service, space, paths, vectors, exclude, reading)
        options: dict[str, Any] = {"accept": accept, "review": review, "few": few}
        named = sources if vectors is not None else session.stored_names(sources)
        proposals = service.propose(space, queries, sources=named, **options)
    if proposals.rows or form != "table":
        rows = (asdict(one) | {"source": sources[one.place]} for one in proposals)
        row_writer(form, PROPOSALS).write(rows)
    if form == "table":
        _print(space, proposals, accept, review)


def _given(
    service: TrustService,
    space: str,
    paths: tuple[Path, ...],
    vectors: Path | None,
    exclude: tuple[str, ...],
    reading: dict[str, Any],
) -> tuple[Queries, list[str]]:
    service.get_space(space)
    if vectors is not None:
        from trustvlm.cli.reading.arrays import query_batches

        names, queries = next(query_batches(vectors, _ALL))
        return queries, names
    images = images_in(paths, exclude)
    made = embedded(service, space, ", ".join(map(str, paths)), images, reading)
    return made.queries, list(made.sources)


def _print(space: str, proposals: Proposals, accept: bool, review: bool) -> None:
    out = {"unknown": proposals.unknown, "support images already": proposals.registered}
    out["stored with their label"] = proposals.labelled
    left = ", ".join(f"{number:,} {what}" for what, number in out.items() if number)
    say(
        f"{count(len(proposals), 'image')} proposed for {proposals.served:,} of "
        f"{count(proposals.labels, 'label')} with fewer than {proposals.few} support images, from "
        f"{count(proposals.images, 'image')}{f' (left out: {left})' if left else ''}"
    )
    if proposals.unknown is None:
        note("the unknown test needs support images: images of no label may be among the proposals")
    if accept and proposals.rows:
        note(f"to take all of them back: {here('support remove', space, options='--proposed')}")
    elif review and proposals.rows:
        added = f"{proposals.queued:,} are new in the review queue"
        note(f"{added}; next: {here('review next', space, options='--tray proposal')}")
    elif proposals.rows:
        note("nothing was stored; --review lets a person accept each, --accept takes all")
