"""Commands that messages suggest, completed by the home or the service that was typed, so that they
run as they are copied."""

from __future__ import annotations

import re
from collections.abc import Iterator

import click

from trustvlm.cli.session import Session, works_on_home
from trustvlm.types.messages.commands import IN_SENTENCE, command, word

_WORD = re.compile(r"[a-z]+")


def placed(message: str) -> str:
    """`message` with --home or --url in each command between apostrophes, where one was typed."""
    return IN_SENTENCE.sub(lambda match: f"trustvlm {_place(message[match.end() :])}", message)


def here(verb: str, *names: object, files: str = "", options: str = "") -> str:
    """A command of :func:`trustvlm.types.messages.commands.command`, for a line of its own."""
    return completed(command(verb, *names, files=files, options=options))


def completed(text: str) -> str:
    """The command `text` with --home or --url, where one was typed."""
    words = text.removeprefix("trustvlm ")
    return f"trustvlm {_place(words)}{words}"


def _place(words: str) -> str:
    """The options of the command that begins with these words which say where it runs, as they were
    typed; each with a blank behind it."""
    context = click.get_current_context(silent=True)
    session = None if context is None else context.find_root().obj
    if context is None or not isinstance(session, Session):
        return ""
    called = list(_called(context.find_root().command, words))
    if not called or called[-1].name in ("demo", "completion"):
        return ""
    if session.url is not None and works_on_home(called[-1]):
        return "--home HOME "  # that of the service, where the command is to be run
    return "".join(f"{option} {word(value)} " for option, value in session.typed)


def _called(group: click.Command, words: str) -> Iterator[click.Command]:
    """The command that these words call, after the groups that it is in."""
    for match in _WORD.finditer(words):
        if not isinstance(group, click.Group) or (command := group.commands.get(match[0])) is None:
            return
        group = command
        yield command
