"""The bodies of requests: the options of trustvlm.types with what is sent beside them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Any, ClassVar, Literal

from pydantic import Field
from typing_extensions import TypeAliasType

from trustvlm.encoders.specs.presets import PRESETS
from trustvlm.http.wire.attribute_bodies import (
    CountBody,
    DescribedBody,
    FilterBody,
    Merge,
    Replacing,
    SupportPatchBody,
)
from trustvlm.http.wire.queries.bodies import Name, ProbabilityBody, QueryBody, Rows, Vector
from trustvlm.http.wire.sync_bodies import LabelContents, SyncBody
from trustvlm.http.wire.texts import (
    ClassifierSpec,
    LabelName,
    Prompt,
    SpaceName,
    Template,
    VerifierSpec,
)
from trustvlm.index.recipe import list_recipes
from trustvlm.scoring.rules import RULES
from trustvlm.types.json_form import Attributes
from trustvlm.types.options import (
    WHICH_RULE,
    Between,
    CalibrateOptions,
    EvaluateOptions,
    EvaluateStoredOptions,
    FeedbackOptions,
    OneOf,
    Options,
    ReadingOptions,
    RecalibrateOptions,
    ScoreOptions,
    SearchOptions,
    SpaceOptions,
    WholeNumber,
    Within,
    says,
)

__all__ = [
    "AliasBody", "CalibrateBody", "ClaimedQueries", "EmbedBody", "EvaluateBody", "EvidenceBody",
    "FeedbackBody", "IdsBody", "LabelBody", "LabelContents", "LabelledBody", "NamesBody",
    "NewLabelForm", "PatchBody", "PicturedLabel", "PicturedQueries", "RegisterBody", "RuleName",
    "ScoreBody", "SearchBody", "SpaceBody", "StoredCalibrateBody", "StoredEvaluateBody",
    "SupportPatchBody", "SupportsBody", "SyncBody", "examples",
]  # fmt: skip

Id = Annotated[WholeNumber, Between(1, 2**63 - 1)]
IdOrNone = Annotated[WholeNumber, Between(-1, 2**63 - 1)]  # -1: of no label


def _listed(*names: str) -> Any:
    return Field(json_schema_extra={"enum": [*names]})


RuleName = TypeAliasType("RuleName", Annotated[str, OneOf(*RULES)])
RuleChoice = TypeAliasType("RuleChoice", Annotated[str, OneOf("auto", *RULES)])


def _needs(name: str, kind: str) -> Any:
    """The schema of an object that has a field, which is not null."""
    return {"required": [name], "properties": {name: {"type": kind}}}


def _extra(**schema: Any) -> Any:
    return {"extra": "forbid", "json_schema_extra": schema}


@dataclass(frozen=True, kw_only=True)
class SpaceBody(SpaceOptions):
    """A new label space."""

    __pydantic_config__: ClassVar[Any] = _extra(
        anyOf=[_needs("classifier", "string"), _needs("preset", "string")]
    )

    name: Annotated[SpaceName, Field(examples=["aerial"])]
    classifier: Annotated[ClassifierSpec | None, Field(examples=["precomputed:512"])] = None
    verifier: Annotated[VerifierSpec | None, Field(examples=["precomputed:768"])] = None
    templates: Annotated[list[Template] | None, Field(min_length=1, max_length=1_000)] = None
    preset: Annotated[str, Field(max_length=2_000), _listed(*PRESETS)] | None = None
    recipe: Annotated[str, _listed(*(recipe.name for recipe in list_recipes()))] = (
        SpaceOptions.recipe
    )


@dataclass(frozen=True, kw_only=True)
class LabelBody(DescribedBody):
    """One label; everything but the name is optional."""

    name: Annotated[LabelName, Field(examples=["airport"])]
    text_vector: Annotated[
        Vector | Rows | None, says("(d,) or (templates, d) classifier embeddings of its name")
    ] = None
    image_vectors: Annotated[Rows | None, says("(k, d) verifier embeddings of support images")] = (
        None
    )
    classifier_image_vectors: Annotated[
        Rows | None, says("(k, d) classifier embeddings of these images")
    ] = None
    prompt: Prompt | None = None
    parent: Annotated[LabelName | None, says("the node that it stands under")] = None


@dataclass(frozen=True, kw_only=True)
class RegisterBody(Options):
    """Labels to register, as `labels` with vectors, or as `names` that the space's classifier
    encodes."""

    __pydantic_config__: ClassVar[Any] = _extra(
        oneOf=[_needs("labels", "array"), _needs("names", "array")]
    )

    labels: Annotated[list[LabelBody] | None, Field(max_length=10_000)] = None
    names: Annotated[
        list[LabelName] | None, Field(max_length=100_000, examples=[["airport", "beach"]])
    ] = None
    bring_back: Annotated[
        bool, says("add vectors, too, that were taken out of their label and not yet purged")
    ] = False


@dataclass(frozen=True, kw_only=True)
class PicturedLabel(LabelBody):
    """One of several labels whose image files come in one form."""

    images: Annotated[
        WholeNumber,
        Between(0),
        says("how many of the form's files, in their order, are its support images"),
    ] = 0


@dataclass(frozen=True, kw_only=True)
class Pictured(ReadingOptions):
    """What a form says of its image files."""

    unreadable: Annotated[
        Literal["refuse", "report"],
        says("where no image can be read: refuse the request, or answer with nothing but failures"),
    ] = "refuse"
    keep_originals: Annotated[
        bool, says("keep the image files in the home, so that they can be re-embedded")
    ] = False


@dataclass(frozen=True, kw_only=True)
class NewLabelForm(Pictured):
    """One label with image files (multipart); or several of them."""

    bring_back: Annotated[
        bool, says("add images, too, that were taken out of their label and not yet purged")
    ] = False
    name: LabelName | None = None
    prompt: Prompt | None = None
    attributes: Attributes | None = None
    labels: Annotated[
        str | None,
        says(
            "instead of a name: a JSON list of labels (LabelBody), each with its number of `images`"
        ),
    ] = None


_BOTH: Any = {
    "required": ["prompt", "text_vector"],
    "properties": {"prompt": {"type": "string"}, "text_vector": {"type": "array"}},
}  # the vector is encoded from the prompt


@dataclass(frozen=True, kw_only=True)
class PatchBody(Options):
    """What is to change of a label; null: nothing."""

    __pydantic_config__: ClassVar[Any] = _extra(minProperties=1, **{"not": _BOTH})

    new_name: LabelName | None = None
    prompt: Prompt | None = None
    text_vector: Vector | Rows | None = None
    attributes: Replacing | None = None
    merge: Merge = False


@dataclass(frozen=True, kw_only=True)
class NamesBody(Options):
    """Names that are to be labels of the space."""

    names: Annotated[list[Name], Field(max_length=100_000)]


@dataclass(frozen=True, kw_only=True)
class AliasBody(Options):
    """Whose further name a label becomes."""

    of: Annotated[Name, Field(examples=["airport"])]


@dataclass(frozen=True, kw_only=True)
class IdsBody(Options):
    """Support images by id."""

    ids: Annotated[list[Id], Field(max_length=100_000)]


@dataclass(frozen=True, kw_only=True)
class SupportsBody(Pictured):
    """Support images as embeddings."""

    image_vectors: Rows | None = None
    classifier_image_vectors: Rows | None = None
    image_attributes: Attributes | None = None


@dataclass(frozen=True, kw_only=True)
class ScoreBody(ScoreOptions, ReadingOptions, ProbabilityBody):
    """Queries to score."""

    rule: Annotated[
        RuleName | None, says("None: that of the calibration in force, else the default")
    ] = None
    evidence: Annotated[
        Annotated[WholeNumber, Between(0, 20)] | None,
        says("nearest support images a verdict; by default 3 with images and 0 with embeddings"),
    ] = None
    terms: Annotated[
        bool, says("what of each trust comes from the text and what from the images")
    ] = False


@dataclass(frozen=True, kw_only=True)
class EmbedBody(ReadingOptions):
    """Image files to embed: nothing but these."""

    thumbnails: Annotated[bool, says("answer with a small JPEG of each, too")] = False


@dataclass(frozen=True, kw_only=True)
class EvidenceBody(QueryBody):
    """Verdicts whose evidence is requested, by what the answer with these verdicts said."""

    state: Annotated[dict[str, Any], says("`evidence_state` of that answer")]
    revision: Annotated[WholeNumber, Between(0, 2**63 - 1)]
    label_ids: Annotated[list[IdOrNone], Field(max_length=1_000)]
    rival_ids: Annotated[list[IdOrNone], Field(max_length=1_000)]
    claimed_ids: Annotated[list[IdOrNone] | None, Field(max_length=1_000)] = None
    k: Annotated[WholeNumber, Within("k")] = 3


@dataclass(frozen=True, kw_only=True)
class SearchBody(SearchOptions, ReadingOptions, QueryBody):
    """Queries to search with."""

    text: list[Name] | None = None
    supports: Annotated[
        WholeNumber,
        Between(0, 12),
        says(
            "with each label that is found, the ids of its first support images, up to this "
            "number; those without a picture are left out"
        ),
    ] = 0


@dataclass(frozen=True, kw_only=True)
class LabelledBody(ReadingOptions, ProbabilityBody):
    """Queries whose true labels are known."""

    truth: Annotated[
        list[Name | None],
        says("a label name a query; null: of no label of the space", min_length=1),
    ]
    sources: list[Name | None] | None = None


@dataclass(frozen=True, kw_only=True)
class PicturedQueries(Options):
    """What is stored beside embeddings with known labels."""

    thumbnails: Annotated[
        list[Annotated[str, Field(max_length=200_000)] | None] | None,
        says("a small JPEG of each query in base64, or null; of image files they are made"),
    ] = None


@dataclass(frozen=True, kw_only=True)
class ClaimedQueries(Options):
    """What queries are claimed to be."""

    claimed: Annotated[
        list[Name | None] | None,
        says("a label name a query, given elsewhere, or null: everything is then about it"),
    ] = None


@dataclass(frozen=True, kw_only=True)
class FeedbackBody(FeedbackOptions, PicturedQueries, LabelledBody):
    """True labels of images that came in."""


@dataclass(frozen=True, kw_only=True)
class StoredEvaluateBody(EvaluateStoredOptions):
    """How to evaluate on the stored images."""

    rules: list[RuleName] | None = None


@dataclass(frozen=True, kw_only=True)
class EvaluateBody(EvaluateOptions, ClaimedQueries, LabelledBody):
    """Labelled queries to evaluate rules on."""

    rules: list[RuleName] | None = None


@dataclass(frozen=True, kw_only=True)
class StoredCalibrateBody(RecalibrateOptions):
    """What to request of the stored images; what is left out stays as it was requested last."""

    rule: RuleChoice | None = None


@dataclass(frozen=True, kw_only=True)
class CalibrateBody(CalibrateOptions, PicturedQueries, ClaimedQueries, LabelledBody):
    """Labelled queries to calibrate on."""

    rule: Annotated[RuleChoice | None, WHICH_RULE] = CalibrateOptions.rule


_QUERIES = {"classifier": [[0.9, 0.1]], "verifier": [[1.0, 0.0, 0.2]]}
_LABELLED = _QUERIES | {"truth": ["airport"]}
_AIRPORT = {"name": "airport", "text_vector": [1.0, 0.0], "image_vectors": [[1.0, 0.1, 0.0]]}
_STATE = {"space": 1, "epoch": "…", "aliases": {}}
_NEAREST = {"revision": 1, "verifier": [[1.0, 0.0, 0.2]], "label_ids": [1], "rival_ids": [2]}
_EXAMPLES: dict[type[Options], dict[str, Any]] = {
    SpaceBody: {"name": "aerial", "classifier": "precomputed:2", "verifier": "precomputed:3"},
    RegisterBody: {"labels": [_AIRPORT, {"name": "sea"}]},
    PatchBody: {"new_name": "airfield", "attributes": {"region": "EU"}},
    SupportPatchBody: {"attributes": {"season": "summer"}},
    FilterBody: {"filter": {"region": "EU"}},
    CountBody: {"filter": {"region": "EU"}},
    SupportsBody: {"image_vectors": [[1.0, 0.0, 0.1]]},
    AliasBody: {"of": "airport"},
    IdsBody: {"ids": [1]},
    EvidenceBody: {"state": _STATE, **_NEAREST, "k": 3},
    ScoreBody: _QUERIES | {"rule": None, "evidence": 3},
    SearchBody: {"verifier": [[1.0, 0.0, 0.2]], "kind": "support", "k": 3},
    FeedbackBody: _LABELLED,
    EvaluateBody: _LABELLED,
    CalibrateBody: _LABELLED | {"max_risk": 0.05},
}


def examples(body: type[Options]) -> dict[str, Any]:
    """An example of a body for the OpenAPI document: of a space with 2-d embeddings."""
    return _EXAMPLES.get(body, {})
