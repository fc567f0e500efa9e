"""A call that finds nothing changed asks the catalog nothing; a call after any change, by any
process, sees it."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numbered import CLASSIFIER, VERIFIER, label, queries, text, vectors
from raw_sql import run_sql
from sqlalchemy import Engine, event
from test_processes import Other

import trustvlm
from trustvlm import RULES, Queries, TrustService

pytestmark = pytest.mark.both_back_ends(slow=True)  # in short: test_equal_back_ends.py

COLUMNS = (
    "label", "label_id", "rival", "nearest_prototype", "unverified", "decision", "accepted",
    "reason_code", "reason", "top_labels", "unknown",
)  # fmt: skip
NUMBERS = ("trust", "text_confidence", "image_similarity")


def statements(call: Callable[[], object]) -> list[str]:
    """What `call` asks the catalog."""
    sent: list[str] = []

    def note(connection: Any, cursor: Any, statement: str, *_: Any) -> None:
        sent.append(statement)

    event.listen(Engine, "before_cursor_execute", note)
    try:
        call()
    finally:
        event.remove(Engine, "before_cursor_execute", note)
    return sent


def labelled(count: int = 200) -> tuple[Queries, list[str]]:
    """Images of the labels 0 to 19 that their text gives away."""
    noise = 0.1 * vectors(9, n=count, dim=CLASSIFIER)
    classifier = np.array([text(number % 20) for number in range(count)]) + noise
    truth = [f"label {number % 20:04d}" for number in range(count)]
    return Queries(classifier, vectors(8, n=count, dim=VERIFIER)), truth


def calibrated(service: TrustService) -> None:
    asked, truth = labelled()
    assert not service.calibrate("space", asked, truth, rule="msp", max_risk=0.2).failed


@pytest.fixture
def service(home: Path) -> Iterator[TrustService]:
    with trustvlm.open(home) as opened:
        yield opened


@pytest.fixture
def other(home: Path) -> Iterator[Other]:
    process = Other(home)
    yield process
    process.close()


def test_scoring_again_asks_no_statement(service: TrustService) -> None:
    asked = queries()
    for calibrate in (False, True):
        if calibrate:
            calibrated(service)
            service.register("space", [label(50)])  # so that the calibration is stale
        for rule in (None, *(name for name in RULES if name != "knn")):
            scored = partial(service.score, "space", asked, rule=rule)
            scored()
            assert statements(scored) == [], rule
        calls: dict[str, Any] = {"labels": np.arange(20 + calibrate) % 2 == 0, "top_k": 2}
        assert statements(partial(service.score, "space", asked, **calls)) == []
        text_only = Queries(asked.classifier)
        assert statements(partial(service.score, "space", text_only, rule="msp")) == []


def test_searching_again_asks_no_statement(service: TrustService) -> None:
    asked = queries()
    for kind in ("support", "prototype", "text"):
        found = partial(service.search, "space", asked, kind=kind, k=5)
        found()
        assert statements(found) == [], kind


def test_a_change_of_this_process_is_asked_for_once(service: TrustService) -> None:
    asked = queries()
    service.score("space", asked)
    changes: list[Callable[[], object]] = [
        lambda: service.register("space", [label(60)]),
        lambda: service.create_space("b", classifier="precomputed:2", verifier="precomputed:2"),
        lambda: service.calibrate("space", *labelled()),
    ]
    for change in changes:
        change()
        assert statements(lambda: service.score("space", asked))
        assert not statements(lambda: service.score("space", asked))


def test_a_read_only_service_asks_nothing_either(home: Path) -> None:
    with trustvlm.open(home, read_only=True) as service:
        service.score("space", queries())
        assert statements(lambda: service.score("space", queries())) == []


def answers_of(service: TrustService) -> dict[str, Any]:
    """What a service says of the space, in every verb that answers from memory."""
    asked, _ = labelled(20)
    some = Queries(np.concatenate([asked.classifier, queries().classifier]),
                   np.concatenate([asked.verifier, queries().verifier]))  # fmt: skip
    verdicts = service.score("space", some)
    said: dict[str, Any] = {name: getattr(verdicts, name).tolist() for name in COLUMNS}
    said |= {
        name: np.nan_to_num(getattr(verdicts, name), nan=9).round(4).tolist() for name in NUMBERS
    }
    for name in ("rule", "revision", "calibration_id", "stale_since", "image_evidence"):
        said[name] = getattr(verdicts, name)
    for kind in ("support", "prototype", "text"):
        found = service.search("space", some, kind=kind, k=3)
        said |= {f"{kind} ids": found.ids.tolist(), f"{kind} labels": found.labels.tolist()}
    evidence = [verdicts.evidence(i) for i in range(0, len(verdicts), 7)]
    said["evidence"] = [[near.id for near in (*one.label, *one.rival)] for one in evidence]
    return said


LABELLED = (
    "Queries(np.array([text(n % 20) for n in range(200)]) + 0.1 * vectors(9, n=200, dim=32), "
    "vectors(8, n=200, dim=64))"
)
TRUTH = "[f'label {n % 20:04d}' for n in range(200)]"
CALIBRATE = f"service.calibrate('space', {LABELLED}, {TRUTH}, rule='msp', max_risk=0.2)"
REEMBED = (
    "service.reembed_space('space', classifier='precomputed:32:new', "
    "verifier='precomputed:64:new', "
    "text_vectors={row.name: text(row.id, 7) for row in service.list_labels('space')}, "
    "image_vectors={one.id: vectors(6, one.id, n=1, dim=64)[0] "
    "for row in service.list_labels('space') "
    "for one in service.list_supports('space', row.name)})"
)
STEPS = {
    "calibrate": CALIBRATE,
    "register": "service.register('space', [label(100)])",
    "text only": "service.register('space', [label(101, supports=0)])",
    "recalibrate": "service.recalibrate('space', max_risk=0.3)",
    "take a calibration back": (
        "service.remove_calibration('space', service.list_calibrations('space')[0].id)"
    ),
    "alias": "service.alias('space', 'label 0003', 'label 0005')",
    "unalias": "service.unalias('space', 'label 0003')",
    "feedback": f"service.feedback('space', {LABELLED.replace('vectors(8', 'vectors(7')}, {TRUTH})",
    "promoted feedback": (
        "service.feedback('space', Queries(text(1)[np.newaxis], vectors(5, 2, n=40, dim=64)[:1]), "
        "'label 0001', promote=True)"
    ),
    "rename": "service.update_label('space', 'label 0001', new_name='elephant')",
    "new text vector": "service.update_label('space', 'label 0002', text_vector=text(9, 9))",
    "remove a label": "service.remove_label('space', 'label 0007')",
    "restore a label": "service.restore_label('space', 'label 0007')",
    "purge a label": "service.remove_label('space', 'label 0007', purge=True)",
    "another recipe": "service.rebuild_index('space', recipe='flat-fp16')",
    "calibrate again": "service.recalibrate('space', max_risk=0.2)",
    "re-embed": REEMBED,
    "back to before": "service.restore_space('space')",
    "remove and restore the space": "service.remove_space('space'); service.restore_space('space')",
    "make it again": (
        "[service.remove_space('space'), create(service), "
        "service.register('space', [label(n, version=1) for n in range(9)])] and 0"
    ),
    "purge": "service.purge(older_than=AT_ONCE)",
}
SILENT = {"feedback", "purge", "remove and restore the space"}
"""Steps after which the same is said: they change nothing that these verbs show."""


def test_the_next_call_sees_every_change_of_another_process(
    home: Path, service: TrustService, other: Other
) -> None:
    before = answers_of(service)
    assert answers_of(service) == before
    for step, expression in STEPS.items():
        for part in expression.split("; "):
            other(part)
        after = answers_of(service)
        with trustvlm.open(home, read_only=True) as fresh:
            assert after == answers_of(fresh), step
        assert (after != before) == (step not in SILENT), step
        before = after
    other("service.remove_space('space')")
    for verb in (service.score, service.search):
        with pytest.raises(trustvlm.NotFound):
            verb("space", queries())


def test_another_epoch_is_seen_at_once(home: Path, service: TrustService) -> None:
    """As after a restore: rows are other ones at a revision that was seen before."""
    asked, _ = labelled(20)
    assert "label 0003" in service.score("space", asked).label
    run_sql(home, "UPDATE labels SET name = 'zebra' WHERE name = 'label 0003'")
    run_sql(home, "UPDATE catalog_state SET epoch = 'another'")
    assert {"zebra"} == {"label 0003", "zebra"} & set(service.score("space", asked).label)


def test_what_needs_a_statement_is_of_the_state_of_the_call(
    home: Path, service: TrustService, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Something is committed after the call found nothing changed and before its first
    statement."""
    asked = Queries(np.array([text(100)]), np.asarray(label(100).image_vectors)[:1])
    service.score("space", asked, rule="knn")
    catalog = service._home.catalog
    read_at, calls = catalog.read_at, []

    def late(version: Any) -> Any:
        if not calls:
            with trustvlm.open(home) as writer:
                calls.append(writer.register("space", [label(100)]).revision)
        return read_at(version)

    monkeypatch.setattr(catalog, "read_at", late)
    verdicts = service.score("space", asked, rule="knn")
    assert (verdicts.label[0], verdicts.revision) == ("label 0100", calls[0])


@pytest.mark.slow  # by default: tests/durability/test_processes.py
def test_threads_that_score_while_others_register(service: TrustService) -> None:
    """Revisions only rise, and what a thread registered its next call gives."""
    failed: list[BaseException] = []

    def work(who: int) -> None:
        try:
            last = 0
            for number in range(8):
                new = label(1000 * who + number)
                revision = service.register("space", [new]).revision
                asked = Queries(np.array([new.text_vector]), np.asarray(new.image_vectors)[:1])
                for _ in range(3):
                    verdicts = service.score("space", asked, rule="msp")
                    assert verdicts.label[0] == new.name
                    assert verdicts.revision >= max(revision, last)
                    last = verdicts.revision
        except BaseException as error:
            failed.append(error)

    threads = [threading.Thread(target=work, args=(who,)) for who in range(1, 5)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not failed
