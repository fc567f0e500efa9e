"""Registering labels and support images from folders, files, names and vectors."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from trustvlm.cli.printing.changes import print_changes, report_known
from trustvlm.cli.printing.formats import as_json
from trustvlm.cli.printing.progress import progress_bar
from trustvlm.cli.printing.safe_text import count, note, quoted, utf8
from trustvlm.cli.reading.folders import (
    check_exclude,
    check_naming,
    exclude_option,
    finding,
    images_by_label,
    naming_options,
)
from trustvlm.cli.reading.images import image_options, note_images, report_unreadable
from trustvlm.cli.session import Session, exactly_one
from trustvlm.errors import InvalidInput
from trustvlm.reading.clean import clean_name, is_wnid
from trustvlm.reading.lists import Listed, read_names
from trustvlm.reading.naming import Naming, advice

if TYPE_CHECKING:
    from trustvlm.service import TrustService
    from trustvlm.types import LabelInput, RegisterResult, SpaceRow

__all__ = ["register", "report_drift", "require_some_readable", "summary"]

_SHOWN, _NAMED = 5, 20


@click.command()
@click.argument("space", type=utf8)
@click.argument("paths", nargs=-1, type=click.Path(path_type=Path))
@click.option(
    "--label",
    metavar="NAME",
    type=utf8,
    help="One label: for the image files PATHS, the images in folders PATHS, or --vectors.",
)
@click.option(
    "--labels",
    "names_file",
    metavar="FILE",
    type=click.Path(path_type=Path),
    help="Text-only labels: one name a line (or name, tab, prompt); CSV with columns name, "
    "prompt; JSON list or class index.",
)
@click.option(
    "--vectors",
    metavar="FILE",
    type=click.Path(path_type=Path),
    help="Vectors of your own. FILE.npz: arrays label_names, text_vectors, image_vectors, "
    "image_labels (index into label_names) and classifier_image_vectors, as far as needed. "
    "FILE.parquet, FILE.ndjson: a row or a JSON object a label, with name and, as far as needed, "
    "prompt, text_vector, image_vectors, classifier_image_vectors.",
)
@click.option(
    "--prompt",
    metavar="TEXT",
    type=utf8,
    help="A prompt instead of the templates, for all labels of the call; {} is the name: 'a "
    "photo of a {}, a bird'.",
)
@naming_options
@exclude_option
@image_options
@click.option(
    "--keep-originals",
    is_flag=True,
    help="Keep the image files in the home, so that the space can be given other encoders "
    "('trustvlm space reembed').",
)
@click.option(
    "--bring-back",
    is_flag=True,
    help="Also add images that were removed from their label ('support remove').",
)
@click.option(
    "--sync",
    is_flag=True,
    help="Make the space equal to FOLDER (or --vectors): remove the support images and "
    "labels that it does not have, and move "
    "images that changed their label. What is removed can be restored until it is purged.",
)
@click.option("--dry-run", is_flag=True, help="Say what would change, and change nothing.")
@click.option(
    "--json",
    "json_",
    is_flag=True,
    help="Print what changed as JSON, with the ids of the new support images.",
)
@click.pass_obj
def register(
    session: Session,
    space: str,
    paths: tuple[Path, ...],
    label: str | None,
    names_file: Path | None,
    vectors: Path | None,
    prompt: str | None,
    naming: Naming,
    exclude: tuple[str, ...],
    reading: dict[str, Any],
    keep_originals: bool,
    bring_back: bool,
    sync: bool,
    dry_run: bool,
    json_: bool,
) -> None:
    """Register labels and their support images.

    \b
    register SPACE FOLDER                 one sub-folder a label; its name is the label's
    register SPACE FILES… --label NAME    support images of one label (or a folder of them)
    register SPACE --label NAME           a label without support images (text only)
    register SPACE --labels names.txt     many text-only labels
    register SPACE --vectors FILE         precomputed vectors (.npz, .parquet, .ndjson)

    A folder's name, cleaned by --clean-names or replaced by --names, is what the text encoder
    reads. Labels that exist get the support images they do not have yet; repeating a command
    changes nothing, and completes one that was interrupted. Images that cannot be read are named on
    stderr and the rest goes in. Images are known by their content: those that are support images of
    another label already, and those that were taken out of their label, are named.
    """
    _check_usage(paths, label, names_file, vectors, prompt)
    if sync and (label is not None or names_file is not None):
        raise click.UsageError(
            "--sync: expected a folder with a sub-folder for each label, or --vectors with all "
            "labels."
        )
    check_exclude(exclude, paths)
    check_naming(naming, paths if label is None else None, names_file)
    with session.writing() as service:
        row = service.get_space(space)  # before looking through a large folder
        inputs = _inputs(paths, label, names_file, vectors, prompt, naming, exclude, whole=sync)
        if sync:  # a label that is not there yet is not made of an empty folder
            new = service.unknown_labels(space, [item.name for item in inputs if item.images == []])
            inputs = [item for item in inputs if item.name not in new]
        if paths or names_file is not None:
            _advise(service, row, inputs, folders=names_file is None)
        how = {
            "keep_originals": keep_originals,
            "bring_back": bring_back,
            "sync": sync,
            "dry_run": dry_run,
        }
        result = _register(service, space, inputs, reading | how)
    report_unreadable(result.failures)
    note_images(result.notes)
    report_known(
        space,
        result,
        bring_back=bring_back,
        sync=sync,
        sizes={item.name: len(item.images or ()) for item in inputs},
    )
    if dry_run:
        click.echo(as_json(asdict(result))) if json_ else print_changes(space, result)
        return
    names = {
        item.name: label_id >= 0 for item, label_id in zip(inputs, result.label_ids, strict=True)
    }
    for name in (name for name, registered in names.items() if not registered):
        note(
            f"label {quoted(name)} is new and none of its images could be read: it was not "
            f"registered"
        )
    report_drift(result)
    _report_cut(result)
    _report_synonyms(space, result)
    labels = sum(names.values())
    what = f"{count(labels, 'label')} ({result.added_labels:,} new)"
    if labels or json_ or not inputs:
        click.echo(as_json(asdict(result)) if json_ else summary(result, what, labels))
    if sync and not json_:
        print_changes(space, result)
    require_some_readable(result, sum(len(item.images or ()) for item in inputs))


def report_drift(result: RegisterResult) -> None:
    """Say on stderr that vectors do not look like those that are there."""
    for sentence in result.drift:
        note(
            f"warning: {sentence}; if another model made them, remove them again ('trustvlm "
            f"support list' shows ids)"
        )


def _report_cut(result: RegisterResult) -> None:
    """Name the labels whose prompts are too long."""
    if names := result.cut_prompts:
        more = f" and {len(names) - _NAMED:,} more (--json names them)" if names[_NAMED:] else ""
        labels = ", ".join(map(quoted, names[:_NAMED]))
        note(f"prompts longer than the classifier reads, whose ends are ignored: {labels}{more}")


def _advise(
    service: TrustService, space: SpaceRow, inputs: Sequence[LabelInput], *, folders: bool
) -> None:
    """Say of new labels which names a text encoder will not read as they are meant."""
    from trustvlm.service.inputs.space_encoders import encodes_texts

    names = [item.name for item in inputs if item.prompt is None or "{}" in item.prompt]
    odd = next((name for name in names if clean_name(name) != name or is_wnid(name)), None)
    if (
        odd is not None
        and encodes_texts(space.classifier)
        and service.unknown_labels(space.name, [odd])
    ):
        for line in advice(names, folders=folders):
            note(line)


def _report_synonyms(space: str, result: RegisterResult) -> None:
    """Name labels whose text is nearly that of another."""
    if result.near_synonyms is None:
        note(
            f"too many labels to look for synonyms each time; 'trustvlm label synonyms "
            f"{quoted(space)}' lists them"
        )
    for first, second, cosine in (result.near_synonyms or ())[:_SHOWN]:
        note(
            f"{quoted(first)} and {quoted(second)} mean nearly the same (text cosine "
            f"{cosine:.3f}): see 'trustvlm label alias'"
        )
    if len(result.near_synonyms or ()) > _SHOWN:
        note(
            f"and {len(result.near_synonyms or ()) - _SHOWN:,} more pairs: 'trustvlm label "
            f"synonyms {quoted(space)}'"
        )


def _check_usage(
    paths: tuple[Path, ...],
    label: str | None,
    names_file: Path | None,
    vectors: Path | None,
    prompt: str | None,
) -> None:
    if label is None or paths or names_file or vectors:
        exactly_one(PATHS=paths, labels=names_file, vectors=vectors)
    if names_file is not None and label is not None:
        raise click.UsageError("--labels names its labels itself; leave out --label.")
    if prompt is not None and vectors is not None and label is None:
        raise click.UsageError(
            "--prompt is for names that are encoded; --vectors has text_vectors instead."
        )
    if prompt is not None and label is None and "{}" not in prompt:
        raise click.UsageError(
            "--prompt of several labels: expected {} where the name goes: 'a photo of a {}, a "
            "bird'."
        )
    if label is None and paths and (len(paths) > 1 or paths[0].is_file()):
        raise click.UsageError(
            "Expected one folder with a sub-folder for each label, or --label NAME for files."
        )


def _inputs(
    paths: tuple[Path, ...],
    label: str | None,
    names_file: Path | None,
    vectors: Path | None,
    prompt: str | None,
    naming: Naming,
    exclude: tuple[str, ...],
    *,
    whole: bool,
) -> list[LabelInput]:
    from trustvlm.cli.reading.arrays import label_inputs
    from trustvlm.service.inputs.names import check_name
    from trustvlm.types import LabelInput

    if vectors is not None:
        return label_inputs(vectors, label)
    if names_file is not None:
        listed = _listed(names_file)
        labels = naming.labels(one.name for one in listed)
        return [LabelInput(labels[one.name].name, prompt=one.prompt or prompt) for one in listed]
    if label is None:
        by_label = images_by_label(paths[0], exclude, "learn", naming, complete=whole)
        for named in by_label:
            check_name(named.name, f"{paths[0]}, the name of a sub-folder")
        return [
            LabelInput(named.name, images=images, prompt=named.prompt or prompt)
            for named, images in by_label.items()
        ]
    with finding(exclude) as finder:
        images = finder.images_of(paths)
    if paths and not images:
        raise InvalidInput(f"no images in {', '.join(map(str, paths))}")
    return [LabelInput(label, images=images or None, prompt=prompt)]


def _listed(path: Path) -> list[Listed]:
    """The names of a list, each of them one that a label may have; what is odd about the file is
    said."""
    from trustvlm.service.inputs.names import check_name

    found = read_names(path)
    for one in found.names:
        check_name(one.name, f"{path}, {one.place}")
    for line in found.notes:
        note(line)
    return found.names


def _register(
    service: TrustService, space: str, inputs: list[LabelInput], how: dict[str, Any]
) -> RegisterResult:
    images, done = sum(len(item.images or ()) for item in inputs), 0

    def committed(names: list[str]) -> None:
        nonlocal done
        done += len(names)
        if not images:
            bar.advance(len(names))

    try:
        with progress_bar(images or len(inputs), "images" if images else "labels") as bar:
            progress = bar.advance if images else None
            return service.register(space, inputs, on_commit=committed, progress=progress, **how)
    except KeyboardInterrupt:
        note(
            f"{done:,} of {count(len(inputs), 'label')} are in; the same command again does the "
            f"rest"
        )
        raise


def summary(result: RegisterResult, what: str, labels: int = 1) -> str:
    """What a register call did to `what`, `labels` labels, in one line."""
    new = bool(result.added_labels or result.added_supports)
    parts = [
        f"registered {what}" if new else _nothing_new(result.skipped_duplicates, labels),
        count(result.added_supports, "support image") if new else "",
        f"{count(result.skipped_duplicates, 'duplicate')} skipped"
        if new and result.skipped_duplicates
        else "",
        f"{len(result.failures):,} unreadable" if result.failures else "",
    ]
    return f"{', '.join(filter(None, parts))}; revision {result.revision}"


def _nothing_new(duplicates: int, labels: int) -> str:
    number, thing = (duplicates, "support image") if duplicates else (labels, "label")
    return (
        f"nothing new: "
        f"{f'all {number:,} {thing}s were' if number > 1 else f'the {thing} was'} there "
        f"already"
    )


def require_some_readable(result: RegisterResult, images: int) -> None:
    """Raises InvalidInput when there were images and none could be read."""
    if images and len(result.failures) == images:
        raise InvalidInput(f"none of the {count(images, 'image')} could be read")
