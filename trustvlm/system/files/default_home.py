"""Where the home is of those who do not say."""

from __future__ import annotations

import os
from pathlib import Path


def default_home() -> Path:
    """TRUSTVLM_HOME, else trustvlm in XDG_DATA_HOME, else ~/.local/share/trustvlm."""
    if home := os.environ.get("TRUSTVLM_HOME", ""):
        return Path(home)
    data = os.environ.get("XDG_DATA_HOME", "")
    base = (
        Path(data) if Path(data).is_absolute() else Path.home() / ".local" / "share"
    )  # relative ones are to be ignored
    return base / "trustvlm"
