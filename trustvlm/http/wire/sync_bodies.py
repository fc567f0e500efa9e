"""The body of a request that makes a space equal to a folder."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

from pydantic import Field

from trustvlm.http.wire.texts import LabelName
from trustvlm.types.options import Options, says


@dataclass(frozen=True, kw_only=True)
class LabelContents(Options):
    """The support images of a label by their content."""

    name: LabelName
    contents: Annotated[
        list[Annotated[str, Field(pattern="^[0-9a-f]{64}$")]],
        says(
            "SHA-256 of each image file, or of each vector as little-endian float32",
            max_length=1_000_000,
        ),
    ]
    sources: Annotated[list[str | None] | None, says("what each is called")] = None
    unread: Annotated[bool, says("an image could not be read: nothing of the label is removed")] = (
        False
    )


@dataclass(frozen=True, kw_only=True)
class SyncBody(Options):
    """All that the labels of a folder have."""

    labels: Annotated[list[LabelContents], Field(min_length=1, max_length=100_000)]
    dry_run: Annotated[
        bool, says("say what would change, what would be added included, and change nothing")
    ] = False
    remove: Annotated[
        bool, says("false, with dry_run: say what registering alone would change")
    ] = True
    bring_back: Annotated[bool, says("with remove false: as in POST …/labels")] = False
