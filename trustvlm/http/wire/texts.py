"""What texts in requests may be, as patterns of the OpenAPI document: so that a client can know
what the service will refuse.

The service checks them itself (:mod:`trustvlm.service.home.names`,
:mod:`trustvlm.encoders.specs.parse`), with sentences that say more than a pattern could.
"""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import Field

from trustvlm.encoders.specs.names import FAMILIES, NAMES
from trustvlm.encoders.specs.parse import MAX_DIM, MAX_OUTPUTS
from trustvlm.service.home.names import JOINERS, MAX_NAME, MAX_PROMPT, UNSEEN


def _escaped(characters: str) -> str:
    """Characters of a pattern as escapes, as far as the pattern languages of Python and JSON Schema
    share one: what cannot be seen or printed spoils the document for programs that read it as
    YAML."""
    return "".join(
        f"\\u{ord(one):04x}" if one < " " or "~" < one <= "\uffff" else one for one in characters
    )


_CONTROL = _escaped("\x00-\x1f\x7f-\x9f\u2028\u2029")
_HIDDEN, _JOINERS = _escaped(UNSEEN), _escaped(JOINERS)
_SEEN = f"[^{_CONTROL}{_HIDDEN}]"


def _name(*also: str) -> str:
    """A pattern: seen characters without blanks at the ends, joiners between others beyond ASCII,
    none of `also`."""
    beside = f"[^\\u0000-\\u007f{_JOINERS}{_CONTROL}{_HIDDEN}]"
    out = "".join(also)
    inner = f"[^{_CONTROL}{_HIDDEN}{_JOINERS}{out}]|(?<={beside})[{_JOINERS}](?={beside})"
    edge = f"[^\\s{_CONTROL}{_HIDDEN}{_JOINERS}{out}]"
    return f"^{edge}(?:(?:{inner})*{edge})?$"


def up_to(most: int) -> str:
    """A pattern of the numbers from 1 to `most`, in decimal digits without zeros in front."""
    digits = str(most)
    shorter = [f"[1-9][0-9]{{0,{len(digits) - 2}}}"] if len(digits) > 1 else []
    same = [
        f"{digits[:place]}[{int(place == 0)}-{int(digit) - 1}][0-9]{{{len(digits) - place - 1}}}"
        for place, digit in enumerate(digits)
        if int(digit) > int(place == 0)
    ]
    return "|".join([*shorter, *same, digits])


def _documented(most: int, pattern: str) -> Any:
    """A text whose limits stand in the document; what breaks them is refused where it is used."""
    return Field(json_schema_extra={"minLength": 1, "maxLength": most, "pattern": pattern})


_WORD, _PATH = r"[A-Za-z0-9_.\-]+", r"[^\s?]+"
_PRECOMPUTED = rf"precomputed:(?:{up_to(MAX_DIM)})(?::{_PATH})?"
_OPEN_CLIP = rf"open_clip:(?:{_WORD}/{_WORD}|hf-hub:{_WORD}/{_WORD}|local-dir:{_PATH})"
_TIMM = rf"timm:{_WORD}(?:@{_PATH})?(?:\?[a-z0-9=&\-]+)?"

LabelName = Annotated[str, _documented(MAX_NAME, _name())]
SpaceName = Annotated[str, _documented(MAX_NAME, _name("/"))]
Prompt = Annotated[str, _documented(MAX_PROMPT, rf"^{_SEEN}*[^\s{_CONTROL}{_HIDDEN}]{_SEEN}*$")]
Template = Annotated[str, _documented(MAX_PROMPT, rf"^{_SEEN}*\{{\}}{_SEEN}*$")]
_TRANSFORMERS = rf"transformers:(?:{_WORD}/{_WORD}|[/.~](?:{_PATH})?)(?:\?[a-z0-9=&\-]+)?"
_NAMED = "|".join([*NAMES, *(pattern for pattern, _ in FAMILIES)])
_BOTH = rf"{_PRECOMPUTED}|{_OPEN_CLIP}|{_TRANSFORMERS}|{_NAMED}"
_EXTERNAL = rf"external(?::(?:{up_to(MAX_OUTPUTS)}))?"
ClassifierSpec = Annotated[str, _documented(2_000, rf"^(?:{_EXTERNAL}|{_BOTH})$")]
VerifierSpec = Annotated[str, _documented(2_000, rf"^(?:same|{_TIMM}|{_BOTH})$")]
