"""Examples of bodies for the OpenAPI document, of a space with 2-d embeddings."""

from __future__ import annotations

from typing import Any

from trustvlm.http.wire.label_bodies import (
    AliasBody,
    CountBody,
    FilterBody,
    NamesBody,
    PatchBody,
    PutLabelBody,
    RegisterBody,
    SyncBody,
)
from trustvlm.http.wire.schemas import (
    AnswersBody,
    CalibrateBody,
    EmbedBody,
    EvaluateBody,
    EvidenceBody,
    FeedbackBody,
    ScoreBody,
    SearchBody,
    SpaceBody,
)
from trustvlm.http.wire.support_bodies import (
    AuditBody,
    IdsBody,
    KeepBody,
    MoveBody,
    ProposeBody,
    RemoveBody,
    SupportPatchBody,
    SupportsBody,
)
from trustvlm.types.options import Options
from trustvlm.types.review import AnswerOptions, CollectOptions
from trustvlm.types.taxonomy import ParentOptions
from trustvlm.types.verdict_log import LogOptions

_QUERIES = {"classifier": [[0.9, 0.1]], "verifier": [[1.0, 0.0, 0.2]]}
_LABELLED = _QUERIES | {"truth": ["airport"]}
_AIRPORT = {"name": "airport", "text_vector": [1.0, 0.0], "image_vectors": [[1.0, 0.1, 0.0]]}
_STATE = {"space": 1, "epoch": "…", "aliases": {}}
_NEAREST = {"revision": 1, "verifier": [[1.0, 0.0, 0.2]], "label_ids": [1], "rival_ids": [2]}
EXAMPLES: dict[type[Options], dict[str, Any]] = {
    SpaceBody: {"name": "aerial", "classifier": "precomputed:2", "verifier": "precomputed:3"},
    RegisterBody: {"labels": [_AIRPORT, {"name": "sea"}]},
    PutLabelBody: {"text_vector": [1.0, 0.0], "attributes": {"region": "EU"}},
    PatchBody: {"new_name": "airfield", "attributes": {"region": "EU"}},
    SupportPatchBody: {"attributes": {"season": "summer"}},
    FilterBody: {"filter": {"region": "EU"}},
    CountBody: {"filter": {"region": "EU"}},
    SupportsBody: {"image_vectors": [[1.0, 0.0, 0.1]]},
    AliasBody: {"of": "airport"},
    NamesBody: {"names": ["airport", "sea"]},
    SyncBody: {"labels": [{"name": "airport", "contents": ["0" * 64]}], "dry_run": True},
    ParentOptions: {"parents": {"airport": "traffic", "sea": None}},
    IdsBody: {"ids": [1]},
    MoveBody: {"ids": [1], "label": "sea"},
    KeepBody: {"ids": [1]},
    RemoveBody: {"ids": [1]},
    AuditBody: _LABELLED,
    ProposeBody: _QUERIES,
    EmbedBody: {"images": ["data:image/png;base64,…"]},
    EvidenceBody: {"state": _STATE, **_NEAREST, "k": 3},
    ScoreBody: _QUERIES | {"rule": None, "evidence": 3},
    SearchBody: {"verifier": [[1.0, 0.0, 0.2]], "kind": "support", "k": 3},
    FeedbackBody: _LABELLED,
    EvaluateBody: _LABELLED,
    CalibrateBody: _LABELLED | {"max_risk": 0.05},
    CollectOptions: {"collecting": True},
    AnswerOptions: {"truth": "airport"},
    AnswersBody: {"content": "id,truth\n1,airport\n"},
    LogOptions: {"logging": True, "days": 30},
}
