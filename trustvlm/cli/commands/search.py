"""What is near to what: searching for the nearest support images or prototypes, and a map."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from trustvlm.cli.printing.formats import Column, row_writer
from trustvlm.cli.printing.safe_text import note
from trustvlm.cli.printing.wording import in_options
from trustvlm.cli.reading.attributes import shown_attributes
from trustvlm.cli.reading.images import image_options, note_images
from trustvlm.cli.reading.options import (
    FORMAT,
    ID,
    SPACE,
    VECTORS,
    Bounded,
    Choice,
    file,
    number,
    text,
    where,
)
from trustvlm.cli.session import Session, exactly_one
from trustvlm.errors import InvalidInput, NotFound
from trustvlm.reading.images import refuse_arrays
from trustvlm.types.messages.commands import suggested
from trustvlm.types.messages.counts import count
from trustvlm.types.tables.probability import percent

if TYPE_CHECKING:
    from trustvlm.service import TrustService
    from trustvlm.types import Hits, Queries

HITS = [
    Column("query", "query", right=True),
    Column("rank", "rank", right=True),
    Column("similarity", "similarity", right=True, form=".4f"),
    Column("label", "label", "bold"),
    Column("id", "id", right=True, rank=1),
    Column("source", "source", narrow="end"),
    Column("attributes", shown_attributes, rank=2, narrow="words", optional=True),
]
POINTS = [
    Column("kind", "kind"),
    Column("id", "id", right=True, rank=1),
    Column("label", "label", "bold"),
    Column("true label", "truth"),
    Column("x", "x", right=True, form=".3f"),
    Column("y", "y", right=True, form=".3f"),
    Column("wrong", lambda row: "wrong" if row["error"] else "", "red"),
    Column("source", "source", narrow="end"),
]


@click.command()
@SPACE
@file("--image", metavar="FILE", help="Search with an image.")
@text("--text", metavar="TEXT", help="Search with a text, unchanged: no template is applied.")
@file("--vector", metavar="FILE", help="Search with vectors: .npy, or .npz with an array --side.")
@click.option(
    "--like-support",
    "like_supports",
    metavar="ID",
    type=ID,
    multiple=True,
    help="Search with a stored support image; repeat it for several queries.",
)
@text(
    "--like-label",
    "like_labels",
    metavar="NAME",
    multiple=True,
    help="Search with the prototype of a label; repeat it for several queries.",
)
@click.option(
    "--side",
    type=Choice(["classifier", "verifier"]),
    default="verifier",
    help="Which encoder --vector comes from.",
)
@click.option(
    "--kind",
    type=Choice(["support", "prototype", "text"]),
    help="What to search: support images, prototypes (one a label, from its support images) "
    "or text prototypes.  [default: support; text for --text and for --vector --side classifier]",
)
@number("-k", bounds="hits", default=10, help="How many.")
@number("--min-similarity", help="Of these only those at least this similar: -1 to 1.")
@where()
@VECTORS
@image_options
@FORMAT
@click.pass_obj
def search(
    session: Session,
    /,
    space: str,
    side: str,
    kind: str | None,
    where: str | None,
    reading: dict[str, Any],
    form: str,
    k: int,
    min_similarity: float | None,
    vectors: bool,
    **given: Any,
) -> None:
    """Find what is nearest to an image, a text, a vector or a stored row.

    Support images and prototypes are compared with verifier embeddings, text prototypes with
    classifier embeddings. A text finds support images (--kind support) where their classifier
    embeddings are stored, as they are for image files.
    """
    options = {_OPTIONS.get(name, name): value for name, value in given.items()}
    query = exactly_one(**options)
    by_classifier = query == "text" or (query == "vector" and side == "classifier")
    kind = kind or ("text" if by_classifier else "support")
    with session.reading() as service:
        queries = _queries(service, space, query, options[query], side, reading)
        hits = service.search(
            space, queries, kind=kind, k=k, filter=where, min_similarity=min_similarity,
            vectors=vectors,
        )  # fmt: skip
    row_writer(form, HITS if len(hits) != 1 else HITS[1:]).write(hits.rows())
    _report(space, hits, where is not None or min_similarity is not None)


def _report(space: str, hits: Hits, chosen: bool) -> None:
    if hits.recall is not None:
        share = f"approximate: the index finds {percent(hits.recall, 0)} of the nearest"
        note(f"{share} (see {suggested('index stats', space)})")
    if not (hits.ids >= 0).any():
        fits = " that fits" if chosen else ""
        note(f"no hit: the space has nothing of this kind{fits} yet")


_OPTIONS = {"like_supports": "like-support", "like_labels": "like-label"}


def _queries(
    service: TrustService, space: str, option: str, value: Any, side: str, reading: dict[str, Any]
) -> Queries:
    """The queries of the one option that says what to search with."""
    from trustvlm.cli.reading.npz import read_query_vectors
    from trustvlm.types import Queries

    if option == "image":
        return _embedded(service, space, value, reading)
    argument: dict[str, Any] = {option.replace("-", "_") + "s": value}
    if option == "vector":
        argument = {side: read_query_vectors(value, side)}
    elif option == "text":
        argument = {"text": [value]}
    return Queries(**argument)


def _embedded(service: TrustService, space: str, image: Path, reading: dict[str, Any]) -> Queries:
    """Raises NotFound (no such file) or InvalidInput (it cannot be read)."""
    if not os.path.lexists(image):
        raise NotFound(f"no file {image}")
    refuse_arrays(image)
    embedded = service.embed(space, [image], **reading)
    for source, reason in embedded.failures:
        raise InvalidInput(f"{source}: {in_options(reason)}")
    note_images(embedded.notes)
    return embedded.queries


@click.command("map")
@SPACE
@click.option(
    "--limit",
    type=Bounded("points"),
    default=2_000,
    help="How many points; 2,000 take about 3 seconds, 10,000 about 20.",
)
@FORMAT
@click.pass_obj
def map_(session: Session, space: str, limit: int, form: str) -> None:
    """Place SPACE's images in two dimensions.

    Similar images lie near to each other (t-SNE of the verifier embeddings). Listed are support
    images, and images with a known label that are stored: those of the last calibration, and
    feedback drawn at random; with whether the label that they get is wrong. x and y lie between -1
    and 1. With --format csv, a plotting program reads the list.
    """
    with session.reading() as service:
        made = service.project(space, limit=limit)
    row_writer(form, POINTS).write(point.to_dict() for point in made.points)
    wrong = sum(point.error is True for point in made.points)
    shown = f"{len(made):,} of {count(made.support_images + made.observations, 'image')}"
    note(f"{shown}, by {made.method}; {wrong:,} with a wrong label")
