"""Tiny checkpoints with random weights, in the formats that real ones come in. Deterministic for a
seed."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

IMAGE_SIZE = 32
CLIP_DIM = 32

_VISION = {"image_size": IMAGE_SIZE, "layers": 2, "width": 64, "head_width": 32, "patch_size": 8}
_TEXT = {"vocab_size": 49408, "width": 32, "heads": 2, "layers": 2}
_STYLES: dict[str, dict[str, Any]] = {
    # OpenAI's layout: text modules on the model, causal attention, feature at the end of text.
    "clip": {"text_cfg": _TEXT | {"context_length": 77}},
    # The same, with a text tower of its own.
    "custom": {"text_cfg": _TEXT | {"context_length": 77, "proj_bias": True}, "custom_text": True},
    # SigLIP: attention both ways, feature at the last position, logit bias, pixels squashed to the
    # square.
    "siglip": {
        "text_cfg": _TEXT
        | {"context_length": 24, "no_causal_mask": True, "pool_type": "last", "proj_bias": True},
        "custom_text": True,
        "init_logit_bias": -10.0,
    },
    # CoCa's text side: a class token behind the padding.
    "embed-cls": {
        "text_cfg": _TEXT | {"context_length": 20, "embed_cls": True},
        "custom_text": True,
    },
}
_SQUASH = {"mean": [0.5] * 3, "std": [0.5] * 3, "interpolation": "bicubic", "resize_mode": "squash"}


def make_clip(
    folder: str | Path, seed: int = 0, *, style: str = "clip", quick_gelu: bool = False
) -> str:
    """Write an open_clip local-dir checkpoint (32-pixel images, 32-d embeddings, the real
    tokenizer); its spec.

    Args:
        folder: made if missing.
        seed: of the weights.
        style: "clip", "custom", "siglip" or "embed-cls".
        quick_gelu: the other activation.
    """
    import torch
    from open_clip.model import CLIP, CustomTextCLIP
    from safetensors.torch import save_file

    config: dict[str, Any] = {
        "embed_dim": CLIP_DIM,
        "vision_cfg": _VISION,
        **_STYLES[style],
        "quick_gelu": quick_gelu,
    }
    built = {name: value for name, value in config.items() if name != "custom_text"}
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = (CustomTextCLIP if "custom_text" in config else CLIP)(**built)
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    preprocess = _SQUASH if style == "siglip" else {}
    (folder / "open_clip_config.json").write_text(
        json.dumps({"model_cfg": config, "preprocess_cfg": preprocess})
    )
    save_file(
        {k: v.contiguous() for k, v in model.state_dict().items()},
        folder / "open_clip_model.safetensors",
    )
    return f"open_clip:local-dir:{folder}"


def make_timm(path: str | Path, seed: int = 0, model: str = "test_vit") -> str:
    """Write random weights of a small timm model (64-d, 160-pixel images) as safetensors, head
    included; its spec."""
    import timm
    import torch
    from safetensors.torch import save_file

    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        built = timm.create_model(model)
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    save_file({k: v.contiguous() for k, v in built.state_dict().items()}, path)
    return f"timm:{model}@{path}"
