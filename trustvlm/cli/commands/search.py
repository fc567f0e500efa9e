"""Searching for the nearest support images, prototypes or text prototypes."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from trustvlm.cli.printing.formats import Column, format_option, row_writer
from trustvlm.cli.printing.safe_text import note, utf8
from trustvlm.cli.printing.wording import in_options
from trustvlm.cli.reading.bounds import Bounded
from trustvlm.cli.reading.images import image_options, note_images
from trustvlm.cli.session import Session, exactly_one
from trustvlm.errors import InvalidInput, NotFound

if TYPE_CHECKING:
    from trustvlm.service import TrustService
    from trustvlm.types import Queries

__all__ = ["search"]

COLUMNS = [
    Column("query", lambda row: str(row["query"]), right=True),
    Column("rank", lambda row: str(row["rank"]), right=True),
    Column("similarity", lambda row: f"{row['similarity']:.4f}", right=True),
    Column("label", lambda row: row["label"], lambda row: "bold"),
    Column("id", lambda row: str(row["id"]), right=True, rank=1),
    Column("source", lambda row: row["source"] or "", narrow="end"),
]


@click.command()
@click.argument("space", type=utf8)
@click.option(
    "--image", metavar="FILE", type=click.Path(path_type=Path), help="Search with an image."
)
@click.option(
    "--text",
    metavar="TEXT",
    type=utf8,
    help="Search with a text, as it stands: no template is put around it.",
)
@click.option(
    "--vector",
    metavar="FILE",
    type=click.Path(path_type=Path),
    help="Search with vectors: .npy, or .npz with an array --side.",
)
@click.option(
    "--side",
    type=click.Choice(["classifier", "verifier"]),
    default="verifier",
    show_default=True,
    help="Which encoder --vector comes from.",
)
@click.option(
    "--kind",
    type=click.Choice(["support", "prototype", "text"]),
    help="What to search: support images, prototypes (one a label, from its support images) "
    "or text prototypes.  "
    "[default: support; text for --text and for --vector --side classifier]",
)
@click.option("-k", type=Bounded("hits"), default=10, show_default=True, help="How many.")
@image_options
@format_option
@click.pass_obj
def search(
    session: Session,
    space: str,
    image: Path | None,
    text: str | None,
    vector: Path | None,
    side: str,
    kind: str | None,
    k: int,
    reading: dict[str, Any],
    form: str,
) -> None:
    """Find what is nearest to an image, text or vector.

    Support images and prototypes are compared with verifier embeddings, text prototypes with
    classifier embeddings. A text finds support images (--kind support) where their classifier
    embeddings are stored, as they are for image files.
    """
    query = exactly_one(image=image, text=text, vector=vector)
    by_classifier = query == "text" or (query == "vector" and side == "classifier")
    with session.reading() as service:
        queries = _queries(service, space, image, text, vector, side, reading)
        hits = service.search(
            space, queries, kind=kind or ("text" if by_classifier else "support"), k=k
        )
    row_writer(form, COLUMNS if len(hits) != 1 else COLUMNS[1:]).write(hits.rows())
    if hits.recall is not None:
        note(
            f"approximate: the index finds {100 * hits.recall:.0f} % of the nearest (see "
            f"'trustvlm index stats {space}')"
        )
    if not (hits.ids >= 0).any():
        note("nothing found: there is nothing of this kind in the space yet")


def _queries(
    service: TrustService,
    space: str,
    image: Path | None,
    text: str | None,
    vector: Path | None,
    side: str,
    reading: dict[str, Any],
) -> Queries:
    """Raises NotFound (no such file) or InvalidInput (it cannot be read)."""
    from trustvlm.cli.reading.npz import read_query_vectors
    from trustvlm.types import Queries

    if vector is not None:
        vectors = read_query_vectors(vector, side)
        return Queries(classifier=vectors) if side == "classifier" else Queries(verifier=vectors)
    if text is not None:
        return Queries(text=[text])
    assert image is not None
    if not os.path.lexists(image):
        raise NotFound(f"no file {image}")
    embedded = service.embed(space, [image], **reading)
    for source, reason in embedded.failures:
        raise InvalidInput(f"{source}: {in_options(reason)}")
    note_images(embedded.notes)
    return embedded.queries
