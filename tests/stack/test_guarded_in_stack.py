"""The guarded example in the real stack: terminal, server, Jaeger and Prometheus say the same."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import pytest

if TYPE_CHECKING:
    from tests.stack.conftest import Backends

pytestmark = pytest.mark.xdist_group("stack")

EXAMPLE = Path(__file__).resolve().parents[2] / "examples" / "guarded"
TOOLS = Path(sys.executable).parent
RUN = "guarded-in-stack"
WAIT = f"commit-{RUN[:8]}"
SERVICE = "guarded-in-stack"
SECONDS = 300
MILLISECOND = 0.001


class Told(NamedTuple):
    """A run that is over: what the terminal and the server say, and its spans in Jaeger."""

    exit_code: int
    status: dict[str, Any]
    run: dict[str, Any]
    wait: dict[str, Any]
    checkpoints: dict[str, dict[str, Any]]
    spans: list[dict[str, Any]]

    def span(self, operation: str, **tags: Any) -> dict[str, Any]:
        """Return the one span of an operation that has these tags."""
        (found,) = (
            span
            for span in self.spans
            if span["operationName"] == operation
            and all(tag(span, key.replace("__", ".")) == value for key, value in tags.items())
        )
        return found


def tag(span: dict[str, Any], key: str) -> Any:
    """Return the value of a span's attribute, None where it has none."""
    return next((found["value"] for found in span["tags"] if found["key"] == key), None)


def seconds(span: dict[str, Any]) -> float:
    """Return how long a span took."""
    return float(span["duration"]) / 1e6


def logged(span: dict[str, Any], event: str) -> list[dict[str, Any]]:
    """Return the attributes of a span's events of a name."""
    found = [{one["key"]: one["value"] for one in log["fields"]} for log in span["logs"]]
    return [one for one in found if one.get("event") == event]


@pytest.fixture(scope="module")
def told(backends: Backends, tmp_path_factory: pytest.TempPathFactory) -> Told:
    """Run it, all its telemetry and questions going through the stack; answer by the command."""
    folder = tmp_path_factory.mktemp("guarded") / "ferry"
    stack = backends.stack
    environment = {
        **os.environ,
        "OTEL_SERVICE_NAME": SERVICE,
        "OTEL_AGENTS_CONFIG": str(EXAMPLE / "otel-agents.toml"),
        "OTEL_AGENTS_SERVER": stack.console,
        "OTEL_AGENTS_TOKEN": stack.token,
        "OTEL_EXPORTER_OTLP_PROTOCOL": "http/protobuf",
        "OTEL_EXPORTER_OTLP_ENDPOINT": stack.otlp_http,
    }
    app = [sys.executable, EXAMPLE / "app.py"]

    def command(*arguments: str) -> Any:
        done = subprocess.run(  # noqa: S603 - ourselves
            [TOOLS / "otel-agents", *arguments, "--json"],
            cwd=folder, env=environment, capture_output=True, text=True, timeout=60, check=False,
        )  # fmt: skip
        assert done.stdout, done.stderr
        return json.loads(done.stdout)["data"]

    subprocess.run([*app, "--new", folder], check=True, timeout=60)  # noqa: S603 - our own
    with subprocess.Popen(  # noqa: S603 - our own example
        [TOOLS / "opentelemetry-instrument", *app, "--run-id", RUN, "--pace", "0"],
        cwd=folder, env=environment, stdout=subprocess.DEVNULL,
    ) as process:  # fmt: skip

        def asked() -> bool:
            assert process.poll() is None
            return any(one["id"] == WAIT for one in command("hitl", "list"))

        assert backends.eventually(asked)
        command("hitl", "resolve", WAIT, "--approve")
        code = process.wait(SECONDS)

    def over() -> list[dict[str, Any]]:
        found = [
            span
            for trace in backends.traces(SERVICE, otelagents__run__id=RUN)
            for span in trace["spans"]
        ]
        ended = any(span["operationName"].startswith("invoke_workflow") for span in found)
        run = ended and backends.server(f"/api/runs/{RUN}")
        return found if run and run["status"] == "succeeded" else []

    spans = backends.eventually(over)
    kept = {one["id"]: one for one in command("checkpoint", "list")}
    status = command("status", "--run-id", RUN)
    run = backends.server(f"/api/runs/{RUN}")
    return Told(code, status, run, backends.server(f"/api/hitl/{WAIT}"), kept, spans)


def test_run_is_one_sound_trace(told: Told) -> None:
    """It ends well, in one trace; the wait is no error, and the stopped agent is one."""
    assert told.exit_code == 0
    assert len({span["traceID"] for span in told.spans}) == 1
    wrong = {span["operationName"] for span in told.spans if tag(span, "error")}
    assert wrong == {"invoke_agent migrator", "execute_tool read_file"}


def test_tokens_and_cost_are_the_same_in_all_places(backends: Backends, told: Told) -> None:
    """Spans of model calls, roll-up of the run, status, server and Prometheus."""
    used = ("gen_ai.usage.input_tokens", "gen_ai.usage.output_tokens")
    on_spans = sum(tag(span, key) or 0 for span in told.spans for key in used)
    run = told.span("invoke_workflow migration")
    totals = ("otelagents.usage.total.input_tokens", "otelagents.usage.total.output_tokens")
    job = f'{{job="{SERVICE}"}}'
    tokens = backends.eventually(lambda: backends.query(f"sum(otelagents_tokens_total{job})"))
    cost = backends.eventually(lambda: backends.query(f"sum(otelagents_cost_total{job})"))

    assert on_spans > 0
    assert sum(tag(run, key) for key in totals) == on_spans
    assert told.status["usage"]["total_tokens"] == told.run["usage"]["total_tokens"] == on_spans
    assert float(tokens[0]["value"][1]) == on_spans
    assert told.status["cost_usd"] == told.run["cost_usd"]
    assert tag(run, "otelagents.cost.total") == pytest.approx(told.status["cost_usd"])
    assert float(cost[0]["value"][1]) == pytest.approx(told.status["cost_usd"])


def test_budgets_are_the_same_in_all_places(backends: Backends, told: Told) -> None:
    """Limit, spent and state of both; each event is told once, as span event and as a metric."""
    run = told.span("invoke_workflow migration")
    stopped = told.span("invoke_agent migrator", otelagents__result="error")
    budgets = {one["scope"]: one for one in told.status["budgets"]}
    events = backends.eventually(
        lambda: backends.query(f'otelagents_budget_events_total{{job="{SERVICE}"}}')
    )
    counted = {
        (one["metric"]["budget"], one["metric"]["level"]): float(one["value"][1]) for one in events
    }

    assert told.run["budgets"] == told.status["budgets"]
    for span, budget in ((run, budgets["run"]), (stopped, budgets["agent"])):
        assert tag(span, "otelagents.budget.usd.limit") == budget["limit"]
        assert tag(span, "otelagents.budget.usd.spent") == pytest.approx(budget["spent"])
        assert tag(span, "otelagents.budget.state") == budget["state"]
    assert (budgets["run"]["state"], budgets["agent"]["state"]) == ("warning", "exceeded")
    assert tag(stopped, "error.type") == "otel_agents.errors.BudgetExceeded"
    told_of = {
        (one["scope"], level): float(one["spent"])
        for level in ("warning", "exceeded")
        for span in told.spans
        for one in logged(span, f"otelagents.budget_{level}")
    }
    assert told_of["agent migrator", "exceeded"] == pytest.approx(budgets["agent"]["spent"])
    assert counted == dict.fromkeys(told_of, 1)
    assert told_of.keys() == {
        ("agent migrator", "warning"), ("agent migrator", "exceeded"), ("run", "warning"),
    }  # fmt: skip


def test_waiting_seconds_are_the_same_in_all_places(backends: Backends, told: Told) -> None:
    """The wait's span, what clerk, phase and run waited, status, server, and the metrics."""
    human = told.span("human Commit the new settings of 6 stages?")
    waited = seconds(human)
    around = [told.span(name) for name in ("invoke_agent clerk", "phase publish")]
    run = told.span("invoke_workflow migration")
    job = f'{{job="{SERVICE}"}}'
    agents = backends.eventually(
        lambda: backends.query(f"sum(otelagents_agent_wait_duration_seconds_sum{job})")
    )
    taken = backends.query(f"sum(otelagents_run_duration_seconds_sum{job})")

    assert waited > 0
    assert told.wait["span_id"] == human["spanID"]
    assert told.wait["age_seconds"] == pytest.approx(waited, abs=2 * MILLISECOND)
    for span in (*around, run):
        assert tag(span, "otelagents.wait.seconds") == pytest.approx(waited, abs=MILLISECOND)
    assert told.status["waiting_seconds"] == pytest.approx(waited, abs=2 * MILLISECOND)
    assert told.run["waiting_seconds"] == told.status["waiting_seconds"]
    assert float(agents[0]["value"][1]) == pytest.approx(waited, abs=MILLISECOND)
    assert float(taken[0]["value"][1]) == pytest.approx(seconds(run) - waited, abs=MILLISECOND)
    assert (tag(human, "otelagents.human.decision"), told.wait["decision"]) == ("approved",) * 2
    assert (tag(human, "otelagents.human.answered_by"), told.wait["answered_by"]) == ("cli",) * 2


def test_checkpoints_and_restore_are_the_same_in_all_places(backends: Backends, told: Told) -> None:
    """Ids on the spans are those of the repository; the restore is a span, and counted once."""
    restore = told.span("restore")
    restored = told.checkpoints[tag(restore, "otelagents.checkpoint.id")]
    undo = told.checkpoints[tag(restore, "otelagents.restore.undo.id")]
    before = {tag(span, "otelagents.checkpoint.id") for span in told.spans} - {None}
    counted = backends.eventually(
        lambda: backends.query(f'otelagents_restores_total{{job="{SERVICE}"}}')
    )
    taken = backends.query(f'otelagents_checkpoints_total{{job="{SERVICE}",result="success"}}')

    assert undo["undo_of"] == restored["id"]
    assert (restored["run_id"], restored["trace_id"]) == (RUN, restore["traceID"])
    assert restored["span_id"] in {span["spanID"] for span in told.spans}
    assert before == told.checkpoints.keys() - {undo["id"]}
    assert float(taken[0]["value"][1]) == len(before)
    assert [(one["metric"]["result"], float(one["value"][1])) for one in counted] == [
        ("success", 1)
    ]
