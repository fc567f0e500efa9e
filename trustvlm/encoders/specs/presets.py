"""Presets: pairs of encoders that go together, by name."""

from __future__ import annotations

from dataclasses import dataclass

from trustvlm.errors import NotFound
from trustvlm.types.messages.meant import did_you_mean


@dataclass(frozen=True)
class Preset:
    """What `--preset NAME` sets when a label space is created."""

    name: str
    classifier: str
    verifier: str
    templates: tuple[str, ...] = ("a photo of a {}.",)
    logit_scale: float = 100.0


def _dinov2(size: str) -> str:
    """DINOv2 as the paper has it: fed the pixels that are prepared for CLIP, mean of all tokens."""
    options = "pooling=mean-tokens&size=224&preprocess=clip"
    return f"timm:vit_{size}_patch14_dinov2.lvd142m?{options}"


PAPER = Preset("paper", "open_clip:ViT-B-16/openai", _dinov2("base"))
"""The reference set-up of arXiv 2505.23745."""

PRESETS = {
    chosen.name: chosen
    for chosen in (
        Preset("small", "open_clip:ViT-B-32/laion2b_s34b_b79k", _dinov2("small")),
        PAPER,
        Preset("large", "open_clip:ViT-L-14/datacomp_xl_s13b_b90k", _dinov2("large")),
    )
}
"""By name, from the fastest to the most accurate."""


def preset(name: str) -> Preset:
    """The preset called `name`.

    Raises:
        NotFound: there is none of that name.
    """
    if not isinstance(name, str) or name not in PRESETS:
        meant = did_you_mean(name, PRESETS)
        raise NotFound(f"no preset {name!r:.80}; there are: {', '.join(PRESETS)}{meant}")
    return PRESETS[name]
