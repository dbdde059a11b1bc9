"""`otel-agents monitor`, `events` and `verify`: the same from either store and a server."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest

from otel_agents.store import Batch
from tests.databases import Cluster, postgresql

from .conftest import Shell
from .filled import EVIL, degraded, healthy, worker
from .serving import Serving

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

# One worker has all of them, and fills one store of each kind.
pytestmark = pytest.mark.xdist_group("cli-monitor")

__all__ = ["postgresql"]
SHOWN = r"a\x1b]0;owned\x07\u202eexe"


class Asked:
    """A filled store, asked from its workspace or from elsewhere through a server."""

    def __init__(self, shell: Shell, *server: str, filled: Shell | None = None) -> None:
        self.shell = shell
        self.server = server
        self.filled = filled or shell

    def run(self, *arguments: str) -> Any:
        """Run a command."""
        return self.shell.run(*arguments, *self.server)

    def data(self, *arguments: str) -> Any:
        """Return the data of a command's envelope."""
        return self.shell.data(*arguments, *self.server)

    def error(self, *arguments: str) -> tuple[int, Any]:
        """Return the exit code and the error of a command's envelope."""
        done = self.run(*arguments, "--json")
        assert done.stderr.count("\n") == 1, done.stderr
        return done.returncode, json.loads(done.stdout)["error"]


@pytest.fixture(scope="module")
def filled(tmp_path_factory: pytest.TempPathFactory) -> Shell:
    """Give a workspace in which all is well."""
    shell = Shell(tmp_path_factory.mktemp("filled"))
    assert shell.run("init").returncode == 0
    shell.put(healthy())
    return shell


@pytest.fixture(scope="module")
def serving(filled: Shell) -> Iterator[Serving]:
    """Give a server of it."""
    with Serving(filled) as found:
        yield found


@pytest.fixture(scope="module")
def on_postgresql(postgresql: Cluster, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Shell]:
    """Give a directory whose store is the same, on PostgreSQL."""
    shell = Shell(tmp_path_factory.mktemp("postgresql"))
    (shell.path / ".otel-agents").mkdir()
    shell.environment["OTEL_AGENTS_STORE"] = url = postgresql.make()
    shell.put(healthy())
    yield shell
    postgresql.drop(url)


@pytest.fixture(params=["workspace", "server", "postgresql"])
def asked(request: pytest.FixtureRequest, filled: Shell, tmp_path: Path) -> Asked:
    """Ask from the workspace, and through a server from a directory without any."""
    if request.param == "workspace":
        return Asked(filled)
    if request.param == "postgresql":
        return Asked(request.getfixturevalue("on_postgresql"))
    serving: Serving = request.getfixturevalue("serving")
    return Asked(Shell(tmp_path), "--server", serving.url, filled=filled)


# ---------------------------------------------------------------------- monitor


def test_agents_are_listed_the_latest_first(asked: Asked) -> None:
    """All of them; and those of a state or a run."""
    every = [each["id"] for each in asked.data("monitor", "list")]
    failed = asked.data("monitor", "list", "--status", "failed")
    of_run = asked.data("monitor", "list", "--run-id", "run-1", "--status", "completed")

    assert every == [
        "writer-3", "writer-2", "writer-1",
        "run-1-review-agent", "run-1-build-agent", "run-1-plan-agent",
    ]  # fmt: skip
    assert [(each["id"], each["status"]) for each in failed] == [
        ("writer-2", "failed"), ("writer-1", "failed"),
    ]  # fmt: skip
    assert {each["run_id"] for each in of_run} == {"run-1"}
    assert len(of_run) == 3


def test_a_list_goes_on_where_it_ended(asked: Asked) -> None:
    """Until there is no cursor; together the pages are the whole."""
    found: list[str] = []
    cursor: list[str] = []
    while True:
        done = asked.run("monitor", "list", "--limit", "4", "--json", *cursor)
        answer = json.loads(done.stdout)
        found += [each["id"] for each in answer["data"]]
        if answer["meta"]["next_cursor"] is None:
            break
        cursor = ["--cursor", answer["meta"]["next_cursor"]]

    assert found == [each["id"] for each in asked.data("monitor", "list")]
    assert "go on with --cursor" in asked.run("monitor", "list", "--limit", "4").stdout


@pytest.mark.parametrize(
    ("agent_id", "status", "code"),
    [("run-1-plan-agent", "completed", 0), ("writer-1", "failed", 1), ("writer-3", "cancelled", 3)],
)
def test_one_attempt_tells_how_it_went(asked: Asked, agent_id: str, status: str, code: int) -> None:
    """By its exit code too, with JSON and without."""
    plain, as_json = (asked.run("monitor", "status", agent_id, *more) for more in ((), ("--json",)))
    data = json.loads(as_json.stdout)["data"]

    assert (plain.returncode, as_json.returncode) == (code, code)
    assert (data["id"], data["status"]) == (agent_id, status)
    assert status in plain.stdout
    assert plain.stderr == ""


def test_a_name_lists_the_attempts(asked: Asked) -> None:
    """The latest first, as an array."""
    data = asked.data("monitor", "status", "writer")

    assert [(each["id"], each["attempt"]) for each in data] == [
        ("writer-3", 3), ("writer-2", 2), ("writer-1", 1),
    ]  # fmt: skip
    assert asked.run("monitor", "status", "writer").stdout.count("writer-") == 3


def test_without_an_id_the_agents_of_the_latest_run_are_shown(asked: Asked) -> None:
    """And their bills."""
    assert [each["id"] for each in asked.data("monitor", "status")] == [
        "writer-3", "writer-2", "writer-1",
    ]  # fmt: skip
    bills = asked.data("monitor", "telemetry")
    assert [each["usage"]["total_tokens"] for each in bills] == [0, 0, 1050]
    assert "3 agents · 1,050 tokens · $0.0100" in asked.run("monitor", "telemetry").stdout


def test_an_attempt_has_a_bill_by_model(asked: Asked) -> None:
    """With what the cache did."""
    data = asked.data("monitor", "telemetry", "writer-1")
    shown = asked.run("monitor", "telemetry", "writer-1").stdout

    assert list(data) == [
        "agent_id", "usage", "cost_usd", "unpriced_tokens", "by_model", "cache",
    ]  # fmt: skip
    assert [(each["provider"], each["model"]) for each in data["by_model"]] == [
        ("openai", "gpt-5"),
    ]  # fmt: skip
    assert (data["cost_usd"], data["cache"]["hit_ratio"]) == (0.01, 0.4)
    assert "400 read · 40% of the input" in shown
    assert "gpt-5" in shown


@pytest.mark.parametrize("command", ["status", "telemetry"])
@pytest.mark.parametrize(
    "agent_id", ["nobody", "../../run-1", "..", "%2e%2e", "a/b?c=d#e", "\x1b[2J"]
)
def test_an_agent_that_is_not_there_is_named(asked: Asked, command: str, agent_id: str) -> None:
    """Whatever its name; exit code 4."""
    code, error = asked.error("monitor", command, agent_id)

    assert (code, error["code"]) == (4, "not_found")
    assert agent_id in error["message"]


# ---------------------------------------------------------------------- events


def test_events_are_filtered(asked: Asked) -> None:
    """By layer, reason, entity, task and time."""
    every = asked.data("events")
    counts = [
        len(asked.data("events", *arguments))
        for arguments in (
            ("--layer", "provider_runtime"),
            ("--reason-code", "timeout"),
            ("--entity-id", "search"),
            ("--entity-id", "nothing"),
            ("--task-id", "task-3"),
            ("--from", every[2]["occurred_at"]),
            ("--to", every[2]["occurred_at"]),
            ("--limit", "3"),
        )
    ]

    assert [each["task_id"] for each in every] == [f"task-{number}" for number in range(8, 0, -1)]
    assert counts == [1, 4, 8, 0, 1, 3, 5, 3]
    assert every[0]["metadata"] == {"fallback": "gpt-5-mini", "note": EVIL}


def test_events_are_a_table_for_people(asked: Asked) -> None:
    """Where nothing fits it is said."""
    shown = asked.run("events").stdout

    assert shown.count("tool_runtime") == 7
    assert f"fallback=gpt-5-mini note={SHOWN}" in shown
    assert asked.run("events", "--task-id", "x").stdout.startswith("No runtime event")


@pytest.mark.parametrize(
    ("arguments", "parameter"),
    [
        (("events", "--layer", "bogus"), "layer"),
        (("events", "--from", "yesterday"), "from"),
        (("events", "--cursor", "bogus"), "cursor"),
        (("events", "--follow", "--to", "2026-01-01T00:00:00Z"), "to"),
        (("monitor", "list", "--cursor", "!"), "cursor"),
    ],
)
def test_a_filter_that_cannot_be_used_is_named(
    asked: Asked, arguments: tuple[str, ...], parameter: str
) -> None:
    """Exit code 2, and the parameter in the details."""
    code, error = asked.error(*arguments)

    assert (code, error["code"]) == (2, "invalid_input")
    assert error["details"] == {"parameter": parameter}


@pytest.mark.parametrize(
    "arguments",
    [("events", "--limit", "0"), ("monitor", "list", "--limit", "501"),
     ("monitor", "list", "--status", "bogus"), ("logs", "x", "--lines", "-1")],
)  # fmt: skip
def test_an_option_out_of_bounds_is_wrong_usage(filled: Shell, arguments: tuple[str, ...]) -> None:
    """Before anything is asked."""
    done = filled.run(*arguments)

    assert (done.returncode, done.stdout, done.stderr.count("\n")) == (2, "", 1)


# ---------------------------------------------------------------------- verify


def test_a_healthy_system_is_called_so(asked: Asked) -> None:
    """Exit code 0, and all that was looked at."""
    # Those of the filled store may be silent for too long by now.
    asked.filled.put(Batch(signals=[worker("w-1"), worker("w-2", "IDLE", at=2)]))
    shown, data = asked.run("verify"), asked.data("verify")

    assert shown.returncode == 0
    assert (data["healthy"], data["problems"], data["stuck"]) == (True, [], 0)
    assert [each["worker_id"] for each in data["workers"]] == ["w-1", "w-2"]
    assert [(each["name"], each["state"]) for each in data["breakers"]] == [("search", "closed")]
    assert (data["queue"]["PENDING"], data["queue"]["RUNNING"]) == (1, 1)
    assert [(each["provider"], each["model"]) for each in data["routes"]] == [("openai", "gpt-5")]
    assert len(data["events"]) == 8
    assert shown.stdout.startswith("✓ healthy")
    for word in ("w-1", "IDLE", "search", "closed", "gpt-5", "1 PENDING", "rate_limited"):
        assert word in shown.stdout


@pytest.mark.parametrize("through", ["workspace", "server"])
def test_what_is_wrong_comes_first(shell: Shell, through: str) -> None:
    """A sentence each, and exit code 1."""
    shell.put(degraded())
    if through == "workspace":
        asked = Asked(shell)
        done, data = asked.run("verify"), asked.run("verify", "--json")
    else:
        with Serving(shell) as serving:
            asked = Asked(shell, "--server", serving.url)
            done, data = asked.run("verify"), asked.run("verify", "--json")
    problems = json.loads(data.stdout)["data"]["problems"]

    assert (done.returncode, data.returncode, done.stderr) == (1, 1, "")
    assert done.stdout.startswith(f"✗ unhealthy: {len(problems)} problems.\n  ! ")
    assert len(problems) == 4
    for name in ("w-1", "w-2", "search", "t-1"):
        assert any(name in problem for problem in problems)
    assert SHOWN in done.stdout


# ---------------------------------------------------------------------- what is shown


@pytest.mark.parametrize(
    "arguments",
    [("monitor", "list"), ("monitor", "status", "writer-1"), ("monitor", "status", EVIL),
     ("events",), ("verify",), ("status",)],
)  # fmt: skip
def test_names_cannot_command_the_terminal(asked: Asked, arguments: tuple[str, ...]) -> None:
    """Escape sequences and marks that turn text around are written out, in errors too."""
    done = asked.run(*arguments)

    assert {char for char in done.stdout + done.stderr if not char.isprintable()} == {"\n"}


def test_a_terminal_without_unicode_gets_ascii(filled: Shell) -> None:
    """Frames and signs too."""
    for command in (("monitor", "list"), ("verify",), ("events",)):
        done = filled.run(*command, PYTHONUTF8="0", PYTHONIOENCODING="ascii")
        assert done.stdout.isascii()
        assert "\\u" not in done.stdout.replace("\\u202eexe", "")


def test_status_reads_a_run_from_a_server(asked: Asked) -> None:
    """The latest, a named one, and one that is not there."""
    latest, named = asked.run("status"), asked.data("status", "--run-id", "run-1")
    code, error = asked.error("status", "--run-id", "run-9")

    assert latest.returncode == 1
    assert latest.stdout.startswith("press  ✗ failed")
    assert (named["run_id"], named["cost_usd"], len(named["phases"])) == ("run-1", 0.75, 3)
    assert (code, error["code"]) == (4, "not_found")
