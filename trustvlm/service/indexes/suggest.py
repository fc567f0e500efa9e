"""Which index recipe suits a space: what each would cost there, from what was measured of it."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from trustvlm.errors import InvalidInput
from trustvlm.index.recipe import Recipe
from trustvlm.types.json_form import Answer

MILLISECONDS = 25.0
"""What a search may take by default: about as much as encoding the image on one core."""


@dataclass(frozen=True)
class Suggestion(Answer):
    """What a recipe would cost in a space, scaled from its [measured] table.

    Attributes:
        recipe: its name. exact: it finds exactly the nearest. recall: share of the 10 nearest
            found, where it was measured.
        milliseconds: of one search over the space's support images on one core. megabytes: of that
            index.
        build_seconds: to build it. chosen: it is the one to take. current: the space has it.
        why: in words.
    """

    recipe: str
    exact: bool
    recall: float
    milliseconds: float
    megabytes: float
    build_seconds: float
    chosen: bool
    current: bool
    why: str


def estimate(
    recipes: Sequence[Recipe], rows: int, dim: int, budget: float, current: str | None = None
) -> list[Suggestion]:
    """Every recipe for an index of this many rows, the one to take marked.

    That is the first in this order that is fast enough: exact ones, ones that compare every row,
    then the one of the rest that takes the least memory. Where none is, the fastest.
    """
    measured = [recipe for recipe in recipes if "milliseconds" in recipe.measured]
    if not measured:
        raise InvalidInput("no recipe in indexes/ says what was measured of it")
    measured.sort(
        key=lambda recipe: (not recipe.exact, not recipe.exhaustive, recipe.bytes_per_value)
    )
    costs = {recipe.name: _costs(recipe, rows, dim) for recipe in measured}
    fast = [recipe for recipe in measured if costs[recipe.name][0] <= budget]
    chosen = fast[0] if fast else min(measured, key=lambda recipe: costs[recipe.name][0])
    return [
        Suggestion(
            recipe=recipe.name,
            exact=recipe.exact,
            recall=float(recipe.measured["recall"]),
            milliseconds=costs[recipe.name][0],
            megabytes=rows * dim * (recipe.bytes_per_value if _built(recipe, rows) else 4.0) / 1e6,
            build_seconds=costs[recipe.name][1],
            chosen=recipe is chosen,
            current=recipe.name == current,
            why=_why(recipe, rows, costs[recipe.name][0], budget),
        )
        for recipe in measured
    ]


def _built(recipe: Recipe, rows: int) -> bool:
    """Whether the index is what the recipe says, and not (still) an exact one."""
    return not recipe.training or recipe.lists(rows) > 0


def _costs(recipe: Recipe, rows: int, dim: int) -> tuple[float, float]:
    """(ms of a search, s of building) for this many rows, scaled from the measured ones."""
    measured = {
        name: float(value) for name, value in recipe.measured.items() if not isinstance(value, str)
    }
    share, width = rows / measured["rows"], dim / measured["dim"]
    if not _built(recipe, rows):
        return measured["exact_milliseconds"] * share * width, 0.0
    search, build = measured["milliseconds"] * width, measured["build_seconds"] * width
    if recipe.exhaustive:
        return search * share, build * share
    if recipe.training.get("lists_per_root"):
        # √rows lists of √rows rows: a search walks some of them, a row looks at all.
        return search * math.sqrt(share), build * share**1.5
    growth = math.log(max(rows, 2)) / math.log(measured["rows"])  # a graph: steps of a search
    return search * growth, build * share * growth


def _why(recipe: Recipe, rows: int, milliseconds: float, budget: float) -> str:
    if not _built(recipe, rows):
        return f"an exact index up to {int(recipe.training['from_rows']):,} rows"
    kind = "compares every row" if recipe.exhaustive else "may miss some of the nearest"
    speed = "fast enough" if milliseconds <= budget else f"slower than {budget:g} ms"
    return f"{'exact' if recipe.exact else kind}; {speed}"
