"""Which index recipe suits a space: what each would cost there, from what was measured of it."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from trustvlm.catalog.rows import counts, spaces, supports
from trustvlm.errors import InvalidInput
from trustvlm.index.recipe import Recipe, list_recipes
from trustvlm.service.home.home import Home
from trustvlm.types.bounds import number

__all__ = ["Suggestion", "estimate", "suggest_recipe"]

MILLISECONDS = 25.0
"""What a search may take by default: about as much as encoding the image on one core."""


@dataclass(frozen=True)
class Suggestion:
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


def suggest_recipe(home: Home, space_name: str, milliseconds: float) -> list[Suggestion]:
    """See :meth:`TrustService.suggest_recipe`."""
    milliseconds = number("milliseconds", milliseconds)
    with home.catalog.read() as connection:
        space = spaces.find(connection, space_name)
        rows = max(supports.count(connection, space.id), counts.count(connection, space.id).labels)
    return estimate(list_recipes(), rows, space.verifier_dim, milliseconds, space.recipe)


def estimate(
    recipes: Sequence[Recipe], rows: int, dim: int, budget: float, current: str | None = None
) -> list[Suggestion]:
    """Every recipe for an index of so many rows, the one to take marked.

    That is the first in this order that is fast enough: exact ones, ones that compare every row,
    then the one of the rest that takes the least memory. Where none is, the fastest.
    """
    found = [
        (recipe, *_costs(recipe, rows, dim))
        for recipe in recipes
        if "milliseconds" in recipe.measured
    ]
    if not found:
        raise InvalidInput("no recipe in indexes/ says what was measured of it")
    ranked = sorted(
        found, key=lambda item: (not item[0].exact, not item[0].exhaustive, item[0].bytes_per_value)
    )
    chosen = next(
        (item for item in ranked if item[1] <= budget), min(ranked, key=lambda item: item[1])
    )[0]
    suggestions = []
    for recipe, milliseconds, build_seconds in ranked:
        suggestions.append(
            Suggestion(
                recipe=recipe.name,
                exact=recipe.exact,
                recall=float(recipe.measured["recall"]),
                milliseconds=milliseconds,
                megabytes=rows
                * dim
                * (recipe.bytes_per_value if _built(recipe, rows) else 4.0)
                / 1e6,
                build_seconds=build_seconds,
                chosen=recipe is chosen,
                current=recipe.name == current,
                why=_why(recipe, rows, milliseconds, budget),
            )
        )
    return suggestions


def _built(recipe: Recipe, rows: int) -> bool:
    """Whether the index is what the recipe says, and not (still) an exact one."""
    return not recipe.training or recipe.lists(rows) > 0


def _costs(recipe: Recipe, rows: int, dim: int) -> tuple[float, float]:
    """(ms of a search, s of building) for so many rows, from where they were measured."""
    measured = {
        name: float(value) for name, value in recipe.measured.items() if not isinstance(value, str)
    }
    share, width = rows / measured["rows"], dim / measured["dim"]
    if not _built(recipe, rows):
        return measured["exact_milliseconds"] * share * width, 0.0
    if recipe.exhaustive:
        return measured["milliseconds"] * share * width, measured["build_seconds"] * share * width
    if recipe.training.get(
        "lists_per_root"
    ):  # √rows lists of √rows rows: a search walks some of them, a row looks at all
        return measured["milliseconds"] * math.sqrt(share) * width, measured[
            "build_seconds"
        ] * share**1.5 * width
    growth = max(
        math.log(max(rows, 2)) / math.log(measured["rows"]), 0.0
    )  # a graph: some steps more for a larger one
    return measured["milliseconds"] * growth * width, measured[
        "build_seconds"
    ] * share * growth * width


def _why(recipe: Recipe, rows: int, milliseconds: float, budget: float) -> str:
    if not _built(recipe, rows):
        return f"an exact index up to {int(recipe.training['from_rows']):,} rows"
    speed = "fast enough" if milliseconds <= budget else f"slower than {budget:g} ms"
    kind = (
        "exact"
        if recipe.exact
        else "compares every row"
        if recipe.exhaustive
        else "may miss some of the nearest"
    )
    return f"{kind}; {speed}"
