"""What a caller expects of requests: the revision that they find, and their sizes."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass


class Expected(threading.local):
    """The revision that this thread expects its next write to a space to find."""

    _pending: tuple[str, int] | None = None

    @contextmanager
    def of(self, path: str, revision: int) -> Iterator[None]:
        """Expect it, within the block, of the space with this path."""
        self._pending = (path, revision)
        try:
            yield
        finally:
            self._pending = None

    def headers(self, path: str) -> dict[str, str]:
        """The headers of a write to `path`; the write after it expects nothing."""
        if self._pending is None or not f"{path}/".startswith(f"{self._pending[0]}/"):
            return {}
        (_, revision), self._pending = self._pending, None
        return if_match(revision)


def if_match(revision: int | None) -> dict[str, str]:
    """The header of a request that finds this revision, or none."""
    return {} if revision is None else {"if-match": f'"{revision}"'}


@dataclass(frozen=True)
class RequestSizes:
    """How much the client puts into one request; a call that has more makes several.

    Attributes:
        files: images of labels and of feedback. embed_files: images that are embedded.
        file_bytes: bytes of images, and of labels as JSON, about.
        vector_bytes: bytes of embeddings that are scored or searched with.
    """

    files: int = 128
    embed_files: int = 32
    file_bytes: int = 8 * 2**20
    vector_bytes: int = 16 * 2**20
