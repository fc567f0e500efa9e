"""Images of a unit, one after the other, as the encoders read them, and the digest of what is
read."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from trustvlm.bulk.inputs.columns import image_columns
from trustvlm.bulk.units import Unit
from trustvlm.reading.parquet import ParquetFiles
from trustvlm.reading.sets.rows import FileBytes
from trustvlm.reading.sets.shards import shard_images


def read_images(parquet: ParquetFiles, unit: Unit, digest: Digest) -> Iterator[str | FileBytes]:
    """The images of a unit: paths, or the bytes of files. What is read goes into `digest`, too.

    Raises:
        InvalidInput: its file is no sound one, or has no column of images any more.
    """
    if unit.kind == "shard":
        digest.add_file(unit.path)
        yield from shard_images([Path(unit.path)], None).images()
        return
    images = iter(unit.images) if unit.kind == "files" else _in_parquet(parquet, unit)
    for image in images:
        if isinstance(image, str):
            digest.add(Path(image).name)
            digest.add_file(image)
        else:
            digest.add(image.filename, image)
        yield image


def _in_parquet(parquet: ParquetFiles, unit: Unit) -> Iterator[Any]:
    path = Path(unit.path)
    columns = image_columns(path, parquet.facts(path).schema)
    number = unit.start
    for batch in parquet.batches(path, [columns.image], unit.start, unit.stop):
        for cell in batch.column(columns.image):
            value = cell.as_py()
            if not value or (isinstance(value, dict) and not any(value.values())):
                # no image: what reads it says so, and the row keeps its place
                yield FileBytes.named(b"", f"{path}[{number}]")
            else:
                yield columns.image_of(value, f"{path}, row {number}", number)
            number += 1


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
