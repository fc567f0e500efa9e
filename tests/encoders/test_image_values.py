"""Images of any depth, whatever part of their range they use, and bands that are no
transparency."""

from __future__ import annotations

import io
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from PIL import Image
from tiffs import png, tiff

import trustvlm
from trustvlm.demo.data import LABELS, digits_split, draw, write_images
from trustvlm.demo.measure import prepare_space, register_labels
from trustvlm.demo.specs import SPACE
from trustvlm.encoders.golden import golden_image
from trustvlm.encoders.images.decode import decode_image, hash_image, is_original, original_of
from trustvlm.reading.image_files import ImageLimits
from trustvlm.service import TrustService
from trustvlm.types import Queries

Pixels = npt.NDArray[Any]

COLOUR = np.asarray(golden_image().resize((96, 64)))
GREY = np.asarray(golden_image().resize((96, 64)).convert("L"))
WIDE = GREY.astype(np.int64)
INFRARED = np.roll(GREY, 17, axis=1) // 2 + 40


def error(decoded: Image.Image, expected: Pixels) -> float:
    grey = expected[..., None] if expected.ndim == 2 else expected
    return float(np.abs(np.asarray(decoded, float) - grey).mean())


def as_file(pixels: Pixels, form: str = "PNG") -> bytes:
    out = io.BytesIO()
    Image.fromarray(pixels).save(out, form)
    return out.getvalue()


def noisy(values: Pixels) -> Pixels:
    """The same without a common step between its values."""
    return values + np.random.default_rng(0).integers(0, 3, values.shape)


def few() -> Pixels:
    return np.random.default_rng(1).random(GREY.shape) < 0.004


EXACT: dict[str, tuple[Callable[[], bytes], Pixels]] = {
    "full range": (lambda: png(WIDE * 257), GREY),
    "12 bits": (lambda: png(WIDE * 16), GREY),
    "10 bits": (lambda: png(WIDE * 4), GREY),
    "15 bits": (lambda: png(WIDE * 128), GREY),
    "some step": (lambda: png(WIDE * 20), GREY),
    "8 bits in 16": (lambda: png(WIDE), GREY),
    "tiff": (lambda: as_file((WIDE * 16).astype(np.uint16), "TIFF"), GREY),
    "big-endian tiff": (lambda: tiff(WIDE * 16, bits=16, order=">"), GREY),
    "white is zero": (lambda: tiff(4095 - WIDE * 16, bits=16, photometric=0), GREY),
    "signed bytes": (lambda: tiff(WIDE - 128, sample_format=2), GREY),
    "signed 16 bits": (lambda: tiff(WIDE * 257 - 32768, bits=16, sample_format=2), GREY),
    "unsigned 32 bits": (lambda: tiff(WIDE * 16843009, bits=32), GREY),
    "colour": (lambda: png(COLOUR.astype(int) * 16), COLOUR),
    "full-range colour": (lambda: png(COLOUR.astype(int) * 257), COLOUR),
    "colour in a tiff": (lambda: tiff(COLOUR.astype(int) * 16, bits=16, photometric=2), COLOUR),
    "colour in a big-endian "
    "tiff": (lambda: tiff(COLOUR.astype(int) * 4, bits=16, photometric=2, order=">"), COLOUR),
    "colour in "
    "planes": (lambda: tiff(COLOUR.astype(int) * 16, bits=16, photometric=2, planes=True), COLOUR),
    "compressed "
    "colour": (lambda: tiff(COLOUR.astype(int) * 16, bits=16, photometric=2, deflate=True), COLOUR),
    "compressed, big-endian": (
        lambda: tiff(COLOUR.astype(int) * 16, bits=16, photometric=2, deflate=True, order=">"),
        COLOUR,
    ),
    "compressed planes of "
    "bytes": (lambda: tiff(COLOUR, photometric=2, deflate=True, planes=True), COLOUR),
    "compressed, unsigned, "
    "big-endian": (lambda: tiff(WIDE * 16, bits=16, deflate=True, order=">"), GREY),
    "compressed, 32 bits, big-endian": (
        lambda: tiff(WIDE * 16843009 - 2**31, bits=32, sample_format=2, deflate=True, order=">"),
        GREY,
    ),
    "compressed floats, "
    "big-endian": (lambda: tiff(GREY / 255, bits=32, sample_format=3, deflate=True, order=">"),
    GREY),
    "compressed bytes with infrared": (
        lambda: tiff(np.dstack([COLOUR, INFRARED]), photometric=2, extra=(1,), deflate=True),
        COLOUR,
    ),
    "compressed with infrared": (
        lambda: tiff(np.dstack([COLOUR, INFRARED]).astype(int) * 16, bits=16, photometric=2,
        extra=(2,), deflate=True), COLOUR,
    ),
    "compressed "
    "signed": (lambda: tiff(WIDE * 257 - 32768, bits=16, sample_format=2, deflate=True, order=">"),
    GREY),
    "big-endian pixels of PIL's": (lambda: as_file((WIDE * 16).astype(">u2"), "TIFF"), GREY),
    "pgm of 4095": (lambda: b"P5 96 64 4095\n" + (WIDE * 16).astype(">u2").tobytes(), GREY),
    "12 bits in a pgm of "
    "65535": (lambda: b"P5 96 64 65535\n" + (WIDE * 16).astype(">u2").tobytes(), GREY),
    "12 bits in a ppm of "
    "65535": (lambda: b"P6 96 64 65535\n" + (COLOUR.astype(int) * 16).astype(">u2").tobytes(),
    COLOUR),
    "10 bits as text": (
        lambda: b"P3 96 64 # made by "
                b"hand\n1023\n" + b" ".join(b"%d" % v for v in COLOUR.astype(int).ravel() * 4),
                COLOUR,
    ),
    "opacity of 12 "
    "bits": (lambda: png(np.dstack([COLOUR, np.full(GREY.shape, 255)]).astype(int) * 16 + 15),
    COLOUR),
    "hot pixels": (lambda: png(np.where(few(), 65535, noisy(WIDE * 16))), np.where(few(), 255,
    GREY)),
    "floats up to 1": (lambda: as_file(GREY.astype(np.float32) / 255, "TIFF"), GREY),
}  # fmt: skip


@pytest.mark.parametrize("case", EXACT)
def test_values_of_any_depth_give_the_picture(case: str) -> None:
    make, expected = EXACT[case]
    data = make()
    assert error(decode_image(data).image, expected) < 1.0
    with Image.open(io.BytesIO(data)) as lazy:
        assert decode_image(lazy).image.tobytes() == decode_image(data).image.tobytes()


STRETCHED: dict[str, Callable[[], Pixels]] = {
    "computed tomography": lambda: (noisy(WIDE * 16) - 1024).astype(np.int32),
    "thermal": lambda: (27_000 + noisy(WIDE * 19)).astype(np.uint16),
    "thermal with zeros": lambda: np.where(few(), 0, 27_000 + noisy(WIDE * 19)).astype(np.uint16),
    "tiny floats": lambda: (noisy(WIDE * 10) * 1e-7).astype(np.float32),
    "kelvin": lambda: (280 + GREY / 20).astype(np.float32),
    "-9999": lambda: np.where(few(), -9999, noisy(WIDE * 3)).astype(np.float32),
    "-3.4e38": lambda: np.where(few(), -3.4028235e38, noisy(WIDE * 3)).astype(np.float32),
    "NaN": lambda: np.where(few(), np.nan, GREY * 3.1).astype(np.float32),
    "7 bits": lambda: (GREY // 2).astype(np.uint16),
    "4095 where nothing is": lambda: np.where(few(), 4095, 100 + noisy(WIDE)).astype(np.uint16),
    "-2000 around a tomogram": lambda: np.where(few(), -2000, noisy(WIDE) - 100).astype(np.int32),
    "infinite": lambda: np.where(few(), np.inf, GREY * 3.1).astype(np.float32),
}


@pytest.mark.parametrize("case", STRETCHED)
def test_a_part_of_the_range_keeps_its_contrast(case: str) -> None:
    values = STRETCHED[case]()
    decoded = decode_image(Image.fromarray(values))
    seen = np.asarray(decoded.image)[..., 0].astype(float)
    good = ~few()
    assert np.corrcoef(seen[good], GREY[good])[0, 1] > 0.999
    assert np.ptp(seen[good]) > 210
    if not np.isfinite(values).all() or values.min() < -9000:
        assert (seen[~good] == 0).all()
        assert any("no-data pixels" in note for note in notes(decoded))
    assert any("stretched to 0–255" in note for note in notes(decoded))
    assert decode_image(Image.fromarray(values)).image.tobytes() == decoded.image.tobytes()


def notes(decoded: Any) -> tuple[str, ...]:
    from trustvlm.types.messages.remarks import notes_of

    return notes_of([("a", decoded.remarks)])


def test_the_no_data_value_of_a_file_is_not_counted() -> None:
    data = tiff(np.where(few(), -5, WIDE * 3), bits=32, sample_format=3, tags=[(42113, 2, b"-5\0")])
    seen = np.asarray(decode_image(data).image)[..., 0]
    assert (seen[few()] == 0).all()
    assert np.corrcoef(seen[~few()], GREY[~few()])[0, 1] > 0.999


def test_a_fixed_range_is_kept_and_checked() -> None:
    dark = png(WIDE * 4)
    decoded = decode_image(dark, ImageLimits(value_range=(0.0, 4095.0)))
    assert error(decoded.image, GREY / 4.0) < 1.0
    assert decode_image(as_file(GREY), ImageLimits(value_range=(0.0, 4095.0))).image.tobytes() == (
        decode_image(as_file(GREY)).image.tobytes()
    )


@pytest.mark.parametrize("values", [(WIDE * 16).astype(np.uint16),
(WIDE * 16 - 1024).astype(np.int32),
                                    (WIDE / 900).astype(np.float32)])  # fmt: skip
def test_originals_of_deep_images_are_what_was_hashed(values: Pixels) -> None:
    for limits in (ImageLimits(), ImageLimits(value_range=(-100.0, 5000.0))):
        content, data = original_of(Image.fromarray(values), limits)
        assert content == hash_image(Image.fromarray(values), limits)
        assert is_original(data, content)


FOUR_BANDS = [(bits, extra) for bits in (8, 16) for extra in (None, (0,), (1,), (2,))]
MORE_BANDS = [(8, (0, 0)), (8, (2, 0)), (8, (1, 0, 0))]


@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize(("bits", "extra"), FOUR_BANDS + MORE_BANDS)
def test_bands_beyond_rgb_are_not_transparency(
    extra: tuple[int, ...] | None, bits: int, order: str
) -> None:
    further = 1 if extra is None else len(extra)
    pixels = np.dstack([COLOUR, *[INFRARED] * further]).astype(int) * (1 if bits == 8 else 16)
    data = tiff(pixels, bits=bits, photometric=2, extra=extra, order=order)
    decoded = decode_image(data)
    assert error(decoded.image, COLOUR) < 1.0
    assert notes(decoded)[0].startswith("1 image with bands besides red, green, blue")
    with Image.open(io.BytesIO(data)) as lazy:
        assert decode_image(lazy).image.tobytes() == decoded.image.tobytes()


@pytest.mark.parametrize("bits", [8, 16])
@pytest.mark.parametrize("extra", [1, 2])
def test_the_transparency_of_a_tiff_is_laid_over_white(bits: int, extra: int) -> None:
    shown = np.where(np.arange(96) < 40, 0, 255)[None, :, None] + np.zeros((64, 1, 1), int)
    colour = COLOUR * (shown > 0) if extra == 1 else COLOUR
    pixels = np.concatenate([colour, shown], axis=2).astype(int) * (1 if bits == 8 else 257)
    decoded = decode_image(tiff(pixels, bits=bits, photometric=2, extra=(extra,)))
    assert error(decoded.image, np.where(shown > 0, COLOUR, 255)) < 1.0
    assert decoded.remarks == ()


@pytest.mark.parametrize("form", ["BMP", "PNG", "TIFF", None])
def test_opacity_that_is_0_everywhere_is_none(form: str | None) -> None:
    image = Image.fromarray(np.dstack([COLOUR, np.zeros_like(GREY)]))
    decoded = decode_image(image if form is None else as_file(np.asarray(image), form))
    assert error(decoded.image, COLOUR) < 1.0


@pytest.fixture(scope="module")
def digits(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """(service, 200 grey digits, their labels, accuracy on them at 8 bits), the digits' space
    registered."""
    home = tmp_path_factory.mktemp("digits")
    write_images(home / "images")
    with trustvlm.open(home / "home", create=True) as service:
        prepare_space(service)
        register_labels(service, home / "images", lambda line: None)
        split = digits_split()["held-out"]
        rows = np.random.default_rng(0).permutation(len(split.digits))[:200]
        greys = [np.asarray(draw(scan).convert("L")).astype(np.int64) for scan in split.scans[rows]]
        truth = np.array([LABELS[digit] for digit in split.digits[rows]])
        yield (
            service,
            greys,
            truth,
            accuracy(service, greys, truth, lambda grey: grey.astype(np.uint8)),
        )


def accuracy(
    service: TrustService, greys: list[Pixels], truth: Pixels, change: Callable[[Pixels], Pixels]
) -> float:
    verdicts = service.score(
        SPACE, Queries(images=[Image.fromarray(change(grey)) for grey in greys]), rule="msp"
    )
    return float((verdicts.label == truth).mean())


@pytest.mark.slow  # by default: test_values_of_any_depth_give_the_picture
@pytest.mark.parametrize("change", [
    lambda grey: (grey * 16).astype(np.uint16),
    lambda grey: (280 + grey / 12).astype(np.float32),
    lambda grey: np.where(np.arange(grey.size).reshape(grey.shape) % 997 == 5, 65535,
    grey * 16).astype(np.uint16),
    *(pytest.param(change, marks=pytest.mark.slow) for change in (
        lambda grey: (grey * 7.3).astype(np.uint16),
        lambda grey: (grey * 16 - 1024).astype(np.int32),
        lambda grey: (27_000 + grey * 19).astype(np.uint16),
        lambda grey: (grey / 51_000).astype(np.float32),
    )),
])  # fmt: skip
def test_the_demo_is_as_accurate_as_on_8_bits(
    digits: Any, change: Callable[[Pixels], Pixels]
) -> None:
    service, greys, truth, at_8_bits = digits
    assert accuracy(service, greys, truth, change) >= at_8_bits - 0.01


def test_a_call_says_once_what_was_done(digits: Any, tmp_path: Path) -> None:
    service, greys, _, _ = digits
    deep = [Image.fromarray((grey * 16).astype(np.uint16)) for grey in greys[:3]]
    verdicts = service.score(SPACE, Queries(images=[*deep, Image.new("RGB", (9, 9), "red")]))
    assert verdicts.notes == (
        "3 images of 16 bit: values 0–4080 stretched to 0–255",
        "1 image of a single colour after preparation: <image 3>",
    )
    assert service.embed(SPACE, deep).notes == verdicts.notes[:1]
    fixed = service.embed(SPACE, deep, image_range=(0, 65535))
    assert fixed.notes == ("3 images of 16 bit: values 0–65535 stretched to 0–255",)
    for wrong in ((5, 5), (3,), "0,9", (0, float("nan")), 7):
        with pytest.raises(
            trustvlm.InvalidInput, match=r"image_range: expected two numbers \(low, high\)"
        ):
            service.embed(SPACE, deep, image_range=wrong)
    with trustvlm.open(tmp_path / "home", create=True) as other:
        prepare_space(other)
        made = other.register(SPACE, [trustvlm.LabelInput("zero", images=deep)])
        assert made.notes == verdicts.notes[:1]
