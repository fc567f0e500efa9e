"""Train the demo's two models from scratch: `python -m benchmarks.train_demo --out DIR`.

With `--out trustvlm/demo/models` in a checkout it replaces the weights that ship with the package.
The same machine and library versions give the same weights; others give weights of the same
quality.

The classifier is a small CLIP of open_clip's architecture, trained on pictures with captions. It is
meant to err now and then, as CLIP does: it sees only 40 scans of each digit, without augmentation,
and becomes more certain of them than it should. The verifier is a tiny vision transformer, trained
without any text on augmented scans, by the supervised contrastive loss (Khosla et al., arXiv
2004.11362). It is stopped early, so that it errs as well, and mostly elsewhere than the classifier.
"""

from __future__ import annotations

import json
import math
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import click
import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from trustvlm.demo.data import LABELS, crops, digits_split, draw, write_images
from trustvlm.demo.measure import (
    RULES_SHOWN,
    Figures,
    embed_held_out,
    figures_of,
    prepare_space,
    register_labels,
    score,
)
from trustvlm.demo.specs import (
    TEMPLATES,
    VERIFIER_MODEL,
    VERIFIER_SIZE,
    classifier_folder,
    verifier_file,
)
from trustvlm.encoders.images.preprocess import Preprocess

__all__ = ["Trained", "measure_models", "train_models"]

_SIDE = 32
_VISION = {"image_size": _SIDE, "layers": 3, "width": 64, "head_width": 32, "patch_size": 8}
_TEXT = {"context_length": 16, "vocab_size": 49408, "width": 32, "heads": 2, "layers": 2}
_HALF = [0.5, 0.5, 0.5]
_CONFIG: dict[str, Any] = {
    "model_cfg": {"embed_dim": 64, "vision_cfg": _VISION, "text_cfg": _TEXT},
    "preprocess_cfg": {
        "mean": _HALF,
        "std": _HALF,
        "interpolation": "bicubic",
        "resize_mode": "shortest",
    },
}
"""What open_clip_config.json of the classifier holds."""

_IMAGES_PER_LABEL = 40
_GROUPS = 6  # each step averages the loss of this many batches of one image and caption per label
_LARGEST_SCALE = 100.0  # as in CLIP
_WORD_SIZE = 0.02  # CLIP's initial deviation of token embeddings
_BATCH = 120
_TEMPERATURE = 0.1

_PHOTOGRAPHS = ("flower", "temple")
_CAPTIONS = (*TEMPLATES, "a small photo of one {}.", "this is a {}.", "{}")
_DIGIT_CAPTIONS = (
    "a scan of a handwritten {}.",
    "a photo of the digit {}.",
    "the number {} written by hand.",
)


@dataclass(frozen=True)
class Trained:
    """How good a pair of models is on the held-out images.

    Attributes:
        figures: rule → what it achieves.
        prototype_accuracy: share of the images whose nearest prototype is that of the true label.
    """

    figures: dict[str, Figures]
    prototype_accuracy: float


def train_models(out: Path, echo: Callable[[str], object]) -> None:
    """Train both models on one thread and write their weights below `out`."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)  # the order of additions must not depend on the number of cores
    try:
        for name, train, path in (
            ("classifier", _train_classifier, classifier_folder(out)),
            ("verifier", _train_verifier, verifier_file(out)),
        ):
            start = time.perf_counter()
            with torch.random.fork_rng(devices=[]):
                torch.manual_seed(0)
                train(path)
            echo(f"{name} trained in {time.perf_counter() - start:.0f} s: {path}")
    finally:
        torch.set_num_threads(threads)


def measure_models(models: Path) -> Trained:
    """Measure the models below `models` as the demo does, in a home of their own."""
    import trustvlm

    with TemporaryDirectory() as folder:
        images = Path(folder, "images")
        write_images(images)
        with trustvlm.open(Path(folder, "home"), create=True, workers=0) as service:
            prepare_space(service, models)
            register_labels(service, images, lambda line: None)
            held_out = embed_held_out(service, images)
            verdicts = {rule: score(service, held_out, rule) for rule in RULES_SHOWN}
    nearest = verdicts["trustvlm"].nearest_prototype
    figures = {rule: figures_of(verdict, held_out.truth) for rule, verdict in verdicts.items()}
    return Trained(figures, float(np.mean(nearest == held_out.truth)))


def _fit(
    model: Any, loss_of: Callable[[], Tensor], *, steps: int, rate: float, **options: Any
) -> None:
    """`steps` of AdamW with one cycle of the learning rate."""
    optimizer = torch.optim.AdamW(model.parameters(), lr=rate, **options)
    schedule = torch.optim.lr_scheduler.OneCycleLR(
        optimizer, rate, total_steps=steps, pct_start=0.1
    )
    model.train()
    for _ in range(steps):
        loss = loss_of()
        optimizer.zero_grad()
        torch.autograd.backward(loss)
        optimizer.step()
        schedule.step()
    model.eval()


def _save_weights(model: Any, path: Path) -> None:
    """Write every tensor as float16 safetensors: half the size of float32 and the same answers."""
    from safetensors.torch import save_file

    path.parent.mkdir(parents=True, exist_ok=True)
    tensors = {name: t.detach().half().contiguous() for name, t in model.state_dict().items()}
    save_file(tensors, path, {"format": "pt"})
    path.chmod(0o644)  # safetensors keeps its files to their owner; these are for everyone


def _scans_of(digit: int) -> Any:
    train = digits_split()["train"]
    return train.scans[train.digits == digit]


# The classifier


def _train_classifier(folder: Path) -> None:
    """CLIP's loss: in a batch of one pair per label, each image must find its caption and each
    caption its image. With one pair per label no two pairs of a batch mean the same."""
    import open_clip

    model = open_clip.CLIP(**_CONFIG["model_cfg"])
    _init_words(model.token_embedding.weight)
    images, captions = _clip_pictures(), _captions()

    def loss() -> Tensor:
        with torch.no_grad():
            model.logit_scale.clamp_(0.0, math.log(_LARGEST_SCALE))
        return _clip_loss(model, _draw_pairs(images), _draw_pairs(captions))

    _fit(model, loss, steps=300, rate=1e-3, betas=(0.9, 0.98), weight_decay=0.0)
    _save_weights(model, folder / "open_clip_model.safetensors")
    config = folder / "open_clip_config.json"
    config.write_text(json.dumps(_CONFIG, indent=2) + "\n", encoding="utf-8")


@torch.no_grad()
def _init_words(weight: Tensor) -> None:
    """Random signs instead of a normal distribution: the 49,000 words that no caption holds each
    keep a direction, and the file still compresses to a tenth in the repository."""
    weight.copy_(torch.where(torch.rand_like(weight) < 0.5, -_WORD_SIZE, _WORD_SIZE))


def _clip_pictures() -> list[Tensor]:
    """For each label the preprocessed images (n, 3, 32, 32) that the classifier learns from."""
    half = (0.5, 0.5, 0.5)
    preprocess = Preprocess(crop=(_SIDE, _SIDE), resize=(_SIDE, _SIDE), mean=half, std=half)
    pictures = [
        [draw(scan) for scan in _scans_of(digit)[:_IMAGES_PER_LABEL]]
        for digit in range(len(LABELS))
    ]
    pictures += [crops(name, "train") for name in _PHOTOGRAPHS]
    return [torch.stack([preprocess(picture) for picture in some]) for some in pictures]


def _captions() -> list[Tensor]:
    """For each label the tokens (n, 16) of its captions, in the order of :func:`_clip_pictures`."""
    from open_clip import SimpleTokenizer

    tokenize = SimpleTokenizer(context_length=_TEXT["context_length"])
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


# The verifier


def _train_verifier(path: Path) -> None:
    """Pictures of the same thing attract each other, others repel."""
    import timm

    model = timm.create_model(VERIFIER_MODEL, num_classes=0, img_size=VERIFIER_SIZE)
    images, things = _verifier_pictures(model)

    def loss() -> Tensor:
        rows = torch.randint(len(images), (_BATCH,))
        tokens = model.forward_features(_augment(images[rows]))
        # The mean of all output tokens, as the demo's verifier spec asks.
        return _contrastive_loss(F.normalize(tokens.mean(dim=1), dim=-1), things[rows])

    _fit(model, loss, steps=190, rate=2e-3, weight_decay=1e-3)
    _save_weights(model, path)


def _verifier_pictures(model: Any) -> tuple[Tensor, Tensor]:
    """All training pictures as the model takes them, (n, 3, size, size), and what they show,
    (n,)."""
    from timm.data import create_transform, resolve_model_data_config

    config = resolve_model_data_config(model) | {"input_size": (3, VERIFIER_SIZE, VERIFIER_SIZE)}
    transform = create_transform(**config, is_training=False)
    pictures = [(draw(scan), digit) for digit in range(len(LABELS)) for scan in _scans_of(digit)]
    for thing, name in enumerate(_PHOTOGRAPHS, start=len(LABELS)):
        pictures += [(crop, thing) for crop in crops(name, "train")]
    return torch.stack([transform(picture) for picture, _ in pictures]), torch.tensor(
        [thing for _, thing in pictures]
    )


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
    noise = 0.1 * torch.randn(moved.shape)
    return moved * contrast[:, None, None, None] + brightness[:, None, None, None] + noise


def _contrastive_loss(z: Tensor, things: Tensor) -> Tensor:
    """Mean over images of −log of the softmax share of the others that show the same thing."""
    itself = torch.eye(len(z), dtype=torch.bool)
    shares = (z @ z.T / _TEMPERATURE).masked_fill(itself, -1e9).log_softmax(dim=1)
    same = (things[:, None] == things) & ~itself
    count = same.sum(dim=1)
    return -((shares * same).sum(dim=1)[count > 0] / count[count > 0]).mean()


@click.command()
@click.option(
    "--out",
    type=click.Path(path_type=Path, file_okay=False),
    default=Path("demo-models"),
    show_default=True,
)
def main(out: Path) -> None:
    """Train the demo's models, write their weights below OUT and print how good they are on the
    held-out images."""
    train_models(out.absolute(), click.echo)
    trained = measure_models(out.absolute())
    click.echo(f"nearest prototype is right for {trained.prototype_accuracy:.1%}")
    for rule, figures in trained.figures.items():
        click.echo(
            f"{rule:<14} accuracy {figures.accuracy:.1%}   AURC×1000 {1000 * figures.aurc:5.2f}   "
            f"AUROC {figures.auroc:.1%}   FPR95 {figures.fpr95:.1%}"
        )


if __name__ == "__main__":
    main()
