"""Requests: one try, what its failure means, and trying again as long as that makes sense.

Every request may be repeated: reads change nothing, writes carry an Idempotency-Key that is made
once a call, so that the service does them once, and bodies are kept until they are answered.
"""

from __future__ import annotations

import json
import os
import random
import ssl
import threading
import time
import uuid
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote

import httpx

from trustvlm.client.address import public
from trustvlm.client.network import Network
from trustvlm.client.problems import problem_of, seconds_of
from trustvlm.errors import InvalidInput, NotFound, Overloaded, TooMany, TrustVLMError, Unavailable

__all__ = ["Body", "Passing", "Patience", "Wire", "json_body", "path_of"]

PIECE = 256 * 1024
FIRST_PAUSE_S, LONGEST_PAUSE_S = 0.1, 5.0
CONNECT_S = 10.0

CALL_IDS = ("x-request-id", "x-call-id")
"""Headers with which a request is marked, and its answer: proxies are free to change the first one
on the way."""

LASTING = ("ReadOnly", "SchemaMismatch", "WeightsMissing", "Damaged")
"""Kinds of 503 that no waiting mends."""

_BROKEN = (httpx.NetworkError, httpx.RemoteProtocolError, httpx.TimeoutException)


@dataclass(frozen=True)
class Body:
    """What is sent, and can be sent again."""

    kind: str
    pieces: Sequence[bytes]

    @property
    def size(self) -> int:
        """In bytes."""
        return sum(map(len, self.pieces))

    def __iter__(self) -> Iterator[bytes]:
        for piece in self.pieces:
            for start in range(0, len(piece), PIECE):
                yield piece[start : start + PIECE]


def json_body(content: Any) -> Body:
    """`content` as JSON. Raises InvalidInput for what JSON does not have."""
    try:
        return Body(
            "application/json",
            [json.dumps(content, allow_nan=False, separators=(",", ":")).encode()],
        )
    except (TypeError, ValueError) as error:
        raise InvalidInput(f"expected text, numbers and lists of them: {error}") from error


def path_of(*parts: str) -> str:
    """The path of these parts under /v1, any character of a name included."""
    for part in parts:
        if not isinstance(part, str):
            raise InvalidInput(f"expected a name, got {type(part).__name__}")
        if not part:
            raise NotFound("expected a name, got an empty one")
    # One of dots alone would be a step through the path: it ends with a character that no name has.
    quoted = [
        quote(part, safe="", errors="surrogatepass") + ("%1F" if part in (".", "..") else "")
        for part in parts
    ]
    return "/".join(["/v1", *quoted])


class Passing(Exception):
    """A try failed, and the next one may not. `wait`: so many seconds the service asks for."""

    def __init__(self, problem: TrustVLMError, wait: float | None = None) -> None:
        super().__init__(str(problem))
        self.problem, self.wait = problem, wait


class Patience:
    """How long a call goes on: so many more tries, so many seconds in all."""

    def __init__(self, retries: int, seconds: float) -> None:
        self._retries, self._seconds = retries, seconds
        self.renew()

    def renew(self) -> None:
        """Begin anew: something was achieved."""
        self._tries, self._end = 0, time.monotonic() + self._seconds

    @property
    def left(self) -> float:
        """Seconds."""
        return max(self._end - time.monotonic(), 0.001)

    def wait(self, passing: Passing) -> None:
        """Pause before the next try: doubling, with jitter, and at least as long as the service
        asks.

        Raises:
            TrustVLMError: there is to be none.
        """
        self._tries += 1
        longest = min(FIRST_PAUSE_S * 2 ** (self._tries - 1), LONGEST_PAUSE_S)
        pause = (passing.wait or 0.0) + random.uniform(0.5, 1.0) * longest
        if self._tries > self._retries or pause > self.left:
            if self._tries > 1:
                passing.problem.add_note(f"(tried {self._tries} times)")
            raise passing.problem from passing.__cause__
        time.sleep(pause)


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
    """The headers of a request that expects a revision, or none."""
    return {} if revision is None else {"if-match": f'"{revision}"'}


class Wire:
    """Connections to one service; safe to use from several threads, and in processes that are
    forked meanwhile.

    Two processes that share a connection read each other's answers, so every process opens its own.
    An answer is used only if it carries the id of its request, because a proxy may mix answers up.
    """

    def __init__(self, network: Network, key: str | None, timeout: float, retries: int) -> None:
        self.expected = Expected()
        self.url, self.timeout, self.retries = network.url, timeout, retries
        self._network = network
        self._headers = _headers(key, basic=network.auth is not None)
        self._closed = False
        self._pools = [(os.getpid(), network.connect(self._headers))]

    def close(self) -> None:
        """Let go of the connections."""
        self._closed = True
        for process, http in self._pools:
            if process == os.getpid():
                http.close()

    def _pool(self) -> httpx.Client:
        """The connections of this process. Raises Unavailable."""
        if self._closed:
            raise Unavailable("the client is closed")
        process, http = self._pools[-1]
        if process == os.getpid():
            return http
        if self._network.transport is not None:
            raise Unavailable(
                "this client was made with a transport before a fork; make a new Client in the "
                "child process"
            )
        # The parent's connections stay open and unused: closing them takes locks that a thread of
        # the parent may have held.
        return self._further_pool()

    def _further_pool(self) -> httpx.Client:
        """New connections from now on; requests that other threads have under way on earlier ones
        go on."""
        http = self._network.connect(self._headers)
        self._pools.append((os.getpid(), http))
        return http

    def ask(self, method: str, path: str, **options: Any) -> Any:
        """The JSON of :meth:`fetch`."""
        return self.read(self.fetch(method, path, **options))

    def fetch(
        self,
        method: str,
        path: str,
        *,
        query: Iterable[tuple[str, Any]] = (),
        body: Body | None = None,
        write: bool = False,
        revision: int | None = None,
    ) -> httpx.Response:
        """What the service answers, after as many tries as it takes.

        Args:
            write: send an Idempotency-Key, the same with every try.
            revision: the revision that the space must have.

        Raises:
            TrustVLMError: what the service says; Unavailable: nothing, or nothing in time.
        """
        headers = if_match(revision)
        if write:
            headers |= {"idempotency-key": uuid.uuid4().hex} | self.expected.headers(path)
        patience = Patience(self.retries, self.timeout)
        while True:
            try:
                return self.attempt(
                    method, path, patience.left, query=query, body=body, headers=headers
                )
            except Passing as passing:
                patience.wait(passing)

    def attempt(
        self,
        method: str,
        path: str,
        seconds: float,
        *,
        query: Iterable[tuple[str, Any]] = (),
        body: Body | None = None,
        headers: dict[str, str] | None = None,
    ) -> httpx.Response:
        """One try. Raises Passing where another may succeed, else TrustVLMError."""
        sent = dict(headers or {})
        if body is not None:
            sent |= {"content-type": body.kind, "content-length": str(body.size)}
        content = None if body is None else iter(body)
        return self.send(method, path, seconds, query=query, content=content, headers=sent)

    def send(
        self,
        method: str,
        path: str,
        seconds: float,
        *,
        query: Iterable[tuple[str, Any]] = (),
        content: Iterator[bytes] | None = None,
        headers: dict[str, str] | None = None,
    ) -> httpx.Response:
        """One try, with a body that is made while it is sent; see :meth:`attempt`."""
        http, call = self._pool(), uuid.uuid4().hex
        timeout = httpx.Timeout(seconds, connect=min(seconds, CONNECT_S))
        sent = {name: call for name in CALL_IDS} | (headers or {})
        try:
            response = http.request(
                method,
                path,
                params=list(query) or None,
                content=content,
                headers=sent,
                timeout=timeout,
            )
        except _BROKEN as error:
            raise self._broken(error) from error
        except httpx.HTTPError as error:
            raise Unavailable(f"{self._network.where}: {error}") from error
        except (
            httpx.InvalidURL,
            UnicodeEncodeError,
        ) as error:  # lone surrogates, or tens of thousands of characters
            raise InvalidInput(
                f"expected names and options that an address can hold: {error!s:.200}"
            ) from error
        except RuntimeError as error:
            if http.is_closed:  # by another thread, meanwhile
                raise Unavailable("the client is closed") from error
            raise
        told = {response.headers[name] for name in CALL_IDS if name in response.headers}
        if told and call not in told:
            if (
                self._network.transport is None
            ):  # what else stands on this connection is wrong by as much
                self._further_pool()
            raise Passing(
                Unavailable(
                    f"{self._network.where}: the answer belongs to another request and is not used"
                )
            )
        if response.is_success:
            return response
        if response.status_code == 407:
            raise Unavailable(
                f"{self._network.where}: the proxy wants a user and password: "
                f"'http://user:password@proxy:3128'"
            )
        if response.is_redirect:
            raise Unavailable(
                f"{self._network.where} answered {response.status_code}: use "
                f"{_moved(response)!r:.200} as url"
            )
        problem, kind = problem_of(response)
        wait = seconds_of(response.headers.get("retry-after"))
        if wait is not None and isinstance(problem, TooMany | Overloaded):
            problem.retry_after = wait
        passes = response.status_code in (408, 429, 502, 503, 504) and (
            wait is not None or kind not in LASTING
        )
        raise Passing(problem, wait) if passes else problem

    def _broken(self, error: httpx.TransportError) -> Exception:
        """What a request that got no answer ends with: Passing where another try may get one."""
        where, said = self._network.where, str(error) or type(error).__name__
        if isinstance(_cause(error), ssl.SSLCertVerificationError):
            ways = (
                "pass verify=PATH of the certificate that signed it, or name that in SSL_CERT_FILE"
            )
            return Unavailable(f"{where}: its certificate is not trusted ({said}); {ways}")
        if isinstance(_cause(error), ssl.SSLError):
            return Unavailable(
                f"{where}: no encrypted connection ({said}); does it listen at http:// rather "
                f"than https://?"
            )
        return Passing(
            Unavailable(f"{where}: no answer ({said}); is 'trustvlm serve' running there?")
        )

    def read(self, response: httpx.Response) -> Any:
        """The JSON of an answer."""
        try:
            return response.json()
        except ValueError as error:
            raise Unavailable(
                f"{self.url}: expected a trustvlm service there, which answers in JSON"
            ) from error


def _headers(key: str | None, *, basic: bool) -> dict[str, str]:
    """What every request says; with a user and password, these take the header Authorization."""
    if key is None:
        return {}
    return {"x-api-key": key} if basic else {"authorization": f"Bearer {key}"}


def _cause(error: BaseException) -> BaseException:
    """What an error began with."""
    while (before := error.__cause__ or error.__context__) is not None:
        error = before
    return error


def _moved(response: httpx.Response) -> str:
    """The address at which a redirection says that the service is."""
    path = response.request.url.raw_path.partition(b"?")[0].decode()
    return str(public(response.headers["location"])).partition("?")[0].removesuffix(path)
