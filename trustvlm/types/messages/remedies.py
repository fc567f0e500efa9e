"""What to do with what is no image: the ends of messages about paths and values."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping

_ADDRESS = re.compile(r"([a-z][a-z0-9+.-]+):/+", re.IGNORECASE)


def of_missing(path: str | os.PathLike[str]) -> str:
    """What to do where nothing is at `path`, after a semicolon; empty where there is no more to say
    than that."""
    name = os.fspath(path)
    if address := _ADDRESS.match(name):
        if address[1].lower() == "file":
            return f"; pass the path without '{address[1]}://'"
        return "; addresses are not fetched: download the file and pass its path, or pass its bytes"
    if name.startswith("~"):
        return "; '~' is not expanded: pass pathlib.Path(path).expanduser()"
    if any(sign in name for sign in "*?["):
        return "; a pattern is no path: pass the folder, or glob.glob(pattern)"
    return ""


def no_image(value: object) -> str:
    """What is expected in the place of `value`, which is no image, and how to get it."""
    kind = type(value).__name__
    remedy = ""
    if isinstance(value, Mapping):
        remedy = "; pass the images of the rows alone: [row['image'] for row in rows]"
    elif isinstance(value, list | tuple):
        remedy = "; pass one flat list of images, of pairs [image for image, label in pairs]"
    elif hasattr(value, "__arrow_c_array__"):
        remedy = "; pass a table: reader.read_all()"
    return f"expected a path, bytes or a PIL image, got {kind}{remedy}"
