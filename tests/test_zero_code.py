"""`opentelemetry-instrument python app.py`, and nothing else, in processes of their own."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import textwrap
from pathlib import Path
from typing import Any, Final

import pytest

TOOLS: Final = Path(sys.executable).parent

APP: Final = """
    import json, sys
    from shop import Pipeline
    if "--broken" in sys.argv:
        sys.exit(Pipeline().run("o-1", broken=True))
    print(Pipeline().run("o-1"))
"""
SHOP: Final = """
    from pydantic_ai import Agent
    from pydantic_ai.models.test import TestModel

    seller = Agent(TestModel(custom_output_text="sold"), name="seller")

    @seller.tool_plain
    def price(item: str) -> int:
        return 7

    class Pipeline:
        def run(self, order, broken=False):
            if broken:
                raise ValueError("canary-text")
            return seller.run_sync("sell canary-prompt").output
"""
SETTINGS: Final = """
    [[wrap]]
    target = "shop:Pipeline.run"
    scope = "run"
    name = "shop"
    fields = { work_order_id = "{order}" }
"""


@pytest.fixture
def program(tmp_path: Path) -> Path:
    """A program in a directory with settings and a workspace."""
    for name, text in (("app.py", APP), ("shop.py", SHOP), ("otel-agents.toml", SETTINGS)):
        (tmp_path / name).write_text(textwrap.dedent(text))
    (tmp_path / ".otel-agents").mkdir()
    return tmp_path


def start(program: Path, *arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    found = {
        **os.environ,
        "OTEL_AGENTS_HOME": str(program / ".otel-agents"),
        "OTEL_TRACES_EXPORTER": "console",
        "OTEL_METRICS_EXPORTER": "none",
        "OTEL_LOGS_EXPORTER": "none",
        **environment,
    }
    return subprocess.run(  # noqa: S603 - our own program
        [TOOLS / "opentelemetry-instrument", sys.executable, "app.py", *arguments],
        cwd=program, env=found, capture_output=True, text=True, timeout=120, check=False,
    )  # fmt: skip


def spans(output: str) -> list[dict[str, Any]]:
    """Return the spans that the console exporter printed."""
    found = []
    decoder = json.JSONDecoder()
    position = output.find("{")
    while position >= 0:
        span, end = decoder.raw_decode(output, position)
        found.append(span)
        position = output.find("{", end)
    return found


def test_a_program_is_instrumented_with_no_line_changed(program: Path) -> None:
    """The orchestrator by its table, the agents by themselves, exported at once."""
    done = start(program)

    names = [span["name"] for span in spans(done.stdout)]
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("sold\n")
    assert sorted(names) == [
        "chat test", "chat test", "execute_tool price", "invoke_agent seller",
        "invoke_workflow shop",
    ]  # fmt: skip
    assert {span["attributes"]["otelagents.work_order.id"] for span in spans(done.stdout)} == {
        "o-1"
    }


def test_the_text_of_messages_and_exceptions_stays_in_the_process(program: Path) -> None:
    """Neither prompt nor exception text is in spans or signals."""
    good, broken = start(program), start(program, "--broken")

    told = good.stdout + broken.stdout + (program / ".otel-agents" / "signals.jsonl").read_text()
    assert "canary" not in told
    assert "ValueError: canary-text" in broken.stderr  # the host's own traceback


def test_the_sdk_switched_off_leaves_the_program_alone(program: Path) -> None:
    """No span, no signal, no warning."""
    done = start(program, OTEL_SDK_DISABLED="true")

    assert (done.returncode, done.stdout, done.stderr) == (0, "sold\n", "")
    assert list((program / ".otel-agents").iterdir()) == []


def test_the_instrumentation_switched_off_leaves_the_program_alone(program: Path) -> None:
    """`OTEL_PYTHON_DISABLED_INSTRUMENTATIONS` names it as any other."""
    done = start(program, OTEL_PYTHON_DISABLED_INSTRUMENTATIONS="otel_agents")

    assert (done.returncode, done.stdout) == (0, "sold\n")


def test_a_wrong_table_is_one_warning_and_the_program_runs_on(program: Path) -> None:
    """It names the table and what is wrong with it."""
    with (program / "otel-agents.toml").open("a") as file:
        file.write('\n[[wrap]]\ntarget = "shop:Pipeline.rnu"\nscope = "phase"\n')
    done = start(program)

    assert done.stdout.startswith("sold\n")
    assert len([line for line in done.stderr.splitlines() if "rnu" in line]) == 1


def test_what_is_not_instrumented_is_a_metric_from_the_start(program: Path) -> None:
    """1 for a target that could not be wrapped, 0 for one that was, though no scope may open."""
    with (program / "otel-agents.toml").open("a") as file:
        file.write('\n[[wrap]]\ntarget = "shop:Pipeline.rnu"\nscope = "phase"\n')
    (program / "app.py").write_text("import shop\n")
    done = start(program, OTEL_TRACES_EXPORTER="none", OTEL_METRICS_EXPORTER="console")

    (collected,) = spans(done.stdout)
    scopes = collected["resource_metrics"][0]["scope_metrics"]
    metrics = {metric["name"]: metric for scope in scopes for metric in scope["metrics"]}
    points = metrics["otelagents.instrumentation.missing"]["data"]["data_points"]
    found = {point["attributes"]["target"]: point["value"] for point in points}
    assert (found["shop:Pipeline.run"], found["shop:Pipeline.rnu"]) == (0, 1)
    assert [name for name, value in found.items() if value] == ["shop:Pipeline.rnu"]


def test_a_dead_back_end_changes_nothing_but_the_exit(program: Path) -> None:
    """The result and the exit code are the program's own."""
    done = start(
        program,
        OTEL_TRACES_EXPORTER="otlp",
        OTEL_EXPORTER_OTLP_ENDPOINT="http://127.0.0.1:9",
        OTEL_EXPORTER_OTLP_TIMEOUT="1",
    )

    assert (done.returncode, done.stdout) == (0, "sold\n")


def test_status_and_doctor_agree_with_what_ran(program: Path) -> None:
    """The run is in the workspace, and doctor finds nothing wrong."""
    start(program)
    environment = {**os.environ, "OTEL_AGENTS_HOME": str(program / ".otel-agents")}
    environment["OTEL_AGENTS_CONFIG"] = str(program / "otel-agents.toml")
    answers = [
        subprocess.run(  # noqa: S603 - ourselves
            [TOOLS / "otel-agents", command, "--json"],
            cwd=program, env=environment, capture_output=True, text=True, timeout=60, check=False,
        )
        for command in ("status", "doctor")
    ]  # fmt: skip

    status, doctor = (json.loads(answer.stdout)["data"] for answer in answers)
    assert [answer.returncode for answer in answers] == [0, 0], doctor
    assert (status["workflow"], status["status"]) == ("shop", "succeeded")
    assert doctor["ok"]
    assert {check["name"] for check in doctor["checks"]} >= {
        "python", "packages", "settings", "workspace", "opentelemetry-instrument", "pydantic-ai",
        "target shop:Pipeline.run", "traces exporter", "overlap",
    }  # fmt: skip


@pytest.mark.parametrize(
    ("wanted", "on_span", "on_event"),
    [
        ("NO_CONTENT", False, False),
        ("true", False, False),
        ("SPAN_ONLY", True, False),
        ("event_only", False, True),
        ("SPAN_AND_EVENT", True, True),
    ],
)
def test_content_goes_where_it_is_asked_for(
    program: Path, wanted: str, on_span: bool, on_event: bool
) -> None:
    """On spans, on events, both or neither; a word that is none of these means neither."""
    done = start(
        program,
        OTEL_INSTRUMENTATION_GENAI_CAPTURE_MESSAGE_CONTENT=wanted,
        OTEL_LOGS_EXPORTER="console",
    )
    records = spans(done.stdout.replace("sold\n", "", 1))
    told = [found for found in records if "canary-prompt" in json.dumps(found)]

    assert any("context" in found for found in told) == on_span
    assert (
        any(
            found.get("event_name") == "gen_ai.client.inference.operation.details" for found in told
        )
        == on_event
    )
