"""What `trustvlm start` works with: labels and their support images, and held-out images, from a
folder, a table, shards, or a file of vectors."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import click

from trustvlm.cli.commands.register import listed_names
from trustvlm.cli.printing.progress import progress_bar
from trustvlm.cli.printing.safe_text import note, quoted
from trustvlm.cli.reading.folders import finding, images_by_label
from trustvlm.cli.reading.sets import all_sets, labelled_set, named_sets
from trustvlm.errors import InvalidInput, NotFound
from trustvlm.reading.images import is_folder
from trustvlm.reading.labelled import DataSet, data_set
from trustvlm.reading.naming import LabelName, Naming
from trustvlm.reading.sets.rows import label_of_images
from trustvlm.types.messages.commands import word

if TYPE_CHECKING:
    from collections.abc import Generator

    from trustvlm.cli.reading.labelled import Labelled
    from trustvlm.reading.hold_out import HoldOut
    from trustvlm.types import LabelInput

VECTORS = (".npz", ".parquet", ".ndjson", ".jsonl")
_LISTS = (".txt", ".csv", ".tsv", ".json")


@dataclass(frozen=True, eq=False)
class Material:
    """What a source holds.

    Attributes:
        inputs: labels with their support images.
        held_out: held-out images of each label. vectors: held-out images as vectors.
        unlabelled: images without a known label.
        encoders: (classifier, verifier) specs that vectors come from; None: images.
        measured_with: the arguments with which 'trustvlm evaluate SPACE' measures on the same
            images; None: it cannot read them.
        given: number of labelled images from which the held-out ones are chosen.
        parts: the parts of the source that are there to measure on; where there are any, it is not
            split.
    """

    inputs: list[LabelInput]
    held_out: Mapping[str, list[Any]] = field(default_factory=dict)
    vectors: Labelled | None = None
    unlabelled: list[Any] = field(default_factory=list)
    encoders: tuple[str, str] | None = None
    measured_with: str | None = None
    given: int = 0
    parts: tuple[Path, ...] = ()

    @property
    def held_out_inputs(self) -> list[LabelInput]:
        """The held-out images as if they were to be registered."""
        import numpy as np

        from trustvlm.types import LabelInput

        if self.vectors is None:
            return [LabelInput(name, images=files) for name, files in self.held_out.items()]
        queries = self.vectors.queries
        rows = np.asarray(queries.classifier if queries.verifier is None else queries.verifier)
        truth = np.array(self.vectors.truth, dtype=object)
        return [
            LabelInput(name, image_vectors=rows[truth == name])
            for name in dict.fromkeys(self.vectors.truth)
            if name is not None
        ]


@dataclass(frozen=True)
class Source:
    """Where labels and images come from: the arguments that say so."""

    path: Path
    names: str | None
    clean_names: bool
    exclude: tuple[str, ...]
    split: HoldOut
    split_typed: bool

    def read(self) -> Material:
        """The labels and images of a folder, a table or shards, or the vectors of a file.

        Raises:
            NotFound, InvalidInput, click.UsageError: nothing of the kind, or options that do not go
                together.
        """
        if is_folder(self.path):
            return self._of_folder()
        if self.exclude:
            raise click.UsageError("--exclude is for a folder of images.")
        if _holds_vectors(self.path):
            if self.names is not None or self.clean_names:
                raise click.UsageError("--names and --clean-names are for images.")
            return _of_vectors(self.path, self.split)
        if all_sets([self.path]):
            return self._of_set()
        raise InvalidInput(
            f"{self.path}: expected a folder of images, a table of images with their labels (.csv, "
            f".tsv, .parquet), tar shards, or a file of vectors ({', '.join(VECTORS)})"
        )

    def _of_set(self) -> Material:
        names, images = _names(self.names), labelled_set(self.path)
        if images.unlabelled is not None:
            return Material(self._text_only(names), unlabelled=list(images.images()))
        if isinstance(names, list):
            raise click.UsageError(
                f"--names: {self.path} has labels; expected a file that maps them to other names."
            )
        naming = Naming(names, self.clean_names)
        return self._split(named_sets([self.path], naming), naming, self.path)

    def _of_folder(self) -> Material:
        names, held = _names(self.names), data_set(self.path, self.exclude)
        listed = names if isinstance(names, list) else None
        if not held.labels or (listed is not None and not set(listed) & set(held.labels)):
            return self._unlabelled(names, held)
        if listed is not None and (others := [one for one in held.labels if one not in listed]):
            raise click.UsageError(
                f"--names: the sub-folder {quoted(others[0])} is not among them; name it, too, or "
                f"leave out --names."
            )
        if held.measure and self.split_typed:
            measure, learn = (", ".join(map(str, paths)) for paths in (held.measure, held.learn))
            raise click.UsageError(
                f"--hold-out, --seed: {measure} is there to measure on; leave them out, or start "
                f"with {learn}."
            )
        for path in held.unused:
            note(f"left out: {path}, which has no sub-folder of images for each label")
        naming = Naming(names if isinstance(names, Path) else None, self.clean_names)
        return self._labelled(held, naming, listed or [])

    def _labelled(self, held: DataSet, naming: Naming, listed: Sequence[str]) -> Material:
        learn = self._images(held.learn, naming)
        if not held.measure:
            return self._split(learn, naming, held.learn[0], listed)
        measure = self._images(held.measure, naming)
        held_out = {label.name: images for label, images in measure.items()}
        support = {label.name for label in learn}
        if bare := [name for name in held_out if name not in support]:
            some = ", ".join(map(quoted, bare[:3])) + (", …" if bare[3:] else "")
            note(f"no images to learn from, so no support images: {some}")
        return Material(
            self._inputs(learn, (*held_out, *listed)),
            held_out,
            measured_with=word(str(held.measure[0])) + self._reading(naming),
            given=sum(map(len, held_out.values())),
            parts=held.measure,
        )

    def _split(
        self,
        images: Mapping[LabelName, list[Any]],
        naming: Naming,
        source: Path,
        listed: Sequence[str] = (),
    ) -> Material:
        """The images of each label, divided; `listed`: further labels."""
        given = sum(map(len, images.values()))
        with progress_bar(given, "files") as bar:
            by_name = {label.name: some for label, some in images.items()}
            support, held_out = self.split.split(by_name, bar.advance)
        kept = {label: support[label.name] for label in images}
        share = f" --hold-out {self.split.share:g}"
        seed = f" --seed {self.split.seed}" if self.split.seed else ""
        return Material(
            self._inputs(kept, listed),
            {name: some for name, some in held_out.items() if some},
            measured_with=word(str(source)) + share + seed + self._reading(naming),
            given=given,
        )

    def _inputs(
        self, images: Mapping[LabelName, list[Any]], others: Iterable[str]
    ) -> list[LabelInput]:
        """Labels with their support images, and `others` without. Raises InvalidInput: a name that
        no label may have."""
        from trustvlm.service.home.names import check_name
        from trustvlm.types import LabelInput

        labels = {label.name: label for label in images}
        for name in (every := dict.fromkeys((*labels, *others))):
            check_name(name, f"{self.path}, the name of a label")
        return [
            label_of_images(name, images[label] or None, label.prompt)
            if (label := labels.get(name)) is not None
            else LabelInput(name)
            for name in every
        ]

    def _reading(self, naming: Naming) -> str:
        """How the images are read, as options of a command."""
        options = "".join(f" --exclude {word(pattern)}" for pattern in self.exclude)
        options += " --clean-names" * self.clean_names
        return options + (f" --names {word(str(naming.names))}" if naming.names else "")

    def _images(self, folders: Sequence[Path], naming: Naming) -> dict[LabelName, list[Any]]:
        """The images of each label in several folders."""
        merged: dict[LabelName, list[Any]] = {}
        for folder in folders:
            for label, images in images_by_label(folder, self.exclude, "learn", naming).items():
                merged.setdefault(label, []).extend(images)
        return merged

    def _unlabelled(self, names: Path | list[str] | None, held: DataSet) -> Material:
        with finding(self.exclude) as finder:
            images = finder.images(self.path)
        if not images:
            raise InvalidInput(f"{self.path}: no images in this folder")
        if held.labels:
            some = ", ".join(held.labels[:3]) + (", …" if held.labels[3:] else "")
            note(f"no sub-folder ({some}) is among --names: the images count as unlabelled")
        return Material(self._text_only(names), unlabelled=images)

    def _text_only(self, names: Path | list[str] | None) -> list[LabelInput]:
        """Labels without images, by their names."""
        from trustvlm.types import LabelInput

        if isinstance(names, Path):
            listed = listed_names(names)
            labels = Naming(clean=self.clean_names).labels(one.name for one in listed)
            return [
                LabelInput(
                    labels[one.name].name,
                    prompt=one.prompt,
                    attributes=one.attributes,
                    parent=one.parent,
                )
                for one in listed
            ]
        return [LabelInput(name) for name in names or ()]


def _holds_vectors(path: Path) -> bool:
    """Whether a file holds vectors; a Parquet file may hold images in their place."""
    if path.suffix.lower() != ".parquet":
        return path.suffix.lower() in VECTORS
    from trustvlm.reading.parquet import read_batches

    columns: list[str] = []
    batches = read_batches(path, lambda facts: columns.extend(facts.schema.names))
    with closing(cast("Generator[Any]", batches)):
        next(batches, None)
    return not {"text_vector", "image_vectors"}.isdisjoint(columns)


def _names(given: str | None) -> Path | list[str] | None:
    """--names: a file, or names between commas. Raises NotFound, click.UsageError."""
    if given is None:
        return None
    if Path(given).is_file():
        return Path(given)
    if os.sep in given or given.lower().endswith(_LISTS):
        raise NotFound(f"--names: no file {given}")
    names = list(dict.fromkeys(name.strip() for name in given.split(",") if name.strip()))
    if len(names) < 2:
        raise click.UsageError(
            f"--names: expected a file, or two names or more with commas between them; got "
            f"{given!r:.80}."
        )
    return names


def _of_vectors(path: Path, split: HoldOut) -> Material:
    from trustvlm.cli.reading.arrays import label_inputs
    from trustvlm.reading.hold_out import image_count

    inputs = label_inputs(path, None)
    given = image_count(inputs)
    support = split.support(inputs) if given else inputs
    held_out = given - image_count(support)
    encoders, separate = _encoders(path, inputs)
    seed = f" --seed {split.seed}" if split.seed else ""
    command = f"--vectors {word(str(path))} --hold-out {split.share:g}{seed}"
    return Material(
        [_without_empty(item) for item in support],
        vectors=_held_out_vectors(path, inputs, split, separate) if held_out else None,
        encoders=encoders,
        measured_with=command if path.suffix.lower() == ".npz" else None,
        given=given,
    )


def _without_empty(item: LabelInput) -> LabelInput:
    """A label whose images are all held out as a label without images."""
    import numpy as np

    if item.image_vectors is not None and not len(np.asarray(item.image_vectors)):
        return replace(item, image_vectors=None, classifier_image_vectors=None)
    return item


def _encoders(path: Path, inputs: Sequence[LabelInput]) -> tuple[tuple[str, str], bool]:
    """((classifier, verifier) specs, whether the classifier embedded the images, too).

    Raises:
        InvalidInput: the images have no embeddings by the classifier.
    """
    fields = ("text_vector", "image_vectors", "classifier_image_vectors")
    text, image, other = (_width(inputs, name) for name in fields)
    classifier = other or text or image
    if classifier is None:
        raise InvalidInput(f"{path}: expected text_vectors and image_vectors, got names alone")
    having = [item for item in inputs if item.image_vectors is not None]
    lacking = [item.name for item in having if item.classifier_image_vectors is None]
    if other is not None and lacking:
        raise InvalidInput(
            f"{path}: label {lacking[0]!r:.80} has image_vectors without classifier_image_vectors, "
            f"which other labels have"
        )
    if other is None and image is not None and image != classifier:
        raise InvalidInput(
            f"{path}: text_vectors have {classifier} values and image_vectors {image}: expected "
            f"classifier_image_vectors, too, the same images by the encoder of the texts"
        )
    spec = f"precomputed:{classifier}"
    return (spec, "same" if other is None else f"precomputed:{image}"), other is not None


def _width(inputs: Sequence[LabelInput], name: str) -> int | None:
    import numpy as np

    given = next((v for one in inputs if (v := getattr(one, name)) is not None), None)
    return None if given is None else int(np.asarray(given).shape[-1])


def _held_out_vectors(
    path: Path, inputs: Sequence[LabelInput], split: HoldOut, separate: bool
) -> Labelled:
    import numpy as np

    from trustvlm.cli.reading.labelled import Labelled
    from trustvlm.types import Queries

    having = [item for item in inputs if item.image_vectors is not None]
    verifier = [np.asarray(item.image_vectors) for item in having]
    others = [np.asarray(item.classifier_image_vectors) for item in having]
    truth = [item.name for item, rows in zip(having, verifier, strict=True) for _ in rows]
    names = [f"{path}[{row}]" for row in range(len(truth))]
    side = np.concatenate(verifier)
    queries = Queries(np.concatenate(others), side) if separate else Queries(side)
    part = split.measured(queries, truth, names)
    return Labelled(part.queries, list(part.truth), [name or "" for name in part.sources or ()])
