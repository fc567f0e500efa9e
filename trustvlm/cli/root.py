"""The command `trustvlm`: global options, the list of commands, and what an error becomes."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any, NoReturn

import click

from trustvlm import __version__
from trustvlm.cli.commands.calibration import calibrate, calibration, recalibrate
from trustvlm.cli.commands.evaluate import evaluate
from trustvlm.cli.commands.feedback import feedback, monitor
from trustvlm.cli.commands.home import backup, db, export, import_, restore, verify
from trustvlm.cli.commands.index import index
from trustvlm.cli.commands.label import label
from trustvlm.cli.commands.register import register
from trustvlm.cli.commands.score import score
from trustvlm.cli.commands.search import search
from trustvlm.cli.commands.serve import demo, key, serve
from trustvlm.cli.commands.space import space
from trustvlm.cli.commands.support import purge, support
from trustvlm.cli.printing.safe_text import shown, tolerate_any_character
from trustvlm.cli.printing.wording import in_options, options_of
from trustvlm.cli.session import Session, default_home
from trustvlm.errors import EXIT_CODES, TrustVLMError
from trustvlm.system.signals import Terminated, leaving_on_sigterm

__all__ = ["main"]

INTERRUPTED, TERMINATED = 130, 143


class Root(click.Group):
    """Turns what commands raise into exit codes; see the table in trustvlm.errors."""

    def invoke(self, ctx: click.Context) -> Any:
        try:
            return super().invoke(ctx)
        except TrustVLMError as error:
            options = options_of(main.commands.get(ctx.invoked_subcommand or ""))
            fail(ctx, in_options(str(error), options), exit_code(error))
        except Terminated:
            fail(ctx, "asked to end; what was committed stays", TERMINATED)
        except (KeyboardInterrupt, click.Abort):
            fail(ctx, "interrupted; what was committed stays", INTERRUPTED)
        except click.ClickException as error:
            vars(error)["message"] = shown(
                error.message
            )  # it may repeat an argument, such as the name of a file
            raise
        except (click.exceptions.Exit, BrokenPipeError):
            raise  # --help, and a reader that has seen enough: click knows them
        except Exception as error:
            if ctx.params.get("verbose"):
                raise
            fail(
                ctx,
                f"unexpected {type(error).__name__}: {error} (--verbose shows where; please "
                f"report it)",
                1,
            )


def fail(ctx: click.Context, message: str, code: int) -> NoReturn:
    """End with one line on stderr and an exit code."""
    click.echo(f"Error: {shown(message)}", err=True)
    ctx.exit(code)


def exit_code(error: TrustVLMError) -> int:
    """The exit code of the first kind that `error` is an instance of."""
    return next((code for kind, code in EXIT_CODES.items() if isinstance(error, kind)), 1)


class _ToStderr(logging.Handler):
    def emit(self, record: logging.LogRecord) -> None:
        click.echo(
            "\n".join(map(shown, self.format(record).split("\n"))), err=True
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
    type=click.Path(path_type=Path),
    envvar="TRUSTVLM_HOME",
    show_envvar=True,
    help="Home: the directory that holds all data.  [default: ~/.local/share/trustvlm, or "
    "trustvlm in XDG_DATA_HOME]",
)
@click.option(
    "--device",
    metavar="DEVICE",
    help="Where models and indexes run: cpu, cuda or cuda:N.  [default: cpu]",
)
@click.option(
    "--precision",
    type=click.Choice(["fp32", "bf16", "fp16"]),
    help="Arithmetic of the models.  [default: fp32]",
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
    ctx: click.Context, home: Path | None, device: str | None, precision: str | None, verbose: int
) -> None:
    """Say whether a vision-language model's label can be trusted.

    Create a label space, register labels with a few support images, and score images: label, trust,
    evidence.

    Exit codes: 0 ok, 1 unexpected, or a calibration or tuning that proves nothing, 2 usage or
    invalid input, 3 not found, 4 conflict, 5 unavailable (read-only, busy, another schema, weights
    missing), 6 'verify' found damage, 130 interrupted (Ctrl-C), 143 ended by SIGTERM.
    """
    ctx.with_resource(leaving_on_sigterm())
    tolerate_any_character()
    _set_up_logging(verbose)
    ctx.obj = Session(home or default_home(), home is not None, device, precision)


COMMANDS: tuple[click.Command, ...] = (
    *(space, register, label, support, score, search),
    *(evaluate, calibrate, recalibrate, calibration, feedback, monitor),
    *(index, db, backup, restore, export, import_, verify, purge, serve, key, demo),
)
for command in COMMANDS:
    main.add_command(command)
