"""The columns parent, attributes and attr.KEY of tables of images: stored where the images are
registered, refused where they cannot be, and of no effect where nothing is registered."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from cli_runner import Cli
from PIL import Image

import trustvlm
from trustvlm import InvalidInput, TrustService

COLOURS = {"red": (200, 40, 40), "blue": (40, 40, 200)}
ROWS = [
    ("red0.png", "red", "warm", "summer", "3"),
    ("red1.png", "red", "warm", "", ""),
    ("blue0.png", "blue", "", "winter", "7"),
]
EXPECTED = {"red": [{"season": "summer", "lux": 3}, {}], "blue": [{"season": "winter", "lux": 7}]}


@pytest.fixture(scope="module")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Images, and tables of them: in a CSV file, in Parquet with columns of its own kinds."""
    folder, rng = tmp_path_factory.mktemp("pictures"), np.random.default_rng(0)
    for file, label, *_ in ROWS:
        pixels = np.clip(rng.normal(COLOURS[label], 40, size=(40, 40, 3)), 0, 255)
        Image.fromarray(pixels.astype(np.uint8)).save(folder / file)
    header = "file,label,Parent,attr.season,attr.lux,note"
    lines = [",".join((*row, "any")) for row in ROWS]
    (folder / "images.csv").write_text("\n".join([header, *lines]) + "\n")
    attributes = [
        {"season": season or None, "lux": int(lux) if lux else None} for *_, season, lux in ROWS
    ]
    columns = {
        "image": [(folder / row[0]).read_bytes() for row in ROWS],
        "label": [row[1] for row in ROWS],
        "parent": [row[2] or None for row in ROWS],
        "attributes": attributes,
    }
    pq.write_table(pa.table(columns), folder / "images.parquet")
    return folder


@pytest.fixture
def service(service: TrustService) -> TrustService:
    models = Path(trustvlm.__file__).parent / "demo" / "models"
    service.create_space(
        "s", classifier=f"open_clip:local-dir:{models / 'classifier'}", verifier="same"
    )
    return service


def stored(service: TrustService) -> dict[str, list[dict[str, object]]]:
    return {
        row.name: [dict(image.attributes) for image in service.list_supports("s", row.name)]
        for row in service.list_labels("s")
    }


@pytest.mark.parametrize("table", ["images.csv", "images.parquet"])
def test_they_are_read_as_in_lists_of_labels(
    service: TrustService, pictures: Path, table: str
) -> None:
    service.register("s", str(pictures / table))
    assert stored(service) == EXPECTED
    assert {node.name: node.parent for node in service.taxonomy("s").nodes}["red"] == "warm"


def test_decimal_commas_are_numbers_where_commas_separate_no_cells(
    service: TrustService, pictures: Path
) -> None:
    (pictures / "excel.csv").write_text(
        f"file;label;attr.lux;attr.code\r\n{ROWS[0][0]};red;1.116,5;1,2,3\r\n", "utf-8-sig"
    )
    service.register("s", str(pictures / "excel.csv"))
    assert stored(service) == {"red": [{"lux": 1116.5, "code": "1,2,3"}]}


def test_the_command_line_registers_them_and_holds_out(pictures: Path, cli: Cli) -> None:
    models = Path(trustvlm.__file__).parent / "demo" / "models"
    spec = f"open_clip:local-dir:{models / 'classifier'}"
    table = pictures / "images.csv"
    for name in ("all", "part"):
        cli("space", "create", name, "--classifier", spec)
    cli("register", "all", table)
    cli("register", "part", table, "--hold-out", "0.5")
    with trustvlm.open(cli.home) as service:
        images = {
            name: {Path(image.source or "").name: dict(image.attributes)
                   for label in COLOURS for image in service.list_supports(name, label)}
            for name in ("all", "part")
        }  # fmt: skip
    assert images["all"] == {
        "red0.png": EXPECTED["red"][0], "red1.png": {}, "blue0.png": EXPECTED["blue"][0],
    }  # fmt: skip
    assert len(images["part"]) == 2
    assert images["part"].items() <= images["all"].items()


def test_what_cannot_be_stored_is_refused_with_its_place(
    service: TrustService, pictures: Path, tmp_path: Path
) -> None:
    for header, rows, words in (
        ("attributes", ["{no json"], r"line 2: attributes: expected a JSON object"),
        ("attr.a.b", ["1"], "expected as key one without '.'"),
        ("parent", ["warm", "cold"], r"line 3: label 'red' stands under 'cold' here and under"),
    ):
        lines = [f"{pictures}/red{i}.png,red,{cell}" for i, cell in enumerate(rows)]
        table = tmp_path / "wrong.csv"
        table.write_text("\n".join([f"file,label,{header}", *lines]) + "\n")
        with pytest.raises(InvalidInput, match=words):
            service.register("s", str(table))
        assert service.get_space("s").label_count == 0


def test_promoted_feedback_keeps_the_attributes_of_its_rows(
    service: TrustService, pictures: Path
) -> None:
    service.register("s", [trustvlm.LabelInput("red"), trustvlm.LabelInput("blue")])
    service.feedback("s", str(pictures / "images.csv"), promote=True)
    assert stored(service) == EXPECTED
