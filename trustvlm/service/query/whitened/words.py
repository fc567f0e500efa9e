"""What verdicts under a rule of the discriminant say of their evidence."""

from __future__ import annotations

from collections.abc import Mapping

from trustvlm.errors import InvalidInput
from trustvlm.service.query.context import Context

_SOURCES = {"whitened": "fitted", "cosine": "cosine", "one image": "default", "off": "off"}
"""Kind of a discriminant → what verdicts call it."""

_COSINE = "the whitened evidence does not tell the labels apart: the similarity serves instead"


def discriminant_evidence(
    context: Context, parameters: Mapping[str, float | None], *, images: bool
) -> tuple[float | None, str | None]:
    """(τ that served, where it came from).

    Args:
        images: whether there are verifier embeddings.

    Raises:
        InvalidInput: a share of the verifier was given where it is the only image tower.
    """
    fit, share = context.discriminant.fit, parameters["towers"]
    if share not in (None, 1.0) and fit.classifier_matrix is None:
        raise InvalidInput(
            f"params: towers: expected 1, as only the verifier gives image evidence in space "
            f"{context.view.space.name!r} (docs/rules.md, 'Two towers'); got {share:g}"
        )
    if not images or fit.kind == "none":
        return None, "none"
    if parameters["tau"] is not None:
        return parameters["tau"], "given"
    return (fit.tau(share) if fit.on else None), _SOURCES[fit.kind]


def discriminant_remarks(context: Context) -> tuple[str, ...]:
    """What the fit of the space had to do without, in words."""
    discriminant, remarks = context.discriminant, []
    if discriminant.fit.kind == "cosine":
        remarks.append(_COSINE)
    if discriminant.texts < discriminant.images:
        remarks.append(
            f"the classifier embedding of {discriminant.images - discriminant.texts} of the "
            f"{discriminant.images} support images looked at is not stored, so that the text's "
            f"bias for their labels is not known"
        )
    return tuple(remarks)
