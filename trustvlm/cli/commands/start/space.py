"""The space of `trustvlm start`: the one that is there, or a new one."""

from __future__ import annotations

import unicodedata
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from trustvlm.cli.commands.start.material import Material
from trustvlm.cli.printing.safe_text import note, quoted
from trustvlm.errors import Conflict, InvalidInput, NotFound
from trustvlm.types.messages.counts import count

if TYPE_CHECKING:
    from trustvlm.service import TrustService
    from trustvlm.types import SpaceRow

PRESET = "small"
_SAYS_NOTHING = ("data", "dataset", "images", "index", "labels", "list", "metadata")
"""Names of files that are no names of what is in them."""


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
