"""timm models: verifiers, image towers without a text side."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import torch

from trustvlm.encoders.images.preprocess import Preprocess
from trustvlm.encoders.libraries import Unfilled, load_library
from trustvlm.encoders.remembered import RememberedParts
from trustvlm.encoders.specs.parse import EncoderSpec
from trustvlm.encoders.torch_model import MISFITS, TorchModel, pooled_tokens, shortened, similar
from trustvlm.encoders.weights import check_weights, hub_file
from trustvlm.errors import InvalidInput, NotFound, WeightsMissing

_HUB_FILES = ("model.safetensors", "pytorch_model.bin")


class TimmEncoder(TorchModel):
    """An :class:`~trustvlm.encoders.base.Encoder` over a timm model without its classifier head.

    Pooling "default" is the model's own; "class-token" the class token after the final norm;
    "mean-tokens" the mean of all output tokens after the final norm, class and register tokens
    included (the paper's choice for DINOv2).
    """

    logit_scale: float | None = None

    def __init__(
        self,
        spec: str,
        model: Any,
        preprocess: Preprocess,
        pooling: str,
        device: str,
        precision: str,
        remembered: RememberedParts,
    ) -> None:
        self.parts = remembered.parts("timm", model, preprocess.describe(), pooling)
        self.identity = self.parts.identity
        self.pooling = pooling
        try:
            super().__init__(spec, model, preprocess, device, precision)
        except (AssertionError, RuntimeError) as e:
            raise InvalidInput(
                f"{spec}: the model does not take {preprocess.crop[0]}-pixel images: {e}"
            ) from e

    def _embed(self, pixels: torch.Tensor) -> torch.Tensor:
        if self.pooling == "default":
            pooled: torch.Tensor = self.model(pixels)
            return pooled
        tokens: torch.Tensor = self.model.forward_features(pixels)
        # Average-pooled ViTs keep their final norm behind the pooling; tokens need it all the same.
        norm, late_norm = getattr(self.model, "norm", None), getattr(self.model, "fc_norm", None)
        if tokens.ndim == 3 and isinstance(norm, torch.nn.Identity) and late_norm is not None:
            tokens = late_norm(tokens)
        has_class_token = getattr(self.model, "cls_token", None) is not None
        return pooled_tokens(self.spec, tokens, self.pooling, has_class_token=has_class_token)


def open_timm_encoder(
    spec: EncoderSpec, device: str, precision: str, allow_download: bool, identities: Path | None
) -> TimmEncoder:
    """See :func:`trustvlm.encoders.open.open_encoder`."""
    timm = load_library("timm")
    from timm.models import get_pretrained_cfg

    name = spec.model.partition(".")[0]
    if not timm.is_model(name):
        raise NotFound(f"timm has no model {name!r}{similar(name, timm.list_models())}")
    try:
        config = get_pretrained_cfg(spec.model)
    except RuntimeError:  # no such tag
        tags = timm.list_models(f"{name}.*", pretrained=True)
        raise NotFound(
            f"timm has no weights {spec.model!r}; it has: {', '.join(tags) or 'none'}"
        ) from None
    weights = Path(spec.weights) if spec.weights else _fetch(spec.model, config, allow_download)
    check_weights(weights)
    remembered = RememberedParts(identities, weights, (spec.model, config, dict(spec.options)))
    size = int(spec.options["size"]) if "size" in spec.options else None
    model = _load(spec.model, config, weights, size)
    preprocess = _preprocess(model, size, like_clip=spec.options.get("preprocess") == "clip")
    pooling = spec.options.get("pooling", "default")
    return TimmEncoder(spec.text, model, preprocess, pooling, device, precision, remembered)


def _fetch(name: str, config: Any, allow_download: bool) -> Path:
    remedy = f"or copy that file here and use timm:{name}@/path/to/weights"
    if config is None or not config.has_weights:
        raise NotFound(f"timm publishes no weights for {name}: use timm:{name}@/path/to/weights")
    if not config.hf_hub_id:
        raise WeightsMissing(
            f"timm:{name} needs {config.url}, which is not on the Hugging Face hub, {remedy}"
        )
    names = (config.hf_hub_filename,) if config.hf_hub_filename else _HUB_FILES
    return hub_file(
        config.hf_hub_id, names, spec=f"timm:{name}", allow_download=allow_download, remedy=remedy
    )


def _load(name: str, config: Any, weights: Path, size: int | None) -> Any:
    """The headless model with its weights, in float32 on the CPU; every tensor of it must come from
    the file."""
    import timm
    from timm.models import load_state_dict

    try:
        state = _Uncopied(load_state_dict(str(weights), weights_only=True))
        # The head goes: then timm loads strictly, where it would otherwise let missing tensors pass
        # unnoticed.
        heads = getattr(config, "classifier", None) or ()
        for head in (heads,) if isinstance(heads, str) else heads:
            state.pop(f"{head}.weight", None)
            state.pop(f"{head}.bias", None)
        if not state:
            raise ValueError("it holds no tensors")
        arguments: dict[str, Any] = {}
        if size is not None and getattr(config, "fixed_input_size", False):
            arguments["img_size"] = size
        overlay = {"state_dict": state, "num_classes": 0, "label_offset": 0}
        with Unfilled():
            model = timm.create_model(
                name, pretrained=True, num_classes=0, pretrained_cfg_overlay=overlay, **arguments
            )
    except MISFITS as error:
        raise InvalidInput(
            f"weights file {weights} does not fit timm model {name}: {shortened(error)}"
        ) from error
    model.pretrained_cfg.pop("state_dict", None)  # a second copy of all weights
    return model


class _Uncopied(dict[str, Any]):
    """Weights that timm does not copy together with the config which they come in."""

    def __deepcopy__(self, memo: object) -> _Uncopied:
        return self


def _preprocess(model: Any, size: int | None, *, like_clip: bool) -> Preprocess:
    """What CLIP does, or timm's evaluation transform for this model."""
    from timm.data import resolve_model_data_config

    config = resolve_model_data_config(model)
    tall, wide = (size, size) if size is not None else model.pretrained_cfg["input_size"][1:]
    crop = int(tall), int(wide)
    if like_clip:
        return Preprocess(crop=crop, resize=crop)
    resize = tuple(math.floor(side / config["crop_pct"]) for side in crop)
    mode = {"squash": "squash", "border": "longest"}.get(config["crop_mode"], "shortest")
    mean, std = (tuple(float(v) for v in config[k]) for k in ("mean", "std"))
    fill = tuple(round(255 * v) for v in mean) if mode == "longest" else (0, 0, 0)
    interpolation = config["interpolation"]
    return Preprocess(crop, resize, mode, interpolation, mean, std, fill)  # type: ignore[arg-type]
