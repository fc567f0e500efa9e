"""`verify` finds every byte that is not as it was written, and nothing where all is well; what is
damaged is never served."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from cli_runner import Cli, save_labels
from click.testing import CliRunner, Result
from damage import flip_at, flip_in_column, flip_in_file, settle, stored
from numbered import AT_ONCE, CATALOG, CLASSIFIER, VERIFIER, create, label, queries, vectors
from raw_sql import run_sql

import trustvlm
from trustvlm import LabelInput
from trustvlm.cli import main
from trustvlm.index.snapshot import read_snapshot, write_snapshot


def damage_of(home: Path, space: str | None = None) -> list[tuple[str, int | None]]:
    """(kind, row) of everything that is damaged."""
    with trustvlm.open(home) as service:
        return sorted(
            {(found.kind, found.row_id) for found in service.verify(space).damage}, key=str
        )


def save_history(home: Path) -> None:
    """Everything that a space can go through."""
    with trustvlm.open(home) as service:
        ids = service.add_support(
            "space", "label 0002", image_vectors=vectors(8, n=2, dim=VERIFIER),
            classifier_image_vectors=vectors(9, n=2, dim=CLASSIFIER),
        ).ids  # fmt: skip
        service.alias("space", "label 0001", "label 0002")
        service.alias("space", "label 0005", "label 0006")
        service.unalias("space", "label 0005")
        service.remove_label("space", "label 0003")
        service.remove_label("space", "label 0001")
        service.remove_support("space", ids[:1])
        service.restore_support("space", ids[:1])
        service.remove_support("space", ids[1:])
        service.update_label("space", "label 0004", new_name="Größe 4")
        service.calibrate("space", queries(60), ["label 0007"] * 60, rule="msp")
        service.feedback("space", queries(3, seed=6), ["label 0009"] * 3, promote=True)
        service.create_space("removed", classifier="precomputed:4")
        service.register(
            "removed", [LabelInput("a", text_vector=np.eye(4)[0], image_vectors=np.eye(4)[:2])]
        )
        service.remove_space("removed")
        service.rebuild_index("space")


@pytest.fixture(scope="module")
def lived_in(numbered_home: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A home with a past, closed, its log moved into the catalog."""
    home = Path(shutil.copytree(numbered_home, tmp_path_factory.mktemp("verify") / "home"))
    save_history(home)
    settle(home)
    return home


@pytest.fixture
def copied(lived_in: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(lived_in, tmp_path / "home"))


def test_a_sound_home_is_clean(copied: Path) -> None:
    """After every verb there is, at every step between, after purges, and read-only: no damage, and
    all was looked at."""
    with trustvlm.open(copied) as service:
        report = service.verify()
        assert report.clean
        assert report.spaces == ("space", "removed")
        assert report.checked["label"] == 21
        assert report.checked["snapshot row"] > 30
        assert report.checked["observation"] == 63
        assert report.checked["calibration"] == 1
        service.purge(older_than=AT_ONCE)
        report = service.verify()
        assert report.clean
        assert report.checked["change"] > 0
        assert report.spaces == ("space",)
        service.register(
            "space", [label(number) for number in range(30, 40)]
        )  # the snapshot is older than these
        assert service.verify("space").clean
    copied.chmod(0o555)
    try:
        with trustvlm.open(copied, read_only=True) as reader:
            assert reader.verify().clean
            with pytest.raises(trustvlm.ReadOnly):
                reader.verify(repair=True)
    finally:
        copied.chmod(0o755)


def test_progress_counts_what_is_looked_at(copied: Path) -> None:
    seen: list[tuple[int, int]] = []
    with trustvlm.open(copied) as service:
        service.verify(progress=lambda done, total: seen.append((done, total)))
    assert [done for done, _ in seen] == sorted(done for done, _ in seen)
    assert seen[-1][0] == seen[-1][1] > 50


VECTORS = [
    ("label", "labels", "text_prototype", 7, 1),
    ("label", "labels", "prototype", 7, 2),
    ("support", "supports", "embedding", 12, 3),
    ("support", "supports", "classifier_embedding", 31, 4),
    ("observation", "observations", "classifier_embedding", 5, 5),
    ("observation", "observations", "verifier_embedding", 5, 6),
]


@pytest.mark.parametrize(("kind", "table", "column", "row", "place"), VECTORS)
def test_one_bit_of_any_stored_vector(
    copied: Path, kind: str, table: str, column: str, row: int, place: int
) -> None:
    """One flipped bit in the file is found in exactly the row that it is in; and no call returns
    it."""
    flip_in_file(copied / CATALOG, stored(copied, table, column, row), place)
    shutil.rmtree(copied / "snapshots")
    assert damage_of(copied) == [(kind, row)]
    with trustvlm.open(copied) as service:
        match table, column:
            case "labels", _:
                calls: list[Callable[[], object]] = [
                    lambda: service.score("space", queries()),
                    lambda: service.search("space", queries(), kind="text"),
                    lambda: service.search("space", queries(), kind="prototype"),
                    lambda: service.add_support(
                        "space", "label 0006", image_vectors=vectors(77, n=1, dim=VERIFIER)
                    ),
                    lambda: service.update_label("space", "label 0006", new_name="other"),
                    lambda: service.rebuild_index("space"),
                ]
            case "supports", _:
                owner = next(
                    r.name
                    for r in service.list_labels("space")
                    if any(s.id == row for s in supports_of(service, r))
                )
                calls = [
                    lambda: service.search("space", queries(), kind="support"),
                    lambda: service.add_support(
                        "space", owner, image_vectors=vectors(77, n=1, dim=VERIFIER)
                    ),
                ]
            case _:
                calls = [lambda: service.recalibrate("space")]
        for call in calls:
            with pytest.raises(trustvlm.Unavailable, match="do not match their checksum"):
                call()
    assert damage_of(copied) == [(kind, row)]  # nobody has put a new checksum over it


def supports_of(
    service: trustvlm.TrustService, row: trustvlm.LabelRow
) -> list[trustvlm.SupportRow]:
    return service.list_supports("space", row.name)


def test_evidence_of_a_damaged_image_is_refused(copied: Path) -> None:
    with trustvlm.open(copied) as service:
        verdicts = service.score("space", queries())
        first = verdicts.evidence(0).label[0]
        flip_in_column(copied, "supports", "embedding", first.id)
        with pytest.raises(
            trustvlm.Unavailable, match=f"support image {first.id} in the catalog do not match"
        ):
            verdicts.evidence(0)


SPOILT = [
    ("UPDATE labels SET name = 'label 0O08' WHERE id = 9", [("label", 9)]),
    ("UPDATE labels SET name_hash = name_hash + 1 WHERE id = 9", [("label", 9)]),
    ("UPDATE labels SET name = CAST(x'ff41' AS TEXT) WHERE id = 9", [("label", 9)]),
    ("UPDATE labels SET support_count = 9 WHERE id = 8", [("label", 8)]),
    ("UPDATE labels SET prototype = NULL WHERE id = 8", [("label", 8)]),
    (
        "UPDATE labels SET prototype = (SELECT prototype FROM labels WHERE id = 11) WHERE id = 8",
        [("label", 8)],
    ),
    ("UPDATE labels SET alias_of = 4 WHERE id = 9", [("label", 9)]),
    ("UPDATE labels SET alias_of = 999 WHERE id = 9", [("label", 9)]),
    ("UPDATE labels SET revision = 70 WHERE id = 9", [("space", 1)]),
    ("UPDATE labels SET revision = 1152921504606846976 WHERE id = 9", [("label", 9)]),
    ("UPDATE labels SET created_revision = revision + 1 WHERE id = 9", [("label", 9)]),
    ("UPDATE labels SET removed_at = 'yesterday' WHERE id = 4", [("label", 4)]),
    ("UPDATE labels SET text_source = 'nowhere' WHERE id = 9", [("label", 9)]),
    (
        "UPDATE labels SET text_prototype = substr(text_prototype, 1, 100) WHERE id = 9",
        [("label", 9)],
    ),
    ("UPDATE supports SET content_hash = x'00' WHERE id = 12", [("support", 12)]),
    (
        "UPDATE supports SET removed_revision = NULL, removed_at = NULL WHERE id = 4",
        [("support", 4)],
    ),
    ("UPDATE supports SET hidden_until = NULL WHERE hidden_until IS NOT NULL", [("support", 31)]),
    ("UPDATE supports SET label_id = 999 WHERE id = 12", [("label", 8), ("support", 12)]),
    ("UPDATE observations SET origin = 'nobody' WHERE id = 5", [("observation", 5)]),
    ("UPDATE observations SET support_id = 999 WHERE id = 61", [("observation", 61)]),
    (
        "UPDATE calibrations SET content = json_set(content, '$.threshold', 'high')",
        [("calibration", 1)],
    ),
    ("UPDATE calibrations SET content = '{'", [("calibration", 1)]),
    ("UPDATE calibrations SET revision = 999", [("calibration", 1)]),
    (
        "UPDATE fits SET content = json_set(content, '$.evidence.tau', 0.5) WHERE space_id = 1",
        [("fit", 1)],
    ),
    ("UPDATE fits SET content = '[]' WHERE space_id = 1", [("fit", 1)]),
    ("UPDATE spaces SET revision = 3 WHERE id = 1", [("space", 1)]),
    ("UPDATE spaces SET log_start = 999 WHERE id = 1", [("space", 1)]),
    ("UPDATE spaces SET verifier_dim = 63 WHERE id = 1", [("space", 1)]),
    ("UPDATE spaces SET templates = '{' WHERE id = 1", [("space", 1)]),
    ("UPDATE catalog_state SET epoch = 'never'", [("catalog", None)]),
    ("DELETE FROM catalog_state", [("catalog", None)]),
    ("DROP INDEX uq_labels_space_id_name", [("catalog", None)]),
    ("DELETE FROM spaces WHERE id = 2", [("label", 21), ("support", 36), ("support", 37)]),
    (
        "INSERT INTO changes (space_id, kind, row_id, label_id, created_revision, revision) "
        "VALUES (1, 'label', 9, 9, 1, 2)",
        [("change", 1)],
    ),
    ("INSERT INTO thumbnails (support_id, jpeg) VALUES (12, x'ffd8ffe0')", [("thumbnail", 12)]),
]


@pytest.mark.parametrize(
    ("statement", "found"), SPOILT, ids=[f"{i:02d}" for i in range(len(SPOILT))]
)
def test_what_does_not_fit_together(
    copied: Path, statement: str, found: list[tuple[str, int]]
) -> None:
    shutil.rmtree(copied / "snapshots")
    run_sql(copied, statement)
    got = damage_of(copied)
    assert set(found) <= set(got)
    assert {kind for kind, _ in got} <= {kind for kind, _ in found} | {
        "label",
        "support",
        "fit",
        "catalog",
        "observation",
    }


def test_snapshots_are_compared_byte_by_byte(copied: Path) -> None:
    """Bytes all over a snapshot file, one at a time: each is found, in the float32 rows too, which
    a start does not read."""
    path = copied / "snapshots" / "1.snapshot"
    size = path.stat().st_size
    with trustvlm.open(copied) as service:
        for at in [0, 9, 20, 60, *range(100, size, size // 5), size - 1]:
            flip_at(path, at)
            assert [found.kind for found in service.verify().damage][:1] == ["snapshot"], at
            flip_at(path, at)
        assert service.verify().clean


def other_space(home: Path) -> None:
    path = home / "snapshots" / "1.snapshot"
    with trustvlm.open(home) as service:
        create(service, "other")
        service.register("other", [label(number) for number in range(20)])
        service.rebuild_index("other")
    shutil.copy(path.with_name("3.snapshot"), path)


def from_the_future(home: Path) -> None:
    with trustvlm.open(home) as service:
        service.register("space", [label(50)])
        service.rebuild_index("space")
    run_sql(
        home,
        "DELETE FROM supports WHERE label_id = (SELECT id FROM labels WHERE name = 'label 0050')",
    )
    run_sql(home, "DELETE FROM labels WHERE name = 'label 0050'")
    run_sql(home, "UPDATE spaces SET revision = revision - 1 WHERE id = 1")


def a_row_less(home: Path) -> None:
    run_sql(home, "DELETE FROM labels WHERE id = 13")


def another_row(home: Path) -> None:
    """SQL says something else, with a right checksum: only the comparison of rows tells."""
    with trustvlm.open(home) as service:
        service.update_label("space", "label 0012", text_vector=vectors(1, n=1, dim=CLASSIFIER)[0])
    run_sql(home, "UPDATE labels SET revision = 1 WHERE id = 13")


def cut_short(home: Path) -> None:
    path = home / "snapshots" / "1.snapshot"
    os.truncate(path, path.stat().st_size - 64)


def of_no_space(home: Path) -> None:
    shutil.copy(home / "snapshots" / "1.snapshot", home / "snapshots" / "77.snapshot")


@pytest.mark.parametrize(
    "spoil", [other_space, from_the_future, a_row_less, another_row, cut_short, of_no_space]
)
def test_snapshots_are_compared_with_the_catalog(
    copied: Path, spoil: Callable[[Path], None]
) -> None:
    spoil(copied)
    assert ("snapshot", None) in damage_of(copied)


@pytest.mark.parametrize("section", ["text.short", "prototypes.short"])
def test_copies_of_rows_under_a_right_checksum_are_compared_too(
    copied: Path, section: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TRUSTVLM_HALF_FROM", "5")
    path = copied / "snapshots" / "1.snapshot"
    with trustvlm.open(copied) as service:
        service.rebuild_index("space")
        assert service.verify().clean
    found = read_snapshot(path)
    arrays = {name: np.array(array) for name, array in found.arrays.items()}
    arrays[section][3] = arrays[section][4]
    write_snapshot(path, found.key, arrays)
    assert ("snapshot", None) in damage_of(copied)


@pytest.mark.slow
def test_snapshots_of_a_large_space(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """16-bit rows, a trained index over prototypes, and indexes over support images, verifier's and
    classifier's."""
    monkeypatch.setenv("TRUSTVLM_HALF_FROM", "50")
    home = tmp_path / "home"
    with trustvlm.open(home, create=True) as service:
        create(service)
        inputs = [
            LabelInput(f"label {n}", vectors(1, n, n=1, dim=CLASSIFIER)[0], None, vectors(2, n, n=9,
            dim=VERIFIER),
                       vectors(3, n, n=9, dim=CLASSIFIER))
            for n in range(600)
        ]  # fmt: skip
        service.register("space", inputs)
        service.rebuild_index("space", recipe="hnsw")
        files = sorted((home / "snapshots").glob("*.snapshot"))
        assert len(files) == 3
        assert service.verify().clean
        rng = np.random.default_rng(0)
        for path in files:
            for at in rng.integers(0, path.stat().st_size, 2).tolist():
                flip_at(path, at)
                assert {found.kind for found in service.verify("space").damage} == {"snapshot"}, (
                    path.name,
                    at,
                )
                flip_at(path, at)
        shutil.copy(files[0], tmp_path / "old")
        service.remove_label("space", "label 7", purge=True)
        assert service.verify().clean
        shutil.copy(tmp_path / "old", files[0])
        assert service.verify().clean  # older, and the change log tells what is gone since


def verified(home: Path, *arguments: str) -> Result:
    """What the command prints, whatever it finds."""
    return CliRunner().invoke(
        main, ["--home", str(home), "verify", *arguments], prog_name="trustvlm"
    )


@pytest.mark.parametrize("size", [0, 50, 20_000, 200_000])
def test_a_catalog_cut_short(copied: Path, size: int) -> None:
    os.truncate(copied / CATALOG, size)
    for log in ("-wal", "-shm"):
        (copied / f"{CATALOG}{log}").unlink(missing_ok=True)
    for arguments in (("--all",), ("--all", "--repair")):
        printed = verified(copied, *arguments, "--json")
        assert printed.exit_code == 6, printed.stderr
        report = json.loads(printed.stdout)
        assert not report["clean"]
        assert {found["kind"] for found in report["damage"]} == {"catalog"}


def test_a_catalog_that_is_something_else(tmp_path: Path) -> None:
    home = tmp_path / "home"
    home.mkdir()
    (home / CATALOG).write_bytes(b"no database " * 1000)
    done = verified(home, "--all")
    assert done.exit_code == 6
    assert "not a database" in done.stdout


def test_pages_of_the_catalog_with_noise(copied: Path) -> None:
    """Any page, overwritten with noise: verify says so, or nothing of it is in use; it never
    breaks."""
    rng = np.random.default_rng(3)
    pages = (copied / CATALOG).stat().st_size // 16384
    found = 0
    original = (copied / CATALOG).read_bytes()
    for page in range(1, pages, 7):
        (copied / CATALOG).write_bytes(original)
        with (copied / CATALOG).open("r+b") as file:
            file.seek(page * 16384 + 8)
            file.write(rng.bytes(4000))
        for log in ("-wal", "-shm"):
            (copied / f"{CATALOG}{log}").unlink(missing_ok=True)
        try:
            found += bool(damage_of(copied))
        except trustvlm.Unavailable:
            found += 1
    assert found >= pages // 28  # of the others, most hold tables and indexes without rows


def test_the_command(cli: Cli, tmp_path: Path) -> None:
    """Exit codes and both reports, sound and damaged; SPACE or --all."""
    cli("space", "create", "s", "--classifier", "precomputed:4", "--verifier", "precomputed:6")
    cli("register", "s", "--vectors", save_labels(tmp_path / "labels.npz"))
    assert "no damage" in cli("verify", "s")
    assert json.loads(cli("verify", "--all", "--json"))["clean"]
    cli("verify", code=2)
    cli("verify", "s", "--all", code=2)
    cli("verify", "nothing", code=3)
    flip_in_column(cli.home, "supports", "embedding", 2)
    done = cli.process("verify", "s")
    assert done.returncode == 6, done.stderr
    assert "support image 2" in done.stdout
    assert f"trustvlm --home {cli.home} verify s --repair" in done.stdout
    assert done.stderr == ""
    report = json.loads(verified(cli.home, "--all", "--json").stdout)
    assert [(row["kind"], row["row_id"], row["remedy"]) for row in report["damage"]] == [
        ("support", 2, "quarantine")
    ]
    assert "put into quarantine: 2 things" in cli("verify", "--all", "--repair")
    assert "in quarantine: 1 row" in cli("verify", "--all")


def test_search_through_an_open_service_never_gives_a_damaged_row(copied: Path) -> None:
    """What a process has in memory was right when it was read; what it reads anew is checked."""
    shutil.rmtree(copied / "snapshots")
    with trustvlm.open(copied) as service:
        before = service.score("space", queries())
        flip_in_column(copied, "labels", "text_prototype", 7)
        after = service.score("space", queries())
        np.testing.assert_array_equal(before.trust, after.trust)
        service.register("space", [label(60)])
        service.score("space", queries())  # only the new row is read
        run_sql(copied, "UPDATE spaces SET revision = revision + 1 WHERE id = 1")
        run_sql(
            copied,
            "UPDATE labels SET revision = (SELECT revision FROM spaces WHERE id = 1) WHERE id = 7",
        )
        with pytest.raises(trustvlm.Unavailable, match="label 7 in the catalog do not match"):
            service.score("space", queries())
