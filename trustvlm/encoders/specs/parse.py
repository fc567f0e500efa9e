"""Encoder specs, the one-line names under which encoders are opened and stored. Parsing loads
nothing heavy and looks at no file."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType

from trustvlm.encoders.specs.names import suggestions, understood
from trustvlm.errors import InvalidInput
from trustvlm.system.files.default_home import expanded

_ACCEPTED = (
    "open_clip:<model>/<pretrained>, open_clip:local-dir:/path, "
    "open_clip:hf-hub:org/name, timm:<model>, "
    "timm:<model>@/path/to/weights (both with ?pooling=…&size=…&preprocess=…), "
    "transformers:<org>/<name>, transformers:/path (both with ?pooling=…), "
    "precomputed:<dim>[:<tag>], external[:<labels>], same"
)
_OPTIONS = {
    "pooling": ("default", "mean-tokens", "class-token"),
    "size": (),
    "preprocess": ("own", "clip"),
}
MAX_DIM = 65_536  # far above any embedding; keeps a mistyped dim from allocating gigabytes
OUTPUTS, MAX_OUTPUTS = 1_000, 20_000
"""For how many labels an external classifier has outputs, by default and at most: a label takes as
many numbers."""
_MAX_SIZE = 4_096
_MAX_NAME = 200
_NAME = r"[\w.-]+"
_OPEN_CLIP = re.compile(rf"local-dir:(.+)|hf-hub:({_NAME}/{_NAME})|({_NAME})/({_NAME})")
_TRANSFORMERS = re.compile(rf"(?:([/.~].*?)|({_NAME}/{_NAME}))(?:\?([^?]*))?")
_TIMM = re.compile(rf"({_NAME})(?:@(.+?))?(?:\?([^?]*))?")


@dataclass(frozen=True)
class EncoderSpec:
    """A parsed spec.

    Attributes:
        kind: "open_clip", "timm", "transformers", "precomputed", "external" or "same".
        model: architecture name; "local-dir" or "hf-hub" when the files themselves say which; ""
            when there is none.
        weights: pretrained tag, absolute path, hub repository, or the tag of precomputed
            embeddings; None when not given.
        options: what stood after "?", as text, in canonical order.
        dim: embedding dimension, known beforehand for precomputed embeddings and external
            classifiers only.
        text: the spec in canonical form.
    """

    kind: str
    text: str
    model: str = ""
    weights: str | None = None
    options: Mapping[str, str] = field(default_factory=lambda: MappingProxyType({}), hash=False)
    dim: int | None = None

    @property
    def is_external(self) -> bool:
        """Whether it stands for a classifier whose probabilities come with the queries."""
        return self.kind == "external"

    @property
    def encodes_images(self) -> bool:
        """Whether it names an encoder with an image tower."""
        return self.kind in ("open_clip", "timm", "transformers")

    @property
    def encodes_texts(self) -> bool:
        """Whether it names an encoder that can have a text tower; of one of transformers, its files
        say whether it has."""
        return self.kind in ("open_clip", "transformers")


def parse_spec(spec: str) -> EncoderSpec:
    """What `spec` asks for; it may be a name that stands for one
    (:mod:`trustvlm.encoders.specs.names`).

    Raises:
        InvalidInput: it is none of the accepted forms; the message names the spec that may be
            meant, or lists the forms.
    """
    if not isinstance(spec, str):
        raise InvalidInput(f"encoder spec must be a string, got {type(spec).__name__}")
    text = spec.strip()
    kind, _, rest = text.partition(":")
    if text == "same":
        return EncoderSpec("same", "same")
    if text == "external":
        return parse_spec(f"external:{OUTPUTS}")
    if kind in _PARSERS and rest:
        return _PARSERS[kind](spec, rest)
    if (meant := understood(text)) is not None:
        return parse_spec(meant)
    raise _unclear(spec, text, "unknown form")


def _malformed(spec: str, why: str) -> InvalidInput:
    return InvalidInput(f"encoder spec {spec!r:.500}: {why:.500}; accepted: {_ACCEPTED}")


def _unclear(spec: str, name: str, why: str) -> InvalidInput:
    """The error that says what may be meant by `name`, a part of `spec`."""
    meant = understood(name)
    specs = suggestions(name[:_MAX_NAME]) if meant is None else (meant,)
    if not specs:
        return _malformed(spec, why)
    return InvalidInput(
        f"encoder spec {spec!r:.500}: did you mean {' or '.join(map(repr, specs))}?"
    )


def _absolute(path: str) -> str:
    # A stored spec is opened again by processes with other working directories.
    return str(expanded(Path(path)))


def _parse_open_clip(spec: str, rest: str) -> EncoderSpec:
    if not (match := _OPEN_CLIP.fullmatch(rest)):
        meant = understood(rest)
        if meant is not None and meant.startswith("open_clip:"):
            return parse_spec(meant)
        why = "open_clip needs a model and its weights, and takes no options"
        raise _unclear(spec, rest, why)
    path, repository, model, tag = match.groups()
    if path:
        place = _absolute(path)
        return EncoderSpec("open_clip", f"open_clip:local-dir:{place}", "local-dir", place)
    if repository:
        return EncoderSpec("open_clip", f"open_clip:hf-hub:{repository}", "hf-hub", repository)
    text = f"open_clip:{rest}"
    meant = understood(rest)  # ViT-B/32 is OpenAI's name of a model, laion/CLIP-… a repository
    if meant is None or meant == text:
        return EncoderSpec("open_clip", text, model, tag)
    if meant.startswith("open_clip:"):
        return parse_spec(meant)
    raise _unclear(spec, rest, "these are no model and weights of open_clip")


def _parse_timm(spec: str, rest: str) -> EncoderSpec:
    if not (match := _TIMM.fullmatch(rest)):
        raise _unclear(spec, rest, "timm needs a model name, and a path after @")
    model, path, query = match.groups()
    options, end = _parse_options(spec, query, tuple(_OPTIONS))
    weights = _absolute(path) if path else None
    text = f"timm:{model}" + (f"@{weights}" if weights else "") + end
    return EncoderSpec("timm", text, model, weights, options)


def _parse_transformers(spec: str, rest: str) -> EncoderSpec:
    if not (match := _TRANSFORMERS.fullmatch(rest)):
        why = "transformers needs org/name of the hub, or a folder that starts with / or ./"
        raise _unclear(spec, rest, why)
    path, repository, query = match.groups()
    options, end = _parse_options(spec, query, ("pooling",))
    model, weights = ("local-dir", _absolute(path)) if path else ("hf-hub", repository)
    return EncoderSpec("transformers", f"transformers:{weights}{end}", model, weights, options)


def _parse_options(
    spec: str, query: str | None, taken: tuple[str, ...]
) -> tuple[Mapping[str, str], str]:
    """The options of a query, of those that are `taken`, and its canonical form."""
    if query is None:
        return MappingProxyType({}), ""
    given: dict[str, str] = {}
    for part in query.split("&"):
        name, _, value = part.partition("=")
        if name not in taken:
            raise _malformed(spec, f"unknown option {name!r} (expected {', '.join(taken)})")
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
    options = {name: given[name] for name in _OPTIONS if name in given}
    end = "?" + "&".join(f"{name}={value}" for name, value in options.items())
    return MappingProxyType(options), end


def _parse_precomputed(spec: str, rest: str) -> EncoderSpec:
    number, colon, tag = rest.partition(":")
    if (dim := _integer(number, MAX_DIM)) is None:
        raise InvalidInput(
            f"encoder spec {spec!r:.500}: the dimension must be from 1 to {MAX_DIM}, not "
            f"{number!r:.80}, as in precomputed:512"
        )
    if colon and not re.fullmatch(r"[^\s?]+", tag):
        raise _malformed(spec, "the tag must be a word")
    text = f"precomputed:{dim}" + (f":{tag}" if tag else "")
    return EncoderSpec("precomputed", text, weights=tag or None, dim=dim)


def _parse_external(spec: str, rest: str) -> EncoderSpec:
    if (labels := _integer(rest, MAX_OUTPUTS)) is None:
        raise InvalidInput(
            f"encoder spec {spec!r:.500}: expected room for 1 to {MAX_OUTPUTS:,} labels, not "
            f"{rest!r:.80}, as in external:{OUTPUTS}"
        )
    return EncoderSpec("external", f"external:{labels}", dim=labels + 1)


def _integer(digits: str, most: int) -> int | None:
    """The integer from 1 to `most` that `digits` are; None for anything else."""
    if not re.fullmatch(r"[0-9]{1,9}", digits):  # more are slow to read
        return None
    return number if 1 <= (number := int(digits)) <= most else None


_PARSERS = {
    "open_clip": _parse_open_clip,
    "timm": _parse_timm,
    "transformers": _parse_transformers,
    "precomputed": _parse_precomputed,
    "external": _parse_external,
}
