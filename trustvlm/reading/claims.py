"""Labels that were given elsewhere, one for each query."""

from __future__ import annotations

from collections.abc import Sequence
from types import EllipsisType

from trustvlm.errors import InvalidInput
from trustvlm.types import Queries
from trustvlm.types.arrays import optional_texts


def claimed_names(
    claimed: Sequence[str | None] | None, came: int, places: Sequence[int] | None = None
) -> list[str | None] | None:
    """The claimed names of n queries, None without claims.

    Args:
        came: how many queries came, each with its claim. places: of the n among these, where some
            could not be read; None: all of them.

    Raises:
        InvalidInput: no list of names or None, or another number of them.
    """
    if claimed is None:
        return None
    names = optional_texts(
        claimed, "queries.claimed", "one label name for each query, or None for no claim"
    )
    if len(names) != came:
        raise InvalidInput(
            f"queries.claimed: expected {came} names, one for each query (None for no claim), got "
            f"{len(names)}"
        )
    return names if places is None else [names[place] for place in places]


def no_claims(claimed: object, verb: str) -> None:
    """Raises InvalidInput: queries have claims, and the verb does nothing with them."""
    if claimed is not None:
        raise InvalidInput(
            f"queries.claimed: {verb} takes no claims; score, evaluate, calibrate and audit do"
        )


def are_labelled_by_claims(
    queries: object, truth: Sequence[str | None] | EllipsisType | None
) -> bool:
    """Whether the labels of an audit's queries are their claims. Raises InvalidInput: truth is
    given, too."""
    if not isinstance(queries, Queries) or queries.claimed is None:
        return False
    if truth is not None and truth is not ...:
        raise InvalidInput(
            "truth, claimed: an audit judges one label of each image; expected one of the two"
        )
    return True
