"""The contact sheet: verdicts as pictures, each beside the support images that speak for its label
and for the rival.

Made with Pillow alone and its built-in font, so that it looks the same everywhere.
"""

from __future__ import annotations

import io
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from PIL import Image, ImageDraw, ImageFont

from trustvlm.types import Evidence, Verdict
from trustvlm.types.tables.probability import chance

Thumbnails = Callable[[int], bytes | None]
"""From the id of a support image to the JPEG that the catalog keeps of it."""

_MARGIN, _GAP = 32, 20
_CARD = (740, 168)
_PICTURE, _THUMB = 128, 52
_TEXT_LEFT, _EVIDENCE_LEFT = 172, 470
_HEAD, _SECTION = 92, 48

_BACK, _WHITE, _LINE = "#eceef2", "#ffffff", "#d5d9e0"
_DARK, _GREY, _RIGHT, _WRONG = "#1b2230", "#667085", "#1a7f4b", "#c22f2f"


@dataclass(frozen=True)
class Case:
    """One verdict with what is needed to show it; `truth` is the image's true label."""

    image: Path
    truth: str
    verdict: Verdict
    evidence: Evidence

    @property
    def right(self) -> bool:
        """Whether the label is the true one."""
        return self.verdict.label == self.truth


def draw_sheet(
    path: Path,
    title: str,
    caption: str,
    columns: Sequence[tuple[str, Sequence[Case]]],
    thumbnails: Thumbnails,
) -> None:
    """Write the sheet as a PNG to `path`.

    Args:
        title, caption: the headline, and what the probability is.
        columns: heading and cases of each column, drawn side by side.
        thumbnails: where the pictures of the evidence come from.

    Raises:
        OSError: the file cannot be written.
    """
    rows = max(len(cases) for _, cases in columns)
    width = 2 * _MARGIN + len(columns) * (_CARD[0] + _GAP) - _GAP
    height = _HEAD + _SECTION + rows * (_CARD[1] + _GAP) - _GAP + _MARGIN
    sheet = Image.new("RGB", (width, height), _BACK)
    pen = ImageDraw.Draw(sheet)
    pen.text((_MARGIN, 26), title, _DARK, _font(28))
    pen.text((_MARGIN, 66), caption, _GREY, _font(16))
    for column, (heading, cases) in enumerate(columns):
        left = _MARGIN + column * (_CARD[0] + _GAP)
        pen.text((left, _HEAD + 14), heading, _DARK, _font(20))
        for row, case in enumerate(cases):
            card = _card(case, thumbnails)
            sheet.paste(card, (left, _HEAD + _SECTION + row * (_CARD[1] + _GAP)))
    unfinished = path.with_suffix(".part")
    sheet.save(unfinished, "PNG")
    unfinished.replace(path)


def _card(case: Case, thumbnails: Thumbnails) -> Image.Image:
    """One case: the image, its verdict and reasons, and the evidence of both sides."""
    card = Image.new("RGB", _CARD, _WHITE)
    pen = ImageDraw.Draw(card)
    colour = _RIGHT if case.right else _WRONG
    pen.rectangle((0, 0, _CARD[0] - 1, _CARD[1] - 1), outline=_LINE)
    pen.rectangle((0, 0, 5, _CARD[1] - 1), fill=colour)
    with Image.open(case.image) as picture:
        _put(card, picture.convert("RGB"), (24, 20), _PICTURE)

    verdict = case.verdict
    decision = f"{verdict.decision} · {chance(verdict.probability)}"
    pen.text((_TEXT_LEFT, 18), decision, _DARK, _font(19))
    pen.text((_TEXT_LEFT, 44), verdict.label, _DARK, _font(26))
    outcome = "right" if case.right else f"wrong: it is {case.truth}"
    pen.text((_TEXT_LEFT, 78), outcome, colour, _font(17))
    agreement = "agrees" if verdict.agrees else f"is {verdict.nearest_prototype}"
    terms = f"text {_number(verdict.text_confidence)} · image {_number(verdict.image_similarity)}"
    pen.text((_TEXT_LEFT, 104), f"{terms} · nearest {agreement}", _GREY, _font(14))
    pen.text((_TEXT_LEFT, 130), case.image.name, _GREY, _font(14))

    pen.line((_EVIDENCE_LEFT - 14, 16, _EVIDENCE_LEFT - 14, _CARD[1] - 16), fill=_LINE)
    sides = (
        (f"label {verdict.label}", case.evidence.label),
        (f"rival {verdict.rival or 'none'}", case.evidence.rival),
    )
    for (name, neighbours), top in zip(sides, (14, 90), strict=True):
        kind, _, word = name.partition(" ")
        pen.text((_EVIDENCE_LEFT, top + 6), kind, _GREY, _font(14))
        pen.text((_EVIDENCE_LEFT, top + 24), word, _DARK, _font(17))
        for i, neighbour in enumerate(neighbours[:3]):
            left = _EVIDENCE_LEFT + 70 + i * (_THUMB + 12)
            if (jpeg := thumbnails(neighbour.id)) is not None:
                with Image.open(io.BytesIO(jpeg)) as picture:
                    _put(card, picture.convert("RGB"), (left, top), _THUMB)
            pen.text(
                (left + _THUMB // 2, top + _THUMB + 3),
                f"{neighbour.similarity:.2f}",
                _GREY,
                _font(13),
                anchor="ma",
            )
    return card


def _put(card: Image.Image, picture: Image.Image, place: tuple[int, int], side: int) -> None:
    """`picture` at `place`, fitted into a square of `side` pixels, with a thin frame."""
    scale = side / max(picture.size)
    size = (max(1, round(picture.width * scale)), max(1, round(picture.height * scale)))
    card.paste(picture.resize(size, Image.Resampling.BICUBIC), place)
    corner = (place[0] + size[0], place[1] + size[1])
    ImageDraw.Draw(card).rectangle((place[0] - 1, place[1] - 1, *corner), outline=_LINE)


def _number(value: float | None) -> str:
    return "–" if value is None else f"{value:.2f}".replace("-", "−")


def _font(size: int) -> ImageFont.FreeTypeFont | ImageFont.ImageFont:
    return ImageFont.load_default(size)
