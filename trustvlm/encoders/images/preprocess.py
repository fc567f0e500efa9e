"""Resize, crop and normalise: what torchvision's transforms do for inference, without torch until
the last step.

A worker process only needs Pillow and NumPy for this, so it starts in a tenth of the time that
torchvision takes to import; the tests compare the pixels with open_clip's and timm's own
transforms.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from trustvlm.errors import InvalidInput
from trustvlm.types.arrays import Float32s

if TYPE_CHECKING:
    from PIL.Image import Image

CLIP_MEAN = (0.48145466, 0.4578275, 0.40821073)
CLIP_STD = (0.26862954, 0.26130258, 0.27577711)

_FILTERS = ("bilinear", "bicubic", "lanczos", "nearest")
_MODES = ("shortest", "longest", "squash")
_CORNERS = ("nearest", "down")


@dataclass(frozen=True)
class Preprocess:
    """Preprocessing of one encoder; compares and describes itself by its fields.

    Attributes:
        crop: (height, width) in pixels of what the model sees.
        resize: (height, width) in pixels that the image is resized to first.
        mode: "shortest" (cover `resize`, keep the aspect), "longest" (fit inside it), "squash"
            (ignore the aspect).
        interpolation: bilinear, bicubic, lanczos or nearest.
        mean, std: per channel, for pixels in 0…1.
        fill: colour around an image smaller than the crop.
        corner: how the corner of the crop is rounded to a whole pixel: "nearest" or "down".
    """

    crop: tuple[int, int]
    resize: tuple[int, int]
    mode: str = "shortest"
    interpolation: str = "bicubic"
    mean: tuple[float, float, float] = CLIP_MEAN
    std: tuple[float, float, float] = CLIP_STD
    fill: tuple[int, int, int] = (0, 0, 0)
    corner: str = "nearest"

    def __post_init__(self) -> None:
        if self.interpolation not in _FILTERS:
            raise InvalidInput(
                f"interpolation must be one of {', '.join(_FILTERS)}, not {self.interpolation!r}"
            )
        if self.mode not in _MODES:
            raise InvalidInput(f"resize mode must be one of {', '.join(_MODES)}, not {self.mode!r}")
        if self.corner not in _CORNERS:
            raise InvalidInput(f"corner must be one of {', '.join(_CORNERS)}, not {self.corner!r}")
        if (
            min(*self.crop, *self.resize) < 1
            or len(self.mean) != 3
            or len(self.std) != 3
            or 0.0 in self.std
        ):
            raise InvalidInput(f"unusable preprocessing {self.describe()}")

    @classmethod
    def of(cls, fields: Mapping[str, Any]) -> Preprocess:
        """Preprocessing with these fields, as JSON holds them."""
        values: dict[str, Any] = {
            name: tuple(value) if isinstance(value, list) else value
            for name, value in fields.items()
        }
        return cls(**values)

    def __call__(self, image: Image) -> Any:
        """(3, height, width) float32 torch tensor of an RGB image."""
        import torch

        return torch.from_numpy(self.array(image))

    def array(self, image: Image) -> Float32s:
        """(3, height, width) float32 array of an RGB image."""
        return self.normalised(self.cropped(image))

    def cropped(self, image: Image) -> npt.NDArray[np.uint8]:
        """(height, width, 3) uint8 pixels of an RGB image, resized and cropped."""
        from PIL import Image as pil

        small = image.resize(self._target(image.size), pil.Resampling[self.interpolation.upper()])
        return np.asarray(self._center(small))

    def normalised(self, crop: npt.NDArray[np.uint8]) -> Float32s:
        """(3, height, width) float32 array that the model takes, from :meth:`cropped`."""
        unit: Float32s = crop.astype(np.float32) / np.float32(255)
        mean, std = np.asarray(self.mean, np.float32), np.asarray(self.std, np.float32)
        return np.ascontiguousarray(((unit - mean) / std).transpose(2, 0, 1))

    def describe(self) -> str:
        """Canonical text of every field; part of the encoder's identity."""
        fields = asdict(self)
        if self.corner == "nearest":  # identities that spaces hold were made before this field was
            del fields["corner"]
        return json.dumps(fields, sort_keys=True)

    def _target(self, size: tuple[int, int]) -> tuple[int, int]:
        """(width, height) to resize to, rounded as torchvision and timm do."""
        width, height = size
        tall, wide = self.resize
        if self.mode == "squash":
            return wide, tall
        if self.mode == "shortest" and tall == wide:
            # Not the general formula below: torchvision rounds down here.
            return (
                (wide, int(wide * height / width))
                if width <= height
                else (int(tall * width / height), tall)
            )
        pick = min if self.mode == "shortest" else max
        ratio = pick(height / tall, width / wide)
        return max(1, round(width / ratio)), max(1, round(height / ratio))

    def _center(self, image: Image) -> Image:
        """The middle `crop` of `image`, on `fill` where it is smaller."""
        from PIL import Image as pil

        tall, wide = self.crop
        if image.size == (wide, tall):
            return image
        if image.width < wide or image.height < tall:
            room = (max(wide, image.width), max(tall, image.height))
            canvas = pil.new("RGB", room, self.fill)
            canvas.paste(image, ((room[0] - image.width) // 2, (room[1] - image.height) // 2))
            image = canvas
        rounding = round if self.corner == "nearest" else math.floor
        left, top = rounding((image.width - wide) / 2), rounding((image.height - tall) / 2)
        return image.crop((left, top, left + wide, top + tall))
