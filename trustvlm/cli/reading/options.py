"""Arguments and kinds of options that several commands have: numbers and words within the bounds
that the library has for them, times, and what queries are judged by."""

from __future__ import annotations

import re
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

import click

from trustvlm.cli.completion import rules, spaces
from trustvlm.cli.printing.safe_text import utf8
from trustvlm.cli.reading.gathered import gathered
from trustvlm.errors import InvalidInput
from trustvlm.types import bounds
from trustvlm.types.bounds import DECISIONS
from trustvlm.types.messages.meant import did_you_mean

_AGE = re.compile(r"([0-9]{1,9}(?:\.[0-9]{1,6})?)([smhdw])")
_UNITS = {"s": "seconds", "m": "minutes", "h": "hours", "d": "days", "w": "weeks"}


class Bounded(click.ParamType[float]):
    """An option's number; `name`: its entry in :mod:`trustvlm.types.bounds`. Another one is a
    usage error that names the bounds."""

    def __init__(self, name: str) -> None:
        self.bounds = name
        self._plain: click.ParamType[Any] = click.FLOAT if name in bounds.NUMBERS else click.INT
        self.name = self._plain.name

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> float:
        """The number that a text stands for."""
        plain = self._plain.convert(value, param, ctx)
        try:
            check = bounds.number if self.bounds in bounds.NUMBERS else bounds.whole
            return check(self.bounds, plain)
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
            return bounds.number(self.name, float(value))
        except (ValueError, InvalidInput):
            low, high = bounds.NUMBERS[self.name]
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


class FilePath(click.Path):
    """A path; not an empty one, as of a variable that is not set, which would be the current
    folder."""

    def __init__(self) -> None:
        super().__init__(path_type=Path)

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """The path that a text stands for."""
        if value == "":
            self.fail("expected a path, got an empty one", param, ctx)
        return super().convert(value, param, ctx)


F = TypeVar("F", bound=Callable[..., Any])

FILE = FilePath()
SPACE = click.argument("space", type=utf8, shell_complete=spaces)
SPACE_NAME = click.argument("name", type=utf8, shell_complete=spaces)
NAME, LABEL = (click.argument(name, type=utf8) for name in ("name", "label"))
PATHS = click.argument("paths", nargs=-1, type=FILE)
FORMAT = click.option(
    "--format",
    "form",
    type=Choice(["table", "jsonl", "csv"]),
    default="table",
    help="A table for people, or rows for programs.",
)
ID = click.IntRange(1, 2**63 - 1)

text = partial(click.option, type=utf8)
file = partial(click.option, type=FILE)
flag = partial(click.option, is_flag=True)


def number(option: str, *, bounds: str = "", **settings: Any) -> Callable[[F], F]:
    """An option within the bounds of that name in :mod:`trustvlm.types.bounds`."""
    name = bounds or option.lstrip("-").replace("-", "_")
    return click.option(option, type=Bounded(name), **settings)


where = partial(
    click.option,
    "--where",
    metavar="FILTER",
    type=utf8,
    help="Only what has attributes that fit: 'region = \"EU\" and size >= 3'.",
)
VECTORS = click.option(
    "--vectors", is_flag=True, help="With the embeddings, in --format jsonl or csv."
)
json_flag = partial(click.option, "--json", "json_", is_flag=True)


def _judging(
    rule: str | None, top_k: int, only: tuple[str, ...], **params: float | None
) -> dict[str, Any]:
    given = {name: value for name, value in params.items() if value is not None}
    return {"rule": rule, "top_k": top_k, "labels": list(only) or None, "params": given or None}


judging_options = gathered(
    "judging",
    _judging,
    click.option(
        "--rule",
        metavar="NAME",
        shell_complete=rules,
        help="msp, max_logit, margin, entropy, energy, doctor (text only); image, knn, ratio "
        "(image only); trustvlm, trustvlm_star (the paper's); posterior, posterior_star, lda, "
        "lda_star (ours; _star may correct the label). Without it, the calibrated rule if there is "
        "one.  [default: posterior]",
    ),
    number("--lambda", metavar="X", help="Weight of the image term.  [default: the rule's]"),
    number(
        "--temperature",
        metavar="X",
        help="Temperature of the image softmax.  [default: the rule's]",
    ),
    number(
        "--tau",
        metavar="X",
        help="Divides the image evidence in the posterior and lda rules (τ).  [default: fitted to "
        "the support images]",
    ),
    number(
        "--towers",
        metavar="X",
        help="Share of the verifier in the image evidence of the lda rules; the classifier's image "
        "tower has the rest.  [default: fitted to the support images]",
    ),
    number("--top-k", default=5, help="How many labels to list by text confidence."),
    text(
        "--only",
        metavar="LABEL",
        multiple=True,
        help="Only these labels take part; repeat it for several.",
    ),
    names=("rule", "lambda", "temperature", "tau", "towers", "top_k", "only"),
)
"""What queries are judged by: arguments of the library's verb."""

back_off_option = click.option(
    "--back-off",
    type=BackOffChoice(),
    metavar="X",
    help="Answer with the finest node of the taxonomy from probability X on. auto: the threshold "
    "of the calibration if it backs off, else 0.95. off: labels.  [default: as calibrated]",
)


def log_options(command: F) -> F:
    """Which logged answers a command is about."""
    for option in (
        text("--label", metavar="NAME", help="Only answers with this predicted label."),
        click.option("--decision", type=Choice(DECISIONS), help="Only answers with this decision."),
        click.option("--until", type=Moment(), metavar="TIME", help="Answered before this time."),
        click.option(
            "--since", type=Moment(), metavar="TIME", help="Answered at this time or later."
        ),
        click.option(
            "--seed", type=Bounded("seed"), default=0, help="Number that draws the sample."
        ),
        click.option(
            "--sample", type=Bounded("log_page"), help="Draw this number at random instead."
        ),
    ):
        command = option(command)
    return command
