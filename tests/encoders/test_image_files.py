"""Files that are no image, images that are torn, and how one hears of them in the library, the
service and the terminal."""

from __future__ import annotations

import io
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from cli_runner import Cli
from PIL import Image
from served_client import application, client_of
from tiffs import png, tiff

import trustvlm
from trustvlm.demo.specs import TEMPLATES, classifier_spec, verifier_spec
from trustvlm.encoders.golden import golden_image
from trustvlm.encoders.images.decode import decode_image
from trustvlm.errors import InvalidInput
from trustvlm.reading.image_files import ImageLimits
from trustvlm.types import LabelInput, Queries
from trustvlm.types.messages.remarks import merged_notes

PICTURE = golden_image()


def saved(form: str, **options: Any) -> bytes:
    out = io.BytesIO()
    PICTURE.save(out, form, **options)
    return out.getvalue()


def test_an_avif_of_a_telephone_lies_upright_and_over_white() -> None:
    turned = Image.Exif()
    turned[0x0112] = 6
    out = io.BytesIO()
    PICTURE.save(out, "AVIF", quality=95, exif=turned)
    assert decode_image(out.getvalue()).image.size == (192, 256)
    assert (
        np.abs(
            np.asarray(decode_image(out.getvalue()).image.rotate(90, expand=True), float) - PICTURE
        ).mean()
        < 3
    )
    shown = Image.merge("RGBA", (*PICTURE.split(), Image.linear_gradient("L").resize(PICTURE.size)))
    over_white = Image.alpha_composite(Image.new("RGBA", PICTURE.size, "white"), shown).convert(
        "RGB"
    )
    out = io.BytesIO()
    shown.save(out, "AVIF", quality=95)
    assert np.abs(np.asarray(decode_image(out.getvalue()).image, float) - over_white).mean() < 3


def test_an_avif_is_refused_for_its_size_and_a_sequence_for_its_kind() -> None:
    data = bytearray(saved("AVIF"))
    with pytest.raises(InvalidInput, match="256×192 = 49152 pixels, more than the limit of 40000"):
        decode_image(bytes(data), ImageLimits(max_pixels=40_000))
    at = data.index(b"ispe") + 8
    data[at : at + 8] = struct.pack(">II", 9_000, 9_000)
    with pytest.raises(InvalidInput, match="decoding it takes about"):
        decode_image(bytes(data))
    with pytest.raises(InvalidInput, match=r"AVIF sequence.*ffmpeg"):
        decode_image(saved("AVIF", save_all=True, append_images=[PICTURE.rotate(90)]))


def box(brand: bytes, *others: bytes) -> bytes:
    return (
        struct.pack(">I", 16 + 4 * len(others))
        + b"ftyp"
        + brand
        + bytes(4)
        + b"".join(others)
        + bytes(200)
    )


GREY = np.arange(96).reshape(8, 12)
FOREIGN: dict[str, tuple[bytes, str]] = {
    "heic": (box(b"heic", b"mif1", b"heic"), "HEIC or HEIF photograph.*heif-convert"),
    "heif of a "
    "telephone": (box(b"mif1", b"mif1", b"heic"), "HEIC or HEIF photograph.*heif-convert"),
    "cr3": (box(b"crx ", b"crx "), r"camera RAW file \(Canon CR3\).*dcraw"),
    "cr2": (b"II*\0\x10\0\0\0CR\2\0" + bytes(300), r"camera RAW file \(Canon CR2\).*dcraw"),
    "raf": (b"FUJIFILMCCD-RAW 0201" + bytes(300), r"Fujifilm RAF.*dcraw"),
    "nef": (tiff(GREY, tags=[(254, 4, [1]), (330, 4, [8])]), "camera RAW file.*NEF.*dcraw"),
    "dng": (tiff(GREY, tags=[(50706, 1, b"\1\4\0\0")]), r"camera RAW file \(DNG\).*dcraw"),
    "video": (box(b"isom", b"mp42"), r"video \(MP4 or QuickTime\).*ffmpeg"),
    "matroska": (b"\x1aE\xdf\xa3" + bytes(99), "video.*ffmpeg"),
    "jxl": (b"\xff\x0a" + bytes(99), "JPEG XL.*djxl"),
    "jxl in a box": (b"\0\0\0\x0cJXL \r\n\x87\n" + bytes(99), "JPEG XL.*djxl"),
    "jpeg 2000": (b"\0\0\0\x0cjP  \r\n\x87\n" + bytes(99), "JPEG 2000.*opj_decompress"),
    "psd": (b"8BPS\0\1" + bytes(99), "Photoshop.*magick"),
    "pdf": (b"%PDF-1.7\n", "PDF document.*pdftoppm"),
    "svg": (b"<?xml version='1.0'?>\n<!-- drawn by hand -->\n<svg "
            b"xmlns='http://www.w3.org/2000/svg'/>", "SVG.*rsvg-convert"),
    "eps": (b"%!PS-Adobe-3.0 EPSF-3.0\n", "EPS.*gs -dSAFER"),
    "dicom": (bytes(128) + b"DICM" + bytes(99), "DICOM"),
    "html": (b"\r\n<!DOCTYPE "
             b"html><html><head><title>404</title>", "HTML page.*fetch the file again"),
    "json": (b'{"error": "no such key"}', "JSON text.*fetch the file again"),
    "xml": (b"<?xml version='1.0'?><Error><Code>AccessDenied</Code></Error>", "XML text.*fetch the file again"),
    "lfs": (b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize "
            b"9\n", "Git LFS.*git lfs pull"),
    "zeros": (bytes(5_000), "zero bytes only.*fetch the file again"),
    "macos": (b"\0\5\x16\7\0\2\0\0Mac OS X" + bytes(99), "AppleDouble"),
    "64-bit floats": (tiff(GREY, bits=64, sample_format=3), "1 band of 64-bit floating point, grey, no compression.*gdal_tr"),
    "two bands of 16 "
    "bits": (tiff(np.repeat(GREY[..., None], 2, 2), bits=16, extra=(0,)), "2 bands of 16-bit.*-b 1 IN"),
    "13 bands": (tiff(np.repeat(GREY[..., None], 13, 2), extra=(0,) * 12), "13 bands of 8-bit unsigned.*-b 3 -b 2 -b 1"),
    "four grey "
    "bands": (tiff(np.repeat(GREY[..., None], 4, 2), extra=(0,) * 3), "4 bands of 8-bit.*choose red, green and blue"),
    "cr2 with a "
    "preview": (tiff(GREY)[:8] + b"CR\2\0" + tiff(GREY)[12:], r"camera RAW file \(Canon " r"CR2\).*dcraw"),
    "compressed planes of 16 bits": (
        tiff(np.repeat(GREY[..., None], 3, 2), bits=16, photometric=2, planes=True, deflate=True),
        "16-bit bands stored .*tiffcp",
    ),
    "four planes of 16 bits": (
        tiff(np.repeat(GREY[..., None], 4, 2), bits=16, photometric=2, planes=True, extra=(2,)),
        "16-bit bands stored .*tiffcp",
    ),
    "lerc": (tiff(GREY).replace(struct.pack("<HHII", 259, 3, 1, 1), struct.pack("<HHII", 259, 3, 1,
    34887)), "LERC.*tiffcp"),
    "12-bit jpeg": (saved("JPEG").replace(b"\xff\xc0\0\x11\x08", b"\xff\xc1\0\x11\x0c"),
    "JPEG of 12 bits.*gdal_translate"),
    "jpeg-ls": (b"\xff\xd8\xff\xf7\0\x0b\x08\0\x08\0\x08\1\1\x11\0" + bytes(50), "JPEG-LS"),
    "head of a png": (b"\x89PNG\r\n\x1a\n", "begins like a PNG file.*fetch the file again"),
}  # fmt: skip


@pytest.mark.parametrize("case", FOREIGN)
def test_what_is_no_image_is_named_with_what_to_run(case: str, tmp_path: Path) -> None:
    data, words = FOREIGN[case]
    path = tmp_path / "photo.jpg"
    path.write_bytes(data)
    with pytest.raises(InvalidInput, match=words) as caught:
        decode_image(path)
    assert "\n" not in str(caught.value)
    assert str(caught.value).startswith(f"{path}: ")


TORN: dict[str, Callable[[], bytes]] = {
    "jpeg": lambda: saved("JPEG", quality=95)[:-2_000],
    "progressive jpeg": lambda: saved("JPEG", quality=95, progressive=True)[:-2_000],
    "png": lambda: saved("PNG", compress_level=1)[:-2_000],
    "png of a palette": lambda: _palette()[:-600],
    "deep png": lambda: png(np.asarray(PICTURE.convert("L")).astype(int) * 16)[:-2_000],
}


def _palette() -> bytes:
    out = io.BytesIO()
    PICTURE.convert("P").save(out, "PNG")
    return out.getvalue()


@pytest.mark.parametrize("case", TORN)
def test_a_torn_file_is_taken_when_asked(case: str) -> None:
    data = TORN[case]()
    with pytest.raises(InvalidInput, match=r"its last bytes are missing.*accept_truncated"):
        decode_image(data)
    decoded = decode_image(data, ImageLimits(accept_truncated=True))
    top = np.asarray(decoded.image, float)[:96]
    expected = np.asarray(
        PICTURE.convert("L").convert("RGB") if "deep" in case else PICTURE, float
    )[:96]
    assert np.abs(top - expected).mean() < (20 if "palette" in case else 12)
    assert decoded.remarks[-1].what.startswith("cut off before the end")
    with Image.open(io.BytesIO(data)) as lazy:
        assert (
            decode_image(lazy, ImageLimits(accept_truncated=True)).image.tobytes()
            == decoded.image.tobytes()
        )


def test_a_torn_file_costs_no_more_than_a_whole_one() -> None:
    data = TORN["png"]()
    with pytest.raises(InvalidInput, match="decoding it takes about"):
        decode_image(data, ImageLimits(accept_truncated=True, max_memory=300_000))
    with pytest.raises(InvalidInput, match="before its first pixels"):
        decode_image(saved("PNG")[:60], ImageLimits(accept_truncated=True))
    with pytest.raises(InvalidInput, match="damaged"):  # not torn: nothing to complete
        decode_image(saved("BMP")[:-999], ImageLimits(accept_truncated=True))


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A home with a space "s" of the demo's encoders, and one label."""
    home = tmp_path_factory.mktemp("files") / "home"
    with trustvlm.open(home, create=True) as service:
        service.create_space(
            "s", classifier=classifier_spec(), verifier=verifier_spec(), templates=list(TEMPLATES)
        )
        service.register("s", [LabelInput("four", images=[PICTURE])])
    return home


def deep(scale: int) -> bytes:
    return png(np.asarray(PICTURE.convert("L")).astype(int) * scale)


def test_service_and_client_read_and_say_the_same(home: Path) -> None:
    images = [deep(16), deep(16), deep(4), Image.open(io.BytesIO(deep(16)))]
    with application(home) as app, client_of(app) as client:
        service = app.state.serving.service
        for verbs in (service, client):
            found = verbs.embed("s", images)
            assert found.notes == (
                "4 images of 16 bit: values stretched to 0–255, each image by its own range "
                "within 0–4095",
            )
            fixed = verbs.embed("s", images, image_range=(0, 4095))
            assert fixed.notes == ("4 images of 16 bit: values 0–4095 stretched to 0–255",)
            assert (
                np.abs(np.asarray(found.queries.verifier) - np.asarray(fixed.queries.verifier))[
                    2
                ].max()
                > 1e-3
            )
            verdicts = verbs.score("s", Queries(images=images, image_range=(0, 4095)))
            assert verdicts.notes == fixed.notes
            assert verbs.search("s", Queries(images=images[:1])).notes == (
                "1 image of 16 bit: values 0–4095 stretched to 0–255",
            )
            known = Queries(images=[deep(16), deep(4)], image_range=(0, 4095)), ["four", "four"]
            noted = ("2 images of 16 bit: values 0–4095 stretched to 0–255",)
            assert verbs.evaluate("s", *known, draws=0, rules=["msp"]).notes == noted
            assert verbs.calibrate("s", *known, rule="msp").notes == noted
            assert verbs.feedback("s", *known).notes == noted
            assert all(stored.notes == () for stored in verbs.list_calibrations("s"))
            torn = Queries(images=[TORN["jpeg"]()], accept_truncated=True)
            assert verbs.score("s", torn).notes[0].startswith("1 image cut off before the end")
            with pytest.raises(InvalidInput, match="accept_truncated"):
                verbs.score("s", Queries(images=torn.images))
            with pytest.raises(InvalidInput, match="image_range: expected two numbers"):
                verbs.embed("s", images, image_range=(9, 1))
        made = client.register(
            "s",
            [LabelInput(f"by {i}", images=[deep(16 + i)]) for i in range(2)],
            image_range=(0, 9000),
        )
        assert made.notes == ("2 images of 16 bit: values 0–9000 stretched to 0–255",)
        assert (
            client.add_support("s", "by 0", images=[deep(30)])
            .notes[0]
            .startswith("1 image of 16 bit: values 0–")
        )


def test_how_files_are_read_is_refused_without_files(home: Path) -> None:
    from fastapi.testclient import TestClient

    with application(home) as app:
        told = TestClient(app, base_url="http://127.0.0.1").post(
            "/v1/spaces/s/score", json={"classifier": [[1.0] * 32], "image_range": [0, 4095]}
        )
    assert told.status_code == 422
    assert "image_range: applies to image files" in told.json()["error"]["message"]


def test_notes_of_several_requests_are_those_of_one() -> None:
    a = "1 image of 16 bit: values 0–4095 stretched to 0–255"
    b = "1,200 images of 16 bit: values 10–900 stretched to 0–255"
    assert merged_notes([a, a]) == ("2 images of 16 bit: values 0–4095 stretched to 0–255",)
    assert merged_notes([a, b]) == (
        "1,201 images of 16 bit: values stretched to 0–255, each image by its own range "
        "within 0–4095",
    )
    assert merged_notes(["1 image of a single colour: x", "2 images of a single colour: y, z"]) == (
        "3 images of a single colour: x, y, z",
    )


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for i in range(6):
        (tmp_path / f"{i}.jpg").write_bytes(box(b"heic", b"heic"))
    for i in range(2):
        (tmp_path / f"deep{i}.png").write_bytes(deep(16))
    (tmp_path / "torn.jpg").write_bytes(TORN["jpeg"]())
    return tmp_path


def test_the_command_line_groups_and_speaks_of_options(
    home: Path, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    lists = folder / "lists"
    lists.mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(lists))
    cli = Cli(home)
    told = cli.run("score", "s", folder).stderr.splitlines()
    (written,) = lists.glob("trustvlm-unreadable-*.tsv")
    names = ", ".join(str(folder / f"{i}.jpg") for i in range(3))
    assert told[0].startswith("6 images could not be read: is a HEIC or HEIF photograph")
    assert told[0].endswith(f"({names} and 3 more)")
    assert told[1].startswith(f"could not be read: {folder}/torn.jpg: ")
    assert told[1].endswith("or read the part that is there with --accept-truncated")
    assert told[2:] == [
        f"all 7 with their reasons: {written}",
        "note: 2 images of 16 bit: values 0–4095 stretched to 0–255",
        "7 images of 9 could not be read",
    ]
    assert [line.split("\t")[0] for line in written.read_text("utf-8").splitlines()].count(
        f"{folder}/torn.jpg"
    ) == 1
    taken = cli.run(
        "score",
        "s",
        folder / "torn.jpg",
        folder / "deep0.png",
        "--accept-truncated",
        "--range",
        "0,8191",
    ).stderr
    assert taken.splitlines() == [
        f"note: 1 image cut off before the end, the missing part filled: {folder}/torn.jpg",
        "note: 1 image of 16 bit: values 0–8191 stretched to 0–255",
    ]
    for wrong in ("4095", "9,1", "0,x", "0,nan"):
        assert "expected LOW,HIGH" in cli.run("score", "s", folder, "--range", wrong, code=2).stderr
