"""Outputs for the labels of an external classifier, which have no text side."""

from __future__ import annotations

from collections.abc import Sequence

from sqlalchemy import Connection

from trustvlm.catalog.rows import labels
from trustvlm.catalog.rows.spaces import SpaceRecord
from trustvlm.encoders.specs.parse import MAX_OUTPUTS, parse_spec
from trustvlm.errors import Conflict, InvalidInput
from trustvlm.scoring.external import output_vectors
from trustvlm.service.inputs.outputs import is_external
from trustvlm.types import LabelInput
from trustvlm.types.arrays import Float32s
from trustvlm.types.messages.commands import suggested

_TEXT_SIDE = ("text_vector", "prompt", "classifier_image_vectors")


def no_text_side(space: SpaceRecord, what: str, label: LabelInput) -> None:
    """Raises InvalidInput: a label of a space with an external classifier has something that only a
    classifier with a text side takes."""
    given = [name for name in _TEXT_SIDE if getattr(label, name) is not None]
    if given and is_external(space):
        raise InvalidInput(
            f"{what}: {given[0]}: the classifier of space {space.name!r} is external, and its "
            f"labels have none: their probabilities come with the queries; leave it out"
        )


def check_external(
    space: SpaceRecord,
    classifier: str | None,
    templates: Sequence[str] | None,
    logit_scale: float | None,
) -> None:
    """Make sure that what a space is to be embedded again with leaves an external classifier as it
    is: probabilities are no embeddings of anything.

    Raises:
        InvalidInput: it does not.
    """
    new = space.classifier if classifier is None else parse_spec(classifier).text
    external = is_external(space)
    if (external or parse_spec(new).is_external) and new != space.classifier:
        raise InvalidInput(
            f"reembed: classifier: expected {space.classifier!r} as it is, got {new!r}: an "
            f"external classifier has no embeddings; make a new space and register its labels"
        )
    for name, value in (("templates", templates), ("logit_scale", logit_scale)):
        if external and value is not None:
            raise InvalidInput(f"reembed: {name}: an external classifier takes none")


def new_outputs(
    connection: Connection, space: SpaceRecord, names: Sequence[str]
) -> dict[str, Float32s]:
    """Name → text vector of new labels: each has the axis of an output of its own. The caller's
    transaction has the space's row, so that no other call takes the same ones.

    Raises:
        Conflict: the space has too few outputs left.
    """
    dim = space.classifier_dim
    free = labels.free_outputs(connection, space.id, len(names), dim - 1)
    if len(free) < len(names):
        raise Conflict(
            f"space {space.name!r} has room for {dim - 1:,} labels ({space.classifier}), removed "
            f"ones included until {suggested('purge')}; {len(free):,} more fit, not "
            f"{len(names):,}; a space for more is made with classifier='external:N', N up to "
            f"{MAX_OUTPUTS:,}"
        )
    return dict(zip(names, output_vectors(free, dim), strict=True))
