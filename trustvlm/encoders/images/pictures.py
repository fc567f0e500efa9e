"""Small pictures of images that were scored, made when they are shown first."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from trustvlm.encoders.images.reading import ImageLimits, UnreadableImage
from trustvlm.encoders.images.sandboxes import read_file, sandbox


@dataclass(frozen=True)
class Pictures:
    """Reads the thumbnail of an image by its place.

    Attributes:
        pictures: the path or the thumbnail of each image; None: neither is at hand.
        limits: what an image may be at most.
    """

    pictures: Sequence[str | bytes | None]
    limits: ImageLimits

    def __call__(self, i: int) -> bytes | None:
        """A JPEG of at most 128 pixels a side; None where there is none, or the file cannot be read
        any more."""
        picture = self.pictures[i]
        if not isinstance(picture, str):
            return picture
        try:
            with sandbox() as child:
                return read_file(child, picture, self.limits).thumbnail
        except UnreadableImage:
            return None
