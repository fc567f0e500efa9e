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


_TOWER = {
    "hidden_size": 32,
    "intermediate_size": 64,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
}


def make_transformers_clip(folder: str | Path, seed: int = 0, **text: Any) -> str:
    """Write a CLIP checkpoint of transformers (32-pixel images cropped from 40, 24-d embeddings, a
    tokenizer of bytes); its spec. `text` replaces fields of the text tower's config."""
    from open_clip.tokenizer import bytes_to_unicode
    from transformers import CLIPConfig, CLIPImageProcessor, CLIPModel, CLIPTokenizer

    letters = list(bytes_to_unicode().values())
    tokens = [*letters, *(letter + "</w>" for letter in letters), "at</w>", "cat</w>"]
    ids = {token: number for number, token in enumerate(tokens)}
    ids |= {"<|startoftext|>": len(ids), "<|endoftext|>": len(ids) + 1}
    tokenizer = CLIPTokenizer(ids, [("a", "t</w>"), ("c", "at</w>")], model_max_length=77)
    end = ids["<|endoftext|>"]
    special = {"bos_token_id": end - 1, "eos_token_id": end, "pad_token_id": end}
    config = CLIPConfig(
        text_config=_TOWER | special | {"vocab_size": len(ids)} | text,
        vision_config=_TOWER | {"image_size": IMAGE_SIZE, "patch_size": 8},
        projection_dim=24,
    )
    crop = {"height": IMAGE_SIZE, "width": IMAGE_SIZE}
    processor = CLIPImageProcessor(size={"shortest_edge": 40}, crop_size=crop)
    return _save(folder, seed, CLIPModel, config, processor, tokenizer)


def make_transformers_siglip(folder: str | Path, seed: int = 0) -> str:
    """Write a SigLIP checkpoint of transformers (32-pixel images, 32-d embeddings, 16 tokens, a
    sentencepiece model); its spec."""
    import io

    import sentencepiece
    from transformers import SiglipConfig, SiglipImageProcessor, SiglipModel, SiglipTokenizer

    folder, model = Path(folder), io.BytesIO()
    folder.mkdir(parents=True, exist_ok=True)
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(["a photo of the quick brown fox and a lazy dog, jumping over"] * 9),
        model_writer=model, vocab_size=60, hard_vocab_limit=False, num_threads=1, minloglevel=2,
        unk_id=0, eos_id=1, pad_id=2, bos_id=-1,
    )  # fmt: skip
    (folder / "spiece.model").write_bytes(model.getvalue())
    tokenizer = SiglipTokenizer(
        str(folder / "spiece.model"), model_max_length=16, model_input_names=["input_ids"]
    )
    special = {"bos_token_id": None, "eos_token_id": 1, "pad_token_id": 1, "projection_size": 32}
    config = SiglipConfig(
        text_config=_TOWER
        | special
        | {"vocab_size": len(tokenizer), "max_position_embeddings": 16},
        vision_config=_TOWER | {"image_size": IMAGE_SIZE, "patch_size": 8},
    )
    processor = SiglipImageProcessor(size={"height": IMAGE_SIZE, "width": IMAGE_SIZE})
    return _save(folder, seed, SiglipModel, config, processor, tokenizer)


def make_transformers_dinov2(folder: str | Path, seed: int = 0) -> str:
    """Write a DINOv2 checkpoint of transformers (28-pixel images, 32-d embeddings); its spec."""
    from transformers import BitImageProcessor, Dinov2Config, Dinov2Model

    crop = {"height": 28, "width": 28}
    processor = BitImageProcessor(
        size={"shortest_edge": 31}, crop_size=crop,
        image_mean=[0.485, 0.456, 0.406], image_std=[0.229, 0.224, 0.225],
    )  # fmt: skip
    config = Dinov2Config(
        hidden_size=32, num_hidden_layers=2, num_attention_heads=2, image_size=28, patch_size=14
    )
    return _save(folder, seed, Dinov2Model, config, processor)


def _save(folder: str | Path, seed: int, kind: Any, config: Any, *others: Any) -> str:
    """Write a model of this config with random weights, and what goes with it; its spec."""
    import torch

    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = kind(config)
        with torch.no_grad():  # the library begins with biases of 0 and scales of 1
            for parameter in model.parameters():
                parameter.add_(torch.randn_like(parameter) * 0.05)
    for one in (model, *others):
        one.save_pretrained(folder)
    return f"transformers:{Path(folder)}"
