"""The verdict log of a space: off it stores nothing, on it stores each answer once, within its
bounds, and what is deleted stays deleted."""

from __future__ import annotations

import os
import resource
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
from cli_runner import Cli
from forked import Child
from raw_sql import run_sql
from test_verdict_reasons import images_of
from worlds import World, make_space

import trustvlm
from trustvlm import Queries, TrustService
from trustvlm.service.home.verdict_log import writer
from trustvlm.types.verdict_log import LoggedVerdict

pytestmark = pytest.mark.both_back_ends(slow=True)

NAMES = ["airport", "beach", "bridge", "desert"]
COUNT = "SELECT COUNT(*) FROM verdict_log"


@pytest.fixture
def service(tmp_path: Path) -> Any:
    """An open home with the space "s" of four labels."""
    with trustvlm.open(tmp_path / "home", create=True) as made:
        make_space(made)
        made.register("s", World(NAMES).inputs(3))
        yield made


def incoming(count: int, seed: int = 7) -> Queries:
    return images_of(World(NAMES), count, seed, noise=1.2)[0]


def logged(service: TrustService, **which: Any) -> tuple[LoggedVerdict, ...]:
    return service.verdict_log("s").page(limit=10_000, **which).verdicts


def test_off_it_stores_nothing(service: TrustService, tmp_path: Path) -> None:
    service.score("s", incoming(5))
    status = service.verdict_log("s").status()
    assert (status.logging, status.days, status.rows, status.stored) == (False, 30.0, 100_000, 0)
    assert logged(service) == ()
    names = {thread.name for thread in writer.threading.enumerate()}
    assert "trustvlm-verdicts" not in names
    assert run_sql(tmp_path / "home", COUNT) == [(0,)]


def test_each_answer_is_a_row_with_the_values_of_its_verdict(service: TrustService) -> None:
    queries, truth = images_of(World(NAMES), 200, 1, noise=1.2)
    assert not service.calibrate("s", queries, truth, max_risk=0.2).failed
    service.verdict_log("s").switch(True)
    verdicts = service.score("s", incoming(40))
    service.score("s", incoming(9), review=False)  # an experiment
    rows = logged(service)[::-1]
    table = verdicts.to_arrow()
    assert len(rows) == 40
    for name in set(table.column_names) & set(LoggedVerdict.__dataclass_fields__):
        expected = table.column(name).to_pylist()
        assert [getattr(row, name) for row in rows] == pytest.approx(expected), name
    assert {row.calibration_id for row in rows} == {verdicts.calibration_id}
    assert {row.claimed for row in rows} == {row.request_id for row in rows} == {None}
    report = service.monitor("s")
    accepted = int(sum(one is True for one in verdicts.accepted.tolist()))
    assert (report.logged, report.accepted) == (40, accepted)
    exported = service.verdict_log("s").page().to_arrow().schema
    for name in set(table.column_names) & set(exported.names):
        assert exported.field(name).type == table.schema.field(name).type, name


def test_claims_nodes_and_names_of_images(service: TrustService) -> None:
    service.verdict_log("s").switch(True)
    service.set_parents("s", {"airport": "built", "bridge": "built"})
    queries = incoming(3)
    claims = ["beach", "no\0thing \ud800" + "x" * 9_000, None]
    claimed = Queries(queries.classifier, queries.verifier, claimed=claims)
    verdicts = service.score("s", claimed, rule="posterior", back_off=0.5)
    first, second, third = logged(service)[::-1]
    assert (first.claimed, first.claimed_id) == ("beach", int(verdicts.claimed_id[0]))
    assert first.decision == verdicts.decision[0]
    assert first.claimed_probability == pytest.approx(verdicts.claimed_probability[0])
    assert second.claimed is not None
    assert second.claimed.startswith("no\\x00thing \\udc00"[:12])
    assert len(second.claimed) == 4_000
    assert (second.claimed_id, second.reason_code) == (None, "not_a_label")
    assert (third.claimed, third.claimed_id) == (None, None)
    assert [row.node for row in (first, second, third)] == verdicts.node.tolist()


@pytest.mark.both_back_ends
def test_pages_filters_and_samples(service: TrustService, tmp_path: Path) -> None:
    log = service.verdict_log("s")
    log.switch(True)
    for seed in range(3):
        service.score("s", incoming(7, seed))
    everything = logged(service)
    assert len(everything) == 21
    assert list(everything) == sorted(everything, key=lambda row: (row.at, row.id), reverse=True)
    page, found = log.page(limit=4), list[LoggedVerdict]()
    while True:
        found += page.verdicts
        if page.next_cursor is None:
            break
        page = log.page(limit=4, cursor=page.next_cursor)
    assert tuple(found) == everything
    for name in NAMES:
        rows = [row for row in everything if row.label == name]
        assert list(logged(service, label=name)) == rows
    times = sorted({row.at for row in everything})
    assert len(times) == 3
    assert {row.at for row in logged(service, since=times[1])} == set(times[1:])
    assert {row.at for row in logged(service, until=times[1])} == {times[0]}
    assert len(logged(service, decision="review")) == 21
    assert logged(service, decision="accept") == logged(service, request_id="x") == ()
    drawn = log.page(sample=5, seed=1).verdicts
    assert len(drawn) == 5
    assert set(drawn) <= set(everything)
    assert drawn == log.page(sample=5, seed=1).verdicts
    assert log.page(sample=100).verdicts == everything
    written = log.export(tmp_path / "v.parquet", label=everything[0].label)
    rows = pq.read_table(tmp_path / "v.parquet").to_pylist()
    assert [LoggedVerdict(**row) for row in rows] == list(
        logged(service, label=everything[0].label)
    )
    assert written == len(rows)
    assert log.export(tmp_path / "two.parquet", limit=2) == 2


def test_a_sample_has_each_row_with_the_same_chance(service: TrustService) -> None:
    log = service.verdict_log("s")
    log.switch(True)
    service.score("s", incoming(20))
    first = min(row.id for row in logged(service))
    drawn = np.zeros(20)
    for seed in range(200):
        for row in log.page(sample=5, seed=seed).verdicts:
            drawn[row.id - first] += 1
    assert np.all(np.abs(drawn - 50) <= 5 * np.sqrt(200 * 0.25 * 0.75)), drawn


@pytest.mark.parametrize(
    ("wrong", "match"),
    [
        ({"since": datetime(2030, 1, 1)}, "since: expected a datetime with a time zone"),
        ({"until": "yesterday"}, "until: expected a datetime"),
        ({"decision": "yes"}, "decision: expected one of accept, review, unknown"),
        ({"label": 3}, "label: expected a text"),
        ({"limit": 0}, "limit: expected a whole number from 1 to 10000"),
        ({"cursor": "x"}, "cursor: expected the next_cursor"),
        ({"label": ""}, "label: expected a text"),
        ({"sample": 2, "cursor": "1-1"}, "sample, cursor: a sample is one page"),
        ({"sample": 2, "limit": 3}, "sample, limit: a sample is one page"),
        ({"seed": 3, "limit": 1}, "seed: expected a sample beside it"),
        ({"sample": -1}, "sample: expected a whole number"),
    ],
)
def test_what_cannot_be_asked(service: TrustService, wrong: dict[str, Any], match: str) -> None:
    with pytest.raises(trustvlm.InvalidInput, match=match):
        service.verdict_log("s").page(**wrong)


def test_an_export_refuses_what_a_page_refuses(service: TrustService, tmp_path: Path) -> None:
    for wrong in ({"sample": 2, "limit": 3}, {"seed": 3}):
        with pytest.raises(trustvlm.InvalidInput, match="sample"):
            service.verdict_log("s").export(tmp_path / "v.parquet", **wrong)
    service.score("s", incoming(2))
    assert service.verdict_log("s").export(tmp_path / "v.parquet", sample=2) == 0


def test_what_cannot_be_kept(service: TrustService, tmp_path: Path) -> None:
    log = service.verdict_log("s")
    for wrong in ({"days": 0}, {"rows": 0}, {"rows": 2.5}, {"days": float("nan")}):
        with pytest.raises(trustvlm.InvalidInput, match="expected"):
            log.switch(True, **wrong)
    with pytest.raises(trustvlm.InvalidInput, match="logging: expected True or False"):
        log.switch("no")  # type: ignore[arg-type]
    assert not log.status().logging
    with pytest.raises(trustvlm.NotFound, match="no space 'nowhere'"):
        service.verdict_log("nowhere").switch(True)
    with pytest.raises(trustvlm.InvalidInput, match=r"ends with \.parquet"):
        log.export(tmp_path / "v.csv")
    with pytest.raises(trustvlm.ReadOnly, match="cannot be written"):
        log.export(tmp_path / "none" / "v.parquet")


@pytest.mark.both_back_ends
def test_old_rows_and_too_many_rows_go(service: TrustService, tmp_path: Path) -> None:
    log = service.verdict_log("s")
    log.switch(True, rows=10)
    for seed in range(3):
        service.score("s", incoming(6, seed))
        newest = logged(service)
        assert len(newest) <= 10
    assert len(newest) == 10
    assert (log.switch(False, rows=4).stored, log.status().rows) == (4, 4)
    service.score("s", incoming(6))
    assert logged(service) == newest[:4]
    old = datetime.now(UTC) - timedelta(days=31)
    ids = [row.id for row in newest[2:4]]
    run_sql(
        tmp_path / "home", f"UPDATE verdict_log SET at = ? WHERE id IN ({ids[0]}, {ids[1]})",
        old.replace(tzinfo=None).isoformat(" "),
    )  # fmt: skip
    service.purge()
    assert logged(service) == newest[:2]
    assert log.switch(True, discard=True).stored == 0


def test_a_purged_label_leaves_no_row_and_a_purged_space_none_at_all(
    service: TrustService, tmp_path: Path
) -> None:
    log = service.verdict_log("s")
    log.switch(True)
    queries = incoming(12)
    service.score("s", queries)
    service.score("s", Queries(queries.classifier, queries.verifier, claimed=["beach"] * 12))
    gone = {row.id for row in logged(service) if "beach" in (row.label, row.claimed)}
    assert 12 < len(gone) < 24
    service.remove_label("s", "beach")
    assert len(logged(service)) == 24  # it can be restored
    service.purge(older_than=timedelta(0))
    rest = logged(service)
    assert len(rest) == 24 - len(gone)
    assert "beach" not in {row.label for row in rest} | {row.claimed for row in rest}
    service.remove_space("s")
    with pytest.raises(trustvlm.NotFound):
        log.status()
    service.purge(older_than=timedelta(0))
    assert run_sql(tmp_path / "home", COUNT) == [(0,)]


def test_what_finds_no_room_is_dropped_and_counted(
    service: TrustService, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(writer, "MOST_ROWS", 10)
    monkeypatch.setattr(writer, "_GATHER_S", 600.0)
    counted = list[tuple[str, int, int]]()
    service._home.verdict_writer.counted = lambda *numbers: counted.append(numbers)
    log = service.verdict_log("s")
    log.switch(True)
    service.score("s", incoming(25))
    service.score("s", incoming(6))
    status = log.status()
    assert (status.stored, status.dropped) == (25, 6)
    assert counted == [("s", 25, 6)]
    assert log.switch(True, discard=True).dropped == 0


@pytest.mark.only_sqlite("the limit is one of this process, not of the server")
def test_what_a_full_disk_loses_is_counted_later(service: TrustService) -> None:
    """Where there is no room for the answers, there is none for their number either."""
    log = service.verdict_log("s")
    log.switch(True)
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (4096, hard))  # of any file: less than a page
    try:
        service.score("s", incoming(6))
        assert log.status().stored == 0
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    service.score("s", incoming(2))
    status = log.status()
    assert (status.stored, status.dropped) == (2, 6)


def test_read_only_homes_say_that_they_log_nothing(
    service: TrustService, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    service.verdict_log("s").switch(True)
    with trustvlm.open(tmp_path / "home", read_only=True) as reader:
        for _ in range(2):
            reader.score("s", incoming(3))
        with pytest.raises(trustvlm.ReadOnly):
            reader.verdict_log("s").switch(False)
    assert [record.message for record in caplog.records] == [
        "space 's' logs its verdicts, but not those of this process: the home is open for reading "
        "only"
    ]
    assert logged(service) == ()


def test_a_program_that_ends_without_closing_its_home_loses_nothing(
    service: TrustService, tmp_path: Path
) -> None:
    service.verdict_log("s").switch(True)
    program = tmp_path / "program.py"
    program.write_text(
        "import numpy, trustvlm\n"
        f"service = trustvlm.open({str(tmp_path / 'home')!r})\n"
        "service.score('s', trustvlm.Queries(numpy.eye(16)[:3]), rule='msp')\n"
    )
    with Child([str(program)], os.environ) as child:
        assert child.wait(120) == 0
    assert [row.rule for row in logged(service)] == ["msp"] * 3


@pytest.mark.both_back_ends
def test_copies_and_checks_know_the_log(service: TrustService, tmp_path: Path) -> None:
    service.verdict_log("s").switch(True)
    service.score("s", incoming(5))
    assert len(logged(service)) == 5
    assert service.verify().checked["verdict"] == 5
    run_sql(tmp_path / "home", "UPDATE verdict_log SET decision = 'yes' WHERE id = 2")
    assert [(one.kind, one.row_id) for one in service.verify().damage] == [("verdict", 2)]
    assert service.verify(repair=True).clean
    assert len(logged(service)) == 4


def test_the_command_line(service: TrustService, tmp_path: Path) -> None:
    cli = Cli(tmp_path / "home")
    queries = incoming(4)
    np.savez(tmp_path / "q.npz", classifier=queries.classifier, verifier=queries.verifier)
    listed = cli.run("space", "verdicts", "s")
    assert listed.stderr == (
        "the space logs no answers; 'trustvlm space log-verdicts s' makes it do so\n"
    )
    said = cli("space", "log-verdicts", "s", "--days", "7", "--rows", "50")
    assert said == (
        "space s: logging from now on; 0 rows stored, deleted after 7 days and beyond the newest "
        "50\n"
    )
    cli("score", "s", "--vectors", str(tmp_path / "q.npz"))
    assert [row.source for row in logged(service)] == [f"q.npz[{place}]" for place in (3, 2, 1, 0)]
    table = cli("space", "verdicts", "s", "--since", "1h", "--limit", "2")
    assert table.count("q.npz[") == 2
    path = str(tmp_path / "v.parquet")
    assert cli("space", "verdicts", "s", "--out", path) == f"4 rows written to {path}\n"
    assert "stored:  4" in cli("space", "log-verdicts", "s", "--status")
    for options in (("--sample", "5", "--limit", "3"), ("--seed", "3"), ("--request-id", "")):
        assert "expected" in cli("space", "verdicts", "s", *options, code=2)
    for command in (("space", "verdicts"), ("review", "add-logged")):
        nothing = cli.run(*command, "s", "--label", "zzz").stderr
        assert nothing.startswith("no logged answer has the label 'zzz'\n")
    assert cli.run("space", "verdicts", "s", "--until", "7d").stderr == (
        "none of 4 logged answers fits\n"
    )
    wrong = cli("space", "verdicts", "s", "--since", "tomorrow", code=2)
    assert "expected a time in UTC such as 2030-01-31" in wrong
    off = cli("space", "log-verdicts", "s", "--off", "--discard")
    assert "not logging; 0 rows stored" in off
