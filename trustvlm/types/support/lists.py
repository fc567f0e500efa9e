"""Support images as the HTTP service lists and counts them."""

from __future__ import annotations

from dataclasses import dataclass

from trustvlm.types.json_form import Answer
from trustvlm.types.rows import SupportRow


@dataclass(frozen=True, repr=False)
class SupportPage(Answer):
    """A page of support images; `next_cursor` is the `cursor` of the next page, None after the
    last."""

    supports: tuple[SupportRow, ...]
    next_cursor: int | None = None


@dataclass(frozen=True)
class SupportCount(Answer):
    """How many support images there are, or fit."""

    supports: int
