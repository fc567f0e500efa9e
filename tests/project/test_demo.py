"""The demo: its data, the models that ship, and the whole run in a fresh home."""

from __future__ import annotations

import shlex
import shutil
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from scipy.stats import binom

import trustvlm
from trustvlm.demo.data import ELEVENTH, LABELS, SUPPORTS, crops, digits_split, draw, label_images
from trustvlm.demo.run import DemoResult, run_demo
from trustvlm.demo.specs import MODELS, SPACE, TEMPLATES, classifier_folder

LEAST_ACCURATE, MOST_ACCURATE = 0.85, 0.95
MOST_BYTES = 8_000_000


@dataclass(frozen=True)
class Demo:
    result: DemoResult
    lines: list[str]


@pytest.fixture(scope="module", autouse=True)
def one_thread() -> Iterator[None]:
    """Models this small only wait for each other's threads."""
    import torch

    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture(scope="module")
def demo(tmp_path_factory: pytest.TempPathFactory) -> Demo:
    """The whole demo, run once; tests that change its home work on a copy."""
    lines: list[str] = []
    return Demo(run_demo(tmp_path_factory.mktemp("demo") / "home", echo=lines.append), lines)


@pytest.fixture
def home(demo: Demo, tmp_path: Path) -> Path:
    return Path(shutil.copytree(demo.result.home, tmp_path / "home"))


def test_the_split_is_fixed_and_its_parts_share_no_image():
    split = digits_split()
    seen = [{scan.tobytes() for scan in part.scans} for part in split.values()]
    assert sum(len(part) for part in seen) == len(set().union(*seen)) == 1797
    assert np.bincount(split["support"].digits).tolist() == [SUPPORTS] * len(LABELS)
    assert len(split["held-out"].scans) >= 500
    digits_split.cache_clear()
    assert all(
        np.array_equal(part.scans, digits_split()[name].scans) for name, part in split.items()
    )


def test_crops_of_different_parts_do_not_overlap():
    def patches(part: str) -> set[bytes]:
        pixels = np.stack([np.asarray(crop) for crop in crops(ELEVENTH, part)])
        windows = np.lib.stride_tricks.sliding_window_view(pixels, (8, 8), axis=(1, 2))
        return {window.tobytes() for window in windows.reshape(-1, 3, 8, 8)}

    train, support, held_out = (patches(part) for part in ("train", "support", "held-out"))
    assert not train & support
    assert not support & held_out
    assert not train & held_out


def test_the_shipped_models_are_small_and_readable_by_everyone():
    files = [file for file in MODELS.rglob("*") if file.is_file()]
    assert {file.name for file in files} == {
        "open_clip_config.json",
        "open_clip_model.safetensors",
        "verifier.safetensors",
    }
    assert sum(file.stat().st_size for file in files) < MOST_BYTES
    assert all(file.stat().st_mode & 0o044 == 0o044 for file in files)


@pytest.mark.slow
def test_open_clip_itself_loads_the_classifier_which_is_good_but_imperfect():
    import open_clip
    import torch

    name = f"local-dir:{classifier_folder()}"
    model, _, preprocess = open_clip.create_model_and_transforms(name)
    tokenize = open_clip.get_tokenizer(name)
    model.eval()
    held_out = digits_split()["held-out"]
    with torch.inference_mode():
        prompts = tokenize([template.format(label) for label in LABELS for template in TEMPLATES])
        texts = (
            model.encode_text(prompts, normalize=True)
            .view(len(LABELS), len(TEMPLATES), -1)
            .mean(dim=1)
        )
        images = model.encode_image(
            torch.stack([preprocess(draw(scan)) for scan in held_out.scans]), normalize=True
        )
        said = (images @ torch.nn.functional.normalize(texts, dim=-1).T).argmax(dim=1).numpy()
    assert LEAST_ACCURATE <= np.mean(said == held_out.digits) <= MOST_ACCURATE


def test_the_figures_show_that_image_evidence_helps(demo: Demo):
    figures = demo.result.figures
    assert list(figures) == [
        "msp",
        "image",
        "trustvlm",
        "trustvlm_star",
        "posterior",
        "posterior_star",
    ]
    assert demo.result.images == len(digits_split()["held-out"].digits)
    assert LEAST_ACCURATE <= figures["msp"].accuracy <= MOST_ACCURATE
    assert figures["msp"].accuracy == figures["image"].accuracy == figures["trustvlm"].accuracy
    assert figures["trustvlm_star"].accuracy > figures["trustvlm"].accuracy
    assert figures["trustvlm"].aurc < 0.8 * figures["msp"].aurc
    assert figures["trustvlm_star"].aurc < 0.8 * figures["trustvlm"].aurc
    assert figures["trustvlm"].auroc > figures["msp"].auroc
    assert figures["trustvlm"].fpr95 < figures["msp"].fpr95
    assert figures["posterior"].aurc < figures["trustvlm"].aurc


def test_the_demo_calibrates_and_writes_a_report(demo: Demo):
    kept = demo.result.kept
    assert kept.calibration.threshold is not None
    assert 0 < kept.accepted <= kept.images
    assert binom.sf(kept.wrong - 1, kept.accepted, 0.05) > 0.05, "nothing against the promise"
    assert demo.result.report.read_text(encoding="utf-8").count("<svg") == 3


def test_the_extremes_are_ordered_and_have_evidence_of_both_sides(demo: Demo):
    most, least = demo.result.most_trusted, demo.result.least_trusted
    assert len(most) == len(least) == 5
    trusts = [case.verdict.trust for case in (*least, *reversed(most))]
    assert trusts == sorted(trusts)
    chances = [case.verdict.probability for case in (*least, *reversed(most))]
    assert None not in chances
    assert chances == sorted(chances)
    assert {case.verdict.decision for case in most} == {"accept"}
    assert "accept" not in {case.verdict.decision for case in least}
    for case in (*most, *least):
        for label, neighbours in (
            (case.verdict.label, case.evidence.label),
            (case.verdict.rival, case.evidence.rival),
        ):
            assert [Path(n.source or "").parent.name for n in neighbours] == [label] * 3
    assert sum(case.right for case in most) > sum(case.right for case in least)


def test_the_contact_sheet_is_a_png_with_pictures_on_it(demo: Demo):
    with Image.open(demo.result.sheet) as sheet:
        assert sheet.format == "PNG"
        assert 1200 < sheet.width < 2000
        assert 800 < sheet.height < 1600
        colours = sheet.convert("RGB").getcolors(maxcolors=2**24)
    assert colours is not None
    assert len(colours) > 1000
    assert not list(demo.result.home.rglob("*.part"))


def test_the_output_tells_of_every_label_rule_and_next_command(demo: Demo):
    text = "\n".join(demo.lines)
    for label in LABELS:
        assert f"  {label:<6} 16 support images" in text
    for rule in demo.result.figures:
        assert f"\n{rule} " in text
    for case in (*demo.result.most_trusted, *demo.result.least_trusted):
        assert case.image.name in text
    made = demo.result.kept.calibration.id
    assert f"The 5 most trusted (probability: calibration {made}; ! =" in text
    assert [command[3] for command in _commands(demo)] == [
        "score",
        "search",
        "score",
        "register",
        "score",
        "serve",
    ]


@pytest.mark.slow
def test_the_next_commands_work_as_printed(demo: Demo, home: Path):
    from click.testing import CliRunner

    from trustvlm.cli import main

    outputs = []
    *commands, serve = _commands(demo)
    for command in commands:
        arguments = [part.replace(str(demo.result.home), str(home)) for part in command[1:]]
        done = CliRunner().invoke(main, arguments)
        assert done.exit_code == 0, done.output
        outputs.append(done.output)
    assert demo.result.least_trusted[0].truth in outputs[1]
    assert serve == [
        "trustvlm",
        "--home",
        str(demo.result.home),
        "serve",
    ]  # test_pages.py serves this home, and scores
    assert outputs[2] != outputs[4]
    with trustvlm.open(home) as service:
        assert [label.name for label in service.list_labels(SPACE)] == [*LABELS, ELEVENTH]


def _commands(demo: Demo) -> list[list[str]]:
    lines = "\n".join(demo.lines).splitlines()
    return [shlex.split(line) for line in lines if line.startswith("  trustvlm --home ")]


def test_labels_were_registered_one_at_a_time(demo: Demo):
    with trustvlm.open(demo.result.home) as service:
        (space,) = service.list_spaces()
        assert (space.name, space.label_count, space.support_count) == (SPACE, 10, 160)
        assert space.revision == 10
        assert [label.name for label in service.list_labels(SPACE)] == list(LABELS)


def test_an_eleventh_label_can_be_registered_and_is_trusted_afterwards(home: Path):
    images = label_images(home / "images" / "eleventh-held-out", ELEVENTH)
    with trustvlm.open(home) as service:
        digits = [
            path
            for label in LABELS
            for path in label_images(home / "images" / "held-out", label)[:5]
        ]
        ordinary = service.score(SPACE, trustvlm.Queries(images=digits)).trust
        unknown = service.score(SPACE, trustvlm.Queries(images=images))
        assert unknown.trust.max() < np.median(ordinary)
        supports = label_images(home / "images" / "eleventh", ELEVENTH)
        result = service.register(SPACE, [trustvlm.LabelInput(ELEVENTH, images=supports)])
        assert (result.added_labels, result.added_supports, result.failures) == (1, SUPPORTS, ())
        known = service.score(SPACE, trustvlm.Queries(images=images))
        assert set(known.label) == {ELEVENTH}
        assert known.trust.min() > unknown.trust.max()


@pytest.mark.slow
def test_a_second_run_finds_everything_there_and_gives_the_same_figures(demo: Demo, home: Path):
    with trustvlm.open(home) as service:
        service.register(
            SPACE,
            [
                trustvlm.LabelInput(
                    ELEVENTH, images=label_images(home / "images" / "eleventh", ELEVENTH)
                )
            ],
        )
    before = {path: path.stat().st_mtime_ns for path in (home / "images").rglob("*.png")}
    lines: list[str] = []
    again = run_demo(home, echo=lines.append)
    assert again.figures == demo.result.figures
    assert sum("already there" in line for line in lines) == 1 + len(LABELS)
    assert before == {path: path.stat().st_mtime_ns for path in (home / "images").rglob("*.png")}


def test_another_space_of_that_name_is_a_conflict_and_stays_as_it_is(tmp_path: Path):
    with trustvlm.open(tmp_path / "home", create=True) as service:
        service.create_space(SPACE, classifier="precomputed:8")
    with pytest.raises(trustvlm.Conflict, match="another --home"):
        run_demo(tmp_path / "home", echo=lambda line: None)
    with trustvlm.open(tmp_path / "home") as service:
        assert next(iter(service.list_spaces())).label_count == 0


def test_importing_the_demo_loads_nothing_heavy():
    code = (
        "import sys, trustvlm.demo.run; print(sorted({'torch', 'faiss', 'open_clip', "
        "'timm', 'sklearn'} & set(sys.modules)))"
    )
    out = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    ).stdout
    assert out.strip() == "[]"


@pytest.mark.slow
def test_training_from_scratch_gives_models_as_good_as_those_shipped(demo: Demo, tmp_path: Path):
    from benchmarks.train_demo import measure_models, train_models

    train_models(tmp_path, lambda line: None)
    trained = measure_models(tmp_path)
    accuracy = trained.figures["msp"].accuracy
    assert LEAST_ACCURATE <= accuracy <= MOST_ACCURATE
    assert abs(accuracy - demo.result.figures["msp"].accuracy) <= 0.03
    assert trained.figures["trustvlm"].aurc < trained.figures["msp"].aurc
    assert 0.9 <= trained.prototype_accuracy <= 0.985
    assert sum(file.stat().st_size for file in tmp_path.rglob("*") if file.is_file()) < MOST_BYTES
