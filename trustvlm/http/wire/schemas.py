"""The JSON that clients send. What comes back has the field names of trustvlm's dataclasses."""

from __future__ import annotations

from typing import Annotated, Any, Literal, Self

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, model_validator
from pydantic_core import PydanticCustomError
from typing_extensions import TypeAliasType

from trustvlm.encoders.presets import PAPER
from trustvlm.errors import InvalidInput
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
from trustvlm.types.bounds import NUMBERS, WHOLE, number, whole

__all__ = [
    "AliasBody",
    "CalibrateBody",
    "EmbedBody",
    "EvaluateBody",
    "EvaluateOptions",
    "EvidenceBody",
    "FeedbackBody",
    "IdsBody",
    "LabelBody",
    "NewLabelForm",
    "PatchBody",
    "PicturedLabel",
    "RegisterBody",
    "ScoreBody",
    "SearchBody",
    "SpaceBody",
    "StoredCalibrateBody",
    "SupportsBody",
    "bounded",
]  # fmt: skip

Vector = list[float]
Rows = list[Vector]
Name = Annotated[str, Field(max_length=2_000)]


def _one_of(*names: str) -> tuple[AfterValidator, Any]:
    """What makes a string one of these: others are refused as the library refuses them."""

    def checked(name: str) -> str:
        if name not in names:
            said = f"expected one of {', '.join(names)}; got {name!r}"
            raise PydanticCustomError("one_of", "{said}", {"said": said})
        return name

    return AfterValidator(checked), Field(max_length=100, json_schema_extra={"enum": [*names]})


def _whole(value: Any) -> Any:
    """A number of JSON without a fraction as an integer, as JSON Schema means it: 311.0 is 311.
    Beyond 2^53 it may be another one than was written."""
    return (
        int(value) if type(value) is float and value.is_integer() and abs(value) <= 2**53 else value
    )


Whole = Annotated[int, BeforeValidator(_whole)]
Id = Annotated[Whole, Field(ge=1, le=2**63 - 1)]
IdOrNone = Annotated[Whole, Field(ge=-1, le=2**63 - 1)]  # -1: of no label


def bounded(name: str) -> tuple[AfterValidator, Any]:
    """What keeps a number within the bounds of a parameter: others are refused as the library
    refuses them."""
    check = number if name in NUMBERS else whole
    low, high = NUMBERS.get(name) or WHOLE[name]

    def checked(value: Any) -> Any:
        try:
            return check(name, value)
        except InvalidInput as error:
            raise PydanticCustomError(
                "bounds", "{said}", {"said": str(error).partition(": ")[2]}
            ) from error

    return AfterValidator(checked), Field(json_schema_extra={"minimum": low, "maximum": high})


RuleName = TypeAliasType("RuleName", Annotated[str, *_one_of(*RULES)])
RuleChoice = TypeAliasType("RuleChoice", Annotated[str, *_one_of("auto", *RULES)])
PresetName = Annotated[str, Field(max_length=2_000, json_schema_extra={"enum": [PAPER.name]})]
Params = dict[str, float | None]
MaxRisk = Annotated[float, *bounded("max_risk")]
Confidence = Annotated[float, *bounded("confidence")]
_ROWS = "(n, d) embeddings, not normalised"


class Body(BaseModel):
    """What is not named here is refused: a mistyped option must not be ignored."""

    model_config = ConfigDict(extra="forbid")


def _needs(name: str, kind: str) -> Any:
    """The schema of an object that has a field, which is not null."""
    return {"required": [name], "properties": {name: {"type": kind}}}


class ImageFields(Body):
    """How image files are read; only with files, in a form."""

    image_range: list[float] | None = Field(
        None,
        min_length=2,
        max_length=2,
        description="in images of more than 8 bits, the values that become black and white",
    )
    accept_truncated: bool = Field(
        False, description="take JPEG and PNG files that lack their last bytes"
    )


class SpaceBody(Body):
    """A new label space."""

    model_config = ConfigDict(
        extra="forbid",
        json_schema_extra={"anyOf": [_needs("classifier", "string"), _needs("preset", "string")]},
    )

    name: SpaceName = Field(examples=["aerial"])
    classifier: ClassifierSpec | None = Field(None, examples=["precomputed:512"])
    verifier: VerifierSpec | None = Field(None, examples=["precomputed:768"])
    templates: list[Template] | None = Field(None, min_length=1, max_length=1_000)
    logit_scale: Annotated[float, *bounded("logit_scale")] | None = None
    preset: PresetName | None = None
    recipe: Annotated[
        str, Field(json_schema_extra={"enum": [recipe.name for recipe in list_recipes()]})
    ] = "flat"


class LabelBody(Body):
    """One label, with whatever is known of it."""

    name: LabelName = Field(examples=["airport"])
    text_vector: Vector | Rows | None = Field(
        None, description="(d,) or (templates, d) classifier embeddings of its name"
    )
    image_vectors: Rows | None = Field(
        None, description="(k, d) verifier embeddings of support images"
    )
    classifier_image_vectors: Rows | None = Field(
        None, description="(k, d) classifier embeddings of the same images"
    )
    prompt: Prompt | None = None


class RegisterBody(Body):
    """Labels to register, as `labels` with vectors, or as `names` that the space's classifier
    encodes."""

    model_config = ConfigDict(
        extra="forbid",
        json_schema_extra={"oneOf": [_needs("labels", "array"), _needs("names", "array")]},
    )

    labels: list[LabelBody] | None = Field(None, max_length=10_000)
    names: list[LabelName] | None = Field(None, max_length=100_000, examples=[["airport", "beach"]])
    bring_back: bool = Field(
        False, description="add vectors, too, that were taken out of their label and not yet purged"
    )


class PicturedLabel(LabelBody):
    """One of several labels whose image files come in one form."""

    images: Whole = Field(
        0, ge=0, description="how many of the form's files, in their order, are its support images"
    )


class Pictured(ImageFields):
    """What a form says of its image files."""

    unreadable: Literal["refuse", "report"] = Field(
        "refuse",
        description="where no image can be read: refuse the request, or answer with nothing but "
        "failures",
    )
    keep_originals: bool = Field(
        False, description="keep the image files in the home, so that they can be re-embedded"
    )


class NewLabelForm(Pictured):
    """One label with image files (multipart); or several of them."""

    bring_back: bool = Field(
        False, description="add images, too, that were taken out of their label and not yet purged"
    )

    name: LabelName | None = None
    prompt: Prompt | None = None
    labels: str | None = Field(
        None,
        description="instead of a name: a JSON list of labels (see LabelBody), each with "
        "`images`, the number of its files",
    )


_BOTH: Any = {
    "required": ["prompt", "text_vector"],
    "properties": {"prompt": {"type": "string"}, "text_vector": {"type": "array"}},
}  # the vector is encoded from the prompt


class PatchBody(Body):
    """What is to change of a label; null: nothing."""

    model_config = ConfigDict(extra="forbid", json_schema_extra={"minProperties": 1, "not": _BOTH})

    new_name: LabelName | None = None
    prompt: Prompt | None = None
    text_vector: Vector | Rows | None = None


class LabelContents(Body):
    """The support images of a label by their content."""

    name: LabelName
    contents: list[Annotated[str, Field(pattern="^[0-9a-f]{64}$")]] = Field(
        max_length=1_000_000,
        description="SHA-256 of each image file, or of each vector as little-endian float32",
    )
    sources: list[str | None] | None = Field(None, description="what each is called")
    unread: bool = Field(
        False, description="an image could not be read: nothing of the label is removed"
    )


class SyncBody(Body):
    """All that the labels of a folder have."""

    labels: list[LabelContents] = Field(min_length=1, max_length=100_000)
    dry_run: bool = Field(
        False, description="say what would change, what would be added included, and change nothing"
    )
    remove: bool = Field(
        True, description="false, with dry_run: say what registering alone would change"
    )
    bring_back: bool = Field(False, description="with remove false: as in POST …/labels")


class NamesBody(Body):
    """Names that are to be labels of the space."""

    names: list[Name] = Field(max_length=100_000)


class AliasBody(Body):
    """Whose further name a label becomes."""

    of: Name = Field(examples=["airport"])


class IdsBody(Body):
    """Support images by id."""

    ids: list[Id] = Field(max_length=100_000)


class SupportsBody(Pictured):
    """Support images as embeddings."""

    image_vectors: Rows | None = None
    classifier_image_vectors: Rows | None = None


class QueryBody(Body):
    """Queries as embeddings; images come as multipart files instead."""

    classifier: Rows | None = Field(None, description=f"{_ROWS}, of the space's classifier")
    verifier: Rows | None = Field(None, description=f"{_ROWS}, of the space's verifier")


class ScoreBody(ImageFields, QueryBody):
    """Queries to score."""

    rule: RuleName | None = Field(
        None, description="None: that of the calibration in force, else the default"
    )
    params: Params | None = None
    top_k: Annotated[Whole, *bounded("top_k")] = 5
    labels: list[Name] | None = Field(None, description="only these labels take part")
    evidence: Whole | None = Field(
        None,
        ge=0,
        le=20,
        description="nearest support images a verdict; by default 3 with images and 0 with "
        "embeddings",
    )
    terms: bool = Field(
        False, description="what of each trust comes from the text and what from the images"
    )


class EmbedBody(ImageFields):
    """Image files to embed: nothing but these."""


class EvidenceBody(QueryBody):
    """Verdicts whose evidence is asked for, by what the answer with these verdicts said."""

    state: dict[str, Any] = Field(description="`evidence_state` of that answer")
    revision: Whole = Field(ge=0, le=2**63 - 1)
    label_ids: list[IdOrNone] = Field(max_length=1_000)
    rival_ids: list[IdOrNone] = Field(max_length=1_000)
    k: Annotated[Whole, *bounded("k")] = 3


class SearchBody(ImageFields, QueryBody):
    """Queries to search with."""

    text: list[Name] | None = None
    kind: Literal["support", "prototype", "text"] = "support"
    k: Annotated[Whole, *bounded("hits")] = 10


class LabelledBody(ImageFields, QueryBody):
    """Queries whose true labels are known."""

    truth: list[Name | None] = Field(
        min_length=1, description="a label name a query; null: of no label of the space"
    )
    sources: list[Name | None] | None = None


class FeedbackBody(LabelledBody):
    """True labels of images that came in."""

    sampling: Literal["chosen", "random"] = "chosen"
    promote: bool = Field(False, description="make them support images of their labels, too")


class EvaluateOptions(Body):
    """How to evaluate."""

    rules: list[RuleName] | None = None
    risk: Annotated[float, *bounded("risk")] = 0.05
    coverage: Annotated[float, *bounded("coverage")] = 0.8
    draws: Annotated[Whole, *bounded("draws")] = 0
    params: dict[str, Params] | None = Field(
        None, description="parameters by rule, where they are not the rule's own"
    )
    items: bool = Field(
        False,
        description="say also what each rule says of each image, and what each threshold accepts",
    )
    confidence: Confidence = Field(
        0.9, description="of the bounds of the risk that come with the thresholds"
    )


class EvaluateBody(EvaluateOptions, LabelledBody):
    """Labelled queries to evaluate rules on."""


_MAY_CORRECT = "the rule may be one that corrects the classifier's labels (a starred one)"


class StoredCalibrateBody(Body):
    """What to ask for on the stored images; what is left out stays as it was asked for last."""

    rule: RuleChoice | None = None
    max_risk: MaxRisk | None = None
    confidence: Confidence | None = None
    params: Params | None = Field(None, description="of the rule, to hold fixed")
    may_correct: bool | None = Field(None, description=_MAY_CORRECT)


class CalibrateBody(LabelledBody):
    """Labelled queries to calibrate on."""

    rule: RuleChoice = "auto"
    max_risk: MaxRisk = 0.05
    confidence: Confidence = 0.9
    params: Params | None = None
    on_stale: Literal["auto", "flag", "abstain"] = "auto"
    on_unverified: Literal["judge", "abstain"] = "judge"
    unknown_rate: Annotated[float, *bounded("unknown_rate")] = 0.01
    may_correct: bool = Field(False, description=_MAY_CORRECT)

    @model_validator(mode="after")
    def _keeps_or_may_correct(self) -> Self:
        if self.rule != "auto" and RULES[self.rule].relabels and not self.may_correct:
            said = (
                f"{self.rule!r} may correct the classifier's labels: send may_correct true, "
                f"or name a rule that keeps them"
            )
            raise PydanticCustomError("may_correct", "{said}", {"said": said})
        return self


def examples(body: type[Body]) -> dict[str, Any]:
    """An example of each body for the OpenAPI document: of a space with 2-d embeddings."""
    known: dict[type[Body], dict[str, Any]] = {
        SpaceBody: {"name": "aerial", "classifier": "precomputed:2", "verifier": "precomputed:3"},
        RegisterBody: {
            "labels": [
                {"name": "airport", "text_vector": [1.0, 0.0], "image_vectors": [[1.0, 0.1, 0.0]]},
                {"name": "sea"},
            ]
        },
        PatchBody: {"new_name": "airfield"},
        SupportsBody: {"image_vectors": [[1.0, 0.0, 0.1]]},
        AliasBody: {"of": "airport"},
        IdsBody: {"ids": [1]},
        EvidenceBody: {
            "state": {"space": 1, "epoch": "…", "aliases": {}},
            "revision": 1,
            "verifier": [[1.0, 0.0, 0.2]],
            "label_ids": [1],
            "rival_ids": [2],
            "k": 3,
        },
        ScoreBody: {
            "classifier": [[0.9, 0.1]],
            "verifier": [[1.0, 0.0, 0.2]],
            "rule": None,
            "evidence": 3,
        },
        SearchBody: {"verifier": [[1.0, 0.0, 0.2]], "kind": "support", "k": 3},
        FeedbackBody: {
            "classifier": [[0.9, 0.1]],
            "verifier": [[1.0, 0.0, 0.2]],
            "truth": ["airport"],
        },
        EvaluateBody: {
            "classifier": [[0.9, 0.1]],
            "verifier": [[1.0, 0.0, 0.2]],
            "truth": ["airport"],
        },
        CalibrateBody: {
            "classifier": [[0.9, 0.1]],
            "verifier": [[1.0, 0.0, 0.2]],
            "truth": ["airport"],
            "max_risk": 0.05,
        },
    }
    return known.get(body, {})
