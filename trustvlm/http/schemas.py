"""The JSON that clients send. What comes back has the field names of trustvlm's dataclasses."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from trustvlm.scoring.rules import RULES

__all__ = [
    "CalibrateBody", "EvaluateBody", "FeedbackBody", "LabelBody", "PatchBody", "RegisterBody", "ScoreBody", "SearchBody",
    "SpaceBody", "SupportsBody",
]  # fmt: skip

Vector = list[float]
Rows = list[Vector]
Name = Annotated[str, Field(max_length=2_000)]
RuleName = Annotated[str, Field(max_length=100, json_schema_extra={"enum": [*RULES]})]
Params = dict[str, float | None]
_LEFT_OUT: Any = None  # may be left out, but is no null where it is given
_ROWS = "(n, d) embeddings, not normalised"


class Body(BaseModel):
    """What is not named here is refused: a mistyped option must not be ignored."""

    model_config = ConfigDict(extra="forbid")


class SpaceBody(Body):
    """A new label space."""

    model_config = ConfigDict(
        extra="forbid", json_schema_extra={"anyOf": [{"required": ["classifier"]}, {"required": ["preset"]}]}
    )

    name: Name = Field(examples=["aerial"])
    classifier: Name = Field(_LEFT_OUT, examples=["precomputed:512"])
    verifier: Name | None = Field(None, examples=["precomputed:768"])
    templates: list[Name] | None = None
    logit_scale: float | None = None
    preset: Name = Field(_LEFT_OUT, examples=["paper"])
    recipe: Name = "flat"


class LabelBody(Body):
    """One label, with whatever is known of it."""

    name: Name = Field(examples=["airport"])
    text_vector: Vector | Rows | None = Field(None, description="(d,) or (templates, d) classifier embeddings of its name")
    image_vectors: Rows | None = Field(None, description="(k, d) verifier embeddings of support images")
    classifier_image_vectors: Rows | None = Field(None, description="(k, d) classifier embeddings of the same images")
    prompt: Name | None = None


class RegisterBody(Body):
    """Labels to register, as `labels` with vectors, or as `names` that the space's classifier encodes."""

    model_config = ConfigDict(extra="forbid", json_schema_extra={"oneOf": [{"required": ["labels"]}, {"required": ["names"]}]})

    labels: list[LabelBody] = Field(_LEFT_OUT, max_length=10_000)
    names: list[Name] = Field(_LEFT_OUT, max_length=100_000, examples=[["airport", "beach"]])


class NewLabelForm(Body):
    """One label with image files (multipart)."""

    name: Name
    prompt: Name | None = None


class PatchBody(Body):
    """What is to change of a label."""

    model_config = ConfigDict(extra="forbid", json_schema_extra={"minProperties": 1})

    new_name: Name = Field(_LEFT_OUT)
    prompt: Name = Field(_LEFT_OUT)
    text_vector: Vector | Rows = Field(_LEFT_OUT)


class SupportsBody(Body):
    """Support images as embeddings."""

    image_vectors: Rows | None = None
    classifier_image_vectors: Rows | None = None


class QueryBody(Body):
    """Queries as embeddings; images come as multipart files instead."""

    classifier: Rows | None = Field(None, description=f"{_ROWS}, of the space's classifier")
    verifier: Rows | None = Field(None, description=f"{_ROWS}, of the space's verifier")


class ScoreBody(QueryBody):
    """Queries to score."""

    rule: RuleName | None = Field(None, description="None: that of the calibration in force, else the default")
    params: Params | None = None
    top_k: int = Field(5, ge=1, le=1_000)
    labels: list[Name] | None = Field(None, description="only these labels take part")
    evidence: int | None = Field(
        None, ge=0, le=20, description="nearest support images a verdict; by default 3 with images and 0 with embeddings"
    )
    terms: bool = Field(False, description="what of each trust comes from the text and what from the images")


class SearchBody(QueryBody):
    """Queries to search with."""

    text: list[Name] | None = None
    kind: Literal["support", "prototype", "text"] = "support"
    k: int = Field(10, ge=1, le=1_000)


class LabelledBody(QueryBody):
    """Queries whose true labels are known."""

    truth: list[Name | None] = Field(min_length=1, description="a label name a query; null: of no label of the space")
    sources: list[Name | None] | None = None


class FeedbackBody(LabelledBody):
    """True labels of images that came in."""

    sampling: Literal["chosen", "random"] = "chosen"
    promote: bool = Field(False, description="make them support images of their labels, too")


class EvaluateBody(LabelledBody):
    """Labelled queries to evaluate rules on."""

    rules: list[RuleName] | None = None
    risk: float = Field(0.05, gt=0, lt=1)
    coverage: float = Field(0.8, gt=0, le=1)
    draws: int = Field(0, ge=0, le=20)


class CalibrateBody(LabelledBody):
    """Labelled queries to calibrate on."""

    rule: Annotated[str, Field(max_length=100, json_schema_extra={"enum": ["auto", *RULES]})] = "auto"
    max_risk: float = Field(0.05, gt=0, lt=1)
    confidence: float = Field(0.9, gt=0, lt=1)
    params: Params | None = None
    on_stale: Literal["auto", "flag", "abstain"] = "auto"
    on_unverified: Literal["judge", "abstain"] = "judge"
    unknown_rate: float = Field(0.01, ge=0, le=0.1)


def examples(body: type[Body]) -> dict[str, Any]:
    """An example of each body for the OpenAPI document: of a space with 2-d embeddings."""
    known: dict[type[Body], dict[str, Any]] = {
        SpaceBody: {"name": "aerial", "classifier": "precomputed:2", "verifier": "precomputed:3"},
        RegisterBody: {
            "labels": [{"name": "airport", "text_vector": [1.0, 0.0], "image_vectors": [[1.0, 0.1, 0.0]]}, {"name": "sea"}]
        },
        PatchBody: {"new_name": "airfield"},
        SupportsBody: {"image_vectors": [[1.0, 0.0, 0.1]]},
        ScoreBody: {"classifier": [[0.9, 0.1]], "verifier": [[1.0, 0.0, 0.2]], "rule": None, "evidence": 3},
        SearchBody: {"verifier": [[1.0, 0.0, 0.2]], "kind": "support", "k": 3},
        FeedbackBody: {"classifier": [[0.9, 0.1]], "verifier": [[1.0, 0.0, 0.2]], "truth": ["airport"]},
        EvaluateBody: {"classifier": [[0.9, 0.1]], "verifier": [[1.0, 0.0, 0.2]], "truth": ["airport"]},
        CalibrateBody: {"classifier": [[0.9, 0.1]], "verifier": [[1.0, 0.0, 0.2]], "truth": ["airport"], "max_risk": 0.05},
    }
    return known.get(body, {})
