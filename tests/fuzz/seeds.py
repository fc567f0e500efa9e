"""Good files of every kind that is read, small, made here; and some real photographs where there
are any."""

from __future__ import annotations

import io
import os
import struct
import zlib
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

__all__ = ["MEMBERS", "archives", "arrays", "images", "settings", "texts"]

PHOTOS = (
    Path(os.environ.get("TRUSTVLM_EVAL_DATA", Path(__file__).parents[3] / "shared" / "data"))
    / "photos"
)


def picture(width: int = 40, height: int = 30) -> Image.Image:
    y, x = np.mgrid[:height, :width]
    return Image.fromarray(
        np.stack([x * 6 % 256, y * 8 % 256, (x * y) % 256], axis=-1).astype(np.uint8)
    )


def saved(image: Image.Image, form: str, **options: Any) -> bytes:
    out = io.BytesIO()
    image.save(out, form, **options)
    return out.getvalue()


def chunk(kind: bytes, data: bytes) -> bytes:
    """A PNG chunk with its checksum."""
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def png_with(*chunks: bytes, image: Image.Image | None = None) -> bytes:
    """A PNG with further chunks behind its header."""
    data = saved(image or picture(), "PNG")
    return data[:33] + b"".join(chunks) + data[33:]


def exif(orientation: int = 6) -> bytes:
    block = Image.Exif()
    block[0x0112], block[0x010E] = orientation, "a description that is longer than four bytes"
    return block.tobytes()


def bmp_rle() -> bytes:
    """8 × 8 pixels in runs, a delta and an absolute run."""
    body = (
        b"\x08\x01\0\0" * 4
        + b"\x04\x02\0\x04\1\2\3\4\0\0"
        + b"\0\2\1\1"
        + b"\x08\x03\0\0" * 2
        + b"\0\1"
    )
    head = (
        struct.pack("<IiiHHIIiiII", 40, 8, 8, 1, 8, 1, len(body), 0, 0, 256, 0)
        + bytes(range(256)) * 4
    )
    return (
        b"BM" + struct.pack("<IHHI", 14 + len(head) + len(body), 0, 0, 14 + len(head)) + head + body
    )


def images() -> list[bytes]:
    """About 45 small images: every format, mode and compression that is read."""
    rgb = picture()
    frames = [Image.new("RGB", (20, 20), colour) for colour in ("red", "green", "blue")]
    alpha = rgb.convert("RGBA")
    alpha.putalpha(Image.linear_gradient("L").resize(rgb.size))
    text = chunk(b"zTXt", b"k\0\0" + zlib.compress(b"x" * 1000))
    found = [
        saved(rgb.convert(mode), "PNG") for mode in ("1", "L", "LA", "P", "RGB", "RGBA", "I;16")
    ]
    found += [saved(rgb, "PNG", exif=exif()), png_with(text, chunk(b"gAMA", bytes(4)))]
    jpegs: list[dict[str, Any]] = [
        {"progressive": True}, {"exif": exif(), "comment": b"c" * 50}, {"subsampling": 0},
        {"icc_profile": b"p" * 300},
    ]  # fmt: skip
    found += [saved(rgb.convert(mode), "JPEG") for mode in ("L", "RGB", "CMYK")] + [
        saved(rgb, "JPEG", **how) for how in jpegs
    ]
    found.append(saved(rgb, "MPO", save_all=True, append_images=[rgb]))
    for form in ("GIF", "PNG", "WEBP", "TIFF"):
        found.append(saved(frames[0], form, save_all=True, append_images=frames[1:]))
    found += [saved(rgb, "GIF", comment=b"c" * 600), saved(rgb.convert("P"), "GIF", transparency=3)]
    found += [saved(rgb, "WEBP"), saved(rgb, "WEBP", lossless=True, exif=exif())]
    found += [saved(alpha, "WEBP"), saved(alpha, "WEBP", lossless=True)]
    found += [
        saved(rgb, "AVIF", exif=exif()),
        saved(alpha, "AVIF"),
        saved(rgb.convert("L"), "AVIF"),
    ]
    found += [saved(rgb.convert(mode), "BMP") for mode in ("1", "L", "P", "RGB")] + [bmp_rle()]
    for compression in ("raw", "tiff_lzw", "tiff_adobe_deflate", "packbits", "jpeg"):
        found.append(saved(rgb, "TIFF", compression=compression))
    found += [
        saved(rgb.convert("1"), "TIFF", compression="group4"),
        saved(rgb.convert("F"), "TIFF"),
        saved(alpha, "TIFF"),
    ]
    found += [
        saved(rgb.convert("I;16"), "TIFF"),
        saved(rgb, "TIFF", big_tiff=True),
        saved(rgb, "TIFF", tiffinfo={274: 6}),
    ]
    found += [saved(rgb.convert(mode), "PPM") for mode in ("1", "L", "RGB", "F")]
    found += [b"P3 # comment\n3 2 255\n" + b"1 2 3 " * 6, b"P6 3 2 254\n" + bytes(range(18))]
    found += [b"P1 4 2\n1010 0101", b"P5 3 2 65535\n" + bytes(12)]
    return found + [
        path.read_bytes()
        for path in sorted(PHOTOS.glob("*/*.jpg"))[:120:40]
        if path.stat().st_size < 500_000
    ]


def npz(*, compressed: bool = False, **arrays: Any) -> bytes:
    out = io.BytesIO()
    (np.savez_compressed if compressed else np.savez)(out, **arrays)
    return out.getvalue()


def archives() -> list[bytes]:
    """Archives to register, to score, to evaluate; of many number types; and single arrays."""
    rng = np.random.default_rng(0)
    names, text, image = np.array(["a", "b", "ü"]), rng.normal(size=(3, 4)), rng.normal(size=(5, 6))
    owners = np.array([0, 0, 1, 1, 2])
    found = [
        npz(
            label_names=names,
            text_vectors=text.astype(kind),
            image_vectors=image.astype(kind),
            image_labels=owners,
        )
        for kind in ("<f4", ">f4", "<f2", "<f8", "<i4", "<c8", "?", "<f16")
    ]
    found.append(
        npz(
            compressed=True,
            label_names=names,
            text_vectors=text,
            image_vectors=image,
            image_labels=owners,
        )
    )
    found.append(
        npz(
            label_names=np.array([b"a", b"b"]), text_vectors=text[:2], classifier_image_vectors=text
        )
    )
    found.append(npz(classifier=text, verifier=image[:3], sources=names))
    found.append(npz(classifier=text, verifier=image[:3], truth=names))
    found.append(npz(label_names=names, text_vectors=np.zeros(3, [("x", "<f4"), ("y", "<i8")])))
    single = io.BytesIO()
    np.save(single, text)
    return [*found, single.getvalue()]


MEMBERS = {
    "register": ("label_names", "text_vectors", "image_vectors", "image_labels"),
    "more": (
        "label_names",
        "text_vectors",
        "image_vectors",
        "image_labels",
        "classifier_image_vectors",
    ),
    "score": ("classifier", "verifier", "sources"),
    "evaluate": ("classifier", "verifier", "truth"),
    "labelled": ("classifier", "verifier", "label_names", "image_labels"),
}
"""The arrays of each kind of archive that is read."""


def npy(array: np.ndarray) -> bytes:
    out = io.BytesIO()
    np.save(out, array)
    return out.getvalue()


def arrays() -> tuple[dict[str, list[bytes]], list[bytes], list[bytes]]:
    """(arrays by name, vectors of three rows, arrays that fit nowhere)."""
    rng = np.random.default_rng(0)
    kinds = ("<f4", ">f4", "<f2", "<f8", ">f8", "<f16")
    four = [npy(rng.normal(size=(3, 4)).astype(kind)) for kind in kinds] + [
        npy(np.asfortranarray(rng.normal(size=(3, 4))))
    ]
    six = [npy(rng.normal(size=(3, 6)).astype(kind)) for kind in kinds] + [
        npy(rng.normal(size=(6, 3)).T[::-1])
    ]
    names = [
        npy(np.array(row))
        for row in (
            ["a", "b", "c"],
            [b"a", b"b", b"c"],
            ["ü", "港", "\u200bx"],
            ["a\u0301", "\u00e1", "z"],
        )
    ]
    wild = np.array(["a", "b", "c"]).view(np.uint32).copy()
    wild[1] = 0x110000 + 5  # no character
    names += [
        npy(wild.view("<U1")),
        npy(np.array(["\ud800", "b", "c"])),
        npy(np.array(["x" * 501, "", "c"])),
    ]
    owners = [
        npy(np.array(row, kind))
        for row in ([0, 1, 2], [2, 2, 0], [0, 1, 3], [0, 0, 2**62])
        for kind in ("<i8", ">u8")
    ]
    holes = [np.full((3, 4), fill) for fill in (np.nan, np.inf, 0.0, 1e-320, 1e-42, 1e308)]
    odd: list[Any] = [
        np.float64(3),
        np.array([], "U1"),
        np.zeros(3, [("x", "<f4")]),
        np.zeros(3, "M8[s]"),
        *holes,
    ]
    odd += [np.zeros((0, 4)), np.zeros((3, 0)), np.zeros((2, 3, 4)), np.zeros((3, 4), "S0")]
    odd += [np.ones((3, 4), complex), np.ones((3, 4), bool)]
    by_name = {"label_names": names, "sources": names, "truth": names, "image_labels": owners}
    by_name |= {
        "text_vectors": four,
        "classifier": four,
        "classifier_image_vectors": four,
        "image_vectors": six,
        "verifier": six,
    }
    return by_name, four, [npy(array) for array in odd] + names + owners + four + six


def settings() -> list[bytes]:
    return [
        b'device = "cpu"\nprecision = "fp32"\nbatch_size = 32\nworkers = 2\n',
        b"max_image_bytes = 1_000\nmax_image_pixels = 0x10\nundo_hours = 1e3\nhalf_from = 5 "
        b"# comment\n",
        b'[table]\na = [1, [2, {b = 3}]]\n"quoted key" = """text\nof lines"""\n',
        b"undo_hours = inf\nmax_labels = 99999999999999999999\nd = 1979-05-27T07:32:00Z\n",
        b'device = "\\u00e9\\n"\n[[array.of]]\ntables = true\n[[array.of]]\n',
    ]


def texts() -> list[bytes]:
    """Files of names."""
    return [
        b"airport\nbeach\nsea\ta photo of the {}\n",
        "naïve café\n港口\nemoji 🚢 👩‍🚀\nfa\u200cr\n".encode(),
        b"\xef\xbb\xbfone\r\ntwo\r\n\r\nthree\r",
        "a\u0301\n\u202eb\n\x1b[31mred\n\u0000\n".encode(),
    ]
