"""What an exported space looks like: a folder of two Parquet files, and a manifest that says what
they are.

Rows stand in the order of the labels' ids, support images in that of their labels, so that both
files can be read side by side in little memory. Vectors are fixed-size lists of float32, bit by bit
those of the catalog. Nothing is compressed or dictionary-encoded: embeddings do not shrink, and a
file can then hold no more rows than its size allows.
"""

from __future__ import annotations

import base64
import binascii
import json
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from trustvlm.encoders import parse_spec
from trustvlm.errors import InvalidInput, NotFound
from trustvlm.index.recipe import load_recipe
from trustvlm.service.inputs.names import check_space_name
from trustvlm.service.registration.spaces import check_scale, check_templates

if TYPE_CHECKING:
    import pyarrow

__all__ = [
    "GROUP_BYTES",
    "LABELS",
    "MANIFEST",
    "SUPPORTS",
    "FileFacts",
    "SpaceManifest",
    "group_rows",
    "label_schema",
    "support_schema",
]

VERSION = 1
MANIFEST, LABELS, SUPPORTS = "manifest.json", "labels.parquet", "supports.parquet"
GROUP_BYTES = 16 * 2**20
"""About so many bytes make a row group, which is what is held at a time."""

_THUMBNAIL_BYTES = 4_096  # as a rule; only for the size of row groups
_MAX_DIM = 65_536
_MAX_IDENTITY = 1_000


@dataclass(frozen=True)
class FileFacts:
    """One file: its rows, its bytes, and its SHA-256 in hexadecimal."""

    rows: int
    size: int
    sha256: str


@dataclass(frozen=True)
class SpaceManifest:
    """A space and the files that hold it; the space's fields are those of the catalog's row."""

    trustvlm: str
    created_at: str
    revision: int
    name: str
    classifier: str
    verifier: str
    classifier_identity: str
    verifier_identity: str
    classifier_golden: bytes | None
    verifier_golden: bytes | None
    classifier_dim: int
    verifier_dim: int
    templates: tuple[str, ...]
    logit_scale: float
    recipe: str
    files: dict[str, FileFacts]

    def to_json(self) -> str:
        """As it stands in manifest.json and, without the files, in the metadata of both Parquet
        files."""
        content = asdict(self) | {"format": "trustvlm-space", "version": VERSION}
        for side in ("classifier_golden", "verifier_golden"):
            content[side] = (
                None if content[side] is None else base64.b64encode(content[side]).decode()
            )
        return json.dumps(content, ensure_ascii=False, indent=1)

    @classmethod
    def from_json(cls, text: bytes) -> SpaceManifest:
        """The manifest that :meth:`to_json` wrote, every field checked. Raises ValueError
        (InvalidInput is one) else."""
        try:
            found = json.loads(text)
            kind, version = found.pop("format"), found.pop("version")
            if (kind, version) != ("trustvlm-space", VERSION):
                raise ValueError(
                    f"expected version {VERSION} of trustvlm-space, got version {version!r:.20} "
                    f"of {kind!r:.40}"
                )
            if not all(
                isinstance(found[name], str) for name in ("classifier", "verifier", "recipe")
            ):
                raise ValueError("expected classifier, verifier and recipe as texts")
            if not isinstance(found["templates"], list):
                raise ValueError("expected a list of templates")
            for side in ("classifier_golden", "verifier_golden"):
                found[side] = (
                    None if found[side] is None else base64.b64decode(found[side], validate=True)
                )
            found["files"] = {name: FileFacts(**facts) for name, facts in found["files"].items()}
            found["templates"] = tuple(check_templates(found["templates"]))
            manifest = cls(**found)
            _check(manifest)
        except (KeyError, TypeError, AttributeError, RecursionError, binascii.Error) as error:
            raise ValueError(f"{type(error).__name__}: {error}") from error
        except NotFound as error:  # the recipe
            raise ValueError(str(error)) from error
        return manifest

    def values(self) -> dict[str, Any]:
        """The columns of the space's row."""
        described = {
            name: value
            for name, value in vars(self).items()
            if name not in ("trustvlm", "created_at", "revision", "files")
        }
        return described | {"templates": list(self.templates)}


def _check(manifest: SpaceManifest) -> None:
    """Raises InvalidInput or NotFound for a field that no export has."""
    check_space_name(manifest.name, "name")
    check_scale(manifest.logit_scale)
    load_recipe(manifest.recipe)
    for side in ("classifier", "verifier"):
        dim, identity, golden = (
            getattr(manifest, f"{side}_{key}") for key in ("dim", "identity", "golden")
        )
        spec = parse_spec(getattr(manifest, side))
        if type(dim) is not int or not 1 <= dim <= _MAX_DIM or spec.dim not in (None, dim):
            raise InvalidInput(f"{side}_dim: {dim!r:.40} does not fit {spec.text!r}")
        if (
            not isinstance(identity, str)
            or not 0 < len(identity) <= _MAX_IDENTITY
            or not identity.isprintable()
        ):
            raise InvalidInput(f"{side}_identity: expected a short text, got {identity!r:.60}")
        if golden is not None and len(golden) != 4 * dim:
            raise InvalidInput(
                f"{side}_golden: expected {dim} float32 values, got {len(golden)} bytes"
            )
    if parse_spec(manifest.classifier).kind not in ("open_clip", "precomputed"):
        raise InvalidInput(
            f"classifier: expected an open_clip or precomputed encoder, got {manifest.classifier!r}"
        )
    if manifest.verifier == "same" and any(
        getattr(manifest, f"classifier_{key}") != getattr(manifest, f"verifier_{key}")
        for key in ("dim", "identity", "golden")
    ):
        raise InvalidInput(
            "verifier: it is 'same', but its dimension, identity or golden embedding is not the "
            "classifier's"
        )
    if manifest.files.keys() != {LABELS, SUPPORTS}:
        raise InvalidInput(
            f"files: expected {LABELS} and {SUPPORTS}, got {', '.join(manifest.files)!r:.80}"
        )
    for facts in manifest.files.values():
        if [type(value) for value in vars(facts).values()] != [int, int, str]:
            raise InvalidInput("files: expected rows and size as numbers, and sha256 as text")


def label_schema(manifest: SpaceManifest) -> pyarrow.Schema:
    """The columns of labels.parquet."""
    import pyarrow as pa

    fields = [
        pa.field("name", pa.string(), nullable=False),
        pa.field("prompt", pa.string()),
        pa.field("text_source", pa.string(), nullable=False),
        pa.field("alias_of", pa.string()),
        pa.field("support_count", pa.int32(), nullable=False),
        pa.field("text_prototype", pa.list_(pa.float32(), manifest.classifier_dim), nullable=False),
        pa.field("prototype", pa.list_(pa.float32(), manifest.verifier_dim)),
    ]
    return pa.schema(fields, metadata={"trustvlm": manifest.to_json()})


def support_schema(manifest: SpaceManifest) -> pyarrow.Schema:
    """The columns of supports.parquet."""
    import pyarrow as pa

    fields = [
        pa.field("label", pa.string(), nullable=False),
        pa.field("content_hash", pa.binary(32), nullable=False),
        pa.field("source", pa.string()),
        pa.field("embedding", pa.list_(pa.float32(), manifest.verifier_dim), nullable=False),
        pa.field("classifier_embedding", pa.list_(pa.float32(), manifest.classifier_dim)),
        pa.field("thumbnail", pa.binary()),
    ]
    return pa.schema(fields, metadata={"trustvlm": manifest.to_json()})


def group_rows(manifest: SpaceManifest) -> int:
    """How many rows of either file make a row group of about :data:`GROUP_BYTES`."""
    return max(
        1,
        min(
            16_384,
            GROUP_BYTES
            // (4 * (manifest.classifier_dim + manifest.verifier_dim) + _THUMBNAIL_BYTES),
        ),
    )
