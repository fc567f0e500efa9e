"""Indexed keys: their file is read in place of rows, followed, renewed, and deleted with a purge;
answers are those without it."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from cli_runner import Cli
from raw_sql import run_sql

import trustvlm
from trustvlm import LabelInput, Queries

pytestmark = pytest.mark.only_sqlite("rows are changed behind the program's back")

EU = {"region": "EU", "taxon.rank": {"gte": 2}}
ASKED = Queries(np.eye(8)[:1])


def filled(home: Path) -> None:
    with trustvlm.open(home, create=True) as service:
        service.create_space("s", classifier="precomputed:8")
        labels = []
        for number in range(12):
            attributes = {"region": ("EU", "US")[number % 2], "taxon": {"rank": number % 4}}
            vector = np.random.default_rng(number).normal(size=8)
            labels.append(LabelInput(f"l{number}", text_vector=vector, attributes=attributes))
        service.register("s", labels)


def counted(home: Path) -> int:
    with trustvlm.open(home) as service:
        return service.count_labels("s", filter=EU)


def test_a_process_reads_the_file_and_what_changed_since(tmp_path: Path) -> None:
    home = tmp_path / "home"
    filled(home)
    assert counted(home) == 3
    cli = Cli(home)
    assert "indexed keys: region" in cli("space", "index-attribute", "s", "region")
    assert "region, taxon.rank" in cli("space", "index-attribute", "s", "taxon.rank")
    assert counted(home) == 3
    # Rows of before are not read: what is written into them behind the program's back is unseen.
    run_sql(home, "UPDATE label_attributes SET content = '{}' WHERE label_id < 12")
    assert counted(home) == 3
    with trustvlm.open(home) as service:
        service.update_label("s", "l1", attributes={"region": "EU", "taxon": {"rank": 9}})
        service.update_label("s", "l2", attributes={})
        assert service.count_labels("s", filter=EU) == 3
        service.remove_label("s", "l6")
    assert counted(home) == 2
    with trustvlm.open(home) as service:  # a key that is not indexed needs the rows
        assert service.count_labels("s", filter={"size": {"exists": False}}) == 11
    cli("space", "index-attribute", "s", "region", "--remove")
    assert "is not indexed" in cli("space", "index-attribute", "s", "region", "--remove", code=3)
    cli("space", "index-attribute", "s", "a..b", code=2)
    cli("space", "index-attribute", "none", "a", code=3)


def test_a_purge_deletes_the_file_and_the_next_filter_writes_it_again(tmp_path: Path) -> None:
    home = tmp_path / "home"
    filled(home)
    with trustvlm.open(home) as service:
        assert service.index_attribute("s", "region") == ["region"]
        (file,) = home.glob("**/*.attributes")
        before = file.read_bytes()
        service.remove_label("s", "l0", purge=True)
        assert not file.exists()
        assert service.count_labels("s", filter={"region": "EU"}) == 5
    assert file.exists()  # closing waits for it
    assert file.read_bytes() != before
    file.write_bytes(before[:-9])
    assert counted(home) == 3  # a damaged file costs time only
    assert len(list(home.glob("**/*.attributes"))) == 1


def test_after_a_new_epoch_the_file_is_written_again_in_silence(tmp_path: Path) -> None:
    home = tmp_path / "home"
    filled(home)
    cli = Cli(home)
    cli("space", "index-attribute", "s", "region")
    cli("space", "index-attribute", "s", "taxon.rank")
    (file,) = home.glob("**/*.attributes")
    before = file.read_bytes()
    cli("db", "new-epoch")
    with trustvlm.open(home, read_only=True) as service:  # writes nothing, and says nothing
        assert service.count_labels("s", filter=EU) == 3
    assert file.read_bytes() == before
    again = cli.run("label", "count", "s", "--where", 'region = "EU"')
    assert again.stderr == ""
    assert file.read_bytes() != before
    run_sql(home, "UPDATE label_attributes SET content = '{}' WHERE label_id < 12")
    assert counted(home) == 3  # the new file serves


def test_a_damaged_file_is_reported_once(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    home = tmp_path / "home"
    filled(home)
    with trustvlm.open(home) as service:
        service.index_attribute("s", "region")
    (file,) = home.glob("**/*.attributes")
    file.write_bytes(b"no snapshot" * 100)
    for warnings in (1, 1):
        assert counted(home) == 3
        assert len(caplog.records) == warnings
