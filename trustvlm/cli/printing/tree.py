"""A taxonomy as lines, indented."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from trustvlm.cli.printing.safe_text import quoted

if TYPE_CHECKING:
    from trustvlm.types.taxonomy import TreeNode


def indented(nodes: Sequence[TreeNode]) -> Iterator[str]:
    """A line for each name, below that of its parent; inner nodes with how many labels stand under
    them."""
    below: dict[str | None, list[TreeNode]] = {}
    for node in nodes:
        below.setdefault(node.parent, []).append(node)
    waiting = [(0, node) for node in reversed(below.get(None, []))]
    while waiting:
        depth, node = waiting.pop()
        inner = node.name in below
        count = f"  ({node.labels:,} {'label' if node.labels == 1 else 'labels'})" if inner else ""
        alone = "" if node.label or inner else "  (no label)"
        yield f"{'  ' * depth}{quoted(node.name)}{count}{alone}"
        waiting += [(depth + 1, child) for child in reversed(below.get(node.name, []))]
