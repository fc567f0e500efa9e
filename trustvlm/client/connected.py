"""What every verb of the client goes through."""

from __future__ import annotations

import os
from collections.abc import Mapping
from types import TracebackType
from typing import Any, Self

import httpx

from trustvlm.client.wire import Wire, json_body
from trustvlm.errors import InvalidInput

__all__ = ["Connected"]

KEY = "TRUSTVLM_KEY"
"""The environment variable that holds the key where none is given."""


class Connected:
    """A service elsewhere, until :meth:`close`; a context manager."""

    def __init__(
        self,
        url: str,
        key: str | None = None,
        *,
        timeout: float = 60.0,
        retries: int = 10,
        transport: httpx.BaseTransport | None = None,
    ) -> None:
        """Connect to a service; nothing is asked yet.

        Args:
            url: where 'trustvlm serve' listens, e.g. "http://127.0.0.1:8000".
            key: what 'trustvlm key create' printed; by default that of the environment variable TRUSTVLM_KEY, if it is set.
            timeout: seconds that a request may take, with all its tries and pauses; of an import, without any progress.
            retries: how often a request is tried again.
            transport: of httpx, e.g. :class:`trustvlm.testing.AsgiTransport` for a service in this process.

        Raises:
            InvalidInput: one of these cannot be right.
        """
        if isinstance(timeout, bool) or not isinstance(timeout, int | float) or not 0 < timeout < 1e6:
            raise InvalidInput(f"timeout: expected seconds above 0, got {timeout!r}")
        if isinstance(retries, bool) or not isinstance(retries, int) or retries < 0:
            raise InvalidInput(f"retries: expected a whole number from 0 up, got {retries!r}")
        self._wire = Wire(url, os.environ.get(KEY) if key is None else key, float(timeout), retries, transport)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.close()

    def close(self) -> None:
        """Let go of the connections; every later call raises Unavailable."""
        self._wire.close()

    def _write(self, method: str, path: str, content: Mapping[str, Any] | None = None) -> Any:
        return self._wire.ask(method, path, body=None if content is None else json_body(content), write=True)

    def _revision(self, method: str, path: str, content: Mapping[str, Any] | None = None) -> int:
        return int(self._write(method, path, content)["revision"])
