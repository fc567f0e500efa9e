"""Identities of weights that were hashed before, so that a file which has not changed is not hashed
each time that it is opened."""

from __future__ import annotations

import hashlib
import json
import os
import time
from contextlib import suppress
from dataclasses import asdict
from pathlib import Path
from typing import Any

from trustvlm.encoders.identity import EncoderParts, encoder_parts, libraries

_FORM = 1
"""Rises when models are loaded or hashed differently: what was remembered before is not used."""
_MOST = 64
_MOST_BYTES = 1 << 20
_SETTLED_SECONDS = 2.0
"""A file that was written later than this before it is read may change again within the step of its
file system's clock."""


class RememberedParts:
    """The :class:`EncoderParts` of one weights file, hashed at most once as long as the file stays
    what it is: by path, size, inode and both times, to the nanosecond.

    Make it before the file is read. The identity also depends on the model's config, the
    preprocessing, the pooling and the libraries' versions: they are part of what is looked up.

    Args:
        file: where identities are remembered; None: nowhere, each is hashed.
        weights: the weights file.
        config: what the model is built from.
    """

    def __init__(self, file: Path | None, weights: Path, config: Any) -> None:
        self._file, self._weights = file, weights
        self._before = self._state()
        self._config = json.dumps(config, sort_keys=True, default=str)

    def parts(self, kind: str, model: Any, preprocessing: str, pooling: str) -> EncoderParts:
        """What :func:`encoder_parts` says of these, without hashing where it is remembered."""
        what = (kind, model, preprocessing, pooling)
        if self._file is None or self._before is None:
            return encoder_parts(*what)
        names = (_FORM, libraries(), self._config, kind, preprocessing, pooling)
        named = json.dumps([*names, str(self._weights.absolute()), *self._before])
        key = hashlib.sha256(named.encode()).hexdigest()
        entries = _entries(self._file)
        if (parts := _parts(key, entries.get(key))) is not None:
            return parts
        parts = encoder_parts(*what)
        written = max(self._before[-2:]) / 1e9
        if self._state() == self._before and written + _SETTLED_SECONDS < time.time():
            entry = asdict(parts) | {"checksum": _checksum(key, parts)}
            _write(self._file, {**entries, key: entry})
        return parts

    def _state(self) -> tuple[int, ...] | None:
        """What changes when the file does; None: it cannot be read."""
        try:
            status = self._weights.stat()
        except OSError:
            return None
        numbers = (status.st_dev, status.st_ino, status.st_size)
        return (*numbers, status.st_mtime_ns, status.st_ctime_ns)


def _entries(file: Path) -> dict[str, Any]:
    """What is remembered; nothing where the file is missing or damaged."""
    with suppress(OSError, ValueError, RecursionError):
        if file.stat().st_size <= _MOST_BYTES:
            content = json.loads(file.read_bytes())
            return content if isinstance(content, dict) else {}
    return {}


def _parts(key: str, entry: Any) -> EncoderParts | None:
    """The parts that an entry holds; None where it is none, or not as it was written."""
    try:
        fields = dict(entry)
        checksum = fields.pop("checksum")
        parts = EncoderParts(**fields)
    except (TypeError, ValueError, KeyError):
        return None
    return parts if checksum == _checksum(key, parts) else None


def _checksum(key: str, parts: EncoderParts) -> str:
    return hashlib.sha256(json.dumps([key, asdict(parts)], sort_keys=True).encode()).hexdigest()


def _write(file: Path, entries: dict[str, Any]) -> None:
    """Replace the file by the newest entries; one that cannot be written is done without."""
    kept = dict(list(entries.items())[-_MOST:])
    temporary = file.with_name(f".{file.name}.{os.getpid()}.{time.monotonic_ns()}")
    with suppress(OSError):
        try:
            temporary.write_text(json.dumps(kept), encoding="utf-8")
            temporary.replace(file)
        finally:
            temporary.unlink(missing_ok=True)
