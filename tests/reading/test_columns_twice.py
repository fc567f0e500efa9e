"""Two columns, fields or arrays of one name: one of the two would be dropped, so none is taken."""

from __future__ import annotations

import io
import tarfile
from pathlib import Path

import pyarrow as pa
import pytest

import trustvlm
from trustvlm import InvalidInput
from trustvlm.bulk.inputs.columns import check_vectors, name_column
from trustvlm.reading.claimed_files import claims_by_file
from trustvlm.reading.lists import read_names
from trustvlm.reading.outputs.files import outputs_by_file
from trustvlm.reading.review.files import answers_of

TABLES = {
    "file,label,label\na.png,red,blue\n": "'label', got 'label' (column 2) and 'label' (column 3)",
    "file,label,Label \na.png,red,blue\n": "'label', got 'label' (column 2) and 'Label' (column 3)",
    "File;file;label\na.png;b.png;red\n": "'file', got 'File' (column 1) and 'file' (column 2)",
    "file,label,attr.kind,attr.kind\na.png,red,1,2\n": "'attr.kind'",
    "file,label,parent,Parent\na.png,red,1,2\n": "'parent', got 'parent' (column 3) and 'Parent'",
}


@pytest.mark.parametrize("text", TABLES)
def test_tables_of_images(tmp_path: Path, text: str) -> None:
    (tmp_path / "data.csv").write_text(text)
    with pytest.raises(InvalidInput) as refused:
        trustvlm.read_images(tmp_path / "data.csv")
    assert f"data.csv: expected one column {TABLES[text]}" in str(refused.value)
    assert str(refused.value).endswith("; rename one")


def test_a_column_that_no_one_reads_may_come_twice(tmp_path: Path) -> None:
    (tmp_path / "data.csv").write_text("file,label,note,note\na.png,red,x,y\n")
    assert trustvlm.read_images(tmp_path / "data.csv").unlabelled is None


def test_tables_in_memory_and_named_columns(tmp_path: Path) -> None:
    (tmp_path / "a.png").touch()
    twice = pa.table(
        [[str(tmp_path / "a.png")], ["red"], ["blue"]], names=["image", "label", "label"]
    )
    for label in (None, "label"):
        with pytest.raises(
            InvalidInput, match=r"expected one column 'label', got 'label' .column 2"
        ):
            trustvlm.read_images(twice, label=label)
    other = twice.rename_columns(["image", "label", "Label"])
    assert trustvlm.read_images(other, label="Label").labelled(0)[1] == ["blue"]


def test_tables_of_claims_of_probabilities_of_names_and_of_answers(tmp_path: Path) -> None:
    table = tmp_path / "table.csv"
    table.write_text("file,claimed,claimed\na.png,red,blue\n")
    with pytest.raises(InvalidInput, match=r"table\.csv: expected one column 'claimed'"):
        claims_by_file(table)
    for text in ("file,red,red\na.png,0.2,0.8\n", "file,label,label,probability\na.png,red,x,1\n"):
        table.write_text(text)
        with pytest.raises(InvalidInput, match=r"table\.csv: expected one column '(red|label)'"):
            outputs_by_file(table)
    table.write_text("name,attr.kind,attr.kind\nred,a,b\n")
    with pytest.raises(InvalidInput, match=r"table\.csv: expected one column 'attr.kind'"):
        read_names(table)
    with pytest.raises(InvalidInput, match=r"answers\.csv: expected one column 'truth'"):
        list(answers_of("answers.csv", "id,truth,truth\n1,red,blue\n"))


def test_columns_of_bulk_work() -> None:
    vectors = pa.field("verifier", pa.list_(pa.float32()))
    named = [pa.field("id", pa.string()), pa.field("ID", pa.string())]
    with pytest.raises(InvalidInput, match=r"x\.parquet: expected one column 'verifier'"):
        check_vectors(Path("x.parquet"), pa.schema([vectors, vectors]), {"verifier": 4})
    with pytest.raises(InvalidInput, match=r"x\.parquet: expected one column 'id', got 'id'"):
        name_column(Path("x.parquet"), pa.schema([*named, vectors]))


def test_fields_of_json(tmp_path: Path) -> None:
    answers = '[{"data": {"review_id": 1, "review_id": 2}}]'
    with pytest.raises(InvalidInput, match="the key 'review_id' is given twice"):
        list(answers_of("answers.json", answers))
    content = {"a.png": b"x", "a.json": b'{"label": "red", "label": "blue"}'}
    with tarfile.open(tmp_path / "one.tar", "w") as archive:
        for name, data in content.items():
            member = tarfile.TarInfo(name)
            member.size = len(data)
            archive.addfile(member, io.BytesIO(data))
    with pytest.raises(InvalidInput, match=r"a\.json: the key 'label' is given twice"):
        list(trustvlm.read_images(tmp_path / "one.tar"))
