"""The entry point: finds the command, runs it, and turns whatever happens into an exit code.

0 fine, 1 what was asked about failed, 2 wrong usage or input, 3 lost, cancelled or interrupted,
4 not found.
"""

from __future__ import annotations

import os
import sys
from importlib import import_module
from typing import TYPE_CHECKING, Annotated, Any, Final, NoReturn

import typer
from typer.core import TyperGroup

from otel_agents.cli.envelope import FAILED, INTERRUPTED, MISUSED, OK, fail, fail_with
from otel_agents.errors import OtelAgentsError

if TYPE_CHECKING:
    from collections.abc import Sequence

# Each command is the function `command` of the module of its name.
COMMANDS: Final = ("init", "status")
_TYPERS_INTERRUPTED: Final = 130


class Commands(TyperGroup):
    """The commands, of which only the one that is asked for is imported."""

    def list_commands(self, ctx: Any) -> list[str]:  # noqa: ANN401, ARG002 - Typer's own type
        """Return the names of the commands."""
        return list(COMMANDS)

    def get_command(self, ctx: Any, cmd_name: str) -> Any:  # noqa: ANN401, ARG002 - as above
        """Return a command, or None where there is none of that name."""
        if cmd_name not in COMMANDS:
            return None
        module = import_module(f"otel_agents.cli.{cmd_name}")
        single = typer.Typer(add_completion=False, rich_markup_mode=None)
        single.command(cmd_name)(module.command)
        return typer.main.get_command(single)


app = typer.Typer(cls=Commands, add_completion=False, rich_markup_mode=None, no_args_is_help=True)


def _version(asked: bool) -> None:  # noqa: FBT001 - Typer calls it so
    if asked:
        from otel_agents.version import __version__  # noqa: PLC0415 - only where asked for

        sys.stdout.write(f"otel-agents {__version__}\n")
        raise typer.Exit


@app.callback()
def options(
    version: Annotated[
        bool,
        typer.Option("--version", callback=_version, is_eager=True, help="Print the version."),
    ] = False,
) -> None:
    """See what multi-agent programs do: runs, phases, agents, tokens and cost.

    Exit codes: 0 fine, 1 what was asked about failed, 2 wrong usage, 3 lost, cancelled or
    interrupted, 4 not found.
    """


def run(arguments: Sequence[str]) -> int:
    """Run one command line and return its exit code."""
    as_json = "--json" in arguments
    command = typer.main.get_command(app)
    try:
        code = command.main(list(arguments), prog_name="otel-agents", standalone_mode=False)
        sys.stdout.flush()
    except OtelAgentsError as error:
        return fail_with(error, as_json=as_json)
    except typer.TyperException as error:
        return fail("invalid_input", _sentence(error), MISUSED, as_json=as_json)
    except (KeyboardInterrupt, typer.Abort):
        return INTERRUPTED
    except BrokenPipeError:
        # Whoever read us has gone. Python would complain once more when it flushes at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return INTERRUPTED
    except OSError as error:
        return fail("unavailable", str(error), FAILED, as_json=as_json)
    except Exception as error:  # noqa: BLE001 - a bug of ours: said in full, and in the envelope
        sys.excepthook(type(error), error, error.__traceback__)
        return fail("internal", f"this is a bug of ours: {error!r}", FAILED, as_json=as_json)
    if code == _TYPERS_INTERRUPTED:
        return INTERRUPTED
    return code if isinstance(code, int) else OK


def _sentence(error: Exception) -> str:
    describe = getattr(error, "format_message", None)
    return str(describe() if describe is not None else error) + " See `otel-agents --help`."


def main() -> NoReturn:
    """Run the command line of this process."""
    for stream in (sys.stdout, sys.stderr):
        # A terminal that cannot show a character gets its number rather than a crash.
        stream.reconfigure(errors="backslashreplace")  # type: ignore[union-attr]
    sys.exit(run(sys.argv[1:]))
