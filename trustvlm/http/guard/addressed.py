"""The address of a request, by its Host and Origin headers and its path, checked before
it is used."""

from __future__ import annotations

import re
from collections.abc import Sequence
from urllib.parse import unquote

from trustvlm.errors import Forbidden, InvalidInput, NotFound
from trustvlm.http.options import is_loopback

SLASH = "\0"
"""Stands for an encoded slash in a path until it is routed: names of labels may hold slashes."""

_AUTHORITY = re.compile(r"(\[[0-9A-Fa-f:.]{2,45}\]|[A-Za-z0-9._-]{1,255})(?::([0-9]{0,5}))?")
_MAX_PORT = 65535
_DOTS = re.compile(r"(?<=/)(\.{1,2})\x1f(?=/|$)")
"""A name of dots alone, which the page sends with a character behind it: browsers and proxies would
take the dots for a step through the path."""


def check_origin(
    headers: Sequence[tuple[bytes, bytes]], *, require_key: bool, probe: bool = False
) -> None:
    """Let pages of other sites not use this service through the browser of its user.

    Args:
        probe: the path tells everyone the same; probes of HTTP/1.0 name no host.

    Raises:
        InvalidInput: headers that no client makes. Forbidden: another name than this machine's, or
            a page of another site.
    """
    hosts = [value.decode("latin-1") for key, value in headers if key.lower() == b"host"]
    origins = [value.decode("latin-1") for key, value in headers if key.lower() == b"origin"]
    if len(hosts) > 1 or len(origins) > 1:
        counts = f"{len(hosts)} and {len(origins)}"
        raise InvalidInput(f"host, origin: expected one of each, got {counts}")
    host = hosts[0] if hosts else ""
    name = _host_name(host)
    if not require_key and not is_loopback(name) and not (probe and not hosts):
        raise Forbidden(
            "this service runs without keys and therefore answers only requests to this "
            "machine's own names (such as 127.0.0.1); behind a proxy with another name, start it "
            "with --require-key"
        )
    if not require_key and _is_embedded(headers):
        raise Forbidden("requests from pages of other sites are refused")
    if origins and origins[0].lower() not in (f"http://{host.lower()}", f"https://{host.lower()}"):
        raise Forbidden("requests from pages of other sites are refused")


def _is_embedded(headers: Sequence[tuple[bytes, bytes]]) -> bool:
    """Whether a browser says that a page of another site shows this: as an image, a script or a
    frame, which bring no Origin. A link that a user follows is not shown by that page."""
    said = {key.lower(): value for key, value in headers if key.lower().startswith(b"sec-fetch-")}
    elsewhere = said.get(b"sec-fetch-site", b"none") not in (b"none", b"same-origin")
    return elsewhere and said.get(b"sec-fetch-dest") != b"document"


def _host_name(host: str) -> str:
    """The name or address in a Host header, in small letters, without port and brackets."""
    if not host:
        return ""
    match = _AUTHORITY.fullmatch(host)
    if match is None or int(match[2] or 0) > _MAX_PORT:
        raise InvalidInput(
            f"host: expected a name or address and, if any, a port, got {host[:80]!r}"
        )
    return match[1].strip("[]").lower()


def routed_path(raw: bytes, root: str) -> str:
    """The path to route, decoded and without `root`, whether a proxy has removed that or not.

    Raises:
        NotFound: it holds a character that no name has.
    """
    if b"%00" in raw:
        raise NotFound("no such path: it contains the character U+0000")
    path = re.sub(rb"%2[fF]", b"%00", raw.partition(b"?")[0]).decode("latin-1")
    try:
        decoded = _DOTS.sub(r"\1", unquote(path, errors="strict"))
    except UnicodeDecodeError as error:
        raise NotFound("no such path: it is not UTF-8") from error
    if root and decoded == root:
        return "/"
    return decoded.removeprefix(root) if root and decoded.startswith(f"{root}/") else decoded
