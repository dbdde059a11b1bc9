"""The entry point: finds the command, runs it, and turns whatever happens into an exit code.

Click rather than Typer: since 0.29 Typer imports pydantic for every command's parameters, which
alone takes half of what `otel-agents status` may take.
"""

from __future__ import annotations

import os
import sys
from importlib import import_module
from io import TextIOWrapper
from typing import TYPE_CHECKING, Any, Final, NoReturn

import click

from otel_agents.cli.envelope import FAILED, INTERRUPTED, MISUSED, OK, fail, fail_with
from otel_agents.errors import OtelAgentsError
from otel_agents.version import __version__

if TYPE_CHECKING:
    from collections.abc import Sequence

# Each command is `command` in the module of its name.
COMMANDS: Final = (
    "init", "serve", "status", "monitor", "events", "logs", "verify", "alerts", "hitl",
    "checkpoint", "spool", "doctor", "demo", "stack",
)  # fmt: skip


# What a group of commands raises that is called alone; before Click 8.2 it prints its help itself.
_ALONE: Final[Any] = getattr(click.exceptions, "NoArgsIsHelpError", ())


class _GoneError(Exception):
    """Whoever read our answer has gone. Click, and Rich too, would make exit code 1 of it."""


class _Commands(click.Group):
    """The commands, of which only the one that is asked for is imported."""

    def invoke(self, ctx: click.Context) -> Any:
        try:
            return super().invoke(ctx)
        except BrokenPipeError as error:
            raise _GoneError from error
        except SystemExit as error:
            if isinstance(error.__context__, BrokenPipeError):
                raise _GoneError from error
            raise

    def list_commands(self, ctx: click.Context) -> list[str]:  # noqa: ARG002 - Click's signature
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:  # noqa: ARG002
        if cmd_name not in COMMANDS:
            return None
        found = import_module(f"otel_agents.cli.{cmd_name}").command
        return found if isinstance(found, click.Command) else None


@click.group(
    cls=_Commands,
    invoke_without_command=True,
    context_settings={"help_option_names": ["-h", "--help"]},
)
@click.version_option(__version__, prog_name="otel-agents", message="%(prog)s %(version)s")
@click.pass_context
def app(context: click.Context) -> None:
    """See what multi-agent programs do: runs, phases, agents, tokens and cost.

    Every command takes --json and then prints {"data", "error", "meta"}.

    Exit codes: 0 fine, 1 what was asked about failed, 2 wrong usage or input,
    3 lost, cancelled or interrupted, 4 not found.
    """
    if context.invoked_subcommand is None:
        click.echo(context.get_help(), err=True)
        context.exit(MISUSED)


def run(arguments: Sequence[str]) -> int:
    """Run one command line and return its exit code."""
    as_json = "--json" in arguments
    try:
        code = app.main(list(arguments), prog_name="otel-agents", standalone_mode=False)
        sys.stdout.flush()
    except OtelAgentsError as error:
        return fail_with(error, as_json=as_json)
    except click.UsageError as error:
        if isinstance(error, _ALONE):
            click.echo(error.format_message(), err=True)
            return MISUSED
        known = error.ctx.command_path if error.ctx is not None else "otel-agents"
        message = f"{error.format_message()} See `{known} --help`."
        return fail("invalid_input", message, MISUSED, as_json=as_json)
    except (KeyboardInterrupt, click.Abort):
        return INTERRUPTED
    except (BrokenPipeError, _GoneError):
        # Python would complain once more when it flushes at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return INTERRUPTED
    except (OSError, click.ClickException) as error:
        return fail("unavailable", str(error), FAILED, as_json=as_json)
    except Exception as error:  # noqa: BLE001 - a bug of ours: said in full, and in the envelope
        sys.excepthook(type(error), error, error.__traceback__)
        return fail("internal", f"this is a bug of ours: {error!r}", FAILED, as_json=as_json)
    return code if isinstance(code, int) else OK


def main() -> NoReturn:
    """Run the command line of this process."""
    for stream in (sys.stdout, sys.stderr):
        # A terminal that cannot show a character gets its number rather than a crash.
        if isinstance(stream, TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")
    code = run(sys.argv[1:])
    try:
        sys.stdout.flush()
        sys.stderr.flush()
    finally:
        # Taking ten thousand records apart one by one takes 15 ms of the time a user waits.
        os._exit(code)
