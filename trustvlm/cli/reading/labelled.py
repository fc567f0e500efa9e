"""Images with their labels: a folder with a sub-folder for each label, a table, tar shards, or
vectors."""

from __future__ import annotations

import sys
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from trustvlm.cli.printing.progress import progress_bar
from trustvlm.cli.printing.safe_text import quoted, utf8
from trustvlm.cli.reading.beside import Beside, probabilities_given, probabilities_option
from trustvlm.cli.reading.claims import ByPlace, claimed_images, claims_given, labelled_claims
from trustvlm.cli.reading.folders import (
    check_exclude,
    check_naming,
    exclude_option,
    finding,
    images_by_label,
    naming_options,
)
from trustvlm.cli.reading.gathered import gathered
from trustvlm.cli.reading.hold_out import note_held_out
from trustvlm.cli.reading.images import embedded, image_options
from trustvlm.cli.reading.options import FILE
from trustvlm.cli.reading.sets import all_sets, given_images, named_sets
from trustvlm.cli.session import exactly_one
from trustvlm.errors import InvalidInput, NotFound
from trustvlm.reading.naming import Naming, clean_name, is_wnid

if TYPE_CHECKING:
    from trustvlm.reading.hold_out import HoldOut
    from trustvlm.service import TrustService
    from trustvlm.types import Queries
    from trustvlm.types.registration import UnreadImage

F = TypeVar("F", bound=Callable[..., Any])


@dataclass(frozen=True, eq=False)
class Labelled:
    """Queries with the true label of each (None: no label of the space) and where each came from;
    and the images that could not be read."""

    queries: Queries
    truth: list[str | None]
    sources: list[str]
    failures: Sequence[tuple[str, str]] = ()

    def unread(self) -> tuple[UnreadImage, ...]:
        """The images that could not be read."""
        from trustvlm.types.registration import UnreadImage

        return tuple(UnreadImage(*failure) for failure in self.failures)


@dataclass(frozen=True)
class LabelledOptions:
    """The options that name labelled images, as they were given."""

    folder: Path | None
    vectors: Path | None
    no_label: tuple[str, ...]
    naming: Naming
    exclude: tuple[str, ...]
    reading: dict[str, Any]
    probabilities: Path | None

    def read(
        self,
        service: TrustService,
        space: str,
        split: HoldOut | None = None,
        claimed: str | None = None,
    ) -> Labelled:
        """The images of FOLDER, encoded, or the vectors, all or the held-out ones of `split`, with
        the claims of --claimed; images that cannot be read are named and left out.

        Raises:
            NotFound: a sub-folder or a name that is no label of the space, said before anything is
                encoded.
        """
        exactly_one(FOLDER=self.folder, vectors=self.vectors)
        check_exclude(self.exclude, self.folder)
        check_naming(self.naming, self.folder)
        beside = Beside(
            labelled_claims(claimed, self.folder, self.vectors),
            probabilities_given(self.probabilities, self.vectors),
        )
        service.get_space(space)  # before looking through a large folder
        if self.folder is None:
            from trustvlm.cli.reading.arrays import labelled_vectors

            assert self.vectors is not None
            images = _with(Labelled(*labelled_vectors(self.vectors)), beside)
            check_names(service, space, images.truth, self.no_label)
            images = images if split is None else _held_out(images, split)
        else:
            by_label = self._by_label(self.folder)
            _check_naming(service, space, [name for name in by_label if name not in self.no_label])
            check_names(service, space, by_label, self.no_label)
            by_label = by_label if split is None else _held_out_files(by_label, split)
            images = encoded(service, space, self.folder, by_label, self.reading)
            images = _with(images, beside)
        truth = [None if name in self.no_label else name for name in images.truth]
        return replace(images, truth=truth)

    def read_claimed(self, service: TrustService, space: str, claimed: str) -> Labelled:
        """The images of FOLDER, encoded, or the vectors, with the claims of --claimed in place of
        true labels, which are None.

        Raises:
            NotFound, InvalidInput: no such file or column, or no claims of these images.
        """
        exactly_one(FOLDER=self.folder, vectors=self.vectors)
        check_exclude(self.exclude, self.folder)
        if self.no_label or self.naming != Naming():
            raise click.UsageError(
                "--no-label, --names and --clean-names are about the labels of folders; with "
                "--claimed, leave them out."
            )
        paths = [] if self.folder is None else [self.folder]
        claims = claims_given(claimed, paths, self.vectors)
        beside = Beside(claims, probabilities_given(self.probabilities, self.vectors))
        service.get_space(space)
        if self.folder is None:
            from trustvlm.cli.reading.arrays import query_batches

            assert self.vectors is not None
            sources, queries = next(query_batches(self.vectors, sys.maxsize))
            return _with(Labelled(queries, [None] * len(sources), sources), beside)
        with finding(self.exclude) as finder:
            if isinstance(claims, ByPlace) and claims.in_column:
                images = list(claimed_images(claims, paths))
            else:
                images = list(given_images(finder, paths)[0])
        made = embedded(service, space, self.folder, images, self.reading)
        queries = beside.added(made.queries, made.sources, made.places)
        beside.end(len(images))
        truth: list[str | None] = [None] * len(made.sources)
        return Labelled(queries, truth, list(made.sources), made.failures)

    def _by_label(self, folder: Path) -> dict[str, list[Any]]:
        """Label → its images, of a folder, a table or tar shards."""
        if all_sets([folder]):
            with finding(self.exclude):
                named = named_sets([folder], self.naming, self.no_label)
        else:
            named = images_by_label(folder, self.exclude, "measure", self.naming, self.no_label)
        return {label.name: images for label, images in named.items()}


def _with(images: Labelled, beside: Beside) -> Labelled:
    """The images with what is said of them. Raises InvalidInput: it is about other images."""
    places = range(len(images.sources))
    queries = beside.added(images.queries, images.sources, places)
    beside.end(len(places))
    return replace(images, queries=queries)


labelled_options = gathered(
    "labelled",
    LabelledOptions,
    click.argument("folder", required=False, type=FILE),
    click.option(
        "--vectors",
        metavar="FILE.npz",
        type=FILE,
        help="Embeddings in the arrays classifier and verifier (or classifier_image_vectors and "
        "image_vectors), with labels in truth (names) or in label_names and image_labels; of an "
        "external classifier probabilities and outputs (label names).",
    ),
    click.option(
        "--no-label",
        metavar="NAME",
        type=utf8,
        multiple=True,
        help="A sub-folder (or name) whose images are of no label of the space, so that any answer "
        "is wrong; repeat it for several.",
    ),
    probabilities_option,
    exclude_option,
    naming_options,
    image_options,
)
"""FOLDER or --vectors, and what says how their images are read and called."""


def _check_naming(service: TrustService, space: str, names: Sequence[str]) -> None:
    """Raises NotFound where names of folders are no labels, but their clean names are, or where
    they are WordNet ids."""
    missing = list(service.unknown_labels(space, names))
    if not missing:
        return
    problem = f"no label {missing[0]!r} in space {space!r}"
    clean = clean_name(missing[0])
    if clean != missing[0] and not service.unknown_labels(space, map(clean_name, missing)):
        raise NotFound(f"{problem}; --clean-names turns it into {clean!r}, which is a label")
    if all(map(is_wnid, missing)):
        raise NotFound(f"{problem}; the folder names are WordNet ids; --names FILE translates them")


def check_names(
    service: TrustService, space: str, truth: Collection[str | None], no_label: Collection[str]
) -> None:
    """Make sure that each name is a label, or one that --no-label excepts.

    Raises:
        NotFound: one is not. InvalidInput: --no-label names nothing that is there.
    """
    for name in no_label:
        if name not in truth:
            from trustvlm.types.messages.meant import likest

            meant = likest(name, sorted(other for other in set(truth) if other is not None))
            hint = "" if meant is None else f"; did you mean {quoted(meant)}?"
            raise InvalidInput(f"--no-label {quoted(name)}: no images have this name{hint}")
    missing = service.unknown_labels(space, (name for name in truth if name not in no_label))
    if missing:
        from trustvlm.catalog.rows.likeness import not_found_text

        first = quoted(next(iter(missing)))
        remedy = (
            f"'trustvlm register' adds it; --no-label {first} counts its images as images "
            f"of no label"
        )
        raise NotFound(not_found_text(missing, space, remedy))


def _held_out(images: Labelled, split: HoldOut) -> Labelled:
    part = split.measured(images.queries, images.truth, images.sources)
    if part.sources is None or part.places is None:
        return images
    note_held_out(split, len(part.truth), len(images.truth), "only they are used")
    return Labelled(part.queries, list(part.truth), [source or "" for source in part.sources])


def _held_out_files(by_label: dict[str, list[str]], split: HoldOut) -> dict[str, list[str]]:
    from trustvlm.reading.hold_out import none_held_out

    total = sum(map(len, by_label.values()))
    with progress_bar(total, "files") as bar:
        _, held_out = split.split(by_label, bar.advance)
    number = sum(map(len, held_out.values()))
    if not number:
        raise none_held_out(total)
    note_held_out(split, number, total, "only they are used")
    return held_out


def encoded(
    service: TrustService,
    space: str,
    folder: Path | str,
    by_label: Mapping[str, Sequence[Any]],
    reading: dict[str, Any],
) -> Labelled:
    """The images of each label in `folder`, encoded; those that cannot be read are named and left
    out. Raises InvalidInput: none can."""
    names = [name for name, images in by_label.items() for _ in images]
    images = [image for images in by_label.values() for image in images]
    made = embedded(service, space, folder, images, reading)
    truth: list[str | None] = [names[place] for place in made.places]
    return Labelled(made.queries, truth, list(made.sources), made.failures)
