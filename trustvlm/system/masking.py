"""Keeps passwords out of messages."""

from __future__ import annotations

import re
from urllib.parse import parse_qs, urlsplit

_MAY_HOLD_A_PASSWORD = re.compile("://|@|pass|pwd", re.IGNORECASE)
_SCHEME = re.compile(r"[a-z][a-z0-9+.-]*(?=://)", re.IGNORECASE)


def masked(text: str) -> str:
    """`text` for a message; of what may be the address of a database, only its scheme.

    Nothing else of it is shown: in an address that cannot be read, a password ends nowhere.
    """
    if not _MAY_HOLD_A_PASSWORD.search(text):
        return text
    scheme = _SCHEME.match(text)
    return f"{scheme[0]}://***" if scheme else "***"


def has_password(address: str) -> bool:
    """Whether the address of a database holds a password, or cannot be read."""
    try:
        parts = urlsplit(address)
        return parts.password is not None or "password" in parse_qs(parts.query)
    except ValueError:
        return True
