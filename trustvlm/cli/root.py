"""The command `trustvlm`: global options, the list of commands, and what an error becomes."""

from __future__ import annotations

import logging
import sys
from pathlib import Path
from typing import Any, NoReturn

import click

from trustvlm import __version__
from trustvlm.cli.commands.bulk import bulk
from trustvlm.cli.commands.calibration import calibrate, calibration, recalibrate
from trustvlm.cli.commands.cleaning import audit, propose
from trustvlm.cli.commands.evaluate import evaluate
from trustvlm.cli.commands.feedback import feedback, monitor
from trustvlm.cli.commands.home import backup, db, export, import_, restore, verify
from trustvlm.cli.commands.index import index
from trustvlm.cli.commands.label import label
from trustvlm.cli.commands.register import register
from trustvlm.cli.commands.review import review
from trustvlm.cli.commands.score import score
from trustvlm.cli.commands.search import map_, search
from trustvlm.cli.commands.serve import demo, key, serve
from trustvlm.cli.commands.space import space
from trustvlm.cli.commands.start import start
from trustvlm.cli.commands.support import purge, support
from trustvlm.cli.completion import completion
from trustvlm.cli.printing.examples import show_examples
from trustvlm.cli.printing.left_out import left_out
from trustvlm.cli.printing.safe_text import one_line, tolerate_any_character
from trustvlm.cli.printing.streams import UnwritableOutput, telling_outputs
from trustvlm.cli.printing.suggested import placed
from trustvlm.cli.printing.wording import in_options, options_of, repeat_of
from trustvlm.cli.reading.options import FILE, Choice
from trustvlm.cli.session import Session, refuse_password
from trustvlm.errors import EXIT_CODES, LEFT_OUT, TrustVLMError, Unavailable
from trustvlm.system.files.default_home import default_home
from trustvlm.system.signals import Terminated, leaving_on_sigterm
from trustvlm.types.messages.counts import count

INTERRUPTED, TERMINATED = 130, 143


class Root(click.Group):
    """Turns what commands raise into exit codes; see the table in trustvlm.errors."""

    def main(self, *args: Any, **kwargs: Any) -> Any:
        with telling_outputs():
            try:
                return super().main(*args, **kwargs)
            except UnwritableOutput as error:  # also of --help, before anything is invoked
                click.echo(f"Error: {error.strerror}; make room, or send it elsewhere", err=True)
                sys.exit(EXIT_CODES[Unavailable])

    def invoke(self, ctx: click.Context) -> Any:
        words = list(ctx.args)  # which are taken away while they are read
        try:
            answer = super().invoke(ctx)
        except TrustVLMError as error:
            called = main.commands.get(ctx.invoked_subcommand or "")
            message = in_options(str(error), options_of(called))
            fail(ctx, message + repeat_of(message, called, words), exit_code(error))
        except Terminated:
            fail(ctx, "ended by a signal; what was committed stays", TERMINATED)
        except (KeyboardInterrupt, click.Abort):
            fail(ctx, "interrupted; what was committed stays", INTERRUPTED)
        except click.ClickException as error:
            # It may repeat an argument, such as the name of a file.
            message = one_line(placed(error.message))
            if before := _stands_before(self, ctx, error):
                message += before
                vars(error)["possibilities"] = None
            called = main.commands.get(ctx.invoked_subcommand or "")
            if repeat := repeat_of(message, called, words):
                message = message.removesuffix(".") + repeat
            vars(error)["message"] = message
            raise
        except (click.exceptions.Exit, BrokenPipeError, UnwritableOutput):
            raise  # --help, a reader that has seen enough, and what `main` says
        except Exception as error:
            if ctx.params.get("verbose"):
                raise
            fail(
                ctx,
                f"unexpected {type(error).__name__}: {error} (--verbose shows where; please "
                f"report it)",
                1,
            )
        if (number := left_out(ctx)) and ctx.params.get("strict"):
            inputs = count(number, "input")
            fail(ctx, f"--strict: {inputs} could not be read; the rest is done", LEFT_OUT)
        return answer


def fail(ctx: click.Context, message: str, code: int) -> NoReturn:
    """End with one line on stderr and an exit code."""
    click.echo(f"Error: {one_line(placed(message))}", err=True)
    ctx.exit(code)


def _stands_before(root: click.Group, ctx: click.Context, error: click.ClickException) -> str:
    """The end of a message on an option that a command does not have, but trustvlm has."""
    if not isinstance(error, click.NoSuchOption) or error.ctx in (None, ctx):
        return ""
    if all(error.option_name not in one.opts for one in root.params):
        return ""
    called = ctx.invoked_subcommand
    return f" It stands before the command: trustvlm {error.option_name} … {called}"


def exit_code(error: TrustVLMError) -> int:
    """The exit code of the first kind that `error` is an instance of."""
    return next((code for kind, code in EXIT_CODES.items() if isinstance(error, kind)), 1)


class _ToStderr(logging.Handler):
    def emit(self, record: logging.LogRecord) -> None:
        click.echo(
            "\n".join(map(one_line, placed(self.format(record)).split("\n"))), err=True
        )  # a traceback has lines


def _set_up_logging(verbose: int) -> None:
    logger = logging.getLogger("trustvlm")
    logger.setLevel([logging.WARNING, logging.INFO, logging.DEBUG][min(verbose, 2)])
    if not any(isinstance(handler, _ToStderr) for handler in logger.handlers):
        handler = _ToStderr()
        handler.setFormatter(logging.Formatter("%(levelname)s: %(message)s"))
        logger.addHandler(handler)


@click.group(
    cls=Root,
    context_settings={
        "help_option_names": ["-h", "--help"],
        "max_content_width": 110,
        "show_default": True,
    },
)
@click.option(
    "--home",
    type=FILE,
    envvar="TRUSTVLM_HOME",
    show_envvar=True,
    help="Home: the directory that holds all data.  [default: ~/.local/share/trustvlm, or "
    "trustvlm in XDG_DATA_HOME]",
)
@click.option(
    "--database-url",
    metavar="URL",
    envvar="TRUSTVLM_DATABASE_URL",
    show_envvar=True,
    help="Where the catalog is, if not in the home: postgresql://user@host/database, without a "
    "password.",
)
@click.option(
    "--url",
    metavar="URL",
    envvar="TRUSTVLM_URL",
    show_envvar=True,
    help="Send the command to the service that 'trustvlm serve' runs there, in place of opening a "
    "home; its key is that of TRUSTVLM_KEY. Images are sent as files.",
)
@click.option(
    "--device",
    metavar="DEVICE",
    help="Where models and indexes run: cpu, cuda or cuda:N.  [default: cpu]",
)
@click.option(
    "--precision",
    type=Choice(["fp32", "bf16", "fp16"]),
    help="Arithmetic of the models.  [default: fp32]",
)
@click.option(
    "-q",
    "--quiet",
    is_flag=True,
    help="No notes and no progress bars: on stderr only warnings and errors, for cron.",
)
@click.option(
    "--strict",
    is_flag=True,
    help="Exit code 7 where images, rows or folders could not be read; without it they are named "
    "on stderr, and the exit code is 0.",
)
@click.option(
    "-v",
    "--verbose",
    count=True,
    show_default=False,
    help="Log what is done (-vv: in detail) and show tracebacks.",
)
@click.version_option(__version__, prog_name="trustvlm")
@click.pass_context
def main(
    ctx: click.Context,
    home: Path | None,
    database_url: str | None,
    url: str | None,
    device: str | None,
    precision: str | None,
    quiet: bool,
    strict: bool,
    verbose: int,
) -> None:
    """Say whether a vision-language model's label can be trusted.

    Create a label space, register labels with a few support images, and score images: label, trust,
    evidence. 'trustvlm start FOLDER' does all of it, and says what can be accepted. 'trustvlm
    COMMAND --help' shows an example.

    Exit codes: 0 ok, 1 unexpected, or a calibration or tuning that proves nothing, 2 usage or
    invalid input, 3 not found, 4 conflict, 5 unavailable (read-only, busy, another schema, weights
    missing, output that cannot be written), 6 'verify' found damage, 7 what --strict says, 130
    interrupted (Ctrl-C), 143 ended by SIGTERM.
    """
    if quiet and verbose:
        raise click.UsageError("Expected --quiet or --verbose, got both together.")
    ctx.with_resource(leaving_on_sigterm())
    tolerate_any_character()
    _set_up_logging(verbose)
    home, url = _place(ctx, home, url)
    if url is not None and (device or precision):
        raise click.UsageError(
            "--url: the service runs the models; leave out --device and --precision."
        )
    if database_url is not None and _typed(ctx, "database_url"):
        refuse_password("--database-url", database_url)
    options = [one for one in ("home", "database_url", "url") if _typed(ctx, one)]
    typed = tuple((f"--{one.replace('_', '-')}", str(ctx.params[one])) for one in options)
    place = (home or default_home(), home is not None, database_url)
    ctx.obj = Session(*place, url, device, precision, typed)


def _place(
    ctx: click.Context, home: Path | None, url: str | None
) -> tuple[Path | None, str | None]:
    """The home or the address that is meant: what stands on the command line goes before the
    environment. Raises click.UsageError for both."""
    if home is None or url is None:
        return home, url
    typed = [name for name in ("home", "url") if _typed(ctx, name)]
    if len(typed) == 1:
        return (home, None) if typed == ["home"] else (None, url)
    raise click.UsageError(
        "Expected --home (TRUSTVLM_HOME) or --url (TRUSTVLM_URL); got both together."
    )


def _typed(ctx: click.Context, name: str) -> bool:
    return ctx.get_parameter_source(name) is click.core.ParameterSource.COMMANDLINE


COMMANDS: tuple[click.Command, ...] = (
    *(start, space, register, label, support, audit, propose, score, bulk, search, map_),
    *(evaluate, calibrate, recalibrate, calibration, feedback, review, monitor),
    *(index, db, backup, restore, export, import_, verify, purge, serve, key, demo),
    completion,
)
for command in COMMANDS:
    main.add_command(command)
show_examples(main)
