"""Named set-ups: which two encoders, which templates, which logit scale."""

from __future__ import annotations

from dataclasses import dataclass

from trustvlm.errors import NotFound

__all__ = ["PAPER", "Preset", "preset"]


@dataclass(frozen=True)
class Preset:
    """What `--preset NAME` sets when a label space is created."""

    name: str
    classifier: str
    verifier: str
    templates: tuple[str, ...]
    logit_scale: float


PAPER = Preset(
    name="paper",
    classifier="open_clip:ViT-B-16/openai",
    # The paper feeds DINOv2 the pixels that it prepared for CLIP and averages all output tokens.
    verifier="timm:vit_base_patch14_dinov2.lvd142m?pooling=mean-tokens&size=224&preprocess=clip",
    templates=("a photo of a {}.",),
    logit_scale=100.0,
)
"""The reference set-up of arXiv 2505.23745."""

_PRESETS = {p.name: p for p in (PAPER,)}


def preset(name: str) -> Preset:
    """The preset called `name`.

    Raises:
        NotFound: there is none of that name.
    """
    if not isinstance(name, str) or name not in _PRESETS:
        raise NotFound(f"no preset {name!r:.80}; there is: {', '.join(_PRESETS)}")
    return _PRESETS[name]
