"""Requests: one try, what its failure means, and the next tries.

Every request may be repeated: reads change nothing, writes carry an Idempotency-Key that is made
once a call, so that the service does them once, and bodies are kept until they are answered.
"""

from __future__ import annotations

import itertools
import json
import math
import os
import random
import re
import ssl
import time
import uuid
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any, TypeVar, cast
from urllib.parse import quote

import httpx

from trustvlm import errors
from trustvlm.client.network import Expected, Network, RequestSizes, if_match, public
from trustvlm.errors import STATUSES, InvalidInput, NotFound, TrustVLMError, Unavailable
from trustvlm.types.bounds import got
from trustvlm.types.json_form import from_plain
from trustvlm.types.messages.advised import placed_answer
from trustvlm.types.messages.commands import placed_in

FIRST_PAUSE_S, LONGEST_PAUSE_S, AWAY_PAUSE_S = 0.1, 5.0, 2.0  # away: while a service starts
RETRIES, CONNECT_S = 10, 10.0
PAGE_ROWS = 1_000

CALL_IDS = ("x-request-id", "x-call-id")
"""Headers that mark a request and its answer: proxies are free to change the first one."""

_LASTING = tuple(kind.__name__ for kind in errors.LASTING)
_PASSING = (408, 429, 502, 503, 504)
_BROKEN = (httpx.NetworkError, httpx.RemoteProtocolError, httpx.TimeoutException)
_OTHERS = {431: errors.TooLarge, 502: Unavailable, 504: Unavailable}  # some as proxies say
_TITLE = re.compile(r"<title>(.*?)</title>", re.DOTALL | re.IGNORECASE)
_OF_STATUS = {status: kind for kind, status in STATUSES.items()} | _OTHERS

T = TypeVar("T")
Fields = Sequence[tuple[str, Any]]
Body = Mapping[str, Any]
"""The arguments of :meth:`httpx.Client.request` that make the body."""


def json_body(content: Any) -> Body:
    """`content` as JSON. Raises InvalidInput for what JSON does not have."""
    try:
        data = json.dumps(content, allow_nan=False, separators=(",", ":")).encode()
    except (TypeError, ValueError) as error:
        raise InvalidInput(f"expected text, numbers and lists of them: {error}") from error
    return {"content": data, "headers": {"content-type": "application/json"}}


def _given(content: Mapping[str, Any]) -> Body:
    return json_body({name: value for name, value in content.items() if value is not None})


def path_of(*parts: str) -> str:
    """The path of these parts under /v1; a part may hold any character."""
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


def options_query(fields: Iterable[tuple[str, Any]]) -> list[tuple[str, Any]]:
    """Options as query parameters or form fields: None is left out, a list repeated, a mapping
    JSON."""
    pairs: list[tuple[str, Any]] = []
    for name, value in fields:
        if isinstance(value, Mapping):
            pairs.append((name, json.dumps(value)))
        elif isinstance(value, list | tuple):
            pairs += [(name, "" if one is None else one) for one in value]
        elif value is not None:
            pairs.append((name, str(value).lower() if isinstance(value, bool) else value))
    return pairs


def read(kind: Callable[..., T], value: Any) -> T:
    """A dataclass from the service's JSON. Raises Unavailable: what answers is no trustvlm service
    of this version."""
    try:
        return cast(T, placed_answer(from_plain(cast(type[T], kind), value)))
    except ValueError as error:
        raise Unavailable(
            f"expected a {kind.__name__} of a trustvlm service, got something else: {error!s:.200}"
        ) from error


class _Transient(Exception):
    """A try failed, and the next one may succeed.

    `wait`: seconds that the service asks for. `away`: nothing listens, or a proxy says so.
    """

    def __init__(self, problem: TrustVLMError, wait: float = 0.0, *, away: bool = False) -> None:
        super().__init__(str(problem))
        self.problem, self.wait, self.away = problem, wait, away


class Wire:
    """Connections to one service; safe to use from several threads, and in processes that are
    forked meanwhile.

    Two processes that share a connection read each other's answers, so each process opens new ones.
    An answer is used only if it carries the id of its request, because a proxy may mix answers up.
    """

    def __init__(
        self,
        network: Network,
        key: str | None,
        timeout: float,
        retries: int | None,
        sizes: RequestSizes,
    ) -> None:
        self.expected, self.sizes = Expected(), sizes
        self._timeout, self._network, self._waits = timeout, network, retries is None
        self._retries = RETRIES if retries is None else retries
        # A user and password in front of the service take the header Authorization.
        self._headers = {}
        if key is not None:
            self._headers = (
                {"x-api-key": key} if network.auth else {"authorization": f"Bearer {key}"}
            )
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

    def get(self, kind: Callable[..., T], /, *parts: str, **query: Any) -> T:
        """What the path of these parts answers, with the query parameters that are not None. Raises
        InvalidInput: one is several values."""
        for name, value in query.items():
            if isinstance(value, list | tuple | Mapping):
                raise InvalidInput(f"{name}: expected one value, got {got(value)}")
        fields = options_query(query.items())
        return read(kind, self.ask("GET", path_of(*parts), query=fields))

    def pages(
        self, kind: Callable[..., T], parts: Sequence[str], rows: str, most: int | None,
        by: str = "cursor", /, **query: Any,
    ) -> Iterator[T]:  # fmt: skip
        """Page after page of what the path of these parts lists, with `most` rows in all: each page
        says as `next_cursor`, or what else is listed `by`, where the following one begins."""
        while True:
            some = PAGE_ROWS if most is None else min(PAGE_ROWS, most)
            page = self.get(kind, *parts, **query, limit=some)
            yield page
            query[by] = getattr(page, f"next_{by}")
            most = None if most is None else most - len(getattr(page, rows))
            if query[by] is None or most == 0:
                return

    def find(self, kind: Callable[..., T], /, *parts: str, **content: Any) -> T:
        """What the path of these parts answers to a question: the fields that are not None."""
        return read(kind, self.ask("POST", path_of(*parts), body=_given(content)))

    def write(self, kind: Callable[..., T], method: str, /, *parts: str, **content: Any) -> T:
        """The answer to a write, with the fields that are not None; without any field there is no
        body."""
        body = _given(content) if content else None
        return read(kind, self.ask(method, path_of(*parts), body=body, write=True))

    def picture(self, *parts: str) -> bytes | None:
        """The JPEG at the path of these parts; None: there is none."""
        try:
            return self.fetch("GET", path_of(*parts)).content
        except NotFound:
            return None

    def ask(self, method: str, path: str, **options: Any) -> Any:
        """The JSON of :meth:`fetch`."""
        try:
            return self.fetch(method, path, **options).json()
        except ValueError as error:
            if isinstance(error, TrustVLMError):
                raise
            raise Unavailable(
                f"{self._network.url}: expected a trustvlm service there, which answers in JSON"
            ) from error

    def fetch(
        self,
        method: str,
        path: str,
        *,
        query: Sequence[tuple[str, Any]] = (),
        body: Body | None = None,
        write: bool = False,
        revision: int | None = None,
    ) -> httpx.Response:
        """The service's answer, after as many tries as it takes: the pauses between them double,
        with jitter, and are at least as long as the service asks for.

        Args:
            write: send one Idempotency-Key with every try.
            revision: the revision that the space must have.

        Raises:
            TrustVLMError: what the service says; Unavailable: nothing, or nothing in time.
        """
        headers = dict((body or {}).get("headers", {})) | if_match(revision)
        if write:
            headers |= {"idempotency-key": uuid.uuid4().hex} | self.expected.headers(path)
        sent = {**(body or {}), "headers": headers, "params": list(query) or None}
        end, failed = time.monotonic() + self._timeout, 0
        for tries in itertools.count(1):
            try:
                return self._try(method, path, max(end - time.monotonic(), 0.001), sent)
            except _Transient as transient:
                longest = AWAY_PAUSE_S if transient.away else LONGEST_PAUSE_S
                longest = min(FIRST_PAUSE_S * 2 ** min(tries - 1, 9), longest)
                pause = transient.wait + random.uniform(0.5, 1.0) * longest
                failed += not (transient.away and self._waits)
                if failed > self._retries or time.monotonic() + pause > end:
                    if tries > 1:
                        transient.problem.add_note(f"(tried {tries} times)")
                    raise transient.problem from transient.__cause__
                time.sleep(pause)
        raise AssertionError("unreachable")

    def _try(
        self, method: str, path: str, seconds: float, sent: Mapping[str, Any]
    ) -> httpx.Response:
        """One try. Raises _Transient where the next one may succeed, else TrustVLMError."""
        http, call, where = self._pool(), uuid.uuid4().hex, self._network.where
        timeout = httpx.Timeout(seconds, connect=min(seconds, CONNECT_S))
        headers = dict.fromkeys(CALL_IDS, call) | sent["headers"]
        try:
            response = http.request(method, path, **{**sent, "headers": headers}, timeout=timeout)
        except _BROKEN as error:
            raise _broken(where, error) from error
        except httpx.HTTPError as error:
            raise Unavailable(f"{where}: {error}") from error
        except (httpx.InvalidURL, UnicodeEncodeError) as error:
            # lone surrogates, or tens of thousands of characters
            raise InvalidInput(
                f"expected names and options that an address can hold: {error!s:.200}"
            ) from error
        except RuntimeError as error:
            if http.is_closed:  # by another thread, meanwhile
                raise Unavailable("the client is closed") from error
            raise
        marks = {response.headers[name] for name in CALL_IDS if name in response.headers}
        if marks and call not in marks:
            if self._network.transport is None:  # the connection is one answer behind
                self._further_pool()
            raise _Transient(
                Unavailable(f"{where}: the answer belongs to another request and is not used")
            )
        if not response.is_success:
            raise _refusal(where, response)
        return response


def _broken(where: str, error: httpx.TransportError) -> Exception:
    """What a request without an answer ends with: _Transient where another try may get one."""
    said = str(error) or type(error).__name__
    cause: BaseException = error
    while (before := cause.__cause__ or cause.__context__) is not None:
        cause = before
    if isinstance(cause, ssl.SSLCertVerificationError):
        ways = "pass verify=PATH of the certificate that signed it, or name that in SSL_CERT_FILE"
        return Unavailable(f"{where}: its certificate is not trusted ({said}); {ways}")
    if isinstance(cause, ssl.SSLError):
        hint = "does it listen at http:// rather than https://?"
        return Unavailable(f"{where}: no encrypted connection ({said}); {hint}")
    return _Transient(
        Unavailable(f"{where}: no answer ({said}); is 'trustvlm serve' running there?"),
        away=isinstance(cause, ConnectionRefusedError),
    )


def _refusal(where: str, response: httpx.Response) -> Exception:
    """What an answer other than 2xx says: _Transient where the next try may succeed."""
    if response.status_code == 407:
        return Unavailable(
            f"{where}: the proxy wants a user and password: 'http://user:password@proxy:3128'"
        )
    if response.is_redirect:
        path = response.request.url.raw_path.partition(b"?")[0].decode()
        moved = public(response.headers["location"]).partition("?")[0].removesuffix(path)
        return Unavailable(f"{where} answered {response.status_code}: use {moved!r:.200} as url")
    problem, kind = _problem_of(response)
    wait = _seconds_of(response.headers.get("retry-after"))
    if wait is not None and isinstance(problem, errors.TooMany | errors.Overloaded):
        problem.retry_after = wait
    passing = response.status_code in _PASSING and (wait is not None or kind not in _LASTING)
    away = response.status_code == 502  # a proxy says so
    return _Transient(problem, wait or 0.0, away=away) if passing else problem


def _problem_of(response: httpx.Response) -> tuple[TrustVLMError, str | None]:
    """(the error, its kind) that an answer tells of; in another shape the kind is None."""
    try:
        content = response.json()["error"]
        kind, message, request_id = (
            str(content[name]) for name in ("kind", "message", "request_id")
        )
    except (ValueError, KeyError, TypeError):
        page = _TITLE.search(response.text)  # of a proxy
        text = " ".join((page[1] if page else response.text).split())[:200] or "nothing"
        said = f"{response.request.url} answered {response.status_code}: {text}"
        if response.status_code == 400 and "HTTPS" in text:
            return Unavailable(f"{said}; does it listen at https:// rather than http://?"), None
        return _OF_STATUS.get(response.status_code, TrustVLMError)(said), None
    problem = error_of(kind, message, response.status_code)
    problem.request_id = request_id
    problem.add_note(f"(request id {request_id})")
    return problem, kind


def error_of(kind: str, message: str, status: int = 500) -> TrustVLMError:
    """An error of the service as the class of trustvlm.errors with its name."""
    error_class = getattr(errors, kind, None) if kind in errors.__all__ else None
    if not (isinstance(error_class, type) and issubclass(error_class, TrustVLMError)):
        error_class = _OF_STATUS.get(status, TrustVLMError)
    return error_class(placed_in(message))


def _seconds_of(text: str | None) -> float | None:
    """A Retry-After header in seconds; None where there is none, or a date."""
    try:
        seconds = float(text or "nan")
    except ValueError:
        return None
    return max(seconds, 0.0) if math.isfinite(seconds) else None
