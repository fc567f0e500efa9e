"""Registering labels and support images from folders, files, names and vectors."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from trustvlm.cli.printing.formats import as_json
from trustvlm.cli.printing.progress import progress_bar
from trustvlm.cli.printing.registration import (
    print_changes,
    report_known,
    report_vectors,
    require_some_readable,
    summary,
)
from trustvlm.cli.printing.safe_text import note, quoted, warn
from trustvlm.cli.reading.folders import (
    check_exclude,
    check_naming,
    exclude_option,
    finding,
    images_by_label,
    naming_options,
)
from trustvlm.cli.reading.hold_out import hold_out_options, note_held_out
from trustvlm.cli.reading.images import image_options, note_images, report_unreadable
from trustvlm.cli.reading.options import PATHS, SPACE, file, flag, json_flag, text
from trustvlm.cli.reading.sets import all_sets, given_images, named_sets
from trustvlm.cli.session import Session, exactly_one
from trustvlm.errors import InvalidInput
from trustvlm.reading.images import refuse_arrays
from trustvlm.reading.lists import read_names
from trustvlm.reading.naming import Naming, advice, clean_name, is_wnid
from trustvlm.reading.sets.rows import label_of_images
from trustvlm.reading.tables import Listed
from trustvlm.types.attributes.values import parse_attributes
from trustvlm.types.messages.counts import count

if TYPE_CHECKING:
    from trustvlm.reading.hold_out import HoldOut
    from trustvlm.service import TrustService
    from trustvlm.types import LabelInput, RegisterResult, SpaceRow


@click.command()
@SPACE
@PATHS
@text(
    "--label",
    metavar="NAME",
    help="One label: for the image files PATHS, the images in folders PATHS, or --vectors.",
)
@file(
    "--labels",
    "names_file",
    metavar="FILE",
    help="Text-only labels: one name on each line (or name, tab, prompt); CSV with columns name, "
    "prompt, parent, attr.KEY; JSON list or class index.",
)
@file(
    "--vectors",
    metavar="FILE",
    help="Embeddings. FILE.npz: arrays label_names, text_vectors, image_vectors, image_labels "
    "(index into label_names) and classifier_image_vectors, as far as needed. FILE.parquet, "
    "FILE.ndjson: a row or a JSON object for each label, with name and, as far as needed, prompt, "
    "parent, text_vector, image_vectors, classifier_image_vectors, attributes.",
)
@text(
    "--prompt",
    metavar="TEXT",
    help="A prompt instead of the templates, for all labels of the call; {} is the name: 'a "
    "photo of a {}, a bird'.",
)
@text(
    "--attributes",
    metavar="JSON",
    help='Attributes of the label of --label: \'{"region": "EU", "size": 3}\'.',
)
@naming_options
@exclude_option
@image_options
@flag(
    "--keep-originals",
    help="Keep the image files in the home, so that the space can be given other encoders "
    "('trustvlm space reembed').",
)
@flag("--bring-back", help="Also add images that were removed from their label ('support remove').")
@flag(
    "--replace",
    help="Labels that exist get the text vector, prompt, attributes and parent that are given, in "
    "place of what they have; otherwise other ones are refused.",
)
@flag(
    "--sync",
    help="Make the space equal to FOLDER (or --vectors): remove the support images and "
    "labels that it does not have, and move images that changed their label. What is removed can "
    "be restored until it is purged.",
)
@hold_out_options(
    "Leave out about this share of the images of each label, chosen by their content; 'trustvlm "
    "evaluate' and 'calibrate' use them with the same option. A label with one image keeps it."
)
@flag("--dry-run", help="Say what would change, and change nothing.")
@json_flag(help="Print what changed as JSON, with the ids of the new support images.")
@click.pass_obj
def register(
    session: Session,
    /,
    space: str,
    reading: dict[str, Any],
    keep_originals: bool,
    bring_back: bool,
    replace: bool,
    sync: bool,
    split: HoldOut | None,
    dry_run: bool,
    json_: bool,
    **sources: Any,
) -> None:
    """Register labels and their support images.

    \b
    register SPACE FOLDER                 one sub-folder for each label, named like it
    register SPACE data.csv               a table with the columns file and label; or .parquet, .tar
    register SPACE FILES… --label NAME    support images of one label (or a folder of them)
    register SPACE --label NAME           a label without support images (text only)
    register SPACE --labels names.txt     many text-only labels
    register SPACE --vectors FILE         precomputed vectors (.npz, .parquet, .ndjson)

    A folder's name, cleaned by --clean-names or replaced by --names, is what the text encoder
    reads. Labels that exist get the support images they do not have yet; repeating a command
    changes nothing, and completes one that was interrupted. Images that cannot be read are named on
    stderr and the rest goes in. Images are recognised by their content: a message lists those that
    are support images of another label already, and those that were removed from their label.
    """
    source = _Source(**sources)
    source.check(sync)
    if split is not None and not (source.paths or source.vectors):
        raise click.UsageError("--hold-out is for images; there are none.")
    options = reading | {"keep_originals": keep_originals, "bring_back": bring_back}
    options["replace"] = replace
    with session.writing() as service:
        inputs = _inputs(service, space, source, sync)
        inputs = inputs if split is None else _kept(inputs, split)
        result = register_inputs(
            service, space, inputs, options | {"sync": sync, "dry_run": dry_run}
        )
        report_registration(service, space, inputs, result, sync=sync, bring_back=bring_back)
    if json_:
        click.echo(as_json(result.to_dict()))
    elif not dry_run:
        _print_summary(inputs, result)
    if (sync or dry_run) and not json_:
        print_changes(space, result)
    if not dry_run:
        require_some_readable(result, sum(len(item.images or ()) for item in inputs))


@dataclass(frozen=True)
class _Source:
    """Where labels and support images come from: the options that say so."""

    paths: tuple[Path, ...]
    label: str | None
    names_file: Path | None
    vectors: Path | None
    prompt: str | None
    attributes: str | None
    naming: Naming
    exclude: tuple[str, ...]

    def check(self, sync: bool) -> None:
        """Raises click.UsageError for options that do not go together."""
        several = self.label is None
        if several or self.paths or self.names_file or self.vectors:
            exactly_one(PATHS=self.paths, labels=self.names_file, vectors=self.vectors)
        if self.names_file is not None and not several:
            raise click.UsageError("--labels names its labels itself; leave out --label.")
        if self.prompt is not None and self.vectors is not None and several:
            raise click.UsageError(
                "--prompt is for names that are encoded; --vectors has text_vectors instead."
            )
        if self.prompt is not None and several and "{}" not in self.prompt:
            raise click.UsageError(
                "--prompt of several labels: expected {} where the name goes: 'a photo of a {}, a "
                "bird'."
            )
        for path in self.paths:
            refuse_arrays(path)
        one_folder = len(self.paths) == 1 and not self.paths[0].is_file()
        if several and self.paths and not one_folder and not all_sets(self.paths):
            raise click.UsageError(
                "Expected one folder with a sub-folder for each label, or tables (.csv, .tsv, "
                ".parquet) and shards (.tar) with labels, or --label NAME for files."
            )
        if self.attributes is not None and several:
            raise click.UsageError(
                "--attributes is for the label of --label; lists of labels have columns of them."
            )
        if sync and (self.names_file is not None or not several):
            raise click.UsageError(
                "--sync: expected a folder with a sub-folder for each label, or --vectors with all "
                "labels."
            )
        check_exclude(self.exclude, self.paths)
        check_naming(self.naming, self.paths if several else None, self.names_file)

    def read(self, *, empty: bool) -> list[LabelInput]:
        """The labels; with `empty`, those of folders without images, too."""
        from trustvlm.cli.reading.arrays import label_inputs
        from trustvlm.service.home.names import check_name
        from trustvlm.types import LabelInput

        if self.vectors is not None:
            return label_inputs(self.vectors, self.label)
        if self.names_file is not None:
            listed = listed_names(self.names_file)
            labels = self.naming.labels(one.name for one in listed)
            return [
                LabelInput(
                    labels[one.name].name,
                    prompt=one.prompt or self.prompt,
                    attributes=one.attributes,
                    parent=one.parent,
                )
                for one in listed
            ]
        if self.label is not None:
            given = self.attributes
            described = None if given is None else parse_attributes(given, "--attributes")
            label = label_of_images(self.label, self._images(), self.prompt)
            return [replace(label, attributes=described)]
        folder, what = self.paths[0], "a label"
        if all_sets(self.paths):
            with finding(self.exclude):
                by_label = named_sets(self.paths, self.naming)
        else:
            what = "the name of a sub-folder"
            by_label = images_by_label(folder, self.exclude, "learn", self.naming, complete=empty)
        for named in by_label:
            check_name(named.name, f"{folder}, {what}")
        return [
            label_of_images(named.name, images, named.prompt or self.prompt)
            for named, images in by_label.items()
        ]

    def _images(self) -> list[Any] | None:
        with finding(self.exclude) as finder:
            images = list(given_images(finder, self.paths)[0])
        if self.paths and not images:
            raise InvalidInput(f"no images in {', '.join(map(str, self.paths))}")
        return images or None


def listed_names(path: Path) -> list[Listed]:
    """The names of a list, each of them one that a label may have; what is odd about the file is
    said."""
    from trustvlm.service.home.names import check_name

    listed = read_names(path)
    for one in listed.names:
        check_name(one.name, f"{path}, {one.place}")
    for line in listed.notes:
        note(line)
    return listed.names


def _inputs(service: TrustService, space: str, source: _Source, sync: bool) -> list[LabelInput]:
    """What to register, after advice on names that a text encoder does not read as meant."""
    row = service.get_space(space)  # before looking through a large folder
    inputs = source.read(empty=sync)
    if sync:  # a new label is not made of an empty folder
        new = service.unknown_labels(space, [item.name for item in inputs if item.images == []])
        inputs = [item for item in inputs if item.name not in new]
    if source.paths or source.names_file is not None:
        advise_on_names(service, row, inputs, folders=source.names_file is None)
    return inputs


def _kept(inputs: list[LabelInput], split: HoldOut) -> list[LabelInput]:
    """The labels without their held-out images."""
    from trustvlm.reading.hold_out import image_count

    kept = split.support(inputs)
    images = image_count(inputs)
    note_held_out(split, images - image_count(kept), images, "they are not registered")
    return kept


def advise_on_names(
    service: TrustService, space: SpaceRow, inputs: Sequence[LabelInput], *, folders: bool
) -> None:
    """Say which names of new labels a text encoder does not read as they are meant."""
    from trustvlm.encoders.specs.parse import parse_spec

    names = [item.name for item in inputs if item.prompt is None or "{}" in item.prompt]
    odd = next((name for name in names if clean_name(name) != name or is_wnid(name)), None)
    if odd is None or not parse_spec(space.classifier).encodes_texts:
        return
    if service.unknown_labels(space.name, [odd]):
        for line in advice(names, folders=folders):
            note(line)


def register_inputs(
    service: TrustService, space: str, inputs: list[LabelInput], options: dict[str, Any]
) -> RegisterResult:
    """Register labels under a progress bar; `options`: further arguments of the library's verb."""
    images, done = sum(len(item.images or ()) for item in inputs), 0

    def committed(names: list[str]) -> None:
        nonlocal done
        done += len(names)
        if not images:
            bar.advance(len(names))

    try:
        with progress_bar(images or len(inputs), "images" if images else "labels") as bar:
            progress = bar.advance if images else None
            return service.register(
                space, inputs, on_commit=committed, progress=progress, **options
            )
    except KeyboardInterrupt:
        stored = f"{done:,} of {count(len(inputs), 'label')} are in"
        warn(f"{stored}; the same command again does the rest")
        raise


def report_registration(
    service: TrustService,
    space: str,
    inputs: list[LabelInput],
    result: RegisterResult,
    *,
    sync: bool,
    bring_back: bool,
) -> None:
    """Say on stderr what is odd about images, names and vectors."""
    report_unreadable(result.failures)
    note_images(result.notes)
    renamed = _renamed(service, space, inputs, result)
    report_known(space, result, bring_back=bring_back, sync=sync, renamed=renamed)
    if result.dry_run:
        return
    for item, label_id in zip(inputs, result.label_ids, strict=True):
        if label_id < 0:
            warn(
                f"label {quoted(item.name)} is new and none of its images could be read: it was "
                f"not registered"
            )
    report_vectors(space, result)


def _renamed(
    service: TrustService, space: str, inputs: list[LabelInput], result: RegisterResult
) -> list[tuple[str, str]]:
    """The (label, other) pairs whose images are the same: all that the call has of the one, and all
    support images of the other."""
    sizes = {item.name: len(item.images or ()) for item in inputs}
    twins = Counter((image.label or "", image.other) for image in result.elsewhere)
    return [
        (label, other)
        for (label, other), number in twins.items()
        if number == sizes.get(label) == len(service.list_supports(space, other))
    ]


def _print_summary(inputs: list[LabelInput], result: RegisterResult) -> None:
    names = zip(inputs, result.label_ids, strict=True)
    labels = len({item.name for item, label_id in names if label_id >= 0})
    if labels or not inputs:
        what = f"{count(labels, 'label')} ({result.added_labels:,} new)"
        click.echo(summary(result, what, labels))
