"""Images made to cost memory or time, or to meet another parser than they claim: refused, or as
cheap as a picture."""

from __future__ import annotations

import contextlib
import io
import json
import os
import socket
import struct
import subprocess
import sys
import threading
import time
import warnings
import zipfile
import zlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from fuzz.seeds import PHOTOS, chunk, images, picture, png_with, saved
from PIL import Image

from trustvlm.encoders.images.decode import decode_image
from trustvlm.encoders.images.decode_file import FORMATS
from trustvlm.encoders.images.pixels import read_rgb
from trustvlm.errors import InvalidInput
from trustvlm.reading.image_files import ImageLimits

JPEG = saved(picture(), "JPEG")
WEBP = saved(picture(), "WEBP", lossless=True)
TURNED = b"Exif\0\0MM\0*\0\0\0\x08\0\1\1\x12\0\3\0\0\0\1\0\6\0\0\0\0\0\0"  # a quarter to the right
MEASURE = """
import json, os, sys
from trustvlm.encoders.golden import golden_image
from trustvlm.encoders.images.decode import decode_image
from trustvlm.errors import InvalidInput
import io
started = io.BytesIO()
golden_image().save(started, "PNG")
decode_image(started.getvalue())
tick = os.sysconf("SC_CLK_TCK")

def processes():  # the sandbox is one
    return ["self", *open(f"/proc/self/task/{os.getpid()}/children").read().split()]

def computed():
    fields = (open(f"/proc/{pid}/stat").read().rpartition(")")[2].split() for pid in processes())
    return sum(int(own[11]) + int(own[12]) for own in fields) / tick

results = []
for path in sys.argv[1:]:
    begun = computed()
    try:
        what = "accepted %d×%d" % decode_image(path).image.size
    except InvalidInput as error:
        what = str(error)
    seconds, peak = computed() - begun, 0
    for pid in processes():
        lines = open(f"/proc/{pid}/status").read().splitlines()
        peak = max(peak, *(int(line.split()[1]) / 1024 for line in lines if "VmHWM" in line))
        open(f"/proc/{pid}/clear_refs", "w").write("5")
    results.append((what, seconds, peak))
print(json.dumps(results))
"""


def measured(*paths: Path) -> list[tuple[str, float, float]]:
    """(what became of it, seconds of the processor, peak MB of the larger process) of each image,
    decoded by a process and its sandbox."""
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", MEASURE, *map(str, paths)],
        capture_output=True,
        text=True,
        timeout=240,
        check=True,
    )
    return [tuple(result) for result in json.loads(done.stdout)]


def deflated_png(width: int, height: int, colour: int, bits: int = 8) -> bytes:
    """A black PNG of any size, made without ever holding it."""
    row = 1 + width * {0: 1, 2: 3, 4: 2, 6: 4}[colour] * bits // 8
    packer = zlib.compressobj(9)
    body = b"".join(packer.compress(bytes(row)) for _ in range(height)) + packer.flush()
    header = struct.pack(">IIBBBBB", width, height, bits, colour, 0, 0, 0)
    return (
        b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", body) + chunk(b"IEND", b"")
    )


def resized_header(data: bytes, width: int, height: int) -> bytes:
    """`data` with another size in its header, so that the body is far too small for it."""
    if data[:4] == b"RIFF":  # lossless
        at = data.index(b"VP8L") + 9
        bits = (
            int.from_bytes(data[at : at + 4], "little") & ~0x0FFFFFFF
            | (width - 1)
            | (height - 1) << 14
        )
        return data[:at] + bits.to_bytes(4, "little") + data[at + 4 :]
    if data[:3] == b"GIF":
        return data[:6] + struct.pack("<HH", width, height) + data[10:]
    at = data.index(b"\xff\xc0") + 5
    return data[:at] + struct.pack(">HH", height, width) + data[at + 4 :]


def tiff(entries: dict[int, int], extra: bytes = b"") -> bytes:
    """A little-endian TIFF of LONG tags with one value each."""
    body = b"".join(
        struct.pack("<HHII", tag, 4, 1, value) for tag, value in sorted(entries.items())
    )
    return b"II*\0\x08\0\0\0" + struct.pack("<H", len(entries)) + body + bytes(4) + extra


TIFF_TAGS = {256: 64, 257: 64, 258: 8, 259: 5, 262: 1, 277: 1}


def progressive(scans: int) -> bytes:
    """A JPEG whose last scan is there `scans` times more."""
    data = saved(picture(64, 64).convert("L"), "JPEG", progressive=True)
    last = data.rindex(b"\xff\xc4", 0, data.rindex(b"\xff\xda"))
    return data[:-2] + data[last:-2] * scans + data[-2:]


def polyglot_zip() -> bytes:
    out = io.BytesIO(JPEG)
    with zipfile.ZipFile(out, "a") as archive:
        archive.writestr("evil.py", "raise SystemExit")
    return out.getvalue()


REFUSED: dict[str, tuple[Callable[[], bytes], str]] = {
    "jpeg of 65535 × 65535": (lambda: resized_header(JPEG, 65_535, 65_535), "4294836225 pixels"),
    "gif of 65535 × "
    "65535": (lambda: resized_header(saved(picture(), "GIF"), 65_535, 65_535), "4294836225 pixels"),
    "webp of 16383 × 16383": (lambda: resized_header(WEBP, 16_383, 16_383), "268402689 pixels"),
    "webp within the "
    "pixels": (lambda: resized_header(WEBP, 9_000, 9_000), "about 1620000000 bytes, more than "
                                                           "the limit"),
    "tiff of 2^31 × "
    "2^31": (lambda: tiff(TIFF_TAGS | {256: 2**31, 257: 2**31, 278: 1, 273: 8, 279: 8}),
    "blocks|bytes|pixels"),
    "tiff with a huge tile": (
        lambda: tiff(TIFF_TAGS | {322: 65_536, 323: 65_536, 324: 8, 325: 8}), "damaged",
    ),
    "tiff with a huge "
    "strip": (lambda: tiff(TIFF_TAGS | {256: 9_000, 257: 9_000, 277: 4, 258: 32, 273: 8, 279: 8}),
    "4 bands of 32-bit"),
    "tiff with a million strips": (
        lambda: tiff(TIFF_TAGS | {279: 8}).replace(struct.pack("<HHII", 279, 4, 1, 8),
        struct.pack("<HHII", 273, 4, 10**6, 8)),
        "damaged",
    ),
    "tiff with 65535 tags": (lambda: b"II*\0\x08\0\0\0\xff\xff" + bytes(12 * 65_535), "damaged"),
    "gif of many blocks": (lambda: b"GIF89a" + bytes(7) + b"!\xfe\1a\0" * 300_000, "damaged"),
    "run-length bmp": (
        lambda: b"BM" + struct.pack("<IHHI", 1078, 0, 0, 1078)
        + struct.pack("<IiiHHIIiiII", 40, 2_000, 2_000, 1, 8, 1, 0, 0, 0, 256,
        0) + bytes(1024) + b"\1\1" * 10, "damaged",
    ),
    "eps": (lambda: b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 10 "
                    b"10\n", "not an image in a supported format"),
    "eps in a dos "
    "frame": (lambda: b"\xc5\xd0\xd3\xc6" + bytes(30), "not an image in a supported format"),
    "pdf": (lambda: b"%PDF-1.7\n1 0 obj\n<< >>\nendobj\n", "not an image in a supported format"),
    "svg": (lambda: b'<?xml version="1.0"?><svg><image '
                    b'href="file:///etc/passwd"/></svg>', "is an SVG drawing"),
    "icns": (lambda: b"icns" + bytes(100), "not an image in a supported format"),
    "wmf": (lambda: b"\xd7\xcd\xc6\x9a" + bytes(100), "not an image in a supported format"),
    "fits": (lambda: b"SIMPLE  =                    "
                     b"T" + bytes(2_000), "not an image in a supported format"),
    "html": (lambda: b"<html><img src=x "
                     b"onerror=alert(1)></html>", "not an image in a supported format"),
    "zip": (lambda: polyglot_zip()[len(JPEG) :], "not an image in a supported format"),
    "only a gif signature": (lambda: b"GIF89a", "damaged|not an image"),
}  # fmt: skip


@pytest.mark.parametrize("case", REFUSED)
def test_refused_from_the_header_at_once(case: str) -> None:
    make, words = REFUSED[case]
    data = make()
    begun = time.process_time()
    with pytest.raises(InvalidInput, match=words) as caught:
        decode_image(data)
    assert time.process_time() - begun < 4.0
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 400


def text_bomb(kind: bytes) -> bytes:
    packed = zlib.compress(bytes(30_000_000), 1)
    body = {b"zTXt": b"k\0\0", b"iTXt": b"k\0\1\0\0\0", b"iCCP": b"k\0\0"}[kind]
    return png_with(*[chunk(kind, body + packed)] * (1 if kind == b"iCCP" else 100))


def lying_exif() -> bytes:
    """60,000 tags that each claim the whole block as their value: 43 GB for whoever reads them."""
    tags = b"".join(struct.pack("<HHII", tag, 1, 12 * 60_000, 8) for tag in range(1_000, 61_000))
    return b"II*\0\x08\0\0\0" + struct.pack("<H", 60_000) + tags + bytes(16)


ACCEPTED: dict[str, Callable[[], bytes]] = {
    "png with text that unpacks to 3 GB": lambda: text_bomb(b"zTXt"),
    "png with international text that does": lambda: text_bomb(b"iTXt"),
    "png with a profile that unpacks to 30 MB": lambda: text_bomb(b"iCCP"),
    "png with lying exif": lambda: png_with(chunk(b"eXIf", lying_exif())),
    "webp with lying exif": lambda: saved(picture(), "WEBP", exif=lying_exif()),
    "jpeg with lying "
    "exif": lambda: saved(picture(), "JPEG", exif=b"Exif\0\0" + lying_exif()[:60_000]),
    "jpeg of many scans": lambda: progressive(1_000),
    "jpeg of many segments": lambda: JPEG[:2] + b"\xff\xe5\0\2" * 100_000 + JPEG[2:],
    "png of many chunks": lambda: png_with(chunk(b"prVt", b"") * 100_000),
    "ppm of comments": lambda: b"P1 10 10\n" + b"#\n" * 200 + b"1" * 100,
    "ppm with a long header": lambda: b"P6 #" + b"x" * 10**5 + b"\n3 2 255\n" + bytes(18),
    "ppm as text": lambda: b"P3 300 300 255\n" + b"1 " * 3 * 90_000,
    "gif with a comment of 8 MB": lambda: saved(picture(), "GIF", comment=b"c" * 2**23),
    "gif of 1,000 frames": lambda: saved(
        Image.new("P", (8, 8)), "GIF", save_all=True, append_images=[Image.new("P", (8, 8),
        i % 7 + 1) for i in range(1_000)]
    ),
    "png of 1,000 frames": lambda: saved(
        picture(8, 8), "PNG", save_all=True, append_images=[Image.new("RGB", (8, 8), (i % 256, 1,
        1)) for i in range(1_000)]
    ),
    "tiff of 300 directories": lambda: saved(
        picture(8, 8), "TIFF", save_all=True, append_images=[picture(8, 8)] * 300
    ),
    "jpeg and zip": polyglot_zip,
    "jpeg and html": lambda: JPEG[:2] + b"\xff\xfe" + struct.pack(">H",
    40) + b"<script>alert(1)</script>".ljust(38) + JPEG[2:],
    "gif and javascript": lambda: saved(picture(), "GIF") + b"*/=alert(1);",
}  # fmt: skip


def test_what_is_left_out_of_a_file_costs_nothing(tmp_path: Path) -> None:
    """Bombs in metadata, further frames, other files behind the image: the picture is read, the
    rest is never looked at."""
    paths = []
    for number, make in enumerate(ACCEPTED.values()):
        paths.append(tmp_path / f"{number}")
        paths[-1].write_bytes(make())
    for case, (what, seconds, peak) in zip(ACCEPTED, measured(*paths), strict=True):
        assert what.startswith("accepted"), (case, what)
        assert seconds < 2.0, case
        assert peak < (1_300 if "lying exif" in case else 250), case


COSTLY: dict[str, tuple[Callable[[], bytes], str]] = {
    "jpeg of segments": (lambda: JPEG[:2] + b"\xff\xe5\0\2" * 16_000_000 + JPEG[2:], "CPU time"),
    "ppm of 254": (lambda: b"P6 4500 4500 254\n" + bytes(3 * 4_500 * 4_500), "CPU time"),
    "webp beyond the memory": (
        lambda: saved(Image.new("RGB", (9_000, 9_000)), "WEBP", lossless=True, quality=0, method=0),
        "about 1620000000 bytes",
    ),
}


@pytest.mark.slow
@pytest.mark.parametrize("case", COSTLY)
def test_what_costs_too_much_is_ended(case: str) -> None:
    make, words = COSTLY[case]
    with pytest.raises(InvalidInput, match=words):
        decode_image(make())
    assert decode_image(JPEG).image.size == (40, 30)


@pytest.mark.parametrize("case", ["jpeg and zip", "jpeg and html", "gif and javascript"])
def test_nothing_but_pixels_of_a_polyglot_is_kept(case: str) -> None:
    thumbnail = decode_image(ACCEPTED[case]()).thumbnail
    assert b"PK\3\4" not in thumbnail
    assert b"alert" not in thumbnail
    assert Image.open(io.BytesIO(thumbnail)).format == "JPEG"


@pytest.mark.slow  # by default: test_what_is_left_out_of_a_file_costs_nothing
def test_memory_is_what_was_estimated(tmp_path: Path) -> None:
    """Twelve million pixels in some kilobytes: 8 bytes a pixel and what a process has anyway. At
    the limit: the slow test."""
    paths = [
        tmp_path / name for name in ("transparent.png", "deep.png", "lossless.webp", "turned.jpg")
    ]
    paths[0].write_bytes(deflated_png(4_000, 3_000, 6))
    paths[1].write_bytes(deflated_png(4_000, 3_000, 0, bits=16))
    paths[2].write_bytes(
        saved(Image.new("RGBA", (4_000, 3_000)), "WEBP", lossless=True, quality=0, method=0)
    )
    paths[3].write_bytes(
        saved(
            Image.new("RGB", (4_000, 3_000)), "JPEG", progressive=True, subsampling=0, exif=TURNED
        )
    )
    bytes_per_pixel = (8, 8, 20, 10)
    for (what, _, peak), path, cost in zip(measured(*paths), paths, bytes_per_pixel, strict=True):
        assert what in ("accepted 4000×3000", "accepted 3000×4000"), path
        assert peak < 70 + 12 * cost, (path, peak)


@pytest.mark.slow
def test_the_largest_images_of_every_format(tmp_path: Path) -> None:
    black = Image.new("RGB", (10_000, 10_000))
    clear = Image.new("RGBA", (6_500, 6_500))
    made = {
        "transparent.png": deflated_png(10_000, 10_000, 6),
        "deep.png": deflated_png(10_000, 10_000, 0, bits=16),
        "colour.png": deflated_png(7_000, 7_500, 2, bits=16),
        "still.avif": saved(Image.new("RGB", (7_500, 7_500)), "AVIF", speed=10),
        "baseline.jpg": saved(black, "JPEG"),
        "progressive.jpg": saved(black, "JPEG", progressive=True),
        "turned.jpg": saved(black, "JPEG", exif=TURNED),
        "scans.jpg": saved(black.convert("L"), "JPEG", progressive=True),
        "palette.gif": saved(black.convert("P"), "GIF"),
        "lossless.webp": saved(clear, "WEBP", lossless=True),
        "lossy.webp": saved(clear, "WEBP"),
        "strips.tif": saved(black, "TIFF", compression="tiff_lzw"),
        "cmyk.tif": saved(
            Image.new("CMYK", (10_000, 10_000)), "TIFF", compression="tiff_adobe_deflate"
        ),
    }
    del black
    for name, data in made.items():
        (tmp_path / name).write_bytes(data)
        ((what, seconds, peak),) = measured(tmp_path / name)
        assert what.startswith("accepted"), (name, what)
        assert peak < 1_100, (name, peak)
        assert seconds < 15, name


def test_stripping_changes_no_pixel() -> None:
    """Every seed of the fuzzer gives what Pillow gives for the whole file."""
    real = [path.read_bytes() for path in sorted(PHOTOS.glob("*/*.jpg"))[::20]]
    for number, data in enumerate(images() + real):
        with Image.open(io.BytesIO(data)) as whole:
            expected = decode_image(whole).image
        assert decode_image(data).image.tobytes() == expected.tobytes(), (number, data[:4])


@pytest.mark.parametrize(
    "mode", ["L", "LA", "P", "PA", "RGBA", "CMYK", "YCbCr", "1", "I;16", "F", "I", "HSV", "LAB"]
)
def test_tall_images_are_converted_as_low_ones(mode: str) -> None:
    """Bands of rows, converted one by one, are the whole converted at once."""
    rng = np.random.default_rng(0)
    tall = Image.fromarray(rng.integers(0, 256, (700, 9, 3), np.uint8))
    image = (
        Image.merge("LAB", tall.split())
        if mode == "LAB"
        else tall.convert("L").convert(mode)
        if mode[0] in "IF"
        else tall.convert(mode)
    )
    fixed = (0.0, 255.0)  # a range of its own each band would have
    bands = [
        read_rgb(image.crop((0, top, 9, top + 100)), None, fixed)[0] for top in range(0, 700, 100)
    ]
    assert read_rgb(image, None, fixed)[0].tobytes() == b"".join(band.tobytes() for band in bands)


def test_a_palette_keeps_its_transparency_in_bands() -> None:
    image = Image.new("P", (4, 600))
    image.putpalette([255, 0, 0, 0, 255, 0])
    image.paste(1, (0, 300, 4, 600))
    image.info["transparency"] = 1
    rgb, _ = read_rgb(image, None)
    assert rgb.getpixel((0, 0)) == (255, 0, 0)
    assert rgb.getpixel((0, 599)) == (255, 255, 255)


def test_orientation_of_xmp_is_honoured() -> None:
    packet = b'<x:xmpmeta><rdf:Description tiff:Orientation="6"/></x:xmpmeta>'
    jpeg = (
        JPEG[:2]
        + b"\xff\xe1"
        + struct.pack(">H", len(packet) + 31)
        + b"http://ns.adobe.com/xap/1.0/\0"
        + packet
        + JPEG[2:]
    )
    assert decode_image(jpeg).image.size == (30, 40)
    assert decode_image(JPEG).image.size == (40, 30)


def test_an_unloaded_eps_of_the_callers_never_starts_ghostscript(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    marker, folder = tmp_path / "ran", tmp_path / "bin"
    folder.mkdir()
    (folder / "gs").write_text(f"#!/bin/sh\necho 9; [ $# -gt 1 ] && touch {marker}\nexit 0\n")
    (folder / "gs").chmod(0o755)
    monkeypatch.setenv("PATH", str(folder), prepend=os.pathsep)
    drawing = Image.open(io.BytesIO(saved(picture(), "EPS")))
    with pytest.raises(InvalidInput, match="Ghostscript"):
        decode_image(drawing)
    assert not marker.exists()
    with pytest.raises(OSError):  # noqa: PT011
        drawing.load()  # the trap is a real one: this starts it
    assert marker.exists()


def test_only_these_formats() -> None:
    assert set(FORMATS) == {"JPEG", "PNG", "WEBP", "GIF", "BMP", "TIFF", "PPM", "AVIF"}


# Files that are none, or that change


def test_endless_and_special_files(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.jpg")
    (tmp_path / "zero.jpg").symlink_to("/dev/zero")
    (tmp_path / "loop.jpg").symlink_to("loop.jpg")
    (tmp_path / "dangling.jpg").symlink_to("nothing")
    (tmp_path / "picture.jpg").write_bytes(JPEG)
    (tmp_path / "link.jpg").symlink_to("picture.jpg")
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(os.path.relpath(tmp_path / "socket.jpg"))
        for name, words in {
            "pipe": "regular", "zero": "regular", "socket": "regular", "loop": "symbolic links",
            "dangling": "No such file",
        }.items():  # fmt: skip
            with pytest.raises(InvalidInput, match=words):
                decode_image(tmp_path / f"{name}.jpg")
    assert decode_image(tmp_path / "link.jpg").image.size == (40, 30)


def test_a_file_that_grows_is_read_as_far_as_it_was(tmp_path: Path) -> None:
    path = tmp_path / "growing.jpg"
    path.write_bytes(JPEG)
    stop = threading.Event()

    def grow() -> None:
        with path.open("ab") as file:
            while not stop.is_set() and file.tell() < 50_000_000:
                file.write(bytes(1 << 20))

    writer = threading.Thread(target=grow)
    writer.start()
    try:
        for _ in range(5):
            assert decode_image(path, ImageLimits(max_bytes=10**12)).image.size == (40, 30)
    finally:
        stop.set()
        writer.join()


@pytest.mark.parametrize("form", ["JPEG", "PNG", "WEBP", "GIF", "BMP", "TIFF", "PPM"])
def test_every_truncation_is_one_sentence(form: str) -> None:
    data = saved(picture(16, 12), form)
    accepted, whole = 0, decode_image(data).image.tobytes()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # Pillow's remarks
        for end in range(0, len(data), 1 + len(data) // 150):
            with contextlib.suppress(InvalidInput):  # anything else fails the test
                assert decode_image(data[:end]).image.tobytes() == whole
                accepted += 1
    assert accepted <= 25  # only trailers, checksums and padding may be missing


def test_a_name_of_a_megabyte_is_not_repeated() -> None:
    with pytest.raises(InvalidInput, match="name too long") as caught:
        decode_image("x" * 10**6)
    assert len(str(caught.value)) < 10_000
