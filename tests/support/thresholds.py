"""Homes whose work goes the ways of large spaces already for a few labels."""

from __future__ import annotations

from pathlib import Path

__all__ = ["set_thresholds"]


def set_thresholds(home: Path, **values: float) -> None:
    """Write the settings of a home, which is made if it is missing; who opens it next reads
    them."""
    home.mkdir(parents=True, exist_ok=True)
    lines = [f"{name} = {value}\n" for name, value in values.items()]
    (home / "trustvlm.toml").write_text("[thresholds]\n" + "".join(lines))
