"""A digest of what a unit's rows are made from."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any


class Digest:
    """BLAKE2b over the content of a unit, in order; equal for the same content in files of other
    times or places."""

    def __init__(self) -> None:
        self._hash = hashlib.blake2b(digest_size=16)

    def add(self, *parts: Any) -> None:
        """Go on with texts, bytes or arrays; each counts with its length."""
        for part in parts:
            content = part.encode(errors="surrogatepass") if isinstance(part, str) else part
            view = memoryview(content).cast("B") if len(content) else memoryview(b"")
            self._hash.update(len(view).to_bytes(8, "little"))
            self._hash.update(view)

    def add_file(self, path: str | Path) -> None:
        """Go on with the content of a file; one that cannot be read counts as such."""
        try:
            with Path(path).open("rb") as file:
                self.add(hashlib.file_digest(file, "blake2b").digest())
        except OSError as error:
            self.add(f"unreadable: {error.strerror}")

    def text(self) -> str:
        """The digest of what was added, in hexadecimal."""
        return self._hash.hexdigest()
