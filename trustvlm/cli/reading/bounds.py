"""Numbers and words to choose from on the command line, within the bounds that the library has for
them."""

from __future__ import annotations

from typing import Any

import click

from trustvlm.errors import InvalidInput
from trustvlm.types.bounds import NUMBERS, number, whole
from trustvlm.types.messages.meant import did_you_mean


class Bounded(click.ParamType[float]):
    """An option's number; `bounds`: its entry in :mod:`trustvlm.types.bounds`. Another one is a
    usage error that names the bounds."""

    def __init__(self, bounds: str) -> None:
        self.bounds = bounds
        self._plain: click.ParamType[Any] = click.FLOAT if bounds in NUMBERS else click.INT
        self.name = self._plain.name

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> float:
        """The number that a text stands for."""
        plain = self._plain.convert(value, param, ctx)
        try:
            return (number if self.bounds in NUMBERS else whole)(self.bounds, plain)
        except InvalidInput as error:
            self.fail(str(error).partition(": ")[2], param, ctx)


class BackOffChoice(click.ParamType[bool | float]):
    """A number within the bounds of "back_off", or auto or off."""

    name = "back_off"

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> bool | float:
        """The option that a text stands for."""
        if value in ("auto", "off"):
            return bool(value == "auto")
        try:
            return number(self.name, float(value))
        except (ValueError, InvalidInput):
            low, high = NUMBERS[self.name]
            expected = f"expected a number from {low:g} to {high:g}, auto or off"
            self.fail(f"{expected}; got {value!r}", param, ctx)


class Choice(click.Choice[str]):
    """click's choice; of a word that is none of them it says which one was probably meant."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> str:
        """The word, or a usage error."""
        try:
            return super().convert(value, param, ctx)
        except click.BadParameter as error:
            meant = did_you_mean(value, map(str, self.choices)).removeprefix("; d")
            vars(error)["message"] = f"{error.message} D{meant}" if meant else error.message
            raise


back_off_option = click.option(
    "--back-off",
    type=BackOffChoice(),
    metavar="X",
    help="Answer with the finest node of the taxonomy from probability X on. auto: the threshold "
    "of the calibration if it backs off, else 0.95. off: labels.  [default: as calibrated]",
)
