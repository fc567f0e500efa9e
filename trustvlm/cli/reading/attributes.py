"""Attributes on the command line: KEY=VALUE pairs, and how a table shows them."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

import click

from trustvlm.types.attributes.values import parse_value


def pairs_of(pairs: Sequence[str], unset: Sequence[str]) -> dict[str, Any]:
    """What is to change of attributes: key → new value, None for a key that goes.

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
        changes[key] = None
    if not changes:
        raise click.UsageError("Expected KEY=VALUE or --unset KEY.")
    return changes


def shown_attributes(row: Mapping[str, Any]) -> str:
    """The attributes of a row as a table shows them."""
    return ", ".join(
        f"{key}={value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)}"
        for key, value in row["attributes"].items()
    )
