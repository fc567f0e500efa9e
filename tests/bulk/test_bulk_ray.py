"""Bulk work on a Ray cluster of two nodes, and the class for pipelines of Ray Data."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import psutil
import pyarrow.parquet as pq
import pytest
from bulk_worlds import FILES, ROWS, batch, equal, folder_of_vectors, scored, sources
from kills import command, killed, started
from numbered import queries
from waiting import until

import trustvlm.bulk
from trustvlm import InvalidInput, NotFound
from trustvlm.ray import Scorer

PAGE = Path(__file__).resolve().parents[2] / "docs" / "bulk.md"
UNITS = 12


@pytest.fixture(scope="module")
def cluster() -> Iterator[str]:
    """The address of a cluster of two nodes with a core each."""
    pytest.importorskip("ray", reason="Ray is not installed (pip install trustvlm[ray])")
    script = str(Path(__file__).with_name("ray_cluster.py"))
    with subprocess.Popen(
        [sys.executable, script],
        text=True,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
    ) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        address = process.stdout.readline().strip()
        assert address, "the cluster did not start"
        yield address
        process.stdin.close()
        process.wait(60)


def actors() -> list[psutil.Process]:
    """The processes of this machine that are actors of ours."""
    return [
        process
        for process in psutil.process_iter(["cmdline"])
        if "ray::_Actor" in " ".join(process.info["cmdline"] or ())
    ]


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_actors_on_two_nodes_give_the_bits_of_one_process(
    home: Path, tmp_path: Path, cluster: str
) -> None:
    given, out = folder_of_vectors(tmp_path / "in"), tmp_path / "out"
    done = subprocess.run(
        command(home, given, out, "--on", f"ray:{cluster}", "--actors", "2"),
        capture_output=True, text=True, check=False, timeout=600,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert "3 written now" in done.stdout
    for number in range(FILES):
        assert equal(out / f"part-{number}-00000.parquet", scored(home, batch(number)))
    crowded = subprocess.run(
        command(home, given, tmp_path / "no", "--on", f"ray:{cluster}", "--actors", "3"),
        capture_output=True, text=True, check=False, timeout=600,
    )  # fmt: skip
    assert crowded.returncode == 2
    assert "the cluster has 2 cores" in crowded.stderr


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_killed_actors_and_a_killed_driver(home: Path, tmp_path: Path, cluster: str) -> None:
    given, out = folder_of_vectors(tmp_path / "in", UNITS, 3_000), tmp_path / "out"
    arguments = command(home, given, out, "--on", f"ray:{cluster}")
    with started(arguments) as driver:
        until(lambda: len(list(out.glob("*.parquet"))) >= 1, 400)
        killed(actors()[0])
        until(lambda: len(list(out.glob("*.parquet"))) >= 5, 400)
        killed(driver)
        driver.communicate(timeout=60)
    until(lambda: not actors(), 120)
    for path in out.glob("*.parquet"):
        assert len(pq.read_table(path)) == 3_000
    done = subprocess.run(arguments, capture_output=True, text=True, check=False, timeout=600)
    assert done.returncode == 0, done.stderr
    names = sources(out)
    assert len(names) == len(set(names)) == UNITS * 3_000
    report = trustvlm.bulk.score(home, "space", given, out)
    assert (report.done_now, report.rows) == (0, UNITS * 3_000)
    assert not [path for path in out.iterdir() if path.name.startswith(".")]


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_the_pipeline_of_the_page(home: Path, tmp_path: Path) -> None:
    pytest.importorskip("ray", reason="Ray is not installed (pip install trustvlm[ray])")
    pytest.importorskip("pandas")
    folder_of_vectors(tmp_path / "vectors")
    (code,) = re.findall(r"```python\n(import ray\n.*?)```", PAGE.read_text("utf-8"), re.DOTALL)
    code = code.replace('"/data/home"', repr(str(home))).replace('"birds"', '"space"')
    script = tmp_path / "pipeline.py"
    script.write_text(code, encoding="utf-8")
    # "local": not a cluster that an earlier test, ended by its time limit, has left behind
    environment = os.environ | {"RAY_USAGE_STATS_ENABLED": "0", "RAY_ADDRESS": "local"}
    done = subprocess.run(
        [sys.executable, script], cwd=tmp_path, env=environment,
        capture_output=True, text=True, check=False, timeout=800,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-4000:]
    table = pq.read_table(tmp_path / "scored")
    assert len(table) == FILES * ROWS
    labels = {tuple(row["classifier"]): row["label"] for row in table.to_pylist()}
    for number in range(FILES):
        vectors = batch(number)
        expected = scored(home, vectors).label.tolist()
        rows = map(tuple, np.asarray(vectors.classifier).tolist())
        assert [labels[row] for row in rows] == expected


def test_the_scorer_adds_the_columns_of_verdicts(home: Path) -> None:
    vectors = queries(7)
    scorer = Scorer(home=str(home), space="space", rule="posterior")
    given = {"classifier": vectors.classifier, "verifier": vectors.verifier, "id": np.arange(7)}
    got = scorer(given)
    verdicts = scored(home, vectors, rule="posterior")
    assert [*got] == [*given, *verdicts.to_arrow().column_names, "failure"]
    assert got["label"].tolist() == verdicts.label.tolist()
    assert got["trust"].tobytes() == verdicts.trust.tobytes()
    assert got["top_labels"][2] == verdicts.top_labels[2].tolist()
    assert {len(values) for values in got.values()} == {7}
    ragged = {
        side: np.array([*np.asarray(given[side]), None], object)[:7]
        for side in ("classifier", "verifier")
    }
    assert scorer(ragged)["label"].tolist() == verdicts.label.tolist()
    with pytest.raises(InvalidInput, match="it has a column 'label' already"):
        scorer(given | {"label": np.arange(7)})
    named = Scorer(home=str(home), space="space", prefix="trust_")
    assert "trust_label" in named(given | {"label": np.arange(7)})
    with pytest.raises(InvalidInput, match="expected columns classifier or verifier"):
        scorer({"numbers": np.arange(3)})
    with pytest.raises(NotFound):
        Scorer(home=str(home), space="other")
    with pytest.raises(InvalidInput, match="expected the name of a space"):
        Scorer(home=str(home))


def test_the_scorer_judges_claims(home: Path) -> None:
    vectors = queries(3)
    names = np.array([scored(home, vectors).label[0], None, "nothing"], object)
    given = {"classifier": vectors.classifier, "verifier": vectors.verifier, "said": names}
    got = Scorer(home=str(home), space="space", claimed="said")(given)
    expected = scored(home, replace(vectors, claimed=names))
    assert got["claimed"].tolist() == names.tolist()
    assert got["decision"].tolist() == expected.decision.tolist()
    assert got["reason_code"].tolist()[2] == "not_a_label"
    assert got["claimed_trust"].tobytes() == expected.claimed_trust.tobytes()
    with pytest.raises(InvalidInput, match=r"no column 'sad'; it has .*did you mean 'said'"):
        Scorer(home=str(home), space="space", claimed="sad")(given)


@pytest.mark.slow  # by default: tests/project/test_architecture.py
def test_the_scorer_needs_no_ray(home: Path) -> None:
    code = (
        "import sys, trustvlm.ray, trustvlm.bulk\n"
        "print([name for name in ('ray', 'torch', 'faiss') if name in sys.modules])"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=120
    )
    assert done.stdout.strip() == "[]"
