"""open_clip models: image and text towers of a vision-language model."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from trustvlm.encoders.identity import encoder_parts
from trustvlm.encoders.images.preprocess import Preprocess
from trustvlm.encoders.spec import EncoderSpec
from trustvlm.encoders.tokenize import TextTower
from trustvlm.encoders.torch_model import MISFITS, TorchModel, shortened, similar
from trustvlm.encoders.weights import check_weights, hub_answers, hub_file
from trustvlm.errors import InvalidInput, NotFound, Unavailable, WeightsMissing
from trustvlm.types.arrays import Float32s

__all__ = ["OpenClipEncoder", "open_clip_encoder"]

_CONFIG = "open_clip_config.json"
_MAX_CONFIG_BYTES = 1 << 20  # open_clip's have some kilobytes
_WEIGHTS = (
    "open_clip_model.safetensors",
    "open_clip_pytorch_model.safetensors",
    "open_clip_pytorch_model.bin",
)
_PROMPTS_PER_BATCH = 256
_PROMPTS_PER_SORT = 16_384  # bounds the memory of token ids
_LENGTH_STEP = 16  # one long prompt must not make hundreds of short ones as slow as itself
_SIGMOID_SCALE = 100.0
_SPECIAL_TOKENS = 3  # start, end, and a blank in front; every other token takes a byte at least


@dataclass(frozen=True)
class _Source:
    """What a spec leads to: the model's config, its preprocessing, its weights, and the folder they
    all lie in, if any."""

    model_cfg: Mapping[str, Any]
    preprocess_cfg: Mapping[str, Any]
    weights: Path
    folder: Path | None = None


class OpenClipEncoder(TorchModel):
    """An :class:`~trustvlm.encoders.base.Encoder` over an open_clip model."""

    def __init__(
        self,
        spec: str,
        model: Any,
        preprocess: Preprocess,
        tokenizer: Any,
        device: str,
        precision: str,
    ) -> None:
        visual, text = model.visual, getattr(model, "text", model)
        pooling = {
            "image": getattr(visual, "pool_type", None),
            "text": getattr(text, "pool_type", getattr(text, "text_pool_type", None)),
            # Not in the weights, and the same weights with the other activation are another
            # encoder.
            "quick_gelu": any(type(m).__name__ == "QuickGELU" for m in model.modules()),
        }
        self.parts = encoder_parts(
            "open_clip", model, preprocess.describe(), json.dumps(pooling, sort_keys=True)
        )
        self.identity = self.parts.identity
        # A sigmoid-trained model's scale belongs to its bias and says nothing about a softmax.
        scale = (
            _SIGMOID_SCALE
            if model.logit_bias is not None
            else float(model.logit_scale.detach().exp())
        )
        self.logit_scale: float | None = scale
        super().__init__(spec, model, preprocess, device, precision)
        self._text = TextTower(self.model)
        self._tokenizer = tokenizer

    def _embed(self, pixels: torch.Tensor) -> torch.Tensor:
        features: torch.Tensor = self.model.encode_image(pixels, normalize=False)
        return features

    def encode_texts(self, prompts: Sequence[str]) -> Float32s:
        """(n, dim) float32 embeddings of full prompts; longer ones than the model's context are cut
        by its tokenizer.

        Raises:
            InvalidInput: not a sequence of strings.
        """
        prompts = list(prompts) if not isinstance(prompts, str) else [prompts]
        if wrong := [p for p in prompts if not isinstance(p, str)]:
            raise InvalidInput(f"prompts must be strings, got {type(wrong[0]).__name__}")
        out = np.empty((len(prompts), self.dim), np.float32)
        for start in range(0, len(prompts), _PROMPTS_PER_SORT):
            chunk = prompts[start : start + _PROMPTS_PER_SORT]
            with self.lock:
                tokens = self._tokenizer(chunk)
            for rows in _batches_by_length(self._text.lengths(tokens)):
                # Locked batch by batch, so that an image need not wait for a million prompts.
                with self.running():
                    out[start + rows.numpy()] = self.to_numpy(
                        self._text.features(tokens[rows].to(self.device))
                    )
        return out

    def cut(self, prompts: Sequence[str]) -> list[bool]:
        """Which of n prompts have more tokens than the model's context: their ends do not count."""
        room = self._tokenizer.context_length
        long = [
            number
            for number, prompt in enumerate(prompts)
            if len(prompt.encode(errors="replace")) + _SPECIAL_TOKENS > room
        ]
        result = [False] * len(prompts)
        if not long:
            return result
        texts = [prompts[number] for number in long]
        with self.lock:
            tokens = self._tokenizer(texts).tolist()
            more = self._tokenizer(texts, context_length=2 * room).tolist()
        padding = {0, getattr(getattr(self._tokenizer, "tokenizer", None), "pad_token_id", 0)}
        for number, one, other in zip(long, tokens, more, strict=True):
            kept = [[token for token in ids if token not in padding] for ids in (one, other)]
            result[number] = kept[0] != kept[1]
        return result


def _batches_by_length(lengths: torch.Tensor) -> Iterator[torch.Tensor]:
    """Row numbers in batches of similar length, since each batch is cut to its longest prompt."""
    if not len(lengths):
        return
    order = torch.argsort(lengths, stable=True)
    _, counts = torch.unique_consecutive(
        lengths[order].div(_LENGTH_STEP, rounding_mode="floor"), return_counts=True
    )
    for group in torch.split(order, counts.tolist()):
        yield from torch.split(group, _PROMPTS_PER_BATCH)


def open_clip_encoder(
    spec: EncoderSpec, device: str, precision: str, allow_download: bool
) -> OpenClipEncoder:
    """See :func:`trustvlm.encoders.open_encoder`."""
    if spec.model == "local-dir":
        source = _from_folder(Path(spec.weights or ""))
    elif spec.model == "hf-hub":
        source = _from_hub(spec.weights or "", allow_download)
    else:
        source = _from_tag(spec.model, spec.weights or "", allow_download)
    check_weights(source.weights)
    model = _load(source, spec.text)
    tokenizer = _tokenizer(source, spec.text, allow_download)
    return OpenClipEncoder(
        spec.text, model, _preprocess(source, model), tokenizer, device, precision
    )


def _from_folder(folder: Path) -> _Source:
    if not folder.is_dir():
        raise NotFound(
            f"no folder {folder}: open_clip:local-dir needs one with {_CONFIG} and {_WEIGHTS[0]}"
        )
    if not (config := folder / _CONFIG).is_file():
        raise NotFound(f"no {_CONFIG} in {folder}")
    weights = next((folder / name for name in _WEIGHTS if (folder / name).is_file()), None)
    if weights is None:
        raise NotFound(f"no weights in {folder}: expected {' or '.join(_WEIGHTS)}")
    return _from_config(config, weights, folder)


def _from_hub(repo: str, allow_download: bool) -> _Source:
    spec, remedy = f"open_clip:hf-hub:{repo}", _remedy()
    config = hub_file(repo, (_CONFIG,), spec=spec, allow_download=allow_download, remedy=remedy)
    weights = hub_file(repo, _WEIGHTS, spec=spec, allow_download=allow_download, remedy=remedy)
    return _from_config(config, weights, None)


def _from_config(config: Path, weights: Path, folder: Path | None) -> _Source:
    try:
        if config.stat().st_size > _MAX_CONFIG_BYTES:
            raise ValueError(f"expected at most {_MAX_CONFIG_BYTES} bytes")
        content = json.loads(config.read_text(encoding="utf-8"))
        model_cfg, preprocess_cfg = content["model_cfg"], content.get("preprocess_cfg", {})
        if not isinstance(model_cfg["text_cfg"], dict) or not isinstance(
            model_cfg["vision_cfg"], dict
        ):
            raise TypeError("text_cfg and vision_cfg must be objects")
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as e:
        raise InvalidInput(
            f"{config} is not an open_clip model config: {type(e).__name__}: {e}"
        ) from e
    return _Source(model_cfg, preprocess_cfg or {}, weights, folder)


def _from_tag(name: str, tag: str, allow_download: bool) -> _Source:
    import open_clip

    config = open_clip.get_model_config(name)
    if config is None:
        raise NotFound(f"open_clip has no model {name!r}{similar(name, open_clip.list_models())}")
    tags = open_clip.list_pretrained_tags_by_model(name)
    pretrained = open_clip.get_pretrained_cfg(name, tag)
    if not pretrained:
        raise NotFound(
            f"open_clip has no weights {tag!r} for {name}; it has: {', '.join(tags) or 'none'}"
        )
    repo, _, file = pretrained.get("hf_hub", "").rpartition("/")
    if not repo:
        raise Unavailable(
            f"open_clip:{name}/{tag} is not on the Hugging Face hub but at "
            f"{pretrained.get('url')}; {_remedy()}"
        )
    names = (Path(file).with_suffix(".safetensors").name, file) if file else _WEIGHTS
    spec = f"open_clip:{name}/{tag}"
    weights = hub_file(
        repo,
        tuple(dict.fromkeys(names)),
        spec=spec,
        allow_download=allow_download,
        remedy=_remedy(),
    )
    # Weights trained with QuickGELU come under names whose config has GELU (ViT-B-16/openai);
    # open_clip only warns.
    config["quick_gelu"] = bool(config.get("quick_gelu") or pretrained.get("quick_gelu"))
    return _Source(config, pretrained, weights)


def _remedy() -> str:
    return (
        f"or put {_CONFIG} and {_WEIGHTS[0]} of that repository into a folder and use "
        f"open_clip:local-dir:/path/to/folder"
    )


def _load(source: _Source, spec: str) -> Any:
    """The model with its weights, in float32 on the CPU.

    Built here rather than by open_clip.create_model, which ignores the weights' activation and
    writes to the root logger.
    """
    from open_clip import factory
    from open_clip.coca_model import CoCa
    from open_clip.model import CLIP, CustomTextCLIP

    config = json.loads(json.dumps(source.model_cfg))
    custom_text = config.pop("custom_text", False) or "hf_model_name" in config["text_cfg"]
    kind = CLIP if not custom_text else CoCa if "multimodal_cfg" in config else CustomTextCLIP
    # All weights come from the one file; the towers must not fetch others first.
    if "timm_model_name" in config["vision_cfg"]:
        config["vision_cfg"]["timm_model_pretrained"] = False
    if "hf_model_name" in config["text_cfg"]:
        config["text_cfg"]["hf_model_pretrained"] = False
    try:
        model = kind(**config)
    except RuntimeError as error:  # open_clip's way to say that transformers is not installed
        raise Unavailable(f"{spec}: its model cannot be built here: {error}") from error
    except MISFITS as error:
        raise InvalidInput(f"{spec}: its model config cannot be built: {error}") from error
    try:
        factory.load_checkpoint(model, str(source.weights), strict=True, weights_only=True)
    except MISFITS as error:
        raise InvalidInput(
            f"weights file {source.weights} does not fit its model: {shortened(error)}"
        ) from error
    return model


def _preprocess(source: _Source, model: Any) -> Preprocess:
    from open_clip.transform import PreprocessCfg, merge_preprocess_dict

    values = merge_preprocess_dict(PreprocessCfg(), dict(source.preprocess_cfg))
    size = getattr(model.visual, "image_size", values["size"])
    tall, wide = (size, size) if isinstance(size, int) else size
    # open_clip's transform for non-square crops knows no other filter than bicubic.
    bicubic = values["resize_mode"] == "shortest" and tall != wide
    fill = values["fill_color"]
    return Preprocess(
        crop=(tall, wide),
        resize=(tall, wide),
        mode=values["resize_mode"],
        interpolation="bilinear"
        if values["interpolation"] == "bilinear" and not bicubic
        else "bicubic",
        mean=_three(values["mean"]),
        std=_three(values["std"]),
        fill=_three(fill) if values["resize_mode"] == "longest" else (0, 0, 0),
    )


def _three(value: Any) -> tuple[Any, Any, Any]:
    return tuple(value) if isinstance(value, (tuple, list)) else (value, value, value)


def _tokenizer(source: _Source, spec: str, allow_download: bool) -> Any:
    """As open_clip.get_tokenizer, which would ask the hub again for the config that is here
    already."""
    from open_clip.tokenizer import DEFAULT_CONTEXT_LENGTH, HFTokenizer, SimpleTokenizer

    config = source.model_cfg["text_cfg"]
    name, options = config.get("hf_tokenizer_name"), dict(config.get("tokenizer_kwargs") or {})
    length = config.get("context_length", DEFAULT_CONTEXT_LENGTH)
    if not name:
        return SimpleTokenizer(context_length=length, **options)
    if source.folder is not None or not allow_download or not hub_answers():
        options["local_files_only"] = True  # else it would try the network for minutes
    place = str(source.folder or name)
    try:
        return HFTokenizer(
            place, context_length=length, tokenizer_mode=config.get("tokenizer_mode"), **options
        )
    except ImportError as e:
        raise Unavailable(
            f"{spec}: its tokenizer needs a package that is not installed: pip install transformers"
        ) from e
    except OSError as e:
        raise WeightsMissing(
            f"{spec}: its tokenizer {place} is not here and cannot be fetched: {shortened(e)}"
        ) from e
