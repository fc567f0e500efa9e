"""A server process and its clients, for benchmarks of the service: bare sockets and requests whose
bytes are made beforehand.

A client library would cost more than the server; this takes some 0.1 ms of a core a request, and
:func:`cores` says how much it was.
"""

from __future__ import annotations

import asyncio
import io
import json
import os
import re
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, cast
from urllib.request import urlopen

import numpy as np
import psutil

import trustvlm
from benchmarks.register import CLASSIFIER, directions

CONNECTIONS = 700
"""More than the 512 requests that a server lets in at once: what it cannot do it has to refuse."""

IDLE_S = 3.0
"""So long a connection may have been idle when it is used again."""


class Server:
    """A server process on a home, on a free port of loopback, with the code of this checkout or of
    another one."""

    def __init__(self, home: Path, log: Path, checkout: Path | None = None) -> None:
        command = [
            sys.executable,
            "-m",
            "trustvlm.cli",
            "--home",
            str(home),
            "serve",
            "--port",
            "0",
        ]
        self._log = log.open("wb")
        self.process = subprocess.Popen(
            command,
            stdout=subprocess.PIPE,
            stderr=self._log,
            text=True,
            cwd=checkout,
            env=None if checkout is None else os.environ | {"PYTHONPATH": str(checkout)},
        )
        self._watched = psutil.Process(self.process.pid)
        assert self.process.stdout is not None
        match = re.search(r"http://127\.0\.0\.1:(\d+)/", self.process.stdout.readline())
        assert match
        self.port = int(match[1])

    def memory(self) -> int:
        """Bytes that belong to the process alone."""
        return int(self._watched.memory_full_info().uss)

    def seconds(self) -> float:
        """Seconds of a core that it has taken."""
        times = self._watched.cpu_times()
        return float(times.user + times.system)

    def counter(self, name: str) -> float:
        """A figure of /metrics."""
        with urlopen(f"http://127.0.0.1:{self.port}/metrics") as answer:
            text = answer.read().decode()
        return float(re.search(rf"^{re.escape(name)} (.+)$", text, re.MULTILINE)[1])  # type: ignore[index]

    def stop(self) -> None:
        self.process.send_signal(signal.SIGTERM)
        self.process.wait(60)
        self._log.close()


@contextmanager
def cores(server: Server) -> Iterator[dict[str, float]]:
    """How many cores the server and the clients (this process) took during the block: filled in at
    its end."""
    figures: dict[str, float] = {}
    begin, taken, used = time.perf_counter(), server.seconds(), time.process_time()
    yield figures
    wall = time.perf_counter() - begin
    figures |= {
        "server_cores": (server.seconds() - taken) / wall,
        "client_cores": (time.process_time() - used) / wall,
    }


def request(method: str, path: str, body: bytes = b"", kind: str = "application/json") -> bytes:
    head = (
        f"{method} {path} HTTP/1.1\r\nhost: 127.0.0.1\r\ncontent-type: "
        f"{kind}\r\ncontent-length: {len(body)}\r\n\r\n"
    )
    return head.encode() + body


def scores(queries: trustvlm.Queries, rows: int, kind: str) -> list[bytes]:
    """Requests of so many queries each, as "npz" or "json"."""
    requests = []
    for start in range(0, min(1_024, 64 * rows), rows):
        both = [
            np.asarray(side)[start : start + rows].astype(np.float32)
            for side in (queries.classifier, queries.verifier)
        ]
        if kind == "npz":
            out = io.BytesIO()
            np.savez(out, classifier=both[0], verifier=both[1])
            requests.append(
                request("POST", "/v1/spaces/space/score", out.getvalue(), "application/x-npz")
            )
        else:
            rounded = [[[round(x, 6) for x in row] for row in side.tolist()] for side in both]
            body = json.dumps({"classifier": rounded[0], "verifier": rounded[1]}).encode()
            requests.append(request("POST", "/v1/spaces/space/score", body))
    return requests


class Client:
    """One connection, kept open."""

    def __init__(self, port: int) -> None:
        self._port = port
        self._streams: tuple[asyncio.StreamReader, asyncio.StreamWriter] | None = None
        self._until = 0.0

    async def ask(self, data: bytes) -> tuple[int, bytes]:
        """(status, body); status 0: the connection broke."""
        if (
            time.monotonic() > self._until
        ):  # the server closes what is idle for 5 s: not to ask at that very moment
            await self.close()
        try:
            if self._streams is None:
                self._streams = await asyncio.open_connection("127.0.0.1", self._port, limit=2**24)
            reader, writer = self._streams
            writer.write(data)
            head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").lower()
            length = int(re.search(r"content-length: (\d+)", head)[1])  # type: ignore[index]
            body = await reader.readexactly(length)
        except (OSError, asyncio.IncompleteReadError):
            await self.close()
            return 0, b""
        if "connection: close" in head:
            await self.close()
        self._until = time.monotonic() + IDLE_S
        return int(head[9:12]), body

    async def close(self) -> None:
        if self._streams is not None:
            self._streams[1].close()
            self._streams = None


class _Asking(asyncio.Protocol):
    """A client that sends its next request when the last one is answered: without streams, whose
    cost would be taken from the server on the same cores."""

    def __init__(self, requests: Iterator[bytes], ended: asyncio.Future[None]) -> None:
        self._requests, self.ended = requests, ended
        self.done = 0
        self._data = bytearray()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)
        self._transport.write(next(self._requests))

    def data_received(self, data: bytes) -> None:
        self._data += data
        head = self._data.find(b"\r\n\r\n")
        if head < 0:
            return
        at = self._data.find(b"content-length: ", 0, head) + 16
        if len(self._data) < head + 4 + int(self._data[at : self._data.find(b"\r", at)]):
            return
        if not self._data.startswith(b"HTTP/1.1 200"):
            self.ended.set_exception(RuntimeError(self._data.decode(errors="replace")))
            return
        self._data.clear()
        self.done += 1
        following = next(self._requests, None)
        if following is None:
            self.ended.set_result(None)
            self._transport.close()
        else:
            self._transport.write(following)


async def closed_loop(port: int, requests: list[bytes], seconds: float, clients: int) -> float:
    """Requests per second of `clients` clients; each sends its next request after an answer."""
    loop = asyncio.get_running_loop()
    end = time.perf_counter() + seconds

    def until_end(first: int) -> Iterator[bytes]:
        number = first
        while time.perf_counter() < end:
            yield requests[number % len(requests)]
            number += clients

    begin = time.perf_counter()
    asking = [_Asking(until_end(number), loop.create_future()) for number in range(clients)]
    for client in asking:
        await loop.create_connection(lambda client=client: client, "127.0.0.1", port)
    await asyncio.gather(*(client.ended for client in asking))
    return sum(client.done for client in asking) / (time.perf_counter() - begin)


@dataclass
class Load:
    """What came of an open loop: seconds of what was answered with 200, and all statuses."""

    seconds: list[float] = field(default_factory=list)
    statuses: Counter[int] = field(default_factory=Counter)
    unsent: int = 0

    def quantile(self, q: float) -> float:
        """In milliseconds."""
        return float(np.quantile(self.seconds, q)) * 1_000 if self.seconds else float("nan")


Made = tuple[bytes, Callable[[int], None]]
"""The bytes of a request, and what is to be told of the status that it gets."""


async def open_loop(
    port: int,
    rate: float,
    seconds: float,
    make: Callable[[int], Made],
    after: Callable[[], Any] | None = None,
) -> tuple[Load, Any]:
    """Requests at random times, `rate` a second, answered or not; times count from when each was
    due.

    With `after`, that coroutine is run when the last one was sent, while others wait for their
    answers: (load, its result).
    """
    rng = np.random.default_rng(1)
    load, free = Load(), [Client(port) for _ in range(CONNECTIONS)]
    running: set[asyncio.Task[None]] = set()

    async def one(client: Client, due: float, made: Made) -> None:
        status, _ = await client.ask(made[0])
        load.statuses[status] += 1
        if status == 200:
            load.seconds.append(time.perf_counter() - due)
        made[1](status)
        free.append(client)

    due, number = time.perf_counter(), 0
    end = due + seconds
    while due < end:
        await asyncio.sleep(max(0.0, due - time.perf_counter()))
        if free:
            task = asyncio.ensure_future(one(free.pop(), due, make(number)))
            running.add(task)
            task.add_done_callback(running.discard)
        else:
            load.unsent += 1
        number += 1
        due += rng.exponential(1 / rate)
    result = None if after is None else await after()
    await asyncio.gather(*running)
    for client in free:
        await client.close()
    return load, result


class Writes:
    """Labels that are registered and removed again in turn, and which of them the server said it
    has."""

    SLOTS = 512

    def __init__(self) -> None:
        vectors = directions(np.random.default_rng(2), self.SLOTS, CLASSIFIER).tolist()
        self._adding = [self._addition(slot, vector) for slot, vector in enumerate(vectors)]
        self._removing = [
            request("DELETE", f"/v1/spaces/space/labels/written%20{slot}")
            for slot in range(self.SLOTS)
        ]
        self.state: dict[int, bool] = {}
        self.pending: set[int] = set()
        self.unsure: set[int] = set()
        self.acknowledged = 0

    @staticmethod
    def _addition(slot: int, vector: list[float]) -> bytes:
        body = {
            "labels": [{"name": f"written {slot}", "text_vector": [round(x, 5) for x in vector]}]
        }
        return request("POST", "/v1/spaces/space/labels", json.dumps(body).encode())

    def next(self, number: int) -> Made:
        """The next write to a label that none is under way for."""
        slot = next(
            at % self.SLOTS
            for at in range(number, number + self.SLOTS)
            if at % self.SLOTS not in self.pending
        )
        self.pending.add(slot)
        present = self.state.get(slot, False)

        def done(status: int) -> None:
            self.pending.discard(slot)
            if status == 200:
                self.state[slot] = not present
                self.acknowledged += 1
            elif status != 503:  # refused is not done; what else came, or nothing, leaves it open
                self.unsure.add(slot)

        return (self._removing if present else self._adding)[slot], done

    def missing(self, home: Path) -> int:
        """Labels of which the catalog shows something else than the last answer said."""
        with trustvlm.open(home, read_only=True) as service:
            present = {row.name for row in service.list_labels("space")}
        settled = {slot: state for slot, state in self.state.items() if slot not in self.unsure}
        return sum((f"written {slot}" in present) != state for slot, state in settled.items())


async def recovery(port: int, data: bytes, usual_ms: float) -> float:
    """Seconds until three answers in a row take no more than twice the usual time; no more than
    30."""
    client, begin, good = Client(port), time.perf_counter(), 0
    while good < 3 and time.perf_counter() - begin < 30:
        begun = time.perf_counter()
        status, _ = await client.ask(data)
        quick = status == 200 and 1_000 * (time.perf_counter() - begun) <= max(2 * usual_ms, 20)
        good = good + 1 if quick else 0
        if status == 503:
            await asyncio.sleep(0.05)
    await client.close()
    return time.perf_counter() - begin
