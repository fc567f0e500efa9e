"""What the encoders that run a torch model have in common: one lock, inference mode, float32 answers."""

from __future__ import annotations

import threading
from typing import Any

import torch

from trustvlm.encoders.preprocess import Preprocess
from trustvlm.errors import InvalidInput, Unavailable
from trustvlm.types import Float32s

__all__ = ["TorchModel"]

_DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}


class TorchModel:
    """A model in eval mode on a device, used by one thread at a time."""

    def __init__(self, spec: str, model: Any, preprocess: Preprocess, device: str, precision: str) -> None:
        self.spec = spec
        self.model = model.eval().requires_grad_(False).to(device=device, dtype=_DTYPES[precision])
        self.preprocess = preprocess
        self.device, self.precision = device, precision
        self.lock = threading.Lock()

    def to_model(self, pixels: Any) -> torch.Tensor:
        """Stacked pixels on the model's device, in its dtype.

        Raises:
            InvalidInput: not (n, 3, height, width) as :class:`Preprocess` makes them.
        """
        pixels = torch.as_tensor(pixels)
        expected = (3, *self.preprocess.crop)
        if pixels.ndim != 4 or tuple(pixels.shape[1:]) != expected:
            raise InvalidInput(f"{self.spec}: pixels must be (n, {', '.join(map(str, expected))}), got {tuple(pixels.shape)}")
        ready: torch.Tensor = pixels.to(device=self.device, dtype=_DTYPES[self.precision])
        return ready

    def to_numpy(self, features: torch.Tensor) -> Float32s:
        """(n, dim) float32 on the CPU.

        Raises:
            Unavailable: some are not finite: the precision is too low for this model, or its weights are broken.
        """
        if not torch.isfinite(features).all():
            raise Unavailable(f"{self.spec} gives embeddings that are not finite at precision {self.precision}: use fp32")
        out: Float32s = features.float().cpu().numpy()
        return out
