"""Reading images: what is accepted, what is refused and how, and the batched iterator over both."""

from __future__ import annotations

import contextlib
import hashlib
import io
import os
import signal
import subprocess
import sys
import threading
import time
import tracemalloc
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pytest
from checkpoints import make_clip, make_timm
from PIL import Image
from waiting import until

from trustvlm.encoders.encode_images import EncodedImage, FailedImage, encode_images
from trustvlm.encoders.golden import golden_image
from trustvlm.encoders.images.decode import decode_image, hash_image
from trustvlm.encoders.open import open_encoder
from trustvlm.errors import InvalidInput
from trustvlm.reading.image_files import ImageLimits, source_name

DATA = Path(os.environ.get("TRUSTVLM_EVAL_DATA", Path(__file__).parents[3] / "shared" / "data"))


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory) -> Any:
    return open_encoder(make_clip(tmp_path_factory.mktemp("clip")))


def picture(width: int = 60, height: int = 40) -> Image.Image:
    """A picture with four different corners, so that every turn shows."""
    return golden_image().resize((width, height))


def save(path: Path, image: Image.Image, **options: Any) -> Path:
    image.save(path, **options)
    return path


def close(a: Image.Image, b: Image.Image, mean: float) -> bool:
    return (
        a.size == b.size
        and float(np.abs(np.asarray(a, float) - np.asarray(b, float)).mean()) <= mean
    )


# What is accepted


@pytest.mark.parametrize(("suffix", "options"), [
    ("png", {}), ("bmp", {}), ("tiff", {}), ("ppm", {}), ("webp", {"lossless": True}),
    ("jpg", {"quality": 95}), ("avif", {"quality": 95}), ("gif", {}), ("tiff",
    {"compression": "tiff_lzw"}),
])  # fmt: skip
def test_raster_formats_decode_to_the_same_picture(
    tmp_path: Path, suffix: str, options: dict[str, Any]
) -> None:
    decoded = decode_image(save(tmp_path / f"a.{suffix}", picture(), **options))
    assert decoded.image.mode == "RGB"
    assert close(decoded.image, picture(), mean=6.0 if suffix in ("jpg", "avif", "gif") else 0.0)


@pytest.mark.parametrize("orientation", range(1, 9))
def test_exif_orientation_is_honoured(tmp_path: Path, orientation: int) -> None:
    turns = {
        2: Image.Transpose.FLIP_LEFT_RIGHT, 3: Image.Transpose.ROTATE_180,
        4: Image.Transpose.FLIP_TOP_BOTTOM,
        5: Image.Transpose.TRANSPOSE, 6: Image.Transpose.ROTATE_90, 7: Image.Transpose.TRANSVERSE,
        8: Image.Transpose.ROTATE_270,
    }  # fmt: skip
    # Stored so that a viewer who honours the tag sees the picture upright: the inverse turn of what
    # the tag asks for.
    stored = picture().transpose(turns[orientation]) if orientation in turns else picture()
    exif = Image.Exif()
    exif[0x0112] = orientation
    path = save(tmp_path / "a.png", stored, exif=exif)
    assert close(decode_image(path).image, picture(), mean=0.0)
    assert close(Image.open(io.BytesIO(decode_image(path).thumbnail)), picture(), mean=8.0)
    with Image.open(path) as lazy:
        assert close(decode_image(lazy).image, picture(), mean=0.0)


@pytest.mark.filterwarnings(
    "ignore:Corrupt EXIF data:UserWarning"
)  # Pillow's, when it opens the file
def test_unreadable_exif_does_not_cost_the_image(tmp_path: Path) -> None:
    path = save(
        tmp_path / "a.jpg", picture(), exif=b"Exif\0\0II*\0\xff\xff\xff\xff not a directory"
    )
    assert decode_image(path).image.size == (60, 40)


def test_cmyk(tmp_path: Path) -> None:
    path = save(tmp_path / "a.jpg", picture().convert("CMYK"), quality=95)
    assert close(decode_image(path).image, picture(), mean=6.0)


@pytest.mark.parametrize("mode", ["RGBA", "LA", "PA", "P"])
def test_transparency_is_laid_over_white(tmp_path: Path, mode: str) -> None:
    left_opaque = np.zeros((8, 8, 4), np.uint8)
    left_opaque[:, :4, 3] = 255  # black on the left, transparent black on the right
    image = Image.fromarray(left_opaque)
    if mode == "P":
        image = Image.fromarray(
            np.where(left_opaque[..., 3] > 0, 1, 0).astype(np.uint8), "L"
        ).convert("P")
        image.putpalette([255, 0, 0, 0, 0, 0])
        path = save(tmp_path / "a.png", image, transparency=0)
    elif mode == "PA":
        decoded = decode_image(
            image.convert("PA")
        ).image  # no file format that we read gives this mode
        assert decoded.getpixel((6, 3)) == (255, 255, 255)
        return
    else:
        path = save(tmp_path / "a.png", image.convert(mode))
    decoded = decode_image(path).image
    assert decoded.getpixel((1, 3)) == (0, 0, 0)
    assert decoded.getpixel((6, 3)) == (255, 255, 255)


def test_grey_with_transparent_colour_key(tmp_path: Path) -> None:
    grey = Image.fromarray(np.array([[10, 200]], np.uint8))
    path = save(tmp_path / "a.png", grey, transparency=10)
    assert [decode_image(path).image.getpixel((x, 0)) for x in (0, 1)] == [(255,) * 3, (200,) * 3]


@pytest.mark.parametrize("suffix", ["png", "tiff"])
def test_16_bit_grey_is_scaled_not_clipped(tmp_path: Path, suffix: str) -> None:
    values = np.linspace(0, 65535, 256).astype(np.uint16).reshape(16, 16)
    path = save(tmp_path / f"a.{suffix}", Image.fromarray(values))
    with Image.open(path) as stored:
        assert stored.mode.startswith("I")
    grey = np.asarray(decode_image(path).image)[..., 0].ravel()
    np.testing.assert_array_equal(grey, np.arange(256))


def test_float_and_32_bit_images() -> None:
    unit = decode_image(Image.fromarray(np.array([[0.0, 0.5, 1.0]], np.float32))).image
    assert [unit.getpixel((x, 0))[0] for x in range(3)] == [0, 128, 255]  # type: ignore[index]
    bytes_ = decode_image(Image.fromarray(np.array([[0.0, 100.0, 255.0]], np.float32))).image
    assert [bytes_.getpixel((x, 0))[0] for x in range(3)] == [0, 100, 255]  # type: ignore[index]
    wide = decode_image(Image.fromarray(np.array([[-500, 0, 500]], np.int32))).image
    assert [wide.getpixel((x, 0))[0] for x in range(3)] == [23, 135, 248]  # type: ignore[index]
    holes = decode_image(Image.fromarray(np.array([[0.0, np.nan, 1.0]], np.float32))).image
    assert [holes.getpixel((x, 0))[0] for x in range(3)] == [0, 0, 255]  # type: ignore[index]


def test_animated_gives_its_first_frame(tmp_path: Path) -> None:
    frames = [Image.new("RGB", (20, 20), colour) for colour in ("red", "green", "blue")]
    for suffix in ("gif", "png", "webp"):
        path = save(
            tmp_path / f"a.{suffix}",
            frames[0],
            save_all=True,
            append_images=frames[1:],
            duration=40,
        )
        pixel = decode_image(path).image.getpixel((5, 5))
        assert isinstance(pixel, tuple)
        assert pixel[0] > 240, suffix
        assert max(pixel[1:]) < 15, suffix


def test_one_pixel(tmp_path: Path, clip: Any) -> None:
    path = save(tmp_path / "a.png", Image.new("RGB", (1, 1), "teal"))
    (found,) = encode_images([path], [clip])
    assert isinstance(found, EncodedImage)
    assert np.isfinite(found.embeddings[0]).all()
    assert Image.open(io.BytesIO(found.thumbnail)).size == (1, 1)


def test_thumbnail_is_a_small_jpeg() -> None:
    thumbnail = Image.open(io.BytesIO(decode_image(golden_image()).thumbnail))
    assert (thumbnail.format, thumbnail.size) == ("JPEG", (128, 96))


# Hash and name


def test_hash_is_of_the_file_bytes_or_the_pixels(tmp_path: Path) -> None:
    path = save(tmp_path / "a.png", picture())
    data = path.read_bytes()
    expected = hashlib.sha256(data).digest()
    assert (
        hash_image(path)
        == hash_image(str(path))
        == hash_image(data)
        == decode_image(path).content_hash
        == expected
    )
    with Image.open(path) as lazy:
        assert hash_image(picture()) == hash_image(lazy) == decode_image(picture()).content_hash
    changed = picture()
    changed.putpixel((0, 0), (1, 2, 3))
    assert hash_image(changed) != hash_image(picture())
    assert len(hash_image(changed)) == 32


def test_names(tmp_path: Path) -> None:
    path = save(tmp_path / "a.png", picture())
    with Image.open(path) as lazy:
        assert source_name(path) == source_name(str(path)) == source_name(lazy) == str(path)
    assert source_name(b"x") == source_name(picture()) == "<image>"
    assert (source_name(b"x", 3), source_name(picture(), 4)) == ("<bytes 3>", "<image 4>")
    assert decode_image(path).source == str(path)
    assert decode_image(path.read_bytes()).source is None


# What is refused


def truncated(path: Path, suffix: str) -> Path:
    noise = np.random.default_rng(0).integers(0, 256, (200, 200, 3), np.uint8)
    out = io.BytesIO()
    Image.fromarray(noise).save(out, suffix.upper())
    path.write_bytes(out.getvalue()[: len(out.getvalue()) // 2])
    return path


REFUSED: dict[str, tuple[Callable[[Path], Any], str]] = {
    "missing": (lambda d: d / "no.png", "No such file"),
    "folder": (lambda d: d, "folder"),
    "empty": (lambda d: touch(d / "e.png", b""), "empty"),
    "empty bytes": (lambda d: b"", "empty"),
    "text": (lambda d: touch(d / "t.png", b"this is not an image at all"), "not an image"),
    "eps": (lambda d: touch(d / "t.eps", b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 10 "
                                         b"10\n"), "not an image"),
    "svg": (lambda d: touch(d / "t.svg", b"<svg xmlns='http://www.w3.org/2000/svg'/>"),
    "not an image"),
    "truncated jpeg": (lambda d: truncated(d / "t.jpg", "jpeg"), "damaged or truncated"),
    "truncated png": (lambda d: truncated(d / "t.png", "png"), "damaged or truncated"),
    "truncated bmp": (lambda d: truncated(d / "t.bmp", "bmp"), "damaged or truncated"),
    "truncated webp": (lambda d: truncated(d / "t.webp", "webp"), "damaged"),
    "only a png "
    "signature": (lambda d: touch(d / "t.png", b"\x89PNG\r\n\x1a\n"), "not an image|damaged"),
    "aspect": (lambda d: save(d / "a.png", Image.new("RGB", (505, 5))), "sides differ by more "
                                                                        "than 100"),
    "device": (lambda d: "/dev/zero", "not a regular file"),
    "nul in the path": (lambda d: "a\0b.png", "null"),
    "number": (lambda d: 7, "expected a path, bytes or a PIL image, got int"),
}  # fmt: skip


def touch(path: Path, data: bytes) -> Path:
    path.write_bytes(data)
    return path


@pytest.mark.parametrize("case", REFUSED)
def test_refused_with_one_sentence(tmp_path: Path, case: str) -> None:
    make, words = REFUSED[case]
    source = make(tmp_path)
    with pytest.raises(InvalidInput, match=words) as caught:
        decode_image(source)
    assert "\n" not in str(caught.value)
    if isinstance(source, (str, Path)):
        assert str(source) in str(caught.value)


@pytest.mark.filterwarnings("ignore::UserWarning:PIL")  # Pillow's remarks on damaged metadata
@pytest.mark.parametrize("suffix", ["jpeg", "png", "gif", "webp", "bmp", "tiff", "ppm"])
def test_damaged_bytes_raise_nothing_else(suffix: str) -> None:
    out = io.BytesIO()
    picture().save(out, suffix.upper())
    rng = np.random.default_rng(7)
    for _ in range(150):
        data = bytearray(out.getvalue())
        for at in rng.integers(0, min(len(data), 400), rng.integers(1, 6)):
            data[at] = rng.integers(256)
        with contextlib.suppress(InvalidInput):  # anything else fails the test
            decode_image(bytes(data[: rng.integers(1, len(data) + 1)]))


def test_fifo_does_not_hang(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.png")
    with pytest.raises(InvalidInput, match="not a regular file"):
        hash_image(tmp_path / "pipe.png")


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_unreadable_permissions(tmp_path: Path) -> None:
    path = save(tmp_path / "a.png", picture())
    path.chmod(0)
    with pytest.raises(InvalidInput, match="denied"):
        hash_image(path)


def test_huge_image_is_refused_from_its_header(tmp_path: Path) -> None:
    path = save(tmp_path / "huge.png", Image.new("1", (20_000, 20_000)))
    tracemalloc.start()
    begun = time.process_time()
    with pytest.raises(InvalidInput, match="20000×20000 = 400000000 pixels"):
        decode_image(path)
    seconds, peak = time.process_time() - begun, tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert seconds < 1.0
    assert peak < 8_000_000


def test_our_pixel_limit_decides_not_pillows(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    # Pillow would warn (an error here) from 1x and raise from 2x of its own limit.
    path = save(tmp_path / "a.png", picture())
    for limit in (1000, 2000):
        monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", limit)
        assert decode_image(path).image.size == (60, 40)
    with pytest.raises(InvalidInput, match="60×40 = 2400 pixels, more than the limit of 2399"):
        decode_image(path, ImageLimits(max_pixels=2399))


def test_byte_limit_is_checked_before_reading(tmp_path: Path) -> None:
    path = tmp_path / "sparse.png"
    with path.open("wb") as file:
        file.truncate(10**12)
    with pytest.raises(InvalidInput, match="1000000000000 bytes, more than the limit"):
        decode_image(path)
    with pytest.raises(InvalidInput, match="bytes"):
        decode_image(b"x" * 11, ImageLimits(max_bytes=10))


def test_limits_hold_for_pil_images() -> None:
    with pytest.raises(InvalidInput, match="pixels"):
        decode_image(picture(), ImageLimits(max_pixels=100))


def test_threads_decode_at_once(tmp_path: Path) -> None:
    path = save(tmp_path / "a.jpg", picture(400, 300))
    expected = decode_image(path).image.tobytes()
    wrong: list[int] = []

    def work() -> None:
        for i in range(20):
            if decode_image(path).image.tobytes() != expected:
                wrong.append(i)

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert wrong == []


# The iterator


def mixed(folder: Path, good: int = 9) -> list[Any]:
    """Good and bad sources of every kind, bad ones between good ones."""
    sources: list[Any] = [save(folder / f"{i}.png", picture(40 + i, 50)) for i in range(good)]
    sources[2:2] = [truncated(folder / "cut.jpg", "jpeg"), folder / "missing.png"]
    return [*sources, sources[0].read_bytes(), picture(33, 44), b"junk"]


def rows(found: Iterator[EncodedImage | FailedImage]) -> list[tuple[Any, ...]]:
    return [
        (f.index, f.source, f.content_hash, f.thumbnail, *(e.tobytes() for e in f.embeddings))
        if isinstance(f, EncodedImage)
        else (f.index, f.source, f.reason)
        for f in found
    ]


def test_order_failures_and_embeddings(tmp_path: Path, clip: Any) -> None:
    sources = mixed(tmp_path)
    found = list(encode_images(sources, [clip], batch_size=4))
    assert [f.index for f in found] == list(range(len(sources)))
    failed = [(f.index, f.source) for f in found if isinstance(f, FailedImage)]
    assert failed == [
        (2, str(tmp_path / "cut.jpg")),
        (3, str(tmp_path / "missing.png")),
        (13, "<bytes 13>"),
    ]
    assert found[12].source == "<image 12>"
    for f in found:
        if isinstance(f, EncodedImage):
            expected = clip.encode_images(
                clip.preprocess(decode_image(sources[f.index]).image)[None]
            )[0]
            assert f.embeddings[0].shape == (32,)
            assert f.embeddings[0].dtype == np.float32
            np.testing.assert_allclose(f.embeddings[0], expected, atol=1e-5)


def test_workers_change_nothing(tmp_path: Path, clip: Any) -> None:
    verifier = open_encoder(make_timm(tmp_path / "w.safetensors") + "?size=64")
    sources = mixed(tmp_path)
    counts: list[int] = []
    alone = rows(encode_images(sources, [clip, verifier], batch_size=4, workers=0))
    shared = rows(
        encode_images(sources, [clip, verifier], batch_size=4, workers=2, progress=counts.append)
    )
    assert alone == shared
    assert counts == [4, 4, 4, 2]


def test_stopping_early_leaves_a_few_sandboxes_that_wait(tmp_path: Path, clip: Any) -> None:
    for _ in range(2):
        found = encode_images(mixed(tmp_path), [clip], batch_size=2, workers=6)
        next(found)
        found.close()  # type: ignore[attr-defined]
        assert len(children()) <= 4
        assert len(list(encode_images(mixed(tmp_path), [clip]))) == 14
    assert len(children()) >= 1


def children() -> set[str]:
    """Ids of this process' live sandboxes of images; other tests may have left other children."""
    listed = Path(f"/proc/{os.getpid()}/task").glob("*/children")
    ids = {child for file in listed for child in file.read_text().split()}
    return {child for child in ids if is_sandbox(child)}


def is_sandbox(child: str) -> bool:
    try:
        return b"images.sandboxes:" in Path(f"/proc/{child}/cmdline").read_bytes()
    except (FileNotFoundError, ProcessLookupError):  # it ended meanwhile
        return False


def spent() -> float:
    """Seconds of the processor that the children have taken."""
    times = [psutil.Process(int(child)).cpu_times() for child in children()]
    return sum(one.user + one.system for one in times)


def test_a_crash_is_reported_and_the_rest_goes_in(tmp_path: Path, clip: Any) -> None:
    sources = [save(tmp_path / f"{i}.png", picture(40 + i, 50)) for i in range(4)]
    noise = np.random.default_rng(0).integers(0, 256, (4_000, 4_000, 3), np.uint8)
    sources.insert(1, save(tmp_path / "large.png", Image.fromarray(noise), compress_level=0))
    found = encode_images(sources, [clip], workers=1, batch_size=1)
    first = next(found)
    before = spent()
    until(lambda: spent() > before + 0.03)  # one is at the large image
    for child in children():
        os.kill(int(child), signal.SIGKILL)
    rest = list(found)
    assert [isinstance(one, EncodedImage) for one in (first, *rest)] == [1, 0, 1, 1, 1]
    assert isinstance(rest[0], FailedImage)
    assert "ended over it with SIGKILL" in rest[0].reason


@pytest.mark.slow  # by default: test_real_photos_through_worker_processes
def test_a_script_without_a_main_guard(tmp_path: Path) -> None:
    paths = [str(save(tmp_path / f"{i}.png", picture(40 + i, 50))) for i in range(4)]
    script = tmp_path / "script.py"
    script.write_text(
        "from trustvlm.encoders.encode_images import encode_images\n"
        "from trustvlm.encoders.images.preprocess import Preprocess\n"
        "class Mean:\n"
        "    spec, dim, identity, logit_scale = 'mean', 3, 'mean', None\n"
        "    preprocess = Preprocess(crop=(8, 8), resize=(8, 8))\n"
        "    def encode_images(self, pixels): return pixels.mean(dim=(2, 3)).numpy()\n"
        f"found = list(encode_images({paths!r}, [Mean()], workers=2))\n"
        "print('done', len(found), sum(f.embeddings[0].size for f in found))\n"
    )
    run = subprocess.run(
        [sys.executable, str(script)], capture_output=True, text=True, timeout=120, check=False
    )
    assert (run.stdout, run.returncode) == ("done 4 12\n", 0), run.stderr


def test_empty_and_wrong_arguments(clip: Any) -> None:
    assert list(encode_images([], [clip])) == []
    with pytest.raises(InvalidInput, match="batch_size"):
        encode_images([], [clip], batch_size=0)
    with pytest.raises(InvalidInput, match="workers"):
        encode_images([], [clip], workers=-1)
    with pytest.raises(InvalidInput, match="precomputed:4"):
        encode_images([], [open_encoder("precomputed:4")])


@pytest.mark.skipif(
    not (DATA / "photos").is_dir(), reason=f"no photos at {DATA} (TRUSTVLM_EVAL_DATA)"
)
def test_real_photos_through_worker_processes(clip: Any) -> None:
    paths = sorted((DATA / "photos").glob("*/*.jpg"))
    found = list(encode_images(paths, [clip], workers=2))
    assert len(found) == len(paths) == 228
    assert all(isinstance(f, EncodedImage) for f in found)
    assert len({f.content_hash for f in found if isinstance(f, EncodedImage)}) > 200
