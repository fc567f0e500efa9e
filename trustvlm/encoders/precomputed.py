"""The encoder of label spaces whose embeddings are computed elsewhere: it only knows their
dimension and tag."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, NoReturn

from trustvlm.encoders.identity import EncoderParts
from trustvlm.encoders.specs.parse import EncoderSpec
from trustvlm.errors import InvalidInput
from trustvlm.types.arrays import Float32s

if TYPE_CHECKING:
    from PIL.Image import Image


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
