"""The bodies of requests about the review queue and the verdict log."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

from trustvlm.http.wire.queries.bodies import Name
from trustvlm.types.options import Options, says
from trustvlm.types.review import AddLoggedOptions, AnswerOptions, CollectOptions
from trustvlm.types.verdict_log import LogOptions


@dataclass(frozen=True, kw_only=True)
class AddLoggedBody(AddLoggedOptions):
    """Which logged answers go into the queue."""

    label: Annotated[Name | None, says("only answers of this label, by its name then")] = None


@dataclass(frozen=True, kw_only=True)
class AnswerBody(AnswerOptions):
    """The answer to an item."""

    truth: Annotated[Name | None, says("the right label; null: none of the labels")]


@dataclass(frozen=True, kw_only=True)
class CollectBody(CollectOptions):
    """Whether the service puts images into the queue by itself."""


@dataclass(frozen=True, kw_only=True)
class AnswersBody(Options):
    """The answers of a file to items of the queue."""

    content: Annotated[
        str, says("the file's text: CSV with the columns id and truth, or JSON of Label Studio")
    ]


@dataclass(frozen=True, kw_only=True)
class LogBody(LogOptions):
    """Whether the space logs its answers, and how many it keeps."""
