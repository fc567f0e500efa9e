"""Bulk work on vectors: each row once, equal to service.score, never done twice."""

from __future__ import annotations

import json
import os
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from bulk_worlds import FILES, ROWS, batch, equal, folder_of_vectors, scored, sources, write_vectors
from cli_runner import Cli
from numbered import label

import trustvlm
import trustvlm.bulk
from trustvlm import Conflict, InvalidInput, NotFound, Queries


@pytest.fixture
def given(tmp_path: Path) -> Path:
    return folder_of_vectors(tmp_path / "in")


@pytest.mark.both_back_ends(slow=True)
@pytest.mark.parametrize("on", ["here", pytest.param("processes:2", marks=pytest.mark.slow)])
def test_equals_score_to_the_bit(home: Path, given: Path, tmp_path: Path, on: str) -> None:
    out = tmp_path / "out"
    report = trustvlm.bulk.score(home, "space", given, out, rule="trustvlm", on=on)
    assert (report.units, report.done_now, report.rows) == (FILES, FILES, FILES * ROWS)
    for number in range(FILES):
        verdicts = scored(home, batch(number), rule="trustvlm")
        assert equal(out / f"part-{number}-00000.parquet", verdicts)
    assert report.verdicts is not None
    assert report.verdicts.review == sum(one.rows for one in report.verdicts.by_label)


def test_calls_and_units_divide_rows_without_a_trace(home: Path, tmp_path: Path) -> None:
    """A file that is scored in several units, in several calls each, gives the bits of one call."""
    rows = 16_384 + 1_500
    file = write_vectors(tmp_path / "in.parquet", batch(0, rows))
    verdicts = scored(home, batch(0, rows))
    trustvlm.bulk.score(home, "space", file, tmp_path / "one")
    assert equal(tmp_path / "one" / "in-00000.parquet", verdicts)
    trustvlm.bulk.score(home, "space", file, tmp_path / "more", rows=16_384)
    assert equal(tmp_path / "more" / "in-00000.parquet", verdicts[:16_384])
    assert equal(tmp_path / "more" / "in-00001.parquet", verdicts[16_384:])


def test_is_never_done_twice(home: Path, given: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    trustvlm.bulk.score(home, "space", given, out)
    before = {path: path.stat().st_mtime_ns for path in out.glob("*.parquet")}
    (out / "part-1-00000.parquet").unlink()
    write_vectors(given / "part-3.parquet", batch(3))
    report = trustvlm.bulk.score(home, "space", given, out)
    assert (report.done_before, report.done_now) == (2, 2)
    assert report.rows == 4 * ROWS
    after = {path: path.stat().st_mtime_ns for path in out.glob("*.parquet")}
    same = [path for path in before if before[path] == after[path]]
    assert [path.name for path in sorted(same)] == ["part-0-00000.parquet", "part-2-00000.parquet"]


def test_shards_share_the_work(home: Path, given: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    first = trustvlm.bulk.score(home, "space", given, out, shard="1/2", rows=16)
    state = trustvlm.bulk.status(out)
    assert (state.units, state.done) == (first.units + 4, first.done_now)
    trustvlm.bulk.score(home, "space", given, out, shard="2/2", rows=16)
    at_once = tmp_path / "at once"
    trustvlm.bulk.score(home, "space", given, at_once, rows=16)
    assert sources(out) == sources(at_once)
    assert len(sources(out)) == FILES * ROWS
    for shard in ("0/2", "3/2", "1", "a/b", "1/0"):
        with pytest.raises(InvalidInput, match="shard: expected I/N"):
            trustvlm.bulk.score(home, "space", given, out, shard=shard)


def test_other_settings_are_a_conflict_unless_redone(
    home: Path, given: Path, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    trustvlm.bulk.score(home, "space", given, out, rule="msp")
    for changed, what in (
        ({"rule": "margin"}, "rule is 'msp', now 'margin'"),
        ({"rule": "msp", "top_k": 2}, "number of listed labels"),
        ({"rule": "msp", "labels": ["label 0001", "label 0002"]}, "labels that take part"),
        ({"rule": "msp", "rows": 16}, "divided otherwise"),
    ):
        with pytest.raises(Conflict, match=what):
            trustvlm.bulk.score(home, "space", given, out, **changed)
    report = trustvlm.bulk.score(home, "space", given, out, rule="margin", rows=16, redo=True)
    assert report.rows == FILES * ROWS == len(sources(out))
    fewer = trustvlm.bulk.score(home, "space", given, out, rule="margin", redo=True)
    assert (fewer.units, len(list(out.glob("*.parquet")))) == (FILES, FILES)
    assert len(sources(out)) == FILES * ROWS


def test_a_changed_input_is_a_conflict_and_a_touched_one_is_not(
    home: Path, given: Path, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    trustvlm.bulk.score(home, "space", given, out)
    os.utime(given / "part-0.parquet", ns=(1, 1))
    assert trustvlm.bulk.score(home, "space", given, out).done_now == 0
    write_vectors(given / "part-0.parquet", batch(7))
    with pytest.raises(Conflict, match=r"part-0\.parquet, has changed"):
        trustvlm.bulk.score(home, "space", given, out)
    assert trustvlm.bulk.score(home, "space", given, out, redo=True).done_now == 1
    assert equal(out / "part-0-00000.parquet", scored(home, batch(7)))
    (given / "part-2.parquet").unlink()
    with pytest.raises(Conflict, match="not there any more"):
        trustvlm.bulk.score(home, "space", given, out)


def test_redo_follows_the_labels(home: Path, given: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    first = trustvlm.bulk.score(home, "space", given, out)
    with trustvlm.open(home) as service:
        revision = service.register("space", [label(50)]).revision
    again = trustvlm.bulk.score(home, "space", given, out)
    assert (again.done_now, again.last_revision) == (0, first.last_revision)
    redone = trustvlm.bulk.score(home, "space", given, out, redo=True)
    assert (redone.done_now, redone.first_revision) == (FILES, revision)
    assert trustvlm.bulk.score(home, "space", given, out, redo=True).done_now == 0


def test_a_calibration_is_part_of_the_settings(home: Path, given: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    trustvlm.bulk.score(home, "space", given, out)
    with trustvlm.open(home) as service:
        names = [row.name for row in service.list_labels("space")]
        truth = service.score("space", batch(90, 400), rule="posterior").label
        calibration = service.calibrate("space", batch(90, 400), truth, rule="posterior")
    assert calibration.threshold is not None
    assert names
    with pytest.raises(Conflict, match="calibration is none, now 1"):
        trustvlm.bulk.score(home, "space", given, out)
    report = trustvlm.bulk.score(home, "space", given, out, redo=True)
    assert report.verdicts is not None
    assert report.verdicts.accepted > 0
    assert equal(out / "part-1-00000.parquet", scored(home, batch(1)))


def test_rows_that_are_no_vectors_have_a_reason(home: Path, tmp_path: Path) -> None:
    vectors = batch(0)
    classifier, verifier = (np.array(side) for side in (vectors.classifier, vectors.verifier))
    verifier[3, 1], classifier[5] = np.nan, 0.0
    rows = [*classifier]
    rows[7], rows[9] = None, classifier[9][:4]
    names = [f"photo {row}" for row in range(ROWS)]
    file = tmp_path / "in.parquet"
    pq.write_table(
        pa.table({"classifier": pa.array(rows), "verifier": list(verifier), "id": names}), file
    )
    report = trustvlm.bulk.score(home, "space", file, tmp_path / "out")
    assert (report.rows, report.failed) == (ROWS, 4)
    table = pq.read_table(tmp_path / "out" / "in-00000.parquet")
    assert table.column("source").to_pylist() == names
    reasons = {i: why for i, why in enumerate(table.column("failure").to_pylist()) if why}
    assert reasons == {
        3: "verifier: expected finite values, got NaN or infinity",
        5: "classifier: expected a vector, got one of length 0",
        7: "classifier: expected a vector of 32 values, got none",
        9: "classifier: expected a vector of 32 values, got 4 values",
    }
    good = np.array([row for row in range(ROWS) if row not in reasons])
    verdicts = scored(home, Queries(classifier[good], verifier[good]))
    labels = np.array(table.column("label").to_pylist(), dtype=object)
    assert labels[good].tolist() == verdicts.label.tolist()
    assert all(labels[row] is None for row in reasons)


def test_a_file_that_cannot_be_read_stops_no_other(
    home: Path, given: Path, tmp_path: Path, cli: Cli
) -> None:
    content = bytearray((given / "part-1.parquet").read_bytes())
    content[4:40] = b"\xff" * 36  # the head of its first page; its end, with the schema, stays
    (given / "part-1.parquet").write_bytes(content)
    out = tmp_path / "out"
    message = cli("bulk", "score", "space", given, out, code=2)
    assert "1 of 3 parts of the input could not be read" in message
    assert "could not be read: part-1-00000" in message
    assert trustvlm.bulk.status(out).done == 2
    write_vectors(given / "part-1.parquet", batch(1))
    assert trustvlm.bulk.score(home, "space", given, out).done_now == 1


def test_bad_arguments_are_refused_before_work_begins(
    home: Path, given: Path, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    narrow = write_vectors(tmp_path / "narrow.parquet", Queries(np.ones((4, 3), np.float32)))
    fixed = pa.FixedSizeListArray.from_arrays(pa.array(np.ones(9, np.float32)), 3)
    pq.write_table(pa.table({"classifier": fixed}), tmp_path / "fixed.parquet")
    pq.write_table(pa.table({"numbers": [1, 2]}), tmp_path / "other.parquet")
    pq.write_table(pa.table({"classifier": ["a"]}), tmp_path / "texts.parquet")
    cases = [
        ({"input": tmp_path / "fixed.parquet"}, "expected vectors of 32 values"),
        ({"input": tmp_path / "other.parquet"}, "expected columns classifier or verifier"),
        ({"input": tmp_path / "texts.parquet"}, "expected lists of 32 numbers"),
        ({"input": narrow, "rule": "trustvlm"}, "verifier"),
        ({"rule": "nothing"}, "nothing"),
        ({"params": {"tau": 1.0}, "rule": "msp"}, "tau"),
        ({"on": "processes:0"}, "on: expected here, processes:N"),
        ({"on": "spark"}, "on: expected here, processes:N"),
        ({"actors": 2}, "actors: is for on='ray'"),
        ({"rows": 0}, "rows: expected a whole number"),
        ({"keep_embeddings": True}, "holds vectors already"),
        ({"exclude": ["a*"]}, "exclude: is for folders of images"),
        ({"out": given / "below"}, "lies in the input"),
        ({"redo": "yes"}, "redo: expected True or False"),
    ]
    for changed, what in cases:
        arguments = {"space": "space", "input": given, "out": out} | changed
        with pytest.raises(InvalidInput, match=what):
            trustvlm.bulk.score(home, **arguments)
    with pytest.raises(InvalidInput, match="expected images to embed"):
        trustvlm.bulk.embed(home, "space", given, out)
    for changed in ({"space": "other"}, {"input": tmp_path / "gone"}):
        arguments = {"space": "space", "input": given, "out": out} | changed
        with pytest.raises(NotFound):
            trustvlm.bulk.score(home, **arguments)
    assert not out.exists()
    with pytest.raises(NotFound, match="no bulk work in"):
        trustvlm.bulk.status(out)


def test_files_of_others_are_not_touched(home: Path, given: Path, tmp_path: Path) -> None:
    foreign = write_vectors(tmp_path / "out" / "part-0-00000.parquet", batch(0))
    content = foreign.read_bytes()
    for redo in (False, True):
        with pytest.raises(Conflict, match="expected a file that bulk work has written"):
            trustvlm.bulk.score(home, "space", given, tmp_path / "out", redo=redo)
    assert foreign.read_bytes() == content


def test_the_command_line(home: Path, given: Path, tmp_path: Path, cli: Cli) -> None:
    out = tmp_path / "out"
    printed = cli("bulk", "score", "space", given, out, "--rule", "msp")
    assert "3 written now, 0 were there" in printed
    assert "rows a second" in printed
    answer = json.loads(
        cli("bulk", "score", "space", given, out, "--rule", "msp", "--format", "json")
    )
    assert (answer["done_before"], answer["rows"]) == (3, FILES * ROWS)
    assert sum(one["rows"] for one in answer["verdicts"]["by_label"]) == FILES * ROWS
    refused = cli("bulk", "score", "space", given, out, "--rule", "margin", code=4)
    assert "--redo makes such files again" in refused
    assert f"{FILES * ROWS} of {FILES * ROWS}" in cli("bulk", "status", out)
    state = json.loads(cli("bulk", "status", out, "--format", "json"))
    assert (state["done"], state["rule"], state["running"]) == (3, "msp", 0)
    assert cli("--url", "http://127.0.0.1:9", "bulk", "score", "space", given, out, code=2)
