"""Creates and lists label spaces."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from sqlalchemy import Connection

from trustvlm.catalog.rows import spaces
from trustvlm.catalog.rows.counts import Counts
from trustvlm.catalog.rows.spaces import SpaceRecord
from trustvlm.catalog.store.vectors import pack
from trustvlm.catalog.upkeep import reembed_runs
from trustvlm.encoders.base import Encoder
from trustvlm.encoders.golden import golden_embedding
from trustvlm.encoders.specs.parse import parse_spec
from trustvlm.encoders.specs.presets import preset as preset_named
from trustvlm.errors import Conflict, InvalidInput
from trustvlm.index.recipe import load_recipe
from trustvlm.scoring.external import external_scale
from trustvlm.service.home.home import Home
from trustvlm.service.home.names import MAX_PROMPT, check_characters, check_space_name
from trustvlm.service.inputs.space_encoders import encoder_of, encodes_images, encodes_texts
from trustvlm.types import SpaceRow
from trustvlm.types.arrays import texts
from trustvlm.types.bounds import number
from trustvlm.types.messages.commands import suggested

DEFAULT_TEMPLATES = ("a photo of a {}.",)
DEFAULT_LOGIT_SCALE = 100.0
MAX_TEMPLATES = 1_000


def create_space(
    home: Home,
    name: str,
    classifier: str | None,
    verifier: str | None,
    templates: Sequence[str] | None,
    logit_scale: float | None,
    preset: str | None,
    recipe: str,
) -> SpaceRow:
    """See :meth:`TrustService.create_space`."""
    if preset is not None:
        chosen = preset_named(preset)
        classifier = chosen.classifier if classifier is None else classifier
        verifier = chosen.verifier if verifier is None else verifier
        templates = chosen.templates if templates is None else templates
        logit_scale = chosen.logit_scale if logit_scale is None else logit_scale
    if classifier is None:
        raise InvalidInput(
            "classifier: expected an encoder such as 'open_clip:ViT-B-16/openai' or "
            "'precomputed:512', or a preset, got neither"
        )
    verifier = "same" if verifier is None else verifier
    name = check_space_name(name, "space")
    values: dict[str, Any] = {"name": name, "recipe": load_recipe(recipe).name}
    if parse_spec(classifier).is_external:
        logit_scale = _external_scale(classifier, verifier, templates, logit_scale)
    values |= pinned(home, classifier, verifier, templates)
    if logit_scale is None and encodes_texts(classifier):
        logit_scale = home.encoders.open(classifier).logit_scale
    values["logit_scale"] = check_scale(DEFAULT_LOGIT_SCALE if logit_scale is None else logit_scale)
    with home.catalog.write("space.create") as connection:
        spaces.create(connection, values)
        return spaces.row_of(spaces.find(connection, name), Counts())


def _external_scale(
    classifier: str, verifier: str, templates: Sequence[str] | None, logit_scale: float | None
) -> float:
    """The logit scale of a space with an external classifier. Raises InvalidInput: something is
    given that it has no use for, or no verifier is."""
    unused = {"templates": templates, "logit_scale": logit_scale}
    for name, value in unused.items():
        if value is not None:
            raise InvalidInput(f"{name}: an external classifier takes none, got {value!r:.60}")
    if parse_spec(verifier).kind == "same":
        raise InvalidInput(
            "verifier: an external classifier has no image tower; expected an image encoder such "
            "as 'timm:vit_small_patch14_dinov2.lvd142m', or 'precomputed:384' for embeddings of "
            "your own"
        )
    return external_scale(parse_spec(classifier).dim or 0)


def pinned(
    home: Home, classifier: str, verifier: str, templates: Sequence[str] | None
) -> dict[str, Any]:
    """The columns that pin a space's encoders and templates.

    Raises:
        InvalidInput: the classifier has no text side, or a template is none. NotFound, Unavailable:
            see open_encoder.
    """
    values: dict[str, Any] = {"templates": check_templates(templates)}
    takes_texts = encodes_texts(classifier)
    if takes_texts:  # of transformers, also image encoders are taken, by their files
        takes_texts = home.encoders.open(classifier).logit_scale is not None
    if not takes_texts and parse_spec(classifier).kind not in ("precomputed", "external"):
        raise InvalidInput(
            f"classifier: expected an open_clip, transformers or precomputed encoder (it needs a "
            f"text side), or external, got {classifier!r}"
        )
    if parse_spec(verifier).is_external:
        raise InvalidInput(f"verifier: expected an image encoder, got {verifier!r}")
    values |= _pinned(home, classifier, "classifier")
    return values | (
        _same(values)
        if parse_spec(verifier).kind == "same"
        else _pinned(home, verifier, "verifier")
    )


def _pinned(home: Home, spec: str, side: str) -> dict[str, Any]:
    """The columns that pin one encoder: its spec, dimension, identity, and its embedding of the
    golden image."""
    encoder: Encoder = home.encoders.open(spec)
    golden = golden_embedding(encoder) if encodes_images(spec) else None
    recorded = (
        None if encoder.parts is None else encoder.parts.recorded(encoder.device, encoder.precision)
    )
    return {
        side: encoder.spec,
        f"{side}_dim": parse_spec(spec).dim or encoder.dim,
        f"{side}_identity": encoder.identity,
        f"{side}_parts": recorded,
        f"{side}_golden": None if golden is None else pack(golden),
    }


def _same(values: dict[str, Any]) -> dict[str, Any]:
    return {"verifier": "same"} | {
        f"verifier_{key}": values[f"classifier_{key}"]
        for key in ("dim", "identity", "parts", "golden")
    }


def check_templates(templates: Sequence[str] | None) -> list[str]:
    """`templates` as a list; the default without any. Raises InvalidInput."""
    if templates is None:
        return list(DEFAULT_TEMPLATES)
    templates = texts(templates, "templates", "a list of strings")
    if not 1 <= len(templates) <= MAX_TEMPLATES:
        raise InvalidInput(f"templates: expected 1 to {MAX_TEMPLATES}, got {len(templates)}")
    for template in templates:
        if not isinstance(template, str) or "{}" not in template:
            raise InvalidInput(
                f"templates: each must be a string with {{}} where the name goes, got "
                f"{template!r:.80}"
            )
        if len(template) > MAX_PROMPT:
            raise InvalidInput(
                f"templates: expected at most {MAX_PROMPT} characters each, got {len(template)} "
                f"({template[:20]!r}…)"
            )
        check_characters(template, "templates")
    return list(templates)


def check_scale(scale: object) -> float:
    """`scale` as a logit scale. Raises InvalidInput."""
    return number("logit_scale", scale)


def space_row(home: Home, name: str) -> SpaceRow:
    """See :meth:`TrustService.get_space`."""
    with home.catalog.read() as connection:
        return _counted(home, connection, spaces.find(connection, name))


def space_rows(home: Home) -> list[SpaceRow]:
    """See :meth:`TrustService.list_spaces`."""
    with home.catalog.read() as connection:
        return [_counted(home, connection, space) for space in spaces.list_records(connection)]


def _counted(home: Home, connection: Connection, space: SpaceRecord) -> SpaceRow:
    return spaces.row_of(space, home.counts.of(connection, home.catalog.epoch(connection), space))


def repoint(home: Home, space_name: str, classifier: str | None, verifier: str | None) -> SpaceRow:
    """See :meth:`TrustService.repoint_space`."""
    sides = {"classifier": classifier, "verifier": verifier}
    specs = {side: parse_spec(spec).text for side, spec in sides.items() if spec is not None}
    if not specs:
        raise InvalidInput("repoint_space: expected a classifier, a verifier or both")
    space = home.space(space_name)
    for side, spec in specs.items():
        if side == "verifier" and "same" in (space.verifier, spec):
            raise InvalidInput(
                f"verifier: that of space {space_name!r} is {space.verifier!r}, and cannot be "
                f"repointed; got {spec!r}"
            )
        home.encoders.open(spec)  # NotFound where nothing is at that place
        repointed = replace(space, **{side: spec})  # type: ignore[arg-type]
        encoder_of(home, repointed, side)  # other weights, preprocessing or pooling: Conflict
    with home.catalog.write("space.repoint") as connection:
        spaces.require_same(connection, space)
        job = reembed_runs.find(connection, space.id)
        if job is not None and job.state == "staged":
            raise Conflict(
                f"space {space_name!r} is being re-embedded: finish that "
                f"({suggested('space reembed', space_name, options='--finish')}) or abort it "
                f"('--abort') first"
            )
        spaces.set_columns(connection, space.id, **specs)
    return space_row(home, space_name)
