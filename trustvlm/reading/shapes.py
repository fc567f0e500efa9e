"""Telling a plain list, one name a line, from files of another make, which must not become labels
line by line."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence

from trustvlm.reading.images import IMAGE_SUFFIXES

WNID = re.compile(r"n\d{8}")
"""A WordNet id, the name of a class of ImageNet."""

_SUFFIXES = "|".join(re.escape(suffix) for suffix in sorted(IMAGE_SUFFIXES))
_LOOKED_AT, _WIDTH = 2_000, 1_000  # lines and characters of them: enough to tell
_QUOTED = re.compile(r'"[^"]*"')


Test = Callable[[Sequence[str]], bool]
"""Whether lines (stripped, not empty, no comments) are of a make of file."""


def _half(pattern: str, flags: int = 0) -> Test:
    match = re.compile(pattern, flags).match
    return lambda lines: 2 * sum(match(line) is not None for line in lines) >= len(lines)


def _every(pattern: str) -> Test:
    match = re.compile(pattern).match
    return lambda lines: len(lines) > 1 and all(match(line) for line in lines)


def _some(pattern: str) -> Test:
    match = re.compile(pattern).match
    return lambda lines: any(match(line) for line in lines)


def _first(pattern: str) -> Test:
    match = re.compile(pattern, re.IGNORECASE).match
    return lambda lines: match(lines[0]) is not None


def _only(pattern: str) -> Test:
    match = re.compile(pattern).match
    return lambda lines: len(lines) == 1 and match(lines[0]) is not None


def _sentences(lines: Sequence[str]) -> bool:
    """Whether a quarter of the lines are sentences, or lines of a text that goes on in the next."""
    ends = re.compile(r"(\S+\s+){3,}\S*[.!?…][\"'”)]*$|(\S+\s+){11}\S")
    # A prompt may follow behind a tab, and end with a full stop.
    names = [line.partition("\t")[0] for line in lines]
    return 4 * sum(ends.match(name) is not None for name in names) >= len(names)


def _counted(lines: Sequence[str]) -> bool:
    """Whether the lines begin with 0, 1, 2 …, 1, 2, 3 … or a, b, c …, each followed by more."""
    marks = [re.match(r"[(\[]?(\d{1,9}|[a-z])[.):\]]*\s+\S", line, re.IGNORECASE) for line in lines]
    return len(lines) > 1 and _ascend([mark and mark[1] for mark in marks])


def _ends_counted(lines: Sequence[str]) -> bool:
    """Whether the lines end with 0, 1, 2 … or 1, 2, 3 …, each after a blank."""
    marks = [re.search(r"\s(\d{1,9})$", line) for line in lines]
    return len(lines) > 1 and _ascend([mark and mark[1] for mark in marks])


def _ascend(marks: Sequence[str | None]) -> bool:
    """Whether each mark follows the one before it, from 0, 1 or a."""
    numbers = [
        -1 if mark is None else int(mark) if mark.isdecimal() else ord(mark.lower()) - ord("a")
        for mark in marks
    ]
    return numbers[0] in (0, 1) and numbers == list(range(numbers[0], numbers[0] + len(numbers)))


def _delimited(lines: Sequence[str]) -> bool:
    """Whether half of the lines have columns: a ";", a "|", or a comma that is not followed by a
    blank nor within a number."""
    return _half(r".*?([;|]|(?<!\d),(?!\s|$)|,(?=[^\s\d]))")(
        [_QUOTED.sub('""', line) for line in lines]
    )


def _markup(lines: Sequence[str]) -> bool:
    tags = any("</" in line or "/>" in line or "<!" in line for line in lines)
    return tags and _first(r"<[?!a-z]")(lines)


_NUMBERED = _every(r"[(\[]?\d+[)\]]?\s*([.:)\]]|\t)\s*\D")
_WNIDS = "a map of WordNet ids to names (--names FILE takes it for folders with such names)"
_BRACKETS = "program text or a nested structure, with brackets over several lines"
_NUMBER_ROWS = r"[-+\d.]+([\s,;]+[-+\d.]+)+$|[-+]?\d*\.\d+(e[-+]?\d+)?$"
_KEY = r"""(-\s+)?["']?[^:"']+["']?\s*:(\s.*)?$"""
_SHAPES: tuple[tuple[str, Test], ...] = (
    ("a list of image files", _half(rf".*({_SUFFIXES})\b", re.IGNORECASE)),
    ("XML or HTML", _markup),
    ("YAML", _first(r"(---|%YAML)(\s|$)")),
    ("YAML or a mapping of another kind (key: value)", _half(_KEY)),
    ("YAML, JSON or program text", _first(r"""["'\w.-]+\s*[:=]\s*[\[{(|>"']""")),
    (_BRACKETS, _some(r"[\])}]+[,;]?$|.*[\[{(]$")),
    ("settings (key = value)", _half(r"[^=]+=\s*\S")),
    ("a list with bullets", _half(r"[-*+•]\s+\S")),
    (_WNIDS, _every(r"n\d{8}[\s,;:]+\S")),
    ("a numbered list", lambda lines: _counted(lines) or _NUMBERED(lines)),
    ("a map of names to numbers", _ends_counted),
    ("subtitles", _some(r"[\d:.,]+\s*-->\s*[\d:.,]+")),
    ("a mapping (a -> b)", _half(r"\S.*(->|=>|→)\s*\S")),
    (
        "lines with dates or times, such as a log",
        _half(r"\[?(\d{4}[-/]\d\d[-/]\d\d|\d{1,2}:\d\d)\b"),
    ),
    ("a list of addresses", _half(r"\w+://\S|www\.\S")),
    ("differences between files", _first(r"(diff|index|---|\+\+\+|@@) ")),
    ("a list of paths", _half(r"(/|\.{1,2}/|[A-Za-z]:\\)\S")),
    ("names in single quotes", _half(r"'.*'$")),
    ("LaTeX", _half(r"\\\w+")),
    ("columns separated by spaces", _half(r".*\S {2,}\S")),
    ("a map of names to numbers", _every(r".+[,;:=|\t]\s*-?\d+$")),
    ("lines that end with commas", _half(r".*[,;]$")),
    ("a table whose header is not recognized", _delimited),
    ("one line of several names", _only(r".*,.*,")),
    ("rows of numbers", _half(_NUMBER_ROWS, re.IGNORECASE)),
    ("rows of numbered features (libsvm)", _half(r"\S+(\s+\d+:[-+\d.e]+)+$")),
    ("sentences", _sentences),
    ("a list in brackets", _only(r"[\[(].*,.*[\])]$")),
)


def is_comment(line: str) -> bool:
    """Whether a line of a list is a comment: "#", alone or with a blank behind it."""
    return line[:1] == "#" and (len(line) == 1 or line[1].isspace())


def other_shape(lines: Sequence[str]) -> str | None:
    """What else than names, one a line, the lines seem to be, by the first of them; None where that
    is what they are."""
    lines = [line[:_WIDTH] for line in lines[:_LOOKED_AT]]
    return next((what for what, holds in _SHAPES if holds(lines)), None)
