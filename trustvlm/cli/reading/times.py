"""Times on the command line: a date, a date and time, or an age."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta
from typing import Any

import click

_AGE = re.compile(r"([0-9]{1,9}(?:\.[0-9]{1,6})?)([smhdw])")
_UNITS = {"s": "seconds", "m": "minutes", "h": "hours", "d": "days", "w": "weeks"}


class Moment(click.ParamType[datetime]):
    """A time: 2030-01-31, 2030-01-31T12:00, with +02:00 for another zone than UTC; or an age, such
    as 90m, 24h or 7d."""

    name = "time"

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> datetime:
        """The time that a text stands for."""
        if isinstance(value, datetime):
            return value
        try:
            if match := _AGE.fullmatch(value):
                return datetime.now(UTC) - timedelta(**{_UNITS[match[2]]: float(match[1])})
            time = datetime.fromisoformat(value)
            return time.replace(tzinfo=UTC) if time.tzinfo is None else time
        except (ValueError, OverflowError):
            self.fail(
                f"expected a time in UTC such as 2030-01-31 or 2030-01-31T12:00, or an age such as "
                f"90m, 24h or 7d; got {value!r:.80}",
                param,
                ctx,
            )
