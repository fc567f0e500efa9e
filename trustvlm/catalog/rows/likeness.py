"""The label that was probably meant by an unknown name, among the labels of a space."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from itertools import islice

from sqlalchemy import Connection, select

from trustvlm.catalog.store.bulk import rows_among
from trustvlm.catalog.store.models import Label
from trustvlm.catalog.store.names import brief, forms, normal
from trustvlm.types.messages.meant import likest

SCANNED = 10_000
"""Names that are compared one by one; in a larger space only the usual ways to write the name are
looked up."""

_GUESSED = 3


def unknown(connection: Connection, space_id: int, names: Iterable[str]) -> dict[str, str | None]:
    """Those of `names` that are no live label of the space, in order → the label that is most like
    it, or None.

    A label is looked for only for the first three names.

    Raises:
        InvalidInput: something that no name can be.
    """
    names = list(dict.fromkeys(names))
    live = set(_live(connection, space_id, sorted(forms(names))))
    missing = [name for name in names if name not in live and normal(name) not in live]
    if not missing:
        return {}
    alive = (Label.space_id == space_id, Label.removed_revision.is_(None))
    every = list(
        connection.scalars(select(Label.name).where(*alive).order_by(Label.name).limit(SCANNED + 1))
    )
    guesses: dict[str, str | None] = dict.fromkeys(missing)
    for name in islice(missing, _GUESSED):
        small = len(every) <= SCANNED
        guesses[name] = likest(
            name, every if small else _live(connection, space_id, _spellings(name))
        )
    return guesses


def likest_removed(connection: Connection, space_id: int, name: str) -> str | None:
    """The removed label of the space whose name is most like this one."""
    removed = (Label.space_id == space_id, Label.removed_revision.is_not(None))
    return likest(
        name,
        connection.scalars(select(Label.name).where(*removed).order_by(Label.name).limit(SCANNED)),
    )


def not_found_text(missing: Mapping[str, str | None], space: str, remedy: str = "") -> str:
    """The message on names that are no labels: the first one, how many more, which labels were
    probably meant, the remedy."""
    more = len(missing) - 1
    others = f" (and {more} more name{'s' * (more > 1)} without a label)" if more else ""
    guesses = [(name, guess) for name, guess in missing.items() if guess is not None]
    meant = [brief(guess) + (f" for {brief(name)}" if more else "") for name, guess in guesses]
    hint = f"; did you mean {', '.join(meant)}?" if meant else ""
    end = "" if not remedy else f" Otherwise: {remedy}" if meant else f"; {remedy}"
    return f"no label {brief(next(iter(missing)))} in space {space!r}{others}{hint}{end}"


def _live(connection: Connection, space_id: int, names: Sequence[str]) -> list[str]:
    query = select(Label.name).where(Label.space_id == space_id, Label.removed_revision.is_(None))
    return sorted(row.name for row in rows_among(connection, query, Label.name, names))


def _spellings(name: str) -> list[str]:
    """The usual ways to write a name, for an index that compares letter by letter."""
    words = [word for word in re.split(r"[\W_]+|(?<=[a-z])(?=[A-Z])", normal(name)) if word]
    joined = {separator.join(words) for separator in ("", " ", "_", "-")} | {normal(name)}
    numbers = {each + "s" for each in joined} | {each.removesuffix("s") for each in joined} | joined
    return sorted(
        {
            case(each)
            for each in numbers
            for case in (str, str.lower, str.upper, str.title, str.capitalize)
        }
        - {""}
    )
