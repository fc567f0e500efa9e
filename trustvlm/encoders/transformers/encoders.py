"""Encoders over models of transformers: CLIP and SigLIP with both towers, and image encoders such
as DINOv2."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from trustvlm.encoders.identity import EncoderParts
from trustvlm.encoders.images.preprocess import Preprocess
from trustvlm.encoders.remembered import RememberedParts
from trustvlm.encoders.specs.parse import EncoderSpec
from trustvlm.encoders.torch_model import (
    SIGMOID_SCALE,
    TextModel,
    TorchModel,
    pooled_tokens,
    shortened,
)
from trustvlm.encoders.transformers.files import Checkpoint, find_checkpoint
from trustvlm.encoders.transformers.load import (
    load_model,
    load_preprocess,
    load_tokenizer,
    load_transformers,
)
from trustvlm.errors import InvalidInput

_SHAPING = (
    *("hidden_act", "num_attention_heads", "layer_norm_eps", "eos_token_id"),
    *("image_size", "patch_size", "use_swiglu_ffn"),
)
"""Fields of configs that change what the same weights compute."""
_PROBES = (
    "", "a photo of a cat.", "A  PHOTO\tof the Cat’s house", "3.14 + 42 = (x*y)!?", "word " * 500,
    "".join(map(chr, range(33, 127))), "naïve façade, Ünïcode — 漢字 かな Ελληνικά Русский 🦜",
)  # fmt: skip
"""Texts whose tokens tell tokenizers apart."""


@dataclass(frozen=True)
class _Made:
    """What an encoder is made of."""

    spec: str
    checkpoint: Checkpoint
    model: Any
    preprocess: Preprocess
    pooling: str
    remembered: RememberedParts

    def parts(self, text: Mapping[str, Any]) -> EncoderParts:
        """What the identity is made of; `text` describes the preprocessing of texts."""
        config = self.model.config
        sides = {side: getattr(config, side, None) for side in ("text_config", "vision_config")}
        shape = {
            side: {name: getattr(one, name) for name in _SHAPING if hasattr(one, name)}
            for side, one in (sides | {"config": config}).items()
            if one is not None
        }
        preprocessing = json.loads(self.preprocess.describe()) | text
        pooling = {"type": config.model_type, "image": self.pooling} | shape
        described = (
            json.dumps(one, sort_keys=True, default=str) for one in (preprocessing, pooling)
        )
        return self.remembered.parts("transformers", self.checkpoint, *described)

    @contextmanager
    def fitting(self) -> Iterator[None]:
        """Tells that the model does not take the images that the preprocessing makes."""
        try:
            yield
        except (RuntimeError, ValueError, TypeError) as error:
            raise InvalidInput(
                f"{self.spec}: the model does not take {self.preprocess.crop[0]}-pixel images: "
                f"{shortened(error)}"
            ) from error


class TransformersImageEncoder(TorchModel):
    """An :class:`~trustvlm.encoders.base.Encoder` over an image encoder of transformers.

    Pooling "default" is the model's own; "class-token" and "mean-tokens" are of the last hidden
    state, class and register tokens included.
    """

    logit_scale: float | None = None

    def __init__(self, made: _Made, device: str, precision: str) -> None:
        self.parts = made.parts({})
        self.identity = self.parts.identity
        self.pooling = made.pooling
        with made.fitting():
            super().__init__(made.spec, made.model, made.preprocess, device, precision)

    def _embed(self, pixels: torch.Tensor) -> torch.Tensor:
        answer = self.model(pixel_values=pixels)
        if self.pooling == "default":
            return _pooled(answer, self.spec)
        names = (name for name, _ in self.model.named_parameters())
        has_class_token = any(name.endswith(("cls_token", "class_embedding")) for name in names)
        tokens = answer.last_hidden_state
        return pooled_tokens(self.spec, tokens, self.pooling, has_class_token=has_class_token)


class TransformersEncoder(TextModel):
    """An :class:`~trustvlm.encoders.base.Encoder` over a CLIP or SigLIP model of transformers."""

    def __init__(self, made: _Made, tokenizer: Any, device: str, precision: str) -> None:
        config, self._tokenizer = made.model.config, tokenizer
        self._context = min(
            int(tokenizer.model_max_length), int(config.text_config.max_position_embeddings)
        )
        # SigLIP is trained on prompts that are padded to the context. No token of CLIP sees those
        # behind it, so that a batch is padded to its longest prompt.
        self._pads_all = config.model_type == "siglip"
        self.parts = made.parts({"tokens": self._probe(made.spec), "context": self._context})
        self.identity = self.parts.identity
        self.logit_scale: float | None = (
            float(made.model.logit_scale.detach().exp())
            if getattr(made.model, "logit_bias", None) is None
            else SIGMOID_SCALE
        )
        with made.fitting():
            super().__init__(made.spec, made.model, made.preprocess, device, precision)

    @property
    def context(self) -> int:
        """How many tokens of a prompt the model reads."""
        return self._context

    def _probe(self, spec: str) -> str:
        """A hash of what the tokenizer makes of some texts."""
        try:
            ids = [self._tokens([probe])["input_ids"].tolist() for probe in _PROBES]
        except (RuntimeError, ValueError, TypeError, KeyError) as error:
            raise InvalidInput(f"{spec}: its tokenizer fails: {shortened(error)}") from error
        return hashlib.sha256(json.dumps(ids).encode()).hexdigest()

    def _embed(self, pixels: torch.Tensor) -> torch.Tensor:
        return _pooled(self.model.get_image_features(pixel_values=pixels), self.spec)

    def _tokens(self, prompts: list[str]) -> dict[str, torch.Tensor]:
        made = self._tokenizer(
            prompts, truncation=True, max_length=self._context, return_tensors="pt",
            padding="max_length" if self._pads_all else "longest",
        )  # fmt: skip
        return {name: made[name] for name in ("input_ids", "attention_mask") if name in made}

    def _lengths(self, tokens: dict[str, torch.Tensor]) -> torch.Tensor:
        ids, mask = tokens["input_ids"], tokens.get("attention_mask")
        if self._pads_all or mask is None or self._tokenizer.padding_side != "right":
            return torch.full((len(ids),), ids.shape[1])
        return mask.sum(dim=1)

    def _text_features(self, tokens: dict[str, torch.Tensor], rows: torch.Tensor) -> torch.Tensor:
        some = {name: one[rows] for name, one in tokens.items()}
        length = int(self._lengths(some).max())
        some = {name: one[:, :length].to(self.device) for name, one in some.items()}
        return _pooled(self.model.get_text_features(**some), self.spec)

    def _are_longer(self, prompts: list[str]) -> list[bool]:
        ids = self._tokenizer(prompts, truncation=False, verbose=False)["input_ids"]
        return [len(one) > self._context for one in ids]


def _pooled(answer: Any, spec: str) -> torch.Tensor:
    pooled: torch.Tensor | None = getattr(answer, "pooler_output", None)
    if pooled is None:
        raise InvalidInput(
            f"{spec}: this model pools nothing itself; use ?pooling=class-token or mean-tokens"
        )
    return pooled.flatten(1)  # convolutional models keep a height and a width of 1


def open_transformers_encoder(
    spec: EncoderSpec, device: str, precision: str, allow_download: bool, identities: Path | None
) -> TransformersEncoder | TransformersImageEncoder:
    """See :func:`trustvlm.encoders.open.open_encoder`."""
    load_transformers(spec)
    checkpoint = find_checkpoint(spec, allow_download)
    options = dict(spec.options)
    pooling = options.get("pooling", "default")
    if checkpoint.has_texts and pooling != "default":
        raise InvalidInput(f"{spec.text}: a model with a text tower takes pooling=default only")
    remembered = RememberedParts(  # shards are hashed each time
        identities if len(checkpoint.weights) == 1 else None,
        checkpoint.weights[0],
        (checkpoint.config, options),
    )
    model, preprocess = load_model(checkpoint, spec.text), load_preprocess(checkpoint)
    made = _Made(spec.text, checkpoint, model, preprocess, pooling, remembered)
    if not checkpoint.has_texts:
        return TransformersImageEncoder(made, device, precision)
    return TransformersEncoder(made, load_tokenizer(checkpoint, spec.text), device, precision)
