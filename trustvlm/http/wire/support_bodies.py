"""The bodies of requests that clean and extend support images."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

from trustvlm.http.wire.queries.bodies import Name, ProbabilityBody
from trustvlm.http.wire.schemas import IdsBody, LabelledBody
from trustvlm.types.options import ReadingOptions, says
from trustvlm.types.support.proposals import ProposeOptions

__all__ = ["AuditBody", "KeepBody", "MoveBody", "ProposeBody"]


@dataclass(frozen=True, kw_only=True)
class AuditBody(LabelledBody):
    """Labelled queries to audit."""


@dataclass(frozen=True, kw_only=True)
class MoveBody(IdsBody):
    """Support images that another label gets."""

    label: Annotated[Name, says("the label that gets them")]


@dataclass(frozen=True, kw_only=True)
class KeepBody(IdsBody):
    """Support images that a person says are right."""

    keep: Annotated[bool, says("false: take that back")] = True


@dataclass(frozen=True, kw_only=True)
class ProposeBody(ProposeOptions, ReadingOptions, ProbabilityBody):
    """Images without labels."""

    sources: list[Name | None] | None = None
