"""Parquet imports: the same labels as any other way, committed in pieces; and a stranger's file
does no harm."""

from __future__ import annotations

import asyncio
import io
import logging
import threading
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import numpy.typing as npt
import psutil
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from http_service import Http, served
from server_process import ready, server
from worlds import make_space

import trustvlm
from trustvlm.http.work import spool

PARQUET = {"content-type": "application/vnd.apache.parquet"}
IMPORTS = "/v1/spaces/s/imports"
TEXT, IMAGE = 8, 6
log = logging.getLogger(__name__)


def parquet(columns: dict[str, Any], **options: Any) -> bytes:
    out = io.BytesIO()
    pq.write_table(pa.table(columns), out, **options)
    return out.getvalue()


def rows(count: int, start: int = 0, dim: int = TEXT) -> dict[str, Any]:
    vectors = np.random.default_rng(start).normal(size=(count, dim)).astype(np.float32)
    lists = pa.FixedSizeListArray.from_arrays(pa.array(vectors.ravel()), dim)
    return {"name": [f"label {start + i:07d}" for i in range(count)], "text_vector": lists}


def spaces(service: trustvlm.TrustService, *names: str) -> None:
    for name in names:
        make_space(service, name, classifier=f"precomputed:{TEXT}", verifier=f"precomputed:{IMAGE}")


@pytest.fixture
def http(tmp_path: Path) -> Iterator[Http]:
    with served(tmp_path / "home") as running:
        spaces(running.service, "s")
        yield running


def names(http: Http, space: str = "s") -> list[str]:
    return [row.name for row in http.service.list_labels(space)]


LAYOUTS: dict[str, dict[str, Any]] = {
    "plain": {"compression": "none", "use_dictionary": False},
    "packed": {"compression": "zstd"},
    "in row groups": {"row_group_size": 3},
    "in small pages": {"data_page_size": 64, "data_page_version": "2.0"},
}


@pytest.mark.parametrize(
    ("layout", "dtype"), [*zip(LAYOUTS, ("float32", "float16", "float64", "float32"), strict=True)]
)
def test_a_file_gives_the_labels_that_the_library_gives(
    http: Http, dtype: str, layout: str
) -> None:
    """Templates, several support images or none, with or without their other embedding: whatever a
    registration may have."""
    rng = np.random.default_rng(0)
    texts = [rng.normal(size=(2, TEXT)).astype(dtype) for _ in range(40)]
    images = [
        None if i % 3 == 0 else rng.normal(size=(i % 4 + 1, IMAGE)).astype(dtype) for i in range(40)
    ]
    others = [
        None if i % 2 or image is None else rng.normal(size=(len(image), TEXT)).astype(dtype)
        for i, image in enumerate(images)
    ]

    def column(cells: list[npt.NDArray[Any] | None], inner: pa.DataType) -> pa.Array:
        return pa.array([None if cell is None else list(cell) for cell in cells], pa.list_(inner))

    value = pa.from_numpy_dtype(dtype)
    columns = {
        "classifier_image_vectors": column(others, pa.large_list(value)),
        "image_vectors": column(images, pa.list_(value)),
        "name": pa.array([f"näme {i}" for i in range(40)]).dictionary_encode(),
        "text_vector": column(texts, pa.list_(value, TEXT)),
    }
    answer = http("POST", IMPORTS, content=parquet(columns, **LAYOUTS[layout]), headers=PARQUET)
    assert (answer["state"], answer["done"], answer["total"]) == ("done", 40, 40)
    spaces(http.service, "t")
    given = [
        trustvlm.LabelInput(
            f"näme {i}",
            text_vector=texts[i],
            image_vectors=images[i],
            classifier_image_vectors=others[i],
        )
        for i in range(40)
    ]
    result = http.service.register("t", given)
    counted = ("added_labels", "added_supports", "skipped_duplicates")
    assert [answer["result"][name] for name in counted] == [
        getattr(result, name) for name in counted
    ]
    assert [(row.name, row.support_count) for row in http.service.list_labels("s")] == [
        (row.name, row.support_count) for row in http.service.list_labels("t")
    ]
    queries = trustvlm.Queries(rng.normal(size=(9, TEXT)), rng.normal(size=(9, IMAGE)))
    one, two = (http.service.score(space, queries, rule="posterior") for space in "st")
    assert one.label.tolist() == two.label.tolist()
    assert one.trust.tolist() == two.trust.tolist()
    hits = [http.service.search(space, trustvlm.Queries(queries.classifier), k=5) for space in "st"]
    assert hits[0].similarity.tolist() == hits[1].similarity.tolist()


def test_a_broken_import_goes_on_behind_what_was_committed(http: Http) -> None:
    """A row that cannot be right ends it; what came before is there, and a mended file adds the
    rest."""
    good = rows(1_300)
    bad = good | {"name": [*good["name"][:1_200], "", *good["name"][1_201:]]}
    error = http(
        "POST", IMPORTS, content=parquet(bad, row_group_size=700), headers=PARQUET, status=422
    )["error"]
    assert "name" in error["message"]
    (job,) = http("GET", "/v1/jobs")["jobs"]
    assert job["state"] == "interrupted"
    assert job["error"]["kind"] == "InvalidInput"
    assert job["done"] == len(names(http)) == 1_200
    again = f"{IMPORTS}?job={job['id']}"
    http("POST", again, content=parquet(rows(1_000)), headers=PARQUET, status=422)  # another file
    done = http("POST", again, content=parquet(good, row_group_size=700), headers=PARQUET)
    assert (done["id"], done["state"], done["done"], done["total"]) == (
        job["id"],
        "done",
        1_300,
        1_300,
    )
    assert done["result"]["added_labels"] == 1_300
    assert names(http) == good["name"]
    http("POST", again, content=parquet(good), headers=PARQUET, status=409)


def test_a_client_that_leaves_leaves_nothing_behind(http: Http) -> None:
    """Half a file, then nobody: the job is interrupted, the file gone, no reader left, and the next
    import is taken."""
    content = parquet(rows(50))

    async def left() -> list[dict[str, Any]]:
        gone = asyncio.Event()
        gone.set()
        return await http.raw(IMPORTS, PARQUET["content-type"], [content[:100]], gone)

    for _ in range(spool.MOST_FILES + 1):
        assert http.run(left) == []
    for row in http("GET", "/v1/jobs")["jobs"]:
        assert http.job(row)["state"] == "interrupted"
    assert psutil.Process().children() == []
    assert not [file.path for file in psutil.Process().open_files() if "deleted" in file.path]
    assert http("POST", IMPORTS, content=content, headers=PARQUET)["done"] == 50


def test_a_client_that_leaves_while_the_job_is_stored(
    http: Http, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nobody does that import: its job must not say "running" for as long as the service runs."""
    storing, gone, create = threading.Event(), threading.Event(), http.service.create_job

    def slowly(record: Any) -> None:
        storing.set()
        assert gone.wait(30)
        create(record)

    monkeypatch.setattr(http.service, "create_job", slowly)

    async def left() -> None:
        asked = asyncio.ensure_future(
            http.client.post(IMPORTS, content=parquet(rows(50)), headers=PARQUET)
        )
        while not storing.is_set():
            await asyncio.sleep(0.01)
        asked.cancel()
        await asyncio.wait([asked])
        gone.set()

    http.run(left)
    until = time.monotonic() + 30
    while not (jobs := http("GET", "/v1/jobs")["jobs"]) and time.monotonic() < until:
        time.sleep(0.02)
    (row,) = jobs
    assert http.job(row)["state"] == "interrupted"


def test_only_so_much_is_kept_on_the_disk(tmp_path: Path) -> None:
    with served(tmp_path / "home", spool_bytes=20_000) as http:
        spaces(http.service, "s")
        small, large = parquet(rows(100)), parquet(rows(1_000))
        assert len(small) < 10_000 < 20_000 < len(large)
        error = http("POST", IMPORTS, content=large, headers=PARQUET, status=413)["error"]
        assert error["kind"] == "TooLarge"
        assert "serve_spool_bytes" in error["message"]
        http("POST", IMPORTS, content=small, headers=PARQUET)

        async def at_once() -> list[httpx.Response]:
            """More clients than files, each waiting with the end of its own until one of them was
            answered."""
            all_there = asyncio.Event()

            async def body() -> AsyncIterator[bytes]:
                yield small[:50]
                await all_there.wait()
                yield small[50:]

            asked = [
                asyncio.ensure_future(http.client.post(IMPORTS, content=body(), headers=PARQUET))
                for _ in range(spool.MOST_FILES + 1)
            ]
            await asyncio.wait(
                asked, return_when=asyncio.FIRST_COMPLETED, timeout=30
            )  # one is refused while the others wait
            all_there.set()
            return await asyncio.gather(*asked)

        answers = http.run(at_once)
        statuses = [answer.status_code for answer in answers]
        assert 503 in statuses
        assert {
            answer.headers.get("retry-after") for answer in answers if answer.status_code == 503
        } == {"10"}
        assert (
            http("POST", IMPORTS, content=small, headers=PARQUET)["done"] == 100
        )  # all was given back


def hostile() -> dict[str, bytes]:
    """Files that no import may take, by what is wrong with them."""
    good = parquet(rows(20))
    floats = pa.array(np.ones(20, np.float32))
    lists = pa.ListArray.from_arrays(pa.array(np.arange(21, dtype=np.int32)), floats)
    text = rows(20)["text_vector"]
    name = [f"n{i}" for i in range(20)]
    flat = rows(20)
    return {
        "empty": b"",
        "no Parquet": b"x" * 1_000,
        "magic alone": b"PAR1PAR1",
        "a footer of 2 GB": b"PAR1" + b"\0" * 20 + (2**31 - 1).to_bytes(4, "little") + b"PAR1",
        "cut off": good[:-1],
        "cut in the middle": good[: len(good) // 2],
        "its middle missing": good[:200] + good[400:],
        "zeros inside": good[:100] + bytes(200) + good[300:],
        "no name": parquet({"text_vector": text}),
        "an empty name": parquet({"name": [*name[:19], None], "text_vector": text}),
        "another column": parquet(flat | {"label": name}),
        "an index": parquet(flat | {"__index_level_0__": list(range(20))}),
        "names as numbers": parquet({"name": list(range(20)), "text_vector": text}),
        "names as bytes": parquet({"name": pa.array([b"\xff"] * 20), "text_vector": text}),
        "vectors as texts": parquet({"name": name, "text_vector": name}),
        "vectors as lists of texts": parquet({"name": name, "text_vector": [[n] for n in name]}),
        "vectors as structs": parquet({"name": name, "text_vector": [{"a": 1.0}] * 20}),
        "lists of lists of lists": parquet({"name": name, "text_vector": [[[[1.0]]]] * 20}),
        "image vectors that are one vector": parquet(
            flat | {"image_vectors": [[1.0] * IMAGE] * 20}
        ),
        "another dimension": parquet({"name": name, "text_vector": lists}),
        "vectors of two lengths": parquet(flat | {"image_vectors": [[[1.0] * IMAGE, [1.0]]] * 20}),
        "a missing vector": parquet(flat | {"image_vectors": [[[1.0] * IMAGE, None]] * 20}),
        "a missing value": parquet(
            {"name": name, "text_vector": [[1.0] * (TEXT - 1) + [None]] * 20}
        ),
        "not a number": parquet({"name": name, "text_vector": [[np.nan] * TEXT] * 20}),
        "no length": parquet({"name": name, "text_vector": [[0.0] * TEXT] * 20}),
        "another text of a label that is there": parquet(
            {"name": ["there"], "text_vector": [[-1.0] * TEXT]}
        ),
    }


def bomb(count: int, dim: int) -> bytes:
    """So many rows of the same values, which Parquet packs into next to nothing."""
    one = pa.FixedSizeListArray.from_arrays(pa.array(np.ones(dim, np.float32)), dim)
    columns = {
        "name": [f"{i}" for i in range(count)],
        "text_vector": pa.chunked_array([one] * count),
    }
    return parquet(columns, row_group_size=1, compression="zstd")


def test_a_file_that_cannot_be_right_is_refused_in_a_sentence(http: Http) -> None:
    http(
        "POST",
        "/v1/spaces/s/labels",
        json={"labels": [{"name": "there", "text_vector": [1.0] * TEXT}]},
    )
    bombs = {"a vector of 100 MB in a row": bomb(1, 25_000_000)}
    assert len(bombs["a vector of 100 MB in a row"]) < 100_000
    refused(http, hostile() | bombs)


def refused(http: Http, files: dict[str, bytes]) -> None:
    """Each of the files is, in a sentence, and the process is none the larger."""
    before = psutil.Process().memory_info().rss
    for what, content in files.items():
        begin = time.perf_counter()
        answer = http.ask("POST", IMPORTS, content=content, headers=PARQUET, status=None)
        expected = 409 if what == "another text of a label that is there" else 422
        assert answer.status_code == expected, f"{what}: {answer.text}"
        message = answer.json()["error"]["message"]
        assert len(message) < 600, message
        assert "/dev" not in message, message
        assert str(http.service._home.folder) not in message, message
        assert time.perf_counter() - begin < 5, what
    assert names(http) == ["there"]
    assert psutil.Process().memory_info().rss < before + 100 * 2**20
    assert psutil.Process().children() == []


@pytest.mark.slow
def test_gigabytes_in_a_small_file_are_refused(http: Http) -> None:
    http(
        "POST",
        "/v1/spaces/s/labels",
        json={"labels": [{"name": "there", "text_vector": [1.0] * TEXT}]},
    )
    bombs = {"1 GB in 100 rows": bomb(100, 2_500_000), "one row of 2 GB": bomb(1, 500_000_000)}
    assert max(len(content) for content in bombs.values()) < 2**20
    refused(http, bombs)


def damaged(count: int, seed: int) -> Iterator[bytes]:
    """A good file with some bytes changed, most of them in its footer, where pyarrow believes what
    it reads."""
    rng = np.random.default_rng(seed)
    files = [parquet(rows(60), **options) for options in LAYOUTS.values()]
    for number in range(count):
        content = bytearray(files[number % len(files)])
        footer = int.from_bytes(content[-8:-4], "little")
        low = 0 if number % 4 == 0 else len(content) - 8 - footer
        for place in rng.integers(low, len(content), int(rng.integers(1, 6))):
            content[place] = int(rng.integers(0, 256))
        yield bytes(content)


def harmless(http: Http, count: int, seed: int) -> int:
    """How many of so many damaged files were taken all the same: nothing that mattered was changed
    in them."""
    taken = 0
    for number, content in enumerate(damaged(count, seed)):
        status = http.ask(
            "POST", IMPORTS, content=content, headers=PARQUET, status=None
        ).status_code
        assert status in (200, 409, 422), f"file {number} of seed {seed}: {status}"
        taken += status == 200
    assert psutil.Process().children() == []
    return taken


def test_damaged_files_end_their_reader_at_most(http: Http) -> None:
    assert harmless(http, 6, 0) < 6


@pytest.mark.slow
def test_many_damaged_files_end_their_reader_at_most(http: Http) -> None:
    harmless(http, 20, 1)
    before = psutil.Process().memory_full_info().uss, psutil.Process().num_fds()
    harmless(http, 500, 2)
    assert psutil.Process().memory_full_info().uss < before[0] + 20 * 2**20
    assert psutil.Process().num_fds() <= before[1] + 5


@pytest.mark.slow
def test_a_large_file_is_imported_in_little_memory(tmp_path: Path) -> None:
    """400,000 labels of 512 dimensions, 800 MB in one row group: most of what the server takes is
    SQLite's caches."""
    home, path, count, dim = tmp_path / "home", tmp_path / "labels.parquet", 400_000, 512
    with trustvlm.open(home, create=True) as service:
        service.create_space("s", classifier=f"precomputed:{dim}")
    pq.write_table(pa.table(rows(count, dim=dim)), path, row_group_size=count)
    with server(home) as (process, address):
        ready(address)
        peaks: dict[str, int] = {"server": 0, "reader": 0}
        ended = threading.Event()

        def watch() -> None:
            own = psutil.Process(process.pid)
            while not ended.wait(0.05):
                peaks["server"] = max(peaks["server"], own.memory_info().rss)
                for child in own.children():
                    with suppress(psutil.NoSuchProcess):
                        peaks["reader"] = max(peaks["reader"], child.memory_info().rss)

        before = psutil.Process(process.pid).memory_info().rss
        watching = threading.Thread(target=watch)
        watching.start()
        begin = time.perf_counter()
        with path.open("rb") as file:
            answer = httpx.post(f"{address}{IMPORTS}", content=file, headers=PARQUET, timeout=280)
        seconds = time.perf_counter() - begin
        ended.set()
        watching.join()
        assert answer.status_code == 200, answer.text
        assert answer.json()["done"] == count
    sizes = (path.stat().st_size, seconds, peaks["server"] - before, peaks["reader"])
    log.warning("%d bytes in %.0f s; the server took %d bytes more, its reader %d", *sizes)
    assert peaks["server"] < before + 400 * 2**20
    assert 0 < peaks["reader"] < 400 * 2**20
