"""Model, image processor and tokenizer of a checkpoint.

The library reads the checkpoint's folder only: it asks the network for nothing, and runs no code
that lies there.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch

from trustvlm.encoders.images.preprocess import Preprocess
from trustvlm.encoders.libraries import load_library
from trustvlm.encoders.specs.names import TWINS
from trustvlm.encoders.specs.parse import EncoderSpec
from trustvlm.encoders.torch_model import MISFITS, shortened
from trustvlm.encoders.transformers.files import Checkpoint
from trustvlm.errors import InvalidInput, Unavailable

_INSTALL = "pip install 'trustvlm[transformers]'"
_MISFITS = (*MISFITS, OSError, ImportError)
_HERE: dict[str, Any] = {"local_files_only": True, "trust_remote_code": False}
_FILTERS = {0: "nearest", 1: "lanczos", 2: "bilinear", 3: "bicubic"}
"""Pillow's numbers, which the files hold."""


def load_transformers(spec: EncoderSpec) -> None:
    """Import the library.

    Raises:
        Unavailable: it is not installed.
    """
    try:
        load_library("transformers")
    except ImportError as error:
        twin = TWINS.get(spec.weights or "")
        instead = f", or use {twin}, which has the same weights" if twin else ""
        raise Unavailable(
            f"{spec.text} needs a package that is not installed: {_INSTALL}{instead}"
        ) from error


def load_model(checkpoint: Checkpoint, spec: str) -> Any:
    """The model with its weights, in float32 on the CPU; every tensor of it comes from the files.

    Raises:
        InvalidInput: the library has no such model, or no encoder of images is in it, or the
            weights do not fit it.
    """
    config, kind = _kind(checkpoint, spec)
    with _reading(f"{spec}: the model in {checkpoint.folder} cannot be loaded"):
        model, report = kind.from_pretrained(
            checkpoint.folder, config=config, local_files_only=True, weights_only=True,
            use_safetensors=".safetensors" in checkpoint.weights[0].suffixes,
            dtype=torch.float32, output_loading_info=True, ignore_mismatched_sizes=True,
            # Named, because a config may name code of others here.
            attn_implementation="sdpa" if kind._supports_sdpa else "eager",
        )  # fmt: skip
    lacking = [*sorted(report["missing_keys"]), *map(str, report["mismatched_keys"])]
    if lacking:
        raise InvalidInput(
            f"{spec}: the weights in {checkpoint.folder} do not fit their model: {len(lacking)} "
            f"tensors are missing or of another shape, such as {lacking[0]}"
        )
    return model


def _kind(checkpoint: Checkpoint, spec: str) -> tuple[Any, Any]:
    """The config of a checkpoint and the class of its model."""
    from transformers import MODEL_MAPPING, AutoConfig

    no_model = f"config.json in {checkpoint.folder} is of no model that transformers has"
    with _reading(f"{spec}: {no_model}, and code of a checkpoint is never run"):
        config = AutoConfig.from_pretrained(checkpoint.folder, **_HERE)
        kind: Any = MODEL_MAPPING[type(config)]
    kind = kind[0] if isinstance(kind, (tuple, list)) else kind
    images_only = kind.main_input_name == "pixel_values" and not hasattr(kind, "get_text_features")
    if not checkpoint.has_texts and not images_only:
        raise InvalidInput(
            f"{spec}: models of type {config.model_type} are not taken; expected clip, siglip or "
            f"an image encoder such as dinov2"
        )
    return config, kind


def load_preprocess(checkpoint: Checkpoint) -> Preprocess:
    """What the checkpoint's image processor does, on Pillow.

    Raises:
        InvalidInput: it is of an unknown kind, or does not make images of one size.
    """
    from transformers import AutoImageProcessor

    with _reading(f"the image processor in {checkpoint.folder} cannot be used"):
        made = AutoImageProcessor.from_pretrained(checkpoint.folder, backend="pil", **_HERE)
        size: Any = made.size
        crop: Any = getattr(made, "crop_size", None)
        resize = size.shortest_edge or size.height, size.shortest_edge or size.width
        cropped = bool(getattr(made, "do_center_crop", False))
        seen = (crop.height, crop.width) if cropped else resize
        if (
            not (made.do_resize and made.do_rescale and abs(made.rescale_factor * 255 - 1) < 1e-6)
            or getattr(made, "do_pad", False)
            or size.longest_edge
            or (size.shortest_edge and not cropped)
            or seen[0] > resize[0]
            or seen[1] > resize[1]
        ):
            raise ValueError(f"it does not resize and crop to one size: {made.to_dict()}")
        return Preprocess(
            crop=seen,
            resize=resize,
            mode="shortest" if size.shortest_edge else "squash",
            interpolation=_FILTERS[int(made.resample)],
            mean=tuple(made.image_mean) if made.do_normalize else (0.0, 0.0, 0.0),
            std=tuple(made.image_std) if made.do_normalize else (1.0, 1.0, 1.0),
            corner="down",
        )


def load_tokenizer(checkpoint: Checkpoint, spec: str) -> Any:
    """The checkpoint's tokenizer.

    Raises:
        Unavailable: a package that it needs is not installed.
        InvalidInput: its files do not hold one.
    """
    from transformers import AutoTokenizer

    with _reading(f"the tokenizer in {checkpoint.folder} cannot be used"):
        try:
            return AutoTokenizer.from_pretrained(checkpoint.folder, **_HERE)
        except ImportError as error:
            raise Unavailable(
                f"{spec}: its tokenizer needs a package that is not installed: {_INSTALL}"
            ) from error


@contextmanager
def _reading(problem: str) -> Iterator[None]:
    """Without the library's reports and progress bars. Raises InvalidInput, which begins with
    `problem`: what is read does not fit."""
    from transformers.utils import logging

    level, bars = logging.get_verbosity(), logging.is_progress_bar_enabled()
    logging.set_verbosity(logging.CRITICAL)
    logging.disable_progress_bar()
    try:
        yield
    except _MISFITS as error:
        raise InvalidInput(f"{problem}: {shortened(error)}") from error
    finally:
        logging.set_verbosity(level)
        if bars:
            logging.enable_progress_bar()
