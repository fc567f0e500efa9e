"""The files of an exported space: labels.parquet, supports.parquet, taxonomy.parquet where it has
a taxonomy, and manifest.json (docs/backup.md).

Rows stand in the order of the labels' ids, support images in that of their labels, so that both
files can be read side by side in little memory. Vectors are fixed-size lists of float32, bit by bit
those of the catalog. Nothing is compressed or dictionary-encoded: embeddings do not shrink, and a
file then holds no more rows than its size allows.
"""

from __future__ import annotations

from base64 import b64encode
from collections.abc import Collection
from typing import TYPE_CHECKING, Annotated, Any, Literal

from pydantic import ConfigDict, Field, PlainSerializer, TypeAdapter, ValidationError
from pydantic.dataclasses import dataclass

from trustvlm.encoders.specs.parse import parse_spec
from trustvlm.errors import InvalidInput, NotFound
from trustvlm.index.recipe import load_recipe
from trustvlm.service.home.names import check_space_name
from trustvlm.service.registration.spaces import check_scale, check_templates

if TYPE_CHECKING:
    import pyarrow

MANIFEST, LABELS, SUPPORTS = "manifest.json", "labels.parquet", "supports.parquet"
TAXONOMY = "taxonomy.parquet"
"""Of a space that has a taxonomy."""

MARKS = ("kept", "proposed")
OPTIONAL = ("attributes", *MARKS)
"""Columns that a file has only where a row has a value in them: attributes of a label or support
image; marks of a support image."""

_THUMBNAIL_BYTES = 4_096  # a usual one; only for the size of row groups
_STRICT = ConfigDict(strict=True, extra="forbid", val_json_bytes="base64")

Dim = Annotated[int, Field(ge=1, le=65_536)]
Golden = Annotated[bytes, PlainSerializer(lambda data: b64encode(data).decode(), when_used="json")]
Identity = Annotated[str, Field(min_length=1, max_length=1_000, pattern=r"^[^\x00-\x1f\x7f]+$")]


@dataclass(frozen=True, config=_STRICT)
class FileFacts:
    """One file: its rows, its bytes, and its SHA-256 in hexadecimal."""

    rows: int
    size: int
    sha256: str


@dataclass(frozen=True, config=_STRICT, kw_only=True)
class SpaceManifest:
    """A space and the files that hold it; the space's fields are those of the catalog's row."""

    format: Literal["trustvlm-space"] = "trustvlm-space"
    version: Literal[1] = 1
    trustvlm: str
    created_at: str
    revision: int
    name: str
    classifier: str
    verifier: str
    classifier_identity: Identity
    verifier_identity: Identity
    classifier_golden: Golden | None
    verifier_golden: Golden | None
    classifier_dim: Dim
    verifier_dim: Dim
    templates: tuple[str, ...]
    logit_scale: float
    recipe: str
    files: dict[str, FileFacts]

    def to_json(self) -> str:
        """The content of manifest.json and, without the files, of the metadata of both Parquet
        files."""
        return _MANIFEST.dump_json(self, indent=1).decode()

    @classmethod
    def from_json(cls, text: bytes) -> SpaceManifest:
        """The manifest that :meth:`to_json` wrote, every field checked. Raises InvalidInput."""
        try:
            manifest = _MANIFEST.validate_json(text)
            _check(manifest)
        except ValidationError as error:
            first = error.errors()[0]
            place = ".".join(map(str, first["loc"]))
            raise InvalidInput(f"{place}: {first['msg']}") from error
        except NotFound as error:  # the recipe
            raise InvalidInput(str(error)) from error
        return manifest

    def values(self) -> dict[str, Any]:
        """The columns of the space's row."""
        left_out = ("format", "version", "trustvlm", "created_at", "revision", "files")
        values = {name: value for name, value in vars(self).items() if name not in left_out}
        return values | {"templates": list(self.templates)}


_MANIFEST = TypeAdapter(SpaceManifest)


def _check(manifest: SpaceManifest) -> None:
    """Raises InvalidInput or NotFound for fields that do not fit together."""
    check_space_name(manifest.name, "name")
    check_scale(manifest.logit_scale)
    check_templates(manifest.templates)
    load_recipe(manifest.recipe)
    pins = ("dim", "identity", "golden")
    for side in ("classifier", "verifier"):
        dim, _, golden = (getattr(manifest, f"{side}_{pin}") for pin in pins)
        spec = parse_spec(getattr(manifest, side))
        if spec.dim not in (None, dim):
            raise InvalidInput(f"{side}_dim: {dim} does not fit {spec.text!r}")
        if golden is not None and len(golden) != 4 * dim:
            raise InvalidInput(
                f"{side}_golden: expected {dim} float32 values, got {len(golden)} bytes"
            )
    classifier = parse_spec(manifest.classifier)
    if not classifier.encodes_texts and classifier.kind not in ("precomputed", "external"):
        raise InvalidInput(
            f"classifier: expected an open_clip, transformers, precomputed or external encoder, "
            f"got {manifest.classifier!r}"
        )
    if manifest.verifier == "same" and any(
        getattr(manifest, f"classifier_{pin}") != getattr(manifest, f"verifier_{pin}")
        for pin in pins
    ):
        raise InvalidInput(
            "verifier: it is 'same', but its dimension, identity or golden embedding is not the "
            "classifier's"
        )
    if manifest.files.keys() - {TAXONOMY} != {LABELS, SUPPORTS}:
        raise InvalidInput(f"files: expected {LABELS}, {SUPPORTS} and, at most, {TAXONOMY}")


def schema_of(
    file: str, manifest: SpaceManifest, extra: Collection[str] = OPTIONAL
) -> pyarrow.Schema:
    """The columns of an exported file, of the optional ones those named in `extra`."""
    import pyarrow as pa

    text, dims = pa.string(), (manifest.classifier_dim, manifest.verifier_dim)
    of_classifier, of_verifier = (pa.list_(pa.float32(), dim) for dim in dims)
    described = ("attributes", text, True)
    columns = {
        LABELS: [
            ("name", text, False),
            ("prompt", text, True),
            ("text_source", text, False),
            ("alias_of", text, True),
            ("support_count", pa.int32(), False),
            ("text_prototype", of_classifier, False),
            ("prototype", of_verifier, True),
            described,
        ],
        SUPPORTS: [
            ("label", text, False),
            ("content_hash", pa.binary(32), False),
            ("source", text, True),
            ("embedding", of_verifier, False),
            ("classifier_embedding", of_classifier, True),
            ("thumbnail", pa.binary(), True),
            described,
            *((mark, pa.bool_(), True) for mark in MARKS),
        ],
        TAXONOMY: [("child", text, False), ("parent", text, False)],
    }
    fields = [
        pa.field(name, kind, nullable=nullable)
        for name, kind, nullable in columns[file]
        if name not in OPTIONAL or name in extra
    ]
    return pa.schema(fields, metadata={"trustvlm": manifest.to_json()})


def group_rows(manifest: SpaceManifest, group_bytes: int) -> int:
    """Rows of either file that make a row group of about `group_bytes`."""
    row_bytes = 4 * (manifest.classifier_dim + manifest.verifier_dim) + _THUMBNAIL_BYTES
    return max(1, min(16_384, group_bytes // row_bytes))
