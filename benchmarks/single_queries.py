"""Single queries of many clients: requests a second and the server's processor time, against the
library at the batch size that forms, and against another checkout in the same run."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
from rich.table import Table

import trustvlm
from benchmarks.traffic import Server, closed_loop, cores, scores

ROUNDS = 3
_MAKE = (
    "import sys; from pathlib import Path; from benchmarks.serve import make_home; "
    "make_home(Path(sys.argv[1]), int(sys.argv[2]))"
)
_CALLS = 'trustvlm_batch_calls_{}{{owner="scorer"}}'


def in_process(
    home: Path, queries: trustvlm.Queries, rows: int, seconds: float
) -> dict[str, float]:
    """Queries a second of the library in batches of `rows`, and milliseconds of a core a query."""
    classifier, verifier = (
        np.asarray(side)[:rows] for side in (queries.classifier, queries.verifier)
    )
    batch = trustvlm.Queries(classifier, verifier)
    with trustvlm.open(home) as service:
        service.score("space", batch)
        begin, taken, done = time.perf_counter(), time.process_time(), 0
        while time.perf_counter() - begin < seconds:
            done += len(service.score("space", batch))
        taken, wall = time.process_time() - taken, time.perf_counter() - begin
    return {"queries_s": done / wall, "ms": 1_000 * taken / done}


def single_queries(
    folder: Path,
    home: Path,
    queries: trustvlm.Queries,
    labels: int,
    clients: int,
    seconds: float,
    earlier: Path | None,
) -> list[dict[str, Any]]:
    """A row for each kind of body and each checkout. The checkouts take turns, and the library is
    measured in between; each figure is the best of the rounds.

    Args:
        earlier: another checkout, whose server gets a home of its own.
    """
    servers = {"this": Server(home, folder / "log-single")}
    if earlier is not None:
        other = folder / "home-earlier"
        environment = os.environ | {"PYTHONPATH": str(earlier)}
        command = [sys.executable, "-c", _MAKE, str(other), str(labels)]
        subprocess.run(command, check=True, cwd=earlier, env=environment)
        servers["earlier"] = Server(other, folder / "log-earlier", earlier)
    rows: list[dict[str, Any]] = []
    try:
        for kind in ("npz", "json"):
            requests = scores(queries, 1, kind)
            rounds: list[dict[str, dict[str, float]]] = []
            for _ in range(ROUNDS):
                results = {
                    name: _round(server, requests, clients, seconds)
                    for name, server in servers.items()
                }
                batch = max(1, round(results["this"]["batch"]))
                results["library"] = in_process(home, queries, batch, seconds / 2)
                rounds.append(results)
            rows += [{"body": kind, "checkout": name} | _best(rounds, name) for name in servers]
    finally:
        for server in servers.values():
            server.stop()
    return rows


def _round(server: Server, requests: list[bytes], clients: int, seconds: float) -> dict[str, float]:
    asyncio.run(closed_loop(server.port, requests, 1.0, clients))
    before = [server.counter(_CALLS.format(end)) for end in ("sum", "count")]
    begin = time.perf_counter()
    with cores(server) as taken:
        rate = asyncio.run(closed_loop(server.port, requests, seconds, clients))
    requested = rate * (time.perf_counter() - begin)
    calls, batches = (
        server.counter(_CALLS.format(end)) - start
        for end, start in zip(("sum", "count"), before, strict=True)
    )
    wall = requested / rate
    return {
        "requests_s": rate,
        "server_ms": 1_000 * taken["server_cores"] * wall / requested,
        "client_ms": 1_000 * taken["client_cores"] * wall / requested,
        "batch": calls / batches,
    }


def _best(rounds: list[dict[str, dict[str, float]]], name: str) -> dict[str, float]:
    """The figures of the round with the most requests, with the library's best beside them."""
    best = max((one[name] for one in rounds), key=lambda one: one["requests_s"])
    least = min(one[name]["server_ms"] for one in rounds)
    library = max(one["library"]["queries_s"] for one in rounds)
    return best | {
        "server_ms": least,
        "library_queries_s": library,
        "library_ms": min(one["library"]["ms"] for one in rounds),
        "share": best["requests_s"] / library,
    }


def speedup(rows: list[dict[str, Any]], kind: str, what: str) -> float | None:
    """How many times as good this checkout is as the earlier one, by "requests_s" or by
    "server_ms"."""
    by_checkout = {row["checkout"]: row[what] for row in rows if row["body"] == kind}
    if "earlier" not in by_checkout:
        return None
    this, earlier = by_checkout["this"], by_checkout["earlier"]
    return float(this / earlier if what == "requests_s" else earlier / this)


def single_table(rows: list[dict[str, Any]]) -> Table:
    """The rows."""
    shown = Table(
        "body",
        "checkout",
        "requests/s",
        "server's ms a request",
        "clients' ms",
        "batch",
        "library, queries/s",
        "library's ms",
        "of the library's",
    )
    for row in rows:
        shown.add_row(
            row["body"],
            row["checkout"],
            f"{row['requests_s']:,.0f}",
            f"{row['server_ms']:.2f}",
            f"{row['client_ms']:.2f}",
            f"{row['batch']:.1f}",
            f"{row['library_queries_s']:,.0f}",
            f"{row['library_ms']:.2f}",
            f"{100 * row['share']:.0f} %",
        )
    return shown
