"""Names that the demo's run, its training and its tests share: the label space, its templates,
where the models lie."""

from __future__ import annotations

from pathlib import Path

SPACE = "digits"

TEMPLATES = ("a photo of a {}.", "an image of a {}.", "a picture of the {}.")
"""Not about digits, so that they fit an eleventh label as well."""

MODELS = Path(__file__).parent / "models"
"""The weights that ship with the package; `python -m benchmarks.train_demo` makes them."""

VERIFIER_MODEL = "test_vit"
"""timm's smallest vision transformer: 0.3 million parameters."""

VERIFIER_SIZE = 32
"""Pixels a side that the verifier sees; a quarter of the classifier's cost, and the scans have no
more to show."""


def classifier_folder(models: Path = MODELS) -> Path:
    """The open_clip folder of the demo's vision-language model."""
    return models / "classifier"


def verifier_file(models: Path = MODELS) -> Path:
    """The weights of the demo's verifier."""
    return models / "verifier.safetensors"


def classifier_spec(models: Path = MODELS) -> str:
    """Encoder spec of the demo's vision-language model."""
    return f"open_clip:local-dir:{classifier_folder(models)}"


def verifier_spec(models: Path = MODELS) -> str:
    """Encoder spec of the demo's verifier; its embedding is the mean of all output tokens, as in
    the paper."""
    return f"timm:{VERIFIER_MODEL}@{verifier_file(models)}?pooling=mean-tokens&size={VERIFIER_SIZE}"
