"""What every verb of the client goes through."""

from __future__ import annotations

import os
import ssl
from collections.abc import Iterator
from contextlib import contextmanager
from types import TracebackType
from typing import Any, Self

import httpx

from trustvlm.client.network import RequestSizes, network_of, public
from trustvlm.client.transport import Wire, path_of
from trustvlm.errors import InvalidInput
from trustvlm.system.pickling import Unpicklable
from trustvlm.types.answers import Revision
from trustvlm.types.bounds import whole
from trustvlm.types.messages.commands import word

KEY = "TRUSTVLM_KEY"
"""The environment variable that holds the key where none is given."""


class Connected(Unpicklable):
    """A service elsewhere, until :meth:`close`; a context manager.

    Attributes:
        place: options of the command line that name it, in the commands of messages.
    """

    _instead = (
        "a Client cannot be pickled or copied: pass its url and key, and make a Client "
        "there; a forked process may use this one"
    )

    def __init__(
        self,
        url: str,
        key: str | None = None,
        *,
        timeout: float = 60.0,
        retries: int | None = None,
        transport: httpx.BaseTransport | None = None,
        verify: bool | str | os.PathLike[str] | ssl.SSLContext = True,
        proxy: str | None = None,
        trust_env: bool = True,
        sizes: RequestSizes | None = None,
    ) -> None:
        """Connect to a service; nothing is sent yet.

        Args:
            url: where 'trustvlm serve' listens, e.g. "http://127.0.0.1:8000". A user and password
                in it are sent as HTTP's basic authentication, for a proxy in front of the service;
                a key is then sent in the header X-API-Key.
            key: what 'trustvlm key create' printed; by default that of the environment variable
                TRUSTVLM_KEY, if it is set.
            timeout: seconds that a request may take, with all its tries and pauses; of an import,
                without any progress.
            retries: how often a request is tried again. None: 10 times, and as long as the timeout
                lasts where the connection is refused, or a proxy answers 502: a service that
                starts again is waited for.
            transport: of httpx, e.g. :class:`trustvlm.testing.AsgiTransport` for a service in this
                process.
            verify: whose certificates are trusted at an https:// address. True: those of the
                environment variables SSL_CERT_FILE or SSL_CERT_DIR, else those that come with
                httpx; a path: those of this PEM file, or of this folder of them; an ssl.SSLContext:
                its own; False: any, so that anyone on the network path can read and change
                everything.
            proxy: address of a proxy, "http://…", "https://…" or "socks5://…", through which the
                service is reached. None: that of the environment variables HTTP_PROXY, HTTPS_PROXY
                or ALL_PROXY, unless NO_PROXY names the host or it is this machine (localhost,
                127.0.0.0/8, ::1).
            trust_env: False: of these environment variables only TRUSTVLM_KEY is read.
            sizes: how much goes into one request; less than the default where the service or a
                proxy takes smaller bodies.

        Raises:
            InvalidInput: an invalid argument, or an invalid environment variable that is needed to
                reach the service.
        """
        if (
            isinstance(timeout, bool)
            or not isinstance(timeout, int | float)
            or not 0 < timeout < 1e6
        ):
            raise InvalidInput(f"timeout: expected seconds above 0, got {timeout!r}")
        if retries is not None and (type(retries) is not int or retries < 0):
            raise InvalidInput(
                f"retries: expected a whole number from 0 up, or None, got {retries!r}"
            )
        secret = _key_of_environment() if key is None else _checked_key(key, "key")
        network = network_of(url, verify, proxy, trust_env, transport)
        self._address = public(url)
        self.place = f"--url {word(self._address)}"
        self._wire = Wire(network, secret, float(timeout), retries, sizes or RequestSizes())

    def __repr__(self) -> str:
        return f"<{type(self).__name__} of {self._address}>"

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        """Let go of the connections; every later call raises Unavailable."""
        self._wire.close()

    @contextmanager
    def at_revision(self, space: str, revision: int) -> Iterator[None]:
        """Make the first change within the block only if the space is still at `revision`
        (optimistic concurrency).

        It is checked at once, and again as that change begins. The changes after the first are not
        checked. Counts for this thread.

        Args:
            revision: the revision that the caller read: of a verdict, of hits, or
                :attr:`SpaceRow.revision`.

        Raises:
            Conflict: the space has changed since; nothing is written. NotFound: no such space.
                InvalidInput: not a revision.
        """
        path, expected = path_of("spaces", space), whole("revision", revision)
        self._wire.ask("GET", path, revision=expected)
        with self._wire.expected.of(path, expected):
            yield

    def _revision(self, method: str, space: str, *parts: str, **content: Any) -> int:
        """The revision after a write to a space."""
        return self._wire.write(Revision, method, "spaces", space, *parts, **content).revision


def _key_of_environment() -> str | None:
    given = os.environ.get(KEY, "")
    return _checked_key(given, KEY) if given.strip() else None


def _checked_key(key: object, what: str) -> str:
    secret = key.strip() if isinstance(key, str) else ""
    if not secret or not secret.isascii() or not secret.isprintable():
        raise InvalidInput(
            f"{what}: expected the key that 'trustvlm key create' printed"
        )  # which is not shown again here
    return secret
