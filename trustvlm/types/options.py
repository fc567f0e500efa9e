"""Options of the verbs: their defaults and limits, once for the library, the HTTP service and the
client.

The bodies of requests are made from these classes (:mod:`trustvlm.http.wire.schemas`); a test holds
the signatures of :class:`trustvlm.TrustService` and :class:`trustvlm.client.Client` against them.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Any, ClassVar

from pydantic import BeforeValidator, Field
from pydantic_core import PydanticCustomError, core_schema

from trustvlm.errors import InvalidInput
from trustvlm.types.bounds import NUMBERS, WHOLE, number, whole
from trustvlm.types.json_form import FilterObject
from trustvlm.types.messages.meant import did_you_mean
from trustvlm.types.messages.stored_text import MAX_SOURCE


class Within:
    """Marks a number that lies within the bounds of a parameter (:mod:`trustvlm.types.bounds`)."""

    def __init__(self, name: str) -> None:
        self._name = name

    def __get_pydantic_core_schema__(self, source: Any, handler: Any) -> Any:
        return core_schema.no_info_after_validator_function(self._checked, handler(source))

    def __get_pydantic_json_schema__(self, schema: Any, handler: Any) -> Any:
        low, high = NUMBERS.get(self._name) or WHOLE[self._name]
        return handler(schema) | {"minimum": low, "maximum": high}

    def _checked(self, value: Any) -> Any:
        try:
            return (number if self._name in NUMBERS else whole)(self._name, value)
        except InvalidInput as error:
            message = {"message": str(error).partition(": ")[2]}
            raise PydanticCustomError("bounds", "{message}", message) from error


class Between:
    """Marks a whole number between two bounds, both included; high None: no upper one.

    Field(ge=…) on :data:`WholeNumber` would check the same, but its JSON Schema then holds "ge",
    which means nothing there.
    """

    def __init__(self, low: int, high: int | None = None) -> None:
        self._low, self._high = low, high

    def __get_pydantic_core_schema__(self, source: Any, handler: Any) -> Any:
        bounded = core_schema.int_schema(ge=self._low, le=self._high)
        return core_schema.chain_schema([handler(source), bounded])

    def __get_pydantic_json_schema__(self, schema: Any, handler: Any) -> Any:
        high = {} if self._high is None else {"maximum": self._high}
        return handler(schema) | {"minimum": self._low} | high


class UpTo:
    """Marks a text of at most `most` characters; unlike Field(max_length=…), also one with halves
    of characters, which the answer of a language model may have at its end."""

    def __init__(self, most: int) -> None:
        self._most = most

    def __get_pydantic_core_schema__(self, source: Any, handler: Any) -> Any:
        return core_schema.no_info_after_validator_function(self._checked, handler(source))

    def __get_pydantic_json_schema__(self, schema: Any, handler: Any) -> Any:
        return handler(schema) | {"maxLength": self._most}

    def _checked(self, text: str) -> str:
        if len(text) > self._most:
            expected = f"expected at most {self._most} characters, got {len(text)}"
            raise PydanticCustomError("up_to", "{message}", {"message": expected})
        return text


class OneOf:
    """Marks a text that is one of these names."""

    def __init__(self, *names: str) -> None:
        self._names = names

    def __get_pydantic_core_schema__(self, source: Any, handler: Any) -> Any:
        return core_schema.no_info_after_validator_function(self._checked, handler(source))

    def __get_pydantic_json_schema__(self, schema: Any, handler: Any) -> Any:
        return handler(schema) | {"enum": [*self._names]}

    def _checked(self, name: str) -> str:
        if name not in self._names:
            names = f"expected one of {', '.join(self._names)}; got {name!r:.100}"
            message = {"message": names + did_you_mean(name, self._names)}
            raise PydanticCustomError("one_of", "{message}", message)
        return name


def _integer(value: Any) -> Any:
    """A number of JSON without a fraction as an integer, as JSON Schema means it: 311.0 is 311.
    Beyond 2^53 it may differ from what was written."""
    exact = type(value) is float and value.is_integer() and abs(value) <= 2**53
    return int(value) if exact else value


def says(description: str, **limits: Any) -> Any:
    """The description of an option, with its limits."""
    return Field(description=description, **limits)


KINDS = ("support", "prototype", "text")
ON_STALE, ON_UNVERIFIED = ("auto", "flag", "abstain"), ("judge", "abstain")
SAMPLINGS = ("chosen", "random")
PROCEDURES = ("ranks", "split")
ON_ERROR = ("raise", "skip")
WholeNumber = Annotated[int, BeforeValidator(_integer)]
Name = Annotated[str, UpTo(2_000)]
Claim = Annotated[str, UpTo(100_000)]
Source = Annotated[str, UpTo(MAX_SOURCE)]
Params = Mapping[str, float | None]
MaxRisk = Annotated[float, Within("max_risk")]
Confidence = Annotated[float, Within("confidence")]
Threshold = Annotated[float, Within("threshold")]
_THRESHOLD = says(
    "a threshold on the trust of the rule that is named, to prove or refuse; null: choose one"
)
BackOff = bool | Annotated[float, Within("back_off")]
"""Whether, or from which probability on, a verdict answers with a node of the taxonomy."""
_BACK_OFF = says(
    "answer with the finest node of the taxonomy whose probability reaches this; true: the "
    "threshold of the calibration in force, if it backs off, else 0.95; false: with labels only; "
    "null: as the calibration in force does"
)
_MAY_CORRECT = says("the rule may be one that corrects the classifier's labels (a starred one)")
WHICH_RULE = says(
    "auto: compare the rules with a third of the images; null: the default rule, or auto where no "
    "verifier embeddings are sent"
)
_PROCEDURE = says(
    "ranks: prove with all images; split: choose the rule's parameters with a third of them, prove "
    "with the rest; null: split with rule auto, else ranks"
)


class Options:
    """Base of all options; a name that is no option is refused, since a mistyped option must not be
    ignored."""

    __pydantic_config__: ClassVar[Any] = {"extra": "forbid"}


@dataclass(frozen=True, kw_only=True)
class ReadingOptions(Options):
    """How image files are read."""

    image_range: Annotated[
        list[float] | None,
        says(
            "in images of more than 8 bits, the values that become black and white",
            min_length=2,
            max_length=2,
        ),
    ] = None
    accept_truncated: Annotated[
        bool, says("take JPEG and PNG files that lack their last bytes")
    ] = False


@dataclass(frozen=True, kw_only=True)
class SpaceOptions(Options):
    """What a label space is created with, besides its name."""

    classifier: str | None = None
    verifier: str | None = None
    templates: list[str] | None = None
    logit_scale: Annotated[float, Within("logit_scale")] | None = None
    preset: str | None = None
    recipe: str = "flat"


@dataclass(frozen=True, kw_only=True)
class ScoreOptions(Options):
    """How queries are scored."""

    rule: str | None = None
    params: Params | None = None
    top_k: Annotated[WholeNumber, Within("top_k")] = 5
    labels: Annotated[
        list[Annotated[str, Field(max_length=2_000)]] | FilterObject | None,
        says(
            "only these labels take part: names, or a filter over their attributes, such as "
            '{"region": "EU"}'
        ),
        Field(union_mode="left_to_right"),  # names are read once, not twice and compared
    ] = None
    claimed: Annotated[
        list[Claim | None] | None,
        says(
            "a label name for each query, given elsewhere, or null: `decision` and `reason` are "
            "then about that label; a name that is no label is no error"
        ),
    ] = None
    review: Annotated[
        bool | None,
        says(
            "true: put what is not accepted, and a random share of all, into the review queue; "
            "false: store nothing, as for an experiment; null: only where the space collects"
        ),
    ] = None
    back_off: Annotated[BackOff | None, _BACK_OFF] = None


@dataclass(frozen=True, kw_only=True)
class SearchOptions(Options):
    """What queries are searched for."""

    kind: Annotated[str, OneOf(*KINDS)] = "support"
    k: Annotated[WholeNumber, Within("hits")] = 10
    filter: Annotated[
        str | FilterObject | None,
        says('only what it keeps is searched: {"region": "EU"}, or text: region = "EU"'),
    ] = None
    min_similarity: Annotated[
        Annotated[float, Within("min_similarity")] | None,
        says("of the k nearest only those at least this similar; null: all"),
    ] = None
    vectors: Annotated[bool, says("with each hit the vector that was compared")] = False


@dataclass(frozen=True, kw_only=True)
class EvaluateOptions(Options):
    """How rules are evaluated."""

    rules: list[str] | None = None
    risk: Annotated[float, Within("risk")] = 0.05
    coverage: Annotated[float, Within("coverage")] = 0.8
    draws: Annotated[
        WholeNumber,
        Within("draws"),
        says("random parts of the support images; 0: no curve over their number"),
    ] = 5
    params: Annotated[
        Mapping[str, Params] | None, says("parameters by rule, where they are not the rule's own")
    ] = None
    items: Annotated[
        bool, says("say also what each rule says of each image, and what each threshold accepts")
    ] = False
    confidence: Annotated[
        Confidence, says("of the bounds of the risk that come with the thresholds")
    ] = 0.9
    peers: Annotated[bool, says("compare other systems, too: see docs/comparison.md")] = False


@dataclass(frozen=True, kw_only=True)
class EvaluateStoredOptions(EvaluateOptions):
    """How rules are evaluated on the stored images."""

    draws: Annotated[WholeNumber, Within("draws")] = 0


@dataclass(frozen=True, kw_only=True)
class CalibrateOptions(Options):
    """What a calibration promises, and how it decides."""

    rule: Annotated[str | None, WHICH_RULE] = None
    max_risk: MaxRisk = 0.05
    confidence: Confidence = 0.9
    params: Params | None = None
    on_stale: Annotated[str, OneOf(*ON_STALE)] = "auto"
    on_unverified: Annotated[str, OneOf(*ON_UNVERIFIED)] = "judge"
    unknown_rate: Annotated[float, Within("unknown_rate")] = 0.01
    may_correct: Annotated[bool, _MAY_CORRECT] = False
    threshold: Annotated[Threshold | None, _THRESHOLD] = None
    procedure: Annotated[Annotated[str, OneOf(*PROCEDURES)] | None, _PROCEDURE] = None
    back_off: Annotated[
        bool, says("promise the finest node of the taxonomy that reaches the threshold")
    ] = False


@dataclass(frozen=True, kw_only=True)
class RecalibrateOptions(Options):
    """What changes when the stored images calibrate again; None: as it was requested last."""

    rule: str | None = None
    max_risk: MaxRisk | None = None
    confidence: Confidence | None = None
    params: Annotated[Params | None, says("of the rule, to hold fixed")] = None
    may_correct: Annotated[bool | None, _MAY_CORRECT] = None
    threshold: Annotated[
        Threshold | None,
        says(
            "a threshold on the trust to prove or refuse, of the rule in force unless another one "
            "is named; null: as it was requested last, chosen where a rule is named"
        ),
    ] = None
    procedure: Annotated[
        Annotated[str, OneOf(*PROCEDURES)] | None,
        says(
            "ranks: prove with all images, which none of them may have chosen the rule for; split: "
            "choose the rule's parameters with a third of them, prove with the rest; null: as it "
            "was requested last or, where a rule is named, as that rule needs it"
        ),
    ] = None
    claims: Annotated[
        bool, says("the calibration of claims, on its images, in place of that of predictions")
    ] = False


@dataclass(frozen=True, kw_only=True)
class FeedbackOptions(Options):
    """How images with known labels were chosen, and what becomes of them."""

    sampling: Annotated[str, OneOf(*SAMPLINGS)] = "chosen"
    promote: Annotated[bool, says("make them support images of their labels, too")] = False
