"""Image files of requests: parts of a form, or texts in base64."""

from __future__ import annotations

import re
from base64 import b64decode
from collections.abc import Sequence
from pathlib import PurePath
from typing import Annotated

from pydantic import Field

from trustvlm.errors import InvalidInput
from trustvlm.types.messages.stored_text import printable
from trustvlm.types.options import says

MOST_FILES = 256
_BLANKS = re.compile(r"[ \t\r\n]+")

Base64Images = Annotated[
    list[Annotated[str, Field(examples=["iVBORw0KGgo…"])]] | None,
    says(
        "image files in base64, or data: URLs of them, in place of embeddings",
        min_length=1,
        max_length=MOST_FILES,
    ),
]


class ImageFile(bytes):
    """The bytes of an image file, with the name that it came under."""

    filename: str = ""


def image_file(data: bytes, filename: bytes) -> ImageFile:
    """A file with its name, as far as it is one: never a path."""
    image = ImageFile(data)
    name = PurePath(filename.decode(errors="surrogateescape")).name
    image.filename = printable(name[-200:])
    return image


def base64_images(given: Sequence[str], what: str = "images") -> list[ImageFile]:
    """The image files of texts in base64 or of data: URLs.

    Raises:
        InvalidInput: a text that is neither.
    """
    return [ImageFile(_bytes(text, f"{what}[{place}]")) for place, text in enumerate(given)]


def _bytes(text: str, what: str) -> bytes:
    content = text
    if text[:5].lower() == "data:":
        head, _, content = text.partition(",")
        if not head.lower().endswith(";base64"):
            raise InvalidInput(f"{what}: expected a data: URL in base64, got {text[:40]!r}")
    try:
        data = b64decode(_BLANKS.sub("", content), validate=True)
    except ValueError:
        data = b""
    if not data:
        raise InvalidInput(
            f"{what}: expected an image file in base64, or a data: URL of one, got {text[:40]!r}"
        )
    return data
