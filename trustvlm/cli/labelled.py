"""Images whose labels are known, from a folder with a sub-folder for each label, or from vectors."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from trustvlm.cli.folders import check_exclude, exclude_option, images_by_label
from trustvlm.cli.progress import progress_bar
from trustvlm.cli.session import exactly_one
from trustvlm.cli.text import report_unreadable, utf8
from trustvlm.errors import InvalidInput

if TYPE_CHECKING:
    from trustvlm.service import TrustService
    from trustvlm.types import Queries

__all__ = ["Labelled", "labelled_images", "labelled_options"]

F = TypeVar("F", bound=Callable[..., Any])


@dataclass(frozen=True, eq=False)
class Labelled:
    """Queries with the true label of each (None: no label of the space) and where each came from."""

    queries: Queries
    truth: list[str | None]
    sources: list[str]


def labelled_options(command: F) -> F:
    """FOLDER, --exclude, --vectors and --no-label, for :func:`labelled_images`."""
    for option in (
        exclude_option,
        click.option(
            "--no-label",
            metavar="NAME",
            type=utf8,
            help="The sub-folder (or name) whose images are of no label of the space: any answer is wrong.",
        ),
        click.option(
            "--vectors",
            metavar="FILE.npz",
            type=click.Path(path_type=Path),
            help="Vectors of your own: classifier and verifier (or classifier_image_vectors and image_vectors), and truth "
            "(names) or label_names with image_labels.",
        ),
        click.argument("folder", required=False, type=click.Path(path_type=Path)),
    ):
        command = option(command)
    return command


def labelled_images(
    service: TrustService,
    space: str,
    folder: Path | None,
    vectors: Path | None,
    no_label: str | None,
    exclude: tuple[str, ...],
) -> Labelled:
    """The images of FOLDER, encoded, or the vectors; images that cannot be read are named and left out."""
    exactly_one(FOLDER=folder, vectors=vectors)
    check_exclude(exclude, folder)
    service.get_space(space)  # before anything is encoded
    found = _vectors(vectors) if vectors is not None else _images(service, space, folder, exclude)
    return Labelled(found.queries, [None if name == no_label else name for name in found.truth], found.sources)


def _vectors(path: Path) -> Labelled:
    from trustvlm.cli.arrays import labelled_vectors

    return Labelled(*labelled_vectors(path))


def _images(service: TrustService, space: str, folder: Path | None, exclude: tuple[str, ...]) -> Labelled:
    assert folder is not None
    label_of = {image: name for name, images in images_by_label(folder, exclude, "measure").items() for image in images}
    with progress_bar(len(label_of), "images") as bar:
        embedded = service.embed(space, list(label_of), progress=bar.advance)
    report_unreadable(embedded.failures)
    if not embedded.sources:
        raise InvalidInput(f"none of the {len(label_of):,} images in {folder} could be read")
    return Labelled(embedded.queries, [label_of[source] for source in embedded.sources], list(embedded.sources))
