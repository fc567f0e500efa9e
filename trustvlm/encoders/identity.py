"""One hash of what an encoder computes: its weights, its preprocessing, its pooling."""

from __future__ import annotations

import hashlib
from typing import Any

__all__ = ["encoder_identity"]


def encoder_identity(kind: str, model: Any, preprocessing: str, pooling: str) -> str:
    """SHA-256 as hex over kind, the tensors of `model` sorted by name, and the two descriptions.

    Call it on the loaded float32 model before any cast: the same weights then give the same identity whether their
    file holds float16 or float32, and wherever the model runs afterwards.
    """
    import torch

    digest = hashlib.sha256(f"{kind}\n{preprocessing}\n{pooling}\n".encode())
    for name, tensor in sorted(model.state_dict().items()):
        values = tensor.detach().cpu()
        if values.is_floating_point():
            values = values.to(torch.float32)
        digest.update(f"{name} {tuple(values.shape)} {values.dtype}\n".encode())
        digest.update(values.contiguous().numpy().data)
    return digest.hexdigest()
