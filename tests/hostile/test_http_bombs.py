"""Small requests that ask for much memory or time: each is answered with 4xx, and costs a real
server little of either."""

from __future__ import annotations

import gzip
import io
import logging
import re
import struct
import zipfile
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import psutil
import pytest
from PIL import Image
from server_process import ready, server
from test_http_uploads import bomb

import trustvlm
from trustvlm.demo.specs import classifier_spec

pytestmark = pytest.mark.slow

MOST_BYTES, MOST_SECONDS = 200 * 2**20, 1.0
"""What the project asks for, of each."""

log = logging.getLogger(__name__)


class Running:
    """A server process with a space "p" whose classifier encodes images, warmed up. Its sandboxes
    count as it does."""

    def __init__(self, address: str, pid: int) -> None:
        self.address, self._server = address, psutil.Process(pid)

    def _processes(self) -> list[psutil.Process]:
        return [self._server, *self._server.children(recursive=True)]

    def memory(self, name: str) -> int:
        """VmHWM (the peak since :meth:`forget`) or VmRSS, in bytes."""
        texts = [Path(f"/proc/{one.pid}/status").read_text() for one in self._processes()]
        return sum(
            1024 * int(found) for found in re.findall(rf"{name}:\s+(\d+) kB", "".join(texts))
        )

    def forget(self) -> None:
        """Let the peak begin again."""
        for one in self._processes():
            Path(f"/proc/{one.pid}/clear_refs").write_text("5")

    def seconds(self) -> float:
        """What the processes have computed so far: another busy one does not make that more."""
        times = [one.cpu_times() for one in self._processes()]
        ended = self._server.cpu_times()
        return float(
            sum(one.user + one.system for one in times)
            + ended.children_user
            + ended.children_system
        )

    def cost(self, path: str, **request: Any) -> tuple[httpx.Response, float, int]:
        """(answer, seconds of the processor, bytes of the peak above what the process had)."""
        self.forget()
        before, begin = self.memory("VmRSS"), self.seconds()
        answer = httpx.post(self.address + path, timeout=60, **request)
        return answer, self.seconds() - begin, self.memory("VmHWM") - before


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    home = tmp_path_factory.mktemp("bombs") / "home"
    with trustvlm.open(home, create=True) as service:
        service.create_space("p", classifier=classifier_spec())
        service.register("p", [trustvlm.LabelInput("one"), trustvlm.LabelInput("two")])
    with server(home) as (process, address):
        ready(address)
        for _ in range(3):
            files = [("images", ("good.png", encoded("PNG", 400, 300))) for _ in range(4)]
            assert (
                httpx.post(f"{address}/v1/spaces/p/score", files=files, timeout=60).status_code
                == 200
            )
        yield Running(address, process.pid)


def encoded(kind: str, width: int, height: int) -> bytes:
    out = io.BytesIO()
    Image.fromarray(
        np.random.default_rng(0).integers(0, 255, (height, width, 3), dtype=np.uint8)
    ).save(out, kind)
    return out.getvalue()


# Images


def chunk(kind: bytes, data: bytes) -> bytes:
    return len(data).to_bytes(4, "big") + kind + data + zlib.crc32(kind + data).to_bytes(4, "big")


def with_texts(kind: bytes, count: int) -> bytes:
    """A good PNG with compressed texts of 64 MB each."""
    good = encoded("PNG", 40, 30)
    text = zlib.compress(bytes(64 * 2**20), 9)
    head = b"Comment\0\0" if kind == b"zTXt" else b"Comment\0\1\0\0\0"
    return good[:33] + chunk(kind, head + text) * count + good[33:]


def gif(frames: int, side: int) -> bytes:
    """A GIF of so many frames of one pixel each on a large screen."""
    out = io.BytesIO()
    Image.new("P", (1, 1)).save(out, "GIF")
    one = out.getvalue().replace(
        b"GIF87a" + struct.pack("<HH", 1, 1), b"GIF89a" + struct.pack("<HH", side, side)
    )
    start = one.index(b"\x2c" + bytes(4) + struct.pack("<HH", 1, 1))
    return one[:start] + (b"\x21\xf9\x04\0\0\0\0\0" + one[start:-1]) * frames + b";"


def black(side: int) -> bytes:
    """A PNG of one bit a pixel, all 0."""
    rows = zlib.compress(bytes(side * (1 + (side + 7) // 8)), 9)
    header = chunk(b"IHDR", struct.pack(">IIBBBBB", side, side, 1, 0, 0, 0, 0))
    return b"\x89PNG\r\n\x1a\n" + header + chunk(b"IDAT", rows) + chunk(b"IEND", b"")


def declared(kind: str, side: int) -> bytes:
    """A small image whose header says that it is a large one."""
    good = bytearray(encoded(kind, 64, 64))
    if kind == "JPEG":
        at = good.index(b"\xff\xc0") + 5
        good[at : at + 4] = struct.pack(">HH", side, side)
    elif kind == "TIFF":
        (first,) = struct.unpack_from("<I", good, 4)
        (count,) = struct.unpack_from("<H", good, first)
        for entry in range(first + 2, first + 2 + 12 * count, 12):
            if struct.unpack_from("<H", good, entry)[0] in (256, 257):
                struct.pack_into("<HII", good, entry + 2, 4, 1, side)
    else:
        at = good.index(b"\x9d\x01\x2a") + 3
        struct.pack_into("<HH", good, at, side & 0x3FFF, side & 0x3FFF)
    return bytes(good)


IMAGES: dict[str, Callable[[], bytes]] = {
    "PNG, 30,000 x 30,000": lambda: black(30_000),
    "PNG, 4,800 x 4,800": lambda: bomb(4_800, 4_800),
    "PNG, 20 texts of 64 MB": lambda: with_texts(b"zTXt", 20),
    "PNG, 20 international texts of 64 MB": lambda: with_texts(b"iTXt", 20),
    "GIF, 100,000 frames of 4,000 x 4,000": lambda: gif(100_000, 4_000),
    "GIF, 65,535 x 65,535": lambda: gif(1, 65_535),
    "JPEG, 65,000 x 65,000": lambda: declared("JPEG", 65_000),
    "JPEG, 4,800 x 4,800 of nothing": lambda: declared("JPEG", 4_800),
    "WebP, 16,383 x 16,383": lambda: declared("WebP", 16_383),
    "TIFF, 2,000,000,000 x 2,000,000,000": lambda: declared("TIFF", 2_000_000_000),
    "TIFF, 4,800 x 4,800 of nothing": lambda: declared("TIFF", 4_800),
}
REFUSED = {
    what
    for what in IMAGES
    if "65," in what or "000,000" in what or what.startswith(("PNG, 30", "WebP", "TIFF"))
}
"""The others are images within the limits, and scored at the same cost; libjpeg draws grey where
there is nothing."""


@pytest.mark.parametrize("what", IMAGES)
def test_an_image_bomb_costs_little(running: Running, what: str) -> None:
    content = IMAGES[what]()
    assert len(content) < 32 * 2**20
    bounded(running, what, 422 if what in REFUSED else 200, files=[("images", ("x", content))])


def bounded(
    running: Running, what: str, status: int, path: str = "/v1/spaces/p/score", **request: Any
) -> None:
    """The request is answered with that status, within the bounds."""
    answer, seconds, peak = running.cost(path, **request)
    log.warning("%s: %d in %.2f s, %.1f MB", what, answer.status_code, seconds, peak / 2**20)
    assert answer.status_code == status, answer.text
    assert peak < MOST_BYTES
    assert seconds < MOST_SECONDS


# Other bodies


def test_archives_that_unpack_to_much_are_refused(running: Running) -> None:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as archive:
        for number in range(8):
            with archive.open(f"classifier{number}.npy", "w", force_zip64=True) as file:
                np.lib.format.write_array_header_1_0(
                    file, {"descr": "<f4", "fortran_order": False, "shape": (10**9, 64)}
                )
                for _ in range(8):
                    file.write(bytes(8 * 2**20))
    headers = {"content-type": "application/x-npz"}
    bounded(running, ".npz, arrays of 256 GB", 422, content=out.getvalue(), headers=headers)
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as archive:
        for number in range(10_000):
            archive.writestr(f"{number}.npy", b"")
    bounded(running, ".npz, 10,000 arrays", 422, content=out.getvalue(), headers=headers)


def test_forms_of_very_many_parts_are_refused(running: Running) -> None:
    tiny = encoded("PNG", 1, 1)
    files = [("images", (f"{number}.png", tiny)) for number in range(10_000)]
    bounded(running, "form, 10,000 images", 422, files=files)
    fields = {f"field{number}": "x" for number in range(20_000)}
    bounded(running, "form, 20,000 fields", 422, data=fields, files=files[:1])
    fields = {"labels": ["x"] * 9_999}
    bounded(running, "form, 9,999 labels", 404, data=fields, files=files[:1])


def test_json_that_nests_or_repeats_is_refused(running: Running) -> None:
    headers = {"content-type": "application/json"}
    deep = b'{"classifier":' + b"[" * 1_000_000 + b"]" * 1_000_000 + b"}"
    bounded(running, "JSON, 1,000,000 deep", 422, content=deep, headers=headers)
    wide = b'{"classifier":[[' + b"1," * 4_000_000 + b"1]]}"
    bounded(running, "JSON, a vector of 4,000,001 values", 413, content=wide, headers=headers)
    wide = b'{"classifier":[[' + b"1," * 1_999_999 + b"1]]}"
    bounded(running, "JSON, a vector of 2,000,000 values", 422, content=wide, headers=headers)
    many = b'{"labels":["x"' + b',"x"' * 1_999_998 + b'],"classifier":[]}'
    bounded(running, "JSON, 1,999,999 names", 404, content=many, headers=headers)
    packed = gzip.compress(bytes(500 * 2**20), 1)
    bounded(
        running,
        "JSON, 500 MB in gzip",
        413,
        content=packed,
        headers=headers | {"content-encoding": "gzip"},
    )


def test_a_body_without_end_is_refused_when_it_is_too_large(running: Running) -> None:
    pieces = (bytes(2**20) for _ in range(40))
    bounded(
        running,
        "40 MB in chunks",
        413,
        content=pieces,
        headers={"content-type": "application/json"},
    )
