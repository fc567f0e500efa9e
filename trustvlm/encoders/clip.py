"""open_clip models: image and text towers of a vision-language model."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property, lru_cache, partial
from pathlib import Path
from typing import Any

import torch

from trustvlm.encoders.images.preprocess import Preprocess
from trustvlm.encoders.libraries import Unfilled, load_library, load_text_towers
from trustvlm.encoders.remembered import RememberedParts
from trustvlm.encoders.specs.parse import EncoderSpec
from trustvlm.encoders.tokenize import TextTower
from trustvlm.encoders.torch_model import MISFITS, SIGMOID_SCALE, TextModel, shortened, similar
from trustvlm.encoders.weights import check_weights, hub_answers, hub_file
from trustvlm.errors import InvalidInput, NotFound, Unavailable, WeightsMissing

_CONFIG = "open_clip_config.json"
_MAX_CONFIG_BYTES = 1 << 20  # open_clip's have some kilobytes
_WEIGHTS = (
    "open_clip_model.safetensors",
    "open_clip_pytorch_model.safetensors",
    "open_clip_pytorch_model.bin",
)
_REMEDY = (
    f"or put {_CONFIG} and {_WEIGHTS[0]} of that repository into a folder and use "
    f"open_clip:local-dir:/path/to/folder"
)


@dataclass(frozen=True)
class _Source:
    """What a spec leads to: the model's config, its preprocessing, its weights, and the folder they
    all lie in, if any."""

    model_cfg: Mapping[str, Any]
    preprocess_cfg: Mapping[str, Any]
    weights: Path
    folder: Path | None = None


class OpenClipEncoder(TextModel):
    """An :class:`~trustvlm.encoders.base.Encoder` over an open_clip model."""

    def __init__(
        self,
        spec: str,
        model: Any,
        preprocess: Preprocess,
        tokenizer: Callable[[], Any],
        device: str,
        precision: str,
        remembered: RememberedParts,
    ) -> None:
        visual, text = model.visual, getattr(model, "text", model)
        pooling = {
            "image": getattr(visual, "pool_type", None),
            "text": getattr(text, "pool_type", getattr(text, "text_pool_type", None)),
            # Not in the weights, and the same weights with the other activation are another
            # encoder.
            "quick_gelu": any(type(m).__name__ == "QuickGELU" for m in model.modules()),
        }
        described = preprocess.describe(), json.dumps(pooling, sort_keys=True)
        self.parts = remembered.parts("open_clip", model, *described)
        self.identity = self.parts.identity
        scale = (
            SIGMOID_SCALE
            if model.logit_bias is not None
            else float(model.logit_scale.detach().exp())
        )
        self.logit_scale: float | None = scale
        super().__init__(spec, model, preprocess, device, precision)
        self._text = TextTower(self.model)
        self._make_tokenizer = tokenizer

    @cached_property
    def _tokenizer(self) -> Any:
        return self._make_tokenizer()

    def _embed(self, pixels: torch.Tensor) -> torch.Tensor:
        features: torch.Tensor = self.model.encode_image(pixels, normalize=False)
        return features

    @property
    def context(self) -> int:
        """How many tokens of a prompt the model reads."""
        length: int = self._tokenizer.context_length
        return length

    def _tokens(self, prompts: list[str]) -> torch.Tensor:
        tokens: torch.Tensor = self._tokenizer(prompts)
        return tokens

    def _lengths(self, tokens: torch.Tensor) -> torch.Tensor:
        return self._text.lengths(tokens)

    def _text_features(self, tokens: torch.Tensor, rows: torch.Tensor) -> torch.Tensor:
        return self._text.features(tokens[rows].to(self.device))

    def _are_longer(self, prompts: list[str]) -> list[bool]:
        tokens = self._tokenizer(prompts).tolist()
        more = self._tokenizer(prompts, context_length=2 * self.context).tolist()
        padding = {0, getattr(getattr(self._tokenizer, "tokenizer", None), "pad_token_id", 0)}
        return [
            [token for token in one if token not in padding]
            != [token for token in other if token not in padding]
            for one, other in zip(tokens, more, strict=True)
        ]


def open_clip_encoder(
    spec: EncoderSpec, device: str, precision: str, allow_download: bool, identities: Path | None
) -> OpenClipEncoder:
    """See :func:`trustvlm.encoders.open.open_encoder`."""
    load_library("open_clip")
    if spec.model == "local-dir":
        source = _from_folder(Path(spec.weights or ""))
    elif spec.model == "hf-hub":
        source = _from_hub(spec.weights or "", allow_download)
    else:
        source = _from_tag(spec.model, spec.weights or "", allow_download)
    check_weights(source.weights)
    remembered = RememberedParts(identities, source.weights, source.model_cfg)
    model = _load(source, spec.text)
    tokenizer = _tokenizer(source, spec.text, allow_download)
    preprocess = _preprocess(source, model)
    return OpenClipEncoder(spec.text, model, preprocess, tokenizer, device, precision, remembered)


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
    spec, remedy = f"open_clip:hf-hub:{repo}", _REMEDY
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
            f"{pretrained.get('url')}; {_REMEDY}"
        )
    names = (Path(file).with_suffix(".safetensors").name, file) if file else _WEIGHTS
    spec = f"open_clip:{name}/{tag}"
    weights = hub_file(
        repo, tuple(dict.fromkeys(names)), spec=spec, allow_download=allow_download, remedy=_REMEDY
    )
    # Weights trained with QuickGELU come under names whose config has GELU (ViT-B-16/openai);
    # open_clip only warns.
    config["quick_gelu"] = bool(config.get("quick_gelu") or pretrained.get("quick_gelu"))
    return _Source(config, pretrained, weights)


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
        if "hf_model_name" in config["text_cfg"]:
            load_text_towers()
        with Unfilled():
            model = kind(**config)
    except ImportError as error:
        raise Unavailable(
            f"{spec}: its text tower needs a package that is not installed: "
            f"pip install 'trustvlm[transformers]'"
        ) from error
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


@lru_cache(maxsize=8)
def _plain_tokenizer(length: int) -> Any:
    """The tokenizer of OpenAI's CLIP for prompts of a length; all models of a process share it."""
    from open_clip.tokenizer import SimpleTokenizer

    return SimpleTokenizer(context_length=length)


def _tokenizer(source: _Source, spec: str, allow_download: bool) -> Callable[[], Any]:
    """Makes what open_clip.get_tokenizer gives, which would ask the hub again for the config that
    is here already. A tokenizer that needs files of its own is made now, open_clip's own when it is
    needed: it takes half a second."""
    from open_clip.tokenizer import DEFAULT_CONTEXT_LENGTH, HFTokenizer, SimpleTokenizer

    config = source.model_cfg["text_cfg"]
    name, options = config.get("hf_tokenizer_name"), dict(config.get("tokenizer_kwargs") or {})
    length = config.get("context_length", DEFAULT_CONTEXT_LENGTH)
    if not name and not options:
        return partial(_plain_tokenizer, length)
    if not name:
        return partial(SimpleTokenizer, context_length=length, **options)
    if source.folder is not None or not allow_download or not hub_answers():
        options["local_files_only"] = True  # else it would try the network for minutes
    place = str(source.folder or name)
    try:
        made = HFTokenizer(
            place, context_length=length, tokenizer_mode=config.get("tokenizer_mode"), **options
        )
    except ImportError as e:
        raise Unavailable(
            f"{spec}: its tokenizer needs a package that is not installed: "
            f"pip install 'trustvlm[transformers]'"
        ) from e
    except OSError as e:
        raise WeightsMissing(
            f"{spec}: its tokenizer {place} is not here and cannot be fetched: {shortened(e)}"
        ) from e
    return lambda: made
