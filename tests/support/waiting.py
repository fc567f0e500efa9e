"""Wait for what other threads and processes do, and read what ours have logged."""

from __future__ import annotations

import time
from collections.abc import Callable

import pytest


def until(condition: Callable[[], object], seconds: float = 60.0, pause: float = 0.01) -> None:
    """Wait until a condition is true. Raises AssertionError: it does not come about in time."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "it does not come about"
        time.sleep(pause)


def own_messages(caplog: pytest.LogCaptureFixture) -> list[str]:
    """What the package has logged: libraries and other tests' threads may log, too."""
    return [one.getMessage() for one in caplog.records if one.name.startswith("trustvlm")]
