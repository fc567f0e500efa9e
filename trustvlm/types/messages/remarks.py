"""What was done to images so that an encoder can see them, reported once for all images of a
call."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

_NAMED = 10
_NOTE = re.compile(r"([\d,]+) images? (.+?)(?:: (.*))?", re.DOTALL)
_NUMBER = r"(-?[\d.]+(?:e[+-]?\d+)?)"
_ONE_RANGE = re.compile(rf"values {_NUMBER}–{_NUMBER} stretched to 0–255")
_RANGES = re.compile(
    rf"values stretched to 0–255, each image by its own range within {_NUMBER}–{_NUMBER}"
)


@dataclass(frozen=True)
class Remark:
    """What was done to one image.

    Attributes:
        what: the sentence behind "12 images"; equal ones are counted together.
        low, high: the values that became black and white, of an image whose values were stretched.
        named: the images are listed by name.
    """

    what: str
    low: float | None = None
    high: float | None = None
    named: bool = False


def notes_of(remarks: Iterable[tuple[str, Sequence[Remark]]]) -> tuple[str, ...]:
    """One sentence for each kind of remark, from (name of an image, its remarks), in order of
    appearance."""
    kinds: dict[str, list[tuple[str, Remark]]] = {}
    for name, several in remarks:
        for remark in several:
            kinds.setdefault(remark.what, []).append((name, remark))
    return tuple(
        _sentence(len(members), what, _details(members)) for what, members in kinds.items()
    )


def merged_notes(notes: Iterable[str]) -> tuple[str, ...]:
    """The notes of several calls as those of one call: one sentence for each kind."""
    kinds: dict[str, list[tuple[int, str]]] = {}
    for note in notes:
        match = _NOTE.fullmatch(note)
        count, what, details = (
            (0, note, "")
            if match is None
            else (int(match[1].replace(",", "")), match[2], match[3] or "")
        )
        kinds.setdefault(what, []).append((count, details))
    return tuple(
        what
        if not several[0][0]
        else _sentence(sum(count for count, _ in several), what, _joined([d for _, d in several]))
        for what, several in kinds.items()
    )


def _sentence(count: int, what: str, details: str) -> str:
    return f"{count:,} image{'s' if count > 1 else ''} {what}{f': {details}' if details else ''}"


def _details(members: Sequence[tuple[str, Remark]]) -> str:
    ranges = {
        (remark.low, remark.high)
        for _, remark in members
        if remark.low is not None and remark.high is not None
    }
    if ranges:
        return _stretched(ranges)
    if not members[0][1].named:
        return ""
    names = ", ".join(name for name, _ in members[:_NAMED])
    return f"{names}{f' and {len(members) - _NAMED:,} more' if len(members) > _NAMED else ''}"


def _stretched(ranges: Iterable[tuple[float, float]]) -> str:
    lows, highs = zip(*ranges, strict=True)
    ends = f"{min(lows):.6g}–{max(highs):.6g}"
    if len(lows) == 1:
        return f"values {ends} stretched to 0–255"
    return f"values stretched to 0–255, each image by its own range within {ends}"


def _joined(details: Sequence[str]) -> str:
    """What several notes of one kind say behind their colon, as one."""
    matches = [_ONE_RANGE.fullmatch(one) or _RANGES.fullmatch(one) for one in details]
    if not all(matches):
        return ", ".join(dict.fromkeys(filter(None, details)))
    if len(set(details)) == 1:
        return details[0]
    ends = [float(end) for match in matches if match is not None for end in match.groups()]
    return (
        f"values stretched to 0–255, each image by its own range within "
        f"{min(ends):.6g}–{max(ends):.6g}"
    )
