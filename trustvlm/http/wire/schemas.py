"""The bodies of requests: the options of trustvlm.types with what is sent beside them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Any, ClassVar

from pydantic import Field
from typing_extensions import TypeAliasType

from trustvlm.encoders.specs.presets import PRESETS
from trustvlm.http.wire.image_files import Base64Images
from trustvlm.http.wire.label_bodies import Rows, extra, needs
from trustvlm.http.wire.texts import ClassifierSpec, SpaceName, Template, VerifierSpec
from trustvlm.index.recipe import list_recipes
from trustvlm.scoring.rules import RULES
from trustvlm.types.options import (
    WHICH_RULE,
    Between,
    CalibrateOptions,
    Claim,
    EvaluateOptions,
    EvaluateStoredOptions,
    FeedbackOptions,
    Name,
    OneOf,
    Options,
    ReadingOptions,
    RecalibrateOptions,
    ScoreOptions,
    SearchOptions,
    Source,
    SpaceOptions,
    WholeNumber,
    Within,
    says,
)

Id = Annotated[WholeNumber, Between(1, 2**63 - 1)]
IdOrNone = Annotated[WholeNumber, Between(-1, 2**63 - 1)]  # -1: of no label


def _listed(*names: str) -> Any:
    return Field(json_schema_extra={"enum": [*names]})


RuleName = TypeAliasType("RuleName", Annotated[str, OneOf(*RULES)])
RuleChoice = TypeAliasType("RuleChoice", Annotated[str, OneOf("auto", *RULES)])


@dataclass(frozen=True, kw_only=True)
class SpaceBody(SpaceOptions):
    """A new label space."""

    __pydantic_config__: ClassVar[Any] = extra(
        anyOf=[needs("classifier", "string"), needs("preset", "string")]
    )

    name: Annotated[SpaceName, Field(examples=["aerial"])]
    classifier: Annotated[ClassifierSpec | None, Field(examples=["precomputed:512"])] = None
    verifier: Annotated[VerifierSpec | None, Field(examples=["precomputed:768"])] = None
    templates: Annotated[list[Template] | None, Field(min_length=1, max_length=1_000)] = None
    preset: Annotated[str, Field(max_length=2_000), _listed(*PRESETS)] | None = None
    recipe: Annotated[str, _listed(*(recipe.name for recipe in list_recipes()))] = (
        SpaceOptions.recipe
    )


def _rows_of(encoder: str) -> Any:
    return Field(description=f"(n, d) embeddings, not normalised, of the space's {encoder}")


@dataclass(frozen=True, kw_only=True)
class QueryBody(Options):
    """Queries as embeddings."""

    classifier: Annotated[Rows | None, _rows_of("classifier")] = None
    verifier: Annotated[Rows | None, _rows_of("verifier")] = None


Probabilities = list[list[float | None]] | list[dict[Name, float]]


@dataclass(frozen=True, kw_only=True)
class ProbabilityBody(QueryBody):
    """Queries as embeddings; in a space with an external classifier, the probabilities that it
    gives for the labels take the place of its embeddings."""

    probabilities: Annotated[
        Probabilities | None,
        says(
            "(n, N) of the labels `outputs`, each row with the sum 1; or for each query an object "
            "of some labels, of whose rest the other labels have equal shares"
        ),
    ] = None
    log_probabilities: Annotated[
        Probabilities | None, says("in place of these, their logarithms")
    ] = None
    outputs: Annotated[
        list[Name | None] | None,
        says("the label of each column; null: the probability of all labels that a row leaves out"),
    ] = None


@dataclass(frozen=True, kw_only=True)
class WithImages(Options):
    """Image files in place of embeddings; they may come as a form, too."""

    images: Base64Images = None


@dataclass(frozen=True, kw_only=True)
class ScoreBody(WithImages, ScoreOptions, ReadingOptions, ProbabilityBody):
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
    sources: Annotated[
        list[Source | None] | None,
        says("a name a query, or null; of image files in place of their names"),
    ] = None


@dataclass(frozen=True, kw_only=True)
class EmbedBody(ReadingOptions):
    """Image files to embed: nothing but these."""

    images: Base64Images = None

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
class SearchBody(WithImages, SearchOptions, ReadingOptions, QueryBody):
    """Queries to search with."""

    text: list[Name] | None = None
    like_supports: Annotated[
        list[Id] | None,
        says(
            "ids of support images whose embeddings are searched with; none is a hit of itself",
            min_length=1,
            max_length=1_000,
        ),
    ] = None
    like_labels: Annotated[
        list[Name] | None,
        says(
            "names of labels whose prototypes are searched with; none is a hit of itself",
            min_length=1,
            max_length=1_000,
        ),
    ] = None
    supports: Annotated[
        WholeNumber,
        Between(0, 12),
        says(
            "with each label that is found, the ids of its first support images, up to this "
            "number; those without a picture are left out"
        ),
    ] = 0


@dataclass(frozen=True, kw_only=True)
class LabelledBody(WithImages, ReadingOptions, ProbabilityBody):
    """Queries whose true labels are known."""

    truth: Annotated[
        list[Name | None],
        says("a label name a query; null: of no label of the space", min_length=1),
    ]
    sources: list[Source | None] | None = None


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
        list[Claim | None] | None,
        says("a label name a query, given elsewhere, or null: everything is then about it"),
    ] = None


@dataclass(frozen=True, kw_only=True)
class FeedbackBody(FeedbackOptions, PicturedQueries, ClaimedQueries, LabelledBody):
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


@dataclass(frozen=True, kw_only=True)
class AnswersBody(Options):
    """The answers of a file to items of the queue."""

    content: Annotated[
        str, says("the file's text: CSV with the columns id and truth, or JSON of Label Studio")
    ]
