"""Damaged inputs by the thousand through every entrance: no crash, no hang, no gigabyte. See
docs/hostile-input.md."""

from __future__ import annotations

import random

import pytest
from fuzz.campaign import HANG_SECONDS, campaign
from fuzz.entrances import ENTRANCES
from fuzz.mutate import mutated

MAX_MB = 1_000


def check(entrance: str, count: int, first: int = 1) -> None:
    report = campaign(entrance, count, first)
    assert report.findings == []
    assert report.inputs == count
    assert report.slowest_ms < 1_000 * HANG_SECONDS
    assert report.peak_mb < MAX_MB
    assert (
        report.outcomes["accepted"] > count // 100
    )  # the fuzzer reaches what lies behind the checks
    assert report.outcomes["accepted"] < count // 2


SLOW = ("npz", "names")
"""Entrances to a catalog: by default test_hostile_files.py and test_hostile_names.py try them."""


@pytest.mark.parametrize(
    "entrance", [pytest.param(one, marks=[pytest.mark.slow] * (one in SLOW)) for one in ENTRANCES]
)
def test_some_hundred(entrance: str) -> None:
    check(entrance, 15 if entrance in SLOW else 60, first=20_000)  # those write to a catalog


@pytest.mark.slow
@pytest.mark.timeout(1_800)
@pytest.mark.parametrize("entrance", ENTRANCES)
def test_some_thousand(entrance: str) -> None:
    check(entrance, 4_000)


def test_inputs_follow_from_their_number() -> None:
    seeds = [bytes(range(256)), b"GIF89a" * 40]
    made = [mutated(seeds, random.Random(number)) for number in range(200)]
    assert made == [mutated(seeds, random.Random(number)) for number in range(200)]
    assert len(set(made)) > 150
