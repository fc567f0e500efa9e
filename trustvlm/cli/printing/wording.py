"""Messages of the library in the words of the command line: options in place of Python
arguments."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from itertools import pairwise

import click

from trustvlm.types.messages.commands import word
from trustvlm.types.messages.meant import GIVE_NONE

_FILE = "--vectors FILE.npz"
_PHRASES = (
    (r"^inputs\[\d+\]\.name: ", "--label: "),
    (r"^(queries|params|queries\.images|images): ", ""),
    (r"^queries\.text: ", "--text: "),
    (r"^url: ", "--url: "),
    (r"pass verify=PATH of the certificate that signed it, or name that in", "name the one in"),
    (r"^queries\.(classifier|verifier): ", r"\1 embeddings: "),
    (r"^queries\.(\w+): ", r"\1: "),
    (r"^(label .*: )images: the verifier", r"\1the verifier"),
    (
        r"a new label needs text_vector$",
        f"a new label needs its text embedding ({_FILE} with text_vectors)",
    ),
    (r"; pass text_vector$", f"; register it with its text embedding ({_FILE} with text_vectors)"),
    (r"; pass image_vectors$", f"; pass {_FILE} with image_vectors"),
    (
        r"; pass (?:classifier= )?embeddings of (\d+) values instead",
        r"; pass embeddings of \1 values instead ({vectors})",
    ),
    (
        r"has another text vector; replace=True of register, or update_label, changes it",
        "has another text embedding; --replace changes it",
    ),
    (r"has the prompt None, not", "has no prompt of its own, not"),
    (r"replace=True of register, or update_label, changes (it|them)", r"--replace changes \1"),
    (r"; open it with read_only=True,? or make it writable", "; make it writable"),
    (r"pass may_correct=True", "add --may-correct"),
    (r"; pass trustvlm\.(Queries|LabelInput)\(.*\)$", "; give arrays as {vectors} FILE.npz"),
    (r"; rename one, or name it: trustvlm\.read_images\(…, \w+='…'\)", "; rename one"),
    (r"\brule='(\w+)'", r"--rule \1"),
    (r"\baccept_truncated\b", "--accept-truncated"),
    (r"\bimage_range\b", "--range"),
    (r"\bredo=True\b", "--redo"),
    (r"^labels: (no label of space .* fits )", r"--where: \1"),
)
_ARGUMENT = re.compile(r"([a-z_]+): ")
_ELSEWHERE = {"labels": "only", "truth": "label", "use_as_support": "support"}
"""Arguments of the library whose options have other names."""


def options_of(command: click.Command | None) -> dict[str, str]:
    """Name of each argument → its option, of a command or of all commands of a group."""
    if isinstance(command, click.Group):
        return {
            name: option
            for child in command.commands.values()
            for name, option in options_of(child).items()
        }
    parameters = [] if command is None else command.params
    return {
        one.name: max(one.opts, key=len)
        for one in parameters
        if isinstance(one, click.Option) and one.name
    }


def repeat_of(message: str, command: click.Command | None, words: Sequence[str]) -> str:
    """The end of a message on a value with commas, among the words of a command line, of an option
    that is to be repeated; nothing where the message is about something else."""
    for option, value in _repeatable(command, words):
        if "," in value and value in message:
            each = " ".join(f"{option} {word(one.strip())}" for one in value.split(",") if one)
            return f"; {option} takes one value, repeat it for several: {each}"
    return ""


def _repeatable(command: click.Command | None, words: Sequence[str]) -> Iterator[tuple[str, str]]:
    """(option, value) of each option of a command, or of those of a group, that may be
    repeated."""
    groups = command.commands.values() if isinstance(command, click.Group) else [command]
    options = {
        name
        for one in groups
        for parameter in (one.params if one is not None else ())
        if isinstance(parameter, click.Option) and parameter.multiple
        for name in parameter.opts
    }
    for name, value in pairwise([*words, ""]):
        option, equals, joined = name.partition("=")
        if option in options:
            yield option, joined if equals else value


def in_options(message: str, options: Mapping[str, str] | None = None) -> str:
    """`message` with options, those that the command has, in place of arguments."""
    options = options or {}
    for pattern, replacement in _PHRASES:
        message = re.sub(
            pattern, replacement.replace("{vectors}", options.get("vector", "--vectors")), message
        )
    if "none" in options:
        message = message.replace(GIVE_NONE, "give --none where no label is right")
    if (argument := _ARGUMENT.match(message)) is not None:
        name = argument[1]
        names = (name, f"{name}s", name.removesuffix("s"), _ELSEWHERE.get(name, name))
        if (option := next((options[one] for one in names if one in options), None)) is not None:
            return f"{option}: {message[argument.end() :]}"
    return message
