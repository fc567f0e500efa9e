"""The verbs of the library, of the client and of the HTTP service: equal names, arguments, defaults
and types of answers, from one definition."""

from __future__ import annotations

import inspect
from dataclasses import MISSING, fields
from typing import Any

import pytest

import trustvlm
from trustvlm.client import Client
from trustvlm.http.wire import schemas
from trustvlm.types import options

OPERATOR = {
    "abort_reembed", "backup", "discard_old", "export_space", "import_space", "index_attribute",
    "index_stats",
    "near_synonyms", "purge", "rebuild_index", "reembed_space", "reembed_status", "repoint_space",
    "scrub", "suggest_recipe", "tune_index", "verify", "write_report",
}  # fmt: skip
"""The verbs that need an open home: for the person who runs the service."""

JOBS = {"cancel_job", "get_job", "list_jobs", "wait_job"}
TRASH = {"removed"}
"""What the service keeps beside the library's verbs."""


def verbs(kind: type) -> dict[str, inspect.Signature]:
    members = inspect.getmembers(kind, inspect.isfunction)
    return {name: inspect.signature(verb) for name, verb in members if not name.startswith("_")}


LIBRARY, CLIENT = verbs(trustvlm.TrustService), verbs(Client)


def test_the_verbs_of_the_client_are_those_of_the_library() -> None:
    assert set(LIBRARY) - set(CLIENT) == OPERATOR
    assert set(CLIENT) - set(LIBRARY) == JOBS | TRASH


@pytest.mark.parametrize("verb", sorted(set(LIBRARY) & set(CLIENT)))
def test_signatures_are_equal(verb: str) -> None:
    """Names, order, defaults and kinds; jobs of the service report their progress, too."""
    theirs = dict(LIBRARY[verb].parameters)
    ours = {
        name: parameter
        for name, parameter in CLIENT[verb].parameters.items()
        if name in theirs or name != "progress"
    }
    assert list(ours) == list(theirs)
    for name, parameter in theirs.items():
        assert (ours[name].default, ours[name].kind) == (parameter.default, parameter.kind), name
    assert CLIENT[verb].return_annotation == LIBRARY[verb].return_annotation


def defaults(kind: Any) -> dict[str, Any]:
    return {field.name: field.default for field in fields(kind) if field.default is not MISSING}


@pytest.mark.parametrize(
    ("verb", "kind", "body"),
    [
        ("create_space", options.SpaceOptions, schemas.SpaceBody),
        ("score", options.ScoreOptions, schemas.ScoreBody),
        ("search", options.SearchOptions, schemas.SearchBody),
        ("evaluate", options.EvaluateOptions, schemas.EvaluateBody),
        ("evaluate_stored", options.EvaluateStoredOptions, schemas.StoredEvaluateBody),
        ("calibrate", options.CalibrateOptions, schemas.CalibrateBody),
        ("recalibrate", options.RecalibrateOptions, schemas.StoredCalibrateBody),
        ("feedback", options.FeedbackOptions, schemas.FeedbackBody),
        ("embed", options.ReadingOptions, schemas.EmbedBody),
    ],
)
def test_defaults_stand_once(verb: str, kind: Any, body: Any) -> None:
    """An option has the default of its verb in the library, in the client and over HTTP."""
    expected = defaults(kind)
    assert expected.items() <= defaults(body).items()
    # In Python the claims are part of the queries.
    expected.pop("claimed", None)
    for signature in (LIBRARY[verb], CLIENT[verb]):
        given = {name: signature.parameters[name].default for name in expected}
        assert given == expected
