"""What a request is addressed to, by its Host and Origin headers and its path: nothing of it is to
be believed unread."""

from __future__ import annotations

import re
from collections.abc import Sequence
from urllib.parse import unquote

from trustvlm.errors import Forbidden, InvalidInput, NotFound
from trustvlm.http.options import is_loopback

__all__ = ["SLASH", "check_origin", "routed_path"]

SLASH = "\0"
"""Stands for an encoded slash in a path until it was routed: names of labels may hold slashes."""

_AUTHORITY = re.compile(r"(\[[0-9A-Fa-f:.]{2,45}\]|[A-Za-z0-9._-]{1,255})(?::([0-9]{0,5}))?")
_MOST_PORT = 65535
_DOTS = re.compile(r"(?<=/)(\.{1,2})\x1f(?=/|$)")
"""A name of dots alone: browsers and proxies would take it for a step through the path, if nothing
stood behind it."""


def check_origin(headers: Sequence[tuple[bytes, bytes]], *, require_key: bool) -> None:
    """Pages of other sites must not use this service through the browser of its user.

    Raises:
        InvalidInput: headers that no client makes. Forbidden: another name than this machine's, or
            a page of another site.
    """
    hosts, origins = (
        [value.decode("latin-1") for key, value in headers if key.lower() == name]
        for name in (b"host", b"origin")
    )
    if len(hosts) > 1 or len(origins) > 1:
        raise InvalidInput(
            f"host, origin: expected one of each, got {len(hosts)} and {len(origins)}"
        )
    host = hosts[0] if hosts else ""
    name = _name_of(host)
    if not require_key and not is_loopback(name):
        raise Forbidden(
            "this service runs without keys and therefore answers only requests to this "
            "machine's own names (such as 127.0.0.1)"
        )
    if origins and origins[0].lower() not in (f"http://{host.lower()}", f"https://{host.lower()}"):
        raise Forbidden("requests from pages of other sites are refused")


def _name_of(host: str) -> str:
    """The name or address in a Host header, small, without its port and brackets; empty where there
    is none."""
    if not host:
        return ""
    found = _AUTHORITY.fullmatch(host)
    if found is None or int(found[2] or 0) > _MOST_PORT:
        raise InvalidInput(
            f"host: expected a name or address and, if any, a port, got {host[:80]!r}"
        )
    return found[1].strip("[]").lower()


def routed_path(raw: bytes, root: str) -> str:
    """The path to route, from the one that was sent: decoded, without `root`, whether a proxy has
    taken that off or not.

    Raises:
        NotFound: it holds a character that no name has.
    """
    if b"%00" in raw:
        raise NotFound("no such path: it contains the character U+0000")
    path = re.sub(rb"%2[fF]", b"%00", raw.partition(b"?")[0]).decode("latin-1")
    try:
        decoded = unquote(path, errors="strict")
    except UnicodeDecodeError as error:
        raise NotFound("no such path: it is not UTF-8") from error
    decoded = _DOTS.sub(r"\1", decoded)
    if root and decoded == root:
        return "/"
    return decoded.removeprefix(root) if root and decoded.startswith(f"{root}/") else decoded
