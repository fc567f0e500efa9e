"""The pictures of the images that this process encoded last, by embedding: what is scored are
embeddings, and an image that goes into the review queue needs its picture."""

from __future__ import annotations

import threading
from collections import OrderedDict
from typing import NamedTuple

from trustvlm.catalog.store.vectors import hash_of
from trustvlm.types.arrays import Float32s

_MOST_BYTES = 32 * 2**20
"""About 10,000 thumbnails."""
_ENTRY_BYTES = 300


class Picture(NamedTuple):
    """An image as it was encoded: its content hash, small JPEG and name."""

    content_hash: bytes
    thumbnail: bytes | None
    source: str | None


class RecentPictures:
    """Up to 32 MB of pictures; the oldest ones make room. In memory only; safe to use from
    several threads."""

    def __init__(self) -> None:
        self._pictures: OrderedDict[bytes, Picture] = OrderedDict()
        self._bytes = 0
        self._lock = threading.Lock()

    def remember(self, embedding: Float32s, picture: Picture) -> None:
        """Keep the picture of an image with this (d,) embedding."""
        key, size = hash_of(embedding), _size(picture)
        with self._lock:
            if (earlier := self._pictures.pop(key, None)) is not None:
                self._bytes -= _size(earlier)
            self._pictures[key] = picture
            self._bytes += size
            while self._bytes > _MOST_BYTES:
                self._bytes -= _size(self._pictures.popitem(last=False)[1])

    def of(self, embedding: Float32s) -> Picture:
        """The picture of an image; without one, the hash of the embedding stands for the image, as
        it does for a support image that comes as a vector."""
        key = hash_of(embedding)
        with self._lock:
            return self._pictures.get(key) or Picture(key, None, None)


def _size(picture: Picture) -> int:
    return len(picture.thumbnail or b"") + len(picture.source or "") + _ENTRY_BYTES
