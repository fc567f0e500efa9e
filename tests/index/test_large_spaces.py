"""Spaces that are searched through 16-bit rows of a mapped snapshot answer as those do whose rows
are float32 in memory."""

from __future__ import annotations

import logging
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from thresholds import set_thresholds

import trustvlm
from benchmarks.synthetic import DIM, Labels
from trustvlm import LabelInput, Queries, TrustService, Verdicts
from trustvlm.index.snapshot import read_snapshot, write_snapshot

LABELS, VERIFIER, QUERIES = 3_000, 48, 24
HALF_FROM = 1_000


def prototype_rows(count: int, seed: int = 5) -> np.ndarray:
    """(count, VERIFIER) float32 directions of labels in the verifier's space."""
    return np.random.default_rng(seed).standard_normal((count, VERIFIER)).astype(np.float32)


def inputs(start: int, stop: int) -> list[LabelInput]:
    """Labels, two of three with two support images."""
    texts, centres = (
        Labels(LABELS + 500).text(start, stop),
        prototype_rows(LABELS + 500)[start:stop],
    )
    noise = np.random.default_rng(start).standard_normal((stop - start, 2, VERIFIER)) * 0.3
    return [
        LabelInput(
            f"label {i:05d}",
            texts[i - start],
            image_vectors=None if i % 3 == 2 else centres[i - start] + noise[i - start],
        )
        for i in range(start, stop)
    ]


@pytest.fixture(scope="module")
def asked() -> Queries:
    images, truth = Labels(LABELS).images(QUERIES)
    noise = np.random.default_rng(8).standard_normal((QUERIES, VERIFIER)) * 0.8
    return Queries(images, prototype_rows(LABELS + 500)[truth] + noise)


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    home = tmp_path_factory.mktemp("large") / "home"
    with trustvlm.open(home, create=True) as service:
        service.create_space(
            "space", classifier=f"precomputed:{DIM}", verifier=f"precomputed:{VERIFIER}"
        )
        service.register("space", inputs(0, LABELS))
        assert not list(home.rglob("*.snapshot"))
    with pytest.MonkeyPatch.context() as patched:
        patched.setenv("TRUSTVLM_HALF_FROM", str(HALF_FROM))
        with trustvlm.open(home) as service:
            service.rebuild_index("space")
    return home


@pytest.fixture
def home(made: Path, tmp_path: Path) -> Path:
    return shutil.copytree(made, tmp_path / "home")


@pytest.fixture(autouse=True)
def large_from_a_thousand(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TRUSTVLM_HALF_FROM", str(HALF_FROM))


@pytest.fixture
def bulk(home: Path) -> Path:
    """The home after its labels were registered, before any query: without a snapshot."""
    (snapshot,) = home.rglob("*.snapshot")
    snapshot.unlink()
    return home


def in_float32(home: Path, monkeypatch: pytest.MonkeyPatch) -> TrustService:
    """The home opened so that everything is float32 in memory."""
    monkeypatch.setenv("TRUSTVLM_HALF_FROM", str(10**9))
    service = trustvlm.open(home, read_only=True)
    monkeypatch.setenv("TRUSTVLM_HALF_FROM", str(HALF_FROM))
    return service


def require_alike(got: Verdicts, expected: Verdicts) -> None:
    """Equal for 16-bit rows (docs/rules.md, "Equality"): numbers within 2e-3, a label may differ
    where the top two differ by less."""
    for name in (
        "text_confidence",
        "image_similarity",
        "trust",
        "nearest_similarity",
        "top_confidence",
    ):
        np.testing.assert_allclose(
            getattr(got, name), getattr(expected, name), atol=2e-3, err_msg=name
        )
    assert (got.label == expected.label).all()
    assert (got.unverified == expected.unverified).all()
    assert (got.nearest_prototype == expected.nearest_prototype).all()
    assert got.revision == expected.revision


def require_alike_soon(service: TrustService, exact: TrustService, asked: Queries) -> None:
    """The same, once both answer with the same fit: after a change it is made in the background."""
    for _ in range(100):
        got, expected = service.score("space", asked), exact.score("space", asked)
        if got.tau_revision == expected.tau_revision:
            break
        time.sleep(0.1)
    require_alike(got, expected)


LOGITS = ("energy", "max_logit", "margin", "entropy", "doctor")
"""Rules whose trust is logits, nats or ratios, no probability."""


def test_every_rule_gives_the_same_verdicts(
    home: Path, asked: Queries, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In a batch, and one query at a time."""
    assert asked.classifier is not None
    assert asked.verifier is not None
    with trustvlm.open(home) as service, in_float32(home, monkeypatch) as exact:
        for rule in trustvlm.RULES:
            got, expected = (one.score("space", asked, rule=rule) for one in (service, exact))
            assert (got.approximate, got.error_bound) == (True, 1e-3)
            assert not expected.approximate
            if rule in LOGITS:
                np.testing.assert_allclose(got.trust, expected.trust, atol=2e-3, rtol=2e-3)
            else:
                require_alike(got, expected)
            assert next(iter(got.rows())).keys() == next(iter(expected.rows())).keys()
        expected = exact.score("space", asked)
        for i in range(0, QUERIES, 6):
            one = service.score(
                "space", Queries(asked.classifier[i : i + 1], asked.verifier[i : i + 1])
            )
            assert one.label[0] == expected.label[i]
            assert abs(one.trust[0] - expected.trust[i]) < 2e-3


def test_changes_are_seen_at_once_and_survive_the_next_snapshot(
    home: Path, asked: Queries, monkeypatch: pytest.MonkeyPatch
) -> None:
    with trustvlm.open(home) as service, trustvlm.open(home) as watcher:
        watcher.score("space", asked)
        (snapshot,) = home.rglob("*.snapshot")
        written = snapshot.stat().st_ino
        service.register("space", inputs(LABELS, LABELS + 50))
        service.remove_label("space", "label 00007")
        service.update_label("space", "label 00008", new_name="eight")
        service.add_support("space", "label 00009", image_vectors=prototype_rows(2, 77))
        service.alias("space", "label 00011", of="label 00010")
        with in_float32(home, monkeypatch) as exact:
            for one in (service, watcher):
                require_alike_soon(one, exact, asked)
                texts = Queries(classifier=Labels(LABELS + 500).text(7, 9))
                found = one.search("space", texts, kind="text", k=1).labels[:, 0].tolist()
                assert found == exact.search("space", texts, kind="text", k=1).labels[:, 0].tolist()
                assert found[1] == "eight"
        assert snapshot.stat().st_ino == written  # so few changes lie in memory only
        watcher.rebuild_index("space")
        assert snapshot.stat().st_ino != written
        with in_float32(home, monkeypatch) as exact, trustvlm.open(home) as third:
            for one in (service, watcher, third):
                require_alike_soon(one, exact, asked)


def test_searches_find_the_same(
    home: Path, asked: Queries, monkeypatch: pytest.MonkeyPatch
) -> None:
    with trustvlm.open(home) as service, in_float32(home, monkeypatch) as exact:
        for kind in ("text", "prototype", "support"):
            for k in (1, 10, LABELS + 5):
                got, expected = (
                    service.search("space", asked, kind=kind, k=k),
                    exact.search("space", asked, kind=kind, k=k),
                )
                np.testing.assert_allclose(got.similarity, expected.similarity, atol=2e-6)
                assert (
                    got.ids == expected.ids
                ).mean() > 0.99  # float32 sums may order equals differently


@pytest.mark.parametrize("share", [0.002, 0.3])
def test_subsets(home: Path, asked: Queries, share: float, monkeypatch: pytest.MonkeyPatch) -> None:
    mask = np.random.default_rng(2).random(LABELS) < share
    names = [f"label {i:05d}" for i in np.flatnonzero(mask).tolist()]
    with trustvlm.open(home) as service, in_float32(home, monkeypatch) as exact:
        expected = exact.score("space", asked, labels=names)
        require_alike(service.score("space", asked, labels=names), expected)
        require_alike(service.score("space", asked, labels=mask), expected)
        assert set(expected.label) <= set(names)


def test_near_synonyms(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    texts = Labels(LABELS).text(100, 103).astype(np.float64)
    near = texts + 0.005 * np.random.default_rng(4).standard_normal(texts.shape)
    with trustvlm.open(home) as service:
        service.register(
            "space", [LabelInput(f"again {i}", vector) for i, vector in enumerate(near)]
        )
        service.rebuild_index("space")
        found = service.near_synonyms("space")
    with in_float32(home, monkeypatch) as exact:
        expected = exact.near_synonyms("space")
    assert [pair[:2] for pair in found] == [pair[:2] for pair in expected]
    assert {("again 0", "label 00100"), ("again 1", "label 00101"), ("again 2", "label 00102")} <= {
        pair[:2] for pair in found
    }


def test_many_changes_are_written_in_the_background(
    home: Path, asked: Queries, monkeypatch: pytest.MonkeyPatch
) -> None:
    set_thresholds(home, snapshot_rows=100)
    with trustvlm.open(home) as service:
        service.score("space", asked)
        (snapshot,) = home.rglob("*.snapshot")
        written = snapshot.stat().st_ino
        service.register("space", inputs(LABELS, LABELS + 400))
        service.score("space", asked)
        service._home.caches.close()  # waits for the writer
        assert snapshot.stat().st_ino != written
        assert service.index_stats("space").labels == LABELS + 400
        with in_float32(home, monkeypatch) as exact:
            require_alike_soon(service, exact, asked)


def test_a_home_that_cannot_be_written_and_has_no_snapshot(
    bulk: Path, asked: Queries, monkeypatch: pytest.MonkeyPatch
) -> None:
    with trustvlm.open(bulk, read_only=True) as service, in_float32(bulk, monkeypatch) as exact:
        require_alike(service.score("space", asked), exact.score("space", asked))
    assert not list(bulk.rglob("*.snapshot"))


def test_the_first_query_is_answered_from_memory_while_the_snapshot_is_written(
    bulk: Path, asked: Queries, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By the process that meets the labels, before and after it starts over from the file."""
    with trustvlm.open(bulk) as service, in_float32(bulk, monkeypatch) as exact:
        first, expected = (one.score("space", asked) for one in (service, exact))
        assert (first.approximate, first.error_bound) == (False, 0.0)
        assert (first.label == expected.label).all()
        np.testing.assert_array_equal(first.trust, expected.trust)
        service.register("space", inputs(LABELS, LABELS + 1))
        assert service.score("space", asked).revision == first.revision + 1
        service._home.caches.close()  # waits for the writer
        assert len(list(bulk.rglob("*.snapshot"))) == 1
        later = service.score("space", asked)
        assert (later.approximate, later.revision) == (True, first.revision + 1)
        require_alike_soon(service, exact, asked)


def test_rows_that_take_too_much_memory_go_into_a_snapshot_first(
    bulk: Path, asked: Queries
) -> None:
    set_thresholds(bulk, memory_bytes=4 * LABELS * DIM)
    with trustvlm.open(bulk) as service:
        assert service.score("space", asked).approximate
        assert len(list(bulk.rglob("*.snapshot"))) == 1


def test_a_purge_leaves_nothing_behind_and_the_next_query_writes_anew(
    home: Path, asked: Queries
) -> None:
    with trustvlm.open(home) as service:
        service.score("space", asked)
        secret = Labels(LABELS + 500).text(42, 43)[0]
        secret = (
            (secret / np.linalg.norm(secret.astype(np.float64))).astype(np.float32)[:100].tobytes()
        )
        (snapshot,) = home.rglob("*.snapshot")
        assert secret in snapshot.read_bytes()
        service.remove_label("space", "label 00042", purge=True)
        assert not snapshot.exists()
        service.score("space", asked)
    assert secret not in snapshot.read_bytes()


def test_a_damaged_row_is_named_and_a_rebuild_mends_it(home: Path, asked: Queries) -> None:
    with trustvlm.open(home) as service:
        before = service.score("space", asked)
        row = Labels(LABELS).text()
        best = int(before.label[0].split()[1])
    (snapshot,) = home.rglob("*.snapshot")
    content = bytearray(snapshot.read_bytes())
    unit = row[best].astype(np.float64)
    at = content.index((unit / np.linalg.norm(unit)).astype(np.float32)[:16].tobytes())
    content[at + 2] ^= 1
    snapshot.write_bytes(content)
    with trustvlm.open(home) as service:
        with pytest.raises(
            trustvlm.Damaged, match=r"does not match its checksum; 'trustvlm .*index rebuild'"
        ):
            service.score("space", asked)
        service.rebuild_index("space")
        require_alike(service.score("space", asked), before)


def test_a_snapshot_of_another_version_is_written_again(
    home: Path, asked: Queries, caplog: pytest.LogCaptureFixture
) -> None:
    with trustvlm.open(home) as service:
        before = service.score("space", asked)
    (path,) = home.rglob("*.snapshot")
    found = read_snapshot(path)
    arrays = {name: np.array(array) for name, array in found.arrays.items()}
    coarse = np.zeros(arrays["text.short"].shape, np.int8)  # as versions had that kept 8-bit rows
    write_snapshot(path, found.key, arrays | {"text.coarse": coarse})
    with trustvlm.open(home) as service:
        require_alike(service.score("space", asked), before)
    assert any("another version of trustvlm" in message for message in caplog.messages)
    assert read_snapshot(path).arrays.keys() == arrays.keys()


MEMORY = """
import sys, numpy as np, trustvlm
from pathlib import Path
home, vectors = sys.argv[1:]
asked = np.load(vectors)
def anonymous():
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("RssAnon")) * 1024
with trustvlm.open(home) as service:
    service.score("space", trustvlm.Queries(asked[:, :512], asked[:, 512:]))
    print(service.index_stats("space").bytes, anonymous())
"""


@pytest.mark.slow  # by default: test_every_rule_gives_the_same_verdicts
@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="needs /proc")
def test_the_rows_are_not_in_memory_of_ones_own(home: Path, asked: Queries, tmp_path: Path) -> None:
    """Between a process that maps the rows and one that holds them lies at least what the float32
    rows take."""
    assert asked.classifier is not None
    vectors = tmp_path / "asked.npy"
    np.save(vectors, np.concatenate([asked.classifier, asked.verifier], axis=1)[:1])  # type: ignore[list-item]
    taken = {}
    with trustvlm.open(home) as service:
        service.score("space", asked)
    for half_from in (HALF_FROM, 10**9):
        done = subprocess.run(
            [sys.executable, "-c", MEMORY, str(home), str(vectors)],
            env=os.environ | {"TRUSTVLM_HALF_FROM": str(half_from), "OMP_NUM_THREADS": "1"},
            capture_output=True, text=True, check=True, timeout=120,
        )  # fmt: skip
        taken[half_from] = [int(word) for word in done.stdout.split()]
    assert taken[HALF_FROM][0] * 2 == taken[10**9][0]
    assert taken[10**9][1] - taken[HALF_FROM][1] > 0.5 * taken[10**9][0]


def test_a_gpu_that_is_not_there_is_one_log_line(
    home: Path, asked: Queries, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    with (
        caplog.at_level(logging.INFO, "trustvlm"),
        trustvlm.open(home, device="cuda:99", precision="fp16") as service,
    ):
        got = service.score("space", asked)
        service.search("space", asked, kind="support", k=3)
    assert len(caplog.records) == 1
    assert "'cuda:99'" in caplog.text
    assert "run on the CPU" in caplog.text
    with in_float32(home, monkeypatch) as exact:
        require_alike(got, exact.score("space", asked))
