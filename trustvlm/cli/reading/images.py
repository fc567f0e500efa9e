"""How commands read images, and what they print about those that they could not read or had to
change."""

from __future__ import annotations

import math
import re
import tempfile
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from trustvlm.cli.printing.left_out import count_left_out
from trustvlm.cli.printing.progress import progress_bar
from trustvlm.cli.printing.safe_text import note, one_line, shown, warn
from trustvlm.cli.printing.wording import in_options
from trustvlm.cli.reading.gathered import gathered
from trustvlm.errors import InvalidInput
from trustvlm.reading.images import UNREAD

if TYPE_CHECKING:
    from trustvlm.service import TrustService
    from trustvlm.types import Embedded

_NAMED = 3  # images with one reason that are named one by one


def _range(
    context: click.Context, parameter: click.Parameter, text: str | None
) -> tuple[float, float] | None:
    if text is None:
        return None
    try:
        low, high = (float(part) for part in text.split(","))
    except ValueError:
        low = high = math.nan
    if not (math.isfinite(low) and math.isfinite(high) and low < high):
        raise click.BadParameter(
            f"expected LOW,HIGH, two numbers with LOW below HIGH, such as 0,4095; got {text!r}"
        )
    return low, high


image_options = gathered(
    "reading",
    dict,
    click.option(
        "--range",
        "image_range",
        metavar="LOW,HIGH",
        callback=_range,
        help="The values that become black and white in images of more than 8 bits a channel, such "
        "as 0,4095.  [default: estimated from each image]",
    ),
    click.option(
        "--accept-truncated",
        is_flag=True,
        help="Read JPEG and PNG files that lack their last bytes; the missing part is filled.",
    ),
    names=("image_range", "accept_truncated"),
)
"""How images are read, as arguments of the library's verbs."""


def embedded(
    service: TrustService, space: str, where: object, images: Sequence[Any], reading: dict[str, Any]
) -> Embedded:
    """The images that lie at `where`, encoded; those that cannot be read are named. Raises
    InvalidInput: none can."""
    with progress_bar(len(images), "images") as bar:
        made = service.embed(space, images, progress=bar.advance, **reading)
    report_unreadable(made.failures)
    note_images(made.notes)
    if not made.sources:
        raise InvalidInput(f"no image in {where} could be read")
    return made


def note_images(notes: Iterable[str]) -> None:
    """What was done to images so that the encoders see them, on stderr."""
    for sentence in notes:
        hint = "; --range LOW,HIGH fixes one for all" if "its own range" in sentence else ""
        note(f"note: {sentence}{hint}")


def report_unreadable(failures: Sequence[tuple[str, str]]) -> None:
    """Images that could not be read, by name and reason, on stderr; many of one reason on one line,
    all of them in a file; --strict counts them."""
    count_left_out(len(failures))
    groups: dict[str, list[tuple[str, str]]] = {}
    for source, reason in failures:
        groups.setdefault(re.sub(r"\d+", "#", reason), []).append((source, reason))
    for group in groups.values():
        if len(group) <= _NAMED:
            for source, reason in group:
                warn(f"{UNREAD}{source}: {in_options(reason)}")
            continue
        names = ", ".join(source for source, _ in group[:_NAMED])
        warn(
            f"{len(group):,} images could not be read: {in_options(group[0][1])} ({names} and "
            f"{len(group) - _NAMED:,} more)"
        )
    if any(len(group) > _NAMED for group in groups.values()):
        warn(f"all {len(failures):,} with their reasons: {_list_of(failures)}")


def _list_of(failures: Sequence[tuple[str, str]]) -> Path:
    """A file with a line for each: its name, a tab, the reason."""
    lines = "".join(f"{shown(source)}\t{one_line(reason)}\n" for source, reason in failures)
    with tempfile.NamedTemporaryFile(
        "w", encoding="utf-8", prefix="trustvlm-unreadable-", suffix=".tsv", delete=False
    ) as file:
        file.write(lines)
    return Path(file.name)
