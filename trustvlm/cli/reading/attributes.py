"""Attributes on the command line: KEY=VALUE pairs, and how a table shows them."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

import click

from trustvlm.types.attributes.values import parse_value

__all__ = ["changed", "pairs_of", "shown_attributes"]

_GONE = object()


def pairs_of(pairs: Sequence[str], unset: Sequence[str]) -> dict[str, Any]:
    """What is to change of attributes: key → new value, or that there is none.

    Raises:
        click.UsageError: no pair, or a key twice.
    """
    changes: dict[str, Any] = {}
    for pair in pairs:
        key, equals, value = pair.partition("=")
        if not equals or not key:
            raise click.UsageError(f"Expected KEY=VALUE, got {pair!r:.60}.")
        if key in changes:
            raise click.UsageError(f"{key!r:.60} is given twice.")
        changes[key] = parse_value(value)
    for key in unset:
        if key in changes:
            raise click.UsageError(f"{key!r:.60} is given twice.")
        changes[key] = _GONE
    if not changes:
        raise click.UsageError("Expected KEY=VALUE or --unset KEY.")
    return changes


def changed(attributes: Mapping[str, Any], changes: Mapping[str, Any]) -> dict[str, Any]:
    """Attributes after these changes of :func:`pairs_of`."""
    values = dict(attributes) | dict(changes)
    return {key: value for key, value in values.items() if value is not _GONE}


def shown_attributes(row: Mapping[str, Any]) -> str:
    """The attributes of a row as a table shows them."""
    return ", ".join(
        f"{key}={value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)}"
        for key, value in row["attributes"].items()
    )
