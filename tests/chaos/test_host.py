"""The program at the other end: what becomes of it, and of its run, when something is killed."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from otel_agents.receiver.decode import LOGS, TRACES
from tests.state.build import Story
from tests.store.build import request, seconds_ago

from .clients import Http, log_message
from .served import PATIENCE, until

if TYPE_CHECKING:
    from collections.abc import Callable

    from .served import Served

pytestmark = pytest.mark.xdist_group("chaos")

_PROGRAM = Path(__file__).with_name("program.py")
_INSTRUMENT = Path(sys.executable).with_name("opentelemetry-instrument")
STEPS = 9


class Host:
    """The program, under `opentelemetry-instrument` with an endpoint, or plain without."""

    def __init__(self, home: Path, endpoint: str | None = None) -> None:
        kept = {k: v for k, v in os.environ.items() if not k.startswith(("OTEL_", "COVERAGE"))}
        self.workspace = home / ".otel-agents"
        self.workspace.mkdir(exist_ok=True)
        self.environment = {
            **kept, "OTEL_AGENTS_HOME": str(self.workspace), "OTEL_TRACES_EXPORTER": "otlp",
            "OTEL_METRICS_EXPORTER": "none", "OTEL_LOGS_EXPORTER": "otlp",
            "OTEL_EXPORTER_OTLP_PROTOCOL": "http/protobuf",
            "OTEL_EXPORTER_OTLP_ENDPOINT": str(endpoint),
            # A try goes on for as long as a server takes to come back, on a busy machine too.
            "OTEL_EXPORTER_OTLP_TIMEOUT": "120",
            "OTEL_BSP_SCHEDULE_DELAY": "100", "OTEL_BLRP_SCHEDULE_DELAY": "100",
        }  # fmt: skip
        under = [] if endpoint is None else [_INSTRUMENT]
        self.process = subprocess.Popen(  # noqa: S603 - our own program
            [*under, sys.executable, _PROGRAM],
            cwd=home, env=self.environment, text=True, stdin=subprocess.PIPE,
            stdout=subprocess.PIPE, stderr=subprocess.PIPE,
        )  # fmt: skip
        self.said = ""

    def step(self, times: int = 1) -> None:
        """Have it go on, and wait for what it prints."""
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        for _ in range(times):
            self.process.stdin.write("\n")
            self.process.stdin.flush()
            self.said += self.process.stdout.readline()

    def finish(self) -> tuple[int, str]:
        """End its input and wait for its end; return the exit code and all it printed."""
        rest, _ = self.process.communicate(timeout=2 * PATIENCE)
        return self.process.returncode, self.said + rest

    def kill(self) -> None:
        """Kill it."""
        self.process.kill()
        self.process.communicate()

    def status(self) -> dict[str, Any]:
        """Ask `otel-agents status` in its workspace."""
        done = subprocess.run(
            [sys.executable, "-m", "otel_agents.cli", "status", "--json"],
            env=self.environment, capture_output=True, check=False,
        )  # fmt: skip
        found: dict[str, Any] = json.loads(done.stdout)["data"]
        return found


def rows(served: Served) -> dict[str, dict[str, Any]]:
    """Return the list of runs by their ids."""
    return {row["run_id"]: row for row in served.pages("/api/runs")}


def send(served: Served, *stories: Story) -> None:
    """Send the signals of stories."""
    transport = Http(served.otlp_http)
    for story in stories:
        body = log_message(story.signals).SerializeToString()
        assert transport.send(LOGS, body) == 200
    transport.close()


def test_a_program_outlives_the_server(serving: Callable[..., Served], tmp_path: Path) -> None:
    """It prints what it prints by itself, and the server, once back, knows the whole run."""
    plain = Host(tmp_path)
    plain.step(STEPS)
    expected = plain.finish()
    assert expected[1].count("written approved") == STEPS
    served = serving()
    served.start()
    host = Host(tmp_path, served.endpoint)
    host.step(3)
    served.kill()
    host.step(3)  # nobody is there
    served.start()
    host.step(3)

    assert host.finish() == expected
    until(lambda: rows(served).get("press-1", {}).get("status") == "succeeded", "the run's end")
    run = served.data("/api/runs/press-1")
    assert run["agents"]["by_status"] == {"completed": 2 * STEPS}
    spans = list(served.pages("/api/runs/press-1/spans"))
    assert sum(span["name"].startswith("invoke_agent") for span in spans) == 2 * STEPS
    assert len({span["span_id"] for span in spans}) == len(spans)


def test_a_program_that_is_killed_is_lost_at_once_here(
    serving: Callable[..., Served], tmp_path: Path
) -> None:
    """Its process is gone, and who is on its machine can tell: `status`, and the server beside."""
    served = serving()
    served.start()
    host = Host(tmp_path, served.endpoint)
    host.step(2)
    until(lambda: "press-1" in rows(served), "the run")
    assert host.status()["status"] == "running"
    assert served.data("/api/runs/press-1/report")["status"] == "running"
    host.kill()

    assert host.status()["status"] == "lost"
    assert served.data("/api/runs/press-1/report")["status"] == "lost"
    assert served.data("/api/runs/press-1")["status"] == "lost"


def test_a_run_that_is_silent_is_lost(serving: Callable[..., Served]) -> None:
    """Of two runs of another machine the one whose last heartbeat is too old, in list and page."""
    served = serving()
    served.start()
    silent = Story("silent", begin=seconds_ago(90)).start("run", "s", "shop")
    silent.start("agent", "sa", "writer", parent="s", phase="write")
    silent.wait(50).progress("s")
    living = Story("living", begin=seconds_ago(90)).start("run", "l", "shop")
    living.start("agent", "la", "writer", parent="l", phase="write")
    living.wait(89).progress("l")
    send(served, silent, living)
    until(lambda: rows(served).keys() >= {"silent", "living"}, "both runs")

    found = {name: row["status"] for name, row in rows(served).items()}
    assert found == {"silent": "lost", "living": "running"}
    assert served.data("/api/runs", status="lost")["items"][0]["run_id"] == "silent"
    run = served.data("/api/runs/silent")
    assert (run["status"], run["agents"]["by_status"]) == ("lost", {"lost": 1})
    assert run["error"]["type"] == "lost"
    assert served.data("/api/runs/living")["agents"]["by_status"] == {"running": 1}


def test_a_run_that_was_lost_and_speaks_again_is_not(serving: Callable[..., Served]) -> None:
    """A heartbeat that comes late, and then the end."""
    served = serving()
    served.start()
    story = Story("late", begin=seconds_ago(90)).start("run", "r", "shop")
    send(served, story)
    until(lambda: rows(served).get("late", {}).get("status") == "lost", "the run lost")
    send(served, story.wait(89).progress("r"))
    until(lambda: rows(served)["late"]["status"] == "running", "the run back")
    send(served, story.end("r"))
    until(lambda: rows(served)["late"]["status"] == "succeeded", "the run's end")


def test_a_root_that_ends_before_its_children(serving: Callable[..., Served]) -> None:
    """The run has ended; what ends later is shown as it ended, and what never does as lost."""
    served = serving()
    served.start()
    story = Story("early", begin=seconds_ago(60)).start("run", "r", "shop")
    story.start("agent", "a", "late", parent="r").start("agent", "b", "never", parent="r")
    send(served, story.wait(5).end("r"))
    until(lambda: rows(served).get("early", {}).get("status") == "succeeded", "the run's end")
    send(served, story.wait(5).end("a"))
    until(lambda: rows(served)["early"]["agents"] == {"completed": 1, "lost": 1}, "its agents")

    assert rows(served)["early"]["duration_seconds"] == 5
    items = served.data("/api/runs/early")["agents"]["items"]
    assert {item["name"]: item["status"] for item in items} == {
        "late": "completed", "never": "lost",
    }  # fmt: skip


def test_spans_whose_root_never_ends(serving: Callable[..., Served]) -> None:
    """A span comes when it ends, so the root is not there: its children stand, as roots."""
    served = serving()
    served.start()
    trace, root, one, two = b"t" * 16, b"r" * 8, b"1" * 8, b"2" * 8
    message = request(
        {"trace": trace, "span": one, "parent": root, "name": "one"},
        {"trace": trace, "span": two, "parent": one, "name": "two"},
    )
    transport = Http(served.otlp_http)
    assert transport.send(TRACES, message.SerializeToString()) == 200
    until(served.caught_up, "the index")

    found = served.data(f"/api/traces/{trace.hex()}")
    assert [(span["name"], span["depth"]) for span in found["spans"]] == [("one", 0), ("two", 1)]
    late = request({"trace": trace, "span": root, "name": "root", "start": 10, "end": 1_500})
    assert transport.send(TRACES, late.SerializeToString()) == 200
    transport.close()

    def whole() -> bool:
        spans = served.data(f"/api/traces/{trace.hex()}")["spans"]
        return [(s["name"], s["depth"]) for s in spans] == [("root", 0), ("one", 1), ("two", 2)]

    until(whole, "the whole trace")  # though its root ended before them
