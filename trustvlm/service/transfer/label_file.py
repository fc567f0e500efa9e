"""Labels from a Parquet file, which a process of its own reads: files of strangers come here.

The columns are the fields of :class:`trustvlm.LabelInput` that are no images: `name` (text, never
empty), `prompt` (text), `text_vector` (list, or list of lists, of numbers), `image_vectors` and
`classifier_image_vectors` (lists of lists); only `name` must be there. Lists may be of fixed size,
floats of 16, 32 or 64 bits, and the file compressed as it likes: rows come in pieces of some
megabytes, so that a file of any size is read in the same memory. Where pyarrow ends its process
over a file, or takes more than it may, that is the child
(:mod:`trustvlm.service.transfer.sandbox_read_labels`), and here it is an InvalidInput.
"""

from __future__ import annotations

import json
import os
import select
import signal
import subprocess
import threading
from collections.abc import Sequence
from typing import Any, BinaryIO

import numpy as np

from trustvlm.errors import InvalidInput, Unavailable
from trustvlm.service.transfer.sandbox import reader
from trustvlm.types import LabelInput

__all__ = ["LabelFile"]

_SECONDS = 30.0
"""So long a piece may take to come."""
_MOST_HEAD, _MOST_BODY = 64 * 2**20, 128 * 2**20


class LabelFile:
    """The labels of an open Parquet file, some hundred at a time; close it, in any thread, to stop
    reading.

    Args:
        file: with a descriptor; where it stands does not matter. skip: rows at its beginning that
            are left out.

    Attributes:
        total: rows of the whole file; None before the first :meth:`read`.

    Raises:
        Unavailable: no process can be started.
    """

    def __init__(self, file: BinaryIO, skip: int = 0) -> None:
        self.total: int | None = None
        self._reading = threading.Lock()
        command, environment = reader("sandbox_read_labels.py", str(skip))
        streams: dict[str, Any] = {
            "stdin": file,
            "stdout": subprocess.PIPE,
            "stderr": subprocess.DEVNULL,
        }
        try:
            self._child = subprocess.Popen(command, env=environment, bufsize=0, **streams)
        except OSError as error:
            raise Unavailable(
                f"no process to read the file with ({error.strerror or error})"
            ) from error

    def read(self) -> list[LabelInput] | None:
        """The labels of the next rows; None at the end of the file.

        Raises:
            InvalidInput: it is no Parquet file of labels, it is damaged, or it would take too much
                to read. What could be read was returned before.
        """
        with self._reading:
            head = self._head()
            if self.total is None and "total" in head:
                self.total = head["total"]
                head = self._head()
            if "error" in head:
                raise InvalidInput(f"the file cannot be imported: {head['error']}")
            return None if "end" in head else self._labels(head)

    def close(self) -> None:
        """Stop; a :meth:`read` under way raises InvalidInput."""
        self._child.kill()
        with self._reading:
            self._child.wait()
            assert self._child.stdout is not None
            self._child.stdout.close()

    def _head(self) -> dict[str, Any]:
        size = int.from_bytes(self._bytes(4), "big")
        if size > _MOST_HEAD:
            raise InvalidInput(
                "the file cannot be imported: its names and prompts are too long to be any"
            )
        found: dict[str, Any] = json.loads(self._bytes(size))
        return found

    def _labels(self, head: dict[str, Any]) -> list[LabelInput]:
        columns: dict[str, Sequence[Any]] = {}
        for name, column in head.items():  # in the order in which their vectors follow
            if name != "rows":
                columns[name] = column if name in ("name", "prompt") else self._vectors(column)
        return [
            LabelInput(**{name: values[row] for name, values in columns.items()})
            for row in range(head["rows"])
        ]

    def _vectors(self, column: dict[str, Any]) -> list[Any]:
        values = np.frombuffer(self._bytes(column["bytes"]), np.dtype(column["dtype"]))
        found: list[Any] = []
        at = 0
        for shape in column["shapes"]:
            if shape is None:
                found.append(None)
                continue
            size = int(np.prod(shape))
            found.append(values[at : at + size].reshape(shape))
            at += size
        return found

    def _bytes(self, size: int) -> bytes:
        """So many bytes of what the child writes."""
        assert self._child.stdout is not None
        if size > _MOST_BODY:
            raise InvalidInput(
                f"the file cannot be imported: some of its rows have more than "
                f"{_MOST_BODY >> 20} MiB"
            )
        parts, left = [], size
        while left:
            if not select.select([self._child.stdout], [], [], _SECONDS)[0]:
                self._child.kill()
                raise InvalidInput(
                    f"the file cannot be imported: some of its rows could not be read within "
                    f"{_SECONDS:g} s"
                )
            part = os.read(self._child.stdout.fileno(), min(left, 2**20))
            if not part:
                raise self._ended()
            parts.append(part)
            left -= len(part)
        return b"".join(parts)

    def _ended(self) -> InvalidInput | Unavailable:
        """Why the child wrote no more."""
        code = self._child.wait()
        if code < 0:
            name = signal.Signals(-code).name
            return InvalidInput(
                f"the file cannot be imported: it is not sound: its reader ended over it with "
                f"{name}"
            )
        return Unavailable(f"the file cannot be imported: its reader failed with exit code {code}")
