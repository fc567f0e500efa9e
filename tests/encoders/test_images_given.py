"""Images as callers have them: folders, paths, files, bytes, PIL images and iterators of these, to
the library and through the client."""

from __future__ import annotations

import io
import re
import weakref
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pytest
import torch
from checkpoints import make_clip, make_timm
from PIL import Image
from served_client import application, client_of

import trustvlm
from trustvlm import InvalidInput, LabelInput, NotFound, Queries

COLOURS = {"blue": (40, 40, 200), "green": (40, 200, 40), "red": (200, 40, 40)}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three pictures of each colour, and a file that is none."""
    root, rng = tmp_path_factory.mktemp("pictures"), np.random.default_rng(0)
    for name, colour in COLOURS.items():
        (root / name).mkdir()
        for i in range(3):
            pixels = np.clip(rng.normal(colour, 40, size=(48, 56, 3)), 0, 255).astype(np.uint8)
            Image.fromarray(pixels).save(root / name / f"{i}.png")
    (root / "notes.txt").write_text("none")
    (root / "empty").mkdir()
    return root


@pytest.fixture(
    scope="module",
    params=["library", pytest.param("client", marks=pytest.mark.slow)],  # tests/client has it, too
)
def service(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory, folder: Path
) -> Iterator[Any]:
    """A space of the three colours, with two support images each."""
    where = tmp_path_factory.mktemp("home")
    classifier = make_clip(where / "clip")
    verifier = make_timm(where / "verifier.safetensors")
    with ExitStack() as stack:
        if request.param == "library":
            opened: Any = stack.enter_context(trustvlm.open(where / "home", create=True, workers=0))
            opened.create_space("colours", classifier=classifier, verifier=verifier)
        else:
            with trustvlm.open(where / "home", create=True, workers=0) as local:
                local.create_space("colours", classifier=classifier, verifier=verifier)
            app = stack.enter_context(application(where / "home"))
            opened = stack.enter_context(client_of(app))
        opened.register("colours", {name: [folder / name / "0.png"] for name in COLOURS})
        yield opened


def paths(folder: Path) -> list[Path]:
    return [folder / name / f"{i}.png" for name in COLOURS for i in range(3)]


def decoded(path: Path) -> Image.Image:
    with Image.open(path) as image:
        return image.copy()


@pytest.fixture
def files() -> Iterator[list[Any]]:
    """What a test opened; closed after it."""
    opened: list[Any] = []
    yield opened
    for file in opened:
        file.close()


GIVEN: dict[str, Any] = {
    "a folder": lambda folder: str(folder),
    "a folder's Path": lambda folder: folder,
    "a list of paths": paths,
    "a tuple of strings": lambda folder: tuple(map(str, paths(folder))),
    "a generator of PIL images": lambda folder: (decoded(path) for path in paths(folder)),
    "bytes": lambda folder: [path.read_bytes() for path in paths(folder)],
    "files": lambda folder: [path.open("rb") for path in paths(folder)],
    "files in memory": lambda folder: [io.BytesIO(path.read_bytes()) for path in paths(folder)],
    "a column of pandas": lambda folder: pd.Series(map(str, paths(folder))),
    "a column of pyarrow": lambda folder: pa.array(list(map(str, paths(folder)))),
    "an array of strings": lambda folder: np.array(list(map(str, paths(folder)))),
}


@pytest.fixture(scope="module")
def expected(service: Any, folder: Path) -> trustvlm.Verdicts:
    """Verdicts on the paths of the pictures."""
    verdicts: trustvlm.Verdicts = service.score("colours", Queries(images=paths(folder)))
    return verdicts


@pytest.mark.parametrize("given", GIVEN)
def test_images_are_queries(
    service: Any, folder: Path, expected: trustvlm.Verdicts, files: list[Any], given: str
) -> None:
    images = GIVEN[given](folder)
    files += images if given == "files" else []
    verdicts = service.score("colours", images)
    assert verdicts.nearest_prototype.tolist() == [name for name in COLOURS for _ in range(3)]
    np.testing.assert_allclose(verdicts.trust, expected.trust, atol=1e-9)
    assert expected.source.tolist() == list(map(str, paths(folder)))
    unnamed = {"PIL": "image", "memory": "bytes", "bytes": "bytes"}
    if kind := next((unnamed[word] for word in unnamed if word in given), None):
        assert verdicts.source.tolist() == [f"<{kind} {i}>" for i in range(9)]
    else:
        assert verdicts.source.tolist() == expected.source.tolist()


ONE: dict[str, Any] = {
    "a path": lambda path: str(path),
    "a Path": lambda path: path,
    "bytes": lambda path: path.read_bytes(),
    "a bytearray": lambda path: bytearray(path.read_bytes()),
    "a PIL image": decoded,
    "a file in memory": lambda path: io.BytesIO(path.read_bytes()),
}


@pytest.mark.parametrize("given", ONE)
def test_one_image_is_a_query(service: Any, folder: Path, given: str) -> None:
    verdicts = service.score("colours", ONE[given](folder / "red" / "1.png"))
    assert verdicts.nearest_prototype.tolist() == ["red"]


def test_sources_name_the_rows(service: Any, folder: Path) -> None:
    verdicts = service.score("colours", folder / "green")
    names = [str(folder / "green" / f"{i}.png") for i in range(3)]
    assert [one.source for one in verdicts] == names
    assert verdicts[1:].source.tolist() == names[1:]
    assert verdicts.to_pandas().index.tolist() == names
    assert verdicts.to_arrow().column_names[0] == "source"
    assert "source" in repr(verdicts)
    queries = service.embed("colours", names).queries
    assert service.score("colours", queries).source is None


def test_other_verbs_take_images(service: Any, folder: Path) -> None:
    hits = service.search("colours", paths(folder), k=1)
    truth = [name for name in COLOURS for _ in range(3)]
    assert hits.labels[:, 0].tolist() == truth
    evaluation = service.evaluate("colours", folder, truth, rules=["msp"], draws=0)
    assert evaluation.images + evaluation.supports == 9
    with pytest.raises(InvalidInput, match="may be a text or a path"):
        service.search("colours", "a red square")


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (np.ones((2, 16)), r"got ndarray; say which encoder .* trustvlm.Queries\(classifier=array"),
        (torch.ones(2, 16), "got Tensor; say which encoder"),
        ([[0.5, 1.0]], "got list; say which encoder"),
        ([np.ones(16)], "say which encoder"),
        (lambda: (np.ones(16) for _ in range(2)), "say which encoder"),
        (pd.DataFrame(np.ones((2, 16))), "say which encoder"),
        (pa.array([[0.5, 1.0]]), "say which encoder"),
        (np.ones((8, 8, 3), np.uint8), "PIL.Image.fromarray"),
        ({"red": []}, "expected trustvlm.Queries"),
        (3, "got int"),
        (io.StringIO("text"), "open as text"),
        ([3.5], "say which encoder"),
        ([object()], "expected a path, bytes or a PIL image"),
        ([np.ones((8, 8, 3), np.uint8)], "PIL.Image.fromarray"),
        (torch.ones(3, 8, 8), "PIL.Image.fromarray"),
        ([("a.png", "red")], r"got tuple; pass one flat list .* \[image for image, label in pairs"),
        ([{"image": "a.png"}], r"got dict; .* \[row\['image'\] for row in rows\]"),
        (lambda: pa.table({"image": ["a.png"]}).to_reader(), r"reader.read_all\(\)"),
        (
            lambda: pl.LazyFrame({"image": ["a.png"]}),
            r"got the plan of one, a LazyFrame; call .col",
        ),
    ],
    ids=lambda value: type(value).__name__ if not isinstance(value, str) else "",
)
def test_what_is_no_image_is_refused(service: Any, given: Any, message: str) -> None:
    with pytest.raises(InvalidInput, match=message):
        service.score("colours", given() if callable(given) else given)


def test_folders_that_cannot_be(service: Any, folder: Path) -> None:
    with pytest.raises(InvalidInput, match=r"no images in the folder .*empty"):
        service.score("colours", folder / "empty")
    with pytest.raises(NotFound, match="no file or folder"):
        service.score("colours", str(folder / "nothing.png"))


@pytest.mark.parametrize(
    ("path", "remedy"),
    [
        ("https://example.org/a.png", "addresses are not fetched: download the file"),
        ("s3://bucket/a.png", "addresses are not fetched"),
        ("file:///tmp/a.png", "pass the path without 'file://'"),
        ("~/no such folder/a.png", "'~' is not expanded"),
        ("photos/*.png", "a pattern is no path"),
    ],
)
def test_what_is_no_path_says_what_to_pass(service: Any, path: str, remedy: str) -> None:
    """Alone, and in a list, whose images are read one after the other."""
    with pytest.raises(NotFound, match=re.escape(remedy)):
        service.score("colours", path)
    with pytest.raises(InvalidInput, match=re.escape(remedy)):
        service.score("colours", [path])


def test_a_mapping_registers_labels(service: Any, folder: Path) -> None:
    before = service.get_space("colours")
    vectors = service.embed("colours", [folder / "red" / "2.png"]).queries.verifier
    done = service.register(
        "colours",
        {
            "dark blue": folder / "blue",
            "light green": (decoded(folder / "green" / f"{i}.png") for i in (1, 2)),
            "dark red": vectors,
            "no pictures": None,
        },
        dry_run=False,
    )
    assert (done.added_labels, done.added_supports) == (4, 6)
    assert service.get_space("colours").label_count == before.label_count + 4
    for name in ("dark blue", "light green", "dark red", "no pictures"):
        service.remove_label("colours", name)
    for bad in ({"x": LabelInput("x")}, {"x": 3}, {3: []}):
        with pytest.raises(InvalidInput):
            service.register("colours", bad)


def test_what_cannot_be_read_is_refused_or_named(
    service: Any, folder: Path, tmp_path: Path
) -> None:
    """One broken file among many loses nothing, and no measurement leaves it out silently."""
    (tmp_path / "broken.png").write_bytes((folder / "red" / "1.png").read_bytes()[:200])
    good = [folder / "red" / "1.png", folder / "blue" / "2.png"]
    images = [good[0], tmp_path / "broken.png", tmp_path / "gone.png", good[1], b""]
    sources = [str(tmp_path / "broken.png"), str(tmp_path / "gone.png"), "<bytes 4>"]
    reasons = "damaged|truncated|No such file|empty"
    for given in (images, iter(images)):
        verdicts = service.score("colours", given, on_error="skip")
        assert verdicts.source.tolist() == list(map(str, good))
        assert [one.source for one in verdicts.failures] == sources
        assert all(re.search(reasons, one.reason) for one in verdicts.failures)
        assert [one.label for one in verdicts] == service.score("colours", good).label.tolist()
        assert "3 images could not be read" in repr(verdicts)
    hits = service.search("colours", images, on_error="skip")
    assert (len(hits), [one.source for one in hits.failures]) == (2, sources)
    truth = ["red", "green", "green", "blue", "green"]
    names = ["a", "b", "c", "d", "e"]
    evaluation = service.evaluate(
        "colours", images, truth, sources=names, rules=["msp"], draws=0, items=True,
        on_error="skip",
    )  # fmt: skip
    assert [(one.source, one.truth) for one in evaluation.items] == [("a", "red"), ("d", "blue")]
    assert [one.source for one in evaluation.failures] == sources
    calibration = service.calibrate("colours", images, truth, on_error="skip")
    assert (calibration.images, len(calibration.failures)) == (2, 3)
    nothing = service.score("colours", images[1:3], on_error="skip")
    assert (len(nothing), len(nothing.failures)) == (0, 2)
    for call in (
        lambda **how: service.score("colours", images, **how),
        lambda **how: service.search("colours", images, **how),
        lambda **how: service.evaluate("colours", images, truth, **how),
        lambda **how: service.calibrate("colours", images, truth, **how),
    ):
        with pytest.raises(InvalidInput, match=r"broken.png: .*\(3 of 5 cannot be read; on_error="):
            call()
        with pytest.raises(InvalidInput, match="on_error: expected"):
            call(on_error="ignore")


def test_of_a_stream_few_images_are_in_memory(service: Any) -> None:
    most = 0
    alive: list[weakref.ref[Image.Image]] = []

    def stream() -> Iterator[Image.Image]:
        nonlocal most
        for i in range(120):
            image = Image.new("RGB", (32, 32), (i, 80, 255 - i))
            alive.append(weakref.ref(image))
            most = max(most, sum(one() is not None for one in alive))
            yield image

    for verb in (service.score, service.search):
        assert len(verb("colours", stream())) == 120
        assert most < 100
