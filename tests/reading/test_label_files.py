"""Labels from Parquet and NDJSON files: the same as from anywhere else; and a file that cannot be
right is refused in a sentence."""

from __future__ import annotations

import io
import json
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import psutil
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from cli_runner import Cli
from served_client import application, client_of
from worlds import make_space

import trustvlm
from trustvlm import InvalidInput, LabelInput

TEXT, IMAGE = 8, 6
LAYOUTS: dict[str, dict[str, Any]] = {
    "float32": {"compression": "none", "use_dictionary": False},
    "float16": {"compression": "zstd"},
    "float64": {"row_group_size": 3, "data_page_size": 64, "data_page_version": "2.0"},
}


def parquet(columns: dict[str, Any], **options: Any) -> bytes:
    out = io.BytesIO()
    pq.write_table(pa.table(columns), out, **options)
    return out.getvalue()


def rows(count: int, start: int = 0) -> dict[str, Any]:
    vectors = np.random.default_rng(start).normal(size=(count, TEXT)).astype(np.float32)
    lists = pa.FixedSizeListArray.from_arrays(pa.array(vectors.ravel()), TEXT)
    return {"name": [f"label {start + i:07d}" for i in range(count)], "text_vector": lists}


@pytest.fixture
def service(tmp_path: Path) -> Iterator[trustvlm.TrustService]:
    with trustvlm.open(tmp_path / "home", create=True) as service:
        for name in "st":
            make_space(
                service, name, classifier=f"precomputed:{TEXT}", verifier=f"precomputed:{IMAGE}"
            )
        yield service


def inputs(dtype: str) -> list[LabelInput]:
    """Templates, several support images or none, with or without their other embedding."""
    rng = np.random.default_rng(0)
    found = []
    for i in range(40):
        images = None if i % 3 == 0 else rng.normal(size=(i % 4 + 1, IMAGE)).astype(dtype)
        others = None
        if i % 2 == 0 and images is not None:
            others = rng.normal(size=(len(images), TEXT)).astype(dtype)
        text = rng.normal(size=(2, TEXT)).astype(dtype)
        found.append(LabelInput(f"näme {i}", text, None, images, others))
    return found


def columns_of(given: list[LabelInput], dtype: str) -> dict[str, Any]:
    value = pa.from_numpy_dtype(dtype)

    def column(name: str, inner: pa.DataType) -> pa.Array:
        cells: list[npt.NDArray[Any] | None] = [getattr(one, name) for one in given]
        return pa.array([None if cell is None else list(cell) for cell in cells], pa.list_(inner))

    return {
        "classifier_image_vectors": column("classifier_image_vectors", pa.large_list(value)),
        "image_vectors": column("image_vectors", pa.list_(value)),
        "name": pa.array([one.name for one in given]).dictionary_encode(),
        "text_vector": column("text_vector", pa.list_(value, TEXT)),
    }


def as_line(label: LabelInput) -> str:
    fields = {
        name: value if isinstance(value, str) else np.asarray(value).tolist()
        for name, value in vars(label).items()
        if value is not None
    }
    return json.dumps(fields) + "\r\n\n"


@pytest.mark.parametrize("dtype", [*LAYOUTS, "ndjson"])
def test_a_file_gives_the_labels_that_it_was_made_of(
    service: trustvlm.TrustService, tmp_path: Path, dtype: str
) -> None:
    given = inputs("float32" if dtype == "ndjson" else dtype)
    if dtype == "ndjson":
        path = tmp_path / "labels.ndjson"
        path.write_text("".join(map(as_line, given)))
    else:
        path = tmp_path / "labels.parquet"
        path.write_bytes(parquet(columns_of(given, dtype), **LAYOUTS[dtype]))
    result = service.register("s", trustvlm.read_labels(path))
    expected = service.register("t", given)
    for name in ("added_labels", "added_supports", "skipped_duplicates"):
        assert getattr(result, name) == getattr(expected, name)
    assert [(row.name, row.support_count) for row in service.list_labels("s")] == [
        (row.name, row.support_count) for row in service.list_labels("t")
    ]
    rng = np.random.default_rng(1)
    queries = trustvlm.Queries(rng.normal(size=(9, TEXT)), rng.normal(size=(9, IMAGE)))
    one, two = (service.score(space, queries, rule="posterior") for space in "st")
    assert one.label.tolist() == two.label.tolist()
    assert one.trust.tolist() == two.trust.tolist()


def test_the_client_sends_a_file_in_chunks_and_completes_it(tmp_path: Path) -> None:
    """A row that cannot be right ends it; what came before is there, and the mended file adds the
    rest."""
    good = rows(1_150)
    bad = good | {"name": [*good["name"][:1_100], "", *good["name"][1_101:]]}
    path = tmp_path / "labels.parquet"
    path.write_bytes(parquet(bad, row_group_size=700))
    with application(tmp_path / "home") as app, client_of(app) as client:
        app.state.serving.service.create_space("s", classifier=f"precomputed:{TEXT}")
        with pytest.raises(InvalidInput, match="name"):
            client.register("s", trustvlm.read_labels(path))
        assert client.get_space("s").label_count == 1_000
        path.write_bytes(parquet(good))
        committed: list[str] = []
        result = client.register("s", trustvlm.read_labels(path), on_commit=committed.extend)
        assert result.added_labels == 150
        assert committed == good["name"]
        assert client.get_space("s").label_count == 1_150


def test_the_command_line_takes_both(cli: Cli, tmp_path: Path) -> None:
    cli("space", "create", "s", "--classifier", f"precomputed:{TEXT}")
    (tmp_path / "a.parquet").write_bytes(parquet(rows(30)))
    said = cli("register", "s", "--vectors", tmp_path / "a.parquet")
    assert said.startswith("registered 30 labels (30 new)")
    line = json.dumps({"name": "one more", "text_vector": [1.0] * TEXT})
    (tmp_path / "b.jsonl").write_text(f"{line}\n{line[:-1]}\n")
    said = cli("register", "s", "--vectors", tmp_path / "b.jsonl", code=2)
    assert "b.jsonl, line 2: " in said
    (tmp_path / "b.jsonl").write_text(line)
    assert "1 label (1 new)" in cli("register", "s", "--vectors", tmp_path / "b.jsonl")
    cli("register", "s", "--vectors", tmp_path / "b.jsonl", "--label", "x", code=2)
    cli("register", "s", "--vectors", tmp_path / "none.parquet", code=3)


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("{", "Expecting"),
        ("[]", "expected a JSON object"),
        ('{"name": 7}', "name: expected text, got 7"),
        ('{"text_vector": [1]}', "name: expected text, got None"),
        ('{"name": "x", "text_vectr": [1]}', "did you mean 'text_vector'"),
        ('{"name": "x", "name": "y"}', "given twice"),
        ('{"name": "x", "image_vectors": [[1, 2], [3]]}', "image_vectors: expected lists"),
        ('{"name": "x", "text_vector": ["a"]}', "text_vector: expected lists of numbers"),
        ("[" * 100_000, "recursion"),
    ],
)
def test_a_line_that_cannot_be_is_named(tmp_path: Path, line: str, said: str) -> None:
    path = tmp_path / "labels.ndjson"
    path.write_text('{"name": "first"}\n\n' + line)
    labels = trustvlm.read_labels(path)
    assert next(labels).name == "first"
    with pytest.raises(InvalidInput, match=r"labels.ndjson, line 3: ") as caught:
        next(labels)
    assert said in str(caught.value)
    assert len(str(caught.value)) < 600


def hostile() -> dict[str, bytes]:
    """Files that give no labels, by what is wrong with them."""
    good = parquet(rows(20))
    text = rows(20)["text_vector"]
    name = [f"n{i}" for i in range(20)]
    flat = rows(20)
    one = [1.0] * IMAGE
    return {
        "empty": b"",
        "no Parquet": b"x" * 1_000,
        "a footer of 2 GB": b"PAR1" + b"\0" * 20 + (2**31 - 1).to_bytes(4, "little") + b"PAR1",
        "cut in the middle": good[: len(good) // 2],
        "zeros inside": good[:100] + bytes(200) + good[300:],
        "no name": parquet({"text_vector": text}),
        "an empty name": parquet({"name": [*name[:19], None], "text_vector": text}),
        "another column": parquet(flat | {"label": name}),
        "names as bytes": parquet({"name": pa.array([b"\xff"] * 20), "text_vector": text}),
        "vectors as lists of texts": parquet({"name": name, "text_vector": [[n] for n in name]}),
        "lists of lists of lists": parquet({"name": name, "text_vector": [[[[1.0]]]] * 20}),
        "vectors of two lengths": parquet(flat | {"image_vectors": [[one, [1.0]]] * 20}),
        "a missing value": parquet({"name": name, "text_vector": [[1.0, None]] * 20}),
    }


def test_a_file_that_cannot_be_right_is_refused_in_a_sentence(tmp_path: Path) -> None:
    path = tmp_path / "labels.parquet"
    for what, content in hostile().items():
        path.write_bytes(content)
        with pytest.raises(InvalidInput) as caught:
            list(trustvlm.read_labels(path))
        assert str(caught.value).startswith(str(path)), what
        assert len(str(caught.value).removeprefix(str(path))) < 400, what
    with pytest.raises(InvalidInput, match=r"ends with .ndjson, .jsonl, .parquet"):
        trustvlm.read_labels(Path(__file__))


def bomb(count: int, dim: int) -> bytes:
    """So many rows of the same values, which Parquet packs into next to nothing."""
    one = pa.FixedSizeListArray.from_arrays(pa.array(np.ones(dim, np.float32)), dim)
    vectors = pa.chunked_array([one] * count)
    columns = {"name": [f"{i}" for i in range(count)], "text_vector": vectors}
    return parquet(columns, row_group_size=1, compression="zstd")


def damaged(count: int, seed: int) -> Iterator[bytes]:
    """A good file with some bytes changed, most of them in its footer, where pyarrow believes what
    it reads."""
    rng = np.random.default_rng(seed)
    files = [parquet(rows(60), **options) for options in LAYOUTS.values()]
    for number in range(count):
        content = bytearray(files[number % len(files)])
        footer = int.from_bytes(content[-8:-4], "little")
        low = 0 if number % 4 == 0 else len(content) - 8 - footer
        for place in rng.integers(low, len(content), int(rng.integers(1, 6))):
            content[place] = int(rng.integers(0, 256))
        yield bytes(content)


def taken_of(path: Path, count: int, seed: int) -> int:
    """How many of so many damaged files were read all the same: nothing that mattered was changed
    in them."""
    taken, before = 0, {child.pid for child in psutil.Process().children()}
    for content in damaged(count, seed):
        path.write_bytes(content)
        try:
            list(trustvlm.read_labels(path))
            taken += 1
        except InvalidInput:
            continue
    left = {child.pid for child in psutil.Process().children()} - before
    assert len(left) <= 1  # it waits for the next file
    return taken


def test_damaged_files_end_their_reader_at_most(tmp_path: Path) -> None:
    assert taken_of(tmp_path / "labels.parquet", 6, 0) < 6


@pytest.mark.slow
def test_many_damaged_files_and_bombs_end_their_reader_at_most(tmp_path: Path) -> None:
    path = tmp_path / "labels.parquet"
    bombs = [bomb(100, 1_000_000), bomb(1, 100_000_000)]
    pa.default_memory_pool().release_unused()  # of the making of them
    taken_of(path, 5, 1)
    before = psutil.Process().memory_full_info().uss, psutil.Process().num_fds()
    taken_of(path, 60, 2)
    for content in bombs:
        assert len(content) < 2**20
        path.write_bytes(content)
        with suppress(InvalidInput):
            for _ in trustvlm.read_labels(path):
                pass
    assert psutil.Process().memory_full_info().uss < before[0] + 20 * 2**20
    assert psutil.Process().num_fds() <= before[1] + 5
