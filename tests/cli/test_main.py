"""The command line as a whole: help, wrong usage, and errors as one sentence and an exit code."""

from __future__ import annotations

import json
import re
import subprocess
import sys

import click
import pytest

from otel_agents.cli.envelope import envelope
from otel_agents.cli.main import COMMANDS, app
from otel_agents.version import __version__

from .conftest import COMMAND, Shell


def test_the_version(bare: Shell) -> None:
    """One line, as other tools print it."""
    done = bare.run("--version")

    assert (done.stdout, done.returncode) == (f"otel-agents {__version__}\n", 0)


def test_help_names_every_command(bare: Shell) -> None:
    """Asked for it is an answer; without a command it is how the command line is used."""
    asked, bare_call = bare.run("--help"), bare.run()
    for name in COMMANDS:
        assert re.search(rf"^  {name} ", asked.stdout, re.MULTILINE)

    assert (asked.returncode, bare_call.returncode) == (0, 2)
    assert (asked.stdout, bare_call.stdout) == (bare_call.stderr, "")


@pytest.mark.parametrize(
    ("arguments", "named"),
    [(["stats"], "'stats'"), (["status", "--bogus"], "'--bogus'"), (["status", "--run-id"], "id")],
)
def test_wrong_usage_is_one_sentence_and_exit_code_two(
    bare: Shell, arguments: list[str], named: str
) -> None:
    """It names what is wrong and where to look, on stderr only."""
    done = bare.run(*arguments)

    assert (done.returncode, done.stdout, done.stderr.count("\n")) == (2, "", 1)
    assert named in done.stderr
    assert "--help`" in done.stderr


def test_wrong_usage_is_in_the_envelope_too(bare: Shell) -> None:
    """A program that asked for JSON gets JSON."""
    done = bare.run("status", "--bogus", "--json")
    found = json.loads(done.stdout)

    assert (done.returncode, found["data"], found["error"]["code"]) == (2, None, "invalid_input")
    assert found["error"]["message"] in done.stderr
    assert found["error"]["details"] == {}


def test_the_envelope_has_data_error_and_meta() -> None:
    """With a time in UTC and an id that no other answer has."""
    first, second = (json.loads(envelope({"a": 1})) for _ in range(2))

    assert list(first) == ["data", "error", "meta"]
    assert (first["data"], first["error"]) == ({"a": 1}, None)
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z", first["meta"]["timestamp"])
    assert first["meta"]["request_id"] != second["meta"]["request_id"]


def test_json_holds_nothing_that_a_terminal_obeys() -> None:
    """Controls and marks of direction are escaped, and come back as they were."""
    text = "a\x1b[2J\x7f\x9b31m\u202etxt.exe\u2066\u2028\ufeff é 漢"
    line = envelope(text)

    assert json.loads(line)["data"] == text
    assert line.isprintable()


def test_a_reader_that_goes_away_is_no_error(shell: Shell) -> None:
    """`otel-agents status --help | true` ends without a complaint."""
    with subprocess.Popen(  # noqa: S603 - our own command
        [*COMMAND, "--help"],
        cwd=shell.path, env=shell.environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
    ) as process:  # fmt: skip
        assert process.stdout is not None
        process.stdout.close()
        assert process.stderr is not None
        assert process.stderr.read() == b""


def test_only_the_asked_command_is_imported(bare: Shell) -> None:
    """The JSON of `status` loads neither Rich nor OpenTelemetry nor another command."""
    code = (
        "import sys; from otel_agents.cli.main import run; run(['status', '--json']);"
        "print(*sorted(sys.modules), file=sys.stderr)"
    )
    done = subprocess.run(  # noqa: S603 - our own command
        [sys.executable, "-c", code],
        cwd=bare.path, env=bare.environment, capture_output=True, text=True, check=True,
    )  # fmt: skip
    loaded = {name.split(".")[0] for name in done.stderr.split()}

    assert "otel_agents.cli.status" in done.stderr
    assert loaded & {"rich", "opentelemetry", "typer", "pydantic", "asyncio"} == set()
    assert "otel_agents.cli.init" not in done.stderr


def every_command() -> list[tuple[str, click.Command]]:
    """Return all commands by what is typed, those of groups too."""
    found: list[tuple[str, click.Command]] = []
    context = click.Context(app, info_name="otel-agents")
    for name in COMMANDS:
        command = app.get_command(context, name)
        assert command is not None
        if isinstance(command, click.Group):
            found += [(f"{name} {each}", inner) for each, inner in command.commands.items()]
        else:
            found.append((name, command))
    return found


@pytest.mark.parametrize(("name", "command"), every_command(), ids=lambda value: str(value)[:20])
def test_commands_have_the_options_that_all_have(name: str, command: click.Command) -> None:
    """Help for each option, --json, and --server where something is read."""
    options = {option for parameter in command.params for option in parameter.opts}

    assert command.help
    assert all(
        getattr(parameter, "help", None)
        for parameter in command.params
        if parameter.param_type_name == "option"
    )
    if name != "demo":  # it shows what other programs print
        assert "--json" in options
    # What a machine is set up with, what waits on it to be sent, and a git repository, are here.
    here = {"init", "serve", "doctor", "demo", "stack", "checkpoint", "spool"}
    if name.partition(" ")[0] not in here:
        assert "--server" in options


def test_serving_is_imported_by_no_other_command() -> None:
    """Nor is the store, by what only asks a server."""
    code = (
        "import sys; from otel_agents.cli.main import run\n"
        "for line in ('status', 'monitor list', 'events', 'verify', 'logs'):\n"
        "    run([*line.split(), '--json', '--server', 'http://127.0.0.1:9'])\n"
        "print(*sorted(sys.modules), file=sys.stderr)"
    )
    done = subprocess.run(  # noqa: S603 - our own command
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    )
    loaded = done.stderr.splitlines()[-1].split()

    assert "otel_agents.cli.remote" in loaded
    heavy = {"rich", "fastapi", "uvicorn", "grpc", "alembic", "sqlalchemy", "opentelemetry"}
    assert {name.split(".")[0] for name in loaded} & heavy == set()
    assert not any(name.startswith(("otel_agents.store", "otel_agents.server")) for name in loaded)
