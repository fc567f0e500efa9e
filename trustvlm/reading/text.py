"""The text of a file that a user gave: UTF-8, or the encoding that its first bytes name; anything
else is refused by name."""

from __future__ import annotations

import codecs
import json
from pathlib import Path
from typing import Any

from trustvlm.errors import InvalidInput
from trustvlm.reading.images import is_folder
from trustvlm.types.attributes.values import once_each

_MAX_BYTES = 256 * 2**20  # a million names are 30 MB

_MARKS = (
    (codecs.BOM_UTF32_LE, "utf-32"),
    (codecs.BOM_UTF32_BE, "utf-32"),
    (codecs.BOM_UTF8, "utf-8-sig"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
)
_BINARY = {
    b"PK\x03\x04": "a zip archive (.npz, .xlsx, .ods …)",
    b"PK\x05\x06": "a zip archive",
    b"\xd0\xcf\x11\xe0": "an old Office file (.xls)",
    b"\x93NUMPY": "an array of numpy (.npy)",
    b"PAR1": "a Parquet file",
    b"ARROW1": "an Arrow file",
    b"\x89HDF": "an HDF5 file",
    b"SQLite format 3": "an SQLite file",
    b"\x1f\x8b": "a gzip file",
    b"BZh": "a bzip2 file",
    b"\xfd7zXZ": "an xz file",
    b"7z\xbc\xaf": "a 7z archive",
    b"\x28\xb5\x2f\xfd": "a zstd file",
    b"\x80\x04": "a pickle",
    b"\x80\x05": "a pickle",
    b"%PDF": "a PDF",
    b"{\\rtf": "an RTF document",
    b"\x89PNG": "an image",
    b"\xff\xd8\xff": "an image",
    b"GIF8": "an image",
    b"\x7fELF": "a program",
}


def read_text(path: Path, expected: str) -> str:
    """The text of a file or a pipe, with "\\n" at the ends of lines. `expected`: what it should be,
    for messages.

    Raises:
        NotFound: there is none. InvalidInput: no text, too large, a device or a folder, or an
            encoding that it does not name.
    """
    # A pipe is --labels <(…).
    if not is_folder(path) and path.exists() and not (path.is_file() or path.is_fifo()):
        raise InvalidInput(f"{path}: expected {expected}, this is a device or a socket")
    try:
        with path.open("rb") as file:
            content = file.read(_MAX_BYTES + 1)
    except OSError as error:
        raise InvalidInput(f"{path}: cannot be read: {error.strerror}") from error
    if len(content) > _MAX_BYTES:
        raise InvalidInput(f"{path}: expected at most {_MAX_BYTES >> 20} MiB of names")
    encoding = next((encoding for mark, encoding in _MARKS if content.startswith(mark)), None)
    if encoding is None:
        _refuse_binary(path, content, expected)
    try:
        text = content.decode(encoding or "utf-8")
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        remedy = (
            f"iconv -f WINDOWS-1252 -t UTF-8 {path}" if encoding is None else "save it as UTF-8"
        )
        raise InvalidInput(
            f"{path}, line {line}: expected UTF-8 text, got another encoding ({error.reason} at "
            f"byte {error.start}); "
            f"convert it, for example: {remedy}"
        ) from error
    return text.replace("\r\n", "\n").replace("\r", "\n")


def read_json(text: str, what: str) -> Any:
    """The content of JSON in which each object has each of its keys once. Raises InvalidInput,
    which begins with `what`."""
    try:
        return json.loads(text, object_pairs_hook=once_each)
    except InvalidInput as error:
        raise InvalidInput(f"{what}: {error}") from error
    except (ValueError, RecursionError) as error:
        raise InvalidInput(f"{what}: expected JSON: {error!s:.200}") from error


def _refuse_binary(path: Path, content: bytes, expected: str) -> None:
    """Raises InvalidInput for what is no text."""
    what = next((what for magic, what in _BINARY.items() if content.startswith(magic)), None)
    if what is not None:
        raise InvalidInput(f"{path}: expected {expected}, this is {what}")
    if b"\0" in content:
        half = content[:200].count(b"\0") * 2 >= len(content[:200]) - 1
        why = "UTF-16 without a byte order mark: save it as UTF-8" if half else "no text"
        line = content.count(b"\n", 0, content.index(b"\0")) + 1
        raise InvalidInput(
            f"{path}, line {line}: expected {expected}, got the character U+0000: this is {why}"
        )
