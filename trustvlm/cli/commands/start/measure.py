"""The space of `trustvlm start`, the one that is there or a new one, and what is done with it:
register, evaluate, calibrate; or score images whose labels are not known."""

from __future__ import annotations

import unicodedata
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from trustvlm.cli.commands.register import advise_on_names, register_inputs, report_registration
from trustvlm.cli.commands.start.answer import (
    MAX_RISK,
    Measured,
    enough_images,
    measured_lines,
    unlabelled_lines,
)
from trustvlm.cli.commands.start.material import Material
from trustvlm.cli.printing.safe_text import note, quoted, warn
from trustvlm.cli.reading.images import embedded
from trustvlm.cli.reading.labelled import Labelled, encoded
from trustvlm.errors import Conflict, InvalidInput, NotFound
from trustvlm.types.messages.commands import suggested
from trustvlm.types.messages.counts import count

if TYPE_CHECKING:
    from trustvlm.reading.hold_out import HoldOut
    from trustvlm.service import TrustService
    from trustvlm.types import LabelInput, SpaceRow
    from trustvlm.types.calibration import Calibration

PRESET = "small"
_SAYS_NOTHING = ("data", "dataset", "images", "index", "labels", "list", "metadata")
"""Names of files that are no names of what is in them."""


@dataclass(frozen=True)
class Outcome:
    """What `start` says: the answer, line by line; whether 'trustvlm score' and 'trustvlm evaluate'
    can go on with the space."""

    lines: list[str]
    scores: bool = True
    evaluates: bool = False


def measured(
    service: TrustService,
    space: SpaceRow,
    material: Material,
    source: Path,
    reading: dict[str, Any],
    split: HoldOut,
) -> Outcome:
    """Register the support images, measure on the held-out ones and calibrate; the answer.

    Raises:
        Conflict: the held-out images are support images of the space already.
    """
    if space.support_count:
        _require_held_out(service, space.name, material, split)
    unread = _register(service, space, material.inputs, reading)
    space = service.get_space(space.name)
    if (why := _not_measurable(space, material, split)) is not None:
        return Outcome([*why], scores=space.label_count > 1)
    images = material.vectors
    if images is None:
        where = f"the held-out part of {source}"
        images = encoded(service, space.name, where, material.held_out, reading)
    in_force = _in_force(service, space.name)
    evaluation = service.evaluate(
        space.name, images.queries, images.truth, sources=images.sources, rules=_rules(), draws=0,
        risk=MAX_RISK if in_force is None else in_force.max_risk,
    )  # fmt: skip
    made = _calibration(service, space, images) if evaluation.images > 1 else None
    in_force = _in_force(service, space.name)
    parts = ", ".join(quoted(part.name) for part in material.parts)
    how = f"all of {parts}" if parts else f"seed {split.seed}"
    unread = len(images.failures) + (0 if parts else unread)
    counted = Measured(space, evaluation, made, in_force, material.given - unread, unread)
    lines = [*measured_lines(counted, how)]
    return Outcome(lines, evaluates=material.measured_with is not None)


def _in_force(service: TrustService, space: str) -> Calibration | None:
    from trustvlm.types.calibration import decides

    return decides(service.list_calibrations(space))


def _rules() -> list[str]:
    from trustvlm.scoring.rules import DEFAULT_RULE

    return ["msp", DEFAULT_RULE]


def _require_held_out(
    service: TrustService, space: str, material: Material, split: HoldOut
) -> None:
    """Raises Conflict where most held-out images are support images of the space: it was made with
    another split, or with none."""
    from trustvlm.reading.hold_out import image_count

    held_out = material.held_out_inputs
    unknown = service.unknown_labels(space, [one.name for one in held_out])
    inputs = [one for one in held_out if one.name not in unknown]
    already = service.register(space, inputs, dry_run=True).skipped_duplicates
    number = image_count(held_out)
    if 2 * already > number:
        sync = f"--sync --hold-out {split.share:g} --seed {split.seed}"
        again = suggested("register", space, files="FOLDER", options=sync)
        raise Conflict(
            f"{already:,} of {number:,} held-out images are support images of space {space!r}: it "
            f"was made with another --hold-out or --seed, or without them. Give the same ones; or "
            f"make another space with --space NAME; or {again} takes these images out again"
        )


def _register(
    service: TrustService, space: SpaceRow, inputs: list[LabelInput], reading: dict[str, Any]
) -> int:
    """Register labels; a new one none of whose images could be read, without images. How many
    images could not be read."""
    advise_on_names(service, space, inputs, folders=True)
    result = register_inputs(service, space.name, inputs, dict(reading))
    lost = [
        replace(item, images=None)
        for item, label_id in zip(inputs, result.label_ids, strict=True)
        if label_id < 0
    ]
    report_registration(service, space.name, inputs, result, sync=False, bring_back=False)
    if lost:
        service.register(space.name, lost)
        warn(f"registered without support images: {', '.join(quoted(one.name) for one in lost)}")
    return len(result.failures)


def _not_measurable(space: SpaceRow, material: Material, split: HoldOut) -> Iterator[str] | None:
    """What is said where nothing can be measured; None where something can."""
    labels = count(space.label_count, "label")
    supports = count(space.support_count, "support image")
    first = f"Space {quoted(space.name)}: {labels}, {supports}."
    if space.label_count < 2:
        names = suggested("register", space.name, options="--labels names.txt")
        why = (
            f"Every image gets the only label, so that its own images measure nothing. Add labels: "
            f"a sub-folder of images for each, or {names}; then run the same command again."
        )
        return iter((first, why))
    if material.vectors is None and not material.held_out:
        enough = enough_images(None if material.parts else split.share)
        why = (
            "No image is held out, since no label has two: nothing is measured, and every image "
            f"needs a look. Add images to the labels and run the same command again; for a proof, "
            f"about {enough:,} labelled images in all."
        )
        return iter((first, why))
    return None


def _calibration(service: TrustService, space: SpaceRow, images: Labelled) -> Calibration:
    """The calibration on these images: the newest if it fits, else one that is made now.

    Where more images made the one in force, those calibrate again, and stay stored.
    """
    made = [one for one in service.list_calibrations(space.name) if not one.claims]
    newest, in_force = next(iter(made), None), next((one for one in made if not one.failed), None)
    fits = newest is not None and not newest.stale
    if newest is not None and fits and newest.images == len(images.truth):
        note(f"nothing is new: calibration {newest.id} stays as it is")
        return newest
    if in_force is not None and in_force.images > len(images.truth):
        note(f"calibration {in_force.id} was made of more images; those calibrate again")
        return service.recalibrate(space.name)
    options = {} if in_force is None else _options_of(in_force)
    return service.calibrate(
        space.name, images.queries, images.truth, sources=images.sources, **options
    )


def _options_of(calibration: Calibration) -> dict[str, Any]:
    """The arguments that a calibration was made with."""
    from trustvlm.types.options import CalibrateOptions

    return {
        one.name: getattr(calibration, f"asked_{one.name}", getattr(calibration, one.name, None))
        for one in fields(CalibrateOptions)
    }


def unlabelled(
    service: TrustService,
    space: SpaceRow,
    material: Material,
    source: Path,
    reading: dict[str, Any],
    share: float,
) -> Outcome:
    """Register the labels by name and score images without a known label; the answer.

    Raises:
        InvalidInput: no image can be read, or there are fewer than two labels.
    """
    if material.inputs:
        _register(service, space, material.inputs, {})
    space = service.get_space(space.name)
    if space.label_count < 2:
        raise InvalidInput(f"space {space.name!r} has one label, which every image would get")
    made = embedded(service, space.name, source, material.unlabelled, reading)
    verdicts = service.score(space.name, made.queries)
    return Outcome([*unlabelled_lines(space, verdicts, share)])


# The space


def space_name(source: Path) -> str:
    """The name of a space that is made of a folder or a file: the name of that, without blanks and
    characters that are not seen; of a file whose name says nothing, such as list.csv, the name of
    its folder."""
    resolved = source.resolve()
    name = resolved.name if resolved.is_dir() else resolved.stem
    if resolved.is_file() and name.casefold() in _SAYS_NOTHING:
        name = resolved.parent.name
    name = unicodedata.normalize("NFC", name)
    seen = "".join(c if c.isprintable() and not c.isspace() else "-" for c in name)
    return seen.strip("-") or "images"


def space_for(
    service: TrustService,
    name: str,
    material: Material,
    encoders: Mapping[str, str | None],
    *,
    derived: bool,
) -> SpaceRow:
    """The space called `name`, made with `encoders` (preset, classifier, verifier) where there is
    none; then a `derived` name, which no person chose, is said.

    Raises:
        Conflict: it is there with other encoders. InvalidInput: there is none, and no label to make
            it with. Unavailable: weights are missing.
    """
    typed = {key: value for key, value in encoders.items() if value is not None}
    try:
        row = service.get_space(name)
    except NotFound:
        row = _made(service, name, material, typed)
        if derived:
            note(f"made the space {quoted(name)}; --space NAME gives another name")
        return row
    _require_same(row, typed)
    return row


def without_labels(material: Material) -> InvalidInput:
    """The error for images without labels, and no space that has some."""
    return InvalidInput(
        f"expected a sub-folder of images for each label, found "
        f"{count(len(material.unlabelled), 'image')} outside of these; move them into "
        f"sub-folders, or name the labels: --names cat,dog"
    )


def _made(service: TrustService, name: str, material: Material, typed: dict[str, str]) -> SpaceRow:
    if not material.inputs:
        raise without_labels(material)
    if material.encoders is not None and not {"classifier", "preset"} & typed.keys():
        typed = {"classifier": material.encoders[0], "verifier": material.encoders[1]} | typed
    elif not {"classifier", "preset"} & typed.keys():
        typed = {"preset": PRESET} | typed
    if "preset" in typed:
        note(f"new space {quoted(name)}: opening the encoders of preset {typed['preset']} …")
    return service.create_space(
        name,
        preset=typed.get("preset"),
        classifier=typed.get("classifier"),
        verifier=typed.get("verifier"),
    )


def require_same_source(service: TrustService, space: SpaceRow, material: Material) -> None:
    """Raises Conflict where a space, chosen by the name of the source alone, was made of something
    else: it has none of these labels, or none of these images."""
    if not space.label_count or not material.inputs:
        return
    unknown = service.unknown_labels(space.name, [one.name for one in material.inputs])
    shared = [one for one in material.inputs if one.name not in unknown]
    images = [one for one in shared if one.images or one.image_vectors is not None]
    if images and space.support_count:
        related = service.register(space.name, images, dry_run=True).skipped_duplicates > 0
    else:
        related = bool(shared)
    if not related:
        name = quoted(space.name)
        raise Conflict(
            f"space {space.name!r} is there already, and was not made of this folder or file: "
            f"--space NAME makes another one, --space {name} adds these labels and images to it"
        )


def _require_same(row: SpaceRow, typed: Mapping[str, str]) -> None:
    """Raises Conflict for a space with other encoders than those on the command line."""
    from trustvlm.encoders.specs.parse import parse_spec
    from trustvlm.encoders.specs.presets import preset

    wanted = {side: typed[side] for side in ("classifier", "verifier") if side in typed}
    if "preset" in typed:
        chosen = preset(typed["preset"])
        wanted = {"classifier": chosen.classifier, "verifier": chosen.verifier} | wanted
    for side, spec in wanted.items():
        stored = getattr(row, side)
        if parse_spec(spec).text != stored:
            raise Conflict(
                f"space {row.name!r} is there already, with the {side} {stored}: leave out "
                f"--preset, --classifier and --verifier, or make another space with --space NAME"
            )
