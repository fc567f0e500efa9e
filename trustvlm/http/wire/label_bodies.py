"""The bodies of requests that register, change, choose and remove labels."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Any, ClassVar, Literal

from pydantic import Field

from trustvlm.http.wire.image_files import Base64Images
from trustvlm.http.wire.texts import LabelName, Prompt
from trustvlm.types.json_form import Attributes, FilterObject
from trustvlm.types.options import Between, Name, Options, ReadingOptions, WholeNumber, says

Vector = list[float]
Rows = list[Vector]
Replacing = Annotated[
    Attributes,
    says("in place of all that it has, {}: none; with merge, these keys alone, null: without it"),
]
Merge = Annotated[bool, says("change the given attributes alone")]


def needs(name: str, kind: str) -> Any:
    """The schema of an object that has a field, which is not null."""
    schema: dict[str, Any] = {"type": kind}
    if kind == "array":
        schema["items"] = {}
    return {"required": [name], "properties": {name: schema}}


def extra(**schema: Any) -> Any:
    return {"extra": "forbid", "json_schema_extra": schema}


@dataclass(frozen=True, kw_only=True)
class DescribedBody(Options):
    """The attributes of a label and of its support images."""

    attributes: Attributes | None = None
    image_attributes: Annotated[
        Attributes | list[Attributes | None] | None,
        says("attributes of each support image, or one object for all of them"),
    ] = None


@dataclass(frozen=True, kw_only=True)
class LabelContent(DescribedBody):
    """What a label has besides its name and image files."""

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
class LabelFields(LabelContent):
    """One label without image files; everything but the name is optional."""

    name: Annotated[LabelName, Field(examples=["airport"])]


@dataclass(frozen=True, kw_only=True)
class PutLabelBody(LabelContent):
    """What the label of a path is to have; null: as it is."""

    images: Base64Images = None


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
class LabelBody(LabelFields):
    """One label with its support images; everything but the name is optional."""

    images: Base64Images = None


@dataclass(frozen=True, kw_only=True)
class RegisterBody(Pictured):
    """Labels to register, as `labels` with vectors or images, or as `names` that the space's
    classifier encodes."""

    __pydantic_config__: ClassVar[Any] = extra(
        oneOf=[needs("labels", "array"), needs("names", "array")]
    )

    labels: Annotated[list[LabelBody] | None, Field(max_length=10_000)] = None
    names: Annotated[
        list[LabelName] | None, Field(max_length=100_000, examples=[["airport", "beach"]])
    ] = None
    replace: Annotated[
        bool, says("give labels that exist what the request says in place of what they have")
    ] = False
    bring_back: Annotated[
        bool, says("add vectors, too, that were taken out of their label and not yet purged")
    ] = False


@dataclass(frozen=True, kw_only=True)
class PicturedLabel(LabelFields):
    """One of several labels whose image files come in one form."""

    images: Annotated[
        WholeNumber,
        Between(0),
        says("how many of the form's files, in their order, are its support images"),
    ] = 0


@dataclass(frozen=True, kw_only=True)
class NewLabelForm(Pictured):
    """One label with image files (multipart); or several of them."""

    replace: Annotated[
        bool, says("give labels that exist what the request says in place of what they have")
    ] = False
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

    __pydantic_config__: ClassVar[Any] = extra(minProperties=1, **{"not": _BOTH})

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
class FilterBody(Options):
    """Labels by name, or by their attributes: one of the two."""

    __pydantic_config__: ClassVar[Any] = extra(minProperties=1)

    labels: Annotated[
        list[Annotated[str, Field(max_length=2_000)]] | None, says("names", max_length=100_000)
    ] = None
    filter: Annotated[
        str | FilterObject | None, says('{"region": "EU"}, or text: region = "EU" and size >= 3')
    ] = None


@dataclass(frozen=True, kw_only=True)
class CountBody(Options):
    """Which labels are counted; null: all."""

    filter: str | FilterObject | None = None


@dataclass(frozen=True, kw_only=True)
class LabelContents(Options):
    """The support images of a label by their content."""

    name: LabelName
    contents: Annotated[
        list[Annotated[str, Field(pattern="^[0-9a-f]{64}$")]],
        says(
            "SHA-256 of each image file, or of each vector as little-endian float32",
            max_length=1_000_000,
        ),
    ]
    sources: Annotated[list[str | None] | None, says("what each is called")] = None
    unread: Annotated[bool, says("an image could not be read: nothing of the label is removed")] = (
        False
    )


@dataclass(frozen=True, kw_only=True)
class SyncBody(Options):
    """All that the labels of a folder have."""

    labels: Annotated[list[LabelContents], Field(min_length=1, max_length=100_000)]
    dry_run: Annotated[
        bool, says("say what would change, what would be added included, and change nothing")
    ] = False
    remove: Annotated[
        bool, says("false, with dry_run: say what registering alone would change")
    ] = True
    bring_back: Annotated[bool, says("with remove false: as in POST …/labels")] = False
