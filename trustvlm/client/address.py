"""Addresses of services and proxies, checked before anything is sent to them."""

from __future__ import annotations

import ipaddress
import re
import socket
from typing import Any

import httpx

from trustvlm.errors import InvalidInput

__all__ = ["checked_url", "is_local", "public"]

_NUMBERS = re.compile(r"[0-9a-fA-FxX.]+")


def checked_url(url: Any, what: str, schemes: tuple[str, ...], example: str) -> httpx.URL:
    """`url` with one of these schemes, a host that can be looked up and a port from 1 to 65,535.

    Raises:
        InvalidInput: it is not such; the message begins with `what` and shows no password.
    """
    refusal = InvalidInput(f"{what}: expected something like {example!r}, got {public(url)!r:.100}")
    if not isinstance(url, str | httpx.URL):
        raise refusal
    try:
        parsed = httpx.URL(url)
    except (httpx.InvalidURL, ValueError) as error:
        raise refusal from error
    host = parsed.raw_host.decode("ascii")
    labels = host.removesuffix(".").split(".")
    named = ":" in host or (
        "%" not in host and all(0 < len(label) < 64 for label in labels)
    )  # else no look-up takes it
    if (
        parsed.scheme not in schemes
        or not host
        or not named
        or len(host) > 253
        or parsed.query
        or parsed.fragment
    ):
        raise refusal
    if parsed.port is not None and not 0 < parsed.port < 65_536:
        raise refusal
    return parsed


def public(url: Any) -> Any:
    """`url` without its user and password, fit for messages."""
    return re.sub(r"//[^/]*@", "//…@", str(url)) if isinstance(url, str | httpx.URL) else url


def is_local(host: str) -> bool:
    """Whether a host is this machine by its name or number: localhost, 127.0.0.0/8, ::1, or an
    address of all zeros."""
    name = host.rstrip(".").lower()
    if name == "localhost" or name.endswith(".localhost"):
        return True
    try:
        address = ipaddress.ip_address(name)
    except ValueError:
        if not _NUMBERS.fullmatch(name):
            return False
        # other ways to write an IPv4 address, which the system's look-up knows: 127.1, 0x7f000001
        try:
            address = ipaddress.IPv4Address(socket.inet_aton(name))
        except OSError:
            return False
    mapped = getattr(address, "ipv4_mapped", None)
    return (mapped or address).is_loopback or (mapped or address).is_unspecified
