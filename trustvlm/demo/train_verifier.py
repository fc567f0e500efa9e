"""Training of the demo's verifier: a tiny vision transformer, trained apart from the classifier and
without any text.

The loss is the supervised contrastive one (Khosla et al., arXiv 2004.11362) on augmented scans:
pictures of the same thing attract each other, others repel. It is stopped early, so that it errs as
well, and mostly elsewhere than the classifier.
"""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from trustvlm.demo.data import crops, digits_split, draw
from trustvlm.demo.specs import VERIFIER_MODEL, VERIFIER_SIZE
from trustvlm.demo.train_weights import save_weights

__all__ = ["save_verifier", "train_verifier"]

_STEPS = 190
_BATCH = 120
_RATE = 2e-3
_TEMPERATURE = 0.1


def train_verifier(seed: int = 0) -> Any:
    """The trained timm model without a head, in eval mode."""
    import timm

    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = timm.create_model(VERIFIER_MODEL, num_classes=0, img_size=VERIFIER_SIZE)
        images, things = _pictures(model)
        optimizer = torch.optim.AdamW(model.parameters(), lr=_RATE, weight_decay=1e-3)
        schedule = torch.optim.lr_scheduler.OneCycleLR(
            optimizer, _RATE, total_steps=_STEPS, pct_start=0.1
        )
        model.train()
        for _ in range(_STEPS):
            rows = torch.randint(len(images), (_BATCH,))
            loss = _contrastive_loss(_embed(model, _augment(images[rows])), things[rows])
            optimizer.zero_grad()
            torch.autograd.backward(loss)
            optimizer.step()
            schedule.step()
    return model.eval()


def save_verifier(model: Any, path: Path) -> None:
    """Write the weights as safetensors."""
    save_weights(model, path)


def _pictures(model: Any) -> tuple[Tensor, Tensor]:
    """All training pictures as the model takes them, (n, 3, size, size), and what they show,
    (n,)."""
    from timm.data import create_transform, resolve_model_data_config

    config = resolve_model_data_config(model) | {"input_size": (3, VERIFIER_SIZE, VERIFIER_SIZE)}
    transform = create_transform(**config, is_training=False)
    train = digits_split()["train"]
    pictures = [
        (draw(scan), digit) for scan, digit in zip(train.scans, train.digits.tolist(), strict=True)
    ]
    for thing, name in enumerate(("flower", "temple"), start=10):
        pictures += [(crop, thing) for crop in crops(name, "train")]
    return torch.stack([transform(picture) for picture, _ in pictures]), torch.tensor(
        [thing for _, thing in pictures]
    )


def _embed(model: Any, images: Tensor) -> Tensor:
    """(n, d) unit embeddings: the mean of all output tokens, as the demo's verifier spec asks."""
    return F.normalize(model.forward_features(images).mean(dim=1), dim=-1)


def _augment(images: Tensor) -> Tensor:
    """Each image turned, sheared, scaled, shifted, with another contrast and brightness and with
    noise, at random."""
    n = len(images)

    def spread(width: float) -> Tensor:
        return (torch.rand(n) * 2 - 1) * width

    angle, scale = spread(math.radians(12)), 1 + spread(0.12)
    affine = torch.zeros(n, 2, 3)
    affine[:, 0, 0] = affine[:, 1, 1] = scale * angle.cos()
    affine[:, 0, 1] = spread(0.15) - angle.sin()
    affine[:, 1, 0] = angle.sin()
    affine[:, :, 2] = torch.stack([spread(0.1), spread(0.1)], dim=1)
    grid = F.affine_grid(affine, list(images.shape), align_corners=False)
    moved = F.grid_sample(images, grid, padding_mode="border", align_corners=False)
    contrast, brightness = 1 + spread(0.2), spread(0.2)
    return (
        moved * contrast[:, None, None, None]
        + brightness[:, None, None, None]
        + 0.1 * torch.randn(moved.shape)
    )


def _contrastive_loss(z: Tensor, things: Tensor) -> Tensor:
    """Mean over images of −log of the softmax share of the others that show the same thing."""
    itself = torch.eye(len(z), dtype=torch.bool)
    shares = (z @ z.T / _TEMPERATURE).masked_fill(itself, -1e9).log_softmax(dim=1)
    same = (things[:, None] == things) & ~itself
    count = same.sum(dim=1)
    return -((shares * same).sum(dim=1)[count > 0] / count[count > 0]).mean()
