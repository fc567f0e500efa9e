"""The seam between an encoder and everything above it.

Invariants every :class:`Encoder` keeps:

* Embeddings are raw encoder output: float32, finite, (n, dim), **not** normalised, one row per
  input, in input order. Device and precision change the arithmetic inside, never dtype or shape of
  the answer.
* ``identity`` is the same for the same weights, preprocessing and pooling, wherever the weights lie
  and on the device and precision that they run with; it differs when any of the three does.
* ``preprocess`` is a pure function of the image; where it is a
  :class:`~trustvlm.encoders.images.preprocess.Preprocess`, sandboxes can run it.
* Every method may be called from several threads at once.
* An encoder that cannot do a verb (a verifier has no texts, a precomputed one has neither) raises
  :class:`~trustvlm.errors.InvalidInput` and says what to pass instead.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Protocol

from trustvlm.encoders.identity import EncoderParts
from trustvlm.types.arrays import Float32s

if TYPE_CHECKING:
    from PIL.Image import Image


class Encoder(Protocol):
    """Turns images and texts into embeddings; the module docstring has the invariants.

    Attributes:
        spec: canonical spec that opens this encoder again (paths made absolute).
        dim: number of components of an embedding.
        identity: hash of weights, preprocessing and pooling, as hex; "precomputed:<dim>[:<tag>]"
            when there are none.
        parts: what that hash is made of; None when there are none. device, precision: where and how
            it runs.
        golden: the (dim,) embedding of the golden image, made when the encoder was opened; None
            when it cannot encode images.
        logit_scale: factor of the cosine in the softmax over labels; None when the encoder has no
            text side.
    """

    spec: str
    dim: int
    identity: str
    parts: EncoderParts | None
    device: str
    precision: str
    golden: Float32s | None
    logit_scale: float | None

    def encode_images(self, pixels: Any) -> Float32s:
        """(n, dim) embeddings of a torch tensor of n stacked results of :meth:`preprocess`."""

    def encode_texts(self, prompts: Sequence[str]) -> Float32s:
        """(n, dim) embeddings of n full prompts."""

    def cut(self, prompts: Sequence[str]) -> list[bool]:
        """Which of n prompts are longer than the context that the model reads: their ends do not
        count."""

    def preprocess(self, image: Image) -> Any:
        """One RGB PIL image as the float32 torch tensor (3, height, width) that the model takes."""
