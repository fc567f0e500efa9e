"""open_encoder: from a spec to a loaded encoder on a device; and the encoder of label spaces whose
embeddings are computed elsewhere."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

from trustvlm.encoders.base import Encoder
from trustvlm.encoders.identity import EncoderParts
from trustvlm.encoders.images.sandboxes import warm
from trustvlm.encoders.specs.parse import EncoderSpec, parse_spec
from trustvlm.errors import InvalidInput, Unavailable
from trustvlm.types.arrays import Float32s

if TYPE_CHECKING:
    from PIL.Image import Image

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


class PrecomputedEncoder:
    """An :class:`~trustvlm.encoders.base.Encoder` that can encode nothing; its identity is its
    spec."""

    logit_scale: float | None = None
    parts: EncoderParts | None = None
    golden: Float32s | None = None
    device = precision = ""

    def __init__(self, spec: EncoderSpec) -> None:
        if spec.dim is None:
            raise InvalidInput(f"encoder spec {spec.text!r} has no dimension")
        self.spec = self.identity = spec.text
        self.dim = spec.dim

    def encode_images(self, pixels: Any) -> Float32s:
        """Raises InvalidInput always."""
        self._refuse("images", "image_vectors")

    def encode_texts(self, prompts: Sequence[str]) -> Float32s:
        """Raises InvalidInput always."""
        self._refuse("texts", "text_vector")

    def cut(self, prompts: Sequence[str]) -> list[bool]:
        """Raises InvalidInput always."""
        self._refuse("texts", "text_vector")

    def preprocess(self, image: Image) -> Any:
        """Raises InvalidInput always."""
        self._refuse("images", "image_vectors")

    def _refuse(self, what: str, argument: str) -> NoReturn:
        raise InvalidInput(
            f"{self.spec} cannot encode {what}: pass their {self.dim}-d embeddings ({argument}) "
            f"instead"
        )
