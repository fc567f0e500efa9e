"""Images of a unit, one after the other, as the encoders read them."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from trustvlm.bulk.inputs.columns import image_columns
from trustvlm.bulk.inputs.digest import Digest
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
