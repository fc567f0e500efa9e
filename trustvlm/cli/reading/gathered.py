"""Options that several commands have, passed on to them as one argument."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Sequence
from typing import Any, TypeVar, cast

F = TypeVar("F", bound=Callable[..., Any])


def gathered(
    name: str, make: Callable[..., Any], *options: Callable[[Any], Any], names: Sequence[str] = ()
) -> Callable[[F], F]:
    """Give a command these options, whose values it gets as the argument `name`: what `make` makes
    of them. `names`: of the options, if they are not those of the parameters of `make`."""
    parameters = tuple(names or inspect.signature(make).parameters)

    def decorate(command: F) -> F:
        @functools.wraps(command)
        def run(*args: Any, **values: Any) -> Any:
            made = make(**{one: values.pop(one) for one in parameters})
            return command(*args, **{name: made}, **values)

        decorated = cast(F, run)
        for option in reversed(options):
            decorated = option(decorated)
        return decorated

    return decorate
