"""What 'trustvlm serve' makes of the hardware, how long answers take, and what it does when there is too much to do.

    python -m benchmarks.serve [--full] [--labels 1e4] [--json FILE]

One space of N labels (512-d, two support images each, 768-d), a real server process, clients on loopback in this process, both
on the same cores; a minute, or ten with --full. Three questions:

* throughput: 32 clients that each send their next request when the last one is answered, against what one call of the library
  with batches of 1,024 queries does on the same cores. With 64 queries a request and with one; .npz and JSON bodies. 32 single
  queries cannot make a batch of more than 32: what the library does with such batches is printed as well.
* latency at 70 % of the highest rate of single queries: p50 and p99, counted from when a request was due (open loop).
* overload: twice that rate, every tenth request a write; statuses, memory of the server, acknowledged writes that are missing
  afterwards, and how long it takes until an answer is as quick as before.

The bars of the project: ≥ 70 % of the library's throughput; p99 ≤ 5 × p50; memory flat to 5 %, no 5xx but 503, no acknowledged
write lost, recovery within 5 s.
"""

from __future__ import annotations

import argparse
import asyncio
import io
import json
import os
import platform
import re
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import psutil
from rich.console import Console
from rich.table import Table

import trustvlm
from benchmarks.register import CLASSIFIER, VERIFIER, directions

CLIENTS = 32
ROWS = 64
WRITES = 0.1
CONNECTIONS = 400
RESULTS = Path(__file__).resolve().parent / "results" / "serve.json"


def make_home(home: Path, labels: int) -> trustvlm.Queries:
    """A home with the space "space"; queries for it, each near a label."""
    rng = np.random.default_rng(0)
    with trustvlm.open(home, create=True) as service:
        service.create_space("space", classifier=f"precomputed:{CLASSIFIER}", verifier=f"precomputed:{VERIFIER}")
        texts, images = directions(rng, labels, CLASSIFIER), directions(rng, labels, VERIFIER)
        inputs = [
            trustvlm.LabelInput(f"label {i}", texts[i], image_vectors=images[i] + 0.5 * directions(rng, 2, VERIFIER))
            for i in range(labels)
        ]
        service.register("space", inputs)
    chosen = rng.integers(0, labels, 1_024)
    near = texts[chosen] + 0.8 * directions(rng, 1_024, CLASSIFIER), images[chosen] + 0.6 * directions(rng, 1_024, VERIFIER)
    return trustvlm.Queries(*near)


def in_process(home: Path, queries: trustvlm.Queries, rows: int, seconds: float) -> float:
    """Queries a second of the library in batches of `rows`."""
    batch = trustvlm.Queries(*(np.asarray(side)[:rows] for side in (queries.classifier, queries.verifier)))
    with trustvlm.open(home) as service:
        service.score("space", batch)
        begin, done = time.perf_counter(), 0
        while time.perf_counter() - begin < seconds:
            done += len(service.score("space", batch))
        return done / (time.perf_counter() - begin)


class Server:
    """A server process on a home, on a free port of loopback."""

    def __init__(self, home: Path, log: Path) -> None:
        command = [sys.executable, "-m", "trustvlm.cli", "--home", str(home), "serve", "--port", "0"]
        self._log = log.open("wb")
        self.process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=self._log, text=True)
        assert self.process.stdout is not None
        found = re.search(r"http://127\.0\.0\.1:(\d+)/", self.process.stdout.readline())
        assert found
        self.port = int(found[1])

    def memory(self) -> int:
        """Bytes that belong to the process alone."""
        return int(psutil.Process(self.process.pid).memory_full_info().uss)

    def stop(self) -> None:
        self.process.send_signal(signal.SIGTERM)
        self.process.wait(60)
        self._log.close()


def request(method: str, path: str, body: bytes = b"", kind: str = "application/json") -> bytes:
    head = f"{method} {path} HTTP/1.1\r\nhost: 127.0.0.1\r\ncontent-type: {kind}\r\ncontent-length: {len(body)}\r\n\r\n"
    return head.encode() + body


class Client:
    """One connection, kept open. Bare sockets: a client library would cost more than the server."""

    def __init__(self, port: int) -> None:
        self._port = port
        self._streams: tuple[asyncio.StreamReader, asyncio.StreamWriter] | None = None

    async def ask(self, data: bytes) -> tuple[int, bytes]:
        """(status, body)."""
        if self._streams is None:
            self._streams = await asyncio.open_connection("127.0.0.1", self._port, limit=2**24)
        reader, writer = self._streams
        try:
            writer.write(data)
            head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").lower()
            length = int(re.search(r"content-length: (\d+)", head)[1])  # type: ignore[index]
            body = await reader.readexactly(length)
        except (ConnectionError, asyncio.IncompleteReadError):
            await self.close()
            return 0, b""
        if "connection: close" in head:
            await self.close()
        return int(head[9:12]), body

    async def close(self) -> None:
        if self._streams is not None:
            self._streams[1].close()
            self._streams = None


def scores(queries: trustvlm.Queries, rows: int, kind: str) -> list[bytes]:
    """Requests of so many queries each."""
    found = []
    for start in range(0, min(1_024, 64 * rows), rows):
        both = [np.asarray(side)[start : start + rows].astype(np.float32) for side in (queries.classifier, queries.verifier)]
        if kind == "npz":
            out = io.BytesIO()
            np.savez(out, classifier=both[0], verifier=both[1])
            found.append(request("POST", "/v1/spaces/space/score", out.getvalue(), "application/x-npz"))
        else:
            rounded = [[[round(x, 6) for x in row] for row in side.tolist()] for side in both]
            body = json.dumps({"classifier": rounded[0], "verifier": rounded[1]}).encode()
            found.append(request("POST", "/v1/spaces/space/score", body))
    return found


async def closed_loop(port: int, requests: list[bytes], seconds: float) -> float:
    """Requests a second of :data:`CLIENTS` clients, each with its next request when the last one is answered."""
    done = 0
    end = time.perf_counter() + seconds

    async def one(number: int) -> None:
        nonlocal done
        client = Client(port)
        while time.perf_counter() < end:
            status, _ = await client.ask(requests[(number + done) % len(requests)])
            assert status == 200, status
            done += 1
        await client.close()

    begin = time.perf_counter()
    await asyncio.gather(*(one(number) for number in range(CLIENTS)))
    return done / (time.perf_counter() - begin)


@dataclass
class Load:
    """What came of an open loop."""

    seconds: list[float] = field(default_factory=list)
    statuses: Counter[int] = field(default_factory=Counter)
    unsent: int = 0

    def quantile(self, q: float) -> float:
        return float(np.quantile(self.seconds, q)) * 1_000 if self.seconds else float("nan")


async def open_loop(port: int, rate: float, seconds: float, make: Callable[[int], tuple[bytes, Callable[[], None]]]) -> Load:
    """Requests at random times, `rate` a second, answered or not; times count from when each was due."""
    rng = np.random.default_rng(1)
    load, free = Load(), [Client(port) for _ in range(CONNECTIONS)]
    running: set[asyncio.Task[None]] = set()

    async def one(client: Client, due: float, data: bytes, done: Callable[[], None]) -> None:
        status, _ = await client.ask(data)
        load.statuses[status] += 1
        if status == 200:
            load.seconds.append(time.perf_counter() - due)
            done()
        free.append(client)

    due, number = time.perf_counter(), 0
    end = due + seconds
    while due < end:
        await asyncio.sleep(max(0.0, due - time.perf_counter()))
        if free:
            data, done = make(number)
            task = asyncio.ensure_future(one(free.pop(), due, data, done))
            running.add(task)
            task.add_done_callback(running.discard)
        else:
            load.unsent += 1  # so many are under way that the machine has no more connections to give
        number += 1
        due += rng.exponential(1 / rate)
    await asyncio.gather(*running)
    for client in free:
        await client.close()
    return load


class Writes:
    """Labels that are registered and removed again in turn, and which of them the server said it has."""

    def __init__(self) -> None:
        self._rng = np.random.default_rng(2)
        self.state: dict[int, bool] = {}
        self.pending: set[int] = set()
        self.unsure: set[int] = set()
        self.acknowledged = 0

    def next(self, number: int) -> tuple[bytes, Callable[[], None]]:
        slot = number % 512
        while slot in self.pending:
            slot = (slot + 1) % 100_000
        self.pending.add(slot)
        there = self.state.get(slot, False)
        name = f"written {slot}"

        def done() -> None:
            self.state[slot] = not there
            self.pending.discard(slot)
            self.acknowledged += 1

        if there:
            return request("DELETE", f"/v1/spaces/space/labels/written%20{slot}"), done
        vectors = [[round(x, 5) for x in row] for row in directions(self._rng, 1, CLASSIFIER).tolist()]
        body = {"labels": [{"name": name, "text_vector": vectors[0]}]}
        return request("POST", "/v1/spaces/space/labels", json.dumps(body).encode()), done

    def missing(self, home: Path) -> int:
        """Acknowledged changes that the catalog does not show. Slots whose last request was refused are left out."""
        with trustvlm.open(home, read_only=True) as service:
            there = {row.name for row in service.list_labels("space")}
        known = {slot: state for slot, state in self.state.items() if slot not in self.pending}
        return sum((f"written {slot}" in there) != state for slot, state in known.items())


async def recovery(port: int, data: bytes, usual_ms: float) -> float:
    """Seconds until three answers in a row take no more than twice the usual time."""
    client, begin, good = Client(port), time.perf_counter(), 0
    while good < 3 and time.perf_counter() - begin < 30:
        asked = time.perf_counter()
        status, _ = await client.ask(data)
        quick = status == 200 and 1_000 * (time.perf_counter() - asked) <= max(2 * usual_ms, 20)
        good = good + 1 if quick else 0
    await client.close()
    return time.perf_counter() - begin


def measure(folder: Path, labels: int, full: bool, console: Console) -> dict[str, Any]:
    span = 60.0 if full else 6.0
    home = folder / "home"
    queries = make_home(home, labels)
    found: dict[str, Any] = {"labels": labels, "clients": CLIENTS, "in_process": in_process(home, queries, 1_024, span)}
    found["in_process_of_clients"] = in_process(home, queries, CLIENTS, span / 2)
    console.print({name: round(found[name]) for name in ("in_process", "in_process_of_clients")}, "queries/s")
    server = Server(home, folder / "log")
    try:
        run: Callable[[Awaitable[Any]], Any] = lambda work: asyncio.run(_awaited(work))  # noqa: E731
        singles = scores(queries, 1, "npz")
        run(closed_loop(server.port, singles, 2))
        found["throughput"] = []
        for rows, kind in ((ROWS, "npz"), (ROWS, "json"), (1, "npz"), (1, "json")):
            rate = run(closed_loop(server.port, scores(queries, rows, kind), span))
            row = {"rows": rows, "body": kind, "requests_s": rate, "queries_s": rate * rows}
            found["throughput"].append(row | {"share": rate * rows / found["in_process"]})
            console.print(row)
        most = found["throughput"][2]["requests_s"]
        calm = run(open_loop(server.port, 0.7 * most, span, lambda i: (singles[i % len(singles)], lambda: None)))
        found["latency"] = {
            "rate": 0.7 * most, "p50_ms": calm.quantile(0.5), "p99_ms": calm.quantile(0.99), "statuses": dict(calm.statuses),
            "ratio": calm.quantile(0.99) / calm.quantile(0.5),
        }  # fmt: skip
        console.print(found["latency"])
        found["overload"] = overload(server, home, singles, 2 * most, 600.0 if full else 20.0, calm.quantile(0.5))
        console.print(found["overload"])
    finally:
        server.stop()
    found["fivehundreds_logged"] = (folder / "log").read_text().count('"level": "error"')
    return found


def overload(server: Server, home: Path, singles: list[bytes], rate: float, seconds: float, usual_ms: float) -> dict[str, Any]:
    """Twice what can be done, for so long."""
    writes, memory, load = Writes(), [], Load()
    part = min(10.0, seconds / 5)

    def make(number: int) -> tuple[bytes, Callable[[], None]]:
        every = round(1 / WRITES)
        return writes.next(number // every) if number % every == 0 else (singles[number % len(singles)], lambda: None)

    begin = time.perf_counter()
    while time.perf_counter() - begin < seconds:
        some = asyncio.run(open_loop(server.port, rate, part, make))
        load.statuses += some.statuses
        load.seconds += some.seconds
        load.unsent += some.unsent
        memory.append(server.memory())
    recovered = asyncio.run(recovery(server.port, singles[0], usual_ms))
    settled = memory[len(memory) // 5 :]
    return {
        "rate": rate, "seconds": seconds, "statuses": dict(load.statuses), "unsent": load.unsent,
        "p50_ms": load.quantile(0.5), "p99_ms": load.quantile(0.99), "memory_mb": [round(m / 1e6) for m in memory],
        "memory_change": settled[-1] / settled[0] - 1, "writes_acknowledged": writes.acknowledged,
        "writes_missing": writes.missing(home), "recovery_s": recovered,
    }  # fmt: skip


async def _awaited(work: Awaitable[Any]) -> Any:
    return await work


def table(found: dict[str, Any]) -> Table:
    shown = Table("queries a request", "body", "requests/s", "queries/s", "of the library's")
    for row in found["throughput"]:
        numbers = (f"{row['requests_s']:,.0f}", f"{row['queries_s']:,.0f}", f"{100 * row['share']:.0f} %")
        shown.add_row(str(row["rows"]), row["body"], *numbers)
    return shown


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--full", action="store_true")
    parser.add_argument("--labels", type=float, default=1e4)
    parser.add_argument("--json", type=Path, default=RESULTS)
    arguments = parser.parse_args()
    console = Console()
    with tempfile.TemporaryDirectory(prefix="trustvlm-bench-") as folder:
        found = measure(Path(folder), int(arguments.labels), arguments.full, console)
    found |= {
        "full": arguments.full,
        "cores": os.cpu_count(),
        "omp": os.environ.get("OMP_NUM_THREADS"),
        "python": platform.python_version(),
    }
    found |= {"at": datetime.now(UTC).isoformat(timespec="seconds")}
    console.print(table(found))
    arguments.json.write_text(json.dumps(found, indent=1) + "\n")


if __name__ == "__main__":
    main()
