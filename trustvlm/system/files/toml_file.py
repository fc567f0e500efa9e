"""Reading a small TOML file that a person wrote."""

from __future__ import annotations

import os
import tomllib
from pathlib import Path
from typing import Any

from trustvlm.errors import InvalidInput

MAX_TOML_BYTES = 16 << 10
"""A settings file has a few hundred; parsing one long dotted key takes time that grows with its
square."""


def read_toml(path: Path) -> dict[str, Any]:
    """The keys of a settings file; none where there is no file.

    Raises:
        InvalidInput: it is no file, too large, cannot be read, or is no TOML.
    """
    if not os.path.lexists(path):
        return {}
    if not path.is_file():  # a pipe or device would never end
        raise InvalidInput(
            f"{path}: expected a file of settings, this is a folder, a pipe, a device or a "
            f"broken link"
        )
    try:
        with path.open("rb") as file:
            data = file.read(MAX_TOML_BYTES + 1)
        if len(data) > MAX_TOML_BYTES:
            raise InvalidInput(f"{path}: expected at most {MAX_TOML_BYTES} bytes of settings")
        return tomllib.loads(data.decode())
    except OSError as error:
        raise InvalidInput(f"{path}: cannot be read: {error.strerror}") from error
    except RecursionError as error:
        raise InvalidInput(f"{path}: expected settings, got values nested too deep") from error
    except InvalidInput:
        raise
    except ValueError as error:  # not TOML, or not UTF-8
        raise InvalidInput(f"{path}: {error}") from error
