"""The bodies of requests that add, choose, clean and propose support images."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Annotated, Any, ClassVar

from pydantic import Field

from trustvlm.http.wire.image_files import Base64Images
from trustvlm.http.wire.label_bodies import Merge, Pictured, Replacing, Rows, extra
from trustvlm.http.wire.schemas import ClaimedQueries, LabelledBody, ProbabilityBody, WithImages
from trustvlm.types.json_form import Attributes, FilterObject
from trustvlm.types.options import (
    Between,
    Claim,
    Name,
    Options,
    ReadingOptions,
    Source,
    WholeNumber,
    says,
)
from trustvlm.types.support.proposals import ProposeOptions

Id = Annotated[WholeNumber, Between(1, 2**63 - 1)]


@dataclass(frozen=True, kw_only=True)
class IdsBody(Options):
    """Support images by id."""

    ids: Annotated[list[Id], Field(max_length=100_000)]


@dataclass(frozen=True, kw_only=True)
class SupportsBody(Pictured):
    """Support images as embeddings or image files."""

    image_vectors: Rows | None = None
    classifier_image_vectors: Rows | None = None
    image_attributes: Attributes | None = None
    images: Base64Images = None


@dataclass(frozen=True, kw_only=True)
class SupportPatchBody(Options):
    """What is to change of a support image."""

    attributes: Replacing
    merge: Merge = False


@dataclass(frozen=True, kw_only=True)
class ChosenSupports(Options):
    """Support images of a label, or that a filter keeps, or both; null: all."""

    label: Name | None = None
    filter: Annotated[
        str | FilterObject | None,
        says('by attributes: {"season": "summer"}, or text: season = "summer"'),
    ] = None


@dataclass(frozen=True, kw_only=True)
class RemoveBody(ChosenSupports):
    """Support images to remove: by id, or those of a label or a filter."""

    __pydantic_config__: ClassVar[Any] = extra(minProperties=1)

    ids: Annotated[list[Id] | None, Field(max_length=100_000)] = None


@dataclass(frozen=True, kw_only=True)
class AuditBody(ClaimedQueries, LabelledBody):
    """Labelled queries to audit: with truth, or with claims."""

    truth: Annotated[
        list[Name | None],
        says("a label name a query; null: of no label of the space; or `claimed` in its place"),
    ] = field(default_factory=list)
    claimed: Annotated[
        list[Claim | None] | None,
        says("in place of `truth`: names that may be no labels, which are counted then"),
    ] = None


@dataclass(frozen=True, kw_only=True)
class MoveBody(IdsBody):
    """Support images that another label gets."""

    label: Annotated[Name, says("the label that gets them")]


@dataclass(frozen=True, kw_only=True)
class KeepBody(IdsBody):
    """Support images that a person says are right."""

    keep: Annotated[bool, says("false: take that back")] = True


@dataclass(frozen=True, kw_only=True)
class ProposeBody(WithImages, ProposeOptions, ReadingOptions, ProbabilityBody):
    """Images without labels."""

    sources: list[Source | None] | None = None
