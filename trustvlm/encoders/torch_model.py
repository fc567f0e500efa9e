"""What the encoders that run a torch model have in common: one lock, inference mode, float32
answers, texts in batches of similar length."""

from __future__ import annotations

import difflib
import threading
from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch

from trustvlm.encoders.golden import golden_image
from trustvlm.encoders.identity import EncoderParts
from trustvlm.encoders.images.preprocess import Preprocess
from trustvlm.errors import InvalidInput, Unavailable
from trustvlm.types.arrays import Float32s

MISFITS = (
    *(RuntimeError, KeyError, AttributeError, TypeError, ValueError, AssertionError),
    *(StopIteration, ZeroDivisionError),
)
"""What the model libraries raise over a config or weights that do not fit."""

SIGMOID_SCALE = 100.0
"""The logit scale of sigmoid-trained models: their own belongs to a bias and says nothing about a
softmax."""

_PROMPTS_PER_BATCH = 256
_PROMPTS_PER_SORT = 16_384  # bounds the memory of token ids
_LENGTH_STEP = 16  # one long prompt must not make hundreds of short ones as slow as itself
_SPECIAL_TOKENS = 3  # start, end, and a blank in front; every other token takes a byte at least

_DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}


class TorchModel(ABC):
    """A model in eval mode on a device, used by one thread at a time.

    Attributes:
        model: the torch module. device, precision: where and how it runs.
        golden: the embedding of the golden image, made when the encoder is. dim: its components.
    """

    dim: int
    golden: Float32s | None
    identity: str
    parts: EncoderParts | None

    def __init__(
        self, spec: str, model: Any, preprocess: Preprocess, device: str, precision: str
    ) -> None:
        self.spec = spec
        try:
            self.model = (
                model.eval().requires_grad_(False).to(device=device, dtype=_DTYPES[precision])
            )
        except torch.OutOfMemoryError as e:
            raise Unavailable(
                f"{spec}: {device} has not enough memory free for the model; use bf16 or "
                f"another device"
            ) from e
        self.preprocess = preprocess
        self.device, self.precision = device, precision
        self.lock = threading.Lock()
        golden = self.encode_images(preprocess(golden_image())[None])[0]
        self.golden, self.dim = golden, len(golden)

    def encode_images(self, pixels: Any) -> Float32s:
        """(n, dim) float32 embeddings of stacked preprocessed images.

        Raises:
            InvalidInput: pixels of another shape than `preprocess` gives.
        """
        ready = self._to_model(pixels)
        if not len(ready):
            return np.empty((0, self.dim), np.float32)
        with self.running():
            return self.to_numpy(self._embed(ready))

    def encode_texts(self, prompts: Sequence[str]) -> Float32s:
        """Raises InvalidInput: this model has no text side."""
        raise InvalidInput(
            f"{self.spec} is an image encoder and cannot encode texts: use it as the verifier"
        )

    def cut(self, prompts: Sequence[str]) -> list[bool]:
        """Raises InvalidInput: this model has no text side."""
        self.encode_texts(prompts)
        return []

    @contextmanager
    def running(self) -> Iterator[None]:
        """Alone with the model, without gradients.

        Raises:
            Unavailable: the GPU has not enough memory for this batch.
        """
        try:
            with self.lock, torch.inference_mode():
                yield
        except torch.OutOfMemoryError as e:
            raise Unavailable(
                f"{self.spec}: {self.device} has not enough memory free; use smaller batches or "
                f"bf16"
            ) from e

    @abstractmethod
    def _embed(self, pixels: torch.Tensor) -> torch.Tensor:
        """(n, dim) features of at least one image; runs under the lock, in inference mode."""

    def _to_model(self, pixels: Any) -> torch.Tensor:
        """Stacked pixels on the model's device, in its dtype.

        Raises:
            InvalidInput: not (n, 3, height, width) as :class:`Preprocess` makes them.
        """
        pixels = torch.as_tensor(pixels)
        expected = (3, *self.preprocess.crop)
        if pixels.ndim != 4 or tuple(pixels.shape[1:]) != expected:
            raise InvalidInput(
                f"{self.spec}: pixels must be (n, {', '.join(map(str, expected))}), got "
                f"{tuple(pixels.shape)}"
            )
        ready: torch.Tensor = pixels.to(device=self.device, dtype=_DTYPES[self.precision])
        return ready

    def to_numpy(self, features: torch.Tensor) -> Float32s:
        """(n, dim) float32 on the CPU.

        Raises:
            Unavailable: some are not finite: the precision is too low for this model, or its
                weights are broken.
        """
        if not torch.isfinite(features).all():
            raise Unavailable(
                f"{self.spec} gives embeddings that are not finite at precision "
                f"{self.precision}: use fp32"
            )
        out: Float32s = features.float().cpu().numpy()
        return out


class TextModel(TorchModel):
    """A model with a text tower besides."""

    @property
    @abstractmethod
    def context(self) -> int:
        """How many tokens of a prompt the model reads."""

    @abstractmethod
    def _tokens(self, prompts: list[str]) -> Any:
        """The tokens of prompts, cut to the context; runs under the lock."""

    @abstractmethod
    def _lengths(self, tokens: Any) -> torch.Tensor:
        """(n,) how many tokens each of n prompts needs."""

    @abstractmethod
    def _text_features(self, tokens: Any, rows: torch.Tensor) -> torch.Tensor:
        """(rows, dim) raw features of some rows of tokens; runs under the lock, in inference
        mode."""

    @abstractmethod
    def _are_longer(self, prompts: list[str]) -> list[bool]:
        """Which prompts have more tokens than the context; runs under the lock."""

    def encode_texts(self, prompts: Sequence[str]) -> Float32s:
        """(n, dim) float32 embeddings of full prompts; longer ones than the model's context are cut
        by its tokenizer.

        Raises:
            InvalidInput: not a sequence of strings.
        """
        prompts = list(prompts) if not isinstance(prompts, str) else [prompts]
        if wrong := [p for p in prompts if not isinstance(p, str)]:
            raise InvalidInput(f"prompts must be strings, got {type(wrong[0]).__name__}")
        out = np.empty((len(prompts), self.dim), np.float32)
        for start in range(0, len(prompts), _PROMPTS_PER_SORT):
            with self.lock:
                tokens = self._tokens(prompts[start : start + _PROMPTS_PER_SORT])
            for rows in _batches_by_length(self._lengths(tokens)):
                # Locked batch by batch, so that an image need not wait for a million prompts.
                with self.running():
                    out[start + rows.numpy()] = self.to_numpy(self._text_features(tokens, rows))
        return out

    def cut(self, prompts: Sequence[str]) -> list[bool]:
        """Which of n prompts have more tokens than the model's context: their ends do not count."""
        long = [
            number
            for number, prompt in enumerate(prompts)
            if len(prompt.encode(errors="replace")) + _SPECIAL_TOKENS > self.context
        ]
        result = [False] * len(prompts)
        if long:
            with self.lock:
                longer = self._are_longer([prompts[number] for number in long])
            for number, is_longer in zip(long, longer, strict=True):
                result[number] = is_longer
        return result


def _batches_by_length(lengths: torch.Tensor) -> Iterator[torch.Tensor]:
    """Row numbers in batches of similar length, since each batch is cut to its longest prompt."""
    if not len(lengths):
        return
    order = torch.argsort(lengths, stable=True)
    _, counts = torch.unique_consecutive(
        lengths[order].div(_LENGTH_STEP, rounding_mode="floor"), return_counts=True
    )
    for group in torch.split(order, counts.tolist()):
        yield from torch.split(group, _PROMPTS_PER_BATCH)


def pooled_tokens(
    spec: str, tokens: torch.Tensor, pooling: str, *, has_class_token: bool
) -> torch.Tensor:
    """(n, width) one vector of the output tokens (n, tokens, width): the class token, or the mean.
    Raises InvalidInput: the model has none."""
    if tokens.ndim != 3:
        raise InvalidInput(
            f"{spec}: this model gives no tokens but a feature map; only pooling=default fits it"
        )
    if pooling == "mean-tokens":
        return tokens.mean(dim=1)
    if not has_class_token:
        raise InvalidInput(
            f"{spec}: this model has no class token; use pooling=default or mean-tokens"
        )
    return tokens[:, 0]


def shortened(error: Exception) -> str:
    """The first two lines of a library's message."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return " ".join(lines[:2] or [type(error).__name__])[:300]


def similar(name: str, names: Sequence[str]) -> str:
    """The end of a message that names what is spelled like `name`; "" where nothing is."""
    spelled = {one.lower(): one for one in names}
    close = difflib.get_close_matches(name.lower(), spelled, n=3, cutoff=0.5)
    return f"; close: {', '.join(spelled[one] for one in close)}" if close else ""
