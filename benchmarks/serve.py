"""What 'trustvlm serve' makes of the hardware, how long answers take, and what it does when there
is too much to do.

    python -m benchmarks.serve [--full] [--labels 1e4] [--seconds 6] [--overload 20]
                               [--earlier CHECKOUT] [--only-single] [--json FILE]

One space of N labels (512-d, two support images each, 768-d), a real server process, clients on
loopback in this process, both on the same cores, one thread of arithmetic each. Two
minutes, or 16 with --full. Four questions:

* throughput: 32 clients that each send their next request when the last one is answered, against
  what one call of the library with batches of 1,024 queries does on one of the same cores. With 64
  queries a request and with one; .npz and JSON bodies.
* single queries: 32 clients with one query a request, against what the library does in batches of
  the size that forms (it cannot exceed 32, and is half of it where some are scored while others are
  on their way), and with --earlier against the server of another checkout in turns. Clients and
  server share the cores, so that requests a second understate a server with cores of its own; the
  processor time of server and clients stands beside it.
* latency at 70 % of the most single queries that the server can answer (with 256 clients: batches
  are larger then): p50 and p99, counted from when a request was due (open loop).
* overload: twice what it can answer, every tenth request a write; statuses, memory of the server,
  acknowledged writes that the catalog does not show afterwards, and how long it takes after the
  last request until an answer is as quick as before.

The bars of the project: ≥ 70 % of the library's throughput; p99 ≤ 5 × p50; over ten minutes memory
flat to 5 % (the second minute against the last), no 5xx but 503, no acknowledged write lost,
recovery within 5 s.
"""

from __future__ import annotations

import asyncio
import tempfile
from argparse import Namespace
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console
from rich.table import Table

import trustvlm
from benchmarks.register import CLASSIFIER, VERIFIER, directions
from benchmarks.report import arguments, header, on_one_thread, store
from benchmarks.single_queries import in_process, single_queries, single_table, speedup
from benchmarks.traffic import (
    Load,
    Made,
    Server,
    Writes,
    closed_loop,
    cores,
    open_loop,
    recovery,
    scores,
)

CLIENTS, MANY = 32, 256
ROWS = 64
EVERY = 10
"""One request in so many is a write."""

RESULTS = Path(__file__).resolve().parent / "results" / "serve.json"


def make_home(home: Path, labels: int) -> trustvlm.Queries:
    """A home with the space "space"; queries for it, each near a label."""
    rng = np.random.default_rng(0)
    with trustvlm.open(home, create=True) as service:
        service.create_space(
            "space", classifier=f"precomputed:{CLASSIFIER}", verifier=f"precomputed:{VERIFIER}"
        )
        texts, images = directions(rng, labels, CLASSIFIER), directions(rng, labels, VERIFIER)
        inputs = [
            trustvlm.LabelInput(
                f"label {i}", texts[i], image_vectors=images[i] + 0.5 * directions(rng, 2, VERIFIER)
            )
            for i in range(labels)
        ]
        service.register("space", inputs)
    chosen = rng.integers(0, labels, 1_024)
    vectors = (
        texts[chosen] + 0.8 * directions(rng, 1_024, CLASSIFIER),
        images[chosen] + 0.6 * directions(rng, 1_024, VERIFIER),
    )
    return trustvlm.Queries(*vectors)


def measure(folder: Path, options: Namespace, console: Console) -> dict[str, Any]:
    """Everything, phase by phase."""
    home, labels, seconds = folder / "home", int(options.labels), options.seconds
    queries = make_home(home, labels)
    results: dict[str, Any] = {"labels": labels, "clients": CLIENTS}
    results["single"] = single_queries(
        folder, home, queries, labels, CLIENTS, seconds, options.earlier
    )
    console.print(single_table(results["single"]))
    if options.only_single:
        return results
    results["in_process"] = {
        str(rows): in_process(home, queries, rows, seconds / 2)["queries_s"]
        for rows in (1_024, CLIENTS, CLIENTS // 2)
    }
    console.print(
        "the library, queries/s by batch:",
        {rows: round(rate) for rows, rate in results["in_process"].items()},
    )
    server = Server(home, folder / "log")
    try:
        singles = scores(queries, 1, "npz")
        asyncio.run(_rate(server, singles, 2, CLIENTS))
        results["throughput"] = []
        for rows, kind in ((ROWS, "npz"), (ROWS, "json"), (1, "npz"), (1, "json")):
            row = {"rows": rows, "body": kind} | asyncio.run(
                _rate(server, scores(queries, rows, kind), seconds, CLIENTS)
            )
            results["throughput"].append(row | {"queries_s": row["requests_s"] * rows})
        # The library once more, idle as the server is now: its better time is what the server is
        # held against.
        again = in_process(home, queries, 1_024, seconds / 2)["queries_s"]
        results["in_process"]["1024"] = max(results["in_process"]["1024"], again)
        for row in results["throughput"]:
            row["share"] = row["queries_s"] / results["in_process"]["1024"]
        console.print(table(results))
        results["most"] = asyncio.run(_rate(server, singles, seconds, MANY)) | {"clients": MANY}
        most = max(results["most"]["requests_s"], results["throughput"][2]["requests_s"])
        results["latency"], calm = latency(server, singles, 0.7 * most, seconds)
        console.print("at 70 %:", results["latency"])
        results["overload"] = overload(
            server, home, singles, 2 * most, options.overload, calm.quantile(0.5)
        )
    finally:
        server.stop()
    results["errors_logged"] = (folder / "log").read_text().count('"level": "error"')
    return results


async def _rate(
    server: Server, requests: list[bytes], seconds: float, clients: int
) -> dict[str, float]:
    with cores(server) as taken:
        rate = await closed_loop(server.port, requests, seconds, clients)
    return {"requests_s": rate} | taken


def latency(
    server: Server, singles: list[bytes], rate: float, seconds: float
) -> tuple[dict[str, Any], Load]:
    """Single queries at a rate that the server can do."""
    with cores(server) as taken:
        load, _ = asyncio.run(
            open_loop(
                server.port,
                rate,
                seconds,
                lambda i: (singles[i % len(singles)], lambda status: None),
            )
        )
    p50, p99 = load.quantile(0.5), load.quantile(0.99)
    results = {
        "rate": rate,
        "p50_ms": p50,
        "p99_ms": p99,
        "ratio": p99 / p50,
        "statuses": dict(load.statuses),
    }
    return results | taken, load


def overload(
    server: Server, home: Path, singles: list[bytes], rate: float, seconds: float, usual_ms: float
) -> dict[str, Any]:
    """Twice what can be done, for so long."""
    writes = Writes()
    memory: list[int] = []

    def make(number: int) -> Made:
        if number % EVERY == 0:
            return writes.next(number // EVERY)
        return singles[number % len(singles)], lambda status: None

    async def watched() -> tuple[Load, float]:
        async def watch() -> None:
            while True:
                memory.append(server.memory())
                await asyncio.sleep(max(0.25, seconds / 300))

        watching = asyncio.ensure_future(watch())

        async def after() -> float:
            watching.cancel()
            return await recovery(server.port, singles[0], usual_ms)

        return await open_loop(server.port, rate, seconds, make, after)

    with cores(server) as taken:
        load, recovered = asyncio.run(watched())
    tenth = max(1, len(memory) // 10)
    warm, last = np.mean(memory[tenth : 2 * tenth]), np.mean(memory[-tenth:])
    return taken | {
        "rate": rate, "seconds": seconds, "statuses": dict(load.statuses), "unsent": load.unsent,
        "answered_s": load.statuses[200] / seconds, "p50_ms": load.quantile(0.5),
        "p99_ms": load.quantile(0.99),
        "memory_mb": [round(m / 1e6) for m in memory[::tenth]], "memory_warm_mb": float(warm) / 1e6,
        "memory_change": float(last / warm - 1), "writes_acknowledged": writes.acknowledged,
        "writes_unsure": len(writes.unsure), "writes_missing": writes.missing(home),
        "recovery_s": recovered,
    }  # fmt: skip


def bars(results: dict[str, Any]) -> list[dict[str, Any]]:
    """What the project asks for, and whether it was there."""
    rows: list[tuple[str, float, str, bool]] = []
    for row in results["single"]:
        if row["checkout"] == "this":
            kind = row["body"]
            what = (
                f"{CLIENTS} clients, single queries ({kind}): of the library's rate at batches of"
            )
            rows.append((f"{what} {row['batch']:.0f}", row["share"], "≥ 0.7", row["share"] >= 0.7))
            times = speedup(results["single"], kind, "requests_s")
            if times is not None:
                what = f"single queries ({kind}): requests/s, times the earlier checkout's"
                rows.append((what, times, "≥ 3", times >= 3))
    if "overload" in results:
        rows += _load_bars(results)
    return [
        {"what": what, "found": value, "bar": bar, "passed": bool(passed)}
        for what, value, bar, passed in rows
    ]


def _load_bars(results: dict[str, Any]) -> list[tuple[str, float, str, bool]]:
    share = max(row["share"] for row in results["throughput"] if row["rows"] == ROWS)
    load = results["overload"]
    wrong = sum(
        count for status, count in load["statuses"].items() if int(status) not in (200, 503)
    )
    complete = load["seconds"] >= 600
    return [
        (f"{CLIENTS} clients, {ROWS} queries a request: of the library's rate",
         share, "≥ 0.7", share >= 0.7),
        ("p99 / p50 at 70 % "
         "load", results["latency"]["ratio"], "≤ 5", results["latency"]["ratio"] <= 5),
        ("overload: seconds of it", load["seconds"], "≥ 600", complete),
        ("overload: change of memory, last tenth against the "
         "second", load["memory_change"], "± 0.05",
         abs(load["memory_change"]) <= 0.05),
        ("overload: answers other than 200 and 503", wrong, "0", wrong == 0),
        ("overload: acknowledged writes that are "
         "missing", load["writes_missing"], "0", load["writes_missing"] == 0),
        ("overload: seconds until it has "
         "recovered", load["recovery_s"], "≤ 5", load["recovery_s"] <= 5),
        ("errors in the server's log",
         results["errors_logged"], "0", results["errors_logged"] == 0),
    ]  # fmt: skip


def table(results: dict[str, Any]) -> Table:
    """The throughputs."""
    columns = (
        "queries a request",
        "body",
        "requests/s",
        "queries/s",
        "of the library's",
        "server's cores",
        "clients' cores",
    )
    shown = Table(*columns)
    for row in results["throughput"]:
        numbers = (
            f"{row['requests_s']:,.0f}",
            f"{row['queries_s']:,.0f}",
            f"{100 * row['share']:.0f} %",
        )
        shown.add_row(
            str(row["rows"]),
            row["body"],
            *numbers,
            f"{row['server_cores']:.2f}",
            f"{row['client_cores']:.2f}",
        )
    return shown


def verdict(results: dict[str, Any]) -> Table:
    """The bars."""
    shown = Table("", "found", "bar", "")
    for row in results["bars"]:
        shown.add_row(
            row["what"], f"{row['found']:.3g}", row["bar"], "passed" if row["passed"] else "missed"
        )
    return shown


def main() -> None:
    parser = arguments(__doc__, RESULTS)
    parser.add_argument(
        "--full", action="store_true", help="20 s a phase and ten minutes of overload"
    )
    parser.add_argument("--labels", type=float, default=1e4, help="how many labels")
    parser.add_argument("--seconds", type=float, default=6.0, help="how long a phase takes")
    parser.add_argument("--overload", type=float, default=20.0, help="how many seconds of overload")
    parser.add_argument("--earlier", type=Path, help="another checkout, to compare with")
    parser.add_argument(
        "--only-single", action="store_true", help="single queries, and nothing else"
    )
    options = parser.parse_args()
    on_one_thread("serve")
    console = Console(width=128)
    if options.full:
        options.seconds, options.overload = 20.0, 600.0
    report: dict[str, Any] = {**header("serve")}
    with tempfile.TemporaryDirectory(prefix="trustvlm-bench-") as folder:
        report |= measure(Path(folder), options, console)
    report["bars"] = bars(report)
    console.print("overload:", report.get("overload"))
    console.print(verdict(report))
    store(options.json, report)


if __name__ == "__main__":
    main()
