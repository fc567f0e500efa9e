"""Spaces with real encoders: images and names in, verdicts out, through the real loading code on
small checkpoints."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from checkpoints import make_clip, make_timm
from cli_runner import Cli
from PIL import Image
from thresholds import set_thresholds
from worlds import assert_same_verdicts

import trustvlm
from trustvlm import LabelInput, Queries

PHOTOS = (
    Path(
        os.environ.get(
            "TRUSTVLM_EVAL_DATA", Path(__file__).resolve().parents[3] / "shared" / "data"
        )
    )
    / "photos"
)


@pytest.fixture(scope="module")
def specs(tmp_path_factory: pytest.TempPathFactory) -> tuple[str, str]:
    folder = tmp_path_factory.mktemp("checkpoints")
    return make_clip(folder / "clip"), make_timm(folder / "verifier.safetensors")


@pytest.fixture
def images(tmp_path: Path) -> dict[str, list[Path]]:
    """Three labels of small pictures that differ in colour."""
    rng = np.random.default_rng(0)
    found: dict[str, list[Path]] = {}
    for name, colour in (("red", (200, 40, 40)), ("green", (40, 200, 40)), ("blue", (40, 40, 200))):
        folder = tmp_path / "images" / name
        folder.mkdir(parents=True)
        found[name] = []
        for i in range(4):
            pixels = np.clip(rng.normal(colour, 40, size=(48, 56, 3)), 0, 255).astype(np.uint8)
            path = folder / f"{name}_{i}.png"
            Image.fromarray(pixels).save(path)
            found[name].append(path)
    return found


def open_home(home: Path, **options: object) -> trustvlm.TrustService:
    return trustvlm.open(home, create=True, batch_size=4, **options)  # type: ignore[arg-type]


@pytest.fixture
def service(tmp_path: Path, specs: tuple[str, str]) -> Iterator[trustvlm.TrustService]:
    with open_home(tmp_path / "home") as opened:
        opened.create_space(
            "colours",
            classifier=specs[0],
            verifier=specs[1],
            templates=["a {} square", "a photo of {}"],
        )
        yield opened


def test_images_in_verdicts_out(
    service: trustvlm.TrustService, images: dict[str, list[Path]]
) -> None:
    result = service.register(
        "colours", [LabelInput(name, images=paths[:3]) for name, paths in images.items()]
    )
    assert (result.added_labels, result.added_supports, result.failures) == (3, 9, ())
    held_out = [paths[3] for paths in images.values()]
    verdicts = service.score("colours", Queries(images=held_out))
    assert verdicts.nearest_prototype.tolist() == [
        "red",
        "green",
        "blue",
    ]  # even random weights tell colours apart
    evidence = verdicts.evidence(0, k=3)
    assert {Path(near.source or "").parent.name for near in evidence.label} == {verdicts.label[0]}
    hits = service.search("colours", Queries(images=held_out), kind="support", k=3)
    assert hits.labels[:, 0].tolist() == ["red", "green", "blue"]
    assert hits.sources[0, 0].endswith(".png")
    picture = service.thumbnail(int(hits.ids[0, 0]))
    assert picture is not None
    assert picture.startswith(b"\xff\xd8")


def test_paths_bytes_and_pictures_are_the_same_image(
    service: trustvlm.TrustService, images: dict[str, list[Path]]
) -> None:
    path = images["red"][0]
    queries = [
        Queries(images=[source])
        for source in (path, str(path), path.read_bytes(), Image.open(path))
    ]
    service.register("colours", [LabelInput(name, images=paths) for name, paths in images.items()])
    first, *others = (service.score("colours", query) for query in queries)
    for other in others:
        assert_same_verdicts(first, other)
    again = service.register("colours", [LabelInput("red", images=[path.read_bytes()])])
    assert (again.added_supports, again.skipped_duplicates) == (0, 1)


def test_a_bad_image_is_reported_by_name_and_the_rest_goes_in(
    service: trustvlm.TrustService, images: dict[str, list[Path]]
) -> None:
    folder = images["red"][0].parent
    (folder / "torn.png").write_bytes(images["red"][1].read_bytes()[:200])
    (folder / "empty.jpg").touch()
    bad = [folder / "torn.png", folder / "empty.jpg", folder / "missing.png"]
    result = service.register("colours", [LabelInput("red", images=[*images["red"], *bad])])
    assert (result.added_labels, result.added_supports) == (1, 4)
    assert sorted(Path(source).name for source, _ in result.failures) == [
        "empty.jpg",
        "missing.png",
        "torn.png",
    ]
    assert all(reason for _, reason in result.failures)
    with pytest.raises(trustvlm.InvalidInput, match=r"torn\.png.*1 of 2 cannot be read"):
        service.score("colours", Queries(images=[images["red"][0], bad[0]]))
    embedded = service.embed("colours", [bad[0], images["red"][0]])
    assert (len(embedded.sources), len(embedded.failures)) == (1, 1)


def test_a_new_label_without_a_readable_image_stays_out(
    service: trustvlm.TrustService, images: dict[str, list[Path]]
) -> None:
    bad = images["red"][0].with_name("bad.png")
    bad.write_bytes(b"no image")
    inputs = [LabelInput("ghost", images=[bad]), LabelInput("red", images=[bad, *images["red"]])]
    acknowledged: list[list[str]] = []
    result = service.register("colours", inputs, on_commit=acknowledged.append)
    assert acknowledged == [["red"]]  # what is not there is not acknowledged
    assert (result.added_labels, result.added_supports, len(result.failures)) == (1, 4, 2)
    assert result.label_ids[0] == -1
    assert [row.name for row in service.list_labels("colours")] == ["red"]
    revision = result.revision
    assert (
        service.register("colours", [LabelInput("ghost", images=[bad])]).revision == revision
    )  # nothing was written


def test_an_interrupted_call_is_completed_by_repeating_it(
    tmp_path: Path, specs: tuple[str, str], images: dict[str, list[Path]]
) -> None:
    inputs = [LabelInput(name, images=paths) for name, paths in images.items()]
    with open_home(tmp_path / "whole") as whole, open_home(tmp_path / "torn") as torn:
        for service in (whole, torn):
            service.create_space("s", classifier=specs[0], verifier=specs[1])
        whole.register("s", inputs)
        torn.register("s", [inputs[0], LabelInput("green", images=images["green"][:1])])
        counted: list[int] = []
        result = torn.register("s", inputs, progress=counted.append)
        assert (result.added_labels, result.added_supports, result.skipped_duplicates) == (1, 7, 5)
        assert sum(counted) == 12
        queries = Queries(images=[paths[0] for paths in images.values()])
        assert_same_verdicts(whole.score("s", queries), torn.score("s", queries), tolerance=1e-4)


def test_an_interruption_loses_only_the_images_of_the_transaction_under_way(
    tmp_path: Path, specs: tuple[str, str], images: dict[str, list[Path]]
) -> None:
    inputs = [LabelInput(name, images=paths) for name, paths in images.items()]
    set_thresholds(tmp_path / "home", transaction_images=4)
    encoded, committed = 0, []

    def interrupt(count: int) -> None:
        nonlocal encoded
        encoded += count
        if encoded > 8:
            raise KeyboardInterrupt

    with open_home(tmp_path / "home") as service:
        service.create_space("s", classifier=specs[0], verifier=specs[1])
        with pytest.raises(KeyboardInterrupt):
            service.register("s", inputs, progress=interrupt, on_commit=committed.append)
        assert committed == [["red"], ["green"]]
        assert service.register("s", inputs).added_labels == 1


def test_a_label_removed_by_somebody_else_meanwhile_goes_in_whole(
    service: trustvlm.TrustService, images: dict[str, list[Path]], tmp_path: Path
) -> None:
    service.register("colours", [LabelInput("red", images=images["red"][:2])])
    with trustvlm.open(tmp_path / "home") as other:
        moments = iter([lambda: other.remove_label("colours", "red")])
        result = service.register(
            "colours",
            [LabelInput("red", images=images["red"])],
            progress=lambda _: next(moments, lambda: None)(),
        )
    assert (result.added_labels, result.added_supports, result.skipped_duplicates) == (1, 4, 0)
    assert [(row.name, row.support_count) for row in service.list_labels("colours")] == [("red", 4)]


def test_names_prompts_and_templates_make_the_text(service: trustvlm.TrustService) -> None:
    service.register(
        "colours",
        [
            LabelInput("red"),
            LabelInput("named", prompt="a red square"),
            LabelInput("other", prompt="x {} y"),
        ],
    )
    similar = service.search("colours", Queries(text=["a red square"]), kind="text", k=3)
    by_name = dict(zip(similar.labels[0], similar.similarity[0], strict=True))
    assert by_name["named"] == pytest.approx(1.0, abs=1e-5)
    assert by_name["red"] < 1.0  # the mean of two templates
    with pytest.raises(trustvlm.Conflict, match="has the prompt"):
        service.register("colours", [LabelInput("named", prompt="another")])
    assert (
        service.register("colours", [LabelInput("named", prompt="a red square")]).added_labels == 0
    )
    service.update_label("colours", "red", prompt="a red square")
    assert service.search("colours", Queries(text=["a red square"]), kind="text", k=3).similarity[
        0, 1
    ] == pytest.approx(1.0, abs=1e-5)
    before = service.search("colours", Queries(text=["x sea y"]), kind="text", k=1)
    service.update_label("colours", "other", new_name="sea")
    after = service.search("colours", Queries(text=["x sea y"]), kind="text", k=1)
    assert after.labels[0, 0] == "sea"
    assert after.similarity[0, 0] > before.similarity[0, 0]
    with pytest.raises(trustvlm.InvalidInput, match="not both"):
        service.register("colours", [LabelInput("b", prompt="a b", text_vector=np.ones(8))])


def test_search_support_images_by_text(
    service: trustvlm.TrustService, images: dict[str, list[Path]]
) -> None:
    service.register("colours", [LabelInput(name, images=paths) for name, paths in images.items()])
    hits = service.search("colours", Queries(text=["a red square"]), kind="support", k=12)
    assert (hits.ids >= 0).all()
    assert set(hits.labels[0]) == {"red", "green", "blue"}
    assert (np.diff(hits.similarity[0]) <= 0).all()


def test_verifier_same_encodes_once_and_equals_its_vectors(
    tmp_path: Path, specs: tuple[str, str], images: dict[str, list[Path]]
) -> None:
    with open_home(tmp_path / "same") as service:
        row = service.create_space("s", classifier=specs[0])
        assert row.verifier == "same"
        assert row.verifier_dim == row.classifier_dim
        service.register(
            "s", [LabelInput(name, images=paths[:3]) for name, paths in images.items()]
        )
        pictures = [paths[3] for paths in images.values()]
        by_image = service.score("s", Queries(images=pictures))
        by_vector = service.score("s", service.embed("s", pictures).queries)
        assert_same_verdicts(by_image, by_vector)
        hits = service.search(
            "s", Queries(text=["red"]), kind="prototype", k=3
        )  # one space for texts and prototypes
        assert (hits.ids >= 0).all()


def test_other_weights_under_the_same_name_are_refused(
    tmp_path: Path, images: dict[str, list[Path]]
) -> None:
    spec = make_clip(tmp_path / "clip", seed=0)
    with open_home(tmp_path / "home") as service:
        service.create_space("s", classifier=spec)
        service.register("s", [LabelInput(name, images=paths) for name, paths in images.items()])
    assert make_clip(tmp_path / "clip", seed=1) == spec
    with (
        open_home(tmp_path / "home") as service,
        pytest.raises(trustvlm.Conflict, match="not the one it was made with"),
    ):
        service.score("s", Queries(images=images["red"]))


def test_reduced_precision_stays_close(
    tmp_path: Path, specs: tuple[str, str], images: dict[str, list[Path]]
) -> None:
    with open_home(tmp_path / "home") as service:
        service.create_space("s", classifier=specs[0], verifier=specs[1])
        service.register(
            "s", [LabelInput(name, images=paths[:3]) for name, paths in images.items()]
        )
        exact = service.score("s", Queries(images=images["red"]), rule="image")
    with open_home(tmp_path / "home", precision="bf16") as service:
        close = service.score("s", Queries(images=images["red"]), rule="image")
    np.testing.assert_allclose(close.nearest_similarity, exact.nearest_similarity, atol=0.02)


@pytest.mark.slow  # by default: test_images.py::test_real_photos_through_worker_processes
@pytest.mark.skipif(
    not PHOTOS.is_dir(), reason=f"evaluation photos not found at {PHOTOS} (set TRUSTVLM_EVAL_DATA)"
)
def test_real_photos_on_the_command_line(tmp_path: Path, specs: tuple[str, str]) -> None:
    trustvlm_ = Cli(tmp_path / "home")
    trustvlm_("space", "create", "aerial", "--classifier", specs[0], "--verifier", specs[1])
    assert (
        trustvlm_("register", "aerial", PHOTOS)
        == "registered 19 labels (19 new), 228 support images; revision 1\n"
    )
    assert trustvlm_("register", "aerial", PHOTOS).startswith(
        "nothing new: all 228 support images were there already"
    )
    photo = PHOTOS / "beach" / "beach_01.jpg"
    (row,) = trustvlm_.rows("score", "aerial", photo)
    assert row["source"] == str(photo)
    assert len(row["evidence"]["label"]) == len(row["evidence"]["rival"]) == 3
    assert "beach_01.jpg" in trustvlm_("search", "aerial", "--image", photo, "-k", "1")


@pytest.mark.slow  # by default: test_images.py::test_real_photos_through_worker_processes
@pytest.mark.skipif(
    not PHOTOS.is_dir(), reason=f"evaluation photos not found at {PHOTOS} (set TRUSTVLM_EVAL_DATA)"
)
def test_real_photos_end_to_end(tmp_path: Path, specs: tuple[str, str]) -> None:
    folders = sorted(path for path in PHOTOS.iterdir() if path.is_dir())
    files = {folder.name: sorted(folder.glob("*.jpg")) for folder in folders}
    with open_home(tmp_path / "home") as service:
        service.create_space(
            "aerial",
            classifier=specs[0],
            verifier=specs[1],
            templates=["a satellite photo of a {}."],
        )
        result = service.register(
            "aerial", [LabelInput(name, images=paths) for name, paths in files.items()]
        )
        assert (result.added_labels, result.added_supports, result.failures) == (19, 228, ())
        assert (
            service.register(
                "aerial", [LabelInput(name, images=paths) for name, paths in files.items()]
            ).skipped_duplicates
            == 228
        )
        queries = service.embed("aerial", [paths[0] for paths in files.values()]).queries
        verdicts = service.score("aerial", queries)
        assert len(verdicts) == 19
        assert np.isfinite(verdicts.trust).all()
        hits = service.search("aerial", queries, kind="support", k=1)
        assert hits.labels[:, 0].tolist() == list(
            files
        )  # each photo is its own nearest support image
        np.testing.assert_allclose(hits.similarity[:, 0], 1.0, atol=1e-4)
