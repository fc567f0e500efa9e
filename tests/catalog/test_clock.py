"""A wrong wall clock purges nothing: the undo window passes only while a machine is seen to run."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import pytest
from numbered import CATALOG, create, label, queries
from raw_sql import run_sql

import trustvlm
from trustvlm.catalog.catalog import Catalog
from trustvlm.catalog.store import clock

needs_faketime = pytest.mark.skipif(
    shutil.which("faketime") is None, reason="needs the program faketime (apt: faketime)"
)


def at(when: str, code: str, home: Path) -> str:
    """What Python code prints where the clock says `when` (faketime's notation).

    Its arguments are the home and this folder.
    """
    command = [
        "faketime",
        "-f",
        when,
        sys.executable,
        "-c",
        code,
        str(home),
        str(Path(__file__).parents[1] / "support"),
    ]
    done = subprocess.run(
        command, capture_output=True, text=True, timeout=120, env=os.environ | {"TZ": "UTC"}
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


WRITE = """
import sys, trustvlm
with trustvlm.open(sys.argv[1]) as service:
    service.register("space", [trustvlm.LabelInput("written", text_vector=[1.0] * 32)])
    service.purge()
"""


@needs_faketime
@pytest.mark.parametrize(
    "when", ["+2d", *(pytest.param(when, marks=pytest.mark.slow) for when in ("+3y", "+30y"))]
)
def test_a_clock_that_is_ahead_for_one_write_purges_nothing(home: Path, when: str) -> None:
    with trustvlm.open(home) as service:
        service.remove_label("space", "label 0003")
    at(when, WRITE, home)
    with trustvlm.open(home) as service:
        service.restore_label("space", "label 0003")
        assert "label 0003" in [row.name for row in service.list_labels("space")]


@pytest.mark.slow  # by default: test_a_clock_that_is_ahead_for_one_write_purges_nothing
@needs_faketime
def test_what_is_removed_while_the_clock_is_in_1970_keeps_its_undo_window(home: Path) -> None:
    """A machine without a battery: its clock is put right a minute after the removal."""
    code = (
        "import sys, trustvlm\nwith trustvlm.open(sys.argv[1]) as service: "
        "service.remove_label('space', 'label 0003')"
    )
    at("@1970-01-01 00:01:00", code, home)
    with trustvlm.open(home) as service:
        service.register("space", [label(30)])
        service.restore_label("space", "label 0003")


EVERYTHING = """
import sys, pathlib, trustvlm, numpy as np
home = pathlib.Path(sys.argv[1])
rng = np.random.default_rng(0)
with trustvlm.open(home, create=True) as service:
    service.create_space("s", classifier="precomputed:4")
    service.register("s", [trustvlm.LabelInput(n, text_vector=rng.normal(size=4), image_vectors=rng.normal(size=(3, 4)))
                           for n in ("a", "b", "c")])
    service.remove_label("s", "a"); service.restore_label("s", "a")
    service.remove_space("s"); service.restore_space("s")
    service.remove_label("s", "c")
    service.score("s", trustvlm.Queries(np.eye(4)))
    service.evaluate("s", trustvlm.Queries(rng.normal(size=(40, 4))), ["a", "b"] * 20)
    service.export_space("s", home.parent / "exported")
    service.backup(home.parent / "b.zip")
trustvlm.restore(home.parent / "b.zip", home.parent / "restored")
with trustvlm.open(home.parent / "restored") as service:
    service.import_space(home.parent / "exported", name="t")
    assert service.verify().clean
    print(sorted(row.name for row in service.list_labels("t")))
"""


@needs_faketime
@pytest.mark.parametrize(
    "when",
    [
        "2107-12-31 23:59:58",
        *(
            pytest.param(when, marks=pytest.mark.slow)
            for when in ("1970-01-01 00:00:10", "1979-12-31 23:59:50", "2037-12-31 23:59:50")
        ),
    ],
)
def test_every_date_serves(tmp_path: Path, when: str) -> None:
    assert at(f"@{when}", EVERYTHING, tmp_path / "home") == "['a', 'b']\n"


CALIBRATE = """
import sys, trustvlm
sys.path.insert(0, sys.argv[2])
from numbered import queries
with trustvlm.open(sys.argv[1]) as service:
    truth = service.score("space", queries(30), rule="msp").label.tolist()
    assert not service.calibrate("space", queries(30), truth, rule="msp", max_risk=0.9).failed
"""


@pytest.mark.slow  # by default: test_every_date_serves
@needs_faketime
@pytest.mark.parametrize("when", ["+2d", pytest.param("-2d", marks=pytest.mark.slow)])
def test_the_monitor_hears_what_comes_after_a_calibration_whatever_its_date(
    home: Path, when: str
) -> None:
    at(when, CALIBRATE, home)
    with trustvlm.open(home) as service:
        before = queries(30)
        assert service.monitor("space").items == 0
        service.feedback(
            "space", before, ["label 0000"] * 30, sampling="random"
        )  # these have made the calibration
        assert service.monitor("space").items == 0
        after = trustvlm.Queries(-np.asarray(before.classifier), -np.asarray(before.verifier))
        accepted = sum(1 for verdict in service.score("space", after).rows() if verdict["accepted"])
        service.feedback("space", after, ["label 0000"] * 30, sampling="random")
        assert service.monitor("space").items == accepted > 0


def test_what_was_removed_longer_ago_than_the_window_goes_with_the_next_write(
    tmp_path: Path,
) -> None:
    """Time that this machine runs is time that passes, in this process or another."""
    with pytest.MonkeyPatch.context() as patched:
        for window, pause in ((3_600.0, 0.0), (0.5, 0.6)):
            patched.setenv("TRUSTVLM_UNDO_HOURS", str(window / 3600))
            home = tmp_path / f"home-{pause}"
            with trustvlm.open(home, create=True) as service:
                create(service)
                service.register("space", [label(number) for number in range(3)])
                service.remove_label("space", "label 0001")
            time.sleep(pause)
            with trustvlm.open(home) as service:
                service.register("space", [label(9)])
                if pause:
                    with pytest.raises(trustvlm.NotFound):
                        service.restore_label("space", "label 0001")
                else:
                    service.restore_label("space", "label 0001")


def test_the_clock_counts_uptime_and_nothing_else(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A reboot, another machine and a machine put back to an earlier state add nothing; each boot's
    own uptime does."""

    def running(machine: str, uptime: float) -> datetime:
        monkeypatch.setattr(clock, "_uptime", lambda: (machine, uptime))
        with catalog.write() as connection:
            return clock.stamp(connection)

    home = tmp_path / "home"
    with trustvlm.open(home, create=True) as service:
        create(service)
    catalog = Catalog(home / CATALOG)
    start = running("first boot", 100.0)
    assert abs(start - datetime.now(UTC)) < timedelta(minutes=1)
    assert running("first boot", 160.0) - start == timedelta(seconds=60)
    assert running("second boot", 5.0) - start == timedelta(seconds=60)
    assert running("other machine", 1e7) - start == timedelta(seconds=60)
    assert running("second boot", 35.0) - start == timedelta(seconds=90)
    assert running("second boot", 20.0) - start == timedelta(
        seconds=90
    )  # restored from a snapshot of the machine
    assert running("first boot", 170.0) - start == timedelta(
        seconds=90
    )  # meanwhile others counted more
    for boot in range(100):
        running(f"boot {boot}", 1.0)
    assert int(run_sql(home, "SELECT count(*) FROM clock_stamps")[0][0]) == clock.KEPT_STAMPS
    catalog.close()
