"""Training of the demo's classifier: a small CLIP of open_clip's own architecture, from scratch, on
pictures with captions.

It is meant to err now and then, as CLIP does: it sees only 40 scans of each digit, without
augmentation, and becomes more certain of them than it should.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from trustvlm.demo.data import LABELS, crops, digits_split, draw
from trustvlm.demo.specs import TEMPLATES
from trustvlm.demo.train_weights import save_weights

__all__ = ["CONFIG", "save_classifier", "train_classifier"]

CONFIG: dict[str, Any] = {
    "model_cfg": {
        "embed_dim": 64,
        "vision_cfg": {
            "image_size": 32,
            "layers": 3,
            "width": 64,
            "head_width": 32,
            "patch_size": 8,
        },
        "text_cfg": {
            "context_length": 16,
            "vocab_size": 49408,
            "width": 32,
            "heads": 2,
            "layers": 2,
        },
    },
    "preprocess_cfg": {
        "mean": [0.5, 0.5, 0.5],
        "std": [0.5, 0.5, 0.5],
        "interpolation": "bicubic",
        "resize_mode": "shortest",
    },
}
"""What open_clip_config.json holds."""

_IMAGES_PER_LABEL = 40
_STEPS = 300
_GROUPS = 6  # each step averages the loss of so many batches of one image and one caption per label
_RATE = 1e-3
_LARGEST_SCALE = 100.0  # as in CLIP
_WORD_SIZE = 0.02  # CLIP's initial deviation of token embeddings

_PHOTOGRAPHS = ("flower", "temple")
_CAPTIONS = (*TEMPLATES, "a small photo of one {}.", "this is a {}.", "{}")
_DIGIT_CAPTIONS = (
    "a scan of a handwritten {}.",
    "a photo of the digit {}.",
    "the number {} written by hand.",
)


def train_classifier(seed: int = 0) -> Any:
    """The trained open_clip.CLIP, in eval mode.

    The loss is CLIP's: in a batch of one pair per label, each image must find its caption and each
    caption its image. With one pair per label no two pairs of a batch mean the same.
    """
    import open_clip

    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = open_clip.CLIP(**CONFIG["model_cfg"])
        _init_words(model.token_embedding.weight)
        images, captions = _pictures(), _captions()
        optimizer = torch.optim.AdamW(
            model.parameters(), lr=_RATE, betas=(0.9, 0.98), weight_decay=0.0
        )
        schedule = torch.optim.lr_scheduler.OneCycleLR(
            optimizer, _RATE, total_steps=_STEPS, pct_start=0.1
        )
        model.train()
        for _ in range(_STEPS):
            loss = _clip_loss(model, _draw_pairs(images), _draw_pairs(captions))
            optimizer.zero_grad()
            torch.autograd.backward(loss)
            optimizer.step()
            schedule.step()
            with torch.no_grad():
                model.logit_scale.clamp_(0.0, torch.tensor(_LARGEST_SCALE).log().item())
    return model.eval()


def save_classifier(model: Any, folder: Path) -> None:
    """Write open_clip_config.json and open_clip_model.safetensors."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "open_clip_config.json").write_text(
        json.dumps(CONFIG, indent=2) + "\n", encoding="utf-8"
    )
    save_weights(model, folder / "open_clip_model.safetensors")


@torch.no_grad()
def _init_words(weight: Tensor) -> None:
    """Random signs instead of a normal distribution: the 49,000 words that no caption holds keep a
    direction of their own, and the file still compresses to a tenth in the repository."""
    weight.copy_(torch.where(torch.rand_like(weight) < 0.5, -_WORD_SIZE, _WORD_SIZE))


def _pictures() -> list[Tensor]:
    """For each label the preprocessed images (n, 3, 32, 32) that the classifier learns from."""
    from open_clip.transform import PreprocessCfg, image_transform_v2

    size = CONFIG["model_cfg"]["vision_cfg"]["image_size"]
    transform = image_transform_v2(
        PreprocessCfg(size=size, **CONFIG["preprocess_cfg"]), is_train=False
    )
    train = digits_split()["train"]
    few = [train.scans[train.digits == digit][:_IMAGES_PER_LABEL] for digit in range(len(LABELS))]
    pictures = [[draw(scan) for scan in scans] for scans in few] + [
        crops(name, "train") for name in _PHOTOGRAPHS
    ]
    return [torch.stack([transform(picture) for picture in some]) for some in pictures]


def _captions() -> list[Tensor]:
    """For each label the tokens (n, 16) of its captions, in the order of :func:`_pictures`."""
    from open_clip import SimpleTokenizer

    tokenize = SimpleTokenizer(context_length=CONFIG["model_cfg"]["text_cfg"]["context_length"])
    digits = [[caption.format(name) for caption in _CAPTIONS + _DIGIT_CAPTIONS] for name in LABELS]
    photographs = [[caption.format(name) for caption in _CAPTIONS] for name in _PHOTOGRAPHS]
    return [tokenize(captions) for captions in digits + photographs]


def _draw_pairs(pools: list[Tensor]) -> Tensor:
    """(groups, labels, …): one random element of each label's pool per group."""
    return torch.stack([pool[torch.randint(len(pool), (_GROUPS,))] for pool in pools], dim=1)


def _clip_loss(model: Any, images: Tensor, captions: Tensor) -> Tensor:
    groups, labels = images.shape[:2]
    x = F.normalize(model.encode_image(images.flatten(0, 1)), dim=-1).view(groups, labels, -1)
    t = F.normalize(model.encode_text(captions.flatten(0, 1)), dim=-1).view(groups, labels, -1)
    logits = model.logit_scale.exp() * x @ t.transpose(1, 2)
    target = torch.arange(labels).expand(groups, labels).flatten()
    of_images = F.cross_entropy(logits.flatten(0, 1), target)
    of_captions = F.cross_entropy(logits.transpose(1, 2).flatten(0, 1), target)
    return (of_images + of_captions) / 2
