"""What a catalog answers does not depend on what holds it: the same calls give equal answers, with
equal ids and revisions."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import numpy as np
import postgres
import pytest
from numbered import CLASSIFIER, VERIFIER, label, queries, text, vectors

import trustvlm
from trustvlm import LabelInput, Queries, TrustService
from trustvlm.service.server.server_home import ServerHome

NAMES = ["_", "a", "A", "b", "B c", "É", "é", "e\u0301clair", "ß", "Σ", "ς", "50 %", "a_b", "a\\b",
         "a'b", 'a"b', "\U0001f600", "\uffdc", "ﬁ", "zebra", "Zebra", "z-10", "z-9"]  # fmt: skip
"""Names that collations put into different orders, and with what patterns and bytes mean."""


@pytest.fixture
def services(
    postgres_server: postgres.Server, tmp_path: Path
) -> Iterator[tuple[TrustService, TrustService]]:
    """Services of two empty homes: the catalog of the first is a file, that of the second is in
    PostgreSQL, in a database that compares texts in the way of a language."""
    name = "equal"
    postgres_server.create(name, options="TEMPLATE template0 LOCALE_PROVIDER icu ICU_LOCALE 'en'")
    url = postgres_server.url(name)
    with (
        trustvlm.open(tmp_path / "file", create=True) as one,
        trustvlm.open(tmp_path / "node", create=True, database_url=url) as two,
    ):
        yield one, two
    postgres_server.drop(name)


def named(name: str, number: int, supports: int) -> LabelInput:
    images = vectors(2, number, n=supports, dim=VERIFIER) if supports else None
    return LabelInput(name, text_vector=text(number), image_vectors=images)


def images(count: int, seed: int = 9) -> tuple[Queries, list[str]]:
    """Images of labels that their text mostly gives away."""
    numbers = [number % len(NAMES) for number in range(count)]
    noise = 0.8 * vectors(seed, n=count, dim=CLASSIFIER)
    classifier = np.array([text(number) for number in numbers]) + noise
    given = Queries(classifier, vectors(seed + 1, n=count, dim=VERIFIER))
    return given, [NAMES[number] for number in numbers]


def columns_of(verdicts: trustvlm.Verdicts) -> dict[str, Any]:
    """Every value of verdicts, and the evidence of some."""
    said = {name: np.asarray(getattr(verdicts, name)).tolist() for name in (
        "label", "label_id", "rival", "trust", "text_confidence", "image_similarity",
        "nearest_prototype", "nearest_similarity", "rival_trust", "decision",
    )}  # fmt: skip
    said["evidence"] = [repr(verdicts.evidence(place)) for place in range(0, len(verdicts), 5)]
    return said | {"revision": verdicts.revision, "calibration": verdicts.calibration_id}


def answers(service: TrustService) -> Iterator[tuple[str, Any]]:
    """What the verbs say, each with its name, while they change a space."""
    encoders = {"classifier": f"precomputed:{CLASSIFIER}", "verifier": f"precomputed:{VERIFIER}"}
    service.create_space("s", **encoders, logit_scale=10.0)
    inputs = [named(name, number, number % 4) for number, name in enumerate(NAMES)]
    yield "register", service.register("s", inputs)
    yield "register more", service.register("s", [label(number) for number in range(100, 180)])
    server = ServerHome(service)
    yield "names", [row.name for row in service.list_labels("s")]
    for asked in ({}, {"after": "a"}, {"after": "É"}, {"prefix": "a"}, {"prefix": "Z"},
                  {"prefix": "z-"}, {"contains": "B"}, {"contains": "é"}, {"contains": "%"},
                  {"contains": "_"}, {"contains": "\\"}, {"contains": "ebr"},
                  {"unverified": True}):  # fmt: skip
        yield f"page {asked}", server.label_page("s", thumbnails=3, **asked)
    yield "page by images", server.label_page_by_images("s", after=None, limit=50)
    yield "score", columns_of(service.score("s", queries(30)))
    for kind in ("support", "prototype", "text"):
        found = service.search("s", queries(20), kind=kind, k=7)
        yield f"search {kind}", (found.ids.tolist(), found.labels.tolist())
    yield "alias", service.alias("s", "A", "a")
    yield "no alias", service.alias("s", "zebra", "Zebra")
    yield "unalias", service.unalias("s", "zebra")
    yield "synonyms", service.near_synonyms("s")
    yield "removed label", service.remove_label("s", "b")
    ids = [row.id for row in service.list_supports("s", label(101).name)]
    yield "removed support image", service.remove_support("s", ids[:1])
    yield "score again", columns_of(service.score("s", queries(30)))
    yield "trash", [(row.kind, row.id, row.label) for row in server.removed_rows("s").removed]
    yield "restored", (service.restore_label("s", "b"), service.restore_support("s", ids[:1]))
    calibration = service.calibrate("s", *images(400), max_risk=0.3)
    yield "calibration", (calibration.id, calibration.threshold, calibration.revision)
    yield "feedback", service.feedback("s", *images(20, 30), sampling="random")
    yield "promoted", service.feedback("s", *images(5, 40), promote=True)
    yield "observations", service.count_observations("s")
    monitor = service.monitor("s")
    yield "monitor", monitor
    yield "recalibration", service.recalibrate("s").threshold
    yield "calibrations", [one.threshold for one in service.list_calibrations("s")]
    yield "score at last", columns_of(service.score("s", queries(30)))
    yield "removed again", service.remove_label("s", label(102).name, purge=True)
    yield "purged", service.purge(older_than=timedelta(0))
    yield "ids go on", service.register("s", [label(500)])
    yield "spaces", [(row.name, row.revision, row.label_count) for row in service.list_spaces()]


def test_the_same_calls_give_equal_answers(services: tuple[TrustService, TrustService]) -> None:
    for service in services:
        service.place = ""  # of two homes, which the commands of messages would name
    for (what, one), (_, two) in zip(*map(answers, services), strict=True):
        assert repr(one) == repr(two), what
