"""open_encoder: from a spec to a loaded encoder on a device."""

from __future__ import annotations

import re
from pathlib import Path

from trustvlm.encoders.base import Encoder
from trustvlm.encoders.images.sandboxes import warm
from trustvlm.encoders.precomputed import PrecomputedEncoder
from trustvlm.encoders.specs.parse import parse_spec
from trustvlm.errors import InvalidInput, Unavailable

_PRECISIONS = ("fp32", "bf16", "fp16")


def open_encoder(
    spec: str,
    *,
    device: str = "cpu",
    precision: str = "fp32",
    allow_download: bool = True,
    identities: Path | None = None,
) -> Encoder:
    """The encoder that `spec` names, loaded and ready; it may be shared by threads.

    Args:
        spec: see :mod:`trustvlm.encoders.specs.parse`.
        device: "cpu", "cuda" or "cuda:N".
        precision: arithmetic inside the model: "fp32", "bf16", "fp16" (fp16 on a GPU only).
            Embeddings are float32 always.
        allow_download: fetch weights from the Hugging Face hub when they are not in its local
            cache.
        identities: a file that remembers the identities of weights files which stay what they are;
            None: their tensors are hashed each time.

    Raises:
        InvalidInput: malformed spec, device or precision; weights that do not fit the model.
        NotFound: unknown model or pretrained tag; missing file or folder.
        WeightsMissing: weights are not here and cannot be fetched; the message names the file and
            the way around.
        Damaged: a weights file is truncated or corrupted.
        Unavailable: no such GPU here, or a package that this model or its tokenizer needs is
            missing.
    """
    parsed = parse_spec(spec)
    if parsed.kind == "same":
        raise InvalidInput(
            "encoder spec 'same' means the classifier's image tower: open the classifier instead"
        )
    _check_compute(device, precision)
    if parsed.kind in ("precomputed", "external"):
        return PrecomputedEncoder(parsed)
    warm()  # it imports what it needs while this process imports torch
    if parsed.kind == "open_clip":
        from trustvlm.encoders.clip import open_clip_encoder

        return open_clip_encoder(parsed, device, precision, allow_download, identities)
    if parsed.kind == "transformers":
        from trustvlm.encoders.transformers.encoders import open_transformers_encoder

        return open_transformers_encoder(parsed, device, precision, allow_download, identities)
    from trustvlm.encoders.timm import open_timm_encoder

    return open_timm_encoder(parsed, device, precision, allow_download, identities)


def _check_compute(device: str, precision: str) -> None:
    if precision not in _PRECISIONS:
        raise InvalidInput(f"precision must be one of {', '.join(_PRECISIONS)}, not {precision!r}")
    if device == "cpu":
        if precision == "fp16":
            raise InvalidInput("precision fp16 needs a GPU: on the CPU use bf16 or fp32")
        return
    if not (match := re.fullmatch(r"cuda(?::(\d+))?", device)):
        raise InvalidInput(f"device must be cpu, cuda or cuda:N, not {device!r}")
    import torch

    count = torch.cuda.device_count() if torch.cuda.is_available() else 0
    if int(match[1] or 0) >= count:
        raise Unavailable(
            f"device {device!r}: this machine has {count} usable CUDA devices; use device='cpu'"
        )
