"""`verify --repair`: what is derived is made anew, what is damaged lies in quarantine, and what is
left is right."""

from __future__ import annotations

import io
import shutil
from pathlib import Path

import numpy as np
import pytest
from damage import flip_at, flip_in_column, flip_in_file, settle, stored
from numbered import (
    AT_ONCE,
    CATALOG,
    CLASSIFIER,
    VERIFIER,
    create,
    label,
    queries,
    require_equal,
    vectors,
)
from PIL import Image
from raw_sql import run_sql

import trustvlm
from trustvlm import LabelInput, TrustService, Verdicts, VerifyReport


def repaired(home: Path) -> VerifyReport:
    """The report of a repair, after which all is well, and a second one has nothing to do."""
    with trustvlm.open(home) as service:
        epoch = run_sql(home, "SELECT epoch FROM catalog_state")
        report = service.verify(repair=True)
        assert report.clean, report.damage
        assert report.repaired
        assert run_sql(home, "SELECT epoch FROM catalog_state") != epoch
        again = service.verify(repair=True)
        assert again.clean
        assert not again.repaired
        assert again.quarantined == report.quarantined
        return report


def anew(
    tmp_path: Path, leave_out: dict[str, set[int]] | None = None, without: set[int] | None = None
) -> TrustService:
    """A fresh home with the same content: label → places of its support images to leave out; whole
    labels to leave out."""
    inputs = []
    for number in range(20):
        whole = label(number, supports=number % 4)
        left_out = (leave_out or {}).get(whole.name, set())
        images = [] if whole.image_vectors is None else list(np.asarray(whole.image_vectors))
        kept = np.array([image for place, image in enumerate(images) if place not in left_out])
        if number not in (without or set()):
            images_or_none = kept if len(kept) else None
            inputs.append(LabelInput(whole.name, whole.text_vector, image_vectors=images_or_none))
    service = trustvlm.open(tmp_path / "anew", create=True)
    create(service)
    service.register("space", inputs)
    return service


def label_id(home: Path, name: str) -> int:
    ((found,),) = run_sql(home, "SELECT id FROM labels WHERE name = ?", name)
    assert isinstance(found, int)
    return found


def support_ids(home: Path, name: str) -> list[int]:
    with trustvlm.open(home) as service:
        return [row.id for row in service.list_supports("space", name)]


def test_a_damaged_support_image(home: Path, tmp_path: Path) -> None:
    """It goes into quarantine as it is, and every verdict is that of a space that never had it."""
    with trustvlm.open(home) as reader:
        reader.score(
            "space", queries()
        )  # a process that has the old state in memory, through all of it
        damaged = support_ids(home, "label 0007")[1]
        whole = stored(home, "supports", "embedding", damaged)
        settle(home)
        flip_in_file(home / CATALOG, whole)
        spoilt = stored(home, "supports", "embedding", damaged)
        report = repaired(home)
        ((kind, row_id, first, hash_),) = run_sql(
            home, "SELECT kind, row_id, first, content_hash FROM quarantine"
        )
        assert (kind, row_id, first) == ("support", damaged, spoilt)
        assert isinstance(hash_, bytes)
        assert [(row.kind, row.row_id, row.space) for row in report.quarantine] == [
            ("support", damaged, "space")
        ]
        place = [r.tobytes() for r in np.asarray(label(7).image_vectors)].index(whole)
        with anew(tmp_path, {"label 0007": {place}}) as expected:
            require_equal(
                reader.score("space", queries()), expected.score("space", queries()), ids=False
            )
            found = reader.search("space", queries(), kind="support", k=40)
            assert damaged not in found.ids
        reader.add_support(
            "space", "label 0007", image_vectors=np.frombuffer(whole, np.float32)[np.newaxis]
        )
        with anew(tmp_path / "again") as expected:
            require_equal(
                reader.score("space", queries()), expected.score("space", queries()), ids=False
            )


def test_the_only_support_image_of_a_label(home: Path) -> None:
    (only,) = support_ids(home, "label 0005")
    flip_in_column(home, "supports", "embedding", only)
    repaired(home)
    with trustvlm.open(home) as service:
        (row,) = [row for row in service.list_labels("space") if row.name == "label 0005"]
        assert row.support_count == 0


def test_a_damaged_text_prototype(home: Path, tmp_path: Path) -> None:
    """The label is taken out of service with its support images; registered again, all is as
    before."""
    damaged = label_id(home, "label 0006")
    ids = support_ids(home, "label 0006")
    settle(home)
    flip_in_file(home / CATALOG, stored(home, "labels", "text_prototype", damaged))
    with trustvlm.open(home) as service:
        ((images,),) = run_sql(
            home, "SELECT group_concat(hex(embedding)) FROM supports WHERE label_id = ?", damaged
        )
        repaired(home)
        kept = run_sql(home, "SELECT kind, row_id, label_id FROM quarantine ORDER BY kind, row_id")
        assert kept == [("label", damaged, damaged), *[("support", row, damaged) for row in ids]]
        assert run_sql(
            home, "SELECT group_concat(hex(first)) FROM quarantine WHERE kind = 'support'"
        ) == [(images,)]
        with anew(tmp_path, without={6}) as expected:
            require_equal(
                service.score("space", queries()), expected.score("space", queries()), ids=False
            )
        service.register("space", [label(6, supports=2)])
        with anew(tmp_path / "again") as expected:
            require_equal(
                service.score("space", queries()), expected.score("space", queries()), ids=False
            )
        assert service.verify().clean


@pytest.fixture(scope="module")
def expected(numbered_home: Path) -> Verdicts:
    """What a home without damage answers."""
    with trustvlm.open(numbered_home, read_only=True) as service:
        return service.score("space", queries())


@pytest.mark.parametrize(
    "statement",
    [
        "UPDATE labels SET prototype = substr(prototype, 1, 252) || x'01020304' WHERE id = 8",
        "UPDATE labels SET prototype = NULL WHERE id = 8",
        "UPDATE labels SET support_count = 1 WHERE id = 8",
        "UPDATE labels SET alias_of = 999 WHERE id = 8",
        "UPDATE labels SET alias_of = 8 WHERE id = 8",
        "UPDATE fits SET content = json_set(content, '$.evidence.tau', 0.5)",
        "UPDATE fits SET content = 'nothing'",
        "UPDATE spaces SET revision = 0",
        "UPDATE spaces SET log_start = 12",
        "UPDATE catalog_state SET epoch = ''",
        "DELETE FROM catalog_state",
    ],
)
def test_what_is_derived_is_made_anew(
    home: Path, numbered_home: Path, expected: Verdicts, statement: str
) -> None:
    """Nothing goes into quarantine, and every verdict is as before."""
    run_sql(
        home,
        statement.replace(
            "substr(prototype, 1, 252) || x'01020304'", "CAST(zeroblob(256) AS BLOB)"
        ),
    )
    report = repaired(home)
    assert report.quarantined == 0
    with trustvlm.open(home) as service:
        require_equal(service.score("space", queries()), expected, ids=False)
        got = run_sql(
            home,
            "SELECT name, name_hash, support_count, prototype, text_prototype FROM labels ORDER "
            "BY name",
        )
        asked = (
            "SELECT name, name_hash, support_count, prototype, text_prototype FROM labels "
            "ORDER BY name"
        )
        assert got == run_sql(numbered_home, asked)
        fit = "SELECT json_extract(content, '$.evidence.tau') FROM fits"
        assert run_sql(home, fit) == run_sql(numbered_home, fit) or "fits" in statement


@pytest.mark.parametrize(
    ("statement", "quarantined"),
    [
        ("UPDATE labels SET name_hash = 12345 WHERE id = 8", 4),
        ("UPDATE labels SET revision = 9000000000000000000 WHERE id = 8", 4),
        ("UPDATE labels SET created_revision = 55 WHERE id = 8", 4),
        ("UPDATE supports SET created_revision = 0 WHERE id = 3", 1),
    ],
)
def test_what_cannot_be_proved_goes_into_quarantine(
    home: Path, statement: str, quarantined: int
) -> None:
    """Names, their hashes and revisions are not guessed: the row goes, a label with its images."""
    run_sql(home, statement)
    assert repaired(home).quarantined == quarantined


def test_a_changed_byte_of_a_name(home: Path) -> None:
    """Also where only the table has it and the index still knows the old one: the label goes into
    quarantine, the index is built again."""
    settle(home)
    data = (home / CATALOG).read_bytes()
    text = stored(home, "labels", "text_prototype", label_id(home, "label 0009"))
    row = data.rindex(b"label 0009", 0, data.index(text))
    flip_at(home / CATALOG, row + 9)
    report = repaired(home)
    assert any("SQLite" in found.problem for found in report.repaired)
    with trustvlm.open(home) as service:
        assert [r.name for r in service.list_labels("space")] == [
            f"label {number:04d}" for number in range(20) if number != 9
        ]


def test_a_removed_label_loses_only_what_is_damaged(home: Path, tmp_path: Path) -> None:
    """Undo works after the repair, with what was not damaged."""
    hidden = support_ids(home, "label 0007")
    place = 0
    whole = stored(home, "supports", "embedding", hidden[place])
    with trustvlm.open(home) as service:
        service.remove_label("space", "label 0007")
    flip_in_column(home, "supports", "embedding", hidden[place])
    flip_in_column(home, "labels", "prototype", label_id(home, "label 0011"))
    repaired(home)
    with trustvlm.open(home) as service:
        service.restore_label("space", "label 0007")
        assert service.verify().clean
        at = [r.tobytes() for r in np.asarray(label(7).image_vectors)].index(whole)
        with anew(tmp_path, {"label 0007": {at}}) as expected:
            require_equal(
                service.score("space", queries()), expected.score("space", queries()), ids=False
            )


def test_labels_with_aliases(home: Path) -> None:
    """A canonical label in quarantine leaves its aliases as labels of their own; an alias takes its
    images with it."""
    with trustvlm.open(home) as service:
        service.alias("space", "label 0001", "label 0002")
        service.alias("space", "label 0006", "label 0007")
        flip_in_column(home, "labels", "text_prototype", label_id(home, "label 0002"))
        flip_in_column(home, "labels", "text_prototype", label_id(home, "label 0006"))
        repaired(home)
        rows = {row.name: row for row in service.list_labels("space")}
        assert rows["label 0001"].alias_of is None
        assert rows["label 0001"].support_count == 1
        assert rows["label 0007"].support_count == 3
        assert "label 0002" not in rows
        service.score("space", queries())


def jpeg() -> bytes:
    held = io.BytesIO()
    Image.new("RGB", (8, 8), (200, 30, 30)).save(held, "JPEG")
    return held.getvalue()


def test_thumbnails_observations_calibrations_and_the_log(home: Path) -> None:
    """Each goes into quarantine by itself, and takes nothing with it."""
    with trustvlm.open(home) as service:
        service.calibrate("space", queries(60), ["label 0007"] * 60, rule="msp")
        service.purge(older_than=AT_ONCE)
    run_sql(home, "INSERT INTO thumbnails VALUES (1, ?)", jpeg()[:-40])
    run_sql(home, "INSERT INTO thumbnails VALUES (2, ?)", jpeg())
    flip_in_column(home, "observations", "classifier_embedding", 9)
    run_sql(home, "UPDATE calibrations SET content = '[1]'")
    run_sql(
        home,
        "INSERT INTO changes (space_id, kind, row_id, label_id, created_revision, revision) "
        "VALUES (1,'label',9,9,1,1)",
    )
    report = repaired(home)
    assert sorted((row.kind, row.row_id) for row in report.quarantine) == [
        ("calibration", 1), ("change", 1), ("observation", 9), ("thumbnail", 1),
    ]  # fmt: skip
    with trustvlm.open(home) as service:
        assert service.thumbnail(1) is None
        assert service.thumbnail(2) == jpeg()
        assert service.score("space", queries()).accepted[0] is None
        assert service.recalibrate("space").images == 59


def test_rows_of_a_space_that_is_gone(home: Path) -> None:
    with trustvlm.open(home) as service:
        service.create_space("other", classifier="precomputed:4")
        service.register(
            "other", [LabelInput("a", text_vector=np.eye(4)[0], image_vectors=np.eye(4)[:2])]
        )
    run_sql(home, "DELETE FROM spaces WHERE name = 'other'")
    report = repaired(home)
    assert {row.kind for row in report.quarantine} == {"label", "support"} | (
        {"fit"} if report.quarantined > 3 else set()
    )


@pytest.mark.slow  # by default: test_what_cannot_be_proved_goes_into_quarantine
def test_a_label_with_very_many_images(home: Path) -> None:
    """It goes in several transactions, whole."""
    with trustvlm.open(home) as service:
        service.add_support("space", "label 0000", image_vectors=vectors(50, n=450, dim=VERIFIER))
    flip_in_column(home, "labels", "text_prototype", label_id(home, "label 0000"))
    report = repaired(home)
    assert report.quarantined == 451


def test_snapshots_are_written_anew(home: Path) -> None:
    with trustvlm.open(home) as service:
        service.rebuild_index("space")
        path = home / "snapshots" / "1.snapshot"
        before = path.read_bytes()
        flip_at(path, len(before) - 100)
        assert not service.verify().clean
        assert service.verify(repair=True).clean
        assert path.read_bytes() == before  # the same rows, of the same revision
        (home / "snapshots" / "77.snapshot").write_bytes(before)
        assert service.verify(repair=True).clean
        assert not (home / "snapshots" / "77.snapshot").exists()
        service.score("space", queries())


def test_one_space_at_a_time(home: Path) -> None:
    """verify SPACE says nothing of other spaces, and its repair does not touch them."""
    with trustvlm.open(home) as service:
        create(service, "other")
        service.register("other", [label(0)])
        flip_in_column(home, "supports", "embedding", 1)
        assert service.verify("other").clean
        assert service.verify("other", repair=True).quarantined == 0
        assert not service.verify("space").clean
        with pytest.raises(trustvlm.NotFound):
            service.verify("none")


def test_what_is_in_quarantine_stays_until_somebody_purges(
    home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The undo window deletes only what a user removed; `purge` deletes the rest."""
    monkeypatch.setenv("TRUSTVLM_UNDO_HOURS", "0")
    flip_in_column(home, "supports", "embedding", 1)
    repaired(home)
    with trustvlm.open(home) as service:
        service.register("space", [label(30)])  # purges what has left its window
        assert service.verify().quarantined == 1
        service.purge(older_than=AT_ONCE)
        assert service.verify().quarantined == 0


def test_a_page_of_vectors_is_lost(home: Path) -> None:
    """Noise over a page of labels: a repair ends, and says what it cannot mend."""
    settle(home)
    at = (home / CATALOG).read_bytes().index(stored(home, "labels", "text_prototype", 5))
    with (home / CATALOG).open("r+b") as file:
        file.seek(at // 16384 * 16384)
        file.write(np.random.default_rng(0).bytes(16384))
    for log in ("-wal", "-shm"):
        (home / f"{CATALOG}{log}").unlink(missing_ok=True)
    with trustvlm.open(home) as service:
        first = service.verify()
        assert not first.clean
        second = service.verify(repair=True)
        assert any(found.remedy == "backup" for found in second.damage)


def test_the_classifier_embedding_counts_too(home: Path) -> None:
    with trustvlm.open(home) as service:
        (added,) = service.add_support(
            "space", "label 0003", image_vectors=vectors(60, n=1, dim=VERIFIER),
            classifier_image_vectors=vectors(61, n=1, dim=CLASSIFIER),
        ).ids  # fmt: skip
    flip_in_column(home, "supports", "classifier_embedding", added)
    assert [row.row_id for row in repaired(home).quarantine] == [added]
    shutil.rmtree(home / "snapshots", ignore_errors=True)
