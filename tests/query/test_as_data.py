"""Answers as data: single verdicts, parts of them, tables for pandas and Arrow, short reprs."""

from __future__ import annotations

import copy
import json
import pickle
import re
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
from worlds import World, make_space

import trustvlm
from trustvlm import LabelInput
from trustvlm.types import CALL_COLUMNS, VERDICT_COLUMNS

LONG = "<b>&" + "long name" * 20


@pytest.fixture
def world() -> World:
    return World(["airport", "beach", "bridge", "desert", LONG])


@pytest.fixture
def service(verbs: Any) -> Any:
    return verbs


def scored(service: Any, world: World, per_label: int = 4, rule: str | None = None) -> Any:
    """Verdicts among five labels; one without support images is predicted."""
    make_space(service)
    *inputs, last = world.inputs(3)
    service.register("s", [*inputs, LabelInput(last.name, text_vector=last.text_vector)])
    return service.score("s", world.queries(per_label), rule=rule)


def test_a_verdict_has_the_fields_of_its_row(service: Any, world: World) -> None:
    verdicts = scored(service, world)
    rows = list(verdicts.rows())
    assert len(verdicts) == len(rows) == 20
    assert [one.to_dict() for one in verdicts] == rows
    assert list(rows[0]) == [*VERDICT_COLUMNS, *CALL_COLUMNS]
    assert verdicts[7] == list(verdicts)[7] == verdicts[-13] == verdicts[np.int64(7)]
    assert verdicts[7].label == verdicts.label[7]
    assert verdicts[7].top_labels == tuple(verdicts.top_labels[7])
    assert verdicts[7].evidence(2) == verdicts.evidence(7, 2)
    assert verdicts[7].source is None
    unverified = int(np.flatnonzero(verdicts.unverified)[0])
    assert verdicts[unverified].image_similarity is None
    assert len(repr(verdicts[0])) < 500
    for place in (20, -21):
        with pytest.raises(IndexError, match=f"verdict {place} of 20"):
            verdicts[place]
    with pytest.raises(AttributeError):
        verdicts[0].label = "other"


def test_parts_are_verdicts_with_their_evidence(service: Any, world: World) -> None:
    verdicts = scored(service, world)
    rows = list(verdicts.rows())
    trusted = verdicts.trust > np.median(verdicts.trust)
    for key, places in [
        (slice(3, 8), range(3, 8)),
        (slice(None, None, -2), range(19, -1, -2)),
        (trusted, np.flatnonzero(trusted)),
        (verdicts.label == "beach", np.flatnonzero(verdicts.label == "beach")),
        (trusted.tolist(), np.flatnonzero(trusted)),
        (pd.Series(trusted), np.flatnonzero(trusted)),
        ([-1, 0, 0], [19, 0, 0]),
        (np.argsort(-verdicts.trust), np.argsort(-verdicts.trust)),
        ([], []),
    ]:
        part = verdicts[key]
        assert isinstance(part, trustvlm.Verdicts)
        assert list(part.rows()) == [rows[place] for place in places]
        for i, place in enumerate(places):
            assert part.evidence(i, 1) == verdicts.evidence(int(place), 1)
    twice = verdicts[5:][trusted[5:]][1:]
    assert (
        list(twice.rows())
        == [row for row, yes in zip(rows[5:], trusted[5:], strict=True) if yes][1:]
    )
    assert twice.rival_confidence is None or len(twice.rival_confidence) == len(twice)
    for key, error, message in [
        (trusted[:-1], trustvlm.InvalidInput, "a mask needs 20 values"),
        ([20], IndexError, "row 20 of 20"),
        ([0.5], trustvlm.InvalidInput, "expected a place"),
        ("label", trustvlm.InvalidInput, "verdicts"),
        (verdicts.accepted, trustvlm.InvalidInput, "row 0 is missing"),
    ]:
        with pytest.raises(error, match=message):
            verdicts[key]


@pytest.mark.parametrize("verbs", ["library"], indirect=True)
def test_parts_make_columns_when_these_are_read(service: Any, world: World) -> None:
    verdicts = scored(service, world)
    part = verdicts[2:5]
    assert "reason" not in vars(part)
    assert "reason" not in vars(verdicts)
    assert part.reason.tolist() == verdicts.reason[2:5].tolist()
    assert "reason" in vars(part)


def test_parts_and_verdicts_can_be_pickled_and_copied(service: Any, world: World) -> None:
    verdicts = scored(service, world)
    part = verdicts[3:6]
    assert copy.deepcopy(part).evidence(1) == part.evidence(1)
    back = pickle.loads(pickle.dumps(part))
    assert list(back.rows()) == list(part.rows())
    assert pickle.loads(pickle.dumps(verdicts[3])) == verdicts[3]
    for pickled in (back[0], pickle.loads(pickle.dumps(verdicts[3]))):
        with pytest.raises(trustvlm.Unavailable, match="do not keep their evidence"):
            pickled.evidence()


def test_arrow_and_pandas_have_the_columns_of_the_rows(service: Any, world: World) -> None:
    verdicts = scored(service, world)
    table, frame = verdicts.to_arrow(), verdicts.to_pandas()
    assert isinstance(table, pa.Table)
    assert table.to_pylist() == list(verdicts.rows())
    assert table.column_names == list(frame.columns) == [*VERDICT_COLUMNS, *CALL_COLUMNS]
    assert frame["trust"].tolist() == verdicts.trust.tolist()
    assert frame["label"].tolist() == verdicts.label.tolist()
    assert frame.dtypes["label_id"] == "int64"
    assert frame.dtypes["agrees"] == "bool"
    assert frame.dtypes["accepted"] == "boolean"
    assert frame.dtypes["calibration_id"] == "Int64"
    assert np.isnan(frame["image_similarity"]).sum() == verdicts.unverified.sum()
    assert len(verdicts[:0].to_arrow()) == len(verdicts[:0].to_pandas()) == 0
    assert verdicts[:0].to_arrow().schema == table.schema


def test_the_columns_are_documented_in_their_order() -> None:
    page = (Path(__file__).parents[2] / "docs" / "notebook.md").read_text(encoding="utf-8")
    section = page.split("\n## Columns\n")[1].split("\n## ")[0]
    cells = [line.split("|")[1] for line in section.splitlines() if line.startswith("| `")]
    named = [name for cell in cells for name in re.findall(r"`(\w+)`", cell)]
    assert named == [*VERDICT_COLUMNS, *CALL_COLUMNS]
    assert named[:3] == ["decision", "probability", "label"]


def test_without_pandas_the_error_says_what_to_do(
    service: Any, world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    verdicts = scored(service, world)
    monkeypatch.setitem(sys.modules, "pandas", None)
    with pytest.raises(trustvlm.Unavailable, match=r"pip install pandas.*to_arrow\(\)"):
        verdicts.to_pandas()
    assert len(verdicts.to_arrow()) == len(verdicts)


def test_repr_is_short_and_leads_with_decision_and_probability(service: Any, world: World) -> None:
    verdicts = scored(service, world, 200)
    shown = repr(verdicts)
    assert len(shown) <= 2_000
    lines = shown.split("\n")
    assert lines[0] == "1,000 verdicts: 0 accept · 1,000 review · 0 unknown"
    assert lines[1] == "probability: rule posterior's own, not calibrated"
    assert lines[2] == f"rule posterior at revision {verdicts.revision} of the space"
    assert lines[3].split()[:3] == ["decision", "probability", "label"]
    assert (verdicts.probability_source, verdicts[0].probability_source) == ("rule", "rule")
    assert repr(verdicts[0]).startswith("Verdict(decision='review', probability=")
    assert repr(verdicts[:1]).startswith("1 verdict: ")
    html = verdicts._repr_html_()
    assert LONG not in html
    assert html.count("<tr>") == 51
    text_only = service.score("s", world.queries(1), rule="energy")
    assert "no probability: rule energy has none without a calibration" in repr(text_only)
    assert text_only.probability_source is None
    assert repr(text_only).split("\n")[4].split()[:2] == ["review", "–"]


def test_hits_of_each_query(service: Any, world: World) -> None:
    make_space(service)
    service.register("s", world.inputs(2))
    queries = world.queries(2)
    hits = service.search("s", queries, k=12)  # of ten support images: two places stay empty
    assert len(hits) == len(list(hits)) == 10
    rows = [row | {"vector": None} for row in hits.rows()]  # none are requested
    assert [vars(hit) for one in hits for hit in one] == rows
    assert [hit.rank for hit in hits[-1]] == list(range(1, 11))
    assert hits[3][0].similarity == hits.similarity[3, 0]
    with pytest.raises(IndexError, match="query 10 of 10"):
        hits[10]
    rows = [row | {"attributes": json.dumps(row["attributes"])} for row in hits.rows()]
    assert hits.to_arrow().to_pylist() == rows
    assert list(hits.to_pandas().columns) == [
        "query", "rank", "id", "similarity", "label", "source", "attributes",
    ]  # fmt: skip
    assert repr(hits).startswith("100 hits of 10 queries among support images at revision")
    assert len(repr(hits)) <= 2_000
    assert "&lt;b&gt;&amp;" in service.search("s", queries, k=12)._repr_html_()


def test_evaluations_have_a_row_for_each_rule(service: Any, world: World) -> None:
    scored(service, world)
    truth = [name for name in world.names for _ in range(8)]
    evaluation = service.evaluate("s", world.queries(8), truth, draws=0)
    assert [one.rule for one in evaluation] == [one.rule for one in evaluation.rules]
    assert len(evaluation) == len(evaluation.rules)
    assert "msp" in evaluation
    assert "nothing" not in evaluation
    frame = evaluation.to_pandas()
    assert frame["rule"].tolist() == [one.rule for one in evaluation]
    assert frame["aurc_high"].tolist() == [one.aurc.high for one in evaluation]
    ours = [None if one.ece is None else one.ece for one in evaluation]
    assert evaluation.to_arrow()["ece"].to_pylist() == ours
    assert len(repr(evaluation)) <= 2_000
    assert repr(evaluation).startswith(
        f"{len(evaluation)} rules on 40 images of 5 labels; space 's'"
    )
    assert evaluation._repr_html_().count("<tr>") == len(evaluation) + 1
    json.dumps(evaluation.to_dict())


def test_calibrations_have_one_row(service: Any, world: World) -> None:
    scored(service, world)
    truth = [name for name in world.names for _ in range(40)]
    made = service.calibrate(
        "s", world.queries(40), truth, rule="posterior", max_risk=0.2, on_unverified="judge"
    )
    (row,) = made.to_arrow().to_pylist()
    assert (row["rule"], row["threshold"], row["failed"]) == ("posterior", made.threshold, False)
    assert row["created_at"] == made.created_at
    stored = service.list_calibrations("s")[0].to_pandas()
    assert stored["id"].tolist() == [made.id]
    assert len(repr(made)) <= 2_000
    assert repr(made).split("\n")[1] == made.reason[:200]
    assert "coverage" in made._repr_html_()
    verdicts = service.score("s", world.queries(3))
    assert repr(verdicts).split("\n")[1] == f"probability: calibration {made.id}"
    assert verdicts.probability_source == "calibration"
    assert verdicts.to_arrow().to_pylist() == list(verdicts.rows())
