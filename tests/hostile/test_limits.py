"""How much a call, a name, a settings file or a home's settings may ask for: each limit says what
it is and what arrived."""

from __future__ import annotations

import itertools
import os
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from checkpoints import make_clip
from fuzz.seeds import picture, saved
from worlds import IMAGE_DIM, TEXT_DIM, World, make_space

import trustvlm
from trustvlm import LabelInput, Queries
from trustvlm.errors import InvalidInput
from trustvlm.reading.image_files import ImageLimits
from trustvlm.service.home.home import CallLimits
from trustvlm.service.home.names import MAX_NAME, MAX_PROMPT
from trustvlm.service.registration.spaces import MAX_TEMPLATES
from trustvlm.settings import Settings
from trustvlm.system.files.toml_file import MAX_TOML_BYTES


def low(tmp_path: Path, **limits: int) -> trustvlm.TrustService:
    """A home whose settings are lower than the defaults."""
    home = tmp_path / "home"
    home.mkdir()
    (home / "trustvlm.toml").write_text(
        "".join(f"{name} = {value}\n" for name, value in limits.items())
    )
    return trustvlm.open(home, create=True)


LONG = ["{}" + "x" * MAX_PROMPT]


def labels(*counts: int) -> list[LabelInput]:
    return [
        LabelInput(
            f"l{i}",
            text_vector=np.eye(TEXT_DIM)[i],
            image_vectors=np.random.default_rng(i).normal(size=(n, IMAGE_DIM)) if n else None,
        )
        for i, n in enumerate(counts)
    ]


def test_each_limit_of_a_call_is_a_setting(tmp_path: Path) -> None:
    with low(tmp_path, max_labels=3, max_supports=5, max_queries=4, max_images=2) as service:
        make_space(service)
        service.register("s", labels(2, 2, 1))
        for call, words in (
            (
                lambda: service.register("s", labels(0, 0, 0, 0)),
                "at most 3 labels in one call .setting max_labels., got more",
            ),
            (
                lambda: service.register("s", labels(3, 3)),
                "at most 5 supports in one call .setting max_supports., got 6",
            ),
            (
                lambda: service.add_support("s", "l0", image_vectors=np.ones((6, IMAGE_DIM))),
                "max_supports",
            ),
            (
                lambda: service.score("s", Queries(np.ones((5, TEXT_DIM))), rule="msp"),
                "at most 4 queries .* got 5",
            ),
            (lambda: service.search("s", Queries(verifier=np.ones((5, IMAGE_DIM)))), "max_queries"),
            (
                lambda: service.evaluate("s", Queries(np.ones((5, TEXT_DIM))), ["l0"] * 5),
                "max_queries",
            ),
        ):
            with pytest.raises(InvalidInput, match=words):
                call()
        assert len(service.score("s", Queries(np.ones((4, TEXT_DIM))), rule="msp")) == 4
        assert service.get_space("s").revision == 1


def test_images_and_texts_in_a_call(tmp_path: Path) -> None:
    images = {"max_image_bytes": 5_000, "max_image_pixels": 1_200, "max_image_memory": 9_600}
    with low(tmp_path, max_images=2, max_queries=2, **images) as service:
        service.create_space("s", classifier=make_clip(tmp_path / "clip"))
        image = saved(picture(), "PNG")
        with pytest.raises(InvalidInput, match="max_images"):
            service.register(
                "s", [LabelInput("a", images=[image, image]), LabelInput("b", images=[image])]
            )
        with pytest.raises(InvalidInput, match="max_images"):
            service.embed("s", [image] * 3)
        with pytest.raises(InvalidInput, match="max_images"):
            service.score("s", Queries(images=[image] * 3))
        with pytest.raises(InvalidInput, match="max_queries"):
            service.search("s", Queries(text=itertools.repeat("x")), kind="text")  # type: ignore[arg-type]
        service.register("s", [LabelInput("a", images=[image])])
        for other, words in (
            (saved(picture(41, 30), "PNG"), "41×30 = 1230 pixels, more than the limit of 1200"),
            (saved(picture(), "PNG") + bytes(5_000), "bytes, more than the limit of 5000"),
            (saved(picture(), "WEBP"), "takes about 24000 bytes, more than the limit of 9600"),
        ):
            ((_, reason),) = service.embed("s", [other]).failures
            assert words in reason
        for text, words in (
            ("x" * (MAX_PROMPT + 1), "at most 5000 characters, got 5001"),
            ("a\ud800", "U[+]D800"),
            ("\0", "U[+]0000"),
            (" ", "non-empty"),
        ):
            with pytest.raises(InvalidInput, match=words):
                service.search("s", Queries(text=[text]), kind="text")
            with pytest.raises(InvalidInput, match=r"prompt|character"):
                service.register("s", [LabelInput("p", prompt=text)])
        assert service.search("s", Queries(text=["two\nlines"]), kind="text").ids.shape == (1, 10)


def test_an_endless_call_is_left_at_the_limit(tmp_path: Path) -> None:
    with low(tmp_path, max_labels=1_000) as service:
        make_space(service)
        with pytest.raises(InvalidInput, match="max_labels"):
            service.register(
                "s", (LabelInput(f"l{i}", text_vector=np.ones(TEXT_DIM)) for i in itertools.count())
            )


@pytest.mark.parametrize(("templates", "words"), [
    (["a {}"] * (MAX_TEMPLATES + 1), "1 to 1000, got 1001"), ([], "1 to 1000"),
    (LONG, "at most 5000 characters each, got 5002"),
    (["no place"], "where the name "
                   "goes"), (["{}\u202e"], "U[+]202E"), (["{}\0"], "U[+]0000"), (["{}\ud800"],
                   "U[+]D800"),
    ([b"{}"], "list of strings, got a bytes"),
    ("{}", "expected a list of strings"), ([3], "list of strings, got an int"),
])  # fmt: skip
def test_templates(service: trustvlm.TrustService, templates: object, words: str) -> None:
    with pytest.raises(InvalidInput, match=words):
        make_space(service, templates=templates)


@pytest.mark.parametrize(
    "spec",
    ["precomputed:0", "precomputed:99999999", "precomputed:-1", "precomputed:9" + "9" * 5_000],
)
def test_dimensions(service: trustvlm.TrustService, spec: str) -> None:
    with pytest.raises(InvalidInput, match="dimension must be from 1 to"):
        service.create_space("s", classifier=spec)


@pytest.mark.parametrize("call", [
    lambda s: s.score("s", Queries(np.ones((1, TEXT_DIM))), rule="msp", top_k=10**9),
    lambda s: s.search("s", Queries(verifier=np.ones((1, IMAGE_DIM))), k=10**9),
    lambda s: s.score("s", Queries(np.ones((1, TEXT_DIM, 1))), rule="msp"),
    lambda s: s.score("s", Queries(np.float64(3)), rule="msp"),
    lambda s: s.score("s", Queries(np.ones((1, TEXT_DIM), complex)), rule="msp"),
    lambda s: s.score("s", Queries(np.full((1, TEXT_DIM), 1e300)), rule="msp"),
    lambda s: s.score("s", Queries(np.full((1, TEXT_DIM), 1e-320)), rule="msp"),
    lambda s: s.score("s", Queries(np.ones((1, TEXT_DIM))), rule="trustvlm",
    params={"lambda": float("inf")}),
    lambda s: s.score("s", Queries(np.ones((1, TEXT_DIM))), rule="x" * 10**6),
])  # fmt: skip
def test_arguments_out_of_bounds(
    service: trustvlm.TrustService, world: World, call: Callable[[trustvlm.TrustService], object]
) -> None:
    make_space(service)
    service.register("s", world.inputs(1))
    with pytest.raises(InvalidInput):
        call(service)


def test_vectors_of_odd_layouts_are_the_vectors_they_are(
    service: trustvlm.TrustService, world: World
) -> None:
    """Fortran order, other byte order, negative strides, half and long doubles, denormals beside
    ones."""
    make_space(service)
    service.register("s", world.inputs(2))
    plain = (
        np.random.default_rng(3).normal(size=(5, TEXT_DIM)).astype(np.float16).astype(np.float64)
    )
    expected = service.score("s", Queries(plain), rule="msp").trust
    flipped = np.ascontiguousarray(plain[::-1, ::-1])[::-1, ::-1]
    layouts = [
        np.asfortranarray(plain),
        plain.astype(">f4"),
        plain.astype(">f8"),
        flipped,
        plain.astype(np.float16),
        plain.astype(np.longdouble),
    ]
    assert flipped.strides[0] < 0
    for layout in layouts:
        np.testing.assert_allclose(
            service.score("s", Queries(layout), rule="msp").trust, expected, atol=1e-6
        )
    tiny = np.eye(1, TEXT_DIM) * 1e-40  # a denormal float32 still has a direction
    assert np.isfinite(service.score("s", Queries(tiny), rule="msp").trust).all()


# Settings


@pytest.mark.parametrize(("content", "words"), [
    (b"a" * (MAX_TOML_BYTES + 1), f"at most {MAX_TOML_BYTES} bytes"),
    (b"a = " + b"[" * 8_000, "nested too deep|Invalid"),
    (b"workers = " + b"[" * 400 + b"]" * 400, "workers"),
    (b"workers = " + b"{a=" * 900 + b"1" + b"}" * 900, "workers|nested"),
    (b"\xff\xfe", "utf-8"),
    (b"\0", "trustvlm.toml"),
    (b"batch_size = ", "trustvlm.toml"),
    (b"batch_size = " + b"9" * 9_000, "batch_size|digits"),
    (b"batch_size = '" + b"9" * 9_000 + b"'", "batch_size"),
    (b"batch_size = nan", "batch_size"),
    (b"undo_hours = inf", "undo_hours"),
    (b"undo_hours = nan", "undo_hours"),
    (b"undo_hours = 1e300", "undo_hours"),
    (b"max_images = 0", "max_images"),
    (b"max_image_memory = -1", "max_image_memory"),
    (b"no_such_setting = 1", "no_such_setting"),
    (b"batch_size = 1\nbatch_size = 2", "trustvlm.toml"),
    (b"[batch_size]\na = 1", "batch_size"),
    (b"'" + b"k" * 9_000 + b"' = 1", "kkk"),
])  # fmt: skip
def test_settings_files_that_cannot_be_right(tmp_path: Path, content: bytes, words: str) -> None:
    (tmp_path / "trustvlm.toml").write_bytes(content)
    with pytest.raises(InvalidInput, match=words) as caught:
        trustvlm.open(tmp_path, create=True)
    assert len(str(caught.value).replace(str(tmp_path), "")) < 600


@pytest.mark.parametrize("make", [
    lambda path: path.mkdir(), os.mkfifo, lambda path: path.symlink_to("/dev/zero"),
    lambda path: path.symlink_to("nothing"),
    lambda path: path.symlink_to(path.name),
], ids=["folder", "pipe", "device", "dangling", "loop"])  # fmt: skip
def test_settings_that_are_no_file(tmp_path: Path, make: Callable[[Path], object]) -> None:
    make(tmp_path / "trustvlm.toml")
    with pytest.raises(InvalidInput, match="expected a file of settings"):
        Settings.of(tmp_path)


@pytest.mark.parametrize(
    ("value", "words"),
    [
        ('{"snapshot_row": 3}', "'thresholds.snapshot_row' .argument, TRUSTVLM_THRESHOLDS or"),
        ('{"snapshot_rows": 0}', "'thresholds.snapshot_rows' .* greater than or equal to 1, got 0"),
        ("3 rows", "TRUSTVLM_THRESHOLDS: expected JSON: "),
        ("[" * 9_000, "TRUSTVLM_THRESHOLDS: expected JSON: "),
    ],
)
def test_thresholds_that_cannot_be_right(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, value: str, words: str
) -> None:
    monkeypatch.setenv("TRUSTVLM_THRESHOLDS", value)
    with pytest.raises(InvalidInput, match=words):
        trustvlm.open(tmp_path / "home", create=True)


def test_settings_may_come_through_a_link(tmp_path: Path) -> None:
    (tmp_path / "elsewhere").write_text("max_labels = 7\n")
    (tmp_path / "trustvlm.toml").symlink_to("elsewhere")
    assert Settings.of(tmp_path).max_labels == 7


def test_environment_beyond_the_limits(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in (
        ("UNDO_HOURS", "1e400"),
        ("MAX_LABELS", "0"),
        ("MAX_IMAGE_BYTES", "1" * 5_000),
        ("WORKERS", "\udcff"),
    ):
        with monkeypatch.context() as patch:
            patch.setenv(f"TRUSTVLM_{name}", value)
            with pytest.raises(InvalidInput, match=name.lower()):
                Settings.of(tmp_path)


def test_the_defaults_are_those_of_the_library() -> None:
    fields, limits = Settings.model_fields, CallLimits()
    for kind in ("labels", "supports", "images", "queries"):
        assert fields[f"max_{kind}"].default == getattr(limits, kind)
    images = ImageLimits()
    assert (fields["max_image_bytes"].default, fields["max_image_pixels"].default) == (
        images.max_bytes,
        images.max_pixels,
    )
    assert fields["max_image_memory"].default == images.max_memory
    assert MAX_NAME == 500
