"""What an encoder computes, as one hash and as its parts: weights, preprocessing, pooling."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

_NAMES = ("weights", "preprocessing", "pooling")
_LIBRARIES = ("torch", "open_clip_torch", "timm", "transformers", "tokenizers", "pillow")


@dataclass(frozen=True)
class EncoderParts:
    """What an encoder's identity is made of.

    Attributes:
        identity: SHA-256 as hex over all of the others.
        kind: the library that runs it. weights: SHA-256 as hex over the tensors.
        preprocessing, pooling: their descriptions, JSON or a word.
    """

    identity: str
    kind: str
    weights: str
    preprocessing: str
    pooling: str

    def recorded(self, device: str, precision: str) -> dict[str, str]:
        """The parts as a space keeps them, with where and how they ran: that is recorded, and never
        refused."""
        parts = {name: getattr(self, name) for name in ("kind", *_NAMES)}
        return parts | {"device": device, "precision": precision, "libraries": libraries()}


def encoder_parts(kind: str, model: Any, preprocessing: str, pooling: str) -> EncoderParts:
    """The parts of an encoder, from its tensors sorted by name and its two descriptions.

    Call it on the loaded float32 model before any cast: the same weights then give the same
    identity whether their file holds float16 or float32, and wherever the model runs afterwards.
    """
    digest = hashlib.sha256(f"{kind}\n{preprocessing}\n{pooling}\n".encode())
    weights = hashlib.sha256()
    for part in _tensors(model):
        digest.update(part)
        weights.update(part)
    return EncoderParts(digest.hexdigest(), kind, weights.hexdigest(), preprocessing, pooling)


def _tensors(model: Any) -> Iterator[Any]:
    import torch

    for name, tensor in sorted(model.state_dict().items()):
        values = tensor.detach().cpu()
        if values.is_floating_point():
            values = values.to(torch.float32)
        yield f"{name} {tuple(values.shape)} {values.dtype}\n".encode()
        yield values.contiguous().numpy().data


def libraries() -> str:
    """The libraries that decide what a model computes, with their versions."""
    from importlib.metadata import PackageNotFoundError, version

    versions = []
    for name in _LIBRARIES:
        with suppress(PackageNotFoundError):
            versions.append(f"{name} {version(name)}")
    return ", ".join(versions)


def identity_difference(stored: Mapping[str, str] | None, fresh: EncoderParts) -> str:
    """What of `fresh` is not as it was stored, in words; without stored parts, what it may be."""
    if stored is None:
        return "its weights, preprocessing or pooling changed"
    words = []
    if stored.get("kind") != fresh.kind:
        words.append(f"it is run by {fresh.kind}, not {stored.get('kind')}")
    for name in _NAMES:
        before, now = str(stored.get(name)), str(getattr(fresh, name))
        if before != now:
            short = (
                (f"SHA-256 {now[:16]}…", f"{before[:16]}…")
                if name == "weights"
                else _fields(before, now)
            )
            words.append(f"its {name} changed ({short[0]}, expected {short[1]})")
    return " and ".join(words) or "its weights, preprocessing or pooling changed"


def _fields(before: str, now: str) -> tuple[str, str]:
    """(now, before) of a description, cut down to the fields that differ."""
    try:
        old, new = json.loads(before), json.loads(now)
    except ValueError:
        return now, before
    if not isinstance(old, dict) or not isinstance(new, dict):
        return now, before
    names = [name for name in sorted({*old, *new}) if old.get(name) != new.get(name)]
    new_text, old_text = (
        " ".join(f"{name} {json.dumps(parts.get(name))}" for name in names) for parts in (new, old)
    )
    return new_text, old_text
