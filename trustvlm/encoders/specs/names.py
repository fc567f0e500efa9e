"""What models are called elsewhere (by OpenAI, open_clip, timm, the Hugging Face hub), and the
specs of them.

A name that can mean one thing only is understood; for another one there are suggestions.
"""

from __future__ import annotations

import difflib
import re

_OPENAI = {
    "ViT-B/32": "ViT-B-32",
    "ViT-B/16": "ViT-B-16",
    "ViT-L/14": "ViT-L-14",
    "ViT-L/14@336px": "ViT-L-14-336",
}
"""OpenAI's names and open_clip's; those without a slash are the same."""
_ONLY = {
    "RN50x4": "openai",
    "RN50x16": "openai",
    "RN50x64": "openai",
    "ViT-B-32-256": "datacomp_s34b_b86k",
    "ViT-L-14-336": "openai",
    "ViT-H-14-378": "dfn5b",
}
"""Models of open_clip that have one set of weights."""
_SEVERAL = {
    "ViT-B-32": ("openai", "laion2b_s34b_b79k", "datacomp_xl_s13b_b90k"),
    "ViT-B-16": ("openai", "laion2b_s34b_b88k", "datacomp_xl_s13b_b90k"),
    "ViT-L-14": ("openai", "laion2b_s32b_b82k", "datacomp_xl_s13b_b90k"),
    "ViT-H-14": ("laion2b_s32b_b79k", "dfn5b"),
    "ViT-g-14": ("laion2b_s34b_b88k", "laion2b_s12b_b42k"),
    "ViT-bigG-14": ("laion2b_s39b_b160k", "metaclip_fullcc"),
    "RN50": ("openai", "yfcc15m"),
    "RN101": ("openai", "yfcc15m"),
}
"""Models of open_clip that have more of them, and which to suggest."""
_TAGS = {
    "laion2b_e16": "ViT-B-32",
    "laion2b_s34b_b79k": "ViT-B-32",
    "laion2b_s32b_b82k": "ViT-L-14",
    "laion2b_s32b_b79k": "ViT-H-14",
    "laion2b_s12b_b42k": "ViT-g-14",
    "laion2b_s39b_b160k": "ViT-bigG-14",
    "datacomp_s34b_b86k": "ViT-B-32-256",
}
"""Weights of open_clip that belong to one model."""
_SIZES = {"s": "small", "b": "base", "l": "large", "g": "giant"}
_DINOV2 = {
    f"dinov2_vit{size}14{registers}": f"timm:vit_{word}_patch14_{more}dinov2.lvd142m?size=224"
    for size, word in _SIZES.items()
    for registers, more in (("", ""), ("_reg", "reg4_"))
}
"""Meta's names. That code sees 224 pixels, where timm's own choice is 518."""

NAMES: dict[str, str] = {
    **{name: f"open_clip:{model}/openai" for name, model in _OPENAI.items()},
    **{model: f"open_clip:{model}/{tag}" for model, tag in _ONLY.items()},
    **{tag: f"open_clip:{model}/{tag}" for tag, model in _TAGS.items()},
    **_DINOV2,
}
"""Names with one meaning, and their specs; none has a character that patterns give a meaning."""

_PART = r"[A-Za-z0-9_.\-]+"
_MODELS = "|".join([*_ONLY, *_SEVERAL])
FAMILIES: tuple[tuple[str, str], ...] = (
    (rf"((?:openai/clip|google/siglip2?|facebook/dinov[23]|facebook/metaclip)-{_PART})",
     r"transformers:\1"),
    (rf"((?:laion/CLIP|timm/ViT|apple/MobileCLIP)-{_PART})", r"open_clip:hf-hub:\1"),
    (rf"(?:hf-hub|hf_hub):({_PART}/{_PART})", r"open_clip:hf-hub:\1"),
    (rf"({_MODELS})[/:]([a-z0-9_]+)", r"open_clip:\1/\2"),
    (r"(ViT-[A-Za-z0-9]+-[0-9]+-SigLIP[A-Za-z0-9\-]*)(?:[/:]webli)?", r"open_clip:\1/webli"),
    (r"(vit_[a-z0-9_]+\.[a-z0-9_]+)", r"timm:\1"),
)  # fmt: skip
"""Patterns of further names with one meaning, and their specs."""

TWINS: dict[str, str] = {
    "openai/clip-vit-base-patch32": "open_clip:ViT-B-32/openai",
    "openai/clip-vit-base-patch16": "open_clip:ViT-B-16/openai",
    "openai/clip-vit-large-patch14": "open_clip:ViT-L-14/openai",
    "openai/clip-vit-large-patch14-336": "open_clip:ViT-L-14-336/openai",
    **{f"facebook/dinov2-{_SIZES[size]}": _DINOV2[f"dinov2_vit{size}14"] for size in _SIZES},
}
"""Repositories for transformers, and specs of the same weights for libraries that trustvlm always
has."""

_WORDS = {
    "clip": ("open_clip:ViT-B-32/openai",),
    "siglip": ("open_clip:ViT-B-16-SigLIP/webli",),
    "siglip2": ("open_clip:ViT-B-16-SigLIP2/webli",),
    "dinov2": ("timm:vit_small_patch14_dinov2.lvd142m?size=224",),
    **{f"{model}-{tag}": (f"open_clip:{model}/{tag}",) for tag, model in _TAGS.items()},
    **{
        model: tuple(f"open_clip:{model}/{tag}" for tag in tags) for model, tags in _SEVERAL.items()
    },
    **{
        tag: tuple(f"open_clip:{model}/{tag}" for model, tags in _SEVERAL.items() if tag in tags)
        for tag in ("openai", "laion2b_s34b_b88k", "datacomp_xl_s13b_b90k", "dfn5b")
    },
    "webli": ("open_clip:ViT-B-16-SigLIP/webli", "open_clip:ViT-B-16-SigLIP2/webli"),
    **{
        repository.partition("/")[2]: (f"transformers:{repository}",)
        for repository in (
            *TWINS,
            "google/siglip-base-patch16-224",
            "google/siglip2-base-patch16-224",
        )
    },
}
"""Names with more meanings, or with parts missing, and what to suggest."""
_MOST = 3
_FOLDED = {name.casefold(): spec for name, spec in NAMES.items()}
_ALIKE: dict[str, tuple[str, ...]] = {
    **{name: (spec,) for name, spec in _FOLDED.items()},
    **{name.casefold(): specs for name, specs in _WORDS.items()},
}


def understood(name: str) -> str | None:
    """The spec that `name` stands for; None where it has no meaning, or more than one."""
    if (spec := _FOLDED.get(name.casefold())) is not None:
        return spec
    for pattern, spec in FAMILIES:
        if match := re.fullmatch(pattern, name):
            return match.expand(spec)
    return None


def suggestions(name: str) -> tuple[str, ...]:
    """At most three specs that `name` may mean, likeliest first."""
    if specs := _ALIKE.get(name.casefold()):
        return specs[:_MOST]
    if name[:1] in ("/", ".", "~"):  # nothing is looked up: who asks may be a client of the service
        return f"transformers:{name}", f"open_clip:local-dir:{name}"
    if name.startswith("timm/"):
        return f"timm:{name.removeprefix('timm/')}", f"open_clip:hf-hub:{name}"
    if re.fullmatch(rf"{_PART}/{_PART}", name):
        return f"transformers:{name}", f"open_clip:hf-hub:{name}"
    if re.fullmatch(r"[a-z][a-z0-9]*_[a-z0-9_]+(?:\.[a-z0-9_]+)?", name):
        return (f"timm:{name}",)
    close = difflib.get_close_matches(name.casefold(), _ALIKE, n=1, cutoff=0.8)
    return _ALIKE[close[0]][:_MOST] if close else ()
