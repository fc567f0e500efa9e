"""Attributes in the bodies of requests."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Any, ClassVar

from pydantic import Field

from trustvlm.types.json_form import Attributes, FilterObject
from trustvlm.types.options import Options, says

Replacing = Annotated[
    Attributes,
    says("in place of all that it has, {}: none; with merge, these keys alone, null: without it"),
]
Merge = Annotated[bool, says("change the given attributes alone")]


@dataclass(frozen=True, kw_only=True)
class DescribedBody(Options):
    """The attributes of a label and of its support images."""

    attributes: Attributes | None = None
    image_attributes: Annotated[
        Attributes | list[Attributes | None] | None,
        says("attributes of each support image, or one object for all of them"),
    ] = None


@dataclass(frozen=True, kw_only=True)
class SupportPatchBody(Options):
    """What is to change of a support image."""

    attributes: Replacing
    merge: Merge = False


@dataclass(frozen=True, kw_only=True)
class FilterBody(Options):
    """Labels by name, or by their attributes: one of the two."""

    __pydantic_config__: ClassVar[Any] = {
        "extra": "forbid",
        "json_schema_extra": {"minProperties": 1},
    }

    labels: Annotated[
        list[Annotated[str, Field(max_length=2_000)]] | None, says("names", max_length=100_000)
    ] = None
    filter: Annotated[
        str | FilterObject | None, says('{"region": "EU"}, or text: region = "EU" and size >= 3')
    ] = None


@dataclass(frozen=True, kw_only=True)
class CountBody(Options):
    """Which labels are counted; null: all."""

    filter: str | FilterObject | None = None
