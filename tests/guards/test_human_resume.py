"""Waits over processes: killed with `kill -9`, answered from outside, gone on with elsewhere."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import pytest

from otel_agents.signals import decode_lines
from otel_agents.workspace import create

if TYPE_CHECKING:
    from collections.abc import Callable, Generator

DEADLINE: Final = 120.0
ROOT: Final = Path(__file__).parents[2]
ASKS: Final = """
import json
import otel_agents as oa

with oa.run("shop", id="r-1"), oa.agent("boss"):
    print("asks", flush=True)
    answer = oa.human("deploy?", id="deploy-1").wait()
    print(json.dumps([answer.wait_id, answer.decision, answer.text, answer.by]), flush=True)
"""
DEFERS: Final = """
import json
import os
import signal
import sys
from pathlib import Path

from pydantic_ai import Agent, DeferredToolRequests, DeferredToolResults
from pydantic_ai.messages import ModelMessagesTypeAdapter, ModelResponse, TextPart, ToolCallPart
from pydantic_ai.models.function import FunctionModel

from opentelemetry import trace
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

import otel_agents as oa
from otel_agents.instrumentor import OtelAgentsInstrumentor

spans = InMemorySpanExporter()
trace.set_tracer_provider(TracerProvider())
trace.get_tracer_provider().add_span_processor(SimpleSpanProcessor(spans))
OtelAgentsInstrumentor().instrument()


def reply(messages, info):
    if any(part.part_kind == "tool-return" for part in messages[-1].parts):
        return ModelResponse(parts=[TextPart("done")])
    return ModelResponse(parts=[ToolCallPart("deploy", {}, tool_call_id="call-1")])


agent = Agent(FunctionModel(reply), name="ops", output_type=[str, DeferredToolRequests])


@agent.tool_plain(requires_approval=True)
def deploy() -> str:
    return "deployed"


history = Path("history.json")
with oa.run("shop", id="r-1"):
    if not history.exists():
        result = agent.run_sync("go")
        history.write_bytes(result.all_messages_json())
        if "kill" in sys.argv:
            oa.configure.flush()
            os.kill(os.getpid(), signal.SIGKILL)
    else:
        messages = ModelMessagesTypeAdapter.validate_json(history.read_bytes())
        results = DeferredToolResults(approvals={"call-1": True})
        result = agent.run_sync(message_history=messages, deferred_tool_results=results)
        print(result.output, flush=True)
links = [
    [f"{link.context.trace_id:032x}", f"{link.context.span_id:016x}"]
    for span in spans.get_finished_spans()
    for link in span.links
]
Path("links.json").write_text(json.dumps(links))
"""


class Home:
    """A directory with a workspace, in which programs are started."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.workspace, _ = create(path)
        self.environment = {
            name: value for name, value in os.environ.items() if not name.startswith("OTEL_")
        }
        self.environment["PYTHONPATH"] = str(ROOT)

    @contextmanager
    def started(self, *arguments: str) -> Generator[subprocess.Popen[str]]:
        """Start a Python, and kill it in the end if it is still there."""
        process = subprocess.Popen(  # noqa: S603
            [sys.executable, *arguments], cwd=self.path, env=self.environment,
            stdout=subprocess.PIPE, text=True,
        )  # fmt: skip
        try:
            yield process
        finally:
            if process.poll() is None:
                process.kill()
            process.communicate()

    def command(self, *arguments: str) -> dict[str, Any]:
        """Run one of our commands with --json and return its data."""
        done = subprocess.run(  # noqa: S603
            [sys.executable, "-m", "otel_agents.cli", *arguments, "--json"],
            cwd=self.path, env=self.environment, capture_output=True, text=True,
            timeout=DEADLINE, check=False,
        )  # fmt: skip
        found: dict[str, Any] = json.loads(done.stdout)
        assert found["error"] is None, found
        data: dict[str, Any] = found["data"]
        return data

    def ends(self) -> list[Any]:
        """Return the ends of waits that are on disk."""
        found = []
        for file in self.workspace.signal_files():
            for one in decode_lines(file.read_bytes().splitlines()):
                if (one.kind, one.edge) == ("human", "end"):
                    found.append(one)
        return found


@pytest.fixture
def home(tmp_path: Path) -> Home:
    return Home(tmp_path)


def until(condition: Callable[[], Any]) -> Any:
    end = time.monotonic() + DEADLINE
    while not (found := condition()):
        assert time.monotonic() < end, "it did not come true"
        time.sleep(0.05)
    return found


def waiting(home: Home) -> Any:
    """Return the only wait that is open, as the command line lists it, if it is there yet."""
    try:
        items: Any = home.command("hitl", "list")
    except AssertionError:  # no store yet
        return None
    return items[0] if items else None


@pytest.mark.parametrize("answered", ["while it is dead", "when it waits again"])
def test_a_run_killed_while_it_waits_goes_on_with_its_answer(home: Home, answered: str) -> None:
    """From another terminal; it is one run, which has waited, and ends as it would have."""
    with home.started("-c", ASKS) as first:
        assert until(lambda: waiting(home))["id"] == "deploy-1"
        found = home.command("status")
        assert (found["status"], found["waits"][0]["id"]) == ("waiting", "deploy-1")
        first.send_signal(signal.SIGKILL)
        first.wait()
    assert home.command("status")["status"] == "lost"
    if answered == "while it is dead":
        home.command("hitl", "resolve", "deploy-1", "--approve", "--answer", "go")
    with home.started("-c", ASKS) as second:
        assert second.stdout is not None
        assert second.stdout.readline() == "asks\n"
        if answered != "while it is dead":
            until(lambda: waiting(home))
            home.command("hitl", "resolve", "deploy-1", "--approve", "--answer", "go")
        assert json.loads(second.stdout.readline()) == ["deploy-1", "approved", "go", "cli"]
        assert second.wait(DEADLINE) == 0
    found = home.command("status", "--run-id", "r-1")
    assert (found["status"], found["waits"]) == ("succeeded", [])
    assert found["waiting_seconds"] > 0
    (end,) = home.ends()
    assert end.attributes["otelagents.human.answered_by"] == "cli"


@pytest.mark.parametrize("how", ["ends", "kill"])
def test_a_deferred_call_is_closed_by_the_next_process(home: Home, how: str) -> None:
    """It was waited for in between, though the first process was gone or killed."""
    (home.path / "defers.py").write_text(DEFERS)
    with home.started("defers.py", how) as first:
        assert first.wait(DEADLINE) == (0 if how == "ends" else -signal.SIGKILL)
    assert home.command("status")["status"] == ("waiting" if how == "ends" else "lost")
    with home.started("defers.py", "go on") as second:
        assert second.wait(DEADLINE) == 0
        assert second.stdout is not None
        assert second.stdout.read() == "done\n"
    found = home.command("status")
    assert (found["run_id"], found["status"], found["waits"]) == ("r-1", "succeeded", [])
    assert found["waiting_seconds"] > 0
    assert [agent["status"] for agent in found["agents"]["items"]] == ["completed", "completed"]
    (end,) = home.ends()
    assert end.attributes["otelagents.human.decision"] == "approved"
    items: Any = home.command("hitl", "list", "--all")
    (wait,) = items
    assert (wait["id"], wait["decision"], wait["closed_at"] is None) == (
        "call-1", "approved", False,
    )  # fmt: skip
    linked = json.loads((home.path / "links.json").read_text())
    assert linked == [[wait["trace_id"], wait["span_id"]]] * 2
