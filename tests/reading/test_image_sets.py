"""Tables of images, tables with image files in them, tar shards and data sets, in every verb of the
library, the client and the command line."""

from __future__ import annotations

import io
import json
import math
import pickle
import re
import tarfile
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from checkpoints import make_clip
from cli_runner import Cli
from PIL import Image
from served_client import application, client_of

import trustvlm
from trustvlm import InvalidInput, NotFound

COLOURS = {"blue": (40, 40, 200), "grün": (40, 200, 40), "red": (200, 40, 40)}
NAMES = list(COLOURS)
KINDS = (
    "data.csv", "semicolons.tsv", "paths.parquet", "structs.parquet", "numbers.parquet", "one.tar",
    "part-{00..02}.tar", "shards", "pandas", "polars", "pyarrow", "named", "folder",
)  # fmt: skip
ALIKE = ("semicolons.tsv", "part-{00..02}.tar", "one.tar", "polars", "pandas", "named")
"""Sets that only a slow run reads: the default run reads one of each kind."""
# The client reads all with the same code.
REMOTE = ("data.csv", "shards", "pandas", "folder")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three pictures of each colour, and files that list or hold them."""
    root, rng = tmp_path_factory.mktemp("pictures"), np.random.default_rng(0)
    for name, colour in COLOURS.items():
        (root / "all" / name).mkdir(parents=True)
        for i in range(3):
            pixels = np.clip(rng.normal(colour, 40, size=(48, 56, 3)), 0, 255).astype(np.uint8)
            Image.fromarray(pixels).save(root / "all" / name / f"{i} ä.png")
    write_sets(root)
    return root


def rows(folder: Path) -> list[tuple[Path, str]]:
    return [(folder / "all" / name / f"{i} ä.png", name) for name in COLOURS for i in range(3)]


def write_sets(root: Path) -> None:
    listed = [(path.relative_to(root).as_posix(), name) for path, name in rows(root)]
    files, labels = [path for path, _ in listed], [name for _, name in listed]
    contents = [path.read_bytes() for path, _ in rows(root)]
    numbers = [NAMES.index(name) for name in labels]
    lines = [f"{file},{name},x" for file, name in listed]
    (root / "data.csv").write_text("\n".join(["file,label,note", *lines, ""]))
    lines = [f'"{file}";"{name}"' for file, name in listed]
    (root / "semicolons.tsv").write_text("\ufeffImage Path;Class\r\n" + "\r\n".join(lines))
    pq.write_table(pa.table({"filepath": files, "truth": labels}), root / "paths.parquet")
    structs = [{"bytes": one, "path": file} for one, file in zip(contents, files, strict=True)]
    pq.write_table(pa.table({"image": structs, "label": labels}), root / "structs.parquet")
    features = {
        "photo": {"_type": "Image"},
        "kind": {"_type": "ClassLabel", "names": NAMES},
        "source": {"_type": "Value"},
    }
    metadata = {"huggingface": json.dumps({"info": {"features": features}})}
    table = pa.table({"photo": contents, "kind": numbers, "source": ["?"] * 9})
    pq.write_table(table.replace_schema_metadata(metadata), root / "numbers.parquet")
    samples = list(zip(contents, labels, strict=True))
    write_tar(root / "one.tar", samples)
    for part in range(3):
        write_tar(root / f"part-0{part}.tar", samples[3 * part : 3 * part + 3])


def write_tar(path: Path, samples: list[tuple[bytes, str]]) -> None:
    with tarfile.open(path, "w") as archive:
        for number, (content, name) in enumerate(samples):
            label = json.dumps({"class": name, "width": 56}).encode()
            parts = [("png", content), ("json", label), ("pyd", b"not read"), ("txt", b"a caption")]
            if number % 2:
                parts[1] = ("cls", name.encode() + b"\n")
            for suffix, data in parts if number % 3 else reversed(parts):
                member = tarfile.TarInfo(f"./d.1/{number:04d}.{suffix}")
                member.size = len(data)
                archive.addfile(member, io.BytesIO(data))


def given(folder: Path, kind: str) -> Any:
    """A set of the nine images."""
    files = [str(path) for path, _ in rows(folder)]
    table = pa.table({"file": files, "label": [name for _, name in rows(folder)]})
    if kind == "named":
        columns = {"picture": files, "what": [NAMES.index(name) for _, name in rows(folder)]}
        return trustvlm.read_images(pa.table(columns), image="picture", label="what", names=NAMES)
    in_memory = {
        "shards": [folder / f"part-0{part}.tar" for part in range(3)],
        "pandas": table.to_pandas(),
        "polars": pl.from_arrow(table),
        "pyarrow": table,
        "folder": folder / "all",
    }
    return in_memory.get(kind, folder / kind)


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory, folder: Path) -> Path:
    """A space of the three colours, with a support image each."""
    where = tmp_path_factory.mktemp("home")
    with trustvlm.open(where / "home", create=True, workers=0) as service:
        service.create_space("colours", classifier=make_clip(where / "clip"))
        supports = {name: Image.new("RGB", (48, 48), colour) for name, colour in COLOURS.items()}
        service.register("colours", supports)
    return where / "home"


@pytest.fixture(scope="module", params=["library", "client"])
def service(request: pytest.FixtureRequest, home: Path) -> Iterator[Any]:
    with ExitStack() as stack:
        if request.param == "library":
            yield stack.enter_context(trustvlm.open(home, workers=0))
        else:
            yield stack.enter_context(client_of(stack.enter_context(application(home))))


@pytest.fixture(scope="module")
def expected(service: Any, folder: Path) -> tuple[list[str], int]:
    """(label of each image, how many labels are right)."""
    verdicts = service.score("colours", [path for path, _ in rows(folder)])
    truth = [name for _, name in rows(folder)]
    return verdicts.label.tolist(), int((verdicts.label == np.array(truth)).sum())


EACH = [
    *(pytest.param("library", kind, marks=[pytest.mark.slow] * (kind in ALIKE)) for kind in KINDS),
    *(
        pytest.param("client", kind, marks=[pytest.mark.slow] * (kind != "folder"))
        for kind in REMOTE
    ),
]


@pytest.mark.parametrize(("service", "kind"), EACH, indirect=["service"])
def test_every_verb_takes_every_kind(
    service: Any, folder: Path, expected: tuple[list[str], int], kind: str
) -> None:
    labels, right = expected
    images = given(folder, kind)
    assert service.score("colours", images).label.tolist() == labels
    if not isinstance(images, Path):  # a path could be a text to search for
        assert len(service.search("colours", images)) == 9
    evaluation = service.evaluate("colours", images, rules=["msp"], draws=0, items=True)
    assert (evaluation.images, evaluation.labels) == (9, 3)
    assert evaluation["msp"].accuracy.value == pytest.approx(right / 9)
    assert all(one.source.endswith(".png") or "[" in one.source for one in evaluation.items)
    preview = service.register("colours", images, dry_run=True)
    assert sorted(preview.to_add) == sorted((name, 3) for name in COLOURS)


def test_measurements_take_the_labels_of_a_set(
    home: Path, folder: Path, tmp_path: Path, expected: tuple[list[str], int]
) -> None:
    with trustvlm.open(home, workers=0) as service:
        assert service.calibrate("colours", folder / "data.csv").images == 9
        assert service.list_calibrations("colours")[0].failed
        told = service.feedback("colours", folder / "structs.parquet")
        assert (told.updated, told.right) == (9, expected[1])
        with pytest.raises(InvalidInput, match="truth: expected the label of each query"):
            service.calibrate("colours", [folder / "all" / "red" / "0 ä.png"])


def test_data_sets_of_hugging_face(service: Any, folder: Path, expected: Any) -> None:
    datasets = pytest.importorskip("datasets")
    labels, right = expected
    features = datasets.Features(
        {"img": datasets.Image(), "fine": datasets.ClassLabel(names=NAMES), "id": datasets.Value("int64")}
    )  # fmt: skip
    columns = {
        "img": [Image.open(path).copy() for path, _ in rows(folder)],
        "fine": [NAMES.index(name) for _, name in rows(folder)],
        "id": list(range(9)),
    }
    dataset = datasets.Dataset.from_dict(columns, features=features)
    for one in (dataset, dataset.to_iterable_dataset()):
        assert service.score("colours", one).label.tolist() == labels
        evaluation = service.evaluate("colours", one, rules=["msp"], draws=0)
        assert evaluation["msp"].accuracy.value == pytest.approx(right / 9)
        assert len(service.register("colours", one, dry_run=True).to_add) == 3
    some = service.score("colours", dataset.shuffle(seed=1).select(range(4)))
    assert len(some) == 4
    for verb in (service.score, service.register):
        with pytest.raises(
            InvalidInput, match=r"DatasetDict of 'train'; name one: dataset\['train'"
        ):
            verb("colours", datasets.DatasetDict(train=dataset))


BAD: dict[str, tuple[str | bytes, str]] = {
    "no-images.csv": ("species,note\na,b\n", "a column of images .* the columns species, note;"),
    "no-header.csv": ("a.png,red\n", "a column of images .* the columns a.png, red;"),
    "no-labels.csv": ("file,species\n{one},red\n", "a column of labels .* file, species; .*label="),
    "no-file.csv": ("file,label\n,red\n", "line 2: expected the path of an image, got an empty"),
    "no-label.csv": ("file,label\n{one},red\n{one},\n", "line 3: this row has no label"),
    "elsewhere.csv": ("file,label\nx/a.png,red\nx/b.png,red\n", "none of the files exists, of 2 .*x/a.png .*line 2.* folder"),
    "empty.csv": ("file,label\n", "no images"),
    "nothing.csv": ("", "a column of images .* this is empty"),
    "wide.csv": ("file,label\n{one},red,green\n", "line 2: expected 2 columns, got 3"),
    "binary.csv": (b"\x89PNG\r\n\x1a\n", "this is an image"),
    "broken.parquet": (b"PAR1" + b"x" * 40, "no sound Parquet file"),
    "broken.tar": (b"x" * 1024, "no sound tar file"),
}  # fmt: skip


@pytest.mark.parametrize("name", BAD)
def test_bad_files_are_refused_with_the_reason(
    service: Any, folder: Path, tmp_path: Path, name: str
) -> None:
    content, message = BAD[name]
    if isinstance(content, str):
        content = content.replace("{one}", str(rows(folder)[0][0])).encode()
    (tmp_path / name).write_bytes(content)
    with pytest.raises(InvalidInput, match=f"(?s){name}.*{message}"):
        service.evaluate("colours", tmp_path / name)


def test_bad_tables_are_refused_with_the_reason(service: Any, folder: Path, tmp_path: Path) -> None:
    path = str(rows(folder)[0][0])
    for table, message in [
        (pa.table({"image": [[1.0]], "label": ["red"]}), "column image: expected paths, the bytes"),
        (pa.table({"image": [path], "label": [0.5]}), "column label: expected names or numbers"),
        (pa.table({"image": [path, None], "label": ["red"] * 2}), "row 1: expected an image"),
        (pa.table({"image": [path], "label": pa.nulls(1)}), "row 0: this row has no label"),
        (pd.DataFrame({"file": [path], "label": [object()]}), "Arrow does not take it"),
    ]:
        with pytest.raises(InvalidInput, match=message):
            service.evaluate("colours", table)
    with pytest.raises(InvalidInput, match="say which encoder made the vectors"):
        service.score("colours", pd.DataFrame(np.zeros((2, 4))))
    with pytest.raises(NotFound, match="no file"):
        service.score("colours", tmp_path / "none.csv")
    with pytest.raises(NotFound, match="no label 'pink'"):
        service.evaluate("colours", pa.table({"image": [path], "label": ["pink"]}))
    with pytest.raises(InvalidInput, match="expected labels, or images with labels"):
        service.register("colours", path)
    with pytest.raises(InvalidInput, match="expected a column 'what'"):
        trustvlm.read_images(folder / "data.csv", label="what")
    images = trustvlm.read_images(folder / "data.csv", names=["a"])
    with pytest.raises(InvalidInput, match="line 2: no name for the label 'blue'"):
        service.evaluate("colours", images)
    with pytest.raises(InvalidInput, match=r"data: expected a \.csv, \.tsv, \.parquet, \.tar file"):
        trustvlm.read_images([path])


def test_commands_take_tables_and_shards(home: Path, folder: Path, tmp_path: Path) -> None:
    run = Cli(home)
    table, shards = folder / "data.csv", folder / "part-{00..02}.tar"
    listed = run.rows("score", "colours", table)
    assert [row["source"] for row in listed] == [str(path) for path, _ in rows(folder)]
    assert len(run.rows("score", "colours", shards)) == 9
    assert json.loads(run("evaluate", "colours", table, "--draws", 0, "--json"))["images"] == 9
    names = tmp_path / "names.csv"
    names.write_text("folder,name\n" + "".join(f"{i},{name}\n" for i, name in enumerate(NAMES)))
    numbers = pa.table({"file": [str(path) for path, _ in rows(folder)],
                        "label": [NAMES.index(name) for _, name in rows(folder)]})  # fmt: skip
    pq.write_table(numbers, tmp_path / "numbers.parquet")
    said = run("register", "colours", tmp_path / "numbers.parquet", "--names", names, "--dry-run")
    assert said.count("3 support images") == 3
    said = run("register", "colours", *sorted(folder.glob("part-*.tar")), "--dry-run")
    assert said.count("3 support images") == 3
    said = run("register", "colours", table, "--label", "all", "--dry-run")
    assert said.count("9 support images") == 1
    result = run.run("register", "colours", table, rows(folder)[0][0], code=2)
    assert "tables (.csv, .tsv, .parquet)" in result.output
    result = run.run("register", "colours", "--labels", table, code=2)
    assert f"'trustvlm register SPACE {table}' registers these" in result.output
    assert "stored" in run("feedback", "colours", table)


def test_data_sets_of_fiftyone_go_out_and_come_in(
    home: Path, folder: Path, tmp_path: Path, expected: tuple[list[str], int]
) -> None:
    """Fields have the names of the columns. What FiftyOne makes of them: test_fiftyone.py."""
    truth = [name for _, name in rows(folder)]
    with trustvlm.open(home, workers=0) as service:
        verdicts = service.score("colours", [path for path, _ in rows(folder)])
        verdicts.to_fiftyone(tmp_path / "out", truth=truth, evidence=1)
        sample = json.loads((tmp_path / "out" / "samples.json").read_text())["samples"][4]
        assert sample["filepath"] == str(rows(folder)[4][0])
        assert sample["ground_truth"]["label"] == truth[4]
        row = list(verdicts.rows(evidence=1))[4]
        told = {"_cls": "Classification", "confidence": row["probability"]}
        assert sample["trustvlm"] == told | json.loads(json.dumps(row))
        evaluation = service.evaluate("colours", tmp_path / "out", rules=["msp"], draws=0)
        assert evaluation["msp"].accuracy.value == pytest.approx(expected[1] / 9)
        said = trustvlm.read_images(tmp_path / "out", label="trustvlm")
        assert [one.label for one in said] == expected[0]
        with pytest.raises(InvalidInput, match="expected a new or an empty folder"):
            verdicts.to_fiftyone(tmp_path / "out")
        with pytest.raises(InvalidInput, match="there is no file <image 0>"):
            service.score("colours", Image.new("RGB", (9, 9))).to_fiftyone(tmp_path / "none")
        (tmp_path / "out" / "samples.json").write_text('{"samples": [1]}')
        with pytest.raises(InvalidInput, match="an object with the list samples"):
            service.score("colours", tmp_path / "out")


def test_notebooks_show_the_images_and_trackers_take_the_numbers(home: Path, folder: Path) -> None:
    with trustvlm.open(home, workers=0) as service:
        paths = [path for path, _ in rows(folder)]
        verdicts = service.score("colours", [paths[0], Image.open(paths[1]), *paths * 3])
        html = verdicts._repr_html_()
        assert html.count('<img alt="" ') == html.count('src="data:image/jpeg;base64,') == 20
        assert "image/jpeg" not in repr(verdicts)
        assert len(html) < 200_000
        part = pickle.loads(pickle.dumps(verdicts[1:3]))
        assert part.thumbnail(0) == verdicts.thumbnail(1) != verdicts.thumbnail(2)
        for i in range(3):
            with Image.open(io.BytesIO(verdicts.thumbnail(i))) as small:
                assert small.size == (56, 48)
        evaluation = service.evaluate("colours", folder / "all", draws=0)
    metrics = evaluation.to_metrics()
    assert metrics["images"] == 9
    assert metrics["msp/accuracy"] == evaluation["msp"].accuracy.value
    for name, value in metrics.items():
        assert re.fullmatch(r"[/\w.\- :]{1,250}", name)  # MLflow's rule
        assert isinstance(value, float)
        assert math.isfinite(value)
