"""How a service is reached, and what requests expect: its address, the proxy, its certificates.

All of it is decided when a client is made, so that what cannot work is said then. Of the
environment only what this address needs is looked at: a proxy that another program uses cannot make
a client fail.
"""

from __future__ import annotations

import ipaddress
import os
import re
import socket
import ssl
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any
from urllib.request import getproxies

import httpx

from trustvlm.errors import InvalidInput

PROXIES = ("http", "https", "socks5", "socks5h")
CERTIFICATES = ("SSL_CERT_FILE", "SSL_CERT_DIR")
"""Environment variables: a file of certificates in PEM form; folders of them, as OpenSSL names
them."""
_NUMBERS = re.compile(r"[0-9a-fA-FxX.]+")


@dataclass(frozen=True, eq=False)
class Network:
    """How a service is reached.

    Attributes:
        url: the service's address, without user and password. auth: those. proxy: through which it
            is reached.
        verify: the certificates that are trusted; False: there is no network. transport: of httpx,
            instead of a network.
    """

    url: str
    auth: tuple[str, str] | None
    proxy: httpx.Proxy | None
    verify: ssl.SSLContext | bool
    transport: httpx.BaseTransport | None

    def connect(self, headers: dict[str, str]) -> httpx.Client:
        """A pool of connections; nothing is sent yet."""
        return httpx.Client(
            base_url=self.url,
            auth=self.auth,
            # To compress an answer takes longer than to send it within a machine or a rack.
            headers={"accept-encoding": "identity"} | headers,
            proxy=self.proxy,
            verify=self.verify,
            transport=self.transport,
            trust_env=False,
        )

    @property
    def where(self) -> str:
        """The address for messages, with the proxy where there is one."""
        through = "" if self.proxy is None else f" (through the proxy {self.proxy.url})"
        return self.url + through


def network_of(
    url: Any, verify: Any, proxy: Any, trust_env: Any, transport: httpx.BaseTransport | None
) -> Network:
    """How to reach the service at `url`; see :class:`trustvlm.client.Client` for the arguments.

    Raises:
        InvalidInput: an argument, or a variable of the environment that this address needs, cannot
            be right.
    """
    address = _checked_url(url, "url", ("http", "https"), "http://127.0.0.1:8000")
    if not isinstance(trust_env, bool):
        raise InvalidInput(f"trust_env: expected True or False, got {trust_env!r:.60}")
    auth = (address.username, address.password) if address.userinfo else None
    plain = str(address.copy_with(username=None, password=None) if auth else address).rstrip("/")
    if transport is not None:
        if proxy is not None or verify is not True:
            raise InvalidInput(
                "transport: expected without verify and proxy, which are for a network"
            )
        return Network(plain, auth, None, False, transport)
    variable = "proxy"
    if proxy is None and trust_env:
        variable, proxy = _proxy_of_environment(address)
    via = None if proxy is None else _checked_proxy(proxy, variable)
    through_tls = via is not None and via.scheme == "https"
    context = _context(verify, address.scheme == "https" or through_tls, trust_env)
    made = None
    if via is not None:
        made = httpx.Proxy(via, ssl_context=context if through_tls else None)
    return Network(plain, auth, made, context, None)


# Addresses


def _checked_url(url: Any, what: str, schemes: tuple[str, ...], example: str) -> httpx.URL:
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
    is_name = "%" not in host and all(0 < len(label) < 64 for label in labels)
    good = (
        parsed.scheme in schemes
        and 0 < len(host) <= 253
        and (":" in host or is_name)  # else no look-up takes it
        and not (parsed.query or parsed.fragment)
        and (parsed.port is None or 0 < parsed.port < 65_536)
    )
    if not good:
        raise refusal
    return parsed


def public(url: Any) -> str:
    """`url` without its user and password, fit for messages."""
    return re.sub(r"//[^/]*@", "//…@", str(url))


def _is_local(host: str) -> bool:
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
    address = getattr(address, "ipv4_mapped", None) or address
    return address.is_loopback or address.is_unspecified


# Proxies


def _proxy_of_environment(address: httpx.URL) -> tuple[str, str | None]:
    """(the variable, its proxy) that the environment has for an address; this machine is reached
    without any."""
    proxies = getproxies()
    kind = next((one for one in (address.scheme, "all") if proxies.get(one)), None)
    if kind is None or _is_local(address.host) or _is_exempt(address, proxies.get("no", "")):
        return "", None
    proxy = proxies[kind].strip()
    return f"{kind.upper()}_PROXY", proxy if "://" in proxy else f"http://{proxy}"


def _is_exempt(address: httpx.URL, no_proxy: str) -> bool:
    """Whether NO_PROXY names a host: by "*", its name, a domain above it, its number, or a network
    of numbers."""
    host = address.host.rstrip(".").lower()
    port = address.port or {"http": 80, "https": 443}[address.scheme]
    for entry in re.split(r"[\s,]+", no_proxy.lower()):
        name = entry.partition("://")[2] or entry
        match = re.fullmatch(r"(\[[^]]*\]|[^:]*)(?::(\d+))?", name)
        if match and match[2] is not None and int(match[2]) != port:
            continue
        domain = (match[1] if match else name).strip("[]").removeprefix("*").strip(".")
        below = bool(domain) and (host == domain or host.endswith(f".{domain}"))
        if name == "*" or below or _in_network(host, domain):
            return True
    return False


def _in_network(host: str, network: str) -> bool:
    try:
        return ipaddress.ip_address(host) in ipaddress.ip_network(network, strict=False)
    except ValueError:  # one of them is a name, or nothing
        return False


def _checked_proxy(proxy: Any, what: str) -> httpx.URL:
    # 'socks://…', as desktops write it, leaves the version open
    socks = str(proxy).lower().startswith("socks")
    example = "socks5://proxy.example:1080" if socks else "http://proxy.example:3128"
    try:
        address = _checked_url(proxy, what, PROXIES, example)
    except InvalidInput as error:
        if what == "proxy":
            raise
        ways = "correct or unset it, name the host in NO_PROXY, or pass trust_env=False"
        raise InvalidInput(f"{error}; {ways}") from error
    if address.scheme.startswith("socks") and find_spec("socksio") is None:
        raise InvalidInput(
            f"{what}: {public(proxy)!r} needs the package socksio: pip install 'httpx[socks]'"
        )
    return address


# Certificates


def _context(verify: Any, secure: bool, trust_env: bool) -> ssl.SSLContext:
    """The certificates to trust; they are read only where something on the way is encrypted."""
    if isinstance(verify, ssl.SSLContext):
        if verify.protocol == ssl.PROTOCOL_TLS_SERVER:
            raise InvalidInput(
                "verify: expected an ssl.SSLContext for clients, got one for servers"
            )
        return verify
    if isinstance(verify, str | os.PathLike):
        return _trusting(os.fspath(verify), "verify")
    if not isinstance(verify, bool):
        raise InvalidInput(
            f"verify: expected True, False, a path or an ssl.SSLContext, got {verify!r:.60}"
        )
    if not (verify and secure):
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
        return context
    for variable in CERTIFICATES if trust_env else ():
        if path := os.environ.get(variable):
            return _trusting(path, variable)
    return _made(lambda: httpx.create_ssl_context(trust_env=False), "verify", "its own")


def _trusting(path: str | bytes, what: str) -> ssl.SSLContext:
    """Trust the certificates of a PEM file, or those of folders as OpenSSL names them."""
    text = os.fsdecode(path)
    folders = text.split(os.pathsep) if what == "SSL_CERT_DIR" else [text]
    if any(Path(folder).is_dir() for folder in folders):
        return _made(lambda: ssl.create_default_context(capath=text), what, text)
    return _made(lambda: ssl.create_default_context(cafile=text), what, text)


def _made(make: Callable[[], ssl.SSLContext], what: str, path: str) -> ssl.SSLContext:
    try:
        return make()
    except (OSError, ValueError) as error:
        # no such file, none of certificates, or a NUL in its name
        if isinstance(error, OSError) and error.filename is not None:
            raise InvalidInput(
                f"SSLKEYLOGFILE: {error.filename!r:.200} cannot be written ({error.strerror})"
            ) from error
        missing = isinstance(error, OSError) and not isinstance(error, ssl.SSLError)
        reason = getattr(error, "strerror", None) if missing else "no certificates in it"
        ways = "; correct or unset it, or pass verify=PATH or trust_env=False"
        raise InvalidInput(
            f"{what}: expected a file of certificates in PEM form or a folder of them, got "
            f"{path!r:.200} ({reason}){'' if what == 'verify' else ways}"
        ) from error


class Expected(threading.local):
    """The revision that this thread expects its next write to a space to find."""

    _pending: tuple[str, int] | None = None

    @contextmanager
    def of(self, path: str, revision: int) -> Iterator[None]:
        """Expect it, within the block, of the space with this path."""
        self._pending = (path, revision)
        try:
            yield
        finally:
            self._pending = None

    def headers(self, path: str) -> dict[str, str]:
        """The headers of a write to `path`; the write after it expects nothing."""
        if self._pending is None or not f"{path}/".startswith(f"{self._pending[0]}/"):
            return {}
        (_, revision), self._pending = self._pending, None
        return if_match(revision)


def if_match(revision: int | None) -> dict[str, str]:
    """The header of a request that finds this revision, or none."""
    return {} if revision is None else {"if-match": f'"{revision}"'}


@dataclass(frozen=True)
class RequestSizes:
    """How much the client puts into one request; a call that has more makes several.

    Attributes:
        files: images of labels and of feedback. embed_files: images that are embedded.
        file_bytes: bytes of images, and of labels as JSON, about.
        vector_bytes: bytes of embeddings that are scored or searched with.
    """

    files: int = 128
    embed_files: int = 32
    file_bytes: int = 8 * 2**20
    vector_bytes: int = 16 * 2**20
