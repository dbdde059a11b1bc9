"""A real program in a workspace, started with no line changed, and what the commands tell of it."""

from __future__ import annotations

import subprocess
import sys
import textwrap
from pathlib import Path
from typing import TYPE_CHECKING, Final

import pytest

from .serving import Serving

if TYPE_CHECKING:
    from .conftest import Shell

TOOLS: Final = Path(sys.executable).parent
PROGRAM: Final = """
    import logging
    from shop import Pipeline

    logging.basicConfig(level=logging.INFO, format="host: %(message)s")
    print(Pipeline().run("o-1"))
"""
SHOP: Final = """
    import logging, os
    from pydantic_ai import Agent
    from pydantic_ai.models.test import TestModel

    log = logging.getLogger("shop")
    seller = Agent(TestModel(custom_output_text="sold"), name="seller")

    @seller.tool_plain
    def price(item: str) -> int:
        if "ALOUD" in os.environ:
            print("seven", flush=True)
        log.warning("asked for the \\x1b[31mprice\\x1b[0m")
        return 7

    class Pipeline:
        def run(self, order):
            log.info("outside of any agent")
            return seller.run_sync("sell").output
"""
SETTINGS: Final = """
    [[wrap]]
    target = "shop:Pipeline.run"
    scope = "run"
    name = "shop"
"""


def start(shell: Shell, **environment: str) -> None:
    """Write the program into the directory and run it to its end."""
    for name, text in (("app.py", PROGRAM), ("shop.py", SHOP), ("otel-agents.toml", SETTINGS)):
        (shell.path / name).write_text(textwrap.dedent(text))
    exporters = {f"OTEL_{name}_EXPORTER": "none" for name in ("TRACES", "METRICS", "LOGS")}
    done = subprocess.run(  # noqa: S603 - our own program
        [TOOLS / "opentelemetry-instrument", sys.executable, "app.py"],
        cwd=shell.path, env=shell.environment | exporters | environment,
        capture_output=True, text=True, timeout=120, check=False,
    )  # fmt: skip
    printed = "seven\nsold\n" if "ALOUD" in environment else "sold\n"
    assert (done.returncode, done.stdout) == (0, printed), done.stderr
    assert done.stderr == "host: outside of any agent\nhost: asked for the \x1b[31mprice\x1b[0m\n"


@pytest.fixture
def ran(shell: Shell) -> Shell:
    """Give the directory in which the program has run."""
    start(shell)
    return shell


def test_its_agent_is_monitored(ran: Shell) -> None:
    """With its lifecycle, process and bill."""
    (agent,) = ran.data("monitor", "list")
    (bill,) = ran.data("monitor", "telemetry")

    assert (agent["name"], agent["status"], agent["workflow"]) == ("seller", "completed", "shop")
    assert agent["pid"] > 0
    assert ran.data("monitor", "status", agent["id"]) == agent
    assert bill["usage"]["total_tokens"] == agent["usage"]["total_tokens"] > 0
    assert [each["model"] for each in bill["by_model"]] == ["test"]
    assert ran.data("status")["run_id"] == agent["run_id"]


def test_its_model_s_route_is_a_runtime_event(ran: Shell) -> None:
    """And nothing of it is unhealthy."""
    entities = {(each["layer"], each["entity_id"]) for each in ran.data("events")}

    assert ("model_adapter", "test") in entities
    verdict = ran.data("verify")
    assert verdict["healthy"]
    assert [each["model"] for each in verdict["routes"]] == ["test"]


def test_what_its_agent_logs_is_in_the_agent_s_file(ran: Shell) -> None:
    """Without colours; what is logged outside of any agent is in none."""
    (agent,) = ran.data("monitor", "list")
    (file,) = ran.data("logs")
    text = ran.data("logs", agent["id"])

    assert (file["agent_id"], file["agent"]) == (agent["id"], "seller")
    assert agent["log_file"] == file["file"] == text["file"]
    assert [line.split(" ", 1)[1] for line in text["lines"]] == [
        "WARNING shop asked for the price",
    ]  # fmt: skip
    assert ran.data("logs", "seller") == [file]


def test_what_its_agent_prints_is_there_too_if_asked(shell: Shell) -> None:
    """And is printed as before."""
    start(shell, ALOUD="1", OTEL_AGENTS_CAPTURE_STDOUT="1")
    (file,) = shell.data("logs")
    lines = shell.data("logs", file["agent_id"])["lines"]

    assert [line.split(" ", 1)[1] for line in lines] == [
        "STDOUT - seven", "WARNING shop asked for the price",
    ]  # fmt: skip


def test_a_program_elsewhere_is_seen_through_the_server(bare: Shell, tmp_path: Path) -> None:
    """Which it exports to, without any workspace of its own; every command tells of it."""
    home = tmp_path / "server"
    home.mkdir()
    with Serving(type(bare)(home)) as serving:
        start(
            bare,
            OTEL_EXPORTER_OTLP_ENDPOINT=serving.addresses["otlp_http"],
            OTEL_EXPORTER_OTLP_PROTOCOL="http/protobuf",
            OTEL_TRACES_EXPORTER="otlp",
            OTEL_LOGS_EXPORTER="otlp",
            OTEL_PYTHON_LOGGING_AUTO_INSTRUMENTATION_ENABLED="true",
        )
        server = ("--server", serving.url)
        status = bare.data("status", *server)
        (agent,) = bare.data("monitor", "list", *server)
        lines = bare.data("logs", agent["id"], *server)["lines"]
        layers = {each["layer"] for each in bare.data("events", *server)}
        verdict = bare.run("verify", *server)

    assert not (bare.path / ".otel-agents").exists()
    assert (status["workflow"], status["status"]) == ("shop", "succeeded")
    assert (agent["name"], agent["status"]) == ("seller", "completed")
    assert len(lines) == 1
    assert lines[0].endswith(r"asked for the \x1b[31mprice\x1b[0m")
    assert layers == {"model_adapter"}
    assert verdict.returncode == 0
