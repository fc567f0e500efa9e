"""Where the home is of those who do not say, and what "~" in a path stands for."""

from __future__ import annotations

import os
from pathlib import Path

from trustvlm.errors import InvalidInput


def default_home() -> Path:
    """TRUSTVLM_HOME, else trustvlm in XDG_DATA_HOME, else ~/.local/share/trustvlm; the "~" stays
    for a user without a home directory (:func:`expanded`)."""
    if home := os.environ.get("TRUSTVLM_HOME", ""):
        return Path(home)
    data = Path(os.environ.get("XDG_DATA_HOME", ""))
    if not data.is_absolute():  # relative ones are to be ignored
        data = Path(os.path.expanduser("~/.local/share"))  # noqa: PTH111  (does not raise)
    return data / "trustvlm"


def expanded(path: Path) -> Path:
    """`path`, absolute, with a home directory of the system in the place of "~" or "~user".

    Raises:
        InvalidInput: there is no such user, or this one has none, as in a container that runs under
            a number without a name.
    """
    try:
        return path.expanduser().absolute()
    except RuntimeError:
        raise InvalidInput(
            f"{path}: the system knows no home directory for '{path.parts[0]}': set HOME, or name "
            f"the home without '~' (--home DIR, TRUSTVLM_HOME)"
        ) from None
