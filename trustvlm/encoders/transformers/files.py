"""Where the files of a checkpoint lie: in a folder that was given, or in the hub's local cache."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from trustvlm.encoders.specs.parse import EncoderSpec
from trustvlm.encoders.weights import check_weights, hub_file
from trustvlm.errors import InvalidInput, NotFound

BOTH_TOWERS = ("clip", "siglip")
"""Model types whose text tower is used; the checkpoints of SigLIP 2 with one image size are of type
siglip, too."""

_CONFIG = "config.json"
_PROCESSORS = ("preprocessor_config.json", "processor_config.json")
_WEIGHTS = (
    "model.safetensors",
    "model.safetensors.index.json",
    "pytorch_model.bin",
    "pytorch_model.bin.index.json",
)
_TOKENIZER = "tokenizer_config.json"
_VOCABULARIES = ("tokenizer.json", "tokenizer.model", "spiece.model", "vocab.json")
_REMEDY = (
    f"or put {_CONFIG}, {_PROCESSORS[0]}, {_WEIGHTS[0]} and the tokenizer's files of that "
    f"repository into a folder and use transformers:/path/to/folder"
)
_MAX_JSON_BYTES = 1 << 22  # an index of shards has some hundred kilobytes

_Find = Callable[[tuple[str, ...]], Path]
"""The place of the first of some files that a checkpoint has. Raises NotFound or WeightsMissing."""


@dataclass(frozen=True)
class Checkpoint:
    """The files of a checkpoint, all of them in one folder.

    Attributes:
        folder: where they lie. config: the content of the model's config. weights: the files of
            tensors, checked. has_texts: whether there is a text tower that is used.
    """

    folder: Path
    config: Mapping[str, Any]
    weights: tuple[Path, ...]

    @property
    def has_texts(self) -> bool:
        return self.config.get("model_type") in BOTH_TOWERS

    def state_dict(self) -> dict[str, torch.Tensor]:
        """The tensors under the names that they have in the files: those of the modules that they
        are loaded into are other ones in other releases of the library."""
        from safetensors.torch import load_file

        tensors: dict[str, torch.Tensor] = {}
        for path in self.weights:
            tensors |= (
                load_file(path)
                if path.suffix == ".safetensors"
                else torch.load(path, map_location="cpu", weights_only=True)
            )
        return tensors


def find_checkpoint(spec: EncoderSpec, allow_download: bool) -> Checkpoint:
    """The checkpoint that `spec` names; of the hub, the files that are needed and not here are
    fetched.

    Raises:
        NotFound: no such folder or repository, or a file is not in it.
        WeightsMissing: a file is not here and cannot be fetched.
        InvalidInput, Damaged: a file is not what it should be.
    """
    find = (
        _in_folder(Path(spec.weights or ""))
        if spec.model == "local-dir"
        else _in_hub(spec, allow_download)
    )
    config = find((_CONFIG,))
    weights = _weights(find)
    checkpoint = Checkpoint(config.parent, _json(config), weights)
    find(_PROCESSORS)
    if checkpoint.has_texts:
        _find_tokenizer(find)
    for path in weights:
        check_weights(path)
    return checkpoint


def _in_folder(folder: Path) -> _Find:
    if not folder.is_dir():
        raise NotFound(
            f"no folder {folder}: transformers:{folder} needs one with {_CONFIG}, "
            f"{_PROCESSORS[0]} and {_WEIGHTS[0]}"
        )

    def find(names: tuple[str, ...]) -> Path:
        for name in names:
            if (folder / name).is_file():
                return folder / name
        raise NotFound(f"no {' or '.join(names)} in {folder}")

    return find


def _in_hub(spec: EncoderSpec, allow_download: bool) -> _Find:
    def find(names: tuple[str, ...]) -> Path:
        return hub_file(
            spec.weights or "", names,
            spec=spec.text, allow_download=allow_download, remedy=_REMEDY,
        )  # fmt: skip

    return find


def _weights(find: _Find) -> tuple[Path, ...]:
    first = find(_WEIGHTS)
    if first.suffix != ".json":
        return (first,)
    try:
        names = sorted(set(_json(first)["weight_map"].values()))
        if not names or any(Path(name).name != name for name in names):
            raise ValueError("expected names of files beside it")
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise InvalidInput(f"{first} names no weights files: {error}") from error
    return tuple(find((name,)) for name in names)


def _find_tokenizer(find: _Find) -> None:
    names: tuple[str, ...] = _VOCABULARIES
    if _json(find((_TOKENIZER,))).get("tokenizer_class") == "SiglipTokenizer":
        names = ("spiece.model", *names)
    if find(names).name == "vocab.json":
        find(("merges.txt",))


def _json(path: Path) -> dict[str, Any]:
    try:
        if path.stat().st_size > _MAX_JSON_BYTES:
            raise ValueError(f"expected at most {_MAX_JSON_BYTES} bytes")
        content = json.loads(path.read_text(encoding="utf-8"))
        if not isinstance(content, dict):
            raise ValueError("expected an object")
    except (OSError, ValueError, RecursionError) as error:
        raise InvalidInput(f"{path} cannot be read as JSON: {error}") from error
    return content
