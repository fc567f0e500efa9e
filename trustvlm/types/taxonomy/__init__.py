"""The taxonomy of a space: which label or node stands under which node."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

from trustvlm.types.json_form import Answer
from trustvlm.types.options import Options, says

__all__ = ["MOST_PARENTS", "ParentOptions", "Taxonomy", "TreeNode"]

MOST_PARENTS = 100_000
"""Edges that a request may change."""


@dataclass(frozen=True, kw_only=True)
class ParentOptions(Options):
    """Where labels and nodes stand in the taxonomy."""

    parents: Annotated[
        dict[str, str | None],
        says(
            "label or node → the node that it is to stand under; null: under none",
            min_length=1,
            max_length=MOST_PARENTS,
            examples=[{"airport": "transport", "transport": "built-up"}],
        ),
    ]


@dataclass(frozen=True)
class TreeNode(Answer):
    """One name in the taxonomy of a space.

    Attributes:
        name: of a label, or of an inner node. parent: the node that it stands under; None: it is at
            the top.
        label: it is a label of the space. labels: how many labels stand under it, itself included.
    """

    name: str
    parent: str | None
    label: bool
    labels: int


@dataclass(frozen=True, repr=False)
class Taxonomy(Answer):
    """The taxonomy of a space, by name: every label that has a parent, and every node above one."""

    space: str
    revision: int
    nodes: tuple[TreeNode, ...]
