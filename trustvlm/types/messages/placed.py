"""Commands in the messages of an open home name that home, so that they run as they are copied."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Generator, Iterator
from typing import Any, Protocol, TypeVar

from trustvlm.types.messages import commands


class HasPlace(Protocol):
    """An object with verbs.

    Attributes:
        place: options of the command line that name its home, in the commands of its messages.
    """

    place: str


T = TypeVar("T", bound=HasPlace)


def placed(kind: type[T]) -> type[T]:
    """Decorate a class: commands in the messages of its public methods, and of the generators that
    these return, name the home of the object."""
    for name in dir(kind):
        verb = inspect.getattr_static(kind, name)
        if not name.startswith("_") and inspect.isfunction(verb):
            setattr(kind, name, _placed(verb))
    return kind


def _placed(verb: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(verb)
    def call(self: HasPlace, *args: Any, **options: Any) -> Any:
        token = commands.PLACE.set(self.place)  # as `at` does, in fewer calls
        try:
            answer = verb(self, *args, **options)
        finally:
            commands.PLACE.reset(token)
        return _items(self.place, answer) if inspect.isgenerator(answer) else answer

    return call


def _items(place: str, items: Generator[Any, Any, Any]) -> Iterator[Any]:
    """The items of a generator, each made at `place`; between them, its caller is elsewhere."""
    while True:
        try:
            with commands.at(place):
                item = next(items)
        except StopIteration:
            return
        yield item
