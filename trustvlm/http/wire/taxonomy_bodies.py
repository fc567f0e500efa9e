"""The body of a change of the taxonomy."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

from trustvlm.http.wire.texts import LabelName
from trustvlm.types.options import says
from trustvlm.types.taxonomy import MOST_PARENTS, ParentOptions

__all__ = ["ParentsBody"]


@dataclass(frozen=True, kw_only=True)
class ParentsBody(ParentOptions):
    """Where labels and nodes are to stand."""

    parents: Annotated[
        dict[str, LabelName | None],
        says(
            "label or node → the node that it is to stand under; null: under none",
            min_length=1,
            max_length=MOST_PARENTS,
            examples=[{"airport": "transport", "transport": "built-up"}],
        ),
    ]
