"""Encoder specs, the one-line names under which encoders are opened and stored, and presets of two
of them. Parsing loads nothing heavy."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType

from trustvlm.errors import InvalidInput, NotFound

__all__ = ["MAX_DIM", "PAPER", "EncoderSpec", "Preset", "parse_spec", "preset", "spec_dim"]

_ACCEPTED = (
    "open_clip:<model>/<pretrained>, open_clip:local-dir:/path, "
    "open_clip:hf-hub:org/name, timm:<model>, "
    "timm:<model>@/path/to/weights (both with ?pooling=…&size=…&preprocess=…), "
    "precomputed:<dim>[:<tag>], same"
)
_OPTIONS = {
    "pooling": ("default", "mean-tokens", "class-token"),
    "size": (),
    "preprocess": ("own", "clip"),
}
MAX_DIM = 65_536  # far above any embedding; keeps a mistyped dim from allocating gigabytes
_MAX_SIZE = 4_096
_NAME = r"[\w.-]+"
_OPEN_CLIP = re.compile(rf"local-dir:(.+)|hf-hub:({_NAME}/{_NAME})|({_NAME})/({_NAME})")
_TIMM = re.compile(rf"({_NAME})(?:@(.+?))?(?:\?([^?]*))?")


@dataclass(frozen=True)
class EncoderSpec:
    """A parsed spec.

    Attributes:
        kind: "open_clip", "timm", "precomputed" or "same".
        model: architecture name; "local-dir" or "hf-hub" when the files themselves say which; ""
            when there is none.
        weights: pretrained tag, absolute path, hub repository, or the tag of precomputed
            embeddings; None when not given.
        options: what stood after "?", as text, in canonical order.
        dim: embedding dimension, known beforehand for precomputed embeddings only.
        text: the spec in canonical form.
    """

    kind: str
    text: str
    model: str = ""
    weights: str | None = None
    options: Mapping[str, str] = field(default_factory=lambda: MappingProxyType({}), hash=False)
    dim: int | None = None


def parse_spec(spec: str) -> EncoderSpec:
    """What `spec` asks for.

    Raises:
        InvalidInput: it is none of the accepted forms; the message lists them.
    """
    if not isinstance(spec, str):
        raise InvalidInput(f"encoder spec must be a string, got {type(spec).__name__}")
    text = spec.strip()
    kind, _, rest = text.partition(":")
    if text == "same":
        return EncoderSpec("same", "same")
    if kind not in _PARSERS or not rest:
        raise _malformed(spec, "unknown form")
    return _PARSERS[kind](spec, rest)


def spec_dim(spec: str) -> int | None:
    """The embedding dimension that the spec alone tells (precomputed), else None.

    Raises:
        InvalidInput: see :func:`parse_spec`.
    """
    return parse_spec(spec).dim


def _malformed(spec: str, why: str) -> InvalidInput:
    return InvalidInput(f"encoder spec {spec!r:.500}: {why:.500}; accepted: {_ACCEPTED}")


def _absolute(path: str) -> str:
    # A stored spec is opened again by processes with other working directories.
    return str(Path(path).expanduser().absolute())


def _parse_open_clip(spec: str, rest: str) -> EncoderSpec:
    if not (match := _OPEN_CLIP.fullmatch(rest)):
        raise _malformed(spec, "open_clip needs a model and its weights, and takes no options")
    path, repository, model, tag = match.groups()
    if path:
        place = _absolute(path)
        return EncoderSpec("open_clip", f"open_clip:local-dir:{place}", "local-dir", place)
    if repository:
        return EncoderSpec("open_clip", f"open_clip:hf-hub:{repository}", "hf-hub", repository)
    return EncoderSpec("open_clip", f"open_clip:{rest}", model, tag)


def _parse_timm(spec: str, rest: str) -> EncoderSpec:
    if not (match := _TIMM.fullmatch(rest)):
        raise _malformed(spec, "timm needs a model name, and a path after @")
    model, path, query = match.groups()
    options = {} if query is None else _parse_options(spec, query)
    weights = _absolute(path) if path else None
    text = f"timm:{model}" + (f"@{weights}" if weights else "")
    if options:
        text += "?" + "&".join(f"{name}={value}" for name, value in options.items())
    return EncoderSpec("timm", text, model, weights, MappingProxyType(options))


def _parse_options(spec: str, query: str) -> dict[str, str]:
    given: dict[str, str] = {}
    for part in query.split("&"):
        name, _, value = part.partition("=")
        if name not in _OPTIONS:
            raise _malformed(spec, f"unknown option {name!r} (expected {', '.join(_OPTIONS)})")
        if name in given:
            raise _malformed(spec, f"option {name} given twice")
        if name == "size":
            if _integer(value, _MAX_SIZE) is None:
                expected = f"a number of pixels from 1 to {_MAX_SIZE}"
                raise _malformed(spec, f"size must be {expected}, not {value!r}")
        elif value not in _OPTIONS[name]:
            expected = f"one of {', '.join(_OPTIONS[name])}"
            raise _malformed(spec, f"{name} must be {expected}, not {value!r}")
        given[name] = value
    return {name: given[name] for name in _OPTIONS if name in given}


def _parse_precomputed(spec: str, rest: str) -> EncoderSpec:
    number, colon, tag = rest.partition(":")
    if (dim := _integer(number, MAX_DIM)) is None:
        raise _malformed(spec, f"the dimension must be from 1 to {MAX_DIM}, not {number!r}")
    if colon and not re.fullmatch(r"[^\s?]+", tag):
        raise _malformed(spec, "the tag must be a word")
    text = f"precomputed:{dim}" + (f":{tag}" if tag else "")
    return EncoderSpec("precomputed", text, weights=tag or None, dim=dim)


def _integer(digits: str, most: int) -> int | None:
    """The integer from 1 to `most` that `digits` are; None for anything else."""
    if not re.fullmatch(r"[0-9]{1,9}", digits):  # more are slow to read
        return None
    return number if 1 <= (number := int(digits)) <= most else None


_PARSERS = {"open_clip": _parse_open_clip, "timm": _parse_timm, "precomputed": _parse_precomputed}


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


def preset(name: str) -> Preset:
    """The preset called `name`.

    Raises:
        NotFound: there is none of that name.
    """
    if not isinstance(name, str) or name != PAPER.name:
        raise NotFound(f"no preset {name!r:.80}; there is: {PAPER.name}")
    return PAPER
